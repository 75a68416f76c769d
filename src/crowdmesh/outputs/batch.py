"""Many photographs: one bad image is reported and the rest go on; finished work is kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.errors import CrowdMeshError, InputError
from crowdmesh.outputs.files import made_from, output_paths, write_outputs
from crowdmesh.outputs.photo import PhotoOutput

Make = Callable[[Path], PhotoOutput]
"""A photograph's file in, what a method makes of it out; CrowdMeshError where that photograph cannot be used."""

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
    photos: list[Path], folder: Path, make: Make, signature: Signature, overwrite: bool = False
) -> Iterator[PhotoResult]:
    """Photographs one after the other, their files written to ``folder``; yields a result per photo.

    The signature becomes part of the provenance of scene and table. Finished files of the same signature are kept,
    and those of another are not replaced unless ``overwrite`` says so.
    """
    stems, inputs = _stems(photos), {photo.resolve() for photo in photos}
    for photo in photos:
        try:
            yield _process_one(photo, folder, stems[photo], make, signature, overwrite, inputs)
        except (CrowdMeshError, OSError) as error:
            yield PhotoResult(photo, "failed", notes=(str(error),))
        except Exception as error:  # one image must not stop a million: name it and go on
            yield PhotoResult(photo, "failed", notes=(f"unexpected {type(error).__name__}, please report it: {error}",))


def _process_one(
    photo: Path, folder: Path, stem: str, make: Make, signature: Signature, overwrite: bool, inputs: set[Path]
) -> PhotoResult:
    for path in output_paths(folder, stem):
        if path.resolve() in inputs:
            raise InputError(f"writing {path} would replace an input photo; choose another output folder")
    if not photo.is_file():
        raise InputError(f"image {photo} does not exist")
    signed = json.loads(json.dumps(signature(photo)))  # as it is read back: tuples become lists
    earlier = None if overwrite else made_from(folder, stem)
    if earlier is not None:
        if any(earlier.get(key) != value for key, value in signed.items()):
            raise InputError(
                f"{folder / stem}.* were made from another photo or with other settings; "
                "use --overwrite or another output folder"
            )
        return PhotoResult(photo, "skipped", notes=("finished before; --overwrite repeats it",))
    output = make(photo)
    scene, placement = output.scene, output.placement
    write_outputs(folder, stem, replace(output, scene=replace(scene, provenance={**scene.provenance, **signed})))
    if placement is None:
        return PhotoResult(photo, "done", len(scene.people), notes=output.notes)
    placed = int(np.sum([status.placed for status in placement.statuses]))
    return PhotoResult(photo, "done", len(scene.people), placed, placement.score, output.notes)


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
