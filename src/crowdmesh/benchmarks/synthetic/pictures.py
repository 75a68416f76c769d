"""The scenes in which each method fails worst, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from crowdmesh.benchmarks.synthetic.methods import RIVALS, Method
from crowdmesh.benchmarks.synthetic.records import SceneRecord, apply
from crowdmesh.benchmarks.synthetic.tables import where
from crowdmesh.body import load_body
from crowdmesh.metrics import relative_depth_error
from crowdmesh.scene import Scene
from crowdmesh.synth import PRESETS, World, nominal, observation_seed, observe
from crowdmesh.visual import comparison_picture, save_png

_PEOPLE = (3, 10)
_WIDTH_PX = 1640


@dataclass(frozen=True)
class WorstScene:
    """Where a method failed worst: which scene, how badly, and the picture of it."""

    method: str
    seed: int
    index: int
    error: float
    picture: Path


def save_worst(records: Sequence[SceneRecord], folder: Path) -> list[WorstScene]:
    """For each placing method the scene of the main world with the largest mean depth error, at nominal strength and
    had the focal length been known (its error would decide alone, and alike for every method).

    Scenes of 3 to 10 people: fewer say little, of more a picture shows little.
    """
    found = []
    for method in RIVALS:
        some = [r for r in where(records, "nominal", method=method.name) if _PEOPLE[0] <= len(r.pelvis_m) <= _PEOPLE[1]]
        if method.config is None or not some:
            continue
        worst = max(some, key=_error)
        path = folder / f"worst_{method.name}.png"
        save_png(path, _picture(method, worst))
        found.append(WorstScene(method.name, worst.seed, worst.index, _error(worst), path))
    return found


def _error(record: SceneRecord) -> float:
    depth = record.pelvis_m[:, 2] / record.focal_ratio
    return float(relative_depth_error(depth, record.true_pelvis_m[:, 2]).mean())


def _picture(method: Method, record: SceneRecord) -> np.ndarray:
    world = World(PRESETS[record.world], record.seed).scene(record.index)
    seen = observe(world, nominal(), observation_seed(record.seed, record.index))
    placed, _ = apply(method, seen)
    truth = Scene(world.scene.camera, world.scene.people[seen.person], world.scene.image)
    titles = ("First guess", f"After {method.name}")
    picture = comparison_picture(seen.guess, placed, load_body("anny").faces.numpy(), truth, world.ground, titles)
    height = round(picture.shape[0] * _WIDTH_PX / picture.shape[1])
    return cv2.resize(picture, (_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
