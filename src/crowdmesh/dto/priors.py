"""How tall a person probably is: a Gaussian from age, sex and the first guess (paper section 6.4)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.body.growth import (
    ADULT_AGE_YEARS,
    ADULT_FEMALE_STATURE_M,
    ADULT_MALE_STATURE_M,
    MINOR_AGE_YEARS,
    stature_moments,
)
from crowdmesh.dto.config import PriorName
from crowdmesh.errors import InputError


class AgeGroup(enum.IntEnum):
    """The classes of the paper's prior; UNDECIDED is an adult whose sex is unclear (released code)."""

    BABY = 0
    KID = 1
    TEEN = 2
    FEMALE = 3
    MALE = 4
    UNDECIDED = 5


GROUP_END_YEARS = (3.0, 8.0, MINOR_AGE_YEARS)
"""Babies are younger than 3, kids than 8, teens than 15 years (paper section 6.4)."""

GROUP_STATURE_M = {
    AgeGroup.BABY: (0.801, 0.126),  # as published; the stated recipe recomputes to 0.751 +- 0.145
    AgeGroup.KID: (1.122, 0.120),
    AgeGroup.TEEN: (1.477, 0.156),
    AgeGroup.FEMALE: ADULT_FEMALE_STATURE_M,
    AgeGroup.MALE: ADULT_MALE_STATURE_M,
    AgeGroup.UNDECIDED: (1.715, 0.100),  # released code; not in the paper
}
"""Mean and standard deviation of stature, metres, per group (paper section 6.4)."""

FEMALE_BELOW, MALE_FROM = 0.33, 0.67
"""Sex is decided when the probability of being male is below, or at least, these (released code)."""

AGNOSTIC_ADULT_STD_M = 0.073
"""Adult spread without a sex (the paper's D' ablation, as released)."""

_AGE_NODES, _AGE_WEIGHTS = np.polynomial.hermite_e.hermegauss(16)


@dataclass(frozen=True, eq=False)
class StaturePrior:
    """One Gaussian over stature per person: mean and standard deviation in metres, and the age group behind it."""

    mean_m: Float[np.ndarray, " K"]
    std_m: Float[np.ndarray, " K"]
    group: Int[np.ndarray, " K"]

    @property
    def minor(self) -> np.ndarray:
        """(K,) bool: babies, kids and teens."""
        return self.group <= AgeGroup.TEEN


def stature_prior(
    kind: PriorName,
    initial_stature_m: Float[np.ndarray, " K"],
    age_years: Float[np.ndarray, " K"] | None = None,
    male_probability: Float[np.ndarray, " K"] | None = None,
    age_std_years: Float[np.ndarray, " K"] | None = None,
    unknown_age_std_m: float = 0.1,
) -> StaturePrior:
    """The Gaussian prior by name; see :func:`paper_prior`, :func:`agnostic_prior` and :func:`lms_prior`.

    (``marginal`` is no Gaussian: :func:`crowdmesh.dto.density.marginal_density`.)

    Without ages (``None``) everybody is an adult. A person whose age was asked for but is unknown (NaN) also counts as
    an adult, the likeliest single guess, but with the wider spread ``unknown_age_std_m``.
    """
    unknown = np.full(len(initial_stature_m), np.nan)
    age = unknown if age_years is None else age_years
    male = unknown if male_probability is None else male_probability
    if kind == "agnostic":
        prior = agnostic_prior(initial_stature_m, age)
    elif kind == "lms":
        prior = lms_prior(initial_stature_m, age, male, unknown if age_std_years is None else age_std_years)
    elif kind == "paper":
        prior = paper_prior(initial_stature_m, age, male)
    else:
        raise InputError(f"unknown prior {kind!r}; use paper, lms or agnostic")
    if age_years is None:
        return prior
    std = np.where(np.isnan(age), np.maximum(prior.std_m, unknown_age_std_m), prior.std_m)
    return StaturePrior(prior.mean_m, std, prior.group)


def age_group(age_years: Float[np.ndarray, " K"], male_probability: Float[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
    """The :class:`AgeGroup` of each person; unknown ages (NaN) are adults, unknown sexes undecided."""
    minor = np.searchsorted(GROUP_END_YEARS, np.where(np.isnan(age_years), np.inf, age_years), side="right")
    male = np.where(np.isnan(male_probability), 0.5, male_probability)
    adult = np.where(
        male < FEMALE_BELOW, AgeGroup.FEMALE, np.where(male >= MALE_FROM, AgeGroup.MALE, AgeGroup.UNDECIDED)
    )
    return np.where(minor < len(GROUP_END_YEARS), minor, adult).astype(np.int64)


def paper_prior(
    initial_stature_m: Float[np.ndarray, " K"],
    age_years: Float[np.ndarray, " K"],
    male_probability: Float[np.ndarray, " K"],
) -> StaturePrior:
    """Paper section 6.4: a Gaussian per group of minors; adults halfway between first guess and demographic mean."""
    group = age_group(age_years, male_probability)
    table = np.array([GROUP_STATURE_M[g] for g in AgeGroup])
    mean, std = table[group].T
    mean = np.where(group <= AgeGroup.TEEN, mean, (initial_stature_m + mean) / 2)
    return StaturePrior(mean, std.copy(), group)


def agnostic_prior(initial_stature_m: Float[np.ndarray, " K"], age_years: Float[np.ndarray, " K"]) -> StaturePrior:
    """The paper's D' (Table 8) as released: minors as in the paper, adults keep their first guess."""
    prior = paper_prior(initial_stature_m, age_years, np.full(len(initial_stature_m), np.nan))
    mean = np.where(prior.minor, prior.mean_m, initial_stature_m)
    return StaturePrior(mean, np.where(prior.minor, prior.std_m, AGNOSTIC_ADULT_STD_M), prior.group)


def lms_prior(
    initial_stature_m: Float[np.ndarray, " K"],
    age_years: Float[np.ndarray, " K"],
    male_probability: Float[np.ndarray, " K"],
    age_std_years: Float[np.ndarray, " K"],
) -> StaturePrior:
    """Stature at exactly this age and sex (CDC LMS tables to 20 years), moment-matched over what is uncertain.

    The mixture runs over a Gaussian age (``age_std_years``; NaN: known exactly) and both sexes. From 20 years on a
    mixture component is the paper's adult Gaussian, its mean halfway to the first guess.
    """
    std = np.nan_to_num(age_std_years, nan=0.0)
    age = np.nan_to_num(age_years, nan=ADULT_AGE_YEARS + 10.0)
    ages = np.maximum(age[:, None] + std[:, None] * _AGE_NODES, 0.0)
    adult = ages >= ADULT_AGE_YEARS
    means, variances, weights = [], [], []
    male = np.nan_to_num(male_probability, nan=0.5)
    for is_male, probability in ((True, male), (False, 1.0 - male)):
        mean, spread = stature_moments(ages, is_male)
        means.append(np.where(adult, (mean + initial_stature_m[:, None]) / 2, mean))
        variances.append(spread**2)
        weights.append(probability[:, None] * _AGE_WEIGHTS / _AGE_WEIGHTS.sum())
    mean, variance, weight = (np.concatenate(parts, 1) for parts in (means, variances, weights))
    centre = (weight * mean).sum(1)
    total = (weight * (variance + (mean - centre[:, None]) ** 2)).sum(1)
    return StaturePrior(centre, np.sqrt(total), age_group(age_years, male_probability))
