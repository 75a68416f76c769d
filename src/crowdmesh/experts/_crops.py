"""Square windows of an image, turned and scaled to what a small network wants to see, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_MAX_OVERSAMPLING = 8


@dataclass(frozen=True)
class SquareCrop:
    """A square window of an image, resampled to ``size`` x ``size`` pixels; crop pixels too have centres at +0.5.

    Attributes:
        centre_px: (x, y) of its centre in the image.
        side_px: its side length in image pixels.
        size: pixels per side after resampling.
        rotation: angle in radians by which the window is turned clockwise as seen in the image.
    """

    centre_px: tuple[float, float]
    side_px: float
    size: int
    rotation: float = 0.0

    @property
    def turn(self) -> Float[np.ndarray, "2 2"]:
        """Rotation from the crop's axes to the image's."""
        cosine, sine = math.cos(self.rotation), math.sin(self.rotation)
        return np.array([[cosine, -sine], [sine, cosine]])

    def to_image(self, points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Image pixels of points given in crop pixels."""
        return (points - self.size / 2.0) @ self.turn.T * (self.side_px / self.size) + self.centre_px

    def sample(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
        """The window's content; black outside the image.

        A window larger than ``size`` is sampled finer and averaged down, so that no image pixel is skipped.
        """
        oversampling = min(max(1, math.ceil(self.side_px / self.size)), _MAX_OVERSAMPLING)
        fine = replace(self, size=self.size * oversampling)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        content = cv2.warpAffine(image, fine._opencv_affine(), (fine.size, fine.size), flags=flags)
        return (
            cv2.resize(content, (self.size, self.size), interpolation=cv2.INTER_AREA) if oversampling > 1 else content
        )

    def paste(
        self, values: Float[np.ndarray, "S S"], left: int, top: int, width: int, height: int, outside: float
    ) -> Float[np.ndarray, "h w"]:
        """A map over the crop resampled to a region of the image; ``outside`` where the crop does not reach."""
        region = replace(self, centre_px=(self.centre_px[0] - left, self.centre_px[1] - top))
        return cv2.warpAffine(values, region._opencv_affine(), (width, height), borderValue=outside)

    def _opencv_affine(self) -> Float[np.ndarray, "2 3"]:
        """Affine map from crop to image for OpenCV, which counts pixel centres as whole numbers instead of +0.5."""
        origin = self.to_image(np.array([0.5, 0.5])) - 0.5
        return np.column_stack((self.turn * (self.side_px / self.size), origin))


def around_box(box_px: Float[np.ndarray, " 4"], margin: float, size: int) -> SquareCrop:
    """The upright square around the centre of a box (left, top, right, bottom), ``margin`` times its longer side."""
    left, top, right, bottom = map(float, box_px)
    side = max(right - left, bottom - top)
    return SquareCrop(((left + right) / 2, (top + bottom) / 2), margin * side, size)
