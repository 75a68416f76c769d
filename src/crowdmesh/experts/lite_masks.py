"""Image masks of all people from their masks in separate crops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from crowdmesh.experts.lite_landmarks import PersonView
from crowdmesh.masks import Masks

BOX_MARGIN = 0.1
"""A mask may leave its person's box by this share of the box's size on each side; beyond, it is a neighbour's."""

_NOBODY = -1
_OUTSIDE = -100.0


def people_masks(views: Sequence[PersonView], boxes_px: Float[np.ndarray, "K 4"], height: int, width: int) -> Masks:
    """Masks that exclude each other: a pixel shows one person, the one whose crop claims it with the largest logit.

    Without that, a single-person network marks whoever stands in front as part of the person behind, and the depth
    measured there would be the front one's.
    """
    owner = np.full((height, width), _NOBODY, np.int32)
    strongest = np.zeros((height, width), np.float32)  # logit 0: undecided between person and background
    for k, (view, box) in enumerate(zip(views, boxes_px, strict=True)):
        margin = BOX_MARGIN * (box[2:] - box[:2])
        left, top = (max(0, math.floor(v)) for v in box[:2] - margin)
        right, bottom = (min(n, math.ceil(v)) for n, v in zip((width, height), box[2:] + margin, strict=True))
        logits = view.crop.paste(view.mask_logits, left, top, right - left, bottom - top, _OUTSIDE)
        region = np.s_[top:bottom, left:right]
        claimed = logits > strongest[region]
        owner[region][claimed] = k
        strongest[region][claimed] = logits[claimed]
    return Masks.from_dense(owner == np.arange(len(views))[:, None, None])
