"""The truth behind a synthetic label set, to train on: what labels of the same people teach if they are right."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from crowdmesh._files import reading
from crowdmesh.body import load_body
from crowdmesh.errors import FormatError, InputError
from crowdmesh.pgt.shards import SHARDS
from crowdmesh.synth import LabelTruth, World, WorldConfig, read_truth
from crowdmesh.synth._label_files import IMAGES
from crowdmesh.synth.label_set import FORMAT, MANIFEST
from crowdmesh.training.datasets.built import open_built_set
from crowdmesh.training.datasets.our_table import chooser, starts_of
from crowdmesh.training.datasets.synthetic import TRUE
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample

_SAME_PLACE_M = 1e-3  # true pelvises are recorded exactly, up to single precision


@dataclass(frozen=True, eq=False)
class LabelTruthImages:
    """A synthetic label set with its true people instead of its labels (a
    :class:`crowdmesh.training.datasets.base.Dataset`).

    The images and the people are those of the labels; what is true of them is staged anew, by the world and the seed
    that the label set names (tens of milliseconds a scene, without a picture).

    Attributes:
        name: of the data set. file: the label set's folder.
        images: names of the images. starts: where the people of each begin in ``pelvis_m``; one more at the end.
        pelvis_m: (N, 3) true pelvises of the labelled people, by which they are found on the stage.
    """

    name: str
    file: Path
    world: World
    images: tuple[str, ...]
    starts: Int[np.ndarray, " n_and_one"]
    pelvis_m: Float[np.ndarray, "N 3"]
    supervision: Supervision = TRUE

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int) -> TrainingSample:
        """One image with the true people behind its labels; the pixels are not read.

        Raises:
            FormatError: the world of this version of the package is not the one that the label set was made of.
        """
        image = self.images[index]
        people, K = self._people(image, self.pelvis_m[self.starts[index] : self.starts[index + 1]])
        return TrainingSample(
            f"{self.name}/{image}", self.name, self.file / IMAGES / image, K, people, self.supervision
        )

    def image_files(self) -> list[Path]:
        """The file of every image, in order."""
        return [self.file / IMAGES / image for image in self.images]

    def _people(
        self, image: str, pelvis_m: Float[np.ndarray, "K 3"]
    ) -> tuple[LabelledPeople, Float[np.ndarray, "3 3"]]:
        stage = self.world.stage(int(Path(image).stem))
        everybody = stage.people
        assert everybody.joints_m is not None and everybody.pose is not None and everybody.shape is not None
        pelvises = everybody.joints_m[:, load_body(everybody.body).pelvis].astype(np.float64)
        gaps = np.linalg.norm(pelvis_m[:, None] - pelvises[None], axis=-1)
        if not len(pelvises) or gaps.min(1, initial=np.inf).max(initial=0.0) > _SAME_PLACE_M:
            raise FormatError(
                f"the true people of {image} in {self.file} are not those of the world it names; the label set was "
                "made by another version of crowdmesh, so make it again with crowdmesh synth"
            )
        them = everybody[gaps.argmin(1)]
        found = LabelledPeople(
            len(them), them.body, pose=them.pose, betas=them.shape, translation_m=them.translation_m,
            age_years=them.age_years,
        )  # fmt: skip
        return found, stage.camera.K


def open_label_truth(name: str, folder: Path, split: str = "train") -> LabelTruthImages:
    """The truth behind a synthetic label set.

    Args:
        name: of the data set, in figures.
        folder: of the label set; or of a set that was built of it, then only the images accepted there are taken, so
            that both teach the same people of the same images.
        split: ``train``, ``validation`` (one in twenty, by name) or ``all``.

    Raises:
        InputError: no finished label set, or no image in the split. FormatError: its manifest or truth is damaged.
    """
    only: frozenset[str] | None = None
    if not (folder / MANIFEST).is_file() and (folder / SHARDS).is_dir():
        built = open_built_set(name, folder, split=split)
        folder, only = built.folder.parent, frozenset(built.table.images)
    world, truth, belongs = _world_of(folder), read_truth(folder), chooser(split)
    names, first, counts = np.unique(truth.imgname, return_index=True, return_counts=True)
    _check_order(truth, first, counts, folder)
    chosen = [i for i, image in enumerate(names.tolist()) if belongs(image) and (only is None or image in only)]
    if not chosen:
        raise InputError(f"the label set in {folder} has no labelled image in its split {split}")
    rows = np.concatenate([np.arange(first[i], first[i] + counts[i]) for i in chosen])
    images = tuple(names[chosen].tolist())
    return LabelTruthImages(name, folder, world, images, starts_of(counts[chosen].tolist()), truth.pelvis_m[rows])


def _world_of(folder: Path) -> World:
    """The world and seed that the manifest of a label set names."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder} holds no synthetic label set (there is no {MANIFEST}); make one with crowdmesh synth --layout "
            "4dhumans"
        )
    with reading(path, "manifest of a synthetic label set"):
        values = json.loads(path.read_text("utf-8"))
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if type(values["seed"]) is not int:
            raise ValueError("its seed must be a whole number")
        return World(WorldConfig.from_dict(values["config"]), values["seed"])


def _check_order(truth: LabelTruth, first: np.ndarray, counts: np.ndarray, folder: Path) -> None:
    """FormatError unless the people of each image stand beside each other."""
    same = np.repeat(truth.imgname[first], counts)[np.argsort(np.repeat(first, counts), kind="stable")]
    if not np.array_equal(same, truth.imgname):
        raise FormatError(f"the truth of the label set in {folder} does not keep the people of an image together")
