"""A small world with exact truth: Anny bodies of mixed ages on level ground, depth and masks by our z-buffer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from jaxtyping import Float

from crowdmesh.body import Anny, load_body, pose_people
from crowdmesh.body.growth import stature_at
from crowdmesh.body.keypoints import COCO17
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.raster import rasterize
from crowdmesh.scene import Scene
from crowdmesh.visual.shading import render

_LEVEL_GROUND_NORMAL = np.array([0.0, 1.0, 0.0])
_PERSONAL_SPACE_M = 0.7
_PLACING_TRIES = 400


@dataclass(frozen=True)
class WorldConfig:
    """What to build. Ages in years, lengths in metres, angles in radians, image size in pixels."""

    ages_years: tuple[float, ...] = (36.0, 33.0, 2.5, 6.0, 11.0, 67.0)
    male: tuple[bool, ...] = (True, False, False, True, False, True)
    seed: int = 2
    stature_spread: float = 1.0
    """Standard deviations by which statures vary about the median of their age and sex; 0: everybody is median."""
    width: int = 1280
    height: int = 720
    vertical_fov: float = math.radians(45.0)
    camera_height_m: float = 1.5
    nearest_m: float = 3.2
    farthest_m: float = 8.0
    wall_m: float = 16.0

    def __post_init__(self) -> None:
        if len(self.ages_years) != len(self.male):
            raise InputError(f"{len(self.ages_years)} ages but {len(self.male)} sexes; give one of each per person")


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """The truth: a scene with image, masks and evidence, and the metric depth of every pixel."""

    scene: Scene
    depth: RelativeDepth


def make_scene(config: WorldConfig | None = None) -> SyntheticScene:
    """Build one scene; the same config gives the same scene."""
    config = config or WorldConfig()
    random = np.random.default_rng(config.seed)
    camera = Camera.from_vertical_fov(config.vertical_fov, config.width, config.height)
    body = load_body("anny")
    people = _stand(_crowd(config, body, random), config, camera, random)
    vertices = torch.from_numpy(people.vertices_m)
    buffer = rasterize(vertices, body.faces, camera.K, (camera.height, camera.width))
    person = buffer.person.numpy()
    masks = Masks.from_dense(person[None] == np.arange(len(people))[:, None, None])
    surroundings = _surroundings_depth(config, camera)
    metres = np.where(person >= 0, buffer.depth.numpy(), surroundings).astype(np.float32)
    image = _paint(people, camera, surroundings)
    people = _with_evidence(people, masks, body, camera)
    provenance = {"source": "synthetic world", "seed": config.seed}
    return SyntheticScene(Scene(camera, people, image, provenance), RelativeDepth(metres, "metric"))


def _crowd(config: WorldConfig, body: Anny, random: np.random.Generator) -> People:
    """People standing in relaxed poses at the origin."""
    ages, male = np.array(config.ages_years), np.array(config.male, float)
    count = len(ages)
    shape = body.default_shape(count, ages, male)
    z_score = config.stature_spread * random.standard_normal(count)
    stature = np.where(male > 0.5, stature_at(z_score, ages, True), stature_at(z_score, ages, False))
    shape, _ = body.with_stature(shape, torch.from_numpy(stature).to(shape), ages)
    pose = np.zeros((count, len(body.joint_names), 3))
    joint = {name: i for i, name in enumerate(body.joint_names)}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        # Arms sink from the A-pose towards the body (about the y axis: front); legs take half a step.
        pose[:, joint[f"upperarm01.{side}"], 1] = sign * random.uniform(0.5, 0.75, count)
        pose[:, joint[f"upperarm01.{side}"], 0] = random.uniform(-0.15, 0.25, count)
        pose[:, joint[f"upperleg02.{side}"], 0] = sign * random.uniform(-0.12, 0.12, count)
    yaw = random.uniform(-0.7, 0.7, count)
    turn = roma.rotvec_to_rotmat(torch.from_numpy(np.outer(yaw, _LEVEL_GROUND_NORMAL)))
    root = turn @ torch.from_numpy(body.facing_camera)
    pose[:, 0] = roma.rotmat_to_rotvec(root).numpy()
    people = People(
        body="anny",
        translation_m=np.tile([0.0, 0.0, 5.0], (count, 1)),
        stature_m=body.stature(shape).double().numpy(),
        pose=pose,
        shape=shape.double().numpy(),
        age_years=ages,
        male_probability=male,
    )
    return pose_people(people, body)


def _stand(people: People, config: WorldConfig, camera: Camera, random: np.random.Generator) -> People:
    """Put everybody's feet on the ground, inside the picture and not into each other."""
    assert people.vertices_m is not None and people.joints_m is not None
    lowest = people.vertices_m[..., 1].max(1) - people.translation_m[:, 1]
    half_width = 0.9 * camera.width / (2 * camera.fx)
    places: list[np.ndarray] = []
    for k in range(len(people)):
        for _ in range(_PLACING_TRIES):
            z = random.uniform(config.nearest_m, config.farthest_m)
            place = np.array([random.uniform(-1, 1) * (half_width * z - 0.4), config.camera_height_m - lowest[k], z])
            # Nobody stands in another's body, nor wholly behind somebody nearer.
            apart = all(np.hypot(*(place - other)[[0, 2]]) > _PERSONAL_SPACE_M for other in places)
            clear = all(abs(place[0] / z - other[0] / other[2]) > 0.35 / max(z, other[2]) for other in places)
            if apart and clear:
                break
        else:
            raise InputError(
                f"no room for person {k} between {config.nearest_m} and {config.farthest_m} m; use fewer people"
            )
        places.append(place)
    translation = np.array(places)
    shift = (translation - people.translation_m)[:, None].astype(np.float32)
    return replace(
        people, translation_m=translation, vertices_m=people.vertices_m + shift, joints_m=people.joints_m + shift
    )


def _surroundings_depth(config: WorldConfig, camera: Camera) -> Float[np.ndarray, "H W"]:
    """Depth of level ground and of a wall behind it, at pixel centres."""
    v = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    ground = np.where(v > 1e-6, config.camera_height_m / np.maximum(v, 1e-6), np.inf)
    return np.repeat(np.minimum(ground, config.wall_m)[:, None], camera.width, 1)


def _paint(people: People, camera: Camera, surroundings: np.ndarray) -> np.ndarray:
    """A simple picture: shaded people before a wall, on ground that darkens towards it."""
    nearness = (surroundings.min() / surroundings)[..., None]
    wall = surroundings >= surroundings.max() - 1e-6
    backdrop = np.where(wall[..., None], (226, 230, 235), (150, 146, 138) + 62 * nearness)
    detailed = load_body("anny-hd")
    vertices = pose_people(people, detailed).vertices_m
    assert vertices is not None
    picture = render(vertices, detailed.faces.numpy(), camera.K, (camera.height, camera.width))
    return picture.over(np.rint(backdrop).astype(np.uint8))


def _with_evidence(people: People, masks: Masks, body: Anny, camera: Camera) -> People:
    """What perfect detectors would say: boxes around the visible part, scores, keypoints."""
    dense = masks.to_dense()
    boxes = np.zeros((len(people), 4))
    for k, mask in enumerate(dense):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[k] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert people.joints_m is not None and people.vertices_m is not None
    names = [body.points[name] for name in COCO17]
    points = np.concatenate((people.joints_m, people.vertices_m), 1)[:, names]
    keypoints = np.concatenate((camera.project(points), np.ones((len(people), len(names), 1))), -1)
    return replace(people, masks=masks, boxes_px=boxes, scores=np.ones(len(people)), keypoints_px=keypoints)
