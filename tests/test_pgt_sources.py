"""Sources of sets: names, label files of every layout and of none, images there and not there, bounded memory."""

from __future__ import annotations

import errno
import io
import itertools
import os
import pickle
import re
import struct
import threading
import tracemalloc
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic_smpl
from _adapter_bodies import SIZE, installed_smpl, smpl_bodies
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.adapters import read_people
from crowdmesh.body import load_body, pose_people
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.pgt.records import Entry, Outcome
from crowdmesh.pgt.sources import _label_files, _label_table, _npz_columns, _table_lock
from crowdmesh.pgt.sources._image_files import ImageFiles, count_images, shared_folders, upright_size, walk_images
from crowdmesh.pgt.sources._label_files import inspect
from crowdmesh.pgt.sources._label_scenes import blocks
from crowdmesh.pgt.sources._names import clean_name, data_set_of, path_in
from crowdmesh.pgt.sources.base import Source
from crowdmesh.pgt.sources.images import ImageFolder
from crowdmesh.pgt.sources.labels import LabelSource
from crowdmesh.pgt.sources.relative_human import RelativeHumanSource

WIDTH, HEIGHT = 64, 47
K = np.array([[60.0, 0, WIDTH / 2], [0, 60.0, HEIGHT / 2], [0, 0, 1]], np.float32)


def columns(names, seed=0, dtype=np.float32, **changes):
    """Label columns of Anny people, one for each name; ``changes`` replace or, as ``None``, remove some."""
    random, count = np.random.default_rng(seed), len(names)
    found = {
        "imgname": np.array(names) if count else np.zeros(0),
        "pose_cam": (0.2 * random.standard_normal((count, 104, 3))).astype(dtype),
        "shape": random.uniform(0.2, 0.8, (count, 6)).astype(dtype),
        "trans_cam": random.uniform((-1, -1, 4), (1, 1, 9), (count, 3)).astype(dtype),
        "cam_int": np.tile(K, (count, 1, 1)).astype(dtype),
        "center": random.uniform(10, 40, (count, 2)),
        "scale": random.uniform(0.1, 0.2, count),
        "keypoints_px": random.uniform(0, 1, (count, 17, 3)).astype(dtype),
        "body": np.array("anny"),
    } | changes
    return {name: value for name, value in found.items() if value is not None}


def save(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, allow_pickle=True, **content)
    return path


def photo(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), value, np.uint8))
    return path


def source(folder: Path, **options) -> LabelSource:
    return LabelSource(folder, cache=folder.parent / "cache", **options)


def samples(labels: LabelSource):
    """Entry key -> sample, of all entries at once."""
    entries = list(labels.entries())
    found = list(labels.load(entries))
    assert [sample.entry for sample in found] == entries
    return {sample.entry.key: sample for sample in found}


@pytest.fixture(scope="module")
def smpl(tmp_path_factory):
    with installed_smpl(tmp_path_factory.mktemp("assets")):
        yield load_body("smpl")


# Names


@pytest.mark.parametrize(
    ("stem", "data_set"),
    [
        ("insta1-release", "insta"), ("insta2-release", "insta"), ("INSTA_CHMR_SMPL_OPT", "insta"),
        ("coco-release", "coco"), ("COCO_CHMR_SMPL", "coco"), ("aic-release", "aic"), ("MPII_CHMR_SMPL_OPT", "mpii"),
        ("street-release", "street"), ("Street_opt", "Street"), ("mine", "mine"), ("instant-release", "instant"),
        ("_opt", "_opt"), ("cafe\u0301-release", "caf\u00e9"),
    ],
)  # fmt: skip
def test_the_data_set_stands_in_the_name_of_its_file(stem, data_set):
    assert data_set_of(stem) == data_set


@pytest.mark.parametrize(
    "name",
    ["a/b/c.jpg", b"a/b/c.jpg", "/a/b/c.jpg", "C:\\a\\b\\c.jpg", "a\\b/c.jpg",
     "a//b/./c.jpg", "./a/b/c.jpg", "c:/a/b/c.jpg"]
)  # fmt: skip
def test_one_image_has_one_name(name):
    assert clean_name(name) == "a/b/c.jpg"


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "a/../../b.jpg", "a\\..\\b.jpg", "", "/", "C:", ".", "a\0.jpg", "a\n.jpg", "\ud800.jpg", "x" * 5000, 3,
     b"\xff"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match=r"name|codec"):
        clean_name(name)


@given(st.text(max_size=30), st.sampled_from(["insta", "coco", "street"]))
@settings(max_examples=60)
def test_clean_names_stay_clean(text, data_set):
    try:
        name = clean_name(text)
    except ValueError:
        return
    assert clean_name(name) == name
    assert not name.startswith("/") and ".." not in name.split("/")
    path = path_in(data_set, name)
    assert path and name.endswith(path) and path_in(data_set, path) == path


def test_images_are_grouped_as_released():
    assert path_in("insta", "insta-train/a/b/c/d.jpg") == "b/c/d.jpg"
    assert path_in("insta", "insta-train/c/d.jpg") == "c/d.jpg"
    assert path_in("coco", "train2014/d.jpg") == path_in("coco", "d.jpg") == "d.jpg"
    assert path_in("street", "a/b/c/d.jpg") == "a/b/c/d.jpg"


# Images on disk


