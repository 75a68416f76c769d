"""Several data sets as one endless row of images: position ``p`` of it is known without walking there.

The row consists of equal blocks. In a block every data set has a fixed number of places, by its weight, in an order
drawn anew for each block; the images of a data set fill its places pass after pass, each pass in an order of its own.
Every image of a data set is therefore seen once before any of it is seen twice, and shares are exact in every block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from crowdmesh.errors import InputError

_SMALLEST_BLOCK = 10_000  # places of a block of weighted data sets, so that shares are met within 0.01 %
_PLACES, _IMAGES = 0, 1  # what an order is of, in the seeds


@dataclass(frozen=True)
class DataPart:
    """One data set in a mixture.

    Attributes:
        dataset: its name in the catalogue.
        path: where it lies below the root of all data; ``None``: where the catalogue looks for it.
        weight: its share of the images that are seen, relative to those of the others; ``None``: as many as it has.
            All parts of a mixture have weights, or none has.
        split: which of its splits.
    """

    dataset: str
    path: str | None = None
    weight: float | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if not self.dataset:
            raise InputError("a part of the training data needs the name of a data set")
        if self.weight is not None and not (math.isfinite(self.weight) and self.weight > 0):
            raise InputError(f"the weight of {self.dataset} must be positive, got {self.weight}")


@dataclass(frozen=True)
class Place:
    """What stands at a position of the row.

    Attributes:
        part: number of the data set. index: of the image in it. repeat: how often all its images were seen before.
    """

    part: int
    index: int
    repeat: int


class Mixture:
    """The row of images of some data sets; depends on lengths, weights and seed alone."""

    def __init__(self, parts: Sequence[DataPart], datasets: Sequence[Sized], seed: int) -> None:
        """Mix data sets.

        Args:
            parts: name and weight of each. datasets: the sets themselves, in the same order; their lengths count.
            seed: of all orders; not negative.

        Raises:
            InputError: no data sets, one without images, weights of some parts only, or a negative seed.
        """
        if not parts or len(parts) != len(datasets):
            raise InputError(f"a mixture needs at least one data set, and as many parts; got {len(parts)} parts")
        if seed < 0:
            raise InputError(f"the seed of a mixture must not be negative, got {seed}")
        self.parts, self.seed = tuple(parts), seed
        self.lengths = tuple(len(dataset) for dataset in datasets)
        for part, length in zip(self.parts, self.lengths, strict=True):
            if not length:
                where = f" in {part.path}" if part.path else ""
                raise InputError(f"the data set {part.dataset}{where} ({part.split}) has no images to train on")
        self._places = _places_of(self.parts, self.lengths)
        self._block_start = np.concatenate(([0], np.cumsum(self._places)))
        self._orders: dict[tuple[int, int], tuple[int, np.ndarray]] = {}

    @property
    def images(self) -> int:
        """Images of all data sets together: the length of an epoch."""
        return sum(self.lengths)

    @property
    def shares(self) -> tuple[float, ...]:
        """Which part of the row each data set fills."""
        return tuple(count / sum(self._places) for count in self._places)

    def locate(self, position: int) -> Place:
        """What stands at a position of the row.

        Costs the orders of one block and of one pass (a few bytes an image), which are kept until others are needed.

        Raises:
            InputError: a negative position.
        """
        if position < 0:
            raise InputError(f"the positions of a mixture are numbered from 0, got {position}")
        block, offset = divmod(position, int(self._block_start[-1]))
        number = int(self._order(_PLACES, 0, block, int(self._block_start[-1]))[offset])
        part = int(np.searchsorted(self._block_start, number, side="right")) - 1
        earlier = block * self._places[part] + number - int(self._block_start[part])
        repeat, row = divmod(earlier, self.lengths[part])
        return Place(part, int(self._order(_IMAGES, part, repeat, self.lengths[part])[row]), repeat)

    def _order(self, kind: int, part: int, number: int, length: int) -> Int[np.ndarray, " length"]:
        """A permutation that depends on what it is of; the last one of each kind and part is kept."""
        kept = self._orders.get((kind, part))
        if kept is None or kept[0] != number:
            random = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(kind, part, number)))
            dtype = np.int32 if length <= np.iinfo(np.int32).max else np.int64
            kept = (number, random.permutation(np.arange(length, dtype=dtype)))
            self._orders[kind, part] = kept
        return kept[1]

    def __getstate__(self) -> dict[str, object]:
        """Without the orders: other processes draw them again."""
        return {**self.__dict__, "_orders": {}}


def _places_of(parts: tuple[DataPart, ...], lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Places of each data set in a block."""
    weights = [part.weight for part in parts if part.weight is not None]
    if not weights:
        return lengths
    if len(weights) < len(parts):
        bare = next(part.dataset for part in parts if part.weight is None)
        raise InputError(f"{bare} has no weight and other data sets have one; give all of them weights, or none")
    block = max(_SMALLEST_BLOCK, sum(lengths))
    return tuple(max(1, round(block * weight / sum(weights))) for weight in weights)
