"""Experts that look their answers up in files, and those that answer nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.experts import (
    AttributeExpert,
    DepthExpert,
    Detections,
    ExpertOptions,
    InputImage,
    KeypointExpert,
    MeshExpert,
    PersonDetector,
    Reconstructor,
    load_experts,
)
from crowdmesh.experts._files_by_name import FilePerImage, FilesPerImage, file_of, tails
from crowdmesh.experts.depth_anything import DepthAnythingV2
from crowdmesh.experts.depth_file import DepthFromFiles, read_depth
from crowdmesh.experts.detections_file import DetectionsFromFile
from crowdmesh.experts.nothing import NoAttributes, NoKeypoints, NoMeshes, NoPersons

PIXELS = np.zeros((20, 30, 3), np.uint8)
PEOPLE = {"boxes_px": [[1.0, 2, 9, 16]], "scores": [0.5]}


def image(path: str | None) -> InputImage:
    return InputImage(PIXELS, None if path is None else Path(path))


@pytest.mark.parametrize(("path", "expected"), [
    ("/x/a/b.jpg", ["x/a/b.jpg", "a/b.jpg", "b.jpg"]),
    ("b.jpg", ["b.jpg"]),
    ("a/../c/b.jpg", ["c/b.jpg", "b.jpg"]),
    ("../b.jpg", ["b.jpg"]),
])  # fmt: skip
def test_tails_of_a_path_never_lead_out_of_a_folder(path, expected):
    assert [str(tail) for tail in tails(Path(path))] == expected


def test_the_longest_tail_counts_and_the_first_ending(tmp_path):
    files = ["a/b/n.npy", "b/n.npz", "b/n.npy", "n.npz", "n.v2.npy"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()

    def found(path: str) -> str | None:
        file = file_of(tmp_path, Path(path), (".npz", ".npy"))
        return None if file is None else file.relative_to(tmp_path).as_posix()

    assert found("/photos/a/b/n.jpg") == "a/b/n.npy"
    assert found("/photos/c/b/n.jpg") == "b/n.npz"
    assert found("/photos/c/n.png") == "n.npz"
    assert found("n.v2.jpg") == "n.v2.npy"
    assert found("/photos/a/b/m.jpg") is None and found("/photos/later/m.jpg") is None
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "m.npy").touch()
    assert found("/photos/later/m.jpg") == "later/m.npy"


def test_depth_maps_of_every_kind_of_file(tmp_path):
    values = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    np.savez(tmp_path / "said.npz", depth=values, kind="metric", confidence=values)
    np.savez(tmp_path / "unsaid.npz", depth=values)
    np.save(tmp_path / "plain.npy", values)
    cv2.imwrite(str(tmp_path / "coded.png"), (1000 * values).astype(np.uint16))
    expert = DepthFromFiles(tmp_path)
    names = ("said.jpg", "unsaid.png", "x/plain.jpg", "coded.jpg")
    maps = expert.estimate([image(name) for name in names])
    assert [m.kind for m in maps] == ["metric", "disparity", "disparity", "disparity"]
    assert all(
        np.array_equal(m.values * scale, 1000 * values) for m, scale in zip(maps, (1e3, 1e3, 1e3, 1), strict=True)
    )
    assert isinstance(expert, DepthExpert) and isinstance(expert, FilePerImage)


@pytest.mark.usefixtures("unchecked")
def test_depth_maps_that_cannot_be_used_are_named(tmp_path):
    expert = DepthFromFiles(tmp_path)
    with pytest.raises(InputError, match=r"have no n\.npz or n\.npy or n\.png for a/n\.jpg; add it"):
        expert.estimate([image("a/n.jpg")])
    with pytest.raises(InputError, match="looked up by file name"):
        expert.estimate([image(None)])
    np.savez(tmp_path / "kind.npz", depth=np.ones((2, 2)), kind="inverse")
    np.savez(tmp_path / "unnamed.npz", map=np.ones((2, 2)))
    np.save(tmp_path / "empty.npy", np.zeros((2, 2)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "kind.npz").read_bytes()[:100])
    for name, said in (
        ("kind.npz", "unknown depth kind 'inverse'"), ("unnamed.npz", "no array 'depth', only 'map'"),
        ("empty.npy", "has no finite positive value"), ("cut.npz", "not a readable depth map"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=said) as caught:
            expert.estimate([image(name)])
        assert name in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        read_depth(tmp_path / "nothing.npy")
    with pytest.raises(InputError, match=r"are no folder; name a folder"):
        DepthFromFiles(tmp_path / "empty.npy")


def test_a_folder_of_maps_or_of_a_model_on_the_command_line(tmp_path, photos):
    maps = load_experts("lite", options=ExpertOptions(depth=str(tmp_path))).depth
    assert isinstance(maps, DepthFromFiles)
    (tmp_path / "config.json").write_text("{}")
    assert isinstance(load_experts("lite", options=ExpertOptions(depth=str(tmp_path))).depth, DepthAnythingV2)


def test_a_folder_of_files_is_known_by_its_name_alone(tmp_path):
    source = FilesPerImage(tmp_path)
    before = source.fingerprint()
    (tmp_path / "more.npy").touch()
    assert source.fingerprint() == before == f"files of {tmp_path.name}"
    assert source.fetch() == tmp_path
    with pytest.raises(AssetError, match="does not exist"):
        FilesPerImage(tmp_path / "no").fetch()


def test_detections_of_images_of_one_name_lie_in_folders(tmp_path):
    for folder, left in (("", 1.0), ("a", 3.0), ("b", 5.0)):
        (tmp_path / folder).mkdir(exist_ok=True)
        people = {"boxes_px": [[left, 2, 9, 16]], "scores": [0.5]}
        (tmp_path / folder / "n.json").write_text(json.dumps(people))
    found = DetectionsFromFile(tmp_path).detect([image(f"photos/{folder}/n.jpg") for folder in "abc"])
    assert [detections.boxes_px[0, 0] for detections in found] == [3.0, 5.0, 1.0]


def test_the_own_files_of_a_photograph_decide_its_result(tmp_path, photos):
    (tmp_path / "maps").mkdir()
    (tmp_path / "people").mkdir()
    np.save(tmp_path / "maps" / "soccer.npy", np.ones((2, 2)))
    (tmp_path / "people" / "soccer.json").write_text(json.dumps(PEOPLE))
    options = ExpertOptions(persons=str(tmp_path / "people"), depth=str(tmp_path / "maps"))
    ours = Reconstructor(load_experts("lite", options=options))
    first = ours.signature(photos / "soccer.jpg")
    assert set(first["files_sha256"]) == {"detections from file", "depth maps of maps"}
    np.save(tmp_path / "maps" / "soccer.npy", np.full((2, 2), 2.0))
    changed = ours.signature(photos / "soccer.jpg")
    assert {key for key in first if first[key] != changed[key]} == {"files_sha256"}
    assert "files_sha256" not in ours.signature(photos / "skiers.jpg")
    assert "files_sha256" not in ours.signature(None)


def test_experts_that_answer_nothing(photos):
    options = ExpertOptions(persons="none", keypoints="none", ages="none", mesh="none")
    experts = load_experts("open", options=options)
    assert experts.screening is None, "nobody has keypoints"
    kinds = (NoPersons, NoKeypoints, NoAttributes, NoMeshes)
    protocols = (PersonDetector, KeypointExpert, AttributeExpert, MeshExpert)
    made = (experts.persons, experts.keypoints, experts.attributes, experts.mesh)
    for expert, kind, protocol in zip(made, kinds, protocols, strict=True):
        assert isinstance(expert, kind) and isinstance(expert, protocol)
        assert expert.name == "none" and expert.sources() == ()
    assert [len(found) for found in experts.persons.detect([image("a.jpg")] * 2)] == [0, 0]
    two = Detections(np.zeros((2, 4)), np.zeros(2))
    points = experts.keypoints.locate([image("a.jpg")], [two])[0]
    assert points.coco17_px.shape == (2, 17, 3) and not points.coco17_px.any()
    assert np.isnan(experts.attributes.estimate([image("a.jpg")], [two], [points])[0].age_years).all()
    with pytest.raises(InputError, match="no mesh expert"):
        experts.mesh.fit([image("a.jpg")], [], [two], [points])


@pytest.mark.parametrize(("options", "said"), [
    ({"persons": "none"}, "--persons none are for images whose people are known"),
    ({"keypoints": "none", "mesh": "none"}, "--keypoints and --mesh none are for"),
])  # fmt: skip
def test_photographs_need_experts_that_answer(photos, options, said):
    experts = load_experts("lite", options=ExpertOptions(**options))
    with pytest.raises(InputError, match=said):
        Reconstructor(experts)


@pytest.mark.parametrize(("name", "options", "said"), [
    ("lite", {"keypoints": "none"}, "use blazepose, or --mesh none"),
    ("paper", {"persons": "none"}, "neither none nor vitpose-base-simple makes masks"),
    ("paper", {"keypoints": "none", "flip_test": True, "ages": "none"}, "option flip_test is of an expert"),
])  # fmt: skip
def test_nothing_must_fit_to_the_rest(photos, name, options, said):
    with pytest.raises(InputError, match=said):
        load_experts(name, options=ExpertOptions(**options))


def test_ages_need_nobody_to_answer(photos):
    """A photograph in which nobody's age is looked for is still reconstructed."""
    experts = load_experts("lite", options=ExpertOptions(ages="none"))
    grey = np.full((64, 64, 3), 128, np.uint8)
    answer = Reconstructor(replace(experts, depth=_Flat()))(grey)
    assert len(answer.scene.people) == 0


class _Flat:
    name = "flat"

    def sources(self):
        return ()

    def estimate(self, images):
        return [RelativeDepth(np.ones((i.height, i.width)), "disparity") for i in images]
