"""Binary glTF: one named, coloured node per person, and the photo's camera."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
import trimesh
from trimesh.exchange.gltf import export_glb
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from crowdmesh._files import atomic_path
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import Faces, posed_vertices
from crowdmesh.visual.export._records import camera_values, head, person_values, unit_notes
from crowdmesh.visual.export._surface import Surface, surface
from crowdmesh.visual.export._turn import turned_parameters
from crowdmesh.visual.export.frame import Frame, Up
from crowdmesh.visual.palette import linear

_NEAR_M = 0.01


def save_glb(scene: Scene, faces: Faces, path: str | Path, up: Up = "y") -> None:
    """Write the people as binary glTF, in metres, with vertex normals and each person's colour; atomic.

    Nodes are named ``person_0``, ``person_1`` ... in the order of the people and carry status, stature and parameters
    as extras; node ``camera`` is the photo's camera at the origin with its vertical field of view (glTF knows no
    off-centre principal point; the extras have it).

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
    frame = Frame(up=up)
    if len(scene.people) == 0:
        raise InputError(f"there is nobody to write to {path.name}; a GLB file needs at least one person")
    posed_vertices(scene)
    write_glb(scene, faces, path, frame)


def glb_notes(frame: Frame) -> tuple[str, ...]:
    """What a reader should know of a file in this frame."""
    if frame == Frame("opengl"):
        return ()
    return (
        *unit_notes(frame),
        "glTF is in metres with y up; this file has other axes or units for tools that take its numbers as they are, "
        "and whoever reads it as glTF sees it turned or at another size",
    )


def write_glb(scene: Scene, faces: Faces, path: Path, frame: Frame) -> None:
    """Write posed people to a file; see :func:`save_glb`."""
    bodies = surface(scene, faces, frame)
    world = trimesh.Scene()
    for k in range(len(bodies.vertices)):
        world.add_geometry(_mesh(bodies, k), node_name=f"person_{k}", geom_name=f"person_{k}")
    extras = person_values(scene.people, turned_parameters(scene.people, frame), frame)
    told = {f"person_{k}": values for k, values in enumerate(extras)}

    def complete(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = head(scene.people.body, frame, glb_notes(frame))
        for node in tree["nodes"]:
            if node.get("name") in told:
                node["extras"] = told[node["name"]]
        _add_camera(tree, scene.camera, frame)

    data = export_glb(world, include_normals=True, tree_postprocessor=complete)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def _mesh(bodies: Surface, person: int) -> trimesh.Trimesh:
    color = linear(bodies.colors)[person]
    material = PBRMaterial(baseColorFactor=[*color, 1.0], metallicFactor=0.0, roughnessFactor=0.7)
    return trimesh.Trimesh(
        bodies.vertices[person],
        bodies.faces,
        vertex_normals=bodies.normals[person],
        visual=TextureVisuals(material=material),
        process=False,
        validate=False,
    )


def _add_camera(tree: dict[str, Any], camera: Camera, frame: Frame) -> None:
    """Add the camera to glTF's tree of nodes (trimesh would write a wrong aspect ratio)."""
    aspect = camera.width / camera.fx * camera.fy / camera.height
    lens = {"yfov": camera.vertical_fov, "aspectRatio": aspect, "znear": _NEAR_M * frame.per_metre}
    tree["cameras"] = [{"name": "camera", "type": "perspective", "perspective": lens}]
    tree["scenes"][0]["nodes"].append(len(tree["nodes"]))
    tree["nodes"].append(
        {"name": "camera", "camera": 0, "rotation": _look_into(frame), "extras": camera_values(camera)}
    )


def _look_into(frame: Frame) -> list[float]:
    """Quaternion (x, y, z, w) of a camera that looks along its own -z with its y up, as glTF's do."""
    rotation = frame.rotation @ replace(frame, name="opengl", up=None).rotation.T
    quaternion = roma.rotmat_to_unitquat(torch.from_numpy(rotation)).numpy()
    return (np.round(quaternion, 15) + 0.0).tolist()
