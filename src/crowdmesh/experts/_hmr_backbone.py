"""The image encoder of CameraHMR: a plain ViT-H, as ViTPose trained it. Modules are named as in its checkpoint."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_EPS = 1e-6


class HMRBackbone(nn.Module):
    """Vision transformer on pictures of 256 x 192 pixels, without class token.

    Args:
        depth: number of blocks; ViT-H has 32.
    """

    grid = (16, 12)
    """Rows and columns of patches."""

    patch = 16
    """Side of a patch in pixels; a frame of two zeros lies around the picture, so that the patches are off by two."""

    def __init__(self, depth: int = 32, width: int = 1280, heads: int = 16) -> None:
        super().__init__()
        rows, columns = self.grid
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, self.patch, self.patch, padding=2)})
        self.pos_embed = nn.Parameter(Tensor(1, 1 + rows * columns, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width, _EPS)

    def forward(self, pictures: Float[Tensor, "N 3 256 192"]) -> Float[Tensor, "N 192 C"]:
        """One token a patch, row by row, of normalised RGB pictures."""
        tokens = self.patch_embed["proj"](pictures).flatten(2).transpose(1, 2)
        tokens = tokens + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            tokens = block(tokens)
        return self.last_norm(tokens)


class _Block(nn.Module):
    """Pre-norm transformer block with exact GELU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, _EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, _EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Float[Tensor, "N T C"]) -> Float[Tensor, "N T C"]:
        q, k, v = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.attn["proj"](attended)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
