"""Image files below a folder: all of them in order, or the one that a name from another machine means."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from crowdmesh.errors import FormatError, InputError
from crowdmesh.images import SUFFIXES, encoded_size

# Below a folder called like the data set; how many first parts of the name are left out; the form of Unicode.
_Rule = tuple[bool, int, Literal["NFC", "NFD"]]
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


def walk_images(root: Path) -> Iterator[str]:
    """Relative POSIX path of every image below a folder, sorted by name folder by folder, one folder held at a time.

    Hidden files and folders are left out, links to folders are not followed. Links to files count: two names are two
    images.

    Raises:
        InputError: a folder that cannot be read, or a name that is no text.
    """
    yield from _walk(root, "")


def _walk(folder: Path, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in found
                if not entry.name.startswith(".") and (_is_image(entry.name) or entry.is_dir(follow_symlinks=False))
            )
    except OSError as error:
        raise InputError(f"cannot read folder {folder}: {error.strerror}") from error
    for name, is_folder in entries:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise InputError(f"a name in {folder} is not in UTF-8 ({os.fsencode(name)!r}); rename it")
        if is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/")
        elif (folder / name).is_file():
            yield prefix + name


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


class ImageFiles:
    """The images below a folder, looked up by names that were written down elsewhere.

    A name may be longer than the path here (``/data/coco/train2014/a.jpg``): the whole name is tried, then ever shorter
    tails of it, each also below a folder called like the data set, in composed and decomposed Unicode. What worked last
    for a data set is tried first.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._worked: dict[str, _Rule] = {}

    def find(self, data_set: str, name: str) -> str | None:
        """Where an image lies, relative to the folder; ``None``: nowhere.

        Args:
            name: a relative POSIX path without ``..``.
        """
        parts = name.split("/")
        last = self._worked.get(data_set)
        if last is not None and last[1] < len(parts) and self._is_there(place := _place(data_set, parts, last)):
            return place
        for first in range(len(parts)):
            for below in (False, True):
                tried = set()
                for form in _FORMS:
                    rule = (below, first, form)
                    place = _place(data_set, parts, rule)
                    if place not in tried and self._is_there(place):
                        self._worked[data_set] = rule
                        return place
                    tried.add(place)
        return None

    def _is_there(self, place: str) -> bool:
        return os.path.isfile(os.path.join(self.root, place))


def _place(data_set: str, parts: list[str], rule: _Rule) -> str:
    below, first, form = rule
    return unicodedata.normalize(form, "/".join(([data_set] if below else []) + parts[first:]))


def upright_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as it is looked at, from its header; ``None``: it cannot be read."""
    try:
        height, width = encoded_size(path.read_bytes(), str(path))
    except (OSError, FormatError):
        return None
    return width, height
