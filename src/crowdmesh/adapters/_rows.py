"""The people of one image in another system's file, as arrays over people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crowdmesh.errors import FormatError

# What may stand once for all people, with its shape: as many people as it has rows do not own one row each.
_ONCE = {"img_size": (2,), **dict.fromkeys(("K", "K_regressed", "cam_int", "pred_intrinsics"), (3, 3))}


@dataclass(frozen=True, eq=False)
class Rows:
    """The people of one image: a list of one dictionary each, or one dictionary of arrays over people.

    Attributes:
        shared: what stands once for all of them; each person has it too.
    """

    people: list[dict[str, Any]]
    shared: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Any, anchor: str, shape: tuple[int | None, ...]) -> Rows:
        """Take a record apart.

        Args:
            record: a list, a dictionary, or nothing (nobody).
            anchor: a key that everybody has, with one of ``shape`` each; it tells one person from many.

        Raises:
            FormatError: no such record.
        """
        if isinstance(record, list):
            for k, person in enumerate(record):
                if not isinstance(person, dict):
                    raise FormatError(f"person {k} is no dictionary but a {type(person).__name__}")
            return cls(record)
        if not record:
            return cls([])
        if anchor not in record:
            raise FormatError(f"the people have no {anchor!r}")
        value = numbers(record[anchor], anchor)
        if value.ndim <= len(shape) and value.shape[:1] != (0,):
            return cls([record])
        count = len(value)
        per_person = {key: part for key, part in record.items() if _is_per_person(key, part, count)}
        return cls.stacked(per_person, count, {key: part for key, part in record.items() if key not in per_person})

    @classmethod
    def stacked(cls, columns: dict[str, Any], count: int, shared: dict[str, Any] | None = None) -> Rows:
        """Out of lists or arrays over people; FormatError if one is of another length."""
        shared = shared or {}
        for key, column in columns.items():
            if _length(column) != count:
                raise FormatError(f"{key!r} has {_length(column) or 'no'} entries for {count} people")
        return cls([shared | {key: column[k] for key, column in columns.items()} for k in range(count)], shared)

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
            rows.append(_shaped(numbers(person[key], key), shape, f"{key!r} of person {k}"))
            if not np.isfinite(rows[-1]).all():
                raise FormatError(f"{key!r} of person {k} holds NaN or infinite values; leave that person out")
        if len({row.shape for row in rows}) > 1:
            raise FormatError(f"{key!r} has different shapes for different people")
        return scale * np.array(rows) if rows else np.zeros((0, *(n or 0 for n in shape)))

    def maybe(self, key: str, *shape: int | None, scale: float = 1.0) -> np.ndarray | None:
        """Like :meth:`get`, ``None`` unless everybody has the key."""
        return self.get(key, *shape, scale=scale) if self.has(key) else None

    def one(self, key: str, *shape: int | None, tolerance: float = 1e-3) -> np.ndarray | None:
        """What all people of the image have alike, float64 of ``shape``; of nobody what stands there once, or None.

        Raises:
            FormatError: somebody lacks it, or has another one, by more than the relative tolerance.
        """
        if self.people:
            values = self.get(key, *shape)
            if np.abs(values - values[0]).max() > tolerance * np.abs(values[0]).max():
                raise FormatError(f"{key!r} differs between the people of one image; one camera sees them all")
            return values[0]
        value = self.shared.get(key)
        return None if value is None or not np.size(value) else Rows([self.shared]).get(key, *shape)[0]

    def somebody_has(self, key: str) -> bool:
        """Whether the key stands there for anybody, or for all."""
        return any(person.get(key) is not None for person in (*self.people, self.shared))


def _is_per_person(key: str, value: Any, count: int) -> bool:
    return _length(value) == count and not (key in _ONCE and np.shape(value) == _ONCE[key])


def _length(value: Any) -> int | None:
    """How many entries a list or array has; None for anything else."""
    return len(value) if isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim) else None


def count(value: Any, key: str) -> int:
    """How many people a list or array is over; FormatError if it is neither."""
    length = _length(value)
    if length is None:
        raise FormatError(f"{key!r} must be a list or an array over people, got a {type(value).__name__}")
    return length


def numbers(value: Any, key: str) -> np.ndarray:
    """An array of float64; FormatError with the key's name if there is something else."""
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
