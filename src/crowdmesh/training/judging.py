"""Predicted people of an image against the labelled ones: figures that merge exactly over images and data sets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.dto.priors import GROUP_END_YEARS
from crowdmesh.errors import InputError
from crowdmesh.metrics import (
    DepthPairs,
    Detections,
    Ratio,
    Samples,
    depth_relations,
    fov_error,
    localisation_error_m,
    metric_depth_relations,
    mpjpe,
    order_accuracy,
    pa_mpjpe,
    pairs_of_group,
    pcdr,
    relative_depth_error,
    stature_error_m,
)
from crowdmesh.metrics.placement import match_within

AGE_GROUPS = ("baby", "kid", "teen", "adult")
"""Below 3, 8 and 15 years, and older (paper section 6.4)."""
UNKNOWN_AGE = len(AGE_GROUPS)

MATCH_AT_MOST = 0.25
"""A prediction may be a labelled person when its joints lie nearer in the image than this, on average, over the extent
(diagonal) of that person's visible joints."""

WORST_MPJPE_M, WORST_DEPTH = 0.3, 0.5
"""A body this wrong (metres), a depth this wrong (share of the true one), are as bad for the score as a miss."""

_LEAST_POINTS = 3  # of a person, for a similarity alignment to mean anything


@dataclass(frozen=True, eq=False)
class SeenPeople:
    """The Q people that a method sees in an image; P points of one layout.

    Attributes:
        joints_m, joints_px: (Q, P, 3) camera frame, metres, and (Q, P, 2) pixels.
        depth_m: (Q,) z of the pelvis. stature_m: (Q,) at rest.
        vertical_fov: radians; NaN: not predicted.
    """

    joints_m: Float[np.ndarray, "Q P 3"]
    joints_px: Float[np.ndarray, "Q P 2"]
    depth_m: Float[np.ndarray, " Q"]
    stature_m: Float[np.ndarray, " Q"]
    vertical_fov: float = math.nan

    def __len__(self) -> int:
        return len(self.depth_m)


@dataclass(frozen=True, eq=False)
class KnownPeople:
    """The K labelled people of an image; P points of the same layout, in the same pixels. NaN: unknown.

    Attributes:
        joints_m, joints_m_known: (K, P, 3) and (K, P) which of them are known.
        joints_px, joints_px_known: (K, P, 2) and (K, P) which of them are known and in the image.
        depth_m: (K,) z of the pelvis. stature_m, age_years: (K,).
        depth_layers: (K,) 0 nearest, -1 unknown; used where depths are unknown.
        root: index of the pelvis among the points, or of several points whose mean it is.
        vertical_fov: radians.
        everybody: whether all people of the image are labelled, so that others are mistakes.
        counted: (K,) False: neither a miss nor a mistake, found or not (hidden people).
    """

    joints_m: Float[np.ndarray, "K P 3"]
    joints_m_known: Bool[np.ndarray, "K P"]
    joints_px: Float[np.ndarray, "K P 2"]
    joints_px_known: Bool[np.ndarray, "K P"]
    depth_m: Float[np.ndarray, " K"]
    stature_m: Float[np.ndarray, " K"]
    age_years: Float[np.ndarray, " K"]
    depth_layers: Int[np.ndarray, " K"]
    root: tuple[int, ...]
    vertical_fov: float
    everybody: bool
    counted: Bool[np.ndarray, " K"]

    def __len__(self) -> int:
        return len(self.depth_m)


@dataclass(frozen=True)
class PairCounts:
    """Depth relations right of all, and people of them who were missed; ``a + b`` merges exactly."""

    pairs: Ratio = field(default_factory=Ratio)
    missed: int = 0

    def __add__(self, other: PairCounts) -> PairCounts:
        return PairCounts(self.pairs + other.pairs, self.missed + other.missed)

    @property
    def pcdr(self) -> float | None:
        """Share of correct relations, 0 to 1, every missed person counted as 0.3 wrong pairs."""
        return pcdr(self.pairs.part, self.pairs.whole, self.missed)


