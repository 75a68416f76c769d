"""Densities of stature: they agree with the growth charts where age is sure and with the population where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdmesh.body.growth import ADULT_FEMALE_STATURE_M, ADULT_MALE_STATURE_M, stature_at, stature_moments
from crowdmesh.dto.config import DensityConfig
from crowdmesh.dto.density import LOG_STATURE, StatureDensity, marginal_density, normal_density
from crowdmesh.dto.priors import lms_prior, stature_prior

SURE = DensityConfig(gross_age_share=0.0)
unknown_or = lambda numbers: st.one_of(st.just(np.nan), numbers)  # noqa: E731


def one(age: float | None, male=np.nan, std=np.nan, config: DensityConfig | None = None, guess=1.7) -> StatureDensity:
    ages = None if age is None else np.array([age])
    return marginal_density(np.array([guess]), ages, np.array([male]), np.array([std]), config)


def moments(density: StatureDensity) -> tuple[float, float]:
    mean, std = density.moments_m()
    return float(mean[0]), float(std[0])


@given(
    unknown_or(st.floats(0, 1e6)), unknown_or(st.floats(0, 1)), unknown_or(st.floats(0, 100)), st.floats(0, 1),
    st.floats(-12, 12),
)  # fmt: skip
def test_every_row_is_a_density(age, male, std, weight, exponent):
    density = one(age, male, std, DensityConfig(first_guess_weight=weight), 1.7 * 10**exponent)
    assert (density.table >= 0).all()
    assert density.table.sum() == pytest.approx(1)
    mean, spread = moments(density)
    assert np.exp(LOG_STATURE[0]) <= mean <= np.exp(LOG_STATURE[-1])
    assert spread > 0
    assert density.age_known[0] == (not np.isnan(age))


@pytest.mark.parametrize("age", [0.0, 0.01, 1.0, 2.0, 5.5, 11.0, 16.0, 19.9, 20.0, 45.0, 120.0])
@pytest.mark.parametrize("male", [0.0, 1.0])
def test_exact_age_and_sex_give_the_growth_chart(age, male):
    expected = stature_moments(np.array([age]), bool(male))
    assert moments(one(age, male, 0.0, SURE)) == pytest.approx((expected[0][0], expected[1][0]), rel=0.01)


@pytest.mark.parametrize(("age", "std"), [(7.0, 0.0), (9.0, 1.5), (14.0, 2.0), (45.0, 3.0)])
@pytest.mark.parametrize("male", [0.2, 1.0, np.nan])
def test_moments_agree_with_the_moment_matched_prior(age, std, male):
    prior = lms_prior(*(np.array([v]) for v in (1.6, age, male, std)))
    config = DensityConfig(gross_age_share=0.0, first_guess_weight=0.5)
    mean, spread = moments(one(age, male, std, config, 1.6))
    assert mean == pytest.approx(prior.mean_m[0], abs=0.005)
    assert spread == pytest.approx(prior.std_m[0], rel=0.06)  # nine ages stand for all: their spread is 6 % small


def test_unknown_age_is_anybody():
    random = np.random.default_rng(0)
    ages, z = random.uniform(0, 80, 200_000), random.standard_normal(200_000)
    statures = np.where(random.random(len(z)) < 0.5, stature_at(z, ages, True), stature_at(z, ages, False))
    population = DensityConfig(anybody_flat_share=0.0)
    assert moments(one(np.nan, config=population)) == pytest.approx((statures.mean(), statures.std()), abs=0.006)
    for q in (0.05, 0.25, 0.5, 0.95):
        found = np.exp(np.interp(q, one(np.nan, config=population).table[0].cumsum(), LOG_STATURE))
        assert found == pytest.approx(np.quantile(statures, q), rel=0.02)
    # Neither sex nor first guess tells anything then.
    np.testing.assert_allclose(one(np.nan, 0.9, 3.0, guess=1.1).table, one(np.nan).table)


def test_some_ages_are_plainly_wrong():
    child, anybody = one(6.0, config=SURE).table, one(np.nan).table
    expected = 0.9 * child + 0.1 * anybody
    np.testing.assert_allclose(one(6.0, config=DensityConfig(gross_age_share=0.1)).table, expected)
    # A child said to be six may be an adult after all.
    tall = np.log(1.6) < LOG_STATURE
    assert one(6.0).table[0, tall].sum() == pytest.approx(
        DensityConfig().gross_age_share * anybody[0, tall].sum(), rel=0.05
    )


def test_anybody_may_be_of_any_stature_alike():
    shares = [one(np.nan, config=DensityConfig(anybody_flat_share=share)).table[0] for share in (0.0, 1.0, 0.3)]
    inside = shares[1] > 0
    np.testing.assert_allclose(shares[1][inside], 1 / inside.sum())
    np.testing.assert_allclose(shares[2], 0.7 * shares[0] + 0.3 * shares[1])
    small = np.log(1.3) > LOG_STATURE
    assert shares[1][small].sum() > shares[2][small].sum() > shares[0][small].sum() > 0.05


def test_where_nobody_asked_everybody_is_an_adult():
    density = one(None)
    assert density.age_known.all()
    mean = (ADULT_MALE_STATURE_M[0] + ADULT_FEMALE_STATURE_M[0]) / 2
    variance = (ADULT_MALE_STATURE_M[1] ** 2 + ADULT_FEMALE_STATURE_M[1] ** 2) / 2
    variance += (ADULT_MALE_STATURE_M[0] - mean) ** 2
    assert moments(density) == pytest.approx((mean, np.sqrt(variance)), rel=0.01)
    assert density.table[0, np.log(1.2) > LOG_STATURE].sum() < 1e-6
    np.testing.assert_array_equal(
        marginal_density(np.array([1.7]), None, None, None).table, one(None, 0.5, guess=1.2).table
    )


def test_doubt_widens():
    either, man, woman = (moments(one(40.0, male, config=SURE)) for male in (np.nan, 1.0, 0.0))
    assert either[1] > 1.2 * max(man[1], woman[1])
    assert either[0] == pytest.approx((man[0] + woman[0]) / 2, rel=1e-6)
    spreads = [moments(one(8.0, 1.0, std, SURE))[1] for std in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert (np.diff(spreads) > 0).all()
    # Without a stated error the estimate is worth what the configuration says: 0.5 years and a tenth of the age.
    np.testing.assert_allclose(one(8.0, 1.0).table, one(8.0, 1.0, 1.3).table)


def test_older_children_are_taller():
    ages = np.linspace(0.1, 19, 60)
    density = marginal_density(np.full(60, 1.7), ages, np.full(60, 0.5), None)
    assert (np.diff(density.moments_m()[0]) > 0).all()


def test_first_guess_of_an_adult_counts_as_much_as_asked():
    for weight in (0.0, 0.5, 1.0):
        config = DensityConfig(gross_age_share=0.0, first_guess_weight=weight)
        expected = (1 - weight) * ADULT_MALE_STATURE_M[0] + weight * 1.6
        assert moments(one(50.0, 1.0, config=config, guess=1.6))[0] == pytest.approx(expected, rel=0.003)
        np.testing.assert_allclose(one(8.0, 1.0, 0.1, config).table, one(8.0, 1.0, 0.1, SURE).table)


@pytest.mark.parametrize("kind", ["paper", "agnostic", "lms"])
def test_gaussian_priors_keep_their_moments(kind):
    ages = np.array([1.0, 5.0, 11.0, 30.0, np.nan])
    prior = stature_prior(kind, np.full(5, 1.65), ages, np.full(5, 0.8), np.full(5, 0.5), 0.26)
    mean, std = normal_density(prior.mean_m, prior.std_m, ~np.isnan(ages)).moments_m()
    np.testing.assert_allclose(mean, prior.mean_m, rtol=0.01)
    np.testing.assert_allclose(std, prior.std_m, rtol=0.05)


@given(st.floats(-300, 300), st.floats(-300, 300))
def test_priors_off_the_grid_are_still_densities(mean, std):
    density = normal_density(np.array([10.0**mean]), np.array([10.0**std]), np.ones(1, bool))
    assert density.table.sum() == pytest.approx(1)
    assert np.isfinite(density.moments_m()).all()


def test_a_choice_of_people():
    density = marginal_density(np.full(3, 1.7), np.array([3.0, np.nan, 40.0]), None, None)
    some = density[np.array([False, True, True])]
    np.testing.assert_array_equal(some.table, density.table[1:])
    assert some.age_known.tolist() == [False, True]


def test_nobody():
    density = marginal_density(np.zeros(0), np.zeros(0), np.zeros(0), None)
    assert density.table.shape == (0, len(LOG_STATURE))
    assert density.moments_m()[0].shape == (0,)
