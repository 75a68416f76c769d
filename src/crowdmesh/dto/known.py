"""Statures that somebody measured: they take the place of what age and sex suggest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crowdmesh.dto.density import StatureDensity, normal_density
from crowdmesh.dto.priors import StaturePrior
from crowdmesh.people import People

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
