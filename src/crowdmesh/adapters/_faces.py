"""Triangles from a file beside the people."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Int

from crowdmesh._files import read_npy, reading
from crowdmesh.adapters._files import check_archive
from crowdmesh.errors import InputError

_KEYS = ("faces", "f")
_WHAT = "file of triangles"


def read_faces(path: str | Path) -> Int[np.ndarray, "F 3"]:
    """(F, 3) vertex numbers from 0, of ``.npy``, ``.npz`` (entry ``faces``, or ``f`` as in SMPL's files) or ``.obj``.

    Raises:
        InputError: no such file, or of another kind.
        FormatError: damaged, or without triangles.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"file of triangles {path} does not exist")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".obj"):
        raise InputError(f"triangles are read from .npy, .npz or .obj, not from {path}")
    with reading(path, _WHAT):
        faces = read_npy(path, _WHAT) if suffix == ".npy" else _npz(path) if suffix == ".npz" else _obj(path)
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or not len(faces):
            raise ValueError(f"it must hold (F, 3) whole numbers, got {faces.dtype} {faces.shape}")
        return faces.astype(np.int64)


def _npz(path: Path) -> np.ndarray:
    if zipfile.is_zipfile(path):
        check_archive(path, _WHAT)
    with np.load(path, allow_pickle=False) as archive:  # entries that are not asked for stay closed
        for key in _KEYS:
            if key in archive.files:
                return archive[key]
    raise ValueError(f"it has no entry {' or '.join(map(repr, _KEYS))}")


def _obj(path: Path) -> np.ndarray:
    """Faces of a Wavefront file: numbers from 1, or back from the last vertex; texture and normal after slashes."""
    faces, vertices = [], 0
    for line in path.read_text("utf-8", errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices += 1
        elif words[:1] == ["f"]:
            corners = [int(word.split("/")[0]) for word in words[1:]]
            if len(corners) != 3:
                raise ValueError("it has faces that are no triangles; triangulate it")
            faces.append([corner - 1 if corner > 0 else vertices + corner for corner in corners])
    return np.array(faces, np.int64).reshape(-1, 3)
