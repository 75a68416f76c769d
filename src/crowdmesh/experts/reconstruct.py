"""The way of one photograph: experts give a first guess per person, DTO puts everybody in their place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from crowdmesh._files import sha256
from crowdmesh.body import load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import DTOConfig, Placement, place
from crowdmesh.experts.base import Attributes, Detections, Experts, FirstMeshes, InputImage, Keypoints
from crowdmesh.experts.presets import load_experts
from crowdmesh.experts.screening import Screening, screen
from crowdmesh.images import check_image, read_image
from crowdmesh.people import People
from crowdmesh.scene import Scene

Photograph = str | Path | UInt8[np.ndarray, "H W 3"]
"""A photograph's file, or its pixels as RGB."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Everything found out about one photograph.

    Attributes:
        scene: the placed people; ``scene.image`` is the photograph.
        first_guess: the same people as single-person methods see them.
        depth: the depth map that DTO used.
        placement: why people stand where they stand.
        notes: what a reader should know, one sentence each (camera source, missed faces ...).
    """

    scene: Scene
    first_guess: Scene
    depth: RelativeDepth
    placement: Placement
    notes: tuple[str, ...]


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


class Reconstructor:
    """Photograph to placed scene with a loaded set of experts; make it once, call it for many images."""

    def __init__(self, experts: Experts, config: DTOConfig | None = None) -> None:
        self.experts = experts
        self.config = config or DTOConfig()

    def __call__(self, photo: Photograph) -> Reconstruction:
        """Reconstruct everybody in one photograph (a file, or an RGB array).

        An image without people gives a valid scene of nobody.

        Raises:
            InputError, FormatError: the photo is missing, too small or not an image.
        """
        return self.many([photo])[0]

    def many(self, photos: Sequence[Photograph]) -> list[Reconstruction]:
        """Reconstruct several photographs at once, so that networks see the people of all of them together.

        Memory grows with the number of photographs; networks work on as much of them at once as their device says.

        Raises:
            InputError, FormatError: one of them is missing, too small or not an image.
        """
        images = [read_input(photo) for photo in photos]
        guesses = self.guess(images)
        depths = self.experts.depth.estimate(images)
        return [self.place(guess, depth) for guess, depth in zip(guesses, depths, strict=True)]

    def place(self, guess: Guess, depth: RelativeDepth) -> Reconstruction:
        """Put the people of a first guess in their place."""
        scene, placement = place(guess.scene, depth, self.config.with_focal_std(guess.focal_std))
        return Reconstruction(scene, guess.scene, depth, placement, (*guess.notes, *placement.notes))

    def guess(self, images: Sequence[InputImage]) -> list[Guess]:
        """The first guess of each photograph.

        Detections that are screened out, and people whose mesh the keypoints contradict, are left out, and the notes
        say of each where it was and why.
        """
        estimates = self.experts.camera.estimate(images)
        detections = self.experts.persons.detect(images)
        parties = [
            _Party(image, estimate.camera, found)
            for image, estimate, found in zip(images, estimates, detections, strict=True)
        ]
        if any(len(party.detections) for party in parties):
            self._meet([party for party in parties if len(party.detections)])
        guesses = []
        for party, estimate in zip(parties, estimates, strict=True):
            fov = math.degrees(estimate.camera.vertical_fov)
            notes = [f"camera: {estimate.source} (vertical field of view {fov:.1f}°)", *party.notes]
            if len(party.people) == 0:
                notes.append("no person found")
            provenance = self._provenance(party.image.path, estimate.source)
            scene = Scene(estimate.camera, party.people, party.image.pixels, provenance)
            guesses.append(Guess(scene, tuple(notes), estimate.focal_std))
        return guesses

    def _meet(self, parties: list[_Party]) -> None:
        """Fill in the people of images in which somebody was detected."""
        experts, images = self.experts, [party.image for party in parties]
        keypoints = experts.keypoints.locate(images, [party.detections for party in parties])
        for party, points in zip(parties, keypoints, strict=True):
            party.screen(points, experts.screening)
        cameras, found = [party.camera for party in parties], [party.detections for party in parties]
        meshes = experts.mesh.fit(images, cameras, found, [party.keypoints for party in parties])
        for party, mesh in zip(parties, meshes, strict=True):
            party.take(mesh)
        attributes = experts.attributes.estimate(
            images, [party.detections for party in parties], [party.keypoints for party in parties]
        )
        for party, known in zip(parties, attributes, strict=True):
            party.learn(known)

    def signature(self, path: Path | None) -> dict[str, Any]:
        """What decides the result: the photo's content, the experts with their weights, the configuration."""
        experts = {e.name: {w.name: w.fingerprint() for w in e.sources()} for e in self.experts.all()}
        settings = {e.name: asdict(e) for e in self.experts.all() if is_dataclass(e)}
        settings |= {**self.experts.settings, "dto": asdict(self.config)}
        if self.experts.screening is not None:
            settings["screening"] = asdict(self.experts.screening)
        photo = sha256(path) if path is not None else None
        return {"photo_sha256": photo, "experts": experts, "settings": settings}

    def _provenance(self, path: Path | None, camera_source: str) -> dict[str, Any]:
        return {
            "source": path.name if path is not None else "array",
            "crowdmesh": version("crowdmesh"),
            "camera": camera_source,
            **self.signature(path),
        }


