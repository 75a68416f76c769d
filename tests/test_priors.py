"""Stature priors: the published constants, and growth charts evaluated exactly."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdmesh.body.growth import lms, median_stature, stature_at, stature_moments
from crowdmesh.dto import best
from crowdmesh.dto.priors import GROUP_STATURE_M, AgeGroup, age_group, stature_prior


def one(kind: str, age: float, male: float = np.nan, stature: float = 1.70, **options) -> tuple[float, float]:
    prior = stature_prior(kind, np.array([stature]), np.array([age]), np.array([male]), **options)
    return float(prior.mean_m[0]), float(prior.std_m[0])


@pytest.mark.parametrize(
    ("age", "male", "mean", "std"),
    [
        (0.0, 0.9, 0.801, 0.126),
        (2.99, 0.1, 0.801, 0.126),
        (3.0, 0.5, 1.122, 0.120),
        (8.0, 0.5, 1.477, 0.156),
        (14.99, 0.5, 1.477, 0.156),
        (15.0, 0.1, (1.70 + 1.647) / 2, 0.071),
        (40.0, 0.67, (1.70 + 1.784) / 2, 0.076),
        (40.0, 0.33, (1.70 + 1.715) / 2, 0.100),
        (40.0, np.nan, (1.70 + 1.715) / 2, 0.100),
    ],
)
def test_published_table(age, male, mean, std):
    assert one("paper", age, male) == pytest.approx((mean, std))


def test_agnostic_adults_keep_their_first_guess():
    assert one("agnostic", 40.0, 0.9, stature=1.63) == pytest.approx((1.63, 0.073))
    assert one("agnostic", 2.0) == pytest.approx((0.801, 0.126))


def test_unknown_age_is_an_adult_with_a_wide_spread():
    assert one("paper", np.nan, unknown_age_std_m=0.26) == pytest.approx(((1.70 + 1.715) / 2, 0.26))
    nobody_asked = stature_prior("paper", np.array([1.7]), unknown_age_std_m=0.24)
    assert nobody_asked.group[0] == AgeGroup.UNDECIDED
    assert nobody_asked.std_m[0] == 0.1


def test_spread_of_unknown_ages_is_that_of_the_uniform_mixture():
    shares = np.array([3, 5, 7, 65]) / 80  # babies, kids, teens, adults of undecided sex
    mean, std = np.array([GROUP_STATURE_M[g] for g in (0, 1, 2, 5)]).T
    about_adults = np.sqrt(shares @ (std**2 + (mean - mean[3]) ** 2))
    assert best().unknown_age_std_m == pytest.approx(about_adults, abs=0.006)


def test_age_groups():
    ages = np.array([0, 2.9, 3, 7.9, 8, 14.9, 15, 15, 15, np.nan])
    male = np.array([1, 1, 1, 1, 1, 1, 0.32, 0.67, 0.5, 0.9])
    assert age_group(ages, male).tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5, 4]


def test_growth_charts_at_their_own_rows(vectors):
    lines = [line for line in (vectors / "cdc_lms.csv").read_text().splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        months = float(row["agemos"])
        if row["table"] == "length" and months >= 24:
            continue  # the stature table has these months
        found = lms(np.array([months / 12]), row["sex"] == "1")
        expected = float(row["L"]), float(row["M"]) / 100, float(row["S"])
        np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-9)


def test_growth_chart_percentiles():
    # 5th, 50th and 95th percentile in centimetres, worked out by hand from the published L, M and S of the row.
    z = np.array([-1.6448536, 0.0, 1.6448536])
    for months, male, expected in (
        (120.5, True, (128.1625, 138.8234, 149.9053)),
        (60.5, False, (100.3891, 107.9566, 116.1301)),
    ):
        statures = stature_at(z, np.full(3, months / 12), male)
        np.testing.assert_allclose(100 * statures, expected, atol=1e-3)


@given(st.floats(0, 25), st.booleans())
def test_moments_agree_with_sampling(age, male):
    z = np.random.default_rng(0).standard_normal(200_000)
    statures = stature_at(z, np.full(len(z), age), male)
    mean, std = stature_moments(np.array([age]), male)
    assert mean[0] == pytest.approx(statures.mean(), abs=5e-4)
    assert std[0] == pytest.approx(statures.std(), rel=0.01)


def test_uncertain_age_widens_the_prior_and_matches_a_sampled_mixture():
    sharp = one("lms", 7.0, 0.5, age_std_years=np.array([0.0]))
    wide = one("lms", 7.0, 0.5, age_std_years=np.array([1.5]))
    random = np.random.default_rng(0)
    ages = np.maximum(7 + 1.5 * random.standard_normal(200_000), 0)
    z = random.standard_normal(len(ages))
    statures = np.where(random.random(len(ages)) < 0.5, stature_at(z, ages, True), stature_at(z, ages, False))
    assert wide == pytest.approx((statures.mean(), statures.std()), abs=2e-3)
    assert wide[1] > 1.5 * sharp[1]


def test_growth_is_monotone_and_ends_in_the_adult_gaussian():
    ages = np.linspace(2, 19.9, 200)
    for male in (True, False):
        assert (np.diff(median_stature(ages, np.full(200, float(male)))) > -1e-4).all()
    assert one("lms", 45.0, 1.0) == pytest.approx(((1.70 + 1.784) / 2, 0.076), abs=1e-9)
