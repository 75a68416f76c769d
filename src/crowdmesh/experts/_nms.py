"""One box per person."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def box_overlap(a: Float[np.ndarray, "A 4"], b: Float[np.ndarray, "B 4"]) -> Float[np.ndarray, "A B"]:
    """Intersection over union of every box of one set with every box of the other (left, top, right, bottom)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=-1)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=-1), np.prod(b[:, 2:] - b[:, :2], axis=-1)
    return shared / np.maximum(area_a[:, None] + area_b[None, :] - shared, np.finfo(np.float64).tiny)


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
