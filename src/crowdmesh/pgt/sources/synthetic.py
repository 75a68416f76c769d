"""A synthetic world on disk as a source: people as simulated experts see them, so that the truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from crowdmesh._files import reading
from crowdmesh.errors import CrowdMeshError, InputError
from crowdmesh.pgt.records import Entry, Outcome, Sample
from crowdmesh.synth import STRENGTHS, observation_seed, observe, open_world, read_shard

DATASET = "synthetic"

_ROWS = 16  # pictures in memory at once


class SyntheticSource:
    """The scenes of a world that ``crowdmesh synth`` wrote; a :class:`~crowdmesh.pgt.sources.base.Source`.

    Every image comes with a first guess of its people, their masks, ages and sexes, and a depth map, all with the
    errors of simulated experts (:func:`crowdmesh.synth.observe`).

    Attributes:
        data: the folder. errors: how large the errors are, a name of ``crowdmesh.synth.STRENGTHS``.
        seed: of the errors; not negative.
    """

    kind = "synthetic"
    needs_experts = False
    licences: tuple[str, ...] = ()

    def __init__(self, data: str | Path, errors: str = "nominal", seed: int = 0) -> None:
        """Name the folder.

        Raises:
            InputError: there is no world in it, or an unknown size of errors, or a negative seed.
            FormatError: its manifest is damaged.
        """
        if errors not in STRENGTHS:
            raise InputError(f"unknown errors {errors!r}; use one of {', '.join(STRENGTHS)}")
        if seed < 0:
            raise InputError(f"the seed of simulated experts must not be negative, got {seed}")
        self.data, self.errors, self.seed = Path(data), errors, seed
        self.world = open_world(self.data)

    def signature(self) -> dict[str, Any]:
        """The world, the errors and their seed; scenes that are added to the world become part of the set."""
        return {
            "kind": self.kind,
            "data_sets": [DATASET],
            "world": self.world.world.config.to_dict(),
            "world_seed": self.world.world.seed,
            "errors": asdict(STRENGTHS[self.errors]()),
            "seed": self.seed,
        }

    def entries(self) -> Iterator[Entry]:
        """Every scene, in order; ``part`` is the shard it stands in, ``row`` its place there.

        Raises:
            InputError: the world is unfinished.
        """
        if missing := self.world.missing():
            raise InputError(
                f"the world in {self.data} is unfinished: {len(missing)} of {self.world.shards} shards are missing; "
                "run crowdmesh synth with the same arguments to go on"
            )
        for shard in range(self.world.shards):
            for row, index in enumerate(self.world.indices(shard)):
                yield Entry(DATASET, f"{index:06d}.png", str(shard), row)

    def notes(self) -> list[str]:
        """Nothing."""
        return []

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        """Each scene as simulated experts see it; a shard is read once for all its entries that follow each other."""
        for part, group in groupby(entries, key=lambda entry: entry.part):
            waiting = list(group)
            while waiting:
                count = len(waiting)
                try:
                    yield from self._samples(int(part), waiting)
                    said = f"shard {part} of {self.data} has no such scene; the set was planned from another world"
                except CrowdMeshError as error:
                    count, said = len(waiting), str(error)
                if len(waiting) == count:
                    yield from (Sample(entry, problem=(Outcome.LABELS_INVALID, said)) for entry in waiting)
                    break

    def _samples(self, shard: int, waiting: list[Entry]) -> Iterator[Sample]:
        """Samples of one shard, as long as rows rise; an entry is taken off ``waiting`` once its sample is made."""
        errors, indices = STRENGTHS[self.errors](), self.world.indices(shard)
        scenes = zip(indices, read_shard(self.world, shard), self._pictures(shard), strict=True)
        for row, (index, world, picture) in enumerate(scenes):
            if not waiting or waiting[0].row < row:
                return
            if waiting[0].row == row:
                seen = observe(world, errors, observation_seed(self.seed, index))
                guess = replace(seen.guess, image=None)
                yield Sample(waiting.pop(0), encoded=picture, people=guess, depth=seen.depth)

    def _pictures(self, shard: int) -> Iterator[bytes]:
        """The pictures of one shard as they are stored, one after the other."""
        path = self.world.shard_path(shard)
        with reading(path, "shard of a CrowdMesh world"), pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS, columns=["image"]):
                yield from (picture.as_py() for picture in batch.column("image"))
