"""The readers of training data: every layout, what may be learned from it, and what is said of files that are wrong."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
import training_fixtures as made
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.benchmarks._smpl_bodies import load_bodies, smpl_truth
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.synth import PRESETS, World, write_shards
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.datasets.body_table import bad_records
from crowdmesh.training.datasets.catalogue import DATASETS, dataset_spec
from crowdmesh.training.datasets.check import check_root
from crowdmesh.training.datasets.chmr import read_chmr
from crowdmesh.training.datasets.one_camera import under_one_camera
from crowdmesh.training.datasets.shared import shared_images
from crowdmesh.training.datasets.smpl_sets import rest_pelvis, table_of
from crowdmesh.training.sample import LabelledPeople, TrainingSample
from crowdmesh.training.smpl_bodies import smpl_body

SMPL_SETS = ("agora", "bedlam", "3dpw", "hi4d")


@pytest.fixture(scope="session")
def assets(tmp_path_factory) -> Path:
    return made.write_smpl(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> made.Root:
    return made.write_root(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _use(assets, monkeypatch):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(assets))
    monkeypatch.setenv("XDG_CACHE_HOME", str(assets / "cache"))


def samples(dataset: Dataset) -> dict[str, TrainingSample]:
    """Every sample by the image's name."""
    found = [dataset.sample(index) for index in range(len(dataset))]
    return {sample.key.removeprefix(f"{dataset.name}/"): sample for sample in found}


def posed(people: LabelledPeople) -> np.ndarray:
    """Joints of labelled people in the camera frame."""
    assert people.pose is not None and people.betas is not None and people.translation_m is not None
    joints = []
    for k in range(len(people)):
        body = smpl_body("neutral" if people.genders is None else people.genders[k])
        shape = torch.zeros(1, len(body.shape_params), dtype=torch.float64)
        shape[0, : people.betas.shape[1]] = torch.from_numpy(people.betas[k])
        rotations = roma.rotvec_to_rotmat(torch.from_numpy(people.pose[k : k + 1]))
        joints.append(body(shape, rotations, torch.from_numpy(people.translation_m[k : k + 1]), vertices=False).joints)
    return torch.cat(joints).numpy()


def project(K: np.ndarray, points_m: np.ndarray) -> np.ndarray:
    pixels = points_m @ K.T
    return pixels[..., :2] / pixels[..., 2:]


@pytest.mark.parametrize("name", SMPL_SETS)
def test_bodies_of_a_world_frame_stand_where_its_camera_sees_them(root, assets, name):
    """Posed from the samples and, independently, posed in the world and seen by the camera: the same joints."""
    checked = 0
    for split in ("train", "validation") if name == "agora" else ("train",):
        dataset = DATASETS[name].open(root.path, unpickle=True, split=split)
        for image, sample in samples(dataset).items():
            truth = root.truth[name][image]
            expected = smpl_truth(truth, load_bodies(set(truth.genders), [assets / "smpl"]), kid_axis=True)
            found = posed(sample.people)
            np.testing.assert_allclose(found, expected.joints_m[truth.valid], atol=1e-6)
            np.testing.assert_allclose(project(sample.intrinsics_px, found), expected.joints_px[truth.valid], atol=1e-3)
            checked += len(found)
    assert checked == sum(people.valid.sum() for people in root.truth[name].values())


@pytest.mark.parametrize("name", SMPL_SETS)
def test_images_are_found_and_turned(root, name):
    for sample in samples(DATASETS[name].open(root.path, unpickle=True)).values():
        height, width = sample.pixels().shape[:2]
        assert sample.turn_clockwise == ("closeup" in sample.key)
        assert (width, height) == (made.WIDTH, made.HEIGHT)[:: -1 if sample.turn_clockwise else 1]
        np.testing.assert_array_equal(2 * sample.intrinsics_px[:2, 2], (width, height))


def test_what_may_be_learned_of_each_set(root):
    def of(name: str, split: str = "train") -> TrainingSample:
        return DATASETS[name].open(root.path, unpickle=True, split=split).sample(0)

    said = {name: of(name).supervision for name in (*SMPL_SETS, "coco-chmr", "coco-dto")}
    assert {name for name, s in said.items() if s.bodies} == {*SMPL_SETS, "coco-dto"}
    assert {name for name, s in said.items() if s.shape} == {"agora", "bedlam", "coco-dto"}  # gendered betas are not
    assert {name for name, s in said.items() if s.everybody} == {"agora", "bedlam", "hi4d"}
    assert {name for name, s in said.items() if s.kid} == {*SMPL_SETS, "coco-dto"}
    assert all(s.camera and s.scale_map for s in said.values())
    assert of("3dpw").people.genders == ("male", "female")
    assert of("bedlam").people.genders is None
    assert of("coco-dto").people.betas.shape == (2, 11) and of("coco-chmr").people.betas.shape == (2, 10)


