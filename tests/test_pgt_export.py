"""Sets in the layouts of others: the released one of DTO-Humans, and tar shards."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import synthetic_smpl
from _pgt_made_up import image as made_up
from hypothesis import given
from hypothesis import strategies as st

from crowdmesh.camera import Camera
from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats._archive import read_annots
from crowdmesh.people import People
from crowdmesh.pgt.export import export_official, export_webdataset, official, read_webdataset, webdataset
from crowdmesh.pgt.export._naming import file_stems, member_name
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.manifest import Manifest, claim, hash_of
from crowdmesh.pgt.plan import extend_plan
from crowdmesh.pgt.reading import open_set
from crowdmesh.pgt.records import Built, Entry, ImageFile, Outcome, Sample
from crowdmesh.pgt.run import build, prepare
from crowdmesh.pgt.shards import ShardWriter
from crowdmesh.pgt.sources.labels import LabelSource
from crowdmesh.scene import Scene

CONFIG = {"source": {"kind": "photos"}, "experts": None, "dto": None}
NAMES = ("shape", "pose", "trans")


class Photos:
    """A source of encoded images; without an image, it is missing."""

    kind: str = "photos"
    licences: tuple[str, ...] = ("made up",)
    needs_experts: bool = False

    def __init__(self, images: dict[str, bytes | Path], fail_at: str | None = None) -> None:
        self.images, self.fail_at, self.asked = images, fail_at, 0

    def signature(self) -> dict[str, Any]:
        return {"kind": self.kind}

    def entries(self) -> Iterator[Entry]:
        return iter(())

    def notes(self) -> list[str]:
        return []

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        for entry in entries:
            if entry.key == self.fail_at:
                raise KeyboardInterrupt
            self.asked += 1
            image = self.images.get(entry.key)
            if isinstance(image, Path):
                yield Sample(entry, image=image)
            else:
                yield Sample(entry, encoded=image)


def people(random: np.random.Generator, count: int, dtype: type = np.float32, **more: Any) -> People:
    """People with SMPL's parameters: made-up numbers."""
    return People(
        body="smpl",
        pose=random.standard_normal((count, 24, 3)).astype(dtype).astype(float),
        shape=random.standard_normal((count, 11)).astype(dtype).astype(float),
        translation_m=random.uniform(1, 9, (count, 3)).astype(dtype).astype(float),
        stature_m=random.uniform(0.6, 2.0, count),
        **more,
    )


def taken_over(dataset: str, path: str, who: People, camera: Camera, file: ImageFile | None = None) -> Built:
    """An image as a set takes it over."""
    scene = Scene(camera, who)
    rows = np.arange(len(who))
    return Built(Entry(dataset, path), Outcome.TAKEN_OVER, "", file, scene, scene, None, ("labelled",) * len(who), rows)


def write_set(folder: Path, built: Sequence[Built], per_shard: int = 4) -> Path:
    """A set of these images."""
    claim(folder, Manifest(CONFIG, hash_of(CONFIG)))
    extend_plan(folder, iter([image.entry for image in built]), per_shard)
    for shard, first in enumerate(range(0, len(built), per_shard)):
        with ShardWriter(folder, shard, hash_of(CONFIG)) as writer:
            writer.add(built[first : first + per_shard])
    return folder


def encoded(seed: int, width: int = 40, height: int = 30, suffix: str = ".png") -> bytes:
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def photo_set(folder: Path, count: int = 7) -> tuple[Path, Photos]:
    """A set of two data sets with photographs and everything known of their people."""
    random, built, images = np.random.default_rng(0), [], {}
    camera = Camera(50.0, 51.0, 20.0, 15.0, 40, 30)
    for number in range(count):
        content = encoded(number, suffix=".jpg" if number % 2 else ".png")
        file = ImageFile(len(content), hashlib.sha256(content).hexdigest(), 40, 30)
        who = people(
            random,
            number % 3 + 1,
            float,
            boxes_px=random.uniform(0, 9, (number % 3 + 1, 4)).cumsum(1),
            age_years=np.where(np.arange(number % 3 + 1) == 0, np.nan, 30.0),
        )
        image = taken_over("coco" if number % 3 else "my photos", f"a b/{number}.x.jpg", who, camera, file)
        built.append(image)
        images[image.entry.key] = content
    return write_set(folder, built), Photos(images)