def test_images_are_found_by_ever_shorter_names(tmp_path):
    for place in ("train/a.jpg", "coco/b.jpg", "c.jpg"):
        photo(tmp_path / place)
    finder = ImageFiles(tmp_path)
    assert finder.find("coco", "data/sets/train/a.jpg") == "train/a.jpg"
    assert finder.find("coco", "data/sets/train/b.jpg") == "coco/b.jpg"
    assert finder.find("coco", "c.jpg") == "c.jpg"
    assert finder.find("coco", "d.jpg") is None
    assert finder.find("other", "b.jpg") is None


def test_two_names_never_share_a_file(tmp_path):
    """The whole name goes first, whatever worked before; a tail that other images may have is not taken."""
    data, images = tmp_path / "data", tmp_path / "images"
    save(data / "x-release.npz", columns(["home/d/p/0001.jpg", "home/d/q/0001.jpg", "home/d/r/0001.jpg"]))
    for place in ("0001.jpg", "p/0001.jpg", "home/d/q/0001.jpg", "q/0001.jpg"):
        photo(images / place)
    labels = source(data, images=images)
    expected = {"p": "p/0001.jpg", "q": "home/d/q/0001.jpg", "r": None}
    found = {sample.entry.path.split("/")[2]: sample.image for sample in samples(labels).values()}
    assert found == {name: place and images / place for name, place in expected.items()}
    lost = [entry for entry in labels.entries() if not entry.found]
    assert [entry.path for entry in lost] == ["home/d/r/0001.jpg"]
    assert next(source(data, images=images).load(lost)).image is None  # not even where nothing else was looked for


def test_what_is_left_out_of_names_is_what_all_have_in_common():
    assert shared_folders(["a/b/1.jpg", "a/b/2.jpg", "a/b/c/1.jpg"]) == ["a", "b"]
    assert shared_folders(["a/c/1.jpg"], ["a", "b"]) == ["a"] and shared_folders(["1.jpg"], ["a"]) == []
    assert shared_folders([]) == []


def test_what_worked_is_tried_first(tmp_path, monkeypatch):
    for i in range(20):
        photo(tmp_path / "coco" / f"{i}.jpg")
    looked = Counter()
    there = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: looked.update(["all"]) or there(path))
    finder = ImageFiles(tmp_path)
    assert all(finder.find("coco", f"a/b/c/{i}.jpg") for i in range(20))
    assert looked["all"] < 50


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_unicode_on_disk_may_be_composed_or_not(tmp_path, form):
    name = unicodedata.normalize(form, "strass\u00e9/\u00fcn\u00efcode \u5c71.jpg")
    photo(tmp_path / name)
    found = ImageFiles(tmp_path).find("x", clean_name(unicodedata.normalize("NFD", name)))
    assert found == name


def test_sizes_are_those_of_the_upright_image(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert upright_size(tmp_path / "turned.jpg") == (20, 30)
    (tmp_path / "garbage.jpg").write_bytes(b"garbage")
    assert upright_size(tmp_path / "garbage.jpg") is None


def test_a_folder_of_images(tmp_path):
    root = tmp_path / "holiday"
    for place in ("b/2.JPG", "b/10.jpg", "a.png", "b/\u5c71.jpeg", ".hidden/x.jpg", "b/.x.jpg", "c.jpg/in.png"):
        photo(root / place)
    (root / "b" / "copy.jpg").write_bytes((root / "b" / "10.jpg").read_bytes())
    (root / "notes.txt").write_text("x")
    (root / "empty").mkdir()
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "z.jpg").symlink_to(root / "a.png")
    found = ImageFolder(root)
    assert isinstance(found, Source) and found.needs_experts
    entries = list(found.entries())
    assert [entry.path for entry in entries] == [
        "a.png", "b/10.jpg", "b/2.JPG", "b/copy.jpg", "b/\u5c71.jpeg", "c.jpg/in.png", "z.jpg"
    ]  # fmt: skip
    assert entries[0].key == "holiday/a.png"
    (root / "a.png").unlink()
    assert [sample.image and sample.image.name for sample in found.load(entries)][:2] == [None, "10.jpg"]
    assert pickle.loads(pickle.dumps(found)).signature() == {"kind": "images", "data_sets": ["holiday"]}


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(InputError, match="there is no image in"):
        list(ImageFolder(tmp_path).entries())
    photo(tmp_path / "a.jpg")
    os.rename(tmp_path / "a.jpg", os.fsencode(tmp_path) + b"/\xff.jpg")
    with pytest.raises(InputError, match="is not in UTF-8"):
        list(walk_images(tmp_path))


# Columns of labels


