"""Exports: files read back by others' readers have the axes, units, names and numbers they should."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import roma
import synthetic_smpl
import torch
import trimesh
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from crowdmesh.body import load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import FormatError, InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People, PersonStatus
from crowdmesh.scene import Scene
from crowdmesh.visual import person_colors
from crowdmesh.visual.export import FORMATS, Frame, export_notes, export_path, export_scene, save_glb

SPHERE = trimesh.creation.icosphere(subdivisions=2, radius=1.0)
BALL, FACES = np.asarray(SPHERE.vertices, np.float32), np.asarray(SPHERE.faces)
CAMERA = Camera(500.0, 510.0, 310.0, 200.0, 640, 360)
CENTRES, RADII = np.array([(1.0, -0.5, 4.0), (-2.0, 0.25, 6.0), (0.5, 0.125, 3.0)]), np.array([0.3, 0.9, 0.5])

# What each frame is: where a point (x right, y down, z forward) goes, and its unit.
PLACES = {
    "opencv": lambda x, y, z: (x, y, z),
    "opengl": lambda x, y, z: (x, -y, -z),
    "blender": lambda x, y, z: (x, z, -y),
}
UNITS = {"m": 1.0, "cm": 100.0}
EVERY_FRAME = [Frame(name, units=units) for name in PLACES for units in UNITS]


def there(points: np.ndarray, frame: Frame) -> np.ndarray:
    """Camera-frame points in a frame, number by number."""
    return UNITS[frame.units] * np.stack(PLACES[frame.name](*np.moveaxis(np.asarray(points, float), -1, 0)), -1)


@pytest.fixture
def balls() -> Scene:
    """Three people who are balls: centre, radius and outward direction of every vertex are known."""
    vertices = (BALL[None] * RADII[:, None, None] + CENTRES[:, None]).astype(np.float32)
    status = np.array([PersonStatus.PLACED, PersonStatus.KEPT_ALONE, PersonStatus.INITIAL])
    return Scene(CAMERA, People("rigid", CENTRES, 2 * RADII, vertices_m=vertices, faces=FACES, status=status))


def anny_scene(seed: int = 0, count: int = 3) -> Scene:
    """Anny people of all ages, tumbling in mid-air, in the state in which a scene is loaded."""
    random = np.random.default_rng(seed)
    body = load_body("anny")
    shape = body.default_shape(count, random.uniform(1, 60, count), random.uniform(0, 1, count))
    pose = 0.2 * random.standard_normal((count, len(body.joint_names), 3))
    pose[:, 0] = Rotation.random(count, rng=random).as_rotvec()
    place = random.uniform((-3, -1, 2), (3, 1, 9), (count, 3))
    people = People("anny", place, body.stature(shape).double().numpy(), pose, shape.double().numpy())
    return Scene(CAMERA, pose_people(people), provenance={"source": "test"})


@pytest.fixture(scope="module")
def smpl_folder(tmp_path_factory) -> Path:
    """An asset folder with a made-up SMPL whose pelvis rests as far from the model's origin as the real one's."""
    folder = tmp_path_factory.mktemp("assets")
    path = synthetic_smpl.write(folder / "smpl", "SMPL_NEUTRAL.npz")
    data = arrays_of(path)
    data["v_template"] = data["v_template"] + (0.0, -0.24, 0.03)
    np.savez(path, **data)
    return folder


def smpl_scene(axes: int = 11) -> Scene:
    random = np.random.default_rng(5)
    shape = random.normal(0, 0.5, (3, axes))
    shape[:, 10:] = np.array([[0.0], [0.4], [0.9]])
    pose = 0.3 * random.standard_normal((3, 24, 3))
    pose[:, 0] = Rotation.random(3, rng=random).as_rotvec()
    place = random.uniform((-3, -1, 2), (3, 1, 9), (3, 3))
    return Scene(CAMERA, People("smpl", place, np.ones(3), pose, shape))


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def tree_of(path: Path) -> dict:
    """The JSON part of a GLB file."""
    data = path.read_bytes()
    return json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])


def meshes_of(path: Path) -> list[trimesh.Trimesh]:
    """One mesh per person as trimesh reads it, in order."""
    if path.suffix == ".ply":
        mesh = trimesh.load(path, process=False)
        person = mesh.metadata["_ply_raw"]["vertex"]["data"]["person"]
        assert np.array_equal(person[mesh.faces].min(1), person[mesh.faces].max(1))  # no triangle between people
        return [
            trimesh.Trimesh(
                mesh.vertices[person == k],
                mesh.faces[person[mesh.faces[:, 0]] == k] - np.flatnonzero(person == k)[0],
                vertex_normals=mesh.vertex_normals[person == k],
                vertex_colors=mesh.visual.vertex_colors[person == k],
                process=False,
            )
            for k in range(person.max() + 1)
        ]
    loaded = trimesh.load(path, process=False, **({"split_object": True} if path.suffix == ".obj" else {}))
    assert isinstance(loaded, trimesh.Scene)
    names = [f"person_{k}" for k in range(len(loaded.geometry))]
    assert set(loaded.geometry) == set(names)
    return [loaded.geometry[name] for name in names]


# Meshes


@pytest.mark.parametrize("frame", EVERY_FRAME, ids=lambda frame: f"{frame.name}-{frame.units}")
@pytest.mark.parametrize("format", ["glb", "ply", "obj"])
def test_meshes_have_the_axes_units_and_outward_normals_of_their_frame(balls, tmp_path, format, frame):
    path = tmp_path / f"a.{format}"
    assert export_scene(balls, path, frame=frame)[0] == path
    scale = UNITS[frame.units]
    meshes = meshes_of(path)
    assert len(meshes) == 3
    for k, mesh in enumerate(meshes):
        assert np.allclose(mesh.vertices.mean(0), there(CENTRES[k], frame), atol=1e-5 * scale)
        # Readers may renumber vertices: the corners of the triangles are in the order of the file.
        expected = there(balls.people.vertices_m[k], frame)[FACES]
        assert np.allclose(mesh.vertices[mesh.faces], expected, atol=1e-6 * scale)
        outward = (mesh.vertices - there(CENTRES[k], frame)) / (RADII[k] * scale)
        assert np.einsum("vi,vi->v", mesh.vertex_normals, outward).min() > 0.99
        assert np.allclose(np.linalg.norm(mesh.vertex_normals, axis=-1), 1, atol=1e-5)
        assert mesh.volume == pytest.approx(SPHERE.volume * (RADII[k] * scale) ** 3, rel=1e-4)  # positive: not mirrored


@pytest.mark.parametrize("format", ["glb", "ply", "obj"])
def test_meshes_are_opengl_metres_unless_told(balls, tmp_path, format):
    first, second = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
    export_scene(balls, first)
    export_scene(balls, second, format, Frame("opengl"))
    assert first.read_bytes().replace(b"a.mtl", b"b.mtl") == second.read_bytes()


def test_ply_has_the_colours_of_the_pictures(balls, tmp_path):
    export_scene(balls, tmp_path / "a.ply")
    colors = np.rint(255 * person_colors(3))
    for k, mesh in enumerate(meshes_of(tmp_path / "a.ply")):
        assert np.array_equal(np.unique(mesh.visual.vertex_colors[:, :3], axis=0), colors[k : k + 1])


def test_obj_materials_have_the_colours_of_the_pictures(balls, tmp_path):
    files = export_scene(balls, tmp_path / "my people.obj")
    assert files == [tmp_path / "my people.obj", tmp_path / "my people.mtl"] and all(map(Path.is_file, files))
    for k, mesh in enumerate(meshes_of(files[0])):
        assert mesh.visual.material.name == f"person_{k}"
        assert np.allclose(mesh.visual.material.diffuse[:3] / 255, person_colors(3)[k], atol=0.005)


def test_a_vertex_of_no_triangle_has_a_unit_normal(balls, tmp_path):
    lonely = np.concatenate((balls.people.vertices_m, np.full((3, 1, 3), 2, np.float32)), 1)
    export_scene(replace(balls, people=replace(balls.people, vertices_m=lonely)), tmp_path / "a.ply")
    raw = trimesh.load(tmp_path / "a.ply", process=False).metadata["_ply_raw"]["vertex"]["data"]
    lengths = np.sqrt(sum(raw[name].astype(float) ** 2 for name in ("nx", "ny", "nz")))
    assert len(lengths) == 3 * len(BALL) + 3 and np.allclose(lengths, 1, atol=1e-5)


@pytest.mark.parametrize("frame", EVERY_FRAME, ids=lambda frame: f"{frame.name}-{frame.units}")
def test_the_glb_camera_sees_what_the_photo_shows(balls, tmp_path, frame):
    """In the camera node's own axes (x right, y up, looking along -z) people lie where they lie in the photo."""
    export_scene(balls, tmp_path / "a.glb", frame=frame)
    loaded = trimesh.load(tmp_path / "a.glb", process=False)
    to_camera = np.linalg.inv(loaded.graph["camera"][0])
    for k, mesh in enumerate(meshes_of(tmp_path / "a.glb")):
        seen = to_camera @ np.append(mesh.vertices.mean(0) / UNITS[frame.units], 1)
        x, y, z = CENTRES[k]
        assert np.allclose(seen[:3], (x, -y, -z), atol=1e-5)
    (node,) = [node for node in tree_of(tmp_path / "a.glb")["nodes"] if node["name"] == "camera"]
    assert node["extras"] == {"fx": 500.0, "fy": 510.0, "cx": 310.0, "cy": 200.0, "width": 640, "height": 360}


