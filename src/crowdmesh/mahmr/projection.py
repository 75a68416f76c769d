"""From the network's raw camera and place values to metres and pixels (spec facts 1.5 and 1.6).

Pixels here are those of the network's input, whose longer image side is ``input_size``; the principal point is the
image's centre.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_FOV, MOST_FOV = 0.08, math.pi - 0.08
"""Bounds of the vertical field of view, radians; the lower one is the release's, which has no upper one."""

ASSUMED_FOV = math.radians(60.0)
"""Field of view over ``input_size`` where the network does not predict one."""

_EPS = 1e-6


def focal_of_fov(vertical_fov: Float[Tensor, " B"], height: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Focal length in pixels of images with this vertical field of view (radians) and height (pixels)."""
    return height / (2.0 * (vertical_fov / 2.0).tan())


def fov_of_focal(focal_px: Float[Tensor, " B"], height: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The inverse of :func:`focal_of_fov`."""
    return 2.0 * (height / (2.0 * focal_px)).atan()


def metric_translation(
    placement: Float[Tensor, "*n 3"], focal_px: Float[Tensor, "*n"], input_size: int
) -> Float[Tensor, "*n 3"]:
    """Translation of bodies in the camera frame, metres.

    With placement (x, y, s) and size = 2 sigmoid(s), T = (x / size, y / size, 2 f / (size * input_size)). Since size
    is at most 2, nobody comes nearer than f / input_size metres: 0.87 m at 60 degrees over the longer side.
    """
    size = 2.0 * placement[..., 2:].sigmoid() + _EPS
    return torch.cat((placement[..., :2], 2.0 * focal_px[..., None] / input_size), -1) / size


def project(
    points_m: Float[Tensor, "B *n 3"], focal_px: Float[Tensor, " B"], image_sizes: Float[Tensor, "B 2"]
) -> Float[Tensor, "B *n 2"]:
    """Pixels of camera-frame points; ``image_sizes`` are heights and widths without padding."""
    axes = (1,) * (points_m.ndim - 2)
    focal, centre = focal_px.view(-1, *axes, 1), (image_sizes.flip(-1) / 2).view(-1, *axes, 2)
    return focal * points_m[..., :2] / (points_m[..., 2:] + _EPS) + centre
