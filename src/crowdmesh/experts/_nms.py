"""Boxes of people: how far they overlap, which belong together, and one per person."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment


def box_overlap(a: Float[np.ndarray, "A 4"], b: Float[np.ndarray, "B 4"]) -> Float[np.ndarray, "A B"]:
    """Intersection over union of every box of one set with every box of the other (left, top, right, bottom)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=-1)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=-1), np.prod(b[:, 2:] - b[:, :2], axis=-1)
    return shared / np.maximum(area_a[:, None] + area_b[None, :] - shared, np.finfo(np.float64).tiny)


def box_inside(a: Float[np.ndarray, "A 4"], b: Float[np.ndarray, "B 4"]) -> Float[np.ndarray, "A B"]:
    """Share of every box of ``b`` that lies inside every box of ``a``."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    area = np.prod(b[:, 2:] - b[:, :2], axis=-1)
    return np.prod(np.maximum(sides, 0.0), axis=-1) / np.maximum(area, np.finfo(np.float64).tiny)


def match_boxes(a: Float[np.ndarray, "A 4"], b: Float[np.ndarray, "B 4"], min_overlap: float) -> Int[np.ndarray, " A"]:
    """The box of ``b`` for each box of ``a`` (-1: none), none twice: as many pairs as possible whose intersection over
    union is at least ``min_overlap``, and of these the largest overlap."""
    overlap = box_overlap(a, b)
    return best_pairs(overlap >= min_overlap, overlap)


def best_pairs(valid: Bool[np.ndarray, "A B"], worth: Float[np.ndarray, "A B"]) -> Int[np.ndarray, " A"]:
    """The partner of each of A (-1: none), none twice: as many valid pairs as possible, and of these the worthiest.

    Args:
        worth: of each pair, 0 to 1.
    """
    row, column = linear_sum_assignment(np.where(valid, min(valid.shape) + worth, 0.0), maximize=True)
    good = valid[row, column]
    chosen = np.full(len(valid), -1)
    chosen[row[good]] = column[good]
    return chosen


def suppress_overlaps(
    boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"], max_overlap: float
) -> Int[np.ndarray, " K"]:
    """Indices of the boxes to keep, by falling score (equal scores: in the order given).

    Greedy: a box goes if its intersection over union with a kept box of a higher score is larger than ``max_overlap``.
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = box_overlap(boxes, boxes)
    kept: list[int] = []
    for index in order:
        if not np.any(overlaps[index, kept] > max_overlap):
            kept.append(int(index))
    return np.asarray(kept, int)
