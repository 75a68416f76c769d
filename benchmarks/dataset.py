"""Whether a built set is better than the labels it was built from: ``python benchmarks/dataset.py --scenes 2000``.

Makes a synthetic label set (images, labels of one person at a time with the errors of upstream networks, detections,
ages, depth maps: docs/world.md), builds a set of it with each preset, and judges labels and set on the same people:
depth order, statures by age group, depths, the spread of statures. Prints Markdown, writes ``WORK/figures.json``.

Everything lies in ``--work``; the same command goes on where an earlier one was stopped. World and experts have seeds
that no constant was tuned on.
"""

from __future__ import annotations

import argparse
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import json
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh._terminal import progress
from crowdmesh.benchmarks.synthetic.records import SceneRecord
from crowdmesh.benchmarks.synthetic.scores import (
    AGE_GROUPS,
    age_group,
    depth_error_percent,
    pcdr_percent,
    stature_error_cm,
)
from crowdmesh.body.growth import MINOR_AGE_YEARS
from crowdmesh.dto import PRESETS as PLACEMENTS
from crowdmesh.experts import ExpertOptions
from crowdmesh.metrics import Ratio, Samples, order_accuracy, stature_error_m
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.plan import Plan
from crowdmesh.pgt.reading import BuiltScene, BuiltSet, open_set
from crowdmesh.pgt.run import build, prepare
from crowdmesh.pgt.runners import run_here, run_processes
from crowdmesh.pgt.sources.labels import LabelSource
from crowdmesh.pgt.stages import ExpertChoice
from crowdmesh.synth import PRESETS, STRENGTHS, LabelSet, LabelTruth, World, read_truth, write_label_set

SEED = 1000
"""Far from the seeds of development (0) and of the tables of docs/results.md (100 and following)."""

ORDERED_FROM_M = 0.3
"""Pairs at least this far apart have an order to get right."""

TIMED_IMAGES = 64


def main() -> None:
    """Make, build, judge, print."""
    chosen = _arguments()
    work, world = chosen.work, World(PRESETS[chosen.world], chosen.seed)
    with progress() as bar:
        task = bar.add_task("label set", total=chosen.scenes)
        labels = write_label_set(
            world, chosen.scenes, work / "labels", STRENGTHS[chosen.errors](), chosen.workers,
            lambda done: bar.advance(task, done),
        )  # fmt: skip
    truth = read_truth(labels.path)
    figures: dict[str, Any] = {
        "scenes": chosen.scenes, "world": chosen.world, "errors": chosen.errors, "seed": chosen.seed,
        "machine": _machine(), "workers": chosen.workers, "presets": {},
    }  # fmt: skip
    for preset in chosen.presets:
        job = job_of(labels, work / f"set-{preset}", preset, chosen.per_shard)
        build_set(job, chosen.workers)
        built = open_set(job.folder)
        figures["presets"][preset] = {**figures_of(built, truth), "time": times(job, built)}
    with atomic_path(work / "figures.json") as path:
        path.write_text(json.dumps(figures, indent=1) + "\n")
    print(report(figures))
    print(f"\nFigures: {work / 'figures.json'}. The page: crowdmesh report {work / f'set-{chosen.presets[0]}'} "
          f"--images {labels.path / 'images'} --truth {labels.true_statures}")  # fmt: skip


def job_of(labels: LabelSet, folder: Path, preset: str, per_shard: int) -> Job:
    """What ``crowdmesh build --source 4dhumans --persons ... --keypoints none --mesh none ...`` does."""
    options = ExpertOptions(
        persons=str(labels.detections), keypoints="none", mesh="none", ages=str(labels.ages), depth=str(labels.depth)
    )
    source = LabelSource(labels.path, cache=folder / "labels")
    return Job(folder, source, ExpertChoice("lite", options), PLACEMENTS[preset](), per_shard)


def records_of(images: Iterable[BuiltScene], truth: LabelTruth) -> Iterator[tuple[SceneRecord, SceneRecord]]:
    """Of every image with labels, the labels and what was built of them, beside the truth.

    Raises:
        ValueError: somebody was lost, added or mixed up on the way, or an image failed.
    """
    lost, seen = _rows_by_image(truth.undetected_imgname), 0
    for image in images:
        if image.before is None or image.after is None or image.pelvis_m is None or image.pelvis_before_m is None:
            raise ValueError(f"{image.key} has no placed people: {image.outcome.reason} {image.detail}")
        own = image.label_rows
        if own is None or set(image.origins) != {"labelled"} or set(truth.imgname[own]) != {image.path}:
            raise ValueError(f"{image.key} has other people than its labels")
        seen += len(own)
        shared = _shared(truth, own, lost.get(image.path, np.zeros(0, int)), image)
        yield (
            SceneRecord("labels", pelvis_m=image.pelvis_before_m, stature_m=image.before.people.stature_m, **shared),
            SceneRecord("set", pelvis_m=image.pelvis_m, stature_m=image.after.people.stature_m, **shared),
        )
    if seen != len(truth):
        raise ValueError(f"the labels are of {len(truth)} people, the set of {seen}")


