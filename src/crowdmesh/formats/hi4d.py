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

from crowdmesh.formats._record import Place, fields, people, read_images, vector
from crowdmesh.formats.smpl_people import SMPLPeople, gender_of

_FIELDS = (
    "focal", "princpt", "cam_rot", "cam_trans", "global_orient", "body_pose", "transl", "betas", "genders",
)  # fmt: skip


def read_hi4d(path: str | Path, unpickle: bool = False) -> dict[str, SMPLPeople]:
    """Image path → people of a Hi4D annotation file; arguments and errors as in :func:`crowdmesh.formats.read_3dpw`."""
    return read_images(path, "Hi4D annotation file", unpickle, _people)


def _people(place: Place, record: Any) -> SMPLPeople:
    places = [place.of(person) for person in range(len(people(place, record)))]
    found = [fields(at, person, _FIELDS) for at, person in zip(places, record, strict=True)]

    def rows(name: str, size: int) -> np.ndarray:
        return np.array([vector(at, person, name, size) for at, person in zip(places, found, strict=True)]).reshape(
            -1, size
        )

    n, focal, centre = len(found), rows("focal", 2), rows("princpt", 2)
    intrinsics = np.tile(np.eye(3), (n, 1, 1))
    intrinsics[:, [0, 1], [0, 1]], intrinsics[:, :2, 2] = focal, centre
    return SMPLPeople(
        intrinsics,
        rows("cam_rot", 9).reshape(n, 3, 3),
        rows("cam_trans", 3),
        np.concatenate([rows("global_orient", 3), rows("body_pose", 69)], 1).reshape(n, 24, 3),
        rows("betas", 10),
        rows("transl", 3),
        tuple(gender_of(person["genders"]) for person in found),
        np.ones(n, bool),
    )
