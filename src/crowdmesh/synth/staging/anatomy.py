"""Anatomical joint angles of Anny: their limits, and the pose that has them.

Angles are clinical ones (flexion, abduction, rotation), in degrees, measured from the anatomical neutral position:
upright, arms hanging straight with palms to the thighs, legs straight. Anny rests in an A-pose with bent elbows: each
limb is first brought to neutral by the rotation that its own rest bones need, person by person; then the angles act.
In the body's frame x points to the person's left, the front is -y, z up. Angles of the right side mirror the left's.

Limits: ranges of active motion as clinical tables give them (American Academy of Orthopaedic Surgeons; Norkin and
White, "Measurement of Joint Motion"), from general knowledge and rounded; a little narrower where the skin of a linear
blend model folds. The shoulder is given as plane and height of elevation and axial rotation, as the International
Society of Biomechanics recommends (Wu et al. 2005), since flexion and abduction do not add.
"""

from __future__ import annotations

import numpy as np
import roma
import torch
from jaxtyping import Float

from crowdmesh.body import Anny

_BOTH_SIDES: dict[str, tuple[float, float]] = {
    "hip_flexion": (-20.0, 125.0),
    "hip_abduction": (-20.0, 50.0),
    "hip_rotation": (-40.0, 60.0),  # positive: external
    "knee_flexion": (0.0, 150.0),
    "ankle_flexion": (-50.0, 35.0),  # positive: dorsiflexion (toes up)
    "clavicle_elevation": (-5.0, 30.0),
    "clavicle_protraction": (-15.0, 20.0),
    "shoulder_plane": (-60.0, 130.0),  # 0: sideways, 90: forward, beyond: across the chest, negative: behind
    "shoulder_elevation": (0.0, 175.0),
    "shoulder_rotation": (-90.0, 90.0),  # positive: external
    "elbow_flexion": (0.0, 148.0),
    "forearm_pronation": (-80.0, 80.0),
    "wrist_flexion": (-75.0, 75.0),
    "wrist_deviation": (-30.0, 20.0),  # positive: towards the thumb
    "finger_flexion": (-5.0, 75.0),
}

ANGLE_LIMITS: dict[str, tuple[float, float]] = {
    "spine_flexion": (-25.0, 70.0),  # forward; neck to pelvis in all
    "spine_side": (-30.0, 30.0),
    "spine_twist": (-40.0, 40.0),
    "neck_flexion": (-50.0, 45.0),
    "neck_side": (-35.0, 35.0),
    "neck_twist": (-70.0, 70.0),
    **{f"{name}_{side}": limits for name, limits in _BOTH_SIDES.items() for side in ("l", "r")},
    "tilt_forward": (-180.0, 180.0),  # of the whole body: no joint
    "tilt_left": (-180.0, 180.0),
}
"""Lowest and highest value of every angle, degrees."""

ANGLES = {name: i for i, name in enumerate(ANGLE_LIMITS)}
"""Column of every angle in an array (K, 38)."""

_LIMITS = np.array(list(ANGLE_LIMITS.values()))
_SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")
_NECK = ("neck01", "neck02", "neck03", "head")
_MIRROR = np.array((-1.0, 1.0, 1.0))
_TOLERANCE_DEG = 1e-6


def joint_angles_within_limits(angles_deg: Float[np.ndarray, "K D"]) -> np.ndarray:
    """(K,) bool: whether every angle of a person lies within :data:`ANGLE_LIMITS`."""
    low, high = _LIMITS.T
    return ((angles_deg >= low - _TOLERANCE_DEG) & (angles_deg <= high + _TOLERANCE_DEG)).all(1)


def clip_to_limits(angles_deg: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "K D"]:
    """The nearest angles within :data:`ANGLE_LIMITS`."""
    return np.clip(angles_deg, *_LIMITS.T)


def pose_from_angles(
    angles_deg: Float[np.ndarray, "K D"], rest_joints_m: Float[np.ndarray, "K J 3"], body: Anny
) -> Float[np.ndarray, "K J 3"]:
    """Axis-angle rotations relative to the parent; the root stands in a level frame (y down), facing -z.

    Args:
        angles_deg: columns as in :data:`ANGLES`.
        rest_joints_m: joints of each person's own rest pose in the body's frame (only directions matter).
    """
    joint = {name: i for i, name in enumerate(body.joint_names)}
    radians = dict(zip(ANGLES, np.deg2rad(angles_deg).T, strict=True))
    local = np.tile(np.eye(3), (len(angles_deg), len(joint), 1, 1))
    tilt = _about_y(radians["tilt_left"]) @ _about_x(radians["tilt_forward"])
    local[:, 0] = body.facing_camera @ tilt
    for part, names in (("spine", _SPINE), ("neck", _NECK)):
        share = [radians[f"{part}_{motion}"] / len(names) for motion in ("twist", "side", "flexion")]
        local[:, [joint[name] for name in names]] = (_about_z(share[0]) @ _about_y(share[1]) @ _about_x(share[2]))[
            :, None
        ]
    for side in ("L", "R"):
        angle = {name: radians[f"{name}_{side.lower()}"] for name in _BOTH_SIDES}
        place = {n: rest_joints_m[:, i] * (1.0 if side == "L" else _MIRROR) for n, i in joint.items()}
        limb = {**_arm(angle, place, side), **_leg(angle, place, side)}
        for name, turn in limb.items():
            local[:, joint[name]] = turn if side == "L" else turn * np.outer(_MIRROR, _MIRROR)
    return roma.rotmat_to_rotvec(torch.from_numpy(local)).numpy()


