"""From a mixture of data sets to the micro-batches of each step, whoever reads the images.

What stands at a position of the row of images, and every random number that augments it, follow from the seed and the
position alone. So it does not matter how many processes train, how many workers read, into how many micro-batches a
step is split, or whether the run was stopped in between. Step ``s`` of batch ``G`` is the positions from ``s G`` on,
below ``(s + 1) G``.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch.utils.data import DataLoader

from crowdmesh.errors import CrowdMeshError, FormatError, InputError
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.mixing import Mixture
from crowdmesh.training.remembering import Memory
from crowdmesh.training.sample import TrainingSample
from crowdmesh.training.targets import Example, Targets

MakeExample = Callable[[TrainingSample, UInt8[np.ndarray, "H W 3"], np.random.Generator], Example | None]
"""Augmentation: sample, pixels, random numbers -> an example, or ``None`` if nobody is left to see."""

_MOST_TRIES = 20  # images tried for one position before the data set is given up
_UNUSABLE_SHARE, _FORGIVEN = 0.01, 2  # of what was tried; and as many different images whatever was tried
_GRACE_S = 60  # how long a worker that is told to end lets a step finish

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """What became of one position: an example (its targets as arrays) or an error, and what was tried on the way."""

    pixels: torch.Tensor | None
    targets: dict[str, Any]
    tries: int
    unusable: tuple[tuple[str, str], ...] = ()
    nobody: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class _Unusable:
    """An image that cannot be used, and why."""

    key: str
    reason: str


class Loader:
    """Micro-batches of examples, step by step.

    Attributes:
        skipped: key of every image that could not be used so far in this process, and why.
        tried: images that were tried. unusable: how many of these tries failed. nobody: tries after whose augmentation
            nobody was left in the image (no fault of the data).
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        mixture: Mixture,
        make_example: MakeExample,
        batch: int,
        seed: int,
        workers: int = 0,
        process: tuple[int, int] = (0, 1),
        accumulation: int = 1,
        remember_px: int | None = None,
    ) -> None:
        """Plan how to read.

        Args:
            datasets: those of the mixture, in its order.
            make_example: augmentation and targets; goes to the workers, so it must be picklable.
            batch: images of a step in all processes together. seed: of the augmentation; not negative.
            workers: processes that read images; 0: this one.
            process: number of this training process, and of how many.
            accumulation: micro-batches in which each process works a step off.
            remember_px: keep every image in memory once it was read, its longer side shrunk to this many pixels
                (each worker keeps its own); ``None``: read it every time.

        Raises:
            InputError: numbers that do not fit each other, or other data sets than the mixture's.
        """
        rank, processes = process
        if not 0 <= rank < processes:
            raise InputError(f"process {rank} of {processes} does not exist; they are numbered from 0")
        for name, value, least in (
            ("batch", batch, 1), ("accumulation", accumulation, 1), ("workers", workers, 0), ("seed", seed, 0),
        ):  # fmt: skip
            if value < least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if batch % (processes * accumulation):
            raise InputError(
                f"a batch of {batch} images cannot be split evenly over {processes} processes with {accumulation} "
                f"micro-batches each; use a multiple of {processes * accumulation}"
            )
        if tuple(map(len, datasets)) != mixture.lengths:
            raise InputError("the data sets to load are not those of the mixture: their lengths differ")
        self.mixture, self.batch, self.workers = mixture, batch, workers
        self.process, self.accumulation = process, accumulation
        memory = None if remember_px is None else Memory(remember_px)
        self._reader = _Reader(tuple(datasets), mixture, make_example, seed, memory)
        self.skipped: dict[str, str] = {}
        self.tried = self.unusable = self.nobody = 0

    def steps(self, first: int, last: int) -> Iterator[list[list[Example]]]:
        """This process's micro-batches of the steps ``first`` to ``last - 1``, a list of lists of examples a step.

        Images that are missing or damaged are replaced by others of their data set, logged and counted in
        :attr:`skipped`.

        Raises:
            InputError: more than 1 % of the images tried cannot be used and three different ones have failed (one or
                two are forgiven at any share), or the example cannot be made at all (the network has another body than
                the labels, say).
        """
        if not 0 <= first <= last:
            raise InputError(f"steps {first} to {last} are no range of steps")
        size = self.batch // (self.process[1] * self.accumulation)
        micro: list[Example] = []
        step: list[list[Example]] = []
        for loaded in self._loaded(_Positions(first, last, self.batch, self.process)):
            micro.append(self._accept(loaded))
            if len(micro) == size:
                step.append(micro)
                micro = []
            if len(step) == self.accumulation:
                yield step
                step = []

    def _loaded(self, positions: _Positions) -> Iterator[_Loaded]:
        if not self.workers:
            yield from (self._reader[position] for position in positions)
            return
        ahead = -(-len(positions.one_step) // self.workers)
        loader = DataLoader(
            self._reader,  # type: ignore[arg-type]
            batch_size=None,
            sampler=positions,
            num_workers=min(self.workers, max(len(positions), 1)),
            collate_fn=_as_it_is,
            prefetch_factor=max(2, ahead),
            worker_init_fn=_begin_worker,
            generator=torch.Generator(),  # else it would draw from the one that the training resumes
        )
        with _one_thread():
            reading = iter(loader)
        yield from reading

    def _accept(self, loaded: _Loaded) -> Example:
        """The example, after the books were kept."""
        self.tried += loaded.tries
        self.unusable += len(loaded.unusable)
        self.nobody += loaded.nobody
        for key, reason in loaded.unusable:
            if key not in self.skipped:
                self.skipped[key] = reason
                _log.warning("left out %s: %s", key, reason)
        if len(self.skipped) > _FORGIVEN and self.unusable > _UNUSABLE_SHARE * self.tried:
            key, reason = next(iter(self.skipped.items()))
            raise InputError(
                f"{self.unusable} of {self.tried} images cannot be used, more than 1 %, first {key}: {reason}; "
                "crowdmesh data check names them all"
            )
        if loaded.error is not None:
            raise loaded.error
        assert loaded.pixels is not None
        values: dict[str, Any] = {
            name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for name, value in loaded.targets.items()
        }
        return Example(loaded.pixels, Targets(**values))


class _Positions:
    """Positions of a process in the order in which it needs them, steps ``first`` to ``last - 1``."""

    def __init__(self, first: int, last: int, batch: int, process: tuple[int, int]) -> None:
        self._first, self._last, self._batch = first, last, batch
        self.one_step = range(process[0], batch, process[1])

    def __iter__(self) -> Iterator[int]:
        for step in range(self._first, self._last):
            yield from (step * self._batch + offset for offset in self.one_step)

    def __len__(self) -> int:
        return (self._last - self._first) * len(self.one_step)


class _Reader(Sized):
    """Makes the example of a position; the same in every process."""

    def __init__(
        self,
        datasets: tuple[Dataset, ...],
        mixture: Mixture,
        make_example: MakeExample,
        seed: int,
        memory: Memory | None,
    ) -> None:
        self.datasets, self.mixture, self.make_example = datasets, mixture, make_example
        self.seed, self.memory = seed, memory

    def __len__(self) -> int:
        return self.mixture.images

    def __getitem__(self, position: int) -> _Loaded:
        place = self.mixture.locate(position)
        part, index = place.part, place.index
        unusable: list[tuple[str, str]] = []
        nobody, tries = 0, 0
        try:
            for attempt in range(_MOST_TRIES):
                random = np.random.default_rng(np.random.SeedSequence((self.seed, position), spawn_key=(attempt,)))
                if attempt:  # another image of the same data set
                    index = int(random.integers(len(self.datasets[part])))
                tries += 1
                found = self._read(part, index)
                if isinstance(found, _Unusable):
                    unusable.append((found.key, found.reason))
                    continue
                sample, pixels = found
                example = self.make_example(sample, pixels, random)
                if example is not None:
                    return _Loaded(example.pixels, _arrays(example.targets), tries, tuple(unusable), nobody)
                nobody += 1
            raise InputError(_hopeless(self.datasets[part].name, unusable))
        except CrowdMeshError as error:  # raised again where the run can say it
            return _Loaded(None, {}, tries, tuple(unusable), nobody, error)

    def _read(self, part: int, index: int) -> tuple[TrainingSample, UInt8[np.ndarray, "H W 3"]] | _Unusable:
        kept = None if self.memory is None else self.memory.recall(part, index)
        if kept is not None:
            return kept
        key = f"{self.datasets[part].name}, image number {index}"
        try:
            sample = self.datasets[part].sample(index)
            key = sample.key
            pixels = sample.pixels()
        except (InputError, FormatError) as error:
            return _Unusable(key, str(error))
        return (sample, pixels) if self.memory is None else self.memory.keep(part, index, sample, pixels)


def _hopeless(name: str, unusable: list[tuple[str, str]]) -> str:
    if unusable:
        return f"none of {_MOST_TRIES} images of {name} can be used, last because {unusable[-1][1]}"
    return (
        f"{_MOST_TRIES} images of {name} in a row show nobody after augmentation; check its labels with crowdmesh data "
        "check, or augment less"
    )


def _arrays(targets: Targets) -> dict[str, Any]:
    """Targets as arrays: they go through a pipe together, where each tensor would need an open file of its own."""
    values = {field.name: getattr(targets, field.name) for field in fields(targets)}
    return {name: v.numpy() if isinstance(v, torch.Tensor) else v for name, v in values.items()}


def _as_it_is(loaded: Any) -> Any:
    return loaded


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV without helping threads: a process that is forked off would wait for them forever, as they stay behind."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _begin_worker(worker: int) -> None:
    """No end while the training process finishes its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_S))
    # A regular end: a worker that dies raises an error in the midst of whatever the training process does then.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
