"""What age networks get to see of people: bodies and faces, cut out of the photograph."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.optimize import linear_sum_assignment

from crowdmesh.experts._crops import SquareCrop
from crowdmesh.experts._nms import box_overlap
from crowdmesh.experts.base import Attributes, Detections, Keypoints
from crowdmesh.experts.lite_face_detector import FaceDetector, Faces
from crowdmesh.experts.lite_faces import head_windows

CONFIDENT = 0.5
"""Keypoints of at least this confidence count as seen."""

FACE_SIDE = 1.2
"""Side of the square around a face, in units of the width of nose, eyes and ears (release)."""

MIN_FACE_AGREEMENT = 0.3
"""A detected face is a person's if half the sum of its share in the estimated box and of their intersection over union
is larger (release)."""

_NOSE_TO_EARS = slice(0, 5)
_LEFT_EYE, _RIGHT_EYE = 1, 2

Detect = Callable[[UInt8[np.ndarray, "H W 3"], list[SquareCrop]], Faces]


class HeadFaces:
    """The faces at people's heads.

    Args:
        detect: finds faces in windows of an image; by default MediaPipe's detector, loaded on first use.
    """

    def __init__(self, detect: Detect | None = None) -> None:
        self._detect = detect

    def __call__(self, pixels: UInt8[np.ndarray, "H W 3"], detections: Detections, keypoints: Keypoints) -> Faces:
        """Everything found in the windows around the heads of one image; not yet anybody's."""
        if self._detect is None:
            self._detect = FaceDetector()
        return self._detect(pixels, head_windows(detections.boxes_px, keypoints.coco17_px))


def unknown_attributes(people: int) -> Attributes:
    """NaN for everybody, to be filled in."""
    age, std, male = (np.full(people, np.nan) for _ in range(3))
    return Attributes(age, std, male, np.full((people, 4), np.nan))


def cut(pixels: UInt8[np.ndarray, "H W 3"], box_px: Float[np.ndarray, " 4"]) -> UInt8[np.ndarray, "h w 3"] | None:
    """The pixels of a box (left, top, right, bottom; rounded towards 0) as far as they lie in the image.

    ``None`` if that is nothing, or the box is NaN.
    """
    if not np.isfinite(box_px).all():
        return None
    left, top, right, bottom = np.maximum(np.trunc(box_px), 0.0).astype(int).tolist()
    piece = pixels[top:bottom, left:right]
    return piece if piece.size else None


def letterbox(pixels: UInt8[np.ndarray, "h w 3"], size: int) -> UInt8[np.ndarray, "S S 3"]:
    """A crop scaled, up or down, until it fills the square in one direction; centred, with black bars beside it."""
    height, width = pixels.shape[:2]
    scale = min(size / height, size / width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square = np.zeros((size, size, 3), np.uint8)
    square[top : top + new_height, left : left + new_width] = cv2.resize(
        pixels, (new_width, new_height), interpolation=cv2.INTER_LINEAR
    )
    return square


def estimated_faces(coco17_px: Float[np.ndarray, "K 17 3"]) -> Float[np.ndarray, "K 4"]:
    """Squares around those of nose, eyes and ears that are seen, whole pixels; NaN for people whose face is not.

    A face needs two of these points, one of them nose or eye. From behind, the right eye lies right of the left one.
    """
    head = coco17_px[:, _NOSE_TO_EARS]
    seen = head[..., 2] >= CONFIDENT
    points = np.where(seen[..., None], head[..., :2], np.nan)
    hidden = (seen.sum(axis=1) < 2) | ~seen[:, :3].any(axis=1)
    points[hidden] = 0.0
    low, high = np.nanmin(points, axis=1), np.nanmax(points, axis=1)
    centre, half = (low + high) / 2.0, FACE_SIDE * (high[:, :1] - low[:, :1]) / 2.0
    boxes = np.trunc(np.concatenate((centre - half, centre + half), axis=1))
    right, left = coco17_px[:, _RIGHT_EYE], coco17_px[:, _LEFT_EYE]
    behind = (right[:, 0] > left[:, 0]) & (np.minimum(right[:, 2], left[:, 2]) >= CONFIDENT)
    boxes[hidden | behind] = np.nan
    return boxes


def assign_face_boxes(
    estimated_px: Float[np.ndarray, "K 4"], detected_px: Float[np.ndarray, "F 4"]
) -> Int[np.ndarray, " K"]:
    """The detected face of each person (-1: none), no face twice, so that the boxes agree best overall.

    People without an estimated box (NaN) get none. Pairs that agree too little never displace a good one.
    """
    chosen = np.full(len(estimated_px), -1)
    known = np.flatnonzero(np.isfinite(estimated_px).all(axis=1))
    boxes = estimated_px[known]
    sides = np.minimum(boxes[:, None, 2:], detected_px[None, :, 2:]) - np.maximum(
        boxes[:, None, :2], detected_px[None, :, :2]
    )
    shared = np.prod(np.maximum(sides, 0.0), axis=-1)
    area = np.maximum(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), 1.0)
    agreement = (shared / area[:, None] + box_overlap(boxes, detected_px)) / 2.0
    agreement[agreement <= MIN_FACE_AGREEMENT] = 0.0
    person, face = linear_sum_assignment(agreement, maximize=True)
    good = agreement[person, face] > 0.0
    chosen[known[person[good]]] = face[good]
    return chosen
