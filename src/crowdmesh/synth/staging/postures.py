"""Building blocks of poses: trunk, and legs that stand. Angles in degrees by name, an array (K,) each."""

from __future__ import annotations

import numpy as np

Pose = dict[str, np.ndarray]
"""Joint angles of K people by the names of ``crowdmesh.synth.staging.anatomy.ANGLES``; angles left out are zero."""


def sides(name: str, left: np.ndarray, right: np.ndarray | None = None) -> Pose:
    """One angle of both sides; the right side's, where not given, is the left's."""
    return {f"{name}_l": left, f"{name}_r": left if right is None else right}


def two_sides(name: str, random: np.random.Generator, count: int, mean: float, spread: float) -> Pose:
    """An angle that each side draws for itself."""
    values = random.normal(mean, spread, (2, count))
    return sides(name, values[0], values[1])


def trunk(random: np.random.Generator, count: int, strength: float = 1.0) -> Pose:
    """Small bends of spine and neck, and raised or drooping shoulders."""
    return {
        "spine_flexion": random.normal(2.0, 6.0 * strength, count),
        "spine_side": random.normal(0.0, 4.0 * strength, count),
        "spine_twist": random.normal(0.0, 7.0 * strength, count),
        "neck_flexion": random.normal(3.0, 9.0, count),
        "neck_side": random.normal(0.0, 6.0, count),
        "neck_twist": random.normal(0.0, 22.0, count),
        **two_sides("clavicle_elevation", random, count, 1.0, 2.5),
        **two_sides("clavicle_protraction", random, count, 1.0, 3.0),
    }


def planted(
    stride: np.ndarray, spread: np.ndarray, reach: np.ndarray, lift: np.ndarray, tilt_forward: np.ndarray
) -> Pose:
    """Legs (2, K) whose ankles stand equally deep below the hips.

    Args:
        stride: angle of the line from hip to ankle, forward of straight down.
        spread: abduction. reach: (K,) vertical distance from hip to ankle over the leg's length.
        lift: (2, K) heel off the ground: plantar flexion that the ball of the foot turns about.
        tilt_forward: (K,) of the pelvis.
    """
    raised = 0.24 * np.sin(np.deg2rad(lift))  # ball to ankle is about 0.24 of the leg's length from hip to ankle
    line = (reach - raised) / (np.cos(np.deg2rad(stride)) * np.cos(np.deg2rad(spread)))
    knee = 2.0 * np.rad2deg(np.arccos(np.clip(line, 0.0, 1.0)))
    hip = stride + knee / 2.0 + tilt_forward
    ankle = knee - (hip - tilt_forward) - lift
    return {
        **sides("hip_flexion", *hip),
        **sides("knee_flexion", *knee),
        **sides("ankle_flexion", *ankle),
        **sides("hip_abduction", *spread),
    }


def standing_legs(random: np.random.Generator, count: int, bent: float = 1.0) -> Pose:
    """Legs of people who stand, the knees bent about ``bent`` times as much as at ease."""
    stride = random.normal(0.0, 5.0, count) * np.array((1.0, -1.0))[:, None] + random.normal(0.0, 1.0, count)
    spread = np.abs(random.normal(4.0, 4.0, (2, count)))
    bend = np.abs(random.normal(0.0, 9.0 * bent, count)) + 2.0
    reach = np.cos(np.deg2rad(np.abs(stride).max(0))) * np.cos(np.deg2rad(spread.max(0))) * np.cos(np.deg2rad(bend / 2))
    zero = np.zeros(count)
    return {
        **planted(stride, spread, reach, np.zeros((2, count)), zero),
        **two_sides("hip_rotation", random, count, 8.0, 7.0),
    }
