"""What is written per photograph, for methods with and without a joint placement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from crowdmesh.dto import place
from crowdmesh.errors import InputError
from crowdmesh.outputs import PhotoOutput, process_photos, write_outputs
from crowdmesh.people import People
from crowdmesh.scene import Scene

FROM_DTO = {"stature_std_m", "depth_std_m", "standardised_residual", "reprojection_px"}


@pytest.fixture(scope="module")
def scene(crowd) -> Scene:
    """A crowd in its photograph as a method would find it, every person with a score."""
    world, guess, _ = crowd
    people = replace(guess.people, scores=np.linspace(0.9, 0.4, len(guess.people)))
    return replace(guess, people=people, image=world.scene.image)


@pytest.fixture
def nobody(scene) -> Scene:
    """The same photograph without people, of a body whose files nobody needs to have."""
    empty = People("smpl", np.zeros((0, 3)), np.zeros(0), pose=np.zeros((0, 24, 3)), shape=np.zeros((0, 11)))
    return replace(scene, people=empty)


def written(folder: Path, output: PhotoOutput) -> tuple[Scene, np.ndarray, dict]:
    """Scene, picture and table as they come back from the files."""
    write_outputs(folder, "x", output)
    with Image.open(folder / "x.png") as picture:
        pixels = np.asarray(picture)
    return Scene.load(folder / "x.scene.npz"), pixels, json.loads((folder / "x.json").read_text())


def test_a_scene_that_no_placement_made(scene, tmp_path):
    loaded, picture, table = written(tmp_path, PhotoOutput(scene, ("camera: predicted",)))
    np.testing.assert_array_equal(loaded.people.scores, scene.people.scores)
    np.testing.assert_array_equal(loaded.people.vertices_m, scene.people.vertices_m)
    np.testing.assert_array_equal(loaded.image, scene.image)
    assert len(trimesh.load(tmp_path / "x.glb").geometry) == len(scene.people)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
    assert table["dto"] is None
    assert table["notes"] == ["camera: predicted"]
    for k, row in enumerate(table["people"]):
        assert row["score"] == pytest.approx(scene.people.scores[k])
        assert row["pelvis_m"] == pytest.approx(scene.people.joints_m[k, 0])
        assert row["status"] == "initial"
        assert {name for name, value in row.items() if value is None} >= FROM_DTO


def test_the_table_has_the_same_keys_with_and_without_a_placement(crowd, scene, tmp_path):
    placed, placement = place(scene, crowd[2])
    alone, small, without = written(tmp_path / "alone", PhotoOutput(scene))
    both, large, table = written(tmp_path / "both", PhotoOutput(placed, placement.notes, scene, placement))
    assert set(table) == set(without)
    assert [list(row) for row in table["people"]] == [list(row) for row in without["people"]]
    assert not [name for row in table["people"] for name in FROM_DTO if row[name] is None]
    assert table["dto"]["accepted"] is True
    assert large.shape[1] > small.shape[1]  # before beside after
    assert len(both.people) == len(alone.people)


def test_nobody_in_the_photograph(nobody, tmp_path):
    loaded, picture, table = written(tmp_path, PhotoOutput(nobody, ("no person found",)))
    assert len(loaded.people) == 0
    assert loaded.people.body == "smpl"
    assert table["people"] == []
    assert table["dto"] is None
    assert table["notes"] == ["no person found"]
    assert picture.std() > 10  # the photograph is in it
    assert not (tmp_path / "x.glb").exists()


def test_meshes_of_people_who_are_gone_go_too(scene, nobody, tmp_path):
    written(tmp_path, PhotoOutput(scene))
    written(tmp_path, PhotoOutput(nobody))
    assert {path.name for path in tmp_path.iterdir()} == {"x.scene.npz", "x.png", "x.json"}


def test_people_without_scores_and_boxes(scene, tmp_path):
    bare = replace(scene, people=replace(scene.people, scores=None, boxes_px=None, keypoints_px=None, masks=None))
    loaded, _, table = written(tmp_path, PhotoOutput(bare))
    assert loaded.people.scores is None
    assert [(row["score"], row["box_px"]) for row in table["people"]] == [(None, None)] * len(scene.people)


def test_parts_of_different_photographs_are_refused(crowd, scene):
    _, placement = place(scene, crowd[2])
    two = replace(scene, people=scene.people[[0, 1]])
    with pytest.raises(InputError, match="the placement has 6 people and the scene 2"):
        PhotoOutput(two, placement=placement)
    with pytest.raises(InputError, match="the first guess has 2 people and the scene 6"):
        PhotoOutput(scene, first_guess=two)


def test_any_method_may_go_through_many_photographs(scene, nobody, tmp_path):
    """The signature is kept in the files, whatever provenance the method gives its scenes."""
    for name in ("a.png", "b.png"):
        Image.fromarray(scene.image).save(tmp_path / name)
    photos, folder = [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out"

    def run(threshold: float, overwrite: bool = False):
        make = lambda group: [PhotoOutput(scene if p.name == "a.png" else nobody) for p in group]  # noqa: E731
        sign = lambda photo: {"photo": photo.name, "settings": {"threshold": threshold, "size": (448, 448)}}  # noqa: E731
        return list(process_photos(photos, folder, make, sign, overwrite))

    first = run(0.3)
    assert [(r.outcome, r.people, r.placed) for r in first] == [("done", 6, 0), ("done", 0, 0)]
    assert np.isnan([r.score for r in first]).all()
    assert Scene.load(folder / "a.scene.npz").provenance["settings"]["threshold"] == 0.3
    assert [r.outcome for r in run(0.3)] == ["skipped", "skipped"]
    changed = run(0.5)
    assert [r.outcome for r in changed] == ["failed", "failed"]
    assert "other settings; use --overwrite" in changed[0].notes[0]
    assert [r.outcome for r in run(0.5, overwrite=True)] == ["done", "done"]
