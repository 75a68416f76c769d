"""``best`` over a video: stature, depth map and ground weighed by their errors, with one stature per track.

In frame f, with a level a and a log slope b of its own, the depth map asks of person j the log stature

    q = a + shape(b) - log(first depth / first stature)        (``posterior.py``; shape depends on the map's value)

and q = log stature of j + error shared by the frames of j + errors of this frame (body fit, map, outliers). The levels
are free: what a frame knows of them comes from the statures of its people, and would count once per frame otherwise.
Statures, levels and slopes are found together (Gauss-Newton on ``_joint_linear.py``); the tabulated densities of
statures enter by expectation propagation, outliers by the weights of a mixture, the ground through what it adds to
each frame's answer. Every frame is then solved once more with what the others know of its people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from crowdmesh.dto._joint_linear import Priors, Rows, solve_joint
from crowdmesh.dto._track_answer import TrackAnswer
from crowdmesh.dto._track_evidence import FrameEvidence, Sightings
from crowdmesh.dto.config import DTOConfig, FusionConfig
from crowdmesh.dto.density import LOG_STATURE, StatureDensity
from crowdmesh.dto.fused import _map_values, solve_fused
from crowdmesh.dto.ground import stand_on_ground
from crowdmesh.dto.posterior import _normal, from_stature, fuse
from crowdmesh.dto.priors import StaturePrior

_STEPS = 60
_CONVERGED = 1e-6
_SETTLED = 1e-3  # of a log stature; more is worth a word
_DAMPING = 0.7
_LEAST_ARGUMENT = 1e-3
_LEAST_PRECISION = 1e-6
_LEAST_PUSHED = 0.05
_FINEST = 0.015  # what the grid of the densities resolves
_WIDEST = 1.0  # standard deviation of what a density may be worth beside its neighbours
_FARTHEST_GROUND = 1.0  # a ground that asks for e times the depth is no ground


@dataclass(frozen=True, eq=False)
class _Reading:
    """What the frames say: M people with evidence in G frames that have at least two of them.

    ``request``, ``precision`` are what the ground adds: the log stature it asks for where the level is zero.
    """

    number: np.ndarray  # (G,) which frames these are
    level: np.ndarray
    slope: np.ndarray
    sign: np.ndarray
    map_error: np.ndarray
    metric: np.ndarray
    mean_x: np.ndarray
    frame: np.ndarray  # (M,) from 0 to G - 1
    person: np.ndarray  # (M,) place in the row of all sightings
    relative: np.ndarray
    offset: np.ndarray
    fit_error: np.ndarray
    request: np.ndarray
    precision: np.ndarray


@dataclass(frozen=True, eq=False)
class _Pooled:
    """Per track mean and variance of the log stature; per person what the other frames say of it, 0 for nothing.

    ``moved`` is how far a log stature still moved in the last step.
    """

    mean: np.ndarray
    variance: np.ndarray
    others_mean: np.ndarray
    others_precision: np.ndarray
    moved: float


def solve_fused_tracks(
    frames: Sequence[FrameEvidence],
    seen: Sightings,
    prior: StaturePrior,
    density: StatureDensity,
    shared_error: float,
    rounds: int,
    config: DTOConfig,
) -> TrackAnswer:
    """Everybody's stature from all frames, and the frames solved with it.

    Args:
        prior, density: of the tracks. shared_error: relative error that all frames of a track have in common.
        rounds: how often the frames are read again with what the others know.
    """
    densities = _per_frame(density.table[seen.track], density, seen)
    evident = seen.joined([_evident(frame) for frame in frames])
    evident &= (np.bincount(seen.frame[evident], minlength=len(frames)) >= 2)[seen.frame]
    several = seen.count(evident) >= 2
    stature, std, notes = np.full(len(several), np.nan), np.full(len(several), np.nan), ()
    if several.any():
        for _ in range(rounds):
            reading = _read(frames, seen, densities, config)
            pooled = _pool(reading, seen, density, shared_error, config)
            densities = _known_by_others(density, pooled, seen, shared_error)
        stature = np.where(several, np.exp(pooled.mean), np.nan)
        std = stature * np.sqrt(pooled.variance)
        if pooled.moved > _SETTLED:
            notes = (f"a stature still moved by {pooled.moved:.1%} when the search over all frames ended",)
    solutions = [
        solve_fused(frame.cues, frame.kind, frame.people.stature_m, known, frame.feet, config)
        for frame, known in zip(frames, densities, strict=True)
    ]
    error = seen.joined([_fit_error(frame, config.fusion) for frame in frames], float)
    return TrackAnswer(several, stature, std, solutions, prior, evident, error, notes)


def _evident(frame: FrameEvidence) -> np.ndarray:
    cues = frame.cues
    return cues.evident & (cues.depth_m > 0) & np.isfinite(cues.relative_depth)


def _fit_error(frame: FrameEvidence, config: FusionConfig) -> np.ndarray:
    """Error of everybody's first depth, the mean of the candidates."""
    return _fit_gain(frame, config) * float(np.average(config.fit_errors, weights=config.fit_error_weights))


