"""The viewer: where things stand and what is said of them; the file; both pages in a real browser."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
import re
import socket
import sys
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import trimesh
from chromium import Chromium, find_chromium

from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.visual import person_colors
from crowdmesh.visual._crowd import posed_vertices
from crowdmesh.visual._viewer_layout import (
    FOV,
    Shown,
    View,
    World,
    photo_corners,
    photo_distance,
    rows,
    view_from_above,
    view_from_behind,
)
from crowdmesh.visual.viewer import ViewerScene, serve, write_html

SPHERE = trimesh.creation.icosphere(subdivisions=2, radius=1.0)
FACES = np.asarray(SPHERE.faces)
BALL = np.asarray(SPHERE.vertices)
CAMERA = Camera.from_vertical_fov(math.radians(50), 640, 360)
QUARTERS = np.array([[35, 100], [165, 230]])  # upper left, upper right; lower left, lower right
PHOTO = np.kron(QUARTERS, np.ones((180, 320)))[..., None].repeat(3, 2).astype(np.uint8)


def balls(centres, radius=0.3, camera=CAMERA, image=None) -> Scene:
    """A scene whose people are balls around the given centres."""
    centres = np.asarray(centres, float).reshape(-1, 3)
    vertices = (BALL[None] * radius + centres[:, None]).astype(np.float32)
    people = People("rigid", centres, np.full(len(centres), 2 * radius), vertices_m=vertices, faces=FACES)
    return Scene(camera, people, image)


def content(path) -> tuple[dict, bytes]:
    """The data of a viewer file: its JSON and its arrays."""
    (packed,) = re.findall(r'type="application/octet-stream">([^<]*)</script>', path.read_text())
    data = gzip.decompress(base64.b64decode(packed))
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 * math.ceil((8 + length) / 8) :]


def array(marker, arrays) -> np.ndarray:
    start, size, kind = marker["__array"]
    return np.frombuffer(arrays[start : start + size], kind)


# Where things stand


def test_the_ground_lies_under_the_feet_and_the_camera_above_it():
    scene = balls([(-1, 1.0, 4), (0, 1.2, 5), (1, 1.1, 6), (0, 9.0, 80)])  # the last is far out and has no say
    world = World.of(scene, FACES)
    assert world.camera_height_m == pytest.approx(1.4)  # the median of 1.3, 1.5 and 1.4
    assert np.allclose(world.place(np.array([(0.0, 0.0, 0.0), (2.0, 1.4, 7.0)])), [(0, 0, 1.4), (2, 7, 0)], atol=1e-6)


def test_the_photo_covers_what_the_camera_sees():
    camera = Camera(500, 450, 400, 100, 640, 360)  # off-centre, pixels that are not square
    corners = photo_corners(camera, 0.7)
    assert np.allclose(camera.project(corners), [(0, 0), (640, 0), (640, 360), (0, 360)])
    assert np.allclose(corners[:, 2], 0.7)


@pytest.mark.parametrize("name", ["behind", "above"])
@pytest.mark.parametrize("aspect", [1.05, 2.0])
def test_everybody_the_camera_and_its_photo_are_in_view(name, aspect):
    rng = np.random.default_rng(3)
    for _ in range(20):
        scene = balls(rng.uniform((-4, -1, 2), (4, 1, 12), (rng.integers(0, 9), 3)))
        world, shown = World.of(scene, FACES), everything_of(scene)
        view = VIEWS[name](shown)
        page = on_page_of(view, shown.points)
        assert (page[:, 2] > 0).all()
        assert (np.abs(page[:, :2]) < (aspect, 1.0)).all()
        filled = np.abs(page[:, :2] / (1.05, 1.0)).max()
        assert filled > 0.8  # and from no farther away than that takes
        assert np.allclose(page[:, :2].max(0), -page[:, :2].min(0), atol=1e-3)  # in the middle of the page
        camera, photo = on_page_of(view, np.stack((shown.camera, shown.photo.mean(0))))
        assert camera[1] < photo[1]  # it looks up the page
        assert view.position[2] > world.camera_height_m
        if name == "behind":
            assert view.position[1] < 0


VIEWS = {"behind": view_from_behind, "above": view_from_above}


def everything_of(scene, before=None) -> Shown:
    """What the views of a scene of balls must show."""
    corners = photo_corners(scene.camera, photo_distance(scene, FACES))
    stages = [(stage, FACES) for stage in (scene, before) if stage is not None]
    return Shown.of(stages, World.of(scene, FACES), corners)


def on_page_of(view, points) -> np.ndarray:
    """(N, 3): right and up in halves of the page's height, and depth, in an upright camera at the view."""
    ahead = (view.look_at - view.position) / np.linalg.norm(view.look_at - view.position)
    right = np.cross(ahead, (0, 0, 1))
    right /= np.linalg.norm(right)
    page = (points - view.position) @ np.stack((right, np.cross(right, ahead), ahead)).T
    return np.column_stack((page[:, :2] / page[:, 2:] / math.tan(FOV / 2), page[:, 2]))