@dataclass(frozen=True, eq=False)
class Judged:
    """Figures over images; ``a + b`` merges exactly, whatever the order.

    Attributes:
        images: how many.
        people: found, missed, invented; invented ones are only known where everybody is labelled.
        complete: the same of the images where everybody is labelled.
        wrongness: of each person found 0 (perfect) to 1 (as bad as missed): mean of what is known of the distance of
            the image joints, MPJPE and depth, each over its worst value. Where an image has depth layers instead of
            depths, the share of the person's depth relations that are wrong stands for the depth.
        keypoints: mean distance of the image joints over the person's extent.
        mpjpe_m, pa_mpjpe_m: over the known joints, relative to the pelvis, and after similarity alignment; metres.
        depth: error of the pelvis' depth over the true depth. place_m: distance of the pelvis from its true place.
        stature_m: absolute errors by age group, the last of unknown age.
        relations: depth relations of everybody, then by age group (of either person).
        order: pairs in the right order of depth, missed people included; pairs that are equally deep are in none.
        fov: absolute error of the vertical field of view of each image, radians.
    """

    images: int = 0
    people: Detections = field(default_factory=Detections)
    complete: Detections = field(default_factory=Detections)
    wrongness: Samples = field(default_factory=Samples)
    keypoints: Samples = field(default_factory=Samples)
    mpjpe_m: Samples = field(default_factory=Samples)
    pa_mpjpe_m: Samples = field(default_factory=Samples)
    depth: Samples = field(default_factory=Samples)
    place_m: Samples = field(default_factory=Samples)
    stature_m: tuple[Samples, ...] = (Samples(),) * (len(AGE_GROUPS) + 1)
    relations: tuple[PairCounts, ...] = (PairCounts(),) * (len(AGE_GROUPS) + 1)
    order: Ratio = field(default_factory=Ratio)
    fov: Samples = field(default_factory=Samples)

    def __add__(self, other: Judged) -> Judged:
        return Judged.merged((self, other))

    @classmethod
    def merged(cls, parts: Iterable[Judged]) -> Judged:
        """All parts in one."""
        parts = list(parts)
        total: dict[str, object] = {}
        for name in (f.name for f in fields(cls)) if parts else ():
            values = [getattr(part, name) for part in parts]
            if isinstance(values[0], Samples):
                total[name] = Samples.merged(values)
            elif isinstance(values[0], tuple):
                total[name] = tuple(_sum(group) for group in zip(*values, strict=True))
            else:
                total[name] = _sum(values)
        return cls(**total)  # type: ignore[arg-type]

    @property
    def score(self) -> float | None:
        """One number to choose a network by, 0 (perfect) to 1 (nobody found); ``None``: there was nobody.

        The sum of :attr:`wrongness`, where every missed and every invented person is a 1, over all of these people.
        It exists with whatever is labelled: image joints alone, bodies, everybody or some.
        """
        lost = self.people.missed + self.people.extra
        total = self.people.matched + lost
        found = self.wrongness.mean or 0.0
        return (found * self.wrongness.count + lost) / total if total else None

    def figures(self) -> dict[str, float | None]:
        """Everything by name, the unit at the end of the name; ``None`` where nothing could be measured."""
        stature = Samples.merged(self.stature_m)
        shown: dict[str, float | None] = {
            "score": self.score,
            "images": float(self.images),
            "people": float(self.people.matched + self.people.missed),
            "recall_percent": _times(100.0, self.people.recall),
            "precision_percent": _times(100.0, self.complete.precision),
            "f1_percent": _times(100.0, self.complete.f1),
            "keypoints_percent": _times(100.0, self.keypoints.mean),
            "mpjpe_mm": _times(1000.0, self.mpjpe_m.mean),
            "pa_mpjpe_mm": _times(1000.0, self.pa_mpjpe_m.mean),
            "depth_percent": _times(100.0, self.depth.mean),
            "depth_median_percent": _times(100.0, self.depth.median),
            "place_cm": _times(100.0, self.place_m.mean),
            "place_median_cm": _times(100.0, self.place_m.median),
            "order_percent": _times(100.0, self.order.value),
            "fov_deg": _times(math.degrees(1.0), self.fov.mean),
            "stature_cm": _times(100.0, stature.mean),
        }
        for group, samples in zip(AGE_GROUPS, self.stature_m, strict=False):
            shown[f"stature_{group}_cm"] = _times(100.0, samples.mean)
        shown["pcdr_percent"] = _times(100.0, self.relations[0].pcdr)
        for group, counts in zip(AGE_GROUPS, self.relations[1:], strict=True):
            shown[f"pcdr_{group}_percent"] = _times(100.0, counts.pcdr)
        return shown


