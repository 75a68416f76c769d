"""From the files of a photograph to page and exports, as the commands do it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from crowdmesh.cli import main
from crowdmesh.dto import place
from crowdmesh.errors import FormatError, InputError
from crowdmesh.outputs import PhotoOutput, write_outputs
from crowdmesh.outputs.viewed import find_scenes, viewer_scene
from crowdmesh.scene import Scene


@pytest.fixture(scope="module")
def folder(crowd, tmp_path_factory):
    """The outputs of a placed crowd, and of the first guess alone."""
    _, guess, depth = crowd
    placed, placement = place(guess, depth)
    out = tmp_path_factory.mktemp("out")
    write_outputs(out, "party", PhotoOutput(placed, (), guess, placement))
    write_outputs(out, "alone", PhotoOutput(guess))
    return out


def test_a_scene_comes_with_its_first_guess_and_spreads(folder, crowd):
    shown = viewer_scene(folder / "party.scene.npz")
    placed = Scene.load(folder / "party.scene.npz")
    rows = json.loads((folder / "party.json").read_text())["people"]
    assert shown.name == "party"
    np.testing.assert_array_equal(shown.before.people.vertices_m, crowd[1].people.vertices_m)
    np.testing.assert_array_equal(shown.scene.people.vertices_m, placed.people.vertices_m)
    assert shown.before.image is None and shown.scene.image is not None
    np.testing.assert_allclose(shown.stature_std_m, [row["stature_std_m"] for row in rows])
    np.testing.assert_allclose(shown.depth_std_m, [row["depth_std_m"] for row in rows])


def test_without_a_placement_there_is_no_before(folder):
    assert not (folder / "alone.before.npz").exists()
    shown = viewer_scene(folder / "alone.scene.npz")
    assert shown.before is None and np.isnan(shown.stature_std_m).all()


def test_scenes_are_found_in_folders_once_and_in_order(folder, tmp_path):
    alone, party = folder / "alone.scene.npz", folder / "party.scene.npz"
    assert find_scenes([folder]) == [alone, party]
    assert find_scenes([party, folder]) == [party, alone]
    with pytest.raises(InputError, match=r"holds no \*\.scene\.npz; make some"):
        find_scenes([tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        find_scenes([tmp_path / "no.scene.npz"])
    with pytest.raises(InputError, match="name at least one scene"):
        find_scenes([])


def test_files_that_do_not_belong_together_are_refused(folder, tmp_path):
    for name in ("party.scene.npz", "party.before.npz", "party.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    scene = Scene.load(tmp_path / "party.scene.npz")
    replace(scene, people=scene.people[:2]).save(tmp_path / "party.scene.npz")
    with pytest.raises(FormatError, match=r"party\.json tells of 6 people and its scene of 2"):
        viewer_scene(tmp_path / "party.scene.npz")
    (tmp_path / "party.json").write_text("{")
    with pytest.raises(FormatError, match="not a readable table of people"):
        viewer_scene(tmp_path / "party.scene.npz")
    (tmp_path / "party.json").unlink()
    with pytest.raises(
        InputError, match=r"party\.before\.npz is of 6 people in .* and its scene of 2 people in .*; delete"
    ):
        viewer_scene(tmp_path / "party.scene.npz")


def test_view_writes_one_page(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["view", str(folder), "--html", str(page)]) == 0
    assert "wrote" in capsys.readouterr().out
    text = page.read_text()
    assert "party" in text and "alone" in text and page.stat().st_size < 12e6
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_export_writes_beside_the_scene_or_where_told(folder, tmp_path, capsys):
    scene = str(folder / "party.scene.npz")
    assert (
        main(["export", scene, "--format", "ply", "--up", "z", "--units", "cm", "--out", str(tmp_path / "a.ply")]) == 0
    )
    people = Scene.load(scene).people
    mesh = trimesh.load(tmp_path / "a.ply", process=False)
    x, y, z = people.vertices_m.reshape(-1, 3).T * 100.0
    np.testing.assert_allclose(mesh.vertices, np.stack((x, z, -y), 1), rtol=1e-5, atol=1e-3)
    assert main(["export", scene, "--format", "glb", "--detail"]) == 0
    assert (folder / "party.export.glb").is_file()
    nodes = trimesh.load(folder / "party.export.glb").geometry
    assert sorted(nodes) == [f"person_{k}" for k in range(6)] and len(nodes["person_0"].vertices) > 10_000
    (folder / "party.export.glb").unlink()
    assert "wrote" in capsys.readouterr().out


def test_export_never_writes_over_its_scene(folder, tmp_path, capsys):
    own = tmp_path / "own.npz"
    own.write_bytes((folder / "party.scene.npz").read_bytes())
    before = own.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    for target in (own, tmp_path / "link" / "own.npz"):
        assert main(["export", str(own), "--out", str(target)]) == 1
        assert "is the scene itself" in capsys.readouterr().err
        assert own.read_bytes() == before


@pytest.mark.parametrize("chosen", [[], ["--format", "json"]])
def test_export_says_what_is_to_know_however_the_format_was_chosen(folder, tmp_path, capsys, chosen):
    out = tmp_path / "a.json"
    assert main(["export", str(folder / "party.scene.npz"), "--units", "cm", "--out", str(out), *chosen]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    (note,) = json.loads(out.read_text())["notes"]
    assert note in printed


@pytest.mark.parametrize(("arguments", "said"), [
    (["export", "{scene}"], "say what to write: --format glb"),
    (["export", "{scene}", "--format", "smpl"], "anny"),
    (["export", "{scene}", "--format", "glb", "--frame", "opencv", "--up", "y"], "up"),
    (["export", "nowhere.scene.npz", "--format", "glb"], "does not exist"),
    (["view", "nowhere"], "does not exist"),
    (["view", "{scene}", "--html", "page.txt"], ".html"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line(folder, capsys, arguments, said):
    assert main([part.format(scene=folder / "party.scene.npz") for part in arguments]) == 1
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
