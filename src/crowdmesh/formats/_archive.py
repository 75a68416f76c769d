"""Annotation files of the field: one dictionary "image name: record", pickled into an ``.npz`` or written as JSON."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from crowdmesh._files import read_npy_header, reading
from crowdmesh._unpickle import ArrayUnpickler, PickledArray, plain
from crowdmesh.errors import FormatError, InputError

KEY = "annots"
"""The entry that holds the dictionary, in both kinds of file."""

# Annotations compress to a fifth or so. A file that grows more than this is built to fill the memory.
_LARGEST_GROWTH, _HARMLESS_BYTES = 200, 1 << 26


def read_annots(path: str | Path, what: str, unpickle: bool = False) -> dict[str, Any]:
    """The dictionary "image name: record" of an annotation file, as plain dicts, lists, texts, numbers and arrays.

    ``.npz``: the entry ``annots`` is a pickled dictionary, as the field distributes it. ``.json``: an object with the
    one key ``annots`` and the same nesting, arrays as lists; nothing is pickled there.

    Args:
        what: what the file should be, for messages.
        unpickle: read pickled entries. Even then only arrays, tensors, numbers, texts, lists and dictionaries are let
            in, and every other name a pickle may ask for is refused.

    Raises:
        InputError: no such file, or of another kind.
        FormatError: pickled and ``unpickle`` not given, damaged, hostile, empty, or nested otherwise.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{what} {path} does not exist")
    if path.suffix.lower() not in (".npz", ".json"):
        raise InputError(f"{what} {path} must be .npz or .json")
    with reading(path, what):
        annots = _json(path) if path.suffix.lower() == ".json" else _npz(path, what, unpickle)
        if not isinstance(annots, dict) or not all(isinstance(name, str) for name in annots):
            raise ValueError(f"its {KEY} must be a dictionary of image names")
        if not annots:
            raise ValueError("it holds no images")
        return annots


def _json(path: Path) -> Any:
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict) or set(content) != {KEY}:
        raise ValueError(f"its top level must be an object with the one key {KEY!r}")
    return content[KEY]


def _npz(path: Path, what: str, unpickle: bool) -> Any:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a NumPy .npz archive")
    with zipfile.ZipFile(path) as archive:
        name = f"{KEY}.npy"
        if name not in archive.namelist():
            raise ValueError(f"it has no entry {KEY!r}; it has {', '.join(archive.namelist()[:5]) or 'none'}")
        entry = archive.getinfo(name)
        if entry.file_size > max(_HARMLESS_BYTES, _LARGEST_GROWTH * entry.compress_size):
            raise ValueError(f"it would unpack to {entry.file_size / 2**20:.0f} MiB, which no annotations do")
        with archive.open(entry) as file:
            shape, dtype = read_npy_header(file)
            if dtype.kind != "O" or shape != ():
                raise ValueError(f"its {KEY} must be one dictionary, got {dtype} of shape {shape}")
            if not unpickle:
                raise FormatError(
                    f"{path} is a {what} of pickled Python objects, which are read only on demand: if you trust its "
                    "source, opt in (unpickle=True, --allow-pickle), and still nothing but arrays, numbers, texts, "
                    "lists and dictionaries is let in; or convert it to .json"
                )
            content = ArrayUnpickler(file).read()
            array = content.value if isinstance(content, PickledArray) else None
            if array is None or array.dtype != object or array.size != 1:
                raise ValueError(f"its {KEY} must be one dictionary")
            return plain(array.reshape(-1)[0])
