"""Metres on paper: which part of the world a view shows, and where a metre falls in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_STEPS_M = [float(digit * 10**power) for power in range(9) for digit in (1, 2, 5)]


@dataclass(frozen=True)
class Extent:
    """A rectangle of the world in page coordinates (metres; horizontal to the right, vertical up)."""

    left: float
    right: float
    bottom: float
    top: float


@dataclass(frozen=True)
class Axes:
    """An equal-scale map between page metres and pixels inside a rectangle of the picture.

    Attributes:
        x_px, y_px: pixel of the page origin (0 m, 0 m).
        scale: pixels per metre, the same in both directions.
        frame_px: left, top, right, bottom of the plot rectangle.
    """

    x_px: float
    y_px: float
    scale: float
    frame_px: tuple[int, int, int, int]

    @classmethod
    def fit(cls, extent: Extent, frame_px: tuple[int, int, int, int], align: tuple[float, float]) -> Axes:
        """The largest scale at which the whole extent fits the frame.

        ``align`` says where the extent sits in the direction that has room to spare: 0 left or bottom, 1 right or top.
        """
        left, top, right, bottom = frame_px
        wide, high = extent.right - extent.left, extent.top - extent.bottom
        scale = min((right - left) / wide, (bottom - top) / high)
        spare_x, spare_y = (right - left) - scale * wide, (bottom - top) - scale * high
        x_px = left + align[0] * spare_x - scale * extent.left
        y_px = bottom - align[1] * spare_y + scale * extent.bottom
        return cls(x_px, y_px, scale, frame_px)

    @property
    def shown(self) -> Extent:
        """The part of the world inside the frame."""
        left, top, right, bottom = self.frame_px
        return Extent(
            (left - self.x_px) / self.scale,
            (right - self.x_px) / self.scale,
            (self.y_px - bottom) / self.scale,
            (self.y_px - top) / self.scale,
        )

    def to_px(self, page_m: Float[np.ndarray, "*n 2"] | Sequence[float]) -> Float[np.ndarray, "*n 2"]:
        """Pixels (x right, y down) of page points in metres."""
        page_m = np.asarray(page_m, float)
        return np.stack((self.x_px + self.scale * page_m[..., 0], self.y_px - self.scale * page_m[..., 1]), -1)

    def to_m(self, points_px: Float[np.ndarray, "*n 2"] | Sequence[float]) -> Float[np.ndarray, "*n 2"]:
        """Page points in metres of pixels; the inverse of :meth:`to_px`."""
        points_px = np.asarray(points_px, float)
        return np.stack((points_px[..., 0] - self.x_px, self.y_px - points_px[..., 1]), -1) / self.scale

    def step_m(self, least_px: float) -> float:
        """The finest round distance in metres that is at least ``least_px`` long on paper."""
        return next((step for step in _STEPS_M if step * self.scale >= least_px), _STEPS_M[-1])


def ticks(low: float, high: float, step: float) -> list[float]:
    """Multiples of ``step`` within [low, high]."""
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return [i * step for i in range(first, last + 1)]
