"""3DPW (von Marcard et al. 2018): people in the wild, in gendered SMPL.

Layout of ``annots_smpl_{train,test}_genders`` (.npz with a pickled ``annots``, or .json): image path (it contains
``imageFiles/``) → record of all n people of the image:

| field | shape | meaning |
|---|---|---|
| ``betas`` | (n, 10) | shape of the gendered model |
| ``global_orient``, ``body_pose``, ``transl`` | (n, 3), (n, 69), (n, 3) | pose and translation in the world frame |
| ``cam_intrinsics`` | (3, 3) | pixels of the image as published |
| ``cam_rot``, ``cam_trans`` | (3, 3), (3,) | world to camera |
| ``genders`` (or ``gender``) | n texts | ``f``, ``m``, ``female``, ``male`` |

The first four are torch tensors in the published file and are read as arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.formats._record import Place, fields, numbers, read_images, vector, words
from crowdmesh.formats.smpl_people import SMPLPeople, gender_of

_NEEDED = ("betas", "global_orient", "body_pose", "transl", "cam_intrinsics", "cam_rot", "cam_trans")
_GENDER = ("genders", "gender")


def read_3dpw(path: str | Path, unpickle: bool = False, bad: dict[str, str] | None = None) -> dict[str, SMPLPeople]:
    """Image path → people of a 3DPW annotation file.

    Args:
        unpickle: read the pickled file of the field, through the restricted unpickler.
        bad: takes what is wrong with which image, and the images are left out; ``None``: the first one is an error.

    Raises:
        InputError: no such file.
        FormatError: pickled without ``unpickle``, damaged, or a record of another layout; names image and field.
    """
    return read_images(path, "3DPW annotation file", unpickle, _people, bad)


def _people(place: Place, record: Any) -> SMPLPeople:
    record = fields(place, record, _NEEDED, _GENDER)
    spelled = [name for name in _GENDER if name in record]
    if len(spelled) != 1:
        place.refuse("exactly one of the fields 'genders' and 'gender' must be given")
    betas = numbers(place, record, "betas", (None, 10))
    n = len(betas)
    pose = np.concatenate(
        [numbers(place, record, "global_orient", (n, 3)), numbers(place, record, "body_pose", (n, 69))], 1
    )
    return SMPLPeople(
        vector(place, record, "cam_intrinsics", 9).reshape(1, 3, 3).repeat(n, 0),
        vector(place, record, "cam_rot", 9).reshape(1, 3, 3).repeat(n, 0),
        vector(place, record, "cam_trans", 3).reshape(1, 3).repeat(n, 0),
        pose=pose.reshape(n, 24, 3),
        betas=betas,
        translation_m=numbers(place, record, "transl", (n, 3)),
        genders=tuple(gender_of(word) for word in words(place, record, spelled[0], n)),
        valid=np.ones(n, bool),
    )
