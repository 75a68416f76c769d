"""Bodies in the part of other systems' bodies, and where they stand in the photograph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import synthetic_smpl
import torch

from crowdmesh.body import load_body

SIZE = (640, 427)
"""Width and height of the photograph; odd, so that halves and roundings show."""
CENTRES_PX = np.array([[150.0, 210.0], [330.0, 200.0], [505.0, 235.0]])
HEIGHTS_PX = np.array([210.0, 150.0, 260.0])  # of a body of 1.7 m
COUNT = 3


@contextmanager
def installed_smpl(folder: Path) -> Iterator[None]:
    """An SMPL of made-up numbers, in a folder where the package looks for the user's meanwhile."""
    synthetic_smpl.write(folder / "smpl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROWDMESH_ASSETS", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


def project(points: np.ndarray, focal: float, cx: float, cy: float) -> np.ndarray:
    """A pinhole, by hand."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack((focal * x / z + cx, focal * y / z + cy), -1)


@dataclass(frozen=True)
class Bodies:
    """Posed bodies around their origin, and where they stand."""

    pose: np.ndarray
    shape: np.ndarray
    place: np.ndarray
    joints: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    stature: np.ndarray

    @property
    def joints_m(self) -> np.ndarray:
        return self.joints + self.place[:, None]

    @property
    def vertices_m(self) -> np.ndarray:
        return self.vertices + self.place[:, None]


def places(focal: float) -> np.ndarray:
    """Where people of 1.7 m look as large as ``HEIGHTS_PX`` and stand at ``CENTRES_PX``."""
    z = focal * 1.7 / HEIGHTS_PX
    offset = (CENTRES_PX - np.array(SIZE) / 2) / focal
    return np.concatenate((offset * z[:, None], z[:, None]), 1)


def smpl_bodies(focal: float, betas: int = 10, seed: int = 0) -> Bodies:
    """Bodies of the made-up SMPL that is installed."""
    body, random = load_body("smpl"), np.random.default_rng(seed)
    pose = 0.2 * random.standard_normal((COUNT, 24, 3))
    pose[:, 0] = [(math.pi, 0, 0), (math.pi - 0.2, 0.1, 0), (math.pi + 0.1, 0, 0.2)]
    shape = 0.5 * random.standard_normal((COUNT, betas))
    if betas == 11:
        shape[:, 10] = (0.0, 0.5, 0.2)
    full = np.pad(shape, ((0, 0), (0, len(body.shape_params) - betas)))
    return _posed(body, pose, full, shape, places(focal))


def anny_bodies(focal: float, seed: int = 0) -> Bodies:
    """Bodies of Anny, in the part of bodies that this package does not have."""
    body, random = load_body("anny"), np.random.default_rng(seed)
    pose = 0.05 * random.standard_normal((COUNT, len(body.parents), 3))
    facing = roma.rotmat_to_rotvec(torch.from_numpy(body.facing_camera)).numpy()
    pose[:, 0] = facing
    shape = body.default_shape(COUNT, np.array([35.0, 7.0, 60.0]), np.array([1.0, 0.5, 0.0])).numpy().astype(float)
    return _posed(body, pose, shape, shape, places(focal))


def _posed(body: Any, pose: np.ndarray, full: np.ndarray, shape: np.ndarray, place: np.ndarray) -> Bodies:
    tensor = torch.from_numpy(full).float()
    with torch.no_grad():
        out = body(tensor, roma.rotvec_to_rotmat(torch.from_numpy(pose)).float(), torch.zeros(COUNT, 3))
        stature = body.stature(tensor).double().numpy()
    joints, vertices = out.joints.double().numpy(), out.vertices.double().numpy()
    return Bodies(pose, shape, place, joints, vertices, body.faces.numpy(), stature)


def person_masks() -> np.ndarray:
    """A disc on each person."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return np.array(
        [(x - c[0]) ** 2 + (y - c[1]) ** 2 < (0.3 * h) ** 2 for c, h in zip(CENTRES_PX, HEIGHTS_PX, strict=True)]
    )


def named(bodies: Bodies, names: tuple[str, ...]) -> np.ndarray:
    """Points of Anny in the order of some layout, around the origin; the pelvis where it has none of that name."""
    points = load_body("anny").points
    everything = np.concatenate((bodies.joints, bodies.vertices), 1)
    return everything[:, [points.get(name, points["pelvis"]) for name in names]]


def matrices(pose: np.ndarray) -> np.ndarray:
    return roma.rotvec_to_rotmat(torch.from_numpy(pose)).numpy()
