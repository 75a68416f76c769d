"""The truth behind a synthetic label set: for judging what was built of it, never for building."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float

from crowdmesh._files import read_npz, reading
from crowdmesh.errors import InputError
from crowdmesh.synth._label_files import TRUTH

_WHAT = "truth of a synthetic label set"


@dataclass(frozen=True, eq=False)
class LabelTruth:
    """True people: N labelled ones, in the order of the labels, and U whom nobody detected.

    Attributes:
        imgname: (N,) image of each labelled person, as the labels call it.
        pelvis_m: (N, 3) pelvis joint in the camera frame, metres. stature_m: (N,) at rest, metres.
        age_years: (N,). male: (N,) 1 male, 0 female.
        focal_px: (N,) true vertical focal length of the image, pixels.
        undetected_imgname: (U,), also of images without labels. undetected_pelvis_m: (U, 3).
        undetected_stature_m, undetected_age_years: (U,).
    """

    imgname: np.ndarray
    pelvis_m: Float[np.ndarray, "N 3"]
    stature_m: Float[np.ndarray, " N"]
    age_years: Float[np.ndarray, " N"]
    male: Float[np.ndarray, " N"]
    focal_px: Float[np.ndarray, " N"]
    undetected_imgname: np.ndarray
    undetected_pelvis_m: Float[np.ndarray, "U 3"]
    undetected_stature_m: Float[np.ndarray, " U"]
    undetected_age_years: Float[np.ndarray, " U"]

    def __len__(self) -> int:
        return len(self.imgname)


def read_truth(folder: str | Path) -> LabelTruth:
    """The truth of the label set in a folder.

    Raises:
        InputError: there is no finished label set. FormatError: its truth is damaged.
    """
    path = Path(folder) / TRUTH
    if not path.is_file():
        raise InputError(
            f"{folder} holds no finished synthetic label set (there is no {TRUTH}); make one with crowdmesh synth "
            "--layout 4dhumans"
        )
    arrays = read_npz(path, _WHAT)
    with reading(path, _WHAT):
        columns = {field.name: arrays[field.name] for field in fields(LabelTruth)}
        for kind in ("", "undetected_"):
            names = [name for name in columns if name.startswith("undetected_") == bool(kind)]
            if len({len(columns[name]) for name in names}) != 1:
                raise ValueError("its columns differ in length")
    return LabelTruth(**columns)
