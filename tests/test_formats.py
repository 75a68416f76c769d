"""Annotation files of the public data sets: read as they are distributed, and only what is harmless in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats import (
    read_3dpw,
    read_agora,
    read_bedlam,
    read_hi4d,
    read_mupots,
    read_panoptic,
    read_relative_human,
)
from crowdmesh.formats.joints import H36M14, H36M17, H36M17_FROM_J24, H36M17_PARENTS, J24

K = np.array([[1000.0, 0, 640], [0, 1000, 360], [0, 0, 1]])
TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pw3d_record(n: int = 2, torch_tensors: bool = False) -> dict:
    record = {
        "betas": rng(1).normal(size=(n, 10)),
        "global_orient": rng(2).normal(size=(n, 3)),
        "body_pose": rng(3).normal(size=(n, 69)),
        "transl": rng(4).normal(size=(n, 3)),
        "cam_intrinsics": K,
        "cam_rot": TURN,
        "cam_trans": np.array([0.1, 0.2, 0.3]),
        "genders": ["m", "female", "f", "male"][:n],
    }
    if torch_tensors:
        record |= {name: torch.from_numpy(record[name]) for name in ("betas", "global_orient", "body_pose", "transl")}
    return record


def hi4d_record() -> list[dict]:
    return [
        {
            "focal": np.array([900.0, 910]),
            "princpt": np.array([470.0, 640]),
            "cam_rot": TURN,
            "cam_trans": np.zeros(3),
            "global_orient": np.full(3, 0.1),
            "body_pose": np.full(69, 0.2),
            "transl": np.array([0.0, 1, 2]),
            "betas": np.arange(10.0),
            "genders": "female",
        }
    ]


def agora_record() -> dict:
    person = {"global_orient": np.zeros((1, 3)), "body_pose": np.zeros((1, 69)), "transl": np.array([[0.0, 0, 5]])}
    return {
        "isValid": np.array([True, False]),
        "cam_intrinsics": K[None],
        "cam_rot": np.stack([np.eye(3), TURN]),
        "cam_trans": np.zeros((2, 3)),
        "smpl_gt": [{"betas": np.ones((1, 10)), **person}, {"betas": np.full((1, 11), 2.0), **person}],
        "kid": np.array([0, 1]),
    }


def bedlam_record(n: int = 2) -> dict:
    return {
        "cam_int": K,
        "cam_rot": [np.eye(3)] * n,
        "cam_trans": [np.zeros(3)] * n,
        "shape": [np.ones(10)] * n,
        "pose_world": [np.full(72, 0.1)] * n,
        "trans_world": [np.array([0, 0, 4.0])] * n,
    }


def panoptic_record(n: int = 2, joints: int = 19) -> dict:
    points = np.concatenate((rng(5).normal(size=(n, joints, 3)), np.ones((n, joints, 1))), 2)
    return {"kpts3d": points, "kpts2d": np.zeros((n, joints, 2)), "width": 1920, "height": 1080}


def mupots_record() -> list[dict]:
    visible = np.ones(17, bool)
    visible[3] = False
    return [
        {
            "annot_2d": np.arange(34.0).reshape(17, 2),
            "annot_3d": np.arange(51.0).reshape(17, 3),
            "annot_3d_univ": np.arange(51.0).reshape(17, 3) + 1,
            "vis": visible,
        }
    ]


def relative_human_record() -> list[dict]:
    person = {"depth_id": 1, "age": 2, "gender": -1, "bbox": [1, 2, 3, 4], "body_type": "full", "occluded_by_others": 0}
    return [{"kp2d": list(range(42)), **person}, {"kp2d": None, **person}]


READERS = {
    "3dpw": (read_3dpw, "imageFiles/a/0.jpg", pw3d_record),
    "hi4d": (read_hi4d, "pair00/hug/4/000001.jpg", hi4d_record),
    "agora": (read_agora, "a.png", agora_record),
    "bedlam": (read_bedlam, "seq/0.png", bedlam_record),
    "panoptic": (read_panoptic, "160422_haggling1/0.jpg", panoptic_record),
    "mupots": (read_mupots, "TS1/img_000000.jpg", mupots_record),
    "relative-human": (read_relative_human, "1234.jpg", relative_human_record),
}


def plain(value):
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, (np.ndarray, torch.Tensor)) else value


def write(path: Path, annots: object) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps({"annots": plain(annots)}))
    else:
        np.savez(path, annots=np.array(annots, dtype=object))
    return path


def values(annotation) -> list:
    people = annotation if isinstance(annotation, tuple) else (annotation,)
    return [plain([value for value in vars(person).values()]) for person in people]


@pytest.mark.parametrize("name", READERS)
def test_the_pickled_file_and_its_json_read_alike(tmp_path, name):
    read, image, record = READERS[name]
    pickled = read(write(tmp_path / "annots.npz", {image: record()}), unpickle=True)
    written = read(write(tmp_path / "annots.json", {image: record()}))
    assert list(pickled) == list(written) == [image]
    assert values(pickled[image]) == values(written[image])
    assert len(pickled[image]) == len(values(pickled[image])) or len(pickled[image]) == 2


@pytest.mark.parametrize("name", READERS)
def test_pickles_are_opened_on_demand_only(tmp_path, name):
    read, image, record = READERS[name]
    path = write(tmp_path / "annots.npz", {image: record()})
    with pytest.raises(FormatError, match=r"annots\.npz .* pickled Python objects.*unpickle=True, --allow-pickle"):
        read(path)


def test_3dpw_holds_torch_tensors(tmp_path):
    record = pw3d_record(4, torch_tensors=True)
    record["transl"] = torch.arange(24.0).reshape(4, 6)[:, ::2]  # a view: strides and more storage than it shows
    record["betas"] = record["betas"].half().requires_grad_()
    people = read_3dpw(write(tmp_path / "a.npz", {"imageFiles/a.jpg": record}), unpickle=True)["imageFiles/a.jpg"]
    np.testing.assert_array_equal(people.translation_m, np.arange(24.0).reshape(4, 6)[:, ::2])
    np.testing.assert_array_equal(people.betas, record["betas"].detach().double().numpy())
    np.testing.assert_array_equal(people.pose[:, 0], record["global_orient"].numpy())
    np.testing.assert_array_equal(people.pose[:, 1:].reshape(4, 69), record["body_pose"].numpy())
    assert people.genders == ("male", "female", "female", "male")
    assert people.valid.all() and people.image_size is None
    np.testing.assert_array_equal(people.camera_rotation, np.tile(TURN, (4, 1, 1)))


def test_agora_marks_invalid_people_and_pads_the_kid_axis(tmp_path):
    people = read_agora(write(tmp_path / "a.json", {"a.png": agora_record()}))["a.png"]
    assert people.valid.tolist() == [True, False] and people.child.tolist() == [False, True]
    assert people.betas.shape == (2, 11) and people.betas[:, 10].tolist() == [0, 2]
    assert people.genders == ("neutral", "neutral") and people.image_size == (1280, 720)
    np.testing.assert_array_equal(people.camera_rotation[1], TURN)


def test_bedlam_closeups_lie_on_their_side(tmp_path):
    annots = {"x/closeup/1.png": bedlam_record(), "x/other/1.png": bedlam_record(), "x/empty.png": bedlam_record(0)}
    people = read_bedlam(write(tmp_path / "a.json", annots))
    assert people["x/closeup/1.png"].turn_clockwise and people["x/closeup/1.png"].image_size == (720, 1280)
    assert not people["x/other/1.png"].turn_clockwise and people["x/other/1.png"].image_size == (1280, 720)
    assert len(people["x/empty.png"]) == 0


def test_hi4d_builds_the_camera_matrix(tmp_path):
    people = read_hi4d(write(tmp_path / "a.json", {"a.jpg": hi4d_record()}))["a.jpg"]
    np.testing.assert_array_equal(people.intrinsics_px[0], [[900, 0, 470], [0, 910, 640], [0, 0, 1]])
    assert people.genders == ("female",)


def test_panoptic_knows_its_sequence(tmp_path):
    people = read_panoptic(write(tmp_path / "a.json", {"x/170307_PIZZA1/0.jpg": panoptic_record(3, 24)}))
    assert people["x/170307_PIZZA1/0.jpg"].sequence == "pizza"
    assert people["x/170307_PIZZA1/0.jpg"].joints_m.shape == (3, 24, 3)
    with pytest.raises(FormatError, match=r"image 'a\.jpg'.*exactly one of haggling"):
        read_panoptic(write(tmp_path / "b.json", {"a.jpg": panoptic_record()}))


def test_mupots_visibility_becomes_occlusion_in_the_raw_order(tmp_path):
    (person,) = read_mupots(write(tmp_path / "a.json", {"TS1/a.jpg": mupots_record()}))["TS1/a.jpg"]
    assert np.flatnonzero(person.occluded).tolist() == [3]
    assert person.universal_mm[0].tolist() == [1, 2, 3]


def test_relative_human_people_without_keypoints_stay(tmp_path):
    people = read_relative_human(write(tmp_path / "a.json", {"a.jpg": relative_human_record()}))["a.jpg"]
    assert people[0].keypoints_px.shape == (14, 3) and people[1].keypoints_px is None
    assert people[0].depth_layer == 1 and people[0].age == 2


WRONG = {
    "unknown field": ({"smpl_version": 1}, r"unknown field 'smpl_version'; known fields: betas, global_orient"),
    "missing field": ({"betas": None}, r"the field 'betas' is missing"),
    "shape": ({"betas": np.zeros((2, 9))}, r"field 'betas' must have shape \(any, 10\), got \(2, 9\)"),
    "number of people": ({"transl": np.zeros((3, 3))}, r"field 'transl' must have shape \(2, 3\), got \(3, 3\)"),
    "nan": ({"cam_trans": np.array([0, np.nan, 0])}, r"field 'cam_trans' holds NaN"),
    "text": ({"cam_rot": "front"}, r"field 'cam_rot' must hold a regular array of numbers"),
    "ragged": ({"cam_rot": [[1], [2, 3]]}, r"field 'cam_rot' must hold a regular array of numbers"),
    "no rotation": ({"cam_rot": np.eye(3) * 2}, r"must be a rotation matrix"),
    "no camera": ({"cam_intrinsics": np.eye(3) * 0}, r"intrinsics must have the form"),
    "gender": ({"genders": ["m", "x"]}, r"unknown gender 'x'; use one of neutral, male, female"),
    "genders": ({"genders": ["m"]}, r"field 'genders' must hold 2 texts"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_records_name_file_image_and_field(tmp_path, case):
    change, message = WRONG[case]
    record = pw3d_record() | change
    if case == "missing field":
        del record["betas"]
    for name in ("wrong.json", "wrong.npz"):
        with pytest.raises(FormatError, match=r"wrong\.\w+: image 'imageFiles/7\.jpg'.*" + message) as caught:
            read_3dpw(write(tmp_path / name, {"imageFiles/7.jpg": record}), unpickle=True)
        assert "\n" not in str(caught.value)


def test_wrong_people_are_named(tmp_path):
    record = hi4d_record() * 2
    record[1] = record[1] | {"betas": np.zeros(9)}
    with pytest.raises(FormatError, match=r"image 'a', person 1: field 'betas' must hold 10 numbers, got 9"):
        read_hi4d(write(tmp_path / "a.json", {"a": record}))
    points = panoptic_record()
    points["kpts3d"][0, 0, 3] = -1
    with pytest.raises(FormatError, match=r"image 'mafia/a': visibility must lie between 0 and 1, got -1"):
        read_panoptic(write(tmp_path / "b.json", {"mafia/a": points}))
    with pytest.raises(FormatError, match=r"image 'a', person 0: unknown field 'agee'"):
        read_relative_human(write(tmp_path / "c.json", {"a": [relative_human_record()[0] | {"agee": 3}]}))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"does not exist"):
        read_3dpw(tmp_path / "none.npz")
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(InputError, match=r"must be \.npz or \.json"):
        read_3dpw(tmp_path / "a.pkl")
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    with pytest.raises(FormatError, match=r"no entry 'annots'; it has other\.npy"):
        read_3dpw(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", annots=np.zeros(3))
    with pytest.raises(FormatError, match=r"must be one dictionary, got float64"):
        read_3dpw(tmp_path / "c.npz")
    for number, text in enumerate(("[]", '{"annots": []}', '{"annots": {}}', '{"a": 1}', "{", '{"annots": {"a": 3}}')):
        (tmp_path / f"{number}.json").write_text(text)
        with pytest.raises(FormatError, match=rf"{number}\.json"):
            read_3dpw(tmp_path / f"{number}.json")


def test_joint_orders_agree_with_each_other():
    assert len(H36M17) == len(H36M17_PARENTS) == len(H36M17_FROM_J24) == 17 and len(J24) == 24
    limbs = [name for name in H36M17 if name.startswith(("left", "right")) or name == "pelvis"]
    assert all(J24[H36M17_FROM_J24[H36M17.index(name)]] == name for name in limbs)
    assert {H36M17[j] for j in range(17)} - {H36M17[j] for j in H36M14} == {"pelvis", "spine", "neck_base"}
    assert all(parent < joint for joint, parent in enumerate(H36M17_PARENTS))
