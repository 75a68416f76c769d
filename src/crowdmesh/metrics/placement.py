"""Where people stand in the camera's space, in metres: order in depth, distances, statures, camera.

Depth is z in the camera frame. Errors in metres are absolute: nothing is aligned first. What people were missed is the
business of :mod:`crowdmesh.metrics.accumulate` and of :class:`crowdmesh.metrics.Detections`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.errors import InputError
from crowdmesh.metrics._checks import finite, same_shape
from crowdmesh.metrics.accumulate import Ratio

PCDR_THRESHOLD_M = 0.2
"""PCDR_0.2 of Relative Human (Sun et al. 2022): people of one depth layer stand within 0.2 m, others farther apart."""

SAME_LAYER_M = 0.3
"""Relative Human's annotators put people into one depth layer when they are less than this apart (paper 8.1)."""

MISSED_PENALTY = 0.3
"""Wrong pairs that one missed person counts for in the PCDR of Relative Human's evaluation."""

DETECTION_RADII_M = (0.25, 0.5, 1.0)
"""Distances of the pelvis within which a person counts as found (:func:`match_in_3d`)."""


@dataclass(frozen=True, eq=False)
class DepthPairs:
    """Every pair i < j of people with known depth layers, row by row.

    Attributes:
        first, second: (M,) numbers i and j of the people.
        gap_m: (M,) predicted z_j - z_i.
        layer_gap: (M,) annotated layer_j - layer_i: 0 same, negative: j is nearer, positive: j is farther.
        correct: (M,) whether the prediction has it so.
    """

    first: Int[np.ndarray, " M"]
    second: Int[np.ndarray, " M"]
    gap_m: Float[np.ndarray, " M"]
    layer_gap: Int[np.ndarray, " M"]
    correct: Bool[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, pairs: Bool[np.ndarray, " M"]) -> DepthPairs:
        """The pairs that a mask selects."""
        return DepthPairs(*(getattr(self, name)[pairs] for name in self.__dataclass_fields__))


def depth_relations(
    depth_m: Float[np.ndarray, " K"],
    layer: Int[np.ndarray, " K"],
    threshold_m: float = PCDR_THRESHOLD_M,
) -> DepthPairs:
    """Judge every pair of people: one layer means nearer than the threshold, else farther apart in the right order.

    Source: percentage of correct depth relations, Relative Human (Sun et al. 2022).

    Args:
        depth_m: predicted z of each person, metres.
        layer: true depth layer, 0 nearest; -1: unknown, the person is in no pair.

    Raises:
        InputError: NaN or shapes that differ.
    """
    depth_m, layer = finite("depth_m", depth_m), np.asarray(layer)
    if depth_m.ndim != 1 or layer.shape != depth_m.shape or layer.dtype.kind not in "iu":
        raise InputError(
            f"depth_m and layer must be one row of numbers and of whole numbers, got {depth_m.shape} and "
            f"{layer.dtype} {layer.shape}"
        )
    first, second = np.triu_indices(len(depth_m), 1)
    known = (layer[first] != -1) & (layer[second] != -1)
    first, second = first[known], second[known]
    return _judged(depth_m, first, second, layer[second] - layer[first], threshold_m)


def metric_depth_relations(
    depth_m: Float[np.ndarray, " K"],
    true_depth_m: Float[np.ndarray, " K"],
    same_layer_m: float = SAME_LAYER_M,
    threshold_m: float = PCDR_THRESHOLD_M,
) -> DepthPairs:
    """Like :func:`depth_relations` where true depths are known instead of layers.

    Two people are of one layer when their true depths differ by less than ``same_layer_m``. That is decided pair by
    pair: a chain of people each a little behind the last is no single layer.

    Args:
        depth_m, true_depth_m: predicted and true z of the same people, metres.

    Raises:
        InputError: NaN or shapes that differ.
    """
    depth_m, true_depth_m = finite("depth_m", depth_m), finite("true_depth_m", true_depth_m)
    same_shape(depth_m=depth_m, true_depth_m=true_depth_m)
    if depth_m.ndim != 1:
        raise InputError(f"depth_m must be one row of numbers, got {depth_m.shape}")
    first, second = np.triu_indices(len(depth_m), 1)
    true_gap = true_depth_m[second] - true_depth_m[first]
    layer_gap = np.where(np.abs(true_gap) < same_layer_m, 0, np.sign(true_gap)).astype(np.int64)
    return _judged(depth_m, first, second, layer_gap, threshold_m)


def _judged(
    depth_m: np.ndarray, first: np.ndarray, second: np.ndarray, layer_gap: np.ndarray, threshold_m: float
) -> DepthPairs:
    gap = depth_m[second] - depth_m[first]
    correct = np.where(
        layer_gap == 0, np.abs(gap) < threshold_m, np.where(layer_gap < 0, gap < -threshold_m, gap > threshold_m)
    )
    return DepthPairs(first, second, gap, layer_gap, correct)


