"""The strategy of ``best`` in DTO's terms: transform, statuses, notes, and every kind of map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowdmesh.dto import best
from crowdmesh.dto.config import FusionConfig
from crowdmesh.dto.cues import Cues
from crowdmesh.dto.density import LOG_STATURE, marginal_density
from crowdmesh.dto.fused import solve_fused
from crowdmesh.dto.ground import Feet
from crowdmesh.dto.solution import Solution
from crowdmesh.errors import InputError
from crowdmesh.people import PersonStatus

TRUTH = np.array([3.0, 3.8, 4.5, 5.2, 6.5, 8.0])
AGES = np.array([30.0, 4.0, 40.0, 9.0, 50.0, 25.0])
FIRST_STATURE = np.full(6, 1.7)


def density(ages: np.ndarray):
    return marginal_density(FIRST_STATURE[: len(ages)], ages, None, None)


def first_depth() -> np.ndarray:
    """Where everybody would stand if they were 1.70 m tall; in truth they have the expected stature of their age."""
    return TRUTH * FIRST_STATURE / np.exp(density(AGES).table @ LOG_STATURE)


def solve(relative_depth, kind="depth", ages=AGES, feet_inside=False, config=None, **changes) -> Solution:
    count = len(ages)
    zeros, ones = np.zeros(count), np.ones(count)
    cues = Cues(
        relative_depth=np.asarray(relative_depth, float), depth_m=first_depth()[:count], spread=0.1 * ones, slope=ones,
        correlation=ones, samples=np.full(count, 500), excluded=zeros.astype(int), status=zeros.astype(int),
        visible_share=ones,
    )  # fmt: skip
    cues = replace(cues, **changes)
    feet = Feet(np.ones((count, 3)), ones, np.full(count, feet_inside))
    return solve_fused(cues, kind, FIRST_STATURE[:count], density(ages), feet, config or best())


def depth(solution: Solution) -> np.ndarray:
    return first_depth()[: len(solution.status)] * solution.depth_ratio


@pytest.mark.parametrize(
    ("kind", "relative"),
    [
        ("metric", TRUTH),
        ("depth", 5.0 * TRUTH - 4.0),
        ("depth", 0.01 * TRUTH - 7.0),  # below zero
        ("depth", TRUTH - 5.0),  # across it
        ("disparity", 1.0 / (40.0 / TRUTH - 3.0)),
    ],
)
def test_every_kind_of_map_leads_to_the_truth(kind, relative):
    solution = solve(relative, kind)
    np.testing.assert_allclose(depth(solution), TRUTH, rtol=0.03)
    assert (solution.status == PersonStatus.PLACED).all()
    assert solution.solved
    assert solution.score < 0.6
    # The transform is that of the map's own values.
    if kind == "disparity":
        said = 1.0 / (solution.scale / relative + solution.shift)
    else:
        said = solution.scale * relative + solution.shift
    np.testing.assert_allclose(said, TRUTH, rtol=0.12)
    np.testing.assert_allclose(
        solution.wanted_stature_m, FIRST_STATURE * said / first_depth(), rtol=0.06
    )  # posterior means of products are not products of means
    assert solution.notes[0].startswith("the depth map fits these people within about")


@pytest.mark.parametrize("offset", [-1e4, -7.0, -3.1])
def test_zero_of_a_map_below_zero_means_nothing(offset):
    one, two = solve(0.1 * TRUTH - 20.0), solve(0.1 * TRUTH + offset)
    np.testing.assert_allclose(two.depth_ratio, one.depth_ratio, rtol=1e-4)


@pytest.mark.parametrize("value", [-5.0, 5.0, -1e-9, 1e9])
def test_a_flat_map_and_its_rounding_say_one_depth(value):
    exact, rounded = solve(np.full(6, value)), solve(value * (1 + 1e-8 * np.arange(6)))
    np.testing.assert_allclose(rounded.depth_ratio, exact.depth_ratio, rtol=1e-4)
    assert np.isfinite(exact.scale)
    assert (exact.stature_std_m > 0).all()


def test_the_paper_s_reading_of_disparity_is_a_choice():
    relative = 0.3 * TRUTH - 0.2  # reciprocal of a disparity in which depth is affine
    config = replace(best(), fusion=FusionConfig(disparity_model="depth"))
    solution = solve(relative, "disparity", config=config)
    np.testing.assert_allclose(depth(solution), TRUTH, rtol=0.03)
    np.testing.assert_allclose(solution.scale * relative + solution.shift, TRUTH, rtol=0.12)


def test_people_without_evidence_are_placed_by_age_or_kept():
    status = np.array([0, PersonStatus.KEPT_NO_DEPTH, 0, PersonStatus.KEPT_NOT_VISIBLE, 0, 0])
    ages = AGES.copy()
    ages[3] = np.nan
    solution = solve(TRUTH, "metric", ages, status=status)
    names = [PersonStatus(int(s)) for s in solution.status]
    assert names[1] is PersonStatus.PLACED_FROM_STATURE
    assert names[3] is PersonStatus.KEPT_NOT_VISIBLE
    assert all(name is PersonStatus.PLACED for k, name in enumerate(names) if k not in (1, 3))
    assert depth(solution)[1] == pytest.approx(TRUTH[1], rel=0.05)
    assert solution.stature_std_m[1] > 0
    assert (solution.depth_ratio[3], solution.stature_std_m[3]) == (1.0, 0.0)
    np.testing.assert_array_equal(solution.wanted_stature_m[[1, 3]], 1.7)


def test_unusable_evidence_is_none():
    """A pelvis behind the camera, and a mean that is no number."""
    relative, first = TRUTH.copy(), first_depth()
    relative[0], first[1] = np.inf, -1.0
    known, unknown = (
        solve(relative, "metric", np.where(np.arange(6) < 2, age, AGES), depth_m=first) for age in (AGES, np.nan)
    )
    assert (known.status[:2] == PersonStatus.PLACED_FROM_STATURE).all()
    assert (unknown.status[:2] == PersonStatus.KEPT_IMPLAUSIBLE_DEPTH).all()
    np.testing.assert_allclose(depth(known)[2:], TRUTH[2:], rtol=0.03)


@pytest.mark.parametrize(
    ("age", "status"), [(4.0, PersonStatus.PLACED_FROM_STATURE), (np.nan, PersonStatus.KEPT_ALONE)]
)
def test_nobody_to_compare_with(age, status):
    solution = solve(TRUTH[:1], ages=np.array([age]))
    assert solution.status.tolist() == [status]
    assert not solution.solved
    assert solution.scale is None
    assert solution.score == np.inf
    assert "those of known age stand where the stature of their age puts them" in solution.notes[0]
    assert (solution.depth_ratio[0] < 0.7) == status.placed


def test_the_ground_can_be_left_out():
    relative = TRUTH * np.exp(0.1 * np.random.default_rng(0).standard_normal(6))
    normal = np.array([0.0, np.cos(0.2), np.sin(0.2)])
    ray = np.stack((np.linspace(-0.5, 0.5, 6)[[2, 0, 4, 1, 5, 3]], np.zeros(6), np.ones(6)), 1)
    ray[:, 1] = (1.6 / TRUTH - ray @ normal) / normal[1]
    feet = Feet(ray, first_depth(), np.ones(6, bool))
    ones, zeros = np.ones(6), np.zeros(6)
    cues = Cues(relative, first_depth(), 0.1 * ones, ones, ones, zeros.astype(int), zeros.astype(int),
                zeros.astype(int), ones)  # fmt: skip
    config = best()
    without = replace(config, fusion=replace(config.fusion, ground=False))
    one, two = (solve_fused(cues, "metric", FIRST_STATURE, density(AGES), feet, c) for c in (config, without))
    assert np.abs(one.depth_ratio - two.depth_ratio).max() > 1e-3
    assert np.abs(depth(one) - TRUTH).mean() < np.abs(depth(two) - TRUTH).mean()
    assert one.stature_std_m.mean() < two.stature_std_m.mean()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"outlier_share": 1.5}, "outlier shares"),
        ({"ground_outlier_share": -0.1}, "outlier shares"),
        ({"outlier_std": 0.0}, "spreads"),
        ({"slope_range": (1.0, 0.5)}, "slope_range"),
        ({"ground_people": 2}, "ground_people"),
        ({"map_errors": (0.1,)}, "map_error"),
    ],
)
def test_an_error_model_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        FusionConfig(**wrong)
