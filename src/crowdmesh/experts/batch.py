"""Many photographs: one bad image is reported and the rest go on; finished work is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crowdmesh.errors import CrowdMeshError
from crowdmesh.experts.outputs import finished, write_outputs
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
    stems = _stems(photos)
    for photo in photos:
        stem = stems[photo]
        if not overwrite and finished(folder, stem):
            yield PhotoResult(photo, "skipped", notes=("finished before; --overwrite repeats it",))
            continue
        try:
            result = reconstructor(photo)
            write_outputs(folder, stem, result.first_guess, result.scene, result.placement, result.notes)
        except (CrowdMeshError, OSError) as error:
            yield PhotoResult(photo, "failed", notes=(str(error),))
            continue
        placed = int(np.sum([status.placed for status in result.placement.statuses]))
        yield PhotoResult(photo, "done", len(result.placement), placed, result.placement.score, result.notes)


def _stems(photos: list[Path]) -> dict[Path, str]:
    """Output names: the photo's own, or with its suffix or folder where two photos would share one."""
    names: dict[Path, str] = {}
    for candidate in (lambda p: p.stem, lambda p: p.name, lambda p: f"{p.parent.name}_{p.name}"):
        for photo in (p for p in photos if p not in names):
            same = [p for p in photos if candidate(p) == candidate(photo)]
            if len(same) == 1:
                names[photo] = candidate(photo)
    return {photo: names.get(photo, f"{i:05d}_{photo.name}") for i, photo in enumerate(photos)}
