"""People from other systems, as plain tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crowdmesh.adapters import read_people
from crowdmesh.body import load_body
from crowdmesh.dto import place
from crowdmesh.errors import FormatError, InputError


def rigid_table(guess) -> dict[str, np.ndarray]:
    people = guess.people
    return {
        "vertices_m": people.vertices_m,
        "faces": load_body("anny").faces.numpy(),
        "stature_m": people.stature_m,
        "intrinsics": guess.camera.K,
        "image_size": np.array([guess.camera.width, guess.camera.height]),
        "age_years": people.age_years,
        "male_probability": people.male_probability,
        "masks": people.masks.to_dense(),
    }


def test_vertices_from_anywhere_are_placed(crowd, tmp_path):
    world, guess, disparity = crowd
    np.savez(tmp_path / "people.npz", **rigid_table(guess))
    scene = read_people(tmp_path / "people.npz")
    placed, placement = place(scene, disparity)
    truth = world.scene.people.vertices_m[..., 2].mean(1)
    np.testing.assert_allclose(placed.people.vertices_m[..., 2].mean(1), truth, rtol=0.12)
    assert placement.accepted


def test_parameters_as_json(crowd, tmp_path):
    _, guess, disparity = crowd
    people = guess.people
    table = {
        "body": "anny", "pose": people.pose.tolist(), "shape": people.shape.tolist(),
        "translation_m": people.translation_m.tolist(), "vertical_fov_deg": np.degrees(guess.camera.vertical_fov),
        "image_size": [1280, 720], "age_years": [None, *people.age_years[1:].tolist()],
    }  # fmt: skip
    (tmp_path / "people.json").write_text(json.dumps(table))
    scene = read_people(tmp_path / "people.json")
    np.testing.assert_allclose(scene.people.vertices_m, people.vertices_m, atol=1e-5)
    np.testing.assert_allclose(scene.people.stature_m, people.stature_m, atol=1e-5)
    assert np.isnan(scene.people.age_years[0])  # null: unknown
    assert len(place(scene, disparity)[0].people) == 6


def test_scene_files_are_recognised(crowd, tmp_path):
    _, guess, _ = crowd
    guess.save(tmp_path / "x.scene.npz")
    np.testing.assert_array_equal(read_people(tmp_path / "x.scene.npz").people.pose, guess.people.pose)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.ones(3)}, "unknown key 'vertices'; did you mean 'vertices_m'"),
        ({"intrinsics": None}, "lacks 'intrinsics'"),
        ({"image_size": None}, "lacks 'image_size'"),
        ({"faces": None}, "lacks 'faces'"),
        ({"stature_m": None}, "lacks 'stature_m'"),
        ({"intrinsics": np.eye(3)}, "must be given in pixels"),
        ({"body": "smplx"}, "unknown body 'smplx'"),
        ({"body": "anny"}, "needs pose and shape and translation_m"),
        ({"masks": np.ones((6, 10, 10), bool)}, r"masks must have shape \(people, 720, 1280\)"),
        ({"age_years": np.ones(2)}, "age_years must have shape"),
        ({"stature_m": np.array(list("abcdef"))}, "stature_m must hold numbers"),
        ({"image_size": np.array([1280])}, r"image_size must be \(width, height\)"),
        ({"image_size": np.array("big")}, "image_size must hold numbers"),
        ({"age_years": np.full(6, np.inf)}, "age_years holds infinite values"),
        ({"image_size": np.array([np.nan, 720])}, "image_size must hold whole numbers, got nan"),
        ({"image_size": np.array([np.inf, 720])}, "image_size must hold whole numbers, got inf"),
        ({"image_size": np.array([1280.7, 720])}, r"image_size must hold whole numbers, got 1280\.7"),
        ({"translation_m": np.array(1.0)}, "translation_m must have shape"),
        ({"translation_m": np.ones((5, 3))}, r"translation_m must have shape \(6, ...\) for 6 people, got \(5, 3\)"),
        ({"masks": np.full((6, 720, 1280), 255, np.uint8)}, "masks must hold 0"),
        ({"masks": np.array("all")}, "masks must hold numbers"),
        ({"faces": np.array([[0, 1, 1.5]])}, r"faces must hold whole numbers, got 1\.5"),
        ({"faces": np.array([[0, 2, -1]])}, "faces refer to vertex -1"),
        ({"faces": np.array([[0, 2, 1229]])}, "faces refer to vertex 1229"),
        ({"stature_m": np.full(6, 170.0)}, "stature_m must be in metres: 170"),
        ({"vertices_m": np.zeros((6, 4, 3))}, "vertices_m must be in metres in the camera frame: 0"),
        ({"vertices_m": 170 * np.eye(3)[[0, 0, 0, 1, 1, 1], None] * [[0], [1]]}, "vertices_m must be in metres"),
        ({"vertices_m": np.full((6, 4, 3), np.nan)}, "vertices_m holds NaN"),
        ({"vertices_m": np.zeros((6, 0, 3))}, "vertices_m must have shape"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(crowd, tmp_path, change, message):
    table = {k: v for k, v in (rigid_table(crowd[1]) | change).items() if v is not None}
    np.savez(tmp_path / "people.npz", **table)
    with pytest.raises(InputError, match=message):
        read_people(tmp_path / "people.npz")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stature_m": [1.7]}, r"stature_m must have shape \(2, ...\) for 2 people, got \(1,\)"),
        ({"stature_m": [1.0, 1.0]}, r"stature_m of person . is 1\.000 m but the shape makes 1\."),
        ({"translation_m": [[0, 0, 5]] * 3}, r"translation_m must have shape \(2, ...\)"),
        ({"translation_m": 5}, "translation_m must have shape"),
        ({"masks": [[[0, 1]], [[0]]]}, "masks must hold numbers in a regular array"),
        ({"shape": [[0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 25.0, 0.5, 0.5, 0.5, 0.5]]}, "'age' of person 1 is 25"),
        ({"vertices_m": [[[0, 0, 5]]] * 2}, "vertices_m of body 'anny' follow from pose"),
        ({"joints_m": [[[0, 0, 5]]] * 2, "faces": [[0, 1, 2]]}, "joints_m and faces of body 'anny' follow"),
        ({"scores": [10**400, 1]}, "scores must hold numbers"),
        ({"header": "mine"}, "unknown key 'header'"),
    ],
)
def test_bad_parameters_are_refused_in_one_sentence(tmp_path, change, message):
    table = {
        "body": "anny", "pose": np.zeros((2, 104, 3)).tolist(), "shape": [[0.5] * 6] * 2,
        "translation_m": [[0, 0, 5]] * 2, "vertical_fov_deg": 50, "image_size": [1280, 720],
    }  # fmt: skip
    path = tmp_path / "people.json"
    path.write_text(json.dumps(table))
    assert len(read_people(path).people) == 2
    path.write_text(json.dumps(table | change))
    with pytest.raises(InputError, match=f"^{path}: .*{message}"):
        read_people(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npz", b""),
        ("a.npz", b"PK junk"),
        ("a.txt", b"Anna, 1.70 m"),
        ("a.json", b"{"),
        ("a.json", b"[1]"),
        ("a.json", b'{"pose": "\xff"}'),
        ("a.json", b"[" * 100_000),
    ],
)
def test_broken_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=rf"{name} is not a readable table of people: ") as caught:
        read_people(tmp_path / name)
    assert "pickle" not in str(caught.value)


def test_other_archives_with_a_header_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", header=np.array("mine"))
    with pytest.raises(FormatError, match=r"x\.npz is not a readable CrowdMesh scene"):
        read_people(tmp_path / "x.npz")


def test_missing_file():
    with pytest.raises(InputError, match="does not exist"):
        read_people("nowhere.npz")
