"""Other systems' results: bodies stand where their system saw them, and whose file it is is never mistaken."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import synthetic_smpl
from _adapter_bodies import CENTRES_PX, HEIGHTS_PX, SIZE, anny_bodies, installed_smpl, person_masks
from adapter_fixtures import SOURCES, Source

from crowdmesh.adapters import ADAPTERS, identify, image_names, read_people, read_scenes
from crowdmesh.adapters._files import open_content
from crowdmesh.body import load_body
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import best, place
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.people import People
from crowdmesh.scene import Scene

QUICK = replace(best(), cues=replace(best().cues, raster_long_side=128))
ONE_OF_EACH = (
    "dto opt", "phalp", "sam3d-body", "multi-hmr smplx", "nlf pytorch", "romp", "bev", "prompthmr", "sat-hmr", "table",
)  # fmt: skip
MOVED = {"translation_m", "shape", "stature_m", "vertices_m", "joints_m", "status"}


@pytest.fixture(autouse=True, scope="module")
def smpl(tmp_path_factory):
    """A made-up SMPL is installed."""
    with installed_smpl(tmp_path_factory.mktemp("assets")):
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each system's file, written once."""
    folder = tmp_path_factory.mktemp("files")

    @cache
    def get(name: str):
        (folder / name).mkdir()
        source = SOURCES[name]()
        return source, source.save(folder / name)

    return get


def read(source: Source, path, **change) -> Scene:
    return read_people(path, **({"adapter": source.adapter, "unpickle": source.pickled} | source.options | change))


@pytest.mark.parametrize("name", SOURCES)
def test_bodies_stand_on_the_pixels_of_their_system(files, name):
    source, path = files(name)
    scene = read(source, path)
    people = scene.people
    assert (people.body, len(people), scene.camera.width, scene.camera.height) == (source.body, 3, *SIZE)
    assert people.vertices_m is not None
    np.testing.assert_allclose(scene.camera.project(source.joints_m), source.joints_px, atol=0.05)
    np.testing.assert_allclose(people.vertices_m, source.vertices_m, atol=1e-3)
    if people.joints_m is not None:
        np.testing.assert_allclose(people.joints_m, source.joints_m[:, : people.joints_m.shape[1]], atol=1e-3)
        np.testing.assert_allclose(scene.camera.project(people.joints_m), source.joints_px, atol=0.05)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_place_moves_people_and_changes_nothing_else(files, name):
    scene = read(*files(name))
    placed, placement = place(scene, depth_map(scene), QUICK)
    assert placed.camera == scene.camera
    assert placed.image is None
    for field in fields(People):
        if field.name in MOVED:
            continue
        before, after = getattr(scene.people, field.name), getattr(placed.people, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after, err_msg=field.name)
        elif field.name == "masks" and before is not None:
            np.testing.assert_array_equal(before.to_dense(), after.to_dense())
        else:
            assert before == after, field.name
    assert any(status.placed for status in placement.statuses)


