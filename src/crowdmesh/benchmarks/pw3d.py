"""The 3DPW protocol of the field (Multi-HMR, SAT-HMR, MA-HMR); Hi4D is measured in the same way.

Truth is the gendered SMPL surface. On both sides the 17 joints of Human3.6M are regressed from the surface
(``J_regressor_h36m_correct``), and everything is relative to the first of them, the pelvis:

| figure | over | alignment |
|---|---|---|
| MPJPE | the 14 joints :data:`crowdmesh.formats.joints.H36M14` | pelvis |
| PA-MPJPE | the same | similarity Procrustes of each person |
| MVE | the 6890 vertices | pelvis |
| height error | extent of the T-pose, from the betas alone | none |

All in millimetres, means over matched people: **who is missed does not enter**, which is why recall stands beside. The
released evaluation has the height error in metres, and may give people the stature of somebody else when it drops one
who lies outside the image; here everybody keeps their own, and nobody is dropped, since the annotations do not say how
large the image is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

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
from crowdmesh.benchmarks._smpl_bodies import MeshPeople, load_bodies, load_regressor, smpl_truth
from crowdmesh.benchmarks.result import Result
from crowdmesh.formats import SMPLPeople
from crowdmesh.formats.joints import H36M14
from crowdmesh.metrics import mpjpe, pa_mpjpe, stature_error_m, vertex_error
from crowdmesh.scene import Scene

NAME = "3DPW"
MPJPE, PA_MPJPE, MVE, HEIGHT = "MPJPE", "PA-MPJPE", "MVE", "height error"
_MM = 1000.0


def evaluate(
    annotations: Mapping[str, SMPLPeople],
    predictions: Mapping[str, Scene | None],
    corrected: bool = False,
    smpl_folders: list[Path] | None = None,
    name: str = NAME,
) -> Result:
    """Score scenes against the annotations of every image.

    Args:
        annotations, predictions: by image name. Annotated images without a prediction count with everybody missed.
        corrected: match by the best assignment instead of the released greedy search, keep the kid axis of the truth,
            and add errors over F1, in which missed and extra people weigh; the name of the protocol says so.
        smpl_folders: where the SMPL files and the regressor lie; by default ``smpl/`` of the asset folders.
        name: the data set's name for the result.

    Raises:
        InputError: no annotations, no predictions, predictions for images that are not annotated, or of another body.
        AssetError: SMPL files or the regressor are missing; says how to get them.
    """
    check_images(annotations, predictions)
    bodies = load_bodies({gender for people in annotations.values() for gender in people.genders}, smpl_folders)
    errors = errors_with(load_regressor(smpl_folders))
    records = [
        measure(image, smpl_truth(people, bodies, corrected), predictions.get(image), errors, corrected, name)
        for image, people in annotations.items()
    ]
    return summarise(records, corrected, name)


def errors_with(regressor: Float[np.ndarray, "17 6890"]) -> Errors:
    """The errors of matched people, millimetres, joints taken by the given regressor."""

    def errors(predicted: MeshPeople, true: MeshPeople) -> dict[str, np.ndarray]:
        joints, true_joints = predicted.regressed(regressor), true.regressed(regressor)
        surfaces = vertex_error(predicted.vertices_m, true.vertices_m, joints[:, 0], true_joints[:, 0])
        return {
            MPJPE: _MM * mpjpe(joints, true_joints, root=0, joints=H36M14),
            PA_MPJPE: _MM * pa_mpjpe(joints, true_joints, joints=H36M14),
            MVE: _MM * surfaces,
            HEIGHT: _MM * stature_error_m(predicted.stature_m, true.stature_m),
        }

    return errors


def measure(
    image: str, truth: MeshPeople, scene: Scene | None, errors: Errors, corrected: bool = False, name: str = NAME
) -> MeshRecord:
    """Match and measure one image. ``scene``: ``None`` or without people: everybody is missed."""
    return measure_mesh(image, truth, scene, errors, name, corrected)


def summarise(records: Iterable[MeshRecord], corrected: bool = False, name: str = NAME) -> Result:
    """The figures over all images, whatever their order. As released, precision, recall and F1 have two digits.

    Raises:
        InputError: no record, or two of one image.
    """
    records = checked_records(records)
    counts = detections_of(records)
    figures = [mean_figure(records, figure) for figure in (MPJPE, PA_MPJPE, MVE, HEIGHT)]
    if corrected:
        figures += [normalised("NMJE", figures[0], counts.f1), normalised("NMVE", figures[2], counts.f1)]
    figures += detection_figures(counts, None if corrected else 2)
    notes = ["Errors are of matched people; who was missed does not enter them."]
    if corrected:
        notes.append(
            "The matching is not the released one: the best assignment of people instead of a greedy search that stops "
            "early; do not mix with published figures. NMJE and NMVE are errors over F1."
        )
    return Result(
        f"{name} (corrected matching)" if corrected else f"{name} (official release)",
        tuple(figures), len(records), counts.matched + counts.missed, counts.matched, counts.missed,
        counts.matched + counts.extra, counts.extra, (*notes, *absence_notes(figures)),
    )  # fmt: skip
