"""Label files of the field as runs of rows, one row a person: flat columns, or a dictionary an image.

| layout | file | held in memory |
|---|---|---|
| columns | ``*-release.npz``: ``imgname`` and one array per column, one row a person | some rows at a time |
| annots | first guesses, ``*_CHMR_SMPL.npz``, ``*_CHMR_SMPL_OPT.npz``: one pickled dictionary | the whole dictionary |
| entries | ``*_opt.npz``: one pickled dictionary an image | one image at a time |

What the dictionaries hold, the adapter of CameraHMR knows (:mod:`crowdmesh.adapters.camerahmr`).
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float, Int

from crowdmesh._files import read_npy_header
from crowdmesh.adapters import camerahmr
from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt.sources._names import clean_name, data_set_of
from crowdmesh.pgt.sources._npz_columns import Column, names_in, open_archive, unpickled

BODIES = {"smpl": (24, 11), "anny": (104, 6)}
"""Bodies that labels may be of, with their joints and shape parameters; SMPL's ten betas get the kid axis, zero."""

_NEEDED = ("imgname", "pose_cam", "shape", "trans_cam", "cam_int")
_OLD_NAMES = {"pose_cam": "pose", "trans_cam": "cam_t"}
_OPTIONAL = ("center", "scale", "gtkps", "keypoints_px")
_CHUNK_BYTES, _CHUNK_ROWS = 1 << 22, 4096
_MOST_POINTS = 512


