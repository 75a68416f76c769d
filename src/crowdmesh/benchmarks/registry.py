"""The benchmarks by name, and the way from files to a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdmesh.benchmarks import agora, hi4d, mupots, panoptic, pw3d, relative_human
from crowdmesh.benchmarks._h36m import mupots_predictions
from crowdmesh.benchmarks.photos import Photo, find_photos
from crowdmesh.benchmarks.predictions import keys_of_images, read_records
from crowdmesh.benchmarks.reconstructor import Progress, RecordedScenes, SceneReconstructor, Scenes
from crowdmesh.benchmarks.result import Result
from crowdmesh.errors import InputError
from crowdmesh.formats import (
    read_3dpw,
    read_agora,
    read_bedlam,
    read_hi4d,
    read_mupots,
    read_panoptic,
    read_relative_human,
)

Read = Callable[[Path, bool], Mapping[str, Any]]
Evaluate = Callable[..., Result]


@dataclass(frozen=True)
class Benchmark:
    """One public benchmark.

    Attributes:
        name, title: on the command line, and in words.
        files: where its annotation file may lie inside the data folder, without ending.
        source: where users get the data.
        read: annotation file and permission to unpickle → annotation by image name.
        evaluate: annotations, predictions, chosen variants as keywords → result.
        variants: the variants it knows (``corrected``, ``standard``, ``ignore_invalid``).
        from_scenes: scenes → predictions, where the protocol takes others; ``None``: it takes scenes.
        from_records: plain records of arrays → predictions, where one file may hold them all.
    """

    name: str
    title: str
    files: tuple[str, ...]
    source: str
    read: Read
    evaluate: Evaluate
    variants: tuple[str, ...]
    from_scenes: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    from_records: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def _bedlam(annotations: Mapping[str, Any], predictions: Mapping[str, Any], corrected: bool = False) -> Result:
    return agora.evaluate(annotations, predictions, corrected, name="BEDLAM validation")


_RELATIVE_HUMAN = Benchmark(
    name="relative-human",
    title="Relative Human: order in depth and image keypoints",
    files=("test_annots", "RelativeHuman/test_annots"),
    source="https://github.com/Arthur151/Relative_Human",
    read=read_relative_human,
    evaluate=relative_human.evaluate,
    variants=("corrected",),
    from_scenes=relative_human.predictions_from_scenes,
    from_records=relative_human.predictions_of_records,
)
_MUPOTS = Benchmark(
    name="mupots",
    title="MuPoTS-3D: joints of several people",
    files=("mupots_annots", "mupots/mupots_annots"),
    source="https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson",
    read=read_mupots,
    evaluate=mupots.evaluate,
    variants=("standard",),
    from_scenes=mupots_predictions,
    from_records=mupots.predictions_of_records,
)
_3DPW = Benchmark(
    name="3dpw",
    title="3DPW: surfaces in the wild",
    files=("annots_smpl_test_genders", "3dpw/annots_smpl_test_genders"),
    source="https://virtualhumans.mpi-inf.mpg.de/3DPW",
    read=read_3dpw,
    evaluate=pw3d.evaluate,
    variants=("corrected",),
)
_HI4D = Benchmark(
    name="hi4d",
    title="Hi4D: surfaces in close contact",
    files=("hi4d_smpl_test", "hi4d/hi4d_smpl_test"),
    source="https://yifeiyin04.github.io/Hi4D",
    read=read_hi4d,
    evaluate=hi4d.evaluate,
    variants=("corrected",),
)
_AGORA = Benchmark(
    name="agora",
    title="AGORA validation: surfaces of adults and children",
    files=(
        "annots_smpl_validation",
        "smpl_neutral_annots/annots_smpl_validation",
        "agora/smpl_neutral_annots/annots_smpl_validation",
    ),
    source="https://agora.is.tue.mpg.de",
    read=read_agora,
    evaluate=agora.evaluate,
    variants=("corrected", "ignore_invalid"),
)
_BEDLAM = Benchmark(
    name="bedlam",
    title="BEDLAM validation: surfaces",
    files=("bedlam_smpl_validation_6fps", "bedlam/bedlam_smpl_validation_6fps"),
    source="https://bedlam.is.tue.mpg.de",
    read=read_bedlam,
    evaluate=_bedlam,
    variants=("corrected",),
)
_PANOPTIC = Benchmark(
    name="panoptic",
    title="CMU Panoptic: joints of groups",
    files=("annots_test", "cmu_panoptic/annots_test"),
    source="http://domedb.perception.cs.cmu.edu",
    read=read_panoptic,
    evaluate=panoptic.evaluate,
    variants=("corrected",),
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (_RELATIVE_HUMAN, _MUPOTS, _3DPW, _HI4D, _AGORA, _BEDLAM, _PANOPTIC)
}  # fmt: skip
"""Every public benchmark by its name."""


def run(
    name: str,
    data: str | Path,
    method: SceneReconstructor | str | Path,
    unpickle: bool = False,
    corrected: bool = False,
    standard: bool = False,
    ignore_invalid: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Score a method, or the results it left in files, on a public benchmark.

    Args:
        name: one of :data:`BENCHMARKS`.
        data: folder of the data set, or its annotation file itself (another split, say).
        method: called on every annotated photograph, which is looked for below the data folder; or where results lie:
            a folder of scenes or tables (see :func:`crowdmesh.benchmarks.predictions.read_predictions`), or, for
            Relative Human and MuPoTS, one file of arrays (see :func:`crowdmesh.benchmarks.predictions.read_records`).
        unpickle: read a pickled annotation file, through the restricted unpickler.
        corrected, standard, ignore_invalid: variants of the protocol; not every benchmark has each.
        progress: called after every photograph or scene.

    Raises:
        InputError: unknown name or variant, missing files, empty predictions, predictions of images that are not
            annotated, or a method that fails on every photograph. FormatError, AssetError: see the readers and
            protocols.
    """
    benchmark = benchmark_named(name)
    chosen = {"corrected": corrected, "standard": standard, "ignore_invalid": ignore_invalid}
    variants = {variant: True for variant, wanted in chosen.items() if wanted}
    for variant in variants:
        if variant not in benchmark.variants:
            raise InputError(f"benchmark {name} has no variant {variant!r}; it has {', '.join(benchmark.variants)}")
    data = Path(data)
    annotations = benchmark.read(annotation_file(benchmark, data), unpickle)
    if isinstance(method, (str, Path)) and not Path(method).is_dir():
        predictions = _records(benchmark, Path(method), annotations)
        result = benchmark.evaluate(annotations, predictions, **variants)
        notes = (f"Scored: {method}.", *_missing(annotations, predictions))
    else:
        scenes = _scenes(method, annotations, data if data.is_dir() else data.parent, progress)
        predictions = scenes if benchmark.from_scenes is None else benchmark.from_scenes(scenes)
        result = benchmark.evaluate(annotations, predictions, **variants)
        notes = (f"Scored: {scenes.method.name}.", *_missing(annotations, scenes), *scenes.notes())
    return replace(result, notes=(*notes, *result.notes))


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of that name; InputError if there is none."""
    if name not in BENCHMARKS:
        raise InputError(f"unknown benchmark {name!r}; use one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def annotation_file(benchmark: Benchmark, data: Path) -> Path:
    """The annotation file of a data folder; of ``.json`` and ``.npz`` the former, which holds no pickle.

    Raises:
        InputError: there is none; says what it is called and where the data come from.
    """
    if data.is_file():
        return data
    for file in benchmark.files:
        for suffix in (".json", ".npz"):
            if (path := data / f"{file}{suffix}").is_file():
                return path
    raise InputError(
        f"{data} holds no annotations of {benchmark.name}: expected {' or '.join(benchmark.files)} (.npz or .json); "
        f"the data come from {benchmark.source}, another split can be given as the file itself"
    )


def _scenes(
    method: SceneReconstructor | str | Path,
    annotations: Mapping[str, Any],
    folder: Path,
    progress: Progress | None,
) -> Scenes:
    """What the method, or the folder of its results, has for the annotated images."""
    if isinstance(method, (str, Path)):
        method = RecordedScenes(method, annotations)
        return Scenes(method, {image: Photo(image) for image in method.keys}, progress)
    return Scenes(method, find_photos(folder, annotations), progress)


def _records(benchmark: Benchmark, path: Path, annotations: Mapping[str, Any]) -> Mapping[str, Any]:
    """The predictions of one file by annotated image name, as the protocol takes them."""
    if not path.is_file():
        raise InputError(f"predictions {path} do not exist")
    if benchmark.from_records is None:
        raise InputError(f"predictions for {benchmark.name} must be a folder of scenes, got the file {path}")
    records = read_records(path)
    keys = keys_of_images(records, annotations)
    return benchmark.from_records({image: records[key] for image, key in keys.items()})


def _missing(annotations: Mapping[str, Any], predictions: Mapping[str, Any]) -> tuple[str, ...]:
    missing = [image for image in annotations if image not in predictions]
    if not missing:
        return ()
    return (
        f"{len(missing)} annotated images have no prediction, so that all their people are missed, among them "
        f"{', '.join(missing[:3])}.",
    )
