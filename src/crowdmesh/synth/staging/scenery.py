"""Steps and walls: blocks of the floor that belong to nobody."""

from __future__ import annotations

import numpy as np

from crowdmesh.synth.staging.floor import Floor
from crowdmesh.synth.staging.supports import Box

_HALF_WIDTH_M = 60.0
_BEHIND_M = 30.0
_WALL_GAP_M, _WALL_THICKNESS_M, _WALL_HEIGHT_M = 0.7, 0.2, 4.0
_RISE_M, _TREAD_M = (0.12, 0.4), (0.9, 2.5)
_MOST_STEPS = 6


def put_steps(floor: Floor, near_m: float, far_m: float, random: np.random.Generator) -> None:
    """Broad steps across the whole view that rise with the distance, such as a grandstand's or a stair's."""
    count = int(random.integers(1, _MOST_STEPS + 1))
    rise, tread = random.uniform(*_RISE_M), random.uniform(*_TREAD_M)
    start = near_m + random.uniform(0.2, 0.6) * (far_m - near_m)
    end = start + count * tread + _BEHIND_M
    for step in range(count):
        top = -(step + 1) * rise
        box = Box((-_HALF_WIDTH_M, top, start + step * tread), (_HALF_WIDTH_M, 0.0, end))
        floor.blocks.append(("step", box.rounded()))


def put_wall(floor: Floor) -> bool:
    """A wall behind the farthest place for people; whether it hides all ground from the camera."""
    place = floor.distance_m[1] + _WALL_GAP_M
    viewpoint = floor.viewpoint
    camera = viewpoint.camera
    for column in np.linspace(0.0, camera.width, 9):
        ray = viewpoint.direction(float(column), float(camera.height))
        if ray[1] > 0.0 and ray[2] / ray[1] * viewpoint.height_m < place + 0.05:
            return False
    box = Box((-_HALF_WIDTH_M, -_WALL_HEIGHT_M, place), (_HALF_WIDTH_M, 0.0, place + _WALL_THICKNESS_M))
    floor.blocks.append(("wall", box.rounded()))
    return True
