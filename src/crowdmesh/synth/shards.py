"""Worlds on disk: a folder of Parquet shards and a manifest, written by several processes, resumed after a stop.

``world.json`` says which world the folder holds (config, seed, number of scenes, scenes per shard); each
``scenes-NNNNN.parquet`` holds one row per scene (see ``_rows.py``) and is complete or not there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crowdmesh._files import atomic_path, reading, sweep
from crowdmesh.errors import FormatError, InputError
from crowdmesh.synth._processes import share_out
from crowdmesh.synth._rows import DEPTH_ERROR, SCHEMA, SPLIT_COLUMNS, row_of, scene_of
from crowdmesh.synth.config import WorldConfig
from crowdmesh.synth.scene import SyntheticScene
from crowdmesh.synth.world import World

FORMAT = "crowdmesh-world"
FORMAT_VERSION = 1
MANIFEST = "world.json"

_WHAT = "shard of a CrowdMesh world"
_ROWS_PER_GROUP = 16  # what a reader holds in memory at once
_UNITS = {
    "length": "metre",
    "angle": "radian",
    "age": "year",
    "image": "PNG, RGB; pixel centres at +0.5",
    "frame": "OpenCV: x right, y down, z forward",
    "depth": f"16-bit logarithm of metres along z, relative error at most {DEPTH_ERROR:.1e}",
}


@dataclass(frozen=True)
class WorldFolder:
    """What the manifest of a folder says.

    Attributes:
        scenes: number of scenes 0, 1, 2 ... of the world. per_shard: scenes in each shard but the last.
        crowdmesh: version that wrote it.
    """

    path: Path
    world: World
    scenes: int
    per_shard: int
    crowdmesh: str

    @property
    def shards(self) -> int:
        """Number of shards of the finished folder."""
        return math.ceil(self.scenes / self.per_shard)

    def shard_path(self, shard: int) -> Path:
        """File of a shard."""
        return self.path / f"scenes-{shard:05d}.parquet"

    def indices(self, shard: int) -> range:
        """Scenes of a shard."""
        return range(shard * self.per_shard, min((shard + 1) * self.per_shard, self.scenes))

    def missing(self) -> list[int]:
        """Shards that are not written yet."""
        return [shard for shard in range(self.shards) if not self.shard_path(shard).is_file()]


def write_shards(
    world: World,
    scenes: int,
    folder: str | Path,
    per_shard: int = 64,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> WorldFolder:
    """Write the first scenes of a world, or the shards that an earlier, stopped run left out.

    Args:
        scenes: how many. folder: made if need be; empty, or begun with the same arguments.
        per_shard: scenes in one file; one file is the work of one process.
        workers: processes; 1 works in this one.
        progress: called in this process with numbers of scenes, first of those found finished, then of each new one
            (of each new shard with several workers); together they make ``scenes``.

    Raises:
        InputError: numbers below 1, a folder of another world or of something else, or one that cannot be written.
        FormatError: a shard found finished is damaged; the message names it and the way out.
    """
    for name, value in (("scenes", scenes), ("per_shard", per_shard), ("workers", workers)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    target = WorldFolder(Path(folder), world, scenes, per_shard, version("crowdmesh"))
    _claim(target)
    missing = target.missing()
    for shard in sorted(set(range(target.shards)) - set(missing)):
        _open(target, shard).close()
    for shard in missing:
        for leftover in target.path.glob(f".{target.shard_path(shard).stem}.*.parquet"):
            leftover.unlink(missing_ok=True)  # of a process that was killed
    report = progress or (lambda _: None)
    report(scenes - sum(len(target.indices(shard)) for shard in missing))

    def written(shard: int) -> None:
        report(len(target.indices(shard)))

    if workers == 1:
        for shard in missing:
            _write_shard(target, shard, report)
    else:
        share_out(partial(_write_quietly, target), missing, workers, written)
    return target


def open_world(folder: str | Path) -> WorldFolder:
    """What a folder of shards holds, from its manifest.

    Raises:
        InputError: no such folder or no world in it. FormatError: a damaged manifest or one of a newer format.
    """
    path = Path(folder)
    manifest = path / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{path} holds no synthetic world (there is no {MANIFEST}); make one with crowdmesh synth")
    with reading(manifest, "manifest of a CrowdMesh world"):
        values = json.loads(manifest.read_text())
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if type(values["version"]) is not int or not 1 <= values["version"] <= FORMAT_VERSION:
            raise ValueError(
                f"it has format {values['version']}, this CrowdMesh reads up to {FORMAT_VERSION}; update crowdmesh"
            )
        if any(type(values[name]) is not int or values[name] < 1 for name in ("scenes", "per_shard")):
            raise ValueError("its scenes and per_shard must be whole numbers from 1")
        world = World(WorldConfig.from_dict(values["config"]), values["seed"])
        return WorldFolder(path, world, values["scenes"], values["per_shard"], str(values["crowdmesh"]))


def read_shards(folder: str | Path) -> Iterator[SyntheticScene]:
    """All scenes of a finished folder, in order; depths within ``_rows.DEPTH_ERROR``, everything else exact.

    Raises:
        InputError: no world, or an unfinished one. FormatError: a damaged shard; the message says how to mend it.
    """
    source = open_world(folder)
    missing = source.missing()
    if missing:
        raise InputError(
            f"the world in {source.path} is unfinished: {len(missing)} of {source.shards} shards are missing, first "
            f"{source.shard_path(missing[0]).name}; run crowdmesh synth with the same arguments to go on"
        )
    return (scene for shard in range(source.shards) for scene in read_shard(source, shard))


def read_shard(source: WorldFolder, shard: int) -> Iterator[SyntheticScene]:
    """The scenes of one shard, in order."""
    file = _open(source, shard)
    try:
        for group in range(file.num_row_groups):
            with _mendable(source.shard_path(shard)):
                batch = file.read_row_group(group, use_threads=False).combine_chunks().to_batches()[0]
            for number in range(len(batch)):
                with _mendable(source.shard_path(shard)):
                    scene = scene_of(batch, number)
                yield scene
    finally:
        file.close()


def _claim(target: WorldFolder) -> None:
    """Write the manifest, or make sure that the one there tells of the same work."""
    manifest = target.path / MANIFEST
    values = _manifest(target)
    sweep(target.path, f"{manifest.stem}.*.json")
    if manifest.exists():
        found = _manifest(open_world(target.path))
        differing = [name for name in values if values[name] != found[name]]
        if differing:
            raise InputError(
                f"{target.path} holds another world ({', '.join(differing)} differ); choose another folder, or the "
                "same arguments to go on with it"
            )
        return
    if target.path.is_dir() and any(target.path.iterdir()):
        raise InputError(f"{target.path} is not empty and holds no world; choose a new or an empty folder")
    with atomic_path(manifest, durable=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n")


def _manifest(target: WorldFolder) -> dict[str, Any]:
    values = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "crowdmesh": target.crowdmesh,
        "seed": target.world.seed,
        "scenes": target.scenes,
        "per_shard": target.per_shard,
        "units": _UNITS,
        "config": target.world.config.to_dict(),
    }
    return json.loads(json.dumps(values))


def _write_shard(target: WorldFolder, shard: int, progress: Callable[[int], None]) -> None:
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "manifest": json.dumps(_manifest(target))}
    schema = SCHEMA.with_metadata(metadata)
    options: dict[str, Any] = {
        "compression": "zstd",
        "use_dictionary": False,
        "use_byte_stream_split": SPLIT_COLUMNS,
        "write_page_checksum": True,
    }
    with atomic_path(target.shard_path(shard)) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
        rows: list[dict[str, Any]] = []
        indices = target.indices(shard)
        for index in indices:
            rows.append(row_of(target.world.scene(index), index))
            if len(rows) == _ROWS_PER_GROUP or index == indices[-1]:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
            progress(1)


def _write_quietly(target: WorldFolder, shard: int) -> None:
    _write_shard(target, shard, lambda _: None)


def _open(source: WorldFolder, shard: int) -> pq.ParquetFile:
    """An open shard that holds the scenes it should."""
    path = source.shard_path(shard)
    with _mendable(path):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        metadata = file.schema_arrow.metadata or {}
        if metadata.get(b"format") != FORMAT.encode():
            raise ValueError("it does not say that it is one")
        if json.loads(metadata[b"manifest"]) != _manifest(source):
            raise ValueError(f"it belongs to another world than {MANIFEST} beside it")
        if file.metadata.num_rows != len(source.indices(shard)) or not file.schema_arrow.equals(SCHEMA):
            raise ValueError("it does not hold the scenes it should")
        return file


@contextmanager
def _mendable(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a shard into one FormatError that says what to do."""
    try:
        with reading(path, _WHAT):
            yield
    except FormatError as error:
        raise FormatError(f"{error}; delete it and run crowdmesh synth with the same arguments again") from error
