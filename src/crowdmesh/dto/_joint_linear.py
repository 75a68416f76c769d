"""Least squares over many frames: two unknowns per frame, one per track, bounds on the first of each frame.

    minimise  sum_n w_n (c_n + b_n . theta_frame(n) - value_track(n))^2
            + sum_f (p_f . theta_f^2 - 2 q_f . theta_f) + sum_j tau_j (value_j - nu_j)^2
    subject to  low_f <= theta_f0 <= high_f

The unknowns of a frame meet only those of its tracks, so they are eliminated in 2 x 2 blocks and a system over the
tracks remains. The bounds are met exactly, by block principal pivoting (Portugal, Judice and Vicente 1994).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array

_AT_LOW, _FREE, _AT_HIGH = -1, 0, 1
_PATIENCE = 5
_MOST_PIVOTS = 500
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Rows:
    """N observations: ``constant + columns . theta[frame] - value[track]`` should be zero, with precision ``weight``.

    ``track`` -1: the observation is of the frame alone.
    """

    frame: Int[np.ndarray, " N"]
    track: Int[np.ndarray, " N"]
    constant: Float[np.ndarray, " N"]
    columns: Float[np.ndarray, "N 2"]
    weight: Float[np.ndarray, " N"]


@dataclass(frozen=True, eq=False)
class Priors:
    """What is known beforehand: p and q of the frames, precision and centre of the tracks, bounds."""

    theta_weight: Float[np.ndarray, "F 2"]
    theta_pull: Float[np.ndarray, "F 2"]
    value: Float[np.ndarray, " T"]
    value_weight: Float[np.ndarray, " T"]
    low: Float[np.ndarray, " F"]
    high: Float[np.ndarray, " F"]


@dataclass(frozen=True, eq=False)
class Joint:
    """The optimum: unknowns of frames and tracks, which bound holds each frame (-1, 0, 1), covariance of the tracks.

    ``leverage`` (N,) is the share of each observation that its frame's own unknowns take up.
    """

    theta: Float[np.ndarray, "F 2"]
    value: Float[np.ndarray, " T"]
    held: Int[np.ndarray, " F"]
    covariance: Float[np.ndarray, "T T"]
    leverage: Float[np.ndarray, " N"]


def solve_joint(rows: Rows, priors: Priors) -> Joint:
    """The optimum of the problem above; a first unknown that a bound holds counts as known in the covariance."""
    held = np.where(priors.low >= priors.high, _AT_LOW, _FREE)
    pinned = held != _FREE
    fewest, patience = len(held) + 1, _PATIENCE
    for _ in range(_MOST_PIVOTS):
        joint = _solve_given(rows, priors, held)
        wrong, target = _violations(rows, priors, joint, pinned)
        count = int(wrong.sum())
        if count == 0:
            return replace(joint, held=held)
        if count < fewest:
            fewest, patience = count, _PATIENCE
        elif patience > 0:
            patience -= 1
        else:  # one at a time, always the last: this cannot cycle
            last = int(np.flatnonzero(wrong)[-1])
            wrong = np.arange(len(held)) == last
        held = np.where(wrong, target, held)
    return _held_back(rows, priors, joint)


def _held_back(rows: Rows, priors: Priors, joint: Joint) -> Joint:
    """Bounds that rounding keeps undecided: hold whoever is outside and let nobody go again, which soon ends."""
    while True:
        first = joint.theta[:, 0]
        below, above = (joint.held == _FREE) & (first < priors.low), (joint.held == _FREE) & (first > priors.high)
        if not np.any(below | above):
            return joint
        joint = _solve_given(rows, priors, np.where(below, _AT_LOW, np.where(above, _AT_HIGH, joint.held)))


def _violations(rows: Rows, priors: Priors, joint: Joint, pinned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which frames are out of bounds or held by a bound that pushes the wrong way, and what should hold them."""
    first = joint.theta[:, 0]
    track = np.where(rows.track < 0, 0.0, np.append(joint.value, 0.0)[rows.track])
    residual = rows.constant + (rows.columns * joint.theta[rows.frame]).sum(1) - track
    count = len(first)
    slope = np.bincount(rows.frame, rows.weight * rows.columns[:, 0] * residual, count)
    size = np.bincount(rows.frame, np.abs(rows.weight * rows.columns[:, 0] * rows.constant), count)
    slope += priors.theta_weight[:, 0] * first - priors.theta_pull[:, 0]
    size += np.abs(priors.theta_pull[:, 0])
    reach = _ROUNDING * np.maximum(np.abs(first), 1e-30)
    below = (joint.held == _FREE) & (first < priors.low - reach)
    above = (joint.held == _FREE) & (first > priors.high + reach)
    loose = ((joint.held == _AT_LOW) & (slope < -_ROUNDING * size)) | (
        (joint.held == _AT_HIGH) & (slope > _ROUNDING * size)
    )
    target = np.where(below, _AT_LOW, np.where(above, _AT_HIGH, _FREE))
    return (below | above | loose) & ~pinned, target


