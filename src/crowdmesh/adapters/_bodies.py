"""From the numbers in a file to ``People``: SMPL's where there are parameters, surfaces elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import roma
import torch
from jaxtyping import Float

from crowdmesh.adapters._stature import LIMBS, stature_from_joints
from crowdmesh.adapters._values import check_faces
from crowdmesh.adapters.base import Given
from crowdmesh.body import SMPL, RigidBody, load_body, pose_people
from crowdmesh.body.keypoints import SMPL45
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.people import People

SMPL_INDEX = {name: i for i, name in enumerate(SMPL45)}

# A posed body of this extent along some axis is in metres. Systems that assume a long lens put people far away.
_EXTENTS_M, _FARTHEST_M = (0.1, 4.0), 3000.0
_APART_M = 0.01
_ROTATION_ERROR = 1e-2


def rotation_vectors(matrices: Float[np.ndarray, "K J 3 3"], what: str) -> Float[np.ndarray, "K J 3"]:
    """Axis-angle in radians of rotation matrices; FormatError if one is none."""
    identity = matrices @ np.swapaxes(matrices, -1, -2)
    wrong = ~(np.abs(identity - np.eye(3)).max((-1, -2)) <= _ROTATION_ERROR) | (np.linalg.det(matrices) < 0)
    if wrong.any():
        raise FormatError(f"{what} of person {np.flatnonzero(wrong.any(1))[0]} holds a matrix that is no rotation")
    return roma.rotmat_to_rotvec(torch.from_numpy(matrices)).numpy()


def check_metres(vertices_m: Float[np.ndarray, "K V 3"]) -> None:
    """Refuse surfaces in another unit, or behind the camera."""
    extent, depth = np.ptp(vertices_m, 1).max(-1), vertices_m[..., 2].mean(1)
    for k in np.flatnonzero((extent < _EXTENTS_M[0]) | (extent > _EXTENTS_M[1])):
        unit = "millimetres" if 300 < extent[k] < 4000 else "centimetres" if 30 < extent[k] < 400 else "another unit"
        raise InputError(f"person {k} is {extent[k]:.3g} m large, so the file is in {unit}; convert it to metres")
    for k in np.flatnonzero((depth <= 0) | (depth > _FARTHEST_M)):
        raise InputError(
            f"person {k} stands {depth[k]:.3g} m in front of the camera; the file is of another frame or unit than "
            "its system writes"
        )


def smpl_people(
    pose: Float[np.ndarray, "K 24 3"],
    betas: Float[np.ndarray, "K S"],
    translation_m: Float[np.ndarray, "K 3"] | None,
    given: Given,
    vertices_m: Float[np.ndarray, "K V 3"] | None = None,
    joints_m: Float[np.ndarray, "K J 3"] | None = None,
    **evidence: Any,
) -> People:
    """People with SMPL's parameters; where the user has no SMPL, the file's own surfaces, rigid.

    Triangles said beside the file are needed for these surfaces alone; with SMPL, they must be SMPL's.

    Args:
        betas: ten, or eleven with the weight of AGORA's kid axis last; of more, the first ten count.
        translation_m: ``None``: the one that brings the posed joints to ``joints_m``.
        vertices_m, joints_m: the file's own surfaces and joints (the 24 of SMPL first) in the camera frame. They must
            agree with the posed bodies.

    Raises:
        AssetError: no SMPL here, and no surfaces with triangles in the file.
        FormatError: the file's surfaces are not those of its parameters.
        InputError: other triangles than SMPL's.
    """
    if not len(pose):
        return nobody()
    try:
        body = load_body("smpl")
    except AssetError:
        if vertices_m is None or given.faces is None:
            raise
        limbs = None if joints_m is None else limbs_of(joints_m, SMPL_INDEX)
        return rigid_people(vertices_m, given, "the triangles of SMPL", limbs, joints_m=joints_m, **evidence)
    check_faces(given.faces, body.faces.numpy(), "SMPL, whose parameters the file has")
    betas = betas_for(body, betas)
    if translation_m is None:
        assert joints_m is not None
        translation_m = _from_joints(body, pose, betas, joints_m)
    people = People(
        body="smpl",
        pose=pose,
        shape=betas,
        translation_m=translation_m,
        stature_m=body.stature(torch.from_numpy(betas).float()).double().numpy(),
        **evidence,
    )
    people = pose_people(people, body)
    assert people.vertices_m is not None and people.joints_m is not None
    check_metres(people.vertices_m)
    if vertices_m is not None:
        _check_agreement(people.vertices_m, vertices_m, "surface")
    if joints_m is not None:
        _check_agreement(people.joints_m, joints_m[:, : people.joints_m.shape[1]], "skeleton")
    return people


def betas_for(body: SMPL, betas: Float[np.ndarray, "K S"]) -> Float[np.ndarray, "K S2"]:
    """As many betas as the body has, from ten, or eleven with AGORA's kid axis last; of more, the first ten count.

    Raises:
        InputError: somebody is on the kid axis, and the body has none.
    """
    size = len(body.shape_params)
    betas = betas if betas.shape[1] in (10, 11) else betas[:, :10]
    if betas.shape[1] > size and np.any(betas[:, size:]):
        raise InputError(
            "the file has the kid axis of SMPL-A, and no smpl_kid_template.npy lies beside the SMPL model; put it there"
        )
    return np.pad(betas, ((0, 0), (0, max(0, size - betas.shape[1]))))[:, :size]


@torch.no_grad()
def _from_joints(body: SMPL, pose: np.ndarray, betas: np.ndarray, joints_m: np.ndarray) -> np.ndarray:
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(pose).float())
    own = body(torch.from_numpy(betas).float(), rotations, torch.zeros(len(pose), 3), vertices=False).joints.numpy()
    return (joints_m[:, : own.shape[1]] - own).mean(1)


def _check_agreement(own_m: np.ndarray, file_m: np.ndarray, what: str) -> None:
    if own_m.shape != file_m.shape:
        raise FormatError(f"a {what} of the file has {file_m.shape[1]} points, one of SMPL {own_m.shape[1]}")
    apart = np.linalg.norm(own_m - file_m, axis=-1).mean(-1)
    for k in np.flatnonzero(~(apart <= _APART_M)):
        raise FormatError(
            f"the {what} of person {k} is {100 * apart[k]:.1f} cm (mean) from the SMPL body of its own pose, shape "
            "and translation; the system used another SMPL model than the one installed here (gender, version), or "
            "the file is of another version than is read here"
        )


def rigid_people(
    vertices_m: Float[np.ndarray, "K V 3"],
    given: Given,
    faces_of: str,
    limbs_m: Float[np.ndarray, "K 8 3"] | None = None,
    joints_m: Float[np.ndarray, "K J 3"] | None = None,
    **evidence: Any,
) -> People:
    """People as surfaces of their own.

    Args:
        given: has the triangles, and the statures if the file says them.
        faces_of: whose triangles are wanted, for the message.
        limbs_m: joints in the order of ``LIMBS``, from which the statures are estimated if the file says none.
    """
    faces, stature_m = given.faces, given.stature_m
    if not len(vertices_m):
        return nobody()
    if faces is None:
        raise InputError(
            f"the file has surfaces without triangles; give {faces_of} with --faces FILE (.npy, .npz, or .obj), "
            "or save them into the file as 'faces'"
        )
    check_metres(vertices_m)
    RigidBody(faces, vertices_m.shape[1])
    if stature_m is None:
        if limbs_m is None:
            raise InputError("the file has no joints to tell statures from; save 'stature_m', metres, one per person")
        stature_m = stature_from_joints(limbs_m)
    return People(
        body="rigid",
        vertices_m=vertices_m.astype(np.float32),
        faces=faces.astype(np.int64),
        stature_m=stature_m,
        joints_m=joints_m,
        translation_m=vertices_m.mean(1),
        **evidence,
    )


def limbs_of(joints_m: Float[np.ndarray, "K J 3"], index: dict[str, int]) -> Float[np.ndarray, "K 8 3"]:
    """The joints that statures are told from."""
    return joints_m[:, [index[name] for name in LIMBS]]


def nobody() -> People:
    """No people, of no particular body."""
    return People(
        body="rigid",
        translation_m=np.zeros((0, 3)),
        stature_m=np.zeros(0),
        vertices_m=np.zeros((0, 1, 3), np.float32),
        faces=np.zeros((0, 3), np.int64),
    )
