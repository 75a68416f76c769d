"""From depth ratios to bodies: everybody takes the corrected stature and is set where the joints project as before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crowdmesh.body import BodyModel
from crowdmesh.camera import Camera
from crowdmesh.people import People


@dataclass(frozen=True, eq=False)
class Reshaped:
    """People with new stature and place.

    Attributes:
        people: all of them, in their order.
        reprojection_px: (K,) root mean square distance between old and new image joints, pixels; 0 where unmoved.
        limited: (K,) the body model could not reach the stature; its ``stature_m`` says what it reached.
    """

    people: People
    reprojection_px: Float[np.ndarray, " K"]
    limited: Bool[np.ndarray, " K"]


@torch.no_grad()
def reshape(
    people: People, camera: Camera, body: BodyModel, depth_ratio: Float[np.ndarray, " K"], moved: Bool[np.ndarray, " K"]
) -> Reshaped:
    """Scale each moved person's depth and stature by ``depth_ratio`` (paper 3.2.3).

    Pushing a body away by r and enlarging it by r about the camera centre leaves its image as it was. A body without
    parameters is scaled exactly so. A parametric body gets the corrected stature along the shape axis that suits the
    age; its pelvis goes to exactly r times its depth, and x and y are re-solved by least squares so that the joints
    inside the image project where they did. Pose and orientation stay.
    """
    residual, limited = np.zeros(len(people)), np.zeros(len(people), bool)
    if not moved.any():
        return Reshaped(people, residual, limited)
    chosen = np.flatnonzero(moved)
    ratio = depth_ratio[chosen]
    if people.pose is None or people.shape is None:
        return Reshaped(scale_bodies(people, chosen, ratio), residual, limited)
    some = people[chosen]
    assert some.pose is not None and some.shape is not None and some.joints_m is not None
    shape, short = body.with_stature(
        torch.from_numpy(some.shape).float(), torch.from_numpy(some.stature_m * ratio).float(), some.age_years
    )
    output = body(shape, roma.rotvec_to_rotmat(torch.from_numpy(some.pose).float()), torch.zeros(len(some), 3))
    assert output.vertices is not None and body.pelvis is not None
    translation, residual[chosen] = resolve_translation(
        output.joints.double().numpy(), some.joints_m.astype(float), camera, body.pelvis, ratio
    )
    limited[chosen] = (short != 1).numpy()
    updates = {
        "shape": shape.numpy(),
        "stature_m": body.stature(shape).numpy(),
        "translation_m": translation,
        "vertices_m": _moved(output.vertices, translation),
        "joints_m": _moved(output.joints, translation),
    }
    return Reshaped(replace_rows(people, chosen, updates), residual, limited)


def resolve_translation(
    joints: Float[np.ndarray, "K J 3"],
    before_m: Float[np.ndarray, "K J 3"],
    camera: Camera,
    pelvis: int,
    ratio: Float[np.ndarray, " K"],
) -> tuple[Float[np.ndarray, "K 3"], Float[np.ndarray, " K"]]:
    """The translation that puts each pelvis at ``ratio`` times its depth and the joints back onto their image points.

    Args:
        joints: reshaped joints before translation, metres. before_m: joints of the first guess, camera frame.

    Returns:
        Translations, and the root mean square reprojection residual in pixels over the joints used: those inside the
        image, or all in front of the camera where fewer than three are inside.
    """
    depth = ratio * before_m[:, pelvis, 2] - joints[:, pelvis, 2]
    z = joints[..., 2] + depth[:, None]
    in_front = (z > 1e-3) & (before_m[..., 2] > 1e-3)
    safe_z = np.where(in_front, z, 1.0)
    wanted = before_m[..., :2] / np.where(in_front, before_m[..., 2], 1.0)[..., None]
    u, v = camera.fx * wanted[..., 0] + camera.cx, camera.fy * wanted[..., 1] + camera.cy
    inside = in_front & (u >= 0) & (v >= 0) & (u < camera.width) & (v < camera.height)
    used = np.where((inside.sum(1) >= 3)[:, None], inside, in_front)[..., None]
    # Minimise sum ((X + t) / z - wanted)^2: per axis a weighted mean with weights 1 / z.
    inverse = used / safe_z[..., None]
    sideways = (inverse * (wanted - joints[..., :2] / safe_z[..., None])).sum(1) / np.maximum(
        (inverse**2).sum(1), 1e-12
    )
    error = (joints[..., :2] + sideways[:, None]) / safe_z[..., None] - wanted
    squared = ((error * (camera.fx, camera.fy)) ** 2 * used).sum((1, 2)) / np.maximum(used.sum((1, 2)), 1)
    return np.concatenate((sideways, depth[:, None]), 1), np.sqrt(squared)


def scale_bodies(people: People, chosen: np.ndarray, ratio: np.ndarray) -> People:
    """Bodies without parameters, scaled about the camera centre."""
    factor = ratio[:, None]
    updates = {"stature_m": people.stature_m[chosen] * ratio, "translation_m": people.translation_m[chosen] * factor}
    for name in ("vertices_m", "joints_m"):
        points = getattr(people, name)
        if points is not None:
            updates[name] = points[chosen] * factor[..., None]
    return replace_rows(people, chosen, updates)


def replace_rows(people: People, chosen: np.ndarray, updates: dict[str, np.ndarray]) -> People:
    """People with the rows ``chosen`` of some arrays replaced."""
    values = {}
    for name, rows in updates.items():
        values[name] = getattr(people, name).copy()
        values[name][chosen] = rows
    return replace(people, **values)


def _moved(points: Tensor, translation: np.ndarray) -> np.ndarray:
    return (points.double() + torch.from_numpy(translation)[:, None]).float().numpy()
