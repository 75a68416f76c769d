"""The scale map that teaches the encoder where to look closely: which cells a person covers, and how large they are.

Cells are squares of 28 input pixels; the nearest person who covers a cell gives it their size, the diagonal of their
label box over ``input_size`` (SAT-HMR; spec facts 2). Nothing is painted by what lies outside the image (spec 6.3 B3),
and no cell inside a silhouette is missed, however near the person and coarse the mesh.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.mahmr.encoder import CELL_PX
from crowdmesh.mahmr.tokens import morton_cells

# A cell wholly inside a triangle whose edges are no longer than this holds one of its corners: the cell's centre lies
# within edge / sqrt(3) of a corner, which is less than half of the cell's side.
EDGE_PX = 24.0
_MOST_PARTS = 8  # longer edges: the triangle is asked which cells' centres it covers
_CHUNK = 64


def scale_map(
    points_px: Sequence[Float[np.ndarray, "_ 2"]],
    sizes: Float[np.ndarray, " K"],
    depth_m: Float[np.ndarray, " K"],
    grid: tuple[int, int],
) -> Float[np.ndarray, "n 2"]:
    """Covered (0 or 1) and relative size of every cell in Morton order.

    Args:
        points_px: of each person's surface, dense enough (:func:`silhouette_points`), inside the image.
        sizes: diagonals of the label boxes over ``input_size``; clipped to [0, 1].
        depth_m: of the pelvis; the nearest person wins a cell.
        grid: rows and columns of cells of the padded input.
    """
    painted = np.zeros((*grid, 2))
    for person in np.argsort(-depth_m, kind="stable"):
        column, row = (points_px[person] / CELL_PX).astype(np.int64).T
        painted[row, column] = 1.0, min(max(float(sizes[person]), 0.0), 1.0)
    row, column = morton_cells(*grid).numpy().T
    return painted[row, column]


def silhouette_points(
    vertices_px: Float[np.ndarray, "V 2"],
    in_front: Bool[np.ndarray, " V"],
    faces: Int[np.ndarray, "F 3"],
    size: tuple[int, int],
    fine_mesh: bool = False,
) -> Float[np.ndarray, "n 2"]:
    """Points of a projected surface inside the image, at least one in every cell that lies wholly in the
    silhouette and in the image.

    Args:
        vertices_px: projected vertices. in_front: which of them lie in front of the camera.
        faces: of the mesh. size: height and width of the image, pixels.
        fine_mesh: no projected edge is longer than ``EDGE_PX``, so that the vertices alone do.
    """
    kept = [vertices_px if in_front.all() else vertices_px[in_front]]
    if not fine_mesh:
        corners, longest = _large_faces(vertices_px, faces if in_front.all() else faces[in_front[faces].all(1)], size)
        parts = np.ceil(longest / EDGE_PX).astype(np.int64)
        for n in range(2, min(_MOST_PARTS, int(parts.max(initial=0))) + 1):
            kept.append((_barycentric(n) @ corners[parts == n]).reshape(-1, 2))
        kept.append(_covered_centres(corners[parts > _MOST_PARTS], size))
    points = np.concatenate(kept)
    x, y = points[:, 0], points[:, 1]
    return points[(x >= 0) & (y >= 0) & (x < size[1]) & (y < size[0])]


def _large_faces(
    vertices_px: Float[np.ndarray, "V 2"], faces: Int[np.ndarray, "F 3"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "m 3 2"], Float[np.ndarray, " m"]]:
    """Triangles with an edge of more than ``EDGE_PX`` pixels that may touch the image, and that edge's length."""
    x, y = vertices_px[:, 0][faces.T], vertices_px[:, 1][faces.T]
    squared = (x - x[[1, 2, 0]]) ** 2 + (y - y[[1, 2, 0]]) ** 2
    longest = np.maximum(np.maximum(squared[0], squared[1]), squared[2])
    large = np.flatnonzero(longest > EDGE_PX**2)
    corners, longest = vertices_px[faces[large]], np.sqrt(longest[large])
    near = (corners.max(1) > 0).all(1) & (corners.min(1) < (size[1], size[0])).all(1)
    return corners[near], longest[near]


@lru_cache(maxsize=_MOST_PARTS)
def _barycentric(parts: int) -> Float[np.ndarray, "m 3"]:
    """Weights of the corners of a triangle cut into ``parts`` squared triangles."""
    i, j = np.indices((parts + 1, parts + 1)).reshape(2, -1)
    return np.stack((i, j, parts - i - j), 1)[i + j <= parts] / parts


def _covered_centres(corners: Float[np.ndarray, "m 3 2"], size: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
    """Centres of the cells that a triangle covers."""
    if not len(corners):
        return np.zeros((0, 2))
    row, column = np.indices(tuple(-(-side // CELL_PX) for side in size)).reshape(2, -1)
    left = np.stack((column + 0.5, row + 0.5), 1) * CELL_PX
    found = []
    for start in range(0, len(corners), _CHUNK):
        some = corners[start : start + _CHUNK]
        edges = some[:, [1, 2, 0]] - some
        offset = left[None, :, None] - some[:, None]  # (m, cells, 3, 2)
        side = edges[:, None, :, 0] * offset[..., 1] - edges[:, None, :, 1] * offset[..., 0]
        covered = ((side.min(2) >= 0) | (side.max(2) <= 0)).any(0)
        found.append(left[covered])
        left = left[~covered]
    return np.concatenate(found)