def test_a_glb_that_is_not_in_gltfs_own_frame_says_so(balls, tmp_path):
    export_scene(balls, tmp_path / "a.glb", frame=Frame("blender", units="cm"))
    told = tree_of(tmp_path / "a.glb")["asset"]["extras"]
    assert (told["frame"]["name"], told["frame"]["units"]) == ("blender", "cm")
    assert told["notes"] == list(export_notes("glb", Frame("blender", units="cm")))
    assert any("glTF" in note for note in told["notes"]) and any("/ 100" in note for note in told["notes"])
    export_scene(balls, tmp_path / "a.glb")
    assert tree_of(tmp_path / "a.glb")["asset"]["extras"]["notes"] == [] == list(export_notes("glb"))


def test_glb_nodes_say_who_the_person_is(balls, tmp_path):
    export_scene(balls, tmp_path / "a.glb", frame=Frame(up="z", units="cm"))
    nodes = {node["name"]: node for node in tree_of(tmp_path / "a.glb")["nodes"]}
    told = nodes["person_1"]["extras"]
    assert told["id"] == 1 and told["status"] == "kept_alone" and "nobody else" in told["reason"]
    assert told["stature"] == pytest.approx(180) and told["body"] == "rigid"
    assert told["translation"] == pytest.approx([-200, 600, -25])  # of a rigid body it is a point
    assert told["pose"] is None and told["shape"] is None
    save_glb(balls, FACES, tmp_path / "b.glb", up="z")
    nodes = {node["name"]: node for node in tree_of(tmp_path / "b.glb")["nodes"]}
    assert nodes["person_1"]["extras"]["translation"] == pytest.approx([-2, 6, -0.25])


