"""Tar shards for training: every accepted photograph with its people beside it, as WebDataset's readers expect.

``DATASET-NNNNNN.tar`` holds the images of one data set in the order of the set, each as two adjacent members
(``NAME.jpg``, ``NAME.safetensors``); ``DATASET-NNNNNN.json`` says what a finished tar holds, ``packing.json`` what the
folder is, ``left_out.csv`` which images could not be packed.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from crowdmesh._files import atomic_path, reading, sweep
from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt.export import packed
from crowdmesh.pgt.export._naming import file_stems
from crowdmesh.pgt.export._photographs import Absent, Expected, photograph_of
from crowdmesh.pgt.export._set import PlannedSet, open_planned
from crowdmesh.pgt.export._tars import (
    CHANGED_MEANWHILE,
    Digest,
    OpenTars,
    TarPlan,
    TarRecord,
    discard,
    finished,
    is_record,
    left_out,
)
from crowdmesh.pgt.manifest import differences, read_manifest
from crowdmesh.pgt.reading import BuiltScene, BuiltSet
from crowdmesh.pgt.records import Entry, Outcome
from crowdmesh.pgt.sources.base import Source

FOLDER = "webdataset"
"""Where it goes in the folder of a set, unless told otherwise."""

MANIFEST, LEFT_OUT = "packing.json", "left_out.csv"
_FORMAT, _FORMAT_VERSION = "crowdmesh-packing", 1
_NUMBER = "[0-9]" * 6
_TAR, _RECORD = f"*-{_NUMBER}.*.tar", f"*-{_NUMBER}.*.json"  # while they are written
_AT_ONCE = 64  # images that the source is asked for at once

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class PackedDataset:
    """The tars of one data set.

    Attributes:
        tars, images, people, size_bytes: in all. kept: tars that an earlier run had finished.
        missing, changed: accepted images that are not in the tars.
    """

    dataset: str
    tars: int
    kept: int
    images: int
    people: int
    missing: int
    changed: int
    size_bytes: int


@dataclass(frozen=True)
class WebdatasetExport:
    """What was packed.

    Attributes:
        unbuilt: images of the set's plan that are not built yet.
    """

    folder: Path
    datasets: tuple[PackedDataset, ...]
    unbuilt: int

    columns: ClassVar[tuple[str, ...]] = (
        "data set", "tars", "kept", "images", "people", "missing", "changed", "size"
    )  # fmt: skip

    def rows(self) -> list[tuple[str, ...]]:
        """One row of text a data set, for :attr:`columns`."""
        return [
            (
                d.dataset,
                *(f"{n:,}" for n in (d.tars, d.kept, d.images, d.people, d.missing, d.changed)),
                f"{d.size_bytes / 1e6:,.1f} MB",
            )
            for d in self.datasets
        ]


def export_webdataset(
    folder: str | Path,
    out: str | Path | None,
    source: Source,
    threshold: float | None = None,
    per_tar: int = 1000,
    progress: Report | None = None,
) -> WebdatasetExport:
    """Pack the accepted images of a set into tar shards, or those tars that an earlier, stopped run left out.

    In memory are the people of some images, one photograph and a few hundred bytes a tar, however large the set is. A
    finished tar is kept if the set still asks for the same images in it, else packed again, also if an image that was
    missing is there now.

    Args:
        folder: of a built set. out: folder for the tars; ``None``: ``webdataset`` in the set's folder.
        source: that the set was built from; it finds the photographs.
        threshold: of the mean standardised residual; ``None``: as the set was built.
        per_tar: images in one tar. progress: called with the images dealt with so far and all accepted images.

    Raises:
        InputError: no set, one of another source, no accepted image, a folder that holds another packing, or one that
            cannot be written.
        FormatError: a damaged set.
    """
    if per_tar < 1:
        raise InputError(f"per_tar must be at least 1, got {per_tar}")
    _check_source(Path(folder), source)
    planned, target = open_planned(folder), Path(folder) / FOLDER if out is None else Path(out)
    built = planned.built
    packing = {"set": built.config_hash, "threshold": threshold, "per_tar": per_tar}
    plans = _plans(built, threshold, per_tar, packing | {"version": packed.FORMAT_VERSION, "licences": source.licences})
    if not plans:
        raise InputError(
            f"no image of the set in {folder} is accepted, so there is nothing to pack; choose a higher threshold"
        )
    _claim(target, packing, source.licences)
    for pattern in (_TAR, _RECORD, f"{Path(LEFT_OUT).stem}.*.csv"):
        sweep(target, pattern)
    _delete_others(target, {plan.stem for tars in plans.values() for plan in tars})
    found = {plan.stem: _kept(target, plan, source) for tars in plans.values() for plan in tars}
    kept = {stem: record for stem, record in found.items() if record is not None}
    records = kept | _pack(planned, source, target, plans, set(kept), threshold, progress or (lambda done, total: None))
    if any(plan.stem not in records for tars in plans.values() for plan in tars):
        raise InputError(CHANGED_MEANWHILE)
    _list_left_out(target, records)
    return WebdatasetExport(
        target, tuple(_summary(name, plans[name], records, kept) for name in plans), planned.unbuilt
    )


def _summary(
    dataset: str, plans: list[TarPlan], records: dict[str, TarRecord], kept: dict[str, TarRecord]
) -> PackedDataset:
    mine = [records[plan.stem] for plan in plans]
    return PackedDataset(
        dataset,
        len(mine),
        sum(plan.stem in kept for plan in plans),
        sum(record.images for record in mine),
        sum(record.people for record in mine),
        sum(record.missing for record in mine),
        sum(record.changed for record in mine),
        sum(record.size_bytes for record in mine),
    )


def _check_source(folder: Path, source: Source) -> None:
    """InputError if the set was built from another source."""
    differing = differences(read_manifest(folder).source, json.loads(json.dumps(source.signature())))
    if differing:
        raise InputError(
            f"the set in {folder} was built from another source ({'; '.join(differing[:3])}); name the source and data "
            "that it was built from"
        )


def _plans(built: BuiltSet, threshold: float | None, per_tar: int, salt: dict[str, Any]) -> dict[str, list[TarPlan]]:
    """The tars of each data set, from the images' rows alone."""
    digests: dict[str, list[Digest]] = {}
    columns = ["key", "dataset", "outcome", "score", "image_sha256"]
    for batch in built.scene_batches(columns):
        for key, dataset, name, score, sha256 in zip(*(batch.column(c).to_pylist() for c in columns), strict=True):
            outcome = Outcome(name)
            if threshold is not None:
                outcome = outcome.at(math.inf if score is None else score, threshold)
            if not outcome.accepted:
                continue
            tars = digests.setdefault(dataset, [])
            if not tars or tars[-1].images == per_tar:
                tars.append(Digest(salt))
            tars[-1].add(key, sha256, outcome, score)
    stems = file_stems(digests)
    return {
        dataset: [
            TarPlan(dataset, f"{stems[dataset]}-{number:06d}", digest.text(), digest.images)
            for number, digest in enumerate(digests[dataset])
        ]
        for dataset in sorted(digests)
    }


