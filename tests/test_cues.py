"""Depth cues against cases with a known answer and against the released step sequence written out plainly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowdmesh.body import body_of
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import measure, official, paper
from crowdmesh.dto.config import CueConfig
from crowdmesh.masks import Masks
from crowdmesh.people import People, PersonStatus
from crowdmesh.raster import rasterize
from crowdmesh.scene import Scene

WIDTH, HEIGHT = 200, 160
CAMERA = Camera(150.0, 150.0, 100.0, 80.0, WIDTH, HEIGHT)


def slabs(*planes: tuple[float, float, float, float]) -> Scene:
    """People that are upright slabs: centre x, depth at the centre, metres of depth per metre upwards and sideways."""
    vertices = []
    for x, z, up, side in planes:
        corners = np.array([[-0.5, -0.8], [0.5, -0.8], [0.5, 0.8], [-0.5, 0.8]])
        depth = z + side * corners[:, 0] - up * corners[:, 1]
        vertices.append(np.c_[corners[:, 0] + x, corners[:, 1], depth])
    people = People(
        body="rigid", translation_m=np.zeros((len(planes), 3)), stature_m=np.ones(len(planes)),
        vertices_m=np.array(vertices, np.float32), faces=np.array([[0, 1, 2], [0, 2, 3]]),
    )  # fmt: skip
    return Scene(CAMERA, people)


def metres(scene: Scene) -> np.ndarray:
    import torch

    body = body_of(scene.people)
    return rasterize(torch.from_numpy(scene.people.vertices_m), body.faces, CAMERA.K, (HEIGHT, WIDTH)).depth.numpy()


def depth_of(scene: Scene, scale: float = 1.0, shift: float = 0.0, kind="depth") -> RelativeDepth:
    """The map that is exactly affine in the rendered depth: metric = scale * relative + shift."""
    rendered = metres(scene)
    relative = (np.where(np.isfinite(rendered), rendered, 30.0) - shift) / scale
    return RelativeDepth((1 / relative if kind == "disparity" else relative).astype(np.float32), kind)


@pytest.mark.parametrize("kind", ["depth", "disparity", "metric"])
def test_affine_map_gives_its_scale_back(kind):
    scene = slabs((-1.2, 4.0, 0.0, 0.5), (1.2, 5.0, 0.0, -0.5))
    scale, shift = (1.0, 0.0) if kind == "metric" else (2.5, 0.7)
    cues = measure(scene, depth_of(scene, scale, shift, kind), body_of(scene.people), CueConfig(inlier_m=None))
    np.testing.assert_allclose(cues.slope, scale, rtol=1e-3)
    np.testing.assert_allclose(cues.correlation, 1, atol=1e-4)
    np.testing.assert_allclose(cues.depth_m, scale * cues.relative_depth + shift, rtol=1e-4)
    assert (cues.excluded == 0).all()
    assert cues.evident.all()


def test_row_centring_ignores_a_vertical_gradient():
    scene = slabs((-1.2, 4.0, 0.0, 0.5), (1.2, 5.0, 0.0, -0.5))
    depth = depth_of(scene, 2.5)
    tilted = replace(depth, values=depth.values + np.linspace(0, 2, HEIGHT, dtype=np.float32)[:, None])
    body = body_of(scene.people)
    robust = measure(scene, tilted, body, CueConfig(inlier_m=None, iqr_factor=None))
    plain = measure(scene, tilted, body, CueConfig(inlier_m=None, iqr_factor=None, centre_rows=False))
    np.testing.assert_allclose(robust.slope, 2.5, rtol=1e-3)
    assert np.abs(plain.slope - 2.5).min() > 0.5


def test_outliers_do_not_move_the_mean():
    scene = slabs((-1.2, 4.0, 0.0, 0.2), (1.2, 5.0, 0.0, -0.2))
    depth = depth_of(scene)
    spoilt = depth.values.copy()
    seen = np.isfinite(metres(scene))
    spoilt[seen & (np.random.default_rng(0).random(seen.shape) < 0.1)] = 25.0
    body = body_of(scene.people)
    clean = measure(scene, depth, body)
    robust = measure(scene, replace(depth, values=spoilt), body)
    plain = measure(scene, replace(depth, values=spoilt), body, CueConfig(iqr_factor=None, inlier_m=None))
    np.testing.assert_allclose(robust.relative_depth, clean.relative_depth, atol=0.02)
    assert np.abs(plain.relative_depth - clean.relative_depth).min() > 1


def test_reasons_for_missing_evidence():
    scene = slabs((-1.5, 4.0, 0, 0.2), (0.0, 4.0, 0, 0.2), (1.5, 4.0, 0, 0.2), (1.5, 9.0, 0, 0.2))
    depth = depth_of(scene)
    spoilt = depth.values.copy()
    left = np.zeros(spoilt.shape, bool)
    left[:, :75] = True
    spoilt[left] = np.nan
    body = body_of(scene.people)
    cues = measure(scene, replace(depth, values=spoilt), body, CueConfig(min_samples=500))
    kept = [PersonStatus(int(s)) for s in cues.status]
    assert kept[0] is PersonStatus.KEPT_NO_DEPTH
    assert kept[1] is PersonStatus.INITIAL
    assert kept[3] in (PersonStatus.KEPT_NOT_VISIBLE, PersonStatus.KEPT_FEW_PIXELS)  # behind person 2
    assert cues.excluded[0] > 500
    for name in ("relative_depth", "depth_m", "spread", "slope", "correlation"):
        assert np.isfinite(getattr(cues, name)).all(), name
    everyone_small = measure(scene, depth, body, CueConfig(min_samples=100_000))
    assert {PersonStatus.KEPT_FEW_PIXELS} >= set(map(PersonStatus, everyone_small.status[:3]))


def test_own_mask_confines_the_evidence():
    scene = slabs((0.0, 4.0, 0.0, 1.0), (0.0, 6.0, 0.0, 1.0))
    dense = np.zeros((2, HEIGHT, WIDTH), bool)
    dense[0, :, :100] = True
    dense[1, :, 100:] = True
    masked = replace(scene, people=replace(scene.people, masks=Masks.from_dense(dense)))
    cues = measure(masked, RelativeDepth(np.ones((HEIGHT, WIDTH), np.float32), "depth"), body_of(scene.people))
    assert cues.evident.all()
    assert cues.depth_m[0] < 4.0  # the near half of the front slab
    assert cues.depth_m[1] > 6.0  # the far half of the one behind


def plain_official(scene: Scene, depth: RelativeDepth, person: int) -> dict[str, float]:
    """The released steps 7b-7e for one person, pixel by pixel and row by row."""
    import torch

    body = body_of(scene.people)
    shrink = min(1.0, 512 / max(scene.camera.width, scene.camera.height))
    height, width = round(scene.camera.height * shrink), round(scene.camera.width * shrink)
    masks = torch.from_numpy(scene.people.masks.to_dense((height, width)))
    camera = scene.camera.scaled(width, height)
    buffer = rasterize(torch.from_numpy(scene.people.vertices_m), body.faces, camera.K, (height, width), masks)
    rows, columns = np.nonzero(buffer.person.numpy() == person)
    z = buffer.depth.numpy()[rows, columns].astype(float)
    step_y, step_x = depth.size[0] / height, depth.size[1] / width
    d = 1.0 / depth.values[((rows + 0.5) * step_y).astype(int), ((columns + 0.5) * step_x).astype(int)].astype(float)
    q1, q3 = np.percentile(d, (25, 75))
    keep = (d > max(q1 - 1.5 * (q3 - q1), 0)) & (d < q3 + 1.5 * (q3 - q1))
    rows, d, z = rows[keep], d[keep], z[keep]
    dc, zc = d.copy(), z.copy()
    for row in np.unique(rows):
        dc[rows == row] -= d[rows == row].mean()
        zc[rows == row] -= z[rows == row].mean()
    slope = np.polyfit(dc, zc, 1)[0]
    inlier = np.abs(zc - slope * dc) <= 0.1
    low = inlier & (rows >= np.percentile(rows[inlier], 90))
    return {
        "slope": slope, "correlation": np.corrcoef(dc, zc)[0, 1], "relative_depth": d[inlier].mean(),
        "depth_m": z[inlier].mean(), "spread": d[inlier].std(), "samples": inlier.sum(),
        "lowest_relative_depth": d[low].mean(), "lowest_depth_m": z[low].mean(),
    }  # fmt: skip


def test_grouped_sums_equal_the_released_steps(crowd):
    _, guess, disparity = crowd
    cues = measure(guess, disparity, body_of(guess.people), official().cues)
    for person in np.flatnonzero(cues.evident):
        for name, expected in plain_official(guess, disparity, person).items():
            assert getattr(cues, name)[person] == pytest.approx(expected, rel=1e-6, abs=1e-9), (person, name)
    assert cues.evident.sum() >= 4


def test_vertex_evidence_is_the_mean_over_visible_vertices(crowd):
    world, guess, _ = crowd
    cues = measure(world.scene, world.depth, body_of(guess.people), paper().cues)
    # With true bodies and true depth the mean depth of the visible surface is a little nearer than the pelvis.
    pelvis = world.scene.people.joints_m[:, 0, 2]
    assert np.all(np.abs(cues.relative_depth - pelvis) < 0.2)
    assert np.all(cues.relative_depth < pelvis + 0.05)
    np.testing.assert_allclose(cues.depth_m, pelvis, rtol=1e-6)
    assert np.all(cues.samples < 700)


def test_visible_share_falls_with_what_hides_people(crowd):
    world, _, disparity = crowd
    scene, body = world.scene, body_of(world.scene.people)
    people, camera = scene.people, scene.camera
    shown = measure(scene, disparity, body).visible_share
    # All in full view; vertices on the outline may miss the pixels.
    assert (shown > 0.8).all()
    assert (shown <= 1).all()
    vertices = people.vertices_m.copy()
    pelvis = people.joints_m[:, 0].astype(float)
    vertices[0, :, 0] += 100  # outside the image
    vertices[5, :, 0] -= pelvis[5, 0] + camera.cx / camera.fx * pelvis[5, 2]  # half beyond its left border
    moved = replace(scene, people=replace(people, vertices_m=vertices, masks=None))
    share = measure(moved, disparity, body).visible_share
    assert share[0] == 0
    assert 0.3 < share[5] < 0.6
    dense = people.masks.to_dense().copy()
    dense[2, : int(camera.project(people.joints_m)[2, 0, 1])] = False  # the own mask ends at the hips
    masked = replace(scene, people=replace(people, masks=Masks.from_dense(dense)))
    share = measure(masked, disparity, body).visible_share
    assert 0.3 < share[2] < 0.6
    np.testing.assert_array_equal(np.delete(share, 2), np.delete(shown, 2))


def test_people_behind_others_are_hidden():
    scene = slabs((0.0, 4.0, 0.0, 0.0), (0.0, 9.0, 0.0, 0.0), (1.8, 5.0, 0.0, 0.0))
    cues = measure(scene, depth_of(scene), body_of(scene.people))
    assert cues.visible_share[1] == 0
    assert cues.visible_share[0] > 0