def test_invalid_people_of_agora_are_no_labels_and_no_empty_place(root):
    dataset = DATASETS["agora"].open(root.path, unpickle=True)
    found = samples(dataset)
    assert len(found["one_invalid.png"].people) == 2 and not found["one_invalid.png"].supervision.everybody
    assert len(found["all.png"].people) == 2 and found["all.png"].supervision.everybody
    assert "nobody_valid.png" not in found
    assert dataset.table.without_people == ("nobody_valid.png",)


@pytest.mark.parametrize(
    ("betas", "child", "known"),
    [(10, None, True), (10, (False, False), True), (10, (False, True), False), (11, (False, True), True)],
)
def test_the_kid_axis_is_learned_where_it_means_something(betas, child, known):
    people = made.people(2, 0, betas=betas, child=None if child is None else np.array(child))
    assert table_of({"a.png": people}).kid[0] == known


def test_an_invalid_child_does_not_count_for_the_kid_axis():
    people = made.people(2, 0, child=np.array([False, True]), valid=np.array([True, False]))
    assert table_of({"a.png": people}).kid[0]


@pytest.mark.parametrize("name", ["coco-chmr", "coco-dto", "insta-chmr", "insta-dto"])
def test_labels_of_photographs_are_as_written(root, name):
    short, kind = name.split("-")
    annots = made.chmr_annots(short, 11 if kind == "dto" else 10)
    found = samples(DATASETS[name].open(root.path, unpickle=True))
    assert set(found) == {image for image, people in annots.items() if people}
    for image, sample in found.items():
        assert isinstance(sample.image, Path) and sample.image.is_file()
        np.testing.assert_allclose(sample.intrinsics_px, made.intrinsics())
        for k, person in enumerate(annots[image]):
            if image == made.MIXED_CAMERAS and k:
                continue
            np.testing.assert_allclose(sample.people.pose[k].reshape(-1), person["smpl_param"]["pose"], atol=1e-6)
            np.testing.assert_allclose(sample.people.betas[k], person["smpl_param"]["shape"], atol=1e-6)
            np.testing.assert_array_equal(sample.people.translation_m[k], person["smpl_param"]["trans"])


def test_people_of_another_camera_stay_where_they_were_in_the_image(root):
    person = made.chmr_annots("coco", 11)[made.MIXED_CAMERAS][1]
    param, own = person["smpl_param"], made.intrinsics(focal=1.25 * made.FOCAL)
    before = LabelledPeople(
        1, "smpl", None, param["pose"].reshape(1, 24, 3), param["shape"][None], param["trans"][None]
    )
    after = samples(DATASETS["coco-dto"].open(root.path, unpickle=True))[made.MIXED_CAMERAS]
    old = project(own, posed(before)[0])
    new = project(after.intrinsics_px, posed(after.people)[1])
    height = np.ptp(old[:, 1])
    assert np.linalg.norm(new[0] - old[0]) < 1e-3  # the pelvis
    assert np.linalg.norm(new - old, axis=1).max() < 0.03 * height
    released = project(made.intrinsics(), posed(before)[0])  # the first camera, and the body left where it was
    assert np.linalg.norm(released - old, axis=1).max() > 0.15 * height


