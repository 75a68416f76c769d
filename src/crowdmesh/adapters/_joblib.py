"""Pickles of joblib, which writes the numbers of an array right behind the pickle's word for it.

joblib's ``NumpyArrayWrapper`` says type, shape and order; a byte of padding length, the padding, and the raw numbers
follow (before joblib 1.2 without padding). PHALP and PromptHMR write such files. Plain pickles are read just as well.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from crowdmesh._unpickle import ArrayUnpickler, Frozen, PickledArray, PickledDtype


class _Unhurried:
    """A file that an unpickler cannot read ahead of, so that it stands where the next array begins."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.read, self.readline, self.tell = self._file.read, self._file.readline, self._file.tell


class _NoBytes(metaclass=Frozen):
    """``bytes()``: how old pickles write an empty array's numbers."""

    def __new__(cls, *content: Any) -> Any:
        if content:
            raise ValueError("it holds bytes in an unusual form")
        return b""


class JoblibUnpickler(ArrayUnpickler):
    """Knows arrays, tensors and plain values, also as joblib writes them, and refuses every other name."""

    def __init__(self, data: bytes) -> None:
        self._source = _Unhurried(data)
        super().__init__(self._source)  # type: ignore[arg-type]

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; UnpicklingError if there is none."""
        if (module, name) == ("joblib.numpy_pickle", "NumpyArrayWrapper"):
            return _following(self._source)
        if name == "bytes" and module in ("builtins", "__builtin__"):
            return _NoBytes
        return super().find_class(module, name)


def _following(source: _Unhurried) -> Any:
    """A stand-in whose state announces that its numbers come next in the source."""

    class Following(PickledArray):
        def __setstate__(self, state: Any) -> None:
            if not isinstance(state, dict) or not isinstance(state.get("dtype"), PickledDtype):
                raise ValueError("it holds a damaged array")
            dtype, shape, order = state["dtype"].dtype, state.get("shape"), state.get("order")
            whole = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
            if dtype.kind == "O" or not whole or len(shape) > 16:  # type: ignore[arg-type]
                raise ValueError("it holds an array of objects or of an impossible shape")
            if state.get("numpy_array_alignment_bytes") is not None:
                source.read(source.read(1)[0])
            size = math.prod(shape) * dtype.itemsize  # type: ignore[arg-type]
            data = source.read(size)
            if len(data) != size:
                raise ValueError("it ends in the middle of an array")
            self.value = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")  # type: ignore

    return Following
