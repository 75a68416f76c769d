"""Masks in COCO's compressed run lengths, as pycocotools writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool

from crowdmesh.errors import FormatError
from crowdmesh.masks import Masks

# A few characters of runs may stand for any number of pixels.
_MOST_PIXELS = 1 << 28


def masks_of_runs(codes: list[Any], height: int, width: int) -> Masks:
    """The masks of some people, empty where there is ``None``; FormatError names the person whose code is none."""
    if height * width > _MOST_PIXELS:
        raise FormatError(f"'mask' is of a {width}x{height} image, larger than any photograph")
    dense = np.zeros((len(codes), height, width), bool)
    for k, code in enumerate(codes):
        code = code[0] if isinstance(code, list) and len(code) == 1 else code
        if code is None:
            continue
        if not isinstance(code, dict) or not np.array_equal(code.get("size", ()), (height, width)):
            raise FormatError(f"'mask' of person {k} must be COCO run lengths of a {width}x{height} image")
        try:
            dense[k] = decode(code["counts"], height, width)
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"'mask' of person {k} is damaged: its runs do not fill the image") from error
    return Masks.from_dense(dense)


def decode(counts: str, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """One mask. Runs go down the columns, starting with background.

    Each run is written in groups of five bits, lowest first, as characters from ``0`` on; the sixth bit says that more
    follow, the fifth bit of the last group is the sign. From the fourth run on, it is the difference to the last but
    one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if sum(runs) != height * width or min(runs, default=-1) < 0:
        raise ValueError("runs do not fill the image")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