# Parameters


def posed_again(body: str, parameters: dict, frame: Frame) -> np.ndarray:
    """Vertices of the body model run with a file's parameters, in the file's unit, double precision where possible."""
    values = {name: np.asarray(parameters[name], float) for name in ("translation", "pose", "shape")}
    scale = UNITS[frame.units]
    people = People(body, values["translation"] / scale, np.ones(len(values["pose"])), values["pose"], values["shape"])
    return scale * pose_people(people).vertices_m.astype(float)


@pytest.mark.parametrize("frame", EVERY_FRAME, ids=lambda frame: f"{frame.name}-{frame.units}")
@pytest.mark.parametrize("format", ["glb", "npz", "json"])
def test_the_body_posed_with_a_files_parameters_is_the_files_body(tmp_path, format, frame):
    scene = anny_scene()
    path = tmp_path / f"a.{format}"
    export_scene(scene, path, frame=frame)
    if format == "npz":
        parameters = arrays_of(path)
    else:
        nodes = tree_of(path)["nodes"] if format == "glb" else json.loads(path.read_text())["people"]
        rows = [node.get("extras", node) for node in nodes if node.get("name") != "camera"]
        assert [row["id"] for row in rows] == [0, 1, 2]
        parameters = {name: [row[name] for row in rows] for name in ("translation", "pose", "shape", "stature")}
    expected = there(scene.people.vertices_m, frame)
    assert np.abs(posed_again("anny", parameters, frame) - expected).max() < 1e-5 * UNITS[frame.units]
    assert np.allclose(parameters["stature"], scene.people.stature_m * UNITS[frame.units])
    assert np.array_equal(np.asarray(parameters["pose"])[:, 1:], scene.people.pose[:, 1:])


rotation_vectors = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.1)


