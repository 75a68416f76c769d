"""MeshExpert without a network: each person's landmarks, explained by an adult body.

Like any method that looks at one person at a time it gives everybody the stature of an average adult, so that a child
comes out as an adult farther away: that is the mistake the joint placement is there to correct.

Damped Gauss-Newton (Levenberg-Marquardt) over all people at once, in float64, with the analytic Jacobian of the chain
(a turn about the axis a at c moves the point p by a x (p - c)). Residuals: image positions, directions of the limbs as
told by the metric landmarks, and a prior on the pose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crowdmesh.assets import Asset
from crowdmesh.body import Anny, load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.experts._chain import Chain, adult_chain
from crowdmesh.experts._landmark_start import VISIBLE, Evidence, first_guess, gather
from crowdmesh.experts.base import BodyLandmarks, Detections, Keypoints
from crowdmesh.people import People

_POSITION_ERROR_M = 0.015  # of a landmark in the image plane, at the person's distance
_OUTLIER = 3.0  # residuals beyond this many standard deviations count linearly instead of squared
_LIMIT_SOFTNESS = 0.09  # radians: standard deviation of what exceeds the limit of a joint
_NEAR_M = 0.1

_ITERATIONS = 30
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-7, 1e8
_ABSOLUTE_DAMPING = 1e-6
_CONVERGED = 2e-4  # relative decrease of the cost


@dataclass(frozen=True, eq=False)
class LandmarkFitResult:
    """Bodies of K people with the shape of :func:`adult_chain`.

    Attributes:
        pose: (K, J, 3) rotations relative to the parent, axis-angle, radians.
        translation_m: (K, 3) translation of the body model in the camera frame.
        error_px: (K,) mean distance in the image between visible landmarks and those of the body; NaN: none visible.
    """

    pose: Float[np.ndarray, "K J 3"]
    translation_m: Float[np.ndarray, "K 3"]
    error_px: Float[np.ndarray, " K"]


@dataclass(frozen=True, eq=False)
class _State:
    """Where the optimisation stands: pose, and the root joint at exp(log depth) * (x, y, 1)."""

    rotations: Float[Tensor, "K J 3 3"]
    place: Float[Tensor, "K 3"]

    def moved(self, chain: Chain, step: Float[Tensor, "K N"]) -> _State:
        return _State(chain.turned(self.rotations, step[:, :-3]), self.place + step[:, -3:])

    def root(self) -> Float[Tensor, "K 3"]:
        depth = self.place[:, 2:].exp()
        return torch.cat((self.place[:, :2] * depth, depth), 1)

    def where(self, chosen: Bool[Tensor, " K"], other: _State) -> _State:
        return _State(
            torch.where(chosen[:, None, None, None], self.rotations, other.rotations),
            torch.where(chosen[:, None], self.place, other.place),
        )


@dataclass(frozen=True, eq=False)
class _Quadratic:
    """Cost, gradient and Gauss-Newton Hessian at a state."""

    cost: Float[Tensor, " K"]
    gradient: Float[Tensor, "K N"]
    hessian: Float[Tensor, "K N N"]

    def where(self, chosen: Bool[Tensor, " K"], other: _Quadratic) -> _Quadratic:
        return _Quadratic(
            torch.where(chosen, self.cost, other.cost),
            torch.where(chosen[:, None], self.gradient, other.gradient),
            torch.where(chosen[:, None, None], self.hessian, other.hessian),
        )


@torch.no_grad()
def fit_landmarks(
    body: Anny, camera: Camera, landmarks: BodyLandmarks, boxes_px: Float[np.ndarray, "K 4"]
) -> LandmarkFitResult:
    """Fit an average adult to the landmarks of each person.

    Args:
        body: the body model.
        camera: the camera of the image the landmarks are in.
        landmarks: what to fit. Values that are not finite count as hidden. A person with fewer than four visible
            landmarks (visibility of at least 0.5) is placed into the box in a relaxed pose.
        boxes_px: left, top, right, bottom of each person.
    """
    chain = adult_chain(body)
    evidence = gather(chain, camera, landmarks, boxes_px)
    rotations, translation = first_guess(chain, evidence)
    root = translation + chain.rest_joints[0]
    depth = root[:, 2:].clamp(min=_NEAR_M)
    state = _State(rotations, torch.cat((root[:, :2] / depth, depth.log()), 1))
    state = _minimise(chain, evidence, state)
    translation = state.root() - chain.rest_joints[0]
    points = chain.pose(state.rotations, translation).points
    return LandmarkFitResult(
        roma.rotmat_to_rotvec(state.rotations).numpy(), translation.numpy(), _errors(chain, camera, landmarks, points.numpy())
    )


def _errors(chain: Chain, camera: Camera, landmarks: BodyLandmarks, points_m: Float[np.ndarray, "K P 3"]) -> np.ndarray:
    used = chain.landmarks.numpy()
    points_m = np.concatenate((points_m[..., :2], points_m[..., 2:].clip(_NEAR_M)), -1)
    distance = np.linalg.norm(camera.project(points_m) - landmarks.px[:, used], axis=-1)
    visible = (landmarks.visibility[:, used] >= VISIBLE) & np.isfinite(distance)
    total = np.where(visible, distance, 0.0).sum(1)
    count = visible.sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _minimise(chain: Chain, evidence: Evidence, state: _State) -> _State:
    """Levenberg-Marquardt; every person has a damping of their own and stops when their cost no longer falls."""
    scale = state.place[:, 2].exp() / _POSITION_ERROR_M
    now = _expand(chain, evidence, state, scale)
    damping = torch.full_like(now.cost, _FIRST_DAMPING)
    active = torch.ones_like(now.cost, dtype=torch.bool)
    for _ in range(_ITERATIONS):
        if not active.any():
            break
        diagonal = now.hessian.diagonal(dim1=-2, dim2=-1)
        damped = now.hessian + torch.diag_embed(damping[:, None] * diagonal + _ABSOLUTE_DAMPING)
        step = torch.cholesky_solve(-now.gradient[..., None], torch.linalg.cholesky_ex(damped).L)[..., 0]
        trial = state.moved(chain, step)
        then = _expand(chain, evidence, trial, scale)
        better = active & (then.cost < now.cost)
        settled = now.cost - then.cost < _CONVERGED * now.cost
        active = active & ~(better & settled) & (damping < _MOST_DAMPING)
        state, now = trial.where(better, state), then.where(better, now)
        damping = torch.where(better, damping / 5, damping * 8).clamp(min=_LEAST_DAMPING)
    return state


def _expand(chain: Chain, evidence: Evidence, state: _State, scale: Float[Tensor, " K"]) -> _Quadratic:
    """The cost to second order around a state. ``scale``: inverse standard deviation of x/z and y/z of a landmark."""
    root = state.root()
    posed = chain.pose(state.rotations, root - chain.rest_joints[0])
    velocity = chain.point_velocities(posed)
    jumps = torch.zeros(len(root), 3, 3, dtype=root.dtype)  # derivative of the root by place
    jumps[:, 0, 0] = jumps[:, 1, 1] = root[:, 2]
    jumps[:, :, 2] = root
    moves = torch.cat((velocity, jumps.mT[:, None].expand(-1, velocity.shape[1], -1, -1)), 2)

    z = posed.points[..., 2:].clamp(min=_NEAR_M)
    rays = posed.points[..., :2] / z
    in_front = posed.points[..., 2:] > _NEAR_M
    ray_moves = (moves[..., :2] - rays[:, :, None] * (moves[..., 2:] * in_front[:, :, None])) / z[:, :, None]
    positions = _robust(scale[:, None, None] * (rays - evidence.rays), scale[:, None, None, None] * ray_moves, evidence.weights)

    length = (chain.directions @ chain.rest_points).norm(dim=-1)
    rows = chain.directions / length[:, None]
    error = chain.direction_error
    aim_off = (rows @ posed.points @ evidence.straight - evidence.directions) / error
    swing = torch.einsum("ep,kpnc->kenc", rows, moves) @ evidence.straight[:, None] / error[:, None]
    directions = _robust(aim_off, swing, evidence.certainty)
    parts = (positions, directions, _pose_prior(chain, state.rotations))
    return _Quadratic(*(sum(values) for values in zip(*parts, strict=True)))


def _robust(
    residual: Float[Tensor, "K R C"], moves: Float[Tensor, "K R N C"], weight: Float[Tensor, "K R"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Cost, gradient and Hessian of sum w * rho(|r|^2) / 2, rho quadratic for small and linear for large residuals."""
    root = (1 + residual.square().sum(-1) / _OUTLIER**2).sqrt()
    cost = (weight * _OUTLIER**2 * (root - 1)).sum(1)
    jacobian = moves.transpose(2, 3).flatten(1, 2)
    weighted = jacobian * (weight / root).repeat_interleave(residual.shape[-1], 1)[..., None]
    return cost, (weighted.mT @ residual.flatten(1)[..., None])[..., 0], weighted.mT @ jacobian


