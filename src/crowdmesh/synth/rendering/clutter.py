"""Boxes, columns and trees that fill a place, put where they hide nobody and nobody stands in them."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from crowdmesh.synth.rendering.backdrop import Place
from crowdmesh.synth.stage import Prop

_MOST = 9
_TRIES = 40
_CLEARANCE_M = 0.25
_FARTHEST_M = 45.0


def draw_clutter(
    place: Place, points_m: Float[np.ndarray, "N 3"], most_sideways: float, random: np.random.Generator
) -> tuple[Prop, ...]:
    """Up to nine things standing on the ground.

    Args:
        points_m: points on all people and props (camera frame, metres). A thing keeps away from them, and it stands
            farther than all points seen in its direction, so that it never hides one.
        most_sideways: tangent of half the horizontal field of view; beyond it nothing would be seen.
    """
    taken = place.to_place(points_m)[:, [0, 2]]
    wanted = int(random.integers(0, _MOST + 1)) if place.kind != "studio" else 0
    things: list[Prop] = []
    for _ in range(_TRIES):
        if len(things) >= wanted:
            break
        radius, parts = _thing(place, random)
        distance = random.uniform(1.5, _FARTHEST_M if not place.indoors else 14.0)
        spot = np.array((random.uniform(-1.1, 1.1) * most_sideways * distance, distance))
        if not _inside(place, spot, radius) or _in_the_way(spot, radius, taken):
            continue
        turn = random.uniform(0.0, math.pi)
        things += [
            _placed(place, spot, turn, solid, kind) for solid, kind in zip(parts, ("clutter", "crown"), strict=False)
        ]
        taken = np.concatenate((taken, [spot]))
    return tuple(things)


def _thing(place: Place, random: np.random.Generator) -> tuple[float, list[tuple[np.ndarray, np.ndarray]]]:
    """Radius of the footprint and the solids of one thing, standing at the origin of a frame right, up, forward."""
    if place.indoors or place.kind == "street" or random.random() < 0.4:
        if random.random() < 0.35:  # column, bin, lamp
            radius, height = random.uniform(0.06, 0.4), random.uniform(0.5, 2.3)
            return radius, [_prism(10, radius, 0.0, height, random.uniform(0.6, 1.1))]
        half = np.array((random.uniform(0.2, 1.1), random.uniform(0.3, 2.1), random.uniform(0.2, 0.5)))
        return math.hypot(half[0], half[2]), [_box(*half)]
    height, width = random.uniform(2.5, 9.0), random.uniform(0.6, 1.8)  # tree: a trunk and a crown
    trunk = _prism(7, 0.07 * width + 0.05, 0.0, 0.35 * height, 0.8)
    crown = _prism(9, width, 0.28 * height, height, 0.05 if random.random() < 0.5 else 0.7)
    return width, [trunk, crown]


def _box(half_width: float, height: float, half_depth: float) -> tuple[np.ndarray, np.ndarray]:
    corners, faces = _prism(4, 1.0, 0.0, height, 1.0)
    return np.sign(corners.round(6)) * (half_width, 0.0, half_depth) + corners * (0.0, 1.0, 0.0), faces


def _prism(sides: int, radius: float, bottom: float, top: float, taper: float) -> tuple[np.ndarray, np.ndarray]:
    """Corners and triangles of an upright prism whose top is ``taper`` times as wide as its foot."""
    angle = (np.arange(sides) + 0.5) * (2.0 * math.pi / sides)
    ring = np.stack((np.cos(angle), np.zeros(sides), np.sin(angle)), -1).round(9) * radius
    corners = np.concatenate(
        (ring + np.array((0, bottom, 0)), ring * (taper, 0, taper) + np.array((0, top, 0)), [(0, top, 0)])
    )
    here, after = np.arange(sides), (np.arange(sides) + 1) % sides
    lid = np.stack((here + sides, after + sides, np.full(sides, 2 * sides)), -1)
    wall = np.concatenate(
        (np.stack((here, after, here + sides), -1), np.stack((after, after + sides, here + sides), -1))
    )
    return corners, np.concatenate((wall, lid))


def _inside(place: Place, spot: np.ndarray, radius: float) -> bool:
    """Whether a footprint keeps off the walls and does not stand behind a wall or a far layer."""
    for wall in place.walls:
        gap = (wall.place_m - spot[wall.axis // 2]) * (1.0 if wall.place_m > 0 else -1.0)
        if gap < radius + 0.02:
            return False
    return all(spot[1] < layer.distance_m - radius for layer in place.layers)


def _in_the_way(spot: np.ndarray, radius: float, taken: np.ndarray) -> bool:
    """Whether somebody stands in the thing, or behind it as seen by the camera."""
    distance = math.hypot(*spot)
    if distance < radius + 1.0:
        return True
    toward = spot / distance
    ahead = taken[:, 0] * toward[0] + taken[:, 1] * toward[1]
    aside = np.abs(taken[:, 0] * toward[1] - taken[:, 1] * toward[0])
    inside = np.hypot(ahead - distance, aside) < radius + _CLEARANCE_M
    # The shadow of a disc seen from the origin widens with the distance.
    hidden = (ahead > distance - radius) & (
        aside < (radius + _CLEARANCE_M) * np.maximum(ahead / (distance - radius), 1.0)
    )
    return bool((inside | hidden).any())


def _placed(place: Place, spot: np.ndarray, turn: float, solid: tuple[np.ndarray, np.ndarray], kind: str) -> Prop:
    """A solid turned, put at a spot and brought into the camera frame."""
    c, s = math.cos(turn), math.sin(turn)
    corners, faces = solid
    right = c * corners[:, 0] + s * corners[:, 2] + spot[0]
    forward = c * corners[:, 2] - s * corners[:, 0] + spot[1]
    up = corners[:, 1] - place.height_m
    camera = right[:, None] * place.axes[0] + up[:, None] * place.axes[1] + forward[:, None] * place.axes[2]
    return Prop(kind, camera.round(6), faces)
