"""The CMU Panoptic protocol of the field (from BMP, Jiang et al. 2020; so in SAT-HMR and MA-HMR).

Truth: joints of the data set in the order of Human3.6M-17; the annotated pelvis is first raised by 6 cm (y points
down), as BMP does, because the data set's lies lower than the one regressed from SMPL. Prediction: the 17 joints
regressed from the SMPL surface. Both are relative to their pelvis.

As released, every annotated person takes the **nearest prediction**: least Euclidean norm over the joints that all
people of the image have visible, and **several people may take the same one**; who is missed or invented costs nothing.
The error of a person is the mean over **all 17 joints** of error times visibility, so that joints that are not
annotated count as perfect. ``corrected`` assigns every prediction once (Hungarian method) and averages over the visible
joints.

MPJPE in millimetres for each of the four sequences and over all people. An image without predictions has all its people
missed and enters no mean; the release lowers its detection threshold there instead, for this and all later images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from crowdmesh.benchmarks._checks import absence_notes, check_images, check_records
from crowdmesh.benchmarks._h36m import h36m_joints, needs_regressor, note_on
from crowdmesh.benchmarks._matching import Pairs, assign
from crowdmesh.benchmarks._smpl_bodies import load_regressor
from crowdmesh.benchmarks.result import Figure, Result
from crowdmesh.errors import InputError
from crowdmesh.formats import PanopticPeople
from crowdmesh.formats.joints import H36M17_FROM_J24, J24_PELVIS
from crowdmesh.formats.panoptic import SEQUENCES
from crowdmesh.metrics import Samples, joint_errors
from crowdmesh.scene import Scene

PELVIS_RAISE_M = 0.06
"""How far the annotated pelvis is raised before anything is measured (BMP)."""

_PELVIS = 0
_MM = 1000.0


@dataclass(frozen=True, eq=False)
class PanopticRecord:
    """What one image contributes; records of any shards and in any order sum up to the same result.

    Attributes:
        image, sequence: its name, and the sequence it belongs to.
        people, predicted: how many are annotated and predicted.
        pairs: (predicted, annotated) numbers; as released, a prediction may stand in several.
        error_mm: of each pair. hidden: how many of its 17 joints are not visible.
        note: what should be known of the prediction, or empty.
    """

    image: str
    sequence: str
    people: int
    predicted: int
    pairs: tuple[tuple[int, int], ...] = ()
    error_mm: tuple[float, ...] = ()
    hidden: tuple[int, ...] = ()
    note: str = ""


def evaluate(
    annotations: Mapping[str, PanopticPeople],
    predictions: Mapping[str, Scene | None],
    corrected: bool = False,
    smpl_folders: list[Path] | None = None,
) -> Result:
    """Score scenes against the annotations of every image.

    Args:
        annotations, predictions: by image name. Annotated images without a prediction count with everybody missed.
        corrected: every prediction is used once, and only visible joints count; the name of the protocol says so.
        smpl_folders: where the joint regressor lies; by default ``smpl/`` of the asset folders.

    Raises:
        InputError: no annotations, no predictions, predictions for images that are not annotated, or a body without
            the joints.
        AssetError: SMPL people, but no joint regressor; says how to get it.
    """
    check_images(annotations, predictions)
    regressor, records = None, []
    for image, people in annotations.items():
        scene = predictions.get(image)
        if regressor is None and scene is not None and needs_regressor(scene):
            regressor = load_regressor(smpl_folders)
        joints = None if scene is None else h36m_joints(image, scene, regressor)
        note = "" if scene is None else note_on(scene)
        records.append(measure(image, people, joints, corrected, note))
    return summarise(records, corrected)


def measure(
    image: str,
    people: PanopticPeople,
    joints_m: Float[np.ndarray, "P 17 3"] | None,
    corrected: bool = False,
    note: str = "",
) -> PanopticRecord:
    """Match and measure one image.

    Args:
        joints_m: predicted joints in the order of Human3.6M-17, camera frame, metres; ``None`` or nobody: everybody is
            missed.

    Raises:
        InputError: NaN; names the image.
    """
    if joints_m is None or not len(joints_m) or not len(people):
        return PanopticRecord(image, people.sequence, len(people), 0 if joints_m is None else len(joints_m), note=note)
    if not np.isfinite(joints_m).all():
        bad = int(np.argmin(np.isfinite(joints_m).all((1, 2))))
        raise InputError(f"predicted person {bad} of {image} has NaN or infinite joints; leave this person out")
    true, visibility = true_joints(people)
    predicted = joints_m - joints_m[:, [_PELVIS]]
    pairs = _assigned(predicted, true, visibility) if corrected else _nearest(predicted, true, visibility)
    chosen, whom = [p for p, _ in pairs], [t for _, t in pairs]
    weight = visibility[whom]
    weighted = joint_errors(predicted[chosen], true[whom]) * weight
    error = weighted.sum(1) / weight.sum(1) if corrected else weighted.mean(1)
    return PanopticRecord(
        image,
        people.sequence,
        len(people),
        len(joints_m),
        tuple(pairs),
        tuple((_MM * error).tolist()),
        tuple((weight == 0).sum(1).tolist()),
        note,
    )


def true_joints(people: PanopticPeople) -> tuple[Float[np.ndarray, "n 17 3"], Float[np.ndarray, "n 17"]]:
    """The annotated joints in the order of Human3.6M-17 relative to the raised pelvis, metres, and their visibility."""
    joints = people.joints_m.copy()
    joints[:, J24_PELVIS, 1] -= PELVIS_RAISE_M
    order = list(H36M17_FROM_J24)
    return joints[:, order] - joints[:, [J24_PELVIS]], people.visibility[:, order]


def _nearest(predicted: np.ndarray, true: np.ndarray, visibility: np.ndarray) -> Pairs:
    """Every annotated person with the nearest prediction; the first of equals."""
    common = visibility.sum(0) >= len(true) - 0.1
    distance = np.linalg.norm((predicted[:, None] - true[None])[:, :, common], axis=(-2, -1))
    return [(int(p), t) for t, p in enumerate(distance.argmin(0))]


def _assigned(predicted: np.ndarray, true: np.ndarray, visibility: np.ndarray) -> Pairs:
    """Everybody who has a visible joint with a prediction of their own, at least total mean error."""
    seen = visibility.sum(1) > 0
    error = (np.linalg.norm(predicted[:, None] - true[None], axis=-1) * visibility).sum(-1)
    cost = error / np.where(seen, visibility.sum(1), 1.0)
    return assign(cost, np.broadcast_to(seen, cost.shape))


def summarise(records: Iterable[PanopticRecord], corrected: bool = False) -> Result:
    """The figures over all images, whatever their order. Extra predictions are those nobody took.

    Raises:
        InputError: no record, or two of one image.
    """
    records = list(records)
    check_records(record.image for record in records)
    samples = {
        name: Samples(np.array([e for r in records if r.sequence == name for e in r.error_mm], float))
        for name in SEQUENCES
    }
    everybody = Samples.merged(samples.values())
    figures = [Figure(f"MPJPE {name}", part.mean, "mm", part.count, "lower") for name, part in samples.items()]
    figures.append(Figure("MPJPE", everybody.mean, "mm", everybody.count, "lower"))
    people, predicted = sum(r.people for r in records), sum(r.predicted for r in records)
    used = sum(len({p for p, _ in r.pairs}) for r in records)
    matched = everybody.count
    return Result(
        "CMU Panoptic (corrected matching)" if corrected else "CMU Panoptic (official release)",
        tuple(figures), len(records), people, matched, people - matched, predicted, predicted - used,
        (*_notes(records, corrected, matched - used), *absence_notes(figures)),
    )  # fmt: skip


def _notes(records: list[PanopticRecord], corrected: bool, shared: int) -> list[str]:
    hidden = sum(sum(record.hidden) for record in records)
    if corrected:
        notes = [
            "Every prediction is used once and only visible joints count, unlike in the released evaluation; do not "
            "mix with published figures."
        ]
    else:
        notes = [
            f"As released, people take the nearest prediction, {shared} of them one that somebody else took, and "
            f"{hidden} joints that are not visible count as perfect."
        ]
    return notes + sorted({record.note for record in records} - {""})
