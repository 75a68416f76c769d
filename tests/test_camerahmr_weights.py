"""CameraHMR's network against recorded outputs, and its checkpoints: what is in them, and which are refused."""

from __future__ import annotations

import os
import sys
import types
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from _hashed_weights import hashed_state, recorded_keys, relative_error
from _small_hmr import build, lightning, small_state

from crowdmesh.errors import FormatError
from crowdmesh.experts._hmr_head import HMRNetwork, rotations_from_6d
from crowdmesh.experts._weights import fill, load_network
from crowdmesh.experts.camerahmr import LAYOUT


def test_the_network_gives_the_recorded_answers(vectors):
    with np.load(vectors / "camerahmr_humanfov.npz") as recorded, torch.inference_mode():
        with torch.device("meta"):
            network = HMRNetwork(depth=2)
        fill(network, hashed_state(network), LAYOUT)
        seen: list[torch.Tensor] = []
        network.backbone.register_forward_hook(lambda *call: seen.append(call[2]))
        output = network(*(torch.from_numpy(recorded[name][:1]) for name in ("img", "bbox_info")))
        assert relative_error(seen[0].transpose(1, 2).unflatten(2, (16, 12)), recorded["vit_feats"][:1]) < 1e-5
        for found, name in (
            (output.rotations[:, :1], "global_orient"),
            (output.rotations[:, 1:], "body_pose"),
            (output.betas, "betas"),
            (output.weak_camera, "pred_cam"),
        ):
            assert relative_error(found, recorded[name][:1]) < 5e-5, name


def test_rotations_from_6d_hold_for_columns_that_are_not_orthonormal():
    turn = roma.random_rotmat(50, dtype=torch.float64)
    skewed = torch.cat((3.0 * turn[..., 0], 0.2 * turn[..., 1] - 1.5 * turn[..., 0]), -1)
    assert torch.allclose(rotations_from_6d(skewed), turn)


def test_every_tensor_of_the_release_has_its_place(vectors):
    state = recorded_keys(vectors / "camerahmr_state_dict.json")
    with torch.device("meta"):
        network = HMRNetwork()
    account = fill(network, state, LAYOUT)
    (left,) = account.left
    assert left.names == ("smpl_head.deckp.weight", "smpl_head.deckp.bias") and "keypoints" in left.reason
    assert len(account.loaded) == len(state) - 2 == 503
    assert account.parameters == 670_712_053 - 88 * 1025


def test_a_trainers_checkpoint_comes_back_with_everything_accounted_for(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(lightning(small_state()), path)
    network, account = load_network(path, build, LAYOUT)
    wanted = small_state()
    assert network.state_dict().keys() == wanted.keys() == set(account.loaded)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in network.state_dict().items())
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    left = {name: group.reason for group in account.left for name in group.names}
    assert left == {
        "cam_model.fc1.weight": "HumanFoV, which is read from its own file",
        "smpl.lbs_weights": "SMPL, which is read from the user's own files",
        "smpl_layer.faces": "SMPL, which is read from the user's own files",
        "smpl_head.deckp.bias": "2D keypoints of the head, which nothing reads",
        "initialized": "a mark of training",
        "ema.decay": "not known, not needed",
    }
    assert account.beside == ("epoch", "optimizer_states")
    assert sum(group.bytes for group in account.left) == 32 + 24 + 120 + 352 + 1 + 4


@pytest.mark.parametrize("legacy", [False, True])
def test_a_trainers_settings_do_no_harm(tmp_path, monkeypatch, legacy):
    """Classes of OmegaConf and yacs, which are not installed here: what is made of them is dropped."""

    class DictConfig:
        def __init__(self) -> None:
            self._content = {"lr": DictConfig.__new__(DictConfig), "any": dict, "path": Path("x")}

    class CfgNode(dict):
        pass

    for module, kind in (("omegaconf.dictconfig", DictConfig), ("yacs.config", CfgNode)):
        kind.__module__, kind.__qualname__ = module, kind.__name__
        for name in (module.split(".")[0], module):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[module], kind.__name__, kind)
    settings = CfgNode(TRAIN=CfgNode(LR=1e-4))
    settings.frozen = True
    saved = lightning(small_state(), hyper_parameters={"cfg": DictConfig(), "yacs": settings})
    saved["counts"] = defaultdict(int, a=1)
    torch.save(saved, tmp_path / "x.ckpt", _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, "omegaconf.dictconfig")
    monkeypatch.delitem(sys.modules, "yacs.config")
    _, account = load_network(tmp_path / "x.ckpt", build, LAYOUT)
    assert account.beside == ("epoch", "optimizer_states", "hyper_parameters", "counts")


class Code:
    """A pickle of this leaves a file behind when it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(lightning(small_state(), callbacks=Code(tmp_path / "was run")), path)
    with pytest.raises(FormatError, match=r"x\.ckpt holds other things than tensors .*system.*nothing of it was run"):
        load_network(path, build, LAYOUT)
    assert not (tmp_path / "was run").exists()


def without(name: str):
    return lambda state: state.pop(name) is None


def with_(name: str, tensor: torch.Tensor):
    return lambda state: state.update({name: tensor})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            without("smpl_head.decpose.bias"),
            r"look like CameraHMR \(1 blocks, 64 wide\): .*1 missing \(smpl_head.decpose",
        ),
        (
            with_("smpl_head.transformer.to_token_embedding.weight", torch.zeros(1024, 1)),
            r"look like HMR 2.0 .*\[1024, 1\] instead of \[1024, 160\]",
        ),
        (with_("backbone.blocks.1.norm1.weight", torch.zeros(64)), r"\(2 blocks.*1 not part of it \(backbone.blocks.1"),
        (with_("backbone.last_norm.bias", torch.zeros(64, dtype=torch.int64)), r"1 whole numbers \(backbone.last_norm"),
        (with_("backbone.last_norm.bias", torch.full((64,), torch.nan)), r"not finite \(backbone.last_norm.bias\)"),
        (lambda state: [state.pop(k) for k in list(state) if "smpl_head" in k], r"look like a bare ViT \(1 blocks"),
        (lambda state: (state.clear(), state.update(a=torch.zeros(1))), r"look like something else \(a\)"),
        (lambda state: state.clear(), "dictionary from names to tensors"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path, edit, message):
    state = small_state()
    edit(state)
    torch.save({"state_dict": state}, tmp_path / "x.ckpt")
    with pytest.raises(FormatError, match=message) as error:
        load_network(tmp_path / "x.ckpt", build, LAYOUT)
    assert str(error.value).startswith(str(tmp_path / "x.ckpt")) and "\n" not in str(error.value)
