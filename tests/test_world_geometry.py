"""The geometry of the synthetic world: who is where, on what, and that nobody stands in another."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from crowdmesh.body import load_body, pose_people
from crowdmesh.errors import InputError
from crowdmesh.raster import rasterize
from crowdmesh.synth.config import PRESETS, WorldConfig
from crowdmesh.synth.stage import Stage
from crowdmesh.synth.staging.compose import draw_stage

BODY = load_body("anny")
JOINT = {name: i for i, name in enumerate(BODY.joint_names)}
FACES = BODY.faces.numpy()


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    """Random stages of up to 12 people from the default world."""
    config = replace(PRESETS["mixed"], people=(2, 12))
    return [draw_stage(config, np.random.default_rng(seed)) for seed in range(30)]


@pytest.fixture(scope="module")
def crowded() -> Stage:
    """Sixty people."""
    return draw_stage(replace(PRESETS["crowd"], people=(60, 60)), np.random.default_rng(4))


def up_and_height(stage: Stage) -> tuple[np.ndarray, float]:
    return stage.ground[:3], stage.ground[3]


def heights(stage: Stage, points: np.ndarray) -> np.ndarray:
    """Height above level ground of camera-frame points."""
    up, offset = up_and_height(stage)
    return points @ up + offset


# Where -------------------------------------------------------------------------------------------------------------


def support_height(stage: Stage, person: int) -> float:
    """Height above ground of what the person stands or sits on, from the props alone."""
    vertices = stage.people.vertices_m[person].astype(float)
    lowest = vertices[heights(stage, vertices).argmin()]
    tops = [0.0]
    for prop in stage.props:
        if prop.kind in ("step", "bench"):
            corners = prop.vertices_m
            origin, axes = corners[0], (corners[[1, 2, 4]] - corners[0])
            share = np.array([(lowest - origin) @ axis / (axis @ axis) for axis in axes])
            if (share[[0, 2]] > 0.0).all() and (share[[0, 2]] < 1.0).all():
                tops.append(heights(stage, corners).max())
    return max(tops)


def test_the_lowest_point_is_on_the_support(stages, crowded):
    checked = set()
    stepped = replace(PRESETS["adults"], supports={"steps": 1.0}, arrangements={"scatter": 1.0})
    benched = replace(PRESETS["adults"], people=(8, 8), supports={}, arrangements={"rows": 1.0})
    more = [draw_stage(config, np.random.default_rng(seed)) for config in (stepped, benched) for seed in range(4, 8)]
    for stage in [*stages, crowded, *more]:
        for k, support in enumerate(stage.supports):
            lowest = heights(stage, stage.people.vertices_m[k].astype(float)).min()
            if support in ("ground", "step", "bench"):
                assert lowest == pytest.approx(support_height(stage, k), abs=0.01)
            elif support == "air":
                assert lowest > 0.05
            elif support == "chair":
                seats = [p for p in stage.props if p.kind == "chair"]
                bones = [i for name, i in JOINT.items() if name.startswith(("root", "pelvis", "upperleg"))]
                seat = stage.people.vertices_m[k][np.isin(BODY.weights.argmax(1), bones)].astype(float)
                low = seat[heights(stage, seat).argmin()]
                nearest = min(np.abs(heights(stage, s.vertices_m[:8]).max() - heights(stage, low)) for s in seats)
                assert nearest < 0.01
                assert lowest > support_height(stage, k) - 0.01
            checked.add(support.split()[0])
    assert {"ground", "chair", "air", "step", "bench"} <= checked


def test_carried_children_touch_their_carriers():
    config = replace(PRESETS["family"], supports={"lap": 1.0, "shoulders": 1.0, "held": 1.0}, people=(5, 7))
    kinds = set()
    for seed in range(12):
        stage = draw_stage(config, np.random.default_rng(seed))
        for k, support in enumerate(stage.supports):
            if " of " not in support:
                continue
            kind, carrier = support.split(" of ")
            child, adult = (stage.people.vertices_m[i].astype(float) for i in (k, int(carrier)))
            gap = np.linalg.norm(child[:, None] - adult[None], axis=-1).min()
            assert gap < 0.05
            assert heights(stage, child).min() > 0.1
            assert stage.people.age_years[k] < 8.0 < stage.people.age_years[int(carrier)]
            kinds.add(kind)
    assert kinds == {"lap", "shoulders", "arms"}


def inside_depth(one: np.ndarray, other: np.ndarray) -> float:
    """Deepest vertex of ``one`` inside the closed mesh ``other``: ray-cast containment, distance to the surface."""
    low, high = other.min(0), other.max(0)
    near = one[((one > low) & (one < high)).all(1)]
    if not len(near):
        return 0.0
    mesh = trimesh.Trimesh(other, FACES, process=False)
    winding = solid_angle(mesh.triangles, near) > 0.5
    if not winding.any():
        return 0.0
    _, distance, _ = trimesh.proximity.closest_point_naive(mesh, near[winding])
    return float(distance.max())


def solid_angle(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Winding number of points in a mesh (Van Oosterom and Strackee 1983)."""
    a, b, c = (triangles[None, :, i] - points[:, None] for i in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    numerator = (a * np.cross(b, c)).sum(-1)
    denominator = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return np.abs(np.arctan2(numerator, denominator).sum(1) / (2 * np.pi))


def test_nobody_stands_in_another(stages, crowded):
    pairs = 0
    for stage in [*stages[:14], replace(crowded, people=crowded.people[:16])]:
        vertices = stage.people.vertices_m.astype(float)
        low, high = vertices.min(1), vertices.max(1)
        for i in range(len(vertices)):
            for j in range(len(vertices)):
                linked = f"of {i}" in stage.supports[j] or f"of {j}" in stage.supports[i]
                if i == j or not ((low[i] < high[j]).all() and (low[j] < high[i]).all()):
                    continue
                pairs += 1
                assert inside_depth(vertices[i, ::3], vertices[j]) < (0.06 if linked else 0.04)
    assert pairs > 10


def test_everybody_is_within_distance_and_within_the_picture(stages, crowded):
    for stage in [*stages, crowded]:
        joints = stage.people.joints_m.astype(float)
        assert (joints[:, 0, 2] >= 1.0).all()
        assert (joints[:, 0, 2] <= 40.0).all()
        assert (stage.people.vertices_m[..., 2] > 0.2).all()
        shown = stage.camera.project(joints[:, [0, JOINT["head"]]])
        inside = ((shown >= 0) & (shown < (stage.camera.width, stage.camera.height))).all(-1).any(1)
        assert inside.all()


def test_few_are_wholly_hidden(stages, crowded):
    hidden = total = 0
    for stage in [*stages, crowded]:
        shown = np.unique(person_picture(stage, stage.people.vertices_m))
        hidden += len(stage.people) - (shown >= 0).sum()
        total += len(stage.people)
    assert hidden <= 0.02 * total


def person_picture(stage: Stage, vertices: np.ndarray) -> np.ndarray:
    camera = stage.camera
    return rasterize(torch.from_numpy(vertices), BODY.faces, camera.K, (camera.height, camera.width)).person.numpy()


def test_stored_parameters_give_the_stored_surface(stages, crowded):
    for stage in [*stages[:6], crowded]:
        people = pose_people(stage.people)
        np.testing.assert_allclose(people.vertices_m, stage.people.vertices_m, atol=1e-4)
        np.testing.assert_allclose(people.joints_m, stage.people.joints_m, atol=1e-4)
        shape = torch.from_numpy(stage.people.shape).float()
        np.testing.assert_allclose(stage.people.stature_m, BODY.stature(shape).numpy(), atol=1e-4)


def test_ground_and_camera_agree(stages):
    config = PRESETS["mixed"]
    for stage in stages:
        up, height = up_and_height(stage)
        assert np.linalg.norm(up) == pytest.approx(1.0, abs=1e-9)
        assert config.camera_height_m[0] <= height <= config.camera_height_m[1]
        assert up[1] < 0
        assert math.radians(20) - 1e-6 <= stage.camera.vertical_fov <= math.radians(100) + 1e-6


def test_crowds_and_small_groups_both_occur():
    # The number is drawn first; lineups of it need no stage.
    from crowdmesh.synth.staging.compose import draw_count

    random = np.random.default_rng(0)
    counts = np.array([draw_count(PRESETS["mixed"], random) for _ in range(2000)])
    assert counts.min() == 1
    assert counts.max() == 60
    assert 0.2 < (counts <= 3).mean() < 0.5
    assert (counts >= 20).mean() > 0.15


# Presets -----------------------------------------------------------------------------------------------------------


def test_occluded_hides_somebody_behind_somebody_nearer():
    for seed in range(5):
        stage = draw_stage(PRESETS["occluded"], np.random.default_rng(seed))
        vertices = stage.people.vertices_m
        picture = person_picture(stage, vertices)
        share = np.array(
            [
                (picture == k).sum() / max((person_picture(stage, vertices[k : k + 1]) >= 0).sum(), 1)
                for k in range(len(vertices))
            ]
        )
        hidden = np.flatnonzero(share < 0.3)
        assert len(hidden)
        k = int(hidden[0])
        assert share[k] > 0.0
        assert (stage.people.joints_m[:, 0, 2] < stage.people.joints_m[k, 0, 2]).any()


def test_jump_has_an_athlete_in_the_air():
    for seed in range(5):
        stage = draw_stage(PRESETS["jump"], np.random.default_rng(seed))
        flying = [k for k, support in enumerate(stage.supports) if support == "air"]
        assert flying
        assert len(flying) < len(stage.people)
        for k in flying:
            assert stage.poses[k] == "jumping"
            assert heights(stage, stage.people.vertices_m[k].astype(float)).min() > 0.07


def test_partial_shows_neither_ground_nor_feet():
    for seed in range(5):
        stage = draw_stage(PRESETS["partial"], np.random.default_rng(seed))
        assert not stage.ground_visible
        wall = next(prop for prop in stage.props if prop.kind == "wall")
        camera = stage.camera
        rows, columns = np.mgrid[0 : camera.height : 8, 0 : camera.width : 8] + 0.5
        rays = camera.unproject(np.stack((columns, rows), -1), np.ones(rows.shape))
        up, height = up_and_height(stage)
        falling = rays @ up < -1e-9
        reach = np.where(falling, -height / np.where(falling, rays @ up, -1.0), np.inf)
        front = wall.vertices_m[:4]
        normal = np.cross(front[1] - front[0], front[2] - front[0])
        wall_reach = (normal @ front[0]) / (rays @ normal)
        assert (wall_reach < reach).all()
        feet = stage.people.joints_m[:, [JOINT["foot.L"], JOINT["foot.R"]]].astype(float)
        shown = camera.project(feet)
        in_front = (feet[..., 2] > 0.05) & ((shown >= 0) & (shown < (camera.width, camera.height))).all(-1)
        assert not in_front.any()


def test_demo_is_the_six_people_on_level_ground():
    stage = draw_stage(PRESETS["demo"], np.random.default_rng(2))
    np.testing.assert_array_equal(stage.people.age_years, [36.0, 33.0, 2.5, 6.0, 11.0, 67.0])
    np.testing.assert_array_equal(stage.people.male_probability, [1, 0, 0, 1, 0, 1])
    assert set(stage.poses) == {"standing"}
    assert set(stage.supports) == {"ground"}
    np.testing.assert_allclose(stage.ground, (0.0, -1.0, 0.0, 1.5), atol=1e-9)
    assert (stage.camera.width, stage.camera.height) == (1280, 720)
    assert stage.camera.vertical_fov == pytest.approx(math.radians(45.0), abs=1e-6)
    depth = stage.people.joints_m[:, 0, 2]
    assert depth.min() >= 3.2
    assert depth.max() <= 8.0


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_to_their_numbers(name):
    config = PRESETS[name]
    for seed in range(3):
        stage = draw_stage(config, np.random.default_rng(100 + seed))
        if config.lineup is None:
            assert config.people[0] <= len(stage.people) <= config.people[1]
        depth = stage.people.joints_m[:, 0, 2]
        assert config.distance_m[0] - 1e-3 <= depth.min()
        assert depth.max() <= config.distance_m[1] + 1e-3
        assert len(stage.poses) == len(stage.supports) == len(stage.people)


# Determinism and refusals ------------------------------------------------------------------------------------------


def digest_of_stage() -> str:
    """Of every number in a stage."""
    digest = hashlib.sha256()
    stage = draw_stage(PRESETS["family"], np.random.default_rng(3))
    p = stage.people
    for values in (p.vertices_m, p.joints_m, p.pose, p.shape, p.translation_m, p.stature_m, stage.ground):
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(repr((stage.camera, stage.poses, stage.supports)).encode())
    return digest.hexdigest()


@pytest.mark.slow
def test_two_processes_draw_the_same_stages():
    code = "import torch; torch.set_num_threads(2); import test_world_geometry as t; print(t.digest_of_stage())"
    path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert other.stdout.strip() == digest_of_stage()


def test_seeds_differ_and_repeat():
    one, again, other = (draw_stage(PRESETS["family"], np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.people.vertices_m, again.people.vertices_m)
    assert one.people.vertices_m.shape != other.people.vertices_m.shape or not np.array_equal(
        one.people.vertices_m, other.people.vertices_m
    )


def test_geometry_lies_on_its_grid(stages):
    for stage in stages[:5]:
        for values, grid in ((stage.people.translation_m, 1e-6), (stage.people.pose, 1e-7), (stage.people.shape, 1e-7)):
            np.testing.assert_allclose(values / grid, np.round(values / grid), atol=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_configs_survive_json(name):
    config = PRESETS[name]
    assert WorldConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertical_fov": (0.1, 1.0)}, "vertical_fov must lie between"),
        ({"vertical_fov": (1.0, 0.5)}, "lowest first"),
        ({"people": (0, 5)}, "people must lie"),
        ({"distance_m": (0.1, 5.0)}, "distance_m must lie"),
        ({"ages_years": (-1.0, 5.0)}, "ages_years must lie"),
        ({"ages_years": (0.0, math.nan)}, "ages_years must lie"),
        ({"minors_share": 1.5}, "minors_share must lie"),
        ({"poses": {"flying": 1.0}}, "poses does not know flying"),
        ({"poses": {"standing": 0.0}}, "all zero"),
        ({"poses": {"standing": -1.0}}, "not negative"),
        ({"supports": {"lap": 2.0}}, "must not exceed 1"),
        ({"arrangements": {"line": 1.0}}, "arrangements does not know line"),
        ({"lineup": ()}, "lineup is empty"),
        ({"lineup": ((30.0, 1),)}, "lineup needs"),
        ({"image_sizes": ((0, 10),)}, "image_sizes"),
        ({"occluded": 1, "people": (1, 3)}, "somebody else in front"),
        ({"stature_spread": -1.0}, "stature_spread"),
    ],
)
def test_bad_configs_are_refused_in_one_sentence(change, message, unchecked):
    with pytest.raises(InputError, match=message) as caught:
        WorldConfig(**change)
    assert "\n" not in str(caught.value)


def test_unknown_config_names_are_refused():
    with pytest.raises(InputError, match="has no wings"):
        WorldConfig.from_dict({"wings": 2})


def test_no_room_is_said_and_nobody_left_out():
    narrow = replace(
        PRESETS["adults"], people=(5, 5), distance_m=(1.0, 1.1), vertical_fov=(math.radians(20), math.radians(21))
    )
    with pytest.raises(InputError, match="no room for 5 people"):
        draw_stage(narrow, np.random.default_rng(0))
