"""The photographs of a data set: found below a folder by the names that the annotations give them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8

from crowdmesh.errors import InputError
from crowdmesh.images import SUFFIXES, read_image


@dataclass(frozen=True)
class Photo:
    """One photograph of a data set.

    Attributes:
        key: its name in the annotations.
        path: its file; ``None`` when it is not at hand, which is enough for results that were made before.
        turn_clockwise: the file lies on its side: it must be turned by 90 degrees for the annotation to fit.
    """

    key: str
    path: Path | None = None
    turn_clockwise: bool = False

    def read(self) -> UInt8[np.ndarray, "H W 3"]:
        """The image as it is annotated, RGB.

        Raises:
            InputError: the photograph is not at hand, missing or too small. FormatError: it is damaged.
        """
        if self.path is None:
            raise InputError(f"the photograph {self.key} is not at hand")
        image = read_image(self.path)
        return np.ascontiguousarray(np.rot90(image, -1)) if self.turn_clockwise else image


def find_photos(folder: Path, annotations: Mapping[str, Any]) -> dict[str, Photo]:
    """The photograph of every annotated image: the file below ``folder`` whose path is, or ends with, its name.

    Raises:
        InputError: some are missing, or two files fit one name.
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES:
                files[name].append(Path(parent, name))
    photos: dict[str, Photo] = {}
    missing = []
    for image, annotation in annotations.items():
        path = _file_of(image, folder, files)
        if path is None:
            missing.append(image)
        else:
            photos[image] = Photo(image, path, getattr(annotation, "turn_clockwise", False))
    if missing:
        raise InputError(
            f"{len(missing)} of {len(annotations)} annotated photographs do not lie below {folder}, among them "
            f"{', '.join(missing[:3])}; a method needs them all"
        )
    return photos


def _file_of(image: str, folder: Path, files: Mapping[str, list[Path]]) -> Path | None:
    parts = PurePosixPath(image).parts
    found = [path for path in files.get(parts[-1], ()) if path.parts[-len(parts) :] == parts]
    if folder.joinpath(*parts) in found:
        return folder.joinpath(*parts)
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]} could both be the photograph {image}; keep one of them")
    return found[0] if found else None
