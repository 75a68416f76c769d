"""The layout in which DTO-Humans was released: one ``*_CHMR_SMPL_OPT.npz`` for each data set.

The entry ``annots`` is a dictionary from image paths to lists of people, each ``smpl_param`` (``shape`` (11,), ``pose``
(72,), ``trans`` (3,)) and ``cam_param`` (``focal`` (2,), ``princpt`` (2,)); SMPL's own translation, metres, radians,
pixels of the image. Images of ``insta`` have ``insta-train/`` before their path. NumPy pickles the dictionary, as the
field distributes it. Read in code: ``prepare_dto`` and the data loaders of DTO-Humans 5918f61.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from crowdmesh._files import atomic_path
from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats._archive import KEY, read_annots
from crowdmesh.pgt.export._naming import file_stems
from crowdmesh.pgt.export._set import open_planned
from crowdmesh.pgt.reading import BuiltScene

FOLDER = "official"
"""Where it goes in the folder of a set, unless told otherwise."""

SUFFIX = "_CHMR_SMPL_OPT.npz"
_PREFIXES = {"insta": "insta-train/"}

# Name and length of each array of a person, by the dictionary it stands in.
_LAYOUT = {"smpl_param": {"shape": 11, "pose": 72, "trans": 3}, "cam_param": {"focal": 2, "princpt": 2}}
_LENGTHS = {name: length for arrays in _LAYOUT.values() for name, length in arrays.items()}


@dataclass(frozen=True)
class OfficialFile:
    """One file that was written.

    Attributes:
        size_bytes: of the file.
    """

    path: Path
    dataset: str
    images: int
    people: int
    size_bytes: int


@dataclass(frozen=True)
class OfficialExport:
    """What was exported.

    Attributes:
        left_out: images of the set that are not accepted. unbuilt: images of its plan that are not built yet.
    """

    folder: Path
    files: tuple[OfficialFile, ...]
    left_out: int
    unbuilt: int

    columns: ClassVar[tuple[str, ...]] = ("data set", "file", "images", "people", "size")

    def rows(self) -> list[tuple[str, ...]]:
        """One row of text a file, for :attr:`columns`."""
        return [
            (f.dataset, f.path.name, f"{f.images:,}", f"{f.people:,}", f"{f.size_bytes / 1e6:,.1f} MB")
            for f in self.files
        ]


def export_official(
    folder: str | Path,
    out: str | Path | None = None,
    threshold: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> OfficialExport:
    """Write the accepted images of a set in the released layout, and read every file back.

    All people of one data set are in memory while its file is written: the layout is one pickled dictionary
    (docs/exports.md says how much that is). A field is written in single precision where that loses nothing anywhere in
    the file, else in double precision. Files of the same name are replaced when the new ones are complete.

    Args:
        folder: of a built set. out: folder for the files; ``None``: ``official`` in the set's folder.
        threshold: of the mean standardised residual; ``None``: as the set was built.
        progress: called with the images read so far and all images of the set.

    Raises:
        InputError: no set, no accepted image, bodies that are not SMPL's, or a folder that cannot be written.
        FormatError: a damaged set, or a file that does not read back as it was written.
    """
    target = Path(folder) / FOLDER if out is None else Path(out)
    report = progress or (lambda done, total: None)
    planned = open_planned(folder)
    total = planned.images
    collected: dict[str, _Annotations] = {}
    done = accepted = 0
    for scene in planned.built.images(threshold=threshold):
        if scene.outcome.accepted:
            collected.setdefault(scene.dataset, _Annotations()).add(scene)
            accepted += 1
        done += 1
        if done % 1000 == 0 or done == total:
            report(done, total)
    if not accepted:
        raise InputError(
            f"no image of the set in {folder} is accepted, so there is nothing to export; choose a higher threshold"
        )
    stems = file_stems(collected)
    files = []
    for dataset in sorted(collected):
        path = target / f"{stems[dataset].upper()}{SUFFIX}"
        annotations = collected.pop(dataset)
        _write(path, annotations)
        files.append(OfficialFile(path, dataset, len(annotations.images), annotations.people, path.stat().st_size))
    return OfficialExport(target, tuple(files), done - accepted, planned.unbuilt)


@dataclass
class _Annotations:
    """One data set: the numbers of its people one after the other, and how many belong to each image."""

    images: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    numbers: dict[str, array] = field(default_factory=lambda: {name: array("d") for name in _LENGTHS})

    @property
    def people(self) -> int:
        return sum(self.counts)

    def add(self, scene: BuiltScene) -> None:
        assert scene.after is not None
        people, camera = scene.after.people, scene.after.camera
        betas = 0 if people.shape is None else people.shape.shape[1]
        if people.body != "smpl" or people.pose is None or people.shape is None or betas not in (10, 11):
            raise InputError(
                f"the people of {scene.key} have the body {people.body!r}, and the official layout holds SMPL's 24 "
                "joints and 10 or 11 betas alone; --export webdataset holds every body and everything known of it"
            )
        self.images.append(_PREFIXES.get(scene.dataset, "") + scene.path)
        self.counts.append(len(people))
        values = {
            "shape": np.pad(people.shape, ((0, 0), (0, 11 - betas))),
            "pose": people.pose,
            "trans": people.translation_m,
            "focal": np.tile((camera.fx, camera.fy), (len(people), 1)),
            "princpt": np.tile((camera.cx, camera.cy), (len(people), 1)),
        }
        for name, value in values.items():
            self.numbers[name].frombytes(np.ascontiguousarray(value, np.float64).tobytes())

    def arrays(self) -> dict[str, Float[np.ndarray, "people _"]]:
        """The numbers of each field, in single precision where that loses nothing."""
        found = {}
        for name, length in _LENGTHS.items():
            values = np.frombuffer(self.numbers[name], np.float64).reshape(-1, length)
            with np.errstate(over="ignore"):
                single = values.astype(np.float32)
            found[name] = single if np.array_equal(single, values) else values
        return found

    def ranges(self) -> Iterator[tuple[str, range]]:
        """Each image and the numbers of its people."""
        first = 0
        for image, count in zip(self.images, self.counts, strict=True):
            yield image, range(first, first + count)
            first += count


def _write(path: Path, annotations: _Annotations) -> None:
    """Write one file and compare what reads back, before it takes the place of an older one."""
    arrays = annotations.arrays()
    with atomic_path(path) as temporary:
        content = {image: [_person(arrays, k) for k in people] for image, people in annotations.ranges()}
        np.savez_compressed(temporary, **{KEY: content})  # type: ignore[arg-type]
        del content  # before it is all in memory once more
        try:
            found = read_annots(temporary, "export of DTO-Humans' layout", unpickle=True)
        except FormatError as error:
            raise FormatError(f"{path} does not read back ({error}); check the disk and export again") from error
        _compare(path, annotations, arrays, found)


def _person(arrays: dict[str, np.ndarray], k: int) -> dict[str, dict[str, np.ndarray]]:
    return {part: {name: arrays[name][k] for name in names} for part, names in _LAYOUT.items()}


def _compare(path: Path, annotations: _Annotations, arrays: dict[str, np.ndarray], found: dict[str, Any]) -> None:
    """FormatError unless the file holds exactly these images, people and numbers."""
    same = list(found) == annotations.images
    for image, people in annotations.ranges():
        same = same and len(found[image]) == len(people)
        for k, person in zip(people, found[image] if same else (), strict=same):
            same = same and all(
                person[part][name].dtype == arrays[name].dtype and np.array_equal(person[part][name], arrays[name][k])
                for part, names in _LAYOUT.items()
                for name in names
            )
        if not same:
            raise FormatError(
                f"{path} reads back with other people in {image} than were written; check the disk and export again"
            )
