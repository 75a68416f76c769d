"""The labelled people of one image as points of its own camera frame: posed once, then seen by any view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int

from crowdmesh.body import RESOLUTIONS, load_body
from crowdmesh.body.keypoints import LAYOUTS
from crowdmesh.errors import InputError
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.training.homography import MIRROR, NEAR_M, View
from crowdmesh.training.sample import LabelledPeople, TrainingSample
from crowdmesh.training.smpl_bodies import smpl_body

BODY_POINTS = 22
"""The first points of every layout that are no hands: somebody of whom none is visible is not there."""

LEAST_POINTS = 4
"""Fewer visible points than this are nobody (spec facts 3)."""

_NEUTRAL = "neutral"
_LEFT_RIGHT = (("left_", "right_"), ("right_", "left_"))


@dataclass(frozen=True, eq=False)
class PlacedPeople:
    """K people in the photograph's camera frame, metres; points in the order of the network's keypoint layout.

    Attributes:
        points_m: (K, P, 3). known_m: (K, P) whether a point's place in space is labelled.
        points_px: (K, P, 2) pixels of the photograph. known_px: (K, P).
        pelvis_m: (K, 3). rotations: (K, J, 3, 3) relative to the parent, all joints of the body.
        betas: (K, S) as the network counts them. rest_root_m: (K, 3) unposed root of the network's body with them.
        surface_m: (K, V, 3); ``None``: these people are points only, as are the two before.
        faces: (F, 3) of the surface.
        edge_m: an upper bound of the length of the surface's edges.
    """

    points_m: Float[np.ndarray, "K P 3"]
    known_m: Bool[np.ndarray, "K P"]
    points_px: Float[np.ndarray, "K P 2"]
    known_px: Bool[np.ndarray, "K P"]
    pelvis_m: Float[np.ndarray, "K 3"]
    rotations: Float[np.ndarray, "K J 3 3"]
    betas: Float[np.ndarray, "K S"]
    rest_root_m: Float[np.ndarray, "K 3"]
    surface_m: Float[np.ndarray, "K V 3"] | None
    faces: Int[np.ndarray, "F 3"]
    edge_m: float

    def __len__(self) -> int:
        return len(self.points_m)


@dataclass(frozen=True, eq=False)
class SeenPeople:
    """The same people as a view shows them; left and right exchanged where it is a mirror image.

    Attributes:
        points_m, known_m: in the input's camera frame.
        points_px: (K, P, 2) pixels of the input, finite. visible: (K, P) labelled and inside the image.
        boxes_px: (K, 4) left, top, right, bottom of the label box, inside the image.
        present: (K,) whether enough of the person is visible to learn from them.
        partly: (K,) whether anything of the person is in the image, be it too little to learn from.
    """

    points_m: Float[np.ndarray, "K P 3"]
    known_m: Bool[np.ndarray, "K P"]
    points_px: Float[np.ndarray, "K P 2"]
    visible: Bool[np.ndarray, "K P"]
    boxes_px: Float[np.ndarray, "K 4"]
    present: Bool[np.ndarray, " K"]
    partly: Bool[np.ndarray, " K"]


def place(sample: TrainingSample, config: MAHMRConfig) -> PlacedPeople:
    """Pose the bodies of a sample, or sort its points into the network's layout.

    Raises:
        InputError: the labels are bodies of another kind than the network's, or of another number of joints.
        AssetError: a body's licensed files are missing.
    """
    if sample.people.body is None:
        return _points_only(sample.people, config)
    _check_body(sample, config)
    assert sample.intrinsics_px is not None
    return _bodies(sample.people, sample.intrinsics_px, config)


def _check_body(sample: TrainingSample, config: MAHMRConfig) -> None:
    people = sample.people
    assert people.body is not None and people.pose is not None
    same = people.body == config.body or {people.body, config.body} <= set(RESOLUTIONS)
    if not same:
        raise InputError(
            f"{sample.key} is labelled with body {people.body!r}, the network speaks of {config.body!r}; choose a "
            f"network for {people.body!r} or other data"
        )
    joints = len(load_body(config.body).joint_names)
    if people.pose.shape[1] != joints:
        raise InputError(
            f"{sample.key} has poses of {people.pose.shape[1]} joints; body {config.body!r} has {joints} joints"
        )


@torch.no_grad()
def _bodies(people: LabelledPeople, intrinsics_px: np.ndarray, config: MAHMRConfig) -> PlacedPeople:
    assert people.pose is not None and people.betas is not None and people.translation_m is not None
    network_body = load_body(config.body)
    count, layout = len(people), LAYOUTS[config.keypoint_layout]
    points = np.zeros((count, len(layout), 3))
    surface = np.zeros((count, network_body.num_vertices, 3))
    pelvis, rest_root = np.zeros((count, 3)), np.zeros((count, 3))
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(people.pose).flatten(0, 1)).unflatten(0, people.pose.shape[:2])
    genders = np.array(people.genders or (_NEUTRAL,) * count, object)
    for gender in sorted(set(genders)):
        body = network_body if gender == _NEUTRAL else smpl_body(gender)
        who = np.flatnonzero(genders == gender)
        kind = body.weights.dtype
        shape = torch.from_numpy(padded(people.betas[who], len(body.shape_params), strict=gender == _NEUTRAL)).to(kind)
        # Posed in place and moved in double precision.
        output = body(shape, rotations[who].to(kind), torch.zeros(len(who), 3, dtype=kind))
        assert output.vertices is not None and body.pelvis is not None
        there = people.translation_m[who, None]
        points[who] = body.keypoints(output, config.keypoint_layout).double().numpy() + there
        surface[who] = output.vertices.double().numpy() + there
        rest_root[who] = output.joints[:, body.pelvis].double().numpy()
        pelvis[who] = rest_root[who] + there[:, 0]
    betas = padded(people.betas, config.num_betas)
    if set(genders) - {_NEUTRAL} or np.any(people.betas[:, config.num_betas :]):
        # The network's own body is another one than the label's; its root is put where the labelled one is.
        shape = torch.from_numpy(padded(betas, len(network_body.shape_params))).to(network_body.weights.dtype)
        rest_root = network_body.rest_joints(shape)[:, network_body.pelvis or 0].double().numpy()
    projected = points @ intrinsics_px.T
    in_front = points[..., 2] > NEAR_M
    return PlacedPeople(
        points_m=points,
        known_m=np.ones(points.shape[:2], bool),
        points_px=projected[..., :2] / np.maximum(projected[..., 2:], NEAR_M),
        known_px=in_front,
        pelvis_m=pelvis,
        rotations=rotations.numpy(),
        betas=betas,
        rest_root_m=rest_root,
        surface_m=surface,
        faces=network_body.faces.numpy(),
        edge_m=_longest_edge(config.body),
    )


def _points_only(people: LabelledPeople, config: MAHMRConfig) -> PlacedPeople:
    names = LAYOUTS[config.keypoint_layout]
    count, joints = len(people), len(load_body(config.body).joint_names)
    pixels, metres = np.zeros((count, len(names), 3)), np.zeros((count, len(names), 4))
    pelvis = np.zeros((count, 3))
    for given, name in enumerate(people.point_names):
        if name in names:
            at = names.index(name)
            if people.keypoints_px is not None:
                pixels[:, at] = people.keypoints_px[:, given]
            if people.joints_m is not None:
                metres[:, at] = people.joints_m[:, given]
        if name == "pelvis" and people.joints_m is not None:
            pelvis = np.where(people.joints_m[:, given, 3:] > 0, people.joints_m[:, given, :3], 0.0)
    return PlacedPeople(
        points_m=metres[..., :3],
        known_m=metres[..., 3] > 0,
        points_px=pixels[..., :2],
        known_px=pixels[..., 2] > 0,
        pelvis_m=pelvis,
        rotations=np.broadcast_to(np.eye(3), (count, joints, 3, 3)),
        betas=np.zeros((count, config.num_betas)),
        rest_root_m=np.zeros((count, 3)),
        surface_m=None,
        faces=np.zeros((0, 3), np.int64),
        edge_m=0.0,
    )


def padded(betas: Float[np.ndarray, "K S"], width: int, strict: bool = False) -> Float[np.ndarray, "K S2"]:
    """Shape parameters cut or filled with zeros to ``width``.

    Raises:
        InputError: ``strict`` and one that is not 0 would be cut off.
    """
    if strict and np.any(betas[:, width:]):
        raise InputError(
            f"labels have {betas.shape[1]} shape parameters, the body has {width}; for SMPL's eleventh put AGORA's "
            "smpl_kid_template.npy beside the model file"
        )
    fitted = np.zeros((len(betas), width))
    fitted[:, : betas.shape[1]] = betas[:, :width]
    return fitted


def see(people: PlacedPeople, view: View, layout: str) -> SeenPeople:
    """What a view shows of people."""
    order = mirrored_order(LAYOUTS[layout]) if view.mirrored else np.arange(len(LAYOUTS[layout]))
    moved, known_m, known_px = view.move(people.points_m[:, order]), people.known_m[:, order], people.known_px[:, order]
    if people.surface_m is not None:
        pixels, in_front = view.project(moved), moved[..., 2] > NEAR_M
    else:
        pixels, in_front = view.map(people.points_px[:, order]), known_px
    in_front = in_front & np.isfinite(pixels).all(-1)
    pixels = np.where(in_front[..., None], pixels, 0.0)
    visible = in_front & view.inside(pixels)
    needed = np.clip(in_front.sum(1), 1, LEAST_POINTS) if people.surface_m is None else LEAST_POINTS
    present = (visible.sum(1) >= needed) & visible[:, :BODY_POINTS].any(1)
    partly = np.asarray(visible.any(1))
    if people.surface_m is not None and not partly.all():
        surface = view.move(people.surface_m[~partly])
        partly[~partly] = (view.inside(view.project(surface)) & (surface[..., 2] > NEAR_M)).any(1)
    return SeenPeople(moved, known_m, pixels, visible, label_boxes(pixels, in_front, view.size), present, partly)


def label_boxes(
    points_px: Float[np.ndarray, "K P 2"], known: Bool[np.ndarray, "K P"], size: tuple[int, int]
) -> Float[np.ndarray, "K 4"]:
    """Left, top, right, bottom of the points, also those outside the image, 1.2 times as large, cut to the image."""
    low = np.where(known[..., None], points_px, np.inf).min(1, initial=np.inf)
    high = np.where(known[..., None], points_px, -np.inf).max(1, initial=-np.inf)
    nobody = ~known.any(1)
    low[nobody] = high[nobody] = 0.0
    grown = 0.1 * (high - low)
    most = np.array((size[1], size[0]), float)
    return np.concatenate((np.clip(low - grown, 0, most), np.clip(high + grown, 0, most)), 1)


def mirrored_rotations(
    rotations: Float[np.ndarray, "K J 3 3"], joint_names: tuple[str, ...]
) -> Float[np.ndarray, "K J 3 3"]:
    """Rotations relative to the parent of the mirror image of bodies, but for the mirror in front of the root."""
    return MIRROR @ rotations[:, mirrored_order(joint_names)] @ MIRROR


@lru_cache(maxsize=16)
def mirrored_order(names: tuple[str, ...]) -> Int[np.ndarray, " P"]:
    """For each name the index of its counterpart: ``left_hip`` and ``right_hip``, ``foot.L`` and ``foot.R``."""
    index = {name: i for i, name in enumerate(names)}
    return np.array([index[_counterpart(name)] for name in names])


def _counterpart(name: str) -> str:
    for word, other in _LEFT_RIGHT:
        if name.startswith(word):
            return other + name[len(word) :]
    if name.endswith((".L", ".R")):
        return name[:-1] + ("R" if name.endswith("L") else "L")
    return name


@lru_cache(maxsize=4)
def _longest_edge(name: str) -> float:
    """Twice the longest edge at rest, metres: what shapes and poses in data do not exceed."""
    body = load_body(name)
    corners = body.rest(body.default_shape(1))[0][0][body.faces]
    return 2 * float((corners - corners[:, [1, 2, 0]]).norm(dim=-1).max())
