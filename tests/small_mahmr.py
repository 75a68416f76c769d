"""A small MA-HMR network of made-up weights, and pictures of noise for it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from crowdmesh.mahmr import MAHMR, MAHMRConfig


def tiny(size: int = 112, seed: int = 0, **changes) -> MAHMR:
    """A small network whose every parameter says something."""
    torch.manual_seed(seed)
    model = MAHMR(replace(MAHMRConfig.tiny(size), **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def noise(*sides: tuple[int, int], seed: int = 1) -> list[Tensor]:
    """Pictures of noise of these heights and widths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, height, width, generator=generator) for height, width in sides]


def flat_map(cells: int, covered: float, size: float) -> Tensor:
    return torch.tensor([[covered, size]]).repeat(cells, 1)
