"""The optimisation of the landmark fit: damped Gauss-Newton (Levenberg-Marquardt) over all people at once, in float64.

Residuals, each over its standard deviation: positions in the image, directions told by the metric landmarks, and a
prior on pose and depth. The Jacobian is analytic: a turn about the axis a at c moves the point p by a x (p - c).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crowdmesh.experts._chain import Chain
from crowdmesh.experts._landmark_start import FARTHEST_M, NEAREST_M, Evidence

NEAR_M = 0.1
"""Points nearer to the camera plane than this are treated as lying there."""

_POSITION_ERROR_M = 0.015  # of a landmark across the line of sight: measured on renderings, see _anny_tables
_OUTLIER = 3.0  # residuals beyond this many standard deviations count linearly instead of squared
_LIMIT_SOFTNESS = 0.03  # radians: standard deviation of what exceeds the limit of a joint
_DEPTH_SPREAD = 0.5  # of the logarithm of the depth, around the first guess

_ITERATIONS = 25
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1.0, 1e-7, 1e8  # the first steps are small: fewer wrong minima
_ABSOLUTE_DAMPING = 1e-6
_CONVERGED = 5e-4  # relative change of the cost


@dataclass(frozen=True, eq=False)
class State:
    """Where K people stand.

    Attributes:
        rotations: (K, J, 3, 3) relative to the parent.
        place: (K, 3) x/z, y/z and log z of the root joint in the camera frame.
    """

    rotations: Float[Tensor, "K J 3 3"]
    place: Float[Tensor, "K 3"]

    @classmethod
    def at(cls, chain: Chain, rotations: Float[Tensor, "K J 3 3"], translation: Float[Tensor, "K 3"]) -> State:
        """The state with this translation of the body model."""
        x, y, z = (translation + chain.rest_joints[0]).unbind(1)
        z = z.clamp(min=NEAR_M)
        return cls(rotations, torch.stack((x / z, y / z, z.log()), 1))

    @property
    def root(self) -> Float[Tensor, "K 3"]:
        """The root joint in the camera frame, metres."""
        depth = self.place[:, 2:].exp()
        return torch.cat((self.place[:, :2] * depth, depth), 1)

    def translation(self, chain: Chain) -> Float[Tensor, "K 3"]:
        """The translation of the body model, metres."""
        return self.root - chain.rest_joints[0]

    def moved(self, chain: Chain, step: Float[Tensor, "K N"]) -> State:
        """The state after a step: angles of all degrees of freedom, then changes of place; z stays within bounds."""
        place = self.place + step[:, -3:]
        place[:, 2].clamp_(math.log(NEAREST_M), math.log(FARTHEST_M))
        return State(chain.turned(self.rotations, step[:, :-3]), place)

    def where(self, chosen: Bool[Tensor, " K"], other: State) -> State:
        """This state for the chosen people, the other for the rest."""
        rotations = torch.where(chosen[:, None, None, None], self.rotations, other.rotations)
        return State(rotations, torch.where(chosen[:, None], self.place, other.place))


@dataclass(frozen=True, eq=False)
class _Quadratic:
    """Cost, gradient and Gauss-Newton Hessian at a state; they add up over the groups of residuals."""

    cost: Float[Tensor, " K"]
    gradient: Float[Tensor, "K N"]
    hessian: Float[Tensor, "K N N"]

    def __add__(self, other: _Quadratic) -> _Quadratic:
        return _Quadratic(self.cost + other.cost, self.gradient + other.gradient, self.hessian + other.hessian)

    def where(self, chosen: Bool[Tensor, " K"], other: _Quadratic) -> _Quadratic:
        return _Quadratic(
            torch.where(chosen, self.cost, other.cost),
            torch.where(chosen[:, None], self.gradient, other.gradient),
            torch.where(chosen[:, None, None], self.hessian, other.hessian),
        )

    def step(self, damping: Float[Tensor, " K"]) -> Float[Tensor, "K N"]:
        diagonal = self.hessian.diagonal(dim1=-2, dim2=-1)
        damped = self.hessian + torch.diag_embed(damping[:, None] * diagonal + _ABSOLUTE_DAMPING)
        return torch.cholesky_solve(-self.gradient[..., None], torch.linalg.cholesky_ex(damped).L)[..., 0]


def minimise(chain: Chain, evidence: Evidence, start: State) -> State:
    """The best explanation of the evidence near ``start``.

    Every person has a damping of their own and stops when their cost settles. A step that does not lower the cost, or
    whose cost is not a number, is not taken.
    """
    state, now = start, _expand(chain, evidence, start, start)
    damping = torch.full_like(now.cost, _FIRST_DAMPING)
    active = torch.ones_like(now.cost, dtype=torch.bool)
    for _ in range(_ITERATIONS):
        if not active.any():
            break
        trial = state.moved(chain, now.step(damping))
        then = _expand(chain, evidence, trial, start)
        better = active & (then.cost < now.cost)
        settled = (then.cost - now.cost).abs() <= _CONVERGED * now.cost
        active = active & ~settled & (damping < _MOST_DAMPING)
        state, now = trial.where(better, state), then.where(better, now)
        damping = torch.where(better, damping / 5, damping * 10).clamp(min=_LEAST_DAMPING)
    return state


def _expand(chain: Chain, evidence: Evidence, state: State, start: State) -> _Quadratic:
    """The whole cost to second order."""
    root = state.root
    posed = chain.pose(state.rotations, state.translation(chain))
    by_angles = chain.point_velocities(posed)
    by_place = root[:, 2, None, None] * torch.eye(3, dtype=root.dtype)
    by_place[:, 2] = root
    moves = torch.cat((by_angles, by_place[:, None].expand(-1, by_angles.shape[1], -1, -1)), 2)
    positions = _positions(evidence, posed.points, moves, start.place[:, 2].exp() / _POSITION_ERROR_M)
    directions = _directions(chain, evidence, posed.points, moves)
    return positions + directions + _pose_prior(chain, state.rotations) + _depth_prior(state, start, moves.shape[2])


def _positions(
    evidence: Evidence, points: Float[Tensor, "K P 3"], moves: Float[Tensor, "K P N 3"], scale: Float[Tensor, " K"]
) -> _Quadratic:
    """Rays through the landmarks; ``scale`` is one over their standard deviation."""
    z = points[..., 2:].clamp(min=NEAR_M)
    rays = points[..., :2] / z
    deeper = moves[..., 2:] * (points[..., 2:] > NEAR_M)[:, :, None]
    ray_moves = (moves[..., :2] - rays[:, :, None] * deeper) / z[:, :, None]
    scale = scale[:, None, None]
    return _robust(scale * (rays - evidence.rays), scale[..., None] * ray_moves, evidence.weights)


def _directions(
    chain: Chain, evidence: Evidence, points: Float[Tensor, "K P 3"], moves: Float[Tensor, "K P N 3"]
) -> _Quadratic:
    """Vectors between landmarks over their length at rest, as seen by a camera that looks straight at the person."""
    rows = chain.directions / (chain.directions @ chain.rest_points).norm(dim=-1, keepdim=True)
    residual = rows @ points @ evidence.straight - evidence.directions
    swing = torch.einsum("ep,kpnc->kenc", rows, moves) @ evidence.straight[:, None]
    error = chain.direction_error
    return _robust(residual / error, swing / error[:, None], evidence.certainty)


def _robust(
    residual: Float[Tensor, "K R C"], moves: Float[Tensor, "K R N C"], weight: Float[Tensor, "K R"]
) -> _Quadratic:
    """Sum of w * rho(|r|^2) / 2, with rho quadratic for small and linear for large residuals (pseudo-Huber)."""
    root = (1 + residual.square().sum(-1) / _OUTLIER**2).sqrt()
    cost = (weight * _OUTLIER**2 * (root - 1)).sum(1)
    jacobian = moves.mT.flatten(1, 2)
    weighted = jacobian * (weight / root).repeat_interleave(residual.shape[-1], 1)[..., None]
    return _Quadratic(cost, (weighted.mT @ residual.flatten(1)[..., None])[..., 0], weighted.mT @ jacobian)


def _pose_prior(chain: Chain, rotations: Float[Tensor, "K J 3 3"]) -> _Quadratic:
    """Gaussian around the relaxed pose and soft limits, on the components of each bone's rotation vector."""
    turned = roma.rotmat_to_rotvec(rotations[:, chain.bone])
    angle = (turned * chain.axis).sum(-1)
    beyond = (angle - angle.clamp(chain.low, chain.high)) / _LIMIT_SOFTNESS
    off = (angle - chain.relaxed) / chain.spread
    pull = off / chain.spread + beyond / _LIMIT_SOFTNESS
    stiffness = 1 / chain.spread.square() + (beyond != 0) / _LIMIT_SOFTNESS**2
    # Row d: the derivative of angle d by the steps of all degrees of freedom of its own bone.
    same = chain.bone[:, None] == chain.bone
    rate = torch.einsum("dc,kdce,fe->kdf", chain.axis, _inverse_right_jacobian(turned), chain.axis) * same
    rate = torch.nn.functional.pad(rate, (0, 3))
    cost = (off.square() + beyond.square()).sum(1) / 2
    return _Quadratic(cost, (rate.mT @ pull[..., None])[..., 0], rate.mT @ (stiffness[..., None] * rate))


def _depth_prior(state: State, start: State, size: int) -> _Quadratic:
    """Gaussian on the logarithm of the depth around the first guess: it holds those whose landmarks say nothing."""
    off = (state.place[:, 2] - start.place[:, 2]) / _DEPTH_SPREAD
    gradient = off.new_zeros(len(off), size)
    gradient[:, -1] = off / _DEPTH_SPREAD
    hessian = off.new_zeros(len(off), size, size)
    hessian[:, -1, -1] = 1 / _DEPTH_SPREAD**2
    return _Quadratic(off.square() / 2, gradient, hessian)


def _inverse_right_jacobian(rotvec: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3 3"]:
    """Derivative of log(exp(rotvec) exp(step)) by a small step (Sola et al. 2018, A micro Lie theory, eq. 144)."""
    angle = rotvec.norm(dim=-1)[..., None, None].clamp(min=1e-4)
    identity = torch.eye(3, dtype=rotvec.dtype)
    cross = torch.linalg.cross(rotvec[..., None, :], identity.expand(*rotvec.shape, 3)).mT
    bow = (1 - angle / 2 / torch.tan(angle / 2)) / angle.square()
    return identity + cross / 2 + bow * (cross @ cross)
