"""The posterior of depths: exact where everything is exact, honest about its errors, deaf to units, order and liars."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.dto.config import DensityConfig, FusionConfig
from crowdmesh.dto.density import LOG_STATURE, StatureDensity, marginal_density, normal_density
from crowdmesh.dto.posterior import FusedDepth, from_stature, fuse
from crowdmesh.errors import InputError

# The mathematics is tested on numbers of its own, not on those that are shipped.
CONFIG = FusionConfig(
    fit_errors=(0.02, 0.04, 0.08), fit_error_weights=(0.3, 0.4, 0.3), fit_outlier_share=0.05,
    map_errors=(0.03, 0.06, 0.12, 0.24), map_error_weights=(0.2, 0.3, 0.3, 0.2), outlier_share=0.12, outlier_std=0.35,
    slope_range=(0.1, 2.5), slope_nodes=24, slope_log_mean=-0.15, slope_log_std=0.4,
    metric_scale_std=0.25, metric_slope_std=0.15,
)  # fmt: skip
AGES = DensityConfig(0.5, 0.1, gross_age_share=0.03, anybody_flat_share=0.0)


def transform(x: np.ndarray, inverse: bool, slope: float, level: float) -> np.ndarray:
    """Log depth that the map says, as the model has it."""
    return level + (-1 if inverse else 1) * np.log(np.maximum(slope * x / x.mean() + 1 - slope, 1e-3))


def exact(count: int, inverse: bool, slope: float = 0.8, level: float = 1.6, seed: int = 0) -> tuple[dict, np.ndarray]:
    """A crowd in which everybody has their expected stature and the map is right; and its log depths."""
    random = np.random.default_rng(seed)
    density = normal_density(random.uniform(0.9, 1.8, count), np.full(count, 0.06), np.ones(count, bool))
    x = random.uniform(1.0, 4.0, count)
    log_depth = transform(x, inverse, slope, level)
    first_stature = random.uniform(1.5, 1.9, count)
    first_depth = np.exp(log_depth - density.table @ LOG_STATURE) * first_stature
    problem = {
        "x": x, "inverse": inverse, "first_depth_m": first_depth, "first_stature_m": first_stature, "density": density,
        "fit_gain": np.ones(count), "config": CONFIG,
    }  # fmt: skip
    return problem, log_depth


def crowd(count: int, seed: int, inverse: bool = True) -> dict:
    """A crowd of unlike people in which first guess and map disagree by a few per cent."""
    problem, _ = exact(count, inverse, seed=seed)
    random = np.random.default_rng(seed)
    ages = np.where(random.random(count) < 0.2, np.nan, random.uniform(1, 70, count))
    density = marginal_density(problem["first_stature_m"], ages, None, None, AGES)
    x = problem["x"] * np.exp(0.08 * random.standard_normal(count))
    return problem | {"density": density, "x": x, "fit_gain": random.uniform(1, 3, count)}


def chosen(problem: dict, order: list[int] | np.ndarray) -> dict:
    """Some of the people, in this order."""
    density = problem["density"]
    some = {name: v[order] for name, v in problem.items() if isinstance(v, np.ndarray)}
    return problem | some | {"density": StatureDensity(density.table[order], density.age_known[order])}


def log_depth(problem: dict, answer: FusedDepth) -> np.ndarray:
    return np.log(problem["first_depth_m"]) + answer.log_ratio


def assert_same(one: FusedDepth, two: FusedDepth, tolerance: float = 1e-6) -> None:
    for name in ("log_ratio", "log_std", "map_log_ratio", "shared_std", "level", "bend", "map_error"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), atol=tolerance, err_msg=name)


@pytest.mark.parametrize("inverse", [True, False])
@pytest.mark.parametrize(("slope", "tolerance"), [(0.4, 0.01), (0.8, 0.01), (1.2, 0.04)])
def test_exact_data_give_the_truth_back(inverse, slope, tolerance):
    problem, truth = exact(12, inverse, slope)
    answer = fuse(**problem)
    np.testing.assert_allclose(log_depth(problem, answer), truth, atol=tolerance)
    np.testing.assert_allclose(np.log(problem["first_depth_m"]) + answer.map_log_ratio, truth, atol=3 * tolerance)
    assert answer.level == pytest.approx(1.6, abs=0.02)
    assert 1 - answer.bend == pytest.approx(slope, abs=0.06)
    assert answer.map_error < 0.06
    assert (answer.log_std < 0.06).all()
    assert 0 < answer.shared_std < answer.log_std.min()
    assert answer.mean_x == pytest.approx(problem["x"].mean())


def test_the_map_tells_children_from_adults_when_ages_do_not():
    """Anybody of the population among adults: the map settles who is small."""
    random = np.random.default_rng(3)
    stature = np.r_[np.full(7, 1.71), 1.05]
    ages = np.r_[np.full(7, 35.0), np.nan]
    x = random.uniform(1, 4, 8)
    truth = transform(x, True, 0.8, 1.6)
    density = marginal_density(np.full(8, 1.71), ages, None, None, AGES)
    answer = fuse(x, True, np.exp(truth) * 1.71 / stature, np.full(8, 1.71), density, np.ones(8), CONFIG)
    found = 1.71 * np.exp(answer.log_ratio)
    prior = from_stature(np.full(8, 1.71), density, np.ones(8), CONFIG)
    assert 1.71 * np.exp(prior[0][7]) > 1.3
    assert found[7] < 1.2  # not all the way: the map may be wrong on this one person
    np.testing.assert_allclose(found[:7], 1.71, rtol=0.03)


def with_certain_errors(fit: float, error: float) -> FusionConfig:
    """Errors of these sizes, and outliers on the map only."""
    return replace(
        CONFIG, fit_errors=(fit,), fit_error_weights=(1.0,), map_errors=(error,), map_error_weights=(1.0,),
        fit_outlier_share=0.0,
    )  # fmt: skip


def test_a_worthless_map_leaves_the_stature():
    problem = crowd(6, 1) | {"config": replace(with_certain_errors(0.04, 3.0), outlier_std=3.0)}
    answer = fuse(**problem)
    ratio, std = from_stature(*(problem[name] for name in ("first_stature_m", "density", "fit_gain", "config")))
    np.testing.assert_allclose(answer.log_ratio, ratio, atol=0.02)
    np.testing.assert_allclose(answer.log_std, std, atol=0.01)


def test_stature_alone():
    density = normal_density(np.array([1.2]), np.array([0.06]), np.ones(1, bool))
    ratio, std = from_stature(np.array([1.6]), density, np.array([2.0]), with_certain_errors(0.04, 0.1))
    assert np.exp(ratio[0]) == pytest.approx(1.2 / 1.6, rel=0.003)
    assert std[0] == pytest.approx(np.hypot(0.05, 0.08), rel=0.01)
    outliers = replace(with_certain_errors(0.04, 0.1), fit_outlier_share=0.1)
    _, std = from_stature(np.array([1.6]), density, np.array([2.0]), outliers)
    fit_variance = 0.9 * 0.08**2 + 0.1 * CONFIG.outlier_std**2
    assert std[0] == pytest.approx(np.sqrt(0.05**2 + fit_variance), rel=0.01)


@given(st.integers(1, 7), st.integers(0, 1000), st.floats(-100, 100), st.booleans())
@settings(max_examples=15)
def test_unit_of_the_map_does_not_matter(count, seed, exponent, inverse):
    problem = crowd(count, seed, inverse)
    scaled = problem | {"x": problem["x"] * 10.0**exponent}
    assert_same(fuse(**problem), fuse(**scaled))


@given(st.integers(2, 7), st.integers(0, 1000))
@settings(max_examples=15)
def test_order_of_people_does_not_matter(count, seed):
    problem = crowd(count, seed)
    order = np.random.default_rng(seed).permutation(count)
    one, two = fuse(**problem), fuse(**chosen(problem, order))
    np.testing.assert_allclose(two.log_ratio, one.log_ratio[order], atol=1e-9)
    np.testing.assert_allclose(two.log_std, one.log_std[order], atol=1e-9)
    assert (two.level, two.bend, two.shared_std) == pytest.approx((one.level, one.bend, one.shared_std))


@given(st.integers(2, 6), st.integers(0, 1000), st.floats(-4, 4))
@settings(max_examples=15)
def test_first_depths_in_another_unit_move_everybody_alike(count, seed, log_factor):
    problem = crowd(count, seed)
    one = fuse(**problem)
    two = fuse(**problem | {"first_depth_m": problem["first_depth_m"] * np.exp(log_factor)})
    assert_same(replace(one, level=one.level + log_factor), two, 1e-3)


@given(st.integers(2, 6), st.integers(0, 1000), st.floats(-10, 10))
@settings(max_examples=15)
def test_size_of_the_first_bodies_does_not_matter(count, seed, log_factor):
    """A first guess twice as large and twice as far is the same first guess."""
    problem, factor = crowd(count, seed), np.exp(log_factor * np.linspace(-1, 1, count))
    scaled = {name: problem[name] * factor for name in ("first_depth_m", "first_stature_m")}
    one, two = fuse(**problem), fuse(**problem | scaled)
    np.testing.assert_allclose(log_depth(problem | scaled, two), log_depth(problem, one), atol=1e-3)
    np.testing.assert_allclose(two.log_std, one.log_std, atol=1e-3)


@pytest.mark.parametrize("inverse", [True, False])
@pytest.mark.parametrize("factor", [1e-30, 1e-3, 0.2, 5.0, 1e3, 1e30])
def test_an_absurd_value_does_not_drag_the_others(inverse, factor):
    problem, truth = exact(9, inverse)
    spoilt = problem["x"].copy()
    spoilt[4] *= factor
    others = np.arange(9) != 4
    for fit_outlier_share in (0.0, CONFIG.fit_outlier_share):
        config = replace(CONFIG, fit_outlier_share=fit_outlier_share)
        answer = fuse(**problem | {"x": spoilt, "config": config})
        error = np.abs(log_depth(problem, answer) - truth)
        assert error[others].max() < 0.08
        assert np.median(error) < 0.02
        assert (error < answer.log_std)[others].all()
        assert answer.map_error < 0.06  # it is this person's map, not everybody's, that is wrong
        if abs(np.log10(factor)) >= 3:
            assert abs(answer.map_log_ratio[4] - answer.log_ratio[4]) > 0.4
        if fit_outlier_share == 0:  # else the body may be what is wrong
            assert error[4] < 0.08


def test_two_people_of_one_kind_at_one_value_share_one_answer():
    problem, _ = exact(3, True)
    same = chosen(problem, [1, 1, 1])
    answer = fuse(**same)
    np.testing.assert_allclose(answer.log_ratio, answer.log_ratio[0], atol=1e-12)
    np.testing.assert_allclose(answer.log_std, answer.log_std[0], atol=1e-12)
    # The map then says that they stand at one depth, and nothing about which.
    assert answer.log_ratio[0] == pytest.approx((same["density"].table @ LOG_STATURE - np.log(
        same["first_stature_m"]))[0], abs=0.01)  # fmt: skip
    alone = fuse(**chosen(problem, [1]))
    assert answer.log_std[0] <= alone.log_std[0] + 1e-9


def test_people_at_one_value_but_of_unlike_first_depths_meet():
    """Both adults; the map says level, the first guess says 4 m and 5 m: each gives way."""
    density = normal_density(np.full(2, 1.7), np.full(2, 0.1), np.ones(2, bool))
    answer = fuse(
        np.ones(2), True, np.array([4.0, 5.0]), np.full(2, 1.7), density, np.ones(2), with_certain_errors(0.02, 0.02)
    )
    depth = np.array([4.0, 5.0]) * np.exp(answer.log_ratio)
    assert 4.2 < depth[0] < depth[1] < 4.8


@pytest.mark.parametrize("inverse", [True, False])
def test_values_that_span_twelve_decades(inverse):
    problem = crowd(60, 0, inverse) | {"x": np.logspace(-6, 6, 60)}
    answer = fuse(**problem)
    assert_sound(answer, problem)


@pytest.mark.parametrize("stature", [1e-300, 1e-6, 1e6, 1e300])
def test_absurd_first_statures_are_corrected(stature):
    problem = crowd(5, 2)
    plain = fuse(**problem)
    for everybody in (True, False):
        factor = np.where(np.arange(5) == 2, 1.0, 1.0 if not everybody else stature)
        factor[2] = stature
        some = {name: problem[name] * factor for name in ("first_depth_m", "first_stature_m")}
        answer = fuse(**problem | some)
        assert_sound(answer, problem | some)
        np.testing.assert_allclose(log_depth(problem | some, answer), log_depth(problem, plain), atol=1e-3)
    # A body as small as that at an ordinary depth is no body: the others stand as they would.
    problem, _ = exact(5, True)
    plain = fuse(**problem)
    lone = problem | {"first_stature_m": np.where(np.arange(5) == 2, stature, problem["first_stature_m"])}
    answer, others = fuse(**lone), np.arange(5) != 2
    assert_sound(answer, lone)
    np.testing.assert_allclose(log_depth(lone, answer)[others], log_depth(problem, plain)[others], atol=0.12)


def assert_sound(answer: FusedDepth, problem: dict) -> None:
    for name, value in vars(answer).items():
        assert np.isfinite(value).all(), name
    assert (answer.log_std > 0).all()
    stature = answer.log_ratio + np.log(problem["first_stature_m"])
    assert (stature >= LOG_STATURE[0] - 1e-6).all()
    assert (stature <= LOG_STATURE[-1] + 1e-6).all()
    assert 0 <= answer.shared_std <= answer.log_std.max() + 1e-9


@given(st.lists(st.floats(-290, 290), min_size=1, max_size=6), st.integers(0, 1000), st.booleans(), st.booleans())
@settings(max_examples=25)
def test_any_positive_numbers_give_numbers(exponents, seed, inverse, metric):
    random = np.random.default_rng(seed)
    problem = crowd(len(exponents), seed, inverse) | {"x": 10.0 ** np.array(exponents), "metric": metric}
    problem["first_depth_m"] *= 10.0 ** random.uniform(-9, 9, len(exponents))
    answer = fuse(**problem)
    assert_sound(replace(answer, mean_x=1.0), problem)  # the mean of the largest numbers may be infinite


def test_metric_maps_keep_their_scale():
    """People of unknown age: what they are tall is what the metres of the map say, within their trust."""
    problem, truth = exact(6, False, slope=1.0)
    anybody = marginal_density(problem["first_stature_m"], np.full(6, np.nan), None, None, AGES)
    problem |= {"density": anybody, "x": np.exp(truth), "metric": True}
    answer = fuse(**problem)
    assert answer.bend == pytest.approx(0, abs=0.1)
    twice = fuse(**problem | {"x": 2 * problem["x"]})
    assert 0.1 < twice.level - answer.level < np.log(2)
    sure = problem | {"config": replace(CONFIG, metric_scale_std=0.01)}
    for factor in (1, 2):
        level = fuse(**sure | {"x": factor * problem["x"]}).level
        assert level == pytest.approx(np.log(factor * problem["x"].mean()), abs=0.02)
    affine = fuse(**problem | {"metric": False}), fuse(**problem | {"metric": False, "x": 2 * problem["x"]})
    assert affine[1].level == pytest.approx(affine[0].level, abs=1e-6)
    true_level = np.log(problem["x"].mean())
    assert abs(answer.level - true_level) < 0.85 * abs(affine[0].level - true_level)
    assert answer.shared_std < affine[0].shared_std


def test_hidden_people_lean_on_the_map():
    problem, _ = exact(8, True)
    problem["x"][3] *= 1.2
    shown, hidden = (fuse(**problem | {"fit_gain": np.where(np.arange(8) == 3, gain, 1.0)}) for gain in (1.0, 3.0))
    assert hidden.log_std[3] > shown.log_std[3]
    assert abs(hidden.log_ratio[3] - hidden.map_log_ratio[3]) < abs(shown.log_ratio[3] - shown.map_log_ratio[3])


def drawn(
    count: int, random: np.random.Generator, inverse: bool, config: FusionConfig = CONFIG
) -> tuple[dict, np.ndarray]:
    """A scene drawn from the very assumptions of the posterior; and everybody's true log(depth / first depth)."""
    density = marginal_density(np.full(count, 1.7), random.uniform(1, 70, count), np.full(count, 0.5), None, AGES)
    fit = random.choice(config.fit_errors, p=config.fit_error_weights)
    error = random.choice(config.map_errors, p=config.map_error_weights)
    x = np.exp(0.5 * random.standard_normal(count))
    slope = np.exp(_truncated_normal(random, 1, config)[0])
    outlier = random.random(count) < config.outlier_share
    map_error = random.standard_normal(count) * np.where(outlier, max(config.outlier_std, error), error)
    log_z = transform(x, inverse, slope, np.log(random.uniform(3, 15))) + map_error
    body = np.array([random.choice(LOG_STATURE, p=row) for row in density.table])
    misfit = np.where(random.random(count) < config.fit_outlier_share, max(config.outlier_std, fit), fit)
    body += random.uniform(-0.005, 0.005, count) + misfit * random.standard_normal(count)
    first = np.full(count, 1.7)
    problem = {
        "x": x, "inverse": inverse, "first_depth_m": np.exp(log_z - body) * first, "first_stature_m": first,
        "density": density, "fit_gain": np.ones(count), "config": config,
    }  # fmt: skip
    return problem, body - np.log(first)


