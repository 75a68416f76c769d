"""DepthExpert on the GPU: Depth Anything V2 (Yang et al. 2024) through transformers.

Sizes and licences: Small is Apache-2.0; Base and Large are CC BY-NC 4.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from crowdmesh.assets import Weights
from crowdmesh.depth import DepthKind, RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.experts._device import Device
from crowdmesh.experts._pretrained import Pretrained, batches, normalise
from crowdmesh.experts.base import InputImage

SHORT_SIDE = 518
"""The network sees images with a short side of at least this many pixels (the official default)."""

PATCH = 14
"""Both sides are multiples of the patch size."""

MAX_PATCHES = 8 * (SHORT_SIDE // PATCH) ** 2
"""Most patches an image is cut into: those of an image 8 times as long as wide. Longer ones are shown smaller."""


class DepthAnythingV2:
    """A disparity map per image: larger is nearer, scale and shift are unknown (kind ``"disparity"``).

    The checkpoints that transformers calls "metric" give metres (kind ``"metric"``).

    Args:
        model: an entry of the catalogue, or a folder in the hub's layout.
        device: where the network runs; ``device.batch`` images of the same shape go through it at once.
    """

    def __init__(self, model: Weights | Path, device: Device) -> None:
        self._network = Pretrained(model, "DepthAnythingForDepthEstimation", device)
        self.name = f"Depth Anything V2 ({self._network.weights.name})"

    def sources(self) -> tuple[Weights, ...]:
        """The network's weights."""
        return (self._network.weights,)

    def estimate(self, images: Sequence[InputImage]) -> list[RelativeDepth]:
        """A map of each image's size (float32); 0 where the network sees nothing but distance.

        Raises:
            AssetError: the network cannot be loaded.
            InputError: the network gives no value at all for an image.
        """
        if not images:
            return []
        kind: DepthKind = "metric" if self._network.config.depth_estimation_type == "metric" else "disparity"
        sizes = [input_size(image.height, image.width) for image in images]
        maps: dict[int, RelativeDepth] = {}
        for size in dict.fromkeys(sizes):
            alike = [index for index, other in enumerate(sizes) if other == size]
            for group in batches(alike, self._network.device.batch):
                pixels = torch.stack([prepare(images[index].pixels) for index in group])
                small = self._network(pixels).predicted_depth
                for index, values in zip(group, small, strict=True):
                    maps[index] = checked_map(enlarge(values, images[index]), kind, images[index])
        return [maps[index] for index in range(len(images))]


def input_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) in which the network sees an image, by the official rule.

    The shape is kept as far as multiples of 14 allow, to the nearest multiple, with the short side at 518. An image
    that would have more than ``MAX_PATCHES`` patches is shown smaller, so that memory stays bounded.
    """
    scale = SHORT_SIDE / min(height, width)
    rows, columns = (max(round(side * scale / PATCH), SHORT_SIDE // PATCH) for side in (height, width))
    if rows * columns > MAX_PATCHES:
        scale *= math.sqrt(MAX_PATCHES / (rows * columns))
        rows, columns = (max(math.floor(side * scale / PATCH), 1) for side in (height, width))
        rows, columns = min(rows, MAX_PATCHES), min(columns, MAX_PATCHES)
    return rows * PATCH, columns * PATCH


def prepare(image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "3 h w"]:
    """The image in the size of :func:`input_size`, bicubic without smoothing as in the official code, normalised."""
    height, width = input_size(*image.shape[:2])
    resized = cv2.resize(image.astype(np.float32) / 255.0, (width, height), interpolation=cv2.INTER_CUBIC)
    return normalise(torch.from_numpy(resized).permute(2, 0, 1))


def enlarge(values: Float[Tensor, "h w"], image: InputImage) -> Float[np.ndarray, "H W"]:
    """The network's map in the size of the image: bilinear with the corners on the corners; negatives become 0."""
    size = (image.height, image.width)
    full = functional.interpolate(values[None, None].float(), size=size, mode="bilinear", align_corners=True)
    return full[0, 0].clamp(min=0.0).cpu().numpy()


def checked_map(values: Float[np.ndarray, "H W"], kind: DepthKind, image: InputImage) -> RelativeDepth:
    """The map of one image, refused with its name if it holds nothing."""
    if not np.any(np.isfinite(values) & (values > 0)):
        where = f"image {image.path}" if image.path is not None else "the image"
        raise InputError(f"the depth network gives no value at all for {where}; try it in float32, or leave it out")
    return RelativeDepth(values, kind)
