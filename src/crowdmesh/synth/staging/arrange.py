"""How people are arranged: anywhere, in circles that talk, in rows as for a team photo, or as a crowd."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from crowdmesh.synth.staging.floor import Floor, Placed, Spot
from crowdmesh.synth.staging.sight import visible_share
from crowdmesh.synth.staging.supports import Box, Unit
from crowdmesh.synth.staging.viewpoint import Viewpoint

ROOM_M2 = {"scatter": 2.2, "groups": 1.8, "rows": 1.5, "crowd": 1.1}
"""Ground within view per unit of people that an arrangement asks for: the view is widened into the depth until it is
there."""
ROW_PITCH_M = (0.6, 0.8)
ROW_DEPTH_M = (0.7, 1.0)
GROUP_SIZES = (2, 3, 4, 5)
_CIRCLE_M = (0.42, 0.62)  # radius of a talking pair
_GROUP_TRIES = 12
_HIDING_TRIES = 60
_LEAST_SILHOUETTE_PX, _LEAST_SHARE = 300, 0.03  # of somebody meant to be hidden in part
_BORDER_SHARE = 0.06  # people stand up to this share of the width outside the picture's border


@runtime_checkable
class Arrangement(Protocol):
    """Proposes spots for unit ``index``; later attempts try elsewhere."""

    def propose(self, index: int, attempt: int, random: np.random.Generator) -> Spot:
        """A spot to try."""
        ...


@dataclass(frozen=True)
class Window:
    """The part of the ground in view that is used: from ``near_m`` to ``far_m`` ahead of the camera."""

    viewpoint: Viewpoint
    near_m: float
    far_m: float

    def draw(self, random: np.random.Generator, evenly: bool = False) -> tuple[float, float]:
        """A place (x, z) in view. ``evenly``: as many per square metre everywhere; else more of them near."""
        if evenly:
            z = math.sqrt(random.uniform(self.near_m**2, self.far_m**2))
        else:
            z = math.exp(random.uniform(math.log(self.near_m), math.log(self.far_m)))
        return self.viewpoint.across(random.uniform(-_BORDER_SHARE, 1.0 + _BORDER_SHARE), z), z


def draw_window(
    viewpoint: Viewpoint, distance_m: tuple[float, float], aim_m: float, units: int, arrangement: str
) -> Window:
    """The window about ``aim_m`` that has room for so many units, as far as the farthest distance allows."""
    near = max(distance_m[0], 0.55 * aim_m)
    far = min(distance_m[1], max(1.8 * aim_m, near + 0.5))
    slope = viewpoint.across(1.0, 1.0) - viewpoint.across(0.0, 1.0)
    wanted = ROOM_M2[arrangement] * units
    if 0.5 * slope * (far**2 - near**2) < wanted:
        far = min(distance_m[1], math.sqrt(near**2 + 2.0 * wanted / slope))
    return Window(viewpoint, near, far)


@dataclass(frozen=True)
class Scatter:
    """Anywhere in the window, turned at most ``facing`` from the camera."""

    window: Window
    floor: Floor
    facing: float
    evenly: bool = False

    def propose(self, index: int, attempt: int, random: np.random.Generator) -> Spot:
        """See :class:`Arrangement`."""
        x, z = self.window.draw(random, self.evenly)
        yaw = towards_camera(x, z) + random.uniform(-self.facing, self.facing)
        return Spot(x, z, yaw, self.floor.height_at(x, z)).rounded()


@dataclass(frozen=True)
class Crowding:
    """A dense crowd that looks one way: at the camera, or at something of its own."""

    window: Window
    floor: Floor
    yaw: float
    spread: float

    def propose(self, index: int, attempt: int, random: np.random.Generator) -> Spot:
        """See :class:`Arrangement`."""
        x, z = self.window.draw(random, evenly=True)
        return Spot(x, z, self.yaw + self.spread * random.standard_normal(), self.floor.height_at(x, z)).rounded()


@dataclass(frozen=True, eq=False)
class Groups:
    """Circles of two to five who face each other. Whoever finds no room in the own circle stands elsewhere."""

    fallback: Scatter
    circles: list[tuple[float, float, float, int, float]]  # x, z, radius, members, first direction
    seat: list[tuple[int, int]]  # circle and number within it of each unit

    def propose(self, index: int, attempt: int, random: np.random.Generator) -> Spot:
        """See :class:`Arrangement`."""
        if attempt >= _GROUP_TRIES:
            return self.fallback.propose(index, attempt, random)
        circle, number = self.seat[index]
        x, z, radius, members, start = self.circles[circle]
        angle = start + 2.0 * math.pi * number / members + 0.15 * random.standard_normal()
        radius *= 1.0 + 0.08 * attempt * random.random()
        dx, dz = radius * math.sin(angle), radius * math.cos(angle)
        # Facing -z, a turn of zero looks towards the camera: the circle's middle lies in direction (-dx, -dz).
        yaw = math.atan2(dx, dz) + 0.2 * random.standard_normal()
        return Spot(x + dx, z + dz, yaw, self.fallback.floor.height_at(x + dx, z + dz)).rounded()


def draw_groups(fallback: Scatter, units: int, random: np.random.Generator) -> Groups:
    """Split the units into circles and place these."""
    circles: list[tuple[float, float, float, int, float]] = []
    seat: list[tuple[int, int]] = []
    while len(seat) < units:
        size = min(int(random.choice(GROUP_SIZES)), units - len(seat))
        x, z = fallback.window.draw(random)
        radius = random.uniform(*_CIRCLE_M) * max(size, 2) / 2.0 if size > 1 else 0.0
        circles.append((x, z, radius, size, random.uniform(0.0, 2.0 * math.pi)))
        seat += [(len(circles) - 1, number) for number in range(size)]
    return Groups(fallback, circles, seat)


@dataclass(frozen=True, eq=False)
class Rows:
    """Fixed places in parallel rows; who does not fit moves a little, at last elsewhere."""

    fallback: Scatter
    places: Float[np.ndarray, "N 2"]
    yaw: float

    def propose(self, index: int, attempt: int, random: np.random.Generator) -> Spot:
        """See :class:`Arrangement`."""
        if attempt >= 2 * _GROUP_TRIES:
            return self.fallback.propose(index, attempt, random)
        x, z = self.places[index] + 0.03 * (1 + attempt) * random.standard_normal(2)
        yaw = self.yaw + 0.12 * random.standard_normal()
        return Spot(x, z, yaw, self.fallback.floor.height_at(x, z)).rounded()


def draw_rows(fallback: Scatter, heights_m: list[float], random: np.random.Generator) -> Rows:
    """Parallel rows, the lowest units in front; sometimes the last row stands on a bench, which joins the floor.

    Args:
        heights_m: height of each unit above its floor.
    """
    count = len(heights_m)
    rows = 1 if count < 4 else int(random.integers(1, 3)) if count < 9 else int(random.integers(2, 5))
    order = np.argsort(heights_m, kind="stable")
    pitch, depth = random.uniform(*ROW_PITCH_M), random.uniform(*ROW_DEPTH_M)
    window = fallback.window
    slope = window.viewpoint.across(1.0, 1.0) - window.viewpoint.across(0.0, 1.0)
    longest = -(-count // rows)
    front = min(max(window.near_m, pitch * longest / slope), fallback.floor.distance_m[1] - depth * rows)
    middle = window.viewpoint.across(0.5 + 0.1 * random.standard_normal(), front)
    yaw = towards_camera(middle, front) + 0.25 * random.standard_normal()
    benched = rows > 1 and random.random() < 0.5
    across, back = np.array((math.cos(yaw), -math.sin(yaw))), np.array((math.sin(yaw), math.cos(yaw)))
    if benched:  # benches lie along the level frame's axes
        across, back = np.array((1.0, 0.0)), np.array((0.0, 1.0))
    places = np.zeros((count, 2))
    for row, members in enumerate(np.array_split(order, rows)):
        columns = pitch * (np.arange(len(members)) - 0.5 * (len(members) - 1))
        start = np.array((middle, front)) + row * depth * back
        places[members] = start + columns[:, None] * across
        if benched and row == rows - 1:
            half = 0.5 * pitch * len(members) + 0.1
            (x, z), top = start, random.uniform(0.2, 0.45)
            bench = Box((x - half, -top, z - 0.3), (x + half, 0.0, z + 0.3)).rounded()
            fallback.floor.blocks.append(("bench", bench))
    return Rows(fallback, places, yaw)


def place_hidden(floor: Floor, unit: Unit, visible_below: float, random: np.random.Generator) -> Placed | None:
    """Somebody behind somebody nearer, so that less than a share of the silhouette is seen, but not nothing.

    ``None`` when no such place was found.
    """
    for _ in range(_HIDING_TRIES):
        front = floor.placed[int(random.integers(len(floor.placed)))].spot
        farther = random.uniform(1.12, 2.5)
        x, z = front.x * farther + 0.18 * random.standard_normal(), front.z * farther
        spot = Spot(x, z, random.uniform(-math.pi, math.pi), floor.height_at(x, z)).rounded()
        placed = floor.fits(unit, spot)
        if placed is not None:
            whole, share = visible_share(floor, placed)
            if whole >= _LEAST_SILHOUETTE_PX and _LEAST_SHARE <= share < visible_below:
                return placed
    return None


def towards_camera(x: float, z: float) -> float:
    """Yaw of somebody at (x, z) who looks at the camera."""
    return math.atan2(x, z)
