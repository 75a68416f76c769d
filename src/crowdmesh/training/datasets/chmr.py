"""The labels of CameraHMR and DTO-Humans on COCO, MPII, AI Challenger and InstaVariety: SMPL in the camera frame.

``*_CHMR_SMPL.npz`` holds CameraHMR's fit of each person on its own: it is right in the image, and 3D is not to be
learned from it. ``*_CHMR_SMPL_OPT.npz`` holds the same people after the joint optimisation of DTO-Humans, with the kid
axis as the eleventh beta: everything may be learned. Neither labels everybody in a photograph, so that nothing is
learned from them of places where nobody is labelled (the release does, on all but MPII). Records are read as by
:mod:`crowdmesh.adapters.camerahmr`, one image after another.

The people of an image mostly share one camera. Where they do not, the first person's is the image's, as in the release,
and the others are put where that camera sees them as their own did
(:func:`crowdmesh.training.datasets.one_camera.under_one_camera`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from crowdmesh.adapters import camerahmr
from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats._archive import read_annots
from crowdmesh.formats.smpl_people import ten_or_eleven_betas
from crowdmesh.training.datasets.bad_records import refuse_many
from crowdmesh.training.datasets.body_table import BodyImages, BodyTable
from crowdmesh.training.datasets.one_camera import differs, under_one_camera
from crowdmesh.training.datasets.smpl_sets import rest_pelvis, rotations_of, vectors_of
from crowdmesh.training.sample import Supervision

FIRST_GUESSES = Supervision(bodies=False, shape=False, kid=False, everybody=False, camera=True)
"""Of ``*_CHMR_SMPL``: boxes, image joints, scale map and field of view."""

OPTIMISED = Supervision(bodies=True, shape=True, kid=True, everybody=False, camera=True)
"""Of ``*_CHMR_SMPL_OPT``."""

_WHAT = "label file"


def read_chmr(file: Path, unpickle: bool = False) -> BodyTable:
    """All people of a label file.

    Args:
        file: ``.npz`` with a pickled dictionary ``annots``, or ``.json`` with the same nesting.
        unpickle: read the pickled file of the field, through the restricted unpickler.

    Raises:
        InputError: no such file.
        FormatError: damaged, or more than 1 % of the records of another layout, or with NaN; names file, image, person
            and entry. Fewer are left out and told of in the table.
        AssetError: people of one image have different cameras, and there is no SMPL model to put them under one.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    nobody: list[str] = []
    bad: dict[str, str] = {}
    annots = read_annots(file, _WHAT, unpickle)
    for image, record in annots.items():
        try:
            people = _people(file, image, record)
        except FormatError as error:
            bad[image] = str(error)
            continue
        if people:
            found[image] = people
        else:
            nobody.append(image)
    refuse_many(file, bad, len(annots))
    return replace(_table(found, tuple(nobody)), bad_records=tuple(bad.values()))


def open_chmr(
    name: str, file: Path, folder: Callable[[tuple[str, ...]], Path], optimised: bool, unpickle: bool
) -> BodyImages:
    """A data set of :func:`read_chmr`.

    Args:
        name: of the data set. folder: finds the folder of images by their paths.
        optimised: labels of DTO-Humans, of which 3D may be learned.
    """
    table = read_chmr(file, unpickle)
    return BodyImages(name, file, folder(table.images), table, OPTIMISED if optimised else FIRST_GUESSES)


def _people(file: Path, image: str, record: object) -> dict[str, np.ndarray]:
    """The arrays of one image's people; empty for nobody."""
    if isinstance(record, (dict, list)) and not record:
        return {}
    try:
        fields = camerahmr.records({image: record}).get(image)
        if fields is None:
            raise FormatError("its record is not one of people: a list with 'smpl_param' and 'cam_param' each")
        people = camerahmr.arrays(fields)
        if people and people["shape"].shape[1] < 10:
            raise FormatError(f"'shape' has {people['shape'].shape[1]} numbers a person, not ten or more")
    except (FormatError, InputError) as error:
        raise FormatError(f"{file}: image {image!r}: {error}") from error
    intrinsics = people["cam_int"] if people else np.eye(3)[None]
    if np.any(intrinsics[:, [0, 1], [0, 1]] <= 0):
        raise FormatError(f"{file}: image {image!r}: focal lengths must be positive")
    return people


def _table(found: dict[str, dict[str, np.ndarray]], nobody: tuple[str, ...]) -> BodyTable:
    counts = np.array([len(people["pose_cam"]) for people in found.values()], np.int64)
    starts = np.concatenate(([0], counts.cumsum()))

    def column(name: str, width: tuple[int, ...]) -> np.ndarray:
        return np.concatenate([np.zeros((0, *width)), *(people[name] for people in found.values())])

    pose, betas = column("pose_cam", (24, 3)), ten_or_eleven_betas([b for p in found.values() for b in p["shape"]])
    translation, own = column("trans_cam", (3,)), column("cam_int", (3, 3))
    shared = own[np.repeat(starts[:-1], counts)]
    _share_camera(pose, betas, translation, own, shared)
    images = len(counts)
    return BodyTable(
        tuple(found),
        starts,
        pose.astype(np.float32),
        betas.astype(np.float32),
        translation,
        None,
        own[starts[:-1]],
        np.ones(images, bool),
        np.ones(images, bool),
        np.zeros(images, bool),
        nobody,
    )


def _share_camera(
    pose: Float[np.ndarray, "N 24 3"],
    betas: Float[np.ndarray, "N S"],
    translation_m: Float[np.ndarray, "N 3"],
    own_px: Float[np.ndarray, "N 3 3"],
    image_px: Float[np.ndarray, "N 3 3"],
) -> None:
    """Put people under their image's camera, in place, where theirs is another."""
    who = np.flatnonzero(differs(own_px, image_px))
    if not len(who):
        return
    rest = rest_pelvis(betas[who])
    root = rotations_of(pose[who, 0])
    pelvis, root = under_one_camera(rest + translation_m[who], root, own_px[who], image_px[who])
    pose[who, 0], translation_m[who] = vectors_of(root), pelvis - rest
