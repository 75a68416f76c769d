"""Rows of a set's files as scenes again: the way back from :mod:`crowdmesh.pgt.rows`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from crowdmesh.camera import Camera
from crowdmesh.people import People
from crowdmesh.pgt.records import ImageFile, Outcome
from crowdmesh.pgt.rows import NAMES
from crowdmesh.pgt.schema import BEFORE, EVIDENCE, PEOPLE_SCHEMA, PLACEMENT
from crowdmesh.scene import Scene

_NO_ROW = np.iinfo(np.int64).min
_COLUMNS = [name for name in PEOPLE_SCHEMA.names if name not in ("dataset", "person")]

_LISTS = [name for name in _COLUMNS if pa.types.is_list(PEOPLE_SCHEMA.field(name).type)]
_TRAILING = {"box_px": (4,), "keypoints_px": (17, 3)}


@dataclass(frozen=True, eq=False)
class BuiltScene:
    """One image of a set. Bodies are parameters: ``body.pose_people`` makes surfaces of them.

    Attributes:
        outcome: what became of the image, at the threshold that was asked for.
        score: mean standardised residual; infinite where nobody counts.
        file: of the image; ``None`` where nobody read it.
        before, after: the people before and after they were placed; ``None``: a failure.
        placement: the arrays of ``Placement`` that people have not, one value a person; empty where nobody was to be
            placed.
        pelvis_m, pelvis_before_m: (K, 3) pelvis in the camera frame, metres; ``None`` where no body was posed.
        origins, label_rows, focal_std, notes: as in :class:`crowdmesh.pgt.records.Built`.
        preset: which DTO placed the people; ``None``: none did.
    """

    key: str
    dataset: str
    path: str
    outcome: Outcome
    detail: str
    score: float
    file: ImageFile | None
    before: Scene | None
    after: Scene | None
    placement: dict[str, np.ndarray]
    pelvis_m: Float[np.ndarray, "K 3"] | None
    pelvis_before_m: Float[np.ndarray, "K 3"] | None
    origins: tuple[str, ...]
    label_rows: Int[np.ndarray, " K"] | None
    focal_std: float | None
    preset: str | None
    notes: tuple[str, ...]


class PeopleRows:
    """The people of a shard from first to last; at most one row group is in memory, and none that is skipped."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._edges = np.concatenate(([0], np.cumsum(np.array(rows, np.int64))))
        self._position, self._group = 0, -1
        self._values: dict[str, np.ndarray] = {}
        self._offsets: dict[str, np.ndarray] = {}

    def skip(self, count: int) -> None:
        """Leave the next people out."""
        self._position += count

    def take(self, count: int) -> dict[str, np.ndarray]:
        """The columns of the next people, lists flat; ValueError where they are not there."""
        first, self._position = self._position, self._position + count
        if self._position > self._edges[-1]:
            raise ValueError("it holds fewer people than the images beside it have")
        pieces = []
        while first < self._position:
            group = int(np.searchsorted(self._edges, first, side="right")) - 1
            last = min(self._position, int(self._edges[group + 1]))
            pieces.append(self._piece(group, first - int(self._edges[group]), last - int(self._edges[group])))
            first = last
        if not pieces:
            return {name: np.zeros(0) for name in _COLUMNS}
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in _COLUMNS}

    def _piece(self, group: int, first: int, last: int) -> dict[str, np.ndarray]:
        if group != self._group:
            rows = self._file.read_row_group(group, _COLUMNS).combine_chunks()
            columns = {name: rows[name].chunk(0) for name in _COLUMNS}
            self._values = {name: _values(name, column) for name, column in columns.items()}
            self._offsets = {name: columns[name].offsets.to_numpy() for name in _LISTS}
            self._group = group
        ends = {name: (int(offsets[first]), int(offsets[last])) for name, offsets in self._offsets.items()}
        return {name: values[slice(*ends.get(name, (first, last)))] for name, values in self._values.items()}


