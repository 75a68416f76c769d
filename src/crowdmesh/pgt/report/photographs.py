"""Finding the photographs of a set again, which it refers to and does not hold."""

from __future__ import annotations

from pathlib import Path

from crowdmesh.errors import InputError
from crowdmesh.pgt.reading import BuiltScene
from crowdmesh.pgt.report.sheet import ImageOf
from crowdmesh.pgt.sources._image_files import ImageFiles


def photographs_below(folder: str | Path) -> ImageOf:
    """Looks an image of a set up below a folder, by its path and ever shorter tails of it.

    Raises:
        InputError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"the folder of images {folder} does not exist")
    finder = ImageFiles(root)

    def find(scene: BuiltScene) -> Path | None:
        place = finder.find(scene.dataset, scene.path)
        return None if place is None else root / place

    return find
