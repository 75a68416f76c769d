"""Which scenes of a set go on the contact sheet."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from crowdmesh.pgt.reading import BuiltSet
from crowdmesh.pgt.records import Outcome
from crowdmesh.pgt.report.statistics import Statistics, numbers, outcomes_at

EACH = 4
"""Scenes per group."""

BEST, MEDIAN, WORST, LARGEST, REJECTED = (
    "Accepted, lowest scores", "Accepted, middle scores", "Accepted, highest scores", "Accepted, most people",
    "Rejected",
)  # fmt: skip
GROUPS = (BEST, MEDIAN, WORST, LARGEST, REJECTED)
"""In the order of the page."""

# Three groups may be made of the same few scenes: with so many in reserve each scene is still shown once.
_RESERVE = 3 * EACH


@dataclass(frozen=True)
class Pick:
    """One scene of the sheet: its group, the image's key, what became of it, the place of its shard in the set."""

    group: str
    key: str
    outcome: Outcome
    shard: int


def pick_scenes(built: BuiltSet, statistics: Statistics) -> list[Pick]:
    """Accepted scenes of the lowest, the middle and the highest scores, and rejected ones, a few for each reason.

    Each scene is picked once; images of nobody are not picked. Where no accepted image has a score, those with the most
    people stand for them.
    """
    middle = statistics.accepted_scores.quantile(0.5)
    ranks: dict[str, Callable[[float, int], float]] = {
        BEST: lambda score, _: -score,
        WORST: lambda score, _: score,
        MEDIAN: lambda score, _: -abs(score - middle),
        LARGEST: lambda _, people: float(people),
    }
    heaps: dict[str, list[tuple[float, str, Pick]]] = {}
    rejected: dict[Outcome, list[Pick]] = {}
    groups = (BEST, WORST, MEDIAN) if statistics.accepted_scores.known else (LARGEST,)
    for pick, score, people in _candidates(built, statistics.threshold):
        if pick.outcome.accepted and (groups == (LARGEST,) or not math.isnan(score)):
            for group in groups:
                _keep_largest(heaps.setdefault(group, []), ranks[group](score, people), replace(pick, group=group))
        elif not pick.outcome.accepted and len(rejected.setdefault(pick.outcome, [])) < EACH:
            rejected[pick.outcome].append(pick)
    return _each_once(heaps) + _by_turns(rejected)


def _candidates(built: BuiltSet, threshold: float | None) -> Iterator[tuple[Pick, float, int]]:
    """Every image with people as a pick, with its score (NaN: none) and its people."""
    for shard, summary in enumerate(built.shards):
        for batch in replace(built, shards=(summary,)).scene_batches(("key", "outcome", "score", "people")):
            keys, people = (batch.column(name).to_pylist() for name in ("key", "people"))
            rows = zip(keys, outcomes_at(batch, threshold), numbers(batch, "score").tolist(), people, strict=True)
            yield from ((Pick(REJECTED, k, outcome, shard), score, n) for k, outcome, score, n in rows if n)


def _keep_largest(heap: list, rank: float, pick: Pick) -> None:
    # The key decides between equal ranks, so that the order of the shards does not matter.
    item = (rank, pick.key, pick)
    if len(heap) < _RESERVE:
        heapq.heappush(heap, item)
    else:
        heapq.heappushpop(heap, item)


def _each_once(heaps: dict[str, list]) -> list[Pick]:
    """The first of each group that no group before it has; the groups in the order of the page."""
    taken: set[str] = set()
    chosen: dict[str, list[Pick]] = {}
    for group, heap in heaps.items():
        chosen[group] = [pick for _, key, pick in sorted(heap, key=_by_rank) if key not in taken][:EACH]
        taken.update(pick.key for pick in chosen[group])
    return [pick for group in (BEST, MEDIAN, WORST, LARGEST) for pick in chosen.get(group, [])]


def _by_rank(item: tuple[float, str, Pick]) -> tuple[float, str]:
    return -item[0], item[1]


def _by_turns(rejected: dict[Outcome, list[Pick]]) -> list[Pick]:
    """Up to four rejected scenes, one of each reason in turn."""
    turns = [picks[turn] for turn in range(EACH) for _, picks in sorted(rejected.items()) if turn < len(picks)]
    return turns[:EACH]
