"""Shards of a set: two Parquet files that are written together, one row per image and one per person.

The people file is named into place first, the scenes file last: a shard is there when its scenes file is. What its
footer says (configuration, counts, size of the people file) is enough to trust a shard without reading its rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crowdmesh import _files
from crowdmesh.errors import FormatError
from crowdmesh.pgt.records import Built, KeysDigest, Outcome
from crowdmesh.pgt.rows import tables_of
from crowdmesh.pgt.schema import FORMAT, FORMAT_VERSION, PEOPLE_SCHEMA, SCENE_SCHEMA, UNITS

SHARDS = "shards"
"""Folder of a set that holds its shards."""

ROWS_PER_GROUP = 1024
"""Rows that a reader holds in memory at once."""

_IMAGES_AT_ONCE = 64  # a table of many images costs little more than one of a few

_WHAT = "shard of a set"
_FOOTER = "shard"
_DICTIONARY = ("dataset", "body", "camera_source", "outcome", "preset", "origin", "status", "status_before")
_DICTIONARY += ("prior_group", "notes.list.element", "evidence.list.element")


@dataclass(frozen=True)
class ShardSummary:
    """What the footer of a shard says.

    Attributes:
        scenes, people: rows. counts: images per outcome (:class:`Outcome` values).
        seconds: how long the work took that made it.
        keys: :class:`KeysDigest` of its images, in order.
    """

    shard: int
    scenes: int
    people: int
    counts: dict[str, int]
    seconds: float
    config_hash: str
    keys: str


@dataclass(frozen=True)
class Survey:
    """Which shards are there.

    Attributes:
        damaged: what is wrong with each shard that cannot be trusted. foreign: shards of another configuration.
    """

    committed: list[ShardSummary]
    damaged: dict[int, str]
    foreign: list[int]
    missing: list[int]


def scenes_path(folder: Path, shard: int) -> Path:
    """File of a shard's images; a shard is there when this file is."""
    return folder / SHARDS / f"scenes-{shard:05d}.parquet"


def people_path(folder: Path, shard: int) -> Path:
    """File of a shard's people."""
    return folder / SHARDS / f"people-{shard:05d}.parquet"


class ShardWriter:
    """Writes one shard: ``with ShardWriter(folder, 7, config_hash) as writer: writer.add(built)``.

    The shard is committed when the block ends, and replaces an earlier one; after an exception nothing is left of it.
    The rows and how they lie in the files depend on the images alone, not on how many are added at once; only the
    footer also says how many seconds the block took.

    Attributes:
        summary: what was written; there after the block.

    Raises:
        InputError: the folder cannot be written or the disk is full; people whom the columns cannot hold
            (:func:`crowdmesh.pgt.rows.tables_of`).
    """

    summary: ShardSummary

    def __init__(self, folder: Path, shard: int, config_hash: str) -> None:
        self._folder, self._shard, self._config_hash = Path(folder), shard, config_hash
        self._scenes_file, self._people_file = scenes_path(self._folder, shard), people_path(self._folder, shard)
        self._counts: Counter[str] = Counter()
        self._keys = KeysDigest()
        self._waiting: list[Built] = []

    def __enter__(self) -> ShardWriter:
        self._started = time.perf_counter()
        with ExitStack() as stack:
            # Left in reverse: people are named into place before scenes.
            scenes = stack.enter_context(_files.atomic_path(self._scenes_file, durable=True))
            people = stack.enter_context(_files.atomic_path(self._people_file, durable=True))
            with _writing(self._scenes_file):
                self._scenes = stack.enter_context(_Rows(scenes, SCENE_SCHEMA))
                self._people = stack.enter_context(_Rows(people, PEOPLE_SCHEMA))
            self._stack = stack.pop_all()
        return self

    def add(self, built: Sequence[Built]) -> None:
        """Write the rows of some images, after those that were added before."""
        self._waiting += built
        if len(self._waiting) >= _IMAGES_AT_ONCE:
            self._write_waiting()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            # Not the error itself: what went wrong elsewhere is not for the files to explain.
            self._stack.__exit__(_AbandonedError, _AbandonedError(), None)
            return
        with self._stack, _writing(self._scenes_file):
            self._write_waiting()
            footer: dict[str, Any] = {"shard": self._shard, "config_hash": self._config_hash}
            self._people.finish({**footer, "people": self._people.count})
            footer |= {
                "scenes": self._scenes.count,
                "people": self._people.count,
                "people_bytes": self._people.path.stat().st_size,
                "people_footer": _footer_hash(self._people.path),
                "counts": {outcome.value: self._counts[outcome] for outcome in Outcome if self._counts[outcome]},
                "keys": self._keys.text,
                "seconds": round(time.perf_counter() - self._started, 3),
            }
            self._scenes.finish(footer)
            if self._scenes_file.exists():  # an earlier one must not stand beside new people, not even for a moment
                self._scenes_file.unlink()
                _files.sync_folder(self._scenes_file.parent)
        self.summary = _summary(footer)

    def _write_waiting(self) -> None:
        scenes, people = tables_of(self._waiting)
        with _writing(self._scenes_file):
            self._scenes.add(scenes)
            self._people.add(people)
        self._counts.update(image.outcome.value for image in self._waiting)
        self._keys.add(image.entry.key for image in self._waiting)
        self._waiting = []


