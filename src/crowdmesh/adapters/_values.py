"""The values of a table and of the keys beside another system's: numbers of the right shape, unit and range."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.errors import InputError

# Outside these nobody's stature is in metres.
STATURES_M = (0.2, 3.0)

_STATURE_TOLERANCE_M = 0.03


def array(table: dict[str, Any], key: str, kinds: str = "fiu") -> np.ndarray:
    """The numbers under a key, of one of the kinds of NumPy; JSON's null becomes NaN."""
    try:
        value = np.asarray(table[key])
        value = np.asarray(value, float) if value.dtype == object else value
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{key} must hold numbers in a regular array") from error
    if value.dtype.kind not in kinds:
        raise InputError(f"{key} must hold numbers in a regular array, got {value.dtype}")
    return value


def whole_numbers(table: dict[str, Any], key: str) -> Int[np.ndarray, "..."]:
    """The whole numbers under a key."""
    value = array(table, key)
    wrong = value[~(np.isfinite(value) & (np.abs(value) < 2**53) & (value == np.rint(value)))]
    if wrong.size:
        raise InputError(f"{key} must hold whole numbers, got {wrong[0]:g}")
    return value.astype(np.int64)


def image_size(table: dict[str, Any]) -> tuple[int, int]:
    """Width and height in pixels."""
    size = whole_numbers(table, "image_size")
    if size.shape != (2,):
        raise InputError(f"image_size must be (width, height), got shape {size.shape}")
    return int(size[0]), int(size[1])


def check_range(per_person: np.ndarray, limits: tuple[float, float], demand: str) -> None:
    """Refuse numbers in another unit; what is no number at all, ``People`` refuses."""
    low, high = limits
    wrong = per_person[(per_person < low) | (per_person > high)]
    if wrong.size:
        raise InputError(f"{demand}: {wrong[0]:g} lies outside {low:g} to {high:g}")


def check_stature(given_m: Float[np.ndarray, " K"], own_m: Float[np.ndarray, " K"]) -> None:
    """Refuse statures that are not those which the shapes make."""
    off = np.abs(given_m - own_m)
    if len(off) and not np.all(off <= _STATURE_TOLERANCE_M):
        worst = int(off.argmax())
        raise InputError(
            f"stature_m of person {worst} is {given_m[worst]:.3f} m but the shape makes {own_m[worst]:.3f} m; "
            "leave it out"
        )


def check_faces(given: Int[np.ndarray, "F 3"] | None, own: Int[np.ndarray, "F2 3"], whose: str) -> None:
    """Refuse triangles said beside a file that are not the ones its bodies have."""
    if given is not None and not np.array_equal(given, own):
        raise InputError(f"the triangles given are not those of {whose}; leave --faces out")
