"""Which predicted person is which annotated one, by joints in the image: the field's greedy rule, and an exact one."""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
from jaxtyping import Bool, Float

IOU_THRESHOLD = 0.1
"""Least overlap of the joint boxes of a match in the evaluations of 3DPW, Hi4D, AGORA and BEDLAM."""

Pairs = list[tuple[int, int]]
"""(predicted, annotated) numbers."""


def match_greedily(predicted_px: Float[np.ndarray, "P J 2"], true_px: Float[np.ndarray, "K J 2"]) -> Pairs:
    """Pairs in the order in which the evaluation code of the field (from AGORA's, Patel et al. 2021) finds them.

    Pairs are visited by rising cost: the largest singular value of the (J, 2) difference, which is what the matrix
    2-norm is; equal costs in the order of predictions, then of people. A pair whose boxes overlap too little counts as
    a false alarm, whoever is in it, and **the search ends as soon as matches and false alarms together reach the number
    of predictions**, even if people remain that could be matched.
    """
    allowed = box_overlap(predicted_px, true_px) >= IOU_THRESHOLD
    return match_nearest(matrix_norm(predicted_px[:, None] - true_px[None]), allowed, give_up_at=len(predicted_px))


def matrix_norm(difference: Float[np.ndarray, "P K J 2"]) -> Float[np.ndarray, "P K"]:
    """The largest singular value of each (J, 2) difference, which the released evaluations take for a distance."""
    return np.linalg.norm(difference, 2, axis=(-2, -1)) if difference.size else np.zeros(difference.shape[:2])


def match_nearest(
    cost: Float[np.ndarray, "P K"], allowed: Bool[np.ndarray, "P K"], give_up_at: float = math.inf
) -> Pairs:
    """Pairs by rising cost, as long as both are free; equal costs in the order of predictions, then of people.

    Args:
        give_up_at: the search ends as soon as matches, and visited pairs that are not allowed, whoever is in them,
            together reach this number.
    """
    count, people = cost.shape
    taken, found = np.zeros(count, bool), np.zeros(people, bool)
    pairs: Pairs = []
    false_alarms = 0
    for flat in np.argsort(cost, axis=None, kind="stable"):
        predicted, true = divmod(int(flat), people)
        if not allowed[predicted, true]:
            false_alarms += 1
        elif not taken[predicted] and not found[true]:
            taken[predicted] = found[true] = True
            pairs.append((predicted, true))
        if found.all() or len(pairs) + false_alarms >= give_up_at:
            break
    return pairs


def match_best(predicted_px: Float[np.ndarray, "P J 2"], true_px: Float[np.ndarray, "K J 2"]) -> Pairs:
    """The assignment with most pairs, and of those the one with the least mean joint distance (Hungarian method).

    Only pairs whose boxes overlap enough are allowed. In the order of the annotated people.
    """
    cost = np.linalg.norm(predicted_px[:, None] - true_px[None], axis=-1).mean(-1)
    allowed = box_overlap(predicted_px, true_px) >= IOU_THRESHOLD
    return assign(cost, allowed)


def assign(cost: Float[np.ndarray, "P K"], allowed: Bool[np.ndarray, "P K"]) -> Pairs:
    """Most allowed pairs at least total cost, one prediction a person, in the order of the annotated people."""
    if not cost.size:
        return []
    # A forbidden pair costs more than all allowed ones together.
    forbidden = cost[allowed].max(initial=1.0) * (min(cost.shape) + 1)
    predicted, true = scipy.optimize.linear_sum_assignment(np.where(allowed, cost, forbidden))
    return sorted(
        ((int(p), int(t)) for p, t in zip(predicted, true, strict=True) if allowed[p, t]), key=lambda pair: pair[1]
    )


def box_overlap(
    predicted_px: Float[np.ndarray, "P J 2"], true_px: Float[np.ndarray, "K J 2"]
) -> Float[np.ndarray, "P K"]:
    """:func:`overlap` of the boxes around each person's joints."""
    return overlap(boxes(predicted_px)[:, None], boxes(true_px)[None])


def boxes(
    points_px: Float[np.ndarray, "*n J 2"], counted: Bool[np.ndarray, "*n J"] | None = None
) -> Float[np.ndarray, "*n 4"]:
    """Left, top, right, bottom of the points (those that count, at least one)."""
    counted = np.ones(points_px.shape[:-1], bool) if counted is None else counted
    low = np.where(counted[..., None], points_px, np.inf).min(-2)
    high = np.where(counted[..., None], points_px, -np.inf).max(-2)
    return np.concatenate((low, high), -1)


def overlap(one: Float[np.ndarray, "*#n 4"], other: Float[np.ndarray, "*#n 4"]) -> Float[np.ndarray, "*#n"]:
    """Intersection over union of boxes, sides counted as whole pixels: one more than the difference of coordinates."""
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    shared = np.clip(high - low + 1, 0, None).prod(-1)
    first, second = ((box[..., 2:] - box[..., :2] + 1).prod(-1) for box in (one, other))
    return shared / (first + second - shared)
