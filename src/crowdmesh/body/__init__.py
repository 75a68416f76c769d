"""Body models: Anny (open, default), SMPL with a kid axis (the user's files), and rigid surfaces."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, overload

import numpy as np
import roma
import torch

from crowdmesh.assets import search_folders
from crowdmesh.body.anny import RESOLUTIONS, Anny
from crowdmesh.body.base import BodyModel, BodyOutput, ShapeParameter
from crowdmesh.body.rigid import RigidBody
from crowdmesh.body.smpl import SMPL, find_smpl, find_smpl_of_gender
from crowdmesh.errors import InputError
from crowdmesh.people import People

__all__ = [
    "BODIES",
    "RESOLUTIONS",
    "SMPL",
    "Anny",
    "BodyModel",
    "BodyOutput",
    "RigidBody",
    "ShapeParameter",
    "body_of",
    "find_smpl",
    "find_smpl_of_gender",
    "load_body",
    "pose_people",
]

BODIES = (*RESOLUTIONS, "smpl")
"""Names that :func:`load_body` knows; ``rigid`` bodies come with their people (:func:`body_of`)."""


@overload
def load_body(name: Literal["anny", "anny-hd"], path: str | Path | None = None) -> Anny: ...
@overload
def load_body(name: Literal["smpl"], path: str | Path | None = None) -> SMPL: ...
@overload
def load_body(name: str, path: str | Path | None = None) -> Anny | SMPL: ...
def load_body(name: str, path: str | Path | None = None) -> Anny | SMPL:
    """A body model by name.

    Args:
        name: ``"anny"`` (1,229 vertices), ``"anny-hd"`` (13,718, same parameters) or ``"smpl"``.
        path: for ``smpl``: a model file or its folder; by default ``smpl/`` in the asset folders.

    Raises:
        InputError: unknown name.
        AssetError: the files of a licensed body are missing; the message says how to get them.
    """
    if name in RESOLUTIONS:
        return _anny(name)
    if name == "smpl":
        return _smpl(*find_smpl(path, search_folders()))
    raise InputError(f"unknown body {name!r}; use one of {', '.join(BODIES)}")


@lru_cache(maxsize=4)
def _anny(name: str) -> Anny:
    return Anny(name)


@lru_cache(maxsize=2)
def _smpl(path: Path, kid_template: Path | None) -> SMPL:
    return SMPL(path, kid_template)


def body_of(people: People) -> BodyModel:
    """The body model that these people are made of."""
    if people.body == "rigid":
        count = people.vertices_m.shape[1] if people.vertices_m is not None else 0
        return RigidBody(people.faces, count)
    return load_body(people.body)


@torch.no_grad()
def pose_people(people: People, body: BodyModel | None = None) -> People:
    """Fill ``vertices_m`` and ``joints_m`` (camera frame, metres) from pose, shape and translation.

    Args:
        people: people with ``pose`` and ``shape``.
        body: the model to pose; by default the people's own. Another resolution of the same model
            (``anny-hd`` for ``anny``) is fine and becomes the people's body.
    """
    body = body or body_of(people)
    if people.pose is None or people.shape is None:
        raise InputError(f"people of body {people.body!r} have no pose and shape to build vertices from")
    if people.pose.shape[1] != len(body.joint_names) or people.shape.shape[1] != len(body.shape_params):
        raise InputError(
            f"body {body.name!r} needs pose ({len(body.joint_names)}, 3) and shape ({len(body.shape_params)},) "
            f"per person, got {people.pose.shape[1:]} and {people.shape.shape[1:]}"
        )
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(people.pose).float())
    output = body(torch.from_numpy(people.shape).float(), rotations, torch.from_numpy(people.translation_m).float())
    assert output.vertices is not None
    vertices = np.ascontiguousarray(output.vertices.numpy())
    return replace(people, body=body.name, vertices_m=vertices, joints_m=np.ascontiguousarray(output.joints.numpy()))