def pcdr(correct: int, pairs: int, missed: int = 0, penalty: float = MISSED_PENALTY) -> float | None:
    """Share of correct depth relations, 0 to 1, every missed person counted as ``penalty`` wrong pairs.

    ``None`` when there is no pair: without one nothing was measured, whatever was missed.
    """
    if not 0 <= correct <= pairs or missed < 0:
        raise InputError(f"pcdr needs counts, correct at most pairs, got {correct} of {pairs} and {missed} missed")
    return correct / (pairs + penalty * missed) if pairs else None


def pairs_of_group(pairs: DepthPairs, group: Int[np.ndarray, " K"], wanted: int) -> DepthPairs:
    """The pairs in which at least one person is of the wanted (age) group; a pair may count for two groups."""
    return pairs[(group[pairs.first] == wanted) | (group[pairs.second] == wanted)]


def order_accuracy(
    depth_m: Float[np.ndarray, " K"],
    true_depth_m: Float[np.ndarray, " K"],
    edges_m: Sequence[float],
    missed_true_depth_m: Float[np.ndarray, " L"] | None = None,
) -> list[Ratio]:
    """Pairs of people ordered right, by the true gap between them.

    Args:
        depth_m, true_depth_m: predicted and true z of the same people, metres.
        edges_m: rising edges of the bins of the true gap, metres; bin b is [edge b, edge b + 1).
        missed_true_depth_m: true z of people nobody found; every pair with one of them counts as wrong.

    Returns:
        One ratio a bin, right of all. Pairs whose true gap is exactly zero have no order and are in none; equal
        predicted depths of people who are apart are wrong.
    """
    depth_m, true_depth_m = finite("depth_m", depth_m), finite("true_depth_m", true_depth_m)
    same_shape(depth_m=depth_m, true_depth_m=true_depth_m)
    lost = finite("missed_true_depth_m", np.zeros(0) if missed_true_depth_m is None else missed_true_depth_m)
    edges = np.asarray(edges_m, np.float64)
    if depth_m.ndim != 1 or lost.ndim != 1 or edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise InputError("order_accuracy needs one row of depths, and edges that rise")
    found = len(depth_m)
    truth = np.concatenate((true_depth_m, lost))
    first, second = np.triu_indices(len(truth), 1)
    gap = truth[second] - truth[first]
    guess = np.concatenate((depth_m, np.zeros(len(lost))))
    right = (second < found) & (np.sign(guess[second] - guess[first]) == np.sign(gap))
    place = np.where(gap == 0, -1, np.searchsorted(edges, np.abs(gap), "right") - 1)
    return [Ratio(int(right[place == b].sum()), int((place == b).sum())) for b in range(len(edges) - 1)]


