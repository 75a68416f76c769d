"""Ways to hold the arms, from hanging to waving: means and spreads of the joint angles of each, in degrees."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_ARM_ANGLES = (
    "shoulder_plane",
    "shoulder_elevation",
    "shoulder_rotation",
    "elbow_flexion",
    "forearm_pronation",
    "wrist_flexion",
    "finger_flexion",
)
_SPREAD = np.array((8.0, 5.0, 6.0, 7.0, 10.0, 7.0, 8.0))

# Per style, for the busy arm and for the other one: plane, elevation, rotation, elbow, pronation, wrist, fingers.
_HANGING = (22.0, 15.0, -4.0, 20.0, 15.0, 3.0, 20.0)
_STYLES: dict[str, tuple[tuple[float, ...], ...]] = {
    "hanging": (_HANGING, _HANGING),
    "hips": ((-8.0, 50.0, -45.0, 92.0, 30.0, 5.0, 30.0),) * 2,
    "crossed": ((52.0, 32.0, -62.0, 100.0, 25.0, 5.0, 15.0), (48.0, 24.0, -58.0, 92.0, 25.0, 5.0, 15.0)),
    "clasped": ((45.0, 22.0, -48.0, 48.0, 20.0, 5.0, 25.0),) * 2,
    "behind": ((-50.0, 34.0, -40.0, 40.0, 40.0, 5.0, 25.0),) * 2,
    "gesture": ((50.0, 26.0, 5.0, 92.0, -20.0, 0.0, 15.0), _HANGING),
    "forward": ((85.0, 78.0, 0.0, 18.0, 20.0, 0.0, 12.0), _HANGING),
    "low forward": ((75.0, 48.0, -5.0, 45.0, 20.0, 0.0, 15.0),) * 2,
    "up": ((65.0, 155.0, 0.0, 16.0, 0.0, 0.0, 12.0), (60.0, 148.0, 0.0, 22.0, 0.0, 0.0, 12.0)),
    "wave": ((20.0, 88.0, 70.0, 78.0, 10.0, 0.0, 8.0), _HANGING),
    "sideways": ((15.0, 84.0, 0.0, 10.0, 10.0, 0.0, 10.0), _HANGING),
    "wide": ((15.0, 105.0, 0.0, 14.0, 10.0, 0.0, 8.0),) * 2,
    "photo": ((78.0, 58.0, -18.0, 100.0, 20.0, 0.0, 30.0),) * 2,
    "knees": ((70.0, 38.0, -10.0, 28.0, 30.0, 0.0, 20.0),) * 2,
    "lap": ((58.0, 30.0, -26.0, 56.0, 40.0, -8.0, 15.0),) * 2,
    "prop back": ((-55.0, 34.0, 20.0, 8.0, -20.0, -55.0, 5.0),) * 2,
    "up bent": ((35.0, 118.0, 30.0, 80.0, 30.0, 0.0, 12.0),) * 2,
    "toddler": ((35.0, 48.0, 25.0, 55.0, 20.0, 0.0, 20.0),) * 2,
    "baby": ((25.0, 62.0, 50.0, 85.0, 10.0, 5.0, 40.0),) * 2,
    "cling": ((72.0, 62.0, 10.0, 62.0, 30.0, 5.0, 20.0),) * 2,
    "cradle": ((58.0, 26.0, -42.0, 98.0, -20.0, 5.0, 15.0), (62.0, 30.0, -50.0, 84.0, -10.0, 5.0, 15.0)),
    "around": ((62.0, 38.0, -28.0, 62.0, 10.0, 5.0, 15.0),) * 2,
    "head": ((66.0, 66.0, -14.0, 58.0, 30.0, 5.0, 15.0),) * 2,
    "shins": ((72.0, 30.0, -12.0, 118.0, 10.0, 0.0, 30.0),) * 2,
}


def draw_arms(weights: Mapping[str, float], random: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Angles of both arms of ``count`` people, each in one of the weighted styles; either arm may be the busy one."""
    table = np.array([_STYLES[name] for name in weights])
    shares = np.array(list(weights.values()))
    style = random.choice(len(table), count, p=shares / shares.sum())
    busy = random.integers(0, 2, count)
    first, second = table[style, busy], table[style, 1 - busy]
    angles = {}
    for side, mean in (("l", first), ("r", second)):
        values = mean + _SPREAD * random.standard_normal(mean.shape)
        angles |= {f"{name}_{side}": values[:, i] for i, name in enumerate(_ARM_ANGLES)}
    return angles