@settings(max_examples=6)
@example(axis=(1.0, 0.0, 0.0), angle=np.pi, seed=0, frame=Frame("opengl"))  # the turn of the frame, undone
@example(axis=(0.0, 1.0, 0.0), angle=np.pi, seed=1, frame=Frame("opengl"))  # half a turn about another axis
@given(
    axis=rotation_vectors,
    angle=st.floats(0, np.pi),
    seed=st.integers(0, 99),
    frame=st.sampled_from([Frame("opengl"), Frame("blender"), Frame("blender", units="cm")]),
)
def test_any_body_in_any_orientation_is_turned_as_a_whole(tmp_path_factory, axis, angle, seed, frame):
    scene = anny_scene(seed, 2)
    pose = scene.people.pose.copy()
    pose[0, 0] = angle * np.array(axis) / np.linalg.norm(axis)
    scene = replace(scene, people=pose_people(replace(scene.people, pose=pose)))
    path = tmp_path_factory.mktemp("any") / "a.npz"
    export_scene(scene, path, frame=frame)
    arrays = arrays_of(path)
    tolerance = 1e-5 * UNITS[frame.units]
    assert np.allclose(posed_again("anny", arrays, frame), there(scene.people.vertices_m, frame), atol=tolerance)
    assert np.allclose(arrays["vertices"], there(scene.people.vertices_m, frame), atol=tolerance)
    assert np.allclose(arrays["joints"], there(scene.people.joints_m, frame), atol=tolerance)
    back = arrays["vertices"] @ arrays["camera_rotation"] / UNITS[frame.units]
    assert np.allclose(back, scene.people.vertices_m, atol=1e-6)
    pixels = (arrays["intrinsics"] @ back.reshape(-1, 3).T).T
    assert np.allclose(pixels[:, :2] / pixels[:, 2:], CAMERA.project(scene.people.vertices_m.reshape(-1, 3)), atol=0.01)


@pytest.mark.parametrize("frame", EVERY_FRAME, ids=lambda frame: f"{frame.name}-{frame.units}")
def test_smpl_run_with_the_exported_parameters_stands_where_the_scene_says(smpl_folder, tmp_path, monkeypatch, frame):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(smpl_folder))
    scene, path = smpl_scene(), tmp_path / "a.npz"
    vertices = pose_people(scene.people).vertices_m
    export_scene(scene, path, "smpl", frame)
    arrays = arrays_of(path)
    shapes = {"global_orient": (3, 3), "body_pose": (3, 69), "betas": (3, 10), "kid": (3,), "transl": (3, 3)}
    assert {name: arrays[name].shape for name in shapes} == shapes
    pose = np.concatenate((arrays["global_orient"], arrays["body_pose"]), 1).reshape(3, 24, 3)
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(pose).float())
    betas = torch.from_numpy(np.column_stack((arrays["betas"], arrays["kid"]))).float()
    scale = UNITS[frame.units]
    body = load_body("smpl")
    run = body(betas, rotations, torch.from_numpy(arrays["transl"] / scale).float()).vertices
    assert np.abs(scale * run.numpy() - there(vertices, frame)).max() < 1e-5 * scale
    if frame.name != "opencv":  # the test would notice a translation that is turned like a point
        assert np.abs(arrays["transl"] - there(scene.people.translation_m, frame)).max() > 0.1 * scale


