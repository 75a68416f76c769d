"""A scene as a GLB file for any 3D viewer: one named, coloured node per person, and the photo's camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from trimesh.exchange.gltf import export_glb
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from crowdmesh._files import atomic_path
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import Faces, posed_vertices, triangles
from crowdmesh.visual.palette import linear, person_colors
from crowdmesh.visual.shading import vertex_normals

# From the camera frame (x right, y down, z forward) to a right-handed frame with the named axis up.
_FRAMES = {
    "y": np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]),
    "z": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}

# A glTF camera looks along its own -z with its y up; the quaternion (x, y, z, w) that makes it look into each frame.
_CAMERA_ROTATIONS = {"y": [0.0, 0.0, 0.0, 1.0], "z": [np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5)]}


def save_glb(scene: Scene, faces: Faces, path: str | Path, up: Literal["y", "z"] = "y") -> None:
    """Write the people as binary glTF, in metres, with vertex normals and each person's colour; atomic.

    Nodes are named ``person_0``, ``person_1`` ... in the order of the people; node ``camera`` is the photo's camera at
    the origin with its vertical field of view (glTF knows no off-centre principal point).

    Args:
        faces: triangles of the bodies.
        path: file ending in ``.glb``.
        up: ``"y"``: x right, y up, z towards the viewer, as glTF prescribes. ``"z"``: x right, y away from the viewer,
            z up, for tools that take the numbers as they are.

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
    vertices = posed_vertices(scene)
    corners = triangles(faces)
    normals = vertex_normals(torch.as_tensor(vertices), corners).numpy()
    rotation = _FRAMES[up].T.astype(np.float32)
    world = trimesh.Scene()
    for k, color in enumerate(linear(person_colors(len(vertices)))):
        mesh = _mesh(vertices[k] @ rotation, corners.numpy(), normals[k] @ rotation, color)
        world.add_geometry(mesh, node_name=f"person_{k}", geom_name=f"person_{k}")
    data = export_glb(
        world,
        include_normals=True,
        tree_postprocessor=lambda tree: _add_camera(tree, scene.camera, _CAMERA_ROTATIONS[up]),
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _mesh(
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    normals: Float[np.ndarray, "V 3"],
    color: Float[np.ndarray, " 3"],
) -> trimesh.Trimesh:
    material = PBRMaterial(baseColorFactor=[*color, 1.0], metallicFactor=0.0, roughnessFactor=0.7)
    look = TextureVisuals(material=material)
    return trimesh.Trimesh(vertices, faces, vertex_normals=normals, visual=look, process=False, validate=False)


def _add_camera(tree: dict[str, Any], camera: Camera, rotation: list[float]) -> None:
    """Add the camera to glTF's tree of nodes (trimesh would write a wrong aspect ratio)."""
    aspect = camera.width / camera.fx * camera.fy / camera.height
    lens = {"yfov": camera.vertical_fov, "aspectRatio": aspect, "znear": 0.01}
    tree["cameras"] = [{"name": "camera", "type": "perspective", "perspective": lens}]
    tree["scenes"][0]["nodes"].append(len(tree["nodes"]))
    tree["nodes"].append({"name": "camera", "camera": 0, "rotation": rotation})
