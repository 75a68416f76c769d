"""The first guess of images whose people the source gives: experts add what is not known of them yet.

Everybody whom the source has stays, in the source's order. Boxes, masks, ages and sexes come from the detections that
show them, as far as the source does not give these itself; whom nobody detected has no known age and is not confined to
a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.body import BodyModel, body_of
from crowdmesh.camera import Camera
from crowdmesh.dto.place import posed_scene
from crowdmesh.errors import InputError
from crowdmesh.experts import Attributes, Detections, Experts, InputImage, Keypoints
from crowdmesh.experts._mask_codes import join_masks
from crowdmesh.experts._nms import best_pairs, box_inside, box_overlap
from crowdmesh.experts._people_crops import unknown_attributes
from crowdmesh.experts._projected import in_image, project_people
from crowdmesh.experts.first_guess import Party, attributes_of, find_people, give_bodies, locate, with_attributes
from crowdmesh.experts.matching import MIN_CONFIDENCE, PAPER_RADIUS_HEADS, Targets, match_meshes
from crowdmesh.experts.nothing import NoKeypoints, NoPersons
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.pgt._people_sets import join_people, whole_images
from crowdmesh.pgt.records import Guessed, Loaded

MIN_OVERLAP = 0.5
"""Least intersection over union of a label's and a detection's box that are one person."""

MIN_INSIDE = 0.8
"""Least share of a detection's box inside a label's that are one person of whom only a part is seen (ours)."""


class OtherBodyError(InputError):
    """People are to be added whose body is not that of the labels: no image would fare better."""


def input_image(loaded: Loaded) -> InputImage:
    """An image as experts see it; those that look something up by file name get its name in the set at least.

    Raises:
        InputError: its pixels were not read.
    """
    if loaded.pixels is None:
        raise InputError("experts need the pixels of an image, which were not read")
    sample = loaded.sample
    return InputImage(loaded.pixels, sample.image if sample.image is not None else Path(sample.entry.key))


def guess_given(experts: Experts | None, images: Sequence[Loaded], add_people: bool) -> list[Guessed]:
    """The first guess of images whose samples have people, without depth maps that the source has not.

    Experts are asked about the images that lack masks, ages or sexes, and with ``add_people`` about all. ``--persons
    none`` takes the people's own boxes for detections.

    Args:
        experts: ``None``: nobody is asked.
        add_people: whether detected people whom the source lacks are added, with the body an expert fits them.

    Raises:
        OtherBodyError: people are to be added whose body is not that of the labels.
    """
    if experts is None:
        return [_Given(one).guessed() for one in images]
    given = [_Given(one) for one in images]
    asked = [one for one in given if add_people or one.lacks_evidence]
    if asked:
        _ask(experts, asked, add_people)
    return [one.guessed() for one in given]


def _ask(experts: Experts, given: Sequence[_Given], add_people: bool) -> None:
    """Complete the people of these images."""
    for one in given:
        one.pose()
    if isinstance(experts.persons, NoPersons):
        parties = [one.own_party() for one in given]
        if met := [party for party in parties if party.met]:
            if isinstance(experts.keypoints, NoKeypoints):
                _take_own_keypoints(given, parties)
            else:
                locate(experts, met, None)
    else:
        parties = find_people(experts, [input_image(one.loaded) for one in given], [one.camera for one in given])
        for one, party in zip(given, parties, strict=True):
            one.match(party)
    curious = [
        (one, party)
        for one, party in zip(given, parties, strict=True)
        if len(party.detections) and (one.lacks_ages or add_people)
    ]
    answers = attributes_of(experts, [party for _, party in curious]) if curious else []
    known = {id(one): answer for (one, _), answer in zip(curious, answers, strict=True)}
    attributes = [
        known.get(id(one), unknown_attributes(len(party.detections))) for one, party in zip(given, parties, strict=True)
    ]
    for one, party, answer in zip(given, parties, attributes, strict=True):
        one.learn(party, answer)
        if not add_people and (left := len(one.strangers(party))):
            one.notes.append(f"not added: {left} detected people whom the source lacks")
    if add_people:
        _add(experts, given, parties, attributes)


def _take_own_keypoints(given: Sequence[_Given], parties: Sequence[Party]) -> None:
    for one, party in zip(given, parties, strict=True):
        if one.people.keypoints_px is not None:
            party.keypoints = Keypoints(one.people.keypoints_px[one.detection >= 0])


def _add(experts: Experts, given: Sequence[_Given], parties: Sequence[Party], attributes: Sequence[Attributes]) -> None:
    """Give bodies to detected people whom the source lacks, and put them behind those it has."""
    extras = []
    for one, party, answer in zip(given, parties, attributes, strict=True):
        rows = one.addable(party)
        if len(rows):
            extra = Party(party.image, party.camera, party.detections[rows])
            extra.keypoints = party.keypoints[rows]
            extras.append((one, extra, answer[rows]))
    if not extras:
        return
    trusted = give_bodies(experts, [extra for _, extra, _ in extras])
    for (one, extra, answer), kept in zip(extras, trusted, strict=True):
        one.notes += extra.notes
        one.add(with_attributes(extra.people, answer[kept]))


class _Given:
    """The people of one image, while more is found out about them.

    Attributes:
        detection: (T,) the detection of each person whom the source has, -1 for who was not detected.
        boxes_px: (T, 4) around their bodies as projected, inside the image.
    """

    def __init__(self, loaded: Loaded) -> None:
        scene = loaded.sample.people
        assert scene is not None
        self.loaded, self.scene, self.camera, self.people = loaded, scene, scene.camera, scene.people
        self.count = len(scene.people)
        self.notes: list[str] = []

    @property
    def lacks_ages(self) -> bool:
        """Whether age or sex is not said of anybody."""
        return self.people.age_years is None or self.people.male_probability is None

    @property
    def lacks_evidence(self) -> bool:
        """Whether there is something to ask experts about people whom the source has."""
        return self.count > 0 and (self.people.masks is None or self.lacks_ages)

    def pose(self) -> None:
        """Give everybody surface and joints."""
        self.body: BodyModel = body_of(self.people)
        self.people = posed_scene(self.scene, self.body).people
        assert self.people.vertices_m is not None
        self.boxes_px = projected_boxes(self.people.vertices_m, self.camera)
        self.detection = np.full(self.count, -1)

    def own_party(self) -> Party:
        """Everybody in the image with their own boxes as detections, however confident."""
        boxes = self.boxes_px if self.people.boxes_px is None else self.people.boxes_px
        limits = (self.camera.width, self.camera.height) * 2
        inside = np.clip(boxes, 0.0, limits)
        seen = np.flatnonzero(np.all(inside[:, 2:] > inside[:, :2], axis=1))
        self.detection[seen] = np.arange(len(seen))
        return Party(input_image(self.loaded), self.camera, Detections(inside[seen], np.ones(len(seen))))

    def match(self, party: Party) -> None:
        """Find everybody's detection."""
        targets = project_people(self.people, self.body, self.camera) if self.count else _no_targets()
        own = self.people.keypoints_px
        if own is not None and self.count:
            seen = own[..., 2:] >= MIN_CONFIDENCE
            targets = Targets(np.where(seen, own[..., :2], targets.points_px), targets.head_px)
        self.detection = match_labels(targets, self.boxes_px, party.detections, party.keypoints)

    def learn(self, party: Party, known: Attributes) -> None:
        """Take over what detections say of everybody, as far as the source does not say it."""
        self.notes += party.notes
        hit, row, people = self.detection >= 0, self.detection, self.people
        found, points = party.detections, party.keypoints

        def taken(values: np.ndarray, otherwise: np.ndarray | float) -> np.ndarray:
            full = np.broadcast_to(np.asarray(otherwise, float), (self.count, *values.shape[1:])).copy()
            full[hit] = values[row[hit]]
            return full

        fresh: dict[str, np.ndarray] = {
            "boxes_px": taken(found.boxes_px, self.boxes_px),
            "scores": taken(found.scores, 0.0),
            "keypoints_px": taken(finite_keypoints(points.coco17_px), 0.0),
            "male_probability": taken(known.male_probability, np.nan),
        }
        if people.age_years is None:
            fresh["age_years"] = taken(known.age_years, np.nan)
            fresh["age_std_years"] = taken(known.age_std_years, np.nan)
        missing = {name: values for name, values in fresh.items() if getattr(people, name) is None}
        masks = people.masks
        if masks is None and (detected := found.masks if found.masks is not None else points.masks) is not None:
            masks = _masks_of(detected, row, self.camera)
        self.people = replace(people, masks=masks, **missing)
        self._tell()

    def _tell(self) -> None:
        """Put into notes whom nobody detected, and whose age is unknown."""
        if len(lost := np.flatnonzero(self.detection < 0)):
            self.notes.append(f"not detected: labelled person {_listed(lost)}")
        ages = self.people.age_years
        if ages is not None and len(ageless := np.flatnonzero(np.isnan(ages))):
            self.notes.append(f"age unknown of person {_listed(ageless)}")

    def strangers(self, party: Party) -> Int[np.ndarray, " n"]:
        """Detections of people whom the source lacks."""
        return np.setdiff1d(np.arange(len(party.detections)), self.detection)

    def addable(self, party: Party) -> Int[np.ndarray, " n"]:
        """Detections of people to be added.

        Not among them is who covers somebody whom nobody detected: that may be the same person in another pose.
        """
        free = self.strangers(party)
        lost = self.boxes_px[self.detection < 0]
        near = (box_overlap(party.detections.boxes_px[free], lost) >= MIN_OVERLAP).any(axis=1)
        if near.any():
            self.notes.append(f"not added: {near.sum()} detected people who may be labelled ones in another pose")
        return free[~near]

    def add(self, people: People) -> None:
        """Put more people behind those there are."""
        if not len(people):
            return
        if self.count and people.body != self.people.body:
            raise OtherBodyError(
                f"the labels are {self.people.body} bodies and the mesh expert makes {people.body}; choose a mesh "
                f"expert that makes {self.people.body}, or add nobody"
            )
        self.people = join_people(self.people, people, self.camera) if self.count else people

    def guessed(self) -> Guessed:
        """Everybody, as far as they are known now."""
        sample, added = self.loaded.sample, len(self.people) - self.count
        rows = sample.label_rows
        if rows is not None and added:
            rows = np.concatenate((rows, np.full(added, -1)))
        return Guessed(
            loaded=self.loaded,
            scene=replace(self.scene, people=self.people, image=None),
            depth=sample.depth,
            origins=("labelled",) * self.count + ("detected",) * added,
            label_rows=rows,
            focal_std=sample.focal_std,
            notes=tuple(self.notes),
        )