def test_one_misplaced_person_does_not_shrink_the_others():
    near = [(-1.0, 0.5, 4.0), (1.0, 0.5, 5.0), (0.0, 0.5, 6.0)]
    world, corners = World(1.5), photo_corners(CAMERA, 0.7)
    alone, lost, behind = (
        Shown.of([(balls([*near, *more]), FACES)], world, corners).points
        for more in ([], [(0, 0.5, 70.0)], [(0, 0.5, -3.0)])
    )
    assert np.array_equal(alone, lost) and np.array_equal(alone, behind)
    before = everything_of(balls(near), balls([(5.0, 0.5, 8.0)])).points
    assert before[:, 0].max() == pytest.approx(5.3)  # people of the first guess are shown as well


def crowds():
    """Close-ups, ordinary crowds, a giant, and a child before the others."""
    rng = np.random.default_rng(7)
    for size in (1, 3, 8):
        for near, far in ((0.5, 0.7), (0.9, 1.0), (1.0, 2.0), (2.0, 12.0)):
            z = rng.uniform(near, far, size)
            spread = rng.uniform((-0.4, 0.2), (0.4, 0.7), (size, 2)) * z[:, None]
            yield balls(np.column_stack((spread, z)), radius=0.25)
    yield balls([(0.0, 0.3, 0.8), (0.0, 0.3, 1.3)], radius=0.7)  # so large that the photo lies amid a body
    yield balls([(0.0, 0.3, 0.8), (-1.0, 0.2, 4.0), (1.0, 0.2, 5.0), (0.0, 0.2, 6.0)], radius=0.25)


def test_in_the_first_view_the_photo_hides_nobody():
    higher = 0
    for scene in crowds():
        shown = everything_of(scene)
        view = view_from_behind(shown)
        corners = on_page_of(view, shown.photo)[:, :2].astype(np.float32)
        world = World.of(scene, FACES)
        for centre, vertices in zip(scene.people.translation_m, posed_vertices(scene), strict=True):
            points = np.concatenate((centre[None], vertices))
            page = on_page_of(view, world.place(points))[:, :2]
            inside = [cv2.pointPolygonTest(corners, tuple(map(float, point)), False) > 0 for point in page]
            assert not inside[0] and np.mean(inside[1:]) < 0.15
        ahead = view.look_at - view.position
        higher += -ahead[2] / np.linalg.norm(ahead) > math.sin(math.radians(30))
        assert (photo_distance(scene, FACES) < scene.people.translation_m[:, 2] / 2).all()
    assert 0 < higher < 14  # it looks down more only where it must


