"""SMPL with AGORA's eleventh shape axis for children, read from the user's own licensed files.

Own implementation of the published formulas: SMPL (Loper et al. 2015), SMIL infant template (Hesse et al. 2018), kid
axis = centred infant template minus adult template (AGORA, Patel et al. 2021). Frame: y up, front towards +z, T-pose.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crowdmesh._files import read_npy
from crowdmesh.body._skinned import SkinnedBody, checked_targets
from crowdmesh.body._smpl_files import read_smpl_arrays
from crowdmesh.body.base import ShapeParameter
from crowdmesh.body.growth import MINOR_AGE_YEARS, median_stature
from crowdmesh.body.keypoints import SMPL45
from crowdmesh.errors import AssetError, FormatError

NUM_BETAS = 10
ADULT_AXIS, KID_AXIS = 0, 10
JOINT_NAMES: tuple[str, ...] = SMPL45[:24]

# Surface vertices that SMPL users agree on for points without a joint.
_SURFACE_POINTS = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583, "left_toe": 3216,
    "left_small_toe": 3226, "left_heel": 3387, "right_toe": 6617, "right_small_toe": 6624, "right_heel": 6787,
    "left_thumb_tip": 2746, "left_index_tip": 2319, "left_middle_tip": 2445, "left_ring_tip": 2556,
    "left_little_tip": 2673, "right_thumb_tip": 6191, "right_index_tip": 5782, "right_middle_tip": 5905,
    "right_ring_tip": 6016, "right_little_tip": 6133,
}  # fmt: skip
_NUM_VERTICES = 6890
_SECANT_STEPS = 8
_LETTERS = {"male": "m", "female": "f", "neutral": "n"}


class SMPL(SkinnedBody):
    """SMPL, with eleven betas when a kid template is at hand (see :class:`crowdmesh.body.BodyModel`)."""

    template: Tensor
    directions: Tensor
    pose_directions: Tensor
    joint_template: Tensor
    joint_directions: Tensor

    name: str = "smpl"
    license: str = "SMPL/SMIL body licences of the Max Planck Society: non-commercial unless you hold another one"
    up: str = "y"
    pelvis: int | None = 0
    joint_names: tuple[str, ...] = JOINT_NAMES
    facing_camera: np.ndarray = np.diag([1.0, -1.0, -1.0])

    def __init__(self, path: Path, kid_template: Path | None = None) -> None:
        arrays = read_smpl_arrays(path)
        if len(arrays["v_template"]) != _NUM_VERTICES:
            raise FormatError(f"{path} has {len(arrays['v_template'])} vertices; an SMPL model has {_NUM_VERTICES}")
        template, directions = arrays["v_template"], arrays["shapedirs"][:, :, :NUM_BETAS]
        if kid_template is not None:
            kid_axis = _kid_direction(kid_template, template)
            directions = np.concatenate((directions, kid_axis[:, :, None]), 2)
        weights = torch.from_numpy(arrays["weights"].astype(np.float32))
        super().__init__(tuple(int(p) for p in arrays["parents"]), weights, torch.from_numpy(arrays["faces"]))
        betas = tuple(ShapeParameter(f"beta{i}", 0.0, -5.0, 5.0) for i in range(NUM_BETAS))
        kid = (ShapeParameter("kid", 0.0, 0.0, 1.0),) if kid_template is not None else ()
        self.shape_params = betas + kid
        self._constant("template", template.reshape(-1))
        self._constant("directions", directions.reshape(-1, len(self.shape_params)).T)
        self._constant("pose_directions", arrays["posedirs"].reshape(_NUM_VERTICES * 3, -1).T)
        self._constant("joint_template", (arrays["J_regressor"] @ template).reshape(-1))
        joint_directions = np.einsum("jv,vcb->bjc", arrays["J_regressor"], directions)
        self._constant("joint_directions", joint_directions.reshape(len(self.shape_params), -1))
        joints = {name: i for i, name in enumerate(JOINT_NAMES)}
        self.points = joints | {name: len(joints) + v for name, v in _SURFACE_POINTS.items()}

    def _constant(self, name: str, value: np.ndarray) -> None:
        value = np.ascontiguousarray(value.astype(np.float32))
        self.register_buffer(name, torch.from_numpy(value), persistent=False)

    @property
    def has_kid_axis(self) -> bool:
        """Whether an infant template was given, so that children can be reached."""
        return len(self.shape_params) > NUM_BETAS

    def default_shape(
        self, n: int, age_years: float | np.ndarray = 30.0, male_probability: float | np.ndarray = 0.5
    ) -> Tensor:
        """The mean shape brought to the median stature: adults along the first beta, minors along the kid axis."""
        age, male = (np.broadcast_to(np.asarray(v, float), n) for v in (age_years, male_probability))
        shape = torch.zeros(n, len(self.shape_params), dtype=self.template.dtype, device=self.template.device)
        target = torch.from_numpy(median_stature(age, male)).to(shape)
        return self.with_stature(shape, target, age)[0]

    def rest(self, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices and joints of the T-pose, y up, metres."""
        surface = torch.addmm(self.template, shape, self.directions)
        return surface.unflatten(1, (-1, 3)), self.rest_joints(shape)

    def rest_points(self, shape: Tensor, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """Some vertices, by their indices, and the joints of the T-pose."""
        template = self.template.unflatten(0, (-1, 3))[vertices].flatten()
        surface = torch.addmm(template, shape, self.directions.unflatten(1, (-1, 3))[:, vertices].flatten(1))
        return surface.unflatten(1, (-1, 3)), self.rest_joints(shape)

    def rest_joints(self, shape: Tensor) -> Tensor:
        """Joints of the T-pose alone."""
        return torch.addmm(self.joint_template, shape, self.joint_directions).unflatten(1, (-1, 3))

    def pose_offsets(self, rotations: Tensor, vertices: Tensor | None = None) -> Tensor:
        """Pose-dependent corrections of the surface, or of some of its vertices (SMPL eq. 9)."""
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        directions = self.pose_directions
        if vertices is not None:
            directions = directions.unflatten(1, (-1, 3))[:, vertices].flatten(1)
        return ((rotations[:, 1:] - identity).flatten(1) @ directions).unflatten(1, (-1, 3))

    def stature(self, shape: Tensor) -> Float[Tensor, " n"]:
        """Height of the T-pose in metres; piecewise linear in the betas."""
        y = torch.addmm(self.template, shape, self.directions)[:, 1::3]
        return y.amax(1) - y.amin(1)

    @torch.no_grad()
    def with_stature(
        self, shape: Tensor, target_m: Float[Tensor, " n"], age_years: np.ndarray | None = None
    ) -> tuple[Tensor, Float[Tensor, " n"]]:
        """Shapes with the wanted stature; see :class:`crowdmesh.body.BodyModel`.

        Adults change along the first beta, minors along the kid axis. People of unknown age change along the first
        beta and, where that runs out towards short statures, along the kid axis.
        """
        age = checked_targets(shape, target_m, age_years)
        minor = torch.from_numpy(age < MINOR_AGE_YEARS).to(shape.device) & self.has_kid_axis
        unknown = torch.from_numpy(np.isnan(age)).to(shape.device) & self.has_kid_axis
        adult = self._move(shape, target_m, ADULT_AXIS)
        if not self.has_kid_axis:
            shape = adult
        else:
            kid = self._move(shape, target_m, KID_AXIS)
            short = unknown & (self.stature(adult) > target_m + 1e-3)
            both = self._move(adult, target_m, KID_AXIS)
            shape = torch.where(minor[:, None], kid, torch.where(short[:, None], both, adult))
        ratio = target_m / self.stature(shape)
        return shape, torch.where((ratio - 1).abs() * target_m < 1e-3, torch.ones_like(ratio), ratio)

    def _move(self, shape: Tensor, target_m: Tensor, axis: int) -> Tensor:
        """Bring the stature to the target along one axis, within its range: secant steps, exact once they settle."""
        low, high = self.shape_params[axis].low, self.shape_params[axis].high
        step = torch.zeros_like(shape)
        step[:, axis] = 0.05
        shape = shape.clone()
        for _ in range(_SECANT_STEPS):
            slope = (self.stature(shape + step) - self.stature(shape - step)) / 0.1
            slope = torch.where(slope.abs() < 1e-6, torch.full_like(slope, torch.inf), slope)
            shape[:, axis] = (shape[:, axis] + (target_m - self.stature(shape)) / slope).clamp(low, high)
        return shape


def _kid_direction(path: Path, template: np.ndarray) -> np.ndarray:
    """From adult template to centred infant template (AGORA's eleventh axis)."""
    infant = read_npy(path, "kid template")
    if infant.shape != template.shape:
        raise FormatError(f"kid template {path} has shape {infant.shape}, expected {template.shape}")
    return infant - infant.mean(0) - template


def find_smpl(path: str | Path | None, folders: list[Path]) -> tuple[Path, Path | None]:
    """The SMPL model file and, if there is one beside it, the kid template.

    Args:
        path: a model file or a folder that holds one; ``None``: look in ``smpl/`` of each asset folder.
        folders: the asset folders.

    Raises:
        AssetError: nothing found; says what to download, where to register and where to put it.
    """
    places = [Path(path)] if path is not None else [folder / "smpl" for folder in folders]
    for place in places:
        model = place if place.is_file() else _neutral_model(place)
        if model is not None:
            kids = sorted(model.parent.glob("*kid_template*.npy"))
            return model, kids[0] if kids else None
    looked = f" {os.pathsep} ".join(map(str, places))
    raise AssetError(
        f"no SMPL model found at {looked}: register at https://smpl.is.tue.mpg.de, download 'SMPL for Python' 1.1.0 "
        "and put its neutral .pkl (any name) there, with AGORA's smpl_kid_template.npy (https://agora.is.tue.mpg.de) "
        "beside it for children; the body anny needs no registration"
    )


def find_smpl_of_gender(gender: str, places: Sequence[Path]) -> Path:
    """The SMPL model file of a gender, told by its name: ``SMPL_FEMALE.pkl``, ``basicmodel_f_lbs_10_207_0_v1.1.0.pkl``.

    Args:
        gender: ``neutral``, ``male`` or ``female``.
        places: folders to look in, in this order.

    Raises:
        AssetError: there is none; says where to get it and where to put it.
    """
    for place in places:
        for path in sorted(place.glob("*")):
            words = re.split(r"[^a-z]+", path.stem.lower())
            if path.suffix.lower() in (".pkl", ".npz") and (gender in words or _LETTERS[gender] in words):
                return path
    looked = f" {os.pathsep} ".join(map(str, places))
    raise AssetError(
        f"no {gender} SMPL model found at {looked}: register at https://smpl.is.tue.mpg.de, download 'SMPL for Python' "
        f"1.1.0 and put its {gender} .pkl there, with '{gender}' in its name"
    )


def _neutral_model(folder: Path) -> Path | None:
    models = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".pkl", ".npz") and "mean_params" not in p.name)
    neutral = [p for p in models if "neutral" in p.name.lower()]
    return (neutral or models or [None])[0]