def test_people_of_an_image_stand_together_in_the_order_of_files_and_rows(tmp_path):
    data = tmp_path / "data"
    one = columns(["p/v/1.jpg", "p/v/2.jpg", "/x/insta-train/p/v/1.jpg"], 1)
    two = columns(["p\\v\\2.jpg", "C:\\data\\p\\v\\1.jpg"], 2)
    save(data / "insta2-release.npz", two)
    save(data / "insta1-release.npz", one)
    photo(data / "images" / "p" / "v" / "1.jpg")
    found = samples(source(data))
    assert set(found) == {"insta/p/v/1.jpg", "insta/p/v/2.jpg"}
    sample = found["insta/p/v/1.jpg"]
    np.testing.assert_array_equal(sample.label_rows, [0, 2, 4])
    people = sample.people.people
    np.testing.assert_array_equal(
        people.translation_m, np.array([one["trans_cam"][0], one["trans_cam"][2], two["trans_cam"][1]], float)
    )
    np.testing.assert_array_equal(people.pose[2], two["pose_cam"][1])
    np.testing.assert_array_equal(people.shape[1], one["shape"][2])
    np.testing.assert_array_equal(people.keypoints_px[0], one["keypoints_px"][0])
    half = 100 * one["scale"][0]
    np.testing.assert_allclose(people.boxes_px[0, :2], one["center"][0] - half)
    assert (sample.people.camera.width, sample.people.camera.height) == (WIDTH, HEIGHT)
    assert sample.image == data / "images" / "p" / "v" / "1.jpg" and sample.entry.found
    other = found["insta/p/v/2.jpg"]
    assert other.image is None and other.problem is None and not other.entry.found
    np.testing.assert_array_equal(other.label_rows, [1, 3])
    np.testing.assert_allclose(people.stature_m, people_stature(people), atol=1e-6)


def people_stature(people):
    import torch

    return load_body("anny").stature(torch.from_numpy(people.shape).float()).numpy()


def test_the_same_table_however_it_was_bucketed(tmp_path, monkeypatch):
    names = [f"{i % 13:02d}/{i % 5}.jpg" for i in range(200)]
    save(tmp_path / "data" / "street-release.npz", columns(names))
    monkeypatch.setattr(_label_table, "_ROWS_PER_GROUP", 16)
    found = []
    for buckets, size in enumerate((1 << 30, 1 << 15)):
        labels = LabelSource(tmp_path / "data", cache=tmp_path / f"cache{buckets}")
        _label_table.convert(labels.files(), tmp_path / f"{buckets}.parquet", False, bucket_bytes=size)
        labels._table = tmp_path / f"{buckets}.parquet"
        entries = list(labels.entries())
        assert sum(entry.count for entry in entries) == 200 and len(entries) == 13 * 5
        found.append({sample.entry.key: sample for sample in labels.load(entries)})
        assert not list(tmp_path.glob(".labels*"))
    assert found[0].keys() == found[1].keys()
    for key, sample in found[0].items():
        np.testing.assert_array_equal(sample.label_rows, found[1][key].label_rows)
        np.testing.assert_array_equal(sample.people.people.pose, found[1][key].people.people.pose)
        assert [names[row] for row in sample.label_rows] == [sample.entry.path] * sample.entry.count


def test_some_entries_in_any_order(tmp_path):
    save(tmp_path / "data" / "x-release.npz", columns([f"{i // 3}.jpg" for i in range(90)]))
    labels = source(tmp_path / "data")
    entries = list(labels.entries())
    every = dict(zip(entries, labels.load(entries), strict=True))
    chosen = [entries[i] for i in (7, 3, 29, 4, 5, 3)]
    for entry, sample in zip(chosen, labels.load(chosen), strict=True):
        assert sample.entry is entry
        np.testing.assert_array_equal(sample.people.people.pose, every[entry].people.people.pose)
    assert list(labels.load([])) == []
    with pytest.raises(InputError, match="not in the labels"):
        list(labels.load([Entry("x", "other.jpg", "", 0, 3)]))
    with pytest.raises(InputError, match="90 rows"):
        list(labels.load([Entry("x", "0.jpg", "", 89, 3)]))


def test_runs_of_images_of_one_data_set():
    assert blocks([3, 3, 3], ["a", "a", "b"], 100) == [slice(0, 2), slice(2, 3)]
    assert blocks([3, 500, 3], ["a"] * 3, 5) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert blocks([], [], 5) == []


def test_five_hundred_people_in_one_image(tmp_path):
    names = ["crowd.jpg"] * 500 + ["pair.jpg"] * 2
    save(tmp_path / "data" / "x-release.npz", columns(names))
    found = samples(source(tmp_path / "data"))
    assert len(found["x/crowd.jpg"].people.people) == 500
    np.testing.assert_array_equal(found["x/crowd.jpg"].label_rows, range(500))


def test_a_finished_table_is_used_again_and_by_other_processes(tmp_path, monkeypatch):
    save(tmp_path / "data" / "x-release.npz", columns(["a.jpg"]))
    labels = source(tmp_path / "data")
    entries, read = list(labels.entries()), []
    signature = labels.signature()
    elsewhere = pickle.loads(pickle.dumps(labels))

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr("crowdmesh.pgt.sources.labels.convert", refuse)
    assert list(source(tmp_path / "data").entries()) == entries
    (tmp_path / "data" / "x-release.npz").unlink()
    assert next(elsewhere.load(entries)).people is not None
    monkeypatch.undo()
    save(tmp_path / "data" / "x-release.npz", columns(["a.jpg"], seed=1))
    other = source(tmp_path / "data")
    other.table(read.append)
    assert sum(read) == 1 and other.signature() != signature
    assert str(tmp_path) not in str(signature) and signature["data_sets"] == ["x"]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_processes_that_start_together_make_one_table(tmp_path):
    """The first converts; the others wait for what it makes."""
    save(tmp_path / "data" / "x-release.npz", columns([f"{i}.jpg" for i in range(50)]))
    cache, read = tmp_path / "cache", []
    labels = source(tmp_path / "data")
    target = _label_table.table_path(cache, labels.files())
    cache.mkdir()
    with _table_lock.table_lock(cache, target.stem, wait=True) as held:
        assert held == "held"
        waiting = threading.Thread(target=lambda: labels.table(read.append))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not target.exists()
        target.write_bytes(b"made by the other")
    waiting.join(10)
    assert not waiting.is_alive() and read == [] and [path.name for path in cache.iterdir()] == [target.name]


