"""Photographs as the network wants them: resized, padded, normalised (spec facts 1.1)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crowdmesh.mahmr.config import MULTIPLE_PX

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Canvas:
    """One image for the network.

    Attributes:
        pixels: (3, H, W) normalised; the image in the top left corner, black elsewhere.
        height, width: of the image in it, pixels.
    """

    pixels: Float[Tensor, "3 H W"]
    height: int
    width: int


def prepare(image: UInt8[np.ndarray, "H W 3"], input_size: int, device: torch.device | str = "cpu") -> Canvas:
    """Resize the longer side to ``input_size`` (bilinear, the other side rounded down) and pad right and bottom."""
    rate = input_size / max(image.shape[:2])
    height, width = (
        input_size if side == max(image.shape[:2]) else max(1, int(rate * side)) for side in image.shape[:2]
    )
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    padded = np.zeros((_up(height), _up(width), 3), np.uint8)
    padded[:height, :width] = small
    return Canvas(normalised(torch.from_numpy(padded).to(device)), height, width)


def normalised(pixels: UInt8[Tensor, "*B H W 3"]) -> Float[Tensor, "*B 3 H W"]:
    """Colours as DINOv2 takes them: mean 0 and standard deviation 1 over ImageNet."""
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (_MEAN, _STD))
    return (pixels.movedim(-1, -3).float() / 255 - mean) / std


def colours(pixels: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The inverse of :func:`normalised`: an image to look at."""
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (_MEAN, _STD))
    shown = ((pixels * std + mean) * 255).round().clamp(0, 255).byte()
    return np.ascontiguousarray(shown.movedim(0, -1).cpu().numpy())


def _up(side: int) -> int:
    return -(-side // MULTIPLE_PX) * MULTIPLE_PX
