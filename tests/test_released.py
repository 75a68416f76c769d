"""The restated release against the numbers its own code gave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import synthetic_smpl
import torch

from crowdmesh.body import load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import official, place
from crowdmesh.dto.released import _OPENPOSE24, reshape_official, solve_group
from crowdmesh.errors import InputError
from crowdmesh.people import People


def test_recorded_groups(solver_cases):
    c, config = solver_cases, official()
    for i, count in enumerate(c["K"]):
        names = ("d", "z_hat", "h_hat", "mu", "sigma", "d_std", "slope", "corr")
        answer = solve_group(*(c[name][i, :count] for name in names), config)
        assert answer.scale == pytest.approx(c["official_s"][i], rel=1e-6, abs=1e-9), i
        assert answer.shift == pytest.approx(c["official_t"][i], rel=1e-5, abs=1e-9), i
        assert answer.count == c["official_count"][i], i
        assert answer.deviation == pytest.approx(c["official_deviation"][i], rel=1e-8, abs=1e-9), i
        np.testing.assert_array_equal(answer.skipped, c["official_skipped"][i, :count], err_msg=str(i))


def test_a_pair_is_moved_but_never_counts_as_optimised(crowd):
    _, guess, disparity = crowd
    # The two nearest adults are large enough for the release.
    pair = replace(guess, people=guess.people[[0, 5]])
    free = replace(official(), scale=replace(official().scale, min_correlation=2.0))  # nobody's slope counts
    scaled = RelativeDepth(disparity.values * np.float32(10), "disparity")  # well above the default bound
    placed, placement = place(pair, scaled, free)
    assert placement.active == 0
    assert all(status.placed for status in placement.statuses)
    np.testing.assert_allclose(placement.standardised_residual, 0, atol=1e-6)
    assert placement.score == np.inf
    assert not placement.accepted
    assert len(placed.people) == 2


def test_far_people_end_behind_near_ones(crowd):
    _, guess, disparity = crowd
    # Raw units in which half of the crowd lies beyond the release's threshold of 0.02.
    depths = np.sort(1 / np.array([np.median(disparity.values[m]) for m in guess.people.masks.to_dense()]))
    scaled = RelativeDepth(disparity.values * np.float32(np.median(depths) / 0.02), "disparity")
    _, placement = place(guess, scaled, official())
    far = placement.relative_depth > 0.02
    assert 2 <= far.sum() <= len(far) - 2
    depth = placement.initial_depth_m * placement.depth_ratio
    assert depth[far].min() >= depth[~far].max() - 1e-9
    assert any("far group" in note for note in placement.notes)


def test_other_depth_kinds_are_refused(crowd):
    world, guess, _ = crowd
    with pytest.raises(InputError, match="raw Depth Anything V2 disparity"):
        place(guess, world.depth, official())


def test_the_released_move_of_an_smpl_body(tmp_path):
    """Translation times r; one linear step of one beta; x and y shifted after a step along the kid axis only."""
    body = load_body("smpl", synthetic_smpl.write(tmp_path))
    random = np.random.default_rng(0)
    pose = 0.2 * random.standard_normal((3, 24, 3))
    pose[:, 0] = (np.pi, 0, 0)
    shape = body.default_shape(3).double().numpy()
    people = People(
        body="smpl", pose=pose, shape=shape, translation_m=np.array([[0.5, 0.1, 5], [-1, 0, 6], [1, 0.2, 4.0]]),
        stature_m=body.stature(torch.from_numpy(shape).float()).double().numpy(), age_years=np.array([30.0, 5.0, 30.0]),
    )  # fmt: skip
    people = pose_people(people, body)
    ratio, moved = np.array([1.05, 0.7, 2.0]), np.array([True, True, False])
    camera = Camera.from_vertical_fov(1.0, 1280, 720)
    after = reshape_official(people, camera, body, ratio, moved).people

    np.testing.assert_array_equal(after.vertices_m[2], people.vertices_m[2])
    for person, axis in ((0, 0), (1, 10)):  # the adult grows along the first beta, the child along the kid axis
        less = shape[[person]].copy()
        less[:, axis] -= 1
        slope = people.stature_m[person] - body.stature(torch.from_numpy(less).float()).item()
        step = people.stature_m[person] * (ratio[person] - 1) / slope
        expected = shape[person].copy()
        expected[axis] += step
        np.testing.assert_allclose(after.shape[person], expected, atol=1e-4)
    np.testing.assert_allclose(after.translation_m[0], ratio[0] * people.translation_m[0])
    assert after.translation_m[1, 2] == pytest.approx(ratio[1] * people.translation_m[1, 2])
    # Before and after, the child's 24 OpenPose joints have the same mean in x and y, up to the scale r.
    points = [body.points[name] for name in _OPENPOSE24]
    old, new = (np.concatenate((p.joints_m[1], p.vertices_m[1]))[points, :2].mean(0) for p in (people, after))
    np.testing.assert_allclose(new, ratio[1] * old, atol=1e-5)
    again = pose_people(after, body)
    np.testing.assert_allclose(again.vertices_m, after.vertices_m, atol=1e-4)
