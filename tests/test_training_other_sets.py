"""Data sets of points, sets that were built, and synthetic worlds as training samples."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from _pgt_made_up import failure, image
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.body import load_body, pose_people
from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats.joints import CROWDPOSE14, H36M17, J24
from crowdmesh.formats.mupots import H36M_FROM_RAW, JOINTS
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.pgt.records import Outcome
from crowdmesh.pgt.shards import ShardWriter
from crowdmesh.synth import (
    PRESETS,
    World,
    nominal,
    observation_seed,
    observe,
    read_truth,
    write_label_set,
    write_shards,
)
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.datasets.built import open_built_set
from crowdmesh.training.datasets.label_truth import open_label_truth
from crowdmesh.training.datasets.our_table import held_out
from crowdmesh.training.datasets.points import camera_of, open_mupots, open_panoptic, open_relative_human
from crowdmesh.training.datasets.synthetic import VISIBLE_SHARE, open_world_images, visible_px

WORLD = World(replace(PRESETS["family"], image_sizes=((96, 64),), people=(2, 4)), seed=11)
K = np.array([[700.0, 0, 330.0], [0, 700.0, 260.0], [0, 0, 1]])


def _write(path: Path, annots: dict[str, object]) -> Path:
    path.write_text(json.dumps({"annots": annots}))
    return path


def _project(points_m: np.ndarray, camera: np.ndarray = K) -> np.ndarray:
    image = points_m @ camera.T
    return image[..., :2] / image[..., 2:]


class TestRelativeHuman:
    def person(self, points: np.ndarray, **changes: object) -> dict[str, object]:
        return {"kp2d": points.ravel().tolist(), "depth_id": 1, "age": 3, "gender": 0, "bbox": [0, 0, 9, 9], **changes}

    def points(self, count: int = 14) -> np.ndarray:
        return np.arange(1.0, 3 * count + 1).reshape(count, 3)

    def opened(self, tmp_path: Path, people: list[object], name: str = "a/longname.jpg"):
        file = _write(tmp_path / "train_annots.json", {name: people})
        return open_relative_human("relative-human", file, lambda images: tmp_path / "images")

    def test_points_layers_and_ages(self, tmp_path):
        points = self.points()
        points[CROWDPOSE14.index("left_wrist"), 2] = 0
        dataset = self.opened(tmp_path, [self.person(points), self.person(self.points(), depth_id=-1, age=-1)])
        assert isinstance(dataset, Dataset) and len(dataset) == 1
        sample = dataset.sample(0)
        assert sample.key == "relative-human/a/longname.jpg" and sample.image == tmp_path / "images/a/longname.jpg"
        people = sample.people
        assert people.point_names == tuple(n for n in CROWDPOSE14 if "hip" not in n and n not in ("head_top", "neck"))
        for k, name in enumerate(people.point_names):
            wanted = [0, 0, 0] if name == "left_wrist" else points[CROWDPOSE14.index(name)]
            assert np.array_equal(people.keypoints_px[0, k], wanted), name
        assert people.depth_layers.tolist() == [1, -1]
        assert people.age_years[0] < 3 and np.isnan(people.age_years[1])
        flags = sample.supervision
        assert flags.everybody and not (flags.bodies or flags.shape or flags.kid or flags.camera or flags.scale_map)
        assert sample.intrinsics_px is None and people.body is None and people.joints_m is None

    @pytest.mark.parametrize(("name", "shoulder"), [("1234567.png", 5), ("12345678.png", 3)])
    def test_skeletons_of_nineteen_joints_are_told_apart_by_name(self, tmp_path, name, shoulder):
        points = self.points(19)
        people = self.opened(tmp_path, [self.person(points)], name).sample(0).people
        assert np.array_equal(people.keypoints_px[0, people.point_names.index("left_shoulder")], points[shoulder])

    def test_somebody_without_points_is_left_out_and_the_image_teaches_no_absence(self, tmp_path):
        few = self.points() * [1, 1, 0]
        few[:3, 2] = 1
        people = [self.person(self.points()), self.person(few), self.person(few) | {"kp2d": None}]
        sample = self.opened(tmp_path, people).sample(0)
        assert len(sample.people) == 1 and not sample.supervision.everybody

    def test_a_file_without_points_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="no image with points of people"):
            self.opened(tmp_path, [self.person(self.points()) | {"kp2d": None}])

    def test_a_bad_record_is_named(self, tmp_path):
        with pytest.raises(FormatError, match=r"train_annots.json: image 'a/longname.jpg'.*person 0.*NaN"):
            self.opened(tmp_path, [self.person(self.points() * np.nan)])


class TestPanoptic:
    def opened(self, tmp_path: Path, joints: np.ndarray, pixels: np.ndarray):
        record = {"kpts3d": joints.tolist(), "kpts2d": pixels.tolist(), "width": 660, "height": 520}
        file = _write(tmp_path / "annots.json", {"haggling/1.jpg": record})
        return open_panoptic("panoptic", file, lambda images: tmp_path)

    def joints(self) -> np.ndarray:
        random = np.random.default_rng(0)
        points = random.uniform((-1, -1, 2), (1, 1, 4), (2, 19, 3))
        return np.concatenate((points, np.ones((2, 19, 1))), -1)

    def test_joints_visibility_and_camera(self, tmp_path):
        joints = self.joints()
        joints[1, J24.index("left_knee"), 3] = 0
        pixels = _project(joints[..., :3])
        pixels[1, J24.index("left_knee")] = 0
        sample = self.opened(tmp_path, joints, pixels).sample(0)
        assert np.allclose(sample.intrinsics_px, K)
        people = sample.people
        assert set(people.point_names) == set(J24[:12]) | {"pelvis"}
        for k, name in enumerate(people.point_names):
            assert np.array_equal(people.joints_m[:, k], joints[:, J24.index(name)])
            assert np.array_equal(people.keypoints_px[:, k, :2], pixels[:, J24.index(name)])
            assert people.keypoints_px[1, k, 2] == people.joints_m[1, k, 3] == (name != "left_knee")
        flags = sample.supervision
        assert flags.bodies and flags.camera and not (flags.shape or flags.kid or flags.everybody or flags.scale_map)

    def test_points_that_fit_no_camera_teach_the_image_alone(self, tmp_path):
        joints = self.joints()
        pixels = _project(joints[..., :3])
        pixels += 0.2 * (pixels - K[:2, 2]) * (((pixels - K[:2, 2]) / 300) ** 2).sum(-1, keepdims=True)
        sample = self.opened(tmp_path, joints, pixels).sample(0)
        assert sample.intrinsics_px is None
        assert not sample.supervision.bodies and not sample.supervision.camera

    @settings(max_examples=30)
    @given(
        focal=st.floats(200, 3000), corner=st.tuples(st.floats(0, 2000), st.floats(0, 2000)),
        seed=st.integers(0, 10**6), count=st.integers(8, 40),
    )  # fmt: skip
    def test_the_camera_is_recovered(self, focal, corner, seed, count):
        points = np.random.default_rng(seed).uniform((-1, -1, 1), (1, 1, 6), (count, 3))
        camera = np.array([[focal, 0, corner[0]], [0, focal, corner[1]], [0, 0, 1]])
        found = camera_of(points, _project(points, camera), np.ones(count, bool))
        assert np.allclose(found, camera, rtol=1e-9, atol=1e-6)

    def test_too_little_for_a_camera(self):
        points = np.random.default_rng(0).uniform((-1, -1, 1), (1, 1, 6), (9, 3))
        pixels, known = _project(points), np.ones(9, bool)
        assert camera_of(points, pixels, known) is not None
        assert camera_of(points[:7], pixels[:7], known[:7]) is None
        assert camera_of(points * [1, 1, -1], pixels, known) is None
        assert camera_of(points, -pixels, known) is None  # it would look backwards


class TestMuPoTS:
    def test_metres_and_occlusion_in_the_order_of_the_joints(self, tmp_path):
        random = np.random.default_rng(1)
        raw_mm = random.uniform((-900, -900, 2000), (900, 900, 4000), (17, 3))
        raw_px, hidden = _project(raw_mm), np.zeros(17, bool)
        hidden[[JOINTS.index("right_knee"), JOINTS.index("left_wrist")]] = True
        order = list(H36M_FROM_RAW)
        person = {
            "annot_2d": raw_px[order].tolist(), "annot_3d": raw_mm[order].tolist(),
            "vis": (~hidden).astype(int).tolist(),
        }  # fmt: skip
        file = _write(tmp_path / "mupots.json", {"TS1/img.jpg": [person, person], "TS1/empty.jpg": []})
        dataset = open_mupots("mupots", file, lambda images: tmp_path)
        assert len(dataset) == 1 and dataset.without_people == ("TS1/empty.jpg",)
        sample = dataset.sample(0)
        people = sample.people
        assert set(people.point_names) == set(H36M17) & set(JOINTS) - {"spine", "neck", "head_top"}
        for k, name in enumerate(people.point_names):
            at = JOINTS.index(name)
            assert np.allclose(people.joints_m[:, k], [*raw_mm[at] / 1000, 1])
            assert np.allclose(people.keypoints_px[:, k, :2], raw_px[at])
            assert (people.keypoints_px[0, k, 2] < 1) == (name in ("right_knee", "left_wrist")), name
        assert np.allclose(sample.intrinsics_px, K) and not sample.supervision.everybody


IMAGES = [image(1), failure(2), image(3, 2), image(4, 0, outcome=Outcome.NOBODY, label_rows=None), image(5, 1),
          image(6, 2, outcome=Outcome.SCORE_TOO_HIGH)]  # fmt: skip
ACCEPTED = [IMAGES[0], IMAGES[2], IMAGES[4]]


@pytest.fixture
def built(tmp_path) -> Path:
    """A set in two shards, its images beside it."""
    _build(tmp_path / "set", IMAGES)
    (tmp_path / "images").mkdir()
    for built in ACCEPTED:
        cv2.imwrite(str(tmp_path / "images" / Path(built.entry.path).name), np.zeros((20, 20, 3), np.uint8))
    return tmp_path / "set"


def _build(folder: Path, images: list) -> None:
    for shard, part in enumerate((images[:3], images[3:])):
        with ShardWriter(folder, shard, "hash") as writer:
            writer.add(part)


class TestBuilt:
    @pytest.mark.parametrize("before", [False, True])
    def test_accepted_images_with_their_people_as_placed_or_as_guessed(self, built, before):
        dataset = open_built_set("set", built, before, "all")
        assert isinstance(dataset, Dataset) and len(dataset) == 3
        for index, made in enumerate(ACCEPTED):
            sample, scene = dataset.sample(index), made.before if before else made.after
            assert sample.key == f"set/{made.entry.path}" and sample.people.body == "anny"
            assert np.array_equal(sample.intrinsics_px, scene.camera.K)
            assert np.allclose(sample.people.pose, scene.people.pose, rtol=1e-6)
            assert np.allclose(sample.people.betas, scene.people.shape, rtol=1e-6)
            assert np.array_equal(sample.people.translation_m, scene.people.translation_m)
            assert np.array_equal(sample.people.age_years, scene.people.age_years, equal_nan=True)
        flags = dataset.sample(0).supervision
        assert flags.bodies and flags.shape and flags.kid and flags.camera and not flags.everybody

    def test_images_are_found_though_their_folders_have_gone(self, built):
        dataset = pickle.loads(pickle.dumps(open_built_set("set", built, split="all")))
        assert [dataset.sample(i).image for i in range(3)] == dataset.image_files()
        assert all(dataset.sample(i).pixels().shape == (20, 20, 3) for i in range(3))
        dataset.image_files()[0].unlink()
        with pytest.raises(InputError, match=r"folder/1.jpg does not exist"):
            dataset.sample(0).pixels()

    def test_a_set_without_images_is_refused(self, built, tmp_path):
        (tmp_path / "images").rename(tmp_path / "elsewhere")
        with pytest.raises(InputError, match="a set does not hold them"):
            open_built_set("set", built)
        assert len(open_built_set("set", built, split="all", images=tmp_path / "elsewhere")) == 3

    def test_everybody_is_labelled_in_sets_of_synthetic_labels_or_if_one_says_so(self, built):
        assert open_built_set("set", built, split="all", everybody=True).supervision.everybody
        manifest = built.parent / "label-set.json"
        manifest.write_text('{"format": "crowdmesh-label-set"}')
        assert open_built_set("set", built, split="all").supervision.everybody
        assert not open_built_set("set", built, split="all", everybody=False).supervision.everybody
        manifest.write_text("{")
        with pytest.raises(FormatError, match=r"label-set\.json"):
            open_built_set("set", built)

    def test_first_guesses_of_smpl_teach_no_kid_axis(self, built, tmp_path):
        _build(tmp_path / "smpl", [image(1, body="smpl"), image(2, body="smpl")])
        after, before = (open_built_set("set", tmp_path / "smpl", flag, "all") for flag in (False, True))
        assert after.table.body == "smpl" and after.table.pose.shape[1:] == (24, 3)
        assert after.supervision.kid and not before.supervision.kid

    def test_mixed_bodies_are_refused(self, built, tmp_path):
        _build(tmp_path / "mixed", [image(1), image(2, body="smpl")])
        with pytest.raises(InputError, match="mixes the bodies anny, smpl"):
            open_built_set("set", tmp_path / "mixed", split="all")

    def test_nothing_accepted_is_refused(self, built, tmp_path):
        _build(tmp_path / "none", [failure(1), failure(2)])
        with pytest.raises(InputError, match="no accepted image with people in its split all"):
            open_built_set("set", tmp_path / "none", split="all")
        with pytest.raises(InputError, match="no split 'test'"):
            open_built_set("set", built, split="test")


class TestSplits:
    def test_one_in_twenty_is_held_out_by_the_name_alone(self):
        names = [f"{i:06d}" for i in range(4000)]
        held = [name for name in names if held_out(name)]
        assert 150 < len(held) < 250
        assert all(held_out(f"some/folder/{name}.jpg") for name in held)

    def test_splits_part_the_images_of_a_set(self, tmp_path):
        _build(tmp_path / "set", [image(seed, 1) for seed in range(1, 60)])
        (tmp_path / "images").mkdir()
        whole, train, held = (
            open_built_set("set", tmp_path / "set", split=split).table.images
            for split in ("all", "train", "validation")
        )
        assert sorted(train + held) == sorted(whole) and len(whole) == 59
        assert 0 < len(held) < 12 and all(map(held_out, held))


@pytest.fixture(scope="module")
def scenes():
    """Four scenes; of somebody in the first nothing is visible."""
    made = list(WORLD.scenes(range(4)))
    people = made[0].scene.people
    masks = people.masks.to_dense()
    masks[0] = False
    hidden = replace(people, masks=Masks.from_dense(masks))
    labels = np.where(made[0].labels == 0, -1, made[0].labels)
    made[0] = replace(made[0], scene=replace(made[0].scene, people=hidden), labels=labels)
    return made


class TestWorld:
    @pytest.fixture
    def folder(self, scenes, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr(World, "scene", lambda self, index: scenes[index])
        write_shards(WORLD, 4, tmp_path / "world", per_shard=3)
        return tmp_path / "world"

    def test_what_is_read_is_what_is_true(self, folder, scenes):
        dataset = pickle.loads(pickle.dumps(open_world_images("world", folder, "all")))
        shown = [i for i, scene in enumerate(scenes) if (scene.visible_share >= VISIBLE_SHARE).any()]
        assert isinstance(dataset, Dataset) and [f"{i:06d}.png" for i in shown] == list(dataset.table.images)
        for index, number in enumerate(shown):
            sample, truth = dataset.sample(index), scenes[number]
            people = truth.scene.people[np.flatnonzero(truth.visible_share >= VISIBLE_SHARE)]
            assert np.array_equal(sample.pixels(), truth.scene.image)
            assert np.array_equal(sample.intrinsics_px, truth.scene.camera.K)
            assert np.allclose(sample.people.pose, people.pose, atol=1e-6)
            assert np.allclose(sample.people.betas, people.shape, atol=1e-6)
            assert np.array_equal(sample.people.translation_m, people.translation_m)
            assert np.array_equal(sample.people.age_years, people.age_years)
            assert sample.supervision.everybody
        assert len(scenes[0].scene.people) > len(dataset.sample(0).people)  # the one nobody can see

    def test_pixels_of_a_mask_are_counted_without_decoding(self, scenes):
        for scene in scenes:
            masks = scene.scene.people.masks
            assert visible_px(masks.runs, masks.offsets).tolist() == masks.to_dense().sum((1, 2)).tolist()

    def test_an_unfinished_or_damaged_world_is_refused(self, folder):
        dataset = open_world_images("world", folder, "all")
        shard = folder / "scenes-00001.parquet"
        content = shard.read_bytes()
        shard.write_bytes(content[:100])
        with pytest.raises(FormatError, match=r"scenes-00001\.parquet.*crowdmesh synth"):
            dataset.sample(len(dataset) - 1)
        shard.unlink()
        with pytest.raises(InputError, match="unfinished: 1 of 2 shards"):
            open_world_images("world", folder, "all")


class TestLabelTruth:
    @pytest.fixture
    def folder(self, scenes, tmp_path, monkeypatch) -> Path:
        with monkeypatch.context() as patched:
            patched.setattr(World, "scene", lambda self, index: scenes[index])
            return write_label_set(WORLD, 4, tmp_path / "labels", nominal()).path

    def test_the_true_people_behind_the_labels(self, folder, scenes):
        dataset = pickle.loads(pickle.dumps(open_label_truth("label-truth", folder, "all")))
        truth, body = read_truth(folder), load_body("anny")
        assert isinstance(dataset, Dataset) and list(dataset.images) == sorted(set(truth.imgname.tolist()))
        for index, name in enumerate(dataset.images):
            sample, rows = dataset.sample(index), truth.imgname == name
            number = int(Path(name).stem)
            scene = scenes[number]
            seen = observe(scene, nominal(), observation_seed(WORLD.seed, number))
            them = scene.scene.people[seen.person]
            assert sample.pixels().shape == scene.scene.image.shape
            assert np.array_equal(sample.intrinsics_px, scene.scene.camera.K)
            assert np.allclose(sample.people.translation_m, them.translation_m, atol=1e-9)
            assert np.array_equal(sample.people.age_years, truth.age_years[rows])
            posed = pose_people(
                People(
                    "anny", sample.people.translation_m, np.ones(rows.sum()), sample.people.pose, sample.people.betas
                )
            )
            assert np.allclose(posed.joints_m[:, body.pelvis], truth.pelvis_m[rows], atol=1e-5)

    def test_of_a_set_it_takes_the_images_that_the_set_accepted(self, folder, scenes, tmp_path):
        names = sorted(set(read_truth(folder).imgname.tolist()))
        made = []
        for number, name in enumerate(names):
            built = image(number)
            entry = replace(built.entry, dataset="synthetic", path=name)
            outcome = Outcome.ACCEPTED if number else Outcome.SCORE_TOO_HIGH
            made.append(replace(built, entry=entry, outcome=outcome))
        _build(tmp_path / "set", made)
        of_set, of_labels = open_label_truth("t", tmp_path / "set", "all"), open_label_truth("t", folder, "all")
        assert list(of_set.images) == names[1:] and list(of_labels.images) == names
        one, other = of_set.sample(0), of_labels.sample(1)
        assert one.image == other.image and np.array_equal(one.people.pose, other.people.pose)

    def test_another_world_is_found_out(self, folder, monkeypatch):
        stage = World.stage
        monkeypatch.setattr(World, "stage", lambda self, index: stage(self, index + 17))
        with pytest.raises(FormatError, match="not those of the world it names"):
            open_label_truth("label-truth", folder, "all").sample(0)

    def test_something_else_is_refused(self, folder, tmp_path):
        with pytest.raises(InputError, match="no synthetic label set"):
            open_label_truth("label-truth", tmp_path)
        (folder / "label-set.json").write_text('{"format": "else"}')
        with pytest.raises(FormatError, match="its format is not"):
            open_label_truth("label-truth", folder)