def match_labels(
    labels: Targets, boxes_px: Float[np.ndarray, "T 4"], detections: Detections, keypoints: Keypoints
) -> Int[np.ndarray, " T"]:
    """The detection of each labelled person, -1 for none; none twice.

    Detections with confident keypoints go to the body they agree with, as meshes go to people (:func:`match_meshes`,
    the paper's radius, optimally). Those without go to whom their box overlaps best among the others, and what is then
    left to bodies that their box lies inside: a detection shows the seen part of somebody, a label the whole body.
    """
    queries = finite_keypoints(keypoints.coco17_px)
    match = match_meshes(queries, labels, labels, PAPER_RADIUS_HEADS, optimal=True)
    detection = np.full(len(labels), -1)
    sure = np.flatnonzero(match.target >= 0)
    detection[match.target[sure]] = sure
    blind = np.flatnonzero(~np.any(queries[..., 2] >= MIN_CONFIDENCE, axis=1))
    for hidden in (False, True):
        free = np.flatnonzero(detection < 0)
        left = np.setdiff1d(blind, detection)
        if not (len(left) and len(free)):
            break
        overlap = box_overlap(boxes_px[free], detections.boxes_px[left])
        inside = box_inside(boxes_px[free], detections.boxes_px[left])
        found = best_pairs(inside >= MIN_INSIDE if hidden else overlap >= MIN_OVERLAP, overlap)
        detection[free] = np.where(found >= 0, left[found], -1)
    return detection


