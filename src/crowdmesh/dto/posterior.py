"""Where everybody stands, all evidence weighed: the posterior over depth by quadrature over what people share.

The paper takes the depth map at its word, up to one affine transform; whatever does not fit becomes stature. Depth maps
err too. Here person i at depth z has two witnesses:

    log z = log(first depth / first stature) + log stature + fit error      stature from its density
    log z = level + sign * log((1 - bend) x / mean x + bend) + map error     x from the depth map

``level`` and ``bend`` are shared by the image. For disparity x the second line says that inverse depth is affine in
disparity (sign -1), for depth maps that depth is affine in them (sign +1); ``bend`` is the share of the shift. The two
shared unknowns and the sizes of both errors are summed over a grid; given them people are independent, and what a
person contributes depends on one number alone, the stature that the map asks for. So every density is tabulated once
and looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from crowdmesh.dto.config import FusionConfig
from crowdmesh.dto.density import LOG_STATURE, StatureDensity
from crowdmesh.errors import InputError

_STEP = LOG_STATURE[1] - LOG_STATURE[0]
_TINY = 1e-300
_LEAST_ARGUMENT = 1e-3
_NEGLIGIBLE = 1e-4
_LEVEL_STEP = 0.02
_BEYOND_MEDIAN = 20.0
_FARTHEST = 300.0
_MOST_LEVELS = 4000  # depths of one image differ by a factor below exp(80)
_BLOCK = 1 << 22  # numbers looked up at a time


@dataclass(frozen=True, eq=False)
class FusedDepth:
    """The posterior of K people.

    Attributes:
        log_ratio: (K,) posterior mean of log(depth / first depth).
        log_std: (K,) its standard deviation. shared_std: the part of it that moves everybody alike.
        map_log_ratio: (K,) the same as the depth map alone would have it (posterior mean of the shared unknowns).
        level, bend: posterior means of the shared unknowns. mean_x: the x at which depth is exp(level), the mean but
            for absurd values.
        map_error: posterior mean of the relative error of the depth map.
    """

    log_ratio: Float[np.ndarray, " K"]
    log_std: Float[np.ndarray, " K"]
    shared_std: float
    map_log_ratio: Float[np.ndarray, " K"]
    level: float
    bend: float
    mean_x: float
    map_error: float


@dataclass(frozen=True, eq=False)
class _Tables:
    """Per pair e of fit and map error, person k and log stature u that the map asks for.

    ``evidence`` (E, K, N) is the log of its density; ``moments`` (E, 2, K, N) are mean and second moment of the log
    stature given both witnesses.
    """

    evidence: np.ndarray
    moments: np.ndarray


def fuse(
    x: Float[np.ndarray, " K"],
    inverse: bool,
    first_depth_m: Float[np.ndarray, " K"],
    first_stature_m: Float[np.ndarray, " K"],
    density: StatureDensity,
    fit_gain: Float[np.ndarray, " K"],
    config: FusionConfig,
    metric: bool = False,
) -> FusedDepth:
    """The posterior of everybody's depth (ours; ``config`` holds the error model).

    Args:
        x: what the map says of each person; positive, in any unit unless ``metric``.
        inverse: x is disparity, not depth.
        first_depth_m, first_stature_m: the first guess, positive; only their ratio matters.
        density: everybody's stature.
        fit_gain: how many times larger than in full view each person's fit error is; at least 1.
        config: errors, their prior weights, and what is known of the bend.
        metric: x is in metres, so that level and bend are nearly known.

    Raises:
        InputError: nobody, arrays of different lengths, or one that is not finite and positive.
    """
    _check(x=x, first_depth_m=first_depth_m, first_stature_m=first_stature_m, fit_gain=fit_gain)
    if len(density.table) != len(x):
        raise InputError(f"densities of {len(density.table)} people for {len(x)} people; give one each")
    slopes, slope_prior = _slope_grid(config, metric)
    relative, log_mean_x = _relative(x)
    argument = slopes[:, None] * relative + (1.0 - slopes[:, None])
    shape = (-1.0 if inverse else 1.0) * np.log(np.maximum(argument, _LEAST_ARGUMENT))  # (B, K)
    offset = np.log(first_depth_m) - np.log(first_stature_m)
    levels = _level_grid(shape, offset, density)
    tables = _tabulate(density, fit_gain, config)
    log_weight = _log_evidence(tables, levels, shape - offset, config.outlier_std)  # (E, B, L)
    log_weight += np.log(config.error_weights)[:, None, None] + slope_prior[:, None]
    if metric:
        log_weight -= ((levels - log_mean_x) / config.metric_scale_std) ** 2 / 2
    weight = np.exp(log_weight - log_weight.max())
    error, slope, level = np.nonzero(weight > _NEGLIGIBLE)
    kept = weight[error, slope, level]
    kept = kept / kept.sum()
    mean, square, shared = _moments(tables, kept, error, levels[level], (shape - offset)[slope])
    base = np.log(first_stature_m)
    level_mean = float(kept @ levels[level])
    return FusedDepth(
        log_ratio=mean - base,
        log_std=np.sqrt(np.maximum(square - mean**2, 0.0)),
        shared_std=float(np.sqrt(max(kept @ shared**2 - (kept @ shared) ** 2, 0.0))),
        map_log_ratio=level_mean + kept @ (shape - offset)[slope] - base,
        level=level_mean,
        bend=float(1.0 - kept @ slopes[slope]),
        mean_x=float(np.exp(log_mean_x)),
        map_error=float(kept @ np.array([map_error for _, map_error in config.error_pairs])[error]),
    )


def from_stature(
    first_stature_m: Float[np.ndarray, " K"],
    density: StatureDensity,
    fit_gain: Float[np.ndarray, " K"],
    config: FusionConfig,
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Mean and standard deviation of log(depth / first depth) of people of whom the depth map says nothing.

    Args:
        first_stature_m: the first guess, positive. density: everybody's stature.
        fit_gain: as in :func:`fuse`. config: the errors of the first depths; of the
            candidates the mean counts.
    """
    mean = density.table @ LOG_STATURE
    variance = density.table @ LOG_STATURE**2 - mean**2
    fit_error = fit_gain * float(np.average(config.fit_errors, weights=config.fit_error_weights))
    share, outlier = config.fit_outlier_share, np.maximum(config.outlier_std, fit_error)
    fit_variance = (1.0 - share) * fit_error**2 + share * outlier**2
    return mean - np.log(first_stature_m), np.sqrt(np.maximum(variance, 0.0) + fit_variance)


