"""The plan of a set: every image once, in shards; written down before any work begins, and only ever appended to.

``plan/records-00000.parquet`` holds the entries that the source had at first, each later file (a generation) those that
it had gained by a later run. One row group is one shard, so that a shard's entries are read without the others. Shards
are numbered through all generations; the last one of each may be smaller than the rest.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, UInt64

from crowdmesh import _files
from crowdmesh.errors import InputError
from crowdmesh.pgt.records import Entry, KeysDigest

FORMAT = "crowdmesh-plan"
FORMAT_VERSION = 1
SCHEMA = pa.schema(
    [
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("found", pa.bool_(), nullable=False),
    ]
)
"""The columns of a plan: the fields of an ``Entry``."""

_WHAT = "plan of a CrowdMesh set"
_CHUNK = 1024  # entries looked up at once


@dataclass(frozen=True)
class Generation:
    """One file of a plan.

    Attributes:
        first_shard: number of its first shard. records: its entries. missing: those whose image was not there.
        keys: :class:`KeysDigest` of each of its shards.
    """

    path: Path
    first_shard: int
    records: int
    shards: int
    missing: int
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Every image of a set, in shards.

    Attributes:
        folder: of the set. per_shard: images in every shard but the last of each generation.
        vanished: planned images that the source no longer had when it was listed last; 0 where it was not listed.
    """

    folder: Path
    per_shard: int
    generations: tuple[Generation, ...]
    vanished: int = 0

    @property
    def records(self) -> int:
        """Images in all shards."""
        return sum(generation.records for generation in self.generations)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return sum(generation.shards for generation in self.generations)

    @property
    def missing(self) -> int:
        """Images that were not there when they were written down."""
        return sum(generation.missing for generation in self.generations)

    @classmethod
    def open(cls, folder: Path) -> Plan | None:
        """The plan of a set, ``None`` where there is none.

        Raises:
            FormatError: it is damaged, or of a newer version.
        """
        generations, per_shard = [], 1
        while (path := _path(folder, len(generations))).is_file():
            with _mendable(path):
                per_shard, missing, keys = _promises(_opened(path))
                records = _opened(path).metadata.num_rows
                first = sum(generation.shards for generation in generations)
                generations.append(Generation(path, first, records, len(keys), missing, keys))
        return cls(folder, per_shard, tuple(generations)) if generations else None

    def keys_digest(self, shard: int) -> str:
        """Hash of the keys of a shard (:class:`KeysDigest`)."""
        generation = self._generation(shard)
        return generation.keys[shard - generation.first_shard]

    def size(self, shard: int) -> int:
        """Number of images in a shard."""
        generation = self._generation(shard)
        return min(self.per_shard, generation.records - (shard - generation.first_shard) * self.per_shard)

    def entries(self, shard: int) -> list[Entry]:
        """The images of a shard.

        Raises:
            FormatError: the plan is damaged.
        """
        generation = self._generation(shard)
        with _mendable(generation.path):
            return _entries(_opened(generation.path).read_row_group(shard - generation.first_shard))

    def keys(self) -> Iterator[str]:
        """The key of every image, one shard in memory at a time."""
        for shard in range(self.shards):
            yield from (entry.key for entry in self.entries(shard))

    def _generation(self, shard: int) -> Generation:
        for generation in self.generations:
            if generation.first_shard <= shard < generation.first_shard + generation.shards:
                return generation
        raise InputError(f"the plan of {self.folder} has shards 0 to {self.shards - 1}, none of number {shard}")


