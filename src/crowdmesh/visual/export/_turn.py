"""Points and body parameters of the camera frame in another frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import roma
import torch
from jaxtyping import Float

from crowdmesh.body import body_of
from crowdmesh.errors import InputError
from crowdmesh.people import People
from crowdmesh.visual.export.frame import Frame

Points = TypeVar("Points", bound=np.ndarray)


@dataclass(frozen=True, eq=False)
class Parameters:
    """What the bodies of a file are posed with; ``None``: not there, or not to be had in the file's frame.

    Attributes:
        translation: (K, 3) root translation in the file's unit.
        pose: (K, J, 3) axis-angle, radians; joint 0 leads into the file's frame.
        shape: (K, S) as in the scene.
    """

    translation: Float[np.ndarray, "K 3"] | None
    pose: Float[np.ndarray, "K J 3"] | None
    shape: Float[np.ndarray, "K S"] | None


def turned(points_m: Points, frame: Frame) -> Points:
    """Camera-frame points (..., 3), metres, in the frame and unit of a file; the dtype stays."""
    return (points_m @ frame.rotation.T.astype(points_m.dtype)) * points_m.dtype.type(frame.per_metre)


def turned_parameters(people: People, frame: Frame) -> Parameters:
    """Parameters with which the body model, posed in metres, stands in the file's frame where the scene's bodies stand.

    A body turns about its root joint p (at rest, depending on the shape), not about the model's origin: vertices are
    R (x - p) + p + t. Turning them by Q makes the root rotation Q R and the translation Q (p + t) - p. The unit scales
    the translation alone: the body itself is posed in metres.

    A rigid body has no parameters; its translation is a point. Of other bodies without pose or shape nobody knows where
    the root joint is: in another frame than the camera's they have no translation.

    Raises:
        InputError, AssetError: the body model does not fit the people, or its files are missing.
    """
    if people.body == "rigid":
        return Parameters(turned(people.translation_m, frame), None, None)
    rotation = frame.rotation
    if np.array_equal(rotation, np.eye(3)):
        return Parameters(people.translation_m * frame.per_metre, people.pose, people.shape)
    if people.pose is None or people.shape is None:
        return Parameters(None, None, people.shape)
    root = _root_at_rest(people)
    translation = (root + people.translation_m) @ rotation.T - root
    pose = people.pose.copy()
    turns = torch.from_numpy(rotation) @ roma.rotvec_to_rotmat(torch.from_numpy(pose[:, 0]))
    pose[:, 0] = roma.rotmat_to_rotvec(turns).numpy()
    return Parameters(translation * frame.per_metre, pose, people.shape)


@torch.no_grad()
def _root_at_rest(people: People) -> Float[np.ndarray, "K 3"]:
    """Where the root joint rests in the model's own frame, metres."""
    assert people.shape is not None
    body = body_of(people)
    if people.shape.shape[1] != len(body.shape_params):
        raise InputError(
            f"body {body.name!r} has {len(body.shape_params)} shape parameters, but these people have "
            f"{people.shape.shape[1]}; use the model file with which the scene was made"
        )
    count = len(people)
    rest = torch.eye(3).expand(count, len(body.joint_names), 3, 3)
    output = body(torch.from_numpy(people.shape).float(), rest, torch.zeros(count, 3), vertices=False)
    return output.joints[:, 0].double().numpy()
