"""The heart of DTO: one affine depth transform per scene under which everybody's stature is most plausible.

Paper equations 3 and 7-19, in closed and centred form, for one scene or a million at once. With person i of initial
stature h, initial depth z, relative depth d and stature prior N(mu, sigma), the corrected stature is
h (s d + t) / z, and

    minimise over s, t   sum_i ((h_i (s d_i + t) / z_i - mu_i) / sigma_i)^2   subject to  lo <= s <= hi

is a weighted straight-line fit of y = mu z / h on d with weights w = (h / (z sigma))^2: the slope about the weighted
means, clipped to its interval, then the intercept. Centring avoids the cancellation of the textbook normal equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.errors import InputError

LOWER, FREE, UPPER, DEGENERATE = -1, 0, 1, 2
"""Values of ``AffineDepth.active``."""

_DEGENERATE_SPREAD = 1e-24
"""Relative squared spread of depths below which the slope is undetermined (double precision)."""
_SMALLEST, _LARGEST = 1e-30, 1e30
_BLOCK_PEOPLE = 1 << 15
"""People solved per pass: their temporaries then stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class AffineDepth:
    """The solution for S scenes with N people in all. Metric depth = scale * relative depth + shift, in metres.

    Attributes:
        scale, shift: (S,) the affine transform.
        active: (S,) which constraint holds the scale: -1 lower bound, 0 none, 1 upper bound, 2 degenerate (the
            depths do not determine a scale: fewer than two people or all at one depth; scale is the lower bound, or
            the number nearest to zero where that is -inf). Where both bounds are one number, the sign says to which
            side the free solution would have gone.
        objective: (S,) sum of squared standardised residuals.
        covariance: (S, 2, 2) posterior covariance of (scale, shift); a scale held by a bound or degenerate counts
            as known. Without people the variance of the shift is infinite.
        interval_swapped: (S,) the interval was given upside down (lo > hi) and was swapped.
        depth_ratio: (N,) corrected over initial depth.
        stature_m: (N,) corrected stature.
        standardised_residual: (N,) (corrected stature - prior mean) / prior standard deviation, signed.
        stature_std_m: (N,) posterior standard deviation of the corrected stature that stems from scale and shift.
    """

    scale: Float[np.ndarray, " S"]
    shift: Float[np.ndarray, " S"]
    active: Int[np.ndarray, " S"]
    objective: Float[np.ndarray, " S"]
    covariance: Float[np.ndarray, "S 2 2"]
    interval_swapped: Bool[np.ndarray, " S"]
    depth_ratio: Float[np.ndarray, " N"]
    stature_m: Float[np.ndarray, " N"]
    standardised_residual: Float[np.ndarray, " N"]
    stature_std_m: Float[np.ndarray, " N"]


def solve(
    relative_depth: Float[np.ndarray, " N"],
    initial_depth_m: Float[np.ndarray, " N"],
    initial_stature_m: Float[np.ndarray, " N"],
    prior_mean_m: Float[np.ndarray, " N"],
    prior_std_m: Float[np.ndarray, " N"],
    scale_bounds: tuple[float | np.ndarray, float | np.ndarray] = (0.0, np.inf),
    scene: Int[np.ndarray, " N"] | None = None,
) -> AffineDepth:
    """The exact optimum, in float64 (paper section 6.1).

    Args:
        relative_depth: any finite values, larger = farther.
        initial_depth_m, initial_stature_m: first guess per person, metres.
        prior_mean_m, prior_std_m: stature prior per person, metres.
        scale_bounds: lowest and highest scale, scalars or one per scene; lo > hi is swapped and reported.
        scene: scene number of each person (0 ... S-1, any order); ``None``: everybody in one scene. Numbers that
            nobody has are scenes without people.

    Raises:
        InputError: wrong shapes, a relative depth that is not finite, or another input that is not positive.
    """
    names = ("relative_depth", "initial_depth_m", "initial_stature_m", "prior_mean_m", "prior_std_m")
    inputs = (relative_depth, initial_depth_m, initial_stature_m, prior_mean_m, prior_std_m)
    people = _checked_people(names, inputs)
    count = people.shape[1]
    scene = np.zeros(count, np.int64) if scene is None else _checked_scene(scene, count)
    low, high, swapped = _checked_bounds(scale_bounds, int(scene.max()) + 1 if count else 1)
    scenes = len(low)
    order = None
    if count and np.any(scene[1:] < scene[:-1]):
        order = np.argsort(scene, kind="stable")
        people, scene = people[:, order], scene[order]
    starts = np.searchsorted(scene, np.arange(scenes + 1))
    per_scene, per_person = np.empty((7, scenes)), np.empty((4, count))
    with np.errstate(over="ignore", under="ignore"):  # an objective beyond the float range is honestly infinite
        for first, last in _blocks(starts):
            block = slice(starts[first], starts[last])
            per_scene[:, first:last], per_person[:, block] = _solve_block(
                people[:, block], np.diff(starts[first : last + 1]), low[first:last], high[first:last]
            )
    if order is not None:
        unsorted = np.empty_like(per_person)
        unsorted[:, order] = per_person
        per_person = unsorted
    scale, shift, active, objective, *spread = per_scene
    covariance = np.stack([spread[0], spread[1], spread[1], spread[2]], -1).reshape(scenes, 2, 2)
    return AffineDepth(scale, shift, active.astype(np.int64), objective, covariance, swapped, *per_person)


