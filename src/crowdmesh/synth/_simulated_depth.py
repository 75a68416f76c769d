"""A monocular relative-depth network as a model of its errors, applied to the exact depth of a synthetic scene."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, Int

from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.synth.expert_errors import DepthErrors

_READING_AT_FAR = 50.0
"""What the map reads at ``DepthErrors.far_m``: 1 / 0.02, the released code's bound between near and far."""
_CELLS = (5, 8)
_FARTHEST_SHARE = 0.01
_LOWEST_SHIFT = -0.9  # over the typical inverse depth: people may sink towards zero, but the map never dies wholly
_FARTHEST_MISTAKE = 3.0  # nobody is taken for something more than three times as far away, such as the sky


def simulated_depth(
    metres: Float[np.ndarray, "H W"],
    person: Int[np.ndarray, "H W"],
    airborne: np.ndarray,
    camera: Camera,
    ground: Float[np.ndarray, " 4"],
    errors: DepthErrors,
    random: np.random.Generator,
) -> RelativeDepth:
    """Disparity as a network would give it: affine in the inverse depth it believes in.

    Args:
        metres: true depth of every pixel, positive. person: who is seen there, negative for nobody.
        airborne: (K,) bool, people whom nothing carries. ground: its plane in the camera frame, normal up.
    """
    inverse = 1.0 / metres.astype(np.float64)
    believed = _believed_people(inverse, person, airborne, camera, ground, errors, random)
    height, width = believed.shape
    smooth = cv2.resize(random.standard_normal(_CELLS), (width, height), interpolation=cv2.INTER_CUBIC)
    trend = abs(random.standard_normal()) * ((np.arange(height)[:, None] + 0.5) / height - 0.5)
    log_error = errors.local_std * smooth + errors.vertical_std * trend
    if errors.blur > 0:
        believed = cv2.GaussianBlur(believed, (0, 0), errors.blur * max(height, width))
    believed = believed * np.exp(log_error + errors.pixel_std * random.standard_normal(believed.shape))
    low, high = np.log(errors.far_m)
    gain = _READING_AT_FAR * np.exp(random.uniform(low, high))
    seen = inverse[person >= 0]
    typical = float(np.median(seen)) if seen.size else float(np.median(inverse))
    farthest = float(np.quantile(inverse, _FARTHEST_SHARE))
    shift = typical * errors.shift_std * random.standard_normal() - errors.shift_to_farthest * min(farthest, typical)
    shift = max(shift, _LOWEST_SHIFT * min(typical, float(believed.max())))
    return RelativeDepth(np.maximum(gain * (believed + shift), 0.0).astype(np.float32), "disparity")


def _believed_people(
    inverse: np.ndarray,
    person: np.ndarray,
    airborne: np.ndarray,
    camera: Camera,
    ground: np.ndarray,
    errors: DepthErrors,
    random: np.random.Generator,
) -> np.ndarray:
    """Inverse depth after each person's own mistakes; random numbers are drawn for everybody, seen or not."""
    count = len(airborne)
    own = errors.person_std * random.standard_normal(count)
    relief = np.maximum(errors.relief[0] + errors.relief[1] * random.standard_normal(count), 0.0)
    flattened = np.where(random.random(count) < errors.flatten_share, random.uniform(0.3, 1.0, count), 0.0)
    bled = np.where(random.random(count) < errors.bleed_share, random.uniform(0.3, 1.0, count), 0.0)
    grounded = np.where(airborne & (random.random(count) < errors.airborne_share), random.uniform(0.5, 1.0, count), 0.0)
    believed = inverse.copy()
    for k, box in _boxes(person, count):
        mask = person[box] == k
        values = np.log(inverse[box][mask])
        centre = float(np.median(values))
        level = read = np.exp(centre + own[k])
        around, front = _surroundings(inverse[box], person[box], mask, float(np.exp(centre)))
        if around is not None:
            level = (1.0 - flattened[k]) * level + flattened[k] * min(around, level)
        if front is not None:
            level = (1.0 - bled[k]) * level + bled[k] * max(front, level)
        if grounded[k] > 0:
            behind = _ground_below(box, mask, camera, ground) or around or level
            level = (1.0 - grounded[k]) * level + grounded[k] * min(behind, level)
        level = max(level, read / _FARTHEST_MISTAKE)
        believed[box][mask] = level * np.exp(relief[k] * (values - centre))
    return believed


def _boxes(person: np.ndarray, count: int) -> list[tuple[int, tuple[slice, slice]]]:
    """The image window of each person who is seen, widened by a margin to show the surroundings."""
    height, width = person.shape
    windows = []
    for k in range(count):
        rows, columns = np.nonzero(person == k)
        if len(rows):
            margin = 2 + int(0.1 * max(np.ptp(rows), np.ptp(columns)))
            top, left = max(rows.min() - margin, 0), max(columns.min() - margin, 0)
            bottom, right = min(rows.max() + margin + 1, height), min(columns.max() + margin + 1, width)
            windows.append((k, (slice(top, bottom), slice(left, right))))
    return windows


def _surroundings(
    inverse: np.ndarray, person: np.ndarray, mask: np.ndarray, own: float
) -> tuple[float | None, float | None]:
    """Median inverse depth of what lies behind around a person, and of the nearer people who touch them."""
    behind = inverse[(person < 0) & (inverse < own)]
    rim = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~mask
    before = inverse[rim & (person >= 0) & (inverse > own)]
    return (float(np.median(behind)) if behind.size else None), (float(np.median(before)) if before.size else None)


def _ground_below(box: tuple[slice, slice], mask: np.ndarray, camera: Camera, ground: np.ndarray) -> float:
    """Inverse depth of the ground along the ray of a person's lowest pixel; 0 above the horizon."""
    rows, columns = np.nonzero(mask)
    lowest = int(rows.argmax())
    u, v = columns[lowest] + box[1].start + 0.5, rows[lowest] + box[0].start + 0.5
    ray = np.array([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, 1.0])
    return max(-float(ground[:3] @ ray) / float(ground[3]), 0.0)
