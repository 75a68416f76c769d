"""The Hi4D protocol: that of 3DPW (see :mod:`crowdmesh.benchmarks.pw3d`), on pairs of people in close contact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crowdmesh.benchmarks import pw3d
from crowdmesh.benchmarks.result import Result
from crowdmesh.formats import SMPLPeople
from crowdmesh.scene import Scene

NAME = "Hi4D"


def evaluate(
    annotations: Mapping[str, SMPLPeople],
    predictions: Mapping[str, Scene | None],
    corrected: bool = False,
    smpl_folders: list[Path] | None = None,
) -> Result:
    """Score scenes against the annotations of every image; arguments and errors as in ``pw3d.evaluate``."""
    return pw3d.evaluate(annotations, predictions, corrected, smpl_folders, NAME)