def _check(**arrays: np.ndarray) -> None:
    """One positive number per person in every array."""
    count = len(next(iter(arrays.values())))
    for name, values in arrays.items():
        if len(values) != count or count == 0:
            raise InputError(f"{name} must hold one number for each of at least one person, got {np.shape(values)}")
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if len(wrong):
            raise InputError(f"{name} must be finite and positive, got {values[wrong[0]]} for person {wrong[0]}")


def _relative(x: np.ndarray) -> tuple[np.ndarray, float]:
    """x over its mean, and the logarithm of that mean. Values far beyond the median would make the rest look alike and
    do not count in the mean."""
    logs = np.log(x)
    middle = float(np.median(logs))
    logs = np.clip(logs - middle, -_FARTHEST, _FARTHEST)
    mean = np.exp(logs[logs <= np.log(_BEYOND_MEDIAN)]).mean()
    return np.exp(logs) / mean, middle + float(np.log(mean))


def _slope_grid(config: FusionConfig, metric: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values of 1 - bend and the log of their prior weights (log-normal)."""
    centre, std = (0.0, config.metric_slope_std) if metric else (config.slope_log_mean, config.slope_log_std)
    logs = np.linspace(np.log(config.slope_range[0]), np.log(config.slope_range[1]), config.slope_nodes)
    return np.exp(logs), -(((logs - centre) / std) ** 2) / 2


def _level_grid(shape: np.ndarray, offset: np.ndarray, density: StatureDensity) -> np.ndarray:
    """Levels at which anybody's stature would be plausible, in small steps; larger ones where there were too many."""
    cumulative = density.table.cumsum(1)
    low = LOG_STATURE[np.minimum((cumulative < 0.002).sum(1), len(LOG_STATURE) - 1)]
    high = LOG_STATURE[np.minimum((cumulative < 0.998).sum(1), len(LOG_STATURE) - 1)]
    votes = offset - shape
    lowest, highest = np.quantile(votes + low, 0.05), np.quantile(votes + high, 0.95)
    step = max(_LEVEL_STEP, (highest - lowest) / _MOST_LEVELS)
    return np.arange(lowest, highest + step, step)


def _tabulate(density: StatureDensity, fit_gain: np.ndarray, config: FusionConfig) -> _Tables:
    """The tables for every pair of fit error and map error; fit errors are rounded to the grid's step."""
    evidence, moments = [], []
    kernels = [_heavy_tailed(error, config.outlier_share, config.outlier_std) for error in config.map_errors]
    for fit_error in config.fit_errors:
        stature = np.empty_like(density.table)
        rounded = np.maximum(np.round(fit_error * fit_gain, 2), _STEP)
        for value in np.unique(rounded):
            stature[rounded == value] = density.table[rounded == value] @ _heavy_tailed(
                float(value), config.fit_outlier_share, config.outlier_std
            )
        first, second = stature * LOG_STATURE, stature * LOG_STATURE**2
        for kernel in kernels:
            total = np.maximum(stature @ kernel, _TINY)
            evidence.append(np.log(total))
            moments.append(np.stack((first @ kernel, second @ kernel)) / total)
    return _Tables(np.array(evidence), np.array(moments))


def _log_evidence(tables: _Tables, levels: np.ndarray, request: np.ndarray, outlier_std: float) -> np.ndarray:
    """(E, B, L) log density of what everybody's first guess and the map ask of each other.

    ``request`` (B, K) plus a level is the log stature that the map asks for. Some people at a time, to bound memory.
    """
    total = np.zeros((len(tables.evidence), len(request), len(levels)))
    for some in _blocks(request.shape[1], total.size):
        asked = levels[None, :, None] + request[:, None, some]
        total += _look_up(tables.evidence[:, some], asked).sum(-1)
        beyond = np.maximum(np.maximum(LOG_STATURE[0] - asked, asked - LOG_STATURE[-1]), 0.0)
        total -= beyond.sum(-1) / outlier_std
    return total


def _moments(
    tables: _Tables, weight: np.ndarray, error: np.ndarray, level: np.ndarray, request: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) mean and second moment of log stature over M weighted grid points, and (M,) the people's mean at each."""
    count = request.shape[1]
    mean, square, shared = np.empty(count), np.empty(count), np.zeros(len(weight))
    for some in _blocks(count, len(weight)):
        means, squares = _look_up_moments(tables.moments[:, :, some], error, level[:, None] + request[:, some])
        mean[some], square[some] = weight @ means, weight @ squares
        shared += means.sum(1) / count
    return mean, square, shared


def _blocks(count: int, size: int) -> list[slice]:
    """Runs of people of whom each needs ``size`` numbers at a time."""
    some = max(1, _BLOCK // size)
    return [slice(first, first + some) for first in range(0, count, some)]


@lru_cache(maxsize=128)
def _heavy_tailed(error: float, outlier_share: float, outlier_std: float) -> np.ndarray:
    return (1.0 - outlier_share) * _normal(error) + outlier_share * _normal(max(outlier_std, error))


@lru_cache(maxsize=128)
def _normal(std: float) -> np.ndarray:
    """(N, N) matrix that convolves a table with a normal density, none narrower than the grid's step."""
    std = max(std, _STEP)
    count = len(LOG_STATURE)
    steps = np.arange(-count + 1, count) * _STEP
    row = np.exp(-((steps / std) ** 2) / 2) * (_STEP / (std * np.sqrt(2 * np.pi)))
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(row, count)[::-1])


def _position(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Node below each log stature and the share of the next one."""
    index = (asked - LOG_STATURE[0]) / _STEP
    lower = np.clip(index.astype(int), 0, len(LOG_STATURE) - 2)
    return lower, np.clip(index - lower, 0.0, 1.0)


def _look_up(table: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(E, ..., K) values of a table (E, K, N) at log statures (..., K), linear between its nodes."""
    lower, share = _position(asked)
    people = np.arange(asked.shape[-1])
    return table[:, people, lower] * (1.0 - share) + table[:, people, lower + 1] * share


def _look_up_moments(moments: np.ndarray, error: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(2, M, K) both moments at log statures (M, K), each row with its own pair of errors (M,)."""
    lower, share = _position(asked)
    people = np.arange(asked.shape[-1])
    error = error[:, None]
    below, above = moments[error, :, people, lower], moments[error, :, people, lower + 1]  # (M, K, 2)
    return np.moveaxis(below + (above - below) * share[..., None], -1, 0)