def extend_plan(
    folder: Path, entries: Iterable[Entry], per_shard: int, progress: Callable[[int], None] | None = None
) -> Plan:
    """Write down the images that are not in the plan yet; make the plan if there is none.

    Images that have vanished from the source stay; if all have, it is another source. Memory grows by eight bytes per
    image, twice that for a moment while they are sorted, and no more: keys are compared by 64 bits of their hash. The
    odds that two of two million keys share theirs are one in ten million; the second would be taken for a duplicate
    and named (or, if the first has left the source meanwhile, for that one).

    Args:
        entries: of all images of the source, in an order that depends on it alone.
        progress: called with numbers of entries as they are read.

    Raises:
        InputError: an image occurs twice, a name is no text, the source is empty or has none of the planned images,
            another process planned other images at the same moment, or the plan has shards of another size.
    """
    known = Plan.open(folder)
    if known is not None and known.per_shard != per_shard:
        raise InputError(
            f"the plan of {folder} has {known.per_shard} images per shard, not {per_shard}; use that number or another "
            "folder"
        )
    target = _path(folder, 0 if known is None else len(known.generations))
    news = _News(known)
    fresh = news.of(entries, progress or (lambda _: None))
    first = next(fresh, None)
    if first is None:
        if known is None:
            raise InputError("the source has no images; check its folder and options")
        news.expect_planned()
        return replace(known, vanished=news.vanished)

    with _files.new_path(target) as temporary:
        _write(temporary, chain([first], fresh), per_shard)
        news.expect_planned()
        news.check(temporary)
    _expect_same(target, news)
    plan = Plan.open(folder)
    if plan is None:
        raise InputError(f"{target} vanished while it was made; let nobody else work on that folder, and run again")
    return replace(plan, vanished=news.vanished)


class _News:
    """Which entries of a source are not in a plan, by the hashes of their keys."""

    def __init__(self, known: Plan | None) -> None:
        self.known = np.zeros(0, np.uint64)
        if known is not None:
            self.known = np.fromiter(map(_hash, known.keys()), np.uint64, known.records)
            self.known.sort()
        self.seen = np.zeros(len(self.known), bool)
        self.fresh: list[UInt64[np.ndarray, " N"]] = []

    def of(self, entries: Iterable[Entry], progress: Callable[[int], None]) -> Iterator[Entry]:
        """The new entries, in order."""
        for chunk in _chunks(entries):
            hashes = np.fromiter((_hash(entry.key) for entry in chunk), np.uint64, len(chunk))
            old = self._look_up(hashes, chunk)
            self.fresh.append(hashes[~old])
            yield from (entry for entry, is_old in zip(chunk, old.tolist(), strict=True) if not is_old)
            progress(len(chunk))

    @property
    def vanished(self) -> int:
        """Planned images that were not among the entries."""
        return int((~self.seen).sum())

    def expect_planned(self) -> None:
        """InputError where the source has none of the images that were planned from it."""
        if len(self.seen) and not self.seen.any():
            raise InputError(
                f"none of the {len(self.seen)} planned images is in the source any more; name the folder that the set "
                "was begun with, see that it is mounted, or choose another folder for another set"
            )

    def check(self, path: Path) -> None:
        """InputError where an entry of the new file occurs twice."""
        hashes = self.total()
        twice = hashes[1:][hashes[1:] == hashes[:-1]]
        if len(twice):
            wanted = set(twice[:1].tolist())
            keys = [entry.key for entry in _stream(path) if _hash(entry.key) in wanted]
            raise _twice(keys[-1])

    def total(self) -> UInt64[np.ndarray, " N"]:
        """The hashes of all new entries, sorted."""
        self.fresh = [np.concatenate(self.fresh)] if self.fresh else [np.zeros(0, np.uint64)]
        self.fresh[0].sort()
        return self.fresh[0]

    def _look_up(self, hashes: UInt64[np.ndarray, " N"], chunk: list[Entry]) -> Bool[np.ndarray, " N"]:
        if not len(self.known):
            return np.zeros(len(hashes), bool)
        place = np.searchsorted(self.known, hashes).clip(max=len(self.known) - 1)
        old = self.known[place] == hashes
        for number in np.flatnonzero(old):
            if self.seen[place[number]]:
                raise _twice(chunk[number].key)
            self.seen[place[number]] = True
        return old


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    stream = iter(entries)
    try:
        while chunk := list(islice(stream, _CHUNK)):
            yield chunk
    except OSError as error:
        raise InputError(f"cannot list the source's images: {error}; mend that and run again") from error


