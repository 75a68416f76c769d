"""The photographs of Relative Human as a source: experts find the people.

Its annotated ages, sexes and depth layers are the truth of a benchmark, and are not used for building.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crowdmesh.assets import digest_of
from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats import read_relative_human
from crowdmesh.pgt.records import Entry, Sample
from crowdmesh.pgt.sources._image_files import ImageFiles, shared_folders
from crowdmesh.pgt.sources._names import clean_name

SPLITS = ("train", "val", "test")
_SUFFIXES = (".npz", ".json")


class RelativeHumanSource:
    """The images that ``{train,val,test}_annots`` name; a :class:`~crowdmesh.pgt.sources.base.Source`.

    An entry's ``part`` is where its image lies below the folder of images, and its ``row`` how many first folders of
    its name all images of the split have in common: they may be missing there. One annotation file at a time is held
    in memory, as a whole.

    Attributes:
        images: folder of the images.
    """

    kind = "relative-human"
    needs_experts = True
    licences = (
        "Relative Human: the terms of its authors (github.com/Arthur151/Relative_Human)",
        "images: the terms of the data sets that Relative Human took them from",
    )

    def __init__(
        self, data: str | Path, images: str | Path | None = None, split: str | None = None, unpickle: bool = False
    ) -> None:
        """Name the data; nothing is read yet.

        Args:
            data: the folder of the annotation files.
            images: folder of the images; by default the folder ``images`` in ``data``, else ``data``.
            split: of :data:`SPLITS`; by default all that are there.
            unpickle: read the pickled files of the data set, without running anything in them.

        Raises:
            InputError: there are no such files.
        """
        self.data, self.unpickle = Path(data), unpickle
        if split is not None and split not in SPLITS:
            raise InputError(f"a split of Relative Human is {', '.join(SPLITS)}, got {split!r}")
        if not self.data.is_dir():
            raise InputError(f"the folder of Relative Human {data} does not exist")
        if images is not None and not Path(images).is_dir():
            raise InputError(f"the folder of images {images} does not exist")
        beside = self.data / "images"
        self.images = Path(images) if images is not None else beside if beside.is_dir() else self.data
        self._files = {}
        for name in SPLITS if split is None else (split,):
            found = [path for suffix in _SUFFIXES if (path := self.data / f"{name}_annots{suffix}").is_file()]
            if found:
                self._files[name] = found[0]
        if not self._files:
            raise InputError(f"{data} holds no {split or '{train,val,test}'}_annots.npz or .json")

    def signature(self) -> dict[str, Any]:
        """Kind and content of the annotation files."""
        files = {path.name: {"bytes": path.stat().st_size, "sha256": digest_of(path)} for path in self._files.values()}
        return {"kind": self.kind, "data_sets": [_data_set(split) for split in self._files], "files": files}

    def notes(self) -> list[str]:
        """What a plan says beside counts: nothing."""
        return []

    def entries(self) -> Iterator[Entry]:
        """Every annotated image, sorted by name; those that are not there are not ``found``."""
        finder = ImageFiles(self.images)
        for split, path in self._files.items():
            names = set()
            for name in read_relative_human(path, self.unpickle):
                try:
                    names.add(clean_name(name))
                except ValueError as error:
                    raise FormatError(f"{path}: {error}; correct it") from error
            shared = len(shared_folders(names))
            for name in sorted(names):
                place = finder.find(split, name, _kept(name, shared))
                yield Entry(_data_set(split), name, place or "", shared, found=place is not None)

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        """Where each image lies, if it does."""
        finder = ImageFiles(self.images)
        for entry in entries:
            place = entry.part
            if not place or not (self.images / place).is_file():
                split = entry.dataset.removeprefix(_data_set(""))
                place = finder.find(split, entry.path, _kept(entry.path, entry.row))
            yield Sample(entry, None if place is None else self.images / place)


def _kept(name: str, shared: int) -> int:
    return len(name.split("/")) - shared


def _data_set(split: str) -> str:
    return f"relative-human-{split}"
