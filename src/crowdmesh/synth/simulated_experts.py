"""What upstream estimators would say of a synthetic scene: a first guess per person and a relative depth map."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Int

from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.scene import Scene
from crowdmesh.synth._simulated_depth import simulated_depth
from crowdmesh.synth._simulated_evidence import (
    boxes_of,
    face_width_px,
    simulated_attributes,
    simulated_keypoints,
    simulated_masks,
)
from crowdmesh.synth._simulated_hmr import single_person_guess, wrong_camera
from crowdmesh.synth.expert_errors import ExpertErrors
from crowdmesh.synth.scene import SyntheticScene


@dataclass(frozen=True, eq=False)
class Observation:
    """A synthetic scene as upstream estimators see it.

    Attributes:
        guess: camera and people as estimated: one adult body per detected person, their masks, ages and sexes.
        depth: the relative depth map.
        person: (M,) index of the true person behind each detected one, rising.
        undetected: true people whom nobody detected.
    """

    guess: Scene
    depth: RelativeDepth
    person: Int[np.ndarray, " M"]
    undetected: int


def observation_seed(seed: int, index: int) -> int:
    """Seed of the simulated experts for scene ``index`` of the world with this seed."""
    return seed * 1_000_003 + index


def observe(world: SyntheticScene, errors: ExpertErrors, seed: int) -> Observation:
    """Run the simulated experts on one scene; the same scene, errors and seed give the same observation.

    Each expert draws from its own stream, and as many numbers whatever the errors, so that changing one error leaves
    all other draws as they are. Give every scene a seed of its own, else all have the same errors.

    Args:
        world: a scene with its truth. errors: e.g. ``nominal()``. seed: not negative.

    Returns:
        Scores, image and order of people are those of the truth; boxes enclose the masks that are reported.

    Raises:
        InputError: a negative seed, or a scene without bodies, masks, boxes, keypoints, ages or sexes.
    """
    scene, people = world.scene, world.scene.people
    if seed < 0:
        raise InputError(f"the seed of simulated experts must not be negative, got {seed}")
    if (
        people.pose is None or people.joints_m is None or people.masks is None or people.boxes_px is None
        or people.keypoints_px is None or people.age_years is None or people.male_probability is None
    ):  # fmt: skip
        raise InputError(
            "a scene to observe needs poses, joints, masks, boxes, keypoints, ages and sexes; take it from "
            "crowdmesh.synth.world.World"
        )
    for_camera, for_hmr, for_depth, for_masks, for_faces, for_points = (
        np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(6)
    )
    shown, visible = world.visible_px, world.visible_share
    airborne = np.array([support == "air" for support in world.supports], bool)
    depth = simulated_depth(
        world.depth.values, world.labels, airborne, scene.camera, world.ground, errors.depth, for_depth
    )
    camera = wrong_camera(scene.camera, errors.hmr, for_camera)
    guess = single_person_guess(people, scene.camera, camera, 1.0 - visible, errors.hmr, for_hmr)
    masks = simulated_masks(people.masks.to_dense(), errors.masks, for_masks)
    face_px = face_width_px(people.keypoints_px, people.joints_m[:, 0, 2].astype(float), scene.camera)
    age, male = simulated_attributes(people.age_years, people.male_probability, face_px, errors.attributes, for_faces)
    guess = replace(
        guess,
        masks=Masks.from_dense(masks),
        boxes_px=boxes_of(masks),
        keypoints_px=simulated_keypoints(people.keypoints_px, people.boxes_px, errors.keypoints, for_points),
        age_years=age,
        male_probability=male,
    )
    detected = np.flatnonzero((shown >= errors.masks.fewest_px) & (visible >= errors.masks.fewest_share))
    provenance = {"source": "simulated experts", "seed": seed, "errors": asdict(errors), "scene": scene.provenance}
    return Observation(
        Scene(camera, guess[detected], scene.image, provenance), depth, detected, len(people) - len(detected)
    )
