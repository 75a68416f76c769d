"""Image files below a folder: all of them in order, or the one that a name from another machine means."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from crowdmesh.errors import FormatError, InputError
from crowdmesh.images import SUFFIXES, encoded_size

# Below a folder called like the data set; how many first parts of the name are left out; the form of Unicode.
_Rule = tuple[bool, int, Literal["NFC", "NFD"]]
_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")

# What a broken disk, a share that went away, or a process with too many open files says.
_NOT_THE_IMAGES = frozenset({errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOTCONN, errno.ENODEV})


class DiskError(InputError):
    """A disk or share that cannot be read, or a process with too many files open: the image is not to blame."""


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
                if not entry.name.startswith(".")
                and (entry.is_dir(follow_symlinks=False) or (is_image(entry.name) and _is_file(entry)))
            )
    except OSError as error:
        raise InputError(f"cannot read folder {folder}: {error.strerror}") from error
    for name, is_folder in entries:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise InputError(f"a name in {folder} is not in UTF-8 ({os.fsencode(name)!r}); rename it")
        if is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/")
        else:
            yield prefix + name


def count_images(root: Path) -> int:
    """How many images :func:`walk_images` would list, were there no folders that cannot be read, and no odd names."""
    count, folders = 0, [str(root)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif is_image(entry.name) and _is_file(entry):
                    count += 1
    return count


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to one; a link that leads in a circle is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_image(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def shared_folders(paths: Iterable[str], so_far: list[str] | None = None) -> list[str]:
    """The first folders that all POSIX paths have in common.

    Args:
        so_far: those of paths that were looked at before.
    """
    shared = so_far
    for path in paths:
        folders = path.split("/")[:-1]
        if shared is None:
            shared = folders
        elif folders[: len(shared)] != shared:
            alike = (k for k, (a, b) in enumerate(zip(shared, folders, strict=False)) if a != b)
            shared = shared[: next(alike, min(len(shared), len(folders)))]
    return shared or []


class ImageFiles:
    """The images below a folder, looked up by names that were written down elsewhere.

    A name may be longer than the path here (``/data/coco/train2014/a.jpg``): the whole name is tried, then what worked
    last for its data set, then ever shorter tails of it, each also below a folder called like the data set, in composed
    and decomposed Unicode. Tails that two images could share are for the caller to exclude.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._worked: dict[str, _Rule] = {}

    def find(self, data_set: str, name: str, kept: int = 1) -> str | None:
        """Where an image lies, relative to the folder; ``None``: nowhere.

        Args:
            name: a relative POSIX path without ``..``.
            kept: how many last parts of the name a tail has at least.
        """
        parts = name.split("/")
        most = max(0, len(parts) - max(kept, 1))
        if self._is_there(name):
            return name
        last = self._worked.get(data_set)
        if last is not None and last[1] <= most and self._is_there(place := _place(data_set, parts, last)):
            return place
        for first in range(most + 1):
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
        height, width = encoded_size(content_of(path), str(path))
    except (OSError, FormatError):
        return None
    return width, height


def content_of(path: Path) -> bytes:
    """The content of an image's file.

    Raises:
        DiskError: nothing can be read there at the moment. OSError: this file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno not in _NOT_THE_IMAGES:
            raise
        raise DiskError(
            f"cannot read {path}: {error.strerror}; see to the disk or share it lies on and run the same again (if "
            "this file alone is damaged, move it away)"
        ) from error
