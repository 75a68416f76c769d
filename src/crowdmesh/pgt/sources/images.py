"""A folder of images as a source: experts find the people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crowdmesh.errors import InputError
from crowdmesh.images import SUFFIXES
from crowdmesh.pgt.records import Entry, Sample
from crowdmesh.pgt.sources._image_files import walk_images


class ImageFolder:
    """Every image below a folder; a :class:`~crowdmesh.pgt.sources.base.Source`.

    Sorted by name, folder by folder. Hidden files are left out, links to folders are not followed. Two names are two
    images, also of one content.

    Attributes:
        data: the folder. dataset: its name, which is that of the data set.
    """

    kind = "images"
    needs_experts = True
    licences = ("images: the terms under which you got them",)

    def __init__(self, data: str | Path) -> None:
        """Name the folder.

        Raises:
            InputError: it does not exist.
        """
        self.data = Path(data)
        if not self.data.is_dir():
            raise InputError(f"the folder of images {data} does not exist")
        self.dataset = self.data.resolve().name or "images"

    def signature(self) -> dict[str, Any]:
        """Kind and name: images that come later become part of the set."""
        return {"kind": self.kind, "data_sets": [self.dataset]}

    def notes(self) -> list[str]:
        """What a plan says beside counts: nothing."""
        return []

    def entries(self) -> Iterator[Entry]:
        """Every image.

        Raises:
            InputError: there is none, a folder cannot be read, or a name is no text.
        """
        empty = True
        for path in walk_images(self.data):
            empty = False
            yield Entry(self.dataset, path)
        if empty:
            raise InputError(f"there is no image in {self.data} ({', '.join(sorted(SUFFIXES))})")

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        """Where each image lies, if it still does."""
        for entry in entries:
            path = self.data / entry.path
            yield Sample(entry, path if path.is_file() else None)
