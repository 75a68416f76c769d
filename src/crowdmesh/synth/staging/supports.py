"""What carries people: chairs, laps, shoulders, arms. People who hold on to each other form one unit.

A unit has its own level frame like a figure: it is placed and turned as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.synth.staging.crowd import exact_body
from crowdmesh.synth.staging.figures import GRID_M, Figure, part, turned

CONTACT_DEPTH_M = 0.035
"""How deep soft bodies that carry each other may sink into each other before they are moved apart."""
_STEP_M = 0.025
_SPARSE = 6
_NEAREST_MOVE_M, _FARTHEST_MOVE_M = 0.1, 0.2
_UP, _AHEAD = np.array((0.0, -1.0, 0.0)), np.array((0.0, 0.0, -1.0))

SEAT_HEIGHT_M = (0.2, 0.55)
_USUAL_SEAT_M = 0.44


@dataclass(frozen=True)
class Box:
    """An axis-parallel block: lower and upper corner (x, y, z), metres, y down."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def depth_of(self, points_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
        """How deep points lie inside; negative outside."""
        return np.minimum(points_m - np.array(self.low), np.array(self.high) - points_m).min(1)

    def rounded(self) -> Box:
        """On the grid of a micrometre."""
        low, high = (tuple(float(v) for v in np.round(np.array(c), 6)) for c in (self.low, self.high))
        return Box(low, high)  # type: ignore[arg-type]

    def corners(self) -> Float[np.ndarray, "8 3"]:
        """The corners, x fastest."""
        ends = np.array((self.low, self.high))
        return np.array([(ends[i, 0], ends[j, 1], ends[k, 2]) for k in (0, 1) for j in (0, 1) for i in (0, 1)])


BOX_FACES: Int[np.ndarray, "12 3"] = np.array(
    [
        (0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 1, 4), (1, 5, 4),
        (2, 6, 3), (3, 6, 7), (0, 4, 2), (2, 4, 6), (1, 3, 5), (3, 7, 5),
    ]
)  # fmt: skip
"""Triangles of ``Box.corners``, seen from outside in one sense of rotation."""


@dataclass(frozen=True, eq=False)
class Member:
    """A figure in its unit: who, where the figure's origin lies, and what carries it."""

    person: int
    figure: Figure
    shift_m: Float[np.ndarray, " 3"]
    support: str

    @property
    def vertices_m(self) -> Float[np.ndarray, "V 3"]:
        """Vertices in the unit's frame."""
        return self.figure.vertices_m + self.shift_m


@dataclass(frozen=True, eq=False)
class Unit:
    """People, and the furniture they bring along, that are placed together; the first member comes first."""

    members: tuple[Member, ...]
    furniture: tuple[tuple[str, tuple[Box, ...]], ...] = ()

    @property
    def height_m(self) -> float:
        """Height of the highest vertex above the unit's floor."""
        return max(-float(m.vertices_m[:, 1].min()) for m in self.members)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """All blocks of the furniture."""
        return tuple(box for _, boxes in self.furniture for box in boxes)


def _rounded(*shift: float) -> np.ndarray:
    return np.round(np.array(shift) / GRID_M) * GRID_M


def standing(person: int, figure: Figure, above_ground_m: float = 0.0) -> Unit:
    """Somebody alone, the lowest vertex on the ground or so far above it."""
    support = "air" if above_ground_m > 0.0 else "ground"
    return Unit((Member(person, figure, _rounded(0.0, -above_ground_m, 0.0), support),))


def on_chair(person: int, figure: Figure, random: np.random.Generator) -> Unit:
    """Somebody on a stool or chair that fits, or a child on one of the usual height, feet in the air."""
    vertices = figure.vertices_m
    seat = vertices[part("seat")]
    seat_y = float(seat[:, 1].max())
    fit = -seat_y  # the feet's lowest vertex is at y = 0
    if vertices[part("lower leg"), 1].max() < seat_y:
        fit = SEAT_HEIGHT_M[0]
    height = max(fit, _USUAL_SEAT_M) if random.random() < 0.6 else fit
    height = float(np.clip(height, max(fit, SEAT_HEIGHT_M[0]), max(fit, SEAT_HEIGHT_M[1])))
    shift = _rounded(0.0, -height - seat_y, 0.0)
    placed = vertices + shift
    back = float(placed[part("seat"), 2].max()) + 0.02
    calf = placed[part("lower leg")]
    hidden = calf[(calf[:, 1] > -height) & (calf[:, 1] < -0.6 * height)]
    front = float(hidden[:, 2].max()) + 0.02 if len(hidden) else back - 0.4
    front = min(front, back - 0.2)
    half = float(np.abs(placed[part("seat")][:, 0]).max().clip(0.15, 0.24))
    boxes = [Box((-half, -height, front), (half, -height + 0.05, back))]
    for x in (-half, half - 0.04):
        for z in (front, back - 0.04):
            boxes.append(Box((x, -height + 0.05, z), (x + 0.04, 0.0, z + 0.04)))
    if random.random() < 0.7:
        trunk = placed[part("trunk")]
        behind = trunk[(trunk[:, 1] < -height) & (trunk[:, 1] > -height - 0.45), 2].max(initial=back - 0.05)
        boxes.append(Box((-half, -height - 0.42, float(behind)), (half, -height, float(behind) + 0.03)))
    chair = ("chair", tuple(box.rounded() for box in boxes))
    return Unit((Member(person, figure, shift, "chair"),), (chair,))


