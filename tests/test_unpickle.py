"""Pickled annotation files: what is harmless is read, and nothing else happens, whatever the file asks for."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from test_formats import pw3d_record, rng, write

from crowdmesh.errors import FormatError
from crowdmesh.formats import read_3dpw
from crowdmesh.formats._archive import read_annots


def write_pickle(path: Path, content: bytes) -> Path:
    """An archive whose entry is a pickle of our own making."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annots.npy", header.getvalue() + content)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol(tmp_path, protocol):
    annots = np.array(
        {"imageFiles/a.jpg": pw3d_record() | {"betas": np.asfortranarray(rng().normal(size=(2, 10)))}}, object
    )
    path = write_pickle(tmp_path / "a.npz", pickle.dumps(annots, protocol))
    people = read_3dpw(path, unpickle=True)["imageFiles/a.jpg"]
    np.testing.assert_array_equal(people.betas, annots.item()["imageFiles/a.jpg"]["betas"])


class _Call:
    """Pickles into a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class _Storage:
    """Pickles into a torch storage of the given bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.content,)


def tensor(offset: int, size: tuple, stride: tuple) -> _Call:
    storage = torch.zeros(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    return _Call(torch._utils._rebuild_tensor_v2, typed, offset, size, stride, False, {})


def wrapped(value: bytes) -> bytes:
    """The dictionary {"a": value} as NumPy saves it, for a pickled value of our own making."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85Vb\ntR(K\x01)cnumpy\ndtype\nVO\n\x85R\x89]("
        b"}Va\n" + value + b"setb."
    )


def laughs() -> list:
    value: list = [1.0]
    for _ in range(9):
        value = [value] * 20
    return value


def loop() -> list:
    value: list = []
    value.append(value)
    return value


HOSTILE = {
    "a shell": lambda: _Call(os.system, "touch owned"),
    "eval": lambda: _Call(builtins.eval, "open('owned', 'w')"),
    "exec inside an array": lambda: np.array([_Call(builtins.exec, "open('owned', 'w')")], object),
    "getattr": lambda: _Call(getattr, {}, "clear"),
    "a NumPy function": lambda: _Call(np.save, "owned", np.zeros(1)),
    "a file": lambda: _Call(open, "owned", "w"),
    "a tensor that runs code": lambda: _Call(
        torch._utils._rebuild_tensor_v2,
        _Storage(pickle.dumps(_Call(os.system, "touch owned"))), 0, (1,), (1,), False, {},
    ),
    "torch.load": lambda: _Call(torch.load, "owned"),
    "a tensor beyond its storage": lambda: tensor(0, (8,), (1,)),
    "a tensor before its storage": lambda: tensor(-2, (2,), (1,)),
    "a tensor stretched over its storage": lambda: tensor(0, (1000, 1000, 1000), (0, 0, 0)),
    "records": lambda: np.zeros(2, [("a", "f4")]),
    "dates": lambda: np.zeros(2, "M8[s]"),
    "a class": lambda: dict,
    "endless repetition": laughs,
    "itself": loop,
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused_even_on_demand(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    content = {"imageFiles/a.jpg": {"betas": HOSTILE[case]()}}
    path = write_pickle(tmp_path / "bad.npz", pickle.dumps(np.array(content, object), 4))
    with pytest.raises(FormatError, match=r"bad\.npz") as caught:
        read_3dpw(path, unpickle=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "owned").exists()
    if case in ("a shell", "eval", "getattr", "torch.load"):
        assert "it asks for" in str(caught.value) and "was not run" in str(caught.value)


RAW = {
    "change a class": b"cnumpy\ndtype\nN}(Vnumpy\nK\x01u\x86b.",
    "change a stand-in": b"c_codecs\nencode\nN}(Vx\nK\x01u\x86b.",
    "an array without content": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85Vb\ntR.",
    "a dictionary": b"}.",
    "a huge array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85Vb\ntR(K\x01J\xff\xff\xff"
    b"\x7f\x85cnumpy\ndtype\n(Vf8\ntR\x89U\x03abctb.",
    "deep nesting": wrapped(b"]" * 100_000 + b"a" * 99_999),
    "a set": wrapped(b"\x8f"),
    "nothing": b"",
    "noise": b"\x00\xff\x12",
}  # fmt: skip


@pytest.mark.parametrize("case", RAW)
def test_crafted_pickles_are_refused(tmp_path, case):
    from crowdmesh import _unpickle

    before = {name: dict(vars(value)) for name, value in vars(_unpickle).items() if isinstance(value, _unpickle.Frozen)}
    with pytest.raises(FormatError, match=r"bad\.npz is not a readable test file"):
        read_annots(write_pickle(tmp_path / "bad.npz", b"\x80\x02" + RAW[case]), "test file", unpickle=True)
    assert {name: dict(vars(getattr(_unpickle, name))) for name in before} == before


def test_the_wrapping_of_crafted_pickles_is_right(tmp_path):
    path = write_pickle(tmp_path / "good.npz", b"\x80\x02" + wrapped(b"K\x07"))
    assert read_annots(path, "test file", unpickle=True) == {"a": 7}


def test_truncated_files_are_refused_wherever_they_end(tmp_path):
    whole = write(tmp_path / "a.npz", {"imageFiles/a.jpg": pw3d_record(torch_tensors=True)}).read_bytes()
    for length in range(0, len(whole) - 1, 97):
        (tmp_path / "b.npz").write_bytes(whole[:length])
        with pytest.raises(FormatError, match=r"b\.npz is not a readable 3DPW annotation file"):
            read_3dpw(tmp_path / "b.npz", unpickle=True)


def test_damaged_pickles_give_sentences(tmp_path):
    """Bytes changed at random: read, or refused with one sentence, never anything else."""
    content = bytearray(pickle.dumps(np.array({"imageFiles/a.jpg": pw3d_record(torch_tensors=True)}, object), 4))
    random = rng(3)
    messages = []
    for _ in range(300):
        damaged = content.copy()
        for place in random.integers(0, len(content), 3):
            damaged[place] = random.integers(0, 256)
        path = write_pickle(tmp_path / "a.npz", bytes(damaged))
        try:
            read_3dpw(path, unpickle=True)
        except FormatError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_archives_that_explode_are_refused(tmp_path):
    content = pickle.dumps(np.array({"a": np.zeros(12_000_000)}, object), 4)
    with pytest.raises(FormatError, match=r"it would unpack to 92 MiB"):
        read_annots(write_pickle(tmp_path / "bomb.npz", content), "test file", unpickle=True)
