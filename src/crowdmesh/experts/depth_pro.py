"""DepthExpert and CameraExpert on the GPU: Depth Pro (Bochkovskii et al. 2024, Apple's research licence).

One pass gives an inverse depth for a camera that sees the image's width under a fixed angle, and the angle itself; only
both together are metres. :class:`DepthPro` makes the pass, :class:`DepthProCamera` asks the same object, and what was
found of an image is kept for as long as the image is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from crowdmesh.assets import Weights
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts._device import Device
from crowdmesh.experts._pretrained import Pretrained, batches, normalise
from crowdmesh.experts.base import CameraEstimate, InputImage

PATCHES = 35
"""Crops into which the network cuts every image (25, 9 and 1 on three scales); all of them go through it at once."""

_LEAST_INVERSE, _LARGEST_INVERSE = 1e-4, 1e4  # 1 / metres; depths end at 10 km


@dataclass(frozen=True, eq=False)
class _Pass:
    """What the network says of one image.

    Attributes:
        inverse: (s, s) inverse depth over the image, right if the focal length were one image width.
        horizontal_fov: field of view over the image's width, radians.
    """

    inverse: Float[Tensor, "s s"]
    horizontal_fov: float


class DepthPro:
    """A map of metres along z per image (kind ``"metric"``).

    The metres are those of the field of view that the network itself sees; with another camera they are off by the
    ratio of the focal lengths.

    Args:
        model: an entry of the catalogue, or a folder in the hub's layout.
        device: where the network runs; an image counts as 35 crops, so ``device.batch // 35`` images, at least one,
            go through it at once.
    """

    def __init__(self, model: Weights | Path, device: Device) -> None:
        self._network = Pretrained(model, "DepthProForDepthEstimation", device)
        self._known: WeakKeyDictionary[InputImage, _Pass] = WeakKeyDictionary()
        self.name = f"Depth Pro ({self._network.weights.name})"

    def sources(self) -> tuple[Weights, ...]:
        """The network's weights."""
        return (self._network.weights,)

    def estimate(self, images: Sequence[InputImage]) -> list[RelativeDepth]:
        """Metres of every pixel (float32), from 0.1 mm to 10 km.

        Raises:
            AssetError: the network cannot be loaded, or has no field of view.
            InputError: the network finds an impossible field of view.
        """
        return [
            RelativeDepth(metric_depth(found.inverse, found.horizontal_fov, image.height, image.width), "metric")
            for image, found in zip(images, self._passes(images), strict=True)
        ]

    def horizontal_fovs(self, images: Sequence[InputImage]) -> list[float]:
        """Field of view over each image's width, radians; raises as :meth:`estimate`."""
        return [found.horizontal_fov for found in self._passes(images)]

    def _passes(self, images: Sequence[InputImage]) -> list[_Pass]:
        new = [image for image in dict.fromkeys(images) if image not in self._known]
        for group in batches(new, max(self._network.device.batch // PATCHES, 1)):
            side = input_side(self._network.config)
            said = self._network(torch.cat([prepare(image.pixels, side) for image in group]))
            if said.field_of_view is None:
                raise AssetError(f"{self.name} has no field of view; use a checkpoint with its field-of-view head")
            for image, inverse, degrees in zip(group, said.predicted_depth, said.field_of_view, strict=True):
                self._known[image] = _Pass(inverse.float().cpu(), _checked_fov(float(degrees), image))
        return [self._known[image] for image in images]


class DepthProCamera:
    """CameraExpert: the field of view that Depth Pro sees; square pixels, central principal point.

    Args:
        depth: the expert to ask; if it also gives the depth, the network runs once per image.
    """

    def __init__(self, depth: DepthPro) -> None:
        self._depth = depth
        self.name = f"field of view of {depth.name}"

    def sources(self) -> tuple[Weights, ...]:
        """The network's weights."""
        return self._depth.sources()

    def estimate(self, images: Sequence[InputImage]) -> list[CameraEstimate]:
        """Each image's camera; raises as :meth:`DepthPro.estimate`."""
        estimates = []
        for image, fov in zip(images, self._depth.horizontal_fovs(images), strict=True):
            focal = image.width / (2.0 * math.tan(fov / 2.0))
            camera = Camera(focal, focal, image.width / 2.0, image.height / 2.0, image.width, image.height)
            estimates.append(CameraEstimate(camera, "Depth Pro"))
        return estimates


def prepare(image: UInt8[np.ndarray, "H W 3"], side: int) -> Float[Tensor, "1 3 s s"]:
    """The whole image as a square of ``side`` pixels with values from -1 to 1, bilinear without smoothing."""
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float() / 255.0
    square = functional.interpolate(planes, size=(side, side), mode="bilinear", align_corners=False)
    return normalise(square, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def metric_depth(
    inverse: Float[Tensor, "s s"], horizontal_fov: float, height: int, width: int
) -> Float[np.ndarray, "H W"]:
    """Metres of every pixel of an image of ``height`` x ``width`` pixels.

    The network's inverse depth holds for a focal length of one image width; the true one is 1 / (2 tan(fov / 2))
    widths. As the library's processor: scaled, enlarged bilinearly, kept within 1e-4 and 1e4, inverted.
    """
    scaled = inverse * (2.0 * math.tan(horizontal_fov / 2.0))
    full = functional.interpolate(scaled[None, None], size=(height, width), mode="bilinear", align_corners=False)
    return (1.0 / full[0, 0].clamp(_LEAST_INVERSE, _LARGEST_INVERSE)).numpy()


def input_side(config: Any) -> int:
    """Side of the square the network sees, in pixels: 1536 for the released one (patches of 384 on a scale of 1/4)."""
    patch = config.patch_size
    return round((patch if isinstance(patch, int) else patch[0]) / min(config.scaled_images_ratios))


def _checked_fov(degrees: float, image: InputImage) -> float:
    """Radians, refused if no camera has such a field of view."""
    shortest, longest = Camera.focal_range(image.width, image.height)
    if 0.0 < degrees < 180.0:
        fov = math.radians(degrees)
        if shortest <= image.width / (2.0 * math.tan(fov / 2.0)) <= longest:
            return fov
    where = f"image {image.path}" if image.path is not None else "the image"
    raise InputError(
        f"Depth Pro sees a field of view of {degrees:g} degrees over the width of {where}, which no camera has; "
        "use other experts for depth and camera"
    )