def _fit_gain(frame: FrameEvidence, config: FusionConfig) -> np.ndarray:
    return 1.0 + config.hidden_gain * (1.0 - frame.cues.visible_share)


def _read(
    frames: Sequence[FrameEvidence], seen: Sightings, densities: list[StatureDensity], config: DTOConfig
) -> _Reading:
    """Every frame by itself, given what is known of its people."""
    parts: dict[str, list[np.ndarray]] = {field.name: [] for field in fields(_Reading)}
    for f, (frame, density) in enumerate(zip(frames, densities, strict=True)):
        if _evident(frame).sum() < 2:
            continue
        values = _read_frame(frame, density, config)
        values["number"] = f
        values["frame"] = np.full(len(values["offset"]), len(parts["number"]))
        values["person"] = seen.starts[f] + np.flatnonzero(_evident(frame))
        for name, value in values.items():
            parts[name].append(np.atleast_1d(value))
    return _Reading(**{name: np.concatenate(values) for name, values in parts.items()})


def _read_frame(frame: FrameEvidence, density: StatureDensity, config: DTOConfig) -> dict:
    fusion, who = config.fusion, _evident(frame)
    depth, stature = frame.cues.depth_m[who], frame.people.stature_m
    gain = _fit_gain(frame, fusion)
    x, _, inverse = _map_values(frame.cues.relative_depth[who], frame.kind, fusion)
    metric = frame.kind == "metric"
    fused = fuse(x, inverse, depth, stature[who], density[who], gain[who], fusion, metric)
    before, std = from_stature(stature, density, gain, fusion)
    before[who], std[who] = fused.log_ratio, fused.log_std
    after, after_std = before, std
    if fusion.ground:
        after, after_std = stand_on_ground(before, std, fused.shared_std, frame.feet, fusion)
    own, own_after = (np.maximum(s[who] ** 2 - fused.shared_std**2, 1e-4) for s in (std, after_std))
    precision = 1.0 / own_after - 1.0 / own
    gap = (after - before)[who] / own_after / np.where(precision > _LEAST_PRECISION, precision, np.inf)
    precision = np.where((precision > _LEAST_PRECISION) & (np.abs(gap) < _FARTHEST_GROUND), precision, 0.0)
    return {
        "level": fused.level,
        "slope": np.log(1.0 - fused.bend),
        "sign": -1.0 if inverse else 1.0,
        "map_error": fused.map_error,
        "metric": metric,
        "mean_x": fused.mean_x,
        "relative": x / fused.mean_x,
        "offset": np.log(depth / stature[who]),
        "fit_error": _fit_error(frame, fusion)[who],
        "request": before[who] + gap + np.log(stature[who]) - fused.level,
        "precision": precision,
    }