@settings(max_examples=30)
@given(st.floats(-0.7, 0.7), st.floats(-0.4, 0.4), st.floats(1.5, 30), st.floats(0.5, 2.0), st.integers(0, 99))
def test_a_point_cloud_put_under_another_camera(x, y, z, zoom, seed):
    """The pelvis keeps its pixel and, to first order of its size over its distance, everything keeps its place."""
    cloud = 1e-4 * np.random.default_rng(seed).normal(size=(20, 3))
    own, image = made.intrinsics(focal=zoom * made.FOCAL), made.intrinsics()
    pelvis = z * np.array([[x, y, 1.0]])
    moved, root = under_one_camera(pelvis, np.eye(3)[None], own[None], image[None])
    old, new = project(own, pelvis + cloud), project(image, moved + cloud @ root[0].T)
    np.testing.assert_allclose(project(image, moved), project(own, pelvis), atol=1e-6)
    assert np.linalg.norm(root[0] @ root[0].T - np.eye(3)) < 1e-9
    assert moved[0, 2] == pytest.approx(z / zoom)
    stretch = np.linalg.norm(pelvis / pelvis[0, 2]) / np.linalg.norm(moved / moved[0, 2])  # of the radius, by the angle
    size = np.linalg.norm(old - project(own, pelvis), axis=1)
    apart = np.linalg.norm(new - old, axis=1)
    assert np.all(apart <= (abs(1 / stretch - 1) + 1e-3) * size + 1e-5)


def test_people_behind_the_camera_are_left_alone():
    pelvis, turn = np.array([[0.1, 0.2, -1.0]]), np.eye(3)[None]
    moved, root = under_one_camera(pelvis, turn, made.intrinsics(focal=700)[None], made.intrinsics()[None])
    np.testing.assert_array_equal(moved, pelvis)
    np.testing.assert_array_equal(root, turn)


def test_json_says_the_same_as_pickles(root, tmp_path):
    other = made.write_root(tmp_path, ".json", images=False)
    for name in (*SMPL_SETS, "coco-dto"):
        first = DATASETS[name].open(root.path, unpickle=True)
        second = DATASETS[name].open(other.path)
        for a, b in zip(samples(first).values(), samples(second).values(), strict=True):
            assert a.key == b.key and a.supervision == b.supervision
            np.testing.assert_allclose(a.people.translation_m, b.people.translation_m, atol=1e-9)
            np.testing.assert_allclose(a.people.pose, b.people.pose, atol=1e-6)


@pytest.mark.parametrize("name", [*SMPL_SETS, "coco-chmr", "coco-dto"])
def test_pickles_are_read_on_demand_only(root, name):
    with pytest.raises(FormatError, match="only on demand"):
        DATASETS[name].open(root.path)


def test_datasets_go_to_other_processes(root):
    dataset = DATASETS["bedlam"].open(root.path, unpickle=True)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.sample(1).people.pose, dataset.sample(1).people.pose)


def _nan(annots: dict, image: str, field: str) -> dict:
    annots[image][1]["smpl_param"][field] = np.full_like(annots[image][1]["smpl_param"][field], np.nan)
    return annots


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, image: _nan(a, image, "pose"), "person 1"),
        (lambda a, image: _nan(a, image, "trans"), "person 1"),
        (lambda a, image: a | {image: [{"smpl_param": a[image][0]["smpl_param"]}]}, "its record is not one of people"),
        (lambda a, image: a | {image: 3}, "its record is not one of people"),
        (
            lambda a, image: a[image][0]["smpl_param"].update(shape=np.zeros(6)) or a | {image: a[image][:1]},
            "ten or more",
        ),
        (lambda a, image: a[image][0]["cam_param"].update(focal=np.zeros(2)) or a, "focal lengths must be positive"),
    ],
)
def test_bad_records_of_label_files_are_named(tmp_path, change, message):
    image = made.CHMR_IMAGES["coco"][0]
    file = tmp_path / "COCO_CHMR_SMPL.npz"
    made.save(file, change(made.chmr_annots("coco", 10), image))
    with pytest.raises(FormatError, match=message) as caught:
        read_chmr(file, unpickle=True)
    assert str(file) in str(caught.value) and image in str(caught.value)


@pytest.mark.parametrize("name", ["bedlam", "coco-dto"])
def test_one_bad_record_of_many_is_left_out_and_named(tmp_path, name):
    """Of 100 records one; the data check lists it, and two are refused (1 % is the limit)."""
    if name == "bedlam":
        (good, *_), file = made.bedlam_annots().values(), tmp_path / "bedlam/bedlam_smpl_train_6fps.npz"
        bad = good | {"trans_world": [np.full(3, np.nan)] * len(good["trans_world"])}
    else:
        image, file = made.CHMR_IMAGES["coco"][0], tmp_path / "coco/COCO_CHMR_SMPL_OPT.npz"
        good = made.chmr_annots("coco", 11)[image]
        bad = _nan(made.chmr_annots("coco", 11), image, "pose")[image]
    annots = {f"{i:03d}.jpg": good for i in range(99)}
    made.save(file, annots | {"bad.jpg": bad})
    dataset = DATASETS[name].open(tmp_path, unpickle=True)
    assert len(dataset) == 99 and len(bad_records(dataset)) == 1 and "'bad.jpg'" in bad_records(dataset)[0]
    check = check_root(tmp_path, [name], unpickle=True, decode=0).datasets[0]
    assert check.bad_record_count == 1 and "'bad.jpg'" in check.examples()[0] and "1 bad records" in check.summary()
    made.save(file, annots | {"bad.jpg": bad, "worse.jpg": bad})
    with pytest.raises(FormatError, match=r"'bad.jpg'.*2 of 101 records"):
        DATASETS[name].open(tmp_path, unpickle=True)


