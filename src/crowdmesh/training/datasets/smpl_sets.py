"""AGORA, BEDLAM, 3DPW and Hi4D: people annotated as SMPL in a world frame, brought into the camera frame.

| data set | shape | kid axis | everybody labelled |
|---|---|---|---|
| AGORA | yes | in images without children, and where the children have one of their own | unless somebody is invalid |
| BEDLAM | yes | yes: adults, so zero | yes |
| 3DPW | no: gendered bodies | yes: adults, so zero | no: the tracked people alone |
| Hi4D | no: gendered bodies | yes: adults, so zero | yes: pairs on a stage |

AGORA's children were refit with the adult model in the training file, so that a zero there says nothing. Who AGORA
calls invalid (too hidden, or outside the image) is no label; as such a person may still be seen, nothing is learned
from that image of places where nobody is labelled. Betas of a male or female model mean another body in the neutral
model that is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import roma
import torch
from jaxtyping import Float, Integer

from crowdmesh.adapters.camerahmr import betas_for
from crowdmesh.formats import SMPLPeople, read_3dpw, read_agora, read_bedlam, read_hi4d
from crowdmesh.formats.smpl_people import GENDERS, ten_or_eleven_betas
from crowdmesh.training.datasets.bad_records import refuse_many
from crowdmesh.training.datasets.body_table import BodyImages, BodyTable
from crowdmesh.training.datasets.one_camera import differs, under_one_camera
from crowdmesh.training.sample import Supervision
from crowdmesh.training.smpl_bodies import smpl_body

_CHUNK = 4096


@dataclass(frozen=True)
class SMPLSet:
    """One of the four data sets.

    Attributes:
        title: its name in prose. read: the reader of its annotation file.
        supervision: of its images; the table narrows ``everybody`` and ``kid``.
    """

    title: str
    read: Callable[[Path, bool, dict[str, str]], dict[str, SMPLPeople]]
    supervision: Supervision


def _labels(shape: bool, everybody: bool) -> Supervision:
    return Supervision(bodies=True, shape=shape, kid=True, everybody=everybody, camera=True)


SMPL_SETS = {
    "agora": SMPLSet("AGORA", read_agora, _labels(shape=True, everybody=True)),
    "bedlam": SMPLSet("BEDLAM", read_bedlam, _labels(shape=True, everybody=True)),
    "3dpw": SMPLSet("3DPW", read_3dpw, _labels(shape=False, everybody=False)),
    "hi4d": SMPLSet("Hi4D", read_hi4d, _labels(shape=False, everybody=True)),
}
"""The four layouts by name."""


def read_smpl_set(kind: str, file: Path, unpickle: bool = False) -> BodyTable:
    """All people of an annotation file, in the camera frame.

    Where SMPL's root turns about the joint J0 of the rest pose, a camera with rotation R and translation t sees a body
    of translation T at R (J0 + T) + t - J0. J0 depends on shape and gender, so the models are needed.

    Args:
        kind: of :data:`SMPL_SETS`.
        unpickle: read the pickled file of the field, through the restricted unpickler.

    Raises:
        InputError: no such file, or the kid axis is used and there is no kid template beside the SMPL model.
        FormatError: damaged, or more than 1 % of the records of another layout, or with NaN; names file, image, person
            and field. Fewer are left out and told of in the table.
        AssetError: an SMPL model of one of the genders is missing; says where to get it.
    """
    bad: dict[str, str] = {}
    annotations = SMPL_SETS[kind].read(file, unpickle, bad)
    refuse_many(file, bad, len(annotations) + len(bad))
    return replace(table_of(annotations), bad_records=tuple(bad.values()))


def table_of(annotations: Mapping[str, SMPLPeople]) -> BodyTable:
    """The valid people of all images, in the camera frame; images without any are left out."""
    kept = {image: people for image, people in annotations.items() if people.valid.any()}
    everyone = list(kept.values())

    def column(name: str, width: tuple[int, ...]) -> np.ndarray:
        parts = [getattr(people, name)[people.valid] for people in everyone]
        return np.concatenate([np.zeros((0, *width)), *parts])

    betas = ten_or_eleven_betas([row for people in everyone for row in people.betas[people.valid]])
    genders = np.array([GENDERS.index(g) for people in everyone for g, ok in _counted(people) if ok], np.uint8)
    counts = np.array([people.valid.sum() for people in everyone], np.int64)
    first = np.repeat(np.concatenate(([0], counts.cumsum()))[:-1], counts)
    rotation, shift = column("camera_rotation", (3, 3)), column("camera_translation_m", (3,))
    pose, translation, own = column("pose", (24, 3)), column("translation_m", (3,)), column("intrinsics_px", (3, 3))
    rest = rest_pelvis(betas, genders)
    pelvis = np.einsum("nij,nj->ni", rotation, rest + translation) + shift
    root = rotation @ rotations_of(pose[:, 0])
    moved = differs(own, own[first])
    pelvis[moved], root[moved] = under_one_camera(pelvis[moved], root[moved], own[moved], own[first][moved])
    pose[:, 0] = vectors_of(root)
    return BodyTable(
        tuple(kept),
        np.concatenate(([0], counts.cumsum())),
        pose.astype(np.float32),
        betas.astype(np.float32),
        pelvis - rest,
        genders if genders.any() else None,
        own[np.unique(first)],
        np.array([people.valid.all() for people in everyone], bool),
        np.array([_kid_axis_is_known(people) for people in everyone], bool),
        np.array([people.turn_clockwise for people in everyone], bool),
        tuple(image for image in annotations if image not in kept),
    )


def _counted(people: SMPLPeople) -> list[tuple[str, bool]]:
    return list(zip(people.genders, people.valid.tolist(), strict=True))


def _kid_axis_is_known(people: SMPLPeople) -> bool:
    """Whether the last beta says what it means of everybody: of children only where it is not zero."""
    if people.child is None:
        return True
    has_axis = people.betas.shape[1] == 11
    return all(has_axis and people.betas[k, -1] != 0 for k in np.flatnonzero(people.child & people.valid))


def open_smpl_set(
    name: str, kind: str, file: Path, folder: Callable[[tuple[str, ...]], Path], unpickle: bool
) -> BodyImages:
    """A data set of :func:`read_smpl_set`.

    Args:
        name: of the data set. folder: finds the folder of images by their paths.
    """
    table = read_smpl_set(kind, file, unpickle)
    return BodyImages(name, file, folder(table.images), table, SMPL_SETS[kind].supervision)


@torch.no_grad()
def rest_pelvis(
    betas: Float[np.ndarray, "N S"], genders: Integer[np.ndarray, " N"] | None = None
) -> Float[np.ndarray, "N 3"]:
    """The root joint of each person's rest pose, metres.

    Args:
        genders: numbers of :data:`crowdmesh.formats.smpl_people.GENDERS`; ``None``: all neutral.
    """
    found = np.zeros((len(betas), 3))
    for number, gender in enumerate(GENDERS):
        rows = np.flatnonzero(genders == number) if genders is not None else np.arange(len(betas) * (number == 0))
        for start in range(0, len(rows), _CHUNK):
            body, some = smpl_body(gender), rows[start : start + _CHUNK]
            shape = torch.from_numpy(betas_for(body, betas[some]))
            found[some] = body.rest_joints(shape)[:, 0].numpy()
    return found


def rotations_of(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3 3"]:
    """Rotation matrices of axis-angle vectors."""
    return roma.rotvec_to_rotmat(torch.from_numpy(np.ascontiguousarray(vectors, np.float64))).numpy()


def vectors_of(matrices: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 3"]:
    """Axis-angle vectors of rotation matrices."""
    return roma.rotmat_to_rotvec(torch.from_numpy(np.ascontiguousarray(matrices, np.float64))).numpy()
