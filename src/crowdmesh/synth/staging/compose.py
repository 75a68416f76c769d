"""Stages: who stands where in which pose, on what, before which camera, with no pixel drawn yet.

Everything comes from one NumPy generator, so a config and a seed give one stage. Geometry is computed in double
precision and rounded to a grid of a micrometre (poses and shapes to 1e-7) before anything is decided by it or stored,
which hides the last bits in which mathematical libraries differ between machines.

A stage in which somebody finds no room is dropped whole and drawn anew from the same generator, at most
``STAGE_TRIES`` times; nobody is left out in silence.
"""

from __future__ import annotations

import math

import numpy as np

from crowdmesh.errors import InputError
from crowdmesh.synth.config import WorldConfig
from crowdmesh.synth.stage import Stage
from crowdmesh.synth.staging.arrange import (
    Arrangement,
    Crowding,
    Scatter,
    Window,
    draw_groups,
    draw_rows,
    draw_window,
    place_hidden,
)
from crowdmesh.synth.staging.casting import assemble, cast
from crowdmesh.synth.staging.crowd import Crowd, draw_crowd
from crowdmesh.synth.staging.figures import draw_figures
from crowdmesh.synth.staging.finish import people_in_camera, props_in_camera, sees_ground
from crowdmesh.synth.staging.floor import Floor, Placed
from crowdmesh.synth.staging.scenery import put_steps, put_wall
from crowdmesh.synth.staging.sight import seen_pixels
from crowdmesh.synth.staging.supports import Unit
from crowdmesh.synth.staging.viewpoint import draw_viewpoint

STAGE_TRIES = 30
PLACING_TRIES = 150
_SHOWING_ROUNDS = 4
_LATE_ATTEMPT = 40  # by then arrangements propose places anywhere in view


def draw_stage(config: WorldConfig, random: np.random.Generator) -> Stage:
    """Draw one stage.

    Raises:
        InputError: the config leaves no room for its people.
    """
    count = draw_count(config, random)
    for _ in range(STAGE_TRIES):
        stage = _try_stage(config, count, random)
        if stage is not None:
            return stage
    raise InputError(
        f"no room for {count} people between {config.distance_m[0]:g} and {config.distance_m[1]:g} m in "
        f"{STAGE_TRIES} stages; use fewer people, a wider field of view or a larger distance"
    )


def draw_count(config: WorldConfig, random: np.random.Generator) -> int:
    """People in this stage, log-uniform: small groups and crowds both occur."""
    if config.lineup is not None:
        return len(config.lineup)
    low, high = config.people
    return min(int(math.exp(random.uniform(math.log(low), math.log(high + 1)))), high)


def _try_stage(config: WorldConfig, count: int, random: np.random.Generator) -> Stage | None:
    names = list(config.arrangements)
    weights = np.array([config.arrangements[name] for name in names])
    arrangement = str(random.choice(names, p=weights / weights.sum()))
    viewpoint, aim = draw_viewpoint(config, random)
    floor = Floor(viewpoint, config.distance_m)
    if config.backdrop_wall and not put_wall(floor):
        return None
    crowd = draw_crowd(config, count, random)
    roles = cast(config, crowd, arrangement, random)
    figures = draw_figures(crowd, [role.family for role in roles], random)
    units = assemble(roles, figures, random)
    window = draw_window(viewpoint, config.distance_m, aim, len(units), arrangement)
    if arrangement != "rows" and not config.backdrop_wall and random.random() < config.supports.get("steps", 0.0):
        put_steps(floor, window.near_m, window.far_m, random)
    plan = _plan(arrangement, config, window, floor, units, random)
    free = len(units) - config.occluded
    if not _fill(floor, units[:free], plan, random) or not _show_everybody(floor, plan, random):
        return None
    for unit in units[free:]:
        hidden = place_hidden(floor, unit, config.occluded_visible, random)
        if hidden is None:
            return None
        floor.placed.append(hidden)
    return _finished(crowd, floor, arrangement)


def _plan(
    arrangement: str, config: WorldConfig, window: Window, floor: Floor, units: list[Unit], random: np.random.Generator
) -> Arrangement:
    scatter = Scatter(window, floor, config.facing)
    if arrangement == "groups":
        return draw_groups(scatter, len(units), random)
    if arrangement == "rows":
        return draw_rows(scatter, [unit.height_m for unit in units], random)
    if arrangement == "crowd":
        yaw = 0.0 if random.random() < 0.5 else random.uniform(-math.pi, math.pi)
        return Crowding(window, floor, yaw, random.uniform(0.15, 0.6))
    return scatter


def _fill(floor: Floor, units: list[Unit], plan: Arrangement, random: np.random.Generator) -> bool:
    """Place every unit; whether there was room for all."""
    for index, unit in enumerate(units):
        placed = _place(floor, unit, index, 0, plan, random)
        if placed is None:
            return False
        floor.placed.append(placed)
    return True


def _place(
    floor: Floor, unit: Unit, index: int, first: int, plan: Arrangement, random: np.random.Generator
) -> Placed | None:
    for attempt in range(first, PLACING_TRIES):
        placed = floor.fits(unit, plan.propose(index, attempt, random))
        if placed is not None:
            return placed
    return None


def _show_everybody(floor: Floor, plan: Arrangement, random: np.random.Generator) -> bool:
    """Move whoever is wholly hidden elsewhere, in a few rounds; who is still hidden then stays.

    Whether there was room for all who moved.
    """
    for _ in range(_SHOWING_ROUNDS):
        hidden = [k for k, pixels in enumerate(seen_pixels(floor)) if pixels == 0]
        for k in hidden:
            unit = floor.placed[k].unit
            del floor.placed[k]
            moved = _place(floor, unit, k, _LATE_ATTEMPT, plan, random)
            if moved is None:
                return False
            floor.placed.insert(k, moved)
        if not hidden:
            break
    return True


def _finished(crowd: Crowd, floor: Floor, arrangement: str) -> Stage:
    viewpoint = floor.viewpoint
    people, poses, supports = people_in_camera(crowd, floor)
    return Stage(
        camera=viewpoint.camera,
        people=people,
        poses=poses,
        supports=supports,
        props=props_in_camera(floor),
        ground=viewpoint.ground,
        ground_visible=sees_ground(floor),
        arrangement=arrangement,
    )
