"""KeypointExpert of the ``lite`` set: BlazePose landmarks and a mask for each detected person.

Per person, several crops are tried and the landmarks are taken from the one the network understands best: its
heatmaps are sharp, and its mask fills the person's box without spilling onto neighbours. The winner is then moved to
where the network itself would look, as long as that helps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh import assets
from crowdmesh.experts.base import BodyLandmarks, Detections, InputImage, Keypoints
from crowdmesh.experts.lite_alignment import PoseAlignment
from crowdmesh.experts.lite_landmarks import NUM_LANDMARKS, LandmarkNetwork, PersonView
from crowdmesh.experts.lite_masks import people_masks

COCO17 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""The BlazePose landmark for each COCO-17 keypoint."""

MAX_REFINEMENTS = 3

_MASK_STEP = 4  # the mask is compared with the box on every fourth pixel of the crop


class BlazePose:
    """33 landmarks, COCO-17 keypoints and masks from MediaPipe's BlazePose networks on one CPU core."""

    name = "BlazePose lite"

    def __init__(self) -> None:
        self._alignment = PoseAlignment()
        self._landmarks = LandmarkNetwork()

    @classmethod
    def sources(cls) -> tuple[assets.Asset, ...]:
        """The files it needs."""
        return (assets.POSE_DETECTION, assets.POSE_LANDMARKS)

    def locate(self, images: Sequence[InputImage], detections: Sequence[Detections]) -> list[Keypoints]:
        """Keypoints of every detected person.

        The confidence of a COCO keypoint is its visibility times the sharpness of its heatmap; it and the visibility
        are 0 outside the image. Masks exclude each other (:mod:`crowdmesh.experts.lite_masks`).
        """
        return [self._locate(image.pixels, found) for image, found in zip(images, detections, strict=True)]

    def _locate(self, image: UInt8[np.ndarray, "H W 3"], detections: Detections) -> Keypoints:
        height, width = image.shape[:2]
        views = [self._view(image, box) for box in detections.boxes_px]
        px = np.array([view.px[:NUM_LANDMARKS] for view in views]).reshape(-1, NUM_LANDMARKS, 2)
        inside = np.all((px >= 0.0) & (px <= (width, height)), axis=-1)
        visibility = inside * np.array([view.visibility for view in views]).reshape(-1, NUM_LANDMARKS)
        sharpness = np.array([view.sharpness for view in views]).reshape(-1, NUM_LANDMARKS)
        landmarks = BodyLandmarks(
            px=px,
            visibility=visibility,
            world_m=np.array([view.world_m for view in views]).reshape(-1, NUM_LANDMARKS, 3),
            presence=np.array([view.presence for view in views]),
        )
        coco17_px = np.concatenate((px, (visibility * sharpness)[..., None]), axis=-1)[:, COCO17]
        return Keypoints(coco17_px, landmarks, people_masks(views, detections.boxes_px, height, width))

    def _view(self, image: UInt8[np.ndarray, "H W 3"], box_px: Float[np.ndarray, " 4"]) -> PersonView:
        """The best view of the person in a box."""
        size = image.shape[1::-1]
        views = [self._landmarks(image, crop) for crop in self._alignment.propose(image, box_px)]
        scores = [understanding(view, box_px, size) for view in views]
        best, score = views[int(np.argmax(scores))], max(scores)
        for _ in range(MAX_REFINEMENTS):
            tighter = self._landmarks(image, best.tighter_crop)
            tighter_score = understanding(tighter, box_px, size)
            if tighter_score <= score:
                break
            best, score = tighter, tighter_score
        return best


def understanding(view: PersonView, box_px: Float[np.ndarray, " 4"], size: tuple[int, int]) -> float:
    """How well a view explains the person in a box, in [0, 1]; ``size`` is the image's (width, height).

    Mean heatmap sharpness over the landmarks inside the image, times the harmonic mean of two shares: of the mask that
    lies in the box, and of the box that the mask spans. A neighbour's body fails the first share and one seen only
    partly the second; a whole body squeezed into a visible upper half is blurred.
    """
    px = view.px[:NUM_LANDMARKS]
    in_image = np.all((px >= 0.0) & (px <= size), axis=1)
    rows, columns = np.nonzero(view.mask_logits[_MASK_STEP // 2 :: _MASK_STEP, _MASK_STEP // 2 :: _MASK_STEP] > 0.0)
    mask_px = view.crop.to_image(np.stack((columns, rows), axis=1) * float(_MASK_STEP) + (_MASK_STEP + 1) / 2)
    mask_px = mask_px[np.all((mask_px >= 0.0) & (mask_px <= size), axis=1)]
    in_box = np.all((mask_px >= box_px[:2]) & (mask_px <= box_px[2:]), axis=1)
    if not in_image.any() or not in_box.any():
        return 0.0
    inside_share = in_box.mean()
    spanned_share = np.prod(np.ptp(mask_px[in_box], axis=0) / (box_px[2:] - box_px[:2]))
    agreement = 2.0 * inside_share * spanned_share / (inside_share + spanned_share)
    return float(view.sharpness[in_image].mean() * agreement)
