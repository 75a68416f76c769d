"""Posed people as solid figures that can stand on things and must not sink into each other.

A figure's own frame is level: x right, y down, z away from the camera, metres; unturned it faces -z. Its pelvis is at
x = z = 0 and its lowest vertex at y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

from crowdmesh.body import Anny
from crowdmesh.synth.staging.anatomy import ANGLES, pose_from_angles
from crowdmesh.synth.staging.crowd import Crowd, exact_body
from crowdmesh.synth.staging.poses import sample_angles

GRID_M = 1e-6
"""Geometry is rounded to this grid before anything is decided by it."""

SELF_DEPTH_M = 0.025
"""Hands and forearms deeper than this in their own trunk or thighs are drawn again."""
_REDRAWS = 5
_SEARCH_M = 0.15

_PARTS = {
    "seat": ("root", "pelvis.", "upperleg"),
    "thigh": ("upperleg",),
    "lower leg": ("lowerleg", "foot", "toe"),
    "foot": ("foot", "toe"),
    "trunk": ("root", "pelvis.", "spine", "clavicle", "shoulder01", "neck"),
    "arm": ("upperarm", "lowerarm", "wrist", "finger", "metacarpal"),
    "hand": ("lowerarm", "wrist", "finger", "metacarpal"),
    "head": ("head", "eye", "neck"),
    "solid": ("root", "pelvis.", "spine", "clavicle", "neck", "head", "upperleg"),
}


@cache
def part(name: str) -> Bool[np.ndarray, " V"]:
    """Which vertices belong to a part of the body, by the bone that moves them most."""
    body = exact_body()
    dominant = body.weights.argmax(1).numpy()
    bones = [j for j, bone in enumerate(body.joint_names) if bone.startswith(_PARTS[name])]
    return np.isin(dominant, bones)


@dataclass(frozen=True, eq=False)
class Figure:
    """One posed person in the figure's own frame.

    Attributes:
        family: pose family. pose: axis-angle, the root in the own frame.
        rest_pelvis_m: pelvis joint of the rest pose, which a body's translation counts from.
    """

    family: str
    pose: Float[np.ndarray, "J 3"]
    vertices_m: Float[np.ndarray, "V 3"]
    joints_m: Float[np.ndarray, "J 3"]
    rest_pelvis_m: Float[np.ndarray, " 3"]

    @cached_property
    def normals(self) -> Float[np.ndarray, "V 3"]:
        """Outward unit normals of the vertices."""
        faces = _faces()
        a, b, c = (self.vertices_m[faces[:, i]] for i in range(3))
        across = np.cross(b - a, c - a)
        normals = np.zeros_like(self.vertices_m)
        for i in range(3):
            for axis in range(3):
                normals[:, axis] += np.bincount(faces[:, i], across[:, axis], len(normals))
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)

    @cached_property
    def bounds(self) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
        """Lower and upper corner of the vertices."""
        return self.vertices_m.min(0), self.vertices_m.max(0)

    @cached_property
    def tree(self) -> KDTree:
        """Nearest vertices."""
        return KDTree(self.vertices_m, compact_nodes=False, balanced_tree=False)

    @cached_property
    def self_depth(self) -> float:
        """How deep forearms and hands lie in the person's own trunk, thighs and head, metres."""
        solid = part("solid")
        tree = KDTree(self.vertices_m[solid], compact_nodes=False, balanced_tree=False)
        points = self.vertices_m[part("hand")]
        found = tree.query(points, distance_upper_bound=_SEARCH_M)
        distance, nearest = np.asarray(found[0]), np.asarray(found[1])
        near = np.isfinite(distance)
        surface, normals = self.vertices_m[solid][nearest[near]], self.normals[solid][nearest[near]]
        return float(((surface - points[near]) * normals).sum(1).max(initial=0.0))

    def depth_of(self, points_m: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
        """How deep points lie inside the surface, metres; 0 outside.

        Measured along the normal of the nearest vertex: exact to about a centimetre on this mesh. Points farther than
        15 cm from every vertex count as outside: no body is thicker than twice that without shallower points.
        """
        found = self.tree.query(points_m, distance_upper_bound=_SEARCH_M)
        distance, nearest = np.asarray(found[0]), np.asarray(found[1])
        depth = np.zeros(len(points_m))
        near = np.isfinite(distance)
        nearest = nearest[near]
        depth[near] = ((self.vertices_m[nearest] - points_m[near]) * self.normals[nearest]).sum(1)
        return np.maximum(depth, 0.0)


@cache
def _faces() -> np.ndarray:
    return exact_body().faces.numpy()


@torch.no_grad()
def draw_figures(crowd: Crowd, families: list[str], random: np.random.Generator) -> list[Figure]:
    """Pose everybody in their family; whose arms sink into their own body is drawn again, a few times."""
    figures = _pose(crowd, families, np.arange(len(crowd)), random)
    for _ in range(_REDRAWS):
        again = np.array([k for k, figure in enumerate(figures) if figure.self_depth > SELF_DEPTH_M], int)
        if not len(again):
            break
        for k, figure in zip(again, _pose(crowd, families, again, random), strict=True):
            if figure.self_depth < figures[k].self_depth:
                figures[k] = figure
    return figures


def _pose(crowd: Crowd, families: list[str], people: np.ndarray, random: np.random.Generator) -> list[Figure]:
    body: Anny = exact_body()
    shape = torch.from_numpy(crowd.shape[people])
    chosen = np.array([families[k] for k in people])
    angles = np.zeros((len(people), len(ANGLES)))
    for family in dict.fromkeys(chosen):
        mine = chosen == family
        angles[mine] = sample_angles(str(family), crowd.age_years[people[mine]], random)
    rest = body.rest_joints(shape).numpy()
    pose = np.round(pose_from_angles(angles, rest, body), 7)
    output = body(shape, roma.rotvec_to_rotmat(torch.from_numpy(pose)), torch.zeros(len(people), 3).double())
    assert output.vertices is not None
    vertices, joints = output.vertices.numpy(), output.joints.numpy()
    origin = joints[:, :1].copy()
    origin[:, 0, 1] = vertices[..., 1].max(1)
    vertices, joints = (np.round((v - origin) / GRID_M) * GRID_M for v in (vertices, joints))
    return [Figure(families[k], pose[i], vertices[i], joints[i], rest[i, 0]) for i, k in enumerate(people)]


def yaw_matrix(yaw: float) -> Float[np.ndarray, "3 3"]:
    """Turn about the vertical by ``yaw`` radians: whoever faces -z then faces (-sin yaw, 0, -cos yaw)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array(((c, 0.0, s), (0.0, 1.0, 0.0), (-s, 0.0, c)))


def turned(figure: Figure, yaw: float) -> Figure:
    """The same figure turned about the vertical through its pelvis."""
    turn = yaw_matrix(yaw)
    root = torch.from_numpy(turn) @ roma.rotvec_to_rotmat(torch.from_numpy(figure.pose[0]))
    pose = figure.pose.copy()
    pose[0] = np.round(roma.rotmat_to_rotvec(root).numpy(), 7)
    vertices, joints = (np.round(p @ turn.T / GRID_M) * GRID_M for p in (figure.vertices_m, figure.joints_m))
    return Figure(figure.family, pose, vertices, joints, figure.rest_pelvis_m)
