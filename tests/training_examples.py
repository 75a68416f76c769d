"""Examples for the training of small networks: standing Anny people before a camera, labels made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import roma
import torch
from torch import Tensor

from crowdmesh.body import load_body
from crowdmesh.mahmr import MAHMRConfig
from crowdmesh.mahmr.model import all_joints
from crowdmesh.training.targets import Example, Targets

SIZE = 112
FOV = math.radians(50.0)
CONFIG = MAHMRConfig.tiny(SIZE)
POINTS = 22


def example(people: int, seed: int = 0, config: MAHMRConfig = CONFIG, **changes) -> Example:
    """An image of noise with people whose labels fit each other; ``changes`` replace fields of the labels."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    size, joints, body = config.input_size, len(config.posed_joints), load_body(config.body)
    focal = size / (2 * math.tan(FOV / 2))
    turns = roma.rotvec_to_rotmat(0.3 * torch.randn(people, joints, 3, generator=generator))
    upright = torch.from_numpy(body.facing_camera).float()
    turns[:, 0] = turns[:, 0] @ upright
    betas = uniform(0.3, 0.7, people, config.num_betas)
    places = torch.stack((uniform(-1, 1, people), uniform(-0.5, 0.5, people), uniform(4, 5.5, people)), 1)
    full = all_joints(turns, config.posed_joints, body.joint_names)
    posed = body(betas, full, places)
    points = body.keypoints(posed, config.keypoint_layout)
    pixels = focal * points[..., :2] / points[..., 2:] + size / 2
    low, high = pixels.amin(1) / size, pixels.amax(1) / size
    low, high = low.clamp(0.01, 0.97), high.clamp(0.03, 0.99)
    covered = (torch.rand((size // 28) ** 2, generator=generator) < 0.4).float()
    yes = torch.ones(people, dtype=torch.bool)
    targets = Targets(
        key=f"made-up/{seed}", dataset="made-up", image_size=torch.tensor([float(size), float(size)]),
        boxes=torch.cat(((low + high) / 2, high - low), 1), has_box=yes, joints_2d=pixels,
        joints_2d_mask=((pixels > 0) & (pixels < size)).all(-1), joints_3d=points,
        joints_3d_mask=torch.ones(people, points.shape[1], dtype=torch.bool), rotations=turns, has_pose=yes,
        betas=betas, betas_mask=torch.ones_like(betas, dtype=torch.bool), translations=places,
        depth_m=posed.joints[:, 0, 2], has_depth=yes, depth_layers=torch.arange(people) - 1,
        age_years=torch.full((people,), torch.nan), focal_px=torch.tensor(focal), vertical_fov=torch.tensor(FOV),
        has_camera=torch.tensor(True), everybody=torch.tensor(True),
        scale_map=torch.stack((covered, covered * uniform(0.1, 0.9, len(covered))), 1), has_map=torch.tensor(True),
    )  # fmt: skip
    return Example(torch.randn(3, size, size, generator=generator), replace(targets, **changes))
