"""Which predicted person is which annotated one in Relative Human: the released rule, and one without its mistakes."""

from __future__ import annotations

from pathlib import PurePath

import numpy as np
from jaxtyping import Bool, Float

NO_POINT = -2.0
"""Coordinate that the released evaluation gives to keypoints nobody annotated."""

IOU_THRESHOLD = 0.05
"""Least overlap of the keypoint boxes of a match."""

_BK_STEM = 7
# Where the CrowdPose joints stand in the two skeletons of 19; -1: not there.
_BK = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, -1)
_OCHUMAN = (3, 0, 4, 1, 5, 2, 9, 6, 10, 7, 11, 8, 12, -1)


def crowdpose_keypoints(
    keypoints_px: Float[np.ndarray, "P 3"], image: str
) -> tuple[Float[np.ndarray, "14 2"], Bool[np.ndarray, " 14"]]:
    """The 14 CrowdPose joints of one annotated person and which of them are annotated.

    Joints of confidence 0 are put at (-2, -2), as released. Images with 19 joints are from BK if their name without
    ending has seven characters, else from OCHuman; neither has a neck.
    """
    visible = keypoints_px[:, 2] > 0
    points = np.where(keypoints_px[:, 2:] == 0, NO_POINT, keypoints_px[:, :2])
    if len(points) == 14:
        return points, visible
    source = np.array(_BK if len(PurePath(image).stem) == _BK_STEM else _OCHUMAN)
    there = source >= 0
    return np.where(there[:, None], points[source], NO_POINT), visible[source] & there


def match_released(
    predicted_px: Float[np.ndarray, "P 14 2"],
    true_px: Float[np.ndarray, "K 14 2"],
    visible: Bool[np.ndarray, "K 14"],
) -> list[tuple[int, int]]:
    """Pairs (predicted, annotated) in the order in which the released evaluation finds them.

    Pairs are visited by rising cost, the largest singular value of the (visible joints x 2) difference; equal costs in
    the order of predictions, then of people. The boxes of a pair span all 14 joints, the (-2, -2) of unannotated ones
    included. A pair whose boxes overlap too little counts as a false alarm, whoever is in it; the search ends once
    matches and false alarms together reach the number of predictions, or everybody is matched.
    Everybody must have a visible joint.
    """
    count, people = len(predicted_px), len(true_px)
    difference = (predicted_px[:, None] - true_px[None]) * visible[None, ..., None]
    cost = np.linalg.norm(difference, 2, axis=(-2, -1)) if difference.size else np.zeros((count, people))
    overlap = _iou(_boxes(predicted_px)[:, None], _boxes(true_px)[None])
    taken, found = np.zeros(count, bool), np.zeros(people, bool)
    pairs: list[tuple[int, int]] = []
    false_alarms = 0
    for flat in np.argsort(cost, axis=None, kind="stable"):
        predicted, true = divmod(int(flat), people)
        if overlap[predicted, true] < IOU_THRESHOLD:
            false_alarms += 1
        elif not taken[predicted] and not found[true]:
            taken[predicted] = found[true] = True
            pairs.append((predicted, true))
        if found.all() or len(pairs) + false_alarms >= count:
            break
    return pairs


def match_corrected(
    predicted_px: Float[np.ndarray, "P 14 2"],
    true_px: Float[np.ndarray, "K 14 2"],
    visible: Bool[np.ndarray, "K 14"],
) -> list[tuple[int, int]]:
    """Pairs (predicted, annotated), nearest first, every pair visited.

    The cost is the mean distance over the visible joints. Both boxes of a pair span the person's visible joints alone.
    Everybody must have a visible joint.
    """
    count, people = len(predicted_px), len(true_px)
    distance = np.linalg.norm(predicted_px[:, None] - true_px[None], axis=-1)
    cost = (distance * visible).sum(-1) / visible.sum(-1)
    seen = np.broadcast_to(visible, (count, people, 14))
    predicted_boxes = _boxes(np.broadcast_to(predicted_px[:, None], (count, people, 14, 2)), seen)
    overlap = _iou(predicted_boxes, _boxes(true_px, visible)[None])
    cost = np.where(overlap < IOU_THRESHOLD, np.inf, cost)
    taken, found = np.zeros(count, bool), np.zeros(people, bool)
    pairs: list[tuple[int, int]] = []
    for flat in np.argsort(cost, axis=None, kind="stable"):
        predicted, true = divmod(int(flat), people)
        if np.isfinite(cost[predicted, true]) and not taken[predicted] and not found[true]:
            taken[predicted] = found[true] = True
            pairs.append((predicted, true))
    return pairs


def _boxes(points: Float[np.ndarray, "*n 14 2"], counted: Bool[np.ndarray, "*n 14"] | None = None) -> np.ndarray:
    """(*n, 4) left, top, right, bottom of the points (those that count)."""
    counted = np.ones(points.shape[:-1], bool) if counted is None else counted
    low = np.where(counted[..., None], points, np.inf).min(-2)
    high = np.where(counted[..., None], points, -np.inf).max(-2)
    return np.concatenate((low, high), -1)


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union with sides counted as whole pixels, one more than the difference of the coordinates."""
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    shared = np.clip(high - low + 1, 0, None).prod(-1)
    areas = [(box[..., 2:] - box[..., :2] + 1).prod(-1) for box in (one, other)]
    return shared / (areas[0] + areas[1] - shared)
