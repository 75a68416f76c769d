"""Relative Human (Sun et al. 2022): people in photographs with image keypoints, depth layers and age groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError
from crowdmesh.formats._record import Place, fields, people, read_images

AGES = ("adult", "teen", "kid", "baby")
"""Names of the age groups 0 to 3 (-1: unknown)."""
UNKNOWN = -1

# Where CrowdPose's joints stand in the two skeletons of 19; -1: not there.
_BK = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, -1)
_OCHUMAN = (3, 0, 4, 1, 5, 2, 9, 6, 10, 7, 11, 8, 12, -1)
_BK_STEM = 7

_FIELDS = ("bbox", "kp2d", "depth_id", "age", "gender")
_IDLE_FIELDS = ("bbox_wb", "body_type", "occluded_by_others")  # in the data set's files, but of no use here
_CODES = {"depth_layer": None, "age": 3, "gender": 1}  # highest code of each; None: any


@dataclass(frozen=True, eq=False)
class RelativeHumanPerson:
    """One annotated person (field names of the data set in brackets).

    Attributes:
        keypoints_px: (14, 3) in CrowdPose order or (19, 3) in the order of the BK or OCHuman images: x, y,
            confidence (positive: annotated); ``None`` when the person has no keypoints (``kp2d``).
        depth_layer: 0 is the nearest layer, -1 unknown (``depth_id``).
        age: 0 adult, 1 teen, 2 kid, 3 baby, -1 unknown.
        gender: 0 male, 1 female, -1 unknown.
        box_px: left, top, right, bottom of the visible part (``bbox``).
    """

    keypoints_px: Float[np.ndarray, "P 3"] | None
    depth_layer: int
    age: int
    gender: int
    box_px: Float[np.ndarray, " 4"]

    def __post_init__(self) -> None:
        if self.keypoints_px is not None:
            points = _numbers("keypoints_px", self.keypoints_px)
            if points.shape not in ((14, 3), (19, 3)):
                raise InputError(f"keypoints_px must have shape (14, 3) or (19, 3), got {points.shape}")
            object.__setattr__(self, "keypoints_px", points)
        box = _numbers("box_px", self.box_px)
        if box.shape != (4,):
            raise InputError(f"box_px must be (left, top, right, bottom), got shape {box.shape}")
        object.__setattr__(self, "box_px", box)
        for name, highest in _CODES.items():
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                raise InputError(f"{name} must be a whole number, got {value!r}")
            if value < UNKNOWN or (highest is not None and value > highest):
                wanted = "from -1" if highest is None else f"from -1 to {highest}"
                raise InputError(f"{name} must be {wanted}, got {value}")
            object.__setattr__(self, name, int(value))


def read_relative_human(path: str | Path, unpickle: bool = False) -> dict[str, tuple[RelativeHumanPerson, ...]]:
    """Image name → people of ``{train,val,test}_annots`` (.npz with a pickled ``annots``, or .json).

    A record is a list of people with the fields of :func:`people_of_record`; ``bbox_wb``, ``body_type`` and
    ``occluded_by_others`` may stand beside them and are not used.

    Args:
        unpickle: read the pickled file of the data set, through the restricted unpickler.

    Raises:
        InputError: no such file.
        FormatError: pickled without ``unpickle``, damaged, or a record of another layout; names image and field.
    """
    return read_images(path, "Relative Human annotation file", unpickle, _people)


def crowdpose_of(keypoints_px: Float[np.ndarray, "P 3"], image: str) -> Float[np.ndarray, "14 3"]:
    """The keypoints of one person in CrowdPose's order (:data:`crowdmesh.formats.joints.CROWDPOSE14`).

    Images with 19 joints are from BK if their name without ending has seven characters, else from OCHuman; neither has
    a neck, which becomes (0, 0, 0).

    Args:
        keypoints_px: 14 joints, returned as they are, or 19. image: its name.
    """
    if len(keypoints_px) == len(_BK):
        return keypoints_px
    source = np.array(_BK if len(PurePath(image).stem) == _BK_STEM else _OCHUMAN)
    return np.where(source[:, None] >= 0, keypoints_px[source], 0.0)


def _people(place: Place, record: Any) -> tuple[RelativeHumanPerson, ...]:
    for number, person in enumerate(people(place, record)):
        fields(place.of(number), person, _FIELDS, _IDLE_FIELDS)
    return people_of_record(record)


def people_of_record(people: Sequence[Mapping[str, Any]]) -> tuple[RelativeHumanPerson, ...]:
    """The people of one image from plain records with the data set's keys.

    Args:
        people: one mapping each: ``bbox`` (4 numbers), ``kp2d`` (14 x 3 or 19 x 3 numbers, flat or nested, or
            ``None``), ``depth_id``, ``age``, ``gender``. Other keys are left alone.

    Raises:
        InputError: a key is missing or its value is not what the data set has there; says which person.
    """
    found = []
    for number, record in enumerate(people):
        missing = [name for name in _FIELDS if name not in record]
        if missing:
            raise InputError(f"person {number} lacks {', '.join(missing)}; a record needs {', '.join(_FIELDS)}")
        try:
            found.append(_person(record))
        except InputError as error:
            raise InputError(f"person {number}: {error}") from error
    return tuple(found)


def _person(record: Mapping[str, Any]) -> RelativeHumanPerson:
    points = record["kp2d"]
    if points is not None:
        points = _numbers("kp2d", points).reshape(-1)
        if points.size not in (42, 57):
            raise InputError(f"kp2d must hold 14 x 3 or 19 x 3 numbers, got {points.size}")
        points = points.reshape(-1, 3)
    codes = {name: _whole(name, record[name]) for name in ("depth_id", "age", "gender")}
    return RelativeHumanPerson(
        points, codes["depth_id"], codes["age"], codes["gender"], _numbers("bbox", record["bbox"])
    )


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a regular array of numbers") from error
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinite values")
    return array


def _whole(name: str, value: Any) -> int:
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "iuf" or number.item() != np.rint(number.item()):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    return int(number.item())
