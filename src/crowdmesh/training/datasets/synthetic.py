"""The synthetic world to train on: rendered scenes with everything that is true about them.

People of whom less than a tenth is visible are left out of the labels: nobody could find them in the image. Where they
are, no detection is asked for, and one that is made there counts as a false alarm; as nothing shows them, there is
nothing that would make it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Int, UInt8

from crowdmesh._files import mendable
from crowdmesh.errors import InputError
from crowdmesh.images import decode_image
from crowdmesh.synth import WorldFolder, open_world
from crowdmesh.synth._label_files import scene_name
from crowdmesh.training.datasets.our_table import PeopleTable, chooser, starts_of
from crowdmesh.training.sample import Supervision, TrainingSample

VISIBLE_SHARE = 0.1
"""People are labels if at least this part of their silhouette is visible."""

TRUE = Supervision(bodies=True, shape=True, kid=True, everybody=True, camera=True)
"""Of the synthetic world: everything may be learned."""

_WHAT, _ADVICE = "shard of a CrowdMesh world", "delete it and run crowdmesh synth with the same arguments again"
_COLUMNS = (
    "index", "camera", "body", "sizes", "translation_m", "pose", "shape", "age_years", "mask_runs", "mask_offsets",
    "silhouette_px",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class WorldImages:
    """The scenes of a world's folder with visible people (a :class:`crowdmesh.training.datasets.base.Dataset`).

    The images lie in the shards, sixteen beside each other; :meth:`sample` decodes the one that is asked for.

    Attributes:
        name: of the data set. file: the world's folder.
        table: its people. scenes: number of each image's scene.
        supervision: everything.
    """

    name: str
    file: Path
    world: WorldFolder
    table: PeopleTable
    scenes: Int[np.ndarray, " n"]
    supervision: Supervision = TRUE

    def __len__(self) -> int:
        return len(self.table)

    def sample(self, index: int) -> TrainingSample:
        """One scene with its visible people.

        Raises:
            FormatError: its shard is damaged; the message says how to mend it.
        """
        return TrainingSample(
            f"{self.name}/{self.table.images[index]}",
            self.name,
            self._pixels(int(self.scenes[index])),
            self.table.intrinsics_px(index),
            self.table.people(index),
            self.supervision,
        )

    def _pixels(self, scene: int) -> UInt8[np.ndarray, "H W 3"]:
        shard, row = divmod(scene, self.world.per_shard)
        path = self.world.shard_path(shard)
        with mendable(path, _WHAT, _ADVICE), pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                if row < (held := file.metadata.row_group(group).num_rows):
                    column = file.read_row_group(group, ["image"], use_threads=False).column("image")
                    return decode_image(column[row].as_py(), f"{scene_name(scene)} of {path}")
                row -= held
            raise ValueError("it does not hold the scenes it should")


def open_world_images(name: str, folder: Path, split: str = "train") -> WorldImages:
    """The scenes of a folder that ``crowdmesh synth`` wrote.

    Args:
        name: of the data set, in figures. split: ``train``, ``validation`` (one in twenty, by name) or ``all``.

    Raises:
        InputError: no world, an unfinished one, or no visible people in the split.
        FormatError: a damaged shard; the message says how to mend it.
    """
    world, belongs = open_world(folder), chooser(split)
    if world.missing():
        raise InputError(
            f"the world in {folder} is unfinished: {len(world.missing())} of {world.shards} shards are missing; run "
            "crowdmesh synth with the same arguments to go on"
        )
    found = [row for row in _rows(world) if belongs(scene_name(row["index"]))]
    shown = [row for row in found if row["visible"].any()]
    if not shown:
        raise InputError(f"the world in {folder} shows nobody in the scenes of its split {split}")
    bodies = {row["body"] for row in shown}
    if len(bodies) > 1:
        raise InputError(f"the world in {folder} mixes the bodies {', '.join(sorted(bodies))}; train on one")

    def joined(column: str) -> np.ndarray:
        return np.concatenate([row[column][row["visible"]] for row in shown])

    table = PeopleTable(
        bodies.pop(),
        tuple(f"{scene_name(row['index'])}.png" for row in shown),
        starts_of([int(row["visible"].sum()) for row in shown]),
        joined("pose"),
        joined("shape"),
        joined("translation_m"),
        joined("age_years"),
        np.array([row["camera"] for row in shown], np.float64),
        tuple(f"{scene_name(row['index'])}.png" for row in found if not row["visible"].any()),
    )
    return WorldImages(name, Path(folder), world, table, np.array([row["index"] for row in shown]))


def _rows(world: WorldFolder) -> Iterator[dict[str, Any]]:
    """What is true of each scene's people, and who of them is visible; no image and no depth is read."""
    for shard in range(world.shards):
        path = world.shard_path(shard)
        with mendable(path, _WHAT, _ADVICE), pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                batch = file.read_row_group(group, list(_COLUMNS), use_threads=False)
                columns = {name: batch.column(name).combine_chunks() for name in _COLUMNS}
                for number in range(len(batch)):
                    yield _row({name: column[number] for name, column in columns.items()})


def _row(row: dict[str, Any]) -> dict[str, Any]:
    camera, sizes = row["camera"].as_py(), row["sizes"].as_py()
    count = sizes["people"]

    def numbers(name: str, *trailing: int) -> np.ndarray:
        return row[name].values.to_numpy(zero_copy_only=False).reshape(count, *trailing)

    shown = visible_px(*(row[name].values.to_numpy() for name in ("mask_runs", "mask_offsets")))
    return {
        "index": row["index"].as_py(),
        "body": row["body"].as_py(),
        "camera": [camera[name] for name in ("fx", "fy", "cx", "cy")],
        "pose": numbers("pose", sizes["pose_joints"], 3).astype(np.float32),
        "shape": numbers("shape", sizes["shape_parameters"]).astype(np.float32),
        "translation_m": numbers("translation_m", 3),
        "age_years": numbers("age_years"),
        "visible": shown >= VISIBLE_SHARE * np.maximum(numbers("silhouette_px"), 1),
    }


def visible_px(runs: Int[np.ndarray, " R"], offsets: Int[np.ndarray, " edges"]) -> Int[np.ndarray, " K"]:
    """Pixels of each run-length coded mask (:class:`crowdmesh.masks.Masks`), without decoding any."""
    return np.array([runs[a + 1 : b : 2].sum() for a, b in pairwise(offsets.tolist())], np.int64)
