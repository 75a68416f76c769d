"""Who is in the picture: bodies and evidence of K people as a struct of arrays whose order never changes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.errors import InputError
from crowdmesh.masks import Masks


class PersonStatus(enum.IntEnum):
    """What happened to one person; :attr:`reason` says it in words."""

    INITIAL = 0
    PLACED = 1
    PLACED_STATURE_LIMITED = 2
    KEPT_NOT_VISIBLE = 3
    KEPT_FEW_PIXELS = 4
    KEPT_NO_DEPTH = 5
    KEPT_ALONE = 6
    KEPT_IMPLAUSIBLE_STATURE = 7
    KEPT_IMPLAUSIBLE_DEPTH = 8
    PLACED_AGE_UNKNOWN = 9
    PLACED_FROM_STATURE = 10
    PREDICTED = 11

    @property
    def reason(self) -> str:
        """One clause for tables and reports."""
        return _REASONS[self]

    @property
    def placed(self) -> bool:
        """Whether the joint optimisation moved this person."""
        return self.name.startswith("PLACED")


_REASONS = {
    PersonStatus.INITIAL: "first guess, not placed",
    PersonStatus.PLACED: "placed",
    PersonStatus.PLACED_STATURE_LIMITED: "placed; the body model cannot reach the corrected stature",
    PersonStatus.PLACED_AGE_UNKNOWN: "placed; age unknown",
    PersonStatus.PLACED_FROM_STATURE: "placed by the stature of that age and sex alone; no depth evidence",
    PersonStatus.PREDICTED: "predicted together with the others in one pass",
    PersonStatus.KEPT_NOT_VISIBLE: "kept: not visible in the image (hidden, outside it, or mask and body disagree)",
    PersonStatus.KEPT_FEW_PIXELS: "kept: too few visible pixels",
    PersonStatus.KEPT_NO_DEPTH: "kept: no valid depth on the person",
    PersonStatus.KEPT_ALONE: "kept: nobody else with depth evidence",
    PersonStatus.KEPT_IMPLAUSIBLE_STATURE: "kept: the corrected stature would be implausible",
    PersonStatus.KEPT_IMPLAUSIBLE_DEPTH: "kept: the corrected depth would not lie in front of the camera",
}

# Trailing shape of each per-person array; None: any size.
_SHAPES: dict[str, tuple[int | None, ...]] = {
    "pose": (None, 3),
    "shape": (None,),
    "translation_m": (3,),
    "stature_m": (),
    "vertices_m": (None, 3),
    "joints_m": (None, 3),
    "boxes_px": (4,),
    "scores": (),
    "keypoints_px": (17, 3),
    "age_years": (),
    "age_std_years": (),
    "male_probability": (),
    "known_stature_m": (),
    "fit_error_px": (),
    "status": (),
}
_UNKNOWN_ALLOWED = frozenset({"age_years", "age_std_years", "male_probability", "known_stature_m", "fit_error_px"})
_SINGLE_PRECISION = frozenset({"vertices_m", "joints_m"})


@dataclass(frozen=True, eq=False)
class People:
    """K people. Axis 0 of every array is the person; it is never reordered and nobody is ever dropped.

    ``People`` stores what it was given and computes nothing; ``body.pose_people(people)`` fills ``vertices_m`` and
    ``joints_m`` from the parameters.

    Body:
        body: name of the body model (``"anny"``, ``"smpl"``, ``"rigid"`` ...).
        translation_m: (K, 3) the body model's root translation in the camera frame, metres.
        stature_m: (K,) height of the body in its rest pose, metres (the paper's h-hat).
        pose: (K, J, 3) joint rotations relative to the parent, axis-angle in radians.
        shape: (K, S) shape parameters of the body model.
        vertices_m, joints_m: (K, V, 3), (K, J, 3) posed surface and joints in the camera frame, metres, float32.
        faces: (F, 3) triangles, only for bodies that have none of their own (``rigid``).
    Evidence (``None``: nobody asked; NaN in age, sex, known stature and fit error: unknown for this person):
        boxes_px: (K, 4) left, top, right, bottom. scores: (K,) detector confidence.
        masks: run-length coded image masks. keypoints_px: (K, 17, 3) COCO-17 x, y, confidence.
        age_years, age_std_years, male_probability: (K,). fit_error_px: (K,) mean reprojection error of the body fit.
        known_stature_m: (K,) heights that somebody measured, metres.
    status: (K,) :class:`PersonStatus` values.
    """

    body: str
    translation_m: Float[np.ndarray, "K 3"]
    stature_m: Float[np.ndarray, " K"]
    pose: Float[np.ndarray, "K J 3"] | None = None
    shape: Float[np.ndarray, "K S"] | None = None
    vertices_m: Float[np.ndarray, "K V 3"] | None = None
    joints_m: Float[np.ndarray, "K J2 3"] | None = None
    faces: Int[np.ndarray, "F 3"] | None = None
    boxes_px: Float[np.ndarray, "K 4"] | None = None
    scores: Float[np.ndarray, " K"] | None = None
    masks: Masks | None = None
    keypoints_px: Float[np.ndarray, "K 17 3"] | None = None
    age_years: Float[np.ndarray, " K"] | None = None
    age_std_years: Float[np.ndarray, " K"] | None = None
    male_probability: Float[np.ndarray, " K"] | None = None
    known_stature_m: Float[np.ndarray, " K"] | None = None
    fit_error_px: Float[np.ndarray, " K"] | None = None
    status: Int[np.ndarray, " K"] | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.translation_m) != 2:
            raise InputError(f"translation_m must have shape (people, 3), got {np.shape(self.translation_m)}")
        if self.status is None:
            object.__setattr__(self, "status", np.zeros(len(self), np.int64))
        for name, trailing in _SHAPES.items():
            value = getattr(self, name)
            if value is not None:
                self._check_array(name, np.asarray(value), trailing)
        if self.faces is not None:
            _check_faces(np.asarray(self.faces))
        if self.masks is not None and len(self.masks) != len(self):
            raise InputError(f"{len(self.masks)} masks for {len(self)} people; give one mask per person")
        if len(self) and not np.all(self.stature_m > 0):
            raise InputError("stature_m must be positive for every person (metres)")
        for name in ("age_years", "age_std_years"):
            value = getattr(self, name)
            if value is not None and np.any(value < 0):
                raise InputError(f"{name} must not be negative (NaN: unknown)")
        if self.known_stature_m is not None and np.any(self.known_stature_m <= 0):
            raise InputError("known_stature_m must be positive (metres; NaN: unknown)")
        if self.male_probability is not None and np.any((self.male_probability < 0) | (self.male_probability > 1)):
            raise InputError("male_probability must lie in [0, 1] (NaN: unknown)")

    def _check_array(self, name: str, value: np.ndarray, trailing: tuple[int | None, ...]) -> None:
        expected = (len(self), *trailing)
        fits = value.ndim == len(expected) and all(
            e is None or e == n for e, n in zip(expected, value.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in expected)
            raise InputError(f"{name} must have shape ({wanted}) for {len(self)} people, got {value.shape}")
        if value.dtype.kind not in "fiub":
            raise InputError(f"{name} must hold numbers, got {value.dtype}")
        if name == "status":
            _check_status(value)
        dtype = np.int64 if name == "status" else np.float32 if name in _SINGLE_PRECISION else np.float64
        value = value.astype(dtype, copy=False)
        wrong, what = (
            (np.isinf(value), "infinite") if name in _UNKNOWN_ALLOWED else (~np.isfinite(value), "NaN or infinite")
        )
        if wrong.any():
            bad = np.flatnonzero(wrong.reshape(len(value), -1).any(1))
            raise InputError(f"{name} holds {what} values for person {', '.join(map(str, bad[:5]))}")
        object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.translation_m)

    def __getitem__(self, people: slice | np.ndarray | list[int]) -> People:
        """The chosen people, in the order asked for, as a new ``People``."""
        if isinstance(people, (int, np.integer)):
            raise InputError("index people with a slice, list or array, e.g. people[[2]], so that axis 0 stays")
        values = {}
        for field in fields(self):
            value = getattr(self, field.name)
            values[field.name] = value if field.name in ("body", "faces") or value is None else value[people]
        return People(**values)

    @property
    def statuses(self) -> list[PersonStatus]:
        """The status of each person as an enum."""
        return [PersonStatus(int(s)) for s in self.status]  # type: ignore[union-attr]


def _check_status(status: np.ndarray) -> None:
    unknown = np.flatnonzero(~np.isin(status, list(PersonStatus)))
    if len(unknown):
        raise InputError(f"status of person {unknown[0]} is {status[unknown[0]]}, which is no PersonStatus")


def _check_faces(faces: np.ndarray) -> None:
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise InputError(f"faces must be (F, 3) whole numbers of vertices, got {faces.dtype} {faces.shape}")