def built_scene(row: dict[str, Any], outcome: Outcome, people: dict[str, np.ndarray]) -> BuiltScene:
    """The image of a row of scenes and its rows of people; ValueError or KeyError says what is wrong with them."""
    count = row["people"]
    if count and any(key != row["key"] for key in people["key"]):
        raise ValueError(f"its people of {row['key']} are those of another image")
    pelvis, pelvis_before = (_points(people[name], count) for name in ("pelvis_m", "pelvis_before_m"))
    placed = row["preset"] is not None
    label_rows = people["label_row"].astype(np.int64)
    return BuiltScene(
        key=row["key"],
        dataset=row["dataset"],
        path=row["path"],
        outcome=outcome,
        detail=row["detail"],
        score=score_of(row),
        file=_file(row),
        before=_scene(row, people, BEFORE),
        after=_scene(row, people, {}),
        placement={name: _integral(name, people[name]) for name in PLACEMENT} if placed else {},
        pelvis_m=pelvis,
        pelvis_before_m=pelvis_before,
        origins=tuple(people["origin"]) if None not in people["origin"] else (),
        label_rows=None if count == 0 or _NO_ROW in label_rows else label_rows,
        focal_std=row["focal_std"],
        preset=row["preset"],
        notes=tuple(row["notes"]),
    )


def score_of(row: dict[str, Any]) -> float:
    """The score of a row of scenes: null is infinite."""
    return float("inf") if row["score"] is None else row["score"]


def _file(row: dict[str, Any]) -> ImageFile | None:
    if row["image_sha256"] is None:
        return None
    return ImageFile(row["image_bytes"], row["image_sha256"], row["width"], row["height"])


def _scene(row: dict[str, Any], people: dict[str, np.ndarray], columns: dict[str, str]) -> Scene | None:
    """The scene whose fields of ``People`` are in ``columns`` rather than in those of their own names."""
    if row["body"] is None:
        return None
    count, joints, parameters = row["people"], row["pose_joints"], row["shape_parameters"]

    def values(name: str) -> np.ndarray:
        return people[columns.get(name, name)]

    evidence: dict[str, Any] = {
        name: people[column].reshape(count, *_TRAILING.get(column, ()))
        for column, name in EVIDENCE.items()
        if column in row["evidence"]
    }
    bodies = People(
        row["body"],
        translation_m=values("translation_m").reshape(count, 3),
        stature_m=values("stature_m"),
        pose=None if joints is None else values("pose").reshape(count, joints, 3),
        shape=None if parameters is None else values("shape").reshape(count, parameters),
        status=values("status").astype(np.int64),
        **evidence,
    )
    camera = Camera(*(row[name] for name in ("fx", "fy", "cx", "cy", "width", "height")))
    return Scene(camera, bodies, provenance={} if row["camera_source"] is None else {"camera": row["camera_source"]})


def _points(values: np.ndarray, count: int) -> np.ndarray | None:
    points = values.reshape(count, 3)
    return None if count == 0 or np.isnan(points).any() else points


def _integral(name: str, values: np.ndarray) -> np.ndarray:
    """Arrays that ``Placement`` has as whole numbers, also of nobody."""
    return values if PLACEMENT[name].type == pa.float64() else values.astype(np.int64)


def _values(name: str, column: pa.Array) -> np.ndarray:
    """A column as an array: NaN for null numbers, -1 for null names, ``None`` for other null texts; lists flat."""
    kind = column.type
    if pa.types.is_list(kind):
        return column.flatten().to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(kind):
        values = column.values.to_numpy(zero_copy_only=False).reshape(len(column), kind.list_size)
        return np.where(column.is_null().to_numpy(zero_copy_only=False)[:, None], np.nan, values)
    if name in NAMES:
        return _codes(name, column)
    if pa.types.is_string(kind):
        return np.array([*column.to_pylist(), None], object)[:-1]
    if pa.types.is_integer(kind):
        return column.fill_null(_NO_ROW).to_numpy(zero_copy_only=False)
    return column.to_numpy(zero_copy_only=False)


def _codes(name: str, column: pa.Array) -> np.ndarray:
    places = {value: place for place, value in enumerate(NAMES[name])}
    codes = np.array([places.get(value, -1) for value in column.to_pylist()], np.int64)
    strange = np.flatnonzero((codes < 0) & column.is_valid().to_numpy(zero_copy_only=False))
    if len(strange):
        raise ValueError(f"it has the {name} {column[int(strange[0])].as_py()!r}, which there is not")
    return codes
