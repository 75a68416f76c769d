"""Opening other systems' files: plain values, lists, dictionaries and arrays come out, whatever went in.

NumPy archives, JSON, pickles (with or without joblib's arrays, compressed or not) and files of ``torch.save``. Nothing
in them is run: pickles go through :mod:`crowdmesh._unpickle`, torch files through torch's own loader of tensors alone.
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import read_npy, read_npy_header, read_npz, reading
from crowdmesh._unpickle import UnpicklingError, plain
from crowdmesh.adapters._joblib import JoblibUnpickler
from crowdmesh.errors import FormatError, InputError

PICKLES = (".pkl", ".pickle", ".joblib")
TORCH = (".pt", ".pth")
WHAT = "table of people"

# People compress to a fifth or so. A file that grows more than this is built to fill the memory.
# Masks compress better: forty of 12 megapixels take 480 MB before they are packed.
_LARGEST_GROWTH, _HARMLESS_BYTES, _HARMLESS_ARRAYS = 200, 1 << 26, 1 << 29


def open_content(path: Path, unpickle: bool = False) -> Any:
    """What a file holds, as plain values, lists, dictionaries and arrays.

    Raises:
        InputError: no such file.
        FormatError: damaged, of a kind that is not known, or pickled without ``unpickle``.
    """
    if not path.is_file():
        raise InputError(f"people file {path} does not exist")
    suffix = path.suffix.lower()
    if suffix == ".json":
        with reading(path, WHAT):
            return json.loads(path.read_text("utf-8"))
    if zipfile.is_zipfile(path):
        check_archive(path, WHAT)
    if suffix in TORCH or (suffix in PICKLES and zipfile.is_zipfile(path)):
        return _torch(path)
    if suffix in PICKLES:
        _demand(path, unpickle)
        with reading(path, "pickle of people"):
            return _plain_content(_decompressed(path.read_bytes()))
    if suffix == ".npy":
        return _npy(path, unpickle)
    if suffix == ".npz" and (pickled := _pickled_entries(path)):
        _demand(path, unpickle)
        return _npz_of_objects(path, pickled)
    return read_npz(path, WHAT)


def _demand(path: Path, unpickle: bool) -> None:
    if not unpickle:
        raise FormatError(
            f"{path} holds pickled Python objects, which are read only on demand: give --unpickle (unpickle=True); "
            "nothing in it is run, only arrays, numbers, texts, lists and dictionaries are let in"
        )


def _torch(path: Path) -> Any:
    import torch

    with reading(path, "PyTorch file of people"):
        try:
            return plain(torch.load(path, map_location="cpu", weights_only=True))
        except UnpicklingError as error:
            raise ValueError("it holds other things than tensors; save tensors, or arrays as .npz") from error


def _npy(path: Path, unpickle: bool) -> Any:
    with reading(path, WHAT), path.open("rb") as file:
        dtype = read_npy_header(file)[1]
    if dtype.kind != "O":
        return read_npy(path, WHAT)
    _demand(path, unpickle)
    with reading(path, WHAT), path.open("rb") as file:
        read_npy_header(file)
        return _plain_content(file.read())


def _pickled_entries(path: Path) -> list[str]:
    """Names of the entries of an ``.npz`` that hold Python objects."""
    if not zipfile.is_zipfile(path):
        return []
    names = []
    with reading(path, WHAT), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                with archive.open(entry) as file:
                    if read_npy_header(file)[1].kind == "O":
                        names.append(entry.filename)
    return names


def check_archive(path: Path, what: str) -> None:
    """Refuse a zip file, as NumPy and torch write them, that unpacks to far more than people do."""
    with reading(path, what), zipfile.ZipFile(path) as archive:
        _check_growth(sum(entry.file_size for entry in archive.infolist()), path.stat().st_size, _HARMLESS_ARRAYS)


def _npz_of_objects(path: Path, pickled: list[str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    with reading(path, WHAT), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if entry.filename in pickled:
                _check_growth(entry.file_size, entry.compress_size)
            with archive.open(entry) as file:
                if entry.filename in pickled:
                    read_npy_header(file)
                    content[name] = _plain_content(file.read())
                else:
                    content[name] = np.lib.format.read_array(file, allow_pickle=False)
    return content


def _check_growth(unpacked: int, packed: int, harmless: int = _HARMLESS_BYTES) -> None:
    if unpacked > max(harmless, _LARGEST_GROWTH * packed):
        raise ValueError(f"it would unpack to {unpacked / 2**20:.0f} MiB, which no people do")


def _decompressed(data: bytes) -> bytes:
    """The pickle itself, which joblib may have compressed."""
    limit = max(_HARMLESS_BYTES, _LARGEST_GROWTH * len(data))
    if data[:2] == b"\x1f\x8b":
        with gzip.open(io.BytesIO(data)) as file:
            unpacked = file.read(limit + 1)
    elif data[:1] == b"\x78":
        unpacked = zlib.decompressobj().decompress(data, limit + 1)
    else:
        return data
    _check_growth(len(unpacked), len(data))
    return unpacked


def _plain_content(data: bytes) -> Any:
    """The content of a pickle, plain; an array of one object, as :func:`numpy.save` wraps it, becomes that object."""
    return plain(JoblibUnpickler(data).read())
