"""The floor of a stage: who already stands where, and whether somebody else fits in."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from crowdmesh.synth.staging.figures import GRID_M, yaw_matrix
from crowdmesh.synth.staging.supports import Box, Member, Unit
from crowdmesh.synth.staging.viewpoint import Viewpoint

TOUCH_DEPTH_M = 0.02
"""People who do not carry each other may be as deep in each other, or in furniture, as this; with the mesh's error of
a centimetre everybody stays within 4 cm."""
NEAREST_SURFACE_M = 0.25
"""No vertex comes nearer to the camera plane than this."""
STANDING_RIM_M = 0.03
"""Everything of a body within this height of its lowest vertex must lie above its step."""


@dataclass(frozen=True)
class Spot:
    """A place in the level frame: metres right and ahead, turn about the vertical, height of the floor there."""

    x: float
    z: float
    yaw: float
    floor_m: float = 0.0

    def rounded(self) -> Spot:
        """On the grid that decisions are made on."""
        return Spot(*(round(v, 6) + 0.0 for v in (self.x, self.z, self.yaw, self.floor_m)))


@dataclass(frozen=True, eq=False)
class Placed:
    """A unit at its spot."""

    unit: Unit
    spot: Spot

    @cached_property
    def turn(self) -> Float[np.ndarray, "3 3"]:
        """Rotation from the unit's frame into the level frame."""
        return yaw_matrix(self.spot.yaw)

    @cached_property
    def origin(self) -> Float[np.ndarray, " 3"]:
        """Where the unit's origin lies in the level frame."""
        return np.array((self.spot.x, -self.spot.floor_m, self.spot.z))

    def to_level(self, points_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Points of the unit's frame in the level frame, on the grid."""
        return np.round((points_m @ self.turn.T + self.origin) / GRID_M) * GRID_M

    def to_unit(self, points_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Points of the level frame in the unit's frame."""
        return (points_m - self.origin) @ self.turn

    @cached_property
    def solids(self) -> list[tuple[Member, np.ndarray, np.ndarray, np.ndarray]]:
        """Members with their vertices in the level frame, and the lower and upper corner of these."""
        found = []
        for member in self.unit.members:
            vertices = self.to_level(member.vertices_m)
            found.append((member, vertices, vertices.min(0), vertices.max(0)))
        return found

    @cached_property
    def box_points(self) -> Float[np.ndarray, "N 3"]:
        """Corners of the furniture in the level frame."""
        boxes = self.unit.boxes
        return self.to_level(np.concatenate([b.corners() for b in boxes])) if boxes else np.zeros((0, 3))

    @cached_property
    def bounds(self) -> tuple[list[float], list[float]]:
        """Lower and upper corner of people and furniture in the level frame."""
        low = np.min([low for _, _, low, _ in self.solids], axis=0)
        high = np.max([high for _, _, _, high in self.solids], axis=0)
        if len(self.box_points):
            low, high = np.minimum(low, self.box_points.min(0)), np.maximum(high, self.box_points.max(0))
        return low.tolist(), high.tolist()

    def may_touch(self, other: Placed) -> bool:
        """Whether the two bounding boxes overlap."""
        (low, high), (other_low, other_high) = self.bounds, other.bounds
        return all(low[i] < other_high[i] and other_low[i] < high[i] for i in range(3))

    def depth_in_people(self, points_m: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
        """How deep level points, which fill the box low to high, lie inside these people; 0 outside."""
        depth = 0.0
        for member, _, mine_low, mine_high in self.solids:
            if (low < mine_high).all() and (mine_low < high).all():
                near = points_m[((points_m > mine_low) & (points_m < mine_high)).all(1)]
                if len(near):
                    depth = max(depth, float(member.figure.depth_of(self.to_unit(near) - member.shift_m).max()))
        return depth

    def depth_in_boxes(self, points_m: np.ndarray) -> float:
        """How deep level points lie inside this furniture; 0 outside."""
        low, high = self.box_points.min(0), self.box_points.max(0)
        near = points_m[((points_m > low) & (points_m < high)).all(1)]
        if not len(near):
            return 0.0
        local = self.to_unit(near)
        return max((float(box.depth_of(local).max(initial=0.0)) for box in self.unit.boxes), default=0.0)


@dataclass(eq=False)
class Floor:
    """A stage being filled.

    Attributes:
        distance_m: nearest and farthest pelvis along the camera's axis.
        blocks: what stands on the ground and belongs to nobody (steps, benches), level frame.
        placed: units so far.
    """

    viewpoint: Viewpoint
    distance_m: tuple[float, float]
    blocks: list[tuple[str, Box]] = field(default_factory=list)
    placed: list[Placed] = field(default_factory=list)

    def height_at(self, x: float, z: float) -> float:
        """Height of the highest block at a place, or of the ground."""
        heights = [-b.low[1] for _, b in self.blocks if b.low[0] < x < b.high[0] and b.low[2] < z < b.high[2]]
        return max(heights, default=0.0)

    def fits(self, unit: Unit, spot: Spot) -> Placed | None:
        """The unit at this spot, if it can be seen there, is carried there and runs into nobody."""
        candidate = Placed(unit, spot)
        if not (self._seen(candidate) and self._carried(candidate)):
            return None
        for other in self.placed:
            if candidate.may_touch(other) and _meet(candidate, other):
                return None
        return candidate

    def _seen(self, candidate: Placed) -> bool:
        """Everybody's pelvis is neither too near nor too far, and pelvis or head lies inside the picture."""
        for member in candidate.unit.members:
            joints = candidate.to_level(member.figure.joints_m[[0, _HEAD]] + member.shift_m)
            seen = self.viewpoint.to_camera(joints)
            if not self.distance_m[0] <= seen[0, 2] <= self.distance_m[1] or not self.viewpoint.inside(seen).any():
                return False
        depth = np.concatenate([v for _, v, _, _ in candidate.solids]) @ self.viewpoint.rotation[2]
        return bool(depth.min() + self.viewpoint.height_m * self.viewpoint.rotation[2, 1] > NEAREST_SURFACE_M)

    def _carried(self, candidate: Placed) -> bool:
        """Nobody sinks into steps or benches, and all that touches the floor lies on one level."""
        if not self.blocks:
            return True
        points = np.concatenate([*(v for _, v, _, _ in candidate.solids), candidate.box_points])
        if any(float(block.depth_of(points).max()) > 1e-3 for _, block in self.blocks):
            return False
        rim = points[points[:, 1] > points[:, 1].max() - STANDING_RIM_M]
        return all(abs(self.height_at(x, z) - candidate.spot.floor_m) < 1e-6 for x, _, z in rim)


_HEAD = 101  # Anny's head joint
_SPARSE = 7


def _meet(one: Placed, other: Placed) -> bool:
    """Whether two units sink into each other."""
    for every in (_SPARSE, 1):  # a sparse look finds most collisions
        for first, second in ((one, other), (other, one)):
            for _, vertices, low, high in first.solids:
                if second.depth_in_people(vertices[::every], low, high) > TOUCH_DEPTH_M:
                    return True
    for first, second in ((one, other), (other, one)):
        for _, vertices, _, _ in first.solids:
            if second.unit.boxes and second.depth_in_boxes(vertices) > TOUCH_DEPTH_M:
                return True
        if first.unit.boxes and second.unit.boxes and second.depth_in_boxes(first.box_points) > 0.0:
            return True
    return False
