"""How tall people are at an age: the CDC 2000 growth charts (LMS tables) and the adult Gaussians of the paper.

Source: CDC/NCHS lenageinf.csv and statage.csv (public domain; Kuczmarski et al., Vital Health Stat 11(246), 2002),
kept in ``data/cdc_lms.csv``. Recumbent length below 24 months, stature from 24 to 240 months. Adults: paper,
supplementary section 6.4 (Jelenkovic et al., eLife 5:e20320, 2016).
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float

ADULT_MALE_STATURE_M = (1.784, 0.076)
"""Mean and standard deviation of adult men's stature, metres (paper section 6.4)."""
ADULT_FEMALE_STATURE_M = (1.647, 0.071)
"""Mean and standard deviation of adult women's stature, metres (paper section 6.4)."""
MINOR_AGE_YEARS = 15.0
"""Below this age a person is a minor (paper section 6.4): bodies change their age rather than their height."""
ADULT_AGE_YEARS = 20.0
"""Where the CDC tables end."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For men and for women: rows of (age in months, L, M in centimetres, S), ages strictly increasing."""
    text = files("crowdmesh.body").joinpath("data/cdc_lms.csv").read_text()
    rows = [line.split(",") for line in text.splitlines() if line and not line.startswith("#")][1:]
    tables = []
    for sex in ("1", "2"):
        # Months 24 to 35.5 stand in both tables: stature wins.
        kept = [r for r in rows if r[1] == sex and (r[0] == "stature" or float(r[2]) < 24)]
        tables.append(np.array([[float(v) for v in r[2:6]] for r in kept]))
    return tables[0], tables[1]


def lms(age_years: Float[np.ndarray, "*n"], male: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The LMS parameters (skewness L, median M in metres, variation S) at ages of 0 to 20 years.

    Linear between the tabulated months; ages outside the tables take the nearest end.
    """
    table = _tables()[0 if male else 1]
    months = np.asarray(age_years, float) * 12.0
    skew, median, variation = (np.interp(months, table[:, 0], table[:, c]) for c in (1, 2, 3))
    return skew, median / 100.0, variation


def stature_at(
    z_score: Float[np.ndarray, "..."], age_years: Float[np.ndarray, "..."], male: bool
) -> Float[np.ndarray, "..."]:
    """Stature in metres at a z-score (z-score and age broadcast).

    The LMS law M (1 + L S z)^(1/L) below 20 years, the adult Gaussian from there.
    """
    z_score, age_years = np.broadcast_arrays(np.asarray(z_score, float), np.asarray(age_years, float))
    skew, median, variation = lms(age_years, male)
    # (1 + L S z)^(1/L) = exp(log1p(L S z) / L), with its limit exp(S z) at L = 0; the base is kept positive.
    inner = np.maximum(skew * variation * z_score, -0.999)
    flat = np.abs(skew) < 1e-9
    child = median * np.exp(np.where(flat, variation * z_score, np.log1p(inner) / np.where(flat, 1.0, skew)))
    mean, std = ADULT_MALE_STATURE_M if male else ADULT_FEMALE_STATURE_M
    return np.where(age_years < ADULT_AGE_YEARS, child, mean + std * z_score)


def stature_moments(
    age_years: Float[np.ndarray, "*n"], male: bool
) -> tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
    """Mean and standard deviation of stature (metres) at exactly this age: the LMS law integrated by quadrature."""
    weights = _WEIGHTS / _WEIGHTS.sum()
    statures = stature_at(_NODES, np.asarray(age_years, float)[..., None], male)
    mean = statures @ weights
    return mean, np.sqrt(((statures - mean[..., None]) ** 2) @ weights)


def median_stature(
    age_years: Float[np.ndarray, " n"], male_probability: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Median stature (metres) at an age, averaged over an uncertain sex."""
    zero = np.zeros_like(np.asarray(age_years, float))
    man, woman = stature_at(zero, age_years, True), stature_at(zero, age_years, False)
    return male_probability * man + (1.0 - male_probability) * woman
