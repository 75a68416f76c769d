"""The camera of a photograph without any network: given, from its metadata, or assumed, and always saying which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from crowdmesh.assets import Asset
from crowdmesh.camera import DEFAULT_LONG_SIDE_FOV, Camera
from crowdmesh.experts.base import CameraEstimate


@dataclass(frozen=True)
class MetadataCamera:
    """CameraExpert: the given field of view, else the EXIF focal length, else 60 degrees over the longer side.

    Attributes:
        vertical_fov: vertical field of view of the image as given, in radians; ``None``: not known.
    """

    vertical_fov: float | None = None

    name: ClassVar[str] = "metadata camera"
    assets: ClassVar[tuple[Asset, ...]] = ()

    def estimate(self, image: UInt8[np.ndarray, "H W 3"], path: Path | None = None) -> CameraEstimate:
        """The image's camera; the focal length is looked up in ``path`` when it is given.

        Raises:
            InputError: the given field of view does not lie between 0 and 180 degrees.
        """
        height, width = image.shape[:2]
        if self.vertical_fov is not None:
            return CameraEstimate(Camera.from_vertical_fov(self.vertical_fov, width, height), "given")
        camera = Camera.from_exif(path, width, height) if path is not None else None
        if camera is not None:
            return CameraEstimate(camera, "EXIF focal length")
        assumed = Camera.from_long_side_fov(DEFAULT_LONG_SIDE_FOV, width, height)
        return CameraEstimate(assumed, f"assumed {math.degrees(DEFAULT_LONG_SIDE_FOV):.0f}° over the longer side")
