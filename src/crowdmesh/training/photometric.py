"""Changes of colour and pretended occluders: augmentation that moves no pixel."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8


def jittered(
    image: UInt8[np.ndarray, "H W 3"], strength: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Brightness, contrast and saturation changed, in random order, each by a factor from 1 -+ ``strength``."""
    for kind in rng.permutation(3):
        factor = rng.uniform(1 - strength, 1 + strength)
        if kind == 0:
            image = _curve(image, factor, 0.0)
        elif kind == 1:
            image = _curve(image, factor, (1 - factor) * float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()))
        else:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, factor, grey, 1 - factor, 0.0)  # type: ignore[assignment]
    return image


def occluded(
    image: UInt8[np.ndarray, "H W 3"],
    boxes_px: Float[np.ndarray, "K 4"],
    probability: float,
    share: float,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "H W 3"]:
    """A rectangle of noise in front of some people.

    Args:
        boxes_px: left, top, right, bottom of each person.
        probability: that a person gets one. share: most of the box's area that it covers.
    """
    image = image.copy()
    for left, top, right, bottom in boxes_px:
        if rng.random() >= probability:
            continue
        area, slant = share * rng.random(), np.exp(rng.uniform(-0.5, 0.5))
        width, height = (
            int(side * min(1.0, np.sqrt(area) * f)) for side, f in ((right - left, slant), (bottom - top, 1 / slant))
        )
        x, y = int(rng.uniform(left, right - width)), int(rng.uniform(top, bottom - height))
        patch = image[y : y + height, x : x + width]
        patch[...] = rng.integers(0, 256, patch.shape, np.uint8)
    return image


def _curve(image: UInt8[np.ndarray, "H W 3"], factor: float, offset: float) -> UInt8[np.ndarray, "H W 3"]:
    table = np.clip(np.arange(256) * factor + offset + 0.5, 0, 255).astype(np.uint8)
    return cv2.LUT(image, table)  # type: ignore[return-value]
