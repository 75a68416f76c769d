"""The ground as a witness: planes that are there are found, people who do not stand on them are left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.camera import Camera
from crowdmesh.dto.config import FusionConfig
from crowdmesh.dto.ground import Feet, find_feet, stand_on_ground

# The mathematics is tested on numbers of its own, not on those that are shipped.
CONFIG = FusionConfig(ground_error=0.07, ground_outlier_share=0.4, ground_outlier_std=0.5, ground_people=5)
CAMERA = Camera(800.0, 800.0, 640.0, 360.0, 1280, 720)


def on_plane(count: int, seed: int = 0, height_m: float = 1.6, pitch: float = 0.2, roll: float = 0.0) -> Feet:
    """People who stand on a plane that far below a camera that looks down by the pitch; ``depth_m`` is the truth."""
    random = np.random.default_rng(seed)
    normal = np.array([np.sin(roll), np.cos(roll) * np.cos(pitch), np.cos(roll) * np.sin(pitch)])
    ray = np.stack((random.uniform(-0.6, 0.6, count), random.uniform(0.05, 0.4, count), np.ones(count)), 1)
    depth = height_m / (ray @ normal)
    assert (depth > 0).all()
    return Feet(ray, depth, np.ones(count, bool))


def believe(feet: Feet, error: np.ndarray) -> Feet:
    """The same feet at first depths that are wrong by ``error`` (natural logarithm)."""
    return replace(feet, depth_m=feet.depth_m * np.exp(error))


def stand(feet: Feet, std: float | np.ndarray = 0.1, shared: float = 0.0, config: FusionConfig = CONFIG):
    count = len(feet.depth_m)
    return stand_on_ground(np.zeros(count), np.full(count, std), shared, feet, config)


@pytest.mark.parametrize(("height", "pitch", "roll"), [(1.6, 0.2, 0.0), (1.2, 0.3, 0.1), (3.0, 0.6, -0.1)])
def test_who_stands_right_stays_and_grows_surer(height, pitch, roll):
    feet = on_plane(8, 0, height, pitch, roll)
    ratio, std = stand(feet)
    np.testing.assert_allclose(ratio, 0, atol=1e-6)
    assert (std < 0.1).all()
    assert (std > 0.03).all()


def test_the_ground_corrects_depths():
    random = np.random.default_rng(0)
    before, after = [], []
    for seed in range(60):
        error = 0.12 * random.standard_normal(10)
        ratio, _ = stand(believe(on_plane(10, seed), error), 0.12)
        before.append(error)
        after.append(error + ratio)
    assert np.std(after) < 0.85 * np.std(before)


def test_intervals_hold_what_they_promise():
    random = np.random.default_rng(1)
    scores = []
    for seed in range(150):
        truth = on_plane(9, seed)
        error = 0.1 * random.standard_normal(9)
        uneven = replace(truth, depth_m=truth.depth_m * np.exp(CONFIG.ground_error * random.standard_normal(9)))
        ratio, std = stand(believe(uneven, error))
        scores.append((error + ratio) / std)
    assert 0.85 < np.mean(np.abs(np.concatenate(scores)) < 1.645) < 0.95


def test_who_is_off_the_plane_does_not_pull_the_others():
    """One of ten sits on a wall or on a balcony: the others stay where they are right, and that one is hardly moved."""
    others = np.arange(10) != 3
    for far in (-0.9, -0.7, 0.7, 0.9):
        for seed in range(8):
            ratio, std = stand(believe(on_plane(10, seed), np.where(others, 0.0, far)))
            np.testing.assert_allclose(ratio[others], 0, atol=0.02)
            assert abs(ratio[3]) < 0.02
            assert std[3] == pytest.approx(0.1, rel=0.05)


def test_everybody_is_held_against_the_others_alone():
    """A person's own error does not vouch for itself: what the ground says to them is what it says without them."""
    feet = on_plane(9, 2)
    config = replace(CONFIG, ground_outlier_share=0.01)
    small, large = (
        stand(believe(feet, np.where(np.arange(9) == 4, e, 0.0)), config=config)[0][4] for e in (0.04, 0.08)
    )
    assert small < 0
    assert large == pytest.approx(2 * small, rel=0.1)
    # An unsure person takes the ground's word, a sure one keeps theirs.
    error = np.where(np.arange(9) == 4, 0.15, 0.0)
    unsure, sure = (
        stand(believe(feet, error), np.where(np.arange(9) == 4, std, 0.05), config=config)[0][4] for std in (0.5, 0.02)
    )
    assert unsure < -0.1
    assert abs(sure) < 0.03


def test_too_few_feet_say_nothing():
    feet = believe(on_plane(9), 0.1 * np.random.default_rng(0).standard_normal(9))
    for hidden, silent in ((4, False), (5, True), (9, True)):
        some = replace(feet, inside=np.arange(9) >= hidden)
        ratio, std = stand(some)
        assert (not ratio.any()) == silent
        assert (std == 0.1).all() == silent
        np.testing.assert_array_equal(ratio[:hidden], 0)
        np.testing.assert_array_equal(std[:hidden], 0.1)


def test_what_was_given_is_not_changed():
    feet = believe(on_plane(9), 0.1 * np.random.default_rng(0).standard_normal(9))
    ratio, std = np.zeros(9), np.full(9, 0.1)
    stand_on_ground(ratio, std, 0.0, feet, CONFIG)
    assert not ratio.any()
    assert (std == 0.1).all()