def projected_boxes(vertices_m: Float[np.ndarray, "K V 3"], camera: Camera) -> Float[np.ndarray, "K 4"]:
    """Left, top, right, bottom of bodies in the image; zeros for those behind the camera."""
    if not len(vertices_m):
        return np.zeros((0, 4))
    points = in_image(camera, vertices_m.astype(float))
    behind = np.isnan(points)
    low = np.where(behind, np.inf, points).min(axis=1)
    high = np.where(behind, -np.inf, points).max(axis=1)
    boxes = np.clip(np.concatenate((low, high), axis=1), 0.0, (camera.width, camera.height) * 2)
    boxes[behind.reshape(len(behind), -1).all(axis=1)] = 0.0
    return boxes


def finite_keypoints(coco17_px: Float[np.ndarray, "K 17 3"]) -> Float[np.ndarray, "K 17 3"]:
    """Points that are not finite become zeros, with confidence 0."""
    return np.where(np.isfinite(coco17_px).all(-1, keepdims=True), coco17_px, 0.0)


def _masks_of(detected: Masks, row: Int[np.ndarray, " T"], camera: Camera) -> Masks:
    """The mask of everybody's detection; the whole image, which confines nobody, for who has none."""
    every = join_masks(camera.height, camera.width, [detected, whole_images(1, camera)])
    return every[np.where(row >= 0, row, len(detected))]


def _no_targets() -> Targets:
    return Targets(np.zeros((0, 17, 2)), np.zeros(0))


def _listed(people: np.ndarray) -> str:
    return ", ".join(map(str, people))
