"""Anny as an articulated chain: which bones may turn about which axes and how far, and where the landmarks sit.

All the freedom of a person is a list of *degrees of freedom*: turning bone ``bone[d]`` about the axis ``axis[d]``, which
is fixed in the bone itself. A ball joint has three, a hinge (elbow, knee, the twist of the forearm) one. Every other
bone of the skeleton stays at rest relative to its parent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import roma
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.body import Anny

_FREE = math.inf

# bone: (axis, relaxed, spread, low, high) of each degree of freedom, in degrees from the rest pose (an A-pose with the
# elbows bent by 41 degrees). x, y, z: the axes of the body at rest (x to its left, front -y, z up); along, bend, side:
# those of a limb (see _limb_axes). Bones of the right side mirror those of the left. ``spread`` is the standard deviation
# of a Gaussian around ``relaxed``; low and high are soft limits. The ranges are rounded from the usual tables of joint
# motion (AAOS), the spreads from how people stand and sit in photographs: a regulariser, not a measurement.
_FREEDOM: dict[str, tuple[tuple[str, float, float, float, float], ...]] = {
    "root": (("x", 0, _FREE, -_FREE, _FREE), ("y", 0, _FREE, -_FREE, _FREE), ("z", 0, _FREE, -_FREE, _FREE)),
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
_LIMBS = {"arm": ("upperarm01.L", "lowerarm01.L", "wrist.L"), "leg": ("upperleg01.L", "lowerleg01.L", "foot.L")}
_UPPER_PART = {"arm": ("upperarm01.L", "lowerarm01.L"), "leg": ("upperleg01.L", "lowerleg01.L")}
_LOWER_PART = {"arm": ("lowerarm02.L", "wrist.L"), "leg": ()}

# landmark: (bone, place in the bone, trust in its image position); places in metres from the joint at rest, in body axes.
# Where BlazePose sees a landmark of Anny, by least squares over 360 shaded renderings of Anny in random poses: hips and
# shoulders lie further in, the ankle 3.5 cm higher than the joint of the foot, the ears before the ears. Its thigh joint is
# upperleg01 (upperleg02 lies 9 cm down the thigh). Those of one head, hand or foot err together, hence their lower trust.
_LANDMARKS: dict[int, tuple[str, tuple[float, float, float], float]] = {
    0: ("head", (0.0, -0.095, 0.010), 0.4),
    2: ("head", (0.022, -0.075, 0.040), 0.4),
    5: ("head", (-0.022, -0.075, 0.040), 0.4),
    7: ("head", (0.045, -0.030, 0.025), 0.4),
    11: ("upperarm01.L", (-0.023, -0.005, 0.010), 1.0),
    13: ("lowerarm01.L", (-0.015, -0.010, 0.018), 1.0),
    15: ("wrist.L", (-0.005, -0.010, 0.0), 1.0),
    17: ("wrist.L", (0.030, -0.055, -0.045), 0.3),
    19: ("wrist.L", (0.015, -0.070, -0.045), 0.3),
    21: ("wrist.L", (0.0, -0.055, -0.033), 0.3),
    23: ("upperleg01.L", (-0.020, -0.025, 0.005), 1.0),
    25: ("lowerleg01.L", (0.0, 0.0, -0.005), 1.0),
    27: ("foot.L", (0.0, -0.005, 0.035), 1.0),
    29: ("foot.L", (-0.005, 0.022, -0.020), 0.3),
    31: ("foot.L", (0.005, -0.155, -0.053), 0.3),
}
_LAST_OF_THE_MIDDLE = 6  # beyond, odd landmarks are on the left, each followed by its twin on the right

# Directions in which the metric landmarks tell the third dimension: from, to (means of landmarks), expected error of the
# unit vector across and along the line of sight, and its mean error along it; from the same renderings. First those of
# the trunk, then the upper and the lower part of each limb in the order of Chain.limbs. The last two are no observations
# but the expectation that people are upright: shoulders above hips, ankles below.
_DIRECTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], float, float, float], ...] = (
    ((24,), (23,), 0.12, 0.17, 0.0), ((12,), (11,), 0.10, 0.13, 0.0),
    ((23,), (11,), 0.07, 0.20, 0.0), ((24,), (12,), 0.07, 0.20, 0.0),
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


@dataclass(frozen=True, eq=False)
class Posed:
    """K posed chains.

    Attributes:
        points: (K, P, 3) landmarks in the camera frame, metres.
        pivots, axes: (K, D, 3) where each degree of freedom turns and about which unit axis, camera frame.
    """

    points: Float[Tensor, "K P 3"]
    pivots: Float[Tensor, "K D 3"]
    axes: Float[Tensor, "K D 3"]


@dataclass(frozen=True, eq=False)
class Chain:
    """The articulated body of one shape, shared by all people; D degrees of freedom, P landmarks, E directions.

    Attributes:
        body: the body model whose skeleton turns.
        shape: (1, S) its shape.
        rest_joints: (J, 3) joints at rest, metres, model frame.
        bone, axis: (D,), (D, 3) what turns and about what; the first three turn the whole body.
        relaxed, spread, low, high: (D,) radians, see the table in this module.
        landmarks: (P,) which of the 33 landmarks are used.
        point_bone, point_offset: (P,), (P, 3) the bone a landmark is fixed to, and where from its joint at rest.
        moves: (P, D) whether a degree of freedom moves a landmark.
        trust: (P,) weight of a landmark's image position.
        directions: (E, P) rows subtract (means of) landmarks from each other.
        direction_error, direction_bias: (E, 3) expected and mean error of the observed unit vectors, in the frame of a
            camera that looks straight at the person.
        limbs: (4, 3) root, hinge and end of left arm, right arm, left leg and right leg, as joints.
        hinge: (4,) the degree of freedom of each limb's hinge.
    """

    body: Anny
    shape: Float[Tensor, "1 S"]
    rest_joints: Float[Tensor, "J 3"]
    bone: Int[Tensor, " D"]
    axis: Float[Tensor, "D 3"]
    relaxed: Float[Tensor, " D"]
    spread: Float[Tensor, " D"]
    low: Float[Tensor, " D"]
    high: Float[Tensor, " D"]
    landmarks: Int[Tensor, " P"]
    point_bone: Int[Tensor, " P"]
    point_offset: Float[Tensor, "P 3"]
    moves: Bool[Tensor, "P D"]
    trust: Float[Tensor, " P"]
    directions: Float[Tensor, "E P"]
    direction_error: Float[Tensor, "E 3"]
    direction_bias: Float[Tensor, "E 3"]
    limbs: Int[Tensor, "4 3"]
    hinge: Int[Tensor, " 4"]

    @property
    def rest_points(self) -> Float[Tensor, "P 3"]:
        """The landmarks of the body at rest, metres, model frame."""
        return self.rest_joints[self.point_bone] + self.point_offset

    def pose(self, rotations: Float[Tensor, "K J 3 3"], translation: Float[Tensor, "K 3"]) -> Posed:
        """Landmarks, pivots and axes for rotations relative to the parent and a translation of the body."""
        turns, places = self.body.tree(self.rest_joints.expand(len(rotations), -1, -1), rotations)
        places = places + translation[:, None]
        points = places[:, self.point_bone] + (turns[:, self.point_bone] @ self.point_offset[..., None])[..., 0]
        axes = (turns[:, self.bone] @ self.axis[..., None])[..., 0]
        return Posed(points, places[:, self.bone], axes)

    def point_velocities(self, posed: Posed) -> Float[Tensor, "K P D 3"]:
        """Derivative of every landmark by every degree of freedom: axis x (point - pivot)."""
        arms = posed.points[:, :, None] - posed.pivots[:, None]
        return torch.linalg.cross(posed.axes[:, None].expand_as(arms), arms) * self.moves[..., None]

    def turned(self, rotations: Float[Tensor, "K J 3 3"], angles: Float[Tensor, "K D"]) -> Float[Tensor, "K J 3 3"]:
        """Rotations after turning every degree of freedom further by an angle, those of one bone at once."""
        steps = torch.zeros(rotations.shape[:-1], dtype=rotations.dtype)
        steps.index_add_(1, self.bone, angles[..., None] * self.axis)
        return rotations @ roma.rotvec_to_rotmat(steps)

    def rest_rotations(self, count: int) -> Float[Tensor, "K J 3 3"]:
        """Rotations of ``count`` bodies at rest."""
        return torch.eye(3, dtype=self.axis.dtype).repeat(count, len(self.rest_joints), 1, 1)


@cache
def adult_chain(body: Anny) -> Chain:
    """The chain of an average adult of undecided sex, float64."""
    shape = body.default_shape(1)
    joints = body.rest_joints(shape)[0].double()
    index = {name: i for i, name in enumerate(body.joint_names)}
    bones, axes, angles = zip(*_freedom(joints, index), strict=True)
    bone = torch.tensor(bones)
    relaxed, spread, low, high = torch.deg2rad(torch.tensor(angles, dtype=torch.float64)).T
    landmarks = _landmarks_of_both_sides()
    fixed_to = torch.tensor([index[name] for name, _, _ in landmarks.values()])
    limbs = [[index[_sided(name, side)] for name in limb] for limb in _LIMBS.values() for side in "LR"]
    return Chain(
        body=body,
        shape=shape,
        rest_joints=joints,
        bone=bone,
        axis=torch.stack(axes),
        relaxed=relaxed,
        spread=spread,
        low=low,
        high=high,
        landmarks=torch.tensor(list(landmarks)),
        point_bone=fixed_to,
        point_offset=torch.tensor([place for _, place, _ in landmarks.values()], dtype=torch.float64),
        moves=_turned_by(body.parents)[fixed_to][:, bone],
        trust=torch.tensor([trust for _, _, trust in landmarks.values()], dtype=torch.float64),
        directions=_differences(list(landmarks)),
        direction_error=torch.tensor([(across, across, along) for _, _, across, along, _ in _DIRECTIONS], dtype=torch.float64),
        direction_bias=torch.tensor([(0, 0, bias) for *_, bias in _DIRECTIONS], dtype=torch.float64),
        limbs=torch.tensor(limbs),
        hinge=torch.tensor([bones.index(middle) for _, middle, _ in limbs]),
    )


def _sided(name: str, side: str) -> str:
    """The name of a left bone on the given side, L or R; names of the middle of the body stay."""
    return name[:-1] + side if name.endswith(".L") else name


def _freedom(joints: Tensor, index: dict[str, int]) -> list[tuple[int, Tensor, tuple[float, ...]]]:
    """Bone, axis and angles of every degree of freedom of both sides."""
    limb_axes = _limb_axes(joints, index)
    body_axes = dict(zip("xyz", torch.eye(3, dtype=joints.dtype), strict=True))
    mirror = torch.tensor([1.0, -1.0, -1.0], dtype=joints.dtype)  # of an axis of rotation, across the middle of the body
    freedom = []
    for name, turns in _FREEDOM.items():
        axes = body_axes | limb_axes.get(name, {})
        for side in "LR" if name.endswith(".L") else "L":
            for axis, *angles in turns:
                freedom.append((index[_sided(name, side)], axes[axis] * mirror if side == "R" else axes[axis], tuple(angles)))
    return freedom


def _limb_axes(joints: Tensor, index: dict[str, int]) -> dict[str, dict[str, Tensor]]:
    """Axes of the bones of the left limbs: along the bone, that of the hinge, and the one square to both.

    The elbow bends in the plane of the arm at rest; the legs are nearly straight, so their knees bend about x.
    """
    result = {}
    for limb, bones in _LIMBS.items():
        start, middle, end = joints[[index[bone] for bone in bones]]
        upper, lower = F.normalize(middle - start, dim=0), F.normalize(end - middle, dim=0)
        hinge = torch.linalg.cross(upper, lower) if limb == "arm" else torch.eye(3, dtype=joints.dtype)[0]
        for along, names in ((upper, _UPPER_PART[limb]), (lower, _LOWER_PART[limb])):
            bend = F.normalize(hinge - (hinge @ along) * along, dim=0)
            axes = {"along": along, "bend": bend, "side": torch.linalg.cross(along, bend)}
            result |= {name: axes for name in names}
    return result


def _landmarks_of_both_sides() -> dict[int, tuple[str, tuple[float, float, float], float]]:
    result = dict(_LANDMARKS)
    for landmark, (bone, (x, y, z), trust) in _LANDMARKS.items():
        if landmark > _LAST_OF_THE_MIDDLE:
            result[landmark + 1] = (_sided(bone, "R"), (-x, y, z), trust)
    return dict(sorted(result.items()))


def _turned_by(parents: tuple[int, ...]) -> Bool[Tensor, "J J"]:
    """Row j: the bones whose turning moves what is fixed to bone j, that is j and its ancestors."""
    rows = torch.eye(len(parents), dtype=torch.bool)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            rows[joint] |= rows[parent]
    return rows


def _differences(landmarks: list[int]) -> Float[Tensor, "E P"]:
    rows = torch.zeros(len(_DIRECTIONS), len(landmarks), dtype=torch.float64)
    for row, (start, end, *_) in zip(rows, _DIRECTIONS, strict=True):
        for sign, group in ((-1.0, start), (1.0, end)):
            for landmark in group:
                row[landmarks.index(landmark)] += sign / len(group)
    return rows