def _claim(target: Path, packing: dict[str, Any], licences: tuple[str, ...]) -> None:
    """Say what the folder is, or make sure that it is what it says."""
    path = target / MANIFEST
    sweep(target, f"{path.stem}.*.json")
    if path.exists():
        with reading(path, "manifest of tar shards"):
            found = json.loads(path.read_text("utf-8"))
            if found["format"] != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT}")
            differing = [name for name, value in packing.items() if found.get(name) != value]
        if differing:
            differences = ", ".join(f"{name}: {found.get(name)} -> {packing[name]}" for name in differing)
            raise InputError(f"{target} holds another packing ({differences}); choose another folder, or delete it")
        return
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target} is not empty and holds no tar shards of CrowdMesh; choose a new or an empty folder")
    values = {"format": _FORMAT, "version": _FORMAT_VERSION, **packing, "units": packed.UNITS, "licences": licences}
    with atomic_path(path, durable=True) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _delete_others(target: Path, stems: set[str]) -> None:
    """Delete finished tars that the set does not ask for any more: a reader of the folder would read them too.

    Files of which we do not know that they are ours stay.
    """
    for record in target.glob("*.json"):
        if not record.name.startswith(".") and record.stem not in stems and is_record(record):
            discard(target, record.stem)


def _kept(target: Path, plan: TarPlan, source: Source) -> TarRecord | None:
    """What an earlier run finished, unless an image that it left out can be packed now."""
    record = finished(target, plan)
    if record is None or record.missing + record.changed == 0:
        return record
    absent = left_out(target, plan.stem)
    samples = source.load([left.entry for left in absent])
    still = all(
        isinstance(photograph_of(sample, left.expected), Absent) for sample, left in zip(samples, absent, strict=True)
    )
    return record if still else None