def _shared(truth: LabelTruth, own: np.ndarray, lost: np.ndarray, image: BuiltScene) -> dict[str, Any]:
    """What the records of labels and set have in common."""
    assert image.before is not None
    camera, focal = image.before.camera, float(truth.focal_px[own[0]])
    return {
        "setting": "", "world": "", "seed": 0, "index": 0,
        "true_pelvis_m": truth.pelvis_m[own], "true_stature_m": truth.stature_m[own],
        "log_std": np.full(len(own), np.nan), "age_years": truth.age_years[own],
        "undetected_m": truth.undetected_pelvis_m[lost], "undetected_age_years": truth.undetected_age_years[lost],
        "focal_ratio": camera.fy / focal,
        "fov": camera.vertical_fov, "true_fov": 2.0 * math.atan(0.5 * camera.height / focal),
        "accepted": image.outcome.accepted,
    }  # fmt: skip


def _rows_by_image(names: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of each image, in their order."""
    images, of_row = np.unique(names, return_inverse=True)
    return {str(image): np.flatnonzero(of_row == number) for number, image in enumerate(images)}


def build_set(job: Job, workers: int) -> None:
    """Build the shards that are missing."""
    prepared = prepare(job)
    run = run_here if workers == 1 else partial(run_processes, workers=workers)
    with progress() as bar:
        total = prepared.images_done + prepared.images_to_do
        task = bar.add_task(job.folder.name, total=total, completed=prepared.images_done)
        for step in build(prepared, run):
            bar.update(task, completed=step.done)


def figures_of(built: BuiltSet, truth: LabelTruth) -> dict[str, Any]:
    """Everything the tables say of one set."""
    pairs = list(records_of(built.images(), truth))
    outcomes = Counter(value for batch in built.scene_batches(["outcome"]) for value in batch.column(0).to_pylist())
    chosen = {"all": pairs, "accepted": [pair for pair in pairs if pair[1].accepted]}
    return {
        "outcomes": dict(outcomes.most_common()),
        "scores": {
            which: {side: scores_of([pair[k] for pair in images]) for k, side in enumerate(("labels", "set"))}
            for which, images in chosen.items()
        },
        "statures_m": {which: statures_of(images) for which, images in chosen.items()},
    }


def scores_of(records: Sequence[SceneRecord]) -> dict[str, Any]:
    """How wrong the people of some images are; ``None``: there is nothing to measure."""
    groups = {name: [_of_group(record, number) for record in records] for number, name in enumerate(AGE_GROUPS)}
    return {
        "images": len(records),
        "people": sum(len(r.pelvis_m) for r in records),
        "pcdr_percent": pcdr_percent(records),
        "pcdr_percent_by_age": {name: pcdr_percent(records, number) for number, name in enumerate(AGE_GROUPS)},
        "order_percent": _order_percent(records),
        "stature_cm": stature_error_cm(records),
        "stature_percent": _stature_percent(records),
        "stature_cm_by_age": {name: stature_error_cm(part) for name, part in groups.items()},
        "stature_percent_by_age": {name: _stature_percent(part) for name, part in groups.items()},
        "depth_percent_focal_known": depth_error_percent(records, focal_free=True),
    }


def statures_of(pairs: Sequence[tuple[SceneRecord, SceneRecord]]) -> dict[str, Any]:
    """How statures are spread among labels, set and truth: everybody, and those below 15 years."""
    if not pairs:
        return {}
    ages = np.concatenate([labels.age_years for labels, _ in pairs])
    columns = {
        "labels": np.concatenate([labels.stature_m for labels, _ in pairs]),
        "set": np.concatenate([built.stature_m for _, built in pairs]),
        "truth": np.concatenate([labels.true_stature_m for labels, _ in pairs]),
    }
    minor = ages < MINOR_AGE_YEARS
    return {side: _spread(values) | {"minors_mean": _mean(values[minor])} for side, values in columns.items()}


def times(job: Job, built: BuiltSet) -> dict[str, Any]:
    """How fast the set was built, by what its shards say, and where the time goes, measured on its first images."""
    images, seconds = sum(s.scenes for s in built.shards), sum(s.seconds for s in built.shards)
    plan = Plan.open(job.folder)
    assert plan is not None
    entries = plan.entries(0)[:TIMED_IMAGES]
    read, guess, place = job.stages()
    passed: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = step()
        passed[name] = passed.get(name, 0.0) + time.perf_counter() - start
        return done

    place(guess(read(list(job.source.load(entries[: job.batch])))))  # bodies and files load
    for first in range(0, len(entries), job.batch):
        group = entries[first : first + job.batch]
        samples = timed("source", lambda group=group: list(job.source.load(group)))
        loaded = timed("read", lambda samples=samples: read(samples))
        guessed = timed("first guess", lambda loaded=loaded: guess(loaded))
        timed("place", lambda guessed=guessed: place(guessed))
    return {
        "images_per_second_and_worker": images / seconds if seconds else None,
        "milliseconds_per_image": {name: 1e3 * value / len(entries) for name, value in passed.items()},
    }


def report(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    groups = [f"{name}, cm (%)" for name in ("stature", *AGE_GROUPS)]
    errors = ["preset", "images", "people", "", "PCDR (%)", "order (%)", *groups, "depth (%)"]
    spread = ["preset", "images", "", "mean (cm)", "std (cm)", "5 % (cm)", "median (cm)", "95 % (cm)", "minors (cm)"]
    work = [
        "preset",
        "images",
        "accepted",
        "accepted (%)",
        "images/s a worker",
        "where a core's time goes (ms an image)",
    ]
    rows: dict[str, list[list[str]]] = {"errors": [], "spread": [], "work": []}
    for preset, found in figures["presets"].items():
        for which, sides in found["scores"].items():
            rows["errors"] += [_error_row(preset, which, side, scores) for side, scores in sides.items()]
            rows["spread"] += [
                [preset, which, side, *(_cm(value) for value in values.values())]
                for side, values in found["statures_m"][which].items()
            ]
        images, accepted = (found["scores"][which]["set"]["images"] for which in ("all", "accepted"))
        parts = ", ".join(f"{name} {value:.1f}" for name, value in found["time"]["milliseconds_per_image"].items())
        speed = _number(found["time"]["images_per_second_and_worker"])
        rows["work"].append([preset, str(images), str(accepted), _number(100.0 * accepted / images), speed, parts])
    outcomes = "; ".join(
        f"{preset}: " + ", ".join(f"{count} {name}" for name, count in found["outcomes"].items())
        for preset, found in figures["presets"].items()
    )
    head = (
        f"{figures['scenes']} images of the world `{figures['world']}`, seed {figures['seed']}, errors "
        f"`{figures['errors']}`; {figures['machine']}, {figures['workers']} workers."
    )
    return "\n\n".join(
        (head, _table(errors, rows["errors"]), _table(spread, rows["spread"]), _table(work, rows["work"]), outcomes)
    )


def _error_row(preset: str, which: str, side: str, scores: dict[str, Any]) -> list[str]:
    statures = [
        (scores["stature_cm"], scores["stature_percent"]),
        *zip(scores["stature_cm_by_age"].values(), scores["stature_percent_by_age"].values(), strict=True),
    ]
    return [
        preset,
        f"{which} ({scores['images']})",
        str(scores["people"]),
        side,
        _number(scores["pcdr_percent"]),
        _number(scores["order_percent"]),
        *(f"{_number(cm)} ({_number(percent)})" for cm, percent in statures),
        _number(scores["depth_percent_focal_known"]),
    ]


def _of_group(record: SceneRecord, group: int) -> SceneRecord:
    """The people of one age group; nobody undetected."""
    own = age_group(record.age_years) == group
    names = ("pelvis_m", "true_pelvis_m", "stature_m", "true_stature_m", "log_std", "age_years")
    return replace(record, **{name: getattr(record, name)[own] for name in names})


def _stature_percent(records: Sequence[SceneRecord]) -> float | None:
    """Mean absolute error of stature over the true one."""
    parts = (Samples(stature_error_m(r.stature_m, r.true_stature_m) / r.true_stature_m) for r in records)
    mean = Samples.merged(parts).mean
    return None if mean is None else 100.0 * mean


def _order_percent(records: Sequence[SceneRecord]) -> float | None:
    edges = (ORDERED_FROM_M, np.inf)
    ratio = Ratio.merged(order_accuracy(r.pelvis_m[:, 2], r.true_pelvis_m[:, 2], edges)[0] for r in records)
    return None if ratio.value is None else 100.0 * ratio.value


def _spread(values: np.ndarray) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return {"mean": float(values.mean()), "std": float(values.std()), "p5": low, "median": middle, "p95": high}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _cm(metres: float | None) -> str:
    return "-" if metres is None else f"{100.0 * metres:.1f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--work", type=Path, default=Path("dataset_out"), help="folder of everything")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--world", default="mixed", choices=list(PRESETS))
    parser.add_argument("--errors", default="nominal", choices=list(STRENGTHS), help="of the upstream networks")
    parser.add_argument("--seed", type=int, default=SEED, help="of the world")
    parser.add_argument("--presets", nargs="+", default=["best", "paper"], choices=list(PLACEMENTS))
    parser.add_argument("--per-shard", type=int, default=64, help="images in a shard of the set")
    return parser.parse_args()


if __name__ == "__main__":
    main()
