"""Reading SMPL files that users bring, without running any code they may contain."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import read_npz, reading

_NUMPY_NAMES = {
    "_reconstruct": "numpy._core.multiarray",
    "scalar": "numpy._core.multiarray",
    "_frombuffer": "numpy._core.numeric",
    "ndarray": "numpy",
    "dtype": "numpy",
}
_SPARSE_NAMES = frozenset({"csc_matrix", "csr_matrix", "coo_matrix"})
_PLAIN_NAMES = {
    ("_codecs", "encode"),
    ("copy_reg", "_reconstructor"),
    ("copyreg", "_reconstructor"),
    ("__builtin__", "object"),
    ("builtins", "object"),
}

_WHAT = "SMPL model file"


class _ChumpyArray:
    """Stands in for a chumpy array of the original release: the numbers are in ``x``."""

    x: Any

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.x, dtype)


class _ChumpySelect(_ChumpyArray):
    """Stands in for a chumpy selection: entries ``idxs`` of the array ``a``."""

    a: Any
    idxs: Any
    preferred_shape: Any = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        chosen = np.asarray(self.a, dtype).ravel()[self.idxs]
        return chosen if self.preferred_shape is None else chosen.reshape(self.preferred_shape)


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the array types found in SMPL files and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        package = module.split(".")[0]
        if package == "chumpy":
            return _ChumpySelect if name == "Select" else _ChumpyArray
        if package == "numpy" and name in _NUMPY_NAMES:
            return getattr(importlib.import_module(_NUMPY_NAMES[name]), name)
        if module.startswith("scipy.sparse") and name in _SPARSE_NAMES:
            return getattr(importlib.import_module("scipy.sparse"), name)
        if (module, name) in _PLAIN_NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no body model needs")


def read_smpl_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an SMPL model file (``.pkl`` or ``.npz``), float64, with a dense joint regressor.

    Raises:
        FormatError: not an SMPL file, corrupt, or a pickle that contains anything but arrays.
    """
    with reading(path, _WHAT):
        raw: dict[str, Any] = {**read_npz(path, _WHAT)} if path.suffix.lower() == ".npz" else _unpickle(path)
        regressor = raw["J_regressor"]
        regressor = regressor.toarray() if hasattr(regressor, "toarray") else regressor
        arrays: dict[str, np.ndarray] = {
            name: np.asarray(raw[name], np.float64) for name in ("v_template", "shapedirs", "posedirs", "weights")
        }
        parents = np.asarray(raw["kintree_table"])[0].astype(np.int64)
        parents[0] = -1
        arrays["J_regressor"] = np.asarray(regressor, np.float64)
        arrays["parents"], arrays["faces"] = parents, np.asarray(raw["f"]).astype(np.int64)
        _check_shapes(arrays)
    return arrays


def _unpickle(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        try:
            return _ArrayUnpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise ValueError(str(error)) from error


def _check_shapes(arrays: dict[str, np.ndarray]) -> None:
    vertices, joints = len(arrays["v_template"]), len(arrays["parents"])
    expected = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, arrays["shapedirs"].shape[-1]),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "weights": (vertices, joints),
        "J_regressor": (joints, vertices),
        "faces": (len(arrays["faces"]), 3),
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"its {name} has shape {arrays[name].shape}, its mesh and joints need {shape}")
