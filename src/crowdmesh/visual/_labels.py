"""Small labels that name people without covering each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.visual._canvas import INK, WHITE, Box, Canvas, Point, Rgb, text_size

_PAD_PX = 4.0
_DIRECTIONS = np.array([(0, -1), (1, -0.6), (-1, -0.6), (1, 0), (-1, 0), (1, 0.6), (-1, 0.6), (0, 1)])
_REACHES = np.array([1.0, 1.6, 2.4, 3.4, 4.6, 6.0, 8.0])
_OVERLAP_COST, _COVER_COST, _DISTANCE_COST = 300.0, 10.0, 1.0


@dataclass(frozen=True)
class Label:
    """A chip with the person's number in the person's colour, and optional words beside it.

    Attributes:
        anchor: the point it belongs to, pixels.
    """

    anchor: tuple[float, float]
    number: int
    color: Rgb
    words: str = ""

    def size(self, text_px: float) -> tuple[float, float]:
        """Width and height of the drawn label, pixels."""
        words = text_size(self.words, text_px)[0] + 2 * _PAD_PX if self.words else 0.0
        return self._chip(text_px) + words, text_px + _PAD_PX

    def _chip(self, text_px: float) -> float:
        return max(text_size(str(self.number), text_px)[0] + 2 * _PAD_PX, text_px + _PAD_PX)

    def draw_leader(self, canvas: Canvas, left_top: Point, text_px: float) -> None:
        """A thin line to the anchor if the label drawn at the given corner would be far from it."""
        size = self.size(text_px)
        nearest = np.clip(self.anchor, left_top, np.add(left_top, size))
        if np.linalg.norm(nearest - self.anchor) > size[1]:
            canvas.line([nearest, self.anchor], WHITE, 3.0)
            canvas.line([nearest, self.anchor], INK, 1.0)

    def draw(self, canvas: Canvas, left_top: Point, text_px: float) -> None:
        """Draw with the upper left corner at the given point."""
        width, height = self.size(text_px)
        left, top = float(left_top[0]), float(left_top[1])
        chip = self._chip(text_px)
        if self.words:
            canvas.box((left, top), (width, height), WHITE, 0.3 * height, (200, 201, 205))
        canvas.box((left, top), (chip, height), self.color, 0.3 * height, WHITE)
        middle = top + height / 2
        canvas.text((left + chip / 2, middle), str(self.number), INK, text_px, "mm")
        canvas.text((left + chip + _PAD_PX, middle), self.words, INK, text_px, "lm")


def place_labels(
    labels: Sequence[Label],
    text_px: float,
    area: Box,
    drawn: Bool[np.ndarray, "H W"],
    keep_clear: Sequence[Box] = (),
) -> Float[np.ndarray, "N 2"]:
    """Upper left corners at which the labels hide least.

    Greedy: one label after the other takes the candidate place around its anchor that costs least, counting overlap
    with labels placed before, drawn people covered, and distance.

    Args:
        area: left, top, right, bottom within which labels stay, pixels.
        drawn: canvas pixels that show something better not hidden.
        keep_clear: boxes (left, top, right, bottom) as forbidden as other labels.
    """
    taken = np.array(keep_clear, float).reshape(-1, 4)
    covered = np.pad(drawn.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for label in labels:
        size = np.array(label.size(text_px))
        boxes = _candidates(np.array(label.anchor), size, area)
        distance = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - label.anchor, axis=1) / size[1]
        overlap = _overlap(boxes, taken) / size.prod()
        cover = _count(covered, boxes) / size.prod()
        chosen = boxes[np.argmin(_OVERLAP_COST * overlap + _COVER_COST * cover + _DISTANCE_COST * distance)]
        taken = np.vstack((taken, chosen))
    return taken[len(keep_clear) :, :2]


def draw_labels(canvas: Canvas, labels: Sequence[Label], corners: Float[np.ndarray, "N 2"], text_px: float) -> None:
    """Draw labels at their upper left corners, above all their leaders."""
    for label, corner in zip(labels, corners, strict=True):
        label.draw_leader(canvas, corner, text_px)
    for label, corner in zip(labels, corners, strict=True):
        label.draw(canvas, corner, text_px)


def _candidates(anchor: np.ndarray, size: np.ndarray, area: Box) -> np.ndarray:
    """(N, 4) boxes around the anchor, pushed inside the area."""
    offsets = _DIRECTIONS[None] * (size / 2 + size[1] * (_REACHES[:, None, None] - 0.75))
    left_top = anchor + offsets.reshape(-1, 2) - size / 2
    left_top = np.maximum(np.minimum(left_top, np.array(area[2:]) - size), area[:2])
    return np.hstack((left_top, left_top + size))


def _overlap(boxes: Float[np.ndarray, "N 4"], others: Float[np.ndarray, "M 4"]) -> Float[np.ndarray, " N"]:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(-1).sum(1)


def _count(table: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Marked pixels inside each box, from the padded summed-area table."""
    columns = np.clip(np.rint(boxes[:, 0::2]).astype(int), 0, table.shape[1] - 1)
    rows = np.clip(np.rint(boxes[:, 1::2]).astype(int), 0, table.shape[0] - 1)
    left, right, top, bottom = columns[:, 0], columns[:, 1], rows[:, 0], rows[:, 1]
    return table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
