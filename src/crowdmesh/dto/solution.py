"""What a solving strategy hands back to ``place``: who moves, by how much, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.dto.interval import ScaleInterval
from crowdmesh.dto.solve import DEGENERATE


@dataclass(frozen=True, eq=False)
class Solution:
    """Per person (K,): status, depth ratio, stature asked for, its posterior spread; per image: the transform.

    ``size_error`` is the relative error of a depth that goes with a stature known from elsewhere, 0 where depth and
    stature share their error. ``solved`` is false when too few people took part for the image to count as optimised.
    """

    status: Int[np.ndarray, " K"]
    depth_ratio: Float[np.ndarray, " K"]
    wanted_stature_m: Float[np.ndarray, " K"]
    stature_std_m: Float[np.ndarray, " K"]
    score: float
    scale: float | None
    shift: float | None
    active: int
    interval: ScaleInterval
    solved: bool
    notes: tuple[str, ...] = ()
    size_error: Float[np.ndarray, " K"] | None = None


def unsolved(status: Int[np.ndarray, " K"], stature_m: Float[np.ndarray, " K"], interval: ScaleInterval) -> Solution:
    """Nobody moves: fewer than two people have depth evidence."""
    count = len(stature_m)
    notes = ("fewer than two people have depth evidence: everybody keeps their place",) if count else ()
    return Solution(
        status=status,
        depth_ratio=np.ones(count),
        wanted_stature_m=stature_m.copy(),
        stature_std_m=np.zeros(count),
        score=np.inf,
        scale=None,
        shift=None,
        active=DEGENERATE,
        interval=interval,
        solved=False,
        notes=notes,
    )
