"""PLY and OBJ: the people's surfaces with normals and colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import scene_faces
from crowdmesh.visual.export._surface import surface
from crowdmesh.visual.export.frame import Frame

_PLY_HEADER = """ply
format binary_little_endian 1.0
{comments}
element vertex {vertices}
property float x
property float y
property float z
property float nx
property float ny
property float nz
property uchar red
property uchar green
property uchar blue
property int person
element face {faces}
property list uchar int vertex_indices
end_header
"""
_PLY_VERTEX = np.dtype([("position", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3), ("person", "<i4")])
_PLY_FACE = np.dtype([("corners", "u1"), ("vertices", "<i4", 3)])


def write_ply(scene: Scene, path: Path, frame: Frame) -> None:
    """One binary PLY of all people: normals, sRGB vertex colours and the integer property ``person`` per vertex."""
    bodies = surface(scene, scene_faces(scene), frame)
    people, count = bodies.vertices.shape[:2]
    vertices = np.zeros((people, count), _PLY_VERTEX)
    vertices["position"], vertices["normal"] = bodies.vertices, bodies.normals
    vertices["color"] = np.rint(255 * bodies.colors)[:, None]
    vertices["person"] = np.arange(people)[:, None]
    faces = np.zeros((people, len(bodies.faces)), _PLY_FACE)
    faces["corners"] = 3
    faces["vertices"] = bodies.faces + count * np.arange(people)[:, None, None]
    comments = "\n".join(f"comment {line}" for line in _lines(scene.people, frame))
    header = _PLY_HEADER.format(comments=comments, vertices=vertices.size, faces=faces.size)
    with atomic_path(path) as temporary:
        temporary.write_bytes(header.encode("ascii") + vertices.tobytes() + faces.tobytes())


def write_obj(scene: Scene, path: Path, frame: Frame) -> Path:
    """An OBJ with one object and one material ``person_K`` a person, rounded to a micrometre; returns its MTL file."""
    bodies = surface(scene, scene_faces(scene), frame)
    count, digits = bodies.vertices.shape[1], 6 if frame.units == "m" else 4
    materials, comments = path.with_suffix(".mtl"), "".join(f"# {line}\n" for line in _lines(scene.people, frame))
    parts = [comments, f"mtllib {materials.name}\n"]
    for k, (vertices, normals) in enumerate(zip(bodies.vertices, bodies.normals, strict=True)):
        corners = np.repeat(bodies.faces + 1 + k * count, 2, axis=1)  # the same number for vertex and normal
        parts += [
            f"o person_{k}\n",
            _rows(f"v %.{digits}f %.{digits}f %.{digits}f\n", vertices),
            _rows("vn %.6f %.6f %.6f\n", normals),
            f"usemtl person_{k}\ns 1\n",
            _rows("f %d//%d %d//%d %d//%d\n", corners),
        ]
    looks = [
        f"newmtl person_{k}\nKd {r:.6f} {g:.6f} {b:.6f}\nKs 0 0 0\nillum 1\n"
        for k, (r, g, b) in enumerate(bodies.colors)
    ]
    with atomic_path(materials) as temporary:
        temporary.write_text("\n".join(looks), "ascii")
    with atomic_path(path) as temporary:
        temporary.write_text("".join(parts), "utf-8")
    return materials


def _rows(line: str, values: np.ndarray) -> str:
    return (line * len(values)) % tuple(values.ravel().tolist())


def _lines(people: People, frame: Frame) -> list[str]:
    """Comments on top of the file: frame, unit and everybody's stature."""
    told = [
        f"person {k}: {status.name.lower()}, stature {people.stature_m[k] * frame.per_metre:.4f} {frame.units}"
        for k, status in enumerate(people.statuses)
    ]
    return [f"CrowdMesh people, frame {frame.name}: {frame.axes}", f"units {frame.units}, camera at the origin", *told]
