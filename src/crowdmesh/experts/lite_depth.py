"""DepthExpert of the ``lite`` set: FastDepth, an 8-bit indoor network that sees 224 x 224 pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

from crowdmesh import assets
from crowdmesh.depth import RelativeDepth
from crowdmesh.experts._runtime import TfliteNetwork
from crowdmesh.experts.base import InputImage

_SIZE = 224
_STEP = 0.0716998  # one step of the 8-bit output: nominally metres, on NYUv2's indoor scale


class FastDepth:
    """Relative depth from FastDepth (Wofk et al. 2019, trained on NYUv2, 8 bit) on one CPU core.

    Its numbers pretend to be metres, but outside of rooms only their order means anything, so they are handed on as
    relative depth. It is weak: good for trying the pipeline, not for judging its accuracy.
    """

    name = "FastDepth"

    def __init__(self) -> None:
        self._network = TfliteNetwork(assets.FAST_DEPTH.fetch())

    @classmethod
    def sources(cls) -> tuple[assets.Asset, ...]:
        """The files it needs."""
        return (assets.FAST_DEPTH,)

    def estimate(self, images: Sequence[InputImage]) -> list[RelativeDepth]:
        """Depth of every pixel, larger = farther (kind ``"depth"``), bilinearly enlarged to the image's size."""
        return [self._estimate(image.pixels) for image in images]

    def _estimate(self, image: UInt8[np.ndarray, "H W 3"]) -> RelativeDepth:
        height, width = image.shape[:2]
        small = cv2.resize(image, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
        values = self._network(small[None])[0][0, :, :, 0].astype(np.float32) * _STEP
        return RelativeDepth(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), "depth")
