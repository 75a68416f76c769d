"""Depth maps from monocular networks: numbers *with a kind*, so that nothing downstream guesses their sign."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh._files import read_npy, read_npz, reading
from crowdmesh.errors import FormatError, InputError

DepthKind = Literal["disparity", "depth", "metric"]

# The reciprocal of every larger number is finite.
_SMALLEST_DISPARITY = 1.0 / np.finfo(np.float64).max


def usable_depth(values: Float[np.ndarray, "*n"], kind: DepthKind) -> Bool[np.ndarray, "*n"]:
    """Which values carry a depth: the finite ones, without zeros, which mean "no value" in every kind of map.

    Disparity and metric depth must be positive, and a disparity large enough for its reciprocal to be finite.
    """
    finite = np.isfinite(values)
    if kind == "depth":
        return finite & (values != 0)
    return finite & (values > (_SMALLEST_DISPARITY if kind == "disparity" else 0))


@dataclass(frozen=True, eq=False)
class RelativeDepth:
    """A depth map of one image.

    Attributes:
        values: (H, W) float; NaN, infinities, zeros and (for disparity and metric) negative values are allowed and
            count as missing.
        kind: ``"disparity"`` larger = nearer, affine-invariant (Depth Anything V2); ``"depth"`` larger = farther,
            affine-invariant; ``"metric"`` metres along z.
    """

    values: Float[np.ndarray, "H W"]
    kind: DepthKind

    def __post_init__(self) -> None:
        if self.kind not in get_args(DepthKind):
            raise InputError(f"unknown depth kind {self.kind!r}; use one of {', '.join(get_args(DepthKind))}")
        try:
            values = np.asarray(self.values)
        except ValueError as error:
            raise InputError(f"a depth map must be a regular (height, width) array: {error}") from error
        if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiu":
            raise InputError(f"a depth map must hold (height, width) numbers, got {values.dtype} {values.shape}")
        if values.dtype.kind != "f":
            values = values.astype(np.float32)
        object.__setattr__(self, "values", values)
        if not self.valid().any():
            wanted = "finite nonzero value" if self.kind == "depth" else "finite positive value"
            raise InputError(f"the depth map ({self.kind}) has no {wanted}; check the file and its --kind")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.values.shape[0], self.values.shape[1]

    def valid(self) -> Bool[np.ndarray, "H W"]:
        """(H, W) bool: pixels that carry a depth (:func:`usable_depth`)."""
        return usable_depth(self.values, self.kind)

    @classmethod
    def load(cls, path: str | Path, kind: DepthKind = "disparity") -> RelativeDepth:
        """Read ``.npy``, ``.npz`` (its only array, or the one named ``depth``) or a one-channel 8/16-bit PNG.

        No pickled content is ever executed.

        Raises:
            InputError: no such file, an unknown kind, or no value that counts.
            FormatError: damaged, of another format, or not one (height, width) array of numbers.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"depth map {path} does not exist")
        values = _read_array(path)
        if values.ndim == 3 and 1 in values.shape:
            values = values.squeeze()
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise FormatError(
                f"depth map {path} must be one (height, width) array of numbers, got {values.dtype} {values.shape}"
            )
        return cls(values.astype(np.float32) if values.dtype != np.float64 else values, kind)


def _read_array(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        arrays = read_npz(path, "depth map")
        if "depth" not in arrays and len(arrays) > 1:
            raise FormatError(f"depth map {path} holds {len(arrays)} arrays; name the right one 'depth'")
        return arrays.get("depth", next(iter(arrays.values())))
    if suffix == ".npy":
        return read_npy(path, "depth map")
    with reading(path, "depth map"):
        if suffix == ".png":
            return _read_png(path)
        raise ValueError(f"unknown suffix {suffix!r}; use .npy, .npz or .png")


def _read_png(path: Path) -> np.ndarray:
    import cv2

    data = np.fromfile(path, np.uint8)
    try:
        values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    except cv2.error as error:
        raise ValueError("the PNG is too large or corrupt") from error
    if values is None:
        raise ValueError("the PNG is corrupt or empty")
    return values
