"""KeypointExpert of the ``open`` set: image points of one network, the third dimension of another.

The landmark fit needs 33 body landmarks with a third dimension, which BlazePose gives; a larger network places the 17
that it knows better in the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from crowdmesh.assets import Weights
from crowdmesh.errors import InputError
from crowdmesh.experts.base import BodyLandmarks, Detections, InputImage, KeypointExpert, Keypoints
from crowdmesh.experts.lite_pose import COCO17

MIN_CONFIDENCE = 0.5
"""A keypoint of at least this confidence takes the place of the landmark."""


class CombinedKeypoints:
    """COCO-17 keypoints of one expert, with the landmarks of another drawn onto them.

    Args:
        points: gives the 17 keypoints, e.g. ``ViTPoseKeypoints``.
        landmarks: gives the 33 landmarks and, for detections without masks, masks: ``BlazePose``.
    """

    def __init__(self, points: KeypointExpert, landmarks: KeypointExpert) -> None:
        self._points = points
        self._landmarks = landmarks
        self.name = f"{points.name} with {landmarks.name}"

    def sources(self) -> tuple[Weights, ...]:
        """The files of both."""
        return (*self._points.sources(), *self._landmarks.sources())

    def locate(self, images: Sequence[InputImage], detections: Sequence[Detections]) -> list[Keypoints]:
        """Keypoints of every detected person; masks are the detections', else those of the landmark network.

        Raises:
            InputError: the second expert gives no landmarks.
        """
        points = self._points.locate(images, detections)
        landmarks = self._landmarks.locate(images, detections)
        return [combine(*each) for each in zip(points, landmarks, detections, strict=True)]


def combine(points: Keypoints, landmarks: Keypoints, detections: Detections) -> Keypoints:
    """The answers of both experts for one image in one."""
    if landmarks.landmarks is None:
        raise InputError("combined keypoints need an expert that gives the 33 body landmarks, as BlazePose")
    masks = detections.masks if detections.masks is not None else landmarks.masks
    return Keypoints(points.coco17_px, _redraw(landmarks.landmarks, points.coco17_px), masks)


def _redraw(landmarks: BodyLandmarks, coco17_px: Float[np.ndarray, "K 17 3"]) -> BodyLandmarks:
    """Landmarks moved to confident keypoints, whose confidence says how visible they are.

    The others stay where they are, and are no more visible than their keypoint: what the better network does not see
    is a guess of the weaker one.
    """
    shared, confidence = list(COCO17), coco17_px[..., 2].clip(0.0, 1.0)
    confident = confidence >= MIN_CONFIDENCE
    px, visibility = landmarks.px.copy(), landmarks.visibility.copy()
    px[:, shared] = np.where(confident[..., None], coco17_px[..., :2], px[:, shared])
    visibility[:, shared] = np.where(confident, confidence, np.minimum(confidence, visibility[:, shared]))
    return replace(landmarks, px=px, visibility=visibility)