def test_what_moves_everybody_alike_remains():
    feet = believe(on_plane(9), 0.05 * np.random.default_rng(0).standard_normal(9))
    for shared in (0.0, 0.05, 0.0999, 0.2):
        _, std = stand(feet, 0.1, shared)
        assert (std >= shared).all()
    # A common factor cannot be seen: it stays.
    one, two = stand(feet)[0], stand(believe(feet, np.full(9, 0.2)))[0]
    np.testing.assert_allclose(two, one, atol=1e-3)


@pytest.mark.parametrize("line", ["row", "column", "point"])
def test_feet_in_one_line_give_no_plane_beside_it(line):
    feet = on_plane(7, 3)
    ray = feet.ray.copy()
    if line != "column":
        ray[:, 1] = 0.2
    if line != "row":
        ray[:, 0] = 0.1
    depth = 1.6 / (ray @ np.array([0.0, np.cos(0.2), np.sin(0.2)]))
    ratio, std = stand(Feet(ray, depth, np.ones(7, bool)))
    assert np.isfinite(ratio).all()
    assert np.isfinite(std).all()
    np.testing.assert_allclose(ratio, 0, atol=0.02)
    assert (std <= 0.1 + 1e-9).all()


@pytest.mark.parametrize(("height", "pitch"), [(0.05, 0.2), (40.0, 0.2), (1.6, 1.3)])
def test_implausible_grounds_are_none(height, pitch):
    """At ankle height, from a tower, or a wall: no ground that people are photographed on."""
    feet = on_plane(9, 0, height, pitch)
    ratio, std = stand(believe(feet, 0.05 * np.random.default_rng(0).standard_normal(9)))
    assert not ratio.any()
    assert (std == 0.1).all()


def test_a_ceiling_is_no_ground():
    feet = on_plane(9)
    upside_down = replace(feet, ray=feet.ray * (1, -1, 1))
    assert not stand(believe(upside_down, 0.05 * np.random.default_rng(0).standard_normal(9)))[0].any()


def test_people_on_stairs_have_no_ground():
    """Depths that fit no plane leave everybody as they were believed."""
    random = np.random.default_rng(2)
    for seed in range(10):
        ratio, std = stand(believe(on_plane(8, seed), random.uniform(-1.5, 1.5, 8)), 0.05)
        assert np.abs(ratio).max() < 0.05
        assert (std < 0.06).all()  # who may or may not stand there is a little less sure than before


@given(
    st.integers(0, 9), st.integers(0, 1000), st.floats(-300, 300), st.floats(0, 300), st.floats(-12, 1),
    st.floats(0, 1), st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=150)
def test_any_beliefs_give_numbers(count, seed, centre, spread, log_std, shared, outliers):
    random = np.random.default_rng(seed)
    feet = Feet(
        np.c_[random.uniform(-2, 2, (count, 2)), np.ones(count)], 10 ** random.uniform(-1.3, 4, count),
        random.random(count) < 0.9,
    )  # fmt: skip
    believed = centre + spread * random.standard_normal(count)
    config = replace(CONFIG, ground_outlier_share=outliers)
    ratio, std = stand_on_ground(believed, np.full(count, 10.0**log_std), shared * 10.0**log_std, feet, config)
    assert np.isfinite(ratio).all()
    assert np.isfinite(std).all()
    assert (std >= 0).all()


def boxes(*places: tuple[float, float, float]) -> np.ndarray:
    """Upright boxes 0.4 m wide and 1.7 m tall whose feet stand at these points."""
    corners = np.array([[x, y, z] for x in (-0.2, 0.2) for y in (-1.7, 0.0) for z in (-0.1, 0.1)])
    return (corners + np.array(places)[:, None]).astype(np.float32)


def test_feet_are_the_lowest_points_that_show():
    # In view; beyond the lower edge (knees at best); beyond the right edge; behind the camera.
    places = ((0.0, 1.5, 5.0), (0.0, 1.5, 2.0), (6.0, 1.5, 5.0), (0.0, 1.5, -3.0))
    feet = find_feet(boxes(*places), CAMERA)
    assert feet.inside.tolist() == [True, False, False, False]
    assert feet.depth_m[0] == pytest.approx(4.9)  # the nearer edge projects lower
    np.testing.assert_allclose(feet.ray[0, 1:], (1.5 / 4.9, 1.0), rtol=1e-6)
    np.testing.assert_allclose(np.abs(feet.ray[0, 0]), 0.2 / 4.9, rtol=1e-6)
    assert np.isfinite(feet.ray).all()
    assert (feet.depth_m > 0).all()


def test_feet_on_the_last_rows_are_the_border_s():
    depth = 5.0
    for row, inside in ((717.0, True), (718.5, False), (720.0, False)):
        y = (row - CAMERA.cy) / CAMERA.fy * (depth - 0.1)
        assert find_feet(boxes((0.0, y, depth)), CAMERA).inside.tolist() == [inside]


def test_people_on_a_real_floor_lie_on_one_plane():
    random = np.random.default_rng(0)
    places = [(random.uniform(-2, 2), 1.6, random.uniform(4, 9)) for _ in range(8)]
    feet = find_feet(boxes(*places), CAMERA)
    assert feet.inside.all()
    ratio, std = stand(feet)
    np.testing.assert_allclose(ratio, 0, atol=1e-5)
    assert (std < 0.1).all()


def test_nobody():
    feet = find_feet(np.zeros((0, 8, 3), np.float32), CAMERA)
    assert feet.inside.shape == (0,)
    ratio, std = stand(feet)
    assert len(ratio) == len(std) == 0
