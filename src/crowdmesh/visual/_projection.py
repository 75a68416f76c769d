"""The directions from which a scene is drawn to scale, and how much of it goes on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._axes import Axes, Extent
from crowdmesh.visual._crowd import Faces, page_points

MARGINS_PX = (68, 42, 12, 64)  # left, top, right, bottom, around the plot
_LEAST_SIZE_PX = 160

# Drawings start at the people, not at the camera, when the nearest is farther than this many metres and than this
# share of the farthest: a telephoto scene would otherwise be mostly empty.
_LONG_LENS_FROM_M = 8.0
_LONG_LENS_FROM_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Projection:
    """A direction to look along.

    Attributes:
        rotation: rows are page right, page down and away from the viewer, in the camera frame.
        across, up: names of the page axes.
        up_sign: -1 where the quantity named ``up`` grows down the page.
    """

    rotation: Float[np.ndarray, "3 3"]
    across: str
    up: str
    up_sign: float = 1.0

    def to_page(self, points_m: Float[np.ndarray, "*n 3"] | tuple[float, float, float]) -> Float[np.ndarray, "*n 2"]:
        """Page coordinates (right, up) in metres of camera-frame points."""
        return (np.asarray(points_m, float) @ self.rotation[:2].T) * (1.0, -1.0)

    def extent(self, scenes: Sequence[Scene], faces: Faces) -> Extent:
        """What a drawing of these scenes must show: the people and, unless everybody is far away, the camera.

        Give the same extent to several drawings to compare them at one scale. A lone person far beyond the others (over
        three times the median distance) or behind the camera does not count; drawings name such people at their edge.
        """
        corners = self.to_page(np.array(list(product(*_box(scenes, faces)))))
        (left, bottom), (right, top) = corners.min(0), corners.max(0)
        return Extent(float(left), float(right), float(bottom), float(top))

    def axes(self, extent: Extent, size: tuple[int, int]) -> Axes:
        """Where a drawing of ``size`` (height, width) puts a metre: the extent fits, the camera's end at the edge."""
        if min(size) < _LEAST_SIZE_PX:
            raise InputError(
                f"a drawing of {size[1]}x{size[0]} pixels is too small; give at least {_LEAST_SIZE_PX} each way"
            )
        left, top, right, bottom = MARGINS_PX
        ahead_across, ahead_up = self.to_page((0.0, 0.0, 1.0))
        align = (0.5 * (1.0 - float(ahead_across)), 0.5 * (1.0 - float(ahead_up)))
        return Axes.fit(extent, (left, top, size[1] - right, size[0] - bottom), align)


FROM_ABOVE = Projection(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]), "x (m)", "depth z (m)")
"""Seen from above, the camera looking up the page."""

FROM_ABOVE_RIGHTWARD = Projection(
    np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), "depth z (m)", "x (m)", up_sign=-1.0
)
"""Seen from above, the camera looking to the right: depth runs as in the side view below or above it."""

FROM_THE_SIDE = Projection(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]), "depth z (m)", "height (m)")
"""Seen from the camera's right-hand side, the camera looking to the right; height is measured from the camera."""


def _box(scenes: Sequence[Scene], faces: Faces) -> list[tuple[float, float]]:
    """(low, high) of x, y and z to show in the camera frame, metres, with some air and room for labels."""
    points = page_points(scenes, faces)
    if len(points) == 0:
        return [(-2.0, 2.0), (-1.0, 1.0), (-0.35, 5.0)]
    x, y, z = ((float(low), float(high)) for low, high in zip(points.min(0), points.max(0), strict=True))
    nearest = z[0] if z[0] > max(_LONG_LENS_FROM_M, _LONG_LENS_FROM_SHARE * z[1]) else 0.0
    return [
        (min(x[0], -1.0) - 0.3, max(x[1], 1.0) + 0.3),
        (min(y[0], -0.3) - 0.4, max(y[1], 0.6) + 0.12),
        (nearest - 0.35, max(z[1], 2.0) + 0.45),
    ]
