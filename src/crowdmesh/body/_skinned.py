"""Linear blend skinning, written once for every body model that has a skeleton."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crowdmesh.body.base import BodyOutput
from crowdmesh.body.keypoints import layout_names
from crowdmesh.errors import InputError


class KinematicTree(nn.Module):
    """Forward kinematics, one matrix product per tree level instead of one per joint."""

    restore: Tensor

    def __init__(self, parents: tuple[int, ...]) -> None:
        super().__init__()
        level = [0] * len(parents)
        for joint, parent in enumerate(parents):
            if parent >= joint:
                raise InputError(f"joint {joint} comes before its parent {parent}; sort the skeleton from the root")
            level[joint] = 0 if parent < 0 else level[parent] + 1
        levels = [[j for j in range(len(parents)) if level[j] == d] for d in range(max(level) + 1)]
        if len(levels[0]) != 1:
            raise InputError("a skeleton needs exactly one root joint")
        place = {joint: (d, i) for d, joints in enumerate(levels) for i, joint in enumerate(joints)}
        self.parents = parents
        self._depth = len(levels)
        for d, joints in enumerate(levels):
            self._index(f"joints{d}", joints)
            if d:
                self._index(f"parent{d}", [parents[j] for j in joints])
                self._index(f"slot{d}", [place[parents[j]][1] for j in joints])
        order = [joint for joints in levels for joint in joints]
        self._index("restore", sorted(range(len(order)), key=order.__getitem__))

    def _index(self, name: str, values: list[int]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.long), persistent=False)

    def forward(
        self, rest_joints: Float[Tensor, "n J 3"], rotations: Float[Tensor, "n J 3 3"]
    ) -> tuple[Float[Tensor, "n J 3 3"], Float[Tensor, "n J 3"]]:
        """Global rotation and position of every joint, from rotations relative to the parent."""
        turn, place = rotations[:, :1], rest_joints[:, :1]
        turns, places = [turn], [place]
        for d in range(1, self._depth):
            joints, parents, slot = (getattr(self, f"{n}{d}") for n in ("joints", "parent", "slot"))
            bone = (rest_joints.index_select(1, joints) - rest_joints.index_select(1, parents))[..., None]
            base = turn.index_select(1, slot)
            place = place.index_select(1, slot) + (base @ bone)[..., 0]
            turn = base @ rotations.index_select(1, joints)
            turns.append(turn)
            places.append(place)
        return torch.cat(turns, 1).index_select(1, self.restore), torch.cat(places, 1).index_select(1, self.restore)


@dataclass(frozen=True, eq=False)
class _Part:
    """What some named points need of a body: indices of joints and vertices, their weights and skeleton, and where
    each point is among those joints and then vertices."""

    joints: Int[Tensor, " j"]
    vertices: Int[Tensor, " v"]
    weights: Float[Tensor, "v j"]
    tree: KinematicTree
    points: Int[Tensor, " P"]


class SkinnedBody(nn.Module):
    """A mesh that follows a skeleton: subclasses give the rest pose and, if they have any, pose correctives."""

    name: str
    weights: Tensor
    faces: Tensor
    points: dict[str, int]  # named body points: index into joints followed by vertices

    def __init__(self, parents: tuple[int, ...], weights: Float[Tensor, "V J"], faces: Tensor) -> None:
        super().__init__()
        self.tree = KinematicTree(parents)
        self.parents = parents
        self._parts: dict[tuple[tuple[str, ...], torch.device, torch.dtype], _Part] = {}
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("faces", faces, persistent=False)

    @property
    def num_vertices(self) -> int:
        """Number of vertices V."""
        return len(self.weights)

    def rest(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices and joints of the rest pose."""
        raise NotImplementedError

    def rest_joints(self, shape: Tensor) -> Tensor:
        """Joints of the rest pose alone."""
        raise NotImplementedError

    def __call__(self, shape: Tensor, rotations: Tensor, translation: Tensor, vertices: bool = True) -> BodyOutput:
        """Pose bodies (see :class:`crowdmesh.body.BodyModel`)."""
        return super().__call__(shape, rotations, translation, vertices)

    def rest_points(self, shape: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """Some vertices of the rest pose, by their indices, and its joints: as :meth:`rest`, but cheap."""
        raise NotImplementedError

    def pose_offsets(self, rotations: Tensor, vertices: Tensor | None = None) -> Tensor | float:
        """Corrections (n, V, 3) that a pose adds to the rest surface; none unless a subclass has them.

        ``vertices``: indices of those wanted; ``None``: all.
        """
        return 0.0

    def forward(self, shape: Tensor, rotations: Tensor, translation: Tensor, vertices: bool = True) -> BodyOutput:
        """Pose bodies (see :class:`crowdmesh.body.BodyModel`)."""
        if not vertices:
            _, joints = self.tree(self.rest_joints(shape), rotations)
            return BodyOutput(joints + translation[:, None], None)
        surface, rest_joints = self.rest(shape)
        places, posed = self._skin(
            surface + self.pose_offsets(rotations), rest_joints, rotations, self.tree, self.weights
        )
        return BodyOutput(places + translation[:, None], posed + translation[:, None])

    def _skin(
        self, surface: Tensor, rest_joints: Tensor, rotations: Tensor, tree: KinematicTree, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Joints and the surface's points, posed but not moved from the origin."""
        turns, places = tree(rest_joints, rotations)
        shifts = places - (turns @ rest_joints[..., None])[..., 0]
        transforms = torch.cat((turns, shifts[..., None]), -1).flatten(2)
        # All people in one matrix product: vertices lead, then people.
        blended = (weights @ transforms.transpose(0, 1).flatten(1)).unflatten(1, (-1, 3, 4)).transpose(0, 1)
        return places, (blended[..., :3] @ surface[..., None])[..., 0] + blended[..., 3]

    def posed_keypoints(
        self, shape: Tensor, rotations: Tensor, translation: Tensor, names: tuple[str, ...]
    ) -> Float[Tensor, "n P 3"]:
        """Named points of posed bodies (see :class:`crowdmesh.body.BodyModel`)."""
        key = names, self.weights.device, self.weights.dtype
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = self._part(names)
        surface, rest_joints = self.rest_points(shape, part.vertices)
        surface = surface + self.pose_offsets(rotations, part.vertices)
        rest_joints, turns = rest_joints.index_select(1, part.joints), rotations.index_select(1, part.joints)
        posed = torch.cat(self._skin(surface, rest_joints, turns, part.tree, part.weights), 1)
        return posed.index_select(1, part.points) + translation[:, None]

    def _part(self, names: tuple[str, ...]) -> _Part:
        """What must be posed for these points: vertices, the joints that move them, and those joints' ancestors."""
        missing = [name for name in names if name not in self.points]
        if missing:
            raise InputError(f"body {self.name!r} has no point {', '.join(missing)}; it has {', '.join(self.points)}")
        total, index = len(self.parents), [self.points[name] for name in names]
        vertices = sorted({i - total for i in index if i >= total})
        moving = {i for i in index if i < total} | set(self.weights[vertices].nonzero()[:, 1].tolist())
        joints = {0}
        for joint in moving:
            while joint not in joints:
                joints.add(joint)
                joint = self.parents[joint]
        kept = sorted(joints)
        place = {joint: k for k, joint in enumerate(kept)} | {total + v: len(kept) + k for k, v in enumerate(vertices)}
        device = self.weights.device
        return _Part(
            joints=torch.tensor(kept, device=device),
            vertices=torch.tensor(vertices, dtype=torch.int64, device=device),
            weights=self.weights[vertices][:, kept],
            tree=KinematicTree(tuple(place.get(self.parents[joint], -1) for joint in kept)).to(device),
            points=torch.tensor([place[i] for i in index], device=device),
        )

    def keypoints(self, output: BodyOutput, layout: str) -> Float[Tensor, "n P 3"]:
        """Named keypoints of a posed body: joints, and surface vertices where a point has no joint.

        Raises:
            InputError: unknown layout, a point this body lacks, or a body posed without its surface.
        """
        names = layout_names(layout, self.name, self.points)
        if output.vertices is None:
            raise InputError("keypoints need the surface; pose the body with vertices=True")
        everything = torch.cat((output.joints, output.vertices), 1)
        return everything[:, [self.points[name] for name in names]]


def checked_targets(shape: Tensor, target_m: Tensor, age_years: np.ndarray | None) -> np.ndarray:
    """Ages (n,), NaN where unknown, after checking the arguments of ``with_stature``.

    Raises:
        InputError: shapes or targets that are not finite and positive, or arrays of different lengths.
    """
    ages = np.full(len(shape), np.nan) if age_years is None else np.asarray(age_years, float)
    if target_m.shape != (len(shape),) or ages.shape != (len(shape),):
        raise InputError(
            f"{len(shape)} shapes need as many target statures and ages, got {tuple(target_m.shape)} and {ages.shape}"
        )
    if not (torch.isfinite(shape).all() and torch.isfinite(target_m).all() and (target_m > 0).all()):
        raise InputError("shapes must be finite, and target statures finite and positive (metres)")
    return ages
