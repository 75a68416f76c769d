"""Per-person image masks, run-length coded: a crowd of twenty 720p masks takes kilobytes instead of 18 MB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from crowdmesh.errors import InputError


@dataclass(frozen=True, eq=False)
class Masks:
    """K binary masks over one image, coded row by row as alternating run lengths that start with background.

    Attributes:
        height, width: image size in pixels.
        runs: run lengths of all masks, one after the other; the runs of one mask sum to height * width.
        offsets: mask k owns ``runs[offsets[k]:offsets[k + 1]]``.
    """

    height: int
    width: int
    runs: Int[np.ndarray, " R"]
    offsets: Int[np.ndarray, " edges"]

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)
        if any(
            not isinstance(v, np.ndarray) or v.ndim != 1 or v.dtype.kind not in "iu" for v in (self.runs, self.offsets)
        ):
            raise InputError(
                "mask runs and offsets must be one-dimensional arrays of whole numbers; "
                "build them with Masks.from_dense"
            )
        runs, offsets, pixels = self.runs.astype(np.int64), self.offsets.astype(np.int64), self.height * self.width
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(runs) or np.any(np.diff(offsets) <= 0):
            raise InputError("mask offsets do not partition the run lengths; rebuild them with Masks.from_dense")
        totals = np.add.reduceat(runs, offsets[:-1]) if len(self) else np.zeros(0, int)
        if np.any((runs < 0) | (runs > pixels)) or np.any(totals != pixels):
            raise InputError(
                f"mask run lengths do not add up to {self.height}x{self.width} pixels; "
                "rebuild them with Masks.from_dense"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, people: slice | np.ndarray | list[int]) -> Masks:
        """The masks of a subset of people, in the order asked for."""
        chosen = np.arange(len(self))[people]
        parts = [self.runs[self.offsets[k] : self.offsets[k + 1]] for k in chosen]
        return _join(self.height, self.width, parts)

    @classmethod
    def from_dense(cls, masks: Bool[np.ndarray, "K H W"]) -> Masks:
        """Encode boolean masks (K, H, W)."""
        if masks.ndim != 3:
            raise InputError(f"masks must have shape (people, height, width), got {masks.shape}")
        _check_size(*masks.shape[1:])
        flat = masks.reshape(len(masks), masks.shape[1] * masks.shape[2]).astype(bool)
        parts = []
        for row in flat:
            changes = np.flatnonzero(row[1:] != row[:-1]) + 1
            edges = np.concatenate(([0], changes, [len(row)]))
            runs = np.diff(edges)
            parts.append(np.concatenate(([0], runs)) if row[0] else runs)
        return _join(masks.shape[1], masks.shape[2], parts)

    def to_dense(self, size: tuple[int, int] | None = None) -> Bool[np.ndarray, "K h w"]:
        """Decode to boolean masks, sampled at the pixel centres of an image of ``size`` (height, width)."""
        height, width = size or (self.height, self.width)
        rows = ((np.arange(height) + 0.5) * self.height / height).astype(int)
        columns = ((np.arange(width) + 0.5) * self.width / width).astype(int)
        dense = np.zeros((len(self), height, width), bool)
        for k in range(len(self)):
            runs = self.runs[self.offsets[k] : self.offsets[k + 1]]
            if len(runs) < 2:
                continue
            # Decode only the rows between the first and the last foreground pixel.
            top = int(runs[0]) // self.width
            trailing = int(runs[-1]) if len(runs) % 2 else 0
            bottom = self.height - trailing // self.width
            inner = runs.copy()
            inner[0] -= top * self.width
            if trailing:
                inner[-1] -= (self.height - bottom) * self.width
            values = np.repeat(np.arange(len(inner)) % 2 == 1, inner).reshape(bottom - top, self.width)
            first, last = np.searchsorted(rows, (top, bottom))
            dense[k, first:last] = values[rows[first:last] - top][:, columns]
        return dense


def _check_size(height: int, width: int) -> None:
    if height <= 0 or width <= 0:
        raise InputError(f"masks need a positive image size, got {height}x{width}")


def _join(height: int, width: int, parts: list[np.ndarray]) -> Masks:
    offsets = np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(np.int64)
    runs = np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, np.int32)
    return Masks(int(height), int(width), runs, offsets)
