"""What the user of another system puts at the top of its file, beside the system's own keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from crowdmesh.adapters._values import (
    STATURES_M,
    array,
    check_faces,
    check_range,
    check_stature,
    image_size,
    whole_numbers,
)
from crowdmesh.adapters.base import Given
from crowdmesh.errors import InputError
from crowdmesh.people import People

EVIDENCE = ("age_years", "age_std_years", "male_probability", "known_stature_m")
EXTRAS = ("image_size", "intrinsics", "faces", "stature_m", *EVIDENCE)
"""Keys of the plain table that may stand beside any system's own, at the top of the file."""


def apart(content: Any) -> tuple[Any, dict[str, Any]]:
    """Another system's content, and what its user put beside it."""
    if not isinstance(content, dict):
        return content, {}
    return (
        {key: value for key, value in content.items() if key not in EXTRAS},
        {key: content[key] for key in EXTRAS if key in content},
    )


def beside(given: Given, extras: dict[str, Any], images: int) -> Given:
    """What was said, with what the file itself says beside its system's keys.

    Raises:
        InputError: of a wrong shape, unit or range, contradicting what was said, or one value a person in a file of
            several images.
    """
    changes: dict[str, Any] = {}
    if "image_size" in extras:
        changes["image_size"] = given.size(image_size(extras))
    if "intrinsics" in extras:
        changes["file_intrinsics"] = array(extras, "intrinsics").astype(float)
        if changes["file_intrinsics"].shape != (3, 3):
            raise InputError(f"intrinsics must be a 3x3 matrix, got shape {changes['file_intrinsics'].shape}")
    if "faces" in extras:
        changes["faces"] = whole_numbers(extras, "faces")
        check_faces(given.faces, changes["faces"], "the file's own 'faces'")
    per_person = {key: _per_person(extras, key) for key in ("stature_m", *EVIDENCE) if key in extras}
    if per_person and images > 1:
        raise InputError(
            f"{' and '.join(per_person)} beside {images} images could be anybody's; save a file of one image"
        )
    if "stature_m" in per_person:
        changes["stature_m"] = per_person.pop("stature_m")
    return replace(given, evidence=per_person, **changes)


def _per_person(extras: dict[str, Any], key: str) -> np.ndarray:
    values = array(extras, key).astype(float)
    if values.ndim != 1:
        raise InputError(f"{key} must have one number for each person, got shape {values.shape}")
    if key in ("stature_m", "known_stature_m"):
        check_range(values, STATURES_M, f"{key} must be in metres")
    return values


def with_extras(people: People, given: Given) -> People:
    """People with what the file says of them beside its system's keys.

    Raises:
        InputError: for another number of people, in an impossible range, or statures that the shapes do not have.
    """
    said = given.evidence if given.stature_m is None else {"stature_m": given.stature_m, **given.evidence}
    for key, values in said.items():
        if len(values) != len(people):
            raise InputError(f"{key} must have shape ({len(people)},) for {len(people)} people, got {values.shape}")
    if given.stature_m is not None and people.body != "rigid":
        check_stature(given.stature_m, people.stature_m)
    return replace(people, **given.evidence) if given.evidence else people
