"""What the losses weigh and how they average: as in the paper, as released, and for the small network."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

from crowdmesh.errors import InputError

TERMS = (
    "pose", "shape", "joints_3d", "joints_2d", "box", "giou", "detection", "depth", "relative_metric", "depth_layers",
    "fov", "map", "map_scale",
)  # fmt: skip
"""Names of the loss terms; weights of :class:`LossConfig` have the same."""

SMPL_SHAPE_WEIGHTS = (2.56, 1.28, 0.64, 0.64, *[0.32] * 6, 10.0)
"""How much the release makes of each of SMPL's betas and of the kid axis (spec facts 2)."""

_STAGES = (
    "1-keypoints", "2-camera", "3-dto", "4-finetune-rh", "4-finetune-3dpw", "4-finetune-panoptic", "4-finetune-hi4d",
)  # fmt: skip

PoseError = Literal["axis_angle", "rotation"]
DepthOf = Literal["pelvis", "translation"]
Average = Literal["visible", "all"]
DetectionAverage = Literal["entries", "people"]
FovReduction = Literal["mean", "sum"]
PairLimit = Literal["below", "up_to"]


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms (0: the term is left out) and how they are measured. The defaults are the paper's.

    Attributes:
        pose: mean absolute error of rotations (see ``pose_error``), Eq. 6's L_pose.
        shape: mean weighted absolute error of shape parameters, L_shape.
        joints_3d: mean absolute error of joints relative to the pelvis, metres, L_j3d.
        joints_2d: mean absolute error of projected joints over ``input_size``, L_j2d.
        box, giou: sum of absolute errors of a box, and one minus the generalised IoU.
        detection: focal loss of confidences, L_det.
        depth: absolute error of the inverse depth, 1/metres, at the true focal length, L_depth.
        relative_metric: Eq. 5, log(1 + error of the depth difference) of pairs within ``pair_limit_m``, L_rm.
        depth_layers: ordering of pairs by depth layers (BEV's loss, as the release fine-tunes on Relative Human).
        fov: Eq. 4, squared error of the vertical field of view, three times as much where it is too large.
        map, map_scale: focal loss of covered cells, and absolute error of the relative size in those, L_map.
        pose_error: ``"axis_angle"`` as released (the paper does not say), or ``"rotation"``: entries of rotation
            matrices, which has no jump at half a turn.
        shape_weights: of the shape parameters, in order; empty: all 1. More than there are parameters are cut.
        depth_of: what of a predicted person is compared with the true pelvis depth in the depth terms: the pelvis, as
            the paper says, or the body model's translation, as released.
        pair_limit_m, pair_limit: Eq. 5's threshold; pairs ``"below"`` it, or ``"up_to"`` and including it as released.
        joints_2d_average: over the visible joints, or over all, with 0 for the others, as released.
        detection_average: over all queries that have a label as released, or over people, as detectors of
            this family do it, which does not let queries without a person drown the others.
        fov_reduction: mean over the images, or sum as released; the sum is over the whole batch of all processes.
        auxiliary: weight of the earlier decoder layers' losses against the last one's.
        cost_detection, cost_box, cost_giou, cost_joints: weights of the matching cost.
        match_joints: the first joints of the layout, on which matching is based.
        denoising_groups: groups of noisy labels as extra queries (0: none); the network needs its denoising layer.
        denoising_box_noise, denoising_body_noise: size of the noise: shares of half a box side; radians and shape
            units.
        denoising_detection: factor on the weight of the noisy queries' detection.
        true_map: the true scale map decides where the network looks in detail (SAT-HMR's first epoch).
    """

    pose: float = 5.0
    shape: float = 3.0
    joints_3d: float = 8.0
    joints_2d: float = 40.0
    box: float = 2.0
    giou: float = 2.0
    detection: float = 1.0
    depth: float = 0.5
    relative_metric: float = 0.5
    depth_layers: float = 0.0
    fov: float = 0.5
    map: float = 4.0
    map_scale: float = 4.0
    pose_error: PoseError = "axis_angle"
    shape_weights: tuple[float, ...] = SMPL_SHAPE_WEIGHTS
    depth_of: DepthOf = "pelvis"
    pair_limit_m: float = 1.0
    pair_limit: PairLimit = "below"
    joints_2d_average: Average = "visible"
    detection_average: DetectionAverage = "entries"
    fov_reduction: FovReduction = "mean"
    auxiliary: float = 1.0
    cost_detection: float = 1.0
    cost_box: float = 1.0
    cost_giou: float = 1.0
    cost_joints: float = 20.0
    match_joints: int = 22
    denoising_groups: int = 0
    denoising_box_noise: float = 0.4
    denoising_body_noise: float = 0.2
    denoising_detection: float = 1.0
    true_map: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise InputError(f"{field.name} of the losses must be a finite number from 0 on, got {value!r}")
        choices = {
            "pose_error": PoseError, "depth_of": DepthOf, "pair_limit": PairLimit, "joints_2d_average": Average,
            "detection_average": DetectionAverage, "fov_reduction": FovReduction,
        }  # fmt: skip
        for name, choice in choices.items():
            if getattr(self, name) not in get_args(choice):
                known = " or ".join(map(repr, get_args(choice)))
                raise InputError(f"{name} of the losses must be {known}, got {getattr(self, name)!r}")
        if not isinstance(self.match_joints, int) or self.match_joints < 1:
            raise InputError(f"match_joints of the losses must be at least 1, got {self.match_joints!r}")
        if not isinstance(self.denoising_groups, int) or not 0 <= self.denoising_groups <= 100:
            raise InputError(f"denoising_groups must lie between 0 and 100, got {self.denoising_groups!r}")
        object.__setattr__(self, "shape_weights", tuple(float(w) for w in self.shape_weights))
        if not all(0 <= w < math.inf for w in self.shape_weights):
            raise InputError("shape_weights of the losses must be finite and not negative")

    @property
    def weights(self) -> dict[str, float]:
        """Weight by term, without those that are 0."""
        return {name: getattr(self, name) for name in TERMS if getattr(self, name) > 0}

    def shape_row(self, betas: int) -> tuple[float, ...]:
        """Weights of this many shape parameters; InputError if there are too few."""
        if self.shape_weights and len(self.shape_weights) < betas:
            raise InputError(
                f"shape_weights of the losses has {len(self.shape_weights)} values, the network predicts {betas} shape "
                "parameters; give one for each, or none"
            )
        return self.shape_weights[:betas] or (1.0,) * betas

    @classmethod
    def paper(cls, stage: str = "3-dto") -> LossConfig:
        """Weights of the paper's supplement 8.3 and the terms its section 4.1 gives to a stage.

        The paper states no weight for GIoU (2, as released) and none of its own for fine-tuning; on Relative Human,
        which has depth layers alone, the loss of BEV that it cites takes the place of Eq. 5.
        """
        full = cls()
        if _known(stage) == "1-keypoints":
            return replace(full, fov=0.0, relative_metric=0.0, denoising_groups=10)
        if stage == "2-camera":
            return replace(full, relative_metric=0.0)
        return replace(full, depth_layers=0.5) if stage == "4-finetune-rh" else full

    @classmethod
    def released(cls, stage: str = "3-dto") -> LossConfig:
        """Weights and averages of the release's configuration files, wherever they differ from the paper.

        One average stays ours: detection of noisy queries (stage 1) is divided by the queries that are learned from.
        The release also counts the room that images with fewer people do not need, and the negatives of images in
        which not everybody is labelled.
        """
        full = cls(
            detection=4.0, depth=0.0, depth_of="translation", pair_limit="up_to", joints_2d_average="all",
            fov_reduction="sum",
        )  # fmt: skip
        tuned = replace(full, detection=2.0, pose=2.0, shape=2.0, joints_3d=10.0, map=2.0, map_scale=2.0)
        if _known(stage) == "1-keypoints":
            return replace(full, depth=0.5, fov=0.0, relative_metric=0.0, denoising_groups=10, denoising_detection=0.1)
        if stage == "2-camera":
            return replace(full, relative_metric=0.0)
        if stage == "4-finetune-hi4d":
            return replace(tuned, shape=0.0, fov=1.0)
        if stage == "4-finetune-rh":
            return replace(
                tuned, pose=0.0, shape=0.0, joints_3d=0.0, joints_2d=10.0, box=0.0, giou=0.0, relative_metric=0.0,
                depth_layers=0.5, fov=0.0, map=0.0, map_scale=0.0,
            )  # fmt: skip
        return full if stage == "3-dto" else tuned

    @classmethod
    def tiny(cls) -> LossConfig:
        """For the small network, which learns from nothing: stronger detection, depth and camera, rotations without a
        jump, every shape parameter alike, few noisy groups. The scale map weighs most and the true one chooses the
        tokens: until the network sees where people are, it can learn nothing else of them."""
        return cls(
            detection=2.0, detection_average="people", depth=5.0, fov=5.0, relative_metric=1.0, pose_error="rotation",
            shape_weights=(), denoising_groups=2, map=200.0, map_scale=20.0, true_map=True,
        )  # fmt: skip


def _known(stage: str) -> str:
    if stage not in _STAGES:
        raise InputError(f"unknown training stage {stage!r}; use one of {', '.join(_STAGES)}")
    return stage
