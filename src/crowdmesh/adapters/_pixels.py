"""Cameras and image points of other systems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from crowdmesh.body.keypoints import COCO17, SMPL45
from crowdmesh.camera import Camera
from crowdmesh.errors import FormatError, InputError

COCO_FROM_OPENPOSE = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
"""Where the COCO keypoints are among the 25 of OpenPose."""
COCO_FROM_SMPL45 = tuple(SMPL45.index(name) for name in COCO17)
"""Where the COCO keypoints are among SMPL's 24 joints and 21 surface points."""


# Nearer than this to the camera's plane, or behind it, nothing has a place in the image.
_NEAREST_M = 0.01


def whole_size(width: float, height: float) -> tuple[int, int]:
    """An image's size in a file that has it as numbers of any type; FormatError if they are none of pixels."""
    if not (width == round(width) > 0 and height == round(height) > 0):
        raise FormatError(f"the image would have {width:g}x{height:g} pixels")
    return int(width), int(height)


def pinhole(focal: float, cx: float, cy: float, width: int, height: int) -> Camera:
    """A camera with square pixels."""
    return Camera(float(focal), float(focal), float(cx), float(cy), width, height)


def solve_pinhole(
    points_m: Float[np.ndarray, "N 3"], points_px: Float[np.ndarray, "N 2"]
) -> tuple[float, float, float]:
    """Focal length and principal point, in pixels, with which points project where a file says: least squares.

    Raises:
        FormatError: no camera does so within two pixels (median).
    """
    front = points_m[:, 2] > _NEAREST_M
    points_m, points_px = points_m[front], points_px[front]
    if len(points_m) < 3:
        raise FormatError("the file's 3D joints do not lie in front of the camera")
    slopes = points_m[:, :2] / points_m[:, 2:]
    n, zeros, ones = len(slopes), np.zeros(len(slopes)), np.ones(len(slopes))
    system = np.stack((slopes.T.reshape(-1), np.r_[ones, zeros], np.r_[zeros, ones]), 1)
    focal, cx, cy = np.linalg.lstsq(system, points_px.T.reshape(-1), rcond=None)[0]
    off = np.abs(system @ (focal, cx, cy) - points_px.T.reshape(-1)).reshape(2, n).max(0)
    if not (np.median(off) <= 2 and focal > 0):
        raise FormatError("no camera projects the file's 3D joints onto its own 2D joints; they are not of one image")
    return float(focal), float(cx), float(cy)


def check_pixels(camera: Camera, joints_m: Float[np.ndarray, "K J 3"], joints_px: Float[np.ndarray, "K J 2"]) -> None:
    """Refuse bodies that do not project to the file's own 2D joints, within a pixel (median)."""
    for k, (points, wanted) in enumerate(zip(joints_m, joints_px, strict=True)):
        front = points[:, 2] > _NEAREST_M
        if not front.any():
            raise FormatError(f"the 3D joints of person {k} do not lie in front of the camera")
        off = float(np.median(np.linalg.norm(camera.project(points[front]) - wanted[front], axis=-1)))
        if not off <= 1:
            raise _off(k, f"{off:.0f} px", camera)


def check_orthographic(
    camera: Camera, joints_m: Float[np.ndarray, "K J 3"], joints_px: Float[np.ndarray, "K J 2"]
) -> None:
    """Refuse bodies that project to another place or size than the file's own 2D joints, which are orthographic.

    Place within a tenth of the person's extent in the image, size within seven percent.
    """
    for k, (own, wanted) in enumerate(zip(camera.project(joints_m), joints_px, strict=True)):
        spread, should = (np.linalg.norm(p - p.mean(0), axis=-1).mean() for p in (own, wanted))
        if not abs(spread / should - 1) <= 0.07:
            raise _off(k, f"{100 * (spread / should - 1):+.0f} % in size", camera)
        off = float(np.linalg.norm(own.mean(0) - wanted.mean(0)))
        if not off <= 0.1 * np.ptp(wanted, 0).max():
            raise _off(k, f"{off:.0f} px", camera)


def _off(person: int, how_much: str, camera: Camera) -> InputError:
    return InputError(
        f"person {person} does not project to the file's own 2D joints, by {how_much}: the image is of another size "
        f"than {camera.width}x{camera.height}, or the file is of another version than is read here"
    )


def coco17(
    points_px: Float[np.ndarray, "K P 2"], index: Sequence[int], confidence: Float[np.ndarray, "K P"] | None = None
) -> Float[np.ndarray, "K 17 3"]:
    """COCO keypoints out of another layout; confidence 1 where the system has none."""
    index = list(index)
    sure = np.ones((len(points_px), 17)) if confidence is None else confidence[:, index]
    return np.concatenate((points_px[:, index], sure[..., None]), -1)
