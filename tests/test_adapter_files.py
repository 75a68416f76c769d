"""What adapters read: pickles that are not run, joblib's arrays, COCO's masks, triangles; statures told from joints."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib

import numpy as np
import pytest
import torch
from _adapter_files import coco_runs, joblib_dump
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.adapters._faces import read_faces
from crowdmesh.adapters._files import open_content
from crowdmesh.adapters._masks import decode, masks_of_runs
from crowdmesh.adapters._padded import Square
from crowdmesh.adapters._stature import sample, segments, stature_from_joints
from crowdmesh.errors import FormatError, InputError

NESTED = {
    "f/1.jpg": {"a": np.arange(6.0).reshape(2, 3), "b": [np.arange(3, dtype=np.int32), "text"], 7: (None, True)},
    "objects": np.array([{"x": np.float32(2)}, None], object),
    "empty": np.zeros((0, 3)),
}


def check_nested(content) -> None:
    np.testing.assert_array_equal(content["f/1.jpg"]["a"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(content["f/1.jpg"]["b"][0], [0, 1, 2])
    assert content["f/1.jpg"]["b"][1] == "text"
    assert content["f/1.jpg"][7] == [None, True]
    assert content["objects"] == [{"x": 2.0}, None]
    assert content["empty"].shape == (0, 3)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("compressed", [False, True])
def test_pickles_as_joblib_writes_them(tmp_path, protocol, compressed):
    data = joblib_dump(NESTED, protocol)
    path = tmp_path / "x.pkl"
    path.write_bytes(zlib.compress(data) if compressed else data)
    check_nested(open_content(path, unpickle=True))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_plain_pickles(tmp_path, protocol):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(NESTED, protocol))
    check_nested(open_content(path, unpickle=True))


def test_archives_with_objects(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", allow_pickle=True, results=np.array(NESTED, object), plain=np.arange(3))
    content = open_content(tmp_path / "x.npz", unpickle=True)
    check_nested(content["results"])
    np.testing.assert_array_equal(content["plain"], [0, 1, 2])
    np.save(tmp_path / "x.npy", np.array([NESTED], object), allow_pickle=True)
    check_nested(open_content(tmp_path / "x.npy", unpickle=True)[0])


def test_files_of_torch(tmp_path):
    content = {"a": torch.arange(3), "b": [torch.ones(2, dtype=torch.bfloat16), {"c": 1.5}]}
    torch.save(content, tmp_path / "x.pt")
    read = open_content(tmp_path / "x.pt")
    np.testing.assert_array_equal(read["a"], [0, 1, 2])
    np.testing.assert_array_equal(read["b"][0], [1, 1])
    assert read["b"][1] == {"c": 1.5}


class Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ["HOSTILE"],)


@pytest.mark.parametrize("name", ["x.pkl", "x.npz", "x.npy", "x.pt"])
def test_pickles_are_opened_on_demand_and_never_run(tmp_path, monkeypatch, name):
    victim, path = tmp_path / "victim", tmp_path / name
    monkeypatch.setenv("HOSTILE", str(victim))
    if name == "x.pkl":
        path.write_bytes(pickle.dumps({"people": Hostile()}))
    elif name == "x.npz":
        np.savez(path, allow_pickle=True, people=np.array(Hostile(), object))
    elif name == "x.npy":
        np.save(path, np.array([Hostile()], object), allow_pickle=True)
    else:
        torch.save({"people": Hostile()}, path)
    if name != "x.pt":
        with pytest.raises(
            FormatError, match=f"{name} holds pickled Python objects.* give --unpickle.*nothing in it is run"
        ):
            open_content(path)
    with pytest.raises(FormatError, match=r"that was not run|other things than tensors"):
        open_content(path, unpickle=True)
    assert not victim.exists()


def test_damaged_pickles_are_refused(tmp_path):
    path, data = tmp_path / "x.pkl", joblib_dump({"a": np.arange(1000.0)}, 4)
    recursive: list = []
    recursive.append(recursive)
    for content in (data[:-3000], data[:40], b"", zlib.compress(data)[:60], b"\x1f\x8b", pickle.dumps(recursive)):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"x\.pkl is not a readable pickle of people"):
            open_content(path, unpickle=True)


def test_bombs_are_refused(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(zlib.compress(pickle.dumps(b"0" * ((1 << 26) + 1)), 1))
    with pytest.raises(FormatError, match="which no people do"):
        open_content(path, unpickle=True)


@pytest.mark.parametrize("name", ["x.npz", "x.pt", "faces.npz"])
def test_archives_that_explode_are_refused(tmp_path, name):
    path = tmp_path / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("faces.npy", b"0")
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\1\2") + 24  # what the directory says of the entry's size
    data[place : place + 4] = (600 << 20).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FormatError, match=f"{name} .*it would unpack to 600 MiB, which no people do"):
        read_faces(path) if name == "faces.npz" else open_content(path)


def test_masks_may_compress_well(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", masks=np.zeros((30, 1080, 2080), bool))
    assert open_content(tmp_path / "x.npz")["masks"].shape == (30, 1080, 2080)


def test_tensors_that_repeat_their_numbers_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match="it holds a tensor of more numbers than the file has for it"):
        open_content(tmp_path / "x.pt")
    torch.save({"a": torch.arange(6).reshape(2, 3).T}, tmp_path / "x.pt")
    np.testing.assert_array_equal(open_content(tmp_path / "x.pt")["a"], [[0, 3], [1, 4], [2, 5]])


def test_masks_of_coco_cannot_be_of_any_size():
    with pytest.raises(FormatError, match="larger than any photograph"):
        masks_of_runs([{"size": [1 << 20, 1 << 20], "counts": "0"}], 1 << 20, 1 << 20)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
def test_masks_of_coco(seed, height, width, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    np.testing.assert_array_equal(decode(coco_runs(mask), height, width), mask)


def test_a_mask_of_coco_by_hand():
    # Down the columns: 2 off, 3 on, 1 off. As characters from "0" on: "2", "3", "1".
    np.testing.assert_array_equal(decode("231", 3, 2), [[False, True], [False, True], [True, False]])


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "smplx.npz", "f.obj"])
def test_triangles_from_files(tmp_path, name):
    faces, path = np.array([[0, 1, 2], [2, 1, 3]]), tmp_path / name
    if name == "f.npy":
        np.save(path, faces.astype(np.uint32))
    elif name == "f.npz":
        np.savez(path, faces=faces)
    elif name == "smplx.npz":  # SMPL-X's own file has pickled entries beside the triangles
        np.savez(path, allow_pickle=True, f=faces, part2num=np.array({"hip": 0}, object))
    else:
        path.write_text("# made up\n" + "v 0 0 0\n" * 4 + "vn 0 0 1\nf 1/1/1 2//1 3\nf -2 -3 -1\n")
    np.testing.assert_array_equal(read_faces(path), faces)


def test_files_without_triangles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 4), int))
    np.savez(tmp_path / "b.npz", v=np.zeros(3))
    (tmp_path / "c.obj").write_text("f 1 2 3 4\n")
    for name, message in (
        ("a.npy", r"must hold \(F, 3\)"),
        ("b.npz", "no entry 'faces' or 'f'"),
        ("c.obj", "no triangles"),
    ):
        with pytest.raises(FormatError, match=f"{name} is not a readable file of triangles: .*{message}"):
            read_faces(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_faces(tmp_path / "d.npy")
    (tmp_path / "e.ply").touch()
    with pytest.raises(InputError, match=r"read from \.npy, \.npz or \.obj"):
        read_faces(tmp_path / "e.ply")


@pytest.mark.parametrize(("bent", "rms"), [(0.0, 0.020), (0.1, 0.021), (0.2, 0.027)])
def test_statures_told_from_joints(bent, rms):
    limbs, stature = sample(400, 1, bent)
    error = stature_from_joints(limbs) / stature - 1
    assert np.sqrt((error**2).mean()) < rms
    assert abs(error.mean()) < 0.015
    assert abs(error[stature < 1.5].mean()) < 0.025


def test_statures_grow_with_the_body_and_do_not_depend_on_its_place():
    limbs, _ = sample(20, 2, 0.1)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    np.testing.assert_allclose(stature_from_joints(1.3 * limbs @ turn + 5), 1.3 * stature_from_joints(limbs))
    np.testing.assert_allclose(
        segments(limbs[:, [1, 0, 3, 2, 5, 4, 7, 6]]), segments(limbs)
    )  # left is as good as right


def test_squares_are_those_of_pillow():
    from PIL import Image, ImageOps

    for width, height in ((640, 427), (427, 640), (500, 500), (1023, 682), (333, 1000)):
        photo = ImageOps.contain(Image.new("L", (width, height), 255), (448, 448))
        left, top, *_ = ImageOps.pad(photo, (448, 448)).getbbox()  # type: ignore[misc]
        square = Square.as_pillow_does(width, height, 448)
        assert (square.inner_width, square.inner_height, square.left, square.top) == (*photo.size, left, top)
        camera = square.camera(400.0, 224.0, 224.0)
        point = np.array([[0.3, -0.2, 3.0]])
        seen = 400.0 * point[:, :2] / 3 + 224.0
        np.testing.assert_allclose(camera.project(point), square.to_photo(seen))
