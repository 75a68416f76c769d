"""The geometry of one scene before any pixel: who stands, sits or lies where, on what, before which camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.camera import Camera
from crowdmesh.people import People


@dataclass(frozen=True, eq=False)
class Prop:
    """A thing that people sit on, stand on or are hidden by.

    Attributes:
        kind: ``"chair"``, ``"step"``, ``"platform"``, ``"bench"``, ``"occluder"`` ...
        vertices_m: corners in the camera frame, metres. faces: triangles.
    """

    kind: str
    vertices_m: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]


@dataclass(frozen=True, eq=False)
class Stage:
    """One scene as geometry alone.

    Attributes:
        people: body, pose, shape, translation, ``vertices_m`` and ``joints_m`` in the camera frame; true ages, sexes
            (``male_probability`` 0 or 1) and statures.
        poses: the pose family of each person (``"standing"``, ``"sitting"`` ...).
        supports: what carries each person (``"ground"``, ``"chair"``, ``"lap of 3"``, ``"air"`` ...).
        props: furniture, steps, occluders.
        ground: plane (a, b, c, d) with a x + b y + c z + d = 0 in the camera frame, (a, b, c) a unit normal that
            points up.
        ground_visible: whether the picture shows the ground at all.
        arrangement: how people are arranged (``"scatter"``, ``"groups"``, ``"rows"``, ``"crowd"`` ...).
    """

    camera: Camera
    people: People
    poses: tuple[str, ...]
    supports: tuple[str, ...]
    props: tuple[Prop, ...]
    ground: Float[np.ndarray, " 4"]
    ground_visible: bool
    arrangement: str