def test_images_that_two_sets_share(root, tmp_path):
    guesses, placed = (DATASETS[name].open(root.path, unpickle=True) for name in ("coco-chmr", "coco-dto"))
    assert set(shared_images(placed, guesses)) == set(placed.table.images)
    assert not shared_images(placed, DATASETS["bedlam"].open(root.path, unpickle=True))
    above = replace(guesses, folder=guesses.folder.parent)  # the same files, named from another folder
    assert not shared_images(placed, above)
    names = tuple(f"{guesses.folder.name}/{name}" for name in guesses.table.images)
    above = replace(above, table=replace(guesses.table, images=names))
    assert set(shared_images(above, placed)) == set(names)


def test_folders_of_other_things_are_no_sets_of_ours(tmp_path):
    for name in ("labels", "set", "world", "validation"):
        (tmp_path / name).mkdir()
    assert not check_root(tmp_path, ["label-truth", "set", "set-before", "world"]).found
    with pytest.raises(InputError, match=r"labels or .* with label-set\.json in it"):
        DATASETS["label-truth"].open(tmp_path)


def test_a_kid_axis_without_a_kid_template_is_refused(tmp_path, assets, monkeypatch):
    (tmp_path / "smpl").mkdir()
    (tmp_path / "smpl" / "SMPL_NEUTRAL.npz").symlink_to(assets / "smpl" / "SMPL_NEUTRAL.npz")
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    with pytest.raises(InputError, match="kid_template"):
        rest_pelvis(np.ones((1, 11)))
    assert rest_pelvis(np.pad(np.ones((1, 10)), ((0, 0), (0, 1)))).shape == (1, 3)


def test_a_missing_gender_is_named(tmp_path, assets, monkeypatch, root):
    (tmp_path / "smpl").mkdir()
    (tmp_path / "smpl" / "SMPL_NEUTRAL.npz").symlink_to(assets / "smpl" / "SMPL_NEUTRAL.npz")
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match="no male SMPL"):
        DATASETS["3dpw"].open(root.path, unpickle=True)


def test_where_data_sets_may_lie(root, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "bedlam_smpl_train_6fps.npz").write_bytes((root.path / "bedlam/bedlam_smpl_train_6fps.npz").read_bytes())
    spec = DATASETS["bedlam"]
    assert len(spec.open(tmp_path, unpickle=True, path="elsewhere")) == 2
    assert len(spec.open(tmp_path, unpickle=True, path="elsewhere/bedlam_smpl_train_6fps.npz")) == 2
    assert len(spec.open(root.path / "bedlam", unpickle=True)) == 2
    with pytest.raises(InputError, match=r"bedlam_smpl_train_6fps\.npz .*https://bedlam"):
        spec.open(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        spec.open(tmp_path, path="nowhere")
    with pytest.raises(InputError, match="no split 'test'; it has train, validation"):
        spec.open(root.path, split="test")


def test_a_misspelt_name_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match="did you mean bedlam"):
        dataset_spec("bedlamm")


def test_data_sets_without_people_are_refused(tmp_path):
    made.save(tmp_path / "coco/COCO_CHMR_SMPL.npz", {"a.jpg": []})
    with pytest.raises(InputError, match="no image with labelled people"):
        DATASETS["coco-chmr"].open(tmp_path, unpickle=True)


def test_no_people_in_a_world_frame():
    table = table_of({"a.png": replace(made.people(1, 0), valid=np.zeros(1, bool))})
    assert not table.images and table.without_people == ("a.png",)