def _solve_given(rows: Rows, priors: Priors, held: np.ndarray) -> Joint:
    """The optimum when ``held`` says which first unknowns lie on a bound."""
    frames, tracks = len(held), len(priors.value)
    free = held == _FREE
    fixed = np.where(held == _AT_HIGH, priors.high, np.where(held == _AT_LOW, priors.low, 0.0))
    frame, weight = rows.frame, rows.weight
    columns = rows.columns * np.stack((free[frame], np.ones(len(frame))), 1)
    constant = rows.constant + rows.columns[:, 0] * fixed[frame]
    prior_weight, prior_pull = (
        p * np.stack((free, np.ones(frames)), 1) for p in (priors.theta_weight, priors.theta_pull)
    )

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(frame, values, frames)

    a, b, d = (total(weight * columns[:, i] * columns[:, k]) for i, k in ((0, 0), (0, 1), (1, 1)))
    inverse = _inverses(a + prior_weight[:, 0], b, d + prior_weight[:, 1], free)
    pull = np.stack([-total(weight * columns[:, i] * constant) for i in (0, 1)], 1) + prior_pull
    known = rows.track >= 0
    spot, track = 2 * frame[known], rows.track[known]
    entries = (weight[:, None] * columns)[known]
    meeting = csr_array(
        (entries.T.ravel(), (np.concatenate((spot, spot + 1)), np.tile(track, 2))), shape=(2 * frames, tracks)
    )
    blocks = _block_diagonal(inverse)
    through = blocks @ meeting
    system = -(meeting.T @ through).toarray()
    np.fill_diagonal(system, system.diagonal() + np.bincount(track, weight[known], tracks) + priors.value_weight)
    right = np.bincount(track, (weight * constant)[known], tracks) + priors.value_weight * priors.value
    right = right + through.T @ pull.ravel()
    if tracks:
        factor = cho_factor(system)
        value, covariance = cho_solve(factor, right), cho_solve(factor, np.eye(tracks))
    else:
        value, covariance = np.zeros(0), np.zeros((0, 0))
    theta = (blocks @ (pull.ravel() + meeting @ value)).reshape(frames, 2)
    theta[:, 0] = np.where(free, theta[:, 0], fixed)
    leverage = weight * np.einsum("ni,nik,nk->n", columns, inverse[frame], columns)
    return Joint(theta, value, held, covariance, leverage)


def _inverses(a: np.ndarray, b: np.ndarray, d: np.ndarray, free: np.ndarray) -> Float[np.ndarray, "F 2 2"]:
    """Inverses of the blocks [[a, b], [b, d]]; of a frame that nothing says anything about, the identity."""
    a = np.where(free & (a > 0), a, 1.0)
    d = np.where(d > 0, d, 1.0)
    determinant = np.maximum(a * d - b * b, np.finfo(float).tiny)
    return np.stack((d, -b, -b, a), -1).reshape(-1, 2, 2) / determinant[:, None, None]


def _block_diagonal(blocks: np.ndarray) -> csr_array:
    count = len(blocks)
    row = np.repeat(np.arange(2 * count), 2)
    column = (2 * np.arange(count)[:, None] + np.array([0, 1, 0, 1])).ravel()
    return csr_array((blocks.ravel(), (row, column)), shape=(2 * count, 2 * count))
