"""CameraExpert: the field of view as HumanFoV sees it (Patel and Black, "CameraHMR", 3DV 2025)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from crowdmesh.assets import UserFile
from crowdmesh.camera import Camera
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts._device import Device
from crowdmesh.experts._hrnet import FovNetwork
from crowdmesh.experts._pretrained import batches, normalise
from crowdmesh.experts._weights import Account, Layout, load_network
from crowdmesh.experts.base import CameraEstimate, InputImage

HUMAN_FOV = UserFile(
    name="cam_model_cleaned.ckpt",
    group="camerahmr",
    licence="CameraHMR licence of the Max Planck Society: non-commercial research",
    source="HumanFoV of CameraHMR: register at https://camerahmr.is.tue.mpg.de and download cam_model_cleaned.ckpt",
)

INPUT_PX = 256
"""Side of the square that the network sees, in pixels."""

LAYOUT = Layout(
    network="HumanFoV",
    unused={
        r"fc2\.(weight|bias)": "a layer that the release builds and does not use",
        r"backbone\.final_layer\.(weight|bias)": "HRNet's heatmaps, which nothing reads",
        r".*\.num_batches_tracked": "counters of training steps",
    },
    training={},
)
"""What its checkpoints hold beside what :class:`FovNetwork` has."""


class HumanFoV:
    """The vertical field of view from the whole photograph, by what people and their surroundings look like.

    It sees RGB, as it did when it was trained; DTO's release hands it BGR.

    Args:
        weights: the released checkpoint; ``None``: ``camerahmr/cam_model_cleaned.ckpt`` in the asset folders.
        device: where the network runs; ``device.batch`` images go through it at once.
    """

    name = "HumanFoV"

    def __init__(self, weights: Path | None, device: Device) -> None:
        self._file = HUMAN_FOV if weights is None else replace(HUMAN_FOV, path=Path(weights))
        self._device = device

    def sources(self) -> tuple[UserFile, ...]:
        """The checkpoint."""
        return (self._file,)

    @property
    def account(self) -> Account:
        """What became of every tensor in the checkpoint."""
        return self._loaded[1]

    def estimate(self, images: Sequence[InputImage]) -> list[CameraEstimate]:
        """The camera of each image: square pixels, principal point in the middle.

        Raises:
            AssetError: there is no checkpoint, or its answer is no field of view.
            FormatError: the file is not its checkpoint.
        """
        fovs = [fov for group in batches(images, self._device.batch) for fov in self._fovs(group)]
        return [CameraEstimate(_camera(image, fov), self.name) for image, fov in zip(images, fovs, strict=True)]

    @torch.inference_mode()
    def _fovs(self, images: Sequence[InputImage]) -> list[float]:
        network, _ = self._loaded
        pictures = torch.from_numpy(np.stack([padded_square(image.pixels) for image in images]))
        answers, _ = network(normalise(pictures.permute(0, 3, 1, 2) / 255.0).to(self._device.name))
        return answers[:, 1].double().tolist()

    @cached_property
    def _loaded(self) -> tuple[FovNetwork, Account]:
        network, account = load_network(self._file.fetch(), FovNetwork, LAYOUT)
        network.to(self._device.name)
        network.backbone.to(self._device.dtype)
        return network, account


def padded_square(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "256 256 3"]:
    """The whole image in the middle of a white square: its longer side fills it, the shorter is rounded down."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    new = [max(1, INPUT_PX * side // longest) for side in (height, width)]
    top, left = ((INPUT_PX - side) // 2 for side in new)
    square = np.full((INPUT_PX, INPUT_PX, 3), 255, np.uint8)
    resized = cv2.resize(pixels, (new[1], new[0]), interpolation=cv2.INTER_AREA)
    square[top : top + new[0], left : left + new[1]] = resized
    return square


def _camera(image: InputImage, fov: float) -> Camera:
    try:
        return Camera.from_vertical_fov(fov, image.width, image.height)
    except InputError as error:
        where = image.path or f"an image of {image.width}x{image.height} pixels"
        raise AssetError(
            f"HumanFoV gives {where} a vertical field of view of {math.degrees(fov):.3g}°, which no camera has; give "
            "the field of view yourself, or check that its checkpoint is the released one"
        ) from error
