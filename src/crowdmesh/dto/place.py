"""DTO for one image: cues, priors, solution, reshaped bodies. ``place`` is all a user needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.body import BodyModel, body_of, pose_people
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto.config import DTOConfig
from crowdmesh.dto.cues import Cues, measure, person_depth
from crowdmesh.dto.density import StatureDensity, marginal_density, normal_density
from crowdmesh.dto.fused import solve_fused
from crowdmesh.dto.ground import find_feet
from crowdmesh.dto.interval import UNBOUNDED, ScaleInterval, scale_interval
from crowdmesh.dto.known import hold_known_statures, with_known_statures
from crowdmesh.dto.placement import Placement
from crowdmesh.dto.priors import StaturePrior, age_group, stature_prior
from crowdmesh.dto.released import require_disparity, reshape_official, solve_official
from crowdmesh.dto.reshape import Reshaped, reshape
from crowdmesh.dto.solution import Solution, unsolved
from crowdmesh.dto.solve import DEGENERATE, AffineDepth, solve
from crowdmesh.errors import InputError
from crowdmesh.people import People, PersonStatus
from crowdmesh.scene import Scene

MIN_DEPTH_M = 0.1
"""A corrected depth below this does not lie in front of the camera."""


def place(
    scene: Scene, depth: RelativeDepth, config: DTOConfig | None = None, body: BodyModel | None = None
) -> tuple[Scene, Placement]:
    """Put people in their place: one depth transform for the image (paper section 3.2), weighed against stature.

    Args:
        scene: a first guess per person, from any source. People need ``vertices_m`` or pose and shape.
        depth: the depth map of the image, any resolution and kind.
        config: a preset (``dto.best()``, ``dto.paper()``, ``dto.official()``) or your own; default ``best``.
        body: the people's body model, when it is already loaded.

    Returns:
        The placed scene (same people, same order; moved in translation, shape and stature, with a status each) and
        the :class:`Placement` that says why.

    Raises:
        InputError: a depth map of another aspect ratio, people without vertices or parameters, or a depth kind that
            the preset does not support.
    """
    config = config or DTOConfig()
    body = body or body_of(scene.people)
    scene = posed_scene(scene, body)
    people = scene.people
    prior, density = expected_statures(people, config)
    cues = measure(scene, depth, body, config.cues)
    if config.solver == "released":
        require_disparity(depth)
        pelvis_m = person_depth(scene, body)
        solution = solve_official(cues, prior, people.stature_m, pelvis_m, scene.camera, config)
        return finish(scene, body, cues, prior, solution, reshape_official, config)
    if config.solver == "fused":
        assert people.vertices_m is not None
        feet = find_feet(people.vertices_m, scene.camera)
        solution = solve_fused(cues, depth.kind, people.stature_m, density, feet, config)
        solution = hold_known_statures(solution, people, cues.visible_share, config.fusion)
    else:
        solution = _solve_jointly(cues, prior, people.stature_m, config)
    return finish(scene, body, cues, prior, solution, reshape, config)


def posed_scene(scene: Scene, body: BodyModel) -> Scene:
    """The scene with surfaces and joints; InputError where the surfaces are not of this body."""
    people = scene.people
    if people.vertices_m is None or (people.joints_m is None and people.pose is not None):
        scene = replace(scene, people=pose_people(people, body))
        people = scene.people
    if people.vertices_m is not None and people.vertices_m.shape[1] != body.num_vertices:
        raise InputError(
            f"people have {people.vertices_m.shape[1]} vertices each, but body {body.name!r} has {body.num_vertices}"
        )
    return scene


def expected_statures(people: People, config: DTOConfig) -> tuple[StaturePrior, StatureDensity]:
    """The prior as Gaussians and as densities; known statures make it narrow."""
    evidence = (people.age_years, people.male_probability, people.age_std_years)
    if config.prior == "marginal":
        density = marginal_density(people.stature_m, *evidence, config.density)
        unknown = np.full(len(people), np.nan)
        group = age_group(*(unknown if values is None else values for values in evidence[:2]))
        return with_known_statures(StaturePrior(*density.moments_m(), group), density, people)
    prior = stature_prior(config.prior, people.stature_m, *evidence, config.unknown_age_std_m)
    return with_known_statures(prior, normal_density(prior.mean_m, prior.std_m, known_size(people)), people)


def _solve_jointly(cues: Cues, prior: StaturePrior, stature: np.ndarray, config: DTOConfig) -> Solution:
    """One affine transform for everybody with depth evidence (paper equations 3 and 7)."""
    status = cues.status.copy()
    usable = cues.evident & (cues.depth_m > MIN_DEPTH_M)
    status[cues.evident & ~usable] = PersonStatus.KEPT_IMPLAUSIBLE_DEPTH
    if usable.sum() < 2:
        status[usable] = PersonStatus.KEPT_ALONE
        return unsolved(status, stature, UNBOUNDED)
    interval = scale_interval(cues, config.scale, prior.mean_m / stature)
    answer = solve(
        cues.relative_depth[usable],
        cues.depth_m[usable],
        stature[usable],
        prior.mean_m[usable],
        prior.std_m[usable],
        (interval.low, interval.high),
    )
    return affine_solution(answer, usable, interval, cues, stature, config)


def affine_solution(
    answer: AffineDepth,
    usable: Bool[np.ndarray, " K"],
    interval: ScaleInterval,
    cues: Cues,
    stature: Float[np.ndarray, " K"],
    config: DTOConfig,
) -> Solution:
    """What the affine transform that was found means for everybody; ``answer`` is of one image's ``usable`` people."""
    status = cues.status.copy()
    status[cues.evident & ~usable] = PersonStatus.KEPT_IMPLAUSIBLE_DEPTH
    ratio, wanted, spread = np.ones(len(stature)), stature.copy(), np.zeros(len(stature))
    ratio[usable], wanted[usable], spread[usable] = answer.depth_ratio, answer.stature_m, answer.stature_std_m
    status[usable] = PersonStatus.PLACED
    low, high = config.stature_range_m
    status[usable & ((wanted < low) | (wanted > high))] = PersonStatus.KEPT_IMPLAUSIBLE_STATURE
    status[usable & (ratio * cues.depth_m < MIN_DEPTH_M)] = PersonStatus.KEPT_IMPLAUSIBLE_DEPTH
    residual = np.abs(answer.standardised_residual)
    implausible = status[usable] == PersonStatus.KEPT_IMPLAUSIBLE_STATURE
    residual = np.where(implausible, np.maximum(residual, config.implausible_residual), residual)
    notes = []
    if answer.interval_swapped[0]:
        notes.append(f"the slope inside people is negative ({interval.slope:.3g}): the interval of scales was swapped")
    if interval.slope is None:
        notes.append("nobody's depth varies with their body: the scale is not bounded by the slope inside people")
    if answer.active[0] == DEGENERATE:
        notes.append("everybody lies at one relative depth: the scale is not determined by it")
    return Solution(
        status=status,
        depth_ratio=ratio,
        wanted_stature_m=wanted,
        stature_std_m=spread,
        score=float(residual.mean()),
        scale=float(answer.scale[0]),
        shift=float(answer.shift[0]),
        active=int(answer.active[0]),
        interval=interval,
        solved=True,
        notes=tuple(notes),
    )


