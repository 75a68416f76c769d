"""The strategy of ``best``: stature and depth map weighed against each other (``posterior.py``), in DTO's terms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from crowdmesh.depth import DepthKind
from crowdmesh.dto.config import DTOConfig, FusionConfig
from crowdmesh.dto.cues import Cues
from crowdmesh.dto.density import StatureDensity
from crowdmesh.dto.ground import Feet, stand_on_ground
from crowdmesh.dto.interval import UNBOUNDED
from crowdmesh.dto.posterior import FusedDepth, from_stature, fuse
from crowdmesh.dto.solution import Solution, unsolved
from crowdmesh.dto.solve import FREE
from crowdmesh.people import PersonStatus

_FLAT = 1e-6
_TOO_FEW = (
    "fewer than two people have depth evidence: those of known age stand where the stature of their age puts them, "
    "the others keep their place"
)


def solve_fused(
    cues: Cues,
    kind: DepthKind,
    stature_m: Float[np.ndarray, " K"],
    density: StatureDensity,
    feet: Feet,
    config: DTOConfig,
) -> Solution:
    """Everybody's posterior depth: people with depth evidence jointly, the others from their stature alone.

    Where nothing is known of a person, neither depth nor age, they keep their place.

    Args:
        cues: what the depth map says of each person. kind: the kind of that map.
        stature_m: first statures, metres. density: how tall everybody probably is.
        feet: where everybody's first body stands in the image.
        config: of which ``fusion`` counts.

    Returns:
        The solution. Its scale and shift are those of 1 / z = scale x + shift for disparity, else of z = scale x +
        shift, at the posterior means of level and bend; the stature asked for is what the map alone asks for.
    """
    fit_gain = 1.0 + config.fusion.hidden_gain * (1.0 - cues.visible_share)
    evident = cues.evident & (cues.depth_m > 0) & np.isfinite(cues.relative_depth)
    unusable = cues.evident & ~evident
    log_ratio, log_std = from_stature(stature_m, density, fit_gain, config.fusion)
    status = np.where(unusable, PersonStatus.KEPT_IMPLAUSIBLE_DEPTH, cues.status)
    status = np.where(density.age_known, PersonStatus.PLACED_FROM_STATURE, status)
    if evident.sum() < 2:
        status = np.where(evident & ~density.age_known, PersonStatus.KEPT_ALONE, status)
        solution = unsolved(status, stature_m, UNBOUNDED)
        if len(stature_m):
            solution = replace(solution, notes=(_TOO_FEW,))
    else:
        status = np.where(evident, PersonStatus.PLACED, status)
        some = density[evident]
        x, origin, inverse = _map_values(cues.relative_depth[evident], kind, config.fusion)
        first = (cues.depth_m[evident], stature_m[evident])
        fused = fuse(x, inverse, *first, some, fit_gain[evident], config.fusion, kind == "metric")
        log_ratio[evident], log_std[evident] = fused.log_ratio, fused.log_std
        solution = _joint_solution(fused, origin, inverse, evident, status, stature_m, some)
        if config.fusion.ground:
            log_ratio, log_std = stand_on_ground(log_ratio, log_std, fused.shared_std, feet, config.fusion)
    placed = (status == PersonStatus.PLACED) | (status == PersonStatus.PLACED_FROM_STATURE)
    ratio = np.where(placed, np.exp(log_ratio), 1.0)
    return replace(solution, depth_ratio=ratio, stature_std_m=np.where(placed, log_std * ratio * stature_m, 0.0))


def _joint_solution(
    fused: FusedDepth,
    origin: float,
    inverse: bool,
    evident: np.ndarray,
    status: np.ndarray,
    stature_m: np.ndarray,
    density: StatureDensity,
) -> Solution:
    """The transform and how well it fits: residuals are those of the statures that the depth map alone asks for."""
    mean, std = density.moments_m()
    wanted = stature_m.copy()
    wanted[evident] *= np.exp(fused.map_log_ratio)
    residual = np.abs(wanted[evident] - mean) / std
    gain = float(np.exp(-fused.level if inverse else fused.level))
    scale = gain * (1.0 - fused.bend) / fused.mean_x
    return Solution(
        status=status,
        depth_ratio=np.ones(len(stature_m)),
        wanted_stature_m=wanted,
        stature_std_m=np.zeros(len(stature_m)),
        score=float(residual.mean()),
        scale=scale,
        shift=gain * fused.bend - scale * origin,
        active=FREE,
        interval=UNBOUNDED,
        solved=True,
        notes=(f"the depth map fits these people within about {fused.map_error:.0%}",),
    )


def _map_values(relative_depth: np.ndarray, kind: DepthKind, config: FusionConfig) -> tuple[np.ndarray, float, bool]:
    """Positive map values, the map's own value at which they are zero, and whether they are inverse depths.

    An affine-invariant depth map may go below zero; its zero means nothing, so it is moved until the nearest person
    lies as far above zero as the farthest above the nearest.
    """
    if kind == "disparity" and config.disparity_model == "inverse":
        return 1.0 / relative_depth, 0.0, True
    if relative_depth.min() > 0:
        return relative_depth, 0.0, False
    reach, size = float(np.ptp(relative_depth)), float(np.abs(relative_depth).max())
    if reach <= _FLAT * size:  # differences of rounding
        reach = size or 1.0
    origin = float(relative_depth.min()) - reach
    return relative_depth - origin, origin, False
