"""Sets of experts: what is in them, what may be replaced, what is refused, and what ``download`` and ``doctor`` say."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crowdmesh.assets import UserFile, Weights
from crowdmesh.cli import main
from crowdmesh.doctor import examine
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts import Device, ExpertOptions, load_experts, presets
from crowdmesh.experts.attributes_file import AttributesFromFile
from crowdmesh.experts.depth_anything import DepthAnythingV2
from crowdmesh.experts.detections_file import DetectionsFromFile
from crowdmesh.experts.presets import OFFERS, PRESETS, weights_of
from crowdmesh.hub import HubModel


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No assets and no network."""
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path / "assets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    presets._network.cache_clear()  # networks that other tests have loaded
    return tmp_path


def test_every_name_in_a_preset_is_on_offer():
    for preset in PRESETS.values():
        for question, offers in OFFERS.items():
            assert getattr(preset, question) in offers


def test_every_file_of_every_offer_states_licence_source_and_size():
    offered = {w for offers in OFFERS.values() for offer in offers.values() for w in offer.weights}
    assert len(offered) > 20
    for weights in offered:
        assert isinstance(weights, Weights)
        assert weights.licence and weights.source and weights.remedy()
        assert isinstance(weights, UserFile) or weights.size_bytes is None or weights.size_bytes > 1000
    hub = [w for w in offered if isinstance(w, HubModel)]
    assert all(len(w.sha256) in (0, 64) for w in hub)
    assert all(w.pinned for w in hub if not w.repo.startswith("Roboflow/"))


def test_open_needs_no_registration_and_no_remote_code_and_allows_commercial_use():
    for weights in weights_of("open"):
        assert not isinstance(weights, UserFile)
        assert any(name in weights.licence for name in ("Apache-2.0", "MIT")), weights.name
        assert not any(str(file).endswith(".py") for file in getattr(weights, "files", ()))


def test_networks_are_made_once_and_load_late(photos):
    options = ExpertOptions(depth="depth-anything-v2-small")
    first = load_experts("lite", options=options)
    second = load_experts("lite", options=replace(options))
    assert first.depth is second.depth and isinstance(first.depth, DepthAnythingV2)
    assert load_experts("lite", options=replace(options, device=Device(batch=2))).depth is not first.depth


def test_single_experts_replace_those_of_the_set(nothing_here, tmp_path):
    (tmp_path / "ages.csv").write_text("image,person,age_years\na.jpg,0,7\n")
    (tmp_path / "found").mkdir()
    options = ExpertOptions(
        persons=str(tmp_path / "found"), keypoints="vitpose-base", ages=str(tmp_path / "ages.csv"), mesh="camerahmr"
    )
    chosen = replace(options, mesh=None, keypoints=None)
    with pytest.raises(AssetError, match="is in none of the asset folders"):
        load_experts("lite", options=chosen)  # the small networks load at once
    names = {w.name for w in weights_of("paper", options)}
    assert "usyd-community/vitpose-base" in names and not any("rf-detr" in n or "mivolo" in n for n in names)


def test_what_was_chosen_stands_in_names_and_settings(photos):
    experts = load_experts("lite", math.radians(50), ExpertOptions(depth="depth-anything-v2-large"))
    assert "Depth-Anything-V2-Large" in experts.depth.name and experts.persons.name == "YOLOX-nano"
    assert experts.settings["vertical_fov"] == pytest.approx(math.radians(50))
    json.dumps(dict(experts.settings))
    plain, flipped = (
        load_experts("lite", options=ExpertOptions(keypoints="vitpose-base+blazepose", flip_test=flip)).keypoints.name
        for flip in (False, True)
    )
    assert plain != flipped


def test_another_field_of_view_makes_no_second_copy_of_a_network(photos):
    one, two = load_experts("lite", 0.5), load_experts("lite", 0.6)
    assert one.persons is two.persons and one.depth is two.depth
    assert (one.camera.vertical_fov, two.camera.vertical_fov) == (0.5, 0.6)


def test_files_are_read_anew(tmp_path, photos):
    table = tmp_path / "ages.csv"
    table.write_text("image,person,age_years\na.jpg,0,7\n")
    options = ExpertOptions(ages=str(table))
    first = load_experts("lite", options=options).attributes
    table.write_text("image,person,age_years\na.jpg,0,9\n")
    assert load_experts("lite", options=options).attributes is not first


