"""Linear blend skinning, written once for every body model that has a skeleton."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
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
            bone = (rest_joints[:, joints] - rest_joints[:, parents])[..., None]
            base = turn[:, slot]
            place = place[:, slot] + (base @ bone)[..., 0]
            turn = base @ rotations[:, joints]
            turns.append(turn)
            places.append(place)
        return torch.cat(turns, 1)[:, self.restore], torch.cat(places, 1)[:, self.restore]


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

    def pose_offsets(self, rotations: Tensor) -> Tensor | float:
        """Corrections (n, V, 3) that a pose adds to the rest surface; none unless a subclass has them."""
        return 0.0

    def forward(self, shape: Tensor, rotations: Tensor, translation: Tensor, vertices: bool = True) -> BodyOutput:
        """Pose bodies (see :class:`crowdmesh.body.BodyModel`)."""
        if not vertices:
            _, joints = self.tree(self.rest_joints(shape), rotations)
            return BodyOutput(joints + translation[:, None], None)
        surface, rest_joints = self.rest(shape)
        turns, places = self.tree(rest_joints, rotations)
        surface = surface + self.pose_offsets(rotations)
        shifts = places - (turns @ rest_joints[..., None])[..., 0]
        transforms = torch.cat((turns, shifts[..., None]), -1).flatten(2)
        # All people in one matrix product: vertices lead, then people.
        blended = (self.weights @ transforms.transpose(0, 1).flatten(1)).unflatten(1, (-1, 3, 4)).transpose(0, 1)
        posed = (blended[..., :3] @ surface[..., None])[..., 0] + blended[..., 3]
        return BodyOutput(places + translation[:, None], posed + translation[:, None])

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
