"""One image with what a data set says of its people: what every reader gives and augmentation takes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from crowdmesh.body import BODIES
from crowdmesh.errors import InputError
from crowdmesh.formats.smpl_people import GENDERS
from crowdmesh.images import check_image, read_image


@dataclass(frozen=True)
class Supervision:
    """Which labels of an image are true enough to learn from; what is False is masked in every loss.

    Attributes:
        bodies: pose, 3D joints and depth (the release's ``3d_valid``). False: only boxes, image keypoints, the scale
            map and the camera are learned, from the same, pseudo-true, bodies.
        shape: shape parameters, all but the kid axis (False also where a gendered body would teach a neutral one).
        kid: SMPL's kid axis (False where children were fitted with an adult model).
        everybody: every person in the image is labelled, so that a query elsewhere may learn that nobody is there.
        camera: the intrinsics are known well enough to learn the field of view.
        scale_map: bodies are there to paint the scale map from.
    """

    bodies: bool
    shape: bool
    kid: bool
    everybody: bool
    camera: bool
    scale_map: bool = True


@dataclass(frozen=True, eq=False)
class LabelledPeople:
    """K people of an image as struct of arrays; the image's own pixels, metres, the camera frame (OpenCV).

    Either bodies (pose, betas, translation) or points (keypoints, joints) or both are there. NaN is refused: what is
    unknown of one person has confidence 0, and what is unknown of all is ``None``.

    Attributes:
        count: K.
        body: name of the body model of pose and betas; ``None``: no bodies.
        genders: which SMPL model each person was fitted with; ``None``: neutral (or another body).
        pose: (K, J, 3) axis-angle relative to the parent, the root's turns into the camera frame; radians.
        betas: (K, S) shape parameters. translation_m: (K, 3) of the body model (not the pelvis), camera frame.
        point_names: names of the points below, as in ``crowdmesh.body.keypoints`` (``left_hip`` ...).
        keypoints_px: (K, P, 3) x, y in pixels of the image, confidence (0: unknown).
        joints_m: (K, P, 4) x, y, z in the camera frame, confidence; ``None``: unknown.
        depth_layers: (K,) 0 nearest, -1 unknown; ``None``: the data set has none.
        age_years: (K,) NaN allowed where unknown; used to report by age, not to learn from. ``None``: unknown.
    """

    count: int
    body: str | None = None
    genders: tuple[str, ...] | None = None
    pose: Float[np.ndarray, "K J 3"] | None = None
    betas: Float[np.ndarray, "K S"] | None = None
    translation_m: Float[np.ndarray, "K 3"] | None = None
    point_names: tuple[str, ...] = ()
    keypoints_px: Float[np.ndarray, "K P 3"] | None = None
    joints_m: Float[np.ndarray, "K P 4"] | None = None
    depth_layers: Int[np.ndarray, " K"] | None = None
    age_years: Float[np.ndarray, " K"] | None = None

    def __post_init__(self) -> None:
        bodies = (self.pose, self.betas, self.translation_m)
        if any(part is None for part in bodies) != all(part is None for part in bodies) or (
            (self.body is None) != (self.pose is None)
        ):
            raise InputError("bodies need all of body, pose, betas and translation_m, or none of them")
        if self.body is not None and self.body not in BODIES:
            raise InputError(f"unknown body {self.body!r}; use one of {', '.join(BODIES)}")
        if self.genders is not None and (
            len(self.genders) != self.count or any(word not in GENDERS for word in self.genders)
        ):
            raise InputError(f"genders must be {self.count} of {', '.join(GENDERS)}")
        points = len(self.point_names)
        shapes = {
            "pose": (self.count, None, 3), "betas": (self.count, None), "translation_m": (self.count, 3),
            "keypoints_px": (self.count, points, 3), "joints_m": (self.count, points, 4),
            "depth_layers": (self.count,), "age_years": (self.count,),
        }  # fmt: skip
        for name, shape in shapes.items():
            self._check(name, shape)

    def _check(self, name: str, shape: tuple[int | None, ...]) -> None:
        value = getattr(self, name)
        if value is None:
            return
        array = np.asarray(value, np.int64 if name == "depth_layers" else np.float64)
        fits = array.ndim == len(shape) and all(w in (None, g) for g, w in zip(array.shape, shape, strict=True))
        if not fits:
            raise InputError(f"{name} of {self.count} people must have shape {shape}, got {array.shape}")
        if name != "age_years" and not np.isfinite(array).all():
            person = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise InputError(f"{name} of person {person} holds NaN or infinite values")
        object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, chosen: Bool[np.ndarray, " K"] | Int[np.ndarray, " M"]) -> LabelledPeople:
        """Some of the people."""
        index = np.arange(self.count)[chosen]
        kept: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            kept[field.name] = value[index] if isinstance(value, np.ndarray) else value
        kept["count"] = len(index)
        if self.genders is not None:
            kept["genders"] = tuple(self.genders[i] for i in index)
        return LabelledPeople(**kept)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """One image of a data set.

    Attributes:
        key: data set and image, for messages: ``dataset/path``.
        dataset: name of the data set, for figures by data set.
        image: the pixels, or the file they are in. turn_clockwise: the file's pixels must be turned by 90 degrees
            clockwise first (BEDLAM's closeups).
        intrinsics_px: (3, 3) camera matrix in pixels of the (turned) image; ``None``: unknown.
        people, supervision: who is labelled, and what of it may be learned.
    """

    key: str
    dataset: str
    image: Path | UInt8[np.ndarray, "H W 3"]
    intrinsics_px: Float[np.ndarray, "3 3"] | None
    people: LabelledPeople
    supervision: Supervision
    turn_clockwise: bool = False

    def __post_init__(self) -> None:
        if self.intrinsics_px is not None:
            K = np.asarray(self.intrinsics_px, np.float64)
            if K.shape != (3, 3) or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
                raise InputError(f"intrinsics of {self.key} must be (3, 3), finite, with positive focal lengths")
            object.__setattr__(self, "intrinsics_px", K)
        elif self.people.body is not None:
            raise InputError(f"{self.key} has bodies but no intrinsics; they cannot be put into its image")

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """The image, upright, RGB.

        Raises:
            InputError: no such file. FormatError: damaged.
        """
        image = read_image(self.image) if isinstance(self.image, Path) else check_image(self.image, self.key)
        return np.ascontiguousarray(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)) if self.turn_clockwise else image
