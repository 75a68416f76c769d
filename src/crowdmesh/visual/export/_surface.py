"""The people's surfaces in the frame of a file, as every mesh format wants them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from crowdmesh.body import pose_people
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import Faces, triangles
from crowdmesh.visual.export._turn import turned
from crowdmesh.visual.export.frame import Frame
from crowdmesh.visual.palette import person_colors
from crowdmesh.visual.shading import vertex_normals


@dataclass(frozen=True, eq=False)
class Surface:
    """K bodies of one topology in the frame and unit of a file.

    Attributes:
        vertices, normals: (K, V, 3); normals are unit and point outward.
        faces: (F, 3) counter-clockwise from outside.
        colors: (K, 3) sRGB in [0, 1].
    """

    vertices: Float[np.ndarray, "K V 3"]
    normals: Float[np.ndarray, "K V 3"]
    faces: Int[np.ndarray, "F 3"]
    colors: Float[np.ndarray, "K 3"]


def posed(scene: Scene) -> Scene:
    """The scene with vertices, made from the parameters where it has none.

    Raises:
        InputError: there is nothing to make them from.
    """
    people = scene.people
    if people.vertices_m is not None:
        return scene
    if people.body == "rigid":
        raise InputError("these people have neither vertices nor parameters; there is nothing to export")
    return replace(scene, people=pose_people(people))


def surface(scene: Scene, faces: Faces, frame: Frame) -> Surface:
    """Surfaces of the posed people of a scene, in the frame of a file."""
    assert scene.people.vertices_m is not None
    vertices, corners = turned(scene.people.vertices_m, frame), triangles(faces)
    normals = vertex_normals(torch.from_numpy(vertices), corners)
    normals[normals.norm(dim=-1) < 0.5] = torch.tensor([1.0, 0.0, 0.0])  # vertices of no triangle: any direction
    return Surface(vertices, normals.numpy(), corners.numpy(), person_colors(len(vertices)))