@dataclass(frozen=True)
class LabelFile:
    """What the head of a label file says.

    Attributes:
        layout: ``columns``, ``annots`` or ``entries``.
        rows: people; ``None``: only reading tells. bytes_unpacked: of the columns read.
        body: of :data:`BODIES`.
        double: whether its numbers need 64 bits.
        columns: column -> entry of the archive, where it has columns. unread: other entries.
    """

    path: Path
    data_set: str
    layout: str
    bytes_unpacked: int
    rows: int | None = None
    body: str = "smpl"
    double: bool = True
    columns: dict[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LabelRows:
    """Some people of a label file, and images of it without any.

    Attributes:
        names: clean image name of each person.
        number: row in the file; of dictionaries, running number.
        pose: axis-angle, radians. shape: parameters of the body. translation_m: its root, camera frame.
        intrinsics: rows of the matrix, pixels.
        boxes_px, keypoints_px: ``None`` where the file has none.
        without: images of nobody, by name, with what is wrong with their record, if anything is.
    """

    names: list[str]
    number: Int[np.ndarray, " N"]
    pose: Float[np.ndarray, "N P"]
    shape: Float[np.ndarray, "N S"]
    translation_m: Float[np.ndarray, "N 3"]
    intrinsics: Float[np.ndarray, "N 9"]
    boxes_px: Float[np.ndarray, "N 4"] | None = None
    keypoints_px: Float[np.ndarray, "N 51"] | None = None
    without: tuple[tuple[str, str | None], ...] = ()


def inspect(path: Path, unpickle: bool) -> LabelFile:
    """Find out what a label file holds from the heads of its arrays.

    Raises:
        FormatError: damaged, pickled without ``unpickle``, or of a layout or version that is not known.
    """
    data_set = data_set_of(path.stem)
    with open_archive(path) as archive:
        names = names_in(archive)
        if "imgname" in names:
            return _inspect_columns(path, data_set, archive, names, unpickle)
        pickles = names if "annots" not in names else ["annots"]
        for name in pickles:
            with archive.open(f"{name}.npy") as file:
                shape, dtype = read_npy_header(file)
            if not dtype.hasobject or shape != ():
                _other_version(path, "neither 'imgname' nor 'annots'", names)
        if not pickles:
            raise FormatError(f"{path} is no label file: it is an archive without arrays")
        if not unpickle:
            unpickled(path, archive, pickles[0], unpickle)
        size = sum(archive.getinfo(f"{name}.npy").file_size for name in pickles)
        unread = tuple(sorted(set(names) - set(pickles)))
        return LabelFile(path, data_set, "annots" if pickles == ["annots"] else "entries", size, unread=unread)


def _other_version(path: Path, what: str, names: list[str]) -> NoReturn:
    has = ", ".join(names[:12]) + (" ..." if len(names) > 12 else "")
    raise FormatError(f"{path} is a label file of another version or of another system: {what}; it has {has}")


def _inspect_columns(
    path: Path, data_set: str, archive: zipfile.ZipFile, names: list[str], unpickle: bool
) -> LabelFile:
    columns = {name: name for name in (*_NEEDED, *_OPTIONAL) if name in names}
    columns |= {new: old for new, old in _OLD_NAMES.items() if new not in columns and old in names}
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        _other_version(path, f"it lacks {', '.join(missing)}", names)
    body = str(Column(path, archive, "body", unpickle).scalar()) if "body" in names else "smpl"
    if body not in BODIES:
        raise FormatError(f"{path} has labels of the body {body!r}; read are {' and '.join(BODIES)}")
    heads = {}
    for name, entry in columns.items():
        with archive.open(f"{entry}.npy") as file:
            heads[name] = read_npy_header(file)
        if heads[name][1].hasobject and not unpickle:
            unpickled(path, archive, entry, unpickle)
    if len(heads["imgname"][0]) != 1:
        raise FormatError(f"{path}: 'imgname' must have one name a person, got shape {heads['imgname'][0]}")
    rows = heads["imgname"][0][0]
    for name, (shape, dtype) in heads.items():
        _check_column(path, name, shape, dtype, rows, body)
    if "gtkps" in heads and heads["gtkps"][0][1:2] < (44,):
        del columns["gtkps"]
    return LabelFile(
        path,
        data_set,
        "columns",
        sum(archive.getinfo(f"{entry}.npy").file_size for entry in columns.values()),
        rows,
        body,
        any(dtype.kind != "f" or dtype.itemsize > 4 for name, (_, dtype) in heads.items() if name in _NEEDED[1:]),
        columns,
        tuple(sorted(set(names) - set(columns.values()) - {"body"})),
    )


def _check_column(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, rows: int, body: str) -> None:
    """Refuse a column of other rows or another width."""
    if not shape or shape[0] != rows:
        raise FormatError(f"{path}: {name!r} has shape {shape} for the {rows} names in 'imgname'")
    if name != "imgname" and dtype.kind not in "fiuO":
        raise FormatError(f"{path}: {name!r} must hold numbers, got {dtype}")
    if not rows or dtype.hasobject:
        return
    joints, parameters = BODIES[body]
    trailing, width = shape[1:], math.prod(shape[1:])
    fits = {
        "imgname": dtype.kind in "SU",
        "pose_cam": trailing in ((3 * joints,), (joints, 3)),
        "shape": len(trailing) == 1 and (10 <= width <= 300 if body == "smpl" else width == parameters),
        "trans_cam": width == 3,
        "cam_int": trailing == (3, 3),
        "center": width == 2,
        "scale": width == 1,
        "gtkps": len(trailing) == 2 and trailing[1] == 3 and trailing[0] <= _MOST_POINTS,
        "keypoints_px": trailing == (17, 3),
    }
    if not fits[name]:
        raise FormatError(f"{path} is of another version: {name!r} has {dtype} {shape}, which no {body} labels have")


def read_rows(file: LabelFile, unpickle: bool) -> Iterator[LabelRows]:
    """All people of a label file in its order, some at a time; those of one chunk have the same columns.

    Raises:
        FormatError: damaged, or with names of images that are none.
    """
    return _column_rows(file, unpickle) if file.layout == "columns" else _dictionary_rows(file, unpickle)


def _column_rows(file: LabelFile, unpickle: bool) -> Iterator[LabelRows]:
    assert file.rows is not None
    if not file.rows:
        return
    with open_archive(file.path) as archive:
        columns = {name: Column(file.path, archive, entry, unpickle) for name, entry in file.columns.items()}
        per_row = sum(column.row_bytes for column in columns.values())
        chunk = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(per_row, 1)))
        for first in range(0, file.rows, chunk):
            count = min(chunk, file.rows - first)
            yield _rows_of(file, first, {name: column.take(count) for name, column in columns.items()})


def _rows_of(file: LabelFile, first: int, taken: dict[str, np.ndarray]) -> LabelRows:
    """A run of rows with one shape and type for each column."""
    count, (joints, _) = len(taken["imgname"]), BODIES[file.body]
    dtype = np.float64 if file.double else np.float32
    for name in set(taken) - {"imgname"}:  # those that were pickled
        _check_column(file.path, name, taken[name].shape, taken[name].dtype, count, file.body)
    boxes = keypoints = None
    if "center" in taken and "scale" in taken:
        boxes = camerahmr.boxes_px(_wide(taken["center"], 2), _wide(taken["scale"], 1))
    if "keypoints_px" in taken:
        keypoints = _wide(taken["keypoints_px"], 51)
    elif "gtkps" in taken:
        keypoints = camerahmr.coco_keypoints(taken["gtkps"].astype(np.float64))
    return LabelRows(
        _names(file, taken["imgname"].tolist(), first),
        np.arange(first, first + count),
        taken["pose_cam"].reshape(count, 3 * joints).astype(dtype),
        shape_parameters(taken["shape"], file.body).astype(dtype),
        taken["trans_cam"].reshape(count, 3).astype(dtype),
        taken["cam_int"].reshape(count, 9).astype(dtype),
        boxes,
        None if keypoints is None else keypoints.reshape(count, 51),
    )


