"""What the released DTO code does, restated from its observed behaviour so that its numbers can be compared.

It differs from the paper: separate near and far groups, a lower bound on the scale only, giants dropped one by one,
pairs never counted as optimised. Where following it would delete people or put them behind the camera, they keep
their place with a status instead. Nothing here is used by the other presets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float

from crowdmesh.body import SMPL, BodyModel
from crowdmesh.body.smpl import ADULT_AXIS, KID_AXIS
from crowdmesh.camera import Camera
from crowdmesh.dto.config import DTOConfig
from crowdmesh.dto.cues import Cues
from crowdmesh.dto.interval import ScaleInterval, is_planar, mean_slope
from crowdmesh.dto.priors import StaturePrior
from crowdmesh.dto.reshape import Reshaped, replace_rows, reshape
from crowdmesh.dto.solution import Solution, unsolved
from crowdmesh.dto.solve import DEGENERATE, FREE, LOWER, solve
from crowdmesh.people import People, PersonStatus

TALLEST_M = 2.1
"""A corrected stature above this is a giant: dropped from the solution."""
DEFAULT_SCALE = 20.0
"""Lower bound of the scale when nobody has a usable slope, in raw Depth Anything V2 units."""
FAR_RELATIVE_DEPTH = 0.02
"""1 / disparity beyond which a person belongs to the far group, in raw Depth Anything V2 units."""
FAR_SHARE = 0.25
"""A person whose two metres would cover less than this share of the short image side belongs to the far group."""
KID_AXIS_BELOW_M = 1.45
"""Corrected statures below this are reached along the kid axis whatever the age."""
SKIPPED_RESIDUAL = 3.0
"""What a dropped giant counts in the image score."""
MAX_ROUNDS = 10

_OPENPOSE24 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye",
    "left_eye", "right_ear", "left_ear", "left_toe", "left_small_toe", "left_heel", "right_toe", "right_small_toe",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class OfficialGroup:
    """The released solver's answer for one group of people.

    ``count`` people were optimised with mean absolute residual ``deviation``; ``skipped`` (K,) were dropped as giants.
    """

    scale: float
    shift: float
    count: int
    deviation: float
    skipped: Bool[np.ndarray, " K"]
    active: int


def solve_group(
    relative_depth: Float[np.ndarray, " K"],
    depth_m: Float[np.ndarray, " K"],
    stature_m: Float[np.ndarray, " K"],
    prior_mean_m: Float[np.ndarray, " K"],
    prior_std_m: Float[np.ndarray, " K"],
    spread: Float[np.ndarray, " K"],
    slope: Float[np.ndarray, " K"],
    correlation: Float[np.ndarray, " K"],
    config: DTOConfig,
) -> OfficialGroup:
    """The released loop: solve, bound the scale from below, drop the tallest giant, repeat (at most ten times)."""
    problem = (relative_depth, depth_m, stature_m, prior_mean_m, prior_std_m)
    lowest = mean_slope(slope, correlation, config.scale.min_correlation)
    lowest = DEFAULT_SCALE if lowest is None else lowest
    kept = np.ones(len(depth_m), bool)
    scale, shift, count, active = 0.0, 0.0, 0, FREE
    for _ in range(MAX_ROUNDS):
        d, z, h, mean, std = (values[kept] for values in problem)
        answer = solve(d, z, h, mean, std, (-np.inf, np.inf))
        planar = is_planar(relative_depth[kept], spread[kept], config.scale)
        bounded = planar or answer.active[0] == DEGENERATE or answer.scale[0] < lowest
        if bounded:
            answer = solve(d, z, h, mean, std, (lowest, lowest))
        scale, shift, active = float(answer.scale[0]), float(answer.shift[0]), LOWER if bounded else FREE
        if not bounded and kept.sum() == 2:
            # Pairs return at once: their statures equal the prior means and they never count as optimised.
            return OfficialGroup(scale, shift, 0, 0.0, ~kept, active)
        count = int(kept.sum())
        giants = answer.stature_m > TALLEST_M
        if not giants.any():
            break
        if kept.sum() <= 2:
            everybody = np.ones_like(kept)
            return OfficialGroup(0.0, float(depth_m.max()), 0, 0.0, everybody, active)
        kept[np.flatnonzero(kept)[answer.stature_m.argmax()]] = False
    # At the cap the last drop is not solved again: the count is from before it, the deviation from after it.
    stature = stature_m * (scale * relative_depth + shift) / depth_m
    deviation = np.abs((stature - prior_mean_m) / prior_std_m)[kept].mean()
    return OfficialGroup(scale, shift, count, float(deviation), ~kept, active)


def solve_official(
    cues: Cues, prior: StaturePrior, stature_m: Float[np.ndarray, " K"], pelvis_m: Float[np.ndarray, " K"],
    camera: Camera, config: DTOConfig,
) -> Solution:  # fmt: skip
    """Near and far people solved apart, the far group then pushed behind the near one.

    Args:
        pelvis_m: depth of each person (stands for the translation depth of the release).
    """
    status = cues.status.copy()
    short_side = min(camera.width, camera.height)
    far = (cues.relative_depth > FAR_RELATIVE_DEPTH) | (2 * camera.fy / pelvis_m / short_side < FAR_SHARE)
    near, far = cues.evident & ~far, cues.evident & far
    for group in (near, far):
        if group.sum() == 1:
            status[group] = PersonStatus.KEPT_ALONE
    relative, depth = cues.relative_depth.copy(), cues.depth_m.copy()

    def solved(group: np.ndarray, d: np.ndarray, z: np.ndarray) -> OfficialGroup | None:
        if group.sum() < 2:
            return None
        people = (d[group], z[group], stature_m[group], prior.mean_m[group], prior.std_m[group])
        return solve_group(*people, cues.spread[group], cues.slope[group], cues.correlation[group], config)

    near_answer, far_answer = solved(near, relative, depth), solved(far, relative, depth)
    if near_answer is not None:
        assert cues.lowest_relative_depth is not None and cues.lowest_depth_m is not None
        lowest = solved(near, cues.lowest_relative_depth, cues.lowest_depth_m)
        if lowest is not None and lowest.count >= near_answer.count and lowest.deviation < near_answer.deviation:
            near_answer = lowest
            relative[near], depth[near] = cues.lowest_relative_depth[near], cues.lowest_depth_m[near]
    if near_answer is None and far_answer is None:
        return unsolved(status, stature_m, ScaleInterval(0.0, np.inf, None, False))

    scale, shift = np.zeros(len(status)), depth.copy()
    skipped = np.zeros(len(status), bool)
    for group, answer in ((near, near_answer), (far, far_answer)):
        if answer is not None:
            scale[group], shift[group], skipped[group] = answer.scale, answer.shift, answer.skipped
    if near_answer is not None and far_answer is not None:
        behind = relative[near].max() * near_answer.scale + near_answer.shift - relative[far].min() * far_answer.scale
        shift[far] = max(far_answer.shift, behind)
    ratio = (scale * relative + shift) / np.where(depth > 0, depth, 1.0)
    wanted = stature_m * ratio
    moving = (near if near_answer is not None else near & False) | (far if far_answer is not None else far & False)
    skipped |= far & moving & (wanted > TALLEST_M)
    status[moving] = PersonStatus.PLACED
    status[moving & (ratio <= 0)] = PersonStatus.KEPT_IMPLAUSIBLE_DEPTH
    status[moving & skipped] = PersonStatus.KEPT_IMPLAUSIBLE_STATURE
    answers = [a for a in (near_answer, far_answer) if a is not None]
    counts = np.array([a.count for a in answers])
    residuals = sum(a.count * a.deviation for a in answers) + SKIPPED_RESIDUAL * skipped.sum()
    members = counts.sum() + skipped.sum()
    main = answers[int(counts.argmax())]
    notes = [f"{name} group: scale {a.scale:.6g}, shift {a.shift:.6g} m, {a.count} optimised"
             for name, a in (("near", near_answer), ("far", far_answer)) if a is not None]  # fmt: skip
    return Solution(
        status=status,
        depth_ratio=np.where(moving, ratio, 1.0),
        wanted_stature_m=np.where(moving, wanted, stature_m),
        stature_std_m=np.zeros(len(status)),
        score=float(residuals / members) if members else 0.0,
        scale=main.scale,
        shift=main.shift,
        active=main.active,
        interval=ScaleInterval(0.0, np.inf, None, False),
        solved=bool(counts.max() >= 2),
        notes=tuple(notes),
    )


@torch.no_grad()
def reshape_official(
    people: People,
    camera: Camera,
    body: BodyModel,
    depth_ratio: Float[np.ndarray, " K"],
    moved: Bool[np.ndarray, " K"],
    minor: Bool[np.ndarray, " K"],
) -> Reshaped:
    """The released move: the translation scales as a whole and one beta takes one linear step.

    Only a step along the kid axis is followed by a shift of x and y (mean over 24 OpenPose joints). For bodies other
    than SMPL with a kid axis the release defines nothing; they are reshaped as in the other presets.
    """
    if people.pose is None or not isinstance(body, SMPL) or not body.has_kid_axis:
        return reshape(people, camera, body, depth_ratio, moved)
    chosen = np.flatnonzero(moved)
    residual, limited = np.zeros(len(people)), np.zeros(len(people), bool)
    if len(chosen) == 0:
        return Reshaped(people, residual, limited)
    some, ratio = people[chosen], depth_ratio[chosen]
    assert some.pose is not None and some.shape is not None and some.joints_m is not None
    wanted = some.stature_m * ratio
    kid = (minor[chosen] & (ratio < 1)) | (wanted < KID_AXIS_BELOW_M)
    shape = torch.from_numpy(some.shape).float()
    stature, unit = body.stature(shape), torch.zeros_like(shape)
    unit[torch.arange(len(shape)), torch.from_numpy(np.where(kid, KID_AXIS, ADULT_AXIS))] = 1.0
    step = stature * torch.from_numpy(ratio - 1).float() / (stature - body.stature(shape - unit))
    shape_after = shape + step[:, None] * unit
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(some.pose).float())
    zero = torch.zeros(len(some), 3)
    before, after = body(shape, rotations, zero), body(shape_after, rotations, zero)
    assert before.vertices is not None and after.vertices is not None
    points = [body.points[name] for name in _OPENPOSE24]
    old = torch.cat((before.joints, before.vertices), 1)[:, points, :2].double().numpy()
    new = torch.cat((after.joints, after.vertices), 1)[:, points, :2].double().numpy()
    translation = some.translation_m * ratio[:, None]
    translation[:, :2] += np.where(kid[:, None], (ratio[:, None, None] * old - new).mean(1), 0.0)
    joints = after.joints.double().numpy() + translation[:, None]
    error = camera.project(joints) - camera.project(some.joints_m)
    residual[chosen] = np.sqrt((error**2).sum(-1).mean(1))
    updates = {
        "shape": shape_after.numpy(),
        "stature_m": body.stature(shape_after).numpy(),
        "translation_m": translation,
        "vertices_m": after.vertices.numpy() + translation[:, None],
        "joints_m": joints,
    }
    return Reshaped(replace_rows(people, chosen, updates), residual, limited)