# --- the official layout


def made_up_release(random: np.random.Generator, images: dict[str, tuple[int, int, int]]) -> dict[str, Any]:
    """Released annotations, in the types that they have."""
    single = np.float32

    def person(width: int, height: int) -> dict[str, Any]:
        focal = single(np.hypot(width, height))
        return {
            "smpl_param": {
                "shape": random.standard_normal(11).astype(single),
                "pose": random.standard_normal(72).astype(single),
                "trans": random.uniform(1, 9, 3).astype(single),
            },
            "cam_param": {
                "focal": np.array([focal, focal], single),
                "princpt": np.array([width / 2, height / 2], single),
            },
        }

    return {name: [person(width, height) for _ in range(count)] for name, (width, height, count) in images.items()}


def built_of(dataset: str, path: str, record: list[dict[str, Any]]) -> Built:
    """Released people as a set takes them over."""
    stacked = {name: np.stack([person["smpl_param"][name] for person in record]).astype(np.float64) for name in NAMES}
    (fx, fy), (cx, cy) = (record[0]["cam_param"][name].astype(float).tolist() for name in ("focal", "princpt"))
    who = People(
        body="smpl",
        pose=stacked["pose"].reshape(-1, 24, 3),
        shape=stacked["shape"],
        translation_m=stacked["trans"],
        stature_m=np.full(len(record), 1.7),
    )
    return taken_over(dataset, path, who, Camera(fx, fy, cx, cy, round(2 * cx), round(2 * cy)))


def assert_same_annots(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, record in expected.items():
        assert len(found[name]) == len(record)
        for one, other in zip(found[name], record, strict=True):
            assert one.keys() == other.keys()
            for part, arrays in other.items():
                assert one[part].keys() == arrays.keys()
                for key, array in arrays.items():
                    value = one[part][key]
                    assert value.dtype == array.dtype and value.shape == array.shape, (name, key)
                    assert value.tobytes() == array.tobytes(), (name, key)


def test_released_annotations_come_back_bit_for_bit(tmp_path):
    random = np.random.default_rng(5)
    coco = made_up_release(random, {"Zoë 山.jpg": (427, 640, 1), "b.jpg": (640, 481, 500), "0.png": (333, 501, 3)})
    insta = made_up_release(random, {"insta-train/u/v/1.jpg": (720, 720, 2)})
    built = [built_of("coco", name, record) for name, record in coco.items()]
    built += [built_of("insta", name.removeprefix("insta-train/"), record) for name, record in insta.items()]
    write_set(tmp_path / "set", built, per_shard=2)
    seen: list[tuple[int, int]] = []

    result = export_official(tmp_path / "set", progress=lambda done, total: seen.append((done, total)))

    assert [(file.path.name, file.dataset, file.images, file.people) for file in result.files] == [
        ("COCO_CHMR_SMPL_OPT.npz", "coco", 3, 504),
        ("INSTA_CHMR_SMPL_OPT.npz", "insta", 1, 2),
    ]
    assert result.folder == tmp_path / "set" / "official" and result.left_out == 0 and seen[-1] == (4, 4)
    assert len(result.columns) == len(result.rows()[0])
    for file, expected in zip(result.files, (coco, insta), strict=True):
        assert file.size_bytes == file.path.stat().st_size
        assert_same_annots(read_annots(file.path, "release", unpickle=True), expected)


def test_released_files_go_through_a_build_and_come_back_bit_for_bit(tmp_path, monkeypatch):
    synthetic_smpl.write(tmp_path / "assets" / "smpl", "SMPL_NEUTRAL.npz")
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path / "assets"))
    random, data, expected = np.random.default_rng(6), tmp_path / "data", {}
    data.mkdir()
    for stem, images in {
        "COCO": {"Zoë 山.jpg": (427, 640, 1), "b.jpg": (640, 481, 500), "0.png": (333, 501, 3)},
        "INSTA": {"insta-train/u/v/1.jpg": (720, 720, 2), "insta-train/u/w/1.jpg": (721, 720, 1)},
        "Ours": {"train/1.jpg": (100, 100, 2), "test/1.jpg": (100, 100, 1)},
    }.items():
        expected[stem.upper()] = made_up_release(random, images)
        np.savez(data / f"{stem}_CHMR_SMPL_OPT.npz", annots=expected[stem.upper()])
    source = LabelSource(data, cache=tmp_path / "cache", unpickle=True)
    for _ in build(prepare(Job(tmp_path / "set", source, None, None, per_shard=3))):
        pass
    result = export_official(tmp_path / "set")
    assert result.left_out == 0
    found = {file.path.name.removesuffix(official.SUFFIX): file.path for file in result.files}
    assert found.keys() == expected.keys()
    for stem, annots in expected.items():
        assert_same_annots(read_annots(found[stem], "release", unpickle=True), annots)


