"""A single-person mesh network as a model of its errors: an adult in everybody, set where it reprojects best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import roma
import torch
from jaxtyping import Float

from crowdmesh.body import Anny, load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.people import People
from crowdmesh.synth.expert_errors import HmrErrors

_NOISY_BONES = (
    "spine05", "spine03", "spine01", "neck01", "upperleg01", "lowerleg01", "foot", "clavicle", "upperarm01",
    "lowerarm01", "wrist",
)  # fmt: skip
_FITTED_BONES = ("upperarm01", "lowerarm01", "wrist", "upperleg01", "lowerleg01", "foot", "neck01", "head", "root")
_PLAUSIBLE_M = (1.45, 2.00)
_ADULT_YEARS = 30.0
_NEAREST_M = 0.3
_NO_SPREAD = 1e-12
_LARGEST_POSE_GAIN = 2.0  # however hidden, a guessed pose stays a human one


def wrong_camera(camera: Camera, errors: HmrErrors, random: np.random.Generator) -> Camera:
    """The camera as a calibration network sees it: the same image, another focal length."""
    factor = (1.0 + errors.focal_bias) * float(np.exp(errors.focal_std * random.standard_normal()))
    return replace(camera, fx=camera.fx * factor, fy=camera.fy * factor)


def single_person_guess(
    people: People,
    camera: Camera,
    seen_camera: Camera,
    hidden_share: Float[np.ndarray, " K"],
    errors: HmrErrors,
    random: np.random.Generator,
) -> People:
    """One adult body per person, each fitted alone; its build is the average one of the true sex.

    The stature hardly follows the true one; pose and orientation are noisy; the translation is the least-squares one
    that puts the joints onto their true image points under ``seen_camera``, so that depth is consistent with the
    stature guessed, but for ``errors.depth_std``; a guessed pose adds no error of depth of its own.

    Args:
        people: the truth, posed. camera: the true camera.
        hidden_share: share of each person's silhouette that others hide; it strengthens all errors.
    """
    body = load_body("anny")
    assert people.joints_m is not None and people.pose is not None and people.male_probability is not None
    count = len(people)
    gain = 1.0 + errors.occlusion_gain * hidden_share
    stature = _seen_stature(people, errors, gain, random)
    shape = body.default_shape(count, _ADULT_YEARS, people.male_probability)
    shape, _ = body.with_stature(shape, torch.from_numpy(stature).to(shape), np.full(count, _ADULT_YEARS))
    stature = body.stature(shape).double().numpy()
    guess = replace(
        people,
        pose=_noisy_pose(people.pose, body, errors, gain, random),
        shape=shape.double().numpy(),
        stature_m=stature,
        translation_m=np.zeros((count, 3)),
        age_years=None,
        male_probability=None,
    )
    rays, weights = _image_rays(people.joints_m.astype(float), camera, seen_camera)
    # The size in the image is right on average: depth follows from the body in the true pose, whatever pose is guessed.
    true_pose = pose_people(replace(guess, pose=people.pose), body).joints_m
    joints = pose_people(guess, body).joints_m
    assert true_pose is not None and joints is not None and body.pelvis is not None
    fitted = [i for i, name in enumerate(body.joint_names) if name.split(".")[0] in _FITTED_BONES]
    rays, weights = rays[:, fitted], weights[:, fitted]
    centred = true_pose[:, fitted].astype(float) - true_pose[:, [body.pelvis]]
    noise = np.exp(errors.depth_std * gain * random.standard_normal(count))
    depth = np.maximum(_fit_pelvis(centred, rays, weights)[:, 2] * noise, _NEAREST_M)
    centred = joints[:, fitted].astype(float) - joints[:, [body.pelvis]]
    pelvis = _fit_pelvis(centred, rays, weights, depth)
    guess = replace(guess, translation_m=pelvis - joints[:, body.pelvis].astype(float))
    return pose_people(guess, body)


def _seen_stature(people: People, errors: HmrErrors, gain: np.ndarray, random: np.random.Generator) -> np.ndarray:
    assert people.joints_m is not None
    follow = errors.stature_mean_m + errors.stature_follow * (people.stature_m - errors.stature_mean_m)
    # How upright somebody is: extent along the image's vertical over the stature.
    extent = np.ptp(people.joints_m[..., 1].astype(float), axis=1) / (0.9 * people.stature_m)
    crouching = 1.0 - np.clip(extent, 0.0, 1.0)
    noise = errors.stature_std_m * gain * random.standard_normal(len(people))
    low, high = _PLAUSIBLE_M
    return np.clip(follow - errors.crouch_bias_m * crouching + noise, low, high)


def _noisy_pose(
    pose: np.ndarray, body: Anny, errors: HmrErrors, gain: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    spread = np.zeros((len(body.joint_names), 1))
    for i, name in enumerate(body.joint_names):
        if name.split(".")[0] in _NOISY_BONES:
            spread[i] = np.radians(errors.pose_deg)
    spread[0] = np.radians(errors.orientation_deg)
    gain = np.minimum(gain, _LARGEST_POSE_GAIN)
    turn = random.standard_normal(pose.shape) / np.sqrt(3.0) * spread * gain[:, None, None]
    rotation = roma.rotvec_to_rotmat(torch.from_numpy(pose)) @ roma.rotvec_to_rotmat(torch.from_numpy(turn))
    return roma.rotmat_to_rotvec(rotation).numpy()


def _image_rays(joints_m: np.ndarray, camera: Camera, seen_camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Viewing rays (x / z, y / z) of image points under the camera believed in, and how much each point counts."""
    in_front = joints_m[..., 2] > 0.05
    points = camera.project(np.where(in_front[..., None], joints_m, (0.0, 0.0, 1.0)))
    inside = ((points >= 0) & (points <= (camera.width, camera.height))).all(-1)
    rays = (points - (seen_camera.cx, seen_camera.cy)) / (seen_camera.fx, seen_camera.fy)
    return rays, np.where(in_front, np.where(inside, 1.0, 0.1), 1e-6)


def _fit_pelvis(
    joints: np.ndarray, rays: np.ndarray, weights: np.ndarray, depth: np.ndarray | None = None
) -> Float[np.ndarray, "K 3"]:
    """Where the pelvis must be for centred joints to fall onto their rays: linear least squares in (x, y, z).

    X + x = r (Z + z) per joint and image axis; with ``depth`` only x and y are solved. Solved depths are at least
    ``_NEAREST_M``, which also stands where nothing is known: no joint before the camera.
    """
    gap = rays * joints[..., 2:] - joints[..., :2]
    total = weights.sum(1)[:, None]
    mean_ray = (weights[..., None] * rays).sum(1) / total
    mean_gap = (weights[..., None] * gap).sum(1) / total
    if depth is None:
        spread = (weights[..., None] * (rays - mean_ray[:, None]) ** 2).sum((1, 2))
        along = (weights[..., None] * (rays - mean_ray[:, None]) * (gap - mean_gap[:, None])).sum((1, 2))
        known = spread > _NO_SPREAD
        depth = np.maximum(np.where(known, -along / np.where(known, spread, 1.0), 0.0), _NEAREST_M)
    return np.concatenate((mean_gap + mean_ray * depth[:, None], depth[:, None]), 1)
