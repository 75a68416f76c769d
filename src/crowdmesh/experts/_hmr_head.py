"""The head of CameraHMR, and the whole network: one token asks the picture for SMPL parameters and a camera.

Modules are named as in its checkpoint (Patel and Black, "CameraHMR", 3DV 2025; the head is that of HMR 2.0 with the
box as a further input).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from crowdmesh.experts._hmr_backbone import HMRBackbone

_JOINTS, _BETAS = 24, 10
_WIDTH, _HEADS, _HEAD_WIDTH = 1024, 8, 64
_BOX = 3


@dataclass(frozen=True, eq=False)
class HMROutput:
    """SMPL parameters of N crops.

    Attributes:
        rotations: (N, 24, 3, 3) relative to the parent joint, the root's first.
        betas: (N, 10) shape.
        weak_camera: (N, 3) scale and shift that bring the body's x and y into the crop, whose coordinates run from
            -1 to 1: scale * (x + shift).
    """

    rotations: Float[Tensor, "N 24 3 3"]
    betas: Float[Tensor, "N 10"]
    weak_camera: Float[Tensor, "N 3"]


class HMRNetwork(nn.Module):
    """CameraHMR: square crops of 256 x 256 pixels and their boxes to SMPL parameters.

    Args:
        depth: blocks of the image encoder; the released network has 32.
        width: of the image encoder.
        layers: of the head; the released network has 6.
    """

    def __init__(self, depth: int = 32, width: int = 1280, layers: int = 6) -> None:
        super().__init__()
        self.backbone = HMRBackbone(depth, width)
        self.smpl_head = HMRHead(width, layers)

    def forward(self, crops: Float[Tensor, "N 3 256 256"], boxes: Float[Tensor, "N 3"]) -> HMROutput:
        """Answer for normalised RGB crops.

        The encoder runs in the precision of its weights, the head in float32.

        Args:
            crops: only their columns 32 to 224 are looked at.
            boxes: direction of the crop's centre (x and y at distance 1) and the crop's side at distance 1.
        """
        tokens = self.backbone(crops[..., 32:224].to(self.backbone.pos_embed.dtype))
        return self.smpl_head(tokens.float(), boxes)


class HMRHead(nn.Module):
    """A transformer decoder whose one token starts as the box and the mean person, and ends as what to add to it."""

    init_body_pose: Tensor
    init_betas: Tensor
    init_cam: Tensor

    def __init__(self, context: int = 1280, layers: int = 6) -> None:
        super().__init__()
        sizes = {"init_body_pose": 6 * _JOINTS, "init_betas": _BETAS, "init_cam": 3}
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(1, size))
        self.transformer = _Transformer(_BOX + sum(sizes.values()), context, layers)
        self.decpose = nn.Linear(_WIDTH, 6 * _JOINTS)
        self.decshape = nn.Linear(_WIDTH, _BETAS)
        self.deccam = nn.Linear(_WIDTH, 3)

    def forward(self, tokens: Float[Tensor, "N T C"], boxes: Float[Tensor, "N 3"]) -> HMROutput:
        """Answer from the tokens of each crop and its box (see :class:`HMRNetwork`)."""
        mean = (self.init_body_pose, self.init_betas, self.init_cam)
        start = torch.cat((boxes, *(value.expand(len(boxes), -1) for value in mean)), 1)
        token = self.transformer(start[:, None], tokens)[:, 0]
        pose6d = self.decpose(token) + self.init_body_pose
        return HMROutput(
            rotations=rotations_from_6d(pose6d.unflatten(1, (_JOINTS, 6))),
            betas=self.decshape(token) + self.init_betas,
            weak_camera=self.deccam(token) + self.init_cam,
        )


def rotations_from_6d(values: Float[Tensor, "*n 6"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices from their first column followed by their second, both only roughly orthonormal."""
    first = F.normalize(values[..., :3], dim=-1)
    second = values[..., 3:]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


class _Transformer(nn.Module):
    """Embedding of the start, and layers of self-attention, cross-attention and GELU layer."""

    def __init__(self, start: int, context: int, layers: int) -> None:
        super().__init__()
        self.to_token_embedding = nn.Linear(start, _WIDTH)
        self.pos_embedding = nn.Parameter(Tensor(1, 1, _WIDTH))
        parts = (_SelfAttention, lambda: _CrossAttention(context), _FeedForward)
        stack = nn.ModuleList(nn.ModuleList(_Residual(part()) for part in parts) for _ in range(layers))
        self.transformer = nn.ModuleDict({"layers": stack})

    def forward(self, start: Float[Tensor, "N 1 S"], context: Float[Tensor, "N T C"]) -> Float[Tensor, "N 1 D"]:
        x = self.to_token_embedding(start) + self.pos_embedding
        for itself, across, forward in self.transformer["layers"]:  # type: ignore[attr-defined]
            x = forward(across(itself(x), context))
        return x


class _Residual(nn.Module):
    """What a part makes of the normalised token is added to the token; the context stays as it is."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(_WIDTH)
        self.fn = part

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        return x + self.fn(self.norm(x), *context)


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(_WIDTH, 3 * _HEADS * _HEAD_WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(_HEADS * _HEAD_WIDTH, _WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(_attend(*self.to_qkv(x).chunk(3, -1)))


class _CrossAttention(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(_WIDTH, _HEADS * _HEAD_WIDTH, bias=False)
        self.to_kv = nn.Linear(context, 2 * _HEADS * _HEAD_WIDTH, bias=False)
        self.to_out = nn.Sequential(nn.Linear(_HEADS * _HEAD_WIDTH, _WIDTH))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return self.to_out(_attend(self.to_q(x), *self.to_kv(context).chunk(2, -1)))


class _FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        # The checkpoint counts two dropouts, at 2 and 4, which do nothing here.
        self.net = nn.Sequential(nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Identity(), nn.Linear(_WIDTH, _WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Multi-head attention of (N, Tq, D) to (N, T, D)."""
    q, k, v = (x.unflatten(-1, (_HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
