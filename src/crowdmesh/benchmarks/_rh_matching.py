"""Which predicted person is which annotated one in Relative Human: the released rule, and one without its mistakes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.benchmarks._matching import Pairs, box_overlap, boxes, match_nearest, matrix_norm, overlap
from crowdmesh.formats.relative_human import crowdpose_of

NO_POINT = -2.0
"""Coordinate that the released evaluation gives to keypoints nobody annotated."""

IOU_THRESHOLD = 0.05
"""Least overlap of the keypoint boxes of a match."""


def crowdpose_keypoints(
    keypoints_px: Float[np.ndarray, "P 3"], image: str
) -> tuple[Float[np.ndarray, "14 2"], Bool[np.ndarray, " 14"]]:
    """The 14 CrowdPose joints of one annotated person and which of them are annotated.

    Joints of confidence 0 are put at (-2, -2), as released.
    """
    points = crowdpose_of(keypoints_px, image)
    return np.where(points[:, 2:] == 0, NO_POINT, points[:, :2]), points[:, 2] > 0


def match_released(
    predicted_px: Float[np.ndarray, "P 14 2"],
    true_px: Float[np.ndarray, "K 14 2"],
    visible: Bool[np.ndarray, "K 14"],
) -> Pairs:
    """Pairs (predicted, annotated) in the order in which the released evaluation finds them.

    The cost of a pair is the largest singular value of the (visible joints x 2) difference. Boxes span all 14 joints,
    the (-2, -2) of unannotated ones included. A pair whose boxes overlap too little counts as a false alarm, whoever is
    in it; the search ends once matches and false alarms together reach the number of predictions.
    Everybody must have a visible joint.
    """
    difference = (predicted_px[:, None] - true_px[None]) * visible[None, ..., None]
    allowed = box_overlap(predicted_px, true_px) >= IOU_THRESHOLD
    return match_nearest(matrix_norm(difference), allowed, give_up_at=len(predicted_px))


def match_corrected(
    predicted_px: Float[np.ndarray, "P 14 2"],
    true_px: Float[np.ndarray, "K 14 2"],
    visible: Bool[np.ndarray, "K 14"],
) -> Pairs:
    """Pairs (predicted, annotated), nearest first, until nobody is left to match.

    The cost is the mean distance over the visible joints. Both boxes of a pair span the person's visible joints alone.
    Everybody must have a visible joint.
    """
    distance = np.linalg.norm(predicted_px[:, None] - true_px[None], axis=-1)
    cost = (distance * visible).sum(-1) / visible.sum(-1)
    predicted = np.broadcast_to(predicted_px[:, None], (*cost.shape, 14, 2))
    seen = np.broadcast_to(visible, (*cost.shape, 14))
    allowed = overlap(boxes(predicted, seen), boxes(true_px, visible)[None]) >= IOU_THRESHOLD
    return match_nearest(cost, allowed)
