"""Every data set that can be trained on: what it is, where it lies below the folder of all data, how it is opened."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from crowdmesh.errors import InputError
from crowdmesh.pgt.shards import SHARDS
from crowdmesh.synth.label_set import MANIFEST as LABEL_SET
from crowdmesh.synth.shards import MANIFEST as WORLD
from crowdmesh.training.datasets._where import Where, annotation_file, bases_of
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.datasets.built import open_built_set
from crowdmesh.training.datasets.chmr import open_chmr
from crowdmesh.training.datasets.label_truth import open_label_truth
from crowdmesh.training.datasets.points import ImageFolder, open_mupots, open_panoptic, open_relative_human
from crowdmesh.training.datasets.smpl_sets import open_smpl_set
from crowdmesh.training.datasets.synthetic import open_world_images


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
        name: as in stages and on the command line. title: in prose.
        folders: its usual names below the folder of all data.
        files: split -> annotation files without suffix (``.npz`` or ``.json``), relative to one of the folders or to
            the folder of all data; the first that is there counts. Of a set of ours: none, its folder is opened.
        splits: which there are; ``all`` of a set of ours is its other two together.
        images: where images may lie, relative to one of the folders; ``{split}`` stands for the split.
        source: where users get it. licence: of its labels and images, in short.
        reader: opens what was found.
        mark: of a set of ours, the file or folder by which it is known.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    images: tuple[str, ...]
    source: str
    licence: str
    reader: Callable[[Where], Dataset]
    splits: tuple[str, ...] = ("train",)
    mark: str = ""

    def holds(self, folder: Path) -> bool:
        """Whether a folder is such a set of ours."""
        return bool(self.mark) and (folder / self.mark).exists()

    def find(self, root: Path, split: str = "train", path: str | None = None, unpickle: bool = False) -> Where:
        """Where the data set lies; nothing is read.

        Args:
            root: the folder of all data.
            split: ``train``, ``validation`` ...
            path: where it lies below the root, a folder or an annotation file; ``None``: where it usually does.

        Raises:
            InputError: no such split, or not found; says what was looked for, where, and where to get it.
        """
        if split not in self.splits:
            raise InputError(f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}")
        bases = bases_of(root, self.folders, path)
        hint = f"{self.title} comes from {self.source}"
        if not self.files:
            return Where(self.name, split, _folder(root, self, split, path, hint), unpickle=unpickle)
        file = annotation_file(root, bases, self.files[split], path, hint)
        images = tuple(folder.format(split=split) for folder in self.images)
        return Where(self.name, split, file, bases, images, unpickle)

    def open(self, root: Path, unpickle: bool = False, split: str = "train", path: str | None = None) -> Dataset:
        """The data set, with its annotations read; images are not.

        Args:
            unpickle: read a pickled annotation file, through the restricted unpickler. Others: as for :meth:`find`.

        Raises:
            InputError: not found, no such split, or without images.
            FormatError: damaged, pickled without ``unpickle``, or a bad record; names file, image and field.
            AssetError: a licensed body model that its labels need is missing.
        """
        where = self.find(Path(root), split, path, unpickle)
        dataset = self.reader(where)
        if not len(dataset):
            raise InputError(f"{where.path} has no image with labelled people; leave {self.name} out or correct it")
        return dataset


def _folder(root: Path, spec: DatasetSpec, split: str, path: str | None, hint: str) -> Path:
    if path is not None:
        if (root / path).is_dir():
            return root / path
        raise InputError(f"no folder {root / path}: {hint}")
    places = [root / folder.format(split=split) for folder in spec.folders]
    for place in places:
        if spec.holds(place):
            return place
    raise InputError(f"no folder {' or '.join(map(str, places))} with {spec.mark} in it: {hint}")


def _smpl(kind: str, where: Where) -> Dataset:
    return open_smpl_set(where.name, kind, where.path, where.image_folder, where.unpickle)


def _chmr(optimised: bool, where: Where) -> Dataset:
    return open_chmr(where.name, where.path, where.image_folder, optimised, where.unpickle)


def _points(opened: Callable[[str, Path, ImageFolder, bool], Dataset], where: Where) -> Dataset:
    return opened(where.name, where.path, where.image_folder, where.unpickle)


def _photographs(short: str, title: str, folder: str, images: tuple[str, ...]) -> tuple[DatasetSpec, DatasetSpec]:
    """CameraHMR's and DTO-Humans' labels of one set of photographs."""
    capitals = short.upper()
    return (
        DatasetSpec(
            f"{short}-chmr",
            f"{title} with CameraHMR's labels",
            (folder,),
            {"train": (f"{capitals}_CHMR_SMPL", f"labels/{capitals}_CHMR_SMPL")},
            images,
            "https://camerahmr.is.tue.mpg.de (labels, regrouped as MA-HMR describes) and the photographs' own site",
            "labels: non-commercial research",
            partial(_chmr, False),
        ),
        DatasetSpec(
            f"{short}-dto",
            f"{title} with DTO-Humans' labels",
            (folder,),
            {"train": (f"{capitals}_CHMR_SMPL_OPT", f"labels/{capitals}_CHMR_SMPL_OPT")},
            images,
            "DTO-Humans (labels) and the photographs' own site, or a set of crowdmesh build, exported",
            "labels: non-commercial research",
            partial(_chmr, True),
        ),
    )


_ONE_IN_TWENTY = ("train", "validation", "all")  # of sets of ours; which, the names of the images say
_BEDLAM_IMAGES = ("images", "{split}", "bedlam_{split}", ".")
_BODIES = (
    DatasetSpec(
        "agora",
        "AGORA",
        ("agora", "AGORA"),
        {
            "train": ("smpl_neutral_annots/annots_smpl_train_fit", "annots_smpl_train_fit"),
            "validation": ("smpl_neutral_annots/annots_smpl_validation", "annots_smpl_validation"),
        },
        ("{split}", ".", "images/{split}", "images"),
        "https://agora.is.tue.mpg.de",
        "non-commercial research, registration",
        partial(_smpl, "agora"),
        ("train", "validation"),
    ),
    DatasetSpec(
        "bedlam",
        "BEDLAM at 6 images a second",
        ("bedlam", "BEDLAM"),
        {"train": ("bedlam_smpl_train_6fps",), "validation": ("bedlam_smpl_validation_6fps",)},
        _BEDLAM_IMAGES,
        "https://bedlam.is.tue.mpg.de",
        "non-commercial research, registration",
        partial(_smpl, "bedlam"),
        ("train", "validation"),
    ),
    DatasetSpec(
        "bedlam-1fps",
        "BEDLAM at one image a second",
        ("bedlam", "BEDLAM"),
        {"train": ("bedlam_smpl_train_1fps",)},
        _BEDLAM_IMAGES,
        "https://bedlam.is.tue.mpg.de",
        "non-commercial research, registration",
        partial(_smpl, "bedlam"),
    ),
    DatasetSpec(
        "3dpw",
        "3DPW",
        ("3dpw", "3DPW"),
        {"train": ("annots_smpl_train_genders",), "validation": ("annots_smpl_validation_genders",)},
        (".", "images"),
        "https://virtualhumans.mpi-inf.mpg.de/3DPW",
        "non-commercial research, registration",
        partial(_smpl, "3dpw"),
        ("train", "validation"),
    ),
    DatasetSpec(
        "hi4d",
        "Hi4D",
        ("hi4d", "Hi4D"),
        {"train": ("hi4d_smpl_train",), "validation": ("hi4d_smpl_val", "hi4d_smpl_validation")},
        (".", "images", "data"),
        "https://yifeiyin04.github.io/Hi4D",
        "non-commercial research, registration",
        partial(_smpl, "hi4d"),
        ("train", "validation"),
    ),
)
_PHOTOGRAPHS = (
    *_photographs("coco", "COCO", "coco", ("train2014", "images/train2014", "images", ".")),
    *_photographs("mpii", "MPII", "mpii", ("images", ".")),
    *_photographs("aic", "AI Challenger", "aic", ("images", "train", ".")),
    *_photographs("insta", "InstaVariety", "insta", (".", "images", "..")),
)

_POINTS = (
    DatasetSpec(
        "relative-human",
        "Relative Human",
        ("RelativeHuman", "relative-human"),
        {"train": ("train_annots",), "validation": ("val_annots",)},
        ("images", "."),
        "https://github.com/Arthur151/Relative_Human",
        "non-commercial research; the photographs' own terms",
        partial(_points, open_relative_human),
        ("train", "validation"),
    ),
    DatasetSpec(
        "panoptic",
        "CMU Panoptic",
        ("cmu_panoptic", "panoptic"),
        {"train": ("annots_train",), "validation": ("annots_validation",)},
        (".", "images"),
        "http://domedb.perception.cs.cmu.edu",
        "non-commercial research",
        partial(_points, open_panoptic),
        ("train", "validation"),
    ),
    DatasetSpec(
        "mupots",
        "MuPoTS-3D (made to test on: what trains on it must not be judged on it)",
        ("mupots", "MuPoTS", "MultiPersonTestSet"),
        {"test": ("mupots_annots",)},
        (".", "images", "MultiPersonTestSet"),
        "https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson",
        "non-commercial research",
        partial(_points, open_mupots),
        ("test",),
    ),
)
_OURS = (
    DatasetSpec(
        "set",
        "people placed together by crowdmesh build",
        ("set",),
        {},
        (),
        "crowdmesh build",
        "that of the labels and photographs it was built of",
        lambda where: open_built_set(where.name, where.path, split=where.split),
        _ONE_IN_TWENTY,
        SHARDS,
    ),
    DatasetSpec(
        "set-before",
        "people as first guessed, of a set of crowdmesh build",
        ("set",),
        {},
        (),
        "crowdmesh build",
        "that of the labels and photographs it was built of",
        lambda where: open_built_set(where.name, where.path, before=True, split=where.split),
        _ONE_IN_TWENTY,
        SHARDS,
    ),
    DatasetSpec(
        "world",
        "the synthetic world",
        ("world",),
        {},
        (),
        "crowdmesh synth",
        "yours: this program made it",
        lambda where: open_world_images(where.name, where.path, where.split),
        _ONE_IN_TWENTY,
        WORLD,
    ),
    DatasetSpec(
        "label-truth",
        "the truth behind a synthetic label set",
        ("labels", "label-set"),
        {},
        (),
        "crowdmesh synth --layout 4dhumans",
        "yours: this program made it",
        lambda where: open_label_truth(where.name, where.path, where.split),
        _ONE_IN_TWENTY,
        LABEL_SET,
    ),
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (*_BODIES, *_PHOTOGRAPHS, *_POINTS, *_OURS)}
"""Every data set by its name."""


def dataset_spec(name: str) -> DatasetSpec:
    """The data set of a name.

    Raises:
        InputError: there is none of that name; says which there are, and the likeliest.
    """
    if name in DATASETS:
        return DATASETS[name]
    close = difflib.get_close_matches(name, DATASETS, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"unknown data set {name!r}; {meant}use one of {', '.join(DATASETS)}")
