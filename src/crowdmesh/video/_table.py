"""``tracks.csv``: who is where when."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh.body import body_of
from crowdmesh.dto import Placement
from crowdmesh.scene import Scene

COLUMNS = (
    "frame", "time_s", "id", "x", "y", "z", "stature_m", "stature_std_m", "depth_std_m", "status",
    "box_left", "box_top", "box_right", "box_bottom",
)  # fmt: skip
"""Frame number and seconds (empty for folders); id; pelvis in the camera frame (x right, y down, z forward), stature
and posterior standard deviations in metres; status; detection box in pixels."""

Row = tuple[int, float | None, np.ndarray, Scene, Placement]


def write_table(path: Path, rows: Sequence[Row]) -> Path:
    """Write one line per person and frame, by frame and then in the order of detection."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            table.writerows(_lines(*row))
    return path


def _lines(number: int, time_s: float | None, ids: np.ndarray, scene: Scene, placement: Placement) -> list[list]:
    people = scene.people
    if len(people) == 0:
        return []
    pelvis = body_of(people).pelvis
    place = people.translation_m if pelvis is None or people.joints_m is None else people.joints_m[:, pelvis]
    boxes = np.full((len(people), 4), np.nan) if people.boxes_px is None else people.boxes_px
    time = "" if time_s is None else f"{time_s:.3f}"
    return [
        [
            number, time, int(ids[k]), *(f"{v:.4f}" for v in place[k]), f"{people.stature_m[k]:.4f}",
            f"{placement.stature_std_m[k]:.4f}", f"{placement.depth_std_m[k]:.4f}", status.name.lower(),
            *(f"{v:.1f}" for v in boxes[k]),
        ]
        for k, status in enumerate(people.statuses)
    ]  # fmt: skip
