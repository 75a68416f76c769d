"""Why people stand where they stand: everything DTO found out about one image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.dto.interval import ScaleInterval
from crowdmesh.people import PersonStatus


@dataclass(frozen=True, eq=False)
class Placement:
    """The answer of DTO for one image. Per-person arrays follow the order of the people.

    Attributes:
        preset: which DTO produced it.
        scale, shift: metric depth = scale * relative depth + shift (metres; relative depth is 1 / disparity for
            disparity maps); ``None`` when there was nothing to solve. For ``official``: of the larger of its near and
            far groups. For ``best`` and disparity maps: 1 / metric depth = scale / relative depth + shift, so that
            inverse depth is affine in disparity; a posterior mean, which nobody follows to the letter.
        interval: plausible scales and the slope behind them; open for ``best``, which needs none.
        active: which bound holds the scale: -1 lower, 0 none, 1 upper, 2 degenerate. For ``best`` 0, or 2 when there
            was nothing to solve.
        relative_depth, initial_depth_m: (K,) the cue d and the depth z that belongs to it. Without evidence: 0 and the
            depth of the pelvis.
        depth_ratio: (K,) placed over initial depth; 1 for people who kept their place.
        stature_m: (K,) corrected stature; for people who kept their place, their own.
        prior_mean_m, prior_std_m: (K,) the stature prior. prior_group: (K,) its ``AgeGroup``.
        standardised_residual: (K,) (stature the solution asks for - prior mean) / prior standard deviation. For
            ``best``: the stature that the depth map alone asks for; of people without depth evidence the first guess.
        depth_std_m, stature_std_m: (K,) posterior standard deviations given the cues. For people who kept their
            place: the prior's relative spread times their depth and stature. ``depth_std_m`` includes the error of the
            focal length (``DTOConfig.focal_std``), which moves everybody alike.
        reprojection_px: (K,) how far the image joints moved (root mean square), pixels.
        samples, excluded: (K,) depth samples used, and those without a usable value.
        status: (K,) :class:`PersonStatus`.
        score: mean absolute standardised residual over the people in the solution; infinite when nobody counts (nobody
            was placed, or only pairs by ``official``, which never scores them).
        accepted: the score stays below the threshold (1.5), at least two people took part, and (``best``) the age of at
            least half is known where ages were asked for.
        notes: what else a reader should know, one sentence each.
    """

    preset: str
    scale: float | None
    shift: float | None
    interval: ScaleInterval
    active: int
    relative_depth: Float[np.ndarray, " K"]
    initial_depth_m: Float[np.ndarray, " K"]
    depth_ratio: Float[np.ndarray, " K"]
    stature_m: Float[np.ndarray, " K"]
    prior_mean_m: Float[np.ndarray, " K"]
    prior_std_m: Float[np.ndarray, " K"]
    prior_group: Int[np.ndarray, " K"]
    standardised_residual: Float[np.ndarray, " K"]
    depth_std_m: Float[np.ndarray, " K"]
    stature_std_m: Float[np.ndarray, " K"]
    reprojection_px: Float[np.ndarray, " K"]
    samples: Int[np.ndarray, " K"]
    excluded: Int[np.ndarray, " K"]
    status: Int[np.ndarray, " K"]
    score: float
    accepted: bool
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.status)

    @property
    def statuses(self) -> list[PersonStatus]:
        """The status of each person as an enum."""
        return [PersonStatus(int(s)) for s in self.status]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON; infinities become ``None``."""
        values: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                values[name] = value.tolist()
            elif isinstance(value, ScaleInterval):
                values[name] = {key: _finite(number) for key, number in vars(value).items()}
            else:
                values[name] = list(value) if isinstance(value, tuple) else _finite(value)
        values["status"] = [status.name.lower() for status in self.statuses]
        return values


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