def _wide(values: np.ndarray, width: int) -> np.ndarray:
    return values.reshape(len(values), width).astype(np.float64)


def shape_parameters(values: np.ndarray, body: str) -> np.ndarray:
    """As many as the body has: of SMPL's betas eleven (the kid axis last), or the first ten and no kid."""
    if body != "smpl" or values.shape[1] == 11:
        return values
    return np.pad(values[:, :10], ((0, 0), (0, 1)))


def _names(file: LabelFile, values: list[Any], first: int) -> list[str]:
    known: dict[Any, str] = {}  # an image's people mostly follow each other
    for row, value in enumerate(values):
        if value not in known:
            known[value] = _name(file, value, first + row)
    return [known[value] for value in values]


def _name(file: LabelFile, value: Any, row: int) -> str:
    try:
        return clean_name(value)
    except ValueError as error:  # a name in no encoding among them
        reason = "its image name is not in UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise FormatError(f"{file.path}: row {row}: {reason}; correct it") from error


def _dictionary_rows(file: LabelFile, unpickle: bool) -> Iterator[LabelRows]:
    people: list[tuple[str, dict[str, np.ndarray]]] = []
    without: list[tuple[str, str | None]] = []
    waiting, first, recognised = 0, 0, False
    for name, record in _records(file, unpickle):
        clean = _name(file, name, first + waiting)
        found, problem = _people(file, name, record, recognised)
        recognised = recognised or bool(found)
        other_columns = bool(found) and bool(people) and found.keys() != people[-1][1].keys()
        if other_columns or waiting + len(without) >= _CHUNK_ROWS:
            yield _gathered(people, without, first)
            first, waiting, people, without = first + waiting, 0, [], []
        if found:
            people.append((clean, found))
            waiting += len(found["pose_cam"])
        else:
            without.append((clean, problem))
    if people or without:
        yield _gathered(people, without, first)


def _records(file: LabelFile, unpickle: bool) -> Iterator[tuple[str, Any]]:
    with open_archive(file.path) as archive:
        if file.layout == "entries":
            for name in names_in(archive):
                yield name, unpickled(file.path, archive, name, unpickle)
            return
        annots = unpickled(file.path, archive, "annots", unpickle)
        if not isinstance(annots, dict):
            raise ValueError("its 'annots' must be a dictionary of images")
    yield from annots.items()


def _people(file: LabelFile, name: str, record: Any, recognised: bool) -> tuple[dict[str, np.ndarray], str | None]:
    """The arrays of one image's people, none for nobody, and what is wrong with the record.

    Raises:
        FormatError: the record is of no known layout, and none before it was.
    """
    if isinstance(record, (dict, list)) and not record:
        return {}, None
    try:
        found = camerahmr.records({name: record}).get(name)
        if found is not None:
            arrays = camerahmr.arrays(found)
            if arrays and arrays["shape"].shape[1] < 10:
                raise FormatError(f"'shape' has {arrays['shape'].shape[1]} numbers a person, not ten or more")
            return arrays, None
    except (FormatError, InputError) as error:
        return {}, f"{file.path.name}: {error}"
    if not recognised:
        has = ", ".join(map(str, list(record)[:8])) if isinstance(record, dict) else type(record).__name__
        raise FormatError(f"{file.path} is a label file of another version or of another system: {name!r} holds {has}")
    return {}, f"{file.path.name}: its record is not one of people"


def _gathered(
    people: list[tuple[str, dict[str, np.ndarray]]], without: list[tuple[str, str | None]], first: int
) -> LabelRows:
    names = [name for name, found in people for _ in range(len(found["pose_cam"]))]

    def column(key: str, width: int) -> np.ndarray:
        parts = [found[key].reshape(-1, width) for _, found in people]
        return np.concatenate([np.zeros((0, width)), *parts])

    has = people[0][1] if people else {}

    shapes = [shape_parameters(found["shape"], "smpl") for _, found in people]
    return LabelRows(
        names,
        np.arange(first, first + len(names)),
        column("pose_cam", 72),
        np.concatenate([np.zeros((0, 11)), *shapes]),
        column("trans_cam", 3),
        column("cam_int", 9),
        column("boxes_px", 4) if "boxes_px" in has else None,
        column("keypoints_px", 51) if "keypoints_px" in has else None,
        tuple(without),
    )
