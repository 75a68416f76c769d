"""Other systems' files with single values damaged: read, or refused in one sentence; and images of nobody."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from _adapter_bodies import SIZE, installed_smpl
from adapter_fixtures import SOURCES

from crowdmesh.adapters import ADAPTERS, identify, read_people, read_scenes
from crowdmesh.errors import CrowdMeshError, FormatError, InputError

BAD = {"none": None, "text": "abc", "list": [], "dictionary": {}, "huge": 10**400, "large": 1e300, "zero": 0}


@pytest.fixture(autouse=True, scope="module")
def smpl(tmp_path_factory):
    """A made-up SMPL is installed."""
    with installed_smpl(tmp_path_factory.mktemp("assets")):
        yield


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """Ways to every value, of a list or an array to its first one and to the whole."""
    if path:
        yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*path, key))
    elif isinstance(content, list) and content:
        yield from places(content[0], (*path, 0))


def put(content: Any, path: tuple, value: Any) -> Any:
    content = copy.copy(content)
    content[path[0]] = put(content[path[0]], path[1:], value) if len(path) > 1 else value
    return content


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", SOURCES)
def test_damaged_values_give_sentences(tmp_path, monkeypatch, name):
    source = SOURCES[name]()
    path = tmp_path / f"people{source.suffix}"
    path.touch()
    messages = []
    kinds = list(BAD.values())
    for i, place in enumerate(places(source.content)):
        for bad in (kinds[i % 7], kinds[(i + 3) % 7]):
            content = put(source.content, place, bad)
            monkeypatch.setattr("crowdmesh.adapters.reading.open_content", lambda *_, c=content: c)
            identify(path)
            try:
                read_people(path, source.adapter, **source.options)
            except CrowdMeshError as error:
                messages.append(str(error))
    assert len(messages) > 5
    assert all(str(path) in message and "\n" not in message for message in messages)


def opened(monkeypatch, tmp_path, content: Any, name: str = "people.npz"):
    """A path whose file holds the content, without writing it."""
    path = tmp_path / name
    path.touch()
    monkeypatch.setattr("crowdmesh.adapters.reading.open_content", lambda *_: content)
    return path


def image_of(content: Any) -> Any:
    """The record of the first image, out of its wrappings."""
    while isinstance(content, dict) and (len(content) == 1 or set(content) & {"im.jpg", "f/000001.jpg", "results"}):
        content = next(iter(content.values()))
    return content


def nobody_of(record: Any) -> Any:
    """The same layout with no people: lists become empty, arrays lose their rows; one camera for all stays."""
    if isinstance(record, list):
        return []
    if isinstance(record, dict):
        kept = {"image_size", "intrinsics"}
        once = set() if "imgname" in record else {"cam_int", "pred_intrinsics"}
        return {
            key: value if key in kept else value[0] if key in once else nobody_of(value)
            for key, value in record.items()
            if not isinstance(value, (int, str))
        }
    return record[:0]


@pytest.mark.parametrize("name", SOURCES)
def test_images_of_nobody_of_every_source(tmp_path, monkeypatch, name):
    source = SOURCES[name]()
    options = {key: value for key, value in source.options.items() if key != "image"} | {"image_size": SIZE}
    empty = nobody_of(image_of(source.content))
    for content in (empty, {"a.jpg": empty}, [], {"outputs": []}):
        if source.adapter == "table" and content is not empty:
            continue
        if source.adapter == "camerahmr" and content is empty and "imgname" not in empty:
            continue  # its images have names
        path = opened(monkeypatch, tmp_path, content)
        try:
            scene = read_people(path, source.adapter, **options)
        except InputError as error:
            assert "the file holds no camera" in str(error)  # noqa: PT017
            scene = read_people(path, source.adapter, vertical_fov=0.8, **options)
            assert scene.camera.vertical_fov == pytest.approx(0.8)
        assert (len(scene.people), scene.camera.width) == (0, SIZE[0])


def test_nobody_is_seen_by_the_files_own_camera(tmp_path, monkeypatch):
    for name in ("dto opt", "prompthmr", "sat-hmr", "romp", "bev", "hmr2", "phalp"):
        source = SOURCES[name]()
        path = opened(monkeypatch, tmp_path, source.content)
        options = source.options | {"image_size": SIZE}
        full = read_people(path, source.adapter, **options).camera
        path = opened(monkeypatch, tmp_path, {"im.jpg": nobody_of(image_of(source.content))})
        options.pop("image", None)
        assert read_people(path, source.adapter, **options).camera == full
        with pytest.raises(InputError, match="were placed for a focal length"):
            read_people(path, source.adapter, vertical_fov=1.9, **options)


def test_nobody_is_seen_by_the_camera_beside_them(tmp_path, monkeypatch):
    beside = {"image_size": list(SIZE), "intrinsics": [[500, 0, 320], [0, 500, 213.5], [0, 0, 1]]}
    path = opened(monkeypatch, tmp_path, {"outputs": []} | beside)
    assert read_people(path, "sam3d-body").camera.fx == 500
    table = beside | {"vertices_m": [], "faces": [[0, 1, 2]], "stature_m": []}
    assert len(read_people(opened(monkeypatch, tmp_path, table)).people) == 0


def test_one_image_of_several_may_be_of_nobody(tmp_path, monkeypatch):
    people = SOURCES["multi-hmr anny"]().content
    path = opened(monkeypatch, tmp_path, {"a.jpg": people, "b.jpg": []})
    assert identify(path) == ["multi-hmr"]
    scene = read_people(path, image="a.jpg", image_size=SIZE, faces=SOURCES["multi-hmr anny"]().options["faces"])
    assert len(scene.people) == 3
    assert len(read_people(path, image="b.jpg", image_size=SIZE, vertical_fov=0.8).people) == 0


def test_what_cannot_be_taken_apart_is_nobodys(tmp_path, monkeypatch):
    for content in (
        {"annots": {"im": [{"smpl_param": 1, "cam_param": 2}]}},
        {"outputs": []},
        {"pose": [[1], 2], "betas": 1, "trans": 1, "joints3d": 1},
        {"smpl_thetas": 1, "smpl_betas": [[1], []], "cam": 1, "cam_trans": 1},
    ):
        path = opened(monkeypatch, tmp_path, content)
        assert set(identify(path)) <= {"nlf"}
        for name in ADAPTERS:
            if content == {"outputs": []} and name != "table":
                continue
            with pytest.raises(CrowdMeshError, match="^" + str(path)):
                read_people(path, name, image_size=SIZE)


def test_batches_of_nlf_have_images_of_nobody(tmp_path, monkeypatch):
    content = SOURCES["nlf tensorflow"]().content
    lists = {key: [[], value.tolist(), []] for key, value in content.items()}
    path = opened(monkeypatch, tmp_path, lists)
    assert [
        len(read_people(path, image=i, image_size=SIZE, vertical_fov=fov).people)
        for i, fov in (("0", 0.8), ("1", None), ("2", 0.8))
    ] == [0, 3, 0]
    nobody = opened(monkeypatch, tmp_path, {key: [[], []] for key in content})
    assert [name for name, _ in read_scenes(nobody, image_size=SIZE, vertical_fov=0.8)] == ["0", "1"]
    named = opened(monkeypatch, tmp_path, {"im.jpg": {key: [value] for key, value in content.items()}})
    assert [name for name, _ in read_scenes(named, image_size=SIZE)] == ["im.jpg"]


def test_two_people_may_share_a_size_of_the_image(tmp_path, monkeypatch):
    content = SOURCES["hmr2"]().content
    two = {key: value[:2] for key, value in content.items() if isinstance(value, np.ndarray)}
    two["pred_smpl_params"] = {key: value[:2] for key, value in content["pred_smpl_params"].items()}
    two["img_size"] = np.array([float(side) for side in SIZE])
    scene = read_people(opened(monkeypatch, tmp_path, two))
    assert (len(scene.people), scene.camera.width, scene.camera.height) == (2, *SIZE)
    with pytest.raises(FormatError, match=r"the image would have 640\.5x427 pixels"):
        read_people(opened(monkeypatch, tmp_path, two | {"img_size": np.array([640.5, 427.0])}))


def test_points_in_the_cameras_plane_are_not_asked_for_their_pixel(tmp_path, monkeypatch):
    source = SOURCES["sam3d-body"]()
    person = dict(source.content["outputs"][0])
    person["pred_keypoints_3d"] = person["pred_keypoints_3d"].copy()
    person["pred_keypoints_3d"][20] = -person["pred_cam_t"]
    scene = read_people(opened(monkeypatch, tmp_path, [person]), **source.options)
    assert scene.camera.cx == SIZE[0] / 2
    person["pred_keypoints_3d"] = np.zeros((70, 3)) - person["pred_cam_t"]
    with pytest.raises(FormatError, match="3D joints do not lie in front of the camera"):
        read_people(opened(monkeypatch, tmp_path, [person]), **source.options)


def test_people_without_a_mask_get_an_empty_one(tmp_path, monkeypatch):
    for name, people in (("sam3d-body", lambda c: c["outputs"]), ("phalp", None)):
        source = SOURCES[name]()
        if people:
            content = [
                {**person, "mask": None} if k == 1 else person for k, person in enumerate(people(source.content))
            ]
        else:
            frame = source.content["f/000001.jpg"]
            content = {"f/000001.jpg": frame | {"mask": [frame["mask"][0], None, frame["mask"][2]]}}
        masks = read_people(opened(monkeypatch, tmp_path, content), **source.options).people.masks
        assert masks is not None
        assert masks.to_dense().any((1, 2)).tolist() == [True, False, True]