def _truncated_normal(random: np.random.Generator, count: int, config: FusionConfig = CONFIG) -> np.ndarray:
    """Log slopes from their prior."""
    logs = random.normal(config.slope_log_mean, config.slope_log_std, 2 * count + 100)
    return logs[(logs > np.log(config.slope_range[0])) & (logs < np.log(config.slope_range[1]))][:count]


@pytest.mark.parametrize("config", [CONFIG, FusionConfig()], ids=["own", "shipped"])
def test_intervals_hold_what_they_promise(config):
    random = np.random.default_rng(0)
    scores = []
    for number in range(150):
        problem, truth = drawn(2 + number % 6, random, number % 2 == 0, config)
        answer = fuse(**problem)
        scores.append((truth - answer.log_ratio) / answer.log_std)
    z = np.concatenate(scores)
    assert 0.85 < np.mean(np.abs(z) < 1.645) < 0.95
    assert 0.55 < np.mean(np.abs(z) < 0.8416) < 0.70  # the middle 60 %, a little more for tails as heavy as these
    assert abs(z.mean()) < 0.1
    assert 0.9 < z.std() < 1.15


def sampled_posterior(problem: dict, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread by sampling all but the level, over which mixtures of Gaussians integrate in closed form."""
    random = np.random.default_rng(1)
    count = len(problem["x"])
    log_slope = _truncated_normal(random, draws)
    draws = len(log_slope)
    fit = random.choice(CONFIG.fit_errors, draws, p=CONFIG.fit_error_weights)[:, None]
    error = random.choice(CONFIG.map_errors, draws, p=CONFIG.map_error_weights)[:, None]
    body = np.stack([random.choice(LOG_STATURE, draws, p=row) for row in problem["density"].table], 1)
    misfit = np.where(random.random(body.shape) < CONFIG.fit_outlier_share, np.maximum(CONFIG.outlier_std, fit), fit)
    body += random.uniform(-0.005, 0.005, body.shape) + misfit * random.standard_normal(body.shape)
    relative = problem["x"] / problem["x"].mean()
    said = np.log(np.maximum(np.exp(log_slope)[:, None] * (relative - 1) + 1, 1e-3))
    vote = (
        body + np.log(problem["first_depth_m"] / problem["first_stature_m"]) + (said if problem["inverse"] else -said)
    )
    weight = np.zeros(draws)
    for outliers in itertools.product((False, True), repeat=count):
        std = np.where(outliers, np.maximum(CONFIG.outlier_std, error), error)
        share = np.prod(np.where(outliers, CONFIG.outlier_share, 1 - CONFIG.outlier_share))
        precision = std**-2.0
        centre = ((precision * vote).sum(1) / precision.sum(1))[:, None]
        fit_to_level = np.exp(-(precision * (vote - centre) ** 2).sum(1) / 2)
        weight += share * fit_to_level / np.prod(std, 1) / np.sqrt(precision.sum(1))
    weight /= weight.sum()
    assert 1 / (weight**2).sum() > 10_000  # enough effective draws
    mean = weight @ body
    return mean - np.log(problem["first_stature_m"]), np.sqrt(weight @ body**2 - mean**2)


@pytest.mark.parametrize(("count", "seed", "inverse"), [(2, 1, True), (2, 6, False), (3, 2, True), (3, 3, False)])
def test_the_posterior_is_that_of_brute_force(count, seed, inverse):
    problem, _ = drawn(count, np.random.default_rng(seed), inverse)
    mean, std = sampled_posterior(problem, 300_000)
    answer = fuse(**problem)
    np.testing.assert_allclose(answer.log_ratio, mean, atol=0.004)
    np.testing.assert_allclose(answer.log_std, std, rtol=0.03)


def test_errors_narrower_than_the_grid_do_not_outweigh_the_rest():
    """A candidate of no error at all must not win by the coarseness of the grid where it does not fit."""
    problem = crowd(6, 5)
    tiny = replace(
        CONFIG, map_errors=(1e-6, 0.1), map_error_weights=(0.5, 0.5), fit_errors=(1e-6,), fit_error_weights=(1.0,)
    )
    small = replace(tiny, map_errors=(0.01, 0.1), fit_errors=(0.01,))
    assert_same(fuse(**problem | {"config": small}), fuse(**problem | {"config": tiny}), 0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.array([1.0, 0.0, 2.0])}, "x must be finite and positive, got 0.0 for person 1"),
        ({"x": np.array([1.0, 1.0, np.nan])}, "x must be finite and positive, got nan for person 2"),
        ({"first_depth_m": np.array([-1.0, 1.0, 1.0])}, "first_depth_m must be finite and positive.*person 0"),
        ({"first_stature_m": np.array([1.0, np.inf, 1.0])}, "first_stature_m must be finite and positive.*person 1"),
        ({"fit_gain": np.ones(2)}, "fit_gain must hold one number for each"),
        ({"density": exact(2, True)[0]["density"]}, "densities of 2 people for 3 people"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_one_sentence(change, message):
    with pytest.raises(InputError, match=message):
        fuse(**exact(3, True)[0] | change)
    with pytest.raises(InputError, match="at least one person"):
        fuse(**chosen(exact(3, True)[0], np.zeros(0, int)))
