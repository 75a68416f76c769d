"""What the frames of a video together say of the people in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.dto.priors import StaturePrior
from crowdmesh.dto.solution import Solution


@dataclass(frozen=True, eq=False)
class TrackAnswer:
    """Statures of T tracks and the solutions of F frames.

    Attributes:
        pooled: (T,) tracks whose stature was found from several frames together; all their frames share it.
        stature_m, stature_std_m: (T,) that stature; NaN elsewhere.
        solutions: per frame, everybody's as if the frame were alone but for what its tracks know.
        prior: per track, how tall they were expected to be.
        evident: (N,) sightings with depth evidence that counted.
        size_error: (N,) relative error of a depth that follows from a known stature.
        notes: what else a reader should know, one sentence each.
    """

    pooled: Bool[np.ndarray, " T"]
    stature_m: Float[np.ndarray, " T"]
    stature_std_m: Float[np.ndarray, " T"]
    solutions: list[Solution]
    prior: StaturePrior
    evident: Bool[np.ndarray, " N"]
    size_error: Float[np.ndarray, " N"]
    notes: tuple[str, ...] = ()
