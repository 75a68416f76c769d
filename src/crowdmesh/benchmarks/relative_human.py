"""The Relative Human protocol (Sun et al. 2022): order in depth, PCDR_0.2, and keypoints in the image, mPCKh_0.6."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from crowdmesh.benchmarks._checks import absence_notes, check_images, check_records
from crowdmesh.benchmarks._rh_matching import crowdpose_keypoints, match_corrected, match_released
from crowdmesh.benchmarks._rh_predictions import (
    RelativeHumanPrediction,
    predictions_from_scenes,
    predictions_of_records,
)
from crowdmesh.benchmarks.result import Figure, Result
from crowdmesh.formats.relative_human import AGES, RelativeHumanPerson
from crowdmesh.metrics import MISSED_PENALTY, Samples, depth_relations, mpckh, pcdr

__all__ = [
    "ImageRecord",
    "RelativeHumanPrediction",
    "evaluate",
    "measure",
    "predictions_from_scenes",
    "predictions_of_records",
    "summarise",
]

_TOO_FEW_KEYPOINTS = -1.0  # what the released evaluation notes for a person with fewer than two visible keypoints
_IN_IMAGE_PX = -1.0  # the released keypoint score counts joints with both coordinates above this


@dataclass(frozen=True)
class ImageRecord:
    """What one image contributes; records of any shards and in any order sum up to the same result.

    Attributes:
        image: its name.
        annotated: people with keypoint annotations. predicted: predicted people.
        match: (predicted, annotated) numbers in the order in which they were matched. As released, the annotated
            number is that of the person whose labels were read (see :func:`measure`).
        missed: numbers, likewise, of the annotated people who count as missed. missed_ages: their ages.
        keypoint_share: of each match, the share of its visible keypoints that are right, -1 if there are too few.
        pair_gap_m, pair_layer_gap, pair_ages, pair_correct: every pair of matched people with known depth layers:
            predicted and annotated difference (second minus first), the ages of the second and the first person, and
            whether the differences agree.
        note: what the prediction says of itself.
    """

    image: str
    annotated: int
    predicted: int
    match: tuple[tuple[int, int], ...] = ()
    missed: tuple[int, ...] = ()
    missed_ages: tuple[int, ...] = ()
    keypoint_share: tuple[float, ...] = ()
    pair_gap_m: tuple[float, ...] = ()
    pair_layer_gap: tuple[int, ...] = ()
    pair_ages: tuple[tuple[int, int], ...] = ()
    pair_correct: tuple[bool, ...] = ()
    note: str = ""


def evaluate(
    annotations: Mapping[str, tuple[RelativeHumanPerson, ...]],
    predictions: Mapping[str, RelativeHumanPrediction],
    corrected: bool = False,
) -> Result:
    """Score predictions against the annotations of every image.

    As released (``corrected=False``), with everything that makes its figures: see :func:`measure` for the matching and
    :func:`summarise` for the figures. Annotated images without a prediction count with everybody missed.

    Args:
        annotations, predictions: by image name; the name tells which skeleton 19 keypoints belong to.
        corrected: repair the matching; the name of the protocol says so.

    Raises:
        InputError: no annotations, no predictions at all, or predictions for images that are not annotated.
    """
    check_images(annotations, predictions)
    return summarise(
        (measure(image, people, predictions.get(image), corrected) for image, people in annotations.items()), corrected
    )


def measure(
    image: str,
    people: tuple[RelativeHumanPerson, ...],
    prediction: RelativeHumanPrediction | None,
    corrected: bool = False,
) -> ImageRecord:
    """Match and judge one image. ``prediction``: ``None`` or without people: everybody is missed.

    As released: people without keypoints do not take part; people whose keypoints are all unannotated are left out of
    the matching, but ages and depth layers are then read from the list that still has them, so that in such images
    people carry the labels of others. They count as missed only in an image without a prediction.
    ``corrected``: everybody carries their own labels, and people without a single annotated keypoint never count.

    Raises:
        InputError: keypoints of an unexpected skeleton; names the image.
    """
    numbers = [number for number, person in enumerate(people) if person.keypoints_px is not None]
    points = [crowdpose_keypoints(people[n].keypoints_px, image) for n in numbers]  # type: ignore[arg-type]
    true_px = np.array([p for p, _ in points]).reshape(-1, 14, 2)
    visible = np.array([v for _, v in points], bool).reshape(-1, 14)
    shown = np.flatnonzero(visible.any(1))
    if prediction is None or not len(prediction):
        lost = shown.tolist() if corrected else range(len(numbers))
        missed = tuple(numbers[i] for i in lost)
        return ImageRecord(image, len(numbers), 0, (), missed, tuple(people[n].age for n in missed))
    matcher = match_corrected if corrected else match_released
    pairs = matcher(prediction.joints_px, true_px[shown], visible[shown])
    matched = {true for _, true in pairs}
    missed = [true for true in range(len(shown)) if true not in matched]
    named = [numbers[i] for i in (shown if corrected else range(len(shown)))]
    labels = [people[number] for number in named]
    predicted = np.array([p for p, _ in pairs], np.int64)
    true = np.array([t for _, t in pairs], np.int64)
    relations = depth_relations(
        prediction.translation_z_m[predicted], np.array([labels[t].depth_layer for t in true], np.int64)
    )
    ages = [labels[t].age for t in true]
    scored = visible[shown][true] if corrected else np.all(true_px[shown][true] > _IN_IMAGE_PX, axis=-1)
    right, counted = mpckh(prediction.joints_px[predicted], true_px[shown][true], scored)
    share = np.where(counted > 0, right / np.maximum(counted, 1), _TOO_FEW_KEYPOINTS)
    return ImageRecord(
        image,
        len(numbers),
        len(prediction),
        match=tuple((p, named[t]) for p, t in pairs),
        missed=tuple(named[t] for t in missed),
        missed_ages=tuple(labels[t].age for t in missed),
        keypoint_share=tuple(share.tolist()),
        pair_gap_m=tuple(relations.gap_m.tolist()),
        pair_layer_gap=tuple(relations.layer_gap.tolist()),
        pair_ages=tuple((ages[j], ages[i]) for i, j in zip(relations.first, relations.second, strict=True)),
        pair_correct=tuple(relations.correct.tolist()),
        note=prediction.note,
    )


def summarise(records: Iterable[ImageRecord], corrected: bool = False) -> Result:
    """The figures over all images, whatever their order.

    PCDR_0.2 is right pairs over (pairs + 0.3 missed people), overall and for the pairs and missed people of each age
    group; a pair belongs to the groups of both its people. mPCKh_0.6 is the mean share over matched people; as
    released, a person with fewer than two visible keypoints enters as -1 (``corrected``: not at all). Precision is
    right / (right + extra), recall right / (right + missed); as released, "right" is the predicted people minus the
    missed ones, and all three figures are rounded to two digits (``corrected``: the matched people, not rounded).

    Raises:
        InputError: no record, or two of one image.
    """
    records = list(records)
    check_records(record.image for record in records)
    figures = [_pcdr(records, "PCDR_0.2", None)]
    figures += [_pcdr(records, f"PCDR_0.2 {name}", group) for group, name in enumerate(AGES)]
    shares = [share for record in records for share in record.keypoint_share]
    too_few = sum(share == _TOO_FEW_KEYPOINTS for share in shares)
    samples = Samples(np.array([s for s in shares if not (corrected and s == _TOO_FEW_KEYPOINTS)], float))
    figures.append(Figure("mPCKh_0.6", samples.mean, "", samples.count, "higher"))
    figures += _detection(records, corrected)
    matched, missed = sum(len(r.match) for r in records), sum(len(r.missed) for r in records)
    people, predicted = sum(r.annotated for r in records), sum(r.predicted for r in records)
    notes = _notes(figures, missed, predicted, people - matched - missed, too_few, corrected)
    notes += tuple(sorted({record.note for record in records} - {""}))
    return Result(
        "Relative Human (corrected matching)" if corrected else "Relative Human (official)",
        tuple(figures), len(records), people, matched, missed, predicted, predicted - matched,
        notes,
    )  # fmt: skip


def _pcdr(records: list[ImageRecord], name: str, group: int | None) -> Figure:
    correct = [
        right
        for record in records
        for right, ages in zip(record.pair_correct, record.pair_ages, strict=True)
        if group is None or group in ages
    ]
    missed = sum(group is None or age == group for record in records for age in record.missed_ages)
    return Figure(name, pcdr(sum(correct), len(correct), missed), "", len(correct), "higher")


def _detection(records: list[ImageRecord], corrected: bool) -> list[Figure]:
    predicted = sum(r.predicted for r in records)
    matched, missed = sum(len(r.match) for r in records), sum(len(r.missed) for r in records)
    right = matched if corrected else predicted - missed
    claimed, real = right + predicted - matched, right + missed
    precision = right / claimed if predicted and claimed else None
    recall = right / real if matched + missed and real else None
    f1 = None
    if precision is not None and recall is not None:
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    values = [v if corrected or v is None else round(v, 2) for v in (precision, recall, f1)]
    counts = (predicted, matched + missed, predicted + matched + missed)
    names = ("precision", "recall", "F1")
    return [Figure(name, value, "", count, "higher") for name, value, count in zip(names, values, counts, strict=True)]


def _notes(
    figures: list[Figure], missed: int, predicted: int, ignored: int, too_few: int, corrected: bool
) -> tuple[str, ...]:
    notes = [f"A missed person counts as {MISSED_PENALTY:g} wrong pairs in every PCDR."]
    if corrected:
        notes.append(
            "The matching is not the released one: boxes span visible joints only, every pair is visited, the cost is "
            "the mean joint distance, and everybody keeps their own age and layer; do not mix with published figures."
        )
    notes.extend(absence_notes(figures))
    if missed > predicted and not corrected:
        notes.append("More people were missed than predicted: the released precision, recall and F1 then mean nothing.")
    if ignored:
        notes.append(f"{ignored} people without a visible keypoint are neither matched nor missed.")
    if too_few:
        what = "are left out of mPCKh_0.6" if corrected else "enter mPCKh_0.6 as -1, as released"
        notes.append(f"{too_few} matched people with fewer than two visible keypoints {what}.")
    return tuple(notes)