def read_input(photo: Photograph) -> InputImage:
    """A photograph from a file, or an RGB array, for the experts.

    Raises:
        InputError, FormatError: the photo is missing, too small or not an image.
    """
    if isinstance(photo, (str, Path)):
        return InputImage(read_image(photo), Path(photo))
    return InputImage(check_image(photo))


class _Party:
    """The people of one image on their way through the experts."""

    def __init__(self, image: InputImage, camera: Camera, detections: Detections) -> None:
        self.image, self.camera, self.detections = image, camera, detections
        self.people, self.notes = nobody(), []

    def screen(self, keypoints: Keypoints, rule: Screening | None) -> None:
        """Keep the detections that the rule lets pass, and their keypoints."""
        self.keypoints = keypoints
        if rule is not None:
            screened = screen(self.detections, keypoints, rule)
            self.notes += [_left_out(out.box_px, out.score, out.reason) for out in screened.left_out]
            self._keep(screened.kept)

    def take(self, mesh: FirstMeshes) -> None:
        """Keep the people whose mesh is to be trusted."""
        doubts = mesh.doubts or ("",) * len(mesh.people)
        for k in np.flatnonzero([bool(doubt) for doubt in doubts]):
            self.notes.append(_left_out(self.detections.boxes_px[k], self.detections.scores[k], doubts[k]))
        trusted = np.flatnonzero([not doubt for doubt in doubts])
        self.people = mesh.people[trusted]
        self._keep(trusted)

    def learn(self, known: Attributes) -> None:
        """Add ages and sexes."""
        self.people = replace(
            self.people,
            age_years=known.age_years,
            age_std_years=known.age_std_years,
            male_probability=known.male_probability,
        )
        ageless = np.flatnonzero(np.isnan(known.age_years))
        if len(ageless):
            self.notes.append(f"age unknown of person {', '.join(map(str, ageless))}")

    def _keep(self, people: np.ndarray) -> None:
        self.detections, self.keypoints = self.detections[people], self.keypoints[people]


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


def reconstruct(photo: Photograph, fov: float | None = None, experts: str = "lite") -> Scene:
    """One photograph to a scene of placed people: :class:`Reconstructor` with a preset of experts.

    Args:
        photo: an image file, or an (H, W, 3) uint8 RGB array.
        fov: vertical field of view in radians; by default from EXIF, else 60 degrees over the longer side.
        experts: a preset of experts, see :func:`crowdmesh.experts.load_experts`.
    """
    return Reconstructor(load_experts(experts, fov))(photo).scene
