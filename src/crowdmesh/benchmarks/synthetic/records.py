"""What one method made of one synthetic scene, beside the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.benchmarks.synthetic.methods import Method
from crowdmesh.body import load_body
from crowdmesh.dto import Placement, place
from crowdmesh.scene import Scene
from crowdmesh.synth.scene import SyntheticScene
from crowdmesh.synth.simulated_experts import Observation


@dataclass(frozen=True, eq=False)
class SceneRecord:
    """One method on one scene under one setting of the simulated experts. M people were detected, U were not.

    Attributes:
        method, setting, world: names. seed, index: which scene.
        pelvis_m, true_pelvis_m: (M, 3) camera frame. stature_m, true_stature_m: (M,).
        log_std: (M,) relative standard deviation of depth that the method reports; NaN where it reports none.
        age_years: (M,) true ages.
        undetected_m: (U, 3) true pelvises of the people nobody detected; undetected_age_years: (U,).
        focal_ratio: focal length believed over the true one; fov, true_fov: vertical fields of view, radians.
        accepted: whether the method accepts its own answer.
    """

    method: str
    setting: str
    world: str
    seed: int
    index: int
    pelvis_m: Float[np.ndarray, "M 3"]
    true_pelvis_m: Float[np.ndarray, "M 3"]
    stature_m: Float[np.ndarray, " M"]
    true_stature_m: Float[np.ndarray, " M"]
    log_std: Float[np.ndarray, " M"]
    age_years: Float[np.ndarray, " M"]
    undetected_m: Float[np.ndarray, "U 3"]
    undetected_age_years: Float[np.ndarray, " U"]
    focal_ratio: float
    fov: float
    true_fov: float
    accepted: bool

    @property
    def people(self) -> int:
        """Everybody in the scene."""
        return len(self.pelvis_m) + len(self.undetected_m)

    def inside(self, deviations: float, focal_std: float | None = None) -> Bool[np.ndarray, " M"]:
        """(M,) whether the truth lies within so many standard deviations, in the logarithm of depth.

        With ``focal_std`` as if the focal length had been known (see :func:`scores.coverage_percent`).
        """
        depth, std = np.maximum(self.pelvis_m[:, 2], 1e-3), self.log_std
        if focal_std is not None:
            depth, std = depth / self.focal_ratio, np.sqrt(np.maximum(std**2 - focal_std**2, 0.0))
        return np.abs(np.log(depth / self.true_pelvis_m[:, 2])) <= deviations * std


def apply(method: Method, seen: Observation) -> tuple[Scene, Placement | None]:
    """The method's answer: the placed scene and, unless it is the first guess, why."""
    if method.config is None:
        return seen.guess, None
    return place(seen.guess, seen.depth, method.config)


def record(
    method: Method, setting: str, world_name: str, seed: int, index: int, world: SyntheticScene, seen: Observation,
    answer: tuple[Scene, Placement | None],
) -> SceneRecord:  # fmt: skip
    """Truth and answer of one scene side by side."""
    scene, placement = answer
    truth, found = world.scene.people, scene.people
    assert truth.joints_m is not None and truth.age_years is not None and found.joints_m is not None
    pelvis = load_body("anny").pelvis
    true_pelvis = truth.joints_m[:, pelvis].astype(float)
    lost = np.setdiff1d(np.arange(len(truth)), seen.person)
    if placement is None:
        log_std = np.full(len(found), np.nan)
    else:
        log_std = placement.depth_std_m / np.maximum(placement.initial_depth_m * placement.depth_ratio, 1e-6)
    return SceneRecord(
        method=method.name, setting=setting, world=world_name, seed=seed, index=index,
        pelvis_m=found.joints_m[:, pelvis].astype(float), true_pelvis_m=true_pelvis[seen.person],
        stature_m=found.stature_m, true_stature_m=truth.stature_m[seen.person], log_std=log_std,
        age_years=truth.age_years[seen.person],
        undetected_m=true_pelvis[lost], undetected_age_years=truth.age_years[lost],
        focal_ratio=scene.camera.fy / world.scene.camera.fy,
        fov=scene.camera.vertical_fov, true_fov=world.scene.camera.vertical_fov,
        accepted=placement is None or placement.accepted,
    )  # fmt: skip
