"""The network without data-dependent shapes, as an ONNX file, and compiled."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import MAHMR, MAHMRConfig, export
from crowdmesh.mahmr.export import export_onnx
from crowdmesh.mahmr.fixed_shape import FixedShape, normalised

H, W = 112, 168
SIZES = torch.tensor([(100, 150), (112, 168)])
OUTPUTS = ["confidences", "boxes", "betas", "translations", "vertical_fov"]
MAPS = {"mixed": None, "nobody": (-5.0, 5.0), "all small": (5.0, -5.0), "nobody small": (5.0, 5.0)}


def make(map_logits: tuple[float, float] | None = None, quirks: bool = False, depths: int = 2) -> MAHMR:
    """A small network with varied outputs; its scale map varies, or is the same everywhere."""
    config = replace(
        MAHMRConfig.tiny(168), width=48, depth=depths + 1, early_depth=depths, queries=5, decoder_depth=depths,
        decoder_hidden=64, pose_depth=2, official_quirks=quirks,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MAHMR(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        last = model.encoder.map_head.layers[-1]
        if map_logits is None:  # spread out over both thresholds
            logits = model.encoder([torch.randn(3, H, W)]).scale_map.logit()
            rate = 2 / logits.std(0)
            last.weight.mul_(rate[:, None])
            last.bias.sub_(logits.mean(0)).mul_(rate).sub_(torch.tensor((2.0, 0.0)))
        else:
            last.weight.zero_()
            last.bias.copy_(torch.tensor(map_logits))
    return model


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    random = np.random.default_rng(1)
    blocks = random.integers(0, 256, (2, H // 28, W // 28, 3)).repeat(28, 1).repeat(28, 2)
    noisy = (blocks + random.normal(0, 30, blocks.shape)).clip(0, 255).astype(np.uint8)
    noisy[0, SIZES[0, 0] :], noisy[0, :, SIZES[0, 1] :] = 0, 0
    return torch.from_numpy(noisy)


@torch.no_grad()
def ragged(model: MAHMR, pixels: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[int]]:
    """What the network itself says, and its numbers of tokens."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = [((picture / 255 - mean) / std).permute(2, 0, 1) for picture in pixels]
    output = model(images, SIZES)
    values = {name: getattr(output, name) for name in OUTPUTS}
    values["scale_map"] = output.scale_map.unflatten(0, (len(images), -1))
    values["rotations"] = model.people(output.hidden_states)[0]
    return values, output.token_lengths.tolist()


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 2e-5) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("quirks", [False, True])
@pytest.mark.parametrize("kind", MAPS)
def test_fixed_shape_says_what_the_network_says(kind, quirks, pixels):
    model = make(MAPS[kind], quirks)
    expected, lengths = ragged(model, pixels)
    cells = H * W // 28**2
    per_cell = {"nobody": 0.25, "all small": 5 if quirks else 4, "nobody small": 1}
    assert lengths == [per_cell[kind] * cells] * 2 if kind in per_cell else lengths[0] != lengths[1]
    with torch.no_grad():
        found = FixedShape(model, H, W, batch=2)(pixels, SIZES)
    assert list(found) == ["confidences", "boxes", "rotations", "betas", "translations", "vertical_fov", "scale_map"]
    assert_same(found, expected)


def test_test_network_uses_all_levels(pixels):
    """Else the comparison above would say little."""
    model = make()
    with torch.no_grad():
        encoded = model.encoder(list(normalised(pixels)))
    assert all(int((encoded.level == level).sum()) >= 4 for level in range(3))


@pytest.mark.parametrize("kind", MAPS)
def test_room_for_as_many_tokens_as_there_are_is_enough(kind, pixels):
    model = make(MAPS[kind])
    expected, lengths = ragged(model, pixels)
    with torch.no_grad():
        found = FixedShape(model, H, W, batch=2, max_tokens=max(lengths))(pixels, SIZES)
    assert found["dropped_tokens"].tolist() == [0, 0]
    assert_same(found, expected)


def test_tokens_without_room_are_counted(pixels):
    model = make()
    _, lengths = ragged(model, pixels)
    room = min(lengths) - 3
    with torch.no_grad():
        found = FixedShape(model, H, W, batch=2, max_tokens=room)(pixels, SIZES)
    assert found["dropped_tokens"].tolist() == [length - room for length in lengths]
    assert all(bool(value.isfinite().all()) for value in found.values())


def test_more_room_than_tokens_could_be(pixels):
    model = make()
    with torch.no_grad():
        found = FixedShape(model, H, W, batch=2, max_tokens=10**6)(pixels, SIZES)
    assert found["dropped_tokens"].tolist() == [0, 0]
    assert_same(found, ragged(model, pixels)[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 100}, "multiples of 56"),
        ({"width": 0}, "multiples of 56"),
        ({"height": 224}, "up to the network's 168 pixels"),
        ({"batch": 0}, "at least 1"),
        ({"max_tokens": 5}, "at least 6"),
    ],
)
def test_sizes_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        FixedShape(make(), **{"height": H, "width": W} | values)


def test_missing_libraries_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"needs onnxscript, not .*pip install 'crowdmesh\[onnx\]'"):
        export_onnx(make(), tmp_path / "net.onnx", H, W)


