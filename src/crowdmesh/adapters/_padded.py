"""Networks that see the photograph in a square: scaled to its longer side, centred, the rest filled up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from crowdmesh.camera import Camera


@dataclass(frozen=True)
class Square:
    """A photograph of ``width`` x ``height`` in a square of ``side`` pixels.

    Attributes:
        inner_width, inner_height: what the photograph measures in the square.
        left, top: where it begins there.
    """

    width: int
    height: int
    side: float
    inner_width: float
    inner_height: float
    left: float
    top: float

    @classmethod
    def as_pillow_does(cls, width: int, height: int, side: int) -> Square:
        """``ImageOps.contain`` and ``ImageOps.pad``: whole pixels, halves to even."""
        inner_width = side if width >= height else round(width / height * side)
        inner_height = side if height >= width else round(height / width * side)
        left, top = round((side - inner_width) * 0.5), round((side - inner_height) * 0.5)
        return cls(width, height, side, inner_width, inner_height, left, top)

    @classmethod
    def exactly(cls, width: int, height: int, side: float) -> Square:
        """Without rounding."""
        scale = side / max(width, height)
        inner = (scale * width, scale * height)
        return cls(width, height, side, *inner, (side - inner[0]) / 2, (side - inner[1]) / 2)

    @classmethod
    def before_scaling(cls, width: int, height: int) -> Square:
        """Padded to a square of the longer side first, in whole pixels rounded down, then scaled; side one."""
        side = max(width, height)
        return cls(
            width, height, 1, width / side, height / side, (side - width) // 2 / side, (side - height) // 2 / side
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the photograph per pixel of the square, across and down."""
        return self.width / self.inner_width, self.height / self.inner_height

    def camera(self, focal: float, cx: float, cy: float) -> Camera:
        """The photograph's camera of one in pixels of the square."""
        across, down = self.scale
        return Camera(
            focal * across, focal * down, (cx - self.left) * across, (cy - self.top) * down, self.width, self.height
        )

    def to_photo(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Points of the square in pixels of the photograph."""
        return (points - (self.left, self.top)) * self.scale
