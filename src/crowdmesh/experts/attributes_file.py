"""AttributeExpert that looks ages and sexes up in a file: what somebody knows, or what another system found.

A ``.csv`` file with a header line, or a ``.json`` array of objects; one row per person:

| column | meaning |
|---|---|
| ``image`` | name of the photograph's file, with as many of its folders as are needed to tell it from others |
| ``person`` | which of the people found in it (those that were screened out do not count), from 0; or instead |
| ``left``, ``top``, ``right``, ``bottom`` | a box in its pixels (in JSON also ``box_px``, an array of the four) |
| ``age_years`` | apparent age |
| ``age_std_years`` | standard deviation of its error (optional) |
| ``male_probability`` | 0 to 1: 1 a man, 0 a woman (optional) |

Empty cells and ``null`` mean unknown. Boxes go to the detections they overlap best, by at least half.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from crowdmesh._files import reading
from crowdmesh.assets import UserFile, Weights
from crowdmesh.errors import InputError
from crowdmesh.experts._nms import match_boxes
from crowdmesh.experts._people_crops import unknown_attributes
from crowdmesh.experts.base import Attributes, Detections, InputImage, Keypoints

MIN_OVERLAP = 0.5
"""Least intersection over union of a row's box and a detection that are one person."""

_WHAT = "table of ages and sexes"
_FEW_NAMES = 1000  # among which one looks for similar ones
_SIDES = ("left", "top", "right", "bottom")
_ALLOWED = {"age_years": (0.0, 130.0), "age_std_years": (0.0, 130.0), "male_probability": (0.0, 1.0)}
_COLUMNS = ("image", "person", *_SIDES, "box_px", *_ALLOWED)


@dataclass(frozen=True)
class _Row:
    """One person of one image: by number or by box; NaN where unknown."""

    age_years: float
    age_std_years: float
    male_probability: float
    person: int | None
    box_px: tuple[float, ...] | None


class AttributesFromFile:
    """Ages and sexes from a ``.csv`` or ``.json`` file; NaN for people it does not have. All of it is held in memory.

    Raises:
        InputError: there is no such file, or a row is not as described above.
        FormatError: it is no CSV or JSON file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise InputError(f"the {_WHAT} {self._path} does not exist; give a .csv or .json file")
        self.name = f"ages and sexes of {self._path.name}"
        self._rows: dict[str, list[_Row]] = {}
        for where, values in _read(self._path):
            image, row = _parse(values, f"{self._path}, {where}")
            others = self._rows.setdefault(image, [])
            if row.person is not None and row.person in [other.person for other in others]:
                raise InputError(f"{self._path}, {where}: person {row.person} of {image} has a row already; remove one")
            others.append(row)

    def sources(self) -> tuple[Weights, ...]:
        """The file itself."""
        return (UserFile(self._path.name, "attributes", "the user's", "ages and sexes, from the user", self._path),)

    def estimate(
        self, images: Sequence[InputImage], detections: Sequence[Detections], keypoints: Sequence[Keypoints]
    ) -> list[Attributes]:
        """What the file says of each detected person; rows of people who were not detected are not used.

        Raises:
            InputError: somebody was detected in an image without a name or without a row, or a row's number is none of
                a detection.
        """
        return [self._estimate(image, found) for image, found in zip(images, detections, strict=True)]

    def _estimate(self, image: InputImage, detections: Detections) -> Attributes:
        answer = unknown_attributes(len(detections))
        if not len(detections):
            return answer
        rows = self._rows_of(image)
        for row, k in zip(rows, self._assign(rows, detections, image).tolist(), strict=True):
            if k >= 0:
                answer.age_years[k], answer.age_std_years[k] = row.age_years, row.age_std_years
                answer.male_probability[k] = row.male_probability
        return answer

    def _rows_of(self, image: InputImage) -> list[_Row]:
        """The rows under the longest ending of the image's path that has any."""
        if image.path is None:
            raise InputError(f"{self._path} is read by file name, and this image has none; give the path of its file")
        parts = image.path.parts
        for name in (image.path.as_posix(), *("/".join(parts[start:]) for start in range(1, len(parts)))):
            if rows := self._rows.get(name):
                return rows
        near = difflib.get_close_matches(image.path.name, self._rows, 1) if len(self._rows) <= _FEW_NAMES else []
        hint = f"did you mean {near[0]!r}?" if near else "add a row with its name (empty cells mean unknown)"
        raise InputError(f"{self._path} has no row for image {image.path.name}; {hint}")

    def _assign(self, rows: list[_Row], detections: Detections, image: InputImage) -> Int[np.ndarray, " R"]:
        """The detection of each row; -1: not detected."""
        chosen = np.array([-1 if row.person is None else row.person for row in rows], int)
        if (chosen >= len(detections)).any():
            raise InputError(
                f"{self._path} speaks of person {chosen.max()} of {image.path}, where {len(detections)} people were "
                "found, counted from 0; give boxes instead of numbers"
            )
        boxed = np.array([k for k, row in enumerate(rows) if row.box_px is not None], int)
        free = np.setdiff1d(np.arange(len(detections)), chosen)
        if len(boxed) and len(free):
            boxes = np.array([rows[k].box_px for k in boxed])
            found = match_boxes(boxes, detections.boxes_px[free], MIN_OVERLAP)
            chosen[boxed] = np.where(found >= 0, free[found], -1)
        return chosen


