"""What every metric asks of its input: numbers, all finite, in the shape it says."""

from __future__ import annotations

from typing import Any

import numpy as np

from crowdmesh.errors import InputError


def finite(name: str, value: Any, trailing: tuple[int | None, ...] = ()) -> np.ndarray:
    """``value`` as float64, refused unless finite and with the given last dimensions (``None``: any size)."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be a regular array of numbers") from error
    last = array.shape[array.ndim - len(trailing) :] if len(trailing) <= array.ndim else None
    if last is None or any(want not in (None, got) for want, got in zip(trailing, last, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in trailing)
        raise InputError(f"{name} must have last dimensions ({wanted}), got shape {array.shape}")
    if not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{name} holds a NaN or infinite value at index {first}; leave such people out and count them")
    return array


def same_shape(**arrays: np.ndarray) -> None:
    """Refuse arrays that differ in shape."""
    if len({array.shape for array in arrays.values()}) > 1:
        raise InputError(
            " and ".join(arrays) + " must have one shape, got " + ", ".join(str(a.shape) for a in arrays.values())
        )


def truth_values(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """``value`` as booleans of the given shape."""
    array = np.asarray(value)
    if array.dtype != np.bool_ or array.shape != shape:
        raise InputError(f"{name} must be truth values of shape {shape}, got {array.dtype} {array.shape}")
    return array
