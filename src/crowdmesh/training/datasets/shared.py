"""Images that two data sets have in common, whatever each calls itself and the image."""

from __future__ import annotations

from pathlib import Path

from crowdmesh.synth._label_files import IMAGES
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.datasets.body_table import BodyImages
from crowdmesh.training.datasets.built import BuiltImages
from crowdmesh.training.datasets.label_truth import LabelTruthImages
from crowdmesh.training.datasets.points import PointImages
from crowdmesh.training.datasets.synthetic import WorldImages


def shared_images(a: Dataset, b: Dataset) -> list[str]:
    """Images that are in both, by the names of the first.

    Links are followed up to the folder of images; two copies of a file count as two images.
    """
    folders = _folder(a), _folder(b)
    if folders[0] is None or folders[1] is None:
        return []
    first, second = folders[0].resolve(), folders[1].resolve()
    if not (first.is_relative_to(second) or second.is_relative_to(first)):
        return []
    others = {str(second / name) for name in _names(b)}
    return [name for name in _names(a) if str(first / name) in others]


def _folder(dataset: Dataset) -> Path | None:
    """What the names of its images are relative to."""
    if isinstance(dataset, LabelTruthImages):
        return dataset.file / IMAGES
    if isinstance(dataset, WorldImages):
        return dataset.file
    return dataset.folder if isinstance(dataset, (BodyImages, BuiltImages, PointImages)) else None


def _names(dataset: Dataset) -> list[str]:
    """Of its images, relative to the folder."""
    if isinstance(dataset, BuiltImages):  # of which the set says another path than where they lie
        return [str(file.relative_to(dataset.folder)) for file in dataset.image_files()]
    if isinstance(dataset, (BodyImages, WorldImages)):
        return list(dataset.table.images)
    return list(dataset.images) if isinstance(dataset, (PointImages, LabelTruthImages)) else []
