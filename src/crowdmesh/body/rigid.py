"""The body of anybody else's system: a surface without parameters, which can only be scaled."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from crowdmesh.body.base import BodyOutput, ShapeParameter
from crowdmesh.errors import InputError


class RigidBody:
    """Vertices as given, one topology for all. It cannot be posed or reshaped, but scales exactly."""

    name = "rigid"
    license = "that of the vertices given"
    up = "y"
    pelvis: int | None = None
    joint_names: tuple[str, ...] = ()
    parents: tuple[int, ...] = ()
    shape_params: tuple[ShapeParameter, ...] = ()
    facing_camera = np.eye(3)

    def __init__(self, faces: Int[np.ndarray, "F 3"] | None, num_vertices: int) -> None:
        if faces is None:
            raise InputError("body 'rigid' needs people.faces, the (F, 3) triangles of its vertices")
        outside = faces[(faces < 0) | (faces >= num_vertices)]
        if len(outside):
            raise InputError(
                f"faces refer to vertex {int(outside[0])}, but bodies have {num_vertices} vertices (0 is the first)"
            )
        self.faces = torch.from_numpy(np.asarray(faces, np.int64))
        self.num_vertices = num_vertices

    def with_stature(
        self, shape: Float[Tensor, "n S"], target_m: Float[Tensor, " n"], age_years: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """No shape to change: see :func:`crowdmesh.dto.reshape`, which scales the vertices themselves."""
        raise _no_parameters("reshaped")

    def default_shape(
        self, n: int, age_years: float | np.ndarray = 30.0, male_probability: float | np.ndarray = 0.5
    ) -> Tensor:
        """An empty shape (n, 0)."""
        return torch.zeros(n, 0)

    def rest(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        """A rigid body has no rest pose: raises InputError."""
        raise _no_parameters("brought to rest")

    def stature(self, shape: Tensor) -> Tensor:
        """A rigid body has no rest pose to measure: raises InputError; its stature is given with the people."""
        raise _no_parameters("measured")

    def __call__(self, shape: Tensor, rotations: Tensor, translation: Tensor, vertices: bool = True) -> BodyOutput:
        """A rigid body cannot be posed: raises InputError."""
        raise _no_parameters("posed")

    def keypoints(self, output: BodyOutput, layout: str) -> Tensor:
        """A rigid body has no named points: raises InputError."""
        raise InputError("body 'rigid' has no named keypoints; give people.keypoints_px or use a body with joints")

    def posed_keypoints(self, shape: Tensor, rotations: Tensor, translation: Tensor, names: tuple[str, ...]) -> Tensor:
        """A rigid body cannot be posed: raises InputError."""
        raise _no_parameters("posed")


def _no_parameters(what: str) -> InputError:
    return InputError(
        f"body 'rigid' cannot be {what}: it is made of vertices alone; use 'anny' or 'smpl' with parameters"
    )
