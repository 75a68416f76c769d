"""The AGORA and BEDLAM validation protocol as the field runs it offline (SAT-HMR, MA-HMR; after Patel et al. 2021).

Truth is neutral SMPL. The root is the mean of both hips (SMPL joints 1 and 2); MPJPE is over the 24 SMPL joints, MVE
over the body's vertices (``body_verts_smpl``), both relative to the root, millimetres, means over matched people.
NMJE and NMVE are these errors over F1, so that missed and extra people weigh. As released, MPJPE and MVE are rounded to
0.1 mm and F1 to two digits before they are divided.

Only people count whom AGORA calls valid and of whom at least four of 45 points (the 24 joints and 21 points of nose,
eyes, ears, feet and fingertips) lie inside the image. As released, a person predicted where an invalid one stands is
extra, which costs F1. With ``ignore_invalid=True``, invalid people are matched, too, and then left out together with
who was matched with them, as AGORA's own evaluation does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from crowdmesh.benchmarks._checks import absence_notes, check_images
from crowdmesh.benchmarks._mesh_protocol import (
    Errors,
    MeshRecord,
    checked_records,
    detection_figures,
    detections_of,
    mean_figure,
    measure_mesh,
    normalised,
)
from crowdmesh.benchmarks._projection import projected
from crowdmesh.benchmarks._smpl_bodies import MeshPeople, load_bodies, load_body_vertices, smpl_truth
from crowdmesh.benchmarks.result import Figure, Result
from crowdmesh.errors import InputError
from crowdmesh.formats import SMPLPeople
from crowdmesh.metrics import mpjpe, vertex_error
from crowdmesh.scene import Scene

NAME = "AGORA validation"
HIPS = (1, 2)
"""SMPL joints whose mean is the root."""

FEWEST_POINTS_INSIDE = 4
SURFACE_POINTS = (
    332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787, 2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905,
    6016, 6133,
)  # fmt: skip
"""SMPL vertices of nose, eyes, ears, feet and fingertips, which together with the 24 joints decide who is visible."""

_MM = 1000.0


def evaluate(
    annotations: Mapping[str, SMPLPeople],
    predictions: Mapping[str, Scene | None],
    corrected: bool = False,
    ignore_invalid: bool = False,
    smpl_folders: list[Path] | None = None,
    name: str = NAME,
) -> Result:
    """Score scenes against the annotations of every image.

    Args:
        annotations, predictions: by image name. Annotated images without a prediction count with everybody missed.
        corrected: match by the best assignment instead of the released greedy search, keep the kid axis of the truth
            (the release cuts it off), and round nothing; the name of the protocol says so.
        ignore_invalid: who is predicted where an invalid person stands enters no figure, instead of being extra.
        smpl_folders: where the SMPL files lie; by default ``smpl/`` of the asset folders.
        name: the data set's name for the result.

    Raises:
        InputError: no annotations, no predictions, predictions for images that are not annotated, or of another body.
        AssetError: SMPL files or the list of body vertices are missing; says how to get them.
    """
    check_images(annotations, predictions)
    bodies = load_bodies({gender for people in annotations.values() for gender in people.genders}, smpl_folders)
    errors = errors_over(load_body_vertices(smpl_folders))
    records = []
    for image, people in annotations.items():
        truth = smpl_truth(people, bodies, corrected)
        truth = truth[np.flatnonzero(inside_image(people, truth))]
        records.append(measure(image, truth, predictions.get(image), errors, corrected, ignore_invalid, name))
    return summarise(records, corrected, ignore_invalid, name)


def inside_image(people: SMPLPeople, truth: MeshPeople) -> Bool[np.ndarray, " n"]:
    """Who has at least four of the 45 points inside the image.

    Raises:
        InputError: the annotation does not say how large the image is.
    """
    if people.image_size is None:
        raise InputError("the annotations do not say how large the images are; AGORA's and BEDLAM's readers do")
    points = np.concatenate((truth.joints_m, truth.vertices_m[:, SURFACE_POINTS]), 1)
    pixels = projected(points, people.intrinsics_px)
    seen = ((pixels >= 0) & (pixels < people.image_size)).all(-1) & (points[..., 2] > 0)
    return seen.sum(1) >= FEWEST_POINTS_INSIDE


def errors_over(body_vertices: Int[np.ndarray, " M"]) -> Errors:
    """The errors of matched people, millimetres, vertices of the given numbers alone."""

    def errors(predicted: MeshPeople, true: MeshPeople) -> dict[str, np.ndarray]:
        roots = [people.joints_m[:, HIPS].mean(1) for people in (predicted, true)]
        surfaces = [people.vertices_m[:, body_vertices] for people in (predicted, true)]
        return {
            "MPJPE": _MM * mpjpe(predicted.joints_m, true.joints_m, root=HIPS),
            "MVE": _MM * vertex_error(*surfaces, *roots),
        }

    return errors


def measure(
    image: str,
    truth: MeshPeople,
    scene: Scene | None,
    errors: Errors,
    corrected: bool = False,
    ignore_invalid: bool = False,
    name: str = NAME,
) -> MeshRecord:
    """Match and measure one image. ``scene``: ``None`` or without people: everybody is missed."""
    return measure_mesh(image, truth, scene, errors, name, corrected, ignore_invalid)


def summarise(
    records: Iterable[MeshRecord], corrected: bool = False, ignore_invalid: bool = False, name: str = NAME
) -> Result:
    """The figures over all images, whatever their order.

    Raises:
        InputError: no record, or two of one image.
    """
    records = checked_records(records)
    counts = detections_of(records)
    errors = [mean_figure(records, figure) for figure in ("MPJPE", "MVE")]
    detection = detection_figures(counts, None if corrected else 2)
    f1 = detection[-1].value
    divided = errors if corrected else [_rounded(figure) for figure in errors]
    figures = [*errors, *(normalised(n, e, f1) for n, e in zip(("NMJE", "NMVE"), divided, strict=True)), *detection]
    notes = ["MPJPE and MVE are of matched people; NMJE and NMVE are these over F1."]
    if corrected:
        notes.append(
            "The matching is not the released one: the best assignment of people instead of a greedy search that stops "
            "early; do not mix with published figures."
        )
    if ignore_invalid:
        notes.append("People whom the data set calls invalid, and who was matched with them, are left out.")
    variant = ("corrected matching" if corrected else "official release") + (
        ", invalid left out" if ignore_invalid else ""
    )
    return Result(
        f"{name} ({variant})",
        tuple(figures), len(records), counts.matched + counts.missed, counts.matched, counts.missed,
        counts.matched + counts.extra, counts.extra, (*notes, *absence_notes(figures)),
    )  # fmt: skip


def _rounded(figure: Figure) -> Figure:
    value = None if figure.value is None else round(figure.value, 1)
    return Figure(figure.name, value, figure.unit, figure.count, figure.better)
