"""The closed-form solution against recorded references, a grid search and the invariances it must have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdmesh.dto.solve import DEGENERATE, FREE, LOWER, UPPER, solve
from crowdmesh.errors import InputError


def problem(count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "relative_depth": random.uniform(0.001, 0.02, count),
        "initial_depth_m": random.uniform(1.5, 12.0, count),
        "initial_stature_m": random.uniform(1.4, 1.9, count),
        "prior_mean_m": random.uniform(0.7, 1.9, count),
        "prior_std_m": random.uniform(0.05, 0.2, count),
    }


problems = st.builds(problem, st.integers(1, 12), st.integers(0, 10_000))


def objective(p: dict[str, np.ndarray], scale: float, shift: float) -> float:
    stature = p["initial_stature_m"] * (scale * p["relative_depth"] + shift) / p["initial_depth_m"]
    return float((((stature - p["prior_mean_m"]) / p["prior_std_m"]) ** 2).sum())


def test_recorded_problems(solver_cases):
    c = solver_cases
    member = np.arange(c["d"].shape[1]) < c["K"][:, None]
    scene = np.repeat(np.arange(len(c["K"])), c["K"])
    columns = (c[name][member] for name in ("d", "z_hat", "h_hat", "mu", "sigma"))
    answer = solve(*columns, (c["lo"], c["hi"]), scene)
    assert np.all(np.abs(answer.objective - c["obj_ref"]) <= 1e-9 * np.maximum(1, c["obj_ref"]))
    unique = c["active"] != DEGENERATE
    np.testing.assert_allclose(answer.scale[unique], c["s_ref"][unique], rtol=1e-7)
    np.testing.assert_allclose(answer.shift[unique], c["t_ref"][unique], rtol=1e-7)
    np.testing.assert_array_equal(answer.active, c["active"])
    np.testing.assert_array_equal(answer.interval_swapped, ~c["interval_valid"])
    # An independent bounded least-squares solver never does better.
    assert np.all(answer.objective <= c["obj_lsq"] + 1e-9 * np.maximum(1, c["obj_lsq"]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bounds", [(0.0, np.inf), (100.0, 300.0), (2000.0, 3000.0)])
def test_no_grid_point_is_better(seed, bounds):
    p = problem(4, seed)
    answer = solve(**p, scale_bounds=bounds)
    highest = min(bounds[1], 4 * abs(answer.scale[0]) + 1000)
    scales = np.linspace(bounds[0], highest, 300)
    shifts = answer.shift[0] + np.linspace(-3, 3, 301)
    best = min(objective(p, s, t) for s in scales for t in shifts)
    assert answer.objective[0] <= best + 1e-9
    np.testing.assert_allclose(answer.objective[0], objective(p, answer.scale[0], answer.shift[0]), rtol=1e-9)


@given(problems, st.integers(0, 1000))
def test_order_of_people_does_not_matter(p, seed):
    order = np.random.default_rng(seed).permutation(len(p["relative_depth"]))
    one, two = solve(**p, scale_bounds=(0, 1e4)), solve(**{k: v[order] for k, v in p.items()}, scale_bounds=(0, 1e4))
    np.testing.assert_allclose(two.scale, one.scale, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(two.stature_m, one.stature_m[order], rtol=1e-8)


@given(problems, st.floats(-60, 60), st.floats(0.2, 5), st.floats(10, 400))
def test_unit_of_relative_depth_does_not_matter(p, exponent, factor, low):
    unit = factor * 10.0**exponent
    one = solve(**p, scale_bounds=(low, 5 * low))
    two = solve(**{**p, "relative_depth": p["relative_depth"] * unit}, scale_bounds=(low / unit, 5 * low / unit))
    np.testing.assert_allclose(two.scale * unit, one.scale, rtol=1e-8)
    np.testing.assert_allclose(two.depth_ratio, one.depth_ratio, rtol=1e-8)
    np.testing.assert_array_equal(two.active, one.active)


@given(problems, st.floats(-1, 1))
def test_origin_of_relative_depth_does_not_matter(p, shift):
    one = solve(**p, scale_bounds=(50, 500))
    two = solve(**{**p, "relative_depth": p["relative_depth"] + shift}, scale_bounds=(50, 500))
    np.testing.assert_allclose(two.stature_m, one.stature_m, rtol=1e-6)
    np.testing.assert_allclose(two.stature_std_m, one.stature_std_m, rtol=1e-5)
    np.testing.assert_allclose(two.shift, one.shift - one.scale * shift, rtol=1e-6, atol=1e-6)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(0, 1000))
def test_ragged_scenes_equal_single_scenes(sizes, seed):
    p = problem(sum(sizes), seed)
    scene = np.repeat(np.arange(len(sizes)), sizes)
    mixed = np.random.default_rng(seed).permutation(len(scene))
    random = np.random.default_rng(seed + 1)
    low = np.where(random.random(len(sizes)) < 0.3, -np.inf, random.uniform(-100, 400, len(sizes)))
    high = np.where(random.random(len(sizes)) < 0.3, np.inf, random.uniform(-100, 900, len(sizes)))
    bounds = (low, high)
    together = solve(**{k: v[mixed] for k, v in p.items()}, scale_bounds=bounds, scene=scene[mixed])
    for number in range(len(sizes)):
        alone = solve(**{k: v[scene == number] for k, v in p.items()}, scale_bounds=(low[number], high[number]))
        np.testing.assert_allclose(together.scale[number], alone.scale[0], rtol=1e-9)
        np.testing.assert_allclose(together.objective[number], alone.objective[0], rtol=1e-9, atol=1e-12)
        assert together.active[number] == alone.active[0]


@settings(deadline=None)
@given(
    hnp.arrays(float, st.integers(0, 6), elements=st.floats(-1e150, 1e150)),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_any_finite_depth_gives_finite_statures(relative_depth, low, high):
    ones = np.ones(len(relative_depth))
    answer = solve(relative_depth, 5 * ones, 1.7 * ones, 1.6 * ones, 0.1 * ones, (low, high))
    for value in (
        answer.scale,
        answer.stature_m,
        answer.depth_ratio,
        answer.standardised_residual,
        answer.stature_std_m,
    ):
        assert not np.isnan(value).any()
    assert min(low, high) <= answer.scale[0] <= max(low, high)
    assert answer.interval_swapped[0] == (low > high)


def test_two_people_reach_their_prior_means_exactly():
    p = problem(2, 3)
    answer = solve(**p, scale_bounds=(-np.inf, np.inf))
    assert answer.active[0] == FREE
    np.testing.assert_allclose(answer.stature_m, p["prior_mean_m"])
    assert answer.objective[0] < 1e-18


def test_bounds_are_reported():
    p = problem(5, 1)
    free = solve(**p, scale_bounds=(-np.inf, np.inf)).scale[0]
    assert solve(**p, scale_bounds=(free + 1, free + 2)).active[0] == LOWER
    assert solve(**p, scale_bounds=(free - 2, free - 1)).active[0] == UPPER
    upside_down = solve(**p, scale_bounds=(free + 2, free + 1))
    assert upside_down.interval_swapped[0]
    assert upside_down.scale[0] == pytest.approx(free + 1)


@pytest.mark.parametrize("depths", [[0.01], [0.01, 0.01, 0.01], []])
def test_undetermined_scale_is_the_lower_bound(depths):
    count = len(depths)
    p = problem(count, 0) | {"relative_depth": np.array(depths, float)}
    answer = solve(**p, scale_bounds=(120.0, 500.0))
    assert answer.active[0] == DEGENERATE
    assert answer.scale[0] == pytest.approx(120.0)
    assert np.isfinite(answer.shift[0])


def test_covariance_predicts_the_spread_of_resampled_solutions():
    p = problem(6, 5)
    exact = solve(**p, scale_bounds=(-np.inf, np.inf))
    random = np.random.default_rng(0)
    draws = 4000
    noisy = p["prior_mean_m"] + p["prior_std_m"] * random.standard_normal((draws, 6)) * 0.05
    scene = np.repeat(np.arange(draws), 6)
    tiled = {k: np.tile(v, draws) for k, v in p.items()} | {"prior_mean_m": noisy.ravel()}
    many = solve(**tiled, scale_bounds=(-np.inf, np.inf), scene=scene)
    found = np.cov(np.stack((many.scale, many.shift))) / 0.05**2
    np.testing.assert_allclose(found, exact.covariance[0], rtol=0.1)
    spread = many.stature_m.reshape(draws, 6).std(0) / 0.05
    np.testing.assert_allclose(spread, exact.stature_std_m, rtol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"initial_depth_m": np.array([1.0, 0.0, 2.0])}, "initial_depth_m must be finite and positive.*person 1"),
        ({"prior_std_m": np.array([1.0, 1.0, np.nan])}, "prior_std_m must be finite and positive.*person 2"),
        ({"relative_depth": np.array([np.inf, 1.0, 2.0])}, "relative_depth must be finite.*person 0"),
        ({"relative_depth": np.ones(2)}, "five"),
        ({"scale_bounds": (np.nan, 1.0)}, "scale bounds"),
        ({"scale_bounds": (np.ones(2), np.ones(2)), "scene": np.array([0, 1, 2])}, "one per scene"),
        ({"scene": np.array([0, -1, 0])}, "non-negative"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_one_sentence(change, message):
    with pytest.raises(InputError, match=message):
        solve(**(problem(3, 0) | change))
