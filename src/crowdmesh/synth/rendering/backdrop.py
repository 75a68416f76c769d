"""Where the people are: ground, rooms, walls, hills, skylines and sky, all of them surfaces with an exact depth.

The place has its own frame: origin on the ground below the camera; right, up, forward. Everything is a plane, so the
depth of each pixel follows in closed form (float32, relative error below 1e-5 up to 100 m; no transcendental
functions, so the same on every machine).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from crowdmesh.synth.rendering.palette import Material
from crowdmesh.synth.scene import FAR, GROUND, SKY, SKY_DEPTH_M, WALL

_SMALLEST = np.float32(1e-9)
_NEAREST_M = 0.01  # nothing of the place lies nearer to the camera plane


@dataclass(frozen=True, eq=False)
class Panel:
    """A rectangle painted on a wall: a picture, door or window. Metres along the wall and above the ground."""

    left_m: float
    right_m: float
    bottom_m: float
    top_m: float
    color: Float[np.ndarray, " 3"]


@dataclass(frozen=True, eq=False)
class Wall:
    """An upright wall across one horizontal axis of the place.

    Attributes:
        axis: 0: at ``right = place_m``; 2: at ``forward = place_m``.
        top_m: its height; infinite in rooms.
    """

    axis: int
    place_m: float
    top_m: float
    material: Material
    panels: tuple[Panel, ...] = ()


@dataclass(frozen=True, eq=False)
class Layer:
    """Far hills, trees or houses: an upright plane at ``forward = distance_m`` with an outline.

    Attributes:
        outline_m: (256,) height of the top edge, repeated every ``repeat_m`` metres to the right.
        shade: (256,) brightness along the layer.
        smooth: whether the outline is interpolated (hills) or made of steps (houses).
    """

    distance_m: float
    outline_m: Float[np.ndarray, " 256"]
    repeat_m: float
    smooth: bool
    material: Material
    shade: Float[np.ndarray, " 256"]

    def spot(self, right_m: Float[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Entry of the outline left of places along the layer, and the share of the way to the next."""
        position = right_m / self.repeat_m
        position = (position - np.floor(position)) * len(self.outline_m)
        low = np.floor(position)
        return low.astype(np.int32) % len(self.outline_m), position - low

    def top_m(self, right_m: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Height of the top edge at places along the layer."""
        low, share = self.spot(right_m)
        if not self.smooth:
            return self.outline_m[low]
        return self.outline_m[low] * (1 - share) + self.outline_m[(low + 1) % len(self.outline_m)] * share


@dataclass(frozen=True, eq=False)
class Place:
    """All that stands still behind the people.

    Attributes:
        kind: in words, e.g. ``"room"`` or ``"hills"``.
        axes: (3, 3) rows are right, up and forward of the place in the camera frame.
        height_m: of the camera above the ground.
        ceiling_m: height of the ceiling, ``None`` in the open.
        sky: linear colours (2, 3) at the horizon and overhead; ``clouds``: their share of the sky.
    """

    kind: str
    axes: Float[np.ndarray, "3 3"]
    height_m: float
    ground: Material
    walls: tuple[Wall, ...]
    ceiling_m: float | None
    ceiling: Material
    layers: tuple[Layer, ...]
    sky: Float[np.ndarray, "2 3"]
    clouds: Material

    @property
    def indoors(self) -> bool:
        """Whether there is a ceiling."""
        return self.ceiling_m is not None

    def to_place(self, points_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Points of the camera frame in the frame of the place."""
        x, y, z = np.moveaxis(np.asarray(points_m, float), -1, 0)
        out = [row[0] * x + row[1] * y + row[2] * z for row in self.axes]
        return np.stack((out[0], out[1] + self.height_m, out[2]), -1)

    def label(self, surface: int) -> int:
        """The label (see ``scene.py``) of a surface index of :meth:`cast`."""
        if surface < 2:
            return (SKY, GROUND)[surface]
        return WALL if surface < 2 + len(self.walls) + self.indoors else FAR

    def cast(
        self, x: Float32[np.ndarray, " n"], y: Float32[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """What the rays (x, y, 1) of the camera frame meet first.

        Returns depths in metres (float32) and surface indices: 0 sky, 1 ground, then walls, ceiling and layers.
        """
        right, up, forward = (row[0] * x + row[1] * y + row[2] for row in self.axes.astype(np.float32))
        depth = np.full(x.shape, SKY_DEPTH_M, np.float32)
        surface = np.zeros(x.shape, np.int32)

        def meet(index: int, distance: np.ndarray, here: np.ndarray | None = None) -> None:
            closer = (distance > _NEAREST_M) & (distance < depth)
            if here is not None:
                closer &= here
            np.copyto(depth, distance, where=closer)
            surface[closer] = index

        meet(1, self.height_m / _not_zero(-up))
        index = 2
        for wall in self.walls:
            distance = wall.place_m / _not_zero(right if wall.axis == 0 else forward)
            meet(index, distance, None if np.isinf(wall.top_m) else self.height_m + up * distance < wall.top_m)
            index += 1
        if self.ceiling_m is not None:
            meet(index, (self.ceiling_m - self.height_m) / _not_zero(up))
            index += 1
        for layer in self.layers:
            distance = layer.distance_m / _not_zero(forward)
            below = self.height_m + up * distance < layer.top_m(right * distance)
            meet(index, distance, (forward > 0) & below)
            index += 1
        return depth, surface


def _not_zero(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < _SMALLEST, _SMALLEST, values)