def _write(path: Path, entries: Iterator[Entry], per_shard: int) -> None:
    missing, digests = 0, []
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", write_statistics=False, write_page_checksum=True) as writer:
        while shard := list(islice(entries, per_shard)):
            arrays = [pa.array([getattr(entry, field.name) for entry in shard], field.type) for field in SCHEMA]
            writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
            missing += sum(not entry.found for entry in shard)
            digest = KeysDigest()
            digest.add(entry.key for entry in shard)
            digests.append(digest.text)
        said = {"format": FORMAT, "version": FORMAT_VERSION, "per_shard": per_shard, "missing": missing}
        said["keys"] = " ".join(digests)
        writer.add_key_value_metadata({name: str(value) for name, value in said.items()})


def _expect_same(path: Path, news: _News) -> None:
    """InputError unless the plan that is there, maybe of a process that was faster, holds the same images."""
    hashes = np.sort(np.fromiter((_hash(entry.key) for entry in _stream(path)), np.uint64))
    if not np.array_equal(hashes, news.total()):
        raise InputError(
            f"another process wrote {path} at the same moment with other images; let the source's files arrive, then "
            "run again"
        )


def _stream(path: Path) -> Iterator[Entry]:
    with _mendable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield from _entries(file.read_row_group(group))


def _entries(table: pa.Table) -> list[Entry]:
    columns = [table[field.name].to_pylist() for field in fields(Entry)]
    return [Entry(*values) for values in zip(*columns, strict=True)]


def _opened(path: Path) -> pq.ParquetFile:
    """The open file; kept open, because its directory of row groups takes longer to read than one of them."""
    stat = path.stat()
    return _kept_open(path, stat.st_ino, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _kept_open(path: Path, _inode: int, _mtime_ns: int) -> pq.ParquetFile:
    return pq.ParquetFile(path, page_checksum_verification=True)


def _promises(file: pq.ParquetFile) -> tuple[int, int, tuple[str, ...]]:
    """Images per shard, images not found, hashes of the shards' keys; ValueError where the file is no plan."""
    said = {name.decode(): value.decode() for name, value in (file.metadata.metadata or {}).items()}
    if said.get("format") != FORMAT:
        raise ValueError("it does not say that it is one")
    if int(said["version"]) > FORMAT_VERSION:
        raise ValueError(
            f"it has format {said['version']}, this CrowdMesh reads up to {FORMAT_VERSION}; update crowdmesh"
        )
    per_shard, groups = int(said["per_shard"]), file.metadata.num_row_groups
    sizes = [file.metadata.row_group(group).num_rows for group in range(groups)]
    if not file.schema_arrow.equals(SCHEMA) or set(sizes[:-1]) - {per_shard} or not 1 <= min(sizes[-1:]) <= per_shard:
        raise ValueError("its shards are not of the size it says")
    keys = tuple(said["keys"].split())
    if len(keys) != groups:
        raise ValueError("it has not one hash a shard")
    return per_shard, int(said["missing"]), keys


def _mendable(path: Path) -> AbstractContextManager[None]:
    """Turns what goes wrong with a plan into one sentence that says what to do."""
    advice = "build into another folder, or delete this one's plan/ and shards/ to begin again"
    return _files.mendable(path, _WHAT, advice)


def _path(folder: Path, generation: int) -> Path:
    return folder / "plan" / f"records-{generation:05d}.parquet"


def _twice(key: str) -> InputError:
    return InputError(f"image {key} occurs twice in the source; give each image a name of its own")


def _hash(key: str) -> int:
    try:
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    except UnicodeEncodeError as error:
        raise InputError(f"the name of image {key!r} is not valid UTF-8; rename the file") from error
