"""The people of one image in another system's file, as arrays over people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import FormatError

_MATRICES = ("K", "K_regressed", "cam_int", "pred_intrinsics")


@dataclass(frozen=True, eq=False)
class Rows:
    """The people of one image: a list of one dictionary each, or one dictionary of arrays over people."""

    people: list[dict[str, Any]]

    @classmethod
    def of(cls, record: Any, anchor: str, shape: tuple[int | None, ...]) -> Rows:
        """Take a record apart.

        Args:
            anchor: a key that everybody has, with one of ``shape`` each; it tells one person from many.
        """
        if isinstance(record, list):
            return cls(record)
        value = record[anchor]
        many = isinstance(value, (list, np.ndarray)) and np.ndim(_array(value, anchor)) > len(shape)
        if not many:
            return cls([record])
        count = len(value)
        per_person = {k: v for k, v in record.items() if _is_per_person(k, v, count)}
        shared = {k: v for k, v in record.items() if k not in per_person}
        return cls([shared | {k: v[i] for k, v in per_person.items()} for i in range(count)])

    def __len__(self) -> int:
        return len(self.people)

    def has(self, *keys: str) -> bool:
        """Whether everybody has all these keys, and not as None; False for nobody."""
        return bool(self.people) and all(person.get(key) is not None for person in self.people for key in keys)

    def get(self, key: str, *shape: int | None, scale: float = 1.0) -> np.ndarray:
        """One array over people (K, *shape), float64; ``None`` in the shape: any size, the same for all.

        Raises:
            FormatError: missing, of another shape, or with NaN for a person, whose number the message says.
        """
        rows = []
        for k, person in enumerate(self.people):
            if person.get(key) is None:
                raise FormatError(f"person {k} has no {key!r}")
            rows.append(_shaped(_array(person[key], key), shape, f"{key!r} of person {k}"))
            if not np.isfinite(rows[-1]).all():
                raise FormatError(f"{key!r} of person {k} holds NaN or infinite values; leave that person out")
        if len({row.shape for row in rows}) > 1:
            raise FormatError(f"{key!r} has different shapes for different people")
        return scale * np.array(rows) if rows else np.zeros((0, *(n or 0 for n in shape)))

    def maybe(self, key: str, *shape: int | None, scale: float = 1.0) -> np.ndarray | None:
        """Like :meth:`get`, ``None`` unless everybody has the key."""
        return self.get(key, *shape, scale=scale) if self.has(key) else None


def _is_per_person(key: str, value: Any, count: int) -> bool:
    if not isinstance(value, (list, np.ndarray)) or np.ndim(value) == 0 or len(value) != count:
        return False
    return not (key in _MATRICES and np.shape(value) == (3, 3))  # three people, one camera for all


def _array(value: Any, key: str) -> np.ndarray:
    try:
        array = np.asarray(value)
        array = array.astype(np.float64) if array.dtype.kind in "biufO" else array
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"{key!r} must hold numbers in a regular array") from error
    if array.dtype.kind != "f":
        raise FormatError(f"{key!r} must hold numbers, got {array.dtype}")
    return array


def _shaped(array: np.ndarray, shape: tuple[int | None, ...], what: str) -> np.ndarray:
    """An array in the shape wanted, whatever axes of length one or foldings it came in."""
    if None not in shape:
        whole = [n for n in shape if n is not None]
        if array.size == np.prod(whole, dtype=int):
            return array.reshape(whole)
    else:
        squeezed = array
        while squeezed.ndim > len(shape) and squeezed.shape[0] == 1:
            squeezed = squeezed[0]
        if squeezed.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, squeezed.shape, strict=True)):
            return squeezed
    wanted = ", ".join("any" if n is None else str(n) for n in shape)
    raise FormatError(f"{what} must have shape ({wanted}), got {array.shape}")


def one_for_all(values: Float[np.ndarray, "K *n"], what: str, tolerance: float = 1e-3) -> np.ndarray:
    """The value that all people of an image share; FormatError if they differ by more than the relative tolerance."""
    if np.abs(values - values[0]).max() > tolerance * np.abs(values[0]).max():
        raise FormatError(f"{what} differs between the people of one image; one camera sees them all")
    return values[0]
