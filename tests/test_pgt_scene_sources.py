"""Sources whose people are known with all that belongs to them: scenes on disk, synthetic worlds."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import DTOConfig
from crowdmesh.errors import AssetError, InputError
from crowdmesh.pgt.records import Entry, Outcome
from crowdmesh.pgt.sources.base import Source
from crowdmesh.pgt.sources.scenes import SceneSource
from crowdmesh.pgt.sources.synthetic import SyntheticSource
from crowdmesh.pgt.stages import make_stages
from crowdmesh.scene import Scene
from crowdmesh.synth import PRESETS, World, nominal, observation_seed, observe, read_shards, write_shards

TINY = replace(PRESETS["family"], image_sizes=((96, 64),), people=(2, 3))


def parts_of(entries: list[Entry]) -> list[tuple[str, str, bool]]:
    return [(entry.path, entry.part, entry.found) for entry in entries]


# Worlds


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_shards(World(TINY, 3), 5, folder, per_shard=2)
    return folder


@pytest.fixture(scope="module")
def samples(world):
    """Every scene of it, as it is told."""
    source = SyntheticSource(world, seed=2)
    return list(pickle.loads(pickle.dumps(source)).load(list(source.entries())))


def test_a_world_is_told_as_simulated_experts_see_it(world, samples):
    source = SyntheticSource(world, seed=2)
    assert isinstance(source, Source) and not source.needs_experts
    entries = list(source.entries())
    assert [entry.key for entry in entries] == [f"synthetic/{k:06d}.png" for k in range(5)]
    for index, (sample, truth) in enumerate(zip(samples, read_shards(world), strict=True)):
        seen = observe(truth, nominal(), observation_seed(2, index))
        assert sample.entry == entries[index]
        np.testing.assert_array_equal(sample.people.people.translation_m, seen.guess.people.translation_m)
        np.testing.assert_array_equal(sample.people.people.masks.runs, seen.guess.people.masks.runs)
        np.testing.assert_array_equal(sample.depth.values, seen.depth.values)
        picture = cv2.imdecode(np.frombuffer(sample.encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(picture, truth.scene.image) and sample.people.image is None


@pytest.mark.parametrize("chosen", [[4], [1, 2], [3, 0], [0, 0, 1], []])
def test_any_scenes_of_a_world_in_any_order(world, samples, chosen):
    source = SyntheticSource(world, seed=2)
    entries = list(source.entries())
    some = list(source.load([entries[k] for k in chosen]))
    assert [one.entry for one in some] == [entries[k] for k in chosen]
    for one, k in zip(some, chosen, strict=True):
        np.testing.assert_array_equal(one.depth.values, samples[k].depth.values)


def test_the_signature_is_that_of_what_is_told(world):
    one = SyntheticSource(world).signature()
    assert json.loads(json.dumps(one)) is not None and str(world) not in json.dumps(one)
    assert SyntheticSource(world, "mild").signature() != one != SyntheticSource(world, seed=1).signature()


def test_damage_in_a_world_is_told_per_image(world, tmp_path):
    for file in world.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    source = SyntheticSource(tmp_path)
    entries = list(source.entries())
    whole = source.world.shard_path(1).read_bytes()
    source.world.shard_path(1).write_bytes(whole[: len(whole) // 2])
    samples = list(source.load(entries))
    assert [sample.problem is not None for sample in samples] == [False, False, True, True, False]
    assert samples[2].problem[0] is Outcome.LABELS_INVALID and "scenes-00001.parquet" in samples[2].problem[1]
    (lost,) = source.load([Entry("synthetic", "000099.png", "2", 95)])
    assert "has no such scene" in lost.problem[1]
    source.world.shard_path(1).unlink()
    with pytest.raises(InputError, match="1 of 3 shards are missing"):
        list(source.entries())


def test_worlds_that_cannot_be_used(tmp_path, world):
    with pytest.raises(InputError, match="holds no synthetic world"):
        SyntheticSource(tmp_path)
    with pytest.raises(InputError, match="unknown errors 'huge'; use one of"):
        SyntheticSource(world, "huge")
    with pytest.raises(InputError, match="must not be negative"):
        SyntheticSource(world, seed=-1)


def test_a_world_becomes_a_set_without_experts(world):
    source = SyntheticSource(world, "mild")
    read, guess, put = make_stages(None, DTOConfig(), False, source.needs_experts)
    built = put(guess(read(list(source.load(list(source.entries()))))))
    assert len(built) == 5 and all(one.file.sha256 for one in built)
    assert {one.outcome for one in built} <= {
        Outcome.ACCEPTED, Outcome.SCORE_TOO_HIGH, Outcome.FEWER_THAN_TWO, Outcome.AGES_UNKNOWN, Outcome.NOBODY,
    }  # fmt: skip


# Scenes


@pytest.fixture(scope="module")
def small(crowd) -> Scene:
    """Two people of the crowd, in a small image."""
    camera = crowd[1].camera.scaled(64, 36)
    people = replace(crowd[1].people[[0, 1]], masks=None, vertices_m=None, joints_m=None)
    return Scene(camera, people, None, {"source": "elsewhere.jpg"})


def picture(path, size=(64, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((size[1], size[0], 3), np.uint8))


def test_scenes_with_their_images_and_depth_maps(small, tmp_path):
    for name in ("a/one", "a/two", "b/one", "c.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        small.save(tmp_path / "set" / f"{name}.scene.npz")
    small.save(tmp_path / "set" / "c.jpg.before.npz")  # what reconstruct leaves beside a scene
    (tmp_path / "set" / "c.jpg.json").write_text("{}")
    picture(tmp_path / "set" / "a/one.JPG")
    picture(tmp_path / "set" / "c.jpg")
    picture(tmp_path / "photos" / "b/one.png")
    np.savez(tmp_path / "set" / "b/one.depth.npz", depth=np.ones((9, 16)), kind="metric")
    np.save(tmp_path / "set" / "a/one.depth.npy", np.ones((9, 16)))
    (tmp_path / "set" / "a/one.JPG").rename(tmp_path / "set" / "a/one.jpg")
    source = pickle.loads(pickle.dumps(SceneSource(tmp_path / "set", tmp_path / "photos")))
    assert isinstance(source, Source)
    entries = list(source.entries())
    assert parts_of(entries) == [
        ("c.jpg", "c.jpg.scene.npz", True),
        ("a/one", "a/one.scene.npz", True),
        ("a/two", "a/two.scene.npz", False),
        ("b/one", "b/one.scene.npz", True),
    ]
    samples = list(source.load(entries))
    assert all(sample.problem is None and sample.people.image is None for sample in samples)
    images = [None if sample.image is None else sample.image.relative_to(tmp_path).as_posix() for sample in samples]
    assert images == ["set/c.jpg", "set/a/one.jpg", None, "photos/b/one.png"]
    kinds = [None if sample.depth is None else sample.depth.kind for sample in samples]
    assert kinds == [None, "disparity", None, "metric"]
    np.testing.assert_array_equal(samples[0].people.people.pose, small.people.pose)
    assert entries[0].dataset == "set" and source.signature()["data_sets"] == ["set"]


def test_scenes_are_images_of_their_own_whatever_lies_elsewhere(small, tmp_path):
    """Names that two scenes share say nothing; a photograph that comes later makes no second image."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        small.save(tmp_path / folder / "0001.scene.npz")
    picture(tmp_path / "0001.jpg")
    np.save(tmp_path / "0001.depth.npy", np.ones((9, 16)))
    source = SceneSource(tmp_path)
    before = list(source.entries())
    assert parts_of(before) == [("a/0001", "a/0001.scene.npz", False), ("b/0001", "b/0001.scene.npz", False)]
    assert all(sample.image is None and sample.depth is None for sample in source.load(before))
    picture(tmp_path / "a" / "0001.jpg")
    picture(tmp_path / "b" / "elsewhere.jpg")  # as the scene itself says
    after = list(source.entries())
    assert [entry.key for entry in after] == [entry.key for entry in before] and all(entry.found for entry in after)
    images = [tmp_path / "a" / "0001.jpg", tmp_path / "b" / "elsewhere.jpg"]
    assert [sample.image for sample in source.load(before)] == images


