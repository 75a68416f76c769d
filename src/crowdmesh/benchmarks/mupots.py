"""MuPoTS-3D (Mehta et al. 2018): joints in three dimensions, scored as the paper's release or the data set does.

Both protocols match people by their image joints, compare them relative to the pelvis with the bones of the prediction
brought to the true lengths, and count joints nearer than 150 mm. They differ in what they compare and average:

| | released (the paper's tables) | standard (the data set's own script) |
|---|---|---|
| truth | metric skeleton (``annot3``) | skeleton of one size for everybody (``univ_annot3``) |
| joints | 14, those labelled occluded left out | 14, occluded or not |
| mean | over the people of all sequences | over sequences, each over its people and joints |

``All`` counts missed people with every joint wrong, ``Match`` leaves them out.

The released code has no MPJPE, which the paper's Tables 1 and 8 give. Ours: the mean over matched people of the mean
distance of the 14 joints (``H36M14``), occluded or not, both poses relative to their pelvis, millimetres, metric truth,
bones and scale as predicted, no alignment. PA-MPJPE is the same after similarity Procrustes over the 14 joints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.benchmarks._checks import absence_notes, check_images, check_records
from crowdmesh.benchmarks.predictions import record_arrays
from crowdmesh.benchmarks.result import Figure, Result
from crowdmesh.errors import InputError
from crowdmesh.formats.joints import H36M14
from crowdmesh.formats.mupots import MuPoTSPerson
from crowdmesh.metrics import Ratio, Samples, correct_joints, mpjpe, pa_mpjpe

PCK_THRESHOLD_MM = 150.0
MATCH_RADIUS_PX = 40.0
"""A joint speaks for a match when both its coordinates are nearer than this."""

MPI_FROM_H36M = (10, 8, 14, 15, 16, 11, 12, 13, 4, 5, 6, 1, 2, 3, 0, 7, 9)
"""The release's way from Human3.6M-17 to the data set's order. It has the left leg where the data set has the right
one, for prediction and truth alike; only the occlusion labels, which stay as they are, then speak of the other leg."""

RAW_FROM_H36M = (10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9)
"""The right way, with every joint where the data set has it."""

_PELVIS, _SCORED = 14, 14  # number of the pelvis, and the first joints, which are scored, in the data set's order
_PARENTS = (1, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, 14, 14, 1)
_FROM_THE_PELVIS = (15, 1, 0, 16, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)  # parents before their children
_MISSED_MM = 1e5  # where the evaluation puts every joint of a missed person
_SEQUENCES = 20


@dataclass(frozen=True, eq=False)
class MuPoTSPrediction:
    """The predicted people of one frame, joints in the order of Human3.6M-17.

    Attributes:
        joints_px: (P, 17, 2) image points, pixels. joints_mm: (P, 17, 3) camera frame, millimetres.
        note: one sentence for the result on where these numbers come from, or empty.
    """

    joints_px: Float[np.ndarray, "P 17 2"]
    joints_mm: Float[np.ndarray, "P 17 3"]
    note: str = ""

    def __post_init__(self) -> None:
        for name, last in (("joints_px", 2), ("joints_mm", 3)):
            value = np.asarray(getattr(self, name), np.float64)
            if value.ndim != 3 or value.shape[1:] != (17, last):
                raise InputError(f"{name} must have shape (people, 17, {last}), got {value.shape}")
            bad = [person for person, joints in enumerate(value) if not np.isfinite(joints).all()]
            if bad:
                raise InputError(
                    f"{name} of predicted person {bad[0]} holds NaN or infinite values; leave this person out of the "
                    "prediction, so that they count as missed"
                )
            object.__setattr__(self, name, value)
        if len(self.joints_px) != len(self.joints_mm):
            raise InputError(f"{len(self.joints_px)} people have joints_px but {len(self.joints_mm)} have joints_mm")

    def __len__(self) -> int:
        return len(self.joints_mm)


@dataclass(frozen=True, eq=False)
class FrameRecord:
    """What one frame contributes, K annotated people in their order; joints in the data set's order.

    Attributes:
        frame: its name. sequence: ``"TS1"`` to ``"TS20"``; empty if the name has none. predicted: predicted people.
        pair: (K,) number of each person's prediction, -1: missed.
        scaled_mm: (K, 17, 3) the predictions relative to the pelvis with the true bone lengths; 1e5 for the missed.
        error_mm: (K, 17) distances to the truth.
        right, counted: (K,) joints that are right, and joints that count. indexed: (K,) right among the joints that
            the release's other PCK looks at (see :func:`summarise`).
        mpjpe_mm, pa_mpjpe_mm: of the matched people, in their order.
        note: what the prediction says of itself.
    """

    frame: str
    sequence: str
    predicted: int
    pair: Int[np.ndarray, " K"]
    scaled_mm: Float[np.ndarray, "K 17 3"]
    error_mm: Float[np.ndarray, "K 17"]
    right: Int[np.ndarray, " K"]
    counted: Int[np.ndarray, " K"]
    indexed: Int[np.ndarray, " K"]
    mpjpe_mm: Float[np.ndarray, " M"]
    pa_mpjpe_mm: Float[np.ndarray, " M"]
    note: str = ""


def predictions_of_records(records: Mapping[str, Mapping[str, Any]]) -> dict[str, MuPoTSPrediction]:
    """Predictions from plain records ``{frame: {"joints_px": (P, 17, 2), "joints_mm": (P, 17, 3)}}``.

    Raises:
        InputError: a missing or unknown key, a wrong shape, NaN; names frame and person.
    """
    found = {}
    for frame, record in records.items():
        pixels, metric = record_arrays(frame, record, ("joints_px", "joints_mm"))
        pixels = pixels if pixels.size else pixels.reshape(0, 17, 2)
        metric = metric if metric.size else metric.reshape(0, 17, 3)
        try:
            found[frame] = MuPoTSPrediction(pixels, metric)
        except InputError as error:
            raise InputError(f"prediction of {frame}: {error}") from error
    return found


def evaluate(
    annotations: Mapping[str, tuple[MuPoTSPerson, ...]],
    predictions: Mapping[str, MuPoTSPrediction],
    standard: bool = False,
) -> Result:
    """Score predictions against the annotations of every frame.

    Args:
        annotations, predictions: by frame name, in which a part ``TS1`` ... ``TS20`` names the sequence. Annotated
            frames without a prediction count with everybody missed.
        standard: the data set's own protocol instead of the released one (see the head of this module).

    Raises:
        InputError: no annotations, no predictions at all, predictions for frames that are not annotated; for the
            standard protocol, a frame without a sequence or a person without the universal skeleton.
    """
    check_images(annotations, predictions)
    records = [measure(frame, people, predictions.get(frame), standard) for frame, people in annotations.items()]
    return summarise(records, standard)


def measure(
    frame: str, people: tuple[MuPoTSPerson, ...], prediction: MuPoTSPrediction | None, standard: bool = False
) -> FrameRecord:
    """Match and judge one frame. ``prediction``: ``None`` or without people: everybody is missed."""
    found = re.search(r"(?:^|[/\\])(TS\d+)(?=[/\\_.]|$)", frame)
    if standard and (found is None or any(person.universal_mm is None for person in people)):
        what = "a sequence (TS1 to TS20) in its name" if found is None else "the universal skeleton of every person"
        raise InputError(f"the standard MuPoTS protocol needs {what}, which frame {frame} lacks")
    if prediction is None:
        prediction = MuPoTSPrediction(np.zeros((0, 17, 2)), np.zeros((0, 17, 3)))
    order = list(RAW_FROM_H36M if standard else MPI_FROM_H36M)
    true_px = np.array([person.joints_px for person in people]).reshape(-1, 17, 2)
    true_h36m = np.array([person.joints_mm for person in people]).reshape(-1, 17, 3)
    compared = np.array([p.universal_mm if standard else p.joints_mm for p in people]).reshape(-1, 17, 3)
    pair = match(prediction.joints_px[:, order], true_px[:, order], zero_is_invisible=standard)
    hit = pair >= 0
    true_mm = compared[:, order] - compared[:, [order[_PELVIS]]]
    scaled = np.full(true_mm.shape, _MISSED_MM)
    scaled[hit] = with_true_bones(prediction.joints_mm[pair[hit]][:, order], true_mm[hit])
    error = np.linalg.norm(scaled - true_mm, axis=-1)
    occluded = np.array([person.occluded for person in people], bool).reshape(-1, 17)
    counts = np.ones((len(people), _SCORED), bool) if standard else ~occluded[:, :_SCORED]
    right, counted = correct_joints(error[:, :_SCORED], PCK_THRESHOLD_MM, counts)
    matched = prediction.joints_mm[pair[hit]], true_h36m[hit]
    return FrameRecord(
        frame,
        found.group(1) if found else "",
        len(prediction),
        pair,
        scaled,
        error,
        right,
        counted,
        correct_joints(error[:, H36M14], PCK_THRESHOLD_MM)[0],
        mpjpe(*matched, root=0, joints=H36M14),
        pa_mpjpe(*matched, joints=H36M14),
        prediction.note,
    )


def match(
    predicted_px: Float[np.ndarray, "P 17 2"], true_px: Float[np.ndarray, "K 17 2"], zero_is_invisible: bool = False
) -> Int[np.ndarray, " K"]:
    """(K,) number of each person's prediction, -1: missed; joints in the data set's order.

    People choose in the order of the annotations: of the predictions still free, the one with most joints 1 to 13 (all
    scored ones but the head top) within 40 pixels in x and in y, at least one; the first of equals.

    Args:
        zero_is_invisible: a predicted joint at exactly (0, 0) speaks for nobody (the data set's script).
    """
    near = (np.abs(true_px[:, None, 1:_SCORED] - predicted_px[None, :, 1:_SCORED]) < MATCH_RADIUS_PX).all(-1)
    if zero_is_invisible:
        near &= (predicted_px[:, 1:_SCORED] != 0).any(-1)
    votes = near.sum(-1)
    pair = np.full(len(true_px), -1, np.int64)
    for person in range(len(true_px)):
        if votes.shape[1] and votes[person].max() > 0:
            pair[person] = votes[person].argmax()
            votes[:, pair[person]] = 0
    return pair


def with_true_bones(
    predicted_mm: Float[np.ndarray, "M 17 3"], true_mm: Float[np.ndarray, "M 17 3"]
) -> Float[np.ndarray, "M 17 3"]:
    """The predicted poses relative to the pelvis, every bone in its own direction but as long as the true one.

    Joints in the data set's order. The pose is rebuilt from the pelvis outwards. A predicted bone without length has no
    direction; its end stays at its start.
    """
    rebuilt = np.zeros_like(predicted_mm)
    for joint in _FROM_THE_PELVIS:
        parent = _PARENTS[joint]
        bone = predicted_mm[:, joint] - predicted_mm[:, parent]
        length = np.linalg.norm(bone, axis=-1, keepdims=True)
        wanted = np.linalg.norm(true_mm[:, joint] - true_mm[:, parent], axis=-1, keepdims=True)
        rebuilt[:, joint] = rebuilt[:, parent] + bone * (wanted / np.where(length > 0, length, 1.0))
    return rebuilt


def summarise(records: Iterable[FrameRecord], standard: bool = False) -> Result:
    """The figures over all frames, whatever their order; see the head of this module.

    As released, the PCK of a person is 1 - wrong / counted, hence 1 for a person all of whose joints are occluded,
    found or missed. ``PCK (All, H36M numbers)`` is the release's second figure: the share, over all people and
    occluded or not, of right joints among those numbered ``H36M14``. The numbers are those of Human3.6M, but the
    joints stand in the data set's order, so that pelvis, spine and head are counted in place of others.

    Raises:
        InputError: no record, or two of one frame.
    """
    records = list(records)
    check_records(record.frame for record in records)
    pair = np.concatenate([record.pair for record in records])
    people, matched = len(pair), int((pair >= 0).sum())
    predicted = sum(record.predicted for record in records)
    notes: list[str] = []
    figures = _standard_figures(records, notes) if standard else _released_figures(records)
    for name, values in (("MPJPE", "mpjpe_mm"), ("PA-MPJPE", "pa_mpjpe_mm")):
        samples = Samples(np.concatenate([getattr(record, values) for record in records]))
        figures.append(Figure(name, samples.mean, "mm", samples.count, "lower"))
    notes.append(
        "MPJPE and PA-MPJPE are of matched people: 14 joints relative to the pelvis, bones as predicted; the released "
        "code has neither."
    )
    hidden = sum(int((record.counted == 0).sum()) for record in records)
    if hidden:
        notes.append(f"{hidden} people have only occluded joints and count as entirely right, as released.")
    notes.extend(absence_notes(figures))
    notes.extend(sorted({record.note for record in records} - {""}))
    return Result(
        "MuPoTS-3D (standard)" if standard else "MuPoTS-3D (official release)",
        tuple(figures), len(records), people, matched, people - matched, predicted, predicted - matched, tuple(notes),
    )  # fmt: skip


def _released_figures(records: list[FrameRecord]) -> list[Figure]:
    right, counted, indexed, pair = (
        np.concatenate([getattr(record, name) for record in records])
        for name in ("right", "counted", "indexed", "pair")
    )
    share = 1.0 - (counted - right) / np.maximum(counted, 1)
    everybody, found = Samples(share), Samples(share[pair >= 0])
    by_number = Ratio(int(indexed.sum()), len(H36M14) * len(indexed))
    return [
        Figure("PCK (All)", everybody.mean, "", everybody.count, "higher"),
        Figure("PCK (Match)", found.mean, "", found.count, "higher"),
        Figure("PCK (All, H36M numbers)", by_number.value, "", len(indexed), "higher"),
    ]


def _standard_figures(records: list[FrameRecord], notes: list[str]) -> list[Figure]:
    sequences = sorted({record.sequence for record in records})
    if len(sequences) != _SEQUENCES:
        notes.append(f"The mean is over {len(sequences)} sequences; MuPoTS-3D has {_SEQUENCES}.")
    figures = []
    for name, matched_only in (("PCK (All)", False), ("PCK (Match)", True)):
        shares = []
        for sequence in sequences:
            parts = []
            for record in records:
                if record.sequence == sequence:
                    chosen = record.pair >= 0 if matched_only else np.ones(len(record.pair), bool)
                    parts.append(Ratio(int(record.right[chosen].sum()), int(record.counted[chosen].sum())))
            shares.append(Ratio.merged(parts).value)
        measured = Samples(np.array([share for share in shares if share is not None], float))
        if measured.count < len(sequences):
            notes.append(f"{len(sequences) - measured.count} sequences have nobody to measure and are not in {name}.")
        figures.append(Figure(name, measured.mean, "", measured.count, "higher"))
    return figures
