"""Image masks of all people, made from their masks in separate crops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.experts.lite_landmarks import PersonView
from crowdmesh.masks import Masks

BOX_MARGIN = 0.1
"""A mask may leave its person's box by this share of the box's size on each side; what is farther is a neighbour."""

_NOBODY = -1
_OUTSIDE = -100.0

Region = tuple[slice, slice]


def people_masks(views: Sequence[PersonView], boxes_px: Float[np.ndarray, "K 4"], height: int, width: int) -> Masks:
    """Masks that exclude each other, since a pixel shows one person.

    A single-person network also marks the baby on the lap as its mother; depth measured there would be the baby's.
    Where masks overlap, the person whose own mask is contested by the larger share gets the pixels: somebody nearly
    covered by another's mask is in front of that other, or would not have been detected.
    """
    claims = [_claim(view, box, height, width) for view, box in zip(views, boxes_px, strict=True)]
    claimants = np.zeros((height, width), np.int32)
    for region, mask in claims:
        claimants[region] += mask
    contested = np.array([np.sum(claimants[region][mask] > 1) / max(mask.sum(), 1) for region, mask in claims])
    owner = np.full((height, width), _NOBODY, np.int32)
    for k in np.argsort(contested, kind="stable"):
        region, mask = claims[k]
        owner[region][mask] = k
    return Masks.from_dense(owner == np.arange(len(views))[:, None, None])


def _claim(
    view: PersonView, box_px: Float[np.ndarray, " 4"], height: int, width: int
) -> tuple[Region, Bool[np.ndarray, "h w"]]:
    """The part of the image around a person's box, and the person's own mask there."""
    margin = BOX_MARGIN * np.tile(box_px[2:] - box_px[:2], 2) * (-1.0, -1.0, 1.0, 1.0)
    left, top, right, bottom = box_px + margin
    left, top = max(0, math.floor(left)), max(0, math.floor(top))
    right, bottom = min(width, math.ceil(right)), min(height, math.ceil(bottom))
    logits = view.crop.paste(view.mask_logits, left, top, right - left, bottom - top, outside=_OUTSIDE)
    return (slice(top, bottom), slice(left, right)), logits > 0.0
