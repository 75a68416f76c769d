"""Rows of a set: what goes in comes out, to the last bit."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from _pgt_made_up import assert_same, failure, image
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.body import load_body, pose_people
from crowdmesh.dto import place
from crowdmesh.errors import InputError
from crowdmesh.people import People
from crowdmesh.pgt.reading import open_set
from crowdmesh.pgt.records import Built, Entry, ImageFile, Outcome
from crowdmesh.pgt.rows import PELVIS, tables_of
from crowdmesh.pgt.schema import EVIDENCE, PEOPLE_COLUMNS, PEOPLE_SCHEMA, SCENE_COLUMNS, SCENE_SCHEMA
from crowdmesh.pgt.shards import ShardWriter
from crowdmesh.scene import Scene


def stored(images, folder) -> list:
    with ShardWriter(folder, 0, "hash") as writer:
        writer.add(images)
    return list(open_set(folder).images())


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SPECS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "kind": st.sampled_from(["placed", "taken over", "failed"]),
        "people": st.integers(0, 6),
        "body": st.sampled_from(["anny", "smpl"]),
        "evidence": st.sets(st.sampled_from(list(EVIDENCE.values()))),
        "bare": st.booleans(),
        "names": st.tuples(TEXTS, TEXTS, TEXTS),
    }
)


def made_of(seed, kind, people, body, evidence, bare, names) -> Built:
    if kind == "failed":
        made = failure(seed, [outcome for outcome in Outcome if outcome.failed][seed % 4])
    else:
        made = image(seed, people, body, tuple(evidence), placed=kind == "placed")
        if bare or people == 0:
            made = replace(made, label_rows=None, origins=(), file=None, focal_std=None, notes=())
    return replace(made, entry=Entry(*names[:2]), detail=names[2])


@settings(max_examples=25)
@given(st.lists(SPECS, min_size=1, max_size=5))
def test_what_goes_in_comes_out(specs):
    made = [made_of(**spec) for spec in specs]
    with tempfile.TemporaryDirectory() as folder:
        read = stored(made, Path(folder))
    assert len(read) == len(made)
    for one, two in zip(read, made, strict=True):
        assert_same(one, two)


def test_a_crowd_of_five_hundred_among_others(tmp_path):
    made = [image(1), image(2, 500), failure(3), image(4, 0), image(5, 700), image(6, 1)]
    for one, two in zip(stored(made, tmp_path), made, strict=True):
        assert_same(one, replace(two, label_rows=None) if two.entry.path.endswith("/4.jpg") else two)


def test_unknown_and_never_asked_stay_apart(tmp_path):
    unknown = image(1, 2, evidence=("age_years",))
    people = replace(unknown.before.people, age_years=np.full(2, np.nan))
    scene = replace(unknown.before, people=people)
    unknown = replace(unknown, before=scene, after=scene)
    asked, never = stored([unknown, image(2, 2, evidence=())], tmp_path)
    assert np.isnan(asked.after.people.age_years).all() and never.after.people.age_years is None
    rows = next(open_set(tmp_path).people_batches(["age_years"]))
    assert rows["age_years"].null_count == 4


def test_a_placed_crowd_poses_again_as_it_was(tmp_path, crowd):
    _, guess, depth = crowd
    placed, placement = place(guess, depth)
    bare = replace(guess, people=replace(pose_people(guess.people), vertices_m=None, masks=None), image=None)
    after = replace(placed, people=replace(placed.people, vertices_m=None, masks=None), image=None)
    origins = ("labelled",) * len(placement)
    built = Built(Entry("synthetic", "4.png"), Outcome.ACCEPTED, "", None, bare, after, placement, origins)
    (read,) = stored([built], tmp_path)
    assert_same(read, built)
    again = pose_people(read.after.people)
    np.testing.assert_allclose(again.vertices_m, placed.people.vertices_m, rtol=0, atol=4e-6)
    np.testing.assert_array_equal(again.vertices_m, pose_people(placed.people).vertices_m)


def test_the_root_of_bodies_is_their_pelvis():
    assert load_body("anny").pelvis == PELVIS


def test_columns_are_as_they_are_described():
    scenes, people = tables_of([image(1), failure(2), image(3, 0)])
    assert scenes.schema.equals(SCENE_SCHEMA) and people.schema.equals(PEOPLE_SCHEMA)
    assert list(SCENE_COLUMNS) == scenes.column_names and list(PEOPLE_COLUMNS) == people.column_names
    assert scenes["people"].to_pylist() == [3, 0, 0] and people["person"].to_pylist() == [0, 1, 2]
    scenes.validate(full=True)
    people.validate(full=True)
    for table, columns in ((scenes, SCENE_COLUMNS), (people, PEOPLE_COLUMNS)):
        assert all(column.meaning for column in columns.values())
        assert all(table[name].null_count == 0 for name, column in columns.items() if column.needed)


def test_what_nobody_found_out_is_null():
    scenes, _ = tables_of([failure(1), replace(image(2, placed=False), file=None)])
    empty = {name for name in scenes.column_names if scenes[name][0].as_py() is None}
    assert {"body", "fx", "width", "score", "preset", "image_sha256"} <= empty
    assert scenes["score"].to_pylist() == [None, None] and scenes["preset"].to_pylist() == [None, None]
    assert scenes["width"].to_pylist() == [None, 640] and scenes["image_sha256"].null_count == 2
    rows = tables_of([image(1, placed=False)])[1]
    assert rows["prior_group"].null_count == rows["samples"].null_count == 3


def test_no_images_make_no_rows():
    scenes, people = tables_of([])
    assert isinstance(scenes, pa.Table) and len(scenes) == len(people) == 0


def test_an_open_interval_stays_open():
    scenes, _ = tables_of([image(1)])
    assert scenes["interval_low"].to_pylist() == [0.0] and scenes["interval_high"].to_pylist() == [np.inf]


def rigid() -> Built:
    people = People("rigid", np.ones((1, 3)), np.ones(1), vertices_m=np.zeros((1, 3, 3)), faces=np.array([[0, 1, 2]]))
    return replace(image(1), before=Scene(CAMERA, people), after=Scene(CAMERA, people), placement=None)


CAMERA = image(1).after.camera
WRONG = {
    "no pose and shape": rigid,
    "camera and body": lambda: replace(image(1), before=replace(image(2).before)),
    "differ in size": lambda: replace(image(1), file=ImageFile(1, "", 427, 640)),
    "3 people were placed, there are 2": lambda: replace(image(1), **_pair(image(1, 2))),
    "poses and evidence": lambda: replace(image(1), before=_older(image(1).before)),
    "an origin and a label row": lambda: replace(image(1), origins=("labelled",)),
}


def _pair(built: Built) -> dict:
    return {"before": built.before, "after": built.after, "origins": built.origins, "label_rows": built.label_rows}


def _older(scene: Scene) -> Scene:
    return replace(scene, people=replace(scene.people, age_years=np.full(3, 90.0)))


@pytest.mark.parametrize("message", WRONG)
def test_what_the_columns_cannot_hold_is_refused(message):
    with pytest.raises(InputError, match=message) as caught:
        tables_of([image(7), WRONG[message]()])
    assert str(caught.value).startswith("set/folder/1.jpg cannot be stored: ")
