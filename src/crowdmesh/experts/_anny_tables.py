"""The tables behind the landmark fit: how Anny's joints turn, and what BlazePose's 33 landmarks are on Anny's body."""

from __future__ import annotations

import math

FREE = math.inf

# bone: (axis, relaxed, spread, low, high) of each degree of freedom, in degrees from the rest pose (an A-pose with the
# elbows bent by 41 degrees). x, y, z: the axes of the body at rest (x to its left, front -y, z up); along, bend, side:
# those of a limb (see _chain.py). Bones of the right side mirror those of the left. spread: standard deviation of a
# Gaussian around relaxed; low and high are soft limits. The ranges are rounded from the usual tables of joint motion
# (AAOS), the spreads from how people stand and sit in photographs: a regulariser, not a measurement.
FREEDOM: dict[str, tuple[tuple[str, float, float, float, float], ...]] = {
    "root": (("x", 0, FREE, -FREE, FREE), ("y", 0, FREE, -FREE, FREE), ("z", 0, FREE, -FREE, FREE)),
    "spine04": (("x", 2, 12, -15, 35), ("y", 0, 8, -20, 20), ("z", 0, 8, -20, 20)),
    "spine02": (("x", 2, 12, -15, 35), ("y", 0, 8, -20, 20), ("z", 0, 8, -20, 20)),
    "neck01": (("x", 0, 12, -30, 30), ("y", 0, 10, -25, 25), ("z", 0, 15, -40, 40)),
    "head": (("x", 0, 12, -30, 30), ("y", 0, 10, -20, 20), ("z", 0, 15, -40, 40)),
    "clavicle.L": (("x", 0, 5, -12, 12), ("y", 0, 7, -25, 15), ("z", 0, 7, -20, 20)),
    "upperarm01.L": (("along", 0, 35, -80, 80), ("bend", 0, 50, -60, 150), ("side", 27, 50, -140, 90)),
    "lowerarm01.L": (("bend", -10, 45, -41, 105),),
    "lowerarm02.L": (("along", 0, 35, -80, 80),),
    "wrist.L": (("along", 0, 4, -10, 10), ("bend", 0, 20, -60, 60), ("side", 0, 12, -30, 30)),
    "upperleg01.L": (("along", 0, 20, -70, 45), ("bend", -10, 50, -130, 25), ("side", 0, 25, -35, 70)),
    "lowerleg01.L": (("bend", 8, 55, -8, 145),),
    "foot.L": (("x", 0, 20, -30, 55), ("y", 0, 8, -20, 20), ("z", 0, 10, -25, 25)),
}

# The joints of a limb: its root, its hinge and its end; and which bones have the axes of its upper and lower part.
LIMBS = {"arm": ("upperarm01.L", "lowerarm01.L", "wrist.L"), "leg": ("upperleg01.L", "lowerleg01.L", "foot.L")}
UPPER_PART = {"arm": ("upperarm01.L", "lowerarm01.L"), "leg": ("upperleg01.L", "lowerleg01.L")}
LOWER_PART = {"arm": ("lowerarm02.L", "wrist.L"), "leg": ()}

# landmark: (bone, place in the bone, trust in its image position); places in metres from the joint at rest, in the axes
# of the body. Where BlazePose sees a landmark of Anny, by least squares over 360 shaded renderings of Anny in random
# poses (residuals of 1.4 to 2.5 cm): hips and shoulders lie further in than the joints and hardly move with the limb,
# the ankle is 3.5 cm above the joint of the foot. Only eyes and ears are placed as on photographed faces: the network
# sees those of the bald renderings too close together. (Anny's thigh turns in upperleg01; upperleg02 lies 9 cm down
# the thigh.) Landmarks of one head, hand or foot err together, hence their lower trust.
LANDMARKS: dict[int, tuple[str, tuple[float, float, float], float]] = {
    0: ("head", (0.0, -0.100, 0.010), 0.4),
    2: ("head", (0.029, -0.076, 0.040), 0.4),
    5: ("head", (-0.029, -0.076, 0.040), 0.4),
    7: ("head", (0.060, -0.028, 0.025), 0.4),
    11: ("shoulder01.L", (0.055, 0.0, -0.017), 1.0),
    13: ("lowerarm01.L", (-0.015, -0.010, 0.018), 1.0),
    15: ("wrist.L", (-0.005, -0.010, 0.0), 1.0),
    17: ("wrist.L", (0.030, -0.055, -0.045), 0.3),
    19: ("wrist.L", (0.015, -0.070, -0.045), 0.3),
    21: ("wrist.L", (0.0, -0.055, -0.033), 0.3),
    23: ("pelvis.L", (0.088, -0.018, 0.0), 1.0),
    25: ("lowerleg01.L", (0.0, 0.0, -0.005), 1.0),
    27: ("foot.L", (0.0, -0.005, 0.035), 1.0),
    29: ("foot.L", (-0.005, 0.022, -0.020), 0.3),
    31: ("foot.L", (0.005, -0.155, -0.053), 0.3),
}
LAST_OF_THE_MIDDLE = 6  # beyond, odd landmarks are on the left, each followed by its twin on the right

# Directions in which the metric landmarks tell the third dimension: from, to (means of landmarks), expected error of
# the unit vector across and along the line of sight, and its mean error along it; from the same renderings. First those
# of the trunk, then the upper and the lower part of each limb in the order of Chain.limbs. The last two are no
# observations but the expectation that people are upright: shoulders above hips, ankles below.
DIRECTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], float, float, float], ...] = (
    ((24,), (23,), 0.12, 0.17, 0.0), ((12,), (11,), 0.10, 0.13, 0.0),
    ((23,), (11,), 0.07, 0.20, -0.04), ((24,), (12,), 0.07, 0.20, -0.04),
    ((11,), (13,), 0.10, 0.33, 0.0), ((12,), (14,), 0.10, 0.33, 0.0),
    ((23,), (25,), 0.08, 0.28, 0.0), ((24,), (26,), 0.08, 0.28, 0.0),
    ((13,), (15,), 0.10, 0.33, 0.0), ((14,), (16,), 0.10, 0.33, 0.0),
    ((25,), (27,), 0.08, 0.30, 0.15), ((26,), (28,), 0.08, 0.30, 0.15),
    ((11, 12), (7, 8), 0.10, 0.17, 0.0), ((8,), (7,), 0.15, 0.15, 0.0), ((7, 8), (0,), 0.2, 0.2, 0.0),
    ((15,), (17, 19), 0.2, 0.4, -0.24), ((16,), (18, 20), 0.2, 0.4, -0.24),
    ((17,), (19,), 0.4, 0.4, -0.25), ((18,), (20,), 0.4, 0.4, -0.25),
    ((29,), (31,), 0.3, 0.4, -0.17), ((30,), (32,), 0.3, 0.4, -0.17),
    ((23, 24), (11, 12), 0.2, 0.2, 0.0), ((27, 28), (23, 24), 0.5, 0.5, 0.0),
)  # fmt: skip
TRUNK, UPPER_LIMBS, LOWER_LIMBS, UPRIGHT = slice(0, 4), slice(4, 8), slice(8, 12), slice(-2, None)
