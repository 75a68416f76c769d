"""People of one image as SMPL parameters in a world frame and the camera that saw them: what four data sets hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.errors import InputError

GENDERS = ("neutral", "male", "female")
_SPELLINGS = {"m": "male", "f": "female", "n": "neutral"} | {gender: gender for gender in GENDERS}


@dataclass(frozen=True, eq=False)
class SMPLPeople:
    """n people of one image. A world point X lies at ``camera_rotation @ X + camera_translation_m`` in the camera frame
    (x right, y down, z forward), metres; image points are in pixels of the image as published.

    Attributes:
        intrinsics_px: (n, 3, 3) camera matrix of each person; most data sets have one for all.
        camera_rotation, camera_translation_m: (n, 3, 3), (n, 3) from world to camera.
        pose: (n, 24, 3) axis-angle in radians, relative to the parent; the root's turns into the world frame.
        betas: (n, 10), or (n, 11) with the weight of AGORA's kid axis last, 0 where the file has none.
        translation_m: (n, 3) SMPL's translation in the world frame.
        genders: which SMPL model each person is posed with: ``neutral``, ``male`` or ``female``.
        valid: (n,) whether the data set counts the person (AGORA: ``isValid``; elsewhere everybody).
        child: (n,) whether the person is one of AGORA's children; ``None``: the data set does not say.
        image_size: width, height in pixels where the data set fixes it.
        turn_clockwise: the file's pixels must be turned by 90 degrees clockwise for the annotation to fit (BEDLAM's
            ``closeup`` images); ``image_size`` is that of the turned image.
    """

    intrinsics_px: Float[np.ndarray, "n 3 3"]
    camera_rotation: Float[np.ndarray, "n 3 3"]
    camera_translation_m: Float[np.ndarray, "n 3"]
    pose: Float[np.ndarray, "n 24 3"]
    betas: Float[np.ndarray, "n S"]
    translation_m: Float[np.ndarray, "n 3"]
    genders: tuple[str, ...]
    valid: Bool[np.ndarray, " n"]
    child: Bool[np.ndarray, " n"] | None = None
    image_size: tuple[int, int] | None = None
    turn_clockwise: bool = False

    def __post_init__(self) -> None:
        n = len(self.genders)
        shapes = {
            "intrinsics_px": (n, 3, 3),
            "camera_rotation": (n, 3, 3),
            "camera_translation_m": (n, 3),
            "pose": (n, 24, 3),
            "betas": (n, 11 if np.shape(self.betas)[-1:] == (11,) else 10),
            "translation_m": (n, 3),
        }
        for name, shape in shapes.items():
            value = np.asarray(getattr(self, name), np.float64)
            if value.shape != shape:
                raise InputError(f"{name} must have shape {shape} for {n} people, got {value.shape}")
            if not np.isfinite(value).all():
                raise InputError(f"{name} holds NaN or infinite values")
            object.__setattr__(self, name, value)
        for name in ("valid", "child"):
            value = getattr(self, name)
            if value is not None and (np.shape(value) != (n,) or np.asarray(value).dtype != np.bool_):
                raise InputError(f"{name} must be {n} truth values, one a person")
        for gender in self.genders:
            if gender not in GENDERS:
                raise InputError(f"unknown gender {gender!r}; use one of {', '.join(GENDERS)}")
        _check_cameras(self.intrinsics_px, self.camera_rotation)

    def __len__(self) -> int:
        return len(self.genders)


def _check_cameras(intrinsics: np.ndarray, rotation: np.ndarray) -> None:
    if not np.allclose(intrinsics[:, 2], (0, 0, 1), atol=1e-6) or np.any(intrinsics[:, [0, 1], [0, 1]] <= 0):
        raise InputError(
            "intrinsics must have the form [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with positive focal lengths"
        )
    identity = rotation @ np.swapaxes(rotation, -1, -2)
    if not np.allclose(identity, np.eye(3), atol=1e-3) or np.any(np.linalg.det(rotation) < 0):
        raise InputError("the camera's rotation must be a rotation matrix")


def gender_of(word: object) -> str:
    """A gender as the data sets spell it (``m``, ``male`` ...); InputError for any other word."""
    spelled = _SPELLINGS.get(word.strip().lower()) if isinstance(word, str) else None
    if spelled is None:
        raise InputError(f"unknown gender {word!r}; use one of {', '.join(GENDERS)}")
    return spelled


def ten_or_eleven_betas(betas: list[np.ndarray]) -> Float[np.ndarray, "n S"]:
    """Rows of ten or more betas as (n, 10), or as (n, 11) if a person has eleven: the kid axis, 0 for all others.

    Further betas of larger shape spaces (twelve or more) are cut to the first ten, as SMPL's ten are the same.
    """
    rows = [row if len(row) in (10, 11) else row[:10] for row in betas]
    width = max((len(row) for row in rows), default=10)
    return np.array([np.pad(row, (0, width - len(row))) for row in rows]).reshape(-1, width)
