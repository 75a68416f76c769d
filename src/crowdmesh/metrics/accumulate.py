"""Figures over many people, kept so that they merge exactly: any sharding and any order give the same bits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError


@dataclass(frozen=True, eq=False)
class Samples:
    """One value a person (or pair, or image), and how many people have none because they were missed.

    ``a + b`` merges. The values are kept, in rising order; the mean is the correctly rounded sum over the count, hence
    the same whatever the order they came in.

    Attributes:
        values: (N,) the values of those who were found, one unit.
        missed: how many more people there were.
    """

    values: Float[np.ndarray, " N"] = field(default_factory=lambda: np.zeros(0))
    missed: int = 0

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        if values.ndim != 1:
            raise InputError(f"samples must be one row of values, got shape {values.shape}")
        if not np.isfinite(values).all():
            raise InputError(
                f"samples hold a NaN or infinite value at index {int(np.argmin(np.isfinite(values)))}; count such "
                "people as missed"
            )
        if self.missed < 0:
            raise InputError(f"the number of missed people must not be negative, got {self.missed}")
        object.__setattr__(self, "values", np.sort(values + 0.0))  # + 0.0: no negative zero, whose place is undefined

    def __add__(self, other: Samples) -> Samples:
        return Samples(np.concatenate((self.values, other.values)), self.missed + other.missed)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Samples):
            return NotImplemented
        return self.missed == other.missed and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.values.tobytes(), self.missed))

    @classmethod
    def merged(cls, parts: Iterable[Samples]) -> Samples:
        """All parts in one."""
        parts = list(parts)
        values = np.concatenate([np.zeros(0), *(part.values for part in parts)])
        return cls(values, sum(part.missed for part in parts))

    @property
    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean of the values; the missed do not enter. ``None``: there is no value."""
        return math.fsum(self.values.tolist()) / self.count if self.count else None

    @property
    def median(self) -> float | None:
        """Median of the values; the missed do not enter. ``None``: there is no value."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float | None:
        """The value below which a share of the values lies (linear interpolation); ``None``: there is no value."""
        return float(np.quantile(self.values, _checked_share(share))) if self.count else None

    def quantile_of_all(self, share: float) -> float | None:
        """Like :meth:`quantile` over everybody, the missed counted as infinitely wrong.

        ``None``: nobody at all, or so many missed that the quantile is infinite.
        """
        if not self.count:
            return None
        place = _checked_share(share) * (self.count + self.missed - 1)
        if math.ceil(place) >= self.count:
            return None
        low = math.floor(place)
        return float(self.values[low] + (place - low) * (self.values[math.ceil(place)] - self.values[low]))

    def within(self, threshold: float) -> Ratio:
        """How many of everybody, missed people included, have a value of at most ``threshold``."""
        return Ratio(int(np.searchsorted(self.values, threshold, "right")), self.count + self.missed)


@dataclass(frozen=True)
class Ratio:
    """Whole counts: so many of so many. ``a + b`` merges exactly."""

    part: int = 0
    whole: int = 0

    def __post_init__(self) -> None:
        if not all(isinstance(value, (int, np.integer)) for value in (self.part, self.whole)):
            raise InputError(f"a ratio is made of whole counts, got {self.part!r} of {self.whole!r}")
        if self.part < 0 or self.whole < 0:
            raise InputError(f"a ratio is made of counts that are not negative, got {self.part} of {self.whole}")
        object.__setattr__(self, "part", int(self.part))
        object.__setattr__(self, "whole", int(self.whole))

    def __add__(self, other: Ratio) -> Ratio:
        return Ratio(self.part + other.part, self.whole + other.whole)

    @classmethod
    def merged(cls, parts: Iterable[Ratio]) -> Ratio:
        """All parts in one."""
        return sum(parts, cls())

    @property
    def value(self) -> float | None:
        """Part over whole; ``None`` when there is nothing to take a part of."""
        return self.part / self.whole if self.whole else None


def _checked_share(share: float) -> float:
    if not 0.0 <= share <= 1.0:
        raise InputError(f"a quantile is a share between 0 and 1, got {share}")
    return share
