"""How tall people would be if all ages were equally many: what a set's statures are held against."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from crowdmesh.body.growth import stature_moments
from crowdmesh.dto.priors import GROUP_END_YEARS, GROUP_STATURE_M, AgeGroup

OLDEST_YEARS = 80.0
"""The theoretical population has uniform ages up to here (paper section 7: 15/80 of it are minors)."""

MINORS = (AgeGroup.BABY, AgeGroup.KID, AgeGroup.TEEN)
"""The groups of the paper's Figure 5."""

_STEP_YEARS = 0.05


def population(
    edges_m: Float[np.ndarray, " N1"], from_years: float = 0.0, to_years: float = OLDEST_YEARS
) -> np.ndarray:
    """(N,) share of people per bin of stature (metres), ages uniform in this range, both sexes alike.

    The mixture of growth charts and adult Gaussians (paper sections 6.4 and 7), each age and sex a Gaussian.
    """
    ages = np.arange(from_years + _STEP_YEARS / 2, to_years, _STEP_YEARS)
    below = np.zeros(len(edges_m))
    for male in (True, False):
        mean, std = stature_moments(ages, male)
        below += ndtr((edges_m[:, None] - mean) / std).mean(1) / 2
    return np.diff(below)


def minors_as_charted(group: AgeGroup, edges_m: Float[np.ndarray, " N1"]) -> np.ndarray:
    """(N,) share of the minors of a group per bin of stature, ages uniform within the group."""
    limits = (0.0, *GROUP_END_YEARS)
    return population(edges_m, limits[group], limits[group + 1])


def minors_as_published(group: AgeGroup, edges_m: Float[np.ndarray, " N1"]) -> np.ndarray:
    """(N,) the same for the Gaussian that the paper gives for the group (section 6.4)."""
    mean, std = GROUP_STATURE_M[group]
    return np.diff(ndtr((edges_m - mean) / std))


def distance_m(a: Float[np.ndarray, " N"], b: Float[np.ndarray, " N"], edges_m: Float[np.ndarray, " N1"]) -> float:
    """How far two distributions over the same bins lie apart: the earth mover's distance, metres.

    That is how far each value must be moved, on average, to make one of the other.
    """
    between = np.abs(np.cumsum(a) - np.cumsum(b))
    return float((between * np.diff(edges_m)).sum())
