"""AGORA (Patel et al. 2021): rendered scans of adults and children, in neutral SMPL.

Layout of ``annots_smpl_{train_fit,validation}`` (.npz with a pickled ``annots``, or .json): image path → record of the
n people of the image, which is 1280 x 720 pixels:

| field | shape | meaning |
|---|---|---|
| ``isValid`` | (n,) | whether AGORA counts the person (not too hidden, not outside the image) |
| ``cam_intrinsics`` | (1, 3, 3) or (3, 3) | pixels |
| ``cam_rot``, ``cam_trans`` | (n, 3, 3), (n, 3) | world to camera, one for each person |
| ``smpl_gt`` | n records | ``betas`` (10 or more), ``global_orient`` (3), ``body_pose`` (69), ``transl`` (3) |
| ``kid`` | (n,), optional | whether the person is a child |

Eleven betas have the weight of the kid axis last; people with ten get 0 there, and of more than eleven the first ten
stay. The children of the training file were fitted with the adult model, so their kid axis is 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.formats._record import Place, fields, numbers, people, read_images, rows, truth_values, vector
from crowdmesh.formats.smpl_people import SMPLPeople, ten_or_eleven_betas

IMAGE_SIZE = (1280, 720)
"""Width and height of the images that the annotations belong to."""

_NEEDED = ("isValid", "cam_intrinsics", "cam_rot", "cam_trans", "smpl_gt")
_PERSON = ("betas", "global_orient", "body_pose", "transl")
_MOST_BETAS = range(10, 301)


def read_agora(path: str | Path, unpickle: bool = False, bad: dict[str, str] | None = None) -> dict[str, SMPLPeople]:
    """Image path → people of an AGORA annotation file, the invalid ones included and marked.

    Arguments and errors as in :func:`crowdmesh.formats.read_3dpw`.
    """
    return read_images(path, "AGORA annotation file", unpickle, _people, bad)


def _people(place: Place, record: Any) -> SMPLPeople:
    record = fields(place, record, _NEEDED, ("kid",))
    places = [place.of(person) for person in range(len(people(place, record["smpl_gt"])))]
    found = [fields(at, person, _PERSON) for at, person in zip(places, record["smpl_gt"], strict=True)]
    n = len(found)
    pose = [rows(places, found, name, size) for name, size in (("global_orient", 3), ("body_pose", 69))]
    betas = [vector(at, person, "betas", *_MOST_BETAS) for at, person in zip(places, found, strict=True)]
    return SMPLPeople(
        vector(place, record, "cam_intrinsics", 9).reshape(1, 3, 3).repeat(n, 0),
        numbers(place, record, "cam_rot", (n, 3, 3)),
        numbers(place, record, "cam_trans", (n, 3)),
        np.concatenate(pose, 1).reshape(n, 24, 3),
        ten_or_eleven_betas(betas),
        rows(places, found, "transl", 3),
        ("neutral",) * n,
        truth_values(place, record, "isValid", n),
        truth_values(place, record, "kid", n) if "kid" in record else None,
        IMAGE_SIZE,
    )
