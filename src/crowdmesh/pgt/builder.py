"""The work itself: shards of the plan in, the same shards committed out."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from crowdmesh.errors import InputError
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.pipeline import Stages, through
from crowdmesh.pgt.plan import Plan
from crowdmesh.pgt.records import Built, Entry, Outcome
from crowdmesh.pgt.shards import ShardWriter

_MANY = 8  # images that do not all vanish by themselves


@dataclass(frozen=True)
class Step:
    """A piece of finished work.

    Attributes:
        counts: images per outcome (:class:`Outcome` values). people: their people.
    """

    counts: Mapping[str, int]
    people: int

    def __add__(self, other: Step) -> Step:
        """Both as one piece."""
        return Step(Counter(self.counts) + Counter(other.counts), self.people + other.people)


NOTHING = Step({}, 0)
"""No work yet."""


class BuildShards:
    """Builds shards and commits each: the same class in this process, in others, and as an actor of Ray Data.

    Args:
        job: what is to be built. config_hash: of its signature, computed once for all workers.
        experts: the experts' part of the signature that this machine must have; ``None``: it is the one that told it.

    Raises:
        AssetError: this machine has not the same weights. InputError: the folder holds no plan.
    """

    def __init__(self, job: Job, config_hash: str, experts: dict[str, Any] | None = None) -> None:
        if experts is not None and experts != job.experts_signature():
            raise InputError(
                "this machine has other weights or experts than the one that planned the set; give all machines the "
                "same asset folders"
            )
        plan = Plan.open(job.folder)
        if plan is None:
            raise InputError(f"{job.folder} holds no plan on this machine; all machines must see the same folder")
        self.job, self.config_hash, self.plan = job, config_hash, plan
        self._stages = job.stages()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Build the shards whose numbers are in ``batch["shard"]`` (B,); count what came of each.

        Returns:
            ``shard``, ``people`` and one column per outcome, each (B,) int64.
        """
        rows = [(int(shard), sum(self.steps(int(shard)), NOTHING)) for shard in batch["shard"]]
        columns = {
            "shard": [shard for shard, _ in rows],
            "people": [step.people for _, step in rows],
            **{outcome.value: [step.counts.get(outcome.value, 0) for _, step in rows] for outcome in Outcome},
        }
        return {name: np.array(values, np.int64) for name, values in columns.items()}

    def steps(self, shard: int) -> Generator[Step, None, None]:
        """Build one shard, telling of each group of images; after the last one it is committed.

        When the caller stops early, or an error is raised before the last step, nothing of the shard is left.

        Raises:
            InputError: not one image could be read although all were there when they were listed: the shard is
                committed all the same, and the build ends before it writes down the same of all others.
            AssetError: weights are missing. FormatError: the plan or the source is damaged.
            InputError: the disk is full or cannot be written, or a group needs more memory than there is.
        """
        entries = self.plan.entries(shard)
        counts: Counter[str] = Counter()
        with ShardWriter(self.job.folder, shard, self.config_hash) as writer:
            waiting = iter(entries)
            with closing(_built(self.job, entries, self._stages)) as groups:
                for group in groups:
                    _expect_same(group, waiting)
                    writer.add(group)
                    found = Counter(built.outcome.value for built in group)
                    counts.update(found)
                    yield Step(found, sum(map(_people, group)))
            if (left := next(waiting, None)) is not None:
                raise InputError(f"the source told nothing of image {left.key}, which is in the plan; please report it")
        lost = counts[Outcome.IMAGE_MISSING] + counts[Outcome.IMAGE_UNREADABLE]
        if lost == len(entries) >= _MANY and all(entry.found for entry in entries):
            raise InputError(
                f"not one of the {lost} images of shard {shard} can be read, although all were there when they were "
                "listed; see that their folder is mounted and give --retry-failed, or run the same again to go on "
                "without them"
            )


def seconds_per_image(job: Job, entries: Sequence[Entry]) -> float:
    """How long these images take, each; the first one, during which networks load, counts only if it is alone."""
    stages = job.stages()
    marks = [time.perf_counter()]
    for entry in entries:
        list(_built(job, [entry], stages))
        marks.append(time.perf_counter())
    counted = marks[1:] if len(entries) > 1 else marks
    return (counted[-1] - counted[0]) / (len(counted) - 1)


def _built(job: Job, entries: Sequence[Entry], stages: Stages) -> Generator[list[Built], None, None]:
    with (
        _enough_memory(job.batch),
        closing(through(job.source.load(entries), stages, job.batch)) as groups,
    ):
        yield from groups


def _expect_same(group: list[Built], waiting: Iterator[Entry]) -> None:
    """InputError unless the group holds the entries that come next: nobody is lost on the way, nobody comes twice."""
    for built in group:
        expected = next(waiting, None)
        if built.entry != expected:
            due = "none" if expected is None else expected.key
            raise InputError(f"image {built.entry.key} came out where {due} was due; please report it")


def _people(built: Built) -> int:
    return 0 if built.after is None else len(built.after.people)


@contextmanager
def _enough_memory(batch: int) -> Iterator[None]:
    """Turn a lack of memory into one sentence; a row that says "failed" would be a lie."""
    torch = sys.modules.get("torch")  # where it is not loaded, it raises nothing
    lacking = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    try:
        yield
    except lacking as error:
        raise InputError(
            f"not enough memory for {batch} images at once; run the same again with a smaller --batch, finished shards "
            "are kept"
        ) from error