def check_shard(folder: Path, shard: int, config_hash: str, deep: bool = False) -> ShardSummary:
    """Make sure that a shard is whole and of this configuration.

    Args:
        deep: read every page against its checksum, too; else the footers and sizes decide.

    Raises:
        FormatError: it is damaged, not there, or of another configuration.
    """
    with ExitStack() as stack:
        scenes, people, summary = open_shard(folder, shard, stack)
        if summary.config_hash != config_hash:
            raise _ForeignError(
                f"{scenes_path(folder, shard)} was built with another configuration; choose another folder, or the "
                "same arguments as before"
            )
        if deep:
            with mendable(scenes_path(folder, shard)):
                rows = _all_rows(scenes, ["key", "people"])
                owners = np.repeat(np.array(rows["key"], object), np.array(rows["people"], np.int64))
            with mendable(people_path(folder, shard)):
                if not np.array_equal(owners, np.array(_all_rows(people, ["key"])["key"], object)):
                    raise ValueError("its rows are not those of the images beside it")
        return summary


def survey(folder: Path, shards: Sequence[int], config_hash: str) -> Survey:
    """Which of these shards are there, damaged, of another configuration, or missing; a light check of each.

    Raises:
        InputError: a file cannot be read for a reason that says nothing about it (a stale mount, missing rights).
    """
    found = Survey([], {}, [], [])
    for shard in shards:
        if not scenes_path(folder, shard).is_file():
            found.missing.append(shard)
            continue
        try:
            found.committed.append(check_shard(folder, shard, config_hash))
        except _ForeignError:
            found.foreign.append(shard)
        except FormatError as error:
            found.damaged[shard] = str(error)
    return found


def sweep(folder: Path) -> int:
    """Delete what killed writers left in a set; living ones keep their files. Returns the number of files."""
    folder = Path(folder)
    places = ((folder, "manifest.*"), (folder, "problems.*"), (folder / "plan", "records-*"), (folder / SHARDS, "*-*"))
    return sum(_files.sweep(place, pattern) for place, pattern in places)


def open_shard(folder: Path, shard: int, stack: ExitStack) -> tuple[pq.ParquetFile, pq.ParquetFile, ShardSummary]:
    """The open files of a shard, images and people, and what it says of itself; ``stack`` closes them.

    Raises:
        FormatError: a file is missing or damaged, or they do not belong together.
    """
    path, beside = scenes_path(folder, shard), people_path(folder, shard)
    with mendable(path):
        scenes = stack.enter_context(pq.ParquetFile(path, page_checksum_verification=True))
        footer = _footer(scenes, SCENE_SCHEMA)
        summary = _summary(footer)
        if summary.shard != shard or scenes.metadata.num_rows != summary.scenes:
            raise ValueError("it does not hold the images that it should")
        people_bytes = footer["people_bytes"]
    with mendable(beside):
        if beside.stat().st_size != people_bytes:
            raise ValueError("it has not the size that it should")
        people = stack.enter_context(pq.ParquetFile(beside, page_checksum_verification=True))
        other = _footer(people, PEOPLE_SCHEMA)
        if (other["shard"], other["config_hash"]) != (shard, summary.config_hash):
            raise ValueError("it belongs to another shard")
        if _footer_hash(beside) != footer["people_footer"]:
            raise ValueError("it was not written together with the images beside it")
        if people.metadata.num_rows != summary.people:
            raise ValueError("it does not hold the people that it should")
    return scenes, people, summary