def _pool(reading: _Reading, seen: Sightings, density: StatureDensity, shared: float, config: DTOConfig) -> _Pooled:
    """Statures, levels and slopes together; see the head of this file."""
    blurred = density.table @ _normal(shared)
    value, variance = _moments(blurred)
    site_weight, site_pull = 1.0 / variance, value / variance
    theta = np.stack((reading.slope, reading.level), 1)
    known = _frame_priors(reading, config.fusion)
    weight_of_frames, pull_of_frames = known.pop("theta_weight"), known.pop("theta_pull")
    track = seen.track[reading.person]
    for _ in range(_STEPS):
        rows = _rows(reading, track, theta, value, config.fusion)
        pull = pull_of_frames + _apart(reading, theta, rows, value)
        priors = Priors(weight_of_frames, pull, site_pull / site_weight, site_weight, **known)
        joint = solve_joint(rows, priors)
        moved = float(np.abs(joint.value - value).max())
        theta, value, spread = joint.theta, joint.value, np.diag(joint.covariance)
        if moved < _CONVERGED:
            break
        mean, precision = _without(value, spread, site_weight, site_pull)
        precision = np.minimum(precision, _FINEST**-2.0)
        tilted, narrow = _moments(_tilted(blurred, mean, precision))
        weight = np.maximum(1.0 / narrow - precision, _WIDEST**-2.0)
        pull = tilted * (weight + precision) - mean * precision
        site_weight = (1.0 - _DAMPING) * site_weight + _DAMPING * weight
        site_pull = (1.0 - _DAMPING) * site_pull + _DAMPING * pull
    mean, precision = _without(value, spread, site_weight, site_pull)
    widened = _widened(precision, max(shared, _FINEST))
    found, variance = _moments(_tilted(density.table, mean, widened))
    own = rows.weight * (1.0 - joint.leverage)
    others_mean, others = mean[seen.track], precision[seen.track]
    rest = np.maximum(others[reading.person] - own, 0.0)
    said = rows.constant + (rows.columns * theta[rows.frame]).sum(1)
    pull = others[reading.person] * others_mean[reading.person] - own * said
    others_mean[reading.person] = np.where(rest > _LEAST_PRECISION, pull / np.maximum(rest, _LEAST_PRECISION), 0.0)
    others[reading.person] = np.where(rest > _LEAST_PRECISION, rest, 0.0)
    return _Pooled(found, variance, others_mean, others, moved)


def _frame_priors(reading: _Reading, config: FusionConfig) -> dict[str, np.ndarray]:
    """What ``fuse`` assumes of slopes and, where the map is metric, of levels."""
    metric, count = reading.metric, len(reading.level)
    slope = np.where(metric, 0.0, config.slope_log_mean)
    slope_std = np.where(metric, config.metric_slope_std, config.slope_log_std)
    level_weight = np.where(metric, config.metric_scale_std**-2.0, 0.0)
    low, high = np.log(config.slope_range)
    return {
        "theta_weight": np.stack((slope_std**-2.0, level_weight), 1),
        "theta_pull": np.stack((slope * slope_std**-2.0, np.log(reading.mean_x) * level_weight), 1),
        "low": np.full(count, low),
        "high": np.full(count, high),
    }


def _apart(reading: _Reading, theta: np.ndarray, rows: Rows, value: np.ndarray) -> np.ndarray:
    """(G, 2) the pull that keeps people apart.

    The error of a map lies in its values, so that residuals fall when all slopes fall: people move to one depth, and
    over many frames that outweighs what is known of their statures. The likelihood of the map's values has the term
    log(slope / argument) against it. As much of it counts as there is disagreement to gain from: as many terms as the
    frame has degrees of freedom, times the mean square of the residuals.
    """
    slope = np.exp(theta[reading.frame, 0])
    argument = np.maximum(slope * reading.relative + 1.0 - slope, _LEAST_PUSHED)
    people = np.bincount(reading.frame)
    residual = rows.constant + (rows.columns * theta[rows.frame]).sum(1) - value[rows.track]
    square = float((rows.weight * residual**2).sum()) / max(float((people - 2).sum()), 1.0)
    push = min(square, 1.0) * (1.0 - 2.0 / people) * np.bincount(reading.frame, 1.0 / argument)
    return np.stack((push, np.zeros(len(push))), 1)