def _pack(
    planned: PlannedSet,
    source: Source,
    target: Path,
    plans: dict[str, list[TarPlan]],
    kept: set[str],
    threshold: float | None,
    report: Report,
) -> dict[str, TarRecord]:
    """Write the tars that are not kept."""
    total, done = sum(plan.images for tars in plans.values() for plan in tars), 0
    if len(kept) == sum(map(len, plans.values())):
        report(total, total)
        return {}
    with OpenTars(target) as tars:
        work = _work(planned, threshold, plans, kept)
        while group := list(islice(work, _AT_ONCE)):
            wanted = [(plan, scene, entry) for plan, scene, entry in group if entry is not None]
            samples = source.load([entry for _, _, entry in wanted]) if wanted else ()
            for (plan, scene, entry), sample in zip(wanted, samples, strict=True):
                assert scene.after is not None
                expected = _expected(scene)
                photograph = photograph_of(sample, expected)
                if isinstance(photograph, Absent):
                    tars.writer(plan).leave_out(entry, expected, photograph)
                else:
                    people = packed.packed_people(scene, photograph.sha256, source.licences, planned.built.config_hash)
                    tars.writer(plan).add(scene.key, photograph, people, len(scene.after.people))
                tars.close_full(plan)
            done += len(group)
            report(done, total)
    return tars.records


def _work(
    planned: PlannedSet, threshold: float | None, plans: dict[str, list[TarPlan]], kept: set[str]
) -> Iterator[tuple[TarPlan, BuiltScene, Entry | None]]:
    """Every accepted image with its tar and its line in the set's plan; ``None``: its tar is kept."""
    built = planned.built
    entries = (entry for shard in built.shards for entry in planned.plan.entries(shard.shard))
    met = dict.fromkeys(plans, 0)
    for scene in built.images(threshold=threshold, accepted_only=True):
        tars = plans.get(scene.dataset, [])
        number = met[scene.dataset] // tars[0].images if tars else 0
        if number >= len(tars):
            raise InputError(CHANGED_MEANWHILE)
        plan = tars[number]
        met[scene.dataset] += 1
        if plan.stem in kept:
            yield plan, scene, None
            continue
        entry = next((entry for entry in entries if entry.key == scene.key), None)
        if entry is None:
            raise FormatError(
                f"the plan in {built.folder} does not have the image {scene.key} of its shards; build again"
            )
        yield plan, scene, entry


def _expected(scene: BuiltScene) -> Expected:
    if scene.file is not None:
        return Expected(scene.file.sha256, scene.file.width, scene.file.height)
    assert scene.after is not None
    camera = scene.after.camera
    return Expected(None, camera.width, camera.height)


def _list_left_out(target: Path, records: dict[str, TarRecord]) -> None:
    """A table of the images that could not be packed; none if all were."""
    if not any(record.missing + record.changed for record in records.values()):
        (target / LEFT_OUT).unlink(missing_ok=True)
        return
    with (
        atomic_path(target / LEFT_OUT, durable=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(("key", "reason", "detail", "tar"))
        for stem in sorted(records):
            if records[stem].missing + records[stem].changed:
                table.writerows((one.entry.key, one.reason, one.detail, stem) for one in left_out(target, stem))
