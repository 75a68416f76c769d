"""The paper's problem over a video: one affine depth transform per frame, one stature per track.

In frame f, person j of first stature h and first depth z has the stature (s_f d + t_f) h / z. The paper's residual
compares it with the prior of j; here all frames of j are compared with one unknown stature, and that with the prior:

    sum over f, j of (log((s_f d + t_f) h / z) - log h_j)^2 / frame_error^2 - 2 dof_f / K_f log(s_f / (s_f d + t_f))
        + sum over j of ((log h_j - log mu_j) / (sigma_j / mu_j))^2

That residual is relative, a logarithm, because one in metres falls when everybody shrinks, and the error lies in d, not
in the stature, which is what the second term says: without it residuals fall when everybody moves to one depth. Over
many frames either would outweigh the prior. As many terms count as the frame has degrees of freedom, dof_f = K_f - 2.
Somebody with evidence in one frame only enters as in the paper, with the prior itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from crowdmesh.dto._joint_linear import Joint, Priors, Rows, solve_joint
from crowdmesh.dto._track_answer import TrackAnswer
from crowdmesh.dto._track_evidence import FrameEvidence, Sightings
from crowdmesh.dto.config import DTOConfig
from crowdmesh.dto.interval import UNBOUNDED, ScaleInterval, scale_interval
from crowdmesh.dto.place import MIN_DEPTH_M, affine_solution
from crowdmesh.dto.priors import StaturePrior
from crowdmesh.dto.solution import Solution, unsolved
from crowdmesh.dto.solve import DEGENERATE, AffineDepth, solve
from crowdmesh.people import PersonStatus

_STEPS = 60
_HALVINGS = 30
_CONVERGED = 1e-12
_SMALL_SCALE = 1e-3
_ROUNDS = 20
_SAME_ERROR = 1e-3
_ERRORS = (0.005, 0.5)
_PER_PERSON = ("depth_ratio", "stature_m", "standardised_residual", "stature_std_m")


@dataclass(frozen=True, eq=False)
class AffineProblem:
    """N observations in F frames, relative depths centred and of magnitude one per frame.

    Attributes:
        frame, track: of each observation. d: relative depth. per_metre: first stature over first depth.
        several: (N,) the track has others, so that the residual is relative to its unknown stature.
        freedom: (N,) share of the term that keeps people apart which counts; 0 where the scale is given.
        mean, std: (N,) prior of the stature, metres.
        low, high: (F,) bounds of the scale, in the unit of d; equal where the scale is given.
    """

    frame: np.ndarray
    track: np.ndarray
    d: np.ndarray
    per_metre: np.ndarray
    several: np.ndarray
    freedom: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray
    frame_error: float

    def metres(self, theta: Float[np.ndarray, "F 2"]) -> Float[np.ndarray, " N"]:
        """Depth of everybody: scale d + shift."""
        return theta[self.frame, 0] * self.d + theta[self.frame, 1]

    def objective(
        self,
        theta: Float[np.ndarray, "F 2"],
        log_stature: Float[np.ndarray, " T"],
        value: Float[np.ndarray, " T"],
        value_weight: Float[np.ndarray, " T"],
    ) -> float:
        """The sum of squares above; infinite where somebody of several frames is not in front of the camera."""
        stature = self.metres(theta) * self.per_metre
        if not np.all(stature[self.several] > 0):
            return np.inf
        log = np.log(np.where(self.several, stature, 1.0)) - log_stature[self.track]
        residual = np.where(self.several, log / self.frame_error, (stature - self.mean) / self.std)
        known = value_weight * (log_stature - value) ** 2
        apart = self.freedom > 0
        scale = np.abs(theta[self.frame[apart], 0])
        if np.any(scale == 0):
            return np.inf
        spread = self.freedom[apart] * np.log(scale / self.metres(theta)[apart])
        return float((residual**2).sum() - 2 * spread.sum() + known.sum())

    def frame_terms(self, theta: Float[np.ndarray, "F 2"]) -> tuple[np.ndarray, np.ndarray]:
        """Precision and pull (F, 2) of the term that keeps people apart: a quadratic that touches it at ``theta``."""
        frames = len(theta)
        share = self.freedom / np.where(self.freedom > 0, self.metres(theta), 1.0)
        total = np.bincount(self.frame, self.freedom, frames)
        first = np.where(total > 0, theta[:, 0], 1.0)
        weight = np.stack((total / first**2, np.zeros(frames)), 1)
        pull = np.stack((2 * total / first, np.zeros(frames)), 1)
        pull -= np.stack([np.bincount(self.frame, share * by, frames) for by in (self.d, np.ones_like(share))], 1)
        return weight, pull

    def linearised(self, theta: Float[np.ndarray, "F 2"]) -> Rows:
        """The residuals about ``theta``; those of one frame are linear as they are."""
        metres = self.metres(theta)
        safe = np.where(self.several, metres, 1.0)
        gain = np.where(self.several, 1.0 / safe, self.per_metre)
        constant = np.where(self.several, np.log(safe * self.per_metre) - 1.0, -self.mean)
        weight = np.where(self.several, self.frame_error, self.std) ** -2.0
        columns = np.stack((gain * self.d, gain), 1)
        return Rows(self.frame, np.where(self.several, self.track, -1), constant, columns, weight)


def solve_affine(
    frames: Sequence[FrameEvidence], seen: Sightings, prior: StaturePrior, frame_error: float, config: DTOConfig
) -> TrackAnswer:
    """Transforms and statures that fit all frames best, with the paper's bounds on each frame's scale."""
    intervals = [_interval(frame, prior.mean_m[seen.of_frame(f)], config) for f, frame in enumerate(frames)]
    low, high = (np.array([getattr(i, end) for i in intervals], float) for end in ("low", "high"))
    part = seen.joined([frame.cues.evident & (frame.cues.depth_m > MIN_DEPTH_M) for frame in frames])
    while True:
        part &= (np.bincount(seen.frame[part], minlength=len(frames)) >= 2)[seen.frame]
        several = (seen.count(part) >= 2)[seen.track]
        everybody, alone = _each_alone(frames, seen, part, (low, high), prior)
        behind = np.zeros(len(part), bool)
        behind[part] = alone.depth_ratio * everybody[1] <= MIN_DEPTH_M
        if not np.any(behind & several):
            break
        part &= ~(behind & several)
    problem, unit, middle = _problem(seen, part, several[part], everybody, alone, (low, high), frame_error)
    start = np.stack((alone.scale * unit, alone.shift + alone.scale * middle), 1)
    joint = None
    if several.any():
        problem, joint = _solve_with_its_error(problem, start, prior)
    if joint is not None:
        alone = _answer(alone, problem, joint, everybody[2], unit, middle)
    pooled = seen.count(part & several) >= 2
    log_stature, variance = np.zeros(len(pooled)), np.zeros(len(pooled))
    if joint is not None:
        log_stature, variance = joint.value, np.diag(joint.covariance)
    stature = np.where(pooled, np.exp(log_stature), np.nan)
    solutions = _per_frame(alone, frames, seen, part, intervals, config)
    error = np.full(len(part), problem.frame_error)
    return TrackAnswer(pooled, stature, stature * np.sqrt(variance), solutions, prior, part, error)


def _interval(frame: FrameEvidence, mean_m: np.ndarray, config: DTOConfig) -> ScaleInterval:
    return scale_interval(frame.cues, config.scale, mean_m / frame.people.stature_m) if len(frame) else UNBOUNDED


def _each_alone(
    frames: Sequence[FrameEvidence],
    seen: Sightings,
    part: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    prior: StaturePrior,
) -> tuple[list[np.ndarray], AffineDepth]:
    """The inputs of those who take part (relative depth, depth, stature, prior), and every frame solved by itself."""
    track = seen.track[part]
    relative, depth, stature = (
        seen.joined(values, float)[part]
        for values in (
            [frame.cues.relative_depth for frame in frames],
            [frame.cues.depth_m for frame in frames],
            [frame.people.stature_m for frame in frames],
        )
    )
    mean, std = prior.mean_m[track], prior.std_m[track]
    alone = solve(relative, depth, stature, mean, std, bounds, seen.frame[part])
    return [relative, depth, stature, mean, std], alone


def _problem(
    seen: Sightings,
    part: np.ndarray,
    several: np.ndarray,
    everybody: list[np.ndarray],
    alone: AffineDepth,
    bounds: tuple[np.ndarray, np.ndarray],
    frame_error: float,
) -> tuple[AffineProblem, np.ndarray, np.ndarray]:
    """The joint problem, and per frame the unit and the zero of its relative depths."""
    relative, depth, stature, mean, std = everybody
    frame, count = seen.frame[part], len(alone.scale)
    middle = np.bincount(frame, relative, count) / np.maximum(np.bincount(frame, minlength=count), 1)
    unit = np.zeros(count)
    np.maximum.at(unit, frame, np.abs(relative - middle[frame]))
    unit[unit == 0] = 1.0
    given = (alone.active == DEGENERATE) | (np.bincount(frame, minlength=count) == 0)
    low, high = np.minimum(*bounds) * unit, np.maximum(*bounds) * unit
    low, high = (np.where(given, alone.scale * unit, bound) for bound in (low, high))
    d = (relative - middle[frame]) / unit[frame]
    people = np.bincount(frame, minlength=count)[frame]
    freedom = np.where(several & (low < high)[frame], 1.0 - 2.0 / people, 0.0)
    problem = AffineProblem(
        frame, seen.track[part], d, stature / depth, several, freedom, mean, std, low, high, frame_error
    )
    return problem, unit, middle


def _solve_with_its_error(
    problem: AffineProblem, theta: Float[np.ndarray, "F 2"], prior: StaturePrior
) -> tuple[AffineProblem, Joint]:
    """The optimum under the error with which the frames are found to disagree."""
    for _ in range(_ROUNDS):
        joint = _minimise(problem, theta, prior)
        theta, some = joint.theta, problem.several
        stature = (problem.metres(theta) * problem.per_metre)[some]
        residual = np.log(stature) - joint.value[problem.track[some]]
        freedom = max(float(problem.freedom.sum()), 1.0)
        error = float(np.clip(np.sqrt((residual**2).sum() / freedom), *_ERRORS))
        if abs(error / problem.frame_error - 1) < _SAME_ERROR:
            break
        problem = replace(problem, frame_error=error)
    return problem, joint


def _minimise(problem: AffineProblem, theta: Float[np.ndarray, "F 2"], prior: StaturePrior) -> Joint:
    """Newton steps on convex quadratics, with the bounds kept in each, from the answers of the single frames."""
    tracks = len(prior.mean_m)
    known = np.log(prior.mean_m), (prior.mean_m / prior.std_m) ** 2
    theta = _apart(problem, theta)
    some = problem.several
    log = np.log(np.where(some, problem.metres(theta) * problem.per_metre, 1.0))
    precision = some / problem.frame_error**2
    value = np.bincount(problem.track, precision * log, tracks) + known[1] * known[0]
    value /= np.bincount(problem.track, precision, tracks) + known[1]
    best = problem.objective(theta, value, *known)
    for _ in range(_STEPS):
        priors = Priors(*problem.frame_terms(theta), *known, problem.low, problem.high)
        joint = solve_joint(problem.linearised(theta), priors)
        share = 1.0
        for _ in range(_HALVINGS):
            tried = theta + share * (joint.theta - theta), value + share * (joint.value - value)
            objective = problem.objective(*tried, *known)
            if objective <= best:
                break
            share /= 2
        else:
            break  # no smaller value along the step: this is the optimum within rounding
        gain, best = best - objective, objective
        theta, value = tried
        if gain <= _CONVERGED * abs(best):
            break
    return replace(joint, theta=theta, value=value)


def _apart(problem: AffineProblem, theta: Float[np.ndarray, "F 2"]) -> Float[np.ndarray, "F 2"]:
    """A start in which no scale is zero where its logarithm counts, and everybody is still in front of the camera."""
    counts = np.bincount(problem.frame, problem.freedom, len(theta)) > 0
    small = _SMALL_SCALE * np.maximum(np.abs(theta[:, 1]), np.finfo(float).tiny)
    sign = np.where(problem.high > 0, 1.0, -1.0)
    first = np.where(counts & (np.abs(theta[:, 0]) < small), sign * small, theta[:, 0])
    first = np.where(counts, np.clip(first, problem.low, problem.high), theta[:, 0])
    return np.stack((first, theta[:, 1]), 1)


def _answer(
    alone: AffineDepth,
    problem: AffineProblem,
    joint: Joint,
    first_stature_m: np.ndarray,
    unit: np.ndarray,
    middle: np.ndarray,
) -> AffineDepth:
    """The joint solution in the terms of the single one, whose spreads and flags remain."""
    scale = joint.theta[:, 0] / unit
    stature = problem.metres(joint.theta) * problem.per_metre
    return replace(
        alone,
        scale=scale,
        shift=joint.theta[:, 1] - scale * middle,
        active=np.where(alone.active == DEGENERATE, DEGENERATE, joint.held),
        depth_ratio=stature / first_stature_m,
        stature_m=stature,
        standardised_residual=(stature - problem.mean) / problem.std,
    )


def _per_frame(
    answer: AffineDepth,
    frames: Sequence[FrameEvidence],
    seen: Sightings,
    part: np.ndarray,
    intervals: list[ScaleInterval],
    config: DTOConfig,
) -> list[Solution]:
    """The solution of each frame as :func:`crowdmesh.dto.place` states it."""
    solutions, first = [], 0
    for f, (frame, who) in enumerate(zip(frames, seen.split(part), strict=True)):
        last = first + int(who.sum())
        if last == first:
            status = frame.cues.status.copy()
            status[frame.cues.evident] = PersonStatus.KEPT_ALONE
            solutions.append(unsolved(status, frame.people.stature_m, UNBOUNDED))
            continue
        people = {name: getattr(answer, name)[first:last] for name in _PER_PERSON}
        image = {name: getattr(answer, name)[[f]] for name in vars(answer) if name not in _PER_PERSON}
        one = AffineDepth(**people, **image)
        solutions.append(affine_solution(one, who, intervals[f], frame.cues, frame.people.stature_m, config))
        first = last
    return solutions