@pytest.mark.parametrize("found", [True, False])
def test_what_killed_conversions_left_is_swept(tmp_path, found):
    cache = tmp_path / "cache"
    save(tmp_path / "data" / "x-release.npz", columns(["a.jpg"]))
    stem = source(tmp_path / "data").table().stem if found else "labels-0"
    cache.mkdir(exist_ok=True)
    (cache / f".{stem}.killed.work").mkdir()
    (cache / f".{stem}.killed.work" / "0.arrow").touch()
    for name in (f".{stem}.killed.parquet", f".{stem}.lock", ".mine"):
        (cache / name).touch()
    (cache / ".labels-busy.x.work").mkdir()
    with _table_lock.table_lock(cache, "labels-busy", wait=False):
        target = source(tmp_path / "data").table()
        left = {path.name for path in cache.iterdir()}
    assert left == {target.name, ".mine", ".labels-busy.x.work", ".labels-busy.lock"}
    assert not (cache / ".labels-busy.lock").exists()


def test_without_locks_everybody_makes_the_table(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks")

    save(tmp_path / "data" / "x-release.npz", columns(["a.jpg"]))
    monkeypatch.setattr("fcntl.flock", none)
    (tmp_path / "cache" / ".labels-0.x.work").mkdir(parents=True)
    os.utime(tmp_path / "cache" / ".labels-0.x.work", (0, 0))
    (tmp_path / "cache" / ".labels-1.x.work").mkdir()
    target = source(tmp_path / "data").table()
    assert {path.name for path in target.parent.iterdir()} == {target.name, ".labels-1.x.work"}


def test_counting_images_stops_for_nothing(tmp_path, monkeypatch):
    for name in ("a.jpg", "b/c.png", "closed/d.jpg"):
        photo(tmp_path / name)
    (tmp_path / "e\udcff.jpg").touch()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    scan = os.scandir

    def refuse(folder):
        if str(folder).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert count_images(tmp_path) == 3


def test_labels_without_images_and_images_without_labels(tmp_path):
    data = tmp_path / "data"
    save(data / "x-release.npz", columns(["a.jpg", "b.jpg", "b.jpg"]))
    for name in ("b.jpg", "c.jpg", "d/e.png"):
        photo(data / name)
    labels = source(data)
    assert {entry.path: entry.found for entry in labels.entries()} == {"a.jpg": False, "b.jpg": True}
    assert labels.unlabelled() == 2
    save(data / "other.npz", {"a": np.zeros(1)})
    assert source(data).notes() == ["left aside, because their names are not those of label files: other.npz"]
    assert labels.notes() == [f"2 images in {data} have no labels"]
    assert LabelSource(data, images=data, cache=tmp_path / "c").unlabelled() == 2
    entries = list(labels.entries())
    photo(data / "a.jpg")
    (data / "b.jpg").unlink()
    assert {s.entry.path: s.image and s.image.name for s in labels.load(entries)} == {"a.jpg": "a.jpg", "b.jpg": None}


@pytest.mark.parametrize(
    ("column", "place"),
    [("pose_cam", (1, 3, 2)), ("shape", (1, 0)), ("trans_cam", (1, 2)), ("cam_int", (1, 0, 0)), ("center", (1, 0)),
     ("scale", (1,)), ("keypoints_px", (1, 4, 2))],
)  # fmt: skip
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_said_of_its_image_alone(tmp_path, column, place, value):
    content = columns(["a.jpg", "a.jpg", "b.jpg"])
    content[column][place] = value
    save(tmp_path / "data" / "x-release.npz", content)
    found = samples(source(tmp_path / "data"))
    outcome, detail = found["x/a.jpg"].problem
    assert outcome is Outcome.LABELS_INVALID
    assert detail.startswith("row 1 of x-release.npz: ")
    assert "NaN" in detail and (column[:5] in detail)
    assert found["x/b.jpg"].problem is None


def test_people_of_two_cameras_behind_it_or_in_millimetres(tmp_path):
    content = columns(["two.jpg"] * 2 + ["behind.jpg"] + ["far.jpg"] + ["bad.jpg"] + ["same.jpg"] * 2)
    content["cam_int"][1, 0, 0] = 70
    content["cam_int"][6, 0, 0] = 60.001
    content["trans_cam"][2, 2] = -2
    content["trans_cam"][3, 2] = 4000
    content["cam_int"][4, 0, 0] = content["cam_int"][4, 1, 1] = 1
    save(tmp_path / "data" / "x-release.npz", content)
    found = {key: s.problem for key, s in samples(source(tmp_path / "data")).items()}
    assert found.pop("x/same.jpg") is None
    assert {outcome for outcome, _ in found.values()} == {Outcome.LABELS_INVALID}
    assert re.search("row 1 of .*70.0 px .* 60.0 px", found["x/two.jpg"][1])
    assert "stands -2 m" in found["x/behind.jpg"][1]
    assert "stands 4e+03 m" in found["x/far.jpg"][1]
    assert "focal length (1, 1) is implausible" in found["x/bad.jpg"][1]


def test_the_size_of_the_image_comes_from_its_centre_or_its_file(tmp_path):
    content = columns(["odd.jpg", "there.jpg", "gone.jpg"])
    content["cam_int"][0, :2, 2] = (213.5, 101)
    content["cam_int"][1:, :2, 2] = (30.3, 20.1)
    save(tmp_path / "data" / "x-release.npz", content)
    photo(tmp_path / "data" / "there.jpg")
    found = samples(source(tmp_path / "data"))
    camera = found["x/odd.jpg"].people.camera
    assert (camera.width, camera.height) == (427, 202)
    camera = found["x/there.jpg"].people.camera
    assert (camera.width, camera.height, camera.cx) == (WIDTH, HEIGHT, np.float32(30.3))
    assert "(30.3, 20.1) is not the centre" in found["x/gone.jpg"].problem[1]


def test_keypoints_and_boxes_that_some_files_lack(tmp_path):
    save(tmp_path / "data" / "insta1-release.npz", columns(["a/b/c.jpg", "a/b/d.jpg"], keypoints_px=None, center=None))
    save(tmp_path / "data" / "insta2-release.npz", columns(["a/b/c.jpg"], seed=1))
    found = samples(source(tmp_path / "data"))
    both = found["insta/a/b/c.jpg"].people.people
    assert both.boxes_px is None
    assert not both.keypoints_px[0].any() and both.keypoints_px[1].any()
    assert found["insta/a/b/d.jpg"].people.people.keypoints_px is None


def test_older_names_bytes_and_unknown_columns(tmp_path):
    content = columns(["a.jpg", "a.jpg"], dtype=np.float64, partseg=np.zeros(2))
    content["pose"] = np.asfortranarray(content.pop("pose_cam").reshape(2, 312))
    content["cam_t"], content["imgname"] = content.pop("trans_cam"), content["imgname"].astype("S")
    save(tmp_path / "data" / "x-release.npz", content)
    labels = source(tmp_path / "data")
    people = samples(labels)["x/a.jpg"].people.people
    np.testing.assert_array_equal(people.pose.reshape(2, 312), content["pose"])
    np.testing.assert_array_equal(people.translation_m, content["cam_t"])
    assert labels.notes() == ["not read of x-release.npz: partseg"]


def test_labels_of_smpl_are_those_of_the_adapter(tmp_path, smpl):
    focal = 700.0
    bodies = smpl_bodies(focal)
    names = np.array([b"x/a.jpg"] * 3)
    content = {
        "imgname": names,
        "pose_cam": bodies.pose.reshape(3, 72),
        "shape": np.pad(bodies.shape, ((0, 0), (0, 6))),
        "trans_cam": bodies.place,
        "cam_int": np.tile([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]], (3, 1, 1)),
        "center": np.tile([100.0, 100.0], (3, 1)),
        "scale": np.ones(3),
        "gtkps": np.random.default_rng(0).uniform(0, 300, (3, 44, 3)),
    }
    path = save(tmp_path / "data" / "coco-release.npz", content)
    ours = samples(source(tmp_path / "data"))["coco/a.jpg"].people
    theirs = read_people(path)
    assert ours.camera == theirs.camera
    assert ours.people.vertices_m is None
    for name in ("pose", "shape", "translation_m", "boxes_px", "keypoints_px"):
        np.testing.assert_array_equal(getattr(ours.people, name), getattr(theirs.people, name), name)
    np.testing.assert_allclose(ours.people.stature_m, theirs.people.stature_m, atol=1e-6)
    np.testing.assert_allclose(pose_people(ours.people).vertices_m, theirs.people.vertices_m, atol=1e-6)


