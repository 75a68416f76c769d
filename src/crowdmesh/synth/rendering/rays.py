"""What the camera meets at each pixel: people, solids (props and clutter) and the place in one depth test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.raster import ZBuffer, rasterize
from crowdmesh.synth.rendering.backdrop import Place
from crowdmesh.synth.stage import Prop


@dataclass(frozen=True, eq=False)
class Geometry:
    """People and solids as one mesh, so that one z-buffer settles who is in front.

    Attributes:
        vertices_m: (V, 3) of all people one after the other, then of all solids; camera frame.
        faces: (F, 3); triangle ``person * faces_per_person + face``, then those of the solids.
        people, faces_per_person: how many there are.
        thing: index of the solid to which each triangle after those of the people belongs.
    """

    vertices_m: Float[np.ndarray, "V 3"]
    faces: Int[Tensor, "F 3"]
    people: int
    faces_per_person: int
    thing: Int[np.ndarray, " T"]

    @classmethod
    def of(
        cls, vertices_m: Float[np.ndarray, "K P 3"], faces: Int[Tensor, "F 3"], solids: tuple[Prop, ...]
    ) -> Geometry:
        """The bodies of K people and all solids, in order."""
        count, each = vertices_m.shape[:2]
        parts = [(faces[None] + each * torch.arange(count)[:, None, None]).reshape(-1, 3)]
        start = count * each
        for solid in solids:
            parts.append(torch.from_numpy(solid.faces.astype(np.int64)) + start)
            start += len(solid.vertices_m)
        return cls(
            np.concatenate([vertices_m.reshape(-1, 3), *(s.vertices_m for s in solids)]).astype(np.float32),
            torch.cat(parts),
            count,
            len(faces),
            np.repeat(np.arange(len(solids), dtype=np.int32), [len(solid.faces) for solid in solids]),
        )

    @property
    def body_faces(self) -> int:
        """How many triangles belong to people."""
        return self.people * self.faces_per_person

    def rendered(
        self, K: Float[np.ndarray, "3 3"], size: tuple[int, int], vertices_m: Float[np.ndarray, "V 3"] | None = None
    ) -> ZBuffer:
        """The z-buffer, optionally of vertices that were moved; ``face`` counts as :attr:`faces` does."""
        vertices = torch.from_numpy(self.vertices_m if vertices_m is None else vertices_m)
        return rasterize(vertices[None], self.faces, K, size)


@dataclass(frozen=True, eq=False)
class Sight:
    """N points seen, one per ray.

    Attributes:
        x, y: the ray is (x, y, 1) in the camera frame. depth: metres along z.
        face: triangle of the geometry that is seen, -1 for the place.
        surface: surface index of the place behind (see ``Place.cast``).
    """

    x: Float[np.ndarray, " N"]
    y: Float[np.ndarray, " N"]
    depth: Float[np.ndarray, " N"]
    face: Int[np.ndarray, " N"]
    surface: Int[np.ndarray, " N"]

    def __getitem__(self, points: slice | Int[np.ndarray, " n"] | Bool[np.ndarray, " N"]) -> Sight:
        """Some of the points."""
        return Sight(self.x[points], self.y[points], self.depth[points], self.face[points], self.surface[points])

    @property
    def position(self) -> Float[np.ndarray, "3 N"]:
        """The points in the camera frame, metres."""
        return np.stack((self.x * self.depth, self.y * self.depth, self.depth))


def look(buffer: ZBuffer, place: Place, K: Float[np.ndarray, "3 3"]) -> Sight:
    """What is seen at the centres of all pixels, row by row."""
    depth, face = buffer.depth.numpy().reshape(-1), buffer.face.numpy().reshape(-1)
    height, width = buffer.depth.shape
    x = np.tile(((np.arange(width) + 0.5 - K[0, 2]) / K[0, 0]).astype(np.float32), height)
    y = np.repeat(((np.arange(height) + 0.5 - K[1, 2]) / K[1, 1]).astype(np.float32), width)
    behind, surface = place.cast(x, y)
    return Sight(x, y, np.minimum(depth, behind), np.where(depth <= behind, face, np.int32(-1)), surface)
