"""Slow, obvious, independent implementations to hold the fast ones against."""

from __future__ import annotations

import torch
from torch import Tensor


def cast_rays(
    vertices_m: Tensor, faces: Tensor, K: Tensor, size: tuple[int, int], near: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Depth (inf = nothing) and person (-1) through each pixel centre: every ray against every triangle.

    Float64 Moeller-Trumbore; knows nothing of projection, snapping or clipping: a hit counts if its z exceeds near.
    """
    height, width = size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = (
        torch.stack(((x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)), -1).reshape(-1, 3).double()
    )
    depth, person = torch.full((len(rays),), torch.inf, dtype=torch.float64), torch.full((len(rays),), -1)
    for k, surface in enumerate(vertices_m.double()):
        for triangles in surface[faces].split(512):
            a, ab, ac = triangles[:, 0], triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
            p = torch.linalg.cross(rays[:, None], ac[None])
            determinant = (p * ab).sum(-1)
            inverse = torch.where(
                determinant.abs() < 1e-15, torch.full_like(determinant, torch.nan), determinant
            ).reciprocal()
            q = torch.linalg.cross(-a, ab)
            u, v, t = -(p * a).sum(-1) * inverse, (rays @ q.T) * inverse, (q * ac).sum(-1) * inverse
            hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > near)
            nearest = torch.where(hit, t, torch.inf).amin(1)
            closer = nearest < depth
            depth[closer], person[closer] = nearest[closer], k
    return depth.reshape(size), person.reshape(size)
