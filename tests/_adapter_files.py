"""Writing other systems' files: archives, JSON, torch, joblib's pickles, COCO's run lengths."""

from __future__ import annotations

import io
import json
import pickle
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch


def coco_runs(mask: np.ndarray) -> str:
    """COCO's compressed run lengths of a mask, as its authors describe them."""
    flat = mask.T.reshape(-1).astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [len(flat)]))).tolist()
    runs = [0, *runs] if flat[0] else runs
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != -1 if group & 16 else value != 0
            text += chr((group | 32 if more else group) + 48)
    return text


def _write_npz(path: Path, content: Any) -> None:
    arrays = {}
    for name, value in (content if isinstance(content, dict) else {"data": content}).items():
        arrays[name] = value if isinstance(value, np.ndarray) else _object(value)
    np.savez(path, allow_pickle=True, **arrays)


def _object(value: Any) -> np.ndarray:
    array = np.empty((), object)
    array[()] = value
    return array


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, default=lambda value: np.asarray(value).tolist()))


def _write_torch(path: Path, content: Any) -> None:
    torch.save(_tensors(content), path)


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tensors(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_tensors(part) for part in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


_PythonPickler: Any = pickle._Pickler  # type: ignore[attr-defined]


class JoblibPickler(_PythonPickler):
    """Writes arrays as joblib 1.2 does: a description in the pickle, padding and raw numbers right behind it."""

    framer: Any
    target: io.BytesIO

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is not np.ndarray or obj.dtype == object:
            super().save(obj, save_persistent_id)
            return
        super().save(NumpyArrayWrapper(obj))
        self.framer.commit_frame(force=True)
        padding = 16 - (self.target.tell() + 1) % 16
        self.target.write(bytes([padding]) + b"\xff" * padding + obj.tobytes("C"))


class NumpyArrayWrapper:
    """joblib's word for an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.subclass, self.shape, self.order, self.dtype = np.ndarray, array.shape, "C", array.dtype
        self.allow_mmap, self.numpy_array_alignment_bytes = True, 16


NumpyArrayWrapper.__module__ = "joblib.numpy_pickle"


def joblib_dump(content: Any, protocol: int) -> bytes:
    """What ``joblib.dump`` writes."""
    module = types.ModuleType("joblib.numpy_pickle")
    module.NumpyArrayWrapper = NumpyArrayWrapper  # type: ignore[attr-defined]
    sys.modules["joblib"], sys.modules["joblib.numpy_pickle"] = types.ModuleType("joblib"), module
    try:
        file = io.BytesIO()
        pickler = JoblibPickler(file, protocol)
        pickler.target = file
        pickler.dump(content)
        return file.getvalue()
    finally:
        del sys.modules["joblib"], sys.modules["joblib.numpy_pickle"]


def _write_pickle(path: Path, content: Any) -> None:
    path.write_bytes(zlib.compress(joblib_dump(content, 4), 3))


WRITERS = {".npz": _write_npz, ".json": _write_json, ".pt": _write_torch, ".pkl": _write_pickle}