def test_without_smpl_its_labels_are_refused_before_anything_is_planned(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content = columns(["a.jpg"], pose_cam=np.zeros((1, 72)), shape=np.zeros((1, 10)), body=None)
    save(tmp_path / "data" / "x-release.npz", content)
    with pytest.raises(AssetError):
        next(source(tmp_path / "data").entries())


def test_the_users_smpl_is_part_of_the_signature_and_must_have_the_axis_of_the_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shape = np.zeros((2, 11))
    smpl = {"pose_cam": np.zeros((2, 72)), "body": None}
    save(tmp_path / "adults" / "x-release.npz", columns(["a.jpg", "b.jpg"], shape=shape, **smpl))
    shape[1, 10] = 0.5
    save(tmp_path / "kids" / "y-release.npz", columns(["a.jpg", "b.jpg"], shape=shape, **smpl))
    adults, kids = source(tmp_path / "adults"), source(tmp_path / "kids")
    synthetic_smpl.write(tmp_path / "smpl", kid=False)
    without = adults.signature()
    assert without["kid_template"] is None and len(list(adults.entries())) == 2
    with pytest.raises(InputError, match=r"labels of y in .* use SMPL's kid axis .* no kid template"):
        next(kids.entries())
    synthetic_smpl.write(tmp_path / "smpl")
    assert len(list(kids.entries())) == 2
    assert adults.signature()["smpl"] == without["smpl"] and adults.signature() != without


# Dictionaries


def released(bodies, focal=700.0):
    """People as the released sets of DTO-Humans have them."""
    camera = {"focal": np.float32([focal, focal]), "princpt": np.float32([SIZE[0] / 2, SIZE[1] / 2])}
    return [
        {
            "smpl_param": {
                "shape": np.float32(bodies.shape[k]),
                "pose": np.float32(bodies.pose[k].reshape(72)),
                "trans": np.float32(bodies.place[k]),
            },
            "cam_param": camera,
        }
        for k in range(3)
    ]


def guess(bodies, focal=700.0, **more):
    """People as first guesses and DTO's results have them."""
    matrix = np.array([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]])
    shape = np.pad(bodies.shape, ((0, 0), (0, 1)))
    pose = bodies.pose.reshape(3, 72).astype(np.float32)
    return {"pose_cam": pose, "shape": shape, "trans_cam": bodies.place, "cam_int": np.tile(matrix, (3, 1, 1)), **more}


