"""Draws a place around people: which room or landscape, its materials, and clutter that hides nobody."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from crowdmesh.synth.rendering.backdrop import Layer, Panel, Place, Wall
from crowdmesh.synth.rendering.palette import Material, linear, random_color
from crowdmesh.synth.rendering.textures import draw_texture, noise_line

PLACE_KINDS = ("room", "hall", "street", "hills", "city", "studio")

_ROOM_REACH_M = 9.0  # crowds that reach farther do not fit into a room, but into a hall
_HALL_REACH_M = 30.0
_SOIL_SRGB = np.array([(92, 118, 51), (117, 128, 70), (117, 97, 71), (194, 173, 133), (98, 98, 102)]) / 255.0
_FLOORS = ("boards", "tiles", "noise", "slabs", "grain", "checks")
_GROUNDS = ("grain", "noise", "slabs", "plain", "bricks")
_WALLS = ("plain", "noise", "bricks", "stripes", "tiles", "boards", "grain", "spots")


def draw_place(
    camera_height_m: float,
    up: Float[np.ndarray, " 3"],
    points_m: Float[np.ndarray, "N 3"],
    random: np.random.Generator,
) -> Place:
    """A random place with ground at the given plane, wide enough for all points.

    Args:
        camera_height_m: above the ground. up: the ground's unit normal, camera frame.
        points_m: people and props in the camera frame; walls and hills stand behind or beside all of them.
    """
    turn = random.uniform(-0.6, 0.6)
    axes = _axes(up, turn)
    room = Place("", axes, camera_height_m, _floor(random, _FLOORS, False), (), None, _paint(random), (), _sky(random),
                 _clouds(random))  # fmt: skip
    inside = np.concatenate((room.to_place(points_m), [(0.0, camera_height_m, 0.0)]))
    low, high = inside.min(0), inside.max(0)
    reach = high[2] - min(low[2], 0.0)
    shares = np.array((0.32 * (reach < _ROOM_REACH_M), 0.16 * (reach < _HALL_REACH_M), 0.16, 0.16, 0.16, 0.08))
    kind = PLACE_KINDS[int(random.choice(len(PLACE_KINDS), p=shares / shares.sum()))]
    if kind in ("room", "hall"):
        margin, tops = ((0.3, 4.0), (2.4, 3.2)) if kind == "room" else ((2.0, 15.0), (4.0, 9.0))
        ceiling = max(random.uniform(*tops), high[1] + 0.3)
        walls = _room_walls(low, high, margin, ceiling, random)
        return replace(room, kind=kind, walls=walls, ceiling_m=ceiling)
    room = replace(room, kind=kind, ground=_floor(random, _GROUNDS, True))
    behind = high[2] + random.uniform(0.5, 12.0)
    if kind == "studio":
        cloth = _paint(random, ("plain", "noise"))
        return replace(room, ground=cloth, walls=(Wall(2, behind, math.inf, cloth),))
    if kind == "street":
        top = random.uniform(2.0, 14.0)
        wall = Wall(2, behind, top, _wall_material(random), _panels(random, 60.0, top))
        return replace(room, walls=(wall,), layers=(_hills(random, behind + random.uniform(20.0, 200.0)),))
    near = max(high[2] + 5.0, random.uniform(15.0, 60.0))
    far = near + random.uniform(40.0, 400.0)
    layers = (
        (_houses(random, near), _hills(random, far)) if kind == "city" else (_hills(random, near), _hills(random, far))
    )
    return replace(room, layers=layers)


def _axes(up: np.ndarray, turn: float) -> np.ndarray:
    """Rows right, up, forward; forward is the viewing direction along the ground, turned about the vertical."""
    forward = np.array((0.0, 0.0, 1.0)) - up[2] * up
    forward /= math.sqrt(forward[0] ** 2 + forward[1] ** 2 + forward[2] ** 2)
    right = np.array(
        (
            forward[1] * up[2] - forward[2] * up[1],
            forward[2] * up[0] - forward[0] * up[2],
            forward[0] * up[1] - forward[1] * up[0],
        )
    )
    c, s = math.cos(turn), math.sin(turn)
    return np.stack((c * right + s * forward, up, c * forward - s * right)).round(9)


def _room_walls(
    low: np.ndarray, high: np.ndarray, margin: tuple[float, float], ceiling: float, random: np.random.Generator
) -> tuple[Wall, ...]:
    material = _wall_material(random)
    other = _wall_material(random) if random.random() < 0.4 else material
    sides = ((2, high[2], 1), (0, low[0], -1), (0, high[0], 1), (2, low[2], -1))
    return tuple(
        Wall(axis, float(place + sign * random.uniform(*margin)), math.inf, material if axis == 2 else other,
             _panels(random, 8.0, ceiling))
        for axis, place, sign in sides
    )  # fmt: skip


def _panels(random: np.random.Generator, reach_m: float, top_m: float) -> tuple[Panel, ...]:
    """Doors, windows and pictures; they may overlap, as on a real wall they would not."""
    panels = []
    for _ in range(int(random.integers(0, 7))):
        left, width, height = random.uniform(-reach_m, reach_m), random.uniform(0.3, 1.8), random.uniform(0.3, 1.4)
        bottom = 0.0 if random.random() < 0.3 else random.uniform(0.8, max(0.9, top_m - height - 0.2))
        height = 2.0 if bottom == 0.0 else height
        frame = random_color(random, (0.0, 0.4), (0.1, 0.95))
        panels.append(Panel(left - 0.06, left + width + 0.06, max(bottom - 0.06, 0.0), bottom + height + 0.06, frame))
        panels.append(Panel(left, left + width, bottom, bottom + height, random_color(random, (0.0, 0.9), (0.1, 1.0))))
    return tuple(panels)


def _floor(random: np.random.Generator, kinds: tuple[str, ...], outside: bool) -> Material:
    kind = kinds[int(random.integers(len(kinds)))]
    if outside and kind in ("grain", "noise", "plain"):  # grass, earth, sand, asphalt
        base = linear(_SOIL_SRGB[int(random.integers(len(_SOIL_SRGB)))]) * random.uniform(0.6, 1.5)
        return Material(draw_texture("grain", random), random.uniform(1.5, 4.0), np.stack((base * 0.5, base * 1.4)))
    saturation = (0.0, 0.2) if outside else (0.0, 0.45)
    return _two_tone(random, kind, random.uniform(1.6, 6.0), saturation, (0.3, 0.85))


def _wall_material(random: np.random.Generator) -> Material:
    kind = _WALLS[int(random.integers(len(_WALLS)))]
    repeat = random.uniform(1.2, 2.2) if kind in ("bricks", "tiles") else random.uniform(1.0, 4.0)
    return _two_tone(random, kind, repeat, (0.0, 0.55), (0.3, 0.98))


def _paint(random: np.random.Generator, kinds: tuple[str, ...] = ("plain",)) -> Material:
    return _two_tone(random, kinds[int(random.integers(len(kinds)))], 3.0, (0.0, 0.3), (0.55, 1.0))


def _two_tone(
    random: np.random.Generator,
    kind: str,
    repeat_m: float,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Material:
    """A colour and a darker or different one."""
    light = random_color(random, saturation, value)
    bold = kind in ("checks", "stripes", "spots") and random.random() < 0.5
    dark = random_color(random, saturation, value) if bold else light * random.uniform(0.35, 0.8)
    return Material(draw_texture(kind, random), repeat_m, np.stack((dark, light)), (random.random(), random.random()))


def _sky(random: np.random.Generator) -> np.ndarray:
    blue = linear((0.25, 0.47, 0.80)) * random.uniform(0.6, 1.3)
    grey = linear((0.75, 0.77, 0.80)) * random.uniform(0.5, 1.1)
    share = random.random()
    top = blue * share + grey * (1 - share)
    horizon = linear((0.86, 0.90, 0.95)) if random.random() < 0.75 else linear((0.97, 0.78, 0.58))
    return np.stack((horizon, top))


def _clouds(random: np.random.Generator) -> Material:
    amount = random.uniform(0.0, 1.0)
    return Material(draw_texture("noise", random), 1.6, np.stack((np.full(3, -amount), np.full(3, 1.2))))


def _hills(random: np.random.Generator, distance_m: float) -> Layer:
    octaves = int(random.integers(1, 6))
    outline = noise_line(random, 4, octaves) * random.uniform(0.02, 0.3) + random.uniform(-0.06, 0.05)
    green = linear((random.uniform(0.2, 0.45), random.uniform(0.3, 0.5), random.uniform(0.15, 0.4)))
    haze = min(distance_m / 500.0, 0.8)
    base = green * (1 - haze) + linear((0.65, 0.72, 0.82)) * haze
    texture = draw_texture("grain", random)
    material = Material(texture, distance_m / 8.0, np.stack((base * 0.6, base * 1.3)))
    return Layer(distance_m, outline * distance_m, distance_m * random.uniform(1.5, 4.0), True, material, np.ones(256))


def _houses(random: np.random.Generator, distance_m: float) -> Layer:
    widths = random.integers(6, 28, 60)
    heights = random.uniform(3.0, 0.5 * distance_m + 6.0, 60) * (random.random(60) < 0.85)
    outline, shade = (np.repeat(values, widths)[:256] for values in (heights, random.uniform(0.3, 1.5, 60)))
    material = _two_tone(random, ("tiles", "checks", "slabs", "bricks")[int(random.integers(4))], 16.0, (0.0, 0.4),
                         (0.3, 0.8))  # fmt: skip
    return Layer(distance_m, outline, 256.0, False, material, shade)