def _pose_prior(chain: Chain, rotations: Float[Tensor, "K J 3 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Gaussian around the relaxed pose and soft limits, on the components of each bone's rotation vector."""
    turned = roma.rotmat_to_rotvec(rotations[:, chain.bone])
    angle = (turned * chain.axis).sum(-1)
    beyond = (angle - angle.clamp(chain.low, chain.high)) / _LIMIT_SOFTNESS
    off = (angle - chain.relaxed) / chain.spread
    stiffness = 1 / chain.spread.square() + (beyond != 0) / _LIMIT_SOFTNESS**2
    # d angle[d] / d step[e], for degrees of freedom of the same bone
    same = chain.bone[:, None] == chain.bone
    rate = torch.einsum("dc,kdce,fe->kdf", chain.axis, _inverse_right_jacobian(turned), chain.axis) * same
    rate = torch.cat((rate, rate.new_zeros(*rate.shape[:2], 3)), 2)
    pull = off / chain.spread + beyond / _LIMIT_SOFTNESS
    cost = (off.square() + beyond.square()).sum(1) / 2
    return cost, (rate.mT @ pull[..., None])[..., 0], rate.mT @ (stiffness[..., None] * rate)


def _inverse_right_jacobian(rotvec: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """Derivative of log(exp(rotvec) exp(step)) by a small step (Sola et al. 2018, eq. 144)."""
    angle = rotvec.norm(dim=-1)[..., None, None].clamp(min=1e-6)
    cross = roma.rotvec_to_skew(rotvec) if hasattr(roma, "rotvec_to_skew") else _skew(rotvec)
    bow = (1 - angle / 2 / torch.tan(angle / 2)) / angle.square()
    return torch.eye(3, dtype=rotvec.dtype) + cross / 2 + bow * (cross @ cross)


def _skew(v: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    zero = torch.zeros_like(v[..., 0])
    x, y, z = v.unbind(-1)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), -1).unflatten(-1, (3, 3))


@dataclass(frozen=True)
class LandmarkFit:
    """MeshExpert: an average adult body per person, fitted to its 33 landmarks."""

    name: ClassVar[str] = "landmark fit"
    assets: ClassVar[tuple[Asset, ...]] = ()

    def fit(self, camera: Camera, detections: Detections, keypoints: Keypoints) -> People:
        """One adult per detection, in order, with surface and joints.

        Raises:
            InputError: the keypoints come without the 33 body landmarks, or are not those of the detections.
        """
        if keypoints.landmarks is None:
            raise InputError("the landmark fit needs keypoints with the 33 body landmarks; use the lite pose expert")
        if len(keypoints) != len(detections):
            raise InputError(f"keypoints of {len(keypoints)} people do not belong to {len(detections)} detections")
        body = load_body("anny")
        assert isinstance(body, Anny)
        chain = adult_chain(body)
        result = fit_landmarks(body, camera, keypoints.landmarks, detections.boxes_px)
        count = len(detections)
        people = People(
            body=body.name,
            translation_m=result.translation_m,
            stature_m=np.repeat(body.stature(chain.shape).numpy(), count),
            pose=result.pose,
            shape=chain.shape.numpy().repeat(count, 0),
            boxes_px=detections.boxes_px,
            scores=detections.scores,
            masks=detections.masks if detections.masks is not None else keypoints.masks,
            keypoints_px=keypoints.coco17_px,
            fit_error_px=result.error_px,
        )
        return pose_people(people, body)