def test_a_field_is_double_where_single_precision_would_lose_something(tmp_path):
    random = np.random.default_rng(0)
    camera = Camera(500.1, 500.1, 320.0, 240.0, 640, 480)
    doubles = replace(people(random, 2, np.float32), translation_m=random.uniform(1, 9, (2, 3)))
    ten = replace(doubles, shape=doubles.shape[:, :10])
    write_set(tmp_path / "set", [taken_over("aic", "1.jpg", doubles, camera), taken_over("aic", "2.jpg", ten, camera)])
    path = export_official(tmp_path / "set", tmp_path / "out").files[0].path
    assert path == tmp_path / "out" / "AIC_CHMR_SMPL_OPT.npz"
    record = read_annots(path, "release", unpickle=True)
    for name, who in (("1.jpg", doubles), ("2.jpg", ten)):
        for k, person in enumerate(record[name]):
            assert {key: value.dtype.name for part in person.values() for key, value in part.items()} == {
                "shape": "float32", "pose": "float32", "trans": "float64", "focal": "float64", "princpt": "float32"
            }  # fmt: skip
            np.testing.assert_array_equal(person["smpl_param"]["trans"], who.translation_m[k])
    assert (
        record["2.jpg"][0]["smpl_param"]["shape"].shape == (11,) and record["2.jpg"][0]["smpl_param"]["shape"][10] == 0
    )


def test_only_accepted_images_are_exported_at_any_threshold(tmp_path):
    random, camera = np.random.default_rng(0), Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    kept = taken_over("coco", "kept.jpg", people(random, 1), camera)
    missing = Built(Entry("coco", "missing.jpg"), Outcome.IMAGE_MISSING, "gone")
    set_folder = write_set(tmp_path / "set", [missing, kept])
    result = export_official(set_folder)
    assert (result.files[0].images, result.left_out) == (1, 1)
    nothing = write_set(tmp_path / "none", [missing])
    with pytest.raises(InputError, match="nothing to export"):
        export_official(nothing)
    with pytest.raises(InputError, match="nothing to pack"):
        export_webdataset(nothing, None, Photos({}))
    assert not (nothing / "webdataset").exists() and not (nothing / "official").exists()


def test_other_bodies_are_refused_before_anything_is_written(tmp_path):
    random, camera = np.random.default_rng(0), Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    anny = replace(people(random, 1), body="anny", pose=np.zeros((1, 104, 3)), shape=np.full((1, 6), 0.5))
    built = [taken_over("coco", "1.jpg", people(random, 1), camera), taken_over("mpii", "2.jpg", anny, camera)]
    with pytest.raises(InputError, match=r"mpii/2.jpg have the body 'anny'.*webdataset holds every body"):
        export_official(write_set(tmp_path / "set", built))
    assert not (tmp_path / "set" / "official").exists()


