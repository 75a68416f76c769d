"""The verbs that turn photographs or estimates into people in their place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from crowdmesh._terminal import console, progress, score_text, table
from crowdmesh.cli._options import Flag, Kind, Preset, Prior, check_writable, dto_config
from crowdmesh.errors import InputError

if TYPE_CHECKING:
    from crowdmesh.dto import Placement
    from crowdmesh.outputs.batch import Make, Signature
    from crowdmesh.scene import Scene


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
    _check_fov(fov)
    from crowdmesh.experts import Reconstructor, load_experts
    from crowdmesh.images import find_images
    from crowdmesh.outputs import PhotoOutput

    found = find_images(photos)
    check_writable(out)
    reconstructor = Reconstructor(
        load_experts(experts, None if fov is None else math.radians(fov)), dto_config(preset, prior)
    )

    def make(group: Sequence[Path]) -> list[PhotoOutput]:
        return [PhotoOutput(r.scene, r.notes, r.first_guess, r.placement) for r in reconstructor.many(group)]

    return _write_all(found, out, make, reconstructor.signature, overwrite, ("people", "placed", "score"))


def predict(
    photos: tyro.conf.Positional[tuple[str, ...]],
    weights: str,
    out: Path = Path("crowdmesh_out"),
    fov: float | None = None,
    threshold: float = 0.3,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    official_quirks: Flag = False,
    overwrite: Flag = False,
) -> int:
    """Photographs to people with a MA-HMR network, in one pass: the same files per image as reconstruct.

    Args:
        photos: image files, folders or globs.
        weights: a .safetensors file, a released SAT-HMR or MA-HMR checkpoint, or a name in the asset folders.
        out: output folder.
        fov: vertical field of view of the images in degrees, instead of the predicted one.
        threshold: least confidence of a person.
        device: where the network runs; auto is cuda if there is one.
        precision: of the encoder.
        official_quirks: also repeat the release's mistakes that change results (docs/mahmr.md).
        overwrite: repeat images whose outputs are finished.
    """
    _check_fov(fov)
    import torch

    from crowdmesh.images import find_images
    from crowdmesh.mahmr import MAHMR
    from crowdmesh.mahmr.predict import Predictor
    from crowdmesh.outputs import PhotoOutput

    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device; use --device cpu")
    found = find_images(photos)
    check_writable(out)
    chosen = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    model = MAHMR.from_pretrained(weights, official_quirks=official_quirks or None).to(chosen)
    predictor = Predictor(model, None if fov is None else math.radians(fov), threshold, getattr(torch, precision))

    def make(group: Sequence[Path]) -> list[PhotoOutput]:
        return [PhotoOutput(*predictor(photo)) for photo in group]

    return _write_all(found, out, make, predictor.signature, overwrite, ("people",))


def _check_fov(fov: float | None) -> None:
    if fov is not None and not 1 <= fov <= 175:
        raise InputError(f"--fov is the vertical field of view in degrees (1 to 175), got {fov:g}")


def _write_all(
    photos: list[Path], out: Path, make: Make, signature: Signature, overwrite: bool, columns: tuple[str, ...]
) -> int:
    """Process photographs under a progress bar and print what became of each; 1 if one failed."""
    from crowdmesh.outputs import process_photos

    rows = table("photo", "outcome", *columns, "remarks")
    failed = 0
    with progress() as bar:
        task = bar.add_task("photographs", total=len(photos))
        for result in process_photos(photos, out, make, signature, overwrite):
            bar.advance(task)
            failed += result.outcome == "failed"
            numbers = {
                "people": str(result.people), "placed": str(result.placed), "score": score_text(result.score)
            }  # fmt: skip
            cells = [numbers[column] if result.outcome == "done" else "" for column in columns]
            rows.add_row(result.photo.name, result.outcome, *cells, "\n".join(result.notes))
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
    check_writable(out)
    placed, placement = run(guess, relative, dto_config(preset, prior))
    stem = people.name.removesuffix(".npz").removesuffix(".json").removesuffix(".scene")
    files = write_outputs(out, f"{stem}.placed", PhotoOutput(placed, placement.notes, guess, placement))
    _print_placement(guess, placed, placement)
    console().print("\n".join(f"wrote {file}" for file in files), highlight=False)
    return 0


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
