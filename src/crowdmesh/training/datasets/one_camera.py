"""People who were annotated under cameras of their own, put under the one camera of their image."""

from __future__ import annotations

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float

_SAME = 1e-6
_ALIGNED = 1e-12


def differs(own_px: Float[np.ndarray, "N 3 3"], image_px: Float[np.ndarray, "N 3 3"]) -> Bool[np.ndarray, " N"]:
    """Whose camera is not the image's (beyond what single precision leaves)."""
    return np.abs(own_px - image_px).max((1, 2)) > _SAME * np.abs(image_px).max((1, 2))


def under_one_camera(
    pelvis_m: Float[np.ndarray, "N 3"],
    root: Float[np.ndarray, "N 3 3"],
    own_px: Float[np.ndarray, "N 3 3"],
    image_px: Float[np.ndarray, "N 3 3"],
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3 3"]]:
    """Pelvis and root rotation of people under another camera, which sees them where their own camera did.

    The pelvis stays on its pixel. Its z changes with the (geometric mean) focal length, so that the body, whose metric
    size stays, keeps its size in the image; the body turns with the ray to its pelvis, so that the same side of it is
    seen. What then differs is perspective: how much nearer limbs are larger, and the stretch away from the centre.

    Args:
        pelvis_m: in the camera frame, in front of the camera (people behind it are returned as they are).
        root: root rotation into the camera frame.
        own_px, image_px: intrinsics of each person's own camera and of the image's.
    """
    pelvis_m, root = np.asarray(pelvis_m, np.float64), np.asarray(root, np.float64)
    in_front = pelvis_m[:, 2] > 0
    z = np.where(in_front, pelvis_m[:, 2], 1.0)
    centre_own, centre = own_px[:, :2, 2], image_px[:, :2, 2]
    focal_own, focal = own_px[:, [0, 1], [0, 1]], image_px[:, [0, 1], [0, 1]]
    pixel = focal_own * pelvis_m[:, :2] / z[:, None] + centre_own
    depth = z * np.sqrt(focal.prod(1) / focal_own.prod(1))
    moved = depth[:, None] * np.concatenate(((pixel - centre) / focal, np.ones((len(z), 1))), 1)
    turned = _between(pelvis_m, moved) @ root
    return np.where(in_front[:, None], moved, pelvis_m), np.where(in_front[:, None, None], turned, root)


def _between(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The shortest rotation from one direction to another, both in front of the camera."""
    old, new = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), _ALIGNED) for v in (old, new))
    axis = np.cross(old, new)
    sine = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = np.arctan2(sine, (old * new).sum(1, keepdims=True))
    return roma.rotvec_to_rotmat(torch.from_numpy(axis / np.maximum(sine, _ALIGNED) * angle)).numpy()