def test_labels_of_a_close_up_stay_on_the_page(tmp_path):
    pytest.importorskip("viser")
    scene = balls([(-0.3, 0.6, 2.0), (0.3, 0.6, 2.2)], radius=0.85)
    centres = scene.people.translation_m[:, None]
    thin = (centres + (scene.people.vertices_m - centres) * (0.25, 1.0, 0.25)).astype(np.float32)
    scene = replace(scene, people=replace(scene.people, vertices_m=thin))
    write_html([ViewerScene("near", scene)], tmp_path / "page.html")
    data = content(tmp_path / "page.html")[0]
    labels = np.array([m["position"] for m in data["messages"] if "/label_" in m.get("name", "") and "position" in m])
    assert np.allclose(labels[:, 2], World.of(scene, FACES).place(posed_vertices(scene))[..., 2].max(1) + 0.07)
    look_at, position = (
        np.array(message[name])
        for message, name in zip(data["views"][0]["behind"], ("look_at", "position"), strict=True)
    )
    page = on_page_of(View(position, look_at), labels)
    assert page[:, 1].max() < 0.9  # the text above it is 17 pixels high, of 400 or more


def test_labels_say_what_is_known():
    scene = balls([(3.0, -1.0, 4.0), (0.0, 0.0, 6.0)], radius=0.85)
    assert [row.label for row in rows(scene, FACES, None, None)] == [
        "0 · 1.70 m · 5.0 m away",
        "1 · 1.70 m · 6.0 m away",
    ]
    spread = rows(scene, FACES, np.array((0.06, np.nan)), np.array((0.314, 0.5)))
    assert [row.label for row in spread] == [
        "0 · 1.70 ± 0.06 m · 5.00 ± 0.31 m away",
        "1 · 1.70 m · 6.00 ± 0.50 m away",
    ]


# Bad input


def test_scenes_that_do_not_belong_together_are_refused(unchecked):
    scene = balls([(0, 0, 4), (1, 0, 5)])
    with pytest.raises(InputError, match=r"1 people .* and 2 people"):
        ViewerScene("photo", scene, balls([(0, 0, 4)]))
    with pytest.raises(InputError, match="depth_std_m of photo must hold one number per person"):
        ViewerScene("photo", scene, depth_std_m=np.ones(3))
    with pytest.raises(InputError, match="no vertices"):
        ViewerScene("photo", replace(scene, people=replace(scene.people, vertices_m=None)))
    with pytest.raises(InputError, match="name"):
        ViewerScene(" ", scene)


