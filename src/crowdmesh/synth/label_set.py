"""A synthetic world on disk as upstream systems would deliver it: photographs, and labels of one person at a time.

| file | content |
|---|---|
| ``images/NNNNNN.jpg`` | the scenes |
| ``synthetic-release.npz`` | labels laid out like 4D-Humans': a row for each detected person, ``body`` ``"anny"``: ``imgname``, ``pose_cam`` (N, 104, 3), ``shape`` (N, 6), ``trans_cam``, ``cam_int``, ``center``, ``scale``, ``keypoints_px`` (N, 17, 3); single precision |
| ``detections/NNNNNN.npz`` | boxes, scores, masks, for ``--persons`` |
| ``ages.csv`` | apparent ages and sexes by box, for ``--ages`` |
| ``depth/NNNNNN.npz`` | relative depth, half precision (error at most 0.05 %), and its kind, for ``--depth-model`` |
| ``truth/`` | who was really there, for judging: ``people.npz`` (:func:`read_truth`), ``statures.npy`` |
| ``label-set.json`` | what the set is made of |

Images in which nobody was detected have no row in the labels. The labels come last: a folder that has them is finished.
"""  # noqa: E501

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crowdmesh._files import atomic_path, reading, sweep
from crowdmesh.errors import InputError
from crowdmesh.synth._label_files import (
    AGES,
    DEPTH,
    DETECTIONS,
    IMAGES,
    LABELS,
    PARTS,
    STATURES,
    TRUTH,
    assemble,
    part_path,
    write_scene,
)
from crowdmesh.synth._processes import share_out
from crowdmesh.synth.expert_errors import ExpertErrors
from crowdmesh.synth.simulated_experts import observation_seed, observe
from crowdmesh.synth.world import World

FORMAT = "crowdmesh-label-set"
FORMAT_VERSION = 1
MANIFEST = "label-set.json"

_UNITS = {
    "length": "metre",
    "angle": "radian",
    "age": "year",
    "scale": "200 pixels",
    "frame": "OpenCV: x right, y down, z forward",
    "depth": "disparity, half precision: relative error at most 2^-11",
}


@dataclass(frozen=True)
class LabelSet:
    """Where the files of a finished label set are.

    Attributes:
        path: its folder. scenes: number of its images.
    """

    path: Path
    scenes: int

    @property
    def labels(self) -> Path:
        """One row a person, like 4D-Humans' labels."""
        return self.path / LABELS

    @property
    def detections(self) -> Path:
        """Folder of detections, one file an image."""
        return self.path / DETECTIONS

    @property
    def ages(self) -> Path:
        """Table of ages and sexes."""
        return self.path / AGES

    @property
    def depth(self) -> Path:
        """Folder of depth maps, one file an image."""
        return self.path / DEPTH

    @property
    def true_statures(self) -> Path:
        """True statures of the labelled people, (N,) metres."""
        return self.path / STATURES


def write_label_set(
    world: World,
    scenes: int,
    folder: str | Path,
    errors: ExpertErrors,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> LabelSet:
    """Write the first scenes of a world as a label set, or what an earlier, stopped run left out.

    Args:
        scenes: how many. folder: made if need be; empty, or begun with the same arguments.
        errors: of the simulated experts (:func:`observation_seed` is their seed).
        workers: processes; 1 works in this one. The rows of all people are held in memory at the end: 2 kB a person.
        progress: called in this process with numbers of scenes, first of those found finished, then of each new one;
            together they make ``scenes``.

    Raises:
        InputError: numbers below 1, a folder of another set or of something else, or one that cannot be written.
        FormatError: rows of a scene found finished are damaged; the message names the file and the way out.
    """
    for name, value in (("scenes", scenes), ("workers", workers)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    target, report = LabelSet(Path(folder), scenes), progress or (lambda _: None)
    _claim(target.path, _manifest(world, scenes, errors))
    if target.labels.is_file():
        shutil.rmtree(target.path / PARTS, ignore_errors=True)
        report(scenes)
        return target
    _sweep(target.path)
    missing = [index for index in range(scenes) if not part_path(target.path, index).is_file()]
    report(scenes - len(missing))
    share_out(partial(_write_scene, target.path, world, errors), missing, workers, lambda _: report(1))
    assemble(target.path, range(scenes))
    shutil.rmtree(target.path / PARTS)
    return target


def _write_scene(folder: Path, world: World, errors: ExpertErrors, index: int) -> None:
    scene = world.scene(index)
    write_scene(folder, index, scene, observe(scene, errors, observation_seed(world.seed, index)))


def _manifest(world: World, scenes: int, errors: ExpertErrors) -> dict[str, Any]:
    values = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "crowdmesh": version("crowdmesh"),
        "seed": world.seed,
        "scenes": scenes,
        "units": _UNITS,
        "config": world.config.to_dict(),
        "errors": asdict(errors),
    }
    return json.loads(json.dumps(values))


def _claim(folder: Path, values: dict[str, Any]) -> None:
    """Write the manifest, or make sure that the one there tells of the same work."""
    manifest = folder / MANIFEST
    sweep(folder, f"{manifest.stem}.*.json")
    if manifest.exists():
        with reading(manifest, "manifest of a synthetic label set"):
            found = json.loads(manifest.read_text())
            if not isinstance(found, dict) or found.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
        differing = [name for name in values if values[name] != found.get(name)]
        if differing:
            raise InputError(
                f"{folder} holds another label set ({', '.join(differing)} differ); choose another folder, or the same "
                "arguments to go on with it"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no synthetic label set; choose a new or an empty folder")
    with atomic_path(manifest, durable=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")


def _sweep(folder: Path) -> None:
    """Delete the temporary files of a process that was killed."""
    for place in ("", IMAGES, DETECTIONS, DEPTH, PARTS, Path(TRUTH).parent):
        for leftover in (folder / place).glob(".*.*.*"):
            leftover.unlink(missing_ok=True)