def test_smpl_without_a_kid_axis_has_no_kids_and_needs_no_model_in_its_own_frame(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    scene = smpl_scene(10)
    export_scene(scene, tmp_path / "a.npz", "smpl")
    arrays = arrays_of(tmp_path / "a.npz")
    assert np.array_equal(arrays["kid"], np.zeros(3)) and np.array_equal(arrays["betas"], scene.people.shape)
    assert np.array_equal(arrays["transl"], scene.people.translation_m)
    assert np.array_equal(arrays["global_orient"], scene.people.pose[:, 0])


def test_smpl_with_another_model_than_the_scenes_is_refused(smpl_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(smpl_folder))
    with pytest.raises(InputError, match="11 shape parameters, but these people have 10"):
        export_scene(smpl_scene(10), tmp_path / "a.npz", "smpl", Frame("opengl"))


# Tables


def evident(scene: Scene) -> Scene:
    """The scene with evidence, some of it unknown."""
    random = np.random.default_rng(2)
    masks = Masks.from_dense(random.random((3, 360, 640)) > 0.5)
    people = replace(
        scene.people,
        boxes_px=random.uniform(0, 300, (3, 4)),
        scores=np.array([0.9, 0.8, 0.7]),
        age_years=np.array([31.0, np.nan, 4.0]),
        age_std_years=np.array([2.0, np.nan, 1.0]),
        male_probability=np.array([0.25, np.nan, 1.0]),
        known_stature_m=np.array([np.nan, 1.75, 0.5]),
        fit_error_px=np.array([np.nan, 2.5, 3.0]),
        status=np.array([PersonStatus.PLACED, PersonStatus.KEPT_ALONE, PersonStatus.INITIAL]),
        keypoints_px=random.uniform(0, 300, (3, 17, 3)),
        masks=masks,
    )
    return replace(scene, people=people)


def test_npz_holds_everything_exactly(tmp_path):
    scene = evident(anny_scene())
    export_scene(scene, tmp_path / "a.npz")
    arrays, people = arrays_of(tmp_path / "a.npz"), scene.people
    header = json.loads(str(arrays.pop("header")))
    assert header["frame"] == {
        "name": "opencv", "axes": "x right, y down, z forward (away from the viewer)", "origin": "camera", "units": "m"
    }  # fmt: skip
    assert header["body"] == "anny" and header["provenance"] == {"source": "test"}
    expected: dict = {"intrinsics": CAMERA.K, "image_size": [640, 360], "camera_rotation": np.eye(3)}
    for field in fields(People):
        value = getattr(people, field.name)
        if field.name == "faces":
            value = load_body("anny").faces.numpy()
        assert value is not None, f"evident() tells nothing of {field.name}"
        if field.name == "masks":
            expected |= {"mask_runs": value.runs, "mask_offsets": value.offsets}
        elif field.name != "body":  # which is in the header
            expected[field.name.removesuffix("_m")] = value
    assert set(arrays) == set(expected)
    for name, value in expected.items():
        assert np.array_equal(arrays[name], value, equal_nan=True), name


def test_json_is_a_table_of_people_and_camera(tmp_path):
    scene = evident(anny_scene())
    export_scene(scene, tmp_path / "a.json", frame=Frame("blender", units="cm"))
    table = json.loads(tmp_path.joinpath("a.json").read_text(), parse_constant=pytest.fail)  # no NaN in JSON
    assert table["camera"]["rotation"] == [[1, 0, 0], [0, 0, 1], [0, -1, 0]] and table["camera"]["fy"] == 510
    assert [row["age_years"] for row in table["people"]] == [31, None, 4]
    assert [row["male_probability"] for row in table["people"]] == [0.25, None, 1]
    assert [row["known_stature"] for row in table["people"]] == [None, 175, 50]
    told = {"translation", "stature", "known_stature", "box_px", "score"} | {field.name for field in fields(People)}
    absent = {"translation_m", "stature_m", "known_stature_m", "boxes_px", "scores"}  # under the names before
    assert told - absent - {"vertices_m", "joints_m", "faces", "masks"} <= set(table["people"][0])
    for k, row in enumerate(table["people"]):
        assert row["root"] == pytest.approx(there(scene.people.joints_m[k, 0], Frame("blender", units="cm")))
        assert row["box_px"] == pytest.approx(list(scene.people.boxes_px[k]))
        assert row["score"] == scene.people.scores[k]
    assert any("/ 100" in note for note in table["notes"])


@pytest.mark.parametrize("format", ["glb", "ply", "obj", "npz", "json"])
def test_people_without_vertices_are_posed(tmp_path, format):
    scene = anny_scene()
    bare = replace(scene, people=replace(scene.people, vertices_m=None, joints_m=None))
    (folder := tmp_path / "b").mkdir()
    export_scene(scene, tmp_path / f"a.{format}")
    export_scene(bare, folder / f"a.{format}")
    assert (folder / f"a.{format}").read_bytes() == (tmp_path / f"a.{format}").read_bytes()


def test_a_translation_nobody_can_turn_is_left_out(tmp_path):
    """Vertices alone do not say where the root joint rests, so no other frame has a translation."""
    scene = anny_scene()
    scene = replace(scene, people=replace(scene.people, pose=None))
    export_scene(scene, tmp_path / "a.npz", frame=Frame("opengl"))
    arrays = arrays_of(tmp_path / "a.npz")
    assert "translation" not in arrays and "pose" not in arrays and len(arrays["vertices"]) == 3
    export_scene(scene, tmp_path / "a.npz")
    assert np.array_equal(arrays_of(tmp_path / "a.npz")["translation"], scene.people.translation_m)


# What is asked for


def test_up_is_the_short_way_to_a_frame():
    assert Frame(up="y") == Frame("opengl") == Frame("opengl", "y")
    assert Frame(up="z", units="cm") == Frame("blender", units="cm")
    assert Frame("opencv").up is None and Frame().name is None
    for name, up in (("opengl", "z"), ("blender", "y"), ("opencv", "y"), ("opencv", "z")):
        with pytest.raises(InputError, match="contradicts"):
            Frame(name, up)
    with pytest.raises(InputError, match="no axes yet"):
        _ = Frame().rotation


@pytest.mark.parametrize("name", PLACES)
def test_frames_are_proper_rotations(name):
    rotation = Frame(name).rotation
    assert np.array_equal(rotation @ rotation.T, np.eye(3)) and np.linalg.det(rotation) == 1


def test_the_usual_place_of_an_export_overwrites_no_result():
    names = {format: export_path("out/party.scene.npz", format) for format in FORMATS}
    assert names["glb"] == Path("out/party.export.glb") and names["smpl"] == Path("out/party.smpl.npz")
    assert len(set(names.values())) == len(FORMATS)
    results = {Path(f"out/party{suffix}") for suffix in (".scene.npz", ".png", ".glb", ".json")}
    assert not results & set(names.values())


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_written_is_refused_in_a_sentence(balls, tmp_path):
    nobody = replace(balls, people=balls.people[[]])
    surfaceless = replace(balls, people=replace(balls.people, vertices_m=None))
    fewer = anny_scene()
    fewer = replace(fewer, people=replace(fewer.people, vertices_m=fewer.people.vertices_m[:, :50]))
    (tmp_path / "file").write_text("kept")
    cases = [
        (nobody, "a.glb", None, None, "nobody"),
        (nobody, "a.json", None, None, "nobody"),
        (balls, "a.stl", None, None, "end it in one of .glb, .ply, .obj, .npz, .json"),
        (balls, "a", None, None, "end it in one of"),
        (balls, "a.obj", "glb", None, r"glb is saved as \.glb, got a\.obj"),
        (balls, "a.smpl", "smpl", None, r"smpl is saved as \.npz"),
        (balls, "a.stl", "stl", None, "unknown format 'stl'"),
        (balls, "a.scene.npz", "npz", None, "name of a scene file"),
        (balls, "a.npz", "smpl", None, "'smpl', but these are of body 'rigid'"),
        (anny_scene(), "a.npz", "smpl", None, "but these are of body 'anny'; use npz or json"),
        (surfaceless, "a.ply", None, None, "neither vertices nor parameters"),
        (fewer, "a.ply", None, None, "50 vertices, but body 'anny' has 1229"),
        (balls, "file/a.ply", None, None, "folder"),
    ]
    for scene, name, format, frame, message in cases:
        with pytest.raises(InputError, match=message):
            export_scene(scene, tmp_path / name, format, frame)
    for values in ({"name": "unity"}, {"up": "x"}, {"units": "mm"}):
        with pytest.raises(InputError, match="unknown"):
            Frame(**values)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_smpl_people_need_pose_and_shape(tmp_path):
    scene = smpl_scene()
    for change, message in (
        ({"shape": None}, "no pose and shape"),
        ({"pose": np.zeros((3, 22, 3))}, r"pose \(24, 3\)"),
    ):
        with pytest.raises(InputError, match=message):
            export_scene(replace(scene, people=replace(scene.people, **change)), tmp_path / "a.npz", "smpl")


def test_an_export_is_not_taken_for_a_scene(balls, tmp_path):
    export_scene(balls, tmp_path / "a.npz")
    with pytest.raises(FormatError, match="crowdmesh-export"):
        Scene.load(tmp_path / "a.npz")


@pytest.mark.parametrize("format", ["glb", "ply", "obj", "npz", "json"])
def test_an_interrupted_export_leaves_the_old_file(balls, tmp_path, monkeypatch, format):
    path = tmp_path / f"a.{format}"
    path.write_text("old")

    def fails(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(KeyboardInterrupt):
        export_scene(balls, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_text() == "old"
