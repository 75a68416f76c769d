"""What 3DPW, Hi4D, AGORA and BEDLAM share: matching SMPL people by their joints in the image, and counting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from crowdmesh.benchmarks._checks import check_records
from crowdmesh.benchmarks._matching import match_best, match_greedily
from crowdmesh.benchmarks._projection import projected
from crowdmesh.benchmarks._smpl_bodies import NUM_VERTICES, MeshPeople
from crowdmesh.benchmarks.result import Figure
from crowdmesh.body import pose_people
from crowdmesh.errors import InputError
from crowdmesh.metrics import Detections, Samples
from crowdmesh.scene import Scene

MATCHED_SIDE_PX = 1288
"""The released evaluation matches in an image whose longer side has so many pixels (the network's input)."""

Errors = Callable[[MeshPeople, MeshPeople], Mapping[str, Float[np.ndarray, " n"]]]
"""From n predicted and the n annotated people they are matched with: the values of each figure, one a person."""


@dataclass(frozen=True, eq=False)
class MeshRecord:
    """What one image contributes; records of any shards and in any order sum up to the same result.

    Attributes:
        image: its name.
        people: annotated people who count. predicted: predicted people who count.
        pairs: (predicted, annotated) numbers of the matched people, the latter among those who took part.
        errors: by name of the figure, one value a pair.
    """

    image: str
    people: int
    predicted: int
    pairs: tuple[tuple[int, int], ...] = ()
    errors: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def mesh_prediction(image: str, scene: Scene, protocol: str) -> MeshPeople:
    """The people of a scene as SMPL surfaces with SMPL's joints.

    Raises:
        InputError: another body than SMPL, or a rigid one without SMPL's vertices and joints; says what to give.
    """
    people = scene.people
    if people.body == "smpl":
        posed = people.vertices_m is not None and people.joints_m is not None
        people = people if posed else pose_people(people)
    elif people.body != "rigid":
        raise InputError(
            f"the people of {image} have body {people.body!r}, but {protocol} compares the {NUM_VERTICES} vertices of "
            "SMPL one by one; predict smpl people, or rigid ones with SMPL's vertices and joints"
        )
    vertices, joints, n = people.vertices_m, people.joints_m, len(people)
    if not n:
        vertices, joints = np.zeros((0, NUM_VERTICES, 3)), np.zeros((0, 24, 3))
    if vertices is None or vertices.shape[1] != NUM_VERTICES or joints is None or joints.shape[1] < 24:
        got = " and ".join("none" if a is None else str(a.shape) for a in (vertices, joints))
        raise InputError(
            f"the people of {image} must have vertices_m (people, {NUM_VERTICES}, 3) and joints_m (people, 24, 3) in "
            f"SMPL's order for {protocol}, got {got}"
        )
    vertices, joints = vertices.astype(np.float64), joints[:, :24].astype(np.float64)
    pixels = projected(joints, scene.camera.K)
    return MeshPeople(vertices, joints, people.translation_m, people.stature_m, pixels, np.ones(n, bool))


def measure_mesh(
    image: str,
    truth: MeshPeople,
    scene: Scene | None,
    errors: Errors,
    protocol: str,
    corrected: bool = False,
    ignore_invalid: bool = False,
) -> MeshRecord:
    """Match and measure one image.

    People are matched by their 24 SMPL joints in the image, scaled so that its longer side has 1288 pixels: as
    released with :func:`match_greedily`, ``corrected`` with :func:`match_best`.

    Args:
        scene: the prediction; ``None`` or without people: everybody is missed.
        ignore_invalid: people whom the data set does not count take part in the matching but in no figure, nor does
            who is matched with them. Otherwise they do not exist, so that who is predicted there is extra.
    """
    truth = truth if ignore_invalid else truth[np.flatnonzero(truth.valid)]
    counted = truth.valid
    if scene is None or not len(scene.people):
        return MeshRecord(image, int(counted.sum()), 0)
    prediction = mesh_prediction(image, scene, protocol)
    scale = MATCHED_SIDE_PX / max(scene.camera.width, scene.camera.height)
    match = match_best if corrected else match_greedily
    matched = match(prediction.joints_px * scale, truth.joints_px * scale)
    pairs = [(p, t) for p, t in matched if counted[t]]
    values: dict[str, tuple[float, ...]] = {}
    if pairs:
        found = errors(prediction[[p for p, _ in pairs]], truth[[t for _, t in pairs]])
        values = {name: tuple(np.asarray(v).tolist()) for name, v in found.items()}
    ignored = len(matched) - len(pairs)
    return MeshRecord(image, int(counted.sum()), len(prediction) - ignored, tuple(pairs), values)


def checked_records(records: Iterable[MeshRecord]) -> list[MeshRecord]:
    """The records in the order of their images; refused if there is none, or two of one image."""
    records = sorted(records, key=lambda record: record.image)
    check_records(record.image for record in records)
    return records


def detections_of(records: Sequence[MeshRecord]) -> Detections:
    """Matched, missed and extra people of all images."""
    matched = sum(len(record.pairs) for record in records)
    people, predicted = sum(r.people for r in records), sum(r.predicted for r in records)
    return Detections(matched, people - matched, predicted - matched)


def mean_figure(records: Sequence[MeshRecord], name: str, unit: str = "mm") -> Figure:
    """The mean over the matched people of all images; absent when nobody was matched."""
    samples = Samples(np.array([value for record in records for value in record.errors.get(name, ())], float))
    return Figure(name, samples.mean, unit, samples.count, "lower")


def normalised(name: str, error: Figure, f1: float | None) -> Figure:
    """An error divided by F1, so that missed and extra people weigh; absent when nobody was matched."""
    value = error.value / f1 if error.value is not None and f1 else None
    return Figure(name, value, error.unit, error.count, "lower")


def detection_figures(counts: Detections, digits: int | None) -> list[Figure]:
    """Precision, recall and F1; ``digits``: how many they are rounded to."""
    wholes = (counts.matched + counts.extra, counts.matched + counts.missed)
    named = (
        ("precision", counts.precision, wholes[0]),
        ("recall", counts.recall, wholes[1]),
        ("F1", counts.f1, sum(wholes)),
    )
    return [
        Figure(name, value if value is None or digits is None else round(value, digits), "", whole, "higher")
        for name, value, whole in named
    ]
