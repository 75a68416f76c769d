"""Labelled people of a batch in one row, and what the network says of each after every layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.training.targets import Targets


@dataclass(frozen=True, eq=False)
class PeopleRow:
    """The N people of all images of a batch, image after image; values and masks as in :class:`Targets`.

    Attributes:
        image: (N,) which image. scene: (N,) people of one number are compared with each other.
        focal_px: (N,) of the image's true camera; NaN where unknown.
    """

    image: Int[Tensor, " N"]
    scene: Int[Tensor, " N"]
    focal_px: Float[Tensor, " N"]
    boxes: Float[Tensor, "N 4"]
    has_box: Bool[Tensor, " N"]
    joints_2d: Float[Tensor, "N P 2"]
    joints_2d_mask: Bool[Tensor, "N P"]
    joints_3d: Float[Tensor, "N P 3"]
    joints_3d_mask: Bool[Tensor, "N P"]
    rotations: Float[Tensor, "N J 3 3"]
    has_pose: Bool[Tensor, " N"]
    betas: Float[Tensor, "N S"]
    betas_mask: Bool[Tensor, "N S"]
    depth_m: Float[Tensor, " N"]
    has_depth: Bool[Tensor, " N"]
    depth_layers: Int[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(cls, targets: Sequence[Targets]) -> PeopleRow:
        """The people of these images."""
        device = targets[0].boxes.device
        people = torch.tensor([len(target) for target in targets], device=device)
        image = torch.arange(len(targets), device=device).repeat_interleave(people)
        focal = torch.stack([torch.where(t.has_camera, t.focal_px, torch.nan) for t in targets])[image]
        own = {f.name: torch.cat([getattr(t, f.name) for t in targets]) for f in fields(cls)[3:]}
        return cls(image, image, focal, **own)

    def repeated(self, person: Int[Tensor, " R"], scene: Int[Tensor, " R"]) -> PeopleRow:
        """These people, several times, as people of other scenes."""
        own = {f.name: getattr(self, f.name)[person] for f in fields(self)}
        return PeopleRow(**own | {"scene": scene})


@dataclass(frozen=True, eq=False)
class Predicted:
    """What the queries that stand for N labelled people say after each of L layers.

    Attributes:
        found: (L, N) whether there is such a query; where not, the values mean nothing.
        joints_3d: (L, N, P, 3) of the keypoint layout, camera frame, metres. joints_2d: (L, N, P, 2) pixels.
        depth_m: (L, N) with the predicted camera. depth_at_true_focal_m: (L, N) as the true camera would have it.
    """

    found: Bool[Tensor, "L N"]
    boxes: Float[Tensor, "L N 4"]
    rotations: Float[Tensor, "L N J 3 3"]
    betas: Float[Tensor, "L N S"]
    joints_3d: Float[Tensor, "L N P 3"]
    joints_2d: Float[Tensor, "L N P 2"]
    depth_m: Float[Tensor, "L N"]
    depth_at_true_focal_m: Float[Tensor, "L N"]
