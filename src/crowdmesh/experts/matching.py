"""Which mesh belongs to which detected person: keypoints against projected joints, in two stages.

The paper (section 6.2) compares the keypoints of a detection first with meshes seen with all of their surroundings
(``whole``: from the unmasked crop, or labels that exist already), then those that fit nothing with meshes from the
masked crop. Row p of both belongs to person p: one who has been found in one stage is not there for the other. The
release forgets that, and can make one person twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from crowdmesh.errors import InputError

PAPER_RADIUS_HEADS = 0.5
"""How far a keypoint may lie from its joint, in head lengths of the mesh: paper, section 6.2."""

RELEASED_RADIUS_HEADS = 0.6
"""The same in the released code."""

MIN_CONFIDENCE = 0.5
"""Keypoints below do not count."""

WHOLE, MASKED, NOBODY = 0, 1, -1
"""Values of ``MeshMatch.source``."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Projected meshes of T people; NaN where a point lies behind the camera.

    Attributes:
        points_px: (T, 17, 2) their joints in COCO order.
        head_px: (T,) their heads' length in the image: from the neck to the top of the head.
    """

    points_px: Float[np.ndarray, "T 17 2"]
    head_px: Float[np.ndarray, " T"]

    def __post_init__(self) -> None:
        if self.points_px.shape != (len(self), 17, 2):
            raise InputError(f"Targets.points_px must have shape {(len(self), 17, 2)}, got {self.points_px.shape}")

    def __len__(self) -> int:
        return len(self.head_px)


@dataclass(frozen=True, eq=False)
class MeshMatch:
    """The mesh of each of K people.

    Attributes:
        source: (K,) ``WHOLE``, ``MASKED`` or ``NOBODY``.
        target: (K,) its row in those targets, -1 for nobody; no row occurs twice.
    """

    source: Int[np.ndarray, " K"]
    target: Int[np.ndarray, " K"]


def match_meshes(
    queries_px: Float[np.ndarray, "K 17 3"], whole: Targets, masked: Targets, radius_heads: float, optimal: bool
) -> MeshMatch:
    """Find the mesh of each person.

    Person and mesh fit if more than half of the person's keypoints (confidence >= 0.5) lie within the radius of the
    mesh's joints; the more do, the better. Of equals the one with the smaller mean distance is better (the release
    takes the first). A person without such keypoints, and a mesh with a NaN or without a head, fit nothing.

    Args:
        queries_px: x, y, confidence of the people's keypoints, COCO-17.
        whole, masked: meshes of the first and of the second stage, of the same people in the same order.
        radius_heads: in head lengths of the mesh: ``PAPER_RADIUS_HEADS`` or ``RELEASED_RADIUS_HEADS``.
        optimal: choose for both stages together: as many people as possible get a mesh, of these as many as possible
            a whole one, and then as many keypoints as possible fit. Else as released: one person after the other, in
            their order, takes what fits best of the meshes that are left; whoever got nothing tries again with the
            masked ones.

    Raises:
        InputError: the radius is not positive, or the two stages do not have the same number of people.
    """
    if not radius_heads > 0.0:
        raise InputError(f"radius_heads must be positive, got {radius_heads}")
    if len(whole) != len(masked):
        raise InputError(f"both stages must have the same people, got {len(whole)} whole and {len(masked)} masked")
    fits = [_fit(queries_px, targets, radius_heads) for targets in (whole, masked)]
    return _match_optimally(*fits) if optimal else _match_greedily(*fits)


@dataclass(frozen=True, eq=False)
class _Fit:
    """How well K people and T meshes fit: (K, T) keypoints within the radius, 0 if too few; mean distance in pixels."""

    count: Int[np.ndarray, "K T"]
    distance_px: Float[np.ndarray, "K T"]


def _fit(queries_px: np.ndarray, targets: Targets, radius_heads: float) -> _Fit:
    visible = queries_px[:, None, :, 2] >= MIN_CONFIDENCE
    distance = np.linalg.norm(queries_px[:, None, :, :2] - targets.points_px[None], axis=-1)
    usable = np.isfinite(targets.points_px).all(axis=(1, 2)) & (targets.head_px > 0.0)
    radius = np.where(usable, radius_heads * targets.head_px, -1.0)[None, :, None]
    count = (visible & (distance <= radius)).sum(axis=-1)
    seen = visible.sum(axis=-1)
    mean = np.where(visible & usable[None, :, None], distance, 0.0).sum(axis=-1) / np.maximum(seen, 1)
    return _Fit(np.where(2 * count > seen, count, 0), mean)


def _match_greedily(whole: _Fit, masked: _Fit) -> MeshMatch:
    people, meshes = whole.count.shape
    source, target = np.full((2, people), NOBODY)
    free = np.ones(meshes, bool)
    for stage, fit in ((WHOLE, whole), (MASKED, masked)):
        for k in np.flatnonzero(source == NOBODY):
            count = np.where(free, fit.count[k], 0)
            if not count.any():
                continue
            best = np.flatnonzero(count == count.max())
            chosen = best[np.argmin(fit.distance_px[k, best])]
            source[k], target[k], free[chosen] = stage, chosen, False
    return MeshMatch(source, target)


def _match_optimally(whole: _Fit, masked: _Fit) -> MeshMatch:
    """One assignment of people to mesh rows: a row can be used once, in whichever stage."""
    in_whole = whole.count > 0
    count = np.where(in_whole, whole.count, masked.count)
    distance = np.where(in_whole, whole.distance_px, masked.distance_px)
    valid = count > 0
    source, target = np.full((2, len(count)), NOBODY)
    if valid.any():
        # Each aim outweighs all pairs' gains in the lesser ones together.
        pairs = min(count.shape)
        nearness = 1.0 - distance / (1.0 + distance[valid].max())
        per_keypoint = pairs + 1.0
        per_whole = per_keypoint * (17 * pairs + 1)
        per_person = per_whole * (pairs + 1)
        gain = np.where(valid, per_person + per_whole * in_whole + per_keypoint * count + nearness, 0.0)
        people, rows = linear_sum_assignment(gain, maximize=True)
        matched = valid[people, rows]
        people, rows = people[matched], rows[matched]
        source[people] = np.where(in_whole[people, rows], WHOLE, MASKED)
        target[people] = rows
    return MeshMatch(source, target)
