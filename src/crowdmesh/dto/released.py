"""What the released DTO code does, restated from its observed behaviour so that its numbers can be compared.

It differs from the paper: separate near and far groups, a lower bound on the scale only, giants dropped one by one,
pairs never counted as optimised. It departs from the release in three places: people whom the release deletes keep
their place with a status; so do people whom it would put behind the camera; and where everybody lies at one depth
without any spread (the release divides by zero there) the scale is the lower bound. Nothing here is used by the other
presets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float

from crowdmesh.body import SMPL, BodyModel
from crowdmesh.body.growth import MINOR_AGE_YEARS
from crowdmesh.body.smpl import ADULT_AXIS, KID_AXIS
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto.config import DTOConfig
from crowdmesh.dto.cues import Cues
from crowdmesh.dto.interval import UNBOUNDED, is_planar, mean_slope
from crowdmesh.dto.priors import StaturePrior
from crowdmesh.dto.reshape import Reshaped, replace_rows, reshape
from crowdmesh.dto.solution import Solution, unsolved
from crowdmesh.dto.solve import DEGENERATE, FREE, LOWER, solve
from crowdmesh.errors import InputError
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

    ``count`` people were optimised with mean absolute residual ``deviation``; ``skipped`` (K,) were dropped as giants;
    ``stature_std_m`` (K,) is the posterior spread of those who were not.
    """

    scale: float
    shift: float
    count: int
    deviation: float
    skipped: Bool[np.ndarray, " K"]
    active: int
    stature_std_m: Float[np.ndarray, " K"]


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
    scale, shift, count, active, spread_m = 0.0, 0.0, 0, FREE, np.zeros(len(depth_m))
    for _ in range(MAX_ROUNDS):
        d, z, h, mean, std = (values[kept] for values in problem)
        answer = solve(d, z, h, mean, std, (-np.inf, np.inf))
        planar = is_planar(relative_depth[kept], spread[kept], config.scale)
        bounded = planar or answer.active[0] == DEGENERATE or answer.scale[0] < lowest
        if bounded:
            answer = solve(d, z, h, mean, std, (lowest, lowest))
        scale, shift, active = float(answer.scale[0]), float(answer.shift[0]), LOWER if bounded else FREE
        spread_m[kept] = answer.stature_std_m
        if not bounded and kept.sum() == 2:
            # Pairs return at once: their statures equal the prior means and they never count as optimised.
            return OfficialGroup(scale, shift, 0, 0.0, ~kept, active, spread_m)
        count = int(kept.sum())
        giants = answer.stature_m > TALLEST_M
        if not giants.any():
            break
        if kept.sum() <= 2:
            everybody = np.ones_like(kept)
            return OfficialGroup(0.0, float(depth_m.max()), 0, 0.0, everybody, active, spread_m)
        kept[np.flatnonzero(kept)[answer.stature_m.argmax()]] = False
    # At the cap the last drop is not solved again: the count is from before it, the deviation from after it.
    stature = stature_m * (scale * relative_depth + shift) / depth_m
    deviation = np.abs((stature - prior_mean_m) / prior_std_m)[kept].mean()
    return OfficialGroup(scale, shift, count, float(deviation), ~kept, active, spread_m)


def require_disparity(depth: RelativeDepth) -> None:
    """The release's thresholds are in raw Depth Anything V2 units: refuse every other kind of map."""
    if depth.kind != "disparity":
        raise InputError(
            "preset 'official' works on raw Depth Anything V2 disparity only, "
            f"not on {depth.kind}; use 'best' or 'paper'"
        )


@dataclass(frozen=True, eq=False)
class _Group:
    """One of the release's groups: who is in it (K,), with which cues (K,), and its answer."""

    name: str
    member: np.ndarray
    relative: np.ndarray
    depth: np.ndarray
    answer: OfficialGroup

    @property
    def unshifted_nearest_m(self) -> float:
        """Corrected depth of its nearest member less the shift, metres."""
        return float(self.relative[self.member].min() * self.answer.scale)

    @property
    def farthest_m(self) -> float:
        """Corrected depth of its farthest member, metres."""
        return float(self.relative[self.member].max() * self.answer.scale + self.answer.shift)


