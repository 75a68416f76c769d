"""What the pipeline asks of upstream models: one protocol per question, one frozen type per answer.

Every question is asked about several images at once, so that networks can work on batches, and is answered by a list in
the order of the images. Every answer about K people has the person on axis 0, in the order of the :class:`Detections`
it was asked with; an expert that knows nothing of somebody says so with NaN or low confidence and never drops anybody.
Points and boxes are in pixels with pixel centres at +0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh.assets import Weights
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People

if TYPE_CHECKING:
    from crowdmesh.experts.screening import Screening


@dataclass(frozen=True, eq=False)
class InputImage:
    """A photograph on its way through the experts.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        path: the file it was read from, if any.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    path: Path | None = None

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.pixels.shape[1]


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

    def __getitem__(self, people: slice | np.ndarray | list[int]) -> Detections:
        """The chosen people, in the order asked for."""
        masks = None if self.masks is None else self.masks[people]
        return Detections(self.boxes_px[people], self.scores[people], masks)


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

    def __getitem__(self, people: slice | np.ndarray | list[int]) -> BodyLandmarks:
        """The chosen people, in the order asked for."""
        return BodyLandmarks(self.px[people], self.visibility[people], self.world_m[people], self.presence[people])


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

    def __getitem__(self, people: slice | np.ndarray | list[int]) -> Keypoints:
        """The chosen people, in the order asked for."""
        landmarks = None if self.landmarks is None else self.landmarks[people]
        masks = None if self.masks is None else self.masks[people]
        return Keypoints(self.coco17_px[people], landmarks, masks)


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

    def __getitem__(self, people: slice | np.ndarray | list[int]) -> Attributes:
        """The chosen people, in the order asked for."""
        return Attributes(
            self.age_years[people], self.age_std_years[people], self.male_probability[people], self.faces_px[people]
        )


@dataclass(frozen=True)
class CameraEstimate:
    """A camera and where it comes from.

    Attributes:
        camera: the camera.
        source: where it comes from, in words fit for a report.
        focal_std: relative error of its focal length; ``None``: as DTO assumes it (``DTOConfig.focal_std``).
    """

    camera: Camera
    source: str
    focal_std: float | None = None


@dataclass(frozen=True, eq=False)
class FirstMeshes:
    """One body per detected person.

    Attributes:
        people: in the order of the detections.
        doubts: why the body of a person is not to be trusted, one clause each, "" where it is; empty: all are.
    """

    people: People
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.doubts and len(self.doubts) != len(self.people):
            raise InputError(f"{len(self.doubts)} doubts were given for {len(self.people)} people")


@runtime_checkable
class Expert(Protocol):
    """What all experts have in common.

    Attributes:
        name: short name for reports and provenance.
    """

    name: str

    def sources(self) -> tuple[Weights, ...]:
        """The files it needs."""
        ...


@runtime_checkable
class PersonDetector(Expert, Protocol):
    """Where are people?"""

    def detect(self, images: Sequence[InputImage]) -> list[Detections]:
        """Everybody in each image, once."""
        ...


@runtime_checkable
class KeypointExpert(Expert, Protocol):
    """Where are their joints?"""

    def locate(self, images: Sequence[InputImage], detections: Sequence[Detections]) -> list[Keypoints]:
        """Keypoints of each detected person."""
        ...


@runtime_checkable
class DepthExpert(Expert, Protocol):
    """What is in front of what?"""

    def estimate(self, images: Sequence[InputImage]) -> list[RelativeDepth]:
        """A depth map of each image's size."""
        ...


@runtime_checkable
class AttributeExpert(Expert, Protocol):
    """How old are they, and of which sex do they look?"""

    def estimate(
        self, images: Sequence[InputImage], detections: Sequence[Detections], keypoints: Sequence[Keypoints]
    ) -> list[Attributes]:
        """Apparent age and sex of each detected person."""
        ...


@runtime_checkable
class CameraExpert(Expert, Protocol):
    """Which camera took it?"""

    def estimate(self, images: Sequence[InputImage]) -> list[CameraEstimate]:
        """The camera of each image."""
        ...


@runtime_checkable
class MeshExpert(Expert, Protocol):
    """Which bodies explain them, each person for itself?"""

    def fit(
        self,
        images: Sequence[InputImage],
        cameras: Sequence[Camera],
        detections: Sequence[Detections],
        keypoints: Sequence[Keypoints],
    ) -> list[FirstMeshes]:
        """One body per detected person, in the camera frame."""
        ...


@dataclass(frozen=True)
class Experts:
    """One expert per question.

    Attributes:
        screening: which detections are left out before bodies are fitted; ``None``: none.
        settings: what else decides the results, for provenance; plain values.
    """

    persons: PersonDetector
    keypoints: KeypointExpert
    depth: DepthExpert
    attributes: AttributeExpert
    camera: CameraExpert
    mesh: MeshExpert
    screening: Screening | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

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
