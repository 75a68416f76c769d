"""Depth maps from monocular networks: numbers *with a kind*, so that nothing downstream guesses their sign."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import FormatError, InputError

DepthKind = Literal["disparity", "depth", "metric"]


@dataclass(frozen=True, eq=False)
class RelativeDepth:
    """A depth map of one image.

    Attributes:
        values: (H, W) float; NaN, infinities and (for disparity) values <= 0 are allowed and count as missing.
        kind: ``"disparity"`` larger = nearer, affine-invariant (Depth Anything V2); ``"depth"`` larger = farther,
            affine-invariant; ``"metric"`` metres along z.
    """

    values: Float[np.ndarray, "H W"]
    kind: DepthKind

    def __post_init__(self) -> None:
        if self.kind not in get_args(DepthKind):
            raise InputError(f"unknown depth kind {self.kind!r}; use one of {', '.join(get_args(DepthKind))}")
        if self.values.ndim != 2 or min(self.values.shape) < 1:
            raise InputError(f"a depth map must have shape (height, width), got {self.values.shape}")
        if not np.issubdtype(self.values.dtype, np.floating):
            object.__setattr__(self, "values", self.values.astype(np.float32))
        if not self.valid().any():
            wanted = "finite value" if self.kind == "depth" else "finite positive value"
            raise InputError(f"the depth map ({self.kind}) has no {wanted}; check the file and its --kind")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.values.shape[0], self.values.shape[1]

    def valid(self) -> np.ndarray:
        """(H, W) bool: pixels that carry a depth (finite; for disparity and metric also positive)."""
        finite = np.isfinite(self.values)
        return finite if self.kind == "depth" else finite & (self.values > 0)

    @classmethod
    def load(cls, path: str | Path, kind: DepthKind = "disparity") -> RelativeDepth:
        """Read ``.npy``, ``.npz`` (its only array, or the one named ``depth``) or a one-channel 8/16-bit PNG.

        In a PNG, 0 means "no value" and is stored as NaN. No pickled content is ever executed.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"depth map {path} does not exist")
        try:
            values = _read_array(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise FormatError(f"cannot read depth map {path}: {error}") from error
        if values.ndim == 3 and 1 in values.shape:
            values = values.squeeze()
        if values.ndim != 2 or values.dtype.kind not in "fiu":
            raise FormatError(
                f"depth map {path} must be one (height, width) array of numbers, got {values.dtype} {values.shape}"
            )
        return cls(values.astype(np.float32) if values.dtype != np.float64 else values, kind)


def _read_array(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            name = "depth" if "depth" in archive.files else archive.files[0]
            if name != "depth" and len(archive.files) > 1:
                raise ValueError(f"it holds {len(archive.files)} arrays; name the right one 'depth'")
            return archive[name]
    if suffix == ".png":
        import cv2

        values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
        if values is None:
            raise ValueError("the PNG is corrupt or empty")
        values = values.astype(np.float32)
        values[values == 0] = np.nan
        return values
    raise ValueError(f"unknown suffix {suffix!r}; use .npy, .npz or .png")
