"""The labelled bodies of a whole data set as a few flat arrays, and the samples cut out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from crowdmesh.formats.smpl_people import GENDERS
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample


@dataclass(frozen=True, eq=False)
class BodyTable:
    """N people in n images; the camera frame, metres, radians, pixels of the (turned) images.

    Pose and betas are held in single precision: half a million people take 170 MB.

    Attributes:
        images: paths relative to the folder of images.
        starts: where the people of each image begin; one more entry at the end.
        pose, betas, translation_m: as in :class:`crowdmesh.training.sample.LabelledPeople`.
        genders: numbers of :data:`crowdmesh.formats.smpl_people.GENDERS`; ``None``: all neutral.
        intrinsics_px: one camera an image.
        everybody, kid: supervision that differs from image to image (:class:`crowdmesh.training.sample.Supervision`).
        turned: whether the file must be turned by 90 degrees clockwise.
        without_people: images of the file that were left out, as nobody is labelled in them.
        bad_records: what is wrong with images that were left out as their records cannot be used.
    """

    images: tuple[str, ...]
    starts: Int[np.ndarray, " n_and_one"]
    pose: Float[np.ndarray, "N 24 3"]
    betas: Float[np.ndarray, "N S"]
    translation_m: Float[np.ndarray, "N 3"]
    genders: UInt8[np.ndarray, " N"] | None
    intrinsics_px: Float[np.ndarray, "n 3 3"]
    everybody: Bool[np.ndarray, " n"]
    kid: Bool[np.ndarray, " n"]
    turned: Bool[np.ndarray, " n"]
    without_people: tuple[str, ...] = ()
    bad_records: tuple[str, ...] = ()

    def people(self, index: int) -> LabelledPeople:
        """The people of one image."""
        rows = slice(self.starts[index], self.starts[index + 1])
        genders = None if self.genders is None else tuple(GENDERS[i] for i in self.genders[rows])
        return LabelledPeople(
            int(self.starts[index + 1] - self.starts[index]),
            "smpl",
            genders,
            self.pose[rows],
            self.betas[rows],
            self.translation_m[rows],
        )


@dataclass(frozen=True, eq=False)
class BodyImages:
    """A data set of SMPL bodies (a :class:`crowdmesh.training.datasets.base.Dataset`).

    Attributes:
        name: of the data set. file: the annotation file it was read from. folder: of the images.
        supervision: what may be learned from every image; the table's ``everybody`` and ``kid`` narrow it.
    """

    name: str
    file: Path
    folder: Path
    table: BodyTable
    supervision: Supervision

    def __len__(self) -> int:
        return len(self.table.images)

    def sample(self, index: int) -> TrainingSample:
        """One image with its labels; the pixels are not read."""
        table, image = self.table, self.table.images[index]
        return TrainingSample(
            f"{self.name}/{image}",
            self.name,
            self.folder / image,
            table.intrinsics_px[index],
            table.people(index),
            replace(
                self.supervision,
                everybody=self.supervision.everybody and bool(table.everybody[index]),
                kid=self.supervision.kid and bool(table.kid[index]),
            ),
            bool(table.turned[index]),
        )

    def image_files(self) -> list[Path]:
        """The file of every image, in order."""
        return [self.folder / image for image in self.table.images]


def bad_records(dataset: Dataset) -> tuple[str, ...]:
    """What is wrong with images that a data set left out, as their records cannot be used."""
    return dataset.table.bad_records if isinstance(dataset, BodyImages) else ()


def image_folder(candidates: Sequence[Path], images: Sequence[str], probes: int = 16) -> Path:
    """The folder that the paths of images are relative to: the candidate where most of some of them are found.

    Args:
        candidates: folders; the first where none of the images is found anywhere.
        images: all paths, of which ``probes`` at equal distances are looked for.
    """
    places = np.linspace(0, len(images) - 1, min(probes, len(images)))
    chosen = [images[int(place)] for place in places]
    found = [sum((folder / image).is_file() for image in chosen) for folder in candidates]
    return candidates[int(np.argmax(found))]