def solve_official(
    cues: Cues,
    prior: StaturePrior,
    stature_m: Float[np.ndarray, " K"],
    pelvis_m: Float[np.ndarray, " K"],
    camera: Camera,
    config: DTOConfig,
) -> Solution:
    """Near and far people solved apart, the far group then pushed behind the near one.

    Args:
        pelvis_m: depth of each person (stands for the translation depth of the release).
    """
    status = cues.status.copy()
    share = 2 * camera.fy / np.maximum(pelvis_m, 1e-6) / min(camera.width, camera.height)
    distant = (cues.relative_depth > FAR_RELATIVE_DEPTH) | (share < FAR_SHARE)
    far = distant if config.scale.split_far else np.zeros(len(status), bool)
    groups = []
    for name, member in (("near", cues.evident & ~far), ("far", cues.evident & far)):
        if member.sum() == 1:
            status[member] = PersonStatus.KEPT_ALONE
        elif member.any():
            groups.append(_solved(name, member, cues, prior, stature_m, config))
    if not groups:
        return unsolved(status, stature_m, UNBOUNDED)
    if len(groups) == 2:
        near, pushed = groups
        behind = max(pushed.answer.shift, near.farthest_m - pushed.unshifted_nearest_m)
        groups[1] = replace(pushed, answer=replace(pushed.answer, shift=behind))

    ratio, wanted, spread = np.ones(len(status)), stature_m.copy(), np.zeros(len(status))
    skipped = np.zeros(len(status), bool)
    for group in groups:
        who, answer = group.member, group.answer
        ratio[who] = (answer.scale * group.relative[who] + answer.shift) / group.depth[who]
        wanted[who] = stature_m[who] * ratio[who]
        spread[who], skipped[who] = answer.stature_std_m, answer.skipped
        if group.name == "far":
            skipped |= who & (wanted > TALLEST_M)
        status[who] = PersonStatus.PLACED
    status[ratio <= 0] = PersonStatus.KEPT_IMPLAUSIBLE_DEPTH
    status[skipped] = PersonStatus.KEPT_IMPLAUSIBLE_STATURE
    return _summary(groups, status, ratio, wanted, spread, int(skipped.sum()))


def _solved(
    name: str, member: np.ndarray, cues: Cues, prior: StaturePrior, stature_m: np.ndarray, config: DTOConfig
) -> _Group:
    """Solve one group; the near one also on the lowest pixels of its people, and keep the better answer."""
    constants = (stature_m[member], prior.mean_m[member], prior.std_m[member])
    slopes = (cues.spread[member], cues.slope[member], cues.correlation[member], config)

    def attempt(relative: np.ndarray, depth: np.ndarray) -> _Group:
        answer = solve_group(relative[member], depth[member], *constants, *slopes)
        return _Group(name, member, relative, depth, answer)

    whole = attempt(cues.relative_depth, cues.depth_m)
    if name == "far" or cues.lowest_relative_depth is None or cues.lowest_depth_m is None:
        return whole
    lowest = attempt(cues.lowest_relative_depth, cues.lowest_depth_m)
    better = lowest.answer.count >= whole.answer.count and lowest.answer.deviation < whole.answer.deviation
    return lowest if better else whole


def _summary(
    groups: list[_Group], status: np.ndarray, ratio: np.ndarray, wanted: np.ndarray, spread: np.ndarray, skipped: int
) -> Solution:
    answers = [group.answer for group in groups]
    members = sum(answer.count for answer in answers) + skipped
    total = sum(answer.count * answer.deviation for answer in answers) + SKIPPED_RESIDUAL * skipped
    main = max(answers, key=lambda answer: answer.count)
    notes = [
        f"{g.name} group: scale {g.answer.scale:.6g}, shift {g.answer.shift:.6g} m, {g.answer.count} optimised"
        for g in groups
    ]
    return Solution(
        status=status,
        depth_ratio=ratio,
        wanted_stature_m=wanted,
        stature_std_m=spread,
        score=total / members if members else np.inf,
        scale=main.scale,
        shift=main.shift,
        active=main.active,
        interval=UNBOUNDED,
        solved=main.count >= 2,
        notes=tuple(notes),
    )


@torch.no_grad()
def reshape_official(
    people: People,
    camera: Camera,
    body: BodyModel,
    depth_ratio: Float[np.ndarray, " K"],
    moved: Bool[np.ndarray, " K"],
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
    minor = np.zeros(len(some), bool) if some.age_years is None else some.age_years < MINOR_AGE_YEARS
    kid = (minor & (ratio < 1)) | (wanted < KID_AXIS_BELOW_M)
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