@pytest.mark.parametrize("change", ["number", "person", "image", "damage"])
def test_a_file_that_reads_back_otherwise_is_an_error_and_replaces_nothing(tmp_path, monkeypatch, change):
    random, camera = np.random.default_rng(0), Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    write_set(tmp_path / "set", [taken_over("coco", "1.jpg", people(random, 2), camera)])
    older = tmp_path / "set" / "official" / "COCO_CHMR_SMPL_OPT.npz"
    older.parent.mkdir()
    older.write_bytes(b"older")

    def altered(path: Path, what: str, unpickle: bool = False) -> dict[str, Any]:
        annots = read_annots(path, what, unpickle)
        if change == "number":
            annots["1.jpg"][1]["smpl_param"]["trans"] = annots["1.jpg"][1]["smpl_param"]["trans"] + np.float32(1)
        elif change == "person":
            annots["1.jpg"].pop()
        elif change == "image":
            annots["2.jpg"] = annots.pop("1.jpg")
        else:
            raise FormatError("damaged")
        return annots

    monkeypatch.setattr(official, "read_annots", altered)
    with pytest.raises(FormatError, match=r"COCO_CHMR_SMPL_OPT.npz .*read.* back.*export again"):
        export_official(tmp_path / "set")
    assert [file.name for file in older.parent.iterdir()] == [older.name] and older.read_bytes() == b"older"


# --- tar shards


def test_a_tar_holds_each_photograph_and_its_people_as_webdataset_reads_them(tmp_path):
    folder, source = photo_set(tmp_path / "set")
    seen: list[tuple[int, int]] = []
    result = export_webdataset(folder, None, source, per_tar=2, progress=lambda *done: seen.append(done))
    assert [(d.dataset, d.tars, d.kept, d.images, d.people) for d in result.datasets] == [
        ("coco", 2, 0, 4, 10), ("my photos", 2, 0, 3, 3)
    ]  # fmt: skip
    assert seen[-1] == (7, 7) and len(result.columns) == len(result.rows()[0])
    assert result.folder == folder / "webdataset"
    assert sorted(path.name for path in result.folder.glob("*.tar")) == [
        "coco-000000.tar", "coco-000001.tar", "my_photos-000000.tar", "my_photos-000001.tar"
    ]  # fmt: skip

    built = {scene.key: scene for scene in open_set(folder).images()}
    packed = {image.key: image for image in read_webdataset(result.folder)}
    assert packed.keys() == built.keys()
    for key, image in packed.items():
        scene = built[key]
        assert image.image == source.images[key] and image.dataset == scene.dataset
        assert image.suffix == ("png" if image.image.startswith(b"\x89PNG") else "jpg")
        assert image.metadata["outcome"] == "taken_over" and image.metadata["body"] == "smpl"
        assert image.metadata["score"] is None and image.metadata["licences"] == ["made up"]
        assert image.metadata["image_sha256"] == scene.file.sha256
        who, arrays = scene.after.people, image.arrays
        for name in ("pose", "shape", "translation_m", "stature_m", "boxes_px", "age_years"):
            np.testing.assert_array_equal(arrays[name], getattr(who, name).astype(np.float32))
        np.testing.assert_array_equal(arrays["intrinsics"], scene.after.camera.K.astype(np.float32))
        assert arrays["image_size"].tolist() == [40, 30] and arrays["label_rows"].tolist() == list(range(len(who)))
        assert {"translation_before_m", "shape_before", "stature_before_m", "status"} <= arrays.keys()
        assert "keypoints_px" not in arrays and "standardised_residual" not in arrays
        assert {array.dtype.name for array in arrays.values()} == {"float32", "int64"}

    for path in result.folder.glob("*.tar"):  # as any reader of such tars groups them
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert all(m.isreg() and (m.mtime, m.uid, m.gid, m.mode) == (0, 0, 0, 0o644) for m in members)
        names = [tuple(member.name.split(".", 1)) for member in members]
        assert [a for a, _ in names[::2]] == [b for b, _ in names[1::2]] and len(set(names)) == len(names)
        assert {suffix for _, suffix in names[1::2]} == {"safetensors"}


