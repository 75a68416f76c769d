"""Files of MA-HMR weights: released ones converted, ours written and read, and everything that is wrong with a file."""

from __future__ import annotations

import json
import os
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released_weights import SMALL, official_state
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from crowdmesh.cli import main
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import MAHMR, MAHMRConfig, checkpoint, official
from crowdmesh.mahmr.checkpoint import UNTRAINED
from crowdmesh.mahmr.network import tensor_shapes


@pytest.fixture
def released(tmp_path) -> Path:
    """A small checkpoint in the release's layout."""
    torch.save(official_state(), tmp_path / "official.bin")
    return tmp_path / "official.bin"


@pytest.fixture
def converted(released) -> Path:
    checkpoint.convert(released, released.with_name("ours.safetensors"))
    return released.with_name("ours.safetensors")


def rewritten(path: Path, edit) -> Path:
    """A copy of a file of ours; ``edit(tensors, header)`` changes the tensors and may give another header."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["crowdmesh"])
    tensors = load_file(path)
    header = edit(tensors, header) or header
    save_file(tensors, path.with_name("edited.safetensors"), metadata={"crowdmesh": json.dumps(header)})
    return path.with_name("edited.safetensors")


class Code:
    """A pickle of this leaves a file behind when it is run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.system, (f"touch {self.mark}",))


def test_convert_keeps_every_number_and_no_body(released):
    out = released.with_name("ours.safetensors")
    state = official_state()
    done = checkpoint.convert(released, out)
    stored = load_file(out)
    weights = official.from_official(state)
    assert stored.keys() == weights.keys() == tensor_shapes(SMALL).keys()
    assert all(torch.equal(stored[name], weights[name]) for name in weights)
    assert not any("human_model" in name or len(tensor) == 6890 for name, tensor in stored.items())
    assert done.config == SMALL and done.description.startswith("MA-HMR stage 3")
    assert done.licence == "CC BY-NC 4.0 (MA-HMR weights; research only)"
    assert done.source_sha256 == checkpoint.sha256(released)
    assert done.tensors == len(weights)
    assert done.parameters == sum(tensor.numel() for name, tensor in weights.items() if name not in UNTRAINED)
    dropped = {group.group: (group.tensors, group.bytes) for group in done.dropped}
    assert dropped["human_model"] == (2, 6890 * (24 + 3) * 4)
    assert dropped["second names of box heads"][0] == 12
    assert dropped["z_order_map"] == (1, 64 * 64 * 4)

    loaded = checkpoint.load(out)
    assert loaded.config == SMALL
    assert loaded.provenance["source"] == "official.bin"
    assert loaded.provenance["source_sha256"] == done.source_sha256
    assert loaded.provenance["licence"] == done.licence
    assert loaded.provenance["file"] == "ours.safetensors" and loaded.provenance["sha256"] == checkpoint.sha256(out)


def test_equal_weights_give_equal_files(released):
    outs = [released.with_name(f"{i}.safetensors") for i in range(3)]
    for out in outs:
        checkpoint.convert(released, out)
    assert len({out.read_bytes() for out in outs}) == 1


def test_licences(tmp_path):
    torch.save(official_state(replace(SMALL, num_betas=10, fov=False)), tmp_path / "sat.pth")
    assert "SAT-HMR" in checkpoint.convert(tmp_path / "sat.pth", tmp_path / "a.safetensors").licence
    done = checkpoint.convert(tmp_path / "sat.pth", tmp_path / "b.safetensors", licence="as agreed")
    assert done.licence == checkpoint.load(tmp_path / "b.safetensors").provenance["licence"] == "as agreed"


