"""A synthetic label set says what the simulated experts said, whatever happened while it was written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from crowdmesh.body import load_body, pose_people
from crowdmesh.cli import main
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import best
from crowdmesh.errors import FormatError, InputError
from crowdmesh.experts import ExpertOptions
from crowdmesh.experts.attributes_file import AttributesFromFile
from crowdmesh.experts.detections_file import DetectionsFromFile
from crowdmesh.experts.reconstruct import read_input
from crowdmesh.people import People
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.reading import open_set
from crowdmesh.pgt.run import build, prepare
from crowdmesh.pgt.sources.labels import LabelSource
from crowdmesh.pgt.stages import ExpertChoice
from crowdmesh.synth import (
    PRESETS,
    World,
    label_set,
    mild,
    nominal,
    observation_seed,
    observe,
    read_truth,
    write_label_set,
)

TINY = replace(PRESETS["family"], image_sizes=((160, 120),), people=(1, 4))
WORLD = World(TINY, seed=11)
SCENES = 6
UNSEEN = 4


def errors_of(index):
    """Nominal, but nobody is detected in one of the scenes."""
    return nominal() if index != UNSEEN else replace(nominal(), masks=replace(nominal().masks, fewest_px=10**6))


@pytest.fixture(scope="module")
def scenes():
    return list(WORLD.scenes(range(SCENES)))


@pytest.fixture(scope="module")
def seen(scenes):
    return [observe(scene, errors_of(i), observation_seed(WORLD.seed, i)) for i, scene in enumerate(scenes)]


@pytest.fixture
def prepared(scenes, seen, monkeypatch):
    """Scenes and observations are those made once; what is called is counted."""
    asked = []
    order = {id(scene): i for i, scene in enumerate(scenes)}
    monkeypatch.setattr(World, "scene", lambda self, index: asked.append(index) or scenes[index])
    monkeypatch.setattr(label_set, "observe", lambda scene, errors, seed: seen[order[id(scene)]])
    return asked


@pytest.fixture
def made(prepared, tmp_path):
    return write_label_set(WORLD, SCENES, tmp_path / "set", nominal())


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_labels_are_the_first_guess(made, seen):
    with np.load(made.labels) as labels:
        columns = {name: labels[name] for name in labels.files}
    assert columns.pop("body").item() == "anny"
    count = sum(len(s.person) for s in seen)
    assert count > 5 and {len(values) for values in columns.values()} == {count}
    shapes = {"pose_cam": (104, 3), "shape": (6,), "trans_cam": (3,), "cam_int": (3, 3), "center": (2,), "scale": (),
              "keypoints_px": (17, 3)}  # fmt: skip
    assert {name: values.shape[1:] for name, values in columns.items() if name != "imgname"} == shapes
    body = load_body("anny")
    for i, view in enumerate(seen):
        rows = np.flatnonzero(columns["imgname"] == f"{i:06d}.jpg")
        assert len(rows) == len(view.person) and (len(rows) == 0) == (i == UNSEEN)
        if not len(rows):
            continue
        guess, camera = view.guess.people, view.guess.camera
        shape = columns["shape"][rows].astype(float)
        people = People(
            body="anny", translation_m=columns["trans_cam"][rows], stature_m=guess.stature_m, shape=shape,
            pose=columns["pose_cam"][rows],
        )  # fmt: skip
        np.testing.assert_allclose(pose_people(people, body).vertices_m, guess.vertices_m, atol=2e-5)
        np.testing.assert_array_equal(shape, guess.shape)
        K = columns["cam_int"][rows]
        np.testing.assert_array_equal(2 * K[:, :2, 2], np.tile((160.0, 120.0), (len(rows), 1)))
        np.testing.assert_allclose(K[:, [0, 1], [0, 1]], np.tile((camera.fx, camera.fy), (len(rows), 1)), rtol=1e-6)
        side = 200 * columns["scale"][rows]
        extent = guess.boxes_px[:, 2:] - guess.boxes_px[:, :2]
        np.testing.assert_allclose(side, extent.max(1), rtol=1e-6)
        np.testing.assert_allclose(columns["center"][rows], guess.boxes_px[:, :2] + extent / 2, rtol=1e-6)
        np.testing.assert_allclose(columns["keypoints_px"][rows], guess.keypoints_px, rtol=1e-5, atol=1e-5)


def test_the_experts_of_files_read_it(made, seen, unchecked):
    persons, ages = DetectionsFromFile(made.detections), AttributesFromFile(made.ages)
    for i, view in enumerate(seen):
        image = read_input(made.path / "images" / f"{i:06d}.jpg")
        assert image.pixels.shape == (120, 160, 3)
        assert np.abs(image.pixels.astype(float) - view.guess.image).mean() < 6
        (found,), guess = persons.detect([image]), view.guess.people
        np.testing.assert_array_equal(found.boxes_px, guess.boxes_px)
        np.testing.assert_array_equal(found.scores, guess.scores)
        np.testing.assert_array_equal(found.masks.to_dense(), guess.masks.to_dense())
        (known,) = ages.estimate([image], [found], [None])
        np.testing.assert_array_equal(known.age_years, guess.age_years)
        np.testing.assert_array_equal(known.male_probability, guess.male_probability)
        file = made.depth / f"{i:06d}.npz"
        with np.load(file) as archive:
            assert archive["kind"].item() == "disparity" and archive["depth"].dtype == np.float16
        depth = RelativeDepth.load(file)
        np.testing.assert_allclose(depth.values, view.depth.values, rtol=2**-11, atol=1e-7)


def test_the_truth_is_told_beside_the_labels(made, scenes, seen):
    truth = read_truth(made.path)
    assert len(truth) == sum(len(s.person) for s in seen) and len(truth.undetected_age_years) == sum(
        s.undetected for s in seen
    )
    with np.load(made.labels) as labels:
        np.testing.assert_array_equal(truth.imgname, labels["imgname"])
    for i, (scene, view) in enumerate(zip(scenes, seen, strict=True)):
        people, rows = scene.scene.people, truth.imgname == f"{i:06d}.jpg"
        np.testing.assert_array_equal(truth.stature_m[rows], people.stature_m[view.person])
        np.testing.assert_array_equal(truth.age_years[rows], people.age_years[view.person])
        np.testing.assert_array_equal(truth.pelvis_m[rows], people.joints_m[view.person, 0])
        assert (truth.focal_px[rows] == scene.scene.camera.fy).all()
        lost = truth.undetected_imgname == f"{i:06d}.jpg"
        everybody = np.sort(np.concatenate((truth.stature_m[rows], truth.undetected_stature_m[lost])))
        np.testing.assert_array_equal(everybody, np.sort(people.stature_m))
    np.testing.assert_array_equal(np.load(made.true_statures), truth.stature_m)


def test_a_stopped_run_goes_on_to_the_same_bytes(made, prepared, tmp_path):
    whole, other, done = content(made.path), tmp_path / "other", []

    def stop(number):
        done.append(number)
        if sum(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_label_set(WORLD, SCENES, other, nominal(), progress=stop)
    assert not (other / made.labels.name).exists()
    (other / "images" / ".000003.abcdefgh.jpg").write_bytes(b"half")  # of a killed process
    (other / ".synthetic-release.abcdefgh.npz").write_bytes(b"half")
    done.clear()
    prepared.clear()
    write_label_set(WORLD, SCENES, other, nominal(), progress=done.append)
    assert prepared == [3, 4, 5] and done == [3, 1, 1, 1]
    assert content(other) == whole
    done.clear()
    write_label_set(WORLD, SCENES, other, nominal(), progress=done.append)  # finished: nothing is done again
    assert prepared == [3, 4, 5] and done == [SCENES] and content(other) == whole


def test_a_damaged_part_is_named_and_made_again(made, tmp_path, prepared, monkeypatch):
    other = tmp_path / "other"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(label_set, "assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            write_label_set(WORLD, SCENES, other, nominal())
    part = other / label_set.PARTS / "000002.npz"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(FormatError, match=r"000002\.npz.*delete it"):
        write_label_set(WORLD, SCENES, other, nominal())
    part.unlink()
    write_label_set(WORLD, SCENES, other, nominal())
    assert content(other) == content(made.path)


def test_other_sets_and_folders_are_left_alone(made, tmp_path):
    before = content(made.path)
    for world, scenes, errors, what in (
        (World(TINY, 12), SCENES, nominal(), "seed"),
        (WORLD, SCENES + 1, nominal(), "scenes"),
        (WORLD, SCENES, mild(), "errors"),
    ):
        with pytest.raises(InputError, match=f"another label set \\({what} differ"):
            write_label_set(world, scenes, made.path, errors)
    assert content(made.path) == before
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".label-set.killed.json").touch()
    label_set._claim(tmp_path / "killed", {"seed": 1})
    assert [path.name for path in (tmp_path / "killed").iterdir()] == [label_set.MANIFEST]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        write_label_set(WORLD, 1, tmp_path / "full", nominal())
    with pytest.raises(InputError, match="scenes must be at least 1"):
        write_label_set(WORLD, 0, tmp_path / "none", nominal())
    (made.path / label_set.MANIFEST).write_text("[]")
    with pytest.raises(FormatError, match=r"label-set\.json"):
        write_label_set(WORLD, SCENES, made.path, nominal())


def test_truth_that_is_missing_or_damaged(made, tmp_path):
    with pytest.raises(InputError, match="--layout 4dhumans"):
        read_truth(tmp_path)
    file = made.path / "truth" / "people.npz"
    arrays = dict(np.load(file))
    np.savez(file, **(arrays | {"stature_m": arrays["stature_m"][1:]}))
    with pytest.raises(FormatError, match="differ in length"):
        read_truth(made.path)
    file.write_bytes(b"no")
    with pytest.raises(FormatError, match="truth of a synthetic label set"):
        read_truth(made.path)


def test_nobody_at_all(made, scenes, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(World, "scene", lambda self, index: scenes[UNSEEN])
    monkeypatch.setattr(label_set, "observe", lambda *_: seen[UNSEEN])
    empty = write_label_set(WORLD, 2, tmp_path / "empty", nominal())
    with np.load(empty.labels) as labels:
        assert len(labels["imgname"]) == 0 and labels["pose_cam"].shape == (0, 104, 3)
    truth = read_truth(empty.path)
    assert len(truth) == 0 and len(truth.undetected_imgname) == 2 * len(scenes[UNSEEN].scene.people)


def test_the_command(made, tmp_path, prepared, capsys, monkeypatch):
    monkeypatch.setitem(PRESETS, "family", TINY)
    arguments = ["synth", "--preset", "family", "--seed", "11", "--scenes", str(SCENES), "--out", str(tmp_path / "cli")]
    assert main([*arguments, "--layout", "4dhumans"]) == 0
    said = capsys.readouterr().out
    assert "crowdmesh build --source 4dhumans" in said and "--depth-model" in said
    assert content(tmp_path / "cli") == content(made.path)
    manifest = json.loads((tmp_path / "cli" / label_set.MANIFEST).read_text())
    assert manifest["seed"] == 11 and manifest["errors"]["hmr"]["stature_mean_m"] == 1.7
    shutil.rmtree(tmp_path / "cli")
    assert main([*arguments, "--errors", "mild"]) != 0
    assert main([*arguments, "--layout", "4dhumans", "--per-shard", "3"]) != 0
    assert not (tmp_path / "cli").exists()


def test_a_set_is_built_of_it(made, seen, tmp_path, unchecked):
    """Every labelled person arrives, in order, with mask, age and depth from the files."""
    options = ExpertOptions(
        persons=str(made.detections), keypoints="none", mesh="none", ages=str(made.ages), depth=str(made.depth)
    )
    job = Job(tmp_path / "built", LabelSource(made.path, cache=tmp_path), ExpertChoice("lite", options), best())
    for _ in build(prepare(job)):
        pass
    images = list(open_set(job.folder).images())
    labelled = [(i, view) for i, view in enumerate(seen) if len(view.person)]
    truth = read_truth(made.path)
    assert [image.path for image in images] == [f"{i:06d}.jpg" for i, _ in labelled]
    placed = 0
    for image, (_, view) in zip(images, labelled, strict=True):
        assert image.before is not None and image.label_rows is not None, image.detail
        assert image.before.camera.width == 160 and len(image.before.people) == len(view.person)
        np.testing.assert_allclose(image.before.people.translation_m, view.guess.people.translation_m, rtol=1e-6)
        np.testing.assert_array_equal(truth.imgname[image.label_rows], image.path)
        known = ~np.isnan(image.before.people.age_years)
        np.testing.assert_array_equal(image.before.people.age_years[known], view.guess.people.age_years[known])
        placed += sum(status.placed for status in image.after.people.statuses)
    assert placed > len(truth) / 2


@pytest.mark.slow
def test_several_processes_write_the_same(tmp_path):
    one = write_label_set(WORLD, 4, tmp_path / "one", nominal())
    two = write_label_set(WORLD, 4, tmp_path / "two", nominal(), workers=2)
    assert content(one.path) == content(two.path)
