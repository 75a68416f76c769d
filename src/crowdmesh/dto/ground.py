"""Feet on a common ground: a third witness of depth, found in the picture without knowing the ground.

Inverse depth is affine in the image on any plane, whatever camera and focal length. A plane is fitted to the inverse
depths at which everybody's lowest point is believed to stand; people who do not stand on it (chairs, steps, laps,
hidden feet) are outliers of the mixture. Each person is then held against the plane of the *others* (leave one out).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, logit

from crowdmesh.camera import Camera
from crowdmesh.dto.config import FusionConfig

_ROUNDS = 10
_NEAREST_M = 0.05
_LEAST_INVERSE = 1e-3
_LEAST_WEIGHT = 1e-12  # so that the fit has a solution where nobody is near the plane
_LARGEST_LEVERAGE = 0.95
_CAMERA_HEIGHT_M = (0.1, 15.0)
_FEWEST_ON_PLANE = 4.0
_BORDER_PX = 2.0


@dataclass(frozen=True, eq=False)
class Feet:
    """Each person's lowest point in the image: its viewing ray, its first depth, and whether it is inside the image."""

    ray: Float[np.ndarray, "K 3"]
    depth_m: Float[np.ndarray, " K"]
    inside: Bool[np.ndarray, " K"]


def find_feet(vertices_m: Float[np.ndarray, "K V 3"], camera: Camera) -> Feet:
    """The lowest projected vertex of each first body; one at the image border is the border's, not a foot.

    Args:
        vertices_m: surfaces of the first guess, camera frame, metres.
        camera: of the image.
    """
    z = np.maximum(vertices_m[..., 2], _NEAREST_M)
    v = camera.fy * vertices_m[..., 1] / z + camera.cy
    lowest = v.argmax(1)[:, None]
    depth = np.take_along_axis(z, lowest, 1)[:, 0].astype(float)
    x, y = (np.take_along_axis(vertices_m[..., i], lowest, 1)[:, 0] / depth for i in (0, 1))
    u, v = camera.fx * x + camera.cx, camera.fy * y + camera.cy
    inside = (u > 0) & (u < camera.width) & (v > 0) & (v < camera.height - _BORDER_PX)
    return Feet(np.stack((x, y, np.ones_like(x)), 1).astype(float), depth, inside)


def stand_on_ground(
    log_ratio: Float[np.ndarray, " K"],
    log_std: Float[np.ndarray, " K"],
    shared_std: float,
    feet: Feet,
    config: FusionConfig,
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Mean and standard deviation of log(depth / first depth) after the ground has spoken.

    Unchanged where too few people show their feet, or where no plausible ground explains at least four of them.

    Args:
        log_ratio, log_std: what is believed so far. shared_std: the part of ``log_std`` that moves everybody alike; the
            ground inherits it and cannot reduce it.
        feet: where everybody's first body stands in the image.
        config: how exact a ground is, and how many people do not stand on it.
    """
    # Nobody stands within a millimetre or beyond a kilometre.
    usable = feet.inside & (np.abs(log_ratio + np.log(feet.depth_m)) < -np.log(_LEAST_INVERSE))
    if usable.sum() < config.ground_people:
        return log_ratio, log_std
    ray, mean = feet.ray[usable], log_ratio[usable]
    own = np.sqrt(np.maximum(log_std[usable] ** 2 - shared_std**2, 1e-4))
    inverse = np.exp(-mean) / feet.depth_m[usable]
    weight = (np.maximum(inverse, np.median(inverse)) * np.hypot(own, config.ground_error)) ** -2.0
    on_plane = np.ones(len(mean))
    plane = np.zeros(3)
    for _ in range(_ROUNDS):
        plane = _plane(ray, inverse, weight * on_plane)
        fitted = np.maximum(ray @ plane, _LEAST_INVERSE)
        # Those believed too far away must not weigh more for it.
        weight = (np.maximum(fitted, inverse) * np.hypot(own, config.ground_error)) ** -2.0
        on_plane = _on_plane(np.log(fitted / inverse), own, config)
    if not _plausible(plane) or on_plane.sum() < _FEWEST_ON_PLANE:
        return log_ratio, log_std
    spread = np.einsum("ki,ij,kj->k", ray, _inverse_normal(ray, weight * on_plane), ray)
    leverage = np.minimum(spread * weight * on_plane, _LARGEST_LEVERAGE)
    predicted = inverse - (inverse - ray @ plane) / (1.0 - leverage)
    reachable = predicted > _LEAST_INVERSE
    predicted = np.where(reachable, predicted, inverse)
    gap = np.log(inverse / predicted)  # how much farther than believed the ground of the others says
    ground_std = np.sqrt(spread / (1.0 - leverage) / predicted**2 + config.ground_error**2)
    believed = np.where(reachable, _on_plane(gap, np.hypot(own, ground_std), config, 0.0), 0.0)
    share = own**2 / (own**2 + ground_std**2)
    moved = believed * share * gap
    variance = own**2 * (1.0 - believed * share) + believed * (1.0 - believed) * (share * gap) ** 2 + shared_std**2
    new_ratio, new_std = log_ratio.copy(), log_std.copy()
    new_ratio[usable], new_std[usable] = mean + moved, np.sqrt(variance)
    return new_ratio, new_std


def _inverse_normal(ray: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(3, 3) inverse of the weighted normal matrix, slightly regularised for feet in one line."""
    weight = np.maximum(weight, _LEAST_WEIGHT)
    normal = (ray * weight[:, None]).T @ ray
    return np.linalg.inv(normal + 1e-9 * np.trace(normal) * np.eye(3))


def _plane(ray: np.ndarray, inverse: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(3,) g with inverse depth = g . ray: the ground's normal over its distance from the camera."""
    return _inverse_normal(ray, weight) @ ((ray * weight[:, None]).T @ inverse)


def _on_plane(gap: np.ndarray, std: np.ndarray, config: FusionConfig, extra: float | None = None) -> np.ndarray:
    """Probability that somebody whose depth is off by ``gap`` stands on the plane all the same."""
    near = np.hypot(std, config.ground_error if extra is None else extra)
    wide = np.hypot(near, config.ground_outlier_std)
    log_odds = np.log(wide / near) - logit(config.ground_outlier_share)
    return expit(log_odds - (gap / near) ** 2 / 2 + (gap / wide) ** 2 / 2)


def _plausible(plane: np.ndarray) -> bool:
    """Below the camera, seen more from above than upright, at a distance from which people are photographed."""
    height = 1.0 / max(float(np.linalg.norm(plane)), 1e-9)
    return bool(plane[1] * height > 0.5 and _CAMERA_HEIGHT_M[0] < height < _CAMERA_HEIGHT_M[1])
