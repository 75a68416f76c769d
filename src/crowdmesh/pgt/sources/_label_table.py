"""Label files turned once into a Parquet table in which the people of an image stand together.

The rows of one image may lie anywhere in huge files. They are dealt into buckets by a hash of their image, each bucket
small enough to be sorted in memory, and the buckets are written one after the other: memory does not grow with the
files. Images are therefore in the order of their hashes' buckets, and sorted by name within each.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crowdmesh._files import atomic_path, reading
from crowdmesh.assets import digest_of
from crowdmesh.errors import InputError
from crowdmesh.pgt.sources._image_files import shared_folders
from crowdmesh.pgt.sources._label_files import LabelFile, LabelRows, read_rows
from crowdmesh.pgt.sources._names import path_in
from crowdmesh.pgt.sources._table_lock import WORK, sweep_conversions, sweep_table, table_lock

FORMAT, FORMAT_VERSION = "crowdmesh-labels", 2
_WHAT = "table of labels"

# Bytes of a bucket, which is sorted in memory; rows that are read back at once.
_BUCKET_BYTES, _MOST_BUCKETS = 1 << 25, 256
_ROWS_PER_GROUP = 2048
_GROUPING = ("data_set", "path", "name")


def schema_of(double: bool) -> pa.Schema:
    """Columns of the table; numbers of 32 bits where all label files have such."""
    number = pa.float64() if double else pa.float32()
    return pa.schema(
        [
            ("data_set", pa.string()),
            ("path", pa.string()),
            ("name", pa.string()),  # whole, as the label file has it
            ("row", pa.int64()),  # through the files of the data set; -1: an image of nobody
            ("problem", pa.string()),
            ("pose", pa.list_(number)),
            ("shape", pa.list_(number)),
            ("translation_m", pa.list_(number)),
            ("intrinsics", pa.list_(number)),
            ("boxes_px", pa.list_(pa.float64())),
            ("keypoints_px", pa.list_(pa.float64())),
        ]
    )


@dataclass(frozen=True)
class Contents:
    """What a table was made of.

    Attributes:
        files: per data set, the names of its files in order, and the first row of each.
        bodies: body of each data set.
        folders: per data set, the first folders that all its paths have in common.
        kid_axis: data sets with people on SMPL's kid axis.
    """

    files: dict[str, list[tuple[str, int]]]
    bodies: dict[str, str]
    folders: dict[str, list[str]]
    kid_axis: list[str]

    def parts_of(self, data_set: str, path: str) -> int:
        """How many last parts of a path tell its image from every other one of the data set."""
        return len(path.split("/")) - len(self.folders[data_set])

    def origin(self, data_set: str, row: int) -> str:
        """A row of a data set as file and row there."""
        name, first = next((name, first) for name, first in reversed(self.files[data_set]) if first <= row)
        return f"row {row - first} of {name}"


def table_path(cache: Path, files: Sequence[LabelFile]) -> Path:
    """Where the table of these files is kept: other files, or other content, another name."""
    parts = [[FORMAT_VERSION, _MOST_BUCKETS, _BUCKET_BYTES, _ROWS_PER_GROUP]]
    parts += [[file.path.name, file.path.stat().st_size, digest_of(file.path)] for file in files]
    return cache / f"labels-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.parquet"


def convert(
    files: Sequence[LabelFile],
    target: Path,
    unpickle: bool,
    progress: Callable[[int], None] | None = None,
    bucket_bytes: int = _BUCKET_BYTES,
) -> None:
    """Write the table of label files; a process that finds another one at it waits for that one's table.

    Args:
        files: in the order in which the people of one image follow each other.
        progress: called with the number of people of each run of rows that was read.

    Raises:
        FormatError: a label file is damaged. InputError: the folder cannot be written, or the disk is full.
    """
    _make(target.parent)
    with table_lock(target.parent, target.stem, wait=True) as held:
        if held == "held" and target.is_file():
            return
        sweep_conversions(target.parent)
        if held == "held":
            sweep_table(target.parent, target.stem, 0.0)
        with atomic_path(target, durable=True) as temporary:
            work = Path(tempfile.mkdtemp(prefix=f".{target.stem}.", suffix=WORK, dir=target.parent))
            try:
                _write(files, temporary, work, unpickle, progress or (lambda _: None), bucket_bytes)
            finally:
                shutil.rmtree(work, ignore_errors=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to folder {folder}: {error.strerror}; choose another output folder") from error


def _write(
    files: Sequence[LabelFile],
    target: Path,
    work: Path,
    unpickle: bool,
    progress: Callable[[int], None],
    bucket_bytes: int,
) -> None:
    """The table itself, by way of the buckets in a folder."""
    schema = schema_of(any(file.double for file in files))
    buckets = min(_MOST_BUCKETS, 1 + sum(file.bytes_unpacked for file in files) // bucket_bytes)
    contents = _deal(files, unpickle, schema, work, buckets, progress)
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION)}
    metadata |= {name: json.dumps(value) for name, value in asdict(contents).items()}
    _gather(work, buckets, schema.with_metadata(metadata), target)


def _deal(
    files: Sequence[LabelFile],
    unpickle: bool,
    schema: pa.Schema,
    work: Path,
    buckets: int,
    progress: Callable[[int], None],
) -> Contents:
    """Deal all rows into one Arrow file a bucket."""
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    starts: dict[str, int] = {}
    contents = Contents({}, {file.data_set: file.body for file in files}, {}, [])
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa.ipc.new_stream(str(work / f"{bucket}.arrow"), schema, options=options))
            for bucket in range(buckets)
        ]
        for file in files:
            start = starts.get(file.data_set, 0)
            contents.files.setdefault(file.data_set, []).append((file.path.name, start))
            for rows in read_rows(file, unpickle):
                names = rows.names + [name for name, _ in rows.without]
                path_of = {name: path_in(file.data_set, name) for name in dict.fromkeys(names)}
                shared = contents.folders.get(file.data_set)
                contents.folders[file.data_set] = shared_folders(path_of.values(), shared)
                if file.body == "smpl" and rows.shape[:, 10:].any() and file.data_set not in contents.kid_axis:
                    contents.kid_axis.append(file.data_set)
                bucket_of = {
                    path: zlib.crc32(f"{file.data_set}/{path}".encode()) % buckets for path in path_of.values()
                }
                paths = [path_of[name] for name in names]
                batch = _batch(file.data_set, start, rows, names, paths, schema)
                dealt = np.array([bucket_of[path] for path in paths])
                for bucket in np.unique(dealt):
                    writers[bucket].write_batch(batch.take(pa.array(np.flatnonzero(dealt == bucket))))
                if rows.names:
                    starts[file.data_set] = start + int(rows.number[-1]) + 1
                progress(len(rows.names))
    return contents


def _batch(
    data_set: str, start: int, rows: LabelRows, names: list[str], paths: list[str], schema: pa.Schema
) -> pa.RecordBatch:
    count, empty = len(rows.names), len(rows.without)
    columns: dict[str, pa.Array] = {
        "data_set": pa.array([data_set] * len(names)),
        "path": pa.array(paths),
        "name": pa.array(names),
        "row": pa.array(np.concatenate((start + rows.number, np.full(empty, -1)))),
        "problem": pa.array([None] * count + [problem for _, problem in rows.without], pa.string()),
    }
    for name in schema.names[len(columns) :]:
        columns[name] = _lists(getattr(rows, name), count, empty, schema.field(name).type)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _lists(values: np.ndarray | None, count: int, empty: int, kind: pa.ListType) -> pa.Array:
    """A list of numbers for each person, and none for the images of nobody behind them."""
    if values is None:
        return pa.nulls(count + empty, kind)
    offsets = values.shape[1] * np.arange(count + 1, dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1), kind.value_type))
    return pa.concat_arrays([lists, pa.nulls(empty, kind)]) if empty else lists


def _gather(work: Path, buckets: int, schema: pa.Schema, target: Path) -> None:
    """Sort each bucket and write it."""
    numbers = [f"{field.name}.list.element" for field in schema if pa.types.is_list(field.type)]
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": ["data_set", "path", "name"],
        "use_byte_stream_split": numbers,
        "write_page_checksum": True,
    }
    with pq.ParquetWriter(target, schema, **options) as writer:
        for bucket in range(buckets):
            path = work / f"{bucket}.arrow"
            with pa.ipc.open_stream(str(path)) as reader:
                table = reader.read_all()
            path.unlink()
            order = [("data_set", "ascending"), ("path", "ascending"), ("row", "ascending")]
            table = table.sort_by(order).replace_schema_metadata(schema.metadata)
            if len(table):
                writer.write_table(table, _ROWS_PER_GROUP)


@dataclass(frozen=True)
class Group:
    """The rows of one image in the table.

    Attributes:
        name: whole, as the label file has it. row, count: first row and how many, of which one tells of nobody.
    """

    data_set: str
    path: str
    name: str
    row: int
    count: int


class LabelTable:
    """An open table; a context manager.

    Raises:
        FormatError: damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, _WHAT):
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            metadata = self._file.schema_arrow.metadata or {}
            if metadata.get(b"format") != FORMAT.encode() or metadata.get(b"version") != str(FORMAT_VERSION).encode():
                raise ValueError("it does not say that it is one")
            files = {name: [tuple(part) for part in parts] for name, parts in json.loads(metadata[b"files"]).items()}
            rest = {name: json.loads(metadata[name.encode()]) for name in ("bodies", "folders", "kid_axis")}
            self.contents = Contents(files, **rest)
            groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *groups])
        self._held: tuple[int, pa.Table] | None = None

    def __enter__(self) -> LabelTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def groups(self) -> Iterator[Group]:
        """Every image with its rows."""
        open_group: Group | None = None
        for number in range(len(self._starts) - 1):
            with reading(self.path, _WHAT):
                columns = self._file.read_row_group(number, list(_GROUPING), use_threads=False).to_pydict()
            keys = list(zip(columns["data_set"], columns["path"], strict=True))
            changes = [i for i in range(1, len(keys)) if keys[i] != keys[i - 1]]
            for first, after in zip([0, *changes], [*changes, len(keys)], strict=True):
                count = after - first
                if open_group is not None and (open_group.data_set, open_group.path) == keys[first]:
                    count += open_group.count
                    name, row = open_group.name, open_group.row
                else:
                    if open_group is not None:
                        yield open_group
                    name, row = columns["name"][first], int(self._starts[number]) + first
                open_group = Group(*keys[first], name, row, count)
        if open_group is not None:
            yield open_group

    def rows(self, ranges: Sequence[tuple[int, int]]) -> pa.Table:
        """The rows of several ranges (first, how many), one after the other.

        Raises:
            InputError: beyond the table.
        """
        parts = []
        for first, count in _joined(ranges):
            if first < 0 or count < 1 or first + count > self._starts[-1]:
                raise InputError(f"{self.path} has {self._starts[-1]} rows, not {first} to {first + count}")
            while count:
                number = int(np.searchsorted(self._starts, first, "right")) - 1
                here = min(count, int(self._starts[number + 1]) - first)
                parts.append(self._group(number).slice(first - int(self._starts[number]), here))
                first, count = first + here, count - here
        return pa.concat_tables(parts).combine_chunks()

    def _group(self, number: int) -> pa.Table:
        if self._held is None or self._held[0] != number:
            with reading(self.path, _WHAT):
                self._held = number, self._file.read_row_group(number, use_threads=False)
        return self._held[1]


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, count in ranges:
        if joined and sum(joined[-1]) == first:
            joined[-1] = joined[-1][0], joined[-1][1] + count
        else:
            joined.append((first, count))
    return joined
