"""A built set read back: its rows column by column, or image by image as scenes before and after."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt.records import Outcome
from crowdmesh.pgt.restoring import BuiltScene, PeopleRows, built_scene, score_of
from crowdmesh.pgt.schema import PEOPLE_SCHEMA, SCENE_SCHEMA
from crowdmesh.pgt.shards import SHARDS, ShardSummary, mendable, open_shard, people_path, scenes_path

__all__ = ["BuiltScene", "BuiltSet", "open_set"]

_SCENES = re.compile(r"scenes-(\d{5,})\.parquet$")


@dataclass(frozen=True)
class BuiltSet:
    """A set on disk. Nothing of it is held in memory but what its shards say of themselves.

    Attributes:
        shards: those that are there, in order.
    """

    folder: Path
    shards: tuple[ShardSummary, ...]
    config_hash: str

    def scene_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of the images (columns of :data:`SCENE_SCHEMA`; default all), in order, some at a time.

        Raises:
            InputError: no such column. FormatError: a damaged shard; the message says how to mend it.
        """
        return self._batches(False, columns)

    def people_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of the people (columns of :data:`PEOPLE_SCHEMA`), as :meth:`scene_batches`."""
        return self._batches(True, columns)

    def images(self, threshold: float | None = None, accepted_only: bool = False) -> Iterator[BuiltScene]:
        """Every image in order, one after the other.

        Args:
            threshold: filter by this mean standardised residual instead of the one of the build (``Outcome.at``).
            accepted_only: leave out all others; they cost little.

        Raises:
            FormatError: a damaged shard; the message says how to mend it.
        """
        for shard in self.shards:
            with ExitStack() as stack:
                scenes, people = self._open(shard.shard, stack)
                for group in range(scenes.num_row_groups):
                    for row in self._rows(scenes, group, shard.shard):
                        with mendable(scenes_path(self.folder, shard.shard)):
                            outcome = _outcome(row, threshold)
                        if accepted_only and not outcome.accepted:
                            people.skip(row["people"])
                            continue
                        yield self._scene(row, outcome, people, shard.shard)

    def image(self, key: str) -> BuiltScene:
        """One image, found by reading keys alone.

        Raises:
            InputError: the set has no such image. FormatError: a damaged shard; the message says how to mend it.
        """
        for shard in self.shards:
            with ExitStack() as stack:
                scenes, people = self._open(shard.shard, stack)
                for group in range(scenes.num_row_groups):
                    for number, row in enumerate(self._rows(scenes, group, shard.shard, ["key", "people"])):
                        if row["key"] == key:
                            row = self._rows(scenes, group, shard.shard)[number]
                            return self._scene(row, _outcome(row, None), people, shard.shard)
                        people.skip(row["people"])
        raise InputError(f"the set in {self.folder} has no image {key!r}")

    def _open(self, shard: int, stack: ExitStack) -> tuple[pq.ParquetFile, PeopleRows]:
        scenes, people, summary = open_shard(self.folder, shard, stack)
        if summary.config_hash != self.config_hash:
            raise FormatError(f"{scenes_path(self.folder, shard)} changed while the set was read; read it again")
        return scenes, PeopleRows(people)

    def _rows(
        self, scenes: pq.ParquetFile, group: int, shard: int, columns: list[str] | None = None
    ) -> list[dict[str, Any]]:
        with mendable(scenes_path(self.folder, shard)):
            return scenes.read_row_group(group, columns).to_pylist()

    def _scene(self, row: dict[str, Any], outcome: Outcome, people: PeopleRows, shard: int) -> BuiltScene:
        with mendable(people_path(self.folder, shard)):
            return built_scene(row, outcome, people.take(row["people"]))

    def _batches(self, of_people: bool, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        schema, path = (PEOPLE_SCHEMA, people_path) if of_people else (SCENE_SCHEMA, scenes_path)
        names = schema.names if columns is None else list(columns)
        unknown = sorted(set(names) - set(schema.names))
        if unknown:
            raise InputError(f"a set has no column {unknown[0]!r}; its columns are {', '.join(schema.names)}")
        return self._groups(of_people, names, path)

    def _groups(self, of_people: bool, names: list[str], path: Callable[[Path, int], Path]) -> Iterator[pa.RecordBatch]:
        for shard in self.shards:
            with ExitStack() as stack:
                scenes, people, _ = open_shard(self.folder, shard.shard, stack)
                file = people if of_people else scenes
                for group in range(file.num_row_groups):
                    with mendable(path(self.folder, shard.shard)):
                        rows = file.read_row_group(group, names).select(names).combine_chunks()
                    yield from rows.replace_schema_metadata(None).to_batches()


def open_set(folder: str | Path) -> BuiltSet:
    """The set in a folder, as far as it is built.

    Raises:
        InputError: no set is there. FormatError: a shard is damaged, or shards of several configurations are mixed;
            the message says what to do.
    """
    folder = Path(folder)
    numbers = sorted(
        int(match[1]) for path in folder.glob(f"{SHARDS}/scenes-*.parquet") if (match := _SCENES.match(path.name))
    )
    if not numbers:
        raise InputError(f"{folder} holds no shard of a set; make one with crowdmesh build")
    summaries = []
    for number in numbers:
        with ExitStack() as stack:
            summaries.append(open_shard(folder, number, stack)[2])
        if summaries[-1].config_hash != summaries[0].config_hash:
            raise FormatError(
                f"{scenes_path(folder, number)} was built with another configuration than the shards before it; delete "
                "the shards that do not belong here"
            )
    return BuiltSet(folder, tuple(summaries), summaries[0].config_hash)


def _outcome(row: dict[str, Any], threshold: float | None) -> Outcome:
    outcome = Outcome(row["outcome"])
    return outcome if threshold is None else outcome.at(score_of(row), threshold)
