"""PersonDetector of the ``lite`` set: boxes from YOLOX-nano, one pass over the whole image.

The network sees 416 pixels of the longer image side: people below about a twelfth of it are missed, and people who
hug may come as one. Overlapping tiles were tried and left out: they find nobody more on photographs of a handful of
people and cut large ones in pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh import assets
from crowdmesh.experts._nms import suppress_overlaps
from crowdmesh.experts._runtime import OnnxNetwork
from crowdmesh.experts.base import Detections, InputImage

MIN_SCORE = 0.3
"""Boxes below this confidence are dropped (YOLOX's own demonstration setting)."""

MAX_OVERLAP = 0.5
"""Of two boxes with a larger intersection over union, the less confident one counts as the same person (greedy NMS).
A crowd's people overlap less; a baby's box within a parent's has a small union share and stays."""

_SIZE = 416
_STRIDES = (8, 16, 32)
_PADDING = 114
_PERSON = 5  # column of the first COCO class, after x, y, width, height, objectness


class YoloxPersons:
    """Person boxes from YOLOX-nano (Megvii, trained on COCO) on one CPU core."""

    name = "YOLOX-nano"

    def __init__(self) -> None:
        self._network = OnnxNetwork(assets.YOLOX_NANO.fetch())

    @classmethod
    def sources(cls) -> tuple[assets.Asset, ...]:
        """The files it needs."""
        return (assets.YOLOX_NANO,)

    def detect(self, images: Sequence[InputImage]) -> list[Detections]:
        """Everybody in each image, most confident first, no masks."""
        return [self._detect(image.pixels) for image in images]

    def _detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Detections:
        height, width = image.shape[:2]
        batch, scale = letterbox(image)
        boxes, scores = decode(self._network(batch)[0])
        boxes = np.clip(boxes / np.tile(scale, 2), 0.0, (width, height, width, height))
        likely = (scores >= MIN_SCORE) & np.all(boxes[:, 2:] - boxes[:, :2] >= 1.0, axis=1)
        boxes, scores = boxes[likely], scores[likely]
        kept = suppress_overlaps(boxes, scores, MAX_OVERLAP)
        return Detections(boxes[kept], scores[kept])


def letterbox(image: UInt8[np.ndarray, "H W 3"]) -> tuple[Float[np.ndarray, "1 3 416 416"], Float[np.ndarray, " 2"]]:
    """Network input (BGR, 0 to 255, image at the top left, grey below or beside) and its (x, y) scale."""
    height, width = image.shape[:2]
    fit = _SIZE / max(height, width)
    new_width, new_height = max(1, round(width * fit)), max(1, round(height * fit))
    interpolation = cv2.INTER_AREA if fit < 1 else cv2.INTER_LINEAR
    canvas = np.full((_SIZE, _SIZE, 3), _PADDING, np.float32)
    canvas[:new_height, :new_width] = cv2.resize(image, (new_width, new_height), interpolation=interpolation)[
        :, :, ::-1
    ]
    batch = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None])
    return batch, np.array([new_width / width, new_height / height])


def decode(output: Float[np.ndarray, "3549 85"]) -> tuple[Float[np.ndarray, "3549 4"], Float[np.ndarray, " 3549"]]:
    """Boxes (left, top, right, bottom in network pixels) and person scores of YOLOX's raw grid output.

    Cell (i, j) of the grid with stride s predicts the centre ((i + x) s, (j + y) s) and the size (e^w s, e^h s).
    """
    output = output.astype(np.float64)
    centre = (output[:, :2] + _CELLS) * _CELL_STRIDES
    half = np.exp(output[:, 2:4]) * _CELL_STRIDES / 2.0
    return np.concatenate((centre - half, centre + half), axis=1), output[:, 4] * output[:, _PERSON]


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Cell indices (3549, 2) as (i, j) and strides (3549, 1), finest grid first, row by row."""
    cells = [np.indices((_SIZE // s, _SIZE // s))[::-1].reshape(2, -1).T for s in _STRIDES]
    strides = [np.full((len(c), 1), s) for c, s in zip(cells, _STRIDES, strict=True)]
    return np.concatenate(cells), np.concatenate(strides)


_CELLS, _CELL_STRIDES = _grid()
