"""MuPoTS-3D (Mehta et al. 2018): outdoor and indoor scenes with three-dimensional joints of every person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.errors import InputError
from crowdmesh.formats._record import Place, fields, people, read_images, truth_values, vector

JOINTS = (
    "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
)  # fmt: skip
"""The data set's own order of joints."""

H36M_FROM_RAW = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
"""``raw[..., H36M_FROM_RAW, :]`` brings the data set's joints into the order of Human3.6M-17."""


@dataclass(frozen=True, eq=False)
class MuPoTSPerson:
    """One annotated person of one frame, joints in the order of Human3.6M-17 unless said otherwise.

    Attributes:
        joints_px: (17, 2) image points, pixels (``annot2``).
        joints_mm: (17, 3) camera frame, millimetres (``annot3``).
        occluded: (17,) occlusion labels, **in the data set's own order** (:data:`JOINTS`), as the released evaluation
            keeps them.
        universal_mm: (17, 3) the same pose on a skeleton of one size for everybody, millimetres (``univ_annot3``), or
            ``None``.
    """

    joints_px: Float[np.ndarray, "17 2"]
    joints_mm: Float[np.ndarray, "17 3"]
    occluded: Bool[np.ndarray, " 17"]
    universal_mm: Float[np.ndarray, "17 3"] | None = None

    def __post_init__(self) -> None:
        for name, shape in (("joints_px", (17, 2)), ("joints_mm", (17, 3)), ("universal_mm", (17, 3))):
            value = getattr(self, name)
            if value is None and name == "universal_mm":
                continue
            value = np.asarray(value, np.float64)
            if value.shape != shape:
                raise InputError(f"{name} must have shape {shape}, got {value.shape}")
            if not np.isfinite(value).all():
                raise InputError(f"{name} holds NaN or infinite values")
            object.__setattr__(self, name, value)
        occluded = np.asarray(self.occluded)
        if occluded.shape != (17,) or occluded.dtype != np.bool_:
            raise InputError(f"occluded must be 17 truth values, got {occluded.dtype} {occluded.shape}")
        object.__setattr__(self, "occluded", occluded)


def read_mupots(path: str | Path, unpickle: bool = False) -> dict[str, tuple[MuPoTSPerson, ...]]:
    """Image path → people of ``mupots_annots`` (.npz with a pickled ``annots``, or .json), valid people only.

    A record is a list of people: ``annot_2d`` (17, 2) pixels, ``annot_3d`` and ``annot_3d_univ`` (17, 3) millimetres in
    the camera frame, all three in the order of Human3.6M-17, and ``vis`` (17,): whether each joint is visible, **in the
    data set's own order**. ``annot_3d_univ`` may be absent.

    Args:
        unpickle: read the pickled file, through the restricted unpickler.

    Raises:
        InputError: no such file.
        FormatError: pickled without ``unpickle``, damaged, or a record of another layout; names image and field.
    """
    return read_images(path, "MuPoTS annotation file", unpickle, _people)


def _people(place: Place, record: Any) -> tuple[MuPoTSPerson, ...]:
    return tuple(_person(place.of(number), person) for number, person in enumerate(people(place, record)))


def _person(place: Place, record: Any) -> MuPoTSPerson:
    record = fields(place, record, ("annot_2d", "annot_3d", "vis"), ("annot_3d_univ",))
    universal = "annot_3d_univ" in record
    return MuPoTSPerson(
        vector(place, record, "annot_2d", 34).reshape(17, 2),
        vector(place, record, "annot_3d", 51).reshape(17, 3),
        ~truth_values(place, record, "vis", 17),
        vector(place, record, "annot_3d_univ", 51).reshape(17, 3) if universal else None,
    )
