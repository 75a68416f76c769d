"""What an adapter is, and what the user may say beside the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.camera import Camera
from crowdmesh.errors import CrowdMeshError, InputError
from crowdmesh.scene import Scene

# How far a camera said beside the file may be from the file's own: focal length relative, centre over the longer side.
_SAME_CAMERA = 0.01


@dataclass(frozen=True, eq=False)
class Given:
    """What is said beside a file. A file that has the same must agree.

    Attributes:
        image_size: width and height of the photograph in pixels.
        vertical_fov: vertical field of view in radians.
        intrinsics: camera matrix in pixels of the photograph.
        faces: triangles of the file's surfaces, numbered from 0.
        file_intrinsics, stature_m, evidence: what files alone say, at their top: the camera matrix; the height of each
            person standing upright, metres; ages, sexes and known statures, by the names that ``People`` has for them.
    """

    image_size: tuple[int, int] | None = None
    vertical_fov: float | None = None
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    faces: Int[np.ndarray, "F 3"] | None = None
    file_intrinsics: Float[np.ndarray, "3 3"] | None = None
    stature_m: Float[np.ndarray, " K"] | None = None
    evidence: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vertical_fov is not None and self.intrinsics is not None:
            raise InputError("give either a field of view or intrinsics, not both")
        size = self.image_size
        if size is not None and (len(size) != 2 or not all(int(side) == side and side > 0 for side in size)):
            raise InputError(f"image_size must be (width, height) in whole pixels, got {tuple(size)}")
        faces = self.faces
        if faces is not None and (faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu"):
            raise InputError(f"faces must be (F, 3) whole numbers of vertices, got {faces.dtype} {faces.shape}")

    def size(self, found: tuple[int, int] | None = None) -> tuple[int, int]:
        """Width and height: those found in the file, or those said.

        Raises:
            InputError: neither, or they differ.
        """
        if found is None and self.image_size is None:
            raise InputError("the file does not say how large the image is; give --image-size WIDTH HEIGHT")
        if found is not None and self.image_size is not None and tuple(found) != tuple(self.image_size):
            raise InputError(
                f"the file is of a {found[0]}x{found[1]} image, not {self.image_size[0]}x{self.image_size[1]}; "
                "leave --image-size out, or give the file of this image"
            )
        width, height = found or self.image_size  # type: ignore[misc]
        return int(width), int(height)

    def camera(self, width: int, height: int, found: Camera | None = None, else_say: str = "") -> Camera:
        """The photograph's camera: the one found in the file, or the one said.

        Args:
            else_say: what the system assumes, for the message when there is no camera.

        Raises:
            InputError: neither, or they differ: the bodies were placed for the file's camera.
        """
        if self.file_intrinsics is not None:
            top = Camera.from_intrinsics(self.file_intrinsics, width, height)
            if found is not None and not _same(top, found):
                raise InputError(
                    f"the file's 'intrinsics' have a focal length of {top.fx:.0f} px, but its bodies were placed for "
                    f"{found.fx:.0f} px and a centre of ({found.cx:.0f}, {found.cy:.0f}); take them out of the file"
                )
            found = found or top
        said = None
        if self.intrinsics is not None:
            said = Camera.from_intrinsics(self.intrinsics, width, height)
        elif self.vertical_fov is not None:
            said = Camera.from_vertical_fov(self.vertical_fov, width, height)
        if found is None:
            if said is None:
                raise InputError(f"the file holds no camera; give --fov or --intrinsics{else_say and f' ({else_say})'}")
            return said
        if said is not None and not _same(said, found):
            raise InputError(
                f"the file's bodies were placed for a focal length of {found.fx:.0f} px and a centre of "
                f"({found.cx:.0f}, {found.cy:.0f}), not {said.fx:.0f} px and ({said.cx:.0f}, {said.cy:.0f}); leave "
                "--fov and --intrinsics out, or run the system again with that camera"
            )
        return found


def _same(a: Camera, b: Camera) -> bool:
    apart = max(abs(a.cx - b.cx), abs(a.cy - b.cy)) / max(a.width, a.height)
    return max(abs(a.fx / b.fx - 1), abs(a.fy / b.fy - 1), apart) <= _SAME_CAMERA


@dataclass(frozen=True, eq=False)
class Adapter:
    """The door for one system's results; frame, units, translation and camera stand at the head of its module.

    Attributes:
        name, title: as the user writes it (``sam3d-body``); as its authors call it.
        reads: which files, with their keys.
        records: the people of each image in a file's content, ``{image: record}``; the name is ``""`` where the file
            is of one image and does not name it; empty if this is not the system's.
        read: the scene of one record, which may be of nobody: ``{}``.
    """

    name: str
    title: str
    reads: str
    records: Callable[[Any], dict[str, Any]]
    read: Callable[[Any, Given], Scene]

    def looks_like(self, content: Any) -> bool:
        """Whether the content of a file is laid out as this system's, be it damaged."""
        try:
            return bool(self.records(content))
        except CrowdMeshError:
            return True  # its keys, with impossible values
        except Exception:  # content of any shape comes here; what cannot be taken apart is somebody else's
            return False


def named_records(content: Any, is_record: Callable[[Any], bool]) -> dict[str, Any]:
    """The records in a file's content: one alone, a dictionary or list of them, or any of these under a single key.

    A single key names an image if it looks like a file (``.`` or ``/`` in it), else it is only a wrapping. Beside
    other images, what is empty is an image of nobody, ``{}``.
    """
    while not is_record(content):
        if isinstance(content, list):
            if len(content) != 1:
                return _all_records({str(i): part for i, part in enumerate(content)}, is_record)
            content = content[0]
        elif isinstance(content, dict) and content:
            name = next(iter(content))
            if len(content) > 1 or "." in str(name) or "/" in str(name):
                return _all_records({str(name): part for name, part in content.items()}, is_record)
            content = content[name]
        else:
            return {}
    return {"": content}


def _all_records(parts: dict[str, Any], is_record: Callable[[Any], bool]) -> dict[str, Any]:
    """All parts, if each is a record or empty, and one at least is a record; else none."""
    found = {name: part for name, part in parts.items() if is_record(part)}
    if not found or not all(name in found or is_empty(part) for name, part in parts.items()):
        return {}
    return {name: found.get(name, {}) for name in parts}


def is_empty(content: Any, depth: int = 5) -> bool:
    """Whether content says nothing: no people, in some nesting."""
    if isinstance(content, np.ndarray):
        return content.size == 0
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else [depth]
    return content is None or (depth > 0 and all(is_empty(part, depth - 1) for part in parts))
