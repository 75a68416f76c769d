"""Reading pickles of arrays and plain values without running anything they ask for.

A pickle is a program: it names functions and has them called. Here every name it may use stands for a class of ours
that builds numbers and nothing else, and every other name is refused. Nothing of NumPy, SciPy or torch is called on the
file's behalf, so that a made-up dtype, shape or stride cannot reach their memory.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from typing import IO, Any

import numpy as np

UnpicklingError = pickle.UnpicklingError
"""What unpickling raises, here and in torch."""

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|O[48]?")
_MAX_DIMENSIONS = 16

# Storage types of torch and the numbers in them.
_STORAGES = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "LongStorage": "i8", "IntStorage": "i4",
    "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "b1",
}  # fmt: skip


class Frozen(type):
    """Metaclass of everything a pickle may name: the pickle cannot change its attributes."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise TypeError(f"it tries to change {cls.__name__}.{name}")


class PickledDtype(metaclass=Frozen):
    """Stands in for ``numpy.dtype``: plain numbers, truth values, texts and objects; no records."""

    def __init__(self, code: str, align: Any = False, copy: Any = True) -> None:
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise ValueError(f"it holds an array of the unusual type {str(code)[:20]!r}")
        self.dtype = np.dtype("O" if code[0] == "O" else code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise ValueError("it holds an array of records, which no annotation or body model needs")
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class PickledArray(metaclass=Frozen):
    """Stands in for ``numpy.ndarray`` and for torch tensors; ``value`` is the array."""

    value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("it holds an array whose state is damaged")
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.value is None:
            raise ValueError("it holds an array without content")
        return np.asarray(self.value, dtype)


class _Reconstruct(metaclass=Frozen):
    """``numpy.core.multiarray._reconstruct``: an array whose content follows as its state."""

    def __new__(cls, *_: Any) -> Any:
        return PickledArray()


class _FromBuffer(metaclass=Frozen):
    """``numpy.core.numeric._frombuffer``: an array at once."""

    def __new__(cls, data: Any, dtype: Any, shape: Any, order: Any) -> Any:
        array = PickledArray()
        array.value = _array(data, dtype, shape, "F" if order == "F" else "C")
        return array


class _Scalar(metaclass=Frozen):
    """``numpy.core.multiarray.scalar``: one number or text."""

    def __new__(cls, dtype: Any, data: Any) -> Any:
        array = _array(data, dtype, ())
        if array.dtype == object:
            raise ValueError("it holds a scalar that is no number or text")
        return array.item()


class _Encode(metaclass=Frozen):
    """``_codecs.encode``: how old pickles write bytes."""

    def __new__(cls, text: Any, encoding: Any = "latin1") -> Any:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "iso-8859-1"):
            raise ValueError("it holds bytes in an unusual encoding")
        return text.encode("latin1")


class _Storage(metaclass=Frozen):
    """``torch.storage._load_from_bytes``: the numbers behind tensors."""

    def __init__(self, data: Any) -> None:
        self.values = _storage(data)


