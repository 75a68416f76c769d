"""From the level frame into the camera's: people, furniture and ground of a finished stage."""

from __future__ import annotations

import numpy as np
import roma
import torch

from crowdmesh.people import People
from crowdmesh.synth.stage import Prop
from crowdmesh.synth.staging.crowd import Crowd
from crowdmesh.synth.staging.figures import GRID_M
from crowdmesh.synth.staging.floor import Floor
from crowdmesh.synth.staging.supports import BOX_FACES, Box
from crowdmesh.synth.staging.viewpoint import Viewpoint

_FARTHEST_GROUND_M = 200.0


def people_in_camera(crowd: Crowd, floor: Floor) -> tuple[People, tuple[str, ...], tuple[str, ...]]:
    """The people in their original order, their pose families and what carries them."""
    count = len(crowd)
    found = {member.person: (placed, member) for placed in floor.placed for member in placed.unit.members}
    in_order = [found[k] for k in range(count)]
    rotation = floor.viewpoint.rotation
    pose = np.stack([member.figure.pose for _, member in in_order])
    turns = np.stack([rotation @ placed.turn for placed, _ in in_order])
    roots = torch.from_numpy(turns) @ roma.rotvec_to_rotmat(torch.from_numpy(pose[:, 0]))
    pose[:, 0] = roma.rotmat_to_rotvec(roots).numpy()

    def in_camera(own: list[np.ndarray]) -> np.ndarray:
        level = [placed.to_level(points) for (placed, _), points in zip(in_order, own, strict=True)]
        return _on_grid(floor.viewpoint.to_camera(np.stack(level)))

    joints = in_camera([member.figure.joints_m + member.shift_m for _, member in in_order])
    rest_pelvis = np.stack([member.figure.rest_pelvis_m for _, member in in_order])
    people = People(
        body="anny",
        translation_m=_on_grid(joints[:, 0] - rest_pelvis),
        stature_m=crowd.stature_m,
        pose=np.round(pose, 7),
        shape=crowd.shape,
        vertices_m=in_camera([member.vertices_m for _, member in in_order]).astype(np.float32),
        joints_m=joints.astype(np.float32),
        age_years=crowd.age_years,
        male_probability=crowd.male,
    )
    supports = tuple(_support(floor, placed.spot.x, placed.spot.z, member.support) for placed, member in in_order)
    return people, tuple(member.figure.family for _, member in in_order), supports


def _support(floor: Floor, x: float, z: float, support: str) -> str:
    """What carries somebody; who stands on the ground where a step or bench is, stands on that."""
    if support != "ground":
        return support
    under = [(-b.low[1], kind) for kind, b in floor.blocks if b.low[0] < x < b.high[0] and b.low[2] < z < b.high[2]]
    return max(under)[1] if under else "ground"


def props_in_camera(floor: Floor) -> tuple[Prop, ...]:
    """Furniture and steps as meshes in the camera frame."""
    props = []
    for placed in floor.placed:
        for kind, boxes in placed.unit.furniture:
            corners = placed.to_level(np.concatenate([box.corners() for box in boxes]))
            props.append(_prop(kind, corners, len(boxes), floor.viewpoint))
    for kind, box in floor.blocks:
        props.append(_prop(kind, box.corners(), 1, floor.viewpoint))
    return tuple(props)


def _prop(kind: str, corners_level: np.ndarray, boxes: int, viewpoint: Viewpoint) -> Prop:
    faces = np.concatenate([BOX_FACES + 8 * i for i in range(boxes)])
    return Prop(kind, _on_grid(viewpoint.to_camera(corners_level)), faces)


def sees_ground(floor: Floor) -> bool:
    """Whether a viewing ray through the picture's border meets the ground before a wall or the horizon's haze."""
    viewpoint = floor.viewpoint
    walls = [box for kind, box in floor.blocks if kind == "wall"]
    width, height = viewpoint.camera.width, viewpoint.camera.height
    for column in np.linspace(0.5, width - 0.5, 9):
        for row in (0.5, height - 0.5):
            ray = viewpoint.direction(float(column), row)
            if ray[1] <= 0.0:
                continue
            ground = viewpoint.height_m / ray[1] * ray
            if ground[2] < _FARTHEST_GROUND_M and not any(_before(wall, ground) for wall in walls):
                return True
    return False


def _before(wall: Box, ground: np.ndarray) -> bool:
    return bool(wall.low[2] < ground[2])


def _on_grid(points_m: np.ndarray) -> np.ndarray:
    return np.round(points_m / GRID_M) * GRID_M
