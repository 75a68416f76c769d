"""The user's own SMPL files that the mesh protocols need: gendered models, joint regressor, body vertices."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int

from crowdmesh._files import read_npy
from crowdmesh.assets import search_folders
from crowdmesh.benchmarks._projection import projected
from crowdmesh.body import SMPL, find_smpl, find_smpl_of_gender
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.formats import SMPLPeople

NUM_VERTICES = 6890
H36M_REGRESSOR = "J_regressor_h36m_correct.npy"
BODY_VERTICES = "body_verts_smpl.npy"

_NUM_BETAS = 10
_ROW_SUM_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class MeshPeople:
    """n people of one image as SMPL surfaces in the camera frame, annotated or predicted.

    Attributes:
        vertices_m: (n, 6890, 3) metres. joints_m: (n, 24, 3) SMPL's joints, metres.
        translation_m: (n, 3) SMPL's translation in the camera frame; joint regressors are applied without it.
        stature_m: (n,) height of the T-pose.
        joints_px: (n, 24, 2) the joints in the image, pixels of the image as published.
        valid: (n,) whether the data set counts the person.
    """

    vertices_m: Float[np.ndarray, "n 6890 3"]
    joints_m: Float[np.ndarray, "n 24 3"]
    translation_m: Float[np.ndarray, "n 3"]
    stature_m: Float[np.ndarray, " n"]
    joints_px: Float[np.ndarray, "n 24 2"]
    valid: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.vertices_m)

    def __getitem__(self, chosen: np.ndarray | list[int]) -> MeshPeople:
        """The chosen people."""
        return MeshPeople(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def regressed(self, regressor: Float[np.ndarray, "J 6890"]) -> Float[np.ndarray, "n J 3"]:
        """Joints that a regressor takes from the surfaces, metres."""
        return regressor @ (self.vertices_m - self.translation_m[:, None]) + self.translation_m[:, None]


def load_bodies(genders: Collection[str], folders: list[Path] | None = None) -> dict[str, SMPL]:
    """SMPL of each gender, in double precision, from ``smpl/`` of the asset folders (or the given folders themselves).

    A file is told by its name: ``SMPL_FEMALE.pkl``, ``basicmodel_f_lbs_10_207_0_v1.1.0.pkl`` ...

    Raises:
        AssetError: a gender is missing; says where to get it and where to put it.
    """
    folders = _folders(folders)
    return {gender: _load(find_smpl_of_gender(gender, folders)) for gender in sorted(genders)}


def load_regressor(folders: list[Path] | None = None) -> Float[np.ndarray, "17 6890"]:
    """The Human3.6M joint regressor (:data:`crowdmesh.formats.joints.H36M17`).

    Raises:
        AssetError: it is missing; says where to get it and where to put it.
        FormatError: it is not a (17, 6890) matrix whose rows sum up to one.
    """
    path = _file(H36M_REGRESSOR, folders, "it comes with the data of Pose2Mesh and of SAT-HMR")
    regressor = read_npy(path, "joint regressor")
    if regressor.shape != (17, NUM_VERTICES) or regressor.dtype.kind not in "fiu":
        raise FormatError(
            f"{path} must be a (17, {NUM_VERTICES}) matrix of numbers, got {regressor.dtype} {regressor.shape}"
        )
    sums = regressor.astype(np.float64).sum(1)
    if not np.all(np.abs(sums - 1) < _ROW_SUM_TOLERANCE):
        raise FormatError(
            f"{path}: the rows of a joint regressor must sum up to 1, these go from {sums.min():g} to {sums.max():g}"
        )
    return regressor.astype(np.float64)


def load_body_vertices(folders: list[Path] | None = None) -> Int[np.ndarray, " M"]:
    """Numbers of the vertices that AGORA's evaluation counts as body (neither hands nor head).

    Raises:
        AssetError: the file is missing; says where to get it and where to put it.
        FormatError: it does not hold numbers of vertices.
    """
    path = _file(BODY_VERTICES, folders, "it comes with AGORA's evaluation code and with the data of SAT-HMR")
    chosen = read_npy(path, "list of body vertices")
    if chosen.ndim != 1 or not chosen.size or chosen.dtype.kind not in "iu":
        raise FormatError(f"{path} must be one row of vertex numbers, got {chosen.dtype} {chosen.shape}")
    if chosen.min() < 0 or chosen.max() >= NUM_VERTICES:
        raise FormatError(f"{path} must hold vertex numbers from 0 to {NUM_VERTICES - 1}, got up to {chosen.max()}")
    return chosen.astype(np.int64)


@torch.no_grad()
def smpl_truth(people: SMPLPeople, bodies: Mapping[str, SMPL], kid_axis: bool = False) -> MeshPeople:
    """The annotated people of one image, posed with the model of each gender and brought into the camera frame.

    Args:
        kid_axis: use the eleventh beta; the released evaluations cut it off.

    Raises:
        InputError: the kid axis is asked for and not 0, but there is no kid template beside the model.
    """
    n = len(people)
    vertices, joints = np.zeros((n, NUM_VERTICES, 3)), np.zeros((n, 24, 3))
    pelvis, stature = np.zeros((n, 3)), np.zeros(n)
    for gender, body in bodies.items():
        who = np.flatnonzero(np.array(people.genders) == gender)
        if not len(who):
            continue
        shape = torch.from_numpy(_shape(people.betas[who], len(body.shape_params), kid_axis))
        rotations = roma.rotvec_to_rotmat(torch.from_numpy(people.pose[who]))
        output = body(shape, rotations, torch.from_numpy(people.translation_m[who]))
        assert output.vertices is not None
        vertices[who], joints[who] = output.vertices.numpy(), output.joints.numpy()
        pelvis[who], stature[who] = body.rest_joints(shape)[:, 0].numpy(), body.stature(shape).numpy()
    turn, shift = np.swapaxes(people.camera_rotation, -1, -2), people.camera_translation_m[:, None]
    joints = joints @ turn + shift
    # The root turns about the pelvis at rest, so SMPL's translation in the camera frame follows from the pelvis.
    return MeshPeople(
        vertices @ turn + shift,
        joints,
        joints[:, 0] - pelvis,
        stature,
        projected(joints, people.intrinsics_px),
        people.valid,
    )


def _shape(betas: np.ndarray, width: int, kid_axis: bool) -> np.ndarray:
    if kid_axis and width == _NUM_BETAS and np.any(betas[:, _NUM_BETAS:]):
        raise InputError(
            "the annotation uses AGORA's kid axis but there is no kid template beside the SMPL model; put "
            "smpl_kid_template.npy (https://agora.is.tue.mpg.de) there"
        )
    betas = betas if kid_axis else betas[:, :_NUM_BETAS]
    return np.pad(betas[:, :width], ((0, 0), (0, width - min(width, betas.shape[1]))))


def _folders(folders: list[Path] | None) -> list[Path]:
    return [folder / "smpl" for folder in search_folders()] if folders is None else folders


def _file(name: str, folders: list[Path] | None, source: str) -> Path:
    folders = _folders(folders)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise AssetError(f"no {name} found at {_named(folders)}: {source}; put it there")


def _named(folders: list[Path]) -> str:
    return f" {os.pathsep} ".join(map(str, folders))


@lru_cache(maxsize=4)
def _load(path: Path) -> SMPL:
    return SMPL(*find_smpl(path, [])).double()