def boxed(value):
    array = np.empty((), object)
    array[()] = value
    return array


def test_released_sets_keep_every_number(tmp_path, smpl):
    bodies = smpl_bodies(700.0, betas=11)
    people = released(bodies)
    annots = {"insta-train/a/b/1.jpg": people, "insta-train/a/b/2.jpg": people[:1], "insta-train/a/b/3.jpg": []}
    save(tmp_path / "data" / "INSTA_CHMR_SMPL_OPT.npz", {"annots": boxed(annots)})
    found = samples(source(tmp_path / "data", unpickle=True))
    assert set(found) == {f"insta/a/b/{i}.jpg" for i in (1, 2, 3)}
    scene = found["insta/a/b/1.jpg"].people
    for k, person in enumerate(people):
        for name, values in (("pose", scene.people.pose.reshape(-1, 72)), ("shape", scene.people.shape),
                             ("trans", scene.people.translation_m)):  # fmt: skip
            np.testing.assert_array_equal(values[k], person["smpl_param"][name])
    assert (scene.camera.width, scene.camera.height) == SIZE
    assert found["insta/a/b/3.jpg"].problem == (Outcome.NOBODY, "its labels are of nobody")
    np.testing.assert_array_equal(found["insta/a/b/2.jpg"].label_rows, [3])


def test_first_guesses_and_results_of_dto(tmp_path, smpl):
    bodies = smpl_bodies(700.0)
    record = guess(bodies)
    opt = guess(bodies, is_released=np.ones(3, bool), is_optimize=np.bool_(True))
    save(tmp_path / "a" / "rh_init.npz", {"annots": boxed({"1.jpg": record, "2.jpg": {}})})
    save(tmp_path / "b" / "rh_opt.npz", {"x/1.jpg": boxed(opt), "x/2.jpg": boxed({"is_optimize": False})})
    for folder, keys in (("a", ("rh_init/1.jpg", "rh_init/2.jpg")), ("b", ("rh/x/1.jpg", "rh/x/2.jpg"))):
        found = samples(source(tmp_path / folder, unpickle=True))
        assert set(found) == set(keys)
        np.testing.assert_array_equal(found[keys[0]].people.people.translation_m, bodies.place)
        assert found[keys[1]].problem[0] is Outcome.NOBODY


def test_rows_are_counted_through_the_files_of_a_data_set(tmp_path, smpl, monkeypatch):
    monkeypatch.setattr(_label_files, "_CHUNK_ROWS", 1)
    record = guess(smpl_bodies(700.0))
    one = {"a/b/1.jpg": record, "a/b/2.jpg": {}, "a/b/3.jpg": {}}
    two = {"a/b/3.jpg": record, "a/b/2.jpg": {}, "a/b/1.jpg": record}
    save(tmp_path / "data" / "insta1_opt.npz", {"annots": boxed(one)})
    save(tmp_path / "data" / "insta2_opt.npz", {"annots": boxed(two)})
    found = samples(source(tmp_path / "data", unpickle=True))
    np.testing.assert_array_equal(found["insta/a/b/1.jpg"].label_rows, [0, 1, 2, 6, 7, 8])
    np.testing.assert_array_equal(found["insta/a/b/3.jpg"].label_rows, [3, 4, 5])
    assert found["insta/a/b/2.jpg"].problem[0] is Outcome.NOBODY


def test_a_damaged_record_is_said_of_its_image_alone(tmp_path, smpl):
    bodies = smpl_bodies(700.0)
    short, holed = guess(bodies), guess(bodies)
    short["shape"] = short["shape"][:2]
    holed["trans_cam"] = np.full((3, 3), np.nan)
    annots = {"good.jpg": guess(bodies), "short.jpg": short, "holed.jpg": holed, "other.jpg": {"verts": np.zeros(3)},
              "text.jpg": "hello"}  # fmt: skip
    save(tmp_path / "data" / "x_opt.npz", {"annots": boxed(annots)})
    found = {key: sample.problem for key, sample in samples(source(tmp_path / "data", unpickle=True)).items()}
    assert found.pop("x/good.jpg") is None
    assert {problem[0] for problem in found.values()} == {Outcome.LABELS_INVALID}
    assert "'shape' has 2 entries for 3 people" in found["x/short.jpg"][1]
    assert "'trans_cam' of person 0 holds NaN" in found["x/holed.jpg"][1]


@pytest.mark.parametrize("bad", [{"verts": np.zeros(3)}, "hello", [1, 2]])
def test_dictionaries_of_other_systems_are_refused(tmp_path, bad):
    save(tmp_path / "data" / "x.npz", {"annots": boxed({"a.jpg": bad})})
    with pytest.raises(FormatError, match="another version or of another system"):
        list(source(tmp_path / "data", unpickle=True).entries())


