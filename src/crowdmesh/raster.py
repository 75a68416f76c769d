"""The metric z-buffer: which person is seen at each pixel, and how far away, on CPU or CUDA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import warp as wp
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh._raster_kernel import EMPTY_KEY, rasterize_faces
from crowdmesh.errors import InputError

NEAR_M = 0.05
"""Near plane in metres: surface closer to the camera plane than this is clipped away."""

VISIBILITY_TOLERANCE_M = 0.01
"""A vertex this far behind the rendered surface still counts as visible (it lies on a slanted pixel)."""


@dataclass(frozen=True, eq=False)
class ZBuffer:
    """Result of :func:`rasterize`.

    Attributes:
        depth: (H, W) float32 depth along z in metres; +inf where nobody is.
        face: (H, W) int32 index ``person * F + face``; -1 where nobody is.
        faces_per_person: F.
    """

    depth: Float[Tensor, "H W"]
    face: Int[Tensor, "H W"]
    faces_per_person: int

    @property
    def person(self) -> Int[Tensor, "H W"]:
        """(H, W) int32 index of the person seen at each pixel; -1 where nobody is."""
        return torch.div(self.face, max(self.faces_per_person, 1), rounding_mode="floor")


@torch.no_grad()
def rasterize(
    vertices_m: Float[Tensor, "K V 3"],
    faces: Int[Tensor, "F 3"],
    K: Float[Tensor, "3 3"] | Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    masks: Bool[Tensor, "K H W"] | None = None,
    near: float = NEAR_M,
) -> ZBuffer:
    """Render the nearest surface of K bodies that share one topology.

    Perspective-correct, watertight and deterministic: the same pixels whatever the order of execution or device. Of two
    surfaces at exactly the same depth the one with the lower face index is seen. Bodies that cross the image border
    or the camera plane are clipped.

    Args:
        vertices_m: float32 vertices in the camera frame, metres.
        faces: triangles, shared by all people.
        K: intrinsics in pixels of the output image (see ``Camera.scaled``).
        size: output (height, width).
        masks: where each person may appear; outside its own mask a person neither shows nor hides others.
        near: near plane in metres.

    Raises:
        InputError: shapes disagree, the size is empty, faces name missing vertices, or vertices are not finite.
    """
    _check(vertices_m, faces, size, masks)
    height, width = size
    device = vertices_m.device
    keys = torch.full((height, width), EMPTY_KEY, dtype=torch.int64, device=device)
    if len(vertices_m) and len(faces):
        allowed = torch.zeros((0, 0, 0), dtype=torch.uint8) if masks is None else masks.to(torch.uint8)
        wp.launch(
            rasterize_faces,
            dim=(len(vertices_m), len(faces)),
            inputs=[
                wp.from_torch(vertices_m.float().contiguous(), dtype=wp.vec3),
                wp.from_torch(faces.to(device, torch.int32).contiguous(), dtype=wp.vec3i),
                *(float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))),
                float(near),
                wp.from_torch(allowed.to(device).contiguous()),
                wp.from_torch(keys),
            ],
            device=wp.device_from_torch(device),
            # On CUDA the kernel must follow torch's work on the same stream.
            stream=wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None,
        )
    high_low = keys.view(torch.int32).view(height, width, 2)  # little endian: face first, depth second
    return ZBuffer(high_low[..., 1].contiguous().view(torch.float32), high_low[..., 0], len(faces))


@torch.no_grad()
def visible_vertices(
    buffer: ZBuffer,
    vertices_m: Float[Tensor, "K V 3"],
    K: Float[Tensor, "3 3"] | Float[np.ndarray, "3 3"],
    tolerance_m: float = VISIBILITY_TOLERANCE_M,
) -> Bool[Tensor, "K V"]:
    """Which vertices are seen: their pixel shows their own person, not more than ``tolerance_m`` nearer."""
    height, width = buffer.depth.shape
    z = vertices_m[..., 2]
    in_front = z > 0
    inverse = torch.where(in_front, z, torch.ones_like(z)).reciprocal()
    column = torch.floor(vertices_m[..., 0] * inverse * float(K[0, 0]) + float(K[0, 2]))
    row = torch.floor(vertices_m[..., 1] * inverse * float(K[1, 1]) + float(K[1, 2]))
    inside = in_front & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    zero = torch.zeros_like(row)
    pixel = torch.where(inside, row, zero).long() * width + torch.where(inside, column, zero).long()
    people = torch.arange(len(vertices_m), device=z.device)[:, None]
    own = buffer.person.reshape(-1)[pixel] == people
    return inside & own & (z <= buffer.depth.reshape(-1)[pixel] + tolerance_m)


def _check(vertices_m: Tensor, faces: Tensor, size: tuple[int, int], masks: Tensor | None) -> None:
    """Refuse what the kernel must never see: it does not check bounds."""
    height, width = size
    if vertices_m.ndim != 3 or vertices_m.shape[-1] != 3 or faces.ndim != 2 or faces.shape[-1] != 3:
        raise InputError(
            "rasterize needs vertices (K, V, 3) and faces (F, 3), "
            f"got {tuple(vertices_m.shape)} and {tuple(faces.shape)}"
        )
    if height < 1 or width < 1 or height >= 2**20 or width >= 2**20:
        raise InputError(f"cannot render an image of {width}x{height} pixels")
    if masks is not None and tuple(masks.shape) != (len(vertices_m), height, width):
        raise InputError(f"masks must have shape {(len(vertices_m), height, width)}, got {tuple(masks.shape)}")
    if len(vertices_m) * len(faces) >= 2**31:
        raise InputError(f"{len(vertices_m)} bodies of {len(faces)} faces are more than the z-buffer can number")
    if len(vertices_m) and faces.numel() and (int(faces.min()) < 0 or int(faces.max()) >= vertices_m.shape[1]):
        raise InputError(
            f"faces refer to vertices outside 0 to {vertices_m.shape[1] - 1}: bodies and faces do not belong"
        )
    if not torch.isfinite(vertices_m).all():
        raise InputError("vertices to render must be finite")
