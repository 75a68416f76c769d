"""What experts say of photographs' people, each person for itself: found, screened, given a body, an age and a sex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from crowdmesh.body import load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.experts.base import Attributes, Detections, Experts, FirstMeshes, InputImage, Keypoints
from crowdmesh.experts.screening import Screening, screen
from crowdmesh.people import People
from crowdmesh.scene import Scene


@dataclass(frozen=True, eq=False)
class Guess:
    """The first guess of one photograph: each person alone, with the evidence on age, sex and image position.

    Attributes:
        scene: the people, unplaced; ``scene.image`` is the photograph.
        notes: what a reader should know, one sentence each.
        focal_std: relative error of the focal length where the camera's source tells it.
    """

    scene: Scene
    notes: tuple[str, ...]
    focal_std: float | None = None


def first_guesses(experts: Experts, images: Sequence[InputImage]) -> list[Guess]:
    """The first guess of each photograph; the scenes' provenance names photograph and camera source.

    Detections that are screened out, and people whose mesh the keypoints contradict, are left out, and the notes
    say of each where it was and why.
    """
    estimates = experts.camera.estimate(images)
    parties = find_people(experts, images, [estimate.camera for estimate in estimates])
    met = [party for party in parties if party.met]
    if met:
        give_bodies(experts, met)
        read_attributes(experts, met)
    guesses = []
    for party, estimate in zip(parties, estimates, strict=True):
        fov = math.degrees(estimate.camera.vertical_fov)
        notes = [f"camera: {estimate.source} (vertical field of view {fov:.1f}°)", *party.notes]
        if len(party.people) == 0:
            notes.append("no person found")
        path = party.image.path
        provenance = {"source": path.name if path is not None else "array", "camera": estimate.source}
        scene = Scene(estimate.camera, party.people, party.image.pixels, provenance)
        guesses.append(Guess(scene, tuple(notes), estimate.focal_std))
    return guesses


class Party:
    """The people of one image on their way through the experts.

    Attributes:
        detections, keypoints: of those who are still in it; ``people``: their bodies, once they have some.
        met: whether anybody was detected at all.
        notes: who was left out on the way and why, one sentence each.
    """

    def __init__(self, image: InputImage, camera: Camera, detections: Detections) -> None:
        self.image, self.camera, self.detections = image, camera, detections
        self.keypoints = Keypoints(np.zeros((len(detections), 17, 3)))
        self.met = len(detections) > 0
        self.people, self.notes = nobody(), []

    def screen(self, keypoints: Keypoints, rule: Screening | None) -> None:
        """Keep the detections that the rule lets pass, and their keypoints."""
        self.keypoints = keypoints
        if rule is not None:
            screened = screen(self.detections, keypoints, rule)
            self.notes += [_left_out(out.box_px, out.score, out.reason) for out in screened.left_out]
            self.keep(screened.kept)

    def take(self, mesh: FirstMeshes) -> Int[np.ndarray, " n"]:
        """Keep the people whose mesh is to be trusted; returns their rows among those there were."""
        doubts = mesh.doubts or ("",) * len(mesh.people)
        for k in np.flatnonzero([bool(doubt) for doubt in doubts]):
            self.notes.append(_left_out(self.detections.boxes_px[k], self.detections.scores[k], doubts[k]))
        trusted = np.flatnonzero([not doubt for doubt in doubts])
        self.people = mesh.people[trusted]
        self.keep(trusted)
        return trusted

    def learn(self, known: Attributes) -> None:
        """Add ages and sexes."""
        self.people = with_attributes(self.people, known)
        ageless = np.flatnonzero(np.isnan(known.age_years))
        if len(ageless):
            self.notes.append(f"age unknown of person {', '.join(map(str, ageless))}")

    def keep(self, people: np.ndarray) -> None:
        """Go on with these detections alone."""
        self.detections, self.keypoints = self.detections[people], self.keypoints[people]


def find_people(experts: Experts, images: Sequence[InputImage], cameras: Sequence[Camera]) -> list[Party]:
    """Everybody in each image who is worth a body: detected, with keypoints, and not screened out."""
    detections = experts.persons.detect(images)
    parties = [Party(*one) for one in zip(images, cameras, detections, strict=True)]
    met = [party for party in parties if party.met]
    if met:
        locate(experts, met, experts.screening)
    return parties


def locate(experts: Experts, parties: Sequence[Party], rule: Screening | None) -> None:
    """Look for everybody's keypoints, and keep whom the rule lets pass."""
    keypoints = experts.keypoints.locate([p.image for p in parties], [p.detections for p in parties])
    for party, points in zip(parties, keypoints, strict=True):
        party.screen(points, rule)


def give_bodies(experts: Experts, parties: Sequence[Party]) -> list[Int[np.ndarray, " n"]]:
    """Fit everybody a body, and keep those whose body is to be trusted; returns their rows among those there were."""
    images, cameras = [p.image for p in parties], [p.camera for p in parties]
    meshes = experts.mesh.fit(images, cameras, [p.detections for p in parties], [p.keypoints for p in parties])
    return [party.take(mesh) for party, mesh in zip(parties, meshes, strict=True)]


def read_attributes(experts: Experts, parties: Sequence[Party]) -> None:
    """Ask for everybody's age and sex."""
    for party, known in zip(parties, attributes_of(experts, parties), strict=True):
        party.learn(known)


def attributes_of(experts: Experts, parties: Sequence[Party]) -> list[Attributes]:
    """Everybody's age and sex, in the order of the detections."""
    return experts.attributes.estimate(
        [p.image for p in parties], [p.detections for p in parties], [p.keypoints for p in parties]
    )


def with_attributes(people: People, known: Attributes) -> People:
    """The same people with ages and sexes."""
    return replace(
        people,
        age_years=known.age_years,
        age_std_years=known.age_std_years,
        male_probability=known.male_probability,
    )


def _left_out(box_px: Sequence[float] | np.ndarray, score: float, reason: str) -> str:
    left, top, right, bottom = (round(float(side)) for side in box_px)
    return f"left out: the person at ({left}, {top}) to ({right}, {bottom}), score {score:.2f}: {reason}"


def nobody() -> People:
    """Zero people of the default body."""
    body = load_body("anny")
    empty = People(
        body=body.name,
        translation_m=np.zeros((0, 3)),
        stature_m=np.zeros(0),
        pose=np.zeros((0, len(body.joint_names), 3)),
        shape=np.zeros((0, len(body.shape_params))),
        boxes_px=np.zeros((0, 4)),
        scores=np.zeros(0),
    )
    return pose_people(empty, body)