def _arm(angle: dict[str, np.ndarray], place: dict[str, np.ndarray], side: str) -> dict[str, np.ndarray]:
    """Local rotations (K, 3, 3) of the joints of an arm, as if it were a left one."""
    upper = _unit(place[f"lowerarm01.{side}"] - place[f"upperarm01.{side}"])
    fore = _unit(place[f"wrist.{side}"] - place[f"lowerarm01.{side}"])
    hinge = _unit(_cross(upper, fore))
    fingers = _unit(place[f"finger3-1.{side}"] - place[f"wrist.{side}"])
    knuckles = _unit(place[f"finger2-1.{side}"] - place[f"finger5-1.{side}"])
    # Neutral: arm straight down (-z), the elbow's axis to the right (-x), index finger in front (-y).
    down, right, front = np.array((0.0, 0.0, -1.0)), np.array((-1.0, 0.0, 0.0)), np.array((0.0, -1.0, 0.0))
    upper_neutral = _aligning(upper, hinge, down, right)
    fore_neutral = _aligning(fore, hinge, down, right)
    hand_neutral = _aligning(fingers, knuckles, down, front)

    clavicle = _about_y(-angle["clavicle_elevation"]) @ _about_z(-angle["clavicle_protraction"])
    plane, height = angle["shoulder_plane"], angle["shoulder_elevation"]
    # The arm swings from straight down towards (cos plane, -sin plane, 0).
    shoulder = _about_z(-plane) @ _about_y(-height) @ _about_z(plane + angle["shoulder_rotation"])
    half_turn = _about_z(-angle["forearm_pronation"] / 2)
    wrist = _about_y(angle["wrist_flexion"]) @ _about_x(-angle["wrist_deviation"])
    turns = {
        f"clavicle.{side}": clavicle,
        f"upperarm01.{side}": _transposed(clavicle) @ shoulder @ upper_neutral,
        f"lowerarm01.{side}": _transposed(upper_neutral) @ _about_x(-angle["elbow_flexion"]) @ fore_neutral,
        f"lowerarm02.{side}": _transposed(fore_neutral) @ half_turn @ fore_neutral,
        f"wrist.{side}": _transposed(fore_neutral) @ half_turn @ wrist @ hand_neutral,
    }
    curl = _transposed(hand_neutral) @ _about_y(angle["finger_flexion"]) @ hand_neutral
    for finger in (2, 3, 4, 5):
        for bone in (1, 2, 3):
            turns[f"finger{finger}-{bone}.{side}"] = curl
    return turns


def _leg(angle: dict[str, np.ndarray], place: dict[str, np.ndarray], side: str) -> dict[str, np.ndarray]:
    """Local rotations (K, 3, 3) of the joints of a leg, as if it were a left one."""
    thigh = _unit(place[f"lowerleg01.{side}"] - place[f"upperleg01.{side}"])
    shin = _unit(place[f"foot.{side}"] - place[f"lowerleg01.{side}"])
    left = np.broadcast_to((1.0, 0.0, 0.0), thigh.shape)
    down = np.array((0.0, 0.0, -1.0))
    thigh_neutral = _aligning(thigh, left, down, np.array((1.0, 0.0, 0.0)))
    shin_neutral = _aligning(shin, left, down, np.array((1.0, 0.0, 0.0)))
    hip = _about_x(-angle["hip_flexion"]) @ _about_y(-angle["hip_abduction"]) @ _about_z(angle["hip_rotation"])
    return {
        f"upperleg01.{side}": hip @ thigh_neutral,
        f"lowerleg01.{side}": _transposed(thigh_neutral) @ _about_x(angle["knee_flexion"]) @ shin_neutral,
        f"foot.{side}": _transposed(shin_neutral) @ _about_x(-angle["ankle_flexion"]),
    }


def _aligning(first: np.ndarray, second: np.ndarray, to_first: np.ndarray, to_second: np.ndarray) -> np.ndarray:
    """(K, 3, 3) rotations that take ``first`` to ``to_first``, and ``second`` as near as possible to ``to_second``."""
    across = _unit(_cross(first, second))
    here = np.stack((first, _cross(across, first), across), -1)
    to_across = _cross(to_first, to_second)
    there = np.stack((to_first, _cross(to_across, to_first), to_across), -1)
    return there @ _transposed(here)


def _about_x(angle: np.ndarray) -> np.ndarray:
    return _rotations(angle, 1, 2)


def _about_y(angle: np.ndarray) -> np.ndarray:
    return _rotations(angle, 2, 0)


def _about_z(angle: np.ndarray) -> np.ndarray:
    return _rotations(angle, 0, 1)


def _rotations(angle: np.ndarray, first: int, second: int) -> np.ndarray:
    """(K, 3, 3) rotations that turn one axis towards another."""
    turns = np.zeros((len(angle), 3, 3))
    turns[:, range(3), range(3)] = 1.0
    turns[:, first, first] = turns[:, second, second] = np.cos(angle)
    turns[:, second, first] = np.sin(angle)
    turns[:, first, second] = -turns[:, second, first]
    return turns


def _transposed(turns: np.ndarray) -> np.ndarray:
    return turns.swapaxes(-1, -2)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), -1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt((vectors * vectors).sum(-1, keepdims=True))