def relative_depth_error(
    depth_m: Float[np.ndarray, "*n"], true_depth_m: Float[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n"]:
    """Absolute error of z over the true z of each person, without unit."""
    depth_m, true_depth_m = finite("depth_m", depth_m), finite("true_depth_m", true_depth_m)
    same_shape(depth_m=depth_m, true_depth_m=true_depth_m)
    if np.any(true_depth_m <= 0):
        raise InputError("true_depth_m must be positive: people stand in front of the camera")
    return np.asarray(np.abs(depth_m - true_depth_m) / true_depth_m)


def stature_error_m(
    stature_m: Float[np.ndarray, "*n"], true_stature_m: Float[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n"]:
    """Absolute error of each person's stature at rest, metres."""
    stature_m, true_stature_m = finite("stature_m", stature_m), finite("true_stature_m", true_stature_m)
    same_shape(stature_m=stature_m, true_stature_m=true_stature_m)
    return np.asarray(np.abs(stature_m - true_stature_m))


def fov_error(fov: Float[np.ndarray, "*n"], true_fov: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Absolute error of the vertical field of view of each image, radians."""
    fov, true_fov = finite("fov", fov), finite("true_fov", true_fov)
    same_shape(fov=fov, true_fov=true_fov)
    for name, value in (("fov", fov), ("true_fov", true_fov)):
        if np.any((value <= 0) | (value >= np.pi)):
            raise InputError(f"{name} must lie between 0 and pi radians; is it in degrees?")
    return np.asarray(np.abs(fov - true_fov))


class SplitError(NamedTuple):
    """A distance in metres and its parts along and across the line of sight: total² = along² + across²."""

    total: Float[np.ndarray, "*n"]
    along: Float[np.ndarray, "*n"]
    across: Float[np.ndarray, "*n"]


def localisation_error_m(points_m: Float[np.ndarray, "*n 3"], true_m: Float[np.ndarray, "*n 3"]) -> SplitError:
    """How far points of the camera frame are from the truth, along and across the ray to the true point.

    For a person's place, give the pelvis.

    Raises:
        InputError: NaN, shapes that differ, or a true point in the camera itself, which has no ray.
    """
    points_m, true_m = finite("points_m", points_m, (3,)), finite("true_m", true_m, (3,))
    same_shape(points_m=points_m, true_m=true_m)
    distance = np.linalg.norm(true_m, axis=-1, keepdims=True)
    if np.any(distance == 0):
        raise InputError("a true point lies in the camera itself, so there is no line of sight to it")
    ray, error = true_m / distance, points_m - true_m
    along = (error * ray).sum(-1)
    across = np.linalg.norm(error - along[..., None] * ray, axis=-1)
    return SplitError(*(np.asarray(part) for part in (np.linalg.norm(error, axis=-1), np.abs(along), across)))


def absolute_error_m(points_m: Float[np.ndarray, "*n J 3"], true_m: Float[np.ndarray, "*n J 3"]) -> SplitError:
    """Mean over each person's points (joints: absolute MPJPE; vertices: absolute PVE) of :func:`localisation_error_m`.

    The means of the parts are the parts of no single triangle: the squares do not add up after averaging.
    """
    points_m = finite("points_m", points_m, (None, 3))
    if points_m.shape[-2] == 0:
        raise InputError("the people have no points, so there is no mean over them")
    return SplitError(*(np.asarray(part.mean(-1)) for part in localisation_error_m(points_m, true_m)))


@dataclass(frozen=True)
class Detections:
    """Whole counts of people: found, not found, invented. ``a + b`` merges exactly."""

    matched: int = 0
    missed: int = 0
    extra: int = 0

    def __post_init__(self) -> None:
        if min(self.matched, self.missed, self.extra) < 0:
            raise InputError(f"counts of people must not be negative, got {self}")

    def __add__(self, other: Detections) -> Detections:
        return Detections(self.matched + other.matched, self.missed + other.missed, self.extra + other.extra)

    @property
    def precision(self) -> float | None:
        """Share of the predicted people who are real; ``None``: nobody was predicted."""
        return Ratio(self.matched, self.matched + self.extra).value

    @property
    def recall(self) -> float | None:
        """Share of the real people who were found; ``None``: there was nobody."""
        return Ratio(self.matched, self.matched + self.missed).value

    @property
    def f1(self) -> float | None:
        """2 matched / (2 matched + missed + extra); ``None``: nobody predicted and nobody there."""
        return Ratio(2 * self.matched, 2 * self.matched + self.missed + self.extra).value


def match_in_3d(
    pelvis_m: Float[np.ndarray, "P 3"], true_pelvis_m: Float[np.ndarray, "K 3"], at_most_m: float
) -> Int[np.ndarray, " K"]:
    """Which predicted person is which true one: as many pairs within ``at_most_m`` as possible, then the nearest.

    Source: Hungarian assignment (``scipy.optimize.linear_sum_assignment``) on the distance of the pelvis.

    Returns:
        (K,) index of the prediction of each true person, -1: missed.
    """
    pelvis_m, true_pelvis_m = finite("pelvis_m", pelvis_m, (3,)), finite("true_pelvis_m", true_pelvis_m, (3,))
    if pelvis_m.ndim != 2 or true_pelvis_m.ndim != 2:
        raise InputError(f"pelvises must have shape (people, 3), got {pelvis_m.shape} and {true_pelvis_m.shape}")
    if not (np.isfinite(at_most_m) and at_most_m > 0):
        raise InputError(f"the largest distance of a match must be positive metres, got {at_most_m}")
    return match_within(np.linalg.norm(true_pelvis_m[:, None] - pelvis_m[None], axis=-1), at_most_m)


def match_within(distance: Float[np.ndarray, "K P"], at_most: float) -> Int[np.ndarray, " K"]:
    """As many pairs within ``at_most`` as possible, then the nearest (Hungarian assignment).

    Args:
        distance: of each of K true people to each of P predictions, finite, in the unit of ``at_most``.

    Returns:
        (K,) index of the prediction of each true person, -1: missed.
    """
    from scipy.optimize import linear_sum_assignment

    # One pair too far costs more than any number of pairs within reach.
    too_far = (min(distance.shape, default=0) + 1) * at_most
    true, predicted = linear_sum_assignment(np.where(distance <= at_most, distance, too_far))
    match = np.full(len(distance), -1, np.int64)
    near = distance[true, predicted] <= at_most
    match[true[near]] = predicted[near]
    return match


def detections(match: Int[np.ndarray, " K"], predicted: int) -> Detections:
    """Counts of one image from the result of :func:`match_in_3d` and the number of predicted people."""
    matched = int((np.asarray(match) >= 0).sum())
    if matched > predicted:
        raise InputError(f"{matched} people were matched to {predicted} predictions")
    return Detections(matched, len(match) - matched, predicted - matched)
