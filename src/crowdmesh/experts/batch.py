"""Many photographs: one bad image is reported and the rest go on; finished work is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crowdmesh.errors import CrowdMeshError, InputError
from crowdmesh.experts.outputs import made_from, output_paths, write_outputs
from crowdmesh.experts.reconstruct import Reconstructor


@dataclass(frozen=True)
class PhotoResult:
    """What became of one photograph. ``outcome`` is ``"done"``, ``"skipped"`` (finished before) or ``"failed"``."""

    photo: Path
    outcome: str
    people: int = 0
    placed: int = 0
    score: float = float("nan")
    notes: tuple[str, ...] = ()


def reconstruct_many(
    photos: list[Path], folder: Path, reconstructor: Reconstructor, overwrite: bool = False
) -> Iterator[PhotoResult]:
    """Reconstruct photographs one after the other, writing their files to ``folder``; yields a result per photo."""
    stems, inputs = _stems(photos), {photo.resolve() for photo in photos}
    for photo in photos:
        try:
            yield _reconstruct_one(photo, folder, stems[photo], reconstructor, overwrite, inputs)
        except (CrowdMeshError, OSError) as error:
            yield PhotoResult(photo, "failed", notes=(str(error),))
        except Exception as error:  # one image must not stop a million: name it and go on
            yield PhotoResult(photo, "failed", notes=(f"unexpected {type(error).__name__}, please report it: {error}",))


def _reconstruct_one(
    photo: Path, folder: Path, stem: str, reconstructor: Reconstructor, overwrite: bool, inputs: set[Path]
) -> PhotoResult:
    for path in output_paths(folder, stem):
        if path.resolve() in inputs:
            raise InputError(f"writing {path} would replace an input photo; choose another output folder")
    if not photo.is_file():
        raise InputError(f"image {photo} does not exist")
    earlier = None if overwrite else made_from(folder, stem)
    if earlier is not None:
        signature = reconstructor.signature(photo)
        if any(earlier.get(key) != value for key, value in signature.items()):
            raise InputError(
                f"{folder / stem}.* were made from another photo or with other settings; "
                "use --overwrite or another output folder"
            )
        return PhotoResult(photo, "skipped", notes=("finished before; --overwrite repeats it",))
    result = reconstructor(photo)
    write_outputs(folder, stem, result.first_guess, result.scene, result.placement, result.notes)
    placed = int(np.sum([status.placed for status in result.placement.statuses]))
    return PhotoResult(photo, "done", len(result.placement), placed, result.placement.score, result.notes)


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
