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
from crowdmesh.experts.base import Detections, Experts, InputImage
from crowdmesh.experts.presets import load_experts
from crowdmesh.experts.screening import screen
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
        depths = self.experts.depth.estimate(images)
        return [self.place(guess, depth) for guess, depth in zip(self.guess(images), depths, strict=True)]

    def place(self, guess: Guess, depth: RelativeDepth) -> Reconstruction:
        """Put the people of a first guess in their place."""
        config = self.config
        if guess.focal_std is not None:
            config = replace(config, focal_std=min(guess.focal_std, config.focal_std))
        scene, placement = place(guess.scene, depth, config)
        return Reconstruction(scene, guess.scene, depth, placement, (*guess.notes, *placement.notes))

    def guess(self, images: Sequence[InputImage]) -> list[Guess]:
        """The first guess of each photograph.

        Detections that are screened out, and people whose mesh the keypoints contradict, are left out, and the notes
        say of each where it was and why.
        """
        experts = self.experts
        estimates = experts.camera.estimate(images)
        detections = experts.persons.detect(images)
        busy = [i for i, found in enumerate(detections) if len(found)]
        seen = dict(zip(busy, self._meet([images[i] for i in busy], [detections[i] for i in busy],
                                         [estimates[i].camera for i in busy]), strict=True))  # fmt: skip
        guesses = []
        for i, (image, estimate) in enumerate(zip(images, estimates, strict=True)):
            people, notes = seen.get(i, (nobody(), ()))
            fov = math.degrees(estimate.camera.vertical_fov)
            camera = f"camera: {estimate.source} (vertical field of view {fov:.1f}°)"
            if len(people) == 0:
                notes = (*notes, "no person found")
            scene = Scene(estimate.camera, people, image.pixels, self._provenance(image.path, estimate.source))
            guesses.append(Guess(scene, (camera, *notes), estimate.focal_std))
        return guesses

    def _meet(
        self, images: list[InputImage], detections: list[Detections], cameras: list[Camera]
    ) -> list[tuple[People, tuple[str, ...]]]:
        """People and notes of images in which somebody was detected."""
        experts, notes = self.experts, [[] for _ in images]
        keypoints = experts.keypoints.locate(images, detections)
        if experts.screening is not None:
            for i, (found, points) in enumerate(zip(detections, keypoints, strict=True)):
                screened = screen(found, points, experts.screening)
                notes[i] += [_left_out(out.box_px, out.score, out.reason) for out in screened.left_out]
                detections[i], keypoints[i] = found[screened.kept], points[screened.kept]
        meshes = experts.mesh.fit(images, cameras, detections, keypoints)
        people = []
        for i, mesh in enumerate(meshes):
            trusted = np.flatnonzero([not doubt for doubt in mesh.doubts or ("",) * len(mesh.people)])
            for k, doubt in enumerate(mesh.doubts):
                if doubt:
                    notes[i].append(_left_out(detections[i].boxes_px[k], detections[i].scores[k], doubt))
            people.append(mesh.people[trusted])
            detections[i], keypoints[i] = detections[i][trusted], keypoints[i][trusted]
        attributes = experts.attributes.estimate(images, detections, keypoints)
        for i, known in enumerate(attributes):
            people[i] = replace(
                people[i],
                age_years=known.age_years,
                age_std_years=known.age_std_years,
                male_probability=known.male_probability,
            )
            faceless = np.flatnonzero(np.isnan(known.age_years))
            if len(faceless):
                notes[i].append(f"no age and sex known of person {', '.join(map(str, faceless))}")
        return [(people, tuple(told)) for people, told in zip(people, notes, strict=True)]

    def signature(self, path: Path | None) -> dict[str, Any]:
        """What decides the result: the photo's content, the experts with their weights, the configuration."""
        experts = {e.name: {w.name: w.fingerprint() for w in e.sources()} for e in self.experts.all()}
        settings = {e.name: asdict(e) for e in self.experts.all() if is_dataclass(e)}
        settings |= {"dto": asdict(self.config)}
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


def _left_out(box_px: np.ndarray, score: float, reason: str) -> str:
    left, top, right, bottom = np.rint(box_px).astype(int)
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