@pytest.fixture
def onnxruntime():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    return pytest.importorskip("onnxruntime")


def test_only_onnx_files_are_written(tmp_path, onnxruntime):
    with pytest.raises(InputError, match=r"\.onnx"):
        export_onnx(make(), tmp_path / "net.pt", H, W)


def test_room_too_small_for_any_test_picture(tmp_path, onnxruntime):
    with pytest.raises(InputError, match="have 96 and more"):
        export_onnx(make(MAPS["all small"]), tmp_path / "net.onnx", H, W, max_tokens=50)


def stand_in_for_onnx(monkeypatch, model: MAHMR, error: float) -> None:
    """A file of some bytes, whose results are the network's with an error in the shapes."""

    def run(path, pixels, sizes):
        assert path.read_bytes() == b"a network"
        with torch.no_grad():
            values = FixedShape(model, H, W)(pixels, sizes)
        return "runtime", {name: value.numpy() + error * (name == "betas") for name, value in values.items()}

    monkeypatch.setattr(export, "_write", lambda fixed, path, example, outputs: path.write_bytes(b"a network"))
    monkeypatch.setattr(export, "_run_onnx", run)


def test_a_file_that_says_something_else_is_not_kept(tmp_path, monkeypatch, onnxruntime):
    model = make()
    stand_in_for_onnx(monkeypatch, model, 0.01)
    with pytest.raises(FormatError, match=r"betas .* differs by 0\.01"):
        export_onnx(model, tmp_path / "net.onnx", H, W)
    assert not list(tmp_path.iterdir())


def test_what_the_check_says(tmp_path, monkeypatch, onnxruntime):
    model = make()
    stand_in_for_onnx(monkeypatch, model, 1e-4)
    check = export_onnx(model, tmp_path / "net.onnx", H, W)
    assert check.path.read_bytes() == b"a network" and check.bytes == 9 and check.runtime == "runtime"
    assert check.differences.pop("betas") == pytest.approx(1e-4, rel=0.1)
    assert max(check.differences.values()) < 2e-5
    assert check.most_tokens == 126 and 6 < check.tokens[0] < 96


def run_onnx(runtime, path, pixels) -> tuple[dict[str, torch.Tensor], dict]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {"pixels": pixels.numpy(), "image_sizes": SIZES[: len(pixels)].numpy()})
    entry = json.loads(session.get_modelmeta().custom_metadata_map["crowdmesh"])
    return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}, entry


@pytest.mark.slow
def test_onnx_export(tmp_path, onnxruntime, pixels):
    model = make(depths=1)
    model.provenance = {"licence": "to be tested only", "file": "somewhere.bin"}
    check = export_onnx(model, tmp_path / "net.onnx", H, W)
    assert max(check.differences.values()) < 1e-4
    assert check.most_tokens == 21 * 6 and [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    weights = sum(parameter.nbytes for parameter in model.parameters())
    assert weights < check.bytes < weights + 400_000  # no body model in it
    assert b"site-packages" not in check.path.read_bytes()
    found, entry = run_onnx(onnxruntime, check.path, pixels[:1])
    assert entry["licence"] == "to be tested only" and entry["max_tokens"] is None
    assert MAHMRConfig.from_dict(entry["config"]) == model.config
    assert len(entry["joints"]) == found["rotations"].shape[2]
    expected = {name: value[:1] for name, value in ragged(model, pixels)[0].items()}
    assert_same(found, expected, 1e-4)


@pytest.mark.slow
def test_onnx_export_with_room_for_some_tokens(tmp_path, onnxruntime, pixels):
    model = make()
    expected, lengths = ragged(model, pixels)
    check = export_onnx(model, tmp_path / "net.onnx", H, W, batch=2, max_tokens=max(lengths))
    assert max(check.tokens) <= check.most_tokens == max(lengths)
    found, _ = run_onnx(onnxruntime, check.path, pixels)
    assert found["dropped_tokens"].tolist() == [0, 0]
    assert_same(found, expected, 1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_compiled_parts_agree_and_compile_once():
    from torch._dynamo.utils import counters

    model = make()
    random = torch.Generator().manual_seed(0)
    images = [torch.randn(3, 56 * h, 56 * w, generator=random) for h in (1, 2, 3) for w in (1, 2, 3)]
    images.append(torch.randn(3, 168, 168, generator=random))
    with torch.inference_mode():
        before = [model.encoder([image]) for image in images]
        states = [model.decode(encoded) for encoded in before]
        assert len({encoded.lengths[0] for encoded in before}) >= 6
        counters.clear()
        model.compile_parts()
        for i, image in enumerate(images):
            encoded = model.encoder([image])
            if i == 2:
                compiled = counters["stats"]["unique_graphs"]
            torch.testing.assert_close(encoded.tokens, before[i].tokens, atol=1e-5, rtol=0)
            decoded = model.decode(encoded)
            torch.testing.assert_close(decoded.hidden, states[i].hidden, atol=1e-5, rtol=0)
            torch.testing.assert_close(decoded.boxes, states[i].boxes, atol=1e-5, rtol=0)
    assert 4 <= counters["stats"]["unique_graphs"] <= 6
    assert compiled <= counters["stats"]["unique_graphs"] <= compiled + 2
