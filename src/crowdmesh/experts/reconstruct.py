"""The way of one photograph: experts give a first guess per person, DTO puts everybody in their place."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from crowdmesh._files import sha256
from crowdmesh.body import load_body, pose_people
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import DTOConfig, Placement, place
from crowdmesh.experts.base import Experts
from crowdmesh.experts.presets import load_experts
from crowdmesh.images import check_image, read_image
from crowdmesh.people import People
from crowdmesh.scene import Scene


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


class Reconstructor:
    """Photograph to placed scene with a loaded set of experts; make it once, call it for many images."""

    def __init__(self, experts: Experts, config: DTOConfig | None = None) -> None:
        self.experts = experts
        self.config = config or DTOConfig()

    def __call__(self, photo: str | Path | UInt8[np.ndarray, "H W 3"]) -> Reconstruction:
        """Reconstruct everybody in one photograph (a file, or an RGB array).

        An image without people gives a valid scene of nobody.

        Raises:
            InputError, FormatError: the photo is missing, too small or not an image.
        """
        path = Path(photo) if isinstance(photo, (str, Path)) else None
        image = read_image(photo) if isinstance(photo, (str, Path)) else check_image(photo)
        guess, notes = self.guess(image, path)
        depth = self.experts.depth.estimate(image)
        scene, placement = place(guess, depth, self.config)
        return Reconstruction(scene, guess, depth, placement, (*notes, *placement.notes))

    def guess(self, image: UInt8[np.ndarray, "H W 3"], path: Path | None = None) -> tuple[Scene, tuple[str, ...]]:
        """The first guess: each person alone, adult-sized, with the evidence on age, sex and image position."""
        experts = self.experts
        estimate = experts.camera.estimate(image, path)
        detections = experts.persons.detect(image)
        notes = [
            f"camera: {estimate.source} (vertical field of view {math.degrees(estimate.camera.vertical_fov):.1f}°)"
        ]
        provenance = self._provenance(path, estimate.source)
        if len(detections) == 0:
            notes.append("no person found")
            return Scene(estimate.camera, nobody(), image, provenance), tuple(notes)
        keypoints = experts.keypoints.locate(image, detections)
        people = experts.mesh.fit(estimate.camera, detections, keypoints)
        attributes = experts.attributes.estimate(image, detections, keypoints)
        people = replace(
            people,
            age_years=attributes.age_years,
            age_std_years=attributes.age_std_years,
            male_probability=attributes.male_probability,
        )
        faceless = np.flatnonzero(np.isnan(attributes.age_years))
        if len(faceless):
            notes.append(f"no face found for person {', '.join(map(str, faceless))}: age and sex unknown")
        return Scene(estimate.camera, people, image, provenance), tuple(notes)

    def signature(self, path: Path | None) -> dict[str, Any]:
        """What decides the result: the photo's content, the experts with their weights, the configuration."""
        experts = {e.name: {asset.name: asset.sha256 for asset in e.assets} for e in self.experts.all()}
        camera = self.experts.camera
        settings = {"dto": asdict(self.config), "camera": asdict(camera) if is_dataclass(camera) else {}}
        photo = sha256(path) if path is not None else None
        # As JSON gives it back: tuples become lists.
        return json.loads(json.dumps({"photo_sha256": photo, "experts": experts, "settings": settings}))

    def _provenance(self, path: Path | None, camera_source: str) -> dict[str, Any]:
        return {
            "source": path.name if path is not None else "array",
            "crowdmesh": version("crowdmesh"),
            "camera": camera_source,
            **self.signature(path),
        }


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


def reconstruct(
    photo: str | Path | UInt8[np.ndarray, "H W 3"], fov: float | None = None, experts: str = "lite"
) -> Scene:
    """One photograph to a scene of placed people: :class:`Reconstructor` with a preset of experts.

    Args:
        photo: an image file, or an (H, W, 3) uint8 RGB array.
        fov: vertical field of view in radians; by default from EXIF, else 60 degrees over the longer side.
        experts: a preset of experts, see :func:`crowdmesh.experts.load_experts`.
    """
    return Reconstructor(load_experts(experts, fov))(photo).scene
