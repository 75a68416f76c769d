"""What lies below a folder of data: found, missing or malformed, before an hour of training finds out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.training.datasets.bad_records import MOST_UNUSABLE
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.datasets.body_table import BodyImages, bad_records
from crowdmesh.training.datasets.built import BuiltImages
from crowdmesh.training.datasets.catalogue import DATASETS, DatasetSpec, dataset_spec
from crowdmesh.training.datasets.label_truth import LabelTruthImages
from crowdmesh.training.datasets.points import PointImages
from crowdmesh.training.datasets.synthetic import WorldImages
from crowdmesh.training.sample import TrainingSample

Status = Literal["found", "missing", "malformed", "no body model"]
Progress = Callable[[str, int, int], None]
"""Called with the data set's name, images done, images in all."""

_NAMED = 5
_COSTLY = (WorldImages, LabelTruthImages)  # a sample is decoded or staged anew; what is told of all was checked at once
_EVERY = 256


@dataclass(frozen=True)
class DatasetCheck:
    """What was found of one split of a data set.

    Attributes:
        name, split: of it. title: in prose.
        status: ``missing``: it is not there; ``malformed``: its annotations cannot be used; ``no body model``: they
            need a licensed model that is missing.
        path: the annotation file, or the folder of a set of ours. problem: one sentence, where there is no data set.
        images: with labelled people. people: labelled ones.
        looked_at: images whose labels were looked at one by one: all, but for truth that is made anew for each image.
        without_people: images of the annotation file where nobody is labelled; they are not trained on.
        everybody: of those looked at, images in which all people are labelled. bodies: with bodies to learn in 3D.
        bad_records: images whose labels cannot be used (NaN, say) and that are left out, the first few by message;
            bad_record_count: all.
        missing_images: image files that are not there, the first few; missing_count: all of those looked at.
        decoded: images that were read as a sample of all; damaged: what is wrong with those that cannot be read.
        misfits: images of that sample whose size does not fit the labels: the principal point lies outside.
    """

    name: str
    title: str
    split: str
    status: Status
    path: Path | None = None
    problem: str | None = None
    images: int = 0
    people: int = 0
    looked_at: int = 0
    without_people: int = 0
    everybody: int = 0
    bodies: int = 0
    bad_records: tuple[str, ...] = ()
    bad_record_count: int = 0
    missing_images: tuple[Path, ...] = ()
    missing_count: int = 0
    decoded: int = 0
    damaged: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether training would take it: labels that can be used, no more than 1 % of the images unusable."""
        if self.status != "found" or self.misfits or self.damaged:  # of so few tried, one is no accident
            return False
        return self.missing_count + self.bad_record_count <= MOST_UNUSABLE * self.looked_at

    def summary(self) -> str:
        """One line: counts, and what is wrong."""
        if self.problem is not None:
            return self.problem
        parts = [f"{self.images:,} images, {self.people:,} people"]
        if self.looked_at < self.images:
            parts.append(f"{self.looked_at} of them looked at")
        counts = {
            "without labelled people": self.without_people,
            "image files missing": self.missing_count,
            "bad records": self.bad_record_count,
            f"of {self.decoded} images tried damaged": len(self.damaged),
            f"of {self.decoded} images tried do not fit their labels": len(self.misfits),
        }
        return "; ".join([*parts, *(f"{count:,} {what}" for what, count in counts.items() if count)])

    def examples(self) -> tuple[str, ...]:
        """The first few things that are wrong, each one line."""
        return (
            *self.bad_records,
            *(f"{path} is missing" for path in self.missing_images),
            *self.damaged,
            *self.misfits,
        )


@dataclass(frozen=True)
class RootCheck:
    """What lies below a folder of data.

    Attributes:
        root: the folder. datasets: the splits that were looked for, in the order of the catalogue.
    """

    root: Path
    datasets: tuple[DatasetCheck, ...]

    @property
    def found(self) -> tuple[DatasetCheck, ...]:
        """Those that are there, whether they can be used or not."""
        return tuple(check for check in self.datasets if check.status != "missing")

    @property
    def usable(self) -> bool:
        """Whether something is there, and all that is there can be trained on."""
        return bool(self.found) and all(check.usable for check in self.found)


def check_root(
    root: str | Path,
    names: Sequence[str] | None = None,
    unpickle: bool = False,
    progress: Progress | None = None,
    decode: int = 16,
) -> RootCheck:
    """Open every data set below a folder, look at all of its labels and for all of its images, and read some of them.

    Every synthetic world directly below the folder is looked at; one of an unusual name is called ``world in NAME``.

    Args:
        root: the folder of all data.
        names: data sets to look for; ``None``: all of the catalogue.
        unpickle: read pickled annotation files, through the restricted unpickler.
        progress: called while images are looked for.
        decode: images to read of each data set, at equal distances.

    Raises:
        InputError: no such folder, or an unknown name.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is no folder; name the folder that holds all training data")
    specs = [dataset_spec(name) for name in names] if names is not None else list(DATASETS.values())
    wanted = [(spec, split) for spec in specs for split in (("all",) if "all" in spec.splits else spec.splits)]
    checks = [check_dataset(spec, root, split, unpickle, progress, decode) for spec, split in wanted]
    world = DATASETS["world"]
    if world in specs:
        folders = [folder.name for folder in sorted(root.iterdir()) if world.holds(folder)]
        others = [name for name in folders if name not in world.folders]
        checks += [check_dataset(world, root, "all", unpickle, progress, decode, path=name) for name in others]
    return RootCheck(root, tuple(checks))


