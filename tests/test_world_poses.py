"""People of the synthetic world: joint angles that mean what anatomy says, families of poses, ages and statures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import roma
import torch

from crowdmesh.body import load_body
from crowdmesh.body.growth import ADULT_FEMALE_STATURE_M, ADULT_MALE_STATURE_M, lms, stature_at
from crowdmesh.synth.config import PRESETS, WorldConfig
from crowdmesh.synth.staging.anatomy import (
    ANGLE_LIMITS,
    ANGLES,
    clip_to_limits,
    joint_angles_within_limits,
    pose_from_angles,
)
from crowdmesh.synth.staging.crowd import draw_crowd, exact_body
from crowdmesh.synth.staging.figures import draw_figures
from crowdmesh.synth.staging.poses import FAMILIES, family_for_age, sample_angles, sample_pose

BODY = load_body("anny")
JOINT = {name: i for i, name in enumerate(BODY.joint_names)}


def posed(angles: dict[str, float], age: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """Joints of one body in these angles, level frame (y down, facing -z), and its rest joints."""
    row = np.zeros((1, len(ANGLES)))
    for name, value in angles.items():
        row[0, ANGLES[name]] = value
    body = exact_body()
    shape = body.default_shape(1, age, 0.5)
    rest = body.rest_joints(shape).numpy()
    turns = roma.rotvec_to_rotmat(torch.from_numpy(pose_from_angles(row, rest, body)))
    return body(shape, turns, torch.zeros(1, 3).double(), vertices=False).joints.numpy()[0], rest[0]


def between(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.acos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1)))


# Angles mean what anatomy says -------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [0.5, 6.0, 30.0])
def test_neutral_is_the_anatomical_position(age):
    joints, _ = posed({}, age)
    down = np.array((0.0, 1.0, 0.0))
    for side in "LR":
        for first, second in (
            ("upperarm01", "lowerarm01"),
            ("lowerarm01", "wrist"),
            ("upperleg01", "lowerleg01"),
            ("lowerleg01", "foot"),
        ):
            limb = joints[JOINT[f"{second}.{side}"]] - joints[JOINT[f"{first}.{side}"]]
            assert between(limb, down) < 0.01


@pytest.mark.parametrize("angle", [20.0, 90.0, 130.0])
@pytest.mark.parametrize("side", ["l", "r"])
def test_elbows_and_knees_bend_by_their_angle_and_the_right_way(angle, side):
    joints, _ = posed({f"elbow_flexion_{side}": angle, f"knee_flexion_{side}": angle})
    place = {name: joints[JOINT[f"{name}.{side.upper()}"]] for name in ("lowerarm01", "wrist", "lowerleg01", "foot")}
    fore, shin = place["wrist"] - place["lowerarm01"], place["foot"] - place["lowerleg01"]
    down = np.array((0.0, 1.0, 0.0))
    assert between(fore, down) == pytest.approx(angle, abs=0.01)
    assert between(shin, down) == pytest.approx(angle, abs=0.01)
    assert fore[2] < 0 < shin[2]  # the hand comes forward, towards the camera; the foot goes back


@pytest.mark.parametrize(("side", "outward"), [("l", 1.0), ("r", -1.0)])
def test_hip_and_shoulder_move_the_named_way(side, outward):
    def limb(joints: np.ndarray, first: str, second: str) -> np.ndarray:
        bone = joints[JOINT[f"{second}.{side.upper()}"]] - joints[JOINT[f"{first}.{side.upper()}"]]
        return bone / np.linalg.norm(bone)

    half = math.sqrt(0.5)
    flexed, _ = posed({f"hip_flexion_{side}": 45.0, f"shoulder_plane_{side}": 90.0, f"shoulder_elevation_{side}": 45.0})
    for first, second in (("upperleg01", "lowerleg01"), ("upperarm01", "lowerarm01")):
        np.testing.assert_allclose(limb(flexed, first, second), (0.0, half, -half), atol=1e-6)
    abducted, _ = posed({f"hip_abduction_{side}": 45.0, f"shoulder_elevation_{side}": 45.0})
    for first, second in (("upperleg01", "lowerleg01"), ("upperarm01", "lowerarm01")):
        np.testing.assert_allclose(limb(abducted, first, second), (outward * half, half, 0.0), atol=1e-6)
    # External rotation of the bent arm points the hand outwards.
    turned, _ = posed({f"elbow_flexion_{side}": 90.0, f"shoulder_rotation_{side}": 45.0})
    np.testing.assert_allclose(limb(turned, "lowerarm01", "wrist"), (outward * half, 0.0, -half), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_the_joint_limits(family):
    ages = np.random.default_rng(1).uniform(0.0, 90.0, 200)
    angles = sample_angles(family, ages, np.random.default_rng(2))
    assert joint_angles_within_limits(angles).all()
    # Not everybody does the same.
    assert len(np.unique(angles.round(3), axis=0)) == len(angles)


@pytest.mark.parametrize("family", ["standing", "walking", "sitting on a chair", "kneeling", "jumping"])
def test_elbow_and_knee_angles_measured_on_the_skeleton_keep_the_limits(family):
    """Independent of the angles that were asked for: from the posed joints alone."""
    crowd = draw_crowd(WorldConfig(minors_share=0.0), 40, np.random.default_rng(3))
    for figure in draw_figures(crowd, [family] * 40, np.random.default_rng(4)):
        joints = figure.joints_m
        for side in "LR":
            for first, hinge, last, name in (
                ("upperarm01", "lowerarm01", "wrist", "elbow_flexion_l"),
                ("upperleg01", "lowerleg01", "foot", "knee_flexion_l"),
            ):
                a, b, c = (joints[JOINT[f"{bone}.{side}"]] for bone in (first, hinge, last))
                low, high = ANGLE_LIMITS[name]
                assert low - 0.01 <= between(b - a, c - b) <= high + 0.01


def test_limits_reject_and_clip():
    angles = np.zeros((3, len(ANGLES)))
    angles[1, ANGLES["knee_flexion_l"]] = -5.0
    angles[2, ANGLES["hip_flexion_r"]] = 160.0
    np.testing.assert_array_equal(joint_angles_within_limits(angles), [True, False, False])
    assert joint_angles_within_limits(clip_to_limits(angles)).all()


def test_newborns_neither_stand_nor_walk():
    random = np.random.default_rng(0)
    for family in ("standing", "walking", "reaching", "kneeling", "sitting"):
        assert family_for_age(family, 0.1, random) == "baby lying"
        assert family_for_age(family, 0.8, random) in ("baby lying", "crawling", "baby sitting")
        assert family_for_age(family, 5.0, random) == family


def test_sample_pose_gives_axis_angle_poses():
    pose = sample_pose("walking", np.array([20.0, 40.0]), np.random.default_rng(0), BODY)
    assert pose.shape == (2, len(BODY.joint_names), 3)
    assert np.isfinite(pose).all()


# Who is there ------------------------------------------------------------------------------------------------------


def test_statures_follow_the_growth_charts_and_the_adult_gaussians():
    crowd = draw_crowd(PRESETS["mixed"], 3000, np.random.default_rng(0))
    age, male = crowd.age_years, crowd.male > 0.5
    assert 0.3 < (age < 18.0).mean() < 0.4
    assert 0.45 < male.mean() < 0.55
    assert age.min() < 0.5
    assert age.max() > 80.0
    for sex, (mean, std) in ((True, ADULT_MALE_STATURE_M), (False, ADULT_FEMALE_STATURE_M)):
        adults = crowd.stature_m[(age >= 20.0) & (male == sex)]
        assert adults.mean() == pytest.approx(mean, abs=0.01)
        assert adults.std() == pytest.approx(std, rel=0.12)
        children = (age < 15.0) & (male == sex)
        _, median, variation = lms(age[children], sex)
        z = (crowd.stature_m[children] / median - 1.0) / variation
        assert abs(np.median(z)) < 0.15
        assert z.std() == pytest.approx(1.0, rel=0.15)
        low, high = (stature_at(np.full(len(age), z), age, sex) for z in (-3.01, 3.01))
        mine = male == sex
        assert ((crowd.stature_m >= low - 2e-3) & (crowd.stature_m <= high + 2e-3))[mine].mean() > 0.995


def test_without_spread_everybody_has_the_mean_stature():
    config = replace(PRESETS["demo"], stature_spread=0.0)
    crowd = draw_crowd(config, 6, np.random.default_rng(0))
    zero = np.zeros(6)
    mean = np.where(crowd.male > 0.5, stature_at(zero, crowd.age_years, True), stature_at(zero, crowd.age_years, False))
    np.testing.assert_allclose(crowd.stature_m, mean, atol=1e-3)


def test_ages_keep_their_range():
    for low, high in ((30.0, 40.0), (2.0, 9.0), (10.0, 30.0)):
        ages = draw_crowd(WorldConfig(ages_years=(low, high)), 100, np.random.default_rng(0)).age_years
        assert low <= ages.min()
        assert ages.max() <= high