def _solve_block(
    people: np.ndarray, counts: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve consecutive scenes: (7, S) scene results and (4, N) person results in the order of ``AffineDepth``."""
    depth, initial, stature, mean, std = people
    scenes = len(counts)
    of = np.repeat(np.arange(scenes), counts)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(of, values, scenes)

    # Work on relative depths of magnitude one (powers of two: exact), so that squares neither overflow nor vanish.
    unit = _magnitude(depth, counts)
    depth = depth / unit[of]
    per_metre = stature / initial  # stature gained per metre of depth
    root_weight = per_metre / std
    weight = root_weight * root_weight
    target = mean / per_metre
    weights = total(weight)
    inverse = 1.0 / np.where(counts > 0, weights, 1.0)
    mean_depth, mean_target = total(weight * depth) * inverse, total(weight * target) * inverse
    offset = depth - mean_depth[of]
    weighted = weight * offset
    spread = total(weighted * offset)
    covariation = total(weighted * (target - mean_target[of]))
    degenerate = spread <= _DEGENERATE_SPREAD * total(weight * depth * depth)
    free = covariation / np.where(degenerate, 1.0, spread)
    low_unit, high_unit = low * unit, high * unit
    fallback = np.where(np.isfinite(low_unit), low_unit, np.clip(0.0, low_unit, high_unit))
    scale = np.where(degenerate, fallback, np.clip(free, low_unit, high_unit))
    active = np.where(degenerate, DEGENERATE, (free > high_unit).astype(int) - (free < low_unit))
    corrected = scale[of] * offset + mean_target[of]
    residual = (per_metre * corrected - mean) / std

    determined = active == FREE
    slope_variance = np.where(determined, 1.0 / np.where(determined, spread, 1.0), 0.0)
    level_variance = np.where(counts > 0, inverse, np.inf)
    stature_std = per_metre * np.sqrt(level_variance[of] + slope_variance[of] * offset * offset)
    scene_results = np.stack(
        (
            np.clip(scale / unit, low, high),
            mean_target - scale * mean_depth,
            active,
            total(residual * residual),
            slope_variance / unit / unit,
            -mean_depth * slope_variance / unit,
            level_variance + slope_variance * mean_depth * mean_depth,
        )
    )
    return scene_results, np.stack((corrected / initial, per_metre * corrected, residual, stature_std))


def _magnitude(depth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(S,) power of two near the largest absolute relative depth of each scene; 1 where there is none."""
    unit = np.ones(len(counts))
    filled = counts > 0
    if filled.any():
        starts = (np.cumsum(counts) - counts)[filled]
        largest = np.maximum.reduceat(np.abs(depth), starts)
        _, exponent = np.frexp(largest)
        unit[filled] = np.where(largest > 0, np.ldexp(1.0, np.clip(exponent, -1000, 1000)), 1.0)
    return unit


def _blocks(starts: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of scenes, each with about ``_BLOCK_PEOPLE`` people or scenes (at least one scene)."""
    work = starts + np.arange(len(starts))
    edges = np.searchsorted(work, np.arange(0, work[-1] + _BLOCK_PEOPLE, _BLOCK_PEOPLE))
    edges = np.unique(np.concatenate(([0], np.minimum(edges, len(starts) - 1), [len(starts) - 1])))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _checked_people(names: tuple[str, ...], inputs: tuple[np.ndarray, ...]) -> Float[np.ndarray, "5 N"]:
    arrays = [np.asarray(value, np.float64) for value in inputs]
    shape = arrays[0].shape
    if len(shape) != 1 or any(a.shape != shape for a in arrays):
        raise InputError(
            "solve needs five (N,) arrays, got "
            + ", ".join(f"{name} {array.shape}" for name, array in zip(names, arrays, strict=True))
        )
    for name, array in zip(names, arrays, strict=True):
        if name == "relative_depth":
            good, wanted = np.isfinite(array), "finite"
        else:
            good, wanted = (array >= _SMALLEST) & (array <= _LARGEST), "finite and positive"
        if not good.all():
            person = int(np.flatnonzero(~good)[0])
            raise InputError(f"{name} must be {wanted}, but person {person} has {array[person]}")
    return np.stack(arrays)


def _checked_scene(scene: np.ndarray, count: int) -> np.ndarray:
    scene = np.asarray(scene)
    if scene.shape != (count,) or scene.dtype.kind not in "iu" or (count and scene.min() < 0):
        raise InputError(
            f"scene must be {count} non-negative integers, one per person, got {scene.dtype} {scene.shape}"
        )
    return scene


def _checked_bounds(
    bounds: tuple[float | np.ndarray, float | np.ndarray], least: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = (np.asarray(b, np.float64) for b in bounds)
    if np.isnan(low).any() or np.isnan(high).any() or np.any(np.isposinf(low)) or np.any(np.isneginf(high)):
        raise InputError("scale bounds must be numbers with lo < inf and hi > -inf")
    scenes = max(low.size if low.ndim else 0, high.size if high.ndim else 0) or least
    if scenes < least or any(b.ndim > 1 or (b.ndim == 1 and b.size != scenes) for b in (low, high)):
        raise InputError(
            f"scale bounds must be scalars or one per scene ({least} scenes), got {low.shape} and {high.shape}"
        )
    low, high = np.broadcast_to(low, scenes), np.broadcast_to(high, scenes)
    swapped = low > high
    return np.where(swapped, high, low), np.where(swapped, low, high), swapped
