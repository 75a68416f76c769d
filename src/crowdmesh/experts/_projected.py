"""Bodies in the image, as matching compares them with keypoints."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float

from crowdmesh.body import BodyModel, BodyOutput
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.experts.matching import Targets
from crowdmesh.people import People

_NECKS = ("neck", "neck01")
"""What body models call the joint from which a head reaches to its top."""


def project_people(people: People, body: BodyModel, camera: Camera) -> Targets:
    """COCO keypoints and head lengths in the image; NaN behind the camera.

    Raises:
        InputError: people without surface or joints, or of a body that has no neck.
    """
    if people.vertices_m is None or people.joints_m is None:
        raise InputError("people have no surface and joints; pose them first with crowdmesh.body.pose_people")
    joints, vertices = torch.from_numpy(people.joints_m), torch.from_numpy(people.vertices_m)
    coco = body.keypoints(BodyOutput(joints, vertices), "coco17").double().numpy()
    neck, top = _head(body)
    top_px, neck_px = (in_image(camera, points.double().numpy()) for points in (vertices[:, top], joints[:, neck]))
    return Targets(in_image(camera, coco), np.linalg.norm(top_px - neck_px, axis=-1))


def in_image(camera: Camera, points_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
    """Image points; NaN behind the camera."""
    return camera.project(np.where(points_m[..., 2:] > 0.0, points_m, np.nan))


@lru_cache(maxsize=8)
def _head(body: BodyModel) -> tuple[int, int]:
    """The neck joint, and the vertex that is highest at rest."""
    neck = next((body.joint_names.index(name) for name in _NECKS if name in body.joint_names), None)
    if neck is None:
        raise InputError(f"body {body.name!r} has no neck joint by which the size of a head could be told")
    shape = torch.tensor([[parameter.default for parameter in body.shape_params]])
    return neck, int(body.rest(shape)[0][0, :, "xyz".index(body.up)].argmax())
