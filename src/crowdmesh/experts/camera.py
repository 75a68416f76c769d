"""The camera of a photograph: given, from its metadata, assumed, or from a network, and always saying which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from crowdmesh.assets import Asset, Weights
from crowdmesh.camera import DEFAULT_LONG_SIDE_FOV, Camera
from crowdmesh.experts.base import CameraEstimate, CameraExpert, InputImage


@dataclass(frozen=True)
class MetadataCamera:
    """CameraExpert: the given field of view, else the EXIF focal length, else 60 degrees over the longer side.

    Attributes:
        vertical_fov: vertical field of view of the image as given, in radians; ``None``: not known.
    """

    vertical_fov: float | None = None

    name: ClassVar[str] = "metadata camera"

    @classmethod
    def sources(cls) -> tuple[Asset, ...]:
        """It needs no files."""
        return ()

    def estimate(self, images: Sequence[InputImage]) -> list[CameraEstimate]:
        """Each image's camera; the focal length is looked up in the image's file where there is one.

        Raises:
            InputError: the given field of view does not lie between 0 and 180 degrees.
        """
        return [self._estimate(image) for image in images]

    def _estimate(self, image: InputImage) -> CameraEstimate:
        height, width = image.height, image.width
        if self.vertical_fov is not None:
            return CameraEstimate(Camera.from_vertical_fov(self.vertical_fov, width, height), "given", focal_std=0.0)
        camera = Camera.from_exif(image.path, width, height) if image.path is not None else None
        if camera is not None:
            return CameraEstimate(camera, "EXIF focal length")
        assumed = Camera.from_long_side_fov(DEFAULT_LONG_SIDE_FOV, width, height)
        return CameraEstimate(assumed, f"assumed {math.degrees(DEFAULT_LONG_SIDE_FOV):.0f}° over the longer side")


class CameraChain:
    """CameraExpert: the given field of view, else what a network says; EXIF is not asked (as in the paper).

    Args:
        vertical_fov: vertical field of view of all images, in radians; ``None``: not known.
        network: asked where nothing is given.
    """

    def __init__(self, vertical_fov: float | None, network: CameraExpert) -> None:
        self._vertical_fov, self._network = vertical_fov, network
        self.name = network.name

    def sources(self) -> tuple[Weights, ...]:
        """The files of the network."""
        return self._network.sources()

    def estimate(self, images: Sequence[InputImage]) -> list[CameraEstimate]:
        """Each image's camera."""
        if self._vertical_fov is not None:
            return MetadataCamera(self._vertical_fov).estimate(images)
        return self._network.estimate(images)
