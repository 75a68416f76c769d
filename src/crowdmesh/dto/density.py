"""How tall a person probably is, as a density: uncertain age and sex marginalised exactly instead of made classes.

A class boundary turns a small doubt about age into half a metre. Here the age estimate is a distribution, sex a
probability, and both are summed out over the growth charts and the adult Gaussians; a small share of the density is
that of the whole population, for estimates that are plainly wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri

from crowdmesh.body.growth import ADULT_AGE_YEARS, stature_moments
from crowdmesh.dto.config import DensityConfig

_STEP = 0.01
LOG_STATURE = np.arange(np.log(0.20), np.log(4.0), _STEP)
"""The grid on which densities are tabulated: natural logarithm of stature in metres, in steps of one per cent."""

_ANYBODY_M = (0.50, 1.95)
"""Newborn to tall: where a stature of which nothing is known lies."""

_AGE_NODES = ndtri((np.arange(9) + 0.5) / 9)
"""Nine equally likely values of a standard normal: the nodes over which an uncertain age is summed."""


@dataclass(frozen=True, eq=False)
class StatureDensity:
    """Densities of K people over log stature.

    Attributes:
        table: on the grid :data:`LOG_STATURE`, each row summing to one.
        age_known: (K,) false where anybody of the population is meant.
    """

    table: Float[np.ndarray, "K N"]
    age_known: Bool[np.ndarray, " K"]

    def __getitem__(self, people: Bool[np.ndarray, " K"]) -> StatureDensity:
        """The densities of the chosen people."""
        return StatureDensity(self.table[people], self.age_known[people])

    def moments_m(self) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
        """Mean and standard deviation of stature, metres."""
        stature = np.exp(LOG_STATURE)
        mean = self.table @ stature
        return mean, np.sqrt(np.maximum(self.table @ stature**2 - mean**2, 1e-12))


def marginal_density(
    initial_stature_m: Float[np.ndarray, " K"],
    age_years: Float[np.ndarray, " K"] | None,
    male_probability: Float[np.ndarray, " K"] | None,
    age_std_years: Float[np.ndarray, " K"] | None,
    config: DensityConfig | None = None,
) -> StatureDensity:
    """The density of each person's stature given apparent age and sex (ours, from the tables of paper section 6.4).

    Args:
        initial_stature_m: the first guess, metres, positive; counts as far as ``config.first_guess_weight`` says.
        age_years: ``None``: nobody asked, everybody is an adult; NaN: unknown, anybody of the population.
        male_probability: 0 to 1; ``None`` or NaN: both sexes alike.
        age_std_years: error of the ages, years; ``None`` or NaN: ``config`` says what such estimates are worth.
        config: what ages are worth; default :class:`DensityConfig`.
    """
    config = config or DensityConfig()
    count = len(initial_stature_m)
    unknown = np.full(count, np.nan)
    male = np.nan_to_num(unknown if male_probability is None else male_probability, nan=0.5)
    age = np.full(count, ADULT_AGE_YEARS + 10.0) if age_years is None else age_years
    given_std = unknown if age_std_years is None else age_std_years
    assumed = config.age_std_years + config.age_std_share * np.nan_to_num(age)
    std = np.where(np.isnan(given_std), assumed, given_std)
    std = np.zeros(count) if age_years is None else std
    ages = np.abs(np.nan_to_num(age)[:, None] + std[:, None] * _AGE_NODES)
    table = _summed(ages, male[:, None], initial_stature_m[:, None], config.first_guess_weight)
    anybody = _anybody(config.anybody_flat_share)
    gross = np.where(np.isnan(age), 1.0, 0.0 if age_years is None else config.gross_age_share)[:, None]
    return StatureDensity((1.0 - gross) * table + gross * anybody, ~np.isnan(age))


def normal_density(
    mean_m: Float[np.ndarray, " K"], std_m: Float[np.ndarray, " K"], age_known: Bool[np.ndarray, " K"]
) -> StatureDensity:
    """The density of Gaussian priors, normal in log stature with the same mean and standard deviation.

    Args:
        mean_m, std_m: of stature, metres, positive. A mean outside the grid counts as the end of the grid.
        age_known: whether these priors rest on a known age.
    """
    table = _log_normal(_inside_grid(mean_m), std_m)
    return StatureDensity(table / table.sum(1, keepdims=True), age_known)


@cache
def _anybody(flat_share: float) -> Float[np.ndarray, " N"]:
    """Statures of people of uniform ages up to 80 years (paper section 7) and both sexes; in part flat."""
    ages = np.arange(0.25, 80.0, 0.5)[None]
    population = _summed(ages, np.full((1, 1), 0.5), np.ones((1, 1)), 0.0)[0]
    low, high = np.log(_ANYBODY_M)
    flat = ((low <= LOG_STATURE) & (high >= LOG_STATURE)).astype(float)
    return (1.0 - flat_share) * population + flat_share * flat / flat.sum()


def _summed(ages: np.ndarray, male: np.ndarray, first_guess_m: np.ndarray, first_guess_weight: float) -> np.ndarray:
    """(K, N) mixture over equally likely ages (K, A) and both sexes, each component normal in log stature."""
    table = np.zeros((len(ages), len(LOG_STATURE)))
    for is_male, probability in ((True, male), (False, 1.0 - male)):
        mean, std = stature_moments(ages, is_male)
        blend = np.where(ages >= ADULT_AGE_YEARS, first_guess_weight, 0.0)
        mean = _inside_grid((1.0 - blend) * mean + blend * first_guess_m)
        component = _log_normal(mean, std)
        table += probability / ages.shape[1] * component.sum(1)
    return table / table.sum(1, keepdims=True)


def _inside_grid(mean_m: np.ndarray) -> np.ndarray:
    """Means moved onto the grid, so that no density misses it."""
    return np.clip(mean_m, np.exp(LOG_STATURE[0]), np.exp(LOG_STATURE[-1]))


def _log_normal(mean_m: np.ndarray, std_m: np.ndarray) -> np.ndarray:
    """(..., N) log-normal densities over the grid, not normalised to it; no narrower than its step, no wider than 1."""
    relative = np.clip(std_m / mean_m, _STEP, 1.0)
    centre = np.log(mean_m) - relative**2 / 2
    z = (LOG_STATURE - centre[..., None]) / relative[..., None]
    return np.exp(-(z**2) / 2) / relative[..., None]
