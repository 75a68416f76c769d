"""A scene as a GLB file for any 3D viewer: one named, coloured node per person, and the photo's camera."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from crowdmesh._files import atomic_path
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import posed_vertices
from crowdmesh.visual.palette import person_colors
from crowdmesh.visual.shading import vertex_normals

# From the camera frame (x right, y down, z forward) to a right-handed frame with the named axis up.
_FRAMES = {
    "y": np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]),
    "z": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}


def save_glb(scene: Scene, faces: Int[np.ndarray, "F 3"], path: str | Path, up: Literal["y", "z"] = "y") -> None:
    """Write the people as binary glTF, in metres, with vertex normals and each person's colour; atomic.

    Nodes are named ``person_0``, ``person_1`` ... in the order of the people.

    Args:
        faces: triangles of the bodies.
        path: file ending in ``.glb``.
        up: ``"y"``: x right, y up, z towards the viewer, as glTF prescribes; the photo's camera sits at the origin and
            looks along -z. ``"z"``: x right, y away from the viewer, z up, for tools that do not turn glTF's axes.

    Raises:
        InputError: nobody in the scene, people without vertices, a wrong suffix or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise InputError(f"a 3D scene is saved as .glb, got {path.name}")
    if up not in _FRAMES:
        raise InputError(f"unknown up axis {up!r}; use 'y' or 'z'")
    if len(scene.people) == 0:
        raise InputError(f"there is nobody to write to {path.name}; a GLB file needs at least one person")
    vertices = torch.as_tensor(posed_vertices(scene))
    triangles = np.asarray(faces, np.int64)
    normals = vertex_normals(vertices, torch.as_tensor(triangles)).numpy()
    world = trimesh.Scene()
    for k, color in enumerate(person_colors(len(vertices))):
        mesh = _mesh(vertices[k].numpy() @ _FRAMES[up].T, triangles, normals[k] @ _FRAMES[up].T, color)
        world.add_geometry(mesh, node_name=f"person_{k}", geom_name=f"person_{k}")
    data = trimesh.exchange.gltf.export_glb(world, include_normals=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _mesh(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    normals: Float[np.ndarray, "V 3"],
    color: np.ndarray,
) -> trimesh.Trimesh:
    material = PBRMaterial(baseColorFactor=[*color, 1.0], metallicFactor=0.0, roughnessFactor=0.7)
    return trimesh.Trimesh(
        vertices, faces, vertex_normals=normals, visual=TextureVisuals(material=material), process=False, validate=False
    )
