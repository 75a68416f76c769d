"""Many photographs: one bad image is reported and the rest go on; finished work is kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.errors import AssetError, CrowdMeshError, InputError
from crowdmesh.outputs.files import made_from, output_paths, write_outputs
from crowdmesh.outputs.photo import PhotoOutput

Make = Callable[[Sequence[Path]], Sequence[PhotoOutput]]
"""Photographs' files in, what a method makes of each out; CrowdMeshError where one of them cannot be used."""

Signature = Callable[[Path], dict[str, Any]]
"""A photograph's file in, all that decides its result out: content, weights, settings; plain values that JSON holds."""


@dataclass(frozen=True)
class PhotoResult:
    """What became of one photograph.

    Attributes:
        outcome: ``"done"``, ``"skipped"`` (finished before) or ``"failed"``.
        people, placed: how many were found, and how many of them DTO placed.
        score: of the placement; NaN without one.
        notes: what a reader should know, or the error, one sentence each.
    """

    photo: Path
    outcome: str
    people: int = 0
    placed: int = 0
    score: float = float("nan")
    notes: tuple[str, ...] = ()


def process_photos(
    photos: list[Path],
    folder: Path,
    make: Make,
    signature: Signature,
    overwrite: bool = False,
    batch: int = 1,
) -> Iterator[PhotoResult]:
    """Photographs in groups of ``batch``, their files written to ``folder``; yields a result per photo, in order.

    The signature becomes part of the provenance of scene and table. Finished files of the same signature are kept,
    and those of another are not replaced unless ``overwrite`` says so. When a group fails, its photographs are tried
    one by one, so that the bad one is named and the rest go on.

    Raises:
        AssetError: weights are missing or damaged; no other photograph would fare better.
    """
    job = _Job(folder, _stems(photos), make, signature, overwrite, {photo.resolve() for photo in photos})
    waiting: list[Path] = []
    settled: dict[Path, PhotoResult] = {}
    told = 0
    for number, photo in enumerate(photos, 1):
        result = job.prepare(photo)
        if result is not None:
            settled[photo] = result
        else:
            waiting.append(photo)
        if len(waiting) == batch or number == len(photos):
            settled |= job.run(waiting)
            waiting = []
        while told < number and photos[told] in settled:
            yield settled[photos[told]]
            told += 1


@dataclass(frozen=True)
class _Job:
    folder: Path
    stems: dict[Path, str]
    make: Make
    signature: Signature
    overwrite: bool
    inputs: set[Path]

    def prepare(self, photo: Path) -> PhotoResult | None:
        """The photograph's result when nothing is left to do."""
        try:
            return self._settled(photo)
        except AssetError:
            raise
        except Exception as error:
            return _failed(photo, error)

    def _settled(self, photo: Path) -> PhotoResult | None:
        stem = self.stems[photo]
        for path in output_paths(self.folder, stem):
            if path.resolve() in self.inputs:
                raise InputError(f"writing {path} would replace an input photo; choose another output folder")
        if not photo.is_file():
            raise InputError(f"image {photo} does not exist")
        earlier = None if self.overwrite else made_from(self.folder, stem)
        if earlier is None:
            return None
        if any(earlier.provenance.get(key) != value for key, value in self._sign(photo).items()):
            raise InputError(
                f"{self.folder / stem}.* were made from another photo or with other settings; "
                "use --overwrite or another output folder"
            )
        if not earlier.complete:
            return None
        return PhotoResult(photo, "skipped", notes=("finished before; --overwrite repeats it",))

    def run(self, group: list[Path]) -> dict[Path, PhotoResult]:
        """Results of photographs, made together if that works, else one by one."""
        if not group:
            return {}
        try:
            outputs = self.make(group)
        except AssetError:  # weights are missing or damaged, for every photograph alike
            raise
        except Exception as error:  # one image must not stop a million: name it and go on
            if len(group) == 1:
                return {group[0]: _failed(group[0], error)}
            return {photo: result for one in group for photo, result in self.run([one]).items()}
        return {photo: self._write(photo, output) for photo, output in zip(group, outputs, strict=True)}

    def _write(self, photo: Path, output: PhotoOutput) -> PhotoResult:
        scene, placement = output.scene, output.placement
        try:
            complete = replace(output, scene=replace(scene, provenance={**scene.provenance, **self._sign(photo)}))
            write_outputs(self.folder, self.stems[photo], complete)
        except Exception as error:
            return _failed(photo, error)
        if placement is None:
            return PhotoResult(photo, "done", len(scene.people), notes=output.notes)
        placed = int(np.sum([status.placed for status in placement.statuses]))
        return PhotoResult(photo, "done", len(scene.people), placed, placement.score, output.notes)

    def _sign(self, photo: Path) -> dict[str, Any]:
        """What decides the result, as it is read back: tuples become lists. Weights may be fetched while it is made."""
        return json.loads(json.dumps(self.signature(photo)))


def _failed(photo: Path, error: Exception) -> PhotoResult:
    known = isinstance(error, (CrowdMeshError, OSError))
    said = str(error) if known else f"unexpected {type(error).__name__}, please report it: {error}"
    return PhotoResult(photo, "failed", notes=(said,))


def _stems(photos: list[Path]) -> dict[Path, str]:
    """Output names: the photo's own; with its suffix, folder, then number where photos would still share one."""
    names = {photo: photo.stem for photo in photos}
    number = {photo: index for index, photo in enumerate(photos)}
    for longer in (
        lambda p: p.name,
        lambda p: f"{p.parent.name}_{p.name}",
        lambda p: f"{number[p]:06d}_{p.parent.name}_{p.name}",
    ):
        shared = {name for name, count in Counter(names.values()).items() if count > 1}
        names = {photo: longer(photo) if name in shared else name for photo, name in names.items()}
    return names
