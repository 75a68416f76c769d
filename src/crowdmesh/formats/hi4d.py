"""Hi4D (Yin et al. 2023): pairs of people in close contact, in gendered SMPL.

Layout of ``hi4d_smpl_{train,val,test}`` (.npz with a pickled ``annots``, or .json): image path → list of people:

| field | shape | meaning |
|---|---|---|
| ``focal``, ``princpt`` | (2,), (2,) | pixels; lens distortion is left out |
| ``cam_rot``, ``cam_trans`` | (3, 3), (3,) | world to camera |
| ``global_orient``, ``body_pose``, ``transl`` | (3,), (69,), (3,) | pose and translation in the world frame |
| ``betas`` | (10,) | shape of the gendered model |
| ``genders`` | text | ``male`` or ``female`` |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.formats._record import Place, fields, people, read_images, rows
from crowdmesh.formats.smpl_people import SMPLPeople, gender_of

_SIZES = {
    "focal": 2, "princpt": 2, "cam_rot": 9, "cam_trans": 3, "global_orient": 3, "body_pose": 69, "transl": 3,
    "betas": 10,
}  # fmt: skip
_FIELDS = (*_SIZES, "genders")


def read_hi4d(path: str | Path, unpickle: bool = False, bad: dict[str, str] | None = None) -> dict[str, SMPLPeople]:
    """Image path → people of a Hi4D annotation file; arguments and errors as in :func:`crowdmesh.formats.read_3dpw`."""
    return read_images(path, "Hi4D annotation file", unpickle, _people, bad)


def _people(place: Place, record: Any) -> SMPLPeople:
    places = [place.of(person) for person in range(len(people(place, record)))]
    found = [fields(at, person, _FIELDS) for at, person in zip(places, record, strict=True)]
    field = {name: rows(places, found, name, size) for name, size in _SIZES.items()}
    n = len(found)
    intrinsics = np.tile(np.eye(3), (n, 1, 1))
    intrinsics[:, [0, 1], [0, 1]], intrinsics[:, :2, 2] = field["focal"], field["princpt"]
    return SMPLPeople(
        intrinsics,
        field["cam_rot"].reshape(n, 3, 3),
        field["cam_trans"],
        np.concatenate([field["global_orient"], field["body_pose"]], 1).reshape(n, 24, 3),
        field["betas"],
        field["transl"],
        tuple(gender_of(person["genders"]) for person in found),
        np.ones(n, bool),
    )
