"""The camera of a stage: lens, height and how it is held above level ground.

The level frame has x right, y down, z forward, its origin on the ground below the camera. The camera frame follows by
the camera's pitch and roll.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.camera import Camera
from crowdmesh.synth.config import WorldConfig

_EYE_LEVEL_M = 1.5
_BODY_MIDDLE_M = 0.9
_PERSON_SHARE = (1.0 / 12.0, 1.2)
_AIM_ERROR = math.radians(5.0)


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A camera ``height_m`` above the ground; ``rotation`` takes level directions into the camera frame."""

    camera: Camera
    height_m: float
    rotation: Float[np.ndarray, "3 3"]

    def to_camera(self, points_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Camera-frame points of points in the level frame."""
        return (points_m + np.array((0.0, self.height_m, 0.0))) @ self.rotation.T

    def direction(self, column_px: float, row_px: float) -> Float[np.ndarray, " 3"]:
        """Viewing ray of an image point in the level frame, not normalised."""
        camera = self.camera
        ray = ((column_px - camera.cx) / camera.fx, (row_px - camera.cy) / camera.fy, 1.0)
        return self.rotation.T @ np.array(ray)

    def across(self, share: float, forward_m: float) -> float:
        """Level x at ``forward_m`` metres ahead, seen at this share of the image width (0 left, 1 right)."""
        ray = self.direction(share * self.camera.width, self.camera.cy)
        return float(ray[0] / max(ray[2], 0.2) * forward_m)

    def inside(self, points_camera_m: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, " N"]:
        """Which points (camera frame) lie inside the picture."""
        z = points_camera_m[:, 2]
        safe = np.where(z > 0.1, z, 1.0)
        u = self.camera.fx * points_camera_m[:, 0] / safe + self.camera.cx
        v = self.camera.fy * points_camera_m[:, 1] / safe + self.camera.cy
        return (z > 0.1) & (u >= 0) & (v >= 0) & (u < self.camera.width) & (v < self.camera.height)

    @property
    def ground(self) -> Float[np.ndarray, " 4"]:
        """Plane of the level ground in the camera frame, unit normal up."""
        normal = self.rotation @ np.array((0.0, -1.0, 0.0))
        return np.array((*normal, self.height_m))


def draw_viewpoint(config: WorldConfig, random: np.random.Generator) -> tuple[Viewpoint, float]:
    """Draw lens, hold, and how far away (metres) the photographer looks for people.

    The field of view is uniform in the logarithm of the focal length, the height triangular about eye level. The
    distance is such that somebody there is between a twelfth and six fifths of the picture's height, log-uniform,
    as far as the config's distances allow. The camera aims at the middle of people there, a few degrees off.
    """
    width, height = config.image_sizes[random.integers(len(config.image_sizes))]
    low, high = (math.log(math.tan(fov / 2.0)) for fov in config.vertical_fov)
    fov = 2.0 * math.atan(math.exp(random.uniform(low, high)))
    camera_height = _triangular(config.camera_height_m, _EYE_LEVEL_M, random)
    share = math.exp(random.uniform(*np.log(_PERSON_SHARE)))
    aim = 2.0 * _BODY_MIDDLE_M / (2.0 * math.tan(fov / 2.0) * share)
    aim = min(max(aim, config.distance_m[0]), config.distance_m[1])
    aimed = math.atan2(camera_height - _BODY_MIDDLE_M, aim) + _AIM_ERROR * random.standard_normal()
    pitch = min(max(aimed, config.camera_pitch[0]), config.camera_pitch[1])
    roll = _triangular(config.camera_roll, 0.0, random)
    c, s = math.cos(pitch), math.sin(pitch)
    downward = np.array(((1.0, 0.0, 0.0), (0.0, c, -s), (0.0, s, c)))
    c, s = math.cos(roll), math.sin(roll)
    clockwise = np.array(((c, s, 0.0), (-s, c, 0.0), (0.0, 0.0, 1.0)))
    rotation = np.round(clockwise @ downward, 12)
    camera = Camera.from_vertical_fov(round(fov, 9), width, height)
    focal = round(camera.fx, 6)
    camera = Camera(focal, focal, camera.cx, camera.cy, width, height)
    return Viewpoint(camera, round(camera_height, 6), rotation), aim


def _triangular(limits: tuple[float, float], mode: float, random: np.random.Generator) -> float:
    low, high = limits
    return float(random.triangular(low, min(max(mode, low), high), high)) if low < high else low
