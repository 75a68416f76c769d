"""What CameraHMR is shown of a person, and what its answer means in the camera of the whole photograph.

The crop is the square around the box, its side b the longer side of the box. With the camera's focal length f and
principal point c0, and the box's centre c (all in pixels of the photograph):

- the network is told ((c - c0) / f, b / f): direction of the crop's centre and side of the crop, both at distance 1;
- it answers with a weak-perspective camera (s, p): a point X of the body, in its own frame, is seen at
  c + b s (X + p) / 2.

A pinhole shows the same picture to first order, and the body's origin on the same pixel exactly, if the body stands at

    t_z = 2 f / (b s),   (t_x, t_y) = p + t_z (c - c0) / f.

The release has this with c0 in the middle of the image, where its training images have it. Here c0 may lie anywhere,
since only directions relative to the optical axis enter. Where pixels are not square, f is the geometric mean of fx and
fy in b / f and t_z, and each axis has its own focal length otherwise, so that the origin stays on its pixel.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.experts._crops import around_box

CROP_PX = 256
"""Side of the crops in pixels."""

LEAST_SCALE = 0.01
"""The smallest scale s that is believed: a standing person has about 1, and negative ones mean nothing."""


def crop_person(
    pixels: UInt8[np.ndarray, "H W 3"],
    box_px: Float[np.ndarray, " 4"],
    mask: Bool[np.ndarray, "H W"] | None = None,
) -> UInt8[np.ndarray, "256 256 3"]:
    """The square around a box, without margin, bilinear, black outside the image and, if given, outside the mask.

    Pixels are neither averaged nor blurred where the crop is smaller than the box, as in the release.

    Raises:
        InputError: the box is empty.
    """
    crop = around_box(box_px, 1.0, CROP_PX)
    if not crop.side_px > 0.0:
        raise InputError(f"a person's box is empty or not finite ({box_px.tolist()}); give left, top, right, bottom")
    if mask is not None:
        pixels = np.where(mask[..., None], pixels, np.uint8(0))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, crop._opencv_affine(), (CROP_PX, CROP_PX), flags=flags, borderValue=(0, 0, 0))


def box_conditions(boxes_px: Float[np.ndarray, "K 4"], camera: Camera) -> Float[np.ndarray, "K 3"]:
    """What the network is told of the crops."""
    centre, side = _squares(boxes_px)
    return np.column_stack((_directions(centre, camera), side / _focal(camera)))


def full_translation(
    weak_camera: Float[np.ndarray, "K 3"], boxes_px: Float[np.ndarray, "K 4"], camera: Camera
) -> Float[np.ndarray, "K 3"]:
    """Where the bodies' origins stand in the camera frame, in metres.

    Args:
        weak_camera: (s, p_x, p_y); scales below ``LEAST_SCALE`` count as that.
    """
    centre, side = _squares(boxes_px)
    focal = _focal(camera)
    depth = 2.0 * focal / (side * np.maximum(weak_camera[:, 0], LEAST_SCALE))
    stretch = focal / np.array([camera.fx, camera.fy])
    return np.column_stack((weak_camera[:, 1:] * stretch + _directions(centre, camera) * depth[:, None], depth))


def _squares(boxes_px: Float[np.ndarray, "K 4"]) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, " K"]]:
    low, high = boxes_px[:, :2], boxes_px[:, 2:]
    return (low + high) / 2.0, (high - low).max(1, initial=0.0)


def _directions(points_px: Float[np.ndarray, "K 2"], camera: Camera) -> Float[np.ndarray, "K 2"]:
    return (points_px - (camera.cx, camera.cy)) / (camera.fx, camera.fy)


def _focal(camera: Camera) -> float:
    return math.sqrt(camera.fx * camera.fy)
