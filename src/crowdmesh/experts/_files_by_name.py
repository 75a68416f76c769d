"""Files that belong to one photograph each, found by the photograph's name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from crowdmesh.experts._pretrained import LocalWeights


@runtime_checkable
class FilePerImage(Protocol):
    """An expert whose answer about a photograph stands in a file of that photograph."""

    def file_of(self, image: Path) -> Path | None:
        """The file; ``None`` if there is none."""
        ...


def tails(image: Path) -> list[Path]:
    """The photograph's path, then without its first folder, and so on to the name alone; never outside a folder."""
    parts = list(image.parts)
    start = 1 + max((k for k, part in enumerate(parts) if part == ".." or part == image.anchor), default=-1)
    return [Path(*parts[first:]) for first in range(start, len(parts))]


def file_of(folder: Path, image: Path, suffixes: Sequence[str]) -> Path | None:
    """The file in a folder that is named like a photograph, with another ending.

    Names are not unique in large sets: ``folder/a/b/NAME.npz`` goes before ``folder/b/NAME.npz``, and that before
    ``folder/NAME.npz``, for the photograph ``.../a/b/NAME.jpg``. Of several endings the first one given counts.
    """
    for tail in tails(image):
        inside = folder / tail.parent
        if _is_folder(inside):
            for suffix in suffixes:
                if (file := inside / f"{image.stem}{suffix}").is_file():
                    return file
    return None


def _is_folder(path: Path) -> bool:
    """Folders are remembered, so that one photograph costs few questions to the file system; others may yet come."""
    try:
        _known_folder(path)
    except NotADirectoryError:
        return False
    return True


@lru_cache(maxsize=4096)
def _known_folder(path: Path) -> None:
    if not path.is_dir():
        raise NotADirectoryError(path)  # which is not remembered


class FilesPerImage(LocalWeights):
    """A folder with a file per photograph, as a source of an expert."""

    def fingerprint(self) -> str:
        """The folder's name alone: like the photographs themselves, its files are data and not looked at in advance.

        There may be millions of them, and some may be added while a set is being built. What decides the result of
        one photograph is its own file (:meth:`FilePerImage.file_of`).
        """
        return f"files of {self.name}"
