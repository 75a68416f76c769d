"""Which predicted person is which annotated one, by joints in the image: the field's greedy rule, and an exact one."""

from __future__ import annotations

import numpy as np
import scipy.optimize
from jaxtyping import Float

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
    if not len(predicted_px) or not len(true_px):
        return []
    cost = np.linalg.norm(predicted_px[:, None] - true_px[None], 2, axis=(-2, -1))
    return greedy(cost, box_overlap(predicted_px, true_px), IOU_THRESHOLD)


def greedy(cost: Float[np.ndarray, "P K"], overlap: Float[np.ndarray, "P K"], least_overlap: float) -> Pairs:
    """The search of :func:`match_greedily` on given costs and overlaps."""
    count, people = cost.shape
    taken, found = np.zeros(count, bool), np.zeros(people, bool)
    pairs: Pairs = []
    false_alarms = 0
    for flat in np.argsort(cost, axis=None, kind="stable"):
        predicted, true = divmod(int(flat), people)
        if overlap[predicted, true] < least_overlap:
            false_alarms += 1
        elif not taken[predicted] and not found[true]:
            taken[predicted] = found[true] = True
            pairs.append((predicted, true))
        if found.all() or len(pairs) + false_alarms >= count:
            break
    return pairs


def match_best(predicted_px: Float[np.ndarray, "P J 2"], true_px: Float[np.ndarray, "K J 2"]) -> Pairs:
    """The assignment with most pairs, and of those the one with the least mean joint distance (Hungarian method).

    Only pairs whose boxes overlap enough are allowed. In the order of the annotated people.
    """
    cost = np.linalg.norm(predicted_px[:, None] - true_px[None], axis=-1).mean(-1)
    allowed = box_overlap(predicted_px, true_px) >= IOU_THRESHOLD
    return assign(cost, allowed)


def assign(cost: Float[np.ndarray, "P K"], allowed: np.ndarray) -> Pairs:
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
    """Intersection over union of the boxes around each person's joints, sides counted as whole pixels (+1)."""
    low = np.maximum(predicted_px.min(1)[:, None], true_px.min(1)[None])
    high = np.minimum(predicted_px.max(1)[:, None], true_px.max(1)[None])
    shared = np.clip(high - low + 1, 0, None).prod(-1)
    predicted, true = ((points.max(1) - points.min(1) + 1).prod(-1) for points in (predicted_px, true_px))
    return shared / (predicted[:, None] + true[None] - shared)
