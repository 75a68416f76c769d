"""Finding the photographs of a set again, which it refers to and does not hold."""

from __future__ import annotations

from pathlib import Path

from crowdmesh.errors import InputError
from crowdmesh.images import SUFFIXES
from crowdmesh.pgt.reading import BuiltScene
from crowdmesh.pgt.report.sheet import ImageOf
from crowdmesh.pgt.sources._image_files import ImageFiles, is_image


def photographs_below(folder: str | Path) -> ImageOf:
    """Looks an image of a set up below a folder, by its path and ever shorter tails of it; whether it is the set's
    photograph, and not another of that name, is for others to see.

    Images that are called after scenes have no ending; they are looked up with every ending of an image.

    Raises:
        InputError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"the folder of images {folder} does not exist")
    finder = ImageFiles(root)

    def find(scene: BuiltScene) -> Path | None:
        endings = ("",) if is_image(scene.path) else sorted(SUFFIXES)
        places = (finder.find(scene.dataset, f"{scene.path}{ending}") for ending in endings)
        place = next((place for place in places if place is not None), None)
        return None if place is None else root / place

    return find