def test_a_root_is_checked(root):
    seen = []
    report = check_root(root.path, unpickle=True, progress=lambda name, done, total: seen.append((name, done, total)))
    found = {check.name for check in report.found}
    assert found >= {*SMPL_SETS, "coco-chmr", "coco-dto", "insta-chmr", "insta-dto"}
    assert found >= {"relative-human", "panoptic", "mupots"}
    assert report.usable, [check for check in report.found if not check.usable]
    agora = next(check for check in report.datasets if (check.name, check.split) == ("agora", "train"))
    assert (agora.images, agora.people, agora.without_people, agora.everybody, agora.bodies) == (2, 4, 1, 1, 2)
    assert agora.decoded == 2 and not agora.examples()
    assert "2 images, 4 people" in agora.summary()
    missing = next(check for check in report.datasets if check.name == "mpii-dto")
    assert missing.status == "missing" and "MPII_CHMR_SMPL_OPT.npz" in missing.summary()
    assert ("bedlam", 2, 2) in seen


def test_a_root_of_damage_is_described(tmp_path):
    root = made.write_root(tmp_path).path
    (root / "coco/train2014" / made.CHMR_IMAGES["coco"][0]).unlink()
    (root / "bedlam/images/scene/seq_0/a.png").write_bytes(b"\x89PNG\r\n\x1a\n, but not really")
    made.write_image(root / "hi4d/pair00/dance/images/4/000001.jpg", 320, 180)
    bad = made.chmr_annots("insta", 11)
    made.save(root / "insta/INSTA_CHMR_SMPL_OPT.npz", _nan(bad, made.CHMR_IMAGES["insta"][0], "pose"))
    names = ["coco-dto", "bedlam", "hi4d", "insta-dto", "3dpw"]
    report = check_root(root, names, unpickle=True)
    checks = {check.name: check for check in report.datasets if check.split == "train"}
    assert not report.usable
    assert {name for name, check in checks.items() if check.usable} == {"3dpw"}
    assert checks["coco-dto"].missing_count == 1 and "1 image files missing" in checks["coco-dto"].summary()
    assert "is missing" in checks["coco-dto"].examples()[0]
    assert len(checks["bedlam"].damaged) == 1 and "a.png" in checks["bedlam"].examples()[0]
    assert len(checks["hi4d"].misfits) == 1 and "320 x 180" in checks["hi4d"].examples()[0]
    assert checks["insta-dto"].status == "malformed" and made.CHMR_IMAGES["insta"][0] in checks["insta-dto"].summary()


def test_a_check_says_which_body_is_missing(root, tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    (check, _) = check_root(root.path, ["3dpw"], unpickle=True).datasets
    assert check.status == "no body model" and not check.usable and "SMPL" in check.summary()


@pytest.mark.slow
def test_truth_that_is_made_anew_is_looked_at_by_sample(tmp_path):
    world = World(replace(PRESETS["family"], image_sizes=((96, 64),), people=(2, 4)), seed=11)
    write_shards(world, 3, tmp_path / "world")
    everything = DATASETS["world"].open(tmp_path, split="all")
    assert isinstance(everything, Dataset)
    (check,) = check_root(tmp_path, ["world"], decode=2).datasets
    assert (check.split, check.images, check.looked_at, check.decoded) == ("all", len(everything), 2, 2)
    assert check.people == sum(len(sample.people) for sample in samples(everything).values())
    assert check.usable and "2 of them looked at" in check.summary()


def test_the_catalogue_knows_every_data_set_of_the_stages(tmp_path):
    photographs = {f"{short}-{kind}" for short in ("coco", "mpii", "aic", "insta") for kind in ("chmr", "dto")}
    bodies = {*SMPL_SETS, "bedlam-1fps"}
    ours = {"set", "set-before", "world", "label-truth"}
    assert set(DATASETS) == photographs | bodies | ours | {"relative-human", "panoptic", "mupots"}
    for name, spec in DATASETS.items():
        assert spec.name == name and set(spec.files) == (set() if name in ours else set(spec.splits))
        with pytest.raises(InputError, match=re.escape(spec.source)):
            spec.open(tmp_path, split=spec.splits[0])


def test_a_root_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        check_root(tmp_path / "nothing")
    with pytest.raises(InputError, match="unknown data set"):
        check_root(tmp_path, ["cocoa"])


def test_an_empty_root_is_not_usable(tmp_path):
    report = check_root(tmp_path)
    assert not report.found and not report.usable
