"""What the pipeline asks of upstream models: one protocol per question, one frozen type per answer.

Every answer about K people has the person on axis 0, in the order of the :class:`Detections` it was asked with; an
expert that knows nothing of somebody says so with NaN or low confidence and never drops anybody.
Images are (H, W, 3) uint8 RGB; points and boxes are in pixels with pixel centres at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh.assets import Asset
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People


@dataclass(frozen=True, eq=False)
class Detections:
    """The people found in one image.

    Attributes:
        boxes_px: (K, 4) left, top, right, bottom, inside the image.
        scores: (K,) confidence in [0, 1], falling.
        masks: their image masks, when the detector segments.
    """

    boxes_px: Float[np.ndarray, "K 4"]
    scores: Float[np.ndarray, " K"]
    masks: Masks | None = None

    def __post_init__(self) -> None:
        _check("Detections", len(self), boxes_px=(self.boxes_px, (4,)), scores=(self.scores, ()))
        _check_masks(self.masks, len(self))

    def __len__(self) -> int:
        return len(self.boxes_px)


@dataclass(frozen=True, eq=False)
class BodyLandmarks:
    """The 33 BlazePose body landmarks of K people.

    Attributes:
        px: (K, 33, 2) image points, possibly outside the image.
        visibility: (K, 33) probability of being inside the image and not hidden.
        world_m: (K, 33, 3) metres, x right, y down, z forward, origin midway between the hips; as if the person were
            seen in the middle of the image (the turn of the viewing ray towards a person at its border is not removed).
            Single-person networks see an adult in everybody: the scale is that of an adult.
        presence: (K,) probability that there is a person to see at all.
    """

    px: Float[np.ndarray, "K 33 2"]
    visibility: Float[np.ndarray, "K 33"]
    world_m: Float[np.ndarray, "K 33 3"]
    presence: Float[np.ndarray, " K"]

    def __post_init__(self) -> None:
        arrays = {"px": (33, 2), "visibility": (33,), "world_m": (33, 3), "presence": ()}
        _check("BodyLandmarks", len(self), **{name: (getattr(self, name), shape) for name, shape in arrays.items()})

    def __len__(self) -> int:
        return len(self.px)


@dataclass(frozen=True, eq=False)
class Keypoints:
    """2D joints of K people, and what else the keypoint network knows of them.

    Attributes:
        coco17_px: (K, 17, 3) x, y, confidence in COCO order (nose, eyes, ears, shoulders, ... ankles; left first).
        landmarks: the denser landmarks they come from, when there are any.
        masks: image masks, when the network makes them.
    """

    coco17_px: Float[np.ndarray, "K 17 3"]
    landmarks: BodyLandmarks | None = None
    masks: Masks | None = None

    def __post_init__(self) -> None:
        _check("Keypoints", len(self), coco17_px=(self.coco17_px, (17, 3)))
        if self.landmarks is not None and len(self.landmarks) != len(self):
            raise InputError(f"Keypoints of {len(self)} people came with landmarks of {len(self.landmarks)}")
        _check_masks(self.masks, len(self))

    def __len__(self) -> int:
        return len(self.coco17_px)


@dataclass(frozen=True, eq=False)
class Attributes:
    """Apparent age and sex of K people; NaN where unknown.

    Attributes:
        age_years, age_std_years: (K,) estimate and standard deviation of its error.
        male_probability: (K,) in [0, 1].
        faces_px: (K, 4) left, top, right, bottom of the face the answer was read from.
    """

    age_years: Float[np.ndarray, " K"]
    age_std_years: Float[np.ndarray, " K"]
    male_probability: Float[np.ndarray, " K"]
    faces_px: Float[np.ndarray, "K 4"]

    def __post_init__(self) -> None:
        arrays = {"age_years": (), "age_std_years": (), "male_probability": (), "faces_px": (4,)}
        _check("Attributes", len(self), **{name: (getattr(self, name), shape) for name, shape in arrays.items()})

    def __len__(self) -> int:
        return len(self.age_years)


@dataclass(frozen=True)
class CameraEstimate:
    """A camera and where it comes from, in words fit for a report."""

    camera: Camera
    source: str


@runtime_checkable
class Expert(Protocol):
    """What all experts have in common, so that they can be listed before one is made.

    Attributes:
        name: short name for reports and provenance.
        assets: the files it needs; making the expert fetches and loads them.
    """

    name: ClassVar[str]
    assets: ClassVar[tuple[Asset, ...]]


@runtime_checkable
class PersonDetector(Expert, Protocol):
    """Where are people?"""

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Detections:
        """Everybody in the image, once."""
        ...


@runtime_checkable
class KeypointExpert(Expert, Protocol):
    """Where are their joints?"""

    def locate(self, image: UInt8[np.ndarray, "H W 3"], detections: Detections) -> Keypoints:
        """Keypoints of each detected person."""
        ...


@runtime_checkable
class DepthExpert(Expert, Protocol):
    """What is in front of what?"""

    def estimate(self, image: UInt8[np.ndarray, "H W 3"]) -> RelativeDepth:
        """A depth map of the image's size."""
        ...


@runtime_checkable
class AttributeExpert(Expert, Protocol):
    """How old are they, and of which sex do they look?"""

    def estimate(self, image: UInt8[np.ndarray, "H W 3"], detections: Detections, keypoints: Keypoints) -> Attributes:
        """Apparent age and sex of each detected person."""
        ...


@runtime_checkable
class CameraExpert(Expert, Protocol):
    """Which camera took it?"""

    def estimate(self, image: UInt8[np.ndarray, "H W 3"], path: Path | None) -> CameraEstimate:
        """The camera of the image; ``path`` is the file it was read from, if any."""
        ...


@runtime_checkable
class MeshExpert(Expert, Protocol):
    """Which bodies explain them, each person for itself?"""

    def fit(self, camera: Camera, detections: Detections, keypoints: Keypoints) -> People:
        """One body per detected person, in the camera frame."""
        ...


@dataclass(frozen=True)
class Experts:
    """One expert per question."""

    persons: PersonDetector
    keypoints: KeypointExpert
    depth: DepthExpert
    attributes: AttributeExpert
    camera: CameraExpert
    mesh: MeshExpert

    def all(self) -> tuple[Expert, ...]:
        """The experts in the order in which an image meets them."""
        return (self.camera, self.persons, self.keypoints, self.mesh, self.attributes, self.depth)


def _check(owner: str, count: int, **arrays: tuple[np.ndarray, tuple[int, ...]]) -> None:
    for name, (value, trailing) in arrays.items():
        if value.shape != (count, *trailing):
            raise InputError(f"{owner}.{name} must have shape {(count, *trailing)}, got {value.shape}")


def _check_masks(masks: Masks | None, count: int) -> None:
    if masks is not None and len(masks) != count:
        raise InputError(f"{len(masks)} masks were given for {count} people")
