"""From a query's state to a person: rotations, shape, place, confidence (spec facts 1.4)."""

from __future__ import annotations

import math

import roma
import torch
from jaxtyping import Float
from torch import Tensor, nn

from crowdmesh.body import BodyModel
from crowdmesh.mahmr.attention import MLP
from crowdmesh.mahmr.config import MAHMRConfig

_RARE = 0.01  # confidence of a network that has learned nothing


class PersonHeads(nn.Module):
    """Heads of all decoder layers. Pose and shape add up over layers, each layer with a head of its own."""

    mean_pose: Tensor
    mean_shape: Tensor

    def __init__(self, config: MAHMRConfig) -> None:
        super().__init__()
        width, layers = config.width, range(config.decoder_depth)
        pose, shape = 6 * len(config.posed_joints), config.num_betas
        poses = [MLP(*[width] * config.pose_depth, pose) for _ in layers]
        shapes = [MLP(*[width] * config.shape_depth, shape) for _ in layers]
        for head in (*poses, *shapes):  # everybody starts as the mean person
            nn.init.normal_(head.last.weight, std=1e-3)
            nn.init.zeros_(head.last.bias)
        self.pose, self.shape = nn.ModuleList(poses), nn.ModuleList(shapes)
        self.placement = MLP(width, width // 2, width // 2, 3)
        self.confidence = nn.Linear(width, 1)
        self.register_buffer("mean_pose", torch.eye(3)[:, :2].flatten().repeat(len(config.posed_joints)))
        self.register_buffer("mean_shape", torch.zeros(shape))
        nn.init.constant_(self.confidence.bias, math.log(_RARE / (1 - _RARE)))

    def start_from(self, body: BodyModel) -> None:
        """Make the mean person one of average shape who stands upright and faces the camera."""
        self.mean_pose[:6] = torch.from_numpy(body.facing_camera[:, :2].reshape(-1))
        defaults = [parameter.default for parameter in body.shape_params]
        self.mean_shape.copy_(torch.tensor(defaults[: len(self.mean_shape)]))

    def poses_6d(self, hidden: Float[Tensor, "L *n C"]) -> Float[Tensor, "L *n P"]:
        """Six numbers per posed joint after each layer, in the layout of :func:`rotations_of_6d`."""
        return self.mean_pose + _cumulative(self.pose, hidden)

    def shapes(self, hidden: Float[Tensor, "L *n C"]) -> Float[Tensor, "L *n S"]:
        """Shape parameters after each layer."""
        return self.mean_shape + _cumulative(self.shape, hidden)


def _cumulative(heads: nn.ModuleList, hidden: Tensor) -> Tensor:
    return torch.stack([head(state) for head, state in zip(heads, hidden, strict=True)]).cumsum(0)


def rotations_of_6d(values: Float[Tensor, "*n P"]) -> Float[Tensor, "*n J 3 3"]:
    """Rotation matrices of joints given by six numbers each: a 3 x 2 matrix, row by row, whose columns are made
    orthonormal (Zhou et al. 2019, in the layout of SPIN)."""
    columns = values.unflatten(-1, (-1, 3, 2))
    first = nn.functional.normalize(columns[..., 0], dim=-1)
    along = (first * columns[..., 1]).sum(-1, keepdim=True)
    second = nn.functional.normalize(columns[..., 1] - along * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def axis_angles(rotations: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 3"]:
    """Axis times angle in [0, pi], radians."""
    return roma.rotmat_to_rotvec(rotations)
