"""From light to a photograph: exposure, white balance, smooth edges, sharpness and noise."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from crowdmesh.synth.rendering.palette import encoded

_MIDDLE = 0.19  # mean linear luminance a camera exposes for
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear sRGB (IEC 61966-2-1)
_TENT = np.array((0.25, 0.5, 0.25), np.float32)  # weights of a pixel and its neighbours where edges are smoothed


def exposure(
    light: Float[np.ndarray, "3 H W"], metered: Bool[np.ndarray, "H W"], random: np.random.Generator
) -> Float[np.ndarray, " 3"]:
    """Gain of each channel: the metered part of a picture near middle grey, and an imperfect white balance."""
    red, green, blue = (np.float32(share) for share in _LUMINANCE)
    luminance = (red * light[0] + green * light[1] + blue * light[2])[metered]
    # In whole numbers, so that the sum does not depend on its order.
    mean = int((np.minimum(luminance, 2.0) * np.float32(1024.0)).astype(np.int32).sum()) / 1024.0
    gain = np.clip(_MIDDLE * max(luminance.size, 1) / max(mean, 1.0), 0.4, 4.0) * 2.0 ** random.uniform(-0.6, 0.5)
    return (gain * random.uniform(0.93, 1.07, 3)).round(6).astype(np.float32)


def smooth_edges(light: Float[np.ndarray, "3 H W"], edges: Bool[np.ndarray, "H W"]) -> None:
    """Replace the pixels at ``edges`` by weighted means of their 3 x 3 neighbourhoods, in place."""
    height, width = edges.shape
    row, column = np.nonzero(edges)
    total = np.zeros((3, len(row)), np.float32)
    for down in range(3):
        y = np.clip(row + (down - 1), 0, height - 1) * width
        for across in range(3):
            pixels = y + np.clip(column + (across - 1), 0, width - 1)
            total += _TENT[down] * _TENT[across] * light.reshape(3, -1)[:, pixels]
    light[:, row, column] = total


def photograph(light: Float[np.ndarray, "3 H W"], random: np.random.Generator) -> UInt8[np.ndarray, "H W 3"]:
    """The 8-bit sRGB picture of exposed linear light, sometimes a little soft, mostly a little noisy."""
    picture = encoded(light)
    if random.random() < 0.4:
        picture = _softened(_softened(picture, 1), 2)
    # The difference of two uniform numbers from 0 to 15 is near enough to a normal one of standard deviation 6.5;
    # scaled in 1/64.
    scale = np.int16(round(random.uniform(0.0, 4.0) * 64 / 6.5))
    grain = random.integers(0, 256, picture.shape, np.uint8)
    noise = ((grain >> 4).astype(np.int16) - (grain & 15)) * scale
    noise += 32
    noise >>= 6
    noise += picture
    return cv2.merge(list(noise.clip(0, 255, out=noise).astype(np.uint8)))


def _softened(picture: np.ndarray, axis: int) -> np.ndarray:
    """Each pixel a sixth of its two neighbours and two thirds of itself along one axis."""
    lines = np.moveaxis(picture, axis, 0).astype(np.int16)
    middle = 4 * lines
    middle[1:] += lines[:-1]
    middle[:-1] += lines[1:]
    middle[0] += lines[0]
    middle[-1] += lines[-1]
    return np.moveaxis((middle + 3) // 6, 0, axis).astype(np.uint8)
