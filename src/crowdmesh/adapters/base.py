"""What an adapter is, and what the user may say beside the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
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
        stature_m: height of each person standing upright, metres; only files say that.
    """

    image_size: tuple[int, int] | None = None
    vertical_fov: float | None = None
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    faces: Int[np.ndarray, "F 3"] | None = None
    stature_m: Float[np.ndarray, " K"] | None = None

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
    """The door for one system's results, and what is known of them.

    Attributes:
        name, title: as the user writes it (``sam3d-body``); as its authors call it.
        reads: which files, with their keys. frame, units, translation, camera: their conventions.
        body: which body the people get, and whose licence it is under.
        records: the people of each image in a file's content, ``{image: record}``; the name is ``""`` where the file
            is of one image and does not name it; empty if this is not the system's.
        read: the scene of one record.
    """

    name: str
    title: str
    reads: str
    frame: str
    units: str
    translation: str
    camera: str
    body: str
    records: Callable[[Any], dict[str, Any]]
    read: Callable[[Any, Given], Scene]

    def looks_like(self, content: Any) -> bool:
        """Whether the content of a file is laid out as this system's."""
        return bool(self.records(content))


def named_records(content: Any, is_record: Callable[[Any], bool]) -> dict[str, Any]:
    """The records in a file's content: one alone, a dictionary or list of them, or any of these under a single key.

    A single key names an image if it looks like a file (``.`` or ``/`` in it), else it is only a wrapping.
    """
    while not is_record(content):
        if isinstance(content, list):
            if len(content) != 1:
                records = {str(i): part for i, part in enumerate(content)}
                return records if all(map(is_record, content)) else {}
            content = content[0]
        elif isinstance(content, dict) and content:
            name = next(iter(content))
            if len(content) > 1 or "." in str(name) or "/" in str(name):
                records = {str(name): part for name, part in content.items()}
                return records if all(map(is_record, records.values())) else {}
            content = content[name]
        else:
            return {}
    return {"": content}
