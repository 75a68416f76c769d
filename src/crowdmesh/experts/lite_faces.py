"""AttributeExpert of the ``lite`` set: find each person's face, read apparent age and sex from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.optimize import linear_sum_assignment

from crowdmesh import assets
from crowdmesh.experts._age_network import INPUT_SIZE, AgeSexNetwork
from crowdmesh.experts._crops import SquareCrop
from crowdmesh.experts.base import Attributes, Detections, InputImage, Keypoints
from crowdmesh.experts.lite_face_detector import WINDOW_SIZE, FaceDetector, Faces

WINDOWS = (1.0, 0.5)
"""Sides of the windows searched around a head, in units of the longer side of the person's box."""

UPRIGHT = math.radians(45.0)
"""Heads leaning more than this are also searched in windows turned with them; the detector knows upright faces."""

MAX_DISTANCE = 0.75
"""A face is a person's if eyes, nose and ears agree with the keypoints to this many face widths on average."""

MIN_FACE_PX = 16.0
"""Narrower faces are not read: shrunk photographs give the same ages down to here, and nonsense below."""

FACE_MARGINS = (1.1, 1.2, 1.3)
"""Sides of the crops shown to the age network, in face widths; the answers for them and their mirror images are
averaged. Chosen for a baby and four adults whose faces are clear: beyond 1.5, the baby turns fifteen."""

CLEAR_FACE_PX = 48.0
"""Faces narrower than this get a standard deviation larger in proportion (our assumption: on real small faces, which
are also blurred, dark or compressed, errors of twenty years were seen)."""

# Mean absolute error by age in the network's own test (README of face-api.js).
_AGES = (1.5, 6.0, 13.5, 23.5, 34.5, 50.5, 70.0, 85.0)
_MEAN_ERRORS = (1.52, 3.06, 4.82, 4.99, 5.43, 4.94, 6.17, 9.91)
_STD_PER_MEAN_ERROR = math.sqrt(math.pi / 2.0)  # of a Gaussian

# Right eye, left eye, nose, right ear, left ear: in COCO-17, and among the six points of a detected face.
_IN_COCO17 = (2, 1, 0, 4, 3)
_IN_FACE = (0, 1, 2, 4, 5)


class FaceAttributes:
    """Apparent age and sex from faces: MediaPipe's face detector and face-api.js's age network, on one CPU core."""

    name = "BlazeFace + face-api.js age and sex"

    def __init__(self) -> None:
        self._faces = FaceDetector()
        self._network = AgeSexNetwork(assets.AGE_SEX_WEIGHTS.fetch(), assets.AGE_SEX_MANIFEST.fetch())

    @classmethod
    def sources(cls) -> tuple[assets.Asset, ...]:
        """The files it needs."""
        return (assets.FACE_DETECTION, assets.AGE_SEX_WEIGHTS, assets.AGE_SEX_MANIFEST)

    def estimate(
        self, images: Sequence[InputImage], detections: Sequence[Detections], keypoints: Sequence[Keypoints]
    ) -> list[Attributes]:
        """Age, its standard deviation and probability of being male; NaN for people whose face is not seen.

        The standard deviation combines the network's published error at that age, enlarged for small faces, with how
        much the answers differ between slightly different crops of the same face.
        """
        return [self._estimate(image.pixels, d, k) for image, d, k in zip(images, detections, keypoints, strict=True)]

    def _estimate(self, image: UInt8[np.ndarray, "H W 3"], detections: Detections, keypoints: Keypoints) -> Attributes:
        faces = self._faces(image, head_windows(detections.boxes_px, keypoints.coco17_px))
        age, std, male = np.full((3, len(detections)), np.nan)
        faces_px = np.full((len(detections), 4), np.nan)
        for k, face in enumerate(assign_faces(faces, keypoints.coco17_px).tolist()):
            if face >= 0 and faces.widths_px[face] >= MIN_FACE_PX:
                half = faces.widths_px[face] / 2.0
                faces_px[k] = np.concatenate((faces.centres_px[face] - half, faces.centres_px[face] + half))
                age[k], std[k], male[k] = self._read(image, faces, face)
        return Attributes(age, std, male, faces_px)

    def _read(self, image: UInt8[np.ndarray, "H W 3"], faces: Faces, face: int) -> tuple[float, float, float]:
        """Age, its standard deviation and the probability of being male."""
        crops = np.stack([faces.crop(face, margin, INPUT_SIZE).sample(image) for margin in FACE_MARGINS])
        ages, male = self._network(np.concatenate((crops, crops[:, :, ::-1])))
        age = max(float(ages.mean()), 0.0)
        std = math.hypot(age_error_std(age, float(faces.widths_px[face])), float(ages.std()))
        return age, std, float(male.mean())


def head_windows(boxes_px: Float[np.ndarray, "K 4"], coco17_px: Float[np.ndarray, "K 17 3"]) -> list[SquareCrop]:
    """Windows to search for each person's face, around the middle of nose, eyes and ears."""
    windows = []
    for box, head in zip(boxes_px, coco17_px[:, _IN_COCO17, :2], strict=True):
        (x, y), (right, down) = head.mean(axis=0), head[1] - head[0]
        roll = math.atan2(down, right)
        for side in WINDOWS:
            window = SquareCrop((float(x), float(y)), side * float(np.max(box[2:] - box[:2])), WINDOW_SIZE)
            windows.append(window)
            if abs(roll) > UPRIGHT:
                windows.append(SquareCrop(window.centre_px, window.side_px, WINDOW_SIZE, roll))
    return windows


def assign_faces(faces: Faces, coco17_px: Float[np.ndarray, "K 17 3"]) -> Int[np.ndarray, " K"]:
    """The face of each person (-1: none), no face twice, so that face points and keypoints agree best overall."""
    people_px, faces_px = coco17_px[:, _IN_COCO17, :2], faces.points_px[:, _IN_FACE]
    distance = np.linalg.norm(people_px[:, None] - faces_px[None], axis=-1).mean(axis=-1) / faces.widths_px
    # Pairs too far apart all cost the same, so that giving one up never spoils a good one.
    person, face = linear_sum_assignment(np.minimum(distance, MAX_DISTANCE))
    close = distance[person, face] < MAX_DISTANCE
    chosen = np.full(len(coco17_px), -1)
    chosen[person[close]] = face[close]
    return chosen


def age_error_std(age_years: float, face_width_px: float) -> float:
    """Standard deviation, in years, of an age read from a face of this width."""
    clear = float(np.interp(age_years, _AGES, _MEAN_ERRORS)) * _STD_PER_MEAN_ERROR
    return clear * max(1.0, CLEAR_FACE_PX / face_width_px)
