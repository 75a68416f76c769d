"""The landmark fit on landmarks of posed bodies whose pose, place and size are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import roma
import torch

from crowdmesh.body import load_body
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.experts._chain import Chain, adult_chain
from crowdmesh.experts._landmark_solve import State, _expand
from crowdmesh.experts._landmark_start import first_guess, gather
from crowdmesh.experts.base import BodyLandmarks, Detections, InputImage, Keypoints
from crowdmesh.experts.landmark_fit import LandmarkFitResult, fit_landmarks, fit_people

CAMERA = Camera.from_long_side_fov(np.radians(60), 1280, 720)
BODY = load_body("anny")
CHAIN = adult_chain(BODY)
LEFT_ELBOW, LEFT_WRIST, LEFT_HAND = 13, 15, (17, 19, 21)
LEFT_RIGHT = [(i, i + 1) for i in range(7, 33, 2)] + [(2, 5)]


@dataclass(frozen=True, eq=False)
class Crowd:
    """People whose truth is known, and what a landmark network would say of them."""

    rotations: torch.Tensor
    translation: torch.Tensor
    joints_m: np.ndarray
    landmarks: BodyLandmarks
    boxes_px: np.ndarray

    def fit(self, landmarks: BodyLandmarks | None = None) -> LandmarkFitResult:
        return fit_landmarks(BODY, CAMERA, landmarks or self.landmarks, self.boxes_px)


def posed_crowd(count: int, seed: int = 0, spread: float = 0.4, chain: Chain = CHAIN) -> Crowd:
    """People in random poses around the relaxed one, looking anywhere within 60 degrees of the camera."""
    random = np.random.default_rng(seed)
    angles = CHAIN.relaxed + spread * torch.from_numpy(random.normal(size=(count, len(CHAIN.bone)))) * CHAIN.spread
    angles = torch.minimum(torch.maximum(angles, CHAIN.low), CHAIN.high)
    angles[:, :3] = 0.0
    rotations = CHAIN.turned(torch.eye(3, dtype=torch.float64).repeat(count, 104, 1, 1), angles)
    turn = np.radians(np.stack((random.uniform(-10, 10, count), random.uniform(-60, 60, count), np.zeros(count)), 1))
    rotations[:, 0] = roma.rotvec_to_rotmat(torch.from_numpy(turn)) @ torch.from_numpy(BODY.facing_camera)
    z = random.uniform(3, 8, count)
    translation = torch.from_numpy(
        np.stack((random.uniform(-0.4, 0.4, count) * z, random.uniform(-0.1, 0.1, count) * z, z), 1)
    )
    return seen(chain, rotations, translation)


def seen(chain: Chain, rotations: torch.Tensor, translation: torch.Tensor) -> Crowd:
    points = chain.pose(rotations, translation).points.numpy()
    _, joints = BODY.tree(chain.rest_joints.expand(len(points), -1, -1), rotations)
    px = np.full((len(points), 33, 2), 1e4)  # the landmarks that the fit does not use
    px[:, CHAIN.landmarks] = CAMERA.project(points)
    boxes = np.concatenate((px[:, CHAIN.landmarks].min(1), px[:, CHAIN.landmarks].max(1)), 1)
    ahead = CAMERA.unproject((boxes[:, :2] + boxes[:, 2:]) / 2, np.ones(len(points)))
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    axis = np.cross([0.0, 0.0, 1.0], ahead)
    angle = np.arccos(ahead[:, 2:])
    straight = roma.rotvec_to_rotmat(torch.from_numpy(axis / np.sin(angle) * angle)).numpy()
    world = np.zeros((len(points), 33, 3))
    used = CHAIN.landmarks.tolist()
    middle = points[:, [used.index(23), used.index(24)]].mean(1, keepdims=True)
    world[:, used] = (points - middle) @ straight
    landmarks = BodyLandmarks(px, np.ones((len(points), 33)), world, np.ones(len(points)))
    return Crowd(rotations, translation, (joints + translation[:, None]).numpy(), landmarks, boxes)


def joints_of(result: LandmarkFitResult) -> np.ndarray:
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(result.pose))
    _, joints = BODY.tree(CHAIN.rest_joints.expand(len(rotations), -1, -1), rotations)
    return joints.numpy() + result.translation_m[:, None]


def hidden(landmarks: BodyLandmarks, which: list[int], visibility: float = 0.0) -> BodyLandmarks:
    changed = landmarks.visibility.copy()
    changed[:, which] = visibility
    return replace(landmarks, visibility=changed)


def main_joints() -> list[int]:
    return [*CHAIN.limbs.flatten().tolist(), BODY.joint_names.index("head"), 0]


def test_posed_adults_are_recovered():
    people = posed_crowd(16)
    result = people.fit()
    joints = joints_of(result)
    assert result.error_px.max() < 1.0
    np.testing.assert_allclose(joints[:, 0, 2], people.joints_m[:, 0, 2], rtol=0.01)
    error_m = np.linalg.norm(joints - people.joints_m, axis=-1)[:, main_joints()]
    assert error_m.mean() < 0.03
    assert error_m.mean(1).max() < 0.06


def test_noise_moves_the_body_no_more_than_the_landmarks():
    people = posed_crowd(12, seed=1)
    random = np.random.default_rng(2)
    noisy = replace(
        people.landmarks,
        px=people.landmarks.px + random.normal(0, 3, people.landmarks.px.shape),
        world_m=people.landmarks.world_m + random.normal(0, 1, (12, 33, 3)) * (0.01, 0.01, 0.04),
    )
    result = people.fit(noisy)
    assert 2.0 < result.error_px.mean() < 4.5  # 3 px per axis are 3.8 px; fitting swallows some of it
    np.testing.assert_allclose(joints_of(result)[:, 0, 2], people.joints_m[:, 0, 2], rtol=0.06)
    assert np.linalg.norm(joints_of(result) - people.joints_m, axis=-1)[:, main_joints()].mean() < 0.1


def test_hidden_landmarks_do_not_pull_however_wrong_they_are():
    people = posed_crowd(8, seed=3)
    arm = [LEFT_ELBOW, LEFT_WRIST, *LEFT_HAND]
    wrong = people.landmarks.px.copy()
    wrong[:, arm] = (5000.0, -3000.0)
    result = people.fit(hidden(replace(people.landmarks, px=wrong), arm))
    rest = people.fit(hidden(people.landmarks, arm))
    np.testing.assert_allclose(result.pose, rest.pose, atol=1e-9)
    assert result.error_px.max() < 1.0
    np.testing.assert_allclose(joints_of(result)[:, 0, 2], people.joints_m[:, 0, 2], rtol=0.015)


def test_one_outlier_is_outvoted():
    people = posed_crowd(8, seed=4)
    px = people.landmarks.px.copy()
    px[:, LEFT_WRIST] += 150.0
    result = people.fit(replace(people.landmarks, px=px))
    np.testing.assert_allclose(joints_of(result)[:, 0, 2], people.joints_m[:, 0, 2], rtol=0.04)


def test_legs_outside_the_image_hang_down():
    people = posed_crowd(8, seed=5, spread=0.2)
    legs = list(range(25, 33))
    nothing_known = replace(people.landmarks, world_m=people.landmarks.world_m.copy())
    nothing_known.world_m[:, legs] = np.nan
    joints = joints_of(people.fit(hidden(nothing_known, legs)))
    down = joints[:, CHAIN.limbs[2:, 2]] - joints[:, CHAIN.limbs[2:, 0]]
    assert np.all(down[..., 1] > 0.7 * np.linalg.norm(down, axis=-1))


def test_garbage_still_gives_a_human_pose():
    random = np.random.default_rng(6)
    count = 30
    landmarks = BodyLandmarks(
        px=random.uniform(0, 700, (count, 33, 2)),
        visibility=random.uniform(0, 1, (count, 33)),
        world_m=random.normal(0, 0.5, (count, 33, 3)),
        presence=np.ones(count),
    )
    result = fit_landmarks(BODY, CAMERA, landmarks, np.tile((0.0, 0.0, 700.0, 700.0), (count, 1)))
    hinges = CHAIN.hinge.tolist()
    bent = torch.from_numpy(result.pose)[:, CHAIN.bone[hinges]] @ CHAIN.axis[hinges].mT
    bent = bent.diagonal(dim1=1, dim2=2)
    slack = np.radians(20)
    assert torch.all((bent > CHAIN.low[hinges] - slack) & (bent < CHAIN.high[hinges] + slack))
    assert np.isfinite(result.translation_m).all() and np.all(joints_of(result)[:, 0, 2] > 0)


def test_a_crowd_is_fitted_as_each_alone():
    people = posed_crowd(5, seed=7)
    together = people.fit()
    for k in range(5):
        alone = fit_landmarks(
            BODY,
            CAMERA,
            BodyLandmarks(
                *(getattr(people.landmarks, name)[k : k + 1] for name in ("px", "visibility", "world_m", "presence"))
            ),
            people.boxes_px[k : k + 1],
        )
        np.testing.assert_allclose(alone.translation_m[0], together.translation_m[k], atol=1e-6)
        np.testing.assert_allclose(alone.pose[0], together.pose[k], atol=1e-6)


def test_the_mirror_image_gives_the_mirrored_body():
    people = posed_crowd(6, seed=8)
    order = np.arange(33)
    for left, right in LEFT_RIGHT:
        order[[left, right]] = right, left
    mirrored = replace(
        people.landmarks,
        px=people.landmarks.px[:, order] * (-1, 1) + (CAMERA.width, 0),
        world_m=people.landmarks.world_m[:, order] * (-1, 1, 1),
    )
    boxes = people.boxes_px[:, [2, 1, 0, 3]] * (-1, 1, -1, 1) + (CAMERA.width, 0, CAMERA.width, 0)
    other = fit_landmarks(BODY, CAMERA, mirrored, boxes)
    result = people.fit()
    np.testing.assert_allclose(other.translation_m, result.translation_m * (-1, 1, 1), atol=2e-3)
    np.testing.assert_allclose(other.error_px, result.error_px, atol=0.02)


def test_a_child_comes_out_as_an_adult_farther_away():
    adults = posed_crowd(8, seed=9, spread=0.2)
    shape = BODY.default_shape(1, 6.0)
    ratio = float(BODY.stature(CHAIN.shape) / BODY.stature(shape))
    child = replace(CHAIN, rest_joints=BODY.rest_joints(shape)[0].double(), point_offset=CHAIN.point_offset / ratio)
    children = seen(child, adults.rotations, adults.translation)
    result = children.fit()
    depth_ratio = joints_of(result)[:, 0, 2] / children.joints_m[:, 0, 2]
    assert 1.35 < ratio < 1.6
    np.testing.assert_allclose(depth_ratio, ratio, rtol=0.12)
    height_px = children.boxes_px[:, 3] - children.boxes_px[:, 1]
    assert np.all(result.error_px < 0.03 * height_px)


def test_somebody_without_landmarks_fills_the_box():
    people = posed_crowd(2)
    boxes = np.array([[300.0, 100.0, 500.0, 600.0], [900.0, 200.0, 1000.0, 420.0]])
    blind = hidden(people.landmarks, list(range(33)))
    result = fit_landmarks(BODY, CAMERA, blind, boxes)
    assert np.isnan(result.error_px).all()
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(result.pose)).float()
    vertices = BODY(
        CHAIN.shape.repeat(2, 1), rotations, torch.from_numpy(result.translation_m).float()
    ).vertices.numpy()
    px = CAMERA.project(vertices)
    assert np.all(px[..., 1].min(1) > boxes[:, 1] - 10) and np.all(px[..., 1].max(1) < boxes[:, 3] + 10)
    np.testing.assert_allclose(np.ptp(px[..., 1], axis=1), boxes[:, 3] - boxes[:, 1], rtol=0.05)
    np.testing.assert_allclose((px[..., 0].min(1) + px[..., 0].max(1)) / 2, (boxes[:, 0] + boxes[:, 2]) / 2, atol=10)


def test_three_landmarks_are_not_enough_but_are_measured():
    people = posed_crowd(1)
    few = hidden(people.landmarks, [i for i in range(33) if i not in (11, 12, 23)])
    result = people.fit(few)
    blind = people.fit(hidden(people.landmarks, list(range(33))))
    np.testing.assert_array_equal(result.translation_m, blind.translation_m)
    assert result.error_px[0] > 0


@pytest.mark.parametrize("degenerate", ["one point", "nan", "no depth", "tiny box", "huge"])
def test_degenerate_input_gives_finite_bodies(degenerate):
    people = posed_crowd(3, seed=10)
    landmarks, boxes = people.landmarks, people.boxes_px.copy()
    px, world = landmarks.px.copy(), landmarks.world_m.copy()
    if degenerate == "one point":
        px[1] = px[1, 0]
    elif degenerate == "nan":
        px[1], world[1, 5:] = np.nan, np.nan
    elif degenerate == "no depth":
        world[1] = 0.0
    elif degenerate == "tiny box":
        boxes[1, 2:] = boxes[1, :2]
    else:
        px[1] *= 1e6
    changed = replace(landmarks, px=px, world_m=world)
    result = fit_landmarks(BODY, CAMERA, changed, boxes)
    assert np.isfinite(result.pose).all() and np.isfinite(result.translation_m).all()
    assert np.all(joints_of(result)[:, 0, 2] > 0)
    undisturbed = people.fit()
    np.testing.assert_allclose(result.translation_m[[0, 2]], undisturbed.translation_m[[0, 2]], atol=1e-6)


def test_nobody():
    people = posed_crowd(0)
    result = people.fit()
    assert result.pose.shape == (0, 104, 3) and result.translation_m.shape == (0, 3) and result.error_px.shape == (0,)


def test_gradient_is_the_derivative_of_the_cost():
    people = posed_crowd(3, seed=11, spread=0.8)
    noisy = replace(people.landmarks, px=people.landmarks.px + np.random.default_rng(0).normal(0, 20, (3, 33, 2)))
    evidence = gather(CHAIN, CAMERA, noisy, people.boxes_px)
    start = State.at(CHAIN, *first_guess(CHAIN, evidence))
    state = start.moved(CHAIN, torch.full((3, len(CHAIN.bone) + 3), 0.03, dtype=torch.float64))
    gradient = _expand(CHAIN, evidence, state, start).gradient
    size, step = gradient.shape[1], 1e-6
    for n in range(size):
        unit = step * torch.nn.functional.one_hot(torch.tensor(n), size).double()[None]
        costs = [
            _expand(CHAIN, evidence, state.moved(CHAIN, sign * unit.expand(3, -1)), start).cost for sign in (1, -1)
        ]
        difference = (costs[0] - costs[1]) / (2 * step)
        torch.testing.assert_close(gradient[:, n], difference, rtol=1e-4, atol=1e-3)


def test_the_expert_returns_people_with_their_evidence():
    people = posed_crowd(3, seed=12)
    detections = Detections(people.boxes_px.clip(0), np.array([0.9, 0.8, 0.7]))
    coco = np.random.default_rng(0).uniform(0, 700, (3, 17, 3))
    unknown = coco.copy()
    unknown[1, 4, 0] = np.nan
    coco[1, 4] = 0.0
    fitted = fit_people(CAMERA, detections, Keypoints(unknown, people.landmarks))
    assert fitted.body == "anny" and fitted.age_years is None
    np.testing.assert_allclose(fitted.stature_m, float(BODY.stature(BODY.default_shape(1))), rtol=1e-6)
    np.testing.assert_array_equal(fitted.keypoints_px, coco)
    np.testing.assert_allclose(fitted.joints_m, people.joints_m, atol=0.25)
    assert fitted.fit_error_px.max() < 1.0 and fitted.vertices_m.shape == (3, BODY.num_vertices, 3)


def test_the_expert_says_what_it_is_missing():
    people = posed_crowd(2)
    detections = Detections(people.boxes_px, np.ones(2))
    with pytest.raises(InputError, match="33 body landmarks"):
        fit_people(CAMERA, detections, Keypoints(np.zeros((2, 17, 3))))
    one = Detections(people.boxes_px[:1], np.ones(1))
    with pytest.raises(InputError, match="2 people do not belong to 1"):
        fit_people(CAMERA, one, Keypoints(np.zeros((2, 17, 3)), people.landmarks))


def test_bodies_cover_the_people_of_a_photograph(photos):
    from crowdmesh.experts.lite_persons import YoloxPersons
    from crowdmesh.experts.lite_pose import BlazePose
    from crowdmesh.images import read_image
    from crowdmesh.raster import rasterize

    image = read_image(photos / "soccer.jpg")
    height, width = image.shape[:2]
    camera = Camera.from_long_side_fov(np.radians(60), width, height)
    (detections,) = YoloxPersons().detect([InputImage(image)])
    (keypoints,) = BlazePose().locate([InputImage(image)], [detections])
    people = fit_people(camera, detections, keypoints)
    assert people.fit_error_px.max() < 0.01 * height
    drawn = rasterize(torch.from_numpy(people.vertices_m), BODY.faces, camera.K, (height, width)).person.numpy()
    for k, mask in enumerate(keypoints.masks.to_dense()):
        covered = drawn == k
        assert (covered & mask).sum() > 0.6 * (covered | mask).sum()
