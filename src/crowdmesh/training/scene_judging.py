"""Scenes of any method against scenes of known truth, by the figures that training validates with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from crowdmesh.body import body_of, pose_people
from crowdmesh.body.base import BodyOutput
from crowdmesh.body.keypoints import LAYOUTS
from crowdmesh.errors import InputError
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.training.judging import Judged, KnownPeople, SeenPeople, judge_image

_NEAREST_M = 0.05  # points nearer than this to the camera's plane have no place in the image


def judge_scenes(
    predicted: Sequence[Scene],
    truth: Sequence[Scene],
    counted: Sequence[Bool[np.ndarray, " _"]] | None = None,
    layout: str = "body22",
    everybody: bool = True,
) -> Judged:
    """Judge the scenes of a method, one per image, against the true ones; exact over any split of the images.

    Args:
        predicted, truth: of the same images in the same order; bodies of any kind that has the layout's points.
        counted: per image, which true people count; the others (hidden ones) are neither missed nor invented.
            By default everybody.
        layout: points that are compared.
        everybody: whether the truth knows everybody in the images, so that other people are invented.

    Raises:
        InputError: other numbers of scenes, images of other sizes, or bodies without pose and shape.
    """
    if len(predicted) != len(truth) or (counted is not None and len(counted) != len(truth)):
        raise InputError(f"{len(predicted)} predicted scenes for {len(truth)} true ones; give one per image, in order")
    parts = []
    for i, (scene, true) in enumerate(zip(predicted, truth, strict=True)):
        sizes = [(s.camera.width, s.camera.height) for s in (scene, true)]
        if sizes[0] != sizes[1]:
            raise InputError(f"scene {i} is predicted of a {sizes[0]} image, and its truth is of {sizes[1]}")
        known = known_of_scene(true, layout, None if counted is None else counted[i], everybody)
        parts.append(judge_image(seen_of_scene(scene, layout), known))
    return Judged.merged(parts)


def root_of_layout(layout: str) -> tuple[int, ...]:
    """Index of the pelvis among a layout's points, or of both hips where it has none."""
    names = LAYOUTS[layout]
    return tuple(names.index(n) for n in (("pelvis",) if "pelvis" in names else ("left_hip", "right_hip")))


def seen_of_scene(scene: Scene, layout: str) -> SeenPeople:
    """The people of a scene as a method's prediction; pixels of the scene's image."""
    joints = _points(scene.people, layout)
    pixels, _ = _projected(scene, joints)
    depth = joints[:, list(root_of_layout(layout)), 2].mean(1)
    return SeenPeople(joints, pixels, depth, scene.people.stature_m, scene.camera.vertical_fov)


def known_of_scene(
    scene: Scene, layout: str, counted: Bool[np.ndarray, " K"] | None = None, everybody: bool = True
) -> KnownPeople:
    """The people of a scene as the truth; their points inside the image are those by which they can be found."""
    people = scene.people
    count = len(people)
    joints = _points(people, layout)
    pixels, inside = _projected(scene, joints)
    root = root_of_layout(layout)
    return KnownPeople(
        joints_m=joints,
        joints_m_known=np.ones(joints.shape[:2], bool),
        joints_px=pixels,
        joints_px_known=inside,
        depth_m=joints[:, list(root), 2].mean(1),
        stature_m=people.stature_m,
        age_years=np.full(count, np.nan) if people.age_years is None else people.age_years,
        depth_layers=np.full(count, -1, np.int64),
        root=root,
        vertical_fov=scene.camera.vertical_fov,
        everybody=everybody,
        counted=np.ones(count, bool) if counted is None else np.asarray(counted, bool),
    )


def _points(people: People, layout: str) -> Float[np.ndarray, "K P 3"]:
    """The layout's points in the camera frame, metres, float64."""
    if not len(people):
        return np.zeros((0, len(LAYOUTS[layout]), 3))
    body = body_of(people)
    posed = people if people.vertices_m is not None and people.joints_m is not None else pose_people(people, body)
    assert posed.joints_m is not None and posed.vertices_m is not None
    output = BodyOutput(torch.from_numpy(posed.joints_m), torch.from_numpy(posed.vertices_m))
    return body.keypoints(output, layout).numpy().astype(np.float64)


def _projected(scene: Scene, joints: np.ndarray) -> tuple[Float[np.ndarray, "K P 2"], Bool[np.ndarray, "K P"]]:
    """Pixels of points, and which of them are in the image; those behind the camera lie far outside."""
    front = joints[..., 2] > _NEAREST_M
    size = np.array((scene.camera.width, scene.camera.height))
    pixels = scene.camera.project(np.where(front[..., None], joints, (0.0, 0.0, 1.0)))
    pixels = np.where(front[..., None], pixels, -10.0 * size)
    return pixels, front & ((pixels >= 0) & (pixels < size)).all(-1)