def _rows(reading: _Reading, track: np.ndarray, theta: np.ndarray, value: np.ndarray, config: FusionConfig) -> Rows:
    """What map and ground ask for, linear in level and log slope about ``theta``, weighed by how well it fits."""
    log_slope, level = theta[reading.frame].T
    slope, sign = np.exp(log_slope), reading.sign[reading.frame]
    argument = slope * reading.relative + 1.0 - slope
    inside = argument > _LEAST_ARGUMENT
    argument = np.maximum(argument, _LEAST_ARGUMENT)
    shape = sign * np.log(argument)
    change = np.where(inside, sign * slope * (reading.relative - 1.0) / argument, 0.0)
    asked = shape - reading.offset
    map_variance, fit_variance = reading.map_error[reading.frame] ** 2, reading.fit_error**2
    residual = level + asked - value[track]
    inlier = _inlier(residual, map_variance + fit_variance, config.outlier_share, config.outlier_std)
    of_map = inlier / map_variance + (1.0 - inlier) / (map_variance + config.outlier_std**2)
    total = of_map + reading.precision
    share = of_map / total
    asked = share * asked + (1.0 - share) * reading.request
    variance = 1.0 / total + fit_variance
    inlier = _inlier(level + asked - value[track], variance, config.fit_outlier_share, config.outlier_std)
    weight = inlier / variance + (1.0 - inlier) / (variance + config.outlier_std**2)
    constant = asked - share * change * log_slope
    return Rows(reading.frame, track, constant, np.stack((share * change, np.ones_like(share)), 1), weight)


def _inlier(residual: np.ndarray, variance: np.ndarray, share: float, outlier_std: float) -> np.ndarray:
    """Probability that a residual is no outlier's."""
    wide = variance + outlier_std**2
    near = (1.0 - share) * np.exp(-(residual**2) / variance / 2) / np.sqrt(variance)
    far = share * np.exp(-(residual**2) / wide / 2) / np.sqrt(wide)
    return near / np.maximum(near + far, np.finfo(float).tiny)


def _without(
    value: np.ndarray, spread: np.ndarray, weight: np.ndarray, pull: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and precision of each track without what its own density says; precision 0: nothing else is known."""
    precision = 1.0 / spread - weight
    some = precision > _LEAST_PRECISION
    mean = (value / spread - pull) / np.where(some, precision, 1.0)
    return np.where(some, mean, 0.0), np.where(some, precision, 0.0)


def _widened(precision: np.ndarray, std: float) -> np.ndarray:
    """Precision after an independent error is added."""
    return precision / (1.0 + precision * std**2)


def _tilted(table: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> Float[np.ndarray, "K N"]:
    """Densities times normal likelihoods, each row summing to one."""
    exponent = -precision[:, None] * (LOG_STATURE - mean[:, None]) ** 2 / 2
    tilted = table * np.exp(exponent - exponent.max(1, keepdims=True)) + 1e-12 * table
    return tilted / tilted.sum(1, keepdims=True)


def _moments(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of log stature; the variance is at least that of the grid's step."""
    table = table / table.sum(1, keepdims=True)
    mean = table @ LOG_STATURE
    return mean, np.maximum(table @ LOG_STATURE**2 - mean**2, (LOG_STATURE[1] - LOG_STATURE[0]) ** 2 / 12)


def _known_by_others(density: StatureDensity, pooled: _Pooled, seen: Sightings, shared: float) -> list[StatureDensity]:
    """Per frame, the densities of its people given what the other frames say."""
    table = _tilted(density.table[seen.track], pooled.others_mean, _widened(pooled.others_precision, shared))
    return _per_frame(table, density, seen)


def _per_frame(table: Float[np.ndarray, "N D"], density: StatureDensity, seen: Sightings) -> list[StatureDensity]:
    known = seen.split(density.age_known[seen.track])
    return [StatureDensity(*frame) for frame in zip(seen.split(table), known, strict=True)]
