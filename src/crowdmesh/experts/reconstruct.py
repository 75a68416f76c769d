"""The way of one photograph: experts give a first guess per person, DTO puts everybody in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from crowdmesh._files import sha256
from crowdmesh.assets import digest_of
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import DTOConfig, Placement, place
from crowdmesh.experts._files_by_name import FilePerImage
from crowdmesh.experts.base import Experts, InputImage
from crowdmesh.experts.first_guess import Guess, first_guesses
from crowdmesh.experts.nothing import check_finds_people
from crowdmesh.experts.presets import load_experts
from crowdmesh.images import check_image, read_image
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


class Reconstructor:
    """Photograph to placed scene with a loaded set of experts; make it once, call it for many images.

    Raises:
        InputError: the experts cannot find people in a photograph of which nothing is known.
    """

    def __init__(self, experts: Experts, config: DTOConfig | None = None) -> None:
        check_finds_people(experts)
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
        return [
            replace(guess, scene=replace(guess.scene, provenance=self._provenance(guess, image.path)))
            for guess, image in zip(first_guesses(self.experts, images), images, strict=True)
        ]

    def signature(self, path: Path | None) -> dict[str, Any]:
        """What decides the result: the photo's content, the experts with their weights, the configuration."""
        weights, settings = experts_signature(self.experts)
        photo = sha256(path) if path is not None else None
        signature = {"photo_sha256": photo, "experts": weights, "settings": {**settings, "dto": asdict(self.config)}}
        return signature | ({} if path is None else _files_of(self.experts, path))

    def _provenance(self, guess: Guess, path: Path | None) -> dict[str, Any]:
        return {**guess.scene.provenance, "crowdmesh": version("crowdmesh"), **self.signature(path)}


def experts_signature(experts: Experts) -> tuple[dict[str, Any], dict[str, Any]]:
    """What decides the answers of experts: fingerprints of their weights by expert and name, and their settings."""
    weights = {e.name: {w.name: w.fingerprint() for w in e.sources()} for e in experts.all()}
    settings = {e.name: asdict(e) for e in experts.all() if is_dataclass(e)} | dict(experts.settings)
    if experts.screening is not None:
        settings["screening"] = asdict(experts.screening)
    return weights, settings


def _files_of(experts: Experts, photo: Path) -> dict[str, Any]:
    """Digests of what experts read from files of that photograph alone."""
    files = {e.name: e.file_of(photo) for e in experts.all() if isinstance(e, FilePerImage)}
    digests = {name: digest_of(file) for name, file in files.items() if file is not None}
    return {"files_sha256": digests} if digests else {}


def read_input(photo: Photograph) -> InputImage:
    """A photograph from a file, or an RGB array, for the experts.

    Raises:
        InputError, FormatError: the photo is missing, too small or not an image.
    """
    if isinstance(photo, (str, Path)):
        return InputImage(read_image(photo), Path(photo))
    return InputImage(check_image(photo))


def reconstruct(photo: Photograph, fov: float | None = None, experts: str = "lite") -> Scene:
    """One photograph to a scene of placed people: :class:`Reconstructor` with a preset of experts.

    Args:
        photo: an image file, or an (H, W, 3) uint8 RGB array.
        fov: vertical field of view in radians; by default from EXIF, else 60 degrees over the longer side.
        experts: a preset of experts, see :func:`crowdmesh.experts.load_experts`.
    """
    return Reconstructor(load_experts(experts, fov))(photo).scene
