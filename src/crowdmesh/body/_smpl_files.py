"""Reading SMPL files that users bring, without running any code they may contain."""

from __future__ import annotations

import importlib
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.errors import FormatError

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
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                raw: dict[str, Any] = {name: archive[name] for name in archive.files}
        else:
            with path.open("rb") as file:
                raw = _ArrayUnpickler(file, encoding="latin1").load()
        regressor = raw["J_regressor"]
        regressor = regressor.toarray() if hasattr(regressor, "toarray") else regressor
        arrays: dict[str, np.ndarray] = {
            name: np.asarray(raw[name], np.float64) for name in ("v_template", "shapedirs", "posedirs", "weights")
        }
        parents = np.asarray(raw["kintree_table"])[0].astype(np.int64)
        parents[0] = -1
        arrays["J_regressor"] = np.asarray(regressor, np.float64)
        arrays["parents"], arrays["faces"] = parents, np.asarray(raw["f"]).astype(np.int64)
    except (
        OSError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise FormatError(f"{path} is not a readable SMPL model file: {what}") from error
    vertices, joints = len(arrays["v_template"]), len(arrays["parents"])
    if arrays["weights"].shape != (vertices, joints) or arrays["J_regressor"].shape != (joints, vertices):
        raise FormatError(f"{path} is not an SMPL model file: its weights and joint regressor do not match its mesh")
    return arrays