def with_child_on_lap(seat: Unit, person: int, child: Figure, random: np.random.Generator) -> Unit | None:
    """A child on the thighs of somebody sitting, its back to the chest; ``None`` if they do not fit together."""
    adult = seat.members[0]
    body = adult.vertices_m
    thigh = body[part("thigh")]
    middle = 0.5 * (thigh[:, 2].min() + thigh[:, 2].max())
    top = float(thigh[np.abs(thigh[:, 2] - middle) < 0.1, 1].min())
    chest = float(body[part("trunk") & (body[:, 1] < top - 0.05), 2].min())
    child_back = float(child.vertices_m[part("trunk"), 2].max())
    bottom = child.vertices_m[part("seat") & (child.vertices_m[:, 2] > child_back - 0.15), 1].max()
    start = np.array((random.uniform(-0.05, 0.05), top - float(bottom) + 0.01, chest - child_back + 0.03))
    shift = _settled(child, start, _UP, _AHEAD, adult)
    if shift is None or shift[2] < thigh[:, 2].min() + 0.05:
        return None
    return Unit((*seat.members, Member(person, child, shift, f"lap of {adult.person}")), seat.furniture)


def with_child_on_shoulders(carrier: Unit, person: int, child: Figure) -> Unit | None:
    """A child astride the neck of somebody standing; ``None`` if they do not fit together."""
    adult = carrier.members[0]
    joint = _joint_places(adult)
    neck = joint["neck01"]
    nape = float(adult.vertices_m[part("head") & (adult.vertices_m[:, 1] > neck[1] - 0.12), 2].max(initial=neck[2]))
    trunk = child.vertices_m[part("trunk")]
    crotch = trunk[np.abs(trunk[:, 0]) < 0.05]
    start = np.array((neck[0], neck[1] - float(crotch[:, 1].max()) + 0.02, nape - float(crotch[:, 2].min()) - 0.05))
    shift = _settled(child, start, _UP, -_AHEAD, adult)
    if shift is None or start[1] - shift[1] > 0.12:
        return None
    return Unit((adult, Member(person, child, shift, f"shoulders of {adult.person}")), carrier.furniture)


def with_baby_held(carrier: Unit, person: int, baby: Figure, random: np.random.Generator) -> Unit | None:
    """A baby before the chest of somebody standing, seat on the forearms, turned to the chest or away."""
    adult = carrier.members[0]
    joint = _joint_places(adult)
    seat_y = float(baby.vertices_m[part("seat"), 1].max())
    arms = 0.5 * (joint["wrist.L"] + joint["wrist.R"])
    body = adult.vertices_m
    chest = float(body[part("trunk") & (body[:, 1] < arms[1]), 2].min())
    figures = [turned(baby, np.pi), baby] if random.random() < 0.7 else [baby, turned(baby, np.pi)]
    for figure in figures:
        behind = float(figure.vertices_m[part("trunk"), 2].max())
        start = np.array((0.5 * arms[0], arms[1] - seat_y - 0.03, chest - behind))
        shift = _settled(figure, start, _UP, _AHEAD, adult)
        if shift is not None:
            return Unit((adult, Member(person, figure, shift, f"arms of {adult.person}")), carrier.furniture)
    return None


def _joint_places(member: Member) -> dict[str, np.ndarray]:
    return dict(zip(exact_body().joint_names, member.figure.joints_m + member.shift_m, strict=True))


def _settled(
    child: Figure, start: np.ndarray, first: np.ndarray, then: np.ndarray, carrier: Member
) -> np.ndarray | None:
    """Shift of the child, moved a little along two directions until it is nowhere too deep in its carrier."""
    for far in np.arange(0.0, _FARTHEST_MOVE_M, _STEP_M):
        for near in np.arange(0.0, _NEAREST_MOVE_M, _STEP_M):
            shift = _rounded(*(start + near * first + far * then))
            if not _too_deep(child, carrier.figure, shift - carrier.shift_m):
                return shift
    return None


def _too_deep(child: Figure, carrier: Figure, shift: np.ndarray) -> bool:
    """Whether either figure, the child shifted, is deeper in the other than contact allows; both unturned."""
    for every in (_SPARSE, 1):  # a sparse look finds most
        for points, solid in ((child.vertices_m + shift, carrier), (carrier.vertices_m - shift, child)):
            low, high = solid.bounds
            sample = points[::every]
            near = sample[((sample > low) & (sample < high)).all(1)]
            if solid.depth_of(near).max(initial=0.0) > CONTACT_DEPTH_M:
                return True
    return False
