"""How much of everything the labels of a batch hold: what sums of errors are divided by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

COUNTED = (
    "people", "boxes", "pose", "shape", "joints_3d", "joints_2d", "depth", "pairs", "layer_pairs", "detections",
    "negatives", "cameras", "cells", "covered_cells",
)  # fmt: skip
"""Names of the counts."""


@dataclass(frozen=True, eq=False)
class TermCounts:
    """Counts of what can be learned, from labels alone, so that a batch split over micro-batches and processes can
    add them up (``values`` may be all-reduced) before any loss is computed. Losses are sums divided by these; added
    over all parts of a batch they are the batch's losses, however it was split.

    Attributes:
        values: (n,) float64, in the order of :data:`COUNTED`.
    """

    values: Float[Tensor, " n"]

    @property
    def names(self) -> tuple[str, ...]:
        """What is counted, in the order of ``values``."""
        return COUNTED

    def __add__(self, other: TermCounts) -> TermCounts:
        return TermCounts(self.values + other.values.to(self.values.device))

    def to(self, device: torch.device | str) -> TermCounts:
        """The same on a device."""
        return TermCounts(self.values.to(device))

    def divisor(self, name: str) -> Tensor:
        """A count, at least 1."""
        return self.values[COUNTED.index(name)].clamp(min=1).float()
