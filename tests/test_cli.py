"""The commands as a user types them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh

from crowdmesh.cli import main
from crowdmesh.outputs.viewed import find_scenes, viewer_scene
from crowdmesh.scene import Scene


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, crowd):
    folder = tmp_path_factory.mktemp("inputs")
    _, guess, disparity = crowd
    guess.save(folder / "crowd.scene.npz")
    np.save(folder / "depth.npy", disparity.values)
    return folder


def test_place_writes_everything(inputs, tmp_path, capsys):
    code = main(
        ["place", str(inputs / "crowd.scene.npz"), "--depth", str(inputs / "depth.npy"), "--out", str(tmp_path)]
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert "accepted" in printed
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"crowd.placed{suffix}" for suffix in (".scene.npz", ".before.npz", ".png", ".glb", ".json")}
    placed = Scene.load(tmp_path / "crowd.placed.scene.npz")
    table = json.loads((tmp_path / "crowd.placed.json").read_text())
    assert table["dto"]["accepted"] is True
    for k, row in enumerate(table["people"]):
        assert row["id"] == k
        np.testing.assert_allclose(row["translation_m"], placed.people.translation_m[k])
        np.testing.assert_allclose(row["pelvis_m"], placed.people.joints_m[k, 0], rtol=1e-6)
        assert row["stature_m"] == pytest.approx(placed.people.stature_m[k])
        assert {"box_px", "age_years", "male_probability", "depth_std_m", "status", "reason"} <= set(row)
    meshes = trimesh.load(tmp_path / "crowd.placed.glb").geometry
    assert len(meshes) == 6


def test_demo(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "pairs in the wrong order" in printed
    names = {"demo.scene.npz", "demo.before.npz", "demo.png", "demo.glb", "demo.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    (scene,) = find_scenes([tmp_path])
    shown = viewer_scene(scene)
    assert shown.name == "demo" and shown.before is not None and np.isfinite(shown.depth_std_m).all()


def test_doctor_names_what_is_missing(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["doctor"]) == 0
    printed = "".join(capsys.readouterr().out.split())
    for word in ("torch", "device", "anny", "yolox_nano.onnx", "missing", "smpl.is.tue.mpg.de"):
        assert word in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["place", "nowhere.npz", "--depth", "{depth}"], "people file nowhere.npz does not exist"),
        (["place", "{people}", "--depth", "nowhere.npy"], "depth map nowhere.npy does not exist"),
        (["place", "{people}", "--depth", "{depth}", "--kind", "metric", "--preset", "official"], "disparity only"),
        (["place", "{people}", "--depth", "{depth}", "--out", "/proc/nowhere"], "cannot write to folder"),
        (["reconstruct", "nowhere.jpg"], "nowhere.jpg"),
        (["reconstruct"], "name at least one photo"),
        (["reconstruct", "nowhere.jpg", "--fov", "0.8"], "in degrees"),
    ],
)
def test_mistakes_give_one_sentence(inputs, capsys, arguments, message):
    values = {"people": inputs / "crowd.scene.npz", "depth": inputs / "depth.npy"}
    assert main([a.format(**values) for a in arguments]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("crowdmesh: ")
    assert message in error
    assert "\n" not in error
    assert "Traceback" not in error


def test_unknown_verbs_and_options_exit_with_two(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["place", "x.npz", "--depht", "y"])
    assert caught.value.code == 2