def finish(
    scene: Scene,
    body: BodyModel,
    cues: Cues,
    prior: StaturePrior,
    solution: Solution,
    move: Callable[..., Reshaped],
    config: DTOConfig,
) -> tuple[Scene, Placement]:
    """Move those who are placed with ``move`` (a reshaping function) and write down why."""
    people = scene.people
    moved = np.array([PersonStatus(int(s)).placed for s in solution.status], bool)
    ratio = np.where(moved, solution.depth_ratio, 1.0)
    reshaped = move(people, scene.camera, body, ratio, moved)
    known = known_size(people)
    status = np.where(moved & ~known, PersonStatus.PLACED_AGE_UNKNOWN, solution.status)
    status = np.where(moved & reshaped.limited, PersonStatus.PLACED_STATURE_LIMITED, status).astype(np.int64)
    guesswork = known.sum() < config.min_known_ages * len(people)
    note = f"the age of {int((~known).sum())} of {len(people)} people is unknown: the scale rests on guesses"
    initial_m = np.where(cues.depth_m != 0, cues.depth_m, person_depth(scene, body))
    # What the prior leaves open of a person who was not placed; depth goes with stature.
    prior_spread = prior.std_m / prior.mean_m
    stature_std = np.where(moved, solution.stature_std_m, prior_spread * people.stature_m)
    size_error = 0.0 if solution.size_error is None else solution.size_error * ratio
    own_std = np.hypot(stature_std / people.stature_m, size_error)
    depth_std = np.abs(initial_m) * np.hypot(own_std, config.focal_std * ratio)
    placement = Placement(
        preset=config.preset,
        scale=solution.scale,
        shift=solution.shift,
        interval=solution.interval,
        active=solution.active,
        relative_depth=cues.relative_depth,
        initial_depth_m=initial_m,
        depth_ratio=ratio,
        stature_m=reshaped.people.stature_m,
        prior_mean_m=prior.mean_m,
        prior_std_m=prior.std_m,
        prior_group=prior.group,
        standardised_residual=(solution.wanted_stature_m - prior.mean_m) / prior.std_m,
        depth_std_m=depth_std,
        stature_std_m=stature_std,
        reprojection_px=reshaped.reprojection_px,
        samples=cues.samples,
        excluded=cues.excluded,
        status=status,
        score=solution.score,
        accepted=bool(solution.solved and not guesswork and solution.score < config.accept_below),
        notes=(*solution.notes, note) if guesswork else solution.notes,
    )
    summary = {"preset": config.preset, "prior": config.prior, "scale": placement.scale, "shift": placement.shift}
    placed = replace(
        scene, people=replace(reshaped.people, status=status), provenance={**scene.provenance, "dto": summary}
    )
    return placed, placement


def known_size(people: People) -> np.ndarray:
    """(K,) bool: of known age or stature; where nobody asked for ages, everybody is an adult by agreement."""
    if people.age_years is None:
        return np.ones(len(people), bool)
    known = ~np.isnan(people.age_years)
    return known if people.known_stature_m is None else known | np.isfinite(people.known_stature_m)
