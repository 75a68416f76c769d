"""``crowdmesh evaluate`` as a user types it: results in files, a method that runs, every mistake in one sentence."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import smpl_people as made
from test_formats import plain, pw3d_record, write
from test_relative_human import FIGURE, scene

from crowdmesh.benchmarks import Figure
from crowdmesh.benchmarks._smpl_bodies import load_bodies, smpl_truth
from crowdmesh.benchmarks.relative_human import predictions_from_scenes
from crowdmesh.cli import main
from crowdmesh.experts import Reconstructor, load_experts


def annotated(x: float, layer: int = 0, age: int = 0, y: float = 500.0) -> dict:
    points = np.column_stack((FIGURE + np.array([x, y]), np.ones(14)))
    box = [x, y, x + 60, y + 180]
    return {"bbox": box, "kp2d": points.reshape(-1), "depth_id": layer, "age": age, "gender": -1}


def predicted(*people: tuple[float, float]) -> dict:
    """People at (x, depth)."""
    return {
        "kp2ds": [(FIGURE + np.array([x, 500.0])).tolist() for x, _ in people],
        "trans": [[0.0, 0.0, z] for _, z in people],
    }


ANNOTATIONS = {"a.jpg": [annotated(100), annotated(300, age=2), annotated(600, layer=1)], "b.jpg": [annotated(100)]}
PREDICTIONS = {"a.jpg": predicted((100, 3.0), (300, 3.1), (600, 5.0)), "b.jpg": predicted((100, 4.0))}


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "test_annots.json", ANNOTATIONS)
    (tmp_path / "predictions.json").write_text(json.dumps(PREDICTIONS))
    return tmp_path


def evaluate(benchmark: str, data, *arguments) -> int:
    return main(["evaluate", "--benchmark", benchmark, "--data", str(data), *map(str, arguments)])


def shown(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def refused(capsys) -> str:
    error = capsys.readouterr().err.strip()
    assert error.startswith("crowdmesh: ") and "\n" not in error and "Traceback" not in error
    return error


# What is printed and written


def test_relative_human(data, capsys):
    out = data / "out/result.json"
    assert evaluate("relative-human", data, "--predictions", data / "predictions.json", "--out", out) == 0
    printed = shown(capsys)
    assert "Relative Human (official)" in printed and "PCDR_0.2 kid 1.0000 2 higher" in printed
    assert "PCDR_0.2 baby absent 0" in printed and "2 images, 4 people: 4 matched, 0 missed" in printed
    assert f"Scored: {data / 'predictions.json'}." in printed and "Absent, because" in printed
    result = json.loads(out.read_text())
    values = {figure["name"]: figure["value"] for figure in result["figures"]}
    assert values["PCDR_0.2"] == 1.0 and values["PCDR_0.2 baby"] is None  # absent, not zero
    assert set(result["figures"][0]) == set(Figure.__dataclass_fields__)
    assert (result["people"], result["matched"], result["missed"], result["extra"]) == (4, 4, 0, 0)
    assert evaluate("relative-human", data, "--predictions", data / "predictions.json", "--corrected") == 0
    assert "Relative Human (corrected matching)" in shown(capsys)


def test_missing_images_count_as_missed_people(data, capsys):
    (data / "few.json").write_text(json.dumps({"b.jpg": PREDICTIONS["b.jpg"]}))
    assert evaluate("relative-human", data, "--predictions", data / "few.json") == 0
    printed = shown(capsys)
    assert "1 annotated images have no prediction" in printed and "among them a.jpg" in printed
    assert "1 matched, 3 missed" in printed and "PCDR_0.2 absent 0" in printed


def test_mupots_in_both_protocols(tmp_path, capsys):
    random = np.random.default_rng(0)
    joints = random.uniform(-400, 400, (17, 3)) + np.array([0, 0, 4000])
    pixels = joints[:, :2] * 0.3 + 500
    annotation = {"annot_2d": pixels, "annot_3d": joints, "annot_3d_univ": joints, "vis": np.ones(17, bool)}
    write(tmp_path / "mupots_annots.json", {"TS1/img_000000.jpg": [annotation]})
    np.savez(
        tmp_path / "p.npz",
        **{"TS1/img_000000/joints_px": pixels[None], "TS1/img_000000/joints_mm": joints[None] + 50.0},
    )
    assert evaluate("mupots", tmp_path, "--predictions", tmp_path / "p.npz") == 0
    printed = shown(capsys)
    assert "MuPoTS-3D (official release)" in printed and "PCK (All) 1.0000" in printed and "MPJPE 0.0 mm" in printed
    assert evaluate("mupots", tmp_path, "--predictions", tmp_path / "p.npz", "--standard") == 0
    assert "MuPoTS-3D (standard)" in shown(capsys)


@pytest.fixture
def street(tmp_path, monkeypatch):
    """Two people in made-up 3DPW, a folder of scenes of the truth, and made-up SMPL files."""
    files = made.write_files(tmp_path / "assets/smpl")
    monkeypatch.setenv("CROWDMESH_ASSETS", str(files.parent))
    people = made.annotation([(-1.0, 0, 5), (1.0, 0, 5)])
    record = pw3d_record() | {
        "betas": people.betas, "global_orient": people.pose[:, 0], "body_pose": people.pose[:, 1:].reshape(2, 69),
        "transl": people.translation_m, "cam_intrinsics": made.CAMERA.K, "cam_rot": people.camera_rotation[0],
        "cam_trans": people.camera_translation_m[0], "genders": ["neutral"] * 2,
    }  # fmt: skip
    (tmp_path / "3dpw").mkdir()
    write(tmp_path / "3dpw/annots_smpl_test_genders.npz", {"imageFiles/street/1.jpg": record})
    (tmp_path / "scenes").mkdir()
    made.scene(smpl_truth(people, load_bodies(("neutral",), [files]))).save(tmp_path / "scenes/1.scene.npz")
    return tmp_path


def test_3dpw(street, capsys):
    assert evaluate("3dpw", street, "--predictions", street / "scenes", "--allow-pickle") == 0
    printed = shown(capsys)
    assert "3DPW (official release)" in printed and "MPJPE 0.0 mm 2 lower" in printed and "F1 1.0000" in printed


# Mistakes

NAN = {"a.jpg": PREDICTIONS["a.jpg"] | {"trans": [[0, 0, 3], [0, 0, float("nan")], [0, 0, 5]]}}
EXTRA = {**PREDICTIONS, "c.jpg": PREDICTIONS["b.jpg"]}


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({}, "is empty; nothing would be measured"),
        (EXTRA, "1 predicted images are not annotated, among them c.jpg"),
        (NAN, "prediction of a.jpg: translation_z_m of predicted person 1 holds NaN"),
        ({"a.jpg": {"kp2ds": []}}, "a.jpg must have the keys kp2ds and trans"),
        ({"a.jpg": predicted((100, 3.0)) | {"kp2ds": [[[0, 0]] * 13]}}, "a prediction needs joints_px (people, 14, 2)"),
    ],
)
def test_predictions_that_cannot_be_scored(data, capsys, unchecked, predictions, message):
    (data / "bad.json").write_text(json.dumps(predictions))
    assert evaluate("relative-human", data, "--predictions", data / "bad.json") == 1
    assert message in refused(capsys)


def test_folders_of_scenes_that_cannot_be_scored(street, data, capsys, unchecked):
    (data / "empty").mkdir()
    assert evaluate("relative-human", data, "--predictions", data / "empty") == 1
    assert "empty holds no predictions (NAME.scene.npz" in refused(capsys)
    table = {
        "image_size": [100, 80], "vertical_fov_deg": 50, "stature_m": [1.7], "faces": [[0, 1, 2]],
        "vertices_m": [[[0, 0, 3], [None, 0, 3], [0, 1.7, 3]]],
    }  # fmt: skip
    (data / "empty/a.json").write_text(json.dumps(table))
    assert evaluate("relative-human", data, "--predictions", data / "empty") == 1
    assert "vertices_m holds NaN or infinite values" in refused(capsys)
    (street / "scenes/1.scene.npz").write_bytes(b"no")
    assert evaluate("3dpw", street, "--predictions", street / "scenes", "--allow-pickle") == 1
    assert "1.scene.npz is not a readable CrowdMesh scene" in refused(capsys)
    assert evaluate("3dpw", street, "--predictions", data / "predictions.json", "--allow-pickle") == 1
    assert "predictions for 3dpw must be a folder of scenes" in refused(capsys)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile_was_here",)


@pytest.mark.parametrize(
    ("annotations", "arguments", "message"),
    [
        ({"a.jpg": [annotated(1) | {"mood": 3}]}, [], "image 'a.jpg', person 0: unknown field 'mood'"),
        ({"a.jpg": [annotated(1) | {"depth_id": 1.5}]}, [], "image 'a.jpg': person 0: depth_id must be a whole number"),
        (np.array({"a.jpg": [annotated(1)]}), [], "opt in (unpickle=True, --allow-pickle)"),
        (np.array({"a.jpg": [annotated(1) | {"age": Hostile()}]}), ["--allow-pickle"], "asks for posix.system"),
    ],
)
def test_annotations_that_cannot_be_read(data, capsys, monkeypatch, annotations, arguments, message):
    monkeypatch.chdir(data)
    file = data / ("other.json" if isinstance(annotations, dict) else "other.npz")
    if isinstance(annotations, dict):
        file.write_text(json.dumps({"annots": plain(annotations)}))
    else:
        np.savez(file, annots=annotations)
    assert evaluate("relative-human", file, "--predictions", data / "predictions.json", *arguments) == 1
    error = refused(capsys)
    assert message in error and file.name in error
    assert not (data / "hostile_was_here").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name either --predictions (results in files) or --method (run it now), one of them"),
        (["--predictions", "{p}", "--method", "lite"], "name either --predictions"),
        (["--predictions", "{p}", "--preset", "paper"], "--preset belongs to --method"),
        (["--predictions", "{p}", "--standard"], "benchmark relative-human has no variant 'standard'"),
        (["--predictions", "nowhere"], "predictions nowhere do not exist"),
        (["--predictions", "{p}", "--out", "{p}"], "--out must be a .json file of its own"),
        (["--predictions", "{p}", "--out", "result.txt"], "--out must be a .json file of its own, got result.txt"),
    ],
)
def test_wrong_arguments(data, capsys, arguments, message):
    values = {"p": data / "predictions.json"}
    assert evaluate("relative-human", data, *(argument.format(**values) for argument in arguments)) == 1
    assert message in refused(capsys)
    assert json.loads((data / "predictions.json").read_text()) == PREDICTIONS


def test_anny_has_no_smpl_vertices(street, capsys, unchecked):
    scene("anny").save(street / "scenes/1.scene.npz")
    assert evaluate("3dpw", street, "--predictions", street / "scenes", "--allow-pickle") == 1
    assert "have body 'anny', but 3DPW compares the 6890 vertices of SMPL" in refused(capsys)


def test_a_method_needs_the_photographs(data, photos, capsys):
    assert evaluate("relative-human", data, "--method", "lite") == 1
    assert "2 of 2 annotated photographs do not lie below" in refused(capsys)


@pytest.mark.slow
def test_our_own_line_runs_on_photographs(tmp_path, photos, capsys, unchecked):
    """Annotated by the line itself, so that it must find its own joints and order again."""
    (tmp_path / "images").mkdir()
    photo = tmp_path / "images/family.jpg"
    shutil.copy(photos / "parents_and_baby.jpg", photo)
    found = Reconstructor(load_experts("lite"))(photo).scene
    seen = predictions_from_scenes({"family.jpg": found})["family.jpg"]
    people = [
        annotated(0, layer=0, age=age) | {"kp2d": np.column_stack((joints, np.ones(14))).reshape(-1)}
        for joints, age in zip(seen.joints_px, (0, 0, 3), strict=True)
    ]
    write(tmp_path / "test_annots.json", {"family.jpg": people})
    assert evaluate("relative-human", tmp_path, "--method", "lite") == 0
    printed = shown(capsys)
    assert "Scored: lite, DTO preset best." in printed and "mPCKh_0.6 1.0000 3" in printed
    assert "1 images, 3 people: 3 matched, 0 missed; 3 predicted, 0 of them extra" in printed
