"""The command line: each verb parses its arguments, calls one function and prints."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from crowdmesh._terminal import console, progress, score_text, table
from crowdmesh.errors import CrowdMeshError, InputError

if TYPE_CHECKING:
    from crowdmesh.dto import DTOConfig, Placement
    from crowdmesh.scene import Scene

Preset = Literal["best", "paper", "official"]
Prior = Literal["marginal", "paper", "lms", "agnostic"]
Kind = Literal["disparity", "depth", "metric"]
WorldName = Literal["mixed", "family", "adults", "crowd", "occluded", "jump", "partial", "demo"]
TableName = Literal["main", "depth", "focal", "worlds", "trials"]
BenchmarkName = Literal["relative-human", "mupots", "3dpw", "hi4d", "agora", "bedlam", "panoptic"]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def reconstruct(
    photos: tyro.conf.Positional[tuple[str, ...]],
    out: Path = Path("crowdmesh_out"),
    fov: float | None = None,
    experts: Literal["lite"] = "lite",
    body: Literal["anny"] = "anny",
    preset: Preset = "best",
    prior: Prior | None = None,
    overwrite: Flag = False,
) -> int:
    """Photographs to people in their place: NAME.scene.npz, NAME.png, NAME.glb and NAME.json per image.

    Args:
        photos: image files, folders or globs.
        out: output folder.
        fov: vertical field of view of the images in degrees (default: EXIF, else 60 over the longer side).
        experts: set of upstream networks.
        body: body model that is fitted.
        preset: which DTO.
        prior: stature prior: marginal (uncertain age and sex summed out), paper (age groups), lms (growth charts),
            agnostic (no sex). Default: the preset's.
        overwrite: repeat images whose outputs are finished.
    """
    if fov is not None and not 1 <= fov <= 175:
        raise InputError(f"--fov is the vertical field of view in degrees (1 to 175), got {fov:g}")
    from crowdmesh.experts import Reconstructor, load_experts
    from crowdmesh.images import find_images
    from crowdmesh.outputs import PhotoOutput, process_photos

    found = find_images(photos)
    _check_writable(out)
    reconstructor = Reconstructor(
        load_experts(experts, None if fov is None else math.radians(fov)), _config(preset, prior)
    )

    def make(photo: Path) -> PhotoOutput:
        result = reconstructor(photo)
        return PhotoOutput(result.scene, result.notes, result.first_guess, result.placement)

    rows = table("photo", "outcome", "people", "placed", "score", "remarks")
    failed = 0
    with progress() as bar:
        task = bar.add_task("reconstructing", total=len(found))
        for result in process_photos(found, out, make, reconstructor.signature, overwrite):
            bar.advance(task)
            failed += result.outcome == "failed"
            done = result.outcome == "done"
            numbers = (str(result.people), str(result.placed), score_text(result.score)) if done else ("", "", "")
            rows.add_row(result.photo.name, result.outcome, *numbers, "\n".join(result.notes))
    console().print(rows)
    console().print(f"outputs in {out}", highlight=False)
    return 1 if failed else 0


def place(
    people: tyro.conf.Positional[Path],
    depth: Path,
    kind: Kind = "disparity",
    preset: Preset = "best",
    prior: Prior | None = None,
    out: Path = Path("crowdmesh_out"),
) -> int:
    """DTO alone, on anybody's per-person estimates.

    Args:
        people: a scene .npz, or a plain .npz or .json table of people (keys in docs/conventions.md).
        depth: depth map of the image: .npy, .npz or 16-bit .png.
        kind: what its values mean: disparity (larger = nearer), depth (larger = farther), metric (metres).
        preset: which DTO.
        prior: stature prior: marginal (uncertain age and sex summed out), paper (age groups), lms (growth charts),
            agnostic (no sex). Default: the preset's.
        out: output folder.
    """
    from crowdmesh.adapters import read_people
    from crowdmesh.depth import RelativeDepth
    from crowdmesh.dto import place as run
    from crowdmesh.outputs import PhotoOutput, write_outputs

    guess = read_people(people)
    relative = RelativeDepth.load(depth, kind)
    _check_writable(out)
    placed, placement = run(guess, relative, _config(preset, prior))
    stem = people.name.removesuffix(".npz").removesuffix(".json").removesuffix(".scene")
    files = write_outputs(out, f"{stem}.placed", PhotoOutput(placed, placement.notes, guess, placement))
    _print_placement(guess, placed, placement)
    console().print("\n".join(f"wrote {file}" for file in files), highlight=False)
    return 0


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

    _check_writable(out)
    shown = run_demo(out, _config(preset, None))
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
    method: Literal["lite"] | None = None,
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
        method: run this set of experts on the photographs below the data folder instead.
        preset: which DTO the method ends in (default: best).
        corrected: the protocol without the released evaluation's mistakes.
        standard: MuPoTS: the data set's own protocol.
        ignore_invalid: AGORA: who is predicted where an invalid person stands is not extra.
        allow_pickle: read annotation files that are pickled, through a restricted reader.
        out: write the result as .json, too.
    """
    if (predictions is None) == (method is None):
        raise InputError("name either --predictions (results in files) or --method (run it now), one of them")
    if preset is not None and method is None:
        raise InputError("--preset belongs to --method; results in files are scored as they are")
    if out is not None:
        if out.suffix != ".json" or out in (data, predictions):
            raise InputError(f"--out must be a .json file of its own, got {out}")
        _check_writable(out.parent)
    from crowdmesh.benchmarks import ExpertLine, run
    from crowdmesh.experts import Reconstructor, load_experts

    scored: ExpertLine | Path | None = predictions
    if method is not None:
        preset = preset or "best"
        scored = ExpertLine(
            Reconstructor(load_experts(method), _config(preset, None)), f"{method}, DTO preset {preset}"
        )
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


