"""Who is seen of whom: visible shares of people by the z-buffer, while a stage is being filled."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from crowdmesh.raster import rasterize
from crowdmesh.synth.staging.crowd import exact_body
from crowdmesh.synth.staging.floor import Floor, Placed

_COARSE_PX = 320


def seen_pixels(floor: Floor, coarse_px: int = _COARSE_PX) -> Int[np.ndarray, " U"]:
    """Pixels that each placed unit's first-to-last hidden member shows: the fewest of any of its people.

    Counted in a picture of ``coarse_px`` pixels along its longer side; furniture hides nobody here.
    """
    person = _buffer([v for placed in floor.placed for v in _vertices(floor, placed)], floor, coarse_px)
    owner = [u for u, placed in enumerate(floor.placed) for _ in placed.unit.members]
    counts = np.bincount(person[person >= 0], minlength=len(owner))
    fewest = np.full(len(floor.placed), np.iinfo(np.int64).max)
    np.minimum.at(fewest, owner, counts)
    return fewest


def visible_share(floor: Floor, unit: Placed) -> Float[np.ndarray, " 2"]:
    """Pixels of a unit's silhouette within the picture, and the share of them that nobody placed hides.

    At the picture's own resolution; the unit itself need not be placed.
    """
    own = _vertices(floor, unit)
    others = [v for placed in floor.placed if placed is not unit for v in _vertices(floor, placed)]
    size = max(floor.viewpoint.camera.width, floor.viewpoint.camera.height)
    whole = int((_buffer(own, floor, size) >= 0).sum())
    person = _buffer([*own, *others], floor, size)
    seen = int(((person >= 0) & (person < len(own))).sum())
    return np.array((whole, seen / max(whole, 1)), float)


def _vertices(floor: Floor, placed: Placed) -> list[np.ndarray]:
    return [floor.viewpoint.to_camera(vertices) for _, vertices, _, _ in placed.solids]


def _buffer(vertices: list[np.ndarray], floor: Floor, long_side_px: int) -> np.ndarray:
    camera = floor.viewpoint.camera
    factor = min(1.0, long_side_px / max(camera.width, camera.height))
    small = camera.scaled(max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))
    surface = torch.from_numpy(np.stack(vertices).astype(np.float32))
    return rasterize(surface, exact_body().faces, small.K, (small.height, small.width)).person.numpy()
