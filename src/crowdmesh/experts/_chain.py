"""Anny as an articulated chain that carries the landmarks: its pose, and how fast each turn moves each landmark.

All the freedom of a person is a list of *degrees of freedom*: turning bone ``bone[d]`` about the axis ``axis[d]`` that
is fixed in the bone itself. A ball joint has three, a hinge (elbow, knee, the twist of the forearm) one. Every other
bone of the skeleton stays at rest relative to its parent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import roma
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.body import Anny
from crowdmesh.experts._anny_tables import (
    DIRECTIONS,
    FREEDOM,
    LANDMARKS,
    LAST_OF_THE_MIDDLE,
    LIMBS,
    LOWER_PART,
    UPPER_PART,
)


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
        relaxed, spread, low, high: (D,) radians, see FREEDOM in _anny_tables.
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

    def relaxed_rotations(self) -> Float[Tensor, "1 J 3 3"]:
        """The relaxed pose, with the trunk as at rest."""
        rest = torch.eye(3, dtype=self.axis.dtype).repeat(1, len(self.rest_joints), 1, 1)
        return self.turned(rest, self.relaxed[None])

    @cached_property
    def relaxed_extent(self) -> Float[Tensor, "2 3"]:
        """Least and greatest coordinates, in metres, of the relaxed body that faces the camera."""
        rotations = self.relaxed_rotations()
        rotations[:, 0] = torch.from_numpy(self.body.facing_camera)
        surface = self.body(self.shape, rotations.float(), self.shape.new_zeros(1, 3)).vertices
        assert surface is not None
        return torch.cat((surface.amin(1), surface.amax(1))).double()


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
    limbs = [[index[_sided(name, side)] for name in limb] for limb in LIMBS.values() for side in "LR"]
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
        direction_error=torch.tensor(
            [(across, across, along) for _, _, across, along, _ in DIRECTIONS], dtype=torch.float64
        ),
        direction_bias=torch.tensor([(0, 0, bias) for *_, bias in DIRECTIONS], dtype=torch.float64),
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
    mirror = torch.tensor(
        [1.0, -1.0, -1.0], dtype=joints.dtype
    )  # of an axis of rotation, across the middle of the body
    freedom = []
    for name, turns in FREEDOM.items():
        axes = body_axes | limb_axes.get(name, {})
        for side in "LR" if name.endswith(".L") else "L":
            for axis, *angles in turns:
                freedom.append(
                    (index[_sided(name, side)], axes[axis] * mirror if side == "R" else axes[axis], tuple(angles))
                )
    return freedom


def _limb_axes(joints: Tensor, index: dict[str, int]) -> dict[str, dict[str, Tensor]]:
    """Axes of the bones of the left limbs: along the bone, that of the hinge, and the one square to both.

    The elbow bends in the plane of the arm at rest; the legs are nearly straight, so their knees bend about x.
    """
    result = {}
    for limb, bones in LIMBS.items():
        start, middle, end = joints[[index[bone] for bone in bones]]
        upper, lower = F.normalize(middle - start, dim=0), F.normalize(end - middle, dim=0)
        hinge = torch.linalg.cross(upper, lower) if limb == "arm" else torch.eye(3, dtype=joints.dtype)[0]
        for along, names in ((upper, UPPER_PART[limb]), (lower, LOWER_PART[limb])):
            bend = F.normalize(hinge - (hinge @ along) * along, dim=0)
            axes = {"along": along, "bend": bend, "side": torch.linalg.cross(along, bend)}
            result |= {name: axes for name in names}
    return result


def _landmarks_of_both_sides() -> dict[int, tuple[str, tuple[float, float, float], float]]:
    result = dict(LANDMARKS)
    for landmark, (bone, (x, y, z), trust) in LANDMARKS.items():
        if landmark > LAST_OF_THE_MIDDLE:
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
    rows = torch.zeros(len(DIRECTIONS), len(landmarks), dtype=torch.float64)
    for row, (start, end, *_) in zip(rows, DIRECTIONS, strict=True):
        for sign, group in ((-1.0, start), (1.0, end)):
            for landmark in group:
                row[landmarks.index(landmark)] += sign / len(group)
    return rows
