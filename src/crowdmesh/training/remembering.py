"""Images kept in memory after their first reading, shrunk, for data sets that fit."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import UInt8

from crowdmesh.errors import InputError
from crowdmesh.images import MIN_SIDE_PX
from crowdmesh.training.sample import TrainingSample


class Memory:
    """Samples by data set and index, with their pixels; of one process, and lost when it goes elsewhere.

    Attributes:
        longest_px: longer side to which images are shrunk.
    """

    def __init__(self, longest_px: int) -> None:
        """Begin with nothing.

        Raises:
            InputError: fewer pixels than an image must have.
        """
        if longest_px < MIN_SIDE_PX:
            raise InputError(f"images must keep at least {MIN_SIDE_PX} pixels in memory, got {longest_px}")
        self.longest_px = longest_px
        self._kept: dict[tuple[int, int], tuple[TrainingSample, np.ndarray]] = {}

    def recall(self, part: int, index: int) -> tuple[TrainingSample, UInt8[np.ndarray, "H W 3"]] | None:
        """Sample ``index`` of data set number ``part``, if it is kept."""
        return self._kept.get((part, index))

    def keep(
        self, part: int, index: int, sample: TrainingSample, pixels: UInt8[np.ndarray, "H W 3"]
    ) -> tuple[TrainingSample, UInt8[np.ndarray, "h w 3"]]:
        """Keep a sample; what is returned is what :meth:`recall` will give, its pixels not to be written to."""
        sample, pixels = shrunk(sample, pixels, self.longest_px)
        pixels.setflags(write=False)
        self._kept[part, index] = sample, pixels
        return sample, pixels

    def __len__(self) -> int:
        return len(self._kept)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": {}}


def shrunk(
    sample: TrainingSample, pixels: UInt8[np.ndarray, "H W 3"], longest_px: int
) -> tuple[TrainingSample, UInt8[np.ndarray, "h w 3"]]:
    """A sample with its image shrunk to at most this many pixels along the longer side, by area; never enlarged.

    Intrinsics and keypoints follow exactly: pixel centres are at +0.5, so both axes scale about the image's corner.
    """
    height, width = pixels.shape[:2]
    scale = longest_px / max(height, width)
    if scale < 1:
        size = max(round(width * scale), 1), max(round(height * scale), 1)
        pixels = np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    factors = np.array([pixels.shape[1] / width, pixels.shape[0] / height, 1.0])
    people = sample.people
    if people.keypoints_px is not None:
        people = replace(people, keypoints_px=people.keypoints_px * factors)
    K = None if sample.intrinsics_px is None else factors[:, None] * sample.intrinsics_px
    return replace(sample, image=pixels, intrinsics_px=K, people=people, turn_clockwise=False), pixels
