"""Labels in the network's own quantities: what a view shows of placed people, as tensors and masks."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crowdmesh.body import load_body
from crowdmesh.body.smpl import KID_AXIS
from crowdmesh.mahmr.config import MULTIPLE_PX, MAHMRConfig
from crowdmesh.mahmr.encoder import CELL_PX
from crowdmesh.training.homography import MIRROR, NEAR_M, View
from crowdmesh.training.placed_people import PlacedPeople, SeenPeople, mirrored_rotations
from crowdmesh.training.sample import TrainingSample
from crowdmesh.training.scale_map import EDGE_PX, scale_map, silhouette_points
from crowdmesh.training.targets import LEAST_DEPTH_M, Targets


def targets_of(
    sample: TrainingSample, placed: PlacedPeople, seen: SeenPeople, view: View, config: MAHMRConfig
) -> Targets:
    """Everything a view teaches of a sample's present people.

    Joints and boxes are the photograph's own, moved with the camera; rotations, shape and translation are those of
    the network's body that stands in the same place. The two differ by millimetres where a body is not quite
    symmetric and the view is a mirror image, or where the labels are of a gendered body.
    """
    who = np.flatnonzero(seen.present)
    rules, people = sample.supervision, sample.people
    bodies = placed.surface_m is not None
    camera = sample.intrinsics_px is not None and rules.camera
    pelvis = view.move(placed.pelvis_m[who])
    known_m = seen.known_m[who] & rules.bodies
    return Targets(
        key=sample.key,
        dataset=sample.dataset,
        image_size=torch.tensor(view.size, dtype=torch.float32),
        boxes=_float(centre_size(seen.boxes_px[who]) / config.input_size),
        has_box=torch.full((len(who),), bodies),
        joints_2d=_float(seen.points_px[who]),
        joints_2d_mask=torch.from_numpy(seen.visible[who]),
        joints_3d=_float(seen.points_m[who]),
        joints_3d_mask=torch.from_numpy(known_m),
        rotations=_float(_rotations(placed, view, config)[who]),
        has_pose=torch.full((len(who),), bodies and rules.bodies),
        betas=_float(placed.betas[who]),
        betas_mask=torch.from_numpy(_betas_mask(len(who), bodies, sample, config)),
        translations=_float(pelvis - placed.rest_root_m[who]),
        depth_m=_float(pelvis[:, 2]),
        has_depth=torch.from_numpy((pelvis[:, 2] >= LEAST_DEPTH_M) & rules.bodies),  # 0 where unknown
        depth_layers=torch.from_numpy(
            np.full(len(who), -1) if people.depth_layers is None else people.depth_layers[who]
        ),
        age_years=_float(np.full(len(who), np.nan) if people.age_years is None else people.age_years[who]),
        focal_px=torch.tensor(view.focal_px if sample.intrinsics_px is not None else 1.0, dtype=torch.float32),
        vertical_fov=torch.tensor(view.vertical_fov, dtype=torch.float32),
        has_camera=torch.tensor(camera),
        everybody=torch.tensor(bool(rules.everybody and (seen.present | ~seen.partly).all() and _placed(placed))),
        scale_map=_float(_map(placed if rules.scale_map else None, seen, view, config)),
        has_map=torch.tensor(bool(bodies and rules.scale_map)),
    )


def centre_size(boxes: Float[np.ndarray, "K 4"]) -> Float[np.ndarray, "K 4"]:
    """Left, top, right, bottom as centre x, y, width, height."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate(((low + high) / 2, high - low), 1)


def padded_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width after padding to multiples of the coarsest token."""
    return -(-size[0] // MULTIPLE_PX) * MULTIPLE_PX, -(-size[1] // MULTIPLE_PX) * MULTIPLE_PX


def _rotations(placed: PlacedPeople, view: View, config: MAHMRConfig) -> Float[np.ndarray, "K J 3 3"]:
    """Of the posed joints, the root's into the view's camera frame."""
    names = load_body(config.body).joint_names
    rotations = np.array(placed.rotations)
    if placed.surface_m is not None:
        if view.mirrored:
            rotations = mirrored_rotations(rotations, names)
        rotations[:, 0] = (view.motion @ MIRROR if view.mirrored else view.motion) @ rotations[:, 0]
    return rotations[:, [names.index(name) for name in config.posed_joints]]


def _placed(placed: PlacedPeople) -> bool:
    """Whether it is known of everybody where in the photograph they are."""
    return placed.surface_m is not None or bool(placed.known_px.any(1).all())


def _betas_mask(count: int, bodies: bool, sample: TrainingSample, config: MAHMRConfig) -> Bool[np.ndarray, "K S"]:
    rules = sample.supervision
    mask = np.full((count, config.num_betas), bodies and rules.bodies and rules.shape)
    if config.body == "smpl":
        mask[:, KID_AXIS:] = bodies and rules.bodies and rules.kid
    return mask


def _map(placed: PlacedPeople | None, seen: SeenPeople, view: View, config: MAHMRConfig) -> Float[np.ndarray, "n 2"]:
    rows, columns = (side // CELL_PX for side in padded_size(view.size))
    who = np.flatnonzero(seen.present)
    if placed is None or placed.surface_m is None or not len(who):
        return np.zeros((rows * columns, 2))
    surface = view.move(placed.surface_m[who])
    pixels, in_front = view.project(surface), surface[..., 2] > NEAR_M
    nearest = surface[..., 2].min(1)
    # An edge along the line of sight looks longest, 45 degrees off the axis sqrt(2) times as long as across.
    longest = placed.edge_m * view.focal_px * np.sqrt(2) / np.maximum(nearest, NEAR_M)
    points = [
        silhouette_points(pixels[i], in_front[i], placed.faces, view.size, bool(longest[i] < EDGE_PX))
        for i in range(len(who))
    ]
    sizes = np.linalg.norm(centre_size(seen.boxes_px[who])[:, 2:], axis=1) / config.input_size
    return scale_map(points, sizes, view.move(placed.pelvis_m[who])[:, 2], (rows, columns))


def _float(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
