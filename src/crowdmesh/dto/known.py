"""Statures that somebody measured: they take the place of what age and sex suggest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from crowdmesh.dto.config import FusionConfig
from crowdmesh.dto.density import StatureDensity, normal_density
from crowdmesh.dto.priors import StaturePrior
from crowdmesh.dto.solution import Solution
from crowdmesh.people import People, PersonStatus

KNOWN_STATURE_STD_M = 0.015
"""Error of a stature that is given (ours): shoes, hair and the hour of the day."""


def with_known_statures(
    prior: StaturePrior, density: StatureDensity, people: People
) -> tuple[StaturePrior, StatureDensity]:
    """Prior and density of K people with those of known stature (``people.known_stature_m``) made narrow around it."""
    if people.known_stature_m is None:
        return prior, density
    known = np.isfinite(people.known_stature_m)
    mean = np.where(known, people.known_stature_m, prior.mean_m)
    std = np.where(known, KNOWN_STATURE_STD_M, prior.std_m)
    narrow = normal_density(mean, std, known)
    table = np.where(known[:, None], narrow.table, density.table)
    return replace(prior, mean_m=mean, std_m=std), StatureDensity(table, density.age_known | known)


def hold_known_statures(
    solution: Solution, people: People, visible_share: Float[np.ndarray, " K"], config: FusionConfig
) -> Solution:
    """Give placed people of known stature that stature, and the depth at which a body of it covers their image.

    Left to itself, the solution of ``best`` also believes in depth map and first guess, whose errors are larger. That
    the first guess sizes the person wrongly in the image stays an error of the depth (``Solution.size_error``).
    """
    if people.known_stature_m is None:
        return solution
    placed = np.array([PersonStatus(int(s)).placed for s in solution.status], bool)
    held = placed & np.isfinite(people.known_stature_m)
    ratio = np.where(held, people.known_stature_m / people.stature_m, solution.depth_ratio)
    std = np.where(held, KNOWN_STATURE_STD_M, solution.stature_std_m)
    fit_error = float(np.average(config.fit_errors, weights=config.fit_error_weights))
    gain = 1.0 + config.hidden_gain * (1.0 - visible_share)
    return replace(solution, depth_ratio=ratio, stature_std_m=std, size_error=np.where(held, fit_error * gain, 0.0))