def test_pickled_labels_are_read_on_demand_and_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "run"),)

    names = np.array(["caf\u00e9.jpg", b"b.jpg"], object)
    data = save(tmp_path / "data" / "x-release.npz", columns([1, 2], imgname=names)).parent
    with pytest.raises(FormatError, match="--unpickle"):
        list(source(data).entries())
    assert set(samples(source(data, unpickle=True))) == {"x/caf\u00e9.jpg", "x/b.jpg"}
    save(data / "x-release.npz", columns([1], imgname=np.array([Evil()], object)))
    with pytest.raises(FormatError, match="mkdir"):
        list(source(data, unpickle=True).entries())
    assert not (tmp_path / "run").exists()


# Files that are none


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trans_cam": None}, r"another version .* lacks trans_cam; it has imgname, pose_cam"),
        ({"shape": np.zeros((1, 6))}, r"'shape' has shape \(1, 6\) for the 2 names"),
        ({"shape": np.zeros((2, 7))}, r"'shape' has float64 \(2, 7\), which no anny labels have"),
        ({"pose_cam": np.zeros((2, 72))}, r"which no anny labels have"),
        ({"cam_int": np.zeros((2, 4))}, r"'cam_int' has"),
        ({"pose_cam": np.array(["a", "b"])}, r"'pose_cam' must hold numbers"),
        ({"imgname": np.array([["a.jpg"], ["b.jpg"]])}, r"one name a person"),
        ({"imgname": np.zeros(2)}, r"'imgname' has float64"),
        ({"imgname": np.array(["a.jpg", "../b.jpg"])}, r"row 1: its image name '../b.jpg' leads out"),
        ({"imgname": np.array([b"a.jpg", b"\xff.jpg"])}, r"row 1: its image name is not in UTF-8"),
        ({"body": np.array("smplx")}, r"the body 'smplx'; read are smpl and anny"),
        ({"body": np.array(["anny", "anny"])}, r"'body' must be one value"),
    ],
)  # fmt: skip
def test_labels_of_another_version_are_refused(tmp_path, changes, message):
    save(tmp_path / "data" / "x-release.npz", columns(["a.jpg", "b.jpg"], **changes))
    with pytest.raises(FormatError, match=message) as error:
        list(source(tmp_path / "data").entries())
    assert "\n" not in str(error.value) and "x-release.npz" in str(error.value)
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else True


def test_files_of_nobody(tmp_path):
    save(tmp_path / "data" / "x-release.npz", columns([]))
    with pytest.raises(InputError, match="hold no people"):
        list(source(tmp_path / "data").entries())
    save(tmp_path / "data" / "y-release.npz", columns(["a.jpg"]))
    assert set(samples(source(tmp_path / "data"))) == {"y/a.jpg"}


def test_what_is_no_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        LabelSource(tmp_path / "none")
    with pytest.raises(InputError, match="there is no label file"):
        LabelSource(tmp_path)
    path = save(tmp_path / "x-release.npz", columns(["a.jpg"]))
    with pytest.raises(InputError, match="folder of images"):
        LabelSource(tmp_path, images=tmp_path / "none")
    (tmp_path / "labels.txt").write_text("x")
    with pytest.raises(InputError, match=r"is an \.npz"):
        LabelSource(tmp_path / "labels.txt")
    (tmp_path / "copy-release.npz").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="is a copy of copy-release"):
        list(source(tmp_path).entries())


def test_two_labels_of_one_data_set_are_refused(tmp_path):
    save(tmp_path / "data" / "coco-release.npz", columns(["a.jpg"]))
    save(tmp_path / "data" / "COCO_CHMR_SMPL_OPT.npz", {"annots": boxed({"a.jpg": {}})})
    save(tmp_path / "data" / "truth.npz", {"imgname": np.array(["a.jpg"])})
    with pytest.raises(InputError, match="different labels of the data set 'coco'"):
        source(tmp_path / "data", unpickle=True).files()
    one = LabelSource(tmp_path / "data" / "coco-release.npz", cache=tmp_path)
    assert [entry.key for entry in one.entries()] == ["coco/a.jpg"]


@pytest.mark.parametrize("keep", [0, 100, 0.5, -10])
def test_truncated_archives_are_refused(tmp_path, keep):
    path = save(tmp_path / "data" / "x-release.npz", columns([f"{i}.jpg" for i in range(50)]))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(FormatError, match="is not a readable label file"):
        list(source(tmp_path / "data").entries())


def test_flipped_bytes_are_noticed(tmp_path):
    path = tmp_path / "data" / "x-release.npz"
    path.parent.mkdir()
    np.savez_compressed(path, **columns([f"{i}.jpg" for i in range(200)]))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(FormatError, match="is not a readable label file"):
        list(source(tmp_path / "data").entries())
    assert not list((tmp_path / "cache").glob("*"))