def check_dataset(
    spec: DatasetSpec,
    root: Path,
    split: str = "train",
    unpickle: bool = False,
    progress: Progress | None = None,
    decode: int = 16,
    path: str | None = None,
) -> DatasetCheck:
    """As :func:`check_root`, of one split of one data set; ``path``: where it lies below the root, if not as usual."""
    name = spec.name if path is None else f"{spec.name} in {path}"
    check = DatasetCheck(name, spec.title, split, "missing")
    try:
        check = replace(check, path=spec.find(root, split, path).path)
        dataset = spec.open(root, unpickle, split, path)
    except (InputError, FormatError, AssetError) as error:
        wrong: Status = "no body model" if isinstance(error, AssetError) else "malformed"
        return replace(check, status=wrong if check.path is not None else "missing", problem=str(error))
    return _looked_through(replace(check, status="found"), dataset, progress, decode)


def _looked_through(check: DatasetCheck, dataset: Dataset, progress: Progress | None, decode: int) -> DatasetCheck:
    count = len(dataset)
    tried = set(np.linspace(0, count - 1, min(decode, count)).astype(int).tolist())
    looked_at = sorted(tried) if isinstance(dataset, _COSTLY) else range(count)
    bad = list(bad_records(dataset))
    missing, damaged, misfits = [], [], []
    people = everybody = bodies = decoded = 0
    for done, index in enumerate(looked_at):
        if progress is not None and done % _EVERY == 0:
            progress(check.name, done, len(looked_at))
        try:
            sample = dataset.sample(index)
        except (InputError, FormatError) as error:
            bad.append(str(error))
            continue
        people += len(sample.people)
        everybody += sample.supervision.everybody
        bodies += sample.supervision.bodies
        if isinstance(sample.image, Path) and not sample.image.is_file():
            missing.append(sample.image)
        elif index in tried:
            decoded += 1
            _try_image(sample, damaged, misfits)
    if progress is not None:
        progress(check.name, len(looked_at), len(looked_at))
    return replace(
        check,
        images=count,
        people=_people(dataset) if isinstance(dataset, _COSTLY) else people,
        looked_at=len(looked_at),
        without_people=_left_out(dataset),
        everybody=everybody,
        bodies=bodies,
        bad_records=tuple(bad[:_NAMED]),
        bad_record_count=len(bad),
        missing_images=tuple(missing[:_NAMED]),
        missing_count=len(missing),
        decoded=decoded,
        damaged=tuple(damaged),
        misfits=tuple(misfits),
    )


def _people(dataset: WorldImages | LabelTruthImages) -> int:
    """Labelled people of all images."""
    return int((dataset.table if isinstance(dataset, WorldImages) else dataset).starts[-1])


def _left_out(dataset: Dataset) -> int:
    """Images of the annotations that are not in the data set, as nobody is labelled there."""
    if isinstance(dataset, (BodyImages, BuiltImages, WorldImages)):
        return len(dataset.table.without_people)
    return len(dataset.without_people) if isinstance(dataset, PointImages) else 0


def _try_image(sample: TrainingSample, damaged: list[str], misfits: list[str]) -> None:
    """Read an image, and see whether it can be the one that the labels mean."""
    try:
        height, width = sample.pixels().shape[:2]
    except (InputError, FormatError) as error:
        damaged.append(str(error))
        return
    if sample.intrinsics_px is None:
        return
    x, y = sample.intrinsics_px[:2, 2]
    if not (0 < x < width and 0 < y < height):
        misfits.append(
            f"{sample.key} has {width} x {height} pixels and a principal point at ({x:g}, {y:g}); it is another image, "
            "or one of another size, than the one that was annotated"
        )
