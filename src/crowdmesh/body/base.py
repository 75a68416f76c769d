"""What every body model offers, and the kinds of value it takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ShapeParameter:
    """One axis of a body's shape space: its name, default value and the range in which it stays human."""

    name: str
    default: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class BodyOutput:
    """Posed bodies: joints (n, J, 3) and, unless only joints were asked for, vertices (n, V, 3); metres."""

    joints: Float[Tensor, "n J 3"]
    vertices: Float[Tensor, "n V 3"] | None


@runtime_checkable
class BodyModel(Protocol):
    """A body model. Shapes are (n, S) tensors, rotations (n, J, 3, 3) relative to the parent joint.

    Attributes:
        name, license: what it is called here and under which terms its data may be used.
        up: the axis along which the rest pose stands, in the model's own frame (``"y"`` or ``"z"``).
        pelvis: index of the pelvis joint, ``None`` for a body without joints.
        faces: (F, 3) triangles.
        facing_camera: (3, 3) root rotation that stands the rest pose upright in the camera frame, facing the camera.
    """

    name: str
    license: str
    up: str
    pelvis: int | None
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    shape_params: tuple[ShapeParameter, ...]
    facing_camera: Float[np.ndarray, "3 3"]
    faces: Int[Tensor, "F 3"]

    @property
    def num_vertices(self) -> int:
        """Number of vertices V."""
        ...

    def default_shape(
        self, n: int, age_years: float | np.ndarray = 30.0, male_probability: float | np.ndarray = 0.5
    ) -> Float[Tensor, "n S"]:
        """Shapes of average build and of the median stature for an age (years) and a probability of being male."""
        ...

    def rest(self, shape: Float[Tensor, "n S"]) -> tuple[Float[Tensor, "n V 3"], Float[Tensor, "n J 3"]]:
        """Vertices and joints of the rest pose in the model's own frame, metres."""
        ...

    def stature(self, shape: Float[Tensor, "n S"]) -> Float[Tensor, " n"]:
        """Height of the rest pose along ``up``, metres; differentiable."""
        ...

    def with_stature(
        self,
        shape: Float[Tensor, "n S"],
        target_m: Float[Tensor, " n"],
        age_years: Float[np.ndarray, " n"] | None = None,
    ) -> tuple[Float[Tensor, "n S"], Float[Tensor, " n"]]:
        """Shapes with the wanted stature, changed along the axis that suits the age (NaN or None: unknown).

        Returns the shapes and the factor still missing to the target: 1 where it was reached.
        """
        ...

    def __call__(
        self,
        shape: Float[Tensor, "n S"],
        rotations: Float[Tensor, "n J 3 3"],
        translation: Float[Tensor, "n 3"],
        vertices: bool = True,
    ) -> BodyOutput:
        """Pose the bodies. ``vertices=False`` skips the surface."""
        ...

    def keypoints(self, output: BodyOutput, layout: str) -> Float[Tensor, "n P 3"]:
        """Named keypoints of a posed body, e.g. layout ``"coco17"``; InputError if this body has none."""
        ...

    def posed_keypoints(
        self,
        shape: Float[Tensor, "n S"],
        rotations: Float[Tensor, "n J 3 3"],
        translation: Float[Tensor, "n 3"],
        names: tuple[str, ...],
    ) -> Float[Tensor, "n P 3"]:
        """Named points of posed bodies without posing the rest of the surface; InputError if this body lacks one."""
        ...
