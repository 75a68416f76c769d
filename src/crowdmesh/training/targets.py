"""What a batch teaches: images as the network sees them, and the labels in the network's own quantities."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LEAST_DEPTH_M = 0.1
"""No depth is learned nearer to the camera's plane than this, and the losses take nothing to be nearer."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Labels of one image with K people; pixels of the network's input, metres, camera frame, radians.

    Every per-person value stands beside a mask (K,) or (K, P) that says whether it may be learned; what is masked is
    finite but means nothing.

    Attributes:
        key: of the sample. dataset: its data set.
        image_size: (2,) height, width of the image in the input, without padding.
        boxes: (K, 4) centre x, y, width, height over ``input_size``, inside the image. has_box: (K,) False for
            people of whom only points are labelled, between which not all of the body need lie (elbows, say).
        joints_2d: (K, P, 2) of the configuration's keypoint layout. joints_2d_mask: (K, P).
        joints_3d: (K, P, 3). joints_3d_mask: (K, P).
        rotations: (K, J, 3, 3) of ``config.posed_joints``, relative to the parent. has_pose: (K,).
        betas: (K, S). betas_mask: (K, S).
        translations: (K, 3) of the body model; kept for pictures and judging.
        depth_m: (K,) z of the pelvis. has_depth: (K,), never nearer than :data:`LEAST_DEPTH_M`.
        depth_layers: (K,) 0 nearest, -1 unknown.
        age_years: (K,) NaN where unknown.
        focal_px: () focal length; 1 where unknown. vertical_fov: () of the image without padding. has_camera: ().
        everybody: () whether all people of whom something is visible are labelled here.
        scale_map: (n, 2) per cell of 28 pixels in Morton order: covered (0 or 1), relative size. has_map: ().
    """

    key: str
    dataset: str
    image_size: Float[Tensor, " 2"]
    boxes: Float[Tensor, "K 4"]
    has_box: Bool[Tensor, " K"]
    joints_2d: Float[Tensor, "K P 2"]
    joints_2d_mask: Bool[Tensor, "K P"]
    joints_3d: Float[Tensor, "K P 3"]
    joints_3d_mask: Bool[Tensor, "K P"]
    rotations: Float[Tensor, "K J 3 3"]
    has_pose: Bool[Tensor, " K"]
    betas: Float[Tensor, "K S"]
    betas_mask: Bool[Tensor, "K S"]
    translations: Float[Tensor, "K 3"]
    depth_m: Float[Tensor, " K"]
    has_depth: Bool[Tensor, " K"]
    depth_layers: Int[Tensor, " K"]
    age_years: Float[Tensor, " K"]
    focal_px: Float[Tensor, ""]
    vertical_fov: Float[Tensor, ""]
    has_camera: Bool[Tensor, ""]
    everybody: Bool[Tensor, ""]
    scale_map: Float[Tensor, "n 2"]
    has_map: Bool[Tensor, ""]

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, device: torch.device | str) -> Targets:
        """The same on a device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value.to(device) if isinstance(value, Tensor) else value
        return Targets(**moved)


@dataclass(frozen=True, eq=False)
class Example:
    """One image ready for the network.

    Attributes:
        pixels: (3, H, W) normalised, padded to multiples of 56 at the right and bottom.
        targets: its labels.
    """

    pixels: Float[Tensor, "3 H W"]
    targets: Targets

    def to(self, device: torch.device | str) -> Example:
        """The same on a device."""
        return Example(self.pixels.to(device, non_blocking=True), self.targets.to(device))