class _Tensor(metaclass=Frozen):
    """``torch._utils._rebuild_tensor_v2``: a tensor, as an array; device, gradients and hooks are left out."""

    def __new__(cls, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
        array = PickledArray()
        array.value = _strided(storage, offset, size, stride)
        return array


_PLAIN_NAMES: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _Encode,
    ("collections", "OrderedDict"): dict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch._utils", "_rebuild_tensor"): _Tensor,
    ("torch.storage", "_load_from_bytes"): _Storage,
}
_NUMPY_NAMES: dict[str, Any] = {
    "_reconstruct": _Reconstruct,
    "_frombuffer": _FromBuffer,
    "scalar": _Scalar,
    "ndarray": PickledArray,
    "dtype": PickledDtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Knows arrays, tensors and plain values, and refuses every other name. A subclass may know more stand-ins."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; UnpicklingError if there is none."""
        if module.split(".")[0] == "numpy" and name in _NUMPY_NAMES:
            return _NUMPY_NAMES[name]
        if (module, name) in _PLAIN_NAMES:
            return _PLAIN_NAMES[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which holds no numbers, so that was not run")

    def read(self) -> Any:
        """The content, arrays as :class:`PickledArray`.

        Raises:
            ValueError: a name that is not known, or a damaged pickle; one clause. Other errors of the parser pass.
        """
        try:
            return self.load()
        except pickle.UnpicklingError as error:
            raise ValueError(str(error)) from error


class _StorageType(metaclass=Frozen):
    """A storage type of torch."""

    def __init__(self, code: str) -> None:
        self.dtype = np.dtype(code)


class _StorageUnpickler(ArrayUnpickler):
    """Reads the header of a storage: its type and length stand in a persistent id."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[1], _StorageType) or any(pid[5:]):
            raise ValueError("it holds a tensor of an unknown kind")
        return pid[1].dtype


def _storage(data: Any) -> np.ndarray:
    """The numbers of a storage in torch's older file format: five pickles, their count, the numbers."""
    if not isinstance(data, bytes):
        raise ValueError("it holds a damaged tensor")
    file = io.BytesIO(data)
    for _ in range(3):  # magic number, version, machine
        ArrayUnpickler(file).read()
    dtype = _StorageUnpickler(file).read()
    ArrayUnpickler(file).read()  # keys
    count, start = file.read(8), file.tell()
    if not isinstance(dtype, np.dtype) or len(count) < 8:
        raise ValueError("it holds a damaged tensor")
    values = data[start:]
    if int.from_bytes(count, "little") * dtype.itemsize != len(values):
        raise ValueError("it holds a tensor of another length than it says")
    return np.frombuffer(values, dtype.newbyteorder("<"))


def _strided(storage: Any, offset: Any, size: Any, stride: Any) -> np.ndarray:
    """A copy of the part of a storage that a tensor shows; never more numbers than the storage has."""
    shape, steps = _dimensions(size), _dimensions(stride)
    if not isinstance(storage, _Storage) or not isinstance(offset, int) or len(shape) != len(steps):
        raise ValueError("it holds a damaged tensor")
    values, count = storage.values, math.prod(shape)
    if count == 0:
        return np.zeros(shape, values.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if not 0 <= offset <= last < len(values) or count > len(values):
        raise ValueError("it holds a tensor that reaches beyond its numbers")
    places = np.full(shape, offset)
    for axis, (n, step) in enumerate(zip(shape, steps, strict=True)):
        places += (np.arange(n) * step).reshape(-1, *[1] * (len(shape) - axis - 1))
    return values[places]


def _array(data: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    """An array of exactly the numbers that the file has for it."""
    shape = _dimensions(shape)
    if not isinstance(dtype, PickledDtype):
        raise ValueError("it holds an array of an unknown type")
    count = math.prod(shape)
    if dtype.dtype == object:
        if not isinstance(data, list) or len(data) != count:
            raise ValueError("it holds an array of another length than it says")
        objects = np.empty(count, object)
        for place, value in enumerate(data):
            objects[place] = value
        return objects.reshape(shape, order=order)
    data = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(data, (bytes, bytearray)) or len(data) != count * dtype.dtype.itemsize:
        raise ValueError("it holds an array of another length than it says")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order) if count else np.zeros(shape, dtype.dtype)


def _dimensions(shape: Any) -> tuple[int, ...]:
    if (
        not isinstance(shape, (tuple, list))
        or len(shape) > _MAX_DIMENSIONS
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise ValueError("it holds an array of an impossible shape")
    return tuple(shape)


def plain(content: Any) -> Any:
    """What was read as plain dictionaries, lists, texts, numbers and arrays; an array of objects becomes those objects.

    Everything is opened once, however often it is referred to. Tensors of torch become arrays too.

    Raises:
        ValueError: it refers to itself, repeats itself beyond measure, or holds anything else.
    """
    opener = _Plain()
    value, written_out = opener.plain(content)
    if written_out > 1000 * len(opener.done) + 10**6:
        raise ValueError("it refers to the same values again and again, as no honest file does")
    return value


class _Plain:
    """Turns stand-ins into plain values and counts how many values that is when every reference is written out."""

    def __init__(self) -> None:
        self.done: dict[int, tuple[Any, int]] = {}
        self.open: set[int] = set()
        self.kept: list[Any] = []  # an id is only good as long as its value lives

    def plain(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, (str, bytes, bool, int, float, type(None))):
            return (value.decode("latin1") if isinstance(value, bytes) else value), 1
        key = id(value)
        if key in self.done:
            return self.done[key]
        if key in self.open:
            raise ValueError("it refers to itself")
        self.open.add(key)
        self.kept.append(value)
        self.done[key] = self._opened(value)
        self.open.remove(key)
        return self.done[key]

    def _opened(self, value: Any) -> tuple[Any, int]:
        if isinstance(value, (PickledArray, np.ndarray)):
            array = np.asarray(value)
            return self.plain(array.tolist()) if array.dtype == object else (array, 1)
        if isinstance(value, dict):
            parts = {name: self.plain(part) for name, part in value.items()}
            return {name: part for name, (part, _) in parts.items()}, 1 + sum(size for _, size in parts.values())
        if isinstance(value, (list, tuple)):
            items = [self.plain(part) for part in value]
            return [part for part, _ in items], 1 + sum(size for _, size in items)
        if hasattr(value, "detach"):  # a tensor; bfloat16 is unknown to NumPy
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError("it holds a tensor of more numbers than the file has for it")
            tensor = value.detach().cpu()
            return (tensor.float() if tensor.is_floating_point() else tensor).numpy(), 1
        raise ValueError(f"it holds {type(value).__name__.strip('_')} where a value should be")