def synth(
    out: Path,
    scenes: int = 100,
    preset: WorldName = "mixed",
    seed: int = 0,
    per_shard: int = 64,
    workers: int = 1,
) -> int:
    """Synthetic scenes with exact truth: pictures, depth, masks, bodies, in shards that the Python API reads.

    Args:
        out: folder of the shards; finished shards are kept, so the same command goes on where it stopped.
        scenes: how many.
        preset: which world.
        seed: of all its random numbers.
        per_shard: scenes per file.
        workers: processes.
    """
    _check_writable(out)
    from crowdmesh.synth import PRESETS, World, write_shards

    with progress() as bar:
        task = bar.add_task("scenes", total=scenes)
        folder = write_shards(
            World(PRESETS[preset], seed), scenes, out, per_shard, workers, lambda done: bar.advance(task, done)
        )
    console().print(f"{scenes} scenes in {folder.shards} shards in {out}", highlight=False, markup=False)
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
            _check_writable(folder)
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


def doctor() -> int:
    """What is installed, which body models and weights are present, and the next step for what is missing."""
    from crowdmesh.doctor import examine

    rows = table("", "what", "found", "next step")
    for finding in examine():
        rows.add_row(
            "ok" if finding.fine else "--", f"{finding.topic}: {finding.name}", finding.found, finding.next_step
        )
    console().print(rows)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the ``crowdmesh`` command; returns the exit code."""
    verbs = {
        "reconstruct": reconstruct, "place": place, "evaluate": evaluate, "synth": synth, "bench": bench,
        "demo": demo, "doctor": doctor,
    }  # fmt: skip
    try:
        return tyro.extras.subcommand_cli_from_dict(
            verbs, prog="crowdmesh", description="Several people, one photograph, one metric space.", args=arguments
        )
    except CrowdMeshError as error:
        print(f"crowdmesh: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"crowdmesh: {error.strerror or error}: {error.filename or ''}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "crowdmesh: interrupted; files written so far are complete, reconstruct and synth go on from them",
            file=sys.stderr,
        )
        return 130


def _config(preset: Preset, prior: Prior | None) -> DTOConfig:
    from dataclasses import replace

    from crowdmesh.dto import PRESETS

    config = PRESETS[preset]()
    return config if prior is None else replace(config, prior=prior)


def _check_writable(folder: Path) -> None:
    from crowdmesh._files import atomic_path

    with atomic_path(folder / ".writable") as probe:
        probe.touch()
    (folder / ".writable").unlink()


def _print_placement(guess: Scene, placed: Scene, placement: Placement) -> None:
    from crowdmesh.body import body_of
    from crowdmesh.dto import person_depth

    rows = table("id", "depth before", "depth after", "stature before", "stature after", "residual", "status")
    before, after = (person_depth(scene, body_of(scene.people)) for scene in (guess, placed))
    for k, status in enumerate(placement.statuses):
        rows.add_row(
            str(k),
            f"{before[k]:.2f} m",
            f"{after[k]:.2f} ± {placement.depth_std_m[k]:.2f} m",
            f"{guess.people.stature_m[k]:.2f} m",
            f"{placed.people.stature_m[k]:.2f} m",
            f"{placement.standardised_residual[k]:+.2f}",
            status.reason,
        )
    screen = console()
    screen.print(rows)
    verdict = "accepted" if placement.accepted else "not accepted"
    screen.print(f"score {score_text(placement.score)} ({verdict})", *placement.notes, sep="\n", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
