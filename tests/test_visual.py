"""Pictures and exports: what is drawn stands where the numbers say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.visual import (
    comparison_picture,
    overlay,
    person_colors,
    save_glb,
    save_png,
    scene_picture,
    side_view,
    top_view,
)
from crowdmesh.visual._axes import Axes, Extent
from crowdmesh.visual._canvas import Canvas, blank
from crowdmesh.visual._labels import Label, place_labels
from crowdmesh.visual._projection import FROM_ABOVE, FROM_ABOVE_RIGHTWARD, FROM_THE_SIDE
from crowdmesh.visual.shading import orthographic, render, vertex_normals

SPHERE = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
FACES = np.asarray(SPHERE.faces)
BALL = np.asarray(SPHERE.vertices, np.float32)
CAMERA = Camera.from_vertical_fov(math.radians(50), 640, 360)
SIZE = (600, 640)


def balls(centres, radius=0.3, camera=CAMERA, image=None) -> Scene:
    """A scene whose people are balls of one radius (or one radius each) around the given centres."""
    centres = np.asarray(centres, float).reshape(-1, 3)
    radii = np.broadcast_to(np.asarray(radius, float), len(centres))
    vertices = (BALL[None] * radii[:, None, None] + centres[:, None]).astype(np.float32)
    return Scene(camera, People("rigid", centres, 2 * radii, vertices_m=vertices, faces=FACES), image)


def person_at(image, pixel) -> int | None:
    """Whose colour a pixel has (up to brightness), or None where it is nearly grey."""
    column, row = (math.floor(float(value)) for value in pixel)
    color = image[row, column].astype(float)
    if np.ptp(color) < 24:
        return None
    palette = person_colors(6)
    palette = (palette - palette.mean(1, keepdims=True)) / palette.std(1, keepdims=True)
    return int(np.argmax(palette @ ((color - color.mean()) / color.std())))


# Shading


@pytest.mark.parametrize("distance", [2.0, 8.0])
def test_a_ball_covers_its_exact_projected_area(distance):
    """A sphere on the axis projects to a disc of radius f r / sqrt(d^2 - r^2)."""
    scene = balls([(0, 0, distance)])
    alpha = render(scene.people.vertices_m, FACES, CAMERA.K, (360, 640)).alpha
    radius = CAMERA.fy * 0.3 / math.sqrt(distance**2 - 0.3**2)
    assert alpha.sum() == pytest.approx(math.pi * radius**2, rel=0.012)  # the ball is a polyhedron inside the sphere
    row, column = np.indices(alpha.shape) + 0.5
    assert (alpha * column).sum() / alpha.sum() == pytest.approx(CAMERA.cx, abs=0.05)
    assert (alpha * row).sum() / alpha.sum() == pytest.approx(CAMERA.cy, abs=0.05)


def test_vertex_normals_of_a_ball_point_outward():
    normals = vertex_normals(torch.from_numpy(BALL)[None], torch.from_numpy(FACES))[0].numpy()
    assert np.einsum("vi,vi->v", normals, BALL).min() > 0.999


def test_light_comes_from_above():
    scene = balls([(0, 0, 3)])
    rgb = render(scene.people.vertices_m, FACES, CAMERA.K, (360, 640)).rgb
    radius = CAMERA.fy * 0.3 / 3
    above, below = (rgb[int(CAMERA.cy + sign * 0.8 * radius), int(CAMERA.cx)].sum() for sign in (-1, 1))
    assert above > 1.3 * below


@pytest.mark.parametrize("projection", [FROM_ABOVE, FROM_ABOVE_RIGHTWARD, FROM_THE_SIDE])
def test_a_parallel_projection_has_one_scale_at_every_depth(projection):
    points = np.random.default_rng(0).uniform((-20, -5, 0), (20, 5, 60), (1, 500, 3)).astype(np.float32)
    view, K = orthographic(points, projection.rotation, 150.0, (400.0, 300.0))
    pixels = (view / view[..., 2:]) @ K.T
    across, up = np.moveaxis(projection.to_page(points), -1, 0)
    assert np.allclose(pixels[..., 0], 400 + 150 * across, atol=0.02)
    assert np.allclose(pixels[..., 1], 300 - 150 * up, atol=0.02)
    assert np.all(np.linalg.det(projection.rotation) == 1)


def test_colors_belong_to_the_person_not_to_the_count():
    colors = person_colors(30)
    assert np.array_equal(person_colors(4), colors[:4])
    assert np.all((colors >= 0) & (colors <= 1))
    grey = colors @ (0.2126, 0.7152, 0.0722)
    assert np.all(np.abs(np.diff(grey)) > 0.05)  # neighbours differ in a black-and-white print too
    assert len({tuple(np.rint(255 * c)) for c in colors}) == 30


# Overlay


@pytest.mark.parametrize("near", [0, 1])
def test_the_nearer_person_hides_the_farther(near):
    centres = [(0, 0, 6.0), (0, 0, 6.0)]
    centres[near] = (0, 0, 3.0)
    image = overlay(balls(centres, radius=[0.3 * centres[0][2], 0.3 * centres[1][2]]), FACES, labels=False)
    assert person_at(image, (CAMERA.cx, CAMERA.cy)) == near


def test_the_photo_is_untouched_away_from_people():
    photo = np.random.default_rng(1).integers(0, 256, (360, 640, 3), np.uint8)
    image = overlay(balls([(0, 0, 3)], image=photo), FACES)
    changed_rows, changed_columns = np.nonzero((image != photo).any(-1))
    radius = CAMERA.fy * 0.3 / 3
    assert changed_columns.min() > CAMERA.cx - 1.2 * radius - 2 and changed_columns.max() < CAMERA.cx + 1.2 * radius + 2
    assert changed_rows.max() < CAMERA.cy + 1.2 * radius + 2  # the label sits above the head
    assert person_at(image, (CAMERA.cx, CAMERA.cy)) == 0


def test_opacity_mixes_person_and_photo():
    photo = blank(360, 640, (10, 200, 90))
    scene = balls([(0, 0, 3)], image=photo)
    solid, half = (overlay(scene, FACES, opacity=a, labels=False).astype(float) for a in (1.0, 0.5))
    assert np.abs(half - (solid + photo) / 2).max() <= 1.0


def test_overlay_can_be_drawn_at_another_size():
    scene = balls([(0.6, -0.3, 3)])
    for size in ((180, 320), (720, 1280)):
        image = overlay(scene, FACES, size=size, labels=False)
        assert image.shape == (*size, 3)
        centre = CAMERA.project(np.array((0.6, -0.3, 3.0))) * size[0] / 360
        assert person_at(image, centre) == 0
        assert person_at(image, np.add(centre, (0.13 * CAMERA.fy * size[0] / 360, 0))) is None


def test_only_visible_people_are_labelled():
    hidden = balls([(0, 0, 3), (0, 0, 8)], radius=[0.9, 0.2])
    assert np.array_equal(overlay(hidden, FACES), overlay(balls([(0, 0, 3)], radius=0.9), FACES))


@pytest.mark.parametrize("centre", [(0, 0, -3), (0, 0, 0.1), (400, 0, 1), (0, 0, 5000)])
def test_overlay_survives_people_in_impossible_places(centre):
    image = overlay(balls([(0, 0, 4), centre]), FACES)
    assert image.shape == (360, 640, 3)


# Drawings to scale


@pytest.mark.parametrize(("heading", "projection"), [("up", FROM_ABOVE), ("right", FROM_ABOVE_RIGHTWARD)])
def test_top_view_is_to_scale(heading, projection):
    scene = balls([(1.5, 0.4, 5), (-1, 0, 3)])
    image, axes = (
        top_view(scene, FACES, SIZE, heading=heading),
        projection.axes(projection.extent([scene], FACES), SIZE),
    )
    for person, (x, z) in enumerate([(1.5, 5), (-1, 3)]):
        for dx, dz in ((0, 0), (0.25, 0), (-0.25, 0), (0, -0.25)):
            assert person_at(image, axes.to_px(projection.to_page((x + dx, 0, z + dz)))) == person
        for dx, dz in ((0.35, -0.1), (0, -0.35), (0.1, 0.35) if heading == "right" else (-0.35, -0.1)):
            assert person_at(image, axes.to_px(projection.to_page((x + dx, 0, z + dz)))) is None


def test_side_view_is_to_scale():
    scene = balls([(0.5, 1.0, 5), (-1, -0.5, 3)])
    image, axes = (
        side_view(scene, FACES, (400, 900)),
        FROM_THE_SIDE.axes(FROM_THE_SIDE.extent([scene], FACES), (400, 900)),
    )
    for person, (y, z) in enumerate([(1.0, 5), (-0.5, 3)]):
        for dz, up in ((0, 0), (0.25, 0), (-0.25, 0), (0, -0.25)):
            assert person_at(image, axes.to_px((z + dz, -y + up))) == person
        for dz, up in ((0.36, -0.1), (-0.36, -0.1), (0, -0.36)):
            assert person_at(image, axes.to_px((z + dz, -y + up))) is None


def test_side_view_looks_from_the_right_and_top_view_from_above():
    side_by_side = balls([(-0.5, 0, 4), (0.5, 0, 4)])
    axes = FROM_THE_SIDE.axes(FROM_THE_SIDE.extent([side_by_side], FACES), (400, 900))
    assert person_at(side_view(side_by_side, FACES, (400, 900)), axes.to_px((4, 0))) == 1
    stacked = balls([(0, 0.5, 4), (0, -0.5, 4)])
    axes = FROM_ABOVE.axes(FROM_ABOVE.extent([stacked], FACES), SIZE)
    assert person_at(top_view(stacked, FACES, SIZE), axes.to_px((0.15, 4))) == 1


def test_truth_is_drawn_hollow_at_its_own_place():
    scene, truth = balls([(0, 0, 6)]), balls([(0, 0, 3)])
    image = top_view(scene, FACES, SIZE, truth=truth)
    extent = FROM_ABOVE.extent([scene, truth], FACES)
    axes, plain = FROM_ABOVE.axes(extent, SIZE), top_view(scene, FACES, SIZE, extent=extent)
    left_rim, centre = axes.to_px((-0.3, 3)), axes.to_px((0, 3))
    row, column = int(left_rim[1]), int(left_rim[0])
    assert (image[row, column - 2 : column + 4] != plain[row, column - 2 : column + 4]).any()
    assert np.array_equal(image[int(centre[1]), int(centre[0])], plain[int(centre[1]), int(centre[0])])


@pytest.mark.parametrize(("draw", "page"), [(top_view, (0.5, 4.5)), (side_view, (4.5, 0.0))])
def test_an_arrow_leads_from_before_to_now(draw, page):
    scene, before = balls([(0.5, 0, 3)]), balls([(0.5, 0, 6)])
    projection = FROM_ABOVE if draw is top_view else FROM_THE_SIDE
    extent = projection.extent([scene, before], FACES)
    with_arrow, without = draw(scene, FACES, SIZE, before=before), draw(scene, FACES, SIZE, extent=extent)
    column, row = projection.axes(extent, SIZE).to_px(page).astype(int)
    window = slice(row - 2, row + 3), slice(column - 2, column + 3)
    assert (with_arrow[window] != without[window]).any()
    assert np.array_equal(draw(scene, FACES, SIZE, extent=extent, before=scene), without)  # nobody moved: no arrow


def test_the_ground_line_runs_where_the_plane_is():
    scene = balls([(0, 1.0, 4)])
    ground = np.array((0.0, 1.0, -0.05, -0.9))  # y = 0.9 + 0.05 z: falling away from the camera
    size = (400, 900)
    axes = FROM_THE_SIDE.axes(FROM_THE_SIDE.extent([scene], FACES), size)
    changed = (side_view(scene, FACES, size, ground=ground) != side_view(scene, FACES, size)).any(-1)
    for z in (1.0, 2.5):
        column, row = axes.to_px((z, -(0.9 + 0.05 * z)))
        assert abs(np.flatnonzero(changed[:, int(column)]).mean() + 0.5 - row) < 1.0
    with pytest.raises(InputError, match="upright"):
        side_view(scene, FACES, size, ground=np.array((1.0, 0.0, 0.0, -1.0)))


def test_axes_have_one_scale_and_invert():
    axes = Axes.fit(Extent(-2, 3, 0, 9), (50, 20, 550, 380), align=(0.5, 0.0))
    assert np.allclose(axes.to_m(axes.to_px(np.array([(1.5, 2.5), (-2, 9)]))), [(1.5, 2.5), (-2, 9)])
    assert np.allclose(axes.to_px((1, 0)) - axes.to_px((0, 0)), (axes.scale, 0))
    assert np.allclose(axes.to_px((0, 1)) - axes.to_px((0, 0)), (0, -axes.scale))
    shown = axes.shown
    assert shown.left <= -2 and shown.right >= 3 and shown.bottom == pytest.approx(0) and shown.top == pytest.approx(9)


@pytest.mark.parametrize("outlier", [(1, 0, 60), (0, 0, -4), (300, 0, 4)])
def test_outliers_do_not_break_the_axes_but_are_named_at_the_edge(outlier):
    crowd = [(-1, 0, 3), (0.5, 0, 4), (1, 0, 5)]
    plain, scene = balls(crowd), balls([*crowd, outlier])
    for projection in (FROM_ABOVE, FROM_ABOVE_RIGHTWARD, FROM_THE_SIDE):
        assert projection.extent([scene], FACES) == projection.extent([plain], FACES)
    assert (top_view(scene, FACES, SIZE) != top_view(plain, FACES, SIZE)).any()


def test_far_people_among_themselves_fill_the_page():
    scene = balls([(0, 0, 55), (3, 0, 60)])
    extent = FROM_ABOVE.extent([scene], FACES)
    assert 50 < extent.bottom < 54.7 and 60.3 < extent.top < 62
    assert FROM_ABOVE.axes(extent, SIZE).scale > 40  # pixels per metre


# Labels


def test_labels_of_a_dense_crowd_do_not_overlap():
    generator = np.random.default_rng(5)
    labels = [
        Label((float(x), float(y)), k, (0, 0, 0)) for k, (x, y) in enumerate(generator.uniform(200, 320, (20, 2)))
    ]
    corners = place_labels(labels, 18.0, (0, 0, 600, 500), np.zeros((500, 600), bool))
    sizes = np.array([label.size(18.0) for label in labels])
    low, high = corners, corners + sizes
    shared = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    overlapping = np.triu((shared > 1e-6).all(-1), 1)
    assert not overlapping.any()
    assert low.min() >= 0 and np.all(high <= (600, 500))


def test_any_title_can_be_written():
    canvas = Canvas(blank(40, 300))
    canvas.text((5, 5), "Müller, 子供 \u2192 \U0001f600")
    assert (canvas.finish() < 128).any()


# Figures


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_figure_of_any_crowd(count):
    generator = np.random.default_rng(count)
    scene = balls(generator.uniform((-2, -0.5, 3), (2, 0.5, 9), (count, 3)))
    image = scene_picture(scene, FACES, title=f"{count} people", width=900)
    assert image.dtype == np.uint8 and image.shape[1] == 900 and image.shape[0] < 1800
    assert np.all(image[-1] == 255)  # white paper


@pytest.mark.parametrize("count", [0, 1, 30])
def test_a_comparison_of_any_crowd(count):
    centres = np.random.default_rng(count).uniform((-2, -0.5, 3), (2, 0.5, 9), (count, 3))
    image = comparison_picture(balls(centres), balls(1.3 * centres), FACES, truth=balls(0.9 * centres), width=1700)
    assert image.shape[1] == 1700 and image.shape[0] < 1800


@pytest.mark.parametrize(("width", "height"), [(1600, 200), (640, 640), (150, 900), (1, 1)])
def test_a_figure_of_any_photo_shape(width, height):
    camera = Camera.from_long_side_fov(math.radians(60), width, height)
    photo = blank(height, width, (0, 90, 200))
    image = scene_picture(balls([(0, 0, 4)], camera=camera, image=photo), FACES, width=900)
    assert image.shape[1] == 900 and image.shape[0] < 1800
    assert (image == (0, 90, 200)).all(-1).any()  # the photo is on it


def test_people_without_vertices_and_tiny_figures_are_refused():
    scene = Scene(CAMERA, People("anny", np.zeros((1, 3)), np.ones(1)))
    with pytest.raises(InputError, match="pose"):
        scene_picture(scene, FACES)
    with pytest.raises(InputError, match="narrow"):
        scene_picture(balls([(0, 0, 3)]), FACES, width=200)
    with pytest.raises(InputError, match="too small"):
        top_view(balls([(0, 0, 3)]), FACES, size=(50, 50))


def test_both_halves_of_a_comparison_share_scale_and_colors():
    width, gap, legend = 1700, 36, 40
    half = (width - gap) // 2
    scene, moved = balls([(0, 0, 3), (1, 0, 5)]), balls([(0, 0, 3), (0.6, 0, 3)])
    still = comparison_picture(scene, scene, FACES, truth=scene, titles=("Same", "Same"), width=width)[:-legend]
    assert np.array_equal(still[:, :half], still[:, half + gap : 2 * half + gap])

    there = comparison_picture(moved, scene, FACES, titles=("Same", "Same"), width=width)
    back = comparison_picture(scene, moved, FACES, titles=("Same", "Same"), width=width)
    assert there.shape == back.shape
    left, right = there[:-legend, :half], back[:-legend, half + gap : 2 * half + gap]
    changed = (left != right).any(-1).mean()  # the arrow and the labels that avoid it; the rest is at the same place
    assert 0 < changed < 0.01


def test_the_depth_axes_of_a_comparison_are_aligned():
    """The same person is at the same column in the side view and in the bird's-eye view below it."""
    image = comparison_picture(*[balls([(0, 0, 4)], camera=CAMERA)] * 2, FACES, width=1700)[46:-40, :832]
    colored = np.ptp(image.astype(int), axis=-1) > 40
    photo_ends = 42 + round(min(0.38 * 832, 0.6 * 832 * 360 / 640))
    rows = np.flatnonzero(colored[photo_ends:].sum(1) > 25) + photo_ends
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    balls_drawn = [g for g in groups if len(g) > 25]
    assert len(balls_drawn) == 2
    columns = [np.flatnonzero(colored[g[len(g) // 2]]) for g in balls_drawn]
    assert abs(columns[0][0] - columns[1][0]) <= 1 and abs(columns[0][-1] - columns[1][-1]) <= 1


def test_a_comparison_needs_the_same_people():
    with pytest.raises(InputError, match="same people"):
        comparison_picture(balls([(0, 0, 3)]), balls([(0, 0, 3), (1, 0, 4)]), FACES)


def test_faces_may_be_numpy_or_torch():
    scene = balls([(0, 0, 3)])
    assert np.array_equal(overlay(scene, FACES), overlay(scene, torch.from_numpy(FACES).int()))


def test_png_is_lossless_and_atomic(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    save_png(tmp_path / "sub" / "a.png", image)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "sub" / "a.png")), image)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.png"]
    with pytest.raises(InputError, match=r"\.png"):
        save_png(tmp_path / "a.jpg", image)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"):
        save_png(tmp_path / "file" / "a.png", image)


# GLB


@pytest.mark.parametrize(
    ("up", "axes"), [("y", [(1, 0, 0), (0, -1, 0), (0, 0, -1)]), ("z", [(1, 0, 0), (0, 0, 1), (0, -1, 0)])]
)
def test_glb_keeps_metres_names_normals_and_turns_the_axes(tmp_path, up, axes):
    scene = balls([(1, -0.5, 4), (-2, 0.25, 6)], radius=[0.3, 0.9])
    save_glb(scene, FACES, tmp_path / "scene.glb", up=up)
    loaded = trimesh.load(tmp_path / "scene.glb", process=False)
    assert isinstance(loaded, trimesh.Scene) and set(loaded.geometry) == {"person_0", "person_1"}
    for k, radius in enumerate((0.3, 0.9)):
        transform, geometry = loaded.graph[f"person_{k}"]
        assert np.array_equal(transform, np.eye(4))
        mesh = loaded.geometry[geometry]
        assert np.allclose(mesh.vertices, scene.people.vertices_m[k] @ np.array(axes).T, atol=1e-6)
        outward = (mesh.vertices - mesh.vertices.mean(0)) / radius
        assert np.einsum("vi,vi->v", mesh.vertex_normals, outward).min() > 0.99
        assert mesh.volume > 0  # triangles still face outward: the axes were turned, not mirrored
        color = np.array(mesh.visual.material.baseColorFactor[:3]) / 255
        srgb = np.where(color <= 0.0031308, 12.92 * color, 1.055 * color ** (1 / 2.4) - 0.055)
        assert np.allclose(srgb, person_colors(2)[k], atol=0.03)


def test_glb_is_valid_gltf_with_the_photos_camera(tmp_path):
    save_glb(balls([(0, 0, 3)]), FACES, tmp_path / "scene.glb")
    data = (tmp_path / "scene.glb").read_bytes()
    assert data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data)
    tree = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    attributes = tree["meshes"][0]["primitives"][0]["attributes"]
    assert {"POSITION", "NORMAL"} <= set(attributes)
    (node,) = [node for node in tree["nodes"] if node["name"] == "camera"]
    lens = tree["cameras"][node["camera"]]["perspective"]
    assert lens["yfov"] == pytest.approx(math.radians(50)) and lens["aspectRatio"] == pytest.approx(640 / 360)
    assert tree["nodes"].index(node) in tree["scenes"][0]["nodes"]


@pytest.mark.parametrize("up", ["y", "z"])
def test_the_glb_camera_sees_what_the_photo_shows(tmp_path, up):
    """The camera node looks along its own -z with y up: a person ahead must lie there, above must be above."""
    save_glb(balls([(0.5, -1.0, 4)]), FACES, tmp_path / "scene.glb", up=up)
    loaded = trimesh.load(tmp_path / "scene.glb", process=False)
    centre = np.append(loaded.geometry["person_0"].vertices.mean(0), 1.0)
    seen = np.linalg.inv(loaded.graph["camera"][0]) @ centre
    assert np.allclose(seen[:3], (0.5, 1.0, -4), atol=1e-3)


@pytest.mark.usefixtures("unchecked")
def test_glb_refuses_what_it_cannot_write(tmp_path):
    with pytest.raises(InputError, match="nobody"):
        save_glb(balls([]), FACES, tmp_path / "scene.glb")
    with pytest.raises(InputError, match=r"\.glb"):
        save_glb(balls([(0, 0, 3)]), FACES, tmp_path / "scene.obj")
    with pytest.raises(InputError, match="up axis"):
        save_glb(balls([(0, 0, 3)]), FACES, tmp_path / "scene.glb", up="x")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