def test_what_cannot_be_shown_is_refused(tmp_path, monkeypatch):
    scenes = [ViewerScene("photo", balls([(0, 0, 4)]))]
    with pytest.raises(InputError, match="no scene"):
        write_html([], tmp_path / "page.html")
    with pytest.raises(InputError, match=r"\.html"):
        write_html(scenes, tmp_path / "page.png")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"port {port} .* choose another with --port"):
            serve(scenes, port)
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(InputError, match=re.escape("pip install 'crowdmesh[view]'")):
        write_html(scenes, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


# The file


def test_the_file_holds_bodies_colours_photo_and_labels(tmp_path, capfd):
    pytest.importorskip("viser")
    camera = CAMERA.scaled(2560, 1440)
    photo = np.zeros((1440, 2560, 3), np.uint8)
    photo[:, 1280:] = (200, 30, 60)
    scene = balls([(0.5, 0.4, 4), (-0.5, 0.4, 5)], camera=camera, image=photo)
    path = tmp_path / "page.html"
    write_html([ViewerScene("<b>", scene, stature_std_m=np.array((0.02, 0.03)))], path)
    assert capfd.readouterr().out == ""
    assert f"<title>{html.escape('<b>')}</title>" in path.read_text()
    page, arrays = content(path)
    messages = {message["name"]: message for message in page["messages"] if "props" in message and "name" in message}
    world, bodies = World.of(scene, FACES), posed_vertices(scene)
    for k, color in enumerate(person_colors(2)):
        props = messages[f"/photo_0/placed/person_{k}"]["props"]
        vertices = array(props["vertices"], arrays).reshape(-1, 3)
        assert np.allclose(vertices, world.place(bodies[k]), atol=1e-6)
        assert np.array_equal(array(props["faces"], arrays).reshape(-1, 3), FACES)
        assert np.allclose(props["color"], 255 * color, atol=0.5)
        assert not props["flat_shading"]
    assert messages["/photo_0/placed/labels/label_1"]["props"]["text"] == "1 · 0.60 ± 0.03 m · 5.0 m away"
    image = cv2.imdecode(array(messages["/photo_0/photo"]["props"]["_data"], arrays), cv2.IMREAD_COLOR_RGB)
    assert image is not None and image.shape == (720, 1280, 3)
    assert np.abs(image[360, [100, 1200]].astype(int) - [(0, 0, 0), (200, 30, 60)]).max() < 8


def test_a_file_of_twelve_people_before_and_after_is_small(tmp_path):
    pytest.importorskip("viser")
    rng = np.random.default_rng(0)
    vertices = rng.normal((0, 0, 6), 0.4, (12, 1229, 3)).astype(np.float32)  # as many as anny has
    people = People(
        "rigid", np.zeros((12, 3)), np.ones(12), vertices_m=vertices, faces=rng.integers(0, 1229, (2454, 3))
    )
    photo = cv2.GaussianBlur(rng.integers(0, 256, (720, 1280, 3), np.uint8), (5, 5), 0)
    scene = Scene(CAMERA.scaled(1280, 720), people, photo)
    before = replace(scene, people=replace(people, vertices_m=vertices + np.float32(0.1)))
    write_html([ViewerScene("crowd", scene, before)], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 3e6


# In a browser

browser = pytest.mark.skipif(find_chromium() is None, reason="no chromium on PATH")

ACROSS = (1.2, -1.2, 0.0)  # person 0 on the right, 1 on the left, 2 in the middle
DEPTHS = (5.0, 6.0, 4.0)


@pytest.fixture(scope="module")
def two_scenes():
    """Three balls, mirrored in the first guess, on a photo of four greys; and nobody, without a photo."""
    after = balls([(x, 0.6, z) for x, z in zip(ACROSS, DEPTHS, strict=True)], image=PHOTO)
    before = balls([(-x, 0.6, z) for x, z in zip(ACROSS, DEPTHS, strict=True)], image=PHOTO)
    nobody = Scene(CAMERA, People("rigid", np.zeros((0, 3)), np.zeros(0)))
    return [ViewerScene("three", after, before, np.array((0.02, 0.03, np.nan))), ViewerScene("nobody", nobody)]


@pytest.fixture
def tab(tmp_path):
    with Chromium(tmp_path / "profile", (740, 400)) as opened:
        yield opened


def centres(image) -> list[tuple[float, float] | None]:
    """(column, row) in the middle of each person's pixels, told by their colour whatever the light."""
    pixels = image[:, :410].astype(float)
    pixels[330:, :70] = 255.0  # the viewer's own coloured axes
    deviation = pixels - pixels.mean(-1, keepdims=True)
    strength = np.linalg.norm(deviation, axis=-1)
    palette = person_colors(3)
    palette = palette - palette.mean(1, keepdims=True)
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    match = deviation @ palette.T / np.maximum(strength, 1e-9)[..., None]
    found = []
    for k in range(3):
        row, column = np.nonzero((match[..., k] > 0.95) & (strength > 25))
        found.append((float(np.median(column)), float(np.median(row))) if len(row) > 60 else None)
    return found


def dark(image) -> int:
    """Pixels of the scene that are nearly black: text and lines."""
    return int((image[:, :410].max(-1) < 90).sum())


def until(tab, fits, what):
    """The screenshot and the people's centres, once they fit."""
    end = time.monotonic() + 60
    while True:
        tab.run("document.querySelectorAll('[class*=Notification]').forEach((e) => { e.style.display = 'none' })")
        image = tab.screenshot()
        where = centres(image)
        if fits(where, image):
            return image
        assert time.monotonic() < end, f"{what}: people at {where}; errors {tab.errors}"


def on_screen(tab, scenes, name, points) -> np.ndarray:
    """(N, 2) column and row at which camera-frame points show in a view of the first photograph, computed here."""
    after, before = scenes[0].scene, scenes[0].before
    world = World.of(after, FACES)
    page = on_page_of(VIEWS[name](everything_of(after, before)), world.place(points))
    canvas = "[...document.querySelectorAll('canvas')].map((e) => e.getBoundingClientRect())"
    left, top, wide, high = tab.run(f"((b) => [b.x, b.y, b.width, b.height])({canvas}.find((b) => b.width > 200))")
    return np.column_stack((left + wide / 2 + page[:, 0] * high / 2, top + high / 2 - page[:, 1] * high / 2))


def people_at(expected):
    return lambda where, _: None not in where and np.abs(np.array(where) - expected).max() < 10


def photo_fits(tab, image, scenes) -> bool:
    """Whether each quarter of the photo shows, the right way round, in the first view."""
    corners = photo_corners(CAMERA, photo_distance(scenes[0].scene, FACES))
    wide, high = corners[1] - corners[0], corners[3] - corners[0]
    quarters = np.array([corners[0] + wide * a + high * b for b in (0.25, 0.75) for a in (0.25, 0.75)])
    pixels = on_screen(tab, scenes, "behind", quarters).astype(int)
    return bool(np.abs(image[pixels[:, 1], pixels[:, 0]] - QUARTERS.reshape(-1, 1)).max() < 12)


def from_left_to_right(*order):
    return lambda where, _: None not in where and sorted(order, key=lambda k: where[k][0]) == list(order)


@browser
def test_the_file_works_in_a_browser_without_any_network(tmp_path, tab, two_scenes):
    pytest.importorskip("viser")
    write_html(two_scenes, tmp_path / "page.html")
    url = (tmp_path / "page.html").as_uri()
    tab.open(f"{url}?fixedDpr=1")
    until(tab, from_left_to_right(1, 2, 0), "placed")
    with_labels = tab.settled()
    after, before = two_scenes[0].scene.people.translation_m, two_scenes[0].before.people.translation_m
    assert people_at(on_screen(tab, two_scenes, "behind", after))(centres(with_labels), None)
    assert photo_fits(tab, with_labels, two_scenes)
    text = tab.text()
    assert "0.60 ± 0.02 m" in text and "5.1 m" in text and "Nobody" not in text
    tab.click("Labels")
    until(tab, lambda _, image: dark(image) < dark(with_labels) - 300, "labels off")
    tab.click("First guess")
    until(tab, from_left_to_right(0, 2, 1), "first guess")
    tab.click("Bird's-eye view")
    until(tab, people_at(on_screen(tab, two_scenes, "above", before)), "bird's eye")
    choose = "[...document.querySelectorAll('input')].find((e) => e.type === 'text' && e.value === 'three')"
    tab.click_at(*tab.run(f"((b) => [b.x + 40, b.y + 8])({choose}.getBoundingClientRect())"))
    tab.click("nobody")
    until(tab, lambda where, _: where == [None] * 3, "nobody")
    assert "Nobody in this photograph." in tab.text()
    assert not tab.errors
    assert {address.split(":")[0] for address in tab.requests} <= {"file", "data", "blob"}
    assert {address for address in tab.requests if address.startswith("file:")} == {f"{url}?fixedDpr=1"}


@browser
def test_the_live_page_works_in_a_browser_and_asks_nobody_else(tab, two_scenes):
    pytest.importorskip("viser")
    with serve(two_scenes, 0) as viewer:
        tab.open(f"{viewer.url}/?fixedDpr=1")
        until(tab, from_left_to_right(1, 2, 0), "placed")
        tab.click("First guess")
        until(tab, from_left_to_right(0, 2, 1), "first guess")
        tab.click("Bird's-eye view")
        people = two_scenes[0].before.people.translation_m
        until(tab, people_at(on_screen(tab, two_scenes, "above", people)), "bird's eye")
        host = viewer.url.removeprefix("http://")
        assert not tab.errors
        elsewhere = [a for a in tab.requests if not a.startswith((f"http://{host}", f"ws://{host}", "data:", "blob:"))]
        assert not elsewhere and any(address.startswith("ws://") for address in tab.requests)