@pytest.mark.parametrize(("name", "options", "said"), [
    ("lite,open", {}, r"unknown experts 'lite,open'; use one of lite, open, paper, official, and replace single"),
    ("open", {"keypoints": "vitpose-base"}, "needs body landmarks in 3D, which keypoints vitpose-base have not"),
    ("open", {"depth": "midas"}, r"unknown depth expert 'midas'; use one of fastdepth, .*, or a model folder"),
    ("open", {"persons": "nowhere.npz"}, r"unknown persons expert 'nowhere\.npz'; use .*, or a file"),
    ("open", {"mesh": "hmr2"}, "unknown mesh expert 'hmr2'; use one of landmark-fit, camerahmr, camerahmr-released"),
    ("open", {"ages": "mivolo"}, r"--allow-remote-code"),
    ("open", {"keypoints": "vitpose-bse"}, "unknown keypoints expert 'vitpose-bse'; use one of blazepose, "),
    ("paper", {"persons": "yolox-nano"}, "looks at masked people, and neither yolox-nano nor vitpose-base-simple"),
    ("lite", {"flip_test": True}, "option flip_test is of an expert that is not chosen"),
    ("lite", {"humanfov": Path("x.ckpt")}, "option humanfov is of an expert that is not chosen"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_a_sentence(nothing_here, monkeypatch, photos, name, options, said):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(photos.parent))
    with pytest.raises(InputError, match=said):
        load_experts(name, options=ExpertOptions(**options))


def test_files_stand_in_for_experts(tmp_path, photos):
    (tmp_path / "ages.csv").write_text("image,person,age_years\na.jpg,0,7\n")
    np.savez(tmp_path / "a.npz", boxes_px=np.array([[1.0, 2, 30, 40]]), scores=np.array([0.9]))
    options = ExpertOptions(persons=str(tmp_path / "a.npz"), ages=str(tmp_path / "ages.csv"))
    experts = load_experts("lite", options=options)
    assert isinstance(experts.persons, DetectionsFromFile) and isinstance(experts.attributes, AttributesFromFile)


@pytest.mark.usefixtures("unchecked")
def test_devices():
    assert Device.choose("cpu", "bfloat16", 3) == Device("cpu", torch.bfloat16, 3)
    with pytest.raises(InputError, match="batch of at least 1, got 0"):
        Device(batch=0)
    with pytest.raises(InputError, match="unknown precision 'int8'; use one of float32, bfloat16, float16"):
        Device.choose("cpu", "int8")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        assert Device.choose().name == "cpu"
        with pytest.raises(InputError, match=r"device cuda:1 cannot be used \(.*\); use auto, cpu or cuda"):
            Device.choose("cuda:1")
    with pytest.raises(InputError, match=r"device gpu cannot be used"):
        Device.choose("gpu")


def test_download_says_of_each_file_whether_it_is_here_and_who_may_fetch_it(nothing_here, capsys):
    assert main(["download", "--preset", "paper", "--dry-run"]) == 0
    listed = "".join(capsys.readouterr().out.split())
    assert main(["download", "--preset", "paper"]) == 1, "nothing can be fetched without a network"
    told = "".join(capsys.readouterr().out.split())
    for text in (listed, told):
        for word in ("Depth-Anything-V2-Large", "CCBY-NC4.0", "1341", "camerahmr", "register"):
            assert word in text, word
    assert not [path for path in (nothing_here / "cache").rglob("*") if path.is_file()]


def test_download_finds_what_is_here(nothing_here, photos, monkeypatch, capsys):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(photos.parent))
    assert main(["download", "--preset", "lite"]) == 0
    assert "yolox_nano.onnx" in "".join(capsys.readouterr().out.split())


def test_doctor_lists_every_file_once_with_licence_size_and_revision(nothing_here):
    found = {finding.name: finding for finding in examine()}
    depth = found["depth-anything/Depth-Anything-V2-Large-hf"]
    assert depth.topic == "experts paper, official" and not depth.fine
    assert depth.found == "missing (CC BY-NC 4.0 (non-commercial), 1341 MB, revision 7581137eff8d)"
    assert found["apple/DepthPro-hf"].topic == "experts (on demand)"
    assert found["viser"].topic == found["transformers"].topic == "system"
    names = [finding.name for finding in examine() if finding.topic.startswith("experts")]
    assert len(names) == len(set(names)) > 20


def test_download_takes_the_same_flags_as_reconstruct(nothing_here, capsys):
    assert main(["download", "--experts", "open", "--depth-model", "depth-pro", "--dry-run"]) == 0
    told = "".join(capsys.readouterr().out.split())
    assert "apple/DepthPro-hf" in told and "Depth-Anything" not in told


def test_a_damaged_folder_is_no_good_copy(nothing_here, capsys):
    folder = nothing_here / "assets" / "hub" / "apple--DepthPro-hf"
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "crowdmesh.json"):
        (folder / name).write_text("{")
    assert main(["doctor"]) == 0
    assert main(["download", "--experts", "open", "--depth-model", "depth-pro", "--dry-run"]) == 0
    assert "insteadof9c6811e3165485" in "".join(capsys.readouterr().out.split())