def age_groups(age_years: Float[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
    """Index into :data:`AGE_GROUPS` of each age, :data:`UNKNOWN_AGE` for NaN."""
    index = np.searchsorted(GROUP_END_YEARS, age_years, side="right")
    return np.where(np.isnan(age_years), UNKNOWN_AGE, index).astype(np.int64)


def match_people(seen: SeenPeople, known: KnownPeople) -> tuple[Int[np.ndarray, " K"], Float[np.ndarray, "K Q"]]:
    """Which prediction is which labelled person (-1: missed), and the distances that decide it.

    By image joints alone, so that a wrong depth costs depth and no recall: mean distance of the person's visible joints
    over the diagonal of their box, at most :data:`MATCH_AT_MOST`; most pairs, then the nearest (Hungarian assignment).
    A person with fewer than two visible joints has no extent and can be nobody's match.
    """
    if seen.joints_px.shape[1] != known.joints_px.shape[1]:
        raise InputError(
            f"predictions have {seen.joints_px.shape[1]} points a person and labels {known.joints_px.shape[1]}; give "
            "both in one layout"
        )
    visible = known.joints_px_known
    low = np.where(visible[..., None], known.joints_px, np.inf).min(1, initial=np.inf)
    high = np.where(visible[..., None], known.joints_px, -np.inf).max(1, initial=-np.inf)
    count = visible.sum(1)
    extent = np.where(count >= 2, np.linalg.norm(np.where(count[:, None] >= 2, high - low, 0.0), axis=-1), 0.0)
    distance = np.linalg.norm(known.joints_px[:, None] - seen.joints_px[None], axis=-1)
    mean = np.where(visible[:, None], distance, 0.0).sum(-1) / np.maximum(count, 1)[:, None]
    share = np.where(extent[:, None] > 0, mean / np.maximum(extent, 1e-9)[:, None], 1e9)
    return match_within(share, MATCH_AT_MOST), share


def judge_image(seen: SeenPeople, known: KnownPeople) -> Judged:
    """What is right and wrong about one image.

    Raises:
        InputError: another layout of points, NaN in predictions or in known labels.
    """
    match, share = match_people(seen, known)
    found = np.flatnonzero((match >= 0) & known.counted)
    missed = np.flatnonzero((match < 0) & known.counted)
    extra = len(seen) - int((match >= 0).sum()) if known.everybody else 0
    people = Detections(len(found), len(missed), extra)
    predicted = match[found]
    keypoints = share[found, predicted]
    depth = _depth_errors(seen, known, found, predicted)
    mpjpe_m, pa_mpjpe_m, place_m = _body_errors(seen, known, found, predicted)
    misplaced = np.where(np.isfinite(depth), depth / WORST_DEPTH, _wrong_relations(seen, known, found, predicted))
    parts = np.stack((keypoints / MATCH_AT_MOST, mpjpe_m / WORST_MPJPE_M, misplaced), -1)
    relations, order = _relations(seen, known, found, predicted, missed)
    known_fov = math.isfinite(known.vertical_fov) and math.isfinite(seen.vertical_fov)
    fov = fov_error(np.array([seen.vertical_fov]), np.array([known.vertical_fov])) if known_fov else np.zeros(0)
    return Judged(
        images=1,
        people=people,
        complete=people if known.everybody else Detections(),
        wrongness=Samples(np.nanmean(np.minimum(parts, 1.0), -1)),
        keypoints=Samples(keypoints),
        mpjpe_m=_samples(mpjpe_m),
        pa_mpjpe_m=_samples(pa_mpjpe_m),
        depth=_samples(depth),
        place_m=_samples(place_m),
        stature_m=_stature_errors(seen, known, found, predicted),
        relations=relations,
        order=order,
        fov=Samples(fov),
    )


def _body_errors(
    seen: SeenPeople, known: KnownPeople, found: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MPJPE, PA-MPJPE and distance of the pelvis of each person found; NaN where too little is known."""
    errors = np.full((3, len(found)), np.nan)
    for i, (k, q) in enumerate(zip(found, predicted, strict=True)):
        joints = np.flatnonzero(known.joints_m_known[k])
        truth, guess = known.joints_m[k], seen.joints_m[q]
        if not known.joints_m_known[k, list(known.root)].all():
            continue
        truth = np.where(known.joints_m_known[k][:, None], truth, guess)  # what is unknown must only be finite
        roots = [points[list(known.root)].mean(0) for points in (guess, truth)]
        errors[2, i] = localisation_error_m(*roots).total
        if len(joints) >= _LEAST_POINTS:
            errors[0, i] = mpjpe(guess, truth, known.root, joints.tolist())
            errors[1, i] = pa_mpjpe(guess, truth, joints.tolist())
    return errors[0], errors[1], errors[2]


def _depth_errors(seen: SeenPeople, known: KnownPeople, found: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Relative error of each person found; NaN where the depth is unknown."""
    errors = np.full(len(found), np.nan)
    measured = np.isfinite(known.depth_m[found])
    errors[measured] = relative_depth_error(seen.depth_m[predicted][measured], known.depth_m[found][measured])
    return errors


def _stature_errors(
    seen: SeenPeople, known: KnownPeople, found: np.ndarray, predicted: np.ndarray
) -> tuple[Samples, ...]:
    """By age group, the last of unknown age."""
    measured = np.isfinite(known.stature_m[found])
    errors = stature_error_m(seen.stature_m[predicted][measured], known.stature_m[found][measured])
    group = age_groups(known.age_years[found][measured])
    return tuple(Samples(errors[group == g]) for g in range(UNKNOWN_AGE + 1))


def _wrong_relations(seen: SeenPeople, known: KnownPeople, found: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Share of each found person's relations to the others found that are wrong, where layers are all that is known of
    the image's depths; else, or without relations, NaN."""
    if np.isfinite(known.depth_m[known.counted]).any():
        return np.full(len(found), np.nan)
    pairs = depth_relations(seen.depth_m[predicted], known.depth_layers[found])
    both = np.concatenate((pairs.first, pairs.second))
    count = np.bincount(both, minlength=len(found))
    wrong = np.bincount(both, np.tile(~pairs.correct, 2), minlength=len(found))
    return np.where(count > 0, wrong / np.maximum(count, 1), np.nan)


def _relations(
    seen: SeenPeople, known: KnownPeople, found: np.ndarray, predicted: np.ndarray, missed: np.ndarray
) -> tuple[tuple[PairCounts, ...], Ratio]:
    """Depth relations by age group, and pairs in order: by depth where it is known of somebody, else by layers."""
    metric = bool(np.isfinite(known.depth_m[known.counted]).any())
    placed = np.isfinite(known.depth_m) if metric else known.depth_layers >= 0
    found, predicted, missed = found[placed[found]], predicted[placed[found]], missed[placed[missed]]
    depth, order = seen.depth_m[predicted], Ratio()
    if metric:
        judged = metric_depth_relations(depth, known.depth_m[found])
        (order,) = order_accuracy(depth, known.depth_m[found], (0.0, np.inf), known.depth_m[missed])
    else:
        judged = depth_relations(depth, known.depth_layers[found])
    group, lost = age_groups(known.age_years[found]), age_groups(known.age_years[missed])
    counts = [_counts(judged, len(missed))]
    counts += [_counts(pairs_of_group(judged, group, g), int((lost == g).sum())) for g in range(UNKNOWN_AGE)]
    return tuple(counts), order


def _counts(pairs: DepthPairs, missed: int) -> PairCounts:
    return PairCounts(Ratio(int(pairs.correct.sum()), len(pairs)), missed)


def _samples(values: np.ndarray) -> Samples:
    return Samples(values[np.isfinite(values)])


def _sum(values: Iterable) -> object:
    first, *rest = values
    for value in rest:
        first = first + value
    return first


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value
