"""One image, its camera and the people in it: the currency of the whole package."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from crowdmesh._files import atomic_path, read_npz, reading
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People

FORMAT = "crowdmesh-scene"
FORMAT_VERSION = 1
_WHAT = "CrowdMesh scene"
_NEEDED = ("translation_m", "stature_m", "status")
_UNITS = {
    "length": "metre",
    "angle": "radian",
    "image": "pixel, centres at +0.5",
    "frame": "OpenCV: x right, y down, z forward",
}


@dataclass(frozen=True, eq=False)
class Scene:
    """One photograph: camera, people, optionally the image itself.

    Attributes:
        image: (H, W, 3) uint8 RGB, or ``None``.
        provenance: where the numbers come from (versions, camera source, experts, weights hashes, configuration);
            JSON-serialisable.
    """

    camera: Camera
    people: People
    image: UInt8[np.ndarray, "H W 3"] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if self.image is not None:
            if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
                raise InputError(
                    f"image must be (height, width, 3) uint8 RGB, got {self.image.dtype} {self.image.shape}"
                )
            if self.image.shape[:2] != size:
                raise InputError(
                    f"image is {self.image.shape[1]}x{self.image.shape[0]} but the camera is {size[1]}x{size[0]}"
                )
        masks = self.people.masks
        if masks is not None and (masks.height, masks.width) != size:
            raise InputError(f"masks are {masks.width}x{masks.height} but the camera is {size[1]}x{size[0]}")

    def save(self, path: str | Path) -> None:
        """Write one compressed ``.npz`` of plain arrays and a JSON header; atomic, exact, free of pickle."""
        path = Path(path)
        if path.suffix != ".npz":
            raise InputError(f"a scene is saved as .npz, got {path.name}")
        header = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "units": _UNITS,
            "body": self.people.body,
            "camera": {f.name: getattr(self.camera, f.name) for f in fields(Camera)},
            "provenance": self.provenance,
        }
        arrays = {"header": np.array(json.dumps(header))}
        for name in _array_fields():
            value = getattr(self.people, name)
            if value is not None:
                arrays[name] = value
        if self.people.masks is not None:
            arrays["mask_runs"], arrays["mask_offsets"] = self.people.masks.runs, self.people.masks.offsets
        if self.image is not None:
            arrays["image"] = self.image
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Scene:
        """Read a scene written by :meth:`save`.

        Raises:
            InputError: no such file.
            FormatError: not a scene file, damaged, of a newer format version, or with values no scene can have.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"scene {path} does not exist")
        return scene_of(read_npz(path, _WHAT), path)


def scene_of(arrays: dict[str, np.ndarray], path: Path) -> Scene:
    """The scene of the arrays that ``read_npz`` found in ``path``; FormatError as from ``Scene.load``."""
    with reading(path, _WHAT):
        return _scene(arrays)


def _scene(arrays: dict[str, np.ndarray]) -> Scene:
    """The scene of a file's arrays; ValueError or KeyError says what is wrong with them."""
    header = json.loads(str(arrays["header"]))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"its header says {str(header)[:60]!r}")
    version = header["version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"its version must be a whole number from 1, got {version!r}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"it has scene format {version}, this CrowdMesh reads up to {FORMAT_VERSION}; update crowdmesh"
        )
    if not isinstance(header["body"], str) or not isinstance(header["provenance"], dict):
        raise ValueError("its body must be a name and its provenance an object")
    camera = _camera(header["camera"])
    masks = None
    if "mask_runs" in arrays or "mask_offsets" in arrays:
        masks = Masks(camera.height, camera.width, arrays["mask_runs"], arrays["mask_offsets"])
    values = {name: arrays[name] for name in _array_fields() if name in arrays or name in _NEEDED}
    people = People(body=header["body"], masks=masks, **values)
    return Scene(camera, people, arrays.get("image"), header["provenance"])


def _camera(values: Any) -> Camera:
    names = [f.name for f in fields(Camera)]
    if not isinstance(values, dict) or set(values) != set(names):
        raise ValueError(f"its camera must have exactly the keys {', '.join(names)}")
    for name in names:
        whole = name in ("width", "height")
        if type(values[name]) not in ((int,) if whole else (int, float)):
            raise ValueError(f"its camera's {name} must be a {'whole ' if whole else ''}number, got {values[name]!r}")
    return Camera(**values)


def _array_fields() -> list[str]:
    return [f.name for f in fields(People) if f.name not in ("body", "masks")]
