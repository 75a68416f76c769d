"""The columns of a NumPy archive, read some rows at a time: the archive may be larger than the memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from crowdmesh._files import read_npy_layout, reading
from crowdmesh._unpickle import ArrayUnpickler, PickledArray, plain
from crowdmesh.errors import FormatError

WHAT = "label file"

# Labels compress to a fifth or so. An archive, or a pickle in it, that grows more than this is built to fill the disk
# or the memory.
_LARGEST_GROWTH, _HARMLESS_BYTES, _HARMLESS_PICKLE = 200, 1 << 29, 1 << 26
_LARGEST_ROW = 1 << 20


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open ``.npz`` whose entries do not grow beyond measure; what goes wrong inside becomes one FormatError."""
    with reading(path, WHAT):
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not a NumPy .npz archive, or only a part of one")
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > max(_HARMLESS_BYTES, _LARGEST_GROWTH * path.stat().st_size):
                raise ValueError(f"it would unpack to {unpacked / 2**20:.0f} MiB, which no labels do")
            yield archive


def names_in(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays in an archive."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


class Column:
    """One array of an archive, whose rows are read once, from the first to the last.

    Pickled objects, and arrays whose first axis runs fastest, are read as a whole.

    Raises:
        ValueError: damaged, or without rows; one clause. FormatError: pickled, and that was not asked for.

    Attributes:
        name, shape, dtype: of the array.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str, unpickle: bool = False) -> None:
        self.name = name
        self._entry = archive.getinfo(f"{name}.npy")
        self._stream: IO[bytes] = archive.open(self._entry)
        self.shape, fortran, self.dtype = read_npy_layout(self._stream)
        self._next = 0
        self._whole: np.ndarray | None = None
        if self.dtype.hasobject:
            self._whole = unpickled(path, archive, name, unpickle)
            if not isinstance(self._whole, np.ndarray) or self._whole.shape != self.shape:
                raise ValueError(f"its {name!r} is no array of the shape it says")
        elif self.dtype.kind not in "fiubSU" or any(size < 0 for size in self.shape):
            raise ValueError(f"its {name!r} holds {self.dtype} of shape {self.shape}")
        else:
            self._check_size()
            if fortran and len(self.shape) > 1:
                flat = self._read(math.prod(self.shape), self.dtype)
                self._whole = flat.reshape(self.shape, order="F")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def _check_size(self) -> None:
        count, content = math.prod(self.shape), self._entry.file_size - self._stream.tell()
        if count * self.dtype.itemsize != content or (count and not self.dtype.itemsize):
            raise ValueError(f"its {self.name!r} says shape {self.shape} and has {content} bytes")
        if self.shape and self.row_bytes > _LARGEST_ROW:
            raise ValueError(f"its {self.name!r} has {self.row_bytes} bytes for one person")

    def scalar(self) -> Any:
        """The one value of an array without axes."""
        if self.shape:
            raise ValueError(f"its {self.name!r} must be one value, got shape {self.shape}")
        value = self._read(1, self.dtype)[0] if self._whole is None else self._whole[()]
        return value.item() if isinstance(value, np.generic) else value

    def take(self, count: int) -> np.ndarray:
        """The next rows, as many as are asked for.

        Raises:
            ValueError: the file ends before, or its checksum is wrong.
        """
        first, self._next = self._next, self._next + count
        if self._whole is not None:
            return self._whole[first : self._next]
        rows = self._read(count * math.prod(self.shape[1:]), self.dtype).reshape(count, *self.shape[1:])
        if self._next == self.shape[0]:
            self._stream.read(1)  # the end, where zip keeps the checksum
        return rows

    def _read(self, count: int, dtype: np.dtype) -> np.ndarray:
        data = bytearray()
        wanted = count * dtype.itemsize
        while len(data) < wanted:
            part = self._stream.read(min(wanted - len(data), 1 << 22))
            if not part:
                raise ValueError(f"its {self.name!r} ends after {len(data)} of {wanted} bytes")
            data += part
        return np.frombuffer(data, dtype, count) if count else np.zeros(0, dtype)


def unpickled(path: Path, archive: zipfile.ZipFile, name: str, unpickle: bool) -> Any:
    """What an array of Python objects holds: an array of texts, or plain values; nothing in it is run.

    Raises:
        FormatError: without ``unpickle``. ValueError: damaged, hostile, or too large unpacked; one clause.
    """
    if not unpickle:
        raise FormatError(
            f"{path} holds pickled Python objects ({name!r}), which are read only on demand: give --unpickle "
            "(unpickle=True); nothing in it is run, only arrays, numbers, texts, lists and dictionaries are let in"
        )
    entry = archive.getinfo(f"{name}.npy")
    if entry.file_size > max(_HARMLESS_PICKLE, _LARGEST_GROWTH * entry.compress_size):
        raise ValueError(f"its {name!r} would unpack to {entry.file_size / 2**20:.0f} MiB, which no labels do")
    with archive.open(entry) as file:
        read_npy_layout(file)
        content = ArrayUnpickler(file).read()
    array = content.value if isinstance(content, PickledArray) else None
    if array is None:
        raise ValueError(f"its {name!r} is no array")
    if array.dtype != object:
        return array
    if all(isinstance(value, (str, bytes)) for value in array.flat):
        return array  # names, whose bytes are UTF-8
    if array.shape == ():
        return plain(array.item())
    return np.asarray(plain(array))
