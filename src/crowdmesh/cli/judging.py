"""The verbs that make scenes of known truth and judge methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from crowdmesh._terminal import console, progress, table
from crowdmesh.cli._options import (
    BenchmarkName,
    Flag,
    LayoutName,
    Preset,
    StrengthName,
    TableName,
    WorldName,
    check_writable,
    dto_config,
)
from crowdmesh.errors import InputError

if TYPE_CHECKING:
    from crowdmesh.benchmarks import ExpertLine
    from crowdmesh.benchmarks.reconstructor import OneStage


def demo(out: Path = Path("demo"), preset: Preset = "best") -> int:
    """A synthetic crowd of mixed ages whose truth is known: per-person mistakes, then everybody placed together.

    Args:
        out: output folder.
        preset: which DTO.
    """
    from crowdmesh.body import load_body
    from crowdmesh.demo import ORDER_GAPS_M, run_demo
    from crowdmesh.dto import person_depth
    from crowdmesh.metrics import order_accuracy

    check_writable(out)
    shown = run_demo(out, dto_config(preset, None))
    body = load_body("anny")
    true, before, after = (person_depth(scene, body) for scene in (shown.truth, shown.before, shown.after))
    stature = [scene.people.stature_m for scene in (shown.truth, shown.before, shown.after)]
    rows = table("id", "age", "true z", "initial z", "placed z", "true stature", "initial", "placed", "status")
    ages = shown.truth.people.age_years
    assert ages is not None
    for k, status in enumerate(shown.placement.statuses):
        depths = (f"{z[k]:.2f} m" for z in (true, before, after))
        rows.add_row(str(k), f"{ages[k]:g}", *depths, *(f"{h[k]:.2f} m" for h in stature), status.reason)
    screen = console()
    screen.print(rows)
    for name, depth_m, height_m in (("initial", before, stature[1]), ("placed", after, stature[2])):
        (right,) = order_accuracy(depth_m, true, ORDER_GAPS_M)
        wrong, pairs = right.whole - right.part, right.whole
        screen.print(
            f"{name:8} mean depth error {abs(depth_m - true).mean():.2f} m, mean stature error "
            f"{abs(height_m - stature[0]).mean():.2f} m, pairs in the wrong order {wrong} of {pairs}",
            highlight=False,
        )
    screen.print("look at " + ", ".join(map(str, shown.files)), highlight=False)
    return 0


def evaluate(
    benchmark: BenchmarkName,
    data: Path,
    predictions: Path | None = None,
    method: Literal["lite", "ma-hmr"] | None = None,
    weights: str | None = None,
    device: str | None = None,
    preset: Preset | None = None,
    corrected: Flag = False,
    standard: Flag = False,
    ignore_invalid: Flag = False,
    allow_pickle: Flag = False,
    out: Path | None = None,
) -> int:
    """Score a method, or anybody's results in files, on a public data set of yours (see docs/evaluation.md).

    Args:
        benchmark: whose protocol.
        data: folder of the data set, or its annotation file.
        predictions: results to score: a folder of scenes or tables; for relative-human and mupots, also one file.
        method: run this on the photographs below the data folder instead: lite (a set of experts, then DTO), or
            ma-hmr (a network that sees everybody in one pass).
        weights: ma-hmr: its weights, as for predict.
        device: ma-hmr: where it runs: auto (the default: CUDA if there is one), cpu, cuda, cuda:1 ...
        preset: lite: which DTO it ends in (default: best).
        corrected: the protocol without the released evaluation's mistakes.
        standard: MuPoTS: the data set's own protocol.
        ignore_invalid: AGORA: who is predicted where an invalid person stands is not extra.
        allow_pickle: read annotation files that are pickled, through a restricted reader.
        out: write the result as .json, too.
    """
    if (predictions is None) == (method is None):
        raise InputError("name either --predictions (results in files) or --method (run it now), one of them")
    if preset is not None and method != "lite":
        raise InputError("--preset belongs to --method lite; everything else is scored as it is, without DTO")
    if (weights is not None or device is not None) and method != "ma-hmr":
        raise InputError("--weights and --device belong to --method ma-hmr")
    if out is not None:
        if out.suffix != ".json" or out in (data, predictions):
            raise InputError(f"--out must be a .json file of its own, got {out}")
        check_writable(out.parent)
    from crowdmesh.benchmarks import SceneReconstructor, run

    scored: SceneReconstructor | Path | None = predictions
    if method == "lite":
        scored = _experts(method, preset or "best")
    elif method == "ma-hmr":
        scored = _network(weights, device or "auto")
    assert scored is not None
    with progress() as bar:
        task = bar.add_task("evaluating", total=None)
        result = run(
            benchmark, data, scored, allow_pickle, corrected, standard, ignore_invalid,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    console().print(result.table())
    console().print(*result.notes, sep="\n", highlight=False, markup=False)
    if out is not None:
        result.save(out)
        console().print(f"wrote {out}", highlight=False, markup=False)
    return 0


def _experts(experts: Literal["lite"], preset: Preset) -> ExpertLine:
    """A set of experts with DTO, as something to score."""
    from crowdmesh.benchmarks import ExpertLine
    from crowdmesh.experts import Reconstructor, load_experts

    return ExpertLine(Reconstructor(load_experts(experts), dto_config(preset, None)), f"{experts}, DTO preset {preset}")


def _network(weights: str | None, device: str) -> OneStage:
    """A MA-HMR network, as something to score."""
    from crowdmesh.benchmarks.reconstructor import OneStage
    from crowdmesh.experts import Device
    from crowdmesh.mahmr import MAHMR, checkpoint

    model = MAHMR.from_pretrained(checkpoint.packaged() if weights is None else weights)
    name = f"ma-hmr, weights {model.provenance['file']} (sha256 {model.provenance['sha256'][:12]})"
    return OneStage(model.to(Device.choose(device, "float32").name), name)


def synth(
    out: Path,
    scenes: int = 100,
    preset: WorldName = "mixed",
    seed: int = 0,
    layout: LayoutName = "world",
    errors: StrengthName | None = None,
    per_shard: int | None = None,
    workers: int = 1,
) -> int:
    """Synthetic scenes with exact truth: shards that the Python API reads, or a label set to build from.

    Args:
        out: output folder; finished scenes are kept, so the same command goes on where it stopped.
        scenes: how many.
        preset: which world.
        seed: of all its random numbers.
        layout: world: pictures, depth, masks and bodies as they are, in shards; 4dhumans: photographs, labels of one
            person at a time, detections, ages and depth maps as upstream networks would give them.
        errors: 4dhumans: how wrong these networks are (default: nominal).
        per_shard: world: scenes per file (default: 64).
        workers: processes.
    """
    if layout == "world" and errors is not None:
        raise InputError("--errors are those of labels; give --layout 4dhumans with it")
    if layout == "4dhumans" and per_shard is not None:
        raise InputError("--per-shard belongs to --layout world; label sets have no shards")
    check_writable(out)
    from crowdmesh.synth import PRESETS, STRENGTHS, World, write_label_set, write_shards

    world = World(PRESETS[preset], seed)
    with progress() as bar:
        task = bar.add_task("scenes", total=scenes)

        def report(done: int) -> None:
            bar.advance(task, done)

        if layout == "world":
            folder = write_shards(world, scenes, out, 64 if per_shard is None else per_shard, workers, report)
            lines = [f"{scenes} scenes in {folder.shards} shards in {out}"]
        else:
            made = write_label_set(world, scenes, out, STRENGTHS[errors or "nominal"](), workers, report)
            files = f"--persons {made.detections} --ages {made.ages} --depth-model {made.depth}"
            lines = [
                f"{scenes} images in {out}, their labels in {made.labels}; build a set of them with",
                f"crowdmesh build --source 4dhumans --data {out} --out SET {files} --keypoints none --mesh none",
            ]
    console().print(*lines, sep="\n", highlight=False, markup=False, soft_wrap=True)
    return 0


def bench(
    quick: Flag = False,
    out: Path | None = None,
    table_name: Annotated[TableName | None, tyro.conf.arg(name="table")] = None,
    method: str | None = None,
    strength: str | None = None,
    seeds: int | None = None,
    scenes: int | None = None,
    workers: int = 2,
) -> int:
    """The synthetic benchmark: every table of docs/results.md with its pictures, or some rows of one table again.

    Args:
        quick: far fewer scenes: minutes, and only a rough idea.
        out: folder to write results.md and images/ into (default: docs; bench_out for anything but the whole).
        table_name: run this table alone and print it; nothing is written.
        method: of that table only this method.
        strength: of that table only this setting, e.g. nominal.
        seeds: held-out seeds.
        scenes: scenes per seed of the table.
        workers: processes.
    """
    if table_name is None and (method or strength):
        raise InputError("--method and --strength choose rows of one table; name it with --table")
    if table_name is not None and out is not None:
        raise InputError("--table prints its rows and writes nothing; leave out --out")
    from crowdmesh.benchmarks.synthetic import QUICK, Effort, bench_rows, run_bench

    effort = (QUICK if quick else Effort()).changed(seeds, scenes)
    with progress() as bar:
        task = bar.add_task("scenes", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if table_name is None:
            folder = out or Path("docs" if effort == Effort() else "bench_out")
            check_writable(folder)
            options = [("--quick", quick or None), ("--seeds", seeds), ("--scenes", scenes)]
            command = " ".join(
                ["crowdmesh bench", *(n if v is True else f"{n} {v}" for n, v in options if v is not None)]
            )
            result = run_bench(folder, effort, workers, command, report)
        else:
            result = bench_rows(table_name, effort, workers, method, strength, report)
    for text in result.tables:
        rows = table(*text.columns, title=text.title)
        for row in text.rows:
            rows.add_row(*row)
        console().print(rows)
    for file in result.files:
        console().print(f"wrote {file}", highlight=False, markup=False)
    return 0
