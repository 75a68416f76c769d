"""Who is there: ages, sexes, statures and builds."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float

from crowdmesh.body import Anny, load_body
from crowdmesh.body.anny import AGE, GENDER, age_phenotype
from crowdmesh.body.growth import stature_at
from crowdmesh.synth.config import WorldConfig

LEGAL_AGE_YEARS = 18.0
"""Whoever is younger counts to ``WorldConfig.minors_share``."""
LARGEST_Z_SCORE = 3.0
"""Statures farther from the mean than this many standard deviations are drawn again."""

_BUILD_SPREAD = {"muscle": 0.14, "weight": 0.16, "proportions": 0.2}
_BUILD_LIMITS = (0.08, 0.92)


@dataclass(frozen=True, eq=False)
class Crowd:
    """K people: age in years, sex (1 male, 0 female), Anny shape, stature in metres."""

    age_years: Float[np.ndarray, " K"]
    male: Float[np.ndarray, " K"]
    shape: Float[np.ndarray, "K 6"]
    stature_m: Float[np.ndarray, " K"]

    def __len__(self) -> int:
        return len(self.age_years)


@cache
def exact_body() -> Anny:
    """Anny in double precision, so that rounding to the micrometre hides what differs between machines."""
    return copy.deepcopy(load_body("anny")).double()


@torch.no_grad()
def draw_crowd(config: WorldConfig, count: int, random: np.random.Generator) -> Crowd:
    """Draw ``count`` people (or the lineup of the config).

    Ages of minors are uniform, those of adults thin out from 18 to 90 like a population's. Statures follow the growth
    charts at age and sex below 20 years and the paper's Gaussians above, with a z-score cut at three. Where Anny's
    height axis ends before the stature drawn, the person has the nearest stature it reaches.
    """
    if config.lineup is not None:
        age = np.array([a for a, _ in config.lineup], float)
        male = np.array([m for _, m in config.lineup], float)
    else:
        age = _draw_ages(config, count, random)
        male = (random.random(count) < config.male_share).astype(float)
    body = exact_body()
    z_score = config.stature_spread * _truncated_normal(len(age), random)
    target = np.where(male > 0.5, stature_at(z_score, age, True), stature_at(z_score, age, False))
    shape = torch.tensor([p.default for p in body.shape_params]).double().repeat(len(age), 1)
    shape[:, GENDER] = torch.from_numpy(1.0 - male)
    shape[:, AGE] = torch.from_numpy(age_phenotype(age))
    for column, parameter in enumerate(body.shape_params):
        if parameter.name in _BUILD_SPREAD:
            spread = config.build_spread * _BUILD_SPREAD[parameter.name]
            shape[:, column] = torch.from_numpy(
                np.clip(parameter.default + spread * random.standard_normal(len(age)), *_BUILD_LIMITS)
            )
    shape, _ = body.with_stature(shape, torch.from_numpy(target), age)
    shape = torch.from_numpy(np.round(shape.numpy(), 7))
    return Crowd(age, male, shape.numpy(), np.round(body.stature(shape).numpy(), 6))


def _draw_ages(config: WorldConfig, count: int, random: np.random.Generator) -> np.ndarray:
    low, high = config.ages_years
    end_of_youth, start_of_age = min(high, LEGAL_AGE_YEARS), max(low, LEGAL_AGE_YEARS)
    minor = random.random(count) < config.minors_share
    minor = (minor & (low < LEGAL_AGE_YEARS)) | (high <= LEGAL_AGE_YEARS)
    young = min(low, end_of_youth) + (end_of_youth - min(low, end_of_youth)) * random.random(count)
    # Adults: the number falls linearly to a fifth at the highest age, as in a population pyramid.
    share = (1.0 - np.sqrt(1.0 - 0.96 * random.random(count))) / 0.8
    return np.where(minor, young, start_of_age + (max(high, start_of_age) - start_of_age) * share)


def _truncated_normal(count: int, random: np.random.Generator) -> np.ndarray:
    values = random.standard_normal(count)
    while (far := np.abs(values) > LARGEST_Z_SCORE).any():
        values[far] = random.standard_normal(int(far.sum()))
    return values
