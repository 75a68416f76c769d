"""The verbs that turn photographs or estimates into people in their place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from crowdmesh._terminal import console, progress, score_text, table
from crowdmesh.cli._options import (
    AdapterName,
    Flag,
    Kind,
    Precision,
    Preset,
    Prior,
    Upstream,
    UpstreamFlags,
    check_fov,
    check_writable,
    dto_config,
)
from crowdmesh.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from crowdmesh.dto import Placement
    from crowdmesh.outputs.batch import Make, Signature
    from crowdmesh.scene import Scene

_LITE = Upstream()


def reconstruct(
    photos: tyro.conf.Positional[tuple[str, ...]],
    out: Path = Path("crowdmesh_out"),
    fov: float | None = None,
    upstream: UpstreamFlags = _LITE,
    preset: Preset = "best",
    prior: Prior | None = None,
    overwrite: Flag = False,
) -> int:
    """Photographs to people in their place: NAME.scene.npz, .before.npz, .png, .glb and .json per image.

    Args:
        photos: image files, folders or globs.
        out: output folder.
        fov: vertical field of view of the images in degrees (default: EXIF or a network, else 60 over the longer side).
        upstream: upstream networks.
        preset: which DTO.
        prior: stature prior: marginal (uncertain age and sex summed out), paper (age groups), lms (growth charts),
            agnostic (no sex). Default: the preset's.
        overwrite: repeat images whose outputs are finished.
    """
    check_fov(fov)
    from crowdmesh.experts import Reconstructor
    from crowdmesh.images import find_images
    from crowdmesh.outputs import PhotoOutput

    found = find_images(photos)
    check_writable(out)
    reconstructor = Reconstructor(upstream.load(fov), dto_config(preset, prior))

    def make(group: Sequence[Path]) -> list[PhotoOutput]:
        return [PhotoOutput(r.scene, r.notes, r.first_guess, r.placement) for r in reconstructor.many(group)]

    # The small networks gain nothing from a batch, and single photographs show progress.
    batch = 1 if upstream == _LITE else upstream.batch
    columns = ("people", "placed", "score")
    return _write_all(found, out, make, reconstructor.signature, overwrite, columns, batch)


def predict(
    photos: tyro.conf.Positional[tuple[str, ...]],
    weights: str | None = None,
    out: Path = Path("crowdmesh_out"),
    fov: float | None = None,
    threshold: float = 0.3,
    device: str = "auto",
    precision: Precision = "float32",
    official_quirks: Flag = False,
    overwrite: Flag = False,
) -> int:
    """Photographs to people with a MA-HMR network, in one pass: the same files per image as reconstruct.

    Args:
        photos: image files, folders or globs.
        weights: a .safetensors file, a released SAT-HMR or MA-HMR checkpoint, or a name in the asset folders. Default:
            those that come with the package, if any do.
        out: output folder.
        fov: vertical field of view of the images in degrees, instead of the predicted one.
        threshold: least confidence of a person.
        device: where the network runs: auto (CUDA if there is one), cpu, cuda, cuda:1 ...
        precision: of the encoder.
        official_quirks: also repeat the release's mistakes that change results (docs/mahmr.md).
        overwrite: repeat images whose outputs are finished.
    """
    check_fov(fov)
    from crowdmesh.experts import Device
    from crowdmesh.images import find_images
    from crowdmesh.mahmr import MAHMR, checkpoint
    from crowdmesh.mahmr.predict import Predictor
    from crowdmesh.outputs import PhotoOutput

    chosen = Device.choose(device, precision)
    found = find_images(photos)
    check_writable(out)
    source = checkpoint.packaged() if weights is None else weights
    model = MAHMR.from_pretrained(source, official_quirks=official_quirks or None).to(chosen.name)
    predictor = Predictor(model, None if fov is None else math.radians(fov), threshold, chosen.dtype)

    def make(group: Sequence[Path]) -> list[PhotoOutput]:
        return [PhotoOutput(*predictor(photo)) for photo in group]

    return _write_all(found, out, make, predictor.signature, overwrite, ("people",))


def _write_all(
    photos: list[Path],
    out: Path,
    make: Make,
    signature: Signature,
    overwrite: bool,
    columns: tuple[str, ...],
    batch: int = 1,
) -> int:
    """Process photographs under a progress bar and print what became of each; 1 if one failed."""
    from crowdmesh.outputs import process_photos

    rows = table("photo", "outcome", *columns, "remarks")
    failed = 0
    with progress() as bar:
        task = bar.add_task("photographs", total=len(photos))
        for result in process_photos(photos, out, make, signature, overwrite, batch):
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
    adapter: AdapterName = "auto",
    image: str | None = None,
    image_size: tuple[int, int] | None = None,
    fov: float | None = None,
    intrinsics: tuple[float, float, float, float] | None = None,
    faces: Path | None = None,
    unpickle: Flag = False,
    stature: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    preset: Preset = "best",
    prior: Prior | None = None,
    out: Path = Path("crowdmesh_out"),
) -> int:
    """DTO alone, on anybody's per-person estimates.

    Args:
        people: a scene .npz, a plain .npz or .json table of people (keys in docs/conventions.md), or another system's
            output (docs/adapters.md).
        depth: depth map of the image: .npy, .npz or 16-bit .png.
        kind: what its values mean: disparity (larger = nearer), depth (larger = farther), metric (metres).
        adapter: the system that made the file; auto: by what is in it.
        image: which image of a file that holds several.
        image_size: width and height in pixels, for files that do not tell.
        fov: vertical field of view in degrees, for files without a camera.
        intrinsics: fx fy cx cy in pixels, for files without a camera.
        faces: triangles of the bodies (.npy, .npz or .obj), for files without.
        unpickle: open a pickled file; nothing in it is run.
        stature: a height that somebody measured, as ID=METRES, e.g. 2=1.32; may be repeated.
        preset: which DTO.
        prior: stature prior: marginal (uncertain age and sex summed out), paper (age groups), lms (growth charts),
            agnostic (no sex). Default: the preset's.
        out: output folder.
    """
    check_fov(fov)
    from crowdmesh.adapters import read_people
    from crowdmesh.depth import RelativeDepth
    from crowdmesh.dto import place as run
    from crowdmesh.outputs import PhotoOutput, write_outputs

    angle = None if fov is None else math.radians(fov)
    matrix = None if intrinsics is None else _matrix(*intrinsics)
    guess = read_people(people, adapter, image_size, angle, matrix, image, unpickle, faces)
    guess = with_statures(guess, stature)
    relative = RelativeDepth.load(depth, kind)
    check_writable(out)
    placed, placement = run(guess, relative, dto_config(preset, prior))
    files = write_outputs(out, f"{_stem(people, image)}.placed", PhotoOutput(placed, placement.notes, guess, placement))
    _print_placement(guess, placed, placement)
    console().print("\n".join(f"wrote {file}" for file in files), highlight=False)
    return 0


def _stem(people: Path, image: str | None) -> str:
    """Name of the outputs: the file's, with the image's where the file holds several."""
    stem = people.name.removesuffix(people.suffix).removesuffix(".scene")
    return stem if image is None else f"{stem}.{Path(image).with_suffix('').as_posix().replace('/', '_')}"


def _matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    import numpy as np

    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def with_statures(scene: Scene, given: Sequence[str]) -> Scene:
    """The scene with heights that somebody measured, each written ID=METRES; InputError where one makes no sense."""
    if not given:
        return scene
    from dataclasses import replace

    import numpy as np

    count = len(scene.people)
    known, said = scene.people.known_stature_m, set()
    known = np.full(count, np.nan) if known is None else known.copy()
    for text in given:
        person, _, metres = text.partition("=")
        try:
            index, value = int(person), float(metres)
        except ValueError as error:
            raise InputError(f"--stature is ID=METRES, for example 2=1.32, got {text!r}") from error
        if not 0 <= index < count:
            raise InputError(f"--stature {text}: there is no person {index}; the scene has {count}, counted from 0")
        if not 0.2 <= value <= 3.0:
            raise InputError(f"--stature {text}: nobody is {value:g} m tall; give metres")
        if index in said:
            raise InputError(f"--stature {text}: person {index} has {known[index]:g} m already; give each height once")
        said.add(index)
        known[index] = value
    return replace(scene, people=replace(scene.people, known_stature_m=known))


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