def test_files_that_name_no_image_share_none(small, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0001.json").write_text(json.dumps(table_of(small)))
    picture(tmp_path / "0001.jpg")
    source = SceneSource(tmp_path)
    assert parts_of(list(source.entries())) == [("a/0001", "a/0001.json", False), ("b/0001", "b/0001.json", False)]


def test_an_image_within_a_scene_is_taken_out_where_there_is_no_file(small, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (36, 64, 3)).astype(np.uint8)
    replace(small, image=image).save(tmp_path / "a.scene.npz")
    source = SceneSource(tmp_path)
    (sample,) = source.load(list(source.entries()))
    assert np.array_equal(cv2.imdecode(np.frombuffer(sample.encoded, np.uint8), cv2.IMREAD_COLOR_RGB), image)


def table_of(scene: Scene, **changes) -> dict:
    people = scene.people
    return {
        "body": "anny", "pose": people.pose.tolist(), "shape": people.shape.tolist(),
        "translation_m": people.translation_m.tolist(), "age_years": people.age_years.tolist(), **changes,
    }  # fmt: skip


def test_files_of_other_systems(small, tmp_path):
    """A plain table without camera or size: the image and the source say them."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.json").write_text(json.dumps(table_of(small)))
    picture(tmp_path / "t" / "a.png")
    source = SceneSource(tmp_path, vertical_fov=small.camera.vertical_fov)
    entries = list(source.entries())
    assert parts_of(entries) == [("t/a", "t/a.json", True)]
    (sample,) = source.load(entries)
    assert (sample.people.camera.width, sample.people.camera.height) == (64, 36)
    np.testing.assert_allclose(sample.people.people.pose, small.people.pose)
    np.testing.assert_allclose(sample.people.people.age_years, small.people.age_years)
    (alone,) = SceneSource(tmp_path / "t" / "a.json", vertical_fov=0.9).load([Entry("a", "a", "a.json")])
    assert alone.problem is None and alone.image is not None


def test_files_of_many_images(small, tmp_path, monkeypatch):
    """Names from other machines; the file is opened once for images that follow each other."""
    from crowdmesh.adapters import reading

    records = {f"C:\\data\\{n}.jpg": {"n": n} for n in range(3)} | {"../up.jpg": {"n": 3}}
    adapter = replace(
        reading.ADAPTERS["nlf"], records=lambda content: content,
        read=lambda record, given: replace(small, provenance={"n": record["n"], "size": given.image_size}),
    )  # fmt: skip
    monkeypatch.setitem(reading.ADAPTERS, "nlf", adapter)
    opened = []
    monkeypatch.setattr(reading, "open_content", lambda *a: opened.append(a) or records)
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "all.json").touch()
    picture(tmp_path / "photos" / "1.jpg", (50, 40))
    source = SceneSource(tmp_path / "r", tmp_path / "photos", adapter="nlf")
    entries = list(source.entries())
    assert [entry.path for entry in entries] == ["data/0.jpg", "data/1.jpg", "data/2.jpg", "all-3"]
    assert [entry.row for entry in entries] == [0, 1, 2, 3] and [e.found for e in entries] == [
        False,
        True,
        False,
        False,
    ]
    (image,) = (sample.image for sample in source.load(entries) if sample.image is not None)
    assert image == tmp_path / "photos" / "1.jpg" and len(opened) == 1
    (beyond,) = source.load([replace(entries[0], row=9)])
    assert "no image number 9" in beyond.problem[1]


def test_damaged_files_are_images_with_a_problem(small, tmp_path):
    small.save(tmp_path / "good.scene.npz")
    data = (tmp_path / "good.scene.npz").read_bytes()
    (tmp_path / "cut.scene.npz").write_bytes(data[:200])
    others = tmp_path / "o"
    others.mkdir()
    (others / "bad.json").write_text("{")
    (others / "odd.pkl").write_bytes(pickle.dumps({"a": 1}))
    np.save(tmp_path / "good.depth.npy", np.zeros((4, 4)))
    listed = [(one, list(one.entries())) for one in (SceneSource(tmp_path), SceneSource(others))]
    parts = ["cut.scene.npz", "good.scene.npz", "bad.json", "odd.pkl"]  # in a tree of scenes nothing else counts
    assert [entry.part for _, entries in listed for entry in entries] == parts
    samples = [sample for source, entries in listed for sample in source.load(entries)]
    said = ("cut.scene.npz is not a readable", "good.depth.npy", "bad.json is not a readable", "--unpickle")
    for sample, words in zip(samples, said, strict=True):
        assert sample.problem[0] is Outcome.LABELS_INVALID and words in sample.problem[1]


def test_a_missing_body_model_stops_all(tmp_path, small, monkeypatch):
    small.save(tmp_path / "a.scene.npz")
    source = SceneSource(tmp_path)

    def missing(path):
        raise AssetError("SMPL is missing")

    monkeypatch.setattr(Scene, "load", missing)
    with pytest.raises(AssetError):
        list(source.load(list(source.entries())))


@pytest.mark.usefixtures("unchecked")
def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="there are no scenes in"):
        list(SceneSource(tmp_path).entries())
    with pytest.raises(InputError, match="do not exist; name a folder"):
        SceneSource(tmp_path / "no")
    with pytest.raises(InputError, match=r"folder of images .* does not exist"):
        SceneSource(tmp_path, tmp_path / "no")
    with pytest.raises(InputError, match="unknown adapter 'hmr'"):
        SceneSource(tmp_path, adapter="hmr")


def test_scenes_become_a_set(crowd, tmp_path):
    _, guess, depth = crowd
    replace(guess, image=None).save(tmp_path / "a.scene.npz")
    np.savez_compressed(tmp_path / "a.depth.npz", depth=depth.values, kind=depth.kind)
    source = SceneSource(tmp_path)
    read, first, put = make_stages(None, DTOConfig(), False, source.needs_experts)
    (built,) = put(first(read(list(source.load(list(source.entries()))))))
    assert built.outcome is Outcome.ACCEPTED and built.file is None
    assert isinstance(depth, RelativeDepth) and built.entry.path == "a"