def _read(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each row stands, and its cells."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".json"):
        raise InputError(f"the {_WHAT} {path} must be a .csv or .json file")
    with reading(path, _WHAT):
        if suffix == ".json":
            rows = json.loads(path.read_text("utf-8"))
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("its top level must be an array of objects, one per person")
            named = [(f"entry {k}", row) for k, row in enumerate(rows)]
        else:
            named = _read_csv(path)
    yield from named


def _read_csv(path: Path) -> Sequence[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file, strict=True)
        try:
            named = [(f"line {table.line_num}", row) for row in table]
        except csv.Error as error:
            raise ValueError(f"line {table.line_num}: {error}") from error
    for where, row in named:
        if None in row or None in row.values():
            raise ValueError(f"{where} has more or fewer cells than the header")
    return named


def _parse(values: Mapping[str, Any], where: str) -> tuple[str, _Row]:
    """The image and what a row says of one person in it."""
    for key in values:
        if key not in _COLUMNS:
            raise InputError(f"{where}: unknown column {key!r}; known are {', '.join(_COLUMNS)}")
    image = values.get("image")
    if not isinstance(image, str) or not image.strip():
        raise InputError(f"{where} lacks the name of its image; fill the column 'image'")
    numbers = {key: _number(values.get(key), key, where) for key in ("person", *_SIDES, *_ALLOWED)}
    for key, (low, high) in _ALLOWED.items():
        if not (math.isnan(numbers[key]) or low <= numbers[key] <= high):
            raise InputError(f"{where}: {key} is {numbers[key]:g}, outside {low:g} to {high:g}")
    box = _box(values.get("box_px"), [numbers[side] for side in _SIDES], where)
    person = numbers["person"]
    if math.isnan(person) == (box is None):
        raise InputError(f"{where}: name the person by number (column 'person') or by a box, and not by both")
    if box is None and (person < 0 or person != int(person)):
        raise InputError(f"{where}: person must be a whole number from 0, got {person:g}")
    known = {key: numbers[key] for key in _ALLOWED}
    return image.strip().replace("\\", "/"), _Row(**known, person=int(person) if box is None else None, box_px=box)


def _box(listed: Any, sides: list[float], where: str) -> tuple[float, ...] | None:
    """A row's box from its list or its four columns; ``None`` if it has none."""
    if listed not in (None, "") and not all(map(math.isnan, sides)):
        raise InputError(f"{where}: give a box as box_px or as {', '.join(_SIDES)}, and not as both")
    if isinstance(listed, Sequence) and not isinstance(listed, str):
        sides = [_number(value, "box_px", where) for value in listed]
    elif listed not in (None, ""):
        raise InputError(f"{where}: box_px must be an array of left, top, right and bottom, got {listed!r}")
    elif all(map(math.isnan, sides)):
        return None
    if len(sides) != 4 or not (sides[0] < sides[2] and sides[1] < sides[3]):
        raise InputError(f"{where}: a box must be left < right and top < bottom, got {sides}")
    return tuple(sides)


def _number(value: Any, key: str, where: str) -> float:
    """A cell as a number; NaN where it is empty."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        number = float(value) if not isinstance(value, bool) else math.inf
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if math.isinf(number):
        raise InputError(f"{where}: {key} must be a number or empty, got {value!r}")
    return number
