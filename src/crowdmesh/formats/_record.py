"""Taking an annotation record apart, with messages that name the file, the image, the person and the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np

from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats._archive import read_annots

Annotation = TypeVar("Annotation")


@dataclass(frozen=True)
class Place:
    """Where in a file a value stands."""

    path: Path
    image: str
    person: int | None = None

    def of(self, person: int) -> Place:
        """The place of one person's record."""
        return replace(self, person=person)

    def refuse(self, reason: str) -> NoReturn:
        """Raise the FormatError that something here is wrong."""
        raise FormatError(f"{self}: {reason}")

    def __str__(self) -> str:
        return f"{self.path}: image {self.image!r}" + ("" if self.person is None else f", person {self.person}")


def read_images(
    path: str | Path,
    what: str,
    unpickle: bool,
    read: Callable[[Place, Any], Annotation],
    bad: dict[str, str] | None = None,
) -> dict[str, Annotation]:
    """Read every image of an annotation file; what a type says of its values becomes a FormatError with the place.

    Args:
        bad: takes what is wrong with which image, and the images are left out; ``None``: the first one is an error.
    """
    annotations: dict[str, Annotation] = {}
    for image, record in read_annots(path, what, unpickle).items():
        place = Place(Path(path), image)
        try:
            annotations[image] = _read_one(place, record, read)
        except FormatError as error:
            if bad is None:
                raise
            bad[image] = str(error)
    return annotations


def _read_one(place: Place, record: Any, read: Callable[[Place, Any], Annotation]) -> Annotation:
    try:
        return read(place, record)
    except InputError as error:
        raise FormatError(f"{place}: {error}") from error


def fields(place: Place, record: Any, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The record, if it is a dictionary with all fields needed and none unknown."""
    if not isinstance(record, dict):
        place.refuse(f"a record must be a dictionary of fields, got {type(record).__name__}")
    known = f"known fields: {', '.join((*needed, *optional))}"
    for name in record:
        if name not in needed and name not in optional:
            place.refuse(f"unknown field {name!r}; {known}")
    for name in needed:
        if name not in record:
            place.refuse(f"the field {name!r} is missing; {known}")
    return record


def people(place: Place, record: Any) -> list[Any]:
    """The record, if it is a list with one entry a person."""
    if not isinstance(record, list):
        place.refuse(f"a record must be a list of people, got {type(record).__name__}")
    return record


def numbers(place: Place, record: dict[str, Any], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """The finite numbers of a field, float64; ``None`` in the shape: any size."""
    array = _array(place, record, name)
    if array.shape[:1] == (0,) and shape[0] in (None, 0):
        return np.zeros([n or 0 for n in shape])  # a list of nobody has lost its other dimensions
    fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        place.refuse(f"field {name!r} must have shape ({wanted}), got {array.shape}")
    return array


def vector(place: Place, record: dict[str, Any], name: str, *sizes: int) -> np.ndarray:
    """The finite numbers of a field in one row, in whatever nesting; ``sizes``: how many there may be."""
    array = _array(place, record, name).reshape(-1)
    if array.size not in sizes:
        place.refuse(f"field {name!r} must hold {' or '.join(map(str, sizes))} numbers, got {array.size}")
    return array


def rows(places: list[Place], records: list[dict[str, Any]], name: str, size: int) -> np.ndarray:
    """A field that every person's record has, (people, size)."""
    found = [vector(place, record, name, size) for place, record in zip(places, records, strict=True)]
    return np.array(found).reshape(-1, size)


def truth_values(place: Place, record: dict[str, Any], name: str, count: int) -> np.ndarray:
    """A field of yes and no (or 1 and 0), one each."""
    array = vector(place, record, name, count)
    if not np.isin(array, (0, 1)).all():
        place.refuse(f"field {name!r} must hold true and false (or 1 and 0) alone")
    return array.astype(bool)


def words(place: Place, record: dict[str, Any], name: str, count: int) -> list[Any]:
    """A field of texts, one each."""
    value = record[name]
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, list) or len(value) != count:
        place.refuse(f"field {name!r} must hold {count} texts")
    return value


def _array(place: Place, record: dict[str, Any], name: str) -> np.ndarray:
    try:
        array = np.asarray(record[name])
    except (TypeError, ValueError):
        array = np.zeros(0, object)
    if array.dtype.kind not in "fiub":
        place.refuse(f"field {name!r} must hold a regular array of numbers")
    if not np.isfinite(array).all():
        place.refuse(f"field {name!r} holds NaN or infinite values")
    return array.astype(np.float64)
