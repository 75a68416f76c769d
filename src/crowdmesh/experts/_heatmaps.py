"""Crops of people for a heatmap network, and heatmaps back to image points: unbiased at both ends.

Unbiased data processing (UDP, Huang et al. 2020): distances are counted between the centres of the first and the last
pixel, so that crop and heatmap have the same corners and a mirrored crop has exactly the mirrored heatmap. DARK (Zhang
et al. 2020): the peak of a heatmap is found between its cells by one Newton step on the logarithm.

The library counts pixel centres as whole numbers, as OpenCV does; :class:`PersonCrop` adds the half pixel by which this
package's image points differ. Boxes are taken as they are: they only say where to look.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import gaussian_filter

WIDTH, HEIGHT = 192, 256
"""Size of a crop in pixels."""

PADDING = 1.25
"""A crop is this much larger than the box, widened to its shape."""

_SIGMA, _KERNEL = 0.8, 11  # blur before the peak is refined, in heatmap cells
_FLOOR, _CEILING = 0.001, 50.0  # heatmap values are kept in here before the logarithm
_FARTHEST = 2.0  # cells; what the Newton step says beyond is no peak


@dataclass(frozen=True)
class PersonCrop:
    """An upright window of an image, of the shape of the crops.

    Attributes:
        left, top: image index (pixel centres whole) of the centre of its first pixel.
        width, height: distance in image pixels from the centre of its first to the centre of its last pixel.
    """

    left: float
    top: float
    width: float
    height: float

    def sample(
        self, image: UInt8[np.ndarray, "H W 3"], mask: Bool[np.ndarray, "H W"] | None = None
    ) -> UInt8[np.ndarray, "256 192 3"]:
        """The window's content, bilinear; black outside the image and, with a mask, outside the mask."""
        rows, columns = _reach(self.top, self.height, image.shape[0]), _reach(self.left, self.width, image.shape[1])
        part = image[rows, columns]
        if mask is not None:
            part = part * mask[rows, columns, None]
        if part.size == 0:
            return np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        scale_x, scale_y = (WIDTH - 1) / self.width, (HEIGHT - 1) / self.height
        shift_x, shift_y = (columns.start - self.left) * scale_x, (rows.start - self.top) * scale_y
        matrix = np.array([[scale_x, 0.0, shift_x], [0.0, scale_y, shift_y]])
        return cv2.warpAffine(part, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)

    def to_image(self, cells: Float[np.ndarray, "*n 2"], size: tuple[int, int]) -> Float[np.ndarray, "*n 2"]:
        """Image points (pixel centres at +0.5) of points on a heatmap of ``size`` (width, height) cells."""
        step = np.array([self.width, self.height]) / (np.array(size) - 1.0)
        return cells * step + (self.left + 0.5, self.top + 0.5)


def crop_around(box_px: Float[np.ndarray, " 4"]) -> PersonCrop:
    """The window around a box (left, top, right, bottom): same centre, widened to 192:256, then 1.25 times as large.

    A box of less than a pixel counts as one of a pixel.
    """
    left, top, right, bottom = map(float, box_px)
    width, height = max(right - left, 1.0), max(bottom - top, 1.0)
    width, height = max(width, height * WIDTH / HEIGHT) * PADDING, max(height, width * HEIGHT / WIDTH) * PADDING
    return PersonCrop((left + right - width) / 2.0, (top + bottom - height) / 2.0, width, height)


def find_peaks(heatmaps: Float[np.ndarray, "N J h w"]) -> tuple[Float[np.ndarray, "N J 2"], Float[np.ndarray, "N J"]]:
    """The place (x, y) in cells of every heatmap's peak, and its value.

    Where the heatmap has no peak to refine, the place is that of its largest cell.
    """
    height, width = heatmaps.shape[2:]
    flat = heatmaps.reshape(*heatmaps.shape[:2], height * width)
    largest = flat.argmax(-1)
    values = np.take_along_axis(flat, largest[..., None], axis=-1)[..., 0]
    rows, columns = np.divmod(largest, width)
    blurred = gaussian_filter(heatmaps.astype(np.float64), sigma=_SIGMA, radius=_KERNEL // 2, axes=(2, 3))
    log = np.pad(np.log(blurred.clip(_FLOOR, _CEILING)), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    person, joint = np.ogrid[: heatmaps.shape[0], : heatmaps.shape[1]]

    def at(right: int, down: int) -> np.ndarray:
        return log[person, joint, rows + 1 + down, columns + 1 + right]

    here = at(0, 0)
    gradient = np.stack((at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)), axis=-1) / 2.0
    xx, yy = at(1, 0) - 2 * here + at(-1, 0), at(0, 1) - 2 * here + at(0, -1)
    xy = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * here - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2.0
    determinant = xx * yy - xy * xy
    # The Newton step by Cramer's rule; a flat logarithm (determinant 0) has no step.
    numerator = np.stack(
        (yy * gradient[..., 0] - xy * gradient[..., 1], xx * gradient[..., 1] - xy * gradient[..., 0]), -1
    )
    step = -numerator / np.where(determinant == 0.0, np.inf, determinant)[..., None]
    step = np.where(np.abs(step).max(-1, keepdims=True) <= _FARTHEST, step, 0.0)
    return np.stack((columns, rows), axis=-1) + step, values.astype(np.float64)


def _reach(start: float, length: float, size: int) -> slice:
    """Image rows or columns that a window draws on."""
    first = min(max(int(np.floor(start)) - 1, 0), size)
    return slice(first, max(min(int(np.ceil(start + length)) + 2, size), first))