def test_another_threshold_packs_other_images_with_what_is_known_of_their_placement(tmp_path):
    scores = (0.4, 1.2, 1.6, 2.5)
    built = [
        replace(placed := made_up(seed, 3), outcome=Outcome.ACCEPTED.at(score, 1.5), placement=replace(
            placed.placement, score=score), file=None)
        for seed, score in enumerate(scores)
    ]  # fmt: skip
    folder = write_set(tmp_path / "set", built)
    source = Photos({image.entry.key: encoded(seed, 640, 427) for seed, image in enumerate(built)})
    for threshold, expected in ((None, scores[:2]), (1.0, scores[:1]), (2.0, scores[:3])):
        out = export_webdataset(folder, tmp_path / f"{threshold}", source, threshold).folder
        images = list(read_webdataset(out))
        assert [image.metadata["score"] for image in images] == list(expected)
        assert all(image.metadata["outcome"] == "accepted" for image in images)
    for image, made in zip(images, built, strict=False):
        assert image.metadata["body"] == "anny" and image.arrays["pose"].shape == (3, 104, 3)
        for name in ("standardised_residual", "depth_std_m", "stature_std_m"):
            np.testing.assert_array_equal(image.arrays[name], getattr(made.placement, name).astype(np.float32))
        np.testing.assert_array_equal(
            image.arrays["translation_before_m"], made.before.people.translation_m.astype(np.float32)
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_set_makes_the_same_bytes_and_a_stopped_packing_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("crowdmesh.pgt.export.webdataset._AT_ONCE", 2)
    folder, source = photo_set(tmp_path / "set")
    whole = export_webdataset(folder, tmp_path / "whole", source, per_tar=2).folder
    with pytest.raises(KeyboardInterrupt):
        export_webdataset(folder, tmp_path / "stopped", Photos(source.images, "coco/a b/5.x.jpg"), per_tar=2)
    stopped = tmp_path / "stopped"
    there = {path.name for path in stopped.iterdir()}
    assert there == {"packing.json"} | {f"{stem}-000000.{s}" for stem in ("coco", "my_photos") for s in ("tar", "json")}
    kept = (stopped / "coco-000000.tar").stat().st_mtime_ns
    again = Photos(source.images)
    result = export_webdataset(folder, stopped, again, per_tar=2)
    assert [d.kept for d in result.datasets] == [1, 1] and again.asked == 3
    assert (stopped / "coco-000000.tar").stat().st_mtime_ns == kept
    assert contents(stopped) == contents(whole)


def test_missing_and_changed_photographs_are_listed_and_packed_when_they_are_back(tmp_path):
    folder, source = photo_set(tmp_path / "set")
    whole = export_webdataset(folder, tmp_path / "whole", source, per_tar=2).folder
    fewer = dict(source.images)
    del fewer["my photos/a b/0.x.jpg"]
    fewer["coco/a b/5.x.jpg"] = encoded(99)
    out = tmp_path / "out"
    result = export_webdataset(folder, out, Photos(fewer), per_tar=2)
    assert [(d.images, d.missing, d.changed) for d in result.datasets] == [(3, 0, 1), (2, 1, 0)]
    listed = (out / "left_out.csv").read_text().splitlines()
    assert listed[0] == "key,reason,detail,tar" and len(listed) == 3
    assert "another file than the set was built from" in listed[1] and ",missing," in listed[2]
    assert len(list(read_webdataset(out))) == 5

    unchanged = export_webdataset(folder, out, Photos(fewer), per_tar=2)
    assert [d.kept for d in unchanged.datasets] == [2, 2] and unchanged.datasets[0].changed == 1
    mended = export_webdataset(folder, out, source, per_tar=2)
    assert [d.kept for d in mended.datasets] == [1, 1]
    assert contents(out) == contents(whole)


def test_a_photograph_that_was_not_there_before_must_have_the_size_that_the_set_knows(tmp_path):
    camera, random = Camera(50.0, 50.0, 20.0, 15.0, 40, 30), np.random.default_rng(0)
    built = [taken_over("coco", f"{n}.jpg", people(random, 1), camera) for n in range(4)]
    images: dict[str, bytes | Path] = {}
    for number, content in enumerate((encoded(0), encoded(1, 41), b"no image at all")):
        images[f"coco/{number}.jpg"] = tmp_path / f"{number}.jpg"
        (tmp_path / f"{number}.jpg").write_bytes(content)
    images["coco/3.jpg"] = tmp_path / "nowhere.jpg"
    result = export_webdataset(write_set(tmp_path / "set", built), None, Photos(images))
    assert [(d.images, d.missing, d.changed) for d in result.datasets] == [(1, 1, 2)]
    listed = (result.folder / "left_out.csv").read_text()
    assert "has 41x30 pixels" in listed and "2.jpg is truncated, corrupt" in listed and "No such file" in listed


def test_other_packings_and_other_folders_are_refused(tmp_path):
    folder, source = photo_set(tmp_path / "set")
    export_webdataset(folder, tmp_path / "out", source, per_tar=3)
    with pytest.raises(InputError, match=r"another packing \(per_tar: 3 -> 4\)"):
        export_webdataset(folder, tmp_path / "out", source, per_tar=4)
    with pytest.raises(InputError, match=r"another packing \(threshold: None -> 2.0\)"):
        export_webdataset(folder, tmp_path / "out", source, threshold=2.0, per_tar=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no tar shards"):
        export_webdataset(folder, tmp_path / "mine", source)
    with pytest.raises(InputError, match="at least 1, got 0"):
        export_webdataset(folder, tmp_path / "new", source, per_tar=0)
    other = Photos(source.images)
    other.kind = "drawings"
    with pytest.raises(InputError, match=r'another source \(kind: "photos" -> "drawings"\)'):
        export_webdataset(folder, tmp_path / "out", other, per_tar=3)


def test_damaged_tars_are_packed_again_and_those_nobody_asks_for_deleted(tmp_path):
    folder, source = photo_set(tmp_path / "set")
    out = export_webdataset(folder, tmp_path / "out", source, per_tar=2).folder
    for suffix in ("tar", "json"):
        (out / f"coco-000007.{suffix}").write_bytes((out / f"coco-000000.{suffix}").read_bytes())
    (out / "coco-000000.tar").write_bytes(b"")
    (out / "my_photos-000001.json").write_bytes(b"{")
    mine = {"notes-000001.json": b"[]", "notes-000001.tar": b"mine", "broken.json": b"{", "broken.tar": b"mine"}
    for name, content in mine.items():
        (out / name).write_bytes(content)
    result = export_webdataset(folder, out, source, per_tar=2)
    assert not list(out.glob("coco-000007.*")) and [d.kept for d in result.datasets] == [1, 1]
    for name, content in mine.items():
        assert (out / name).read_bytes() == content
        (out / name).unlink()
    assert len(list(read_webdataset(out))) == 7


def test_what_a_killed_packing_left_is_swept_and_never_read(tmp_path):
    folder, source = photo_set(tmp_path / "set")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".packing.killed.json").write_text("{")
    export_webdataset(folder, out, source, per_tar=4)
    leftovers = [f".coco-000000.killed.{suffix}" for suffix in ("tar", "json")] + [".left_out.killed.csv"]
    for name in (*leftovers, ".mine.json"):
        (out / name).touch()
    assert len(list(read_webdataset(out))) == 7
    export_webdataset(folder, out, source, per_tar=4)
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == [".mine.json"]


@pytest.mark.parametrize("change", ["more", "fewer", "another data set"])
def test_a_set_that_changes_while_it_is_packed_is_one_sentence(tmp_path, monkeypatch, change):
    folder, source = photo_set(tmp_path / "set")
    planned = webdataset._plans

    def at_first(*arguments):
        plans = planned(*arguments)
        if change == "more":
            plans["coco"].pop()
        elif change == "fewer":
            plans["coco"].append(replace(plans["coco"][-1], stem="coco-000009"))
        else:
            del plans["my photos"]
        return plans

    monkeypatch.setattr(webdataset, "_plans", at_first)
    with pytest.raises(InputError, match="the set changed while it was packed"):
        export_webdataset(folder, None, source, per_tar=2)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half(tmp_path, monkeypatch):
    folder, source = photo_set(tmp_path / "set")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(InputError, match=r"cannot write .*000000.tar: No space left on device; free some space"):
        export_webdataset(folder, tmp_path / "out", source, per_tar=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["packing.json"]
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(InputError, match="No space left"):
        export_official(folder)


@pytest.fixture(scope="module")
def tar(tmp_path_factory) -> bytes:
    folder, source = photo_set(tmp_path_factory.mktemp("tar") / "set", 3)
    return (export_webdataset(folder, None, source).folder / "coco-000000.tar").read_bytes()


@given(st.data())
def test_a_damaged_tar_is_one_sentence_or_reads_as_much_as_it_should(tar, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "a.tar"
    if data.draw(st.booleans()):
        damaged = tar[: data.draw(st.integers(0, len(tar) - 10240))]
    else:
        place = data.draw(st.integers(0, len(tar) - 1))
        damaged = tar[:place] + bytes([tar[place] ^ 1 << data.draw(st.integers(0, 7))]) + tar[place + 1 :]
    path.write_bytes(damaged)
    said = None
    try:
        count = len(list(read_webdataset(path)))
    except FormatError as error:
        said = str(error)
    if said is None:
        assert count == 2 and len(damaged) == len(tar)
    else:
        assert str(path) in said and "\n" not in said


def test_tars_of_others_are_refused(tmp_path):
    with pytest.raises(InputError, match="no tar shard"):
        read_webdataset(tmp_path)
    foreign = tmp_path / "a.tar"

    def pack(*members: tuple[str, bytes]) -> None:
        with tarfile.open(foreign, "w") as tar:
            for name, content in members:
                (tmp_path / "member").write_bytes(content)
                tar.add(tmp_path / "member", name)

    from safetensors.numpy import save

    plain = save({"pose": np.zeros(3, np.float32)})
    newer = save({"pose": np.zeros(3)}, {"crowdmesh": json.dumps({"format": "crowdmesh-packed", "version": 99})})
    bare = save({"pose": np.zeros(3)}, {"crowdmesh": json.dumps({"format": "crowdmesh-packed", "version": 1})})
    for members, says in (
        ([("a.jpg", b"x")], "no people beside the image a.jpg"),
        ([("a.jpg", b"x"), ("b.jpg", b"x")], "no people beside the image a.jpg"),
        ([("a.jpg", b"x"), ("b.safetensors", plain)], "no image right before b.safetensors"),
        ([("a.jpg", b"x"), ("a.safetensors", plain)], "does not say that it is of CrowdMesh"),
        ([("a.jpg", b"x"), ("a.safetensors", newer)], "update crowdmesh"),
        ([("a.jpg", b"x"), ("a.safetensors", bare)], "lacks the name"),
        ([("a.jpg", b"x"), ("a.safetensors", b"junk")], "is damaged"),
    ):
        pack(*members)
        with pytest.raises(FormatError, match=says):
            list(read_webdataset(foreign))


# --- names


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), unique=True))
def test_members_have_safe_names_of_their_own(keys):
    names = [member_name(key) for key in keys]
    assert len({name.lower() for name in names}) == len(names)
    assert all(
        name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 57 for name in names
    )


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), unique=True, max_size=8))
def test_data_sets_have_safe_files_of_their_own(names):
    stems = file_stems(names)
    assert stems.keys() == set(names)
    assert len({stem.casefold() for stem in stems.values()}) == len(names)
    assert not any(set(stem) & set('/\\:*?"<>|') or stem.startswith(".") for stem in stems.values())


def test_files_of_data_sets_are_called_after_them():
    assert file_stems(["coco", "a/b", "山"]) == {"coco": "coco", "a/b": "a_b", "山": "山"}
    assert [
        re.fullmatch(r"(coco|Coco)-[0-9a-f]{8}", stem) is not None for stem in file_stems(["coco", "Coco"]).values()
    ]
