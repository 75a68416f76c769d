"""Where to look for a person's landmarks: candidate crops from the BlazePose detector and from the person's box.

The landmark network wants a person upright, hips in the middle, at a certain size. The detector predicts that from a
larger view, but snaps to a neighbour where people overlap and is lost when a person fills the picture; windows hung
from the top of the box cope with both, for people whose lower body is hidden or outside the image the larger ones.
Which candidate is best is decided by what the landmark network makes of it.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh import assets
from crowdmesh.experts._crops import SquareCrop, around_box
from crowdmesh.experts._runtime import TfliteNetwork, sigmoid

CROP_SIZE = 256
"""Pixels per side of the landmark network's input."""

MIN_SCORE = 0.3
MAX_DETECTED = 3
"""The detector's proposals for one box: at least this confident, at most so many different ones."""

BOX_SIDES = (1.25, 1.6, 2.0, 2.5, 3.2)
"""Sides of the windows hung from a box, in units of its longer side; a close-up portrait needs the largest."""

_DETECTOR_SIZE = 224
_DETECTOR_MARGIN = 1.3
_SIDE_PER_RADIUS = 2.5
_TOP_MARGIN = 0.125  # space above the box, in units of its longer side: half of what the smallest window has to spare
_SAME = 0.3  # proposals whose points differ by less than this share of their size are the same
_CELLS_AND_ANCHORS = ((28, 2), (14, 2), (7, 6))


class PoseAlignment:
    """Proposes crops of one person for the landmark network."""

    def __init__(self) -> None:
        self._network = TfliteNetwork(assets.POSE_DETECTION.fetch())

    def propose(self, image: UInt8[np.ndarray, "H W 3"], box_px: Float[np.ndarray, " 4"]) -> list[SquareCrop]:
        """Crops to try: those hung from the box, smallest first, then what the detector proposes, if anything."""
        window = around_box(box_px, _DETECTOR_MARGIN, _DETECTOR_SIZE)
        regression, logits = self._network((window.sample(image).astype(np.float32) / 127.5 - 1.0)[None])
        hips, tops, scores = decode(regression[0], logits[0, :, 0])
        chosen = distinct(hips, tops, scores)
        detected = [upright_crop(window.to_image(hips[k]), window.to_image(tops[k])) for k in chosen]
        return [hung_from_box(box_px, side) for side in BOX_SIDES] + detected


def upright_crop(hips_px: Float[np.ndarray, " 2"], top_px: Float[np.ndarray, " 2"]) -> SquareCrop:
    """The landmark crop given the point between the hips and a point above the head that also tells the size."""
    right, down = top_px - hips_px
    side = max(_SIDE_PER_RADIUS * math.hypot(right, down), 1.0)
    return SquareCrop((float(hips_px[0]), float(hips_px[1])), side, CROP_SIZE, math.atan2(right, -down))


def hung_from_box(box_px: Float[np.ndarray, " 4"], side: float) -> SquareCrop:
    """An upright crop whose upper edge lies a little above a box; ``side`` in units of the box's longer side."""
    left, top, right, bottom = map(float, box_px)
    longer = max(right - left, bottom - top)
    return SquareCrop(((left + right) / 2, top + (side / 2 - _TOP_MARGIN) * longer), side * longer, CROP_SIZE)


def decode(
    regression: Float[np.ndarray, "2254 12"], logits: Float[np.ndarray, " 2254"]
) -> tuple[Float[np.ndarray, "2254 2"], Float[np.ndarray, "2254 2"], Float[np.ndarray, " 2254"]]:
    """Hip and top points in detector pixels and scores of every anchor.

    Columns 4 to 7 are the two points relative to the anchor's cell centre; the others describe the face and the upper
    body and are not used.
    """
    return regression[:, 4:6] + _ANCHORS, regression[:, 6:8] + _ANCHORS, sigmoid(logits)


def distinct(
    hips: Float[np.ndarray, "N 2"], tops: Float[np.ndarray, "N 2"], scores: Float[np.ndarray, " N"]
) -> list[int]:
    """Indices of the most confident proposals, near-copies of a better one left out."""
    chosen: list[int] = []
    for k in np.argsort(-scores, kind="stable"):
        if scores[k] < MIN_SCORE or len(chosen) == MAX_DETECTED:
            break
        tolerance = [_SAME * np.linalg.norm(tops[j] - hips[j]) for j in chosen]
        moved = [max(np.linalg.norm(hips[k] - hips[j]), np.linalg.norm(tops[k] - tops[j])) for j in chosen]
        if all(m > t for m, t in zip(moved, tolerance, strict=True)):
            chosen.append(int(k))
    return chosen


def _anchors() -> np.ndarray:
    """Cell centres (2254, 2) in detector pixels, grid by grid, row by row, each repeated for its anchors."""
    grids = []
    for cells, anchors in _CELLS_AND_ANCHORS:
        centres = (np.indices((cells, cells))[::-1].reshape(2, -1).T + 0.5) * (_DETECTOR_SIZE / cells)
        grids.append(np.repeat(centres, anchors, axis=0))
    return np.concatenate(grids)


_ANCHORS = _anchors()
