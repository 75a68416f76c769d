"""BEDLAM (Black et al. 2023): rendered people, in neutral SMPL (not SMPL-X).

Layout of ``bedlam_smpl_{train_6fps,train_1fps,validation_6fps}`` (.npz with a pickled ``annots``, or .json): image path
→ record of the n people of the image:

| field | shape | meaning |
|---|---|---|
| ``cam_int`` | (3, 3) | pixels |
| ``cam_rot``, ``cam_trans`` | n of (3, 3), n of (3,) | world to camera |
| ``shape`` | n of (10,) | betas |
| ``pose_world``, ``trans_world`` | n of (72,), n of (3,) | pose and translation in the world frame |

Images are 1280 x 720 pixels. Those with ``closeup`` in their path are stored lying on their side: they must be turned
by 90 degrees clockwise after reading, and the annotation belongs to the turned image of 720 x 1280 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.formats._record import Place, fields, numbers, read_images, vector
from crowdmesh.formats.smpl_people import SMPLPeople

CLOSEUP = "closeup"
"""What the paths of images that lie on their side contain."""

IMAGE_SIZE = (1280, 720)
"""Width and height of an image as stored."""

_FIELDS = ("cam_int", "cam_rot", "cam_trans", "shape", "pose_world", "trans_world")


def read_bedlam(path: str | Path, unpickle: bool = False, bad: dict[str, str] | None = None) -> dict[str, SMPLPeople]:
    """Image path → people of a BEDLAM annotation file; arguments and errors as in ``read_3dpw``."""
    return read_images(path, "BEDLAM annotation file", unpickle, _people, bad)


def _people(place: Place, record: Any) -> SMPLPeople:
    record = fields(place, record, _FIELDS)
    betas = numbers(place, record, "shape", (None, 10))
    n, turned = len(betas), CLOSEUP in place.image
    return SMPLPeople(
        vector(place, record, "cam_int", 9).reshape(1, 3, 3).repeat(n, 0),
        numbers(place, record, "cam_rot", (n, 3, 3)),
        numbers(place, record, "cam_trans", (n, 3)),
        numbers(place, record, "pose_world", (n, 72)).reshape(n, 24, 3),
        betas,
        numbers(place, record, "trans_world", (n, 3)),
        ("neutral",) * n,
        np.ones(n, bool),
        image_size=(IMAGE_SIZE[1], IMAGE_SIZE[0]) if turned else IMAGE_SIZE,
        turn_clockwise=turned,
    )