def test_a_released_checkpoint_loads_as_it_is_in_any_container(released, tmp_path):
    state = official_state()
    torch.save({"model": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    one = {name: tensor for name, tensor in state.items() if not name.startswith("decoder.decoder.bbox_embed.")}
    save_file(one, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.save({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.bin")
    wanted = official.from_official(state)
    for name in ("official.bin", "old.pth", "model.safetensors", "half.bin"):
        loaded = checkpoint.load(tmp_path / name)
        assert loaded.config == SMALL and loaded.provenance["description"].startswith("MA-HMR stage 3")
        for key, tensor in wanted.items():
            expected = tensor.half().float() if name == "half.bin" else tensor
            assert loaded.weights[key].dtype == torch.float32 and torch.equal(loaded.weights[key], expected)
    converted = checkpoint.convert(tmp_path / "model.safetensors", tmp_path / "from safetensors.safetensors")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in load_file(converted.path).items())


def test_save_and_load_a_network(tmp_path):
    model = MAHMR(MAHMRConfig.tiny(112))
    model.decoder.content.data = model.decoder.content.data.t().contiguous().t()  # not contiguous
    path = tmp_path / "new folder" / "tiny.safetensors"
    checkpoint.save(model, path, "Apache-2.0", {"trained on": "nothing", "steps": 0})
    loaded = checkpoint.load(path)
    assert loaded.config == model.config
    assert loaded.provenance["trained on"] == "nothing" and loaded.provenance["licence"] == "Apache-2.0"
    assert all(torch.equal(loaded.weights[name], tensor) for name, tensor in model.state_dict().items())
    again = MAHMR.from_pretrained(path)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert again.provenance["sha256"] == checkpoint.sha256(path)

    before = path.read_bytes()
    with torch.no_grad():
        model.heads.confidence.bias.fill_(float("nan"))
    with pytest.raises(InputError, match=r"not finite \(heads.confidence.bias\)"):
        checkpoint.save(model, path, "Apache-2.0")
    assert path.read_bytes() == before and [p.name for p in path.parent.iterdir()] == ["tiny.safetensors"]


def test_what_cannot_be_written(tmp_path, released):
    model = MAHMR(MAHMRConfig.tiny(112))
    with pytest.raises(InputError, match=r"to a \.safetensors file"):
        checkpoint.save(model, tmp_path / "x.bin", "Apache-2.0")
    with pytest.raises(InputError, match="need a licence"):
        checkpoint.save(model, tmp_path / "x.safetensors", " ")
    with pytest.raises(InputError, match="values that JSON knows"):
        checkpoint.save(model, tmp_path / "x.safetensors", "Apache-2.0", {"path": tmp_path})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        checkpoint.convert(released, tmp_path / "file" / "x.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        checkpoint.convert(tmp_path / "none.bin", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_converting_twice_or_onto_itself_is_refused(converted):
    with pytest.raises(InputError, match="converted file already"):
        checkpoint.convert(converted, converted.with_name("again.safetensors"))
    save_file(official_state_without_aliases(), converted.with_name("theirs.safetensors"))
    with pytest.raises(InputError, match="is the checkpoint itself"):
        checkpoint.convert(converted.with_name("theirs.safetensors"), converted.with_name("theirs.safetensors"))


def official_state_without_aliases() -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in official_state().items() if "decoder.decoder.bbox" not in name}


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, legacy):
    mark = tmp_path / "was run"
    path = tmp_path / "bad.bin"
    torch.save(official_state() | {"extra": Code(mark)}, path, _use_new_zipfile_serialization=not legacy)
    for act in (checkpoint.load, lambda path: checkpoint.convert(path, tmp_path / "x.safetensors")):
        with pytest.raises(
            FormatError, match=r"bad\.bin holds other things than tensors .*nothing of it was run"
        ) as error:
            act(path)
        assert "\n" not in str(error.value) and "system" in str(error.value)
    path.write_bytes(pickle.dumps(Code(mark)))
    with pytest.raises(FormatError, match="holds other things than tensors"):
        checkpoint.load(path)
    assert not mark.exists() and not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda good: good[: len(good) // 2], "truncated"),
        (lambda good: good[:-1000], "truncated"),
        (lambda good: b"", "is not a PyTorch file of weights"),
        (lambda good: b"<html>not found</html>", "is not a PyTorch file of weights"),
        (lambda good: b"\x80\x02", "damaged"),
        (lambda good: pickle.dumps([1, 2], 2), "holds a list|damaged"),
    ],
)
def test_damaged_checkpoints(tmp_path, released, content, message):
    path = tmp_path / "broken.bin"
    path.write_bytes(content(released.read_bytes()))
    with pytest.raises(FormatError, match=message) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(3), "holds a Tensor instead of a dictionary"),
        ({"optimizer": {"lr": 1.0}}, "dictionary from names to tensors"),
        ({"a": torch.zeros(1)}, "something else"),
    ],
)
def test_other_things_in_a_pytorch_file(tmp_path, value, message):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(FormatError, match=message):
        checkpoint.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t, h: {"format": "other"}, "not that of MA-HMR weights"),
        (lambda t, h: ["x"], "not that of MA-HMR weights"),
        (lambda t, h: h | {"version": 2}, "format version 2, this CrowdMesh reads 1"),
        (lambda t, h: {k: v for k, v in h.items() if k != "config"}, "lacks config"),
        (lambda t, h: h | {"licence": None}, "lacks licence"),
        (lambda t, h: h | {"config": h["config"] | {"depth": 4}}, "14 missing"),
        (lambda t, h: h | {"config": h["config"] | {"depth": 10**9}}, "depth must lie between"),
        (lambda t, h: h | {"config": h["config"] | {"queries": 6}}, r"decoder.content \[5, 64\] instead of \[6, 64\]"),
        (lambda t, h: h | {"config": h["config"] | {"colour": "red"}}, "colour"),
        (lambda t, h: h | {"config": h["config"] | {"width": "64"}}, "width"),
        (lambda t, h: h | {"config": h["config"] | {"body": "smplx"}}, "unknown body"),
        (lambda t, h: t.pop("decoder.content") is None, r"1 missing \(decoder.content\)"),
        (lambda t, h: t.update({"human_model.v": torch.zeros(2)}), r"1 not part of it \(human_model.v\)"),
        (lambda t, h: t["encoder.position"][0, 0].fill_(torch.nan) is None, r"not finite \(encoder.position\)"),
        (lambda t, h: t.update({"decoder.content": t["decoder.content"].half()}), "must be float32"),
    ],
)
def test_files_of_ours_that_are_not_right(converted, edit, message):
    path = rewritten(converted, edit)
    with pytest.raises(FormatError, match=message) as error:
        checkpoint.load(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_damaged_and_foreign_safetensors(converted, tmp_path):
    good = converted.read_bytes()
    path = tmp_path / "x.safetensors"
    for content in (
        b"",
        b"hello, this is a text",
        good[: len(good) // 2],
        good[:-4],
        struct.pack("<Q", 1 << 60) + good[8:],
    ):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="is not a readable safetensors file"):
            checkpoint.load(path)
    save_file({"unet.weight": torch.zeros(2)}, path)
    with pytest.raises(FormatError, match=r"they look like something else \(unet.weight\)"):
        checkpoint.load(path)
    save_file(dict(load_file(converted)), path)  # ours, without its header
    with pytest.raises(FormatError, match="MA-HMR stage 3"):
        checkpoint.load(path)


def test_finding_weights(converted, tmp_path, monkeypatch):
    folders = [tmp_path / "assets", tmp_path / "more"]
    monkeypatch.setenv("CROWDMESH_ASSETS", os.pathsep.join(map(str, folders)))
    assert checkpoint.locate(converted) == converted
    assert checkpoint.locate(str(converted)) == converted
    with pytest.raises(InputError, match="there are no weights 'kid'") as error:
        checkpoint.locate("kid")
    assert all(str(folder / "mahmr" / "kid.safetensors") in str(error.value) for folder in folders)
    place = folders[1] / "mahmr" / "kid.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(converted.read_bytes())
    assert checkpoint.locate("kid") == checkpoint.locate("kid.safetensors") == place
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kid").mkdir()  # a folder of that name is no file of weights
    assert checkpoint.locate("kid") == place
    with pytest.raises(InputError, match="is a folder"):
        checkpoint.locate(tmp_path)
    for absent in ("there/is none.safetensors", "none.bin", "../kid"):
        with pytest.raises(InputError, match="does not exist"):
            checkpoint.locate(absent)


def test_half_the_size(tmp_path):
    """float16 in the file, float32 in memory, the same on the second round."""
    model = MAHMR(MAHMRConfig.tiny(112))
    whole, half, again = (tmp_path / f"{name}.safetensors" for name in ("whole", "half", "again"))
    checkpoint.save(model, whole, "Apache-2.0")
    checkpoint.save(model, half, "Apache-2.0", {"steps": 3}, half=True)
    assert half.stat().st_size < 0.51 * whole.stat().st_size + 10_000 and half.stat().st_size < 20_000_000
    loaded = checkpoint.load(half)
    assert loaded.config == model.config and loaded.provenance["steps"] == 3
    for name, tensor in checkpoint.load(whole).weights.items():
        assert loaded.weights[name].dtype == torch.float32 and torch.equal(loaded.weights[name], tensor.half().float())
    checkpoint.save(MAHMR.from_pretrained(half), again, "Apache-2.0", {"steps": 3}, half=True)
    assert all(torch.equal(tensor, loaded.weights[name]) for name, tensor in checkpoint.load(again).weights.items())


@pytest.mark.parametrize("source", ["ours.safetensors", "official.bin"])
def test_a_file_is_halved_on_the_command_line(converted, tmp_path, capsys, source):
    out = tmp_path / "small.safetensors"
    assert main(["convert", str(tmp_path / source), str(out), "--half"]) == 0, capsys.readouterr().err
    assert out.stat().st_size < 0.51 * converted.stat().st_size + 10_000
    whole, half = checkpoint.load(converted), checkpoint.load(out)
    assert half.config == whole.config and half.provenance["licence"] == whole.provenance["licence"]
    assert half.provenance["description"] == whole.provenance["description"]
    assert half.provenance["halved_sha256"] == checkpoint.sha256(tmp_path / source)
    assert all(torch.equal(half.weights[name], tensor.half().float()) for name, tensor in whole.weights.items())


def test_what_cannot_be_halved(converted, tmp_path):
    large = rewritten(converted, lambda tensors, header: tensors["decoder.content"].fill_(1e6) is None)
    with pytest.raises(InputError, match=r"too large for float16 \(decoder.content\)"):
        checkpoint.halve(large, tmp_path / "small.safetensors")
    with pytest.raises(InputError, match="is the checkpoint itself"):
        checkpoint.halve(converted, converted)


def test_half_files_that_are_wrong(tmp_path):
    model = MAHMR(MAHMRConfig.tiny(112))
    path = tmp_path / "half.safetensors"
    checkpoint.save(model, path, "Apache-2.0", half=True)
    with pytest.raises(FormatError, match="its storage is 'float8', this CrowdMesh reads float32 and float16"):
        checkpoint.load(rewritten(path, lambda tensors, header: header | {"storage": "float8"}))
    without = rewritten(path, lambda tensors, header: {k: v for k, v in header.items() if k != "storage"})
    with pytest.raises(FormatError, match="tensors must be float32"):
        checkpoint.load(without)
    with torch.no_grad():
        model.memory_projection.bias.fill_(1e5)
    with pytest.raises(InputError, match="not finite in float16"):
        checkpoint.save(model, path, "Apache-2.0", half=True)
