"""Faces in windows of an image: MediaPipe's full-range detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh import assets
from crowdmesh.experts._crops import SquareCrop
from crowdmesh.experts._runtime import TfliteNetwork, sigmoid

MIN_SCORE = 0.5
"""Faces below this confidence are dropped (MediaPipe's default)."""

WINDOW_SIZE = 192
"""Pixels per side of the windows the network takes."""

_GRID = 48
_SAME = 0.5  # two faces whose centres differ by less than this share of the better one's width are one face


@dataclass(frozen=True, eq=False)
class Faces:
    """F faces, most confident first, as squares from brows to chin.

    Attributes:
        centres_px: (F, 2) middle of the square.
        widths_px: (F,) its side.
        points_px: (F, 6, 2) right eye, left eye, nose tip, mouth, right ear, left ear (the person's right).
        scores: (F,) confidence.
    """

    centres_px: Float[np.ndarray, "F 2"]
    widths_px: Float[np.ndarray, " F"]
    points_px: Float[np.ndarray, "F 6 2"]
    scores: Float[np.ndarray, " F"]

    def __len__(self) -> int:
        return len(self.scores)

    def crop(self, face: int, margin: float, size: int) -> SquareCrop:
        """A face turned upright by its eyes, ``margin`` times its width, as ``size`` x ``size`` pixels."""
        right, down = self.points_px[face, 1] - self.points_px[face, 0]
        x, y = map(float, self.centres_px[face])
        return SquareCrop((x, y), margin * float(self.widths_px[face]), size, float(np.arctan2(down, right)))


class FaceDetector:
    """BlazeFace, full range (Bazarevsky et al. 2019), on one CPU core."""

    def __init__(self) -> None:
        self._network = TfliteNetwork(assets.FACE_DETECTION.fetch())

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], windows: list[SquareCrop]) -> Faces:
        """The faces in some windows of 192 pixels; a face seen in several of them is reported once."""
        found = [Faces(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 6, 2)), np.zeros(0))]
        for window in windows:
            regression, logits = self._network((window.sample(image).astype(np.float32) / 127.5 - 1.0)[None])
            faces = decode(regression[0], logits[0, :, 0])
            centres, points = window.to_image(faces.centres_px), window.to_image(faces.points_px)
            found.append(Faces(centres, faces.widths_px * (window.side_px / window.size), points, faces.scores))
        names = ("centres_px", "widths_px", "points_px", "scores")
        return distinct(Faces(*(np.concatenate([getattr(faces, name) for faces in found]) for name in names)))


def decode(regression: Float[np.ndarray, "2304 16"], logits: Float[np.ndarray, " 2304"]) -> Faces:
    """The faces, in window pixels, of the anchors above the threshold; still many for one face.

    Columns: centre relative to the anchor's cell centre, width, height, then six points relative to the cell centre.
    """
    scores = sigmoid(logits)
    likely = scores >= MIN_SCORE
    anchors, values = _ANCHORS[likely], regression[likely].astype(np.float64)
    points = values[:, 4:].reshape(-1, 6, 2) + anchors[:, None]
    return Faces(values[:, :2] + anchors, values[:, 2:4].max(axis=1), points, scores[likely])


def distinct(faces: Faces) -> Faces:
    """Each face once: of detections with nearly the same centre, the most confident."""
    kept: list[int] = []
    for k in np.argsort(-faces.scores, kind="stable"):
        apart = np.linalg.norm(faces.centres_px[kept] - faces.centres_px[k], axis=1)
        if np.all(apart >= _SAME * faces.widths_px[kept]):
            kept.append(int(k))
    return Faces(faces.centres_px[kept], faces.widths_px[kept], faces.points_px[kept], faces.scores[kept])


_ANCHORS = (np.indices((_GRID, _GRID))[::-1].reshape(2, -1).T + 0.5) * (WINDOW_SIZE / _GRID)
