"""From records to figures: exact over shards and orders, with the spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crowdmesh.benchmarks.synthetic.records import SceneRecord
from crowdmesh.metrics import (
    Detections,
    Ratio,
    Samples,
    detections,
    localisation_error_m,
    match_in_3d,
    metric_depth_relations,
    order_accuracy,
    pairs_of_group,
    pcdr,
    relative_depth_error,
    stature_error_m,
)

AGE_GROUPS = ("baby", "kid", "teen", "adult")
_GROUP_ENDS_YEARS = (3.0, 8.0, 15.0)
GAP_EDGES_M = (0.0, 0.3, 1.0, 3.0, 10.0, 40.0)
RADII_M = (0.25, 0.5, 1.0)

Score = Callable[[Sequence[SceneRecord]], float | None]


@dataclass(frozen=True)
class Spread:
    """A figure over several seeds: mean and standard deviation between them (``None``: measured under one seed)."""

    mean: float
    std: float | None
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


def age_group(age_years: np.ndarray) -> np.ndarray:
    """Index into :data:`AGE_GROUPS` of each age (paper section 6.4: below 3, 8 and 15 years)."""
    return np.searchsorted(_GROUP_ENDS_YEARS, age_years, side="right")


def pcdr_percent(records: Sequence[SceneRecord], group: int | None = None) -> float | None:
    """PCDR_0.2 in per cent, everybody or the pairs of one age group; undetected people count as 0.3 wrong pairs."""
    correct = pairs = missed = 0
    for record in records:
        judged = metric_depth_relations(record.pelvis_m[:, 2], record.true_pelvis_m[:, 2])
        lost = age_group(record.undetected_age_years)
        if group is not None:
            judged, lost = pairs_of_group(judged, age_group(record.age_years), group), lost[lost == group]
        correct, pairs, missed = correct + int(judged.correct.sum()), pairs + len(judged), missed + len(lost)
    return _percent(pcdr(correct, pairs, missed))


def depth_error_percent(records: Sequence[SceneRecord], focal_free: bool = False) -> float | None:
    """Median relative depth error in per cent; ``focal_free``: as if the focal length had been known."""
    parts = []
    for record in records:
        scale = record.focal_ratio if focal_free else 1.0
        errors = relative_depth_error(record.pelvis_m[:, 2] / scale, record.true_pelvis_m[:, 2])
        parts.append(Samples(errors, len(record.undetected_m)))
    return _percent(Samples.merged(parts).median)


def stature_error_cm(records: Sequence[SceneRecord]) -> float | None:
    """Mean absolute error of stature in centimetres."""
    mean = Samples.merged(Samples(stature_error_m(r.stature_m, r.true_stature_m)) for r in records).mean
    return None if mean is None else 100.0 * mean


def accepted_percent(records: Sequence[SceneRecord]) -> float | None:
    """Share of the scenes that the method itself accepts, in per cent."""
    return _percent(Ratio(sum(r.accepted for r in records), len(records)).value)


def coverage_percent(
    records: Sequence[SceneRecord], deviations: float = 1.645, focal_std: float | None = None
) -> float | None:
    """How many of the detected people stand within so many reported standard deviations, in per cent.

    Args:
        focal_std: as if the focal length had been known: the error is taken relative to it, and this part of the
            reported spread is taken out.
    """
    inside = [r.inside(deviations, focal_std) for r in records]
    return _percent(Ratio(int(sum(i.sum() for i in inside)), sum(len(i) for i in inside)).value)


def order_percent(records: Sequence[SceneRecord], gap: int) -> float | None:
    """Pairs of detected people in the right order, in per cent, by their true gap (a bin of :data:`GAP_EDGES_M`)."""
    parts = [order_accuracy(r.pelvis_m[:, 2], r.true_pelvis_m[:, 2], GAP_EDGES_M) for r in records]
    return _percent(Ratio.merged(ratios[gap] for ratios in parts).value)


def localisation_cm(records: Sequence[SceneRecord], part: int) -> float | None:
    """Median distance of the pelvis from the truth in centimetres: in all (0), along (1) and across the ray (2)."""
    parts = [Samples(localisation_error_m(r.pelvis_m, r.true_pelvis_m)[part], len(r.undetected_m)) for r in records]
    median = Samples.merged(parts).median
    return None if median is None else 100.0 * median


def f1_percent(records: Sequence[SceneRecord], radius_m: float) -> float | None:
    """F1 of people found within a radius of their true pelvis, in per cent; the undetected are missed."""
    total = Detections()
    for record in records:
        truth = np.concatenate((record.true_pelvis_m, record.undetected_m))
        total += detections(match_in_3d(record.pelvis_m, truth, radius_m), len(record.pelvis_m))
    return _percent(total.f1)


def over_seeds(records: Iterable[SceneRecord], score: Score) -> Spread | None:
    """A score per seed, then mean and standard deviation; seeds in which there is nothing to measure are left out."""
    by_seed: dict[int, list[SceneRecord]] = {}
    for record in records:
        by_seed.setdefault(record.seed, []).append(record)
    values = [value for seed in sorted(by_seed) if (value := score(by_seed[seed])) is not None]
    if not values:
        return None
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def margin(records: Sequence[SceneRecord], score: Score, ours: str, theirs: str) -> Spread | None:
    """The difference of a score between two methods on the same scenes, seed by seed (ours - theirs)."""
    by_method = {name: [r for r in records if r.method == name] for name in (ours, theirs)}

    def difference(seed_records: Sequence[SceneRecord]) -> float | None:
        first, second = (score([r for r in seed_records if r.method == name]) for name in (ours, theirs))
        return None if first is None or second is None else first - second

    return over_seeds([*by_method[ours], *by_method[theirs]], difference)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100.0 * share