def member(shape: str, size: int, descr: str = "<f4") -> bytes:
    """A header of an array that says a shape, and other bytes than that."""
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head += " " * (63 - (10 + len(head)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(size)


@pytest.mark.parametrize(
    ("shape", "size", "descr"),
    [("(1000000000000, 3)", 12, "<f4"), ("(1, 3)", 1 << 20, "<f4"), ("(-1, 3)", 12, "<f4"), ("(1, 3)", 12, "|O")],
)
def test_arrays_of_other_sizes_than_they_say_are_refused(tmp_path, shape, size, descr):
    path = save(tmp_path / "data" / "x-release.npz", columns(["a.jpg"], trans_cam=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("trans_cam.npy", member(shape, size, descr))
    with pytest.raises(FormatError):
        list(source(tmp_path / "data").entries())


def test_archives_that_explode_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_npz_columns, "_HARMLESS_BYTES", 1 << 16)
    path = save(tmp_path / "data" / "x-release.npz", columns(["a.jpg"], keypoints_px=None))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gtkps.npy", member("(1, 1000000, 3)", 12_000_000))
    with pytest.raises(FormatError, match="unpack to 11 MiB, which no labels do"):
        inspect(path, False)
    monkeypatch.undo()
    with pytest.raises(FormatError, match="which no anny labels have"):
        inspect(path, False)


def test_pickles_that_explode_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_npz_columns, "_HARMLESS_PICKLE", 1 << 16)
    path = tmp_path / "x.npz"
    buffer = io.BytesIO()
    np.save(buffer, boxed({"a.jpg": bytes(1 << 22)}), allow_pickle=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annots.npy", buffer.getvalue())
    with pytest.raises(FormatError, match="'annots' would unpack to 4 MiB"):
        list(LabelSource(path, cache=tmp_path / "cache", unpickle=True).entries())


def test_a_table_that_is_none_is_refused(tmp_path):
    save(tmp_path / "data" / "x-release.npz", columns(["a.jpg"]))
    labels = source(tmp_path / "data")
    path = labels.table()
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(FormatError, match="is not a readable table of labels: it does not say that it is one"):
        list(labels.entries())
    path.write_bytes(b"PAR1 garbage")
    with pytest.raises(FormatError, match="is not a readable table of labels"):
        list(labels.entries())


def test_memory_does_not_grow_with_the_labels(tmp_path, monkeypatch):
    """With everything that bounds it made smaller, so that a file of 3 MB is a huge one."""
    count = 2400
    data = tmp_path / "data"
    names = [f"folder/{i // 5:06d}.jpg" for i in range(count)]
    np.random.default_rng(0).shuffle(names)
    content = columns([], imgname=np.array(names), keypoints_px=None, center=None, scale=None)
    content["pose_cam"] = np.zeros((count, 104, 3), np.float32)
    content["shape"] = np.full((count, 6), 0.5, np.float32)
    content["trans_cam"] = np.full((count, 3), 5, np.float32)
    content["cam_int"] = np.tile(K, (count, 1, 1))
    path = save(data / "x-release.npz", content)
    del content, names
    size = path.stat().st_size
    assert size > 3e6
    monkeypatch.setattr(_label_files, "_CHUNK_BYTES", 1 << 17)
    monkeypatch.setattr(_label_table, "_ROWS_PER_GROUP", 128)
    labels = source(data)
    target, arrow = tmp_path / "table.parquet", []
    held = pa.total_allocated_bytes()
    tracemalloc.start()
    _label_table.convert(
        labels.files(), target, False, lambda _: arrow.append(pa.total_allocated_bytes() - held), bucket_bytes=1 << 18
    )
    labels._table = target
    entries = sum(1 for _ in labels.entries())
    shard = list(itertools.islice(labels.entries(), 8))
    assert sum(len(sample.people.people) for sample in labels.load(shard)) == 5 * 8
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert entries == count // 5
    assert peak < size / 3, peak
    assert max(arrow) < size / 3, max(arrow)


# Relative Human


def relative_human(folder: Path, split: str, names) -> None:
    person = {"bbox": [0, 0, 9, 9], "kp2d": None, "depth_id": 0, "age": 0, "gender": -1}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{split}_annots.npz", annots=boxed({name: [person] for name in names}), allow_pickle=True)


def test_relative_human(tmp_path):
    data = tmp_path / "RH"
    relative_human(data, "train", ["b.jpg", "a.jpg"])
    relative_human(data, "test", ["c.jpg"])
    photo(data / "images" / "a.jpg")
    photo(data / "images" / "test" / "c.jpg")
    found = RelativeHumanSource(data, unpickle=True)
    assert isinstance(found, Source) and found.needs_experts
    entries = list(found.entries())
    assert [(entry.key, entry.found) for entry in entries] == [
        ("relative-human-train/a.jpg", True),
        ("relative-human-train/b.jpg", False),
        ("relative-human-test/c.jpg", True),
    ]
    elsewhere = pickle.loads(pickle.dumps(found))
    places = [sample.image and sample.image.relative_to(data).as_posix() for sample in elsewhere.load(entries)]
    assert places == ["images/a.jpg", None, "images/test/c.jpg"]
    assert all(sample.people is None and sample.problem is None for sample in found.load(entries))
    assert found.signature()["data_sets"] == ["relative-human-train", "relative-human-test"]
    assert [entry.path for entry in RelativeHumanSource(data, split="test", unpickle=True).entries()] == ["c.jpg"]


def test_what_is_no_relative_human_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        RelativeHumanSource(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no \{train,val,test\}_annots"):
        RelativeHumanSource(tmp_path)
    with pytest.raises(InputError, match="a split of Relative Human"):
        RelativeHumanSource(tmp_path, split="all")
    relative_human(tmp_path, "val", ["../a.jpg"])
    with pytest.raises(FormatError, match="on demand"):
        list(RelativeHumanSource(tmp_path).entries())
    with pytest.raises(FormatError, match="leads out of the folder"):
        list(RelativeHumanSource(tmp_path, unpickle=True).entries())
