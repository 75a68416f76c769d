"""What the landmarks say, in the units of the fit, and a closed-form first guess of pose and place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import roma
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from crowdmesh.camera import Camera
from crowdmesh.experts._anny_tables import LOWER_LIMBS, TRUNK, UPPER_LIMBS, UPRIGHT
from crowdmesh.experts._chain import Chain
from crowdmesh.experts.base import BodyLandmarks

VISIBLE = 0.5
"""A landmark with at least this visibility counts as visible."""

ENOUGH_LANDMARKS = 4
"""With fewer visible landmarks a person is only placed into the box, in a relaxed pose facing the camera."""

NEAREST_M, FARTHEST_M = 0.3, 10_000.0
"""Bounds on the depth of a body."""

# Directions of hidden landmarks are guesses of a network that has seen many people: better than nothing.
_TRUST_IN_HIDDEN = 0.05
_NEUTRAL = 0.05  # weight of the neutral rotation where the directions leave a turn open
_TIE = 1e-6  # weight of the box where the rays leave the place open


@dataclass(frozen=True, eq=False)
class Evidence:
    """The landmarks of K people; P and E as in :class:`Chain`.

    Attributes:
        rays: (K, P, 2) image positions as x/z and y/z of the rays through them.
        weights: (K, P) of these positions, in [0, 1].
        straight: (K, 3, 3) rotation into the camera frame from that of a camera which looks straight at the person.
        directions: (K, E, 3) unit vectors in the latter frame, less their mean error.
        certainty: (K, E) weights of these directions, in [0, 1].
        boxes: (K, 4) left, top, right, bottom as x/z and y/z.
    """

    rays: Float[Tensor, "K P 2"]
    weights: Float[Tensor, "K P"]
    straight: Float[Tensor, "K 3 3"]
    directions: Float[Tensor, "K E 3"]
    certainty: Float[Tensor, "K E"]
    boxes: Float[Tensor, "K 4"]


def gather(chain: Chain, camera: Camera, landmarks: BodyLandmarks, boxes_px: Float[np.ndarray, "K 4"]) -> Evidence:
    """Landmarks as evidence; those with a value that is not finite count as hidden.

    A network that sees a crop cannot know where in the image it was cut out, so the axes of its metric landmarks are
    those of a camera looking straight at the middle of the box.
    """
    used = chain.landmarks.numpy()
    px, world = landmarks.px[:, used], landmarks.world_m[:, used]
    known = np.asarray(np.isfinite(np.concatenate((px, world), -1)).all(-1))
    seen = np.where(known, np.nan_to_num(landmarks.visibility[:, used]).clip(0, 1), 0.0)
    rays = torch.from_numpy(np.where(known[..., None], _rays(camera, px), 0.0))
    boxes = torch.from_numpy(_rays(camera, boxes_px.reshape(-1, 2, 2)).reshape(-1, 4))
    visibility = torch.from_numpy(seen)
    enough = ((visibility >= VISIBLE).sum(1) >= ENOUGH_LANDMARKS).double()[:, None]

    observed = chain.directions @ torch.from_numpy(np.where(known[..., None], world, 0.0))
    length = observed.norm(dim=-1)
    expected = (chain.directions @ chain.rest_points).norm(dim=-1)
    # A network that is not sure of a direction answers with the mean of its guesses, which is shorter.
    sure = (length / expected).clamp(max=1.0).square()
    involved = chain.directions != 0
    seen_whole = torch.where(involved, visibility[:, None], torch.ones(())).amin(-1)
    known_whole = (torch.from_numpy(known)[:, None] | ~involved).all(-1)
    certainty = sure * known_whole * (_TRUST_IN_HIDDEN + (1 - _TRUST_IN_HIDDEN) * seen_whole)
    straight = _looking_at((boxes[:, :2] + boxes[:, 2:]) / 2)
    directions = observed / length.clamp(min=1e-6)[..., None] - chain.direction_bias
    directions[:, UPRIGHT] = -straight[:, None, 1]
    certainty[:, UPRIGHT] = 1.0
    return Evidence(rays, visibility * chain.trust * enough, straight, directions, certainty * enough, boxes)


def _rays(camera: Camera, points_px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    return (points_px.astype(float) - (camera.cx, camera.cy)) / (camera.fx, camera.fy)


def _looking_at(rays: Float[Tensor, "K 2"]) -> Float[Tensor, "K 3 3"]:
    """The smallest rotations that turn the optical axis into the given rays."""
    towards = F.normalize(F.pad(rays, (0, 1), value=1.0), dim=-1)
    axis = torch.stack((-towards[:, 1], towards[:, 0], torch.zeros(len(rays), dtype=rays.dtype)), -1)
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, towards[:, 2:])
    return roma.rotvec_to_rotmat(axis / sine.clamp(min=1e-12) * angle)


def first_guess(chain: Chain, evidence: Evidence) -> tuple[Float[Tensor, "K J 3 3"], Float[Tensor, "K 3"]]:
    """Rotations relative to the parent, and translation: trunk and limbs along their directions, then the place."""
    count = len(evidence.rays)
    relaxed = chain.relaxed_rotations()
    rotations = relaxed.repeat(count, 1, 1, 1)
    rest = F.normalize(chain.directions @ chain.rest_points, dim=-1)
    observed = evidence.directions @ evidence.straight.mT
    certainty = evidence.certainty[..., None]

    facing = torch.from_numpy(chain.body.facing_camera)
    correlation = (certainty * observed)[:, TRUNK].mT @ rest[TRUNK]
    trunk = _nearest_rotation(correlation + _NEUTRAL * facing)
    rotations[:, 0] = trunk

    calm = F.normalize(chain.directions @ chain.pose(relaxed, torch.zeros(1, 3, dtype=rest.dtype)).points, dim=-1)
    aims = F.normalize(certainty * (observed @ trunk) + (1 - certainty) * calm, dim=-1)
    upper, lower = aims[:, UPPER_LIMBS], aims[:, LOWER_LIMBS]
    bend = chain.axis[chain.hinge]
    turn = _angle(upper, lower) - _signed_angle(rest[UPPER_LIMBS], rest[LOWER_LIMBS], bend)
    hinge = roma.rotvec_to_rotmat(turn.clamp(chain.low[chain.hinge], chain.high[chain.hinge])[..., None] * bend)
    bent = (hinge @ rest[LOWER_LIMBS][..., None])[..., 0]
    pairs = upper[..., None] * rest[UPPER_LIMBS][:, None] + lower[..., None] * bent[..., None, :]
    rotations[:, chain.limbs[:, 0]] = _nearest_rotation(pairs + _NEUTRAL * torch.eye(3, dtype=rest.dtype))
    rotations[:, chain.limbs[:, 1]] = hinge
    points = chain.pose(rotations, torch.zeros(count, 3, dtype=rest.dtype)).points
    return rotations, _place(points, evidence, _into_box(chain.relaxed_extent, evidence.boxes))


def _nearest_rotation(matrix: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3 3"]:
    rotation = roma.special_procrustes(matrix)
    assert isinstance(rotation, Tensor)
    return rotation


def _angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), (a * b).sum(-1))


def _signed_angle(a: Tensor, b: Tensor, axis: Tensor) -> Tensor:
    return torch.atan2((torch.linalg.cross(a, b) * axis).sum(-1), (a * b).sum(-1))


def _place(points: Float[Tensor, "K P 3"], evidence: Evidence, fallback: Float[Tensor, "K 3"]) -> Float[Tensor, "K 3"]:
    """Translation with which the points project best onto their rays: linear least squares in x - z * ray = 0.

    ``fallback`` decides what the rays leave open, and everything where their answer is not in front of the camera.
    """
    one = torch.ones_like(evidence.weights)
    zero = torch.zeros_like(one)
    x, y = evidence.rays.unbind(-1)
    rows = torch.stack((torch.stack((one, zero, -x), -1), torch.stack((zero, one, -y), -1)), 2).flatten(1, 2)
    missing = (evidence.rays * points[..., 2:] - points[..., :2]).flatten(1)
    weighted = rows.mT * evidence.weights.repeat_interleave(2, 1)[:, None]
    tie = _TIE * torch.eye(3, dtype=points.dtype)
    aim = weighted @ missing[..., None] + _TIE * fallback[..., None]
    translation = torch.linalg.solve(weighted @ rows + tie, aim)[..., 0]
    sane = (translation[:, 2] > NEAREST_M) & (translation[:, 2] < FARTHEST_M)
    return torch.where(sane[:, None], translation, fallback)


def _into_box(extent: Float[Tensor, "2 3"], boxes: Float[Tensor, "K 4"]) -> Float[Tensor, "K 3"]:
    """Translation with which a body of this extent (least and greatest coordinates) fills the box around its middle.

    It fills the width or the height, whichever needs the greater distance.
    """
    low, high = extent
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-4)
    depth = ((high - low)[:2] / size).amax(1).clamp(NEAREST_M, FARTHEST_M)
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2 * depth[:, None]
    return torch.cat((middle, depth[:, None]), 1) - (low + high) / 2