def depth_map(scene: Scene) -> RelativeDepth:
    """People at their depths, the second a fifth nearer, before a far wall."""
    assert scene.people.vertices_m is not None
    depth = scene.people.vertices_m[..., 2].mean(1) * (1, 0.8, 1)
    values = np.full((SIZE[1] // 4, SIZE[0] // 4), 2 * depth.max())
    y, x = 4 * np.mgrid[: SIZE[1] // 4, : SIZE[0] // 4]
    for k in np.argsort(-depth):
        inside = (abs(x - CENTRES_PX[k, 0]) < 0.6 * HEIGHTS_PX[k]) & (abs(y - CENTRES_PX[k, 1]) < 0.6 * HEIGHTS_PX[k])
        values[inside] = depth[k]
    return RelativeDepth(values, "metric")


@pytest.mark.parametrize("name", SOURCES)
def test_files_are_recognised_and_every_other_adapter_names_the_right_one(files, name, monkeypatch):
    source, path = files(name)
    assert identify(path, source.pickled) == [source.adapter]
    scene = read(source, path, adapter="auto")
    np.testing.assert_allclose(scene.people.vertices_m, source.vertices_m, atol=1e-3)
    content = open_content(path, source.pickled)
    monkeypatch.setattr("crowdmesh.adapters.reading.open_content", lambda *_: content)  # opened once
    for other in ADAPTERS:
        if other != source.adapter:
            with pytest.raises(ValueError, match=rf"looks like .*; use --adapter {source.adapter}$"):
                read(source, path, adapter=other)


def test_every_adapter_has_a_fixture_and_stands_in_the_documentation(files):
    assert {files(name)[0].adapter for name in SOURCES} == set(ADAPTERS)
    text = (Path(__file__).parents[1] / "docs" / "adapters.md").read_text("utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    documented = {cells[1].strip(" `"): cells for cells in rows if len(cells) == 6 and "`" in cells[1]}
    assert list(documented) == list(ADAPTERS)
    for name, cells in documented.items():
        assert all(cell.strip() for cell in cells)
        if name != "table":
            assert re.split(r"[ ,]", cells[0].strip())[0] in ADAPTERS[name].title


def test_statures_of_bodies_with_parameters_follow_from_them_and_of_surfaces_from_joints(files):
    people = read(*files("dto opt")).people
    assert people.shape.shape == (3, 11)
    assert people.stature_m[1] < 0.8 * people.stature_m[0]  # the kid axis counts
    truth = anny_bodies(1000.0).stature  # a man, a child of seven, an old woman
    told = [
        read(*files(name)).people.stature_m for name in ("sam3d-body", "multi-hmr smplx", "multi-hmr anny", "prompthmr")
    ]
    np.testing.assert_allclose(told[0], truth, rtol=0.03)
    for other in told[1:]:
        np.testing.assert_allclose(other, told[0], rtol=1e-4)  # the same joints, wherever they are in a layout


def test_ten_betas_fill_up_to_the_body(files):
    shape = read(*files("camerahmr labels")).people.shape
    assert shape.shape == (3, 11)
    np.testing.assert_array_equal(shape[:, 10], 0)


def test_evidence_of_phalp(files):
    people = read(*files("phalp")).people
    np.testing.assert_array_equal(people.masks.to_dense(), person_masks())
    np.testing.assert_allclose(people.boxes_px[1], [305, 150, 355, 250])
    np.testing.assert_allclose(people.scores, [0.9, 0.8, 0])  # the third track is not seen in this frame
    source, _ = files("phalp")
    np.testing.assert_allclose(people.keypoints_px[:, 0, :2], source.joints_px[:, 0], atol=0.01)


def test_keypoints_take_the_order_of_coco(files):
    source, path = files("sam3d-body")
    keypoints = read(source, path).people.keypoints_px
    np.testing.assert_allclose(keypoints[:, [9, 10], :2], source.joints_px[:, [62, 41]], atol=0.01)  # wrists
    np.testing.assert_allclose(keypoints[:, [15, 16], :2], source.joints_px[:, [13, 14]], atol=0.01)  # ankles
    source, path = files("multi-hmr smplx")
    keypoints = read(source, path).people.keypoints_px
    np.testing.assert_allclose(keypoints[:, [1, 5, 16], :2], source.joints_px[:, [57, 16, 8]], atol=0.01)
    keypoints = read(*files("camerahmr labels")).people.keypoints_px
    np.testing.assert_allclose(keypoints[0, [5, 6]], [[7, 8, 0.9], [9, 10, 0.8]])  # OpenPose first, then SPIN


def test_boxes_come_in_pixels_of_the_photograph(files):
    for name, box in (("nlf pytorch", [305, 150, 355, 250]), ("sam3d-body", [305, 175, 355, 225])):
        np.testing.assert_allclose(read(*files(name)).people.boxes_px[1], box)
    boxes = read(*files("sat-hmr")).people.boxes_px
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, CENTRES_PX, atol=0.5)
    boxes = read(*files("camerahmr labels")).people.boxes_px
    np.testing.assert_allclose(boxes[:, 3] - boxes[:, 1], HEIGHTS_PX)


def test_several_images_in_one_file(files):
    source, path = files("camerahmr labels")
    assert image_names(path) == ["x/y/im.jpg", "a/b/other.jpg"]
    scenes = dict(read_scenes(path))
    assert [len(scene.people) for scene in scenes.values()] == [3, 1]
    np.testing.assert_array_equal(scenes["x/y/im.jpg"].people.pose, read(source, path).people.pose)
    assert scenes["a/b/other.jpg"].provenance == {"source": path.name, "adapter": "camerahmr", "image": "a/b/other.jpg"}
    assert len(read(source, path, image="other").people) == 1
    with pytest.raises(ValueError, match=r"is of 2 images \(x/y/im.jpg, a/b/other.jpg\); say which with --image NAME$"):
        read(source, path, image=None)
    with pytest.raises(ValueError, match=r"has no image 'third'; it has x/y/im.jpg, a/b/other.jpg$"):
        read(source, path, image="third")


def test_images_of_nobody_are_scenes_of_nobody(files):
    source, path = files("dto opt")
    scene = read(source, path, image="nobody.jpg", image_size=SIZE, vertical_fov=0.8)
    assert len(scene.people) == 0
    assert len(place(scene, RelativeDepth(np.ones((10, 15)), "metric"))[0].people) == 0
    source, path = files("phalp")
    assert len(read(source, path, image="000002", image_size=SIZE).people) == 0


def test_a_file_of_nobody_is_a_scene_of_nobody(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[]")
    scene = read_people(path, "sam3d-body", image_size=SIZE, vertical_fov=0.8)
    assert (len(scene.people), scene.camera.width) == (0, SIZE[0])


def test_without_smpl_surfaces_serve_where_there_are_triangles(files, tmp_path, monkeypatch):
    for name in ("romp", "camerahmr labels"):
        files(name)  # made with SMPL
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source, path = files("romp")
    people = read(source, path, faces=np.array([[0, 1, 2]])).people
    assert people.body == "rigid"
    np.testing.assert_allclose(people.vertices_m, source.vertices_m, atol=1e-3)
    for name in ("romp", "camerahmr labels"):
        with pytest.raises(AssetError, match="SMPL"):
            read(*files(name))


def test_infants_of_bev_take_the_triangles_of_smpl(files):
    people = read(*files("bev infant")).people
    np.testing.assert_array_equal(people.faces, load_body("smpl").faces.numpy())


def changed(content, key: str, value):
    """The content with one value changed wherever its key stands; a value may be a function of the old one."""
    if isinstance(content, dict):
        new = {}
        for name, old in content.items():
            if name == key:
                if value is not None:
                    new[name] = value(old) if callable(value) else value
            else:
                new[name] = changed(old, key, value)
        return new
    return [changed(part, key, value) for part in content] if isinstance(content, list) else content


def shifted(pixels: float) -> np.ndarray:
    """What moves a camera's principal point to the right."""
    return np.array([[0, 0, pixels], [0, 0, 0], [0, 0, 0]])


def broken(row: int):
    def change(array):
        array = np.array(array, float)
        array[row].flat[-1] = np.nan
        return array

    return change


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("sam3d-body", "pred_cam_t", lambda t: t * np.array([1, 1, np.nan]), "'pred_cam_t' of person 0 holds NaN"),
        ("romp", "smpl_thetas", broken(1), "'smpl_thetas' of person 1 holds NaN"),
        ("camerahmr labels", "shape", broken(3), "image 'x/y/im.jpg': 'shape' of person 2 holds NaN"),
        ("nlf tensorflow", "betas", None, "it has the keys 'pose', 'trans', 'vertices3d'"),
        ("romp", "smpl_thetas", np.zeros((3, 70)), r"'smpl_thetas' of person 0 must have shape \(24, 3\), got \(70,\)"),
        ("romp", "cam_trans", np.array(list("abc")), "'cam_trans' must hold numbers"),
        ("sam3d-body", "pred_vertices", lambda v: 1000 * v, "person 0 is .* m large, so the file is in millimetres"),
        ("sam3d-body", "pred_vertices", lambda v: 100 * v, "so the file is in centimetres"),
        ("sam3d-body", "pred_vertices", lambda v: v - 100, r"person 0 stands -9\d\.?\d* m in front of the camera"),
        ("sam3d-body", "focal_length", lambda f: 2 * f, "'focal_length' is 15.. px, but the 2D"),
        ("sam3d-body", "pred_keypoints_2d", lambda p: p[::-1], "no camera projects the file's 3D joints"),
        ("sam3d-body", "mask", np.zeros((5, 5, 1)), "is implausible for a 5x5 image"),
        ("romp", "smpl_betas", lambda b: b + 3.0, "the surface of person 0 is .* cm"),
        ("romp", "cam_trans", lambda t: t + np.array([0.3, 0, 0]), "person 0 does not project to .* by .* px"),
        ("romp", "cam_trans", lambda t: t * 512 / 443.4, r"person 0 does not project to .* by -1[34] % in size"),
        ("bev", "joints", None, "the people have no 'joints'"),
        ("bev infant", "verts", None, "person 1 is an infant of SMIL's"),
        ("hmr2", "global_orient", lambda r: r * 1.1, "of person 0 holds a matrix that is no rotation"),
        ("phalp", "camera", lambda c: c[:2], "'camera' has 2 entries for 3 people"),
        ("phalp", "counts", "PX1", "'mask' of person 0 is damaged"),
        ("camerahmr labels", "cam_int", lambda K: K * np.array([1, 1.1, 1, 1])[:, None, None], "'cam_int' differs"),
        ("camerahmr labels", "cam_int", lambda K: K + shifted(0.3), "is not the centre"),
        ("sat-hmr", "pred_poses", lambda p: p[None], "'pred_poses' has a batch axis"),
        ("multi-hmr anny", "K", lambda K: K + shifted(9), "is not the centre of Multi-HMR"),
        ("multi-hmr smplx", "j2d_smplx", None, "neither 'K' nor 'j2d'"),
        ("prompthmr", "body_joints", None, "no joints to tell statures from"),
    ],
)  # fmt: skip
def test_broken_files_are_refused_in_one_sentence(files, tmp_path, name, key, value, message):
    source, _ = files(name)
    path = replace(source, content=changed(source.content, key, value)).save(tmp_path)
    with pytest.raises((InputError, FormatError), match=rf"^{path}.*{message}") as caught:
        read(source, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("romp", {"image_size": None}, "does not say how large the image is; give --image-size"),
        ("romp", {"image_size": (600, 600)}, "does not project to the file's own 2D joints"),
        ("sat-hmr", {"image_size": (427, 640)}, "of an image of 1288x859 px, which no scaling makes of 427x640"),
        ("phalp", {"image_size": (600, 600)}, "the file is of a 640x427 image, not 600x600"),
        ("camerahmr labels", {"image_size": (600, 600)}, "the file is of a 640x427 image, not 600x600"),
        ("camerahmr labels", {"faces": np.array([[0, 1, 2]])}, "triangles given are not those of SMPL"),
        ("table", {"faces": np.array([[0, 1, 2]])}, "triangles given are not those of the table's own 'faces'"),
        ("romp", {"vertical_fov": 0.3}, "placed for a focal length of 554 px .* leave --fov and --intrinsics out"),
        ("sam3d-body", {"faces": None}, "give the triangles of MHR .* with --faces FILE"),
        ("multi-hmr anny", {"faces": np.array([[0, 1, 2000]])}, "faces refer to vertex 2000"),
        ("nlf pytorch", {"vertical_fov": 0.3, "intrinsics": np.eye(3)}, "either a field of view or intrinsics"),
        ("nlf pytorch", {"adapter": "nlfs"}, "unknown adapter 'nlfs'; use auto, camerahmr"),
    ],
)
def test_what_is_said_beside_a_file_must_fit(files, name, options, message):
    source, path = files(name)
    with pytest.raises(InputError, match=message):
        read(source, path, **options)


def test_a_camera_that_is_not_in_the_file_must_be_said(files, tmp_path):
    source, _ = files("nlf tensorflow")
    path = replace(source, content=changed(source.content, "joints2d", None)).save(tmp_path)
    with pytest.raises(InputError, match=r"give --fov or --intrinsics \(NLF assumes 55 degrees over the longer side"):
        read(source, path)
    fov = 2 * np.arctan(SIZE[1] / SIZE[0] * np.tan(np.radians(55 / 2)))
    scene = read(source, path, vertical_fov=fov)
    np.testing.assert_allclose(scene.camera.project(source.joints_m), source.joints_px, atol=0.01)


def test_the_kid_axis_needs_its_template(files, tmp_path, monkeypatch):
    source, path = files("dto opt")
    synthetic_smpl.write(tmp_path / "smpl", "SMPL_NEUTRAL.npz", kid=False)
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    with pytest.raises(InputError, match=r"kid axis of SMPL-A, and no smpl_kid_template\.npy"):
        read(source, path)


def test_videos_of_prompthmr_have_no_surfaces(tmp_path):
    track = {"frames": np.arange(2), "smplx_cam": {"pose": np.zeros((2, 75)), "trans": np.zeros((2, 3))}}
    content = {"camera": {"img_focal": 500.0}, "people": {1: track}, "masks": None}
    none = np.zeros((0, 1, 3))
    source = Source("prompthmr", content, none, none, none, suffix=".pkl")
    with pytest.raises(InputError, match="PromptHMR's video pipeline"):
        read(source, source.save(tmp_path))


def test_files_of_nobody_we_know_are_outlined(tmp_path):
    (tmp_path / "x.json").write_text("[" * 900 + "]" * 900)
    with pytest.raises(FormatError, match=r"x\.json is no file of ROMP: it has a list on top"):
        read_people(tmp_path / "x.json", "romp")
    (tmp_path / "x.json").write_text('[{"face": 1, "hand": 2}]')
    with pytest.raises(FormatError, match="no file of ROMP: it has a list of objects with the keys 'face', 'hand'"):
        read_people(tmp_path / "x.json", "romp")
    with pytest.raises(FormatError, match="not a readable table of people: its top level must be an object"):
        read_people(tmp_path / "x.json")
