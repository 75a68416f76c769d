"""HumanFoV: the network against recorded outputs, its checkpoint, what it is shown and what its answer means."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from _hashed_weights import hashed_state, recorded_keys, relative_error
from torch import nn

from crowdmesh.errors import AssetError, FormatError
from crowdmesh.experts import humanfov
from crowdmesh.experts._device import Device
from crowdmesh.experts._hmr_head import HMRNetwork
from crowdmesh.experts._hrnet import FovNetwork
from crowdmesh.experts._weights import Account, describe, fill
from crowdmesh.experts.base import CameraExpert, InputImage
from crowdmesh.experts.humanfov import LAYOUT, HumanFoV, padded_square


class Stub(FovNetwork):
    """Answers with the mean red of the upper left corner as angle; counts its calls."""

    def __init__(self, answer=None) -> None:
        nn.Module.__init__(self)
        self.backbone = nn.Conv2d(1, 1, 1)
        self.answer = answer
        self.sizes: list[int] = []

    def forward(self, pictures):
        assert pictures.shape[1:] == (3, 256, 256)
        self.sizes.append(len(pictures))
        red = pictures[:, 0, 128, 128] * 0.229 + 0.485
        angle = red + 0.5 if self.answer is None else torch.full_like(red, self.answer)
        return torch.stack((torch.full_like(angle, 9.0), angle), 1), angle


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Make HumanFoV(path) run a stub."""
    (tmp_path / "w.ckpt").touch()

    def make(batch: int = 8, answer=None) -> tuple[HumanFoV, Stub]:
        network = Stub(answer)
        monkeypatch.setattr(humanfov, "load_network", lambda *_: (network, Account((), 0, (), ())))
        return HumanFoV(tmp_path / "w.ckpt", Device(batch=batch)), network

    return make


def flat(height: int, width: int, red: int = 0) -> InputImage:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = red
    return InputImage(pixels)


def test_the_network_gives_the_recorded_angles(vectors):
    with np.load(vectors / "camerahmr_humanfov.npz") as recorded, torch.inference_mode():
        with torch.device("meta"):
            network = FovNetwork()
        account = fill(network, hashed_state(network), LAYOUT)
        angles, features = network(torch.from_numpy(recorded["img"][1:]))
        assert relative_error(features, recorded["fov_feat"][1:]) < 1e-5
        assert relative_error(angles, recorded["fov_out"][1:]) < 1e-5
    assert account.left == ()


def test_every_tensor_of_the_release_has_its_place(vectors):
    state = recorded_keys(vectors / "humanfov_state_dict.json")
    with torch.device("meta"):
        network = FovNetwork()
    account = fill(network, state, LAYOUT, beside=("epoch",))
    left = {group.reason: group.names for group in account.left}
    assert sum(map(len, left.values())) + len(account.loaded) == len(state) == 1874
    assert set().union(*left.values(), account.loaded) == set(state)
    assert sorted(map(len, left.values())) == [2, 2, 311]
    unused = {"fc2.weight", "fc2.bias", "backbone.final_layer.weight", "backbone.final_layer.bias"}
    counters = {name for name in state if name.endswith(".num_batches_tracked")}
    assert set(state) - set(account.loaded) == unused | counters
    assert account.parameters == 67_677_178 - 1024 * 1025 - 24 * 49
    assert describe(state) == "HumanFoV"

    with torch.device("meta"):
        other = HMRNetwork(1, 64, 1)
        network = FovNetwork()
    with pytest.raises(
        FormatError, match=r"not the weights of HumanFoV, they look like CameraHMR \(1 blocks, 64 wide\)"
    ):
        fill(network, other.state_dict(), LAYOUT)
    with pytest.raises(FormatError, match=r"look like HumanFoV: of its tensors are 1 missing \(fc3.bias\)"):
        fill(network, {name: state[name] for name in state if name != "fc3.bias"}, LAYOUT)


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((300, 401), slice(32, 223), slice(0, 256)),  # 256 * 300 / 401 = 191.5, and half of 65 is 32
        ((401, 300), slice(0, 256), slice(32, 223)),
        ((20, 20), slice(0, 256), slice(0, 256)),
        ((16, 6000), slice(127, 128), slice(0, 256)),
    ],
)
def test_the_image_lies_in_the_middle_of_a_white_square(size, rows, columns):
    square = padded_square(np.full((*size, 3), (200, 10, 30), np.uint8))
    assert square.shape == (256, 256, 3)
    assert (square[rows, columns] == (200, 10, 30)).all()
    square[rows, columns] = 255
    assert (square == 255).all()


def test_shrinking_averages_over_areas():
    pixels = np.random.default_rng(0).integers(0, 256, (512, 1024, 3)).astype(np.uint8)
    blocks = pixels.reshape(128, 4, 256, 4, 3).mean((1, 3))
    assert np.abs(padded_square(pixels)[64:192] - blocks).max() <= 0.5


def test_the_second_angle_is_the_vertical_field_of_view(stub):
    expert, network = stub(batch=2)
    images = [flat(300, 400, 255), flat(400, 300), flat(64, 64, 51)]
    estimates = expert.estimate(images)
    assert network.sizes == [2, 1]
    for image, estimate, fov in zip(images, estimates, (1.5, 0.5, 0.7), strict=True):
        camera = estimate.camera
        assert camera.fx == camera.fy == pytest.approx(image.height / 2 / math.tan(fov / 2), rel=1e-6)
        assert (camera.cx, camera.cy) == (image.width / 2, image.height / 2)
        assert (camera.width, camera.height) == (image.width, image.height)
        assert estimate.source == "HumanFoV" and estimate.focal_std is None
    assert expert.estimate([]) == []
    assert isinstance(expert, CameraExpert)


@pytest.mark.parametrize("angle", [0.0, -1.0, 3.2, 0.001, math.nan])
def test_what_is_no_field_of_view_is_refused(stub, tmp_path, angle):
    expert, _ = stub(answer=angle)
    image = replace(flat(30, 40), path=tmp_path / "photo.jpg")
    with pytest.raises(AssetError, match=r"gives .*photo\.jpg a vertical field of view of .*°, which no camera has"):
        expert.estimate([image])


def test_a_missing_checkpoint_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for expert, where in (
        (HumanFoV(None, Device()), "in the asset folders"),
        (HumanFoV(tmp_path / "x", Device()), "x"),
    ):
        with pytest.raises(
            AssetError, match=rf"cam_model_cleaned\.ckpt is not .*{where}: .*register at https://camerahmr"
        ):
            expert.estimate([flat(30, 40)])
    assert [source.name for source in expert.sources()] == ["cam_model_cleaned.ckpt"]
