"""Data sets of points instead of bodies: Relative Human in the image, CMU Panoptic and MuPoTS-3D also in space.

Of their points those count that our layouts have too, under the same name. Their neck, spine, thorax, jaw, head and
head top are other points than any of ours. Relative Human's hips are left out, as in the release.

CMU Panoptic and MuPoTS give every joint in space and in the image, and no camera. It follows from the pairs
(:func:`camera_of`); an image whose pairs fit no pinhole camera teaches its image points alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.body.keypoints import BODY22
from crowdmesh.errors import InputError
from crowdmesh.formats.joints import CROWDPOSE14, H36M17, J24
from crowdmesh.formats.mupots import H36M_FROM_RAW, MuPoTSPerson, read_mupots
from crowdmesh.formats.panoptic import PanopticPeople, read_panoptic
from crowdmesh.formats.relative_human import RelativeHumanPerson, crowdpose_of, read_relative_human
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample

ImageFolder = Callable[[tuple[str, ...]], Path]
"""Finds the folder of images by their paths."""

LARGEST_MISFIT_PX = 2.0
"""Root mean square distance of image points from those that the recovered camera sees."""

_FEWEST_PAIRS = 8  # of a camera
_LEAST_POINTS = 4  # a person with fewer is not there for the network
_HIDDEN = 0.5  # confidence of a point that is known though something hides it
_MIDDLE_AGES = {0: 30.0, 1: 11.5, 2: 5.5, 3: 1.5}  # of adults, teens, kids and babies, to sort people by group alone
_NOT_IN_RELATIVE_HUMAN = ("left_hip", "right_hip")


@dataclass(frozen=True, eq=False)
class PointImages:
    """A data set of points (a :class:`crowdmesh.training.datasets.base.Dataset`).

    Attributes:
        name: of the data set. file: its annotation file. folder: of the images.
        images: paths below the folder. people, intrinsics_px, supervision: one each an image.
        without_people: images of the file that were left out, as nobody in them has points.
    """

    name: str
    file: Path
    folder: Path
    images: tuple[str, ...]
    people: tuple[LabelledPeople, ...]
    intrinsics_px: tuple[Float[np.ndarray, "3 3"] | None, ...]
    supervision: tuple[Supervision, ...]
    without_people: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def sample(self, index: int) -> TrainingSample:
        """One image with its labels; the pixels are not read."""
        image = self.images[index]
        return TrainingSample(
            f"{self.name}/{image}", self.name, self.folder / image, self.intrinsics_px[index], self.people[index],
            self.supervision[index],
        )  # fmt: skip

    def image_files(self) -> list[Path]:
        """The file of every image, in order."""
        return [self.folder / image for image in self.images]


@dataclass(frozen=True, eq=False)
class _Read:
    """What one image teaches."""

    people: LabelledPeople
    intrinsics_px: Float[np.ndarray, "3 3"] | None
    supervision: Supervision


def open_relative_human(name: str, file: Path, folder: ImageFolder, unpickle: bool = False) -> PointImages:
    """Relative Human: image points, depth layers and age groups of photographs.

    Everybody counts as labelled in images where all annotated people have points; people without points are left out.

    Raises:
        InputError: no such file, or nobody in it has points. FormatError: damaged, or a bad record.
    """
    annotations = read_relative_human(file, unpickle)
    return _dataset(name, file, folder, {image: relative_human(image, them) for image, them in annotations.items()})


def open_panoptic(name: str, file: Path, folder: ImageFolder, unpickle: bool = False) -> PointImages:
    """CMU Panoptic: joints in space and in the image. Raises as :func:`open_relative_human`."""
    annotations = read_panoptic(file, unpickle)
    return _dataset(name, file, folder, {image: panoptic(them) for image, them in annotations.items()})


def open_mupots(name: str, file: Path, folder: ImageFolder, unpickle: bool = False) -> PointImages:
    """MuPoTS-3D: joints in space and in the image. Raises as :func:`open_relative_human`."""
    annotations = read_mupots(file, unpickle)
    return _dataset(name, file, folder, {image: mupots(them) for image, them in annotations.items()})


def _dataset(name: str, file: Path, folder: ImageFolder, found: Mapping[str, _Read]) -> PointImages:
    images = tuple(image for image, read in found.items() if len(read.people))
    if not images:
        raise InputError(f"{file} has no image with points of people; leave {name} out or correct it")
    reads = [found[image] for image in images]
    return PointImages(
        name,
        file,
        folder(images),
        images,
        tuple(read.people for read in reads),
        tuple(read.intrinsics_px for read in reads),
        tuple(read.supervision for read in reads),
        tuple(image for image in found if image not in set(images)),
    )


def relative_human(image: str, people: tuple[RelativeHumanPerson, ...]) -> _Read:
    """The people of one image of Relative Human who have at least four points of ours."""
    kept = [i for i, point in enumerate(CROWDPOSE14) if point in BODY22 and point not in _NOT_IN_RELATIVE_HUMAN]
    points, layers, ages = [], [], []
    for person in people:
        if person.keypoints_px is None:
            continue
        mine = crowdpose_of(person.keypoints_px, image)[kept]
        if (mine[:, 2] > 0).sum() >= _LEAST_POINTS:
            points.append(np.where(mine[:, 2:] > 0, mine, 0.0))
            layers.append(person.depth_layer)
            ages.append(_MIDDLE_AGES.get(person.age, np.nan))
    labelled = LabelledPeople(
        len(points),
        point_names=tuple(CROWDPOSE14[i] for i in kept),
        keypoints_px=np.array(points).reshape(-1, len(kept), 3),
        depth_layers=np.array(layers, np.int64),
        age_years=np.array(ages, np.float64),
    )
    return _Read(labelled, None, _only_points(everybody=len(points) == len(people)))


def panoptic(people: PanopticPeople) -> _Read:
    """The people of one image of CMU Panoptic."""
    names = J24[: people.joints_m.shape[1]]
    return _in_space(names, people.joints_m, people.visibility, people.joints_px, people.visibility)


def mupots(people: tuple[MuPoTSPerson, ...]) -> _Read:
    """The people of one image of MuPoTS-3D; its occlusion labels are brought into the order of its joints.

    Hidden joints are known as well as visible ones: they come from several cameras.
    """
    count = len(people)
    joints_m = np.array([person.joints_mm for person in people]).reshape(count, 17, 3) / 1000
    pixels = np.array([person.joints_px for person in people]).reshape(count, 17, 2)
    hidden = np.array([person.occluded for person in people], bool).reshape(count, 17)[:, list(H36M_FROM_RAW)]
    return _in_space(H36M17, joints_m, np.ones((count, 17)), pixels, np.where(hidden, _HIDDEN, 1.0))


def _in_space(
    names: tuple[str, ...],
    joints_m: Float[np.ndarray, "K P 3"],
    known_m: Float[np.ndarray, "K P"],
    joints_px: Float[np.ndarray, "K P 2"] | None,
    known_px: Float[np.ndarray, "K P"],
) -> _Read:
    """People with joints in space, and with a camera if the image points agree on one."""
    kept = [i for i, name in enumerate(names) if name in BODY22]
    K = None if joints_px is None else camera_of(joints_m, joints_px, (known_m > 0) & (known_px > 0))
    pixels = None if joints_px is None else np.concatenate((joints_px, known_px[..., None]), -1)[:, kept]
    there = known_m[:, kept].astype(bool).sum(1) >= _LEAST_POINTS
    labelled = LabelledPeople(
        len(joints_m),
        point_names=tuple(names[i] for i in kept),
        keypoints_px=pixels,
        joints_m=np.concatenate((joints_m, known_m[..., None]), -1)[:, kept],
    )[there]
    supervision = Supervision(
        bodies=K is not None, shape=False, kid=False, everybody=False, camera=K is not None, scale_map=False
    )
    return _Read(labelled, K, supervision)


def _only_points(everybody: bool) -> Supervision:
    return Supervision(bodies=False, shape=False, kid=False, everybody=everybody, camera=False, scale_map=False)


def camera_of(
    joints_m: Float[np.ndarray, "*n 3"], joints_px: Float[np.ndarray, "*n 2"], known: Bool[np.ndarray, "*n"]
) -> Float[np.ndarray, "3 3"] | None:
    """The pinhole camera with square pixels that sees points in space where they are in the image.

    Least squares of x = f X / Z + c_x, y = f Y / Z + c_y.

    Returns:
        Its matrix; ``None`` with fewer than eight points, or if they miss their image points by more than
        :data:`LARGEST_MISFIT_PX` (root mean square), as with a lens that distorts, or lie behind it.
    """
    points, pixels = joints_m[known], joints_px[known]
    if len(points) < _FEWEST_PAIRS or points[:, 2].min() <= 0:
        return None
    rays = points[:, :2] / points[:, 2:]
    middle, centre = rays.mean(0), pixels.mean(0)
    spread = ((rays - middle) ** 2).sum()
    if not spread:
        return None
    focal = float(((rays - middle) * (pixels - centre)).sum() / spread)
    corner = centre - focal * middle
    misfit = np.sqrt(((focal * rays + corner - pixels) ** 2).sum(1).mean())
    if focal <= 0 or misfit > LARGEST_MISFIT_PX:
        return None
    return np.array([[focal, 0.0, corner[0]], [0.0, focal, corner[1]], [0.0, 0.0, 1.0]])
