"""Masks that come one by one, and the run lengths in which COCO's tools write masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from crowdmesh.masks import Masks


def join_masks(height: int, width: int, masks: Sequence[Masks]) -> Masks:
    """The masks of several people in one; all are over the same image of ``height`` x ``width`` pixels."""
    counts = [len(runs) for mask in masks for runs in np.split(mask.runs, mask.offsets[1:-1])]
    runs = np.concatenate([mask.runs for mask in masks]) if masks else np.zeros(0, np.int32)
    return Masks(height, width, runs, np.concatenate(([0], np.cumsum(counts))).astype(np.int64))


def decode_coco(code: Any) -> Bool[np.ndarray, "H W"]:
    """The mask of COCO's run-length code ``{"size": [height, width], "counts": ...}``.

    COCO counts down the columns, starting with background. ``counts`` is a list of run lengths, or a text in which each
    of them is written in groups of 5 bits, lowest first, as characters from "0" on (bit 5: another group follows; bit
    4 of the last group: the sign); from the fourth run on, the text holds the difference to the run before last.

    Raises:
        ValueError, TypeError, KeyError, IndexError: it is no such code.
    """
    height, width = (int(side) for side in code["size"])
    counts = code["counts"]
    runs = np.asarray(_read_counts(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if runs.ndim != 1 or np.any(runs < 0) or runs.sum() != height * width or height * width == 0:
        raise ValueError(f"the run lengths of a mask do not add up to {height}x{width} pixels")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(values.reshape(width, height).T)


def _read_counts(text: str) -> list[int]:
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            group = ord(text[position]) - ord("0")
            if not 0 <= group < 64:
                raise ValueError("the run lengths of a mask hold a character that COCO's code does not know")
            position += 1
            value |= (group & 31) << shift
            shift += 5
            more = bool(group & 32)
            if not more and group & 16:
                value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