def mendable(path: Path) -> AbstractContextManager[None]:
    """Turns what goes wrong with a file of a shard into one sentence that says what to do."""
    return _files.mendable(path, _WHAT, "run crowdmesh build with the same arguments and --verify to build it again")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """As ``_files.writing``, in the system's words: those of Arrow are not one clause."""
    with _files.writing(path):
        try:
            yield
        except OSError as error:
            raise error if error.errno is None else OSError(error.errno, os.strerror(error.errno)) from error


def _all_rows(file: pq.ParquetFile, kept: list[str]) -> dict[str, list[Any]]:
    """Some columns of a file of which every page is read."""
    groups = [file.read_row_group(group).select(kept).to_pydict() for group in range(file.num_row_groups)]
    return {name: [value for group in groups for value in group[name]] for name in kept}


class _ForeignError(FormatError):
    """A shard of another configuration."""


class _AbandonedError(Exception):
    """Says that the files being written are not wanted."""


class _Rows:
    """One Parquet file that is being written, in row groups of :data:`ROWS_PER_GROUP`."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.count = path, 0
        described = schema.with_metadata(
            {
                "format": FORMAT,
                "version": str(FORMAT_VERSION),
                "units": json.dumps(UNITS),
                "crowdmesh": version("crowdmesh"),
            }
        )
        self._writer = pq.ParquetWriter(path, described, **_options(schema))
        self._waiting = schema.empty_table()

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, pa.ArrowException):  # only what is not wanted is still open here
            self._writer.close()

    def add(self, rows: pa.Table) -> None:
        self.count += len(rows)
        self._waiting = pa.concat_tables([self._waiting, rows])
        while len(self._waiting) >= ROWS_PER_GROUP:
            self._write(self._waiting.slice(0, ROWS_PER_GROUP))
            self._waiting = self._waiting.slice(ROWS_PER_GROUP)

    def finish(self, footer: dict[str, Any]) -> None:
        if len(self._waiting):
            self._write(self._waiting)
        self._writer.add_key_value_metadata({_FOOTER: json.dumps(footer)})
        self._writer.close()

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows.combine_chunks(), row_group_size=ROWS_PER_GROUP)


def _options(schema: pa.Schema) -> dict[str, Any]:
    reals = []
    for field in schema:
        if pa.types.is_float64(field.type):
            reals.append(field.name)
        elif pa.types.is_nested(field.type) and pa.types.is_float64(field.type.value_type):
            reals.append(f"{field.name}.list.element")
    return {
        "compression": "zstd",
        "use_dictionary": [name for name in _DICTIONARY if name.split(".")[0] in schema.names],
        "use_byte_stream_split": reals,  # a quarter smaller, and no slower
        "write_page_checksum": True,
    }


def _footer(file: pq.ParquetFile, schema: pa.Schema) -> dict[str, Any]:
    """What a file of a shard says of itself; ValueError where it is none, or of a newer format."""
    metadata = file.metadata.metadata or {}
    if metadata.get(b"format") != FORMAT.encode():
        raise ValueError("it does not say that it is one")
    if int(metadata[b"version"]) > FORMAT_VERSION:
        raise ValueError(
            f"it has format {int(metadata[b'version'])}, this CrowdMesh reads up to {FORMAT_VERSION}; update crowdmesh"
        )
    if not file.schema_arrow.equals(schema):
        raise ValueError("it has not the columns of one")
    footer = json.loads(metadata[_FOOTER.encode()])
    if not isinstance(footer, dict):
        raise ValueError("its footer is no object")
    return footer


def _footer_hash(path: Path) -> str:
    """Hash of a Parquet file's own footer, which has sizes and extremes of all that is in it."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-8 - length, os.SEEK_END)
        return hashlib.blake2b(file.read(length), digest_size=8).hexdigest()


def _summary(footer: dict[str, Any]) -> ShardSummary:
    """The summary of a scenes file's footer; ValueError or KeyError says what is wrong with it."""
    counts = {Outcome(name).value: count for name, count in footer["counts"].items()}
    numbers = [footer["shard"], footer["scenes"], footer["people"], footer["people_bytes"], *counts.values()]
    if any(type(number) is not int or number < 0 for number in numbers) or sum(counts.values()) != footer["scenes"]:
        raise ValueError("the counts in its footer contradict each other")
    if not isinstance(footer["config_hash"], str) or not isinstance(footer["keys"], str):
        raise ValueError("its footer has no hashes of configuration and keys")
    told = (footer["shard"], footer["scenes"], footer["people"], counts)
    return ShardSummary(*told, float(footer["seconds"]), footer["config_hash"], footer["keys"])
