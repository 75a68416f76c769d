"""The command line: each verb parses its arguments, calls one function and prints."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from crowdmesh.errors import CrowdMeshError, InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from crowdmesh.dto import DTOConfig, Placement
    from crowdmesh.scene import Scene

Preset = Literal["best", "paper", "official"]
Prior = Literal["paper", "lms", "agnostic"]
Kind = Literal["disparity", "depth", "metric"]
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
        prior: stature prior (default: the preset's).
        overwrite: repeat images whose outputs are finished.
    """
    if fov is not None and not 1 <= fov <= 175:
        raise InputError(f"--fov is the vertical field of view in degrees (1 to 175), got {fov:g}")
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from crowdmesh.experts import Reconstructor, load_experts
    from crowdmesh.experts.batch import reconstruct_many
    from crowdmesh.images import find_images

    found = find_images(photos)
    _check_writable(out)
    reconstructor = Reconstructor(
        load_experts(experts, None if fov is None else math.radians(fov)), _config(preset, prior)
    )
    table = _table("photo", "outcome", "people", "placed", "score", "remarks")
    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console(err=True), transient=True) as progress:
        task = progress.add_task("reconstructing", total=len(found))
        for result in reconstruct_many(found, out, reconstructor, overwrite):
            progress.advance(task)
            failed += result.outcome == "failed"
            done = result.outcome == "done"
            numbers = (str(result.people), str(result.placed), _score(result.score)) if done else ("", "", "")
            table.add_row(result.photo.name, result.outcome, *numbers, "\n".join(result.notes))
    _console().print(table)
    _console().print(f"outputs in {out}", highlight=False)
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
        prior: stature prior (default: the preset's).
        out: output folder.
    """
    from crowdmesh.adapters import read_people
    from crowdmesh.depth import RelativeDepth
    from crowdmesh.dto import place as run
    from crowdmesh.experts.outputs import write_outputs

    guess = read_people(people)
    relative = RelativeDepth.load(depth, kind)
    _check_writable(out)
    placed, placement = run(guess, relative, _config(preset, prior))
    stem = people.name.removesuffix(".npz").removesuffix(".json").removesuffix(".scene")
    files = write_outputs(out, f"{stem}.placed", guess, placed, placement, placement.notes)
    _print_placement(guess, placed, placement)
    _console().print("\n".join(f"wrote {file}" for file in files), highlight=False)
    return 0


def demo(out: Path = Path("demo"), preset: Preset = "best") -> int:
    """A synthetic crowd of mixed ages whose truth is known: per-person mistakes, then everybody placed together.

    Args:
        out: output folder.
        preset: which DTO.
    """
    from crowdmesh.demo import order_errors, pelvis_depth, run_demo

    _check_writable(out)
    shown = run_demo(out, _config(preset, None))
    true, before, after = (pelvis_depth(scene) for scene in (shown.truth, shown.before, shown.after))
    stature = [scene.people.stature_m for scene in (shown.truth, shown.before, shown.after)]
    table = _table("id", "age", "true z", "initial z", "placed z", "true stature", "initial", "placed", "status")
    ages = shown.truth.people.age_years
    assert ages is not None
    for k, status in enumerate(shown.placement.statuses):
        depths = (f"{z[k]:.2f} m" for z in (true, before, after))
        table.add_row(str(k), f"{ages[k]:g}", *depths, *(f"{h[k]:.2f} m" for h in stature), status.reason)
    console = _console()
    console.print(table)
    for name, depth_m, height_m in (("initial", before, stature[1]), ("placed", after, stature[2])):
        wrong, pairs = order_errors(depth_m, true)
        console.print(
            f"{name:8} mean depth error {abs(depth_m - true).mean():.2f} m, mean stature error "
            f"{abs(height_m - stature[0]).mean():.2f} m, pairs in the wrong order {wrong} of {pairs}",
            highlight=False,
        )
    console.print("look at " + ", ".join(map(str, shown.files)), highlight=False)
    return 0


def doctor() -> int:
    """What is installed, which body models and weights are present, and the next step for what is missing."""
    from crowdmesh.doctor import examine

    table = _table("", "what", "found", "next step")
    for finding in examine():
        table.add_row(
            "ok" if finding.fine else "--", f"{finding.topic}: {finding.name}", finding.found, finding.next_step
        )
    _console().print(table)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the ``crowdmesh`` command; returns the exit code."""
    verbs = {"reconstruct": reconstruct, "place": place, "demo": demo, "doctor": doctor}
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
        print("crowdmesh: interrupted; finished outputs are kept, run the same command again to go on", file=sys.stderr)
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

    table = _table("id", "depth before", "depth after", "stature before", "stature after", "residual", "status")
    before, after = (person_depth(scene, body_of(scene.people)) for scene in (guess, placed))
    for k, status in enumerate(placement.statuses):
        table.add_row(
            str(k),
            f"{before[k]:.2f} m",
            f"{after[k]:.2f} ± {placement.depth_std_m[k]:.2f} m",
            f"{guess.people.stature_m[k]:.2f} m",
            f"{placed.people.stature_m[k]:.2f} m",
            f"{placement.standardised_residual[k]:+.2f}",
            status.reason,
        )
    console = _console()
    console.print(table)
    verdict = "accepted" if placement.accepted else "not accepted"
    console.print(f"score {_score(placement.score)} ({verdict})", *placement.notes, sep="\n", highlight=False)


def _score(score: float) -> str:
    return f"{score:.2f}" if math.isfinite(score) else "-"


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _console(err: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=err)


if __name__ == "__main__":
    sys.exit(main())
