"""Pictures of the synthetic world: what they show is what is there, on every run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crowdmesh.body import load_body
from crowdmesh.errors import InputError
from crowdmesh.raster import rasterize
from crowdmesh.scene import Scene
from crowdmesh.synth.config import PRESETS
from crowdmesh.synth.rendering import render_stage
from crowdmesh.synth.rendering.backdrop import Layer, Place, Wall
from crowdmesh.synth.rendering.palette import Material
from crowdmesh.synth.rendering.textures import TEXTURE_KINDS, library_texture, texture_of
from crowdmesh.synth.scene import CLUTTER, FAR, GROUND, PROP, SKY, SKY_DEPTH_M, WALL, SyntheticScene
from crowdmesh.synth.stage import Prop, Stage
from crowdmesh.synth.world import World
from crowdmesh.visual.shading import surface_weights

SMALL = replace(PRESETS["family"], image_sizes=((320, 240),), people=(2, 5), distance_m=(1.5, 8.0))
SCENES = 8


@pytest.fixture(scope="module")
def world() -> World:
    return World(SMALL, seed=3)


@pytest.fixture(scope="module")
def scenes(world) -> list[SyntheticScene]:
    return list(world.scenes(range(SCENES)))


def looks(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def body_buffer(scene: Scene, people=slice(None)):
    """Depth and person of the chosen bodies alone, by the z-buffer."""
    camera = scene.camera
    vertices = torch.from_numpy(scene.people.vertices_m[people])
    buffer = rasterize(vertices, load_body("anny").faces, camera.K, (camera.height, camera.width))
    return buffer.depth.numpy(), buffer.person.numpy()


def digest(synthetic: SyntheticScene) -> str:
    """One hash of every number of a scene."""
    people = synthetic.scene.people
    arrays = [getattr(people, f.name) for f in fields(people)]
    arrays += [people.masks.runs, synthetic.scene.image, synthetic.depth.values, synthetic.labels]
    arrays += [synthetic.visible_vertices, synthetic.silhouette_px, synthetic.ground]
    total = hashlib.sha256(json.dumps(synthetic.scene.provenance).encode())
    for array in arrays:
        if isinstance(array, np.ndarray):
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def moved(stage: Stage, shift: tuple[float, float, float]) -> Stage:
    people = stage.people
    by = np.array(shift)
    return replace(
        stage,
        people=replace(
            people,
            translation_m=people.translation_m + by,
            vertices_m=people.vertices_m + by.astype(np.float32),
            joints_m=people.joints_m + by.astype(np.float32),
        ),
    )


def test_every_pixel_shows_the_nearest_thing(scenes):
    for synthetic in scenes:
        depth, person = body_buffer(synthetic.scene)
        labels, seen = synthetic.labels, synthetic.depth.values
        shown = labels >= 0
        assert np.array_equal(labels[shown], person[shown])
        assert np.array_equal(seen[shown], depth[shown])
        # Where a body is not shown something nearer is.
        assert (seen <= depth).all()
        camera = synthetic.scene.camera
        for i, prop in enumerate(synthetic.props):
            corners = torch.from_numpy(prop.vertices_m).float()[None]
            alone = rasterize(
                corners, torch.from_numpy(prop.faces), camera.K, (camera.height, camera.width)
            ).depth.numpy()
            assert (seen <= alone).all()
            assert np.array_equal(seen[labels == PROP - i], alone[labels == PROP - i])


def test_only_people_props_and_the_ground_below_them_hide_anybody(scenes):
    for synthetic in scenes:
        _, person = body_buffer(synthetic.scene)
        labels = synthetic.labels
        assert not ((person >= 0) & np.isin(labels, (WALL, FAR, SKY, CLUTTER))).any()
        # The ground hides no more than soles that sink in by a centimetre.
        assert ((person >= 0) & (labels == GROUND)).sum() <= 0.02 * (person >= 0).sum() + 3


def test_masks_are_the_labels_and_boxes_are_tight(scenes):
    for synthetic in scenes:
        people = synthetic.scene.people
        masks = people.masks.to_dense()
        assert masks.sum(0).max() <= 1
        for k, mask in enumerate(masks):
            assert np.array_equal(mask, synthetic.labels == k)
            left, top, right, bottom = people.boxes_px[k].astype(int)
            assert mask[top:bottom, left:right].sum() == mask.sum()
            if mask.any():
                inside = mask[top:bottom, left:right]
                assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_silhouettes_are_those_of_everybody_alone(scenes):
    for synthetic in scenes:
        for k in range(len(synthetic.scene.people)):
            depth, _ = body_buffer(synthetic.scene, [k])
            assert synthetic.silhouette_px[k] == np.isfinite(depth).sum()
        share = synthetic.visible_share
        assert ((share >= 0) & (share <= 1)).all()
    assert any((s.visible_share < 0.9).any() for s in scenes)
    assert any((s.visible_share > 0.99).any() for s in scenes)


def test_joints_reproject_onto_their_own_pixels(scenes):
    inner = [
        i for i, n in enumerate(load_body("anny").joint_names) if n.startswith(("spine", "lowerleg", "upperarm02"))
    ]
    hits, gaps = [], []
    for synthetic in scenes:
        camera, people = synthetic.scene.camera, synthetic.scene.people
        for k in np.flatnonzero(synthetic.visible_share > 0.97):
            joints = people.joints_m[k, inner].astype(float)
            joints = joints[joints[:, 2] > 0.3]
            column, row = np.floor(camera.project(joints)).astype(int).T
            inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
            row, column, joints = row[inside], column[inside], joints[inside]
            own = synthetic.labels[row, column] == k
            hits += own.tolist()
            gaps += (joints[own, 2] - synthetic.depth.values[row[own], column[own]]).tolist()
    assert len(hits) > 50
    assert np.mean(hits) > 0.97
    # The skin lies in front of the joint, by the thickness of a body or of a limb in front of it.
    assert np.quantile(gaps, 0.02) > -0.03
    assert np.median(gaps) < 0.15
    assert np.quantile(gaps, 0.98) < 0.6


def test_keypoints_say_what_is_visible(scenes):
    confidences = set()
    for synthetic in scenes:
        camera, people = synthetic.scene.camera, synthetic.scene.people
        for k, points in enumerate(people.keypoints_px):
            inside = (points[:, 0] >= 0) & (points[:, 1] >= 0)
            inside &= (points[:, 0] < camera.width) & (points[:, 1] < camera.height)
            assert not points[~inside, 2].any()
            column, row = np.floor(points[points[:, 2] == 1, :2]).astype(int).T
            assert (synthetic.labels[row, column] == k).all()
            confidences |= set(points[:, 2])
            knees = people.joints_m[k, [load_body("anny").points["left_knee"], load_body("anny").points["right_knee"]]]
            np.testing.assert_allclose(points[[13, 14], :2], camera.project(knees), atol=1e-3)
    assert confidences == {0.0, 0.5, 1.0}


def test_a_person_seen_from_behind_hides_the_face(scenes):
    body, checked = load_body("anny"), 0
    for synthetic in scenes:
        people = synthetic.scene.people
        everything = np.concatenate((people.joints_m, people.vertices_m), 1)
        nose, left, right = (everything[:, body.points[n]] for n in ("nose", "left_ear", "right_ear"))
        turned_away = nose[:, 2] - (left + right)[:, 2] / 2 > 0.1 * people.stature_m / 1.7
        assert not (people.keypoints_px[turned_away, 0, 2] == 1).any()
        checked += turned_away.sum()
    assert checked >= 3


def test_visible_vertices_lie_on_their_own_pixels(scenes):
    for synthetic in scenes:
        camera, vertices = synthetic.scene.camera, synthetic.scene.people.vertices_m
        for k, seen in enumerate(synthetic.visible_vertices):
            if not seen.any():
                assert synthetic.visible_px[k] < 60
                continue
            column, row = np.floor(camera.project(vertices[k, seen])).astype(int).T
            assert (synthetic.labels[row, column] == k).mean() > 0.995
        whole = synthetic.visible_share > 0.99
        assert (synthetic.visible_vertices[whole].mean(1) < 0.65).all()


def test_the_ground_is_the_stages_plane_and_the_sky_is_far(scenes):
    kinds = set()
    for synthetic in scenes:
        depth, labels, camera = synthetic.depth.values, synthetic.labels, synthetic.scene.camera
        kinds |= set(np.unique(labels[labels < 0]))
        assert np.isfinite(depth).all() and (depth > 0).all() and depth.max() <= SKY_DEPTH_M
        assert (depth[labels == SKY] == SKY_DEPTH_M).all()
        row, column = np.nonzero(labels == GROUND)
        points = camera.unproject(np.stack((column, row), -1) + 0.5, depth[row, column].astype(float))
        height = points @ synthetic.ground[:3] + synthetic.ground[3]
        assert (np.abs(height) < 1e-5 * np.maximum(points[:, 2], 1)).all()
    assert {GROUND, WALL} <= kinds


def test_the_same_scene_whatever_was_made_before_it(world, scenes):
    assert digest(world.scene(5)) == digest(scenes[5])
    assert digest(World(SMALL, seed=3).scene(2)) == digest(scenes[2])
    assert digest(World(SMALL, seed=4).scene(2)) != digest(scenes[2])
    assert len({digest(scene) for scene in scenes}) == SCENES


@pytest.mark.slow
def test_another_process_on_another_machine_makes_the_same_scene(scenes):
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from test_world_render import SMALL, World, digest\n"
        "print(digest(World(SMALL, seed=3).scene(1)))"
    )
    # Without the vector units of this processor, as on an older machine.
    older = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V3",
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_CBWR": "COMPATIBLE",
    }
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        env=os.environ | older,
    )
    assert told.stdout.strip() == digest(scenes[1])


def test_looks_leave_the_truth_alone(world):
    stage = world.stage(0)
    one, two = render_stage(stage, looks(1)), render_stage(stage, looks(2))
    assert np.array_equal(one.labels >= 0, two.labels >= 0)
    assert np.array_equal(one.scene.people.keypoints_px, two.scene.people.keypoints_px)
    assert np.array_equal(one.visible_vertices, two.visible_vertices)
    assert (one.scene.image != two.scene.image).any(-1).mean() > 0.9


def test_people_stand_out_from_varied_backgrounds(scenes):
    backgrounds, contrasts = [], []
    for synthetic in scenes:
        image, labels = synthetic.scene.image.astype(float), synthetic.labels
        backgrounds.append(image[labels < 0].mean(0))
        contrasts.append(np.abs(np.diff(image.mean(-1), axis=1))[(labels[:, 1:] >= 0) != (labels[:, :-1] >= 0)].mean())
        assert 20 < image.mean() < 235
        assert image.std() > 10
    assert np.std(backgrounds, 0).min() > 8
    assert np.median(contrasts) > 8


@pytest.mark.parametrize("shift", [(300.0, 0.0, 0.0), (0.0, 0.0, -80.0)], ids=["beside the image", "behind the camera"])
def test_people_nobody_sees(world, shift):
    stage = moved(world.stage(1), shift)
    synthetic = render_stage(stage, looks())
    people = synthetic.scene.people
    assert (synthetic.labels < 0).all()
    assert not synthetic.silhouette_px.any() and not synthetic.visible_vertices.any()
    assert not synthetic.visible_share.any() and not people.boxes_px.any() and not people.masks.to_dense().any()
    assert not people.keypoints_px[..., 2].any()


def test_people_behind_a_screen_are_hidden_not_gone(world):
    stage = world.stage(2)
    z = max(float(stage.people.vertices_m[..., 2].min()) * 0.5, 0.1)
    screen = np.array([(-50.0, -50, z), (50, -50, z), (50, 50, z), (-50, 50, z)])
    stage = replace(stage, props=(Prop("screen", screen, np.array([(0, 1, 2), (0, 2, 3)])),))
    synthetic = render_stage(stage, looks())
    assert (synthetic.labels == PROP).all()
    np.testing.assert_allclose(synthetic.depth.values, z, rtol=1e-5)
    assert synthetic.silhouette_px.all() and not synthetic.visible_px.any() and not synthetic.visible_vertices.any()
    assert set(np.unique(synthetic.scene.people.keypoints_px[..., 2])) <= {0.0, 0.5}


def test_provenance_reproduces_the_scene(scenes, tmp_path):
    from crowdmesh.synth.config import WorldConfig

    scenes[4].scene.save(tmp_path / "one.scene.npz")
    told = Scene.load(tmp_path / "one.scene.npz").provenance
    again = World(WorldConfig.from_dict(told["config"]), told["seed"]).scene(told["index"])
    assert digest(again) == digest(scenes[4])
    assert told["poses"] == list(scenes[4].poses)


def test_stages_that_cannot_be_rendered_are_refused(world):
    stage = world.stage(0)
    with pytest.raises(InputError, match="pose them first"):
        render_stage(replace(stage, people=replace(stage.people, vertices_m=None)), looks())
    with pytest.raises(InputError, match="at least one"):
        render_stage(replace(stage, people=stage.people[[]], poses=(), supports=()), looks())
    with pytest.raises(InputError, match="dresses Anny"):
        render_stage(replace(stage, people=replace(stage.people, body="rigid")), looks())
    with pytest.raises(InputError, match="numbered from 0"):
        world.scene(-1)
    with pytest.raises(InputError, match="seed"):
        World(SMALL, -1)


def test_rays_meet_walls_ground_and_hills_where_they_are():
    plain = Material(library_texture("plain", 0), 1.0, np.zeros((2, 3)))
    level = np.array([(1.0, 0, 0), (0, -1, 0), (0, 0, 1)])
    hill = Layer(40.0, np.full(256, 5.0), 80.0, True, plain, np.ones(256))
    place = Place("", level, 2.0, plain, (Wall(2, 10.0, 3.0, plain),), None, plain, (hill,), np.zeros((2, 3)), plain)
    # Down onto the ground at z = 4; level into the wall; over the wall into the hill; over both into the sky.
    depth, surface = place.cast(np.zeros(4, np.float32), np.array([0.5, 0.0, -0.06 - 0.041, -0.2], np.float32))
    np.testing.assert_allclose(depth, (4.0, 10.0, SKY_DEPTH_M, SKY_DEPTH_M), rtol=1e-6)
    depth, surface = place.cast(np.zeros(4, np.float32), np.array([0.5, 0.0, -0.101, -0.2], np.float32))
    assert surface.tolist() == [1, 2, 0, 0]
    low = replace(place, walls=(Wall(2, 10.0, 1.0, plain),))
    depth, surface = low.cast(np.zeros(1, np.float32), np.array([-0.05], np.float32))
    np.testing.assert_allclose(depth, 40.0, rtol=1e-6)
    assert [low.label(int(s)) for s in (0, 1, 2, surface[0])] == [SKY, GROUND, WALL, FAR]


def test_textures_repeat_interpolate_and_fade():
    ramp = texture_of(np.tile(np.arange(256) / 256.0, (256, 1)))
    u = np.array([0.25, 1.25, -0.75], np.float32)
    v = np.array([0.1, 3.6, 0.9], np.float32)
    sharp = ramp.sample(u, v, np.zeros(3, np.float32))
    np.testing.assert_allclose(sharp, 0.25 - 0.5 / 256, atol=1e-4)  # texel centres at +0.5
    np.testing.assert_allclose(ramp.sample(u, v, np.ones(3, np.float32)), 127.5 / 256, atol=1e-4)
    for kind in TEXTURE_KINDS:
        texels = library_texture(kind, 1).texels
        assert texels.min() >= 0.0 and texels.max() <= 1.0 and texels[: 256 * 256].std() > 0.01
    with pytest.raises(InputError, match="unknown texture"):
        library_texture("marble", 0)


def test_surface_weights_rebuild_points_on_triangles():
    random = np.random.default_rng(0)
    triangles = random.standard_normal((50, 3, 3))
    weights = random.dirichlet((1, 1, 1), 50)
    points = (weights[..., None] * triangles).sum(1)
    np.testing.assert_allclose(surface_weights(points, triangles), weights, atol=1e-9)
