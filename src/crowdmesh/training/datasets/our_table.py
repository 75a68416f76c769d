"""The people of a set or world of ours as a few flat arrays, and which of its images are held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.errors import InputError
from crowdmesh.training.sample import LabelledPeople

Split = Literal["all", "train", "validation"]
"""Images of a set of ours: every twentieth is held out for validation, by its name, the others are to train on."""

SPLITS: tuple[Split, ...] = ("all", "train", "validation")

_HELD_OUT = 20  # one of so many


@dataclass(frozen=True, eq=False)
class PeopleTable:
    """N people in n images; the camera frame, metres, radians, pixels.

    Pose and betas are held in single precision.

    Attributes:
        body: name of their body model.
        images: what the images are called.
        starts: where the people of each image begin; one more entry at the end.
        pose, betas, translation_m, age_years: as in :class:`crowdmesh.training.sample.LabelledPeople`.
        cameras: fx, fy, cx, cy of each image.
        without_people: images that were left out, as nobody is labelled in them.
    """

    body: str
    images: tuple[str, ...]
    starts: Int[np.ndarray, " n_and_one"]
    pose: Float[np.ndarray, "N J 3"]
    betas: Float[np.ndarray, "N S"]
    translation_m: Float[np.ndarray, "N 3"]
    age_years: Float[np.ndarray, " N"]
    cameras: Float[np.ndarray, "n 4"]
    without_people: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def people(self, index: int) -> LabelledPeople:
        """The people of one image."""
        rows = slice(int(self.starts[index]), int(self.starts[index + 1]))
        return LabelledPeople(
            rows.stop - rows.start,
            self.body,
            pose=self.pose[rows],
            betas=self.betas[rows],
            translation_m=self.translation_m[rows],
            age_years=self.age_years[rows],
        )

    def intrinsics_px(self, index: int) -> Float[np.ndarray, "3 3"]:
        """The camera matrix of one image."""
        fx, fy, cx, cy = self.cameras[index]
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def held_out(image: str) -> bool:
    """Whether an image is one of the twentieth that is held out; its name without folders and ending decides.

    So the same image is held out in every set that is made of it.
    """
    digest = hashlib.blake2b(PurePosixPath(image).stem.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % _HELD_OUT == 0


def chooser(split: str) -> Callable[[str], bool]:
    """Whether an image of this name belongs to a split.

    Raises:
        InputError: no such split.
    """
    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}; sets of ours have {', '.join(SPLITS)}")
    return lambda image: split == "all" or held_out(image) == (split == "validation")


def starts_of(counts: Sequence[int]) -> Int[np.ndarray, " n_and_one"]:
    """Where the people of each image begin, from how many each has."""
    return np.concatenate(([0], np.cumsum(np.asarray(counts, np.int64)))).astype(np.int64)
