"""Counts of values in fixed bins: a million values in a few kilobytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int


@dataclass(eq=False)
class Histogram:
    """Values by bin, filled bit by bit; values outside the bins and unknown ones are counted beside them.

    Attributes:
        edges: (N + 1,) rising limits of the bins; the lower one belongs to the bin, the upper one does not.
        counts: (N,) values per bin. below, above: values outside. unknown: values that are NaN.
        total, squares: sums of the known values and of their squares.
    """

    edges: Float[np.ndarray, " N1"]
    counts: Int[np.ndarray, " N"] = field(init=False)
    below: int = 0
    above: int = 0
    unknown: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.edges) - 1, np.int64)

    def add(self, values: Float[np.ndarray, " M"]) -> None:
        """Count these values; infinite ones count as outside and leave mean and spread alone."""
        known = values[~np.isnan(values)]
        self.unknown += len(values) - len(known)
        place = np.searchsorted(self.edges, known, side="right")
        counts = np.bincount(place, minlength=len(self.edges) + 1)
        self.below += int(counts[0])
        self.above += int(counts[-1])
        self.counts += counts[1:-1]
        finite = known[np.isfinite(known)]
        self.total += float(finite.sum())
        self.squares += float((finite**2).sum())

    @property
    def known(self) -> int:
        """How many values are not NaN."""
        return int(self.counts.sum()) + self.below + self.above

    @property
    def mean(self) -> float:
        """Mean of the known values; NaN where there are none."""
        return self.total / self.known if self.known else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation of the known values; NaN where there are none."""
        if not self.known:
            return float("nan")
        return float(np.sqrt(max(self.squares / self.known - self.mean**2, 0.0)))

    @property
    def cumulative(self) -> Float[np.ndarray, " N1"]:
        """(N + 1,) share of the known values below each edge; zeros where there are none."""
        return (self.below + np.concatenate(([0], np.cumsum(self.counts)))) / max(self.known, 1)

    def quantile(self, share: float) -> float:
        """The value below which this share of the known values lies, to within a bin; NaN where there are none."""
        if not self.known:
            return float("nan")
        return float(np.interp(share, self.cumulative, self.edges))

    def share(self, low: float, high: float) -> float:
        """Share of the known values from ``low`` to below ``high``, each taken to the nearest edge; NaN without any."""
        if not self.known:
            return float("nan")
        ends = [int(np.argmin(np.abs(self.edges - value))) for value in (low, high)]
        return float(self.cumulative[ends[1]] - self.cumulative[ends[0]])

    def shares(self, merge: int = 1) -> tuple[Float[np.ndarray, " M1"], Float[np.ndarray, " M"]]:
        """Edges, and share of the known values per bin, ``merge`` neighbouring bins made one (a divisor of N)."""
        counts = self.counts.reshape(-1, merge).sum(1)
        return self.edges[::merge], counts / max(self.known, 1)
