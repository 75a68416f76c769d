"""Sets that ``crowdmesh build`` made: every accepted image with its people placed together, or as first guessed.

Both are the same images and the same people, so that what is learned from them differs by the placement alone. A set
does not hold its images: they lie in ``images`` in its folder, beside it, or in ``labels`` beside it, or are named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crowdmesh._files import reading
from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt import open_set
from crowdmesh.pgt.reading import BuiltSet
from crowdmesh.pgt.schema import BEFORE
from crowdmesh.pgt.sources._image_files import ImageFiles, shared_folders
from crowdmesh.synth.label_set import FORMAT as LABEL_SET
from crowdmesh.synth.label_set import MANIFEST as LABEL_SET_MANIFEST
from crowdmesh.training.datasets.our_table import PeopleTable, chooser, starts_of
from crowdmesh.training.sample import Supervision, TrainingSample

IMAGE_FOLDERS = ("images", "../images", "../labels/images")
"""Where the images of a set are looked for, relative to its folder."""

_SCENES = ("key", "dataset", "path", "accepted", "people", "body", "fx", "fy", "cx", "cy")
_PEOPLE = ("pose", "shape", "translation_m", "age_years")


@dataclass(frozen=True, eq=False)
class BuiltImages:
    """The accepted images of a set (a :class:`crowdmesh.training.datasets.base.Dataset`).

    Attributes:
        name: of the data set. file: the set's folder. folder: of the images.
        data_sets: data set of each image, inside the set. shared: how many first folders the paths of each share.
        supervision: what may be learned from every image.
    """

    name: str
    file: Path
    folder: Path
    table: PeopleTable
    data_sets: tuple[str, ...]
    shared: dict[str, int]
    supervision: Supervision
    _finder: ImageFiles

    def __len__(self) -> int:
        return len(self.table)

    def sample(self, index: int) -> TrainingSample:
        """One image with its people; the pixels are not read."""
        return TrainingSample(
            f"{self.name}/{self.table.images[index]}",
            self.name,
            self._file(index),
            self.table.intrinsics_px(index),
            self.table.people(index),
            self.supervision,
        )

    def image_files(self) -> list[Path]:
        """The file of every image, in order; where one is not found, where it should be."""
        return [self._file(index) for index in range(len(self))]

    def _file(self, index: int) -> Path:
        image, data_set = self.table.images[index], self.data_sets[index]
        kept = image.count("/") + 1 - self.shared[data_set]
        return self.folder / (self._finder.find(data_set, image, kept) or image)


def open_built_set(
    name: str,
    folder: Path,
    before: bool = False,
    split: str = "train",
    images: Path | None = None,
    everybody: bool | None = None,
) -> BuiltImages:
    """The accepted images of a set. About 350 bytes a person are in memory for SMPL's bodies, 1,300 for Anny's.

    Args:
        name: of the data set, in figures. folder: of the set.
        before: the people as first guessed instead of as placed.
        split: ``train``, ``validation`` (one in twenty, by name) or ``all``.
        images: folder of the images; ``None``: the first of :data:`IMAGE_FOLDERS` that is there.
        everybody: whether all people of the images are in the set, so that elsewhere nobody is; ``None``: they are
            in the sets of a synthetic label set, whose detector misses only who is hidden, and in no others.

    Raises:
        InputError: no set, no images, bodies of several models or without parameters, or no image of that split.
        FormatError: a damaged shard.
    """
    built = open_set(folder)
    source = Path(images) if images is not None else _images_of(Path(folder))
    if not source.is_dir():
        raise InputError(f"the folder of images {source} does not exist")
    table, data_sets = _read(built, before, split)
    if not len(table):
        raise InputError(f"the set in {folder} has no accepted image with people in its split {split}")
    paths: dict[str, list[str]] = {}
    for data_set, image in zip(data_sets, table.images, strict=True):
        paths.setdefault(data_set, []).append(image)
    shared = {data_set: len(shared_folders(found)) for data_set, found in paths.items()}
    known = is_label_set(source.parent) if everybody is None else everybody
    kid = table.body != "smpl" or (table.betas.shape[1] > 10 and not before)
    return BuiltImages(
        name,
        Path(folder),
        source,
        table,
        data_sets,
        shared,
        Supervision(bodies=True, shape=True, kid=kid, everybody=known, camera=True),
        ImageFiles(source),
    )


def is_label_set(folder: Path) -> bool:
    """Whether a folder holds a synthetic label set."""
    path = folder / LABEL_SET_MANIFEST
    if not path.is_file():
        return False
    with reading(path, "manifest of a synthetic label set"):
        found = json.loads(path.read_text("utf-8"))
        return isinstance(found, dict) and found.get("format") == LABEL_SET


def _images_of(folder: Path) -> Path:
    for candidate in IMAGE_FOLDERS:
        if (place := (folder / candidate).resolve()).is_dir():
            return place
    raise InputError(
        f"the images of the set in {folder} are not there: a set does not hold them; put them, or a link to their "
        f"folder, at {folder / IMAGE_FOLDERS[0]}"
    )


def _read(built: BuiltSet, before: bool, split: str) -> tuple[PeopleTable, tuple[str, ...]]:
    """The table of the chosen images, and the data set of each."""
    belongs = chooser(split)
    images: list[str] = []
    data_sets: list[str] = []
    nobody: list[str] = []
    counts: list[int] = []
    cameras: list[tuple[float, ...]] = []
    wanted: list[bool] = []
    bodies: set[str] = set()
    for row in _scenes(built):
        chosen = bool(row["accepted"]) and belongs(row["path"])
        wanted.extend([chosen and row["people"] > 0] * row["people"])
        if chosen and not row["people"]:
            nobody.append(row["path"])
        elif chosen:
            images.append(row["path"])
            data_sets.append(row["dataset"])
            counts.append(row["people"])
            cameras.append(tuple(row[name] for name in ("fx", "fy", "cx", "cy")))
            bodies.add(row["body"])
    if len(bodies) > 1:
        raise InputError(f"the set in {built.folder} mixes the bodies {', '.join(sorted(bodies))}; train on one")
    pose, betas, translation_m, age_years = _people(built, np.array(wanted, bool), before)
    table = PeopleTable(
        next(iter(bodies), "anny"), tuple(images), starts_of(counts), pose, betas, translation_m, age_years,
        np.array(cameras, np.float64).reshape(-1, 4), tuple(nobody),
    )  # fmt: skip
    return table, tuple(data_sets)


def _scenes(built: BuiltSet) -> Iterator[dict[str, Any]]:
    for batch in built.scene_batches(_SCENES):
        yield from batch.to_pylist()


def _people(built: BuiltSet, wanted: np.ndarray, before: bool) -> list[np.ndarray]:
    """Pose, betas, translations and ages of the people who are wanted."""
    names = [BEFORE.get(name, name) if before else name for name in _PEOPLE]
    pieces: list[list[np.ndarray]] = []
    first = 0
    for batch in built.people_batches(names):
        rows = np.flatnonzero(wanted[first : first + len(batch)])
        first += len(batch)
        if len(rows):
            found = batch.take(pa.array(rows))
            pose, betas, translation = (_lists(found.column(name), built.folder) for name in names[:3])
            ages = found.column("age_years").to_numpy(zero_copy_only=False).astype(np.float64)
            single = pose.reshape(len(rows), -1, 3).astype(np.float32), betas.astype(np.float32)
            pieces.append([*single, translation, ages])
    if first != len(wanted):
        raise FormatError(f"the people of the set in {built.folder} are {first}, and its images have {len(wanted)}")
    if not pieces:
        return [np.zeros((0, 1, 3)), np.zeros((0, 1)), np.zeros((0, 3)), np.zeros(0)]
    if len({(piece[0].shape[1], piece[1].shape[1]) for piece in pieces}) > 1:
        raise InputError(f"the set in {built.folder} mixes bodies of different sizes; train on those of one")
    return [np.concatenate(column) for column in zip(*pieces, strict=True)]


def _lists(column: pa.Array, folder: Path) -> np.ndarray:
    """A column of lists of one length as rows."""
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(column.type):
        return flat.reshape(len(column), -1)
    lengths = np.diff(column.offsets.to_numpy())
    if not len(lengths) or lengths.min() != lengths.max() or not lengths[0]:
        raise InputError(f"some people of the set in {folder} have no body parameters, or those of another body")
    return flat.reshape(len(column), lengths[0])
