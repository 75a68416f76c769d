"""Where tokens lie: Morton order of cells, sine codes of positions, rows of tokens of several images.

Cells of level l are squares of 14 * 2^l input pixels, counted as (y, x) from the top left of the square canvas of
``input_size`` pixels, whatever the size of the image in it (spec facts 1.2).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

TEMPERATURE = 20.0
"""Base of the sine code's wavelengths."""


def morton_cells(height: int, width: int) -> Int[Tensor, "n 2"]:
    """(y, x) of all cells of a grid in Morton order: bits of x at even places of the key, bits of y at odd places.

    With even sides every aligned square of 2 x 2 cells is four consecutive rows: (0, 0), (0, 1), (1, 0), (1, 1).
    """
    return torch.from_numpy(_morton_cells(height, width).copy())


@lru_cache(maxsize=64)
def _morton_cells(height: int, width: int) -> Int[np.ndarray, "n 2"]:
    y, x = np.indices((height, width)).reshape(2, -1)
    key = np.zeros_like(x)
    for bit in range(max(height, width).bit_length()):
        key |= ((x >> bit) & 1) << (2 * bit) | ((y >> bit) & 1) << (2 * bit + 1)
    return np.stack((y, x), 1)[key.argsort()]


def sine_code(position: Float[Tensor, "*n"], width: int) -> Float[Tensor, "*n {width}"]:
    """Sines (even channels) and cosines (odd channels) of a coordinate in [0, 1] at ``width / 2`` wavelengths."""
    channel = torch.arange(width, device=position.device) // 2
    wavelength = TEMPERATURE ** (2 * channel.to(position.dtype) / width)
    angle = 2 * math.pi * position[..., None] / wavelength
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1).flatten(-2)


def sine_code_2d(xy: Float[Tensor, "*n 2"], width: int) -> Float[Tensor, "*n {width}"]:
    """Code of a point or of a size: the half for y, then the half for x."""
    x, y = xy.unbind(-1)
    return torch.cat((sine_code(y, width // 2), sine_code(x, width // 2)), -1)


class Rows:
    """Tokens of several images as one row: image after image, and within an image part after part.

    Args:
        images: per part, the image that each of its tokens belongs to, in increasing order.
        batch: number of images.

    Attributes:
        lengths: tokens of each image.
        ends: (B + 1,) 0 and where each image's tokens end in the row.
    """

    def __init__(self, images: list[Int[Tensor, " _"]], batch: int) -> None:
        image = torch.cat(images)
        self.sizes = [len(part) for part in images]
        self.order = image.argsort(stable=True)
        counts = torch.bincount(image, minlength=batch)
        self.ends = nn.functional.pad(counts.cumsum(0), (1, 0)).to(torch.int32)
        self.lengths: list[int] = counts.tolist()

    def join(self, *parts: Tensor) -> Tensor:
        """The row made of the parts."""
        return torch.cat(parts)[self.order]

    def split(self, row: Tensor) -> tuple[Tensor, ...]:
        """The parts of the row."""
        parts = torch.empty_like(row).index_copy(0, self.order, row)
        return parts.split(self.sizes)
