"""Reading SMPL files that users bring, without running any code they may contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from crowdmesh._files import read_npz, reading
from crowdmesh._unpickle import ArrayUnpickler, Frozen

_WHAT = "SMPL model file"


class _ChumpyArray(metaclass=Frozen):
    """Stands in for a chumpy array of the original release: the numbers are in ``x``."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = dict(state)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.state["x"], dtype)


class _ChumpySelect(_ChumpyArray):
    """Stands in for a chumpy selection: entries ``idxs`` of the array ``a``."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        chosen = np.asarray(self.state["a"], dtype).ravel()[np.asarray(self.state["idxs"])]
        shape = self.state.get("preferred_shape")
        return chosen if shape is None else chosen.reshape(shape)


class _Sparse(metaclass=Frozen):
    """Stands in for a sparse matrix of SciPy, whose parts are checked before they become one."""

    kind = "csc"
    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = dict(state)

    def dense(self) -> np.ndarray:
        """The matrix in full."""
        shape = tuple(int(n) for n in self.state["_shape"])
        if max(shape) > _MAX_SIDE:
            raise ValueError(f"its sparse matrix is {' x '.join(map(str, shape))} large")
        parts = {name: np.asarray(value) for name, value in self.state.items() if name in _SPARSE_PARTS}
        if self.kind == "coo":
            at = self.state.get("coords") or (parts["row"], parts["col"])
            return scipy.sparse.coo_matrix((parts["data"], tuple(map(np.asarray, at))), shape=shape).toarray()
        make = scipy.sparse.csc_matrix if self.kind == "csc" else scipy.sparse.csr_matrix
        matrix = make((parts["data"], parts["indices"], parts["indptr"]), shape=shape)
        matrix.check_format(full_check=True)
        return matrix.toarray()


class _SparseRows(_Sparse):
    kind = "csr"


class _SparseList(_Sparse):
    kind = "coo"


class _Rebuild(metaclass=Frozen):
    """``copy_reg._reconstructor``: how old pickles make an object whose state follows."""

    def __new__(cls, made: Any, *_: Any) -> Any:
        if not (isinstance(made, Frozen) and issubclass(made, (_ChumpyArray, _Sparse))):
            raise ValueError("it makes an object that no body model needs")
        return object.__new__(made)


_MAX_SIDE = 1 << 20
_SPARSE_PARTS = ("data", "indices", "indptr", "row", "col")
_SPARSE_NAMES = {"csc_matrix": _Sparse, "csr_matrix": _SparseRows, "coo_matrix": _SparseList}
_PLAIN_NAMES: dict[tuple[str, str], Any] = {
    ("copy_reg", "_reconstructor"): _Rebuild,
    ("copyreg", "_reconstructor"): _Rebuild,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
}


class _SMPLUnpickler(ArrayUnpickler):
    """Knows the array types found in SMPL files and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "chumpy":
            return _ChumpySelect if name == "Select" else _ChumpyArray
        if module.startswith("scipy.sparse") and name in _SPARSE_NAMES:
            return _SPARSE_NAMES[name]
        if (module, name) in _PLAIN_NAMES:
            return _PLAIN_NAMES[module, name]
        return super().find_class(module, name)


def read_smpl_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an SMPL model file (``.pkl`` or ``.npz``), float64, with a dense joint regressor.

    Raises:
        FormatError: not an SMPL file, corrupt, or a pickle that contains anything but arrays.
    """
    with reading(path, _WHAT):
        raw: dict[str, Any] = {**read_npz(path, _WHAT)} if path.suffix.lower() == ".npz" else _unpickle(path)
        regressor = raw["J_regressor"]
        regressor = regressor.dense() if isinstance(regressor, _Sparse) else regressor
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
        return _SMPLUnpickler(file).read()


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
