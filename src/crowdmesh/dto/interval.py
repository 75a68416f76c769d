"""How far the scale of a scene may stray: the depth slope inside people bounds it (paper 3.2.2 and 6.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from crowdmesh.dto.config import ScaleConfig
from crowdmesh.dto.cues import Cues


@dataclass(frozen=True)
class ScaleInterval:
    """The plausible scales of one scene, in metres per unit of relative depth.

    Attributes:
        low, high: the bounds; (0, inf) when no person has a usable slope.
        slope: the correlation-weighted mean slope inside people (the paper's X); ``None`` when nobody has one.
        planar: everybody stands at about one depth, so the scale is fixed to the slope.
    """

    low: float
    high: float
    slope: float | None
    planar: bool


UNBOUNDED = ScaleInterval(0.0, np.inf, None, False)
"""The interval of a scene in which no slope was, or could be, asked for."""


def scale_interval(cues: Cues, config: ScaleConfig, expected_ratio: Float[np.ndarray, " K"]) -> ScaleInterval:
    """The interval for the people with depth evidence.

    Args:
        expected_ratio: expected over initial stature; scales the slopes when ``config.expected_size`` asks for it.
    """
    if not config.bounded:
        return UNBOUNDED
    who = cues.evident
    slopes = cues.slope * expected_ratio if config.expected_size else cues.slope
    slope = mean_slope(slopes[who], cues.correlation[who], config.min_correlation)
    planar = config.planar_rule and is_planar(cues.relative_depth[who], cues.spread[who], config)
    if slope is None:
        return replace(UNBOUNDED, planar=planar)
    low = config.low * slope
    return ScaleInterval(low, low if planar else config.high * slope, slope, planar)


def mean_slope(slope: np.ndarray, correlation: np.ndarray, min_correlation: float) -> float | None:
    """Mean slope, weighted by those correlations that exceed ``min_correlation``; ``None``: there is no weight."""
    weight = np.where(correlation > min_correlation, correlation, 0.0)
    total = weight.sum()
    # Correlations of both signs can cancel; a mean over next to no weight would be arbitrary.
    return float((weight * slope).sum() / total) if total > 1e-9 else None


def is_planar(relative_depth: np.ndarray, spread: np.ndarray, config: ScaleConfig) -> bool:
    """Whether people differ less in depth than each body does in itself."""
    if len(relative_depth) == 0:
        return False
    if config.spread == "variance":
        return bool(np.var(relative_depth) < np.mean(spread**2))
    return bool(np.std(relative_depth) < np.mean(spread))
