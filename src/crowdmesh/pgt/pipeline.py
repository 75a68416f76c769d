"""The images of one shard through read, first guess and placement, which work at the same time on different groups.

Reading and placing have a thread each, the first guess runs in the caller's. A group is a few images that the experts
see together. Which images form a group depends on the shard and on the largest size of a group alone. At most two
groups wait before each step, so that memory holds a handful of groups, however many images there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from crowdmesh.pgt.records import Built, Guessed, Loaded, Sample

PIXELS = 64_000_000
"""Pixels of the images of one group; a single larger image is a group of its own."""

Read = Callable[[Sequence[Sample]], list[Loaded | Built]]
Guess = Callable[[Sequence[Loaded | Built]], list[Guessed | Built]]
Place = Callable[[Sequence[Guessed | Built]], list[Built]]
Stages = tuple[Read, Guess, Place]
"""The three steps of an image; what failed in one passes unchanged through those that follow."""

_WAITING = 2  # groups before a step

T = TypeVar("T")


def through(
    samples: Iterable[Sample], stages: Stages, batch: int, pixels: int = PIXELS
) -> Generator[list[Built], None, None]:
    """The images, built, group by group, in order.

    What one of the steps raises ends the whole, and is raised here; no thread is left when that is done.

    Args:
        samples: are taken one after the other in a thread of their own.
        batch: most images in a group. pixels: most pixels in one, unless it is a single image.
    """
    read, guess, place = stages
    groups = _groups(_loaded(samples, read), batch, pixels)
    reader, placer = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "place")
    placed: deque[Future[list[Built]]] = deque()
    try:
        for group in _ahead(groups, reader):
            placed.append(placer.submit(place, guess(group)))
            if len(placed) > _WAITING:
                yield placed.popleft().result()
        while placed:
            yield placed.popleft().result()
    finally:
        for thread in (reader, placer):
            thread.shutdown(cancel_futures=True)
        groups.close()


def _loaded(samples: Iterable[Sample], read: Read) -> Iterator[Loaded | Built]:
    for sample in samples:
        yield from read([sample])


def _groups(loaded: Iterator[Loaded | Built], batch: int, pixels: int) -> Generator[list[Loaded | Built], None, None]:
    """Images in groups of at most so many images and pixels."""
    group: list[Loaded | Built] = []
    held = 0
    for image in loaded:
        size = _pixels(image)
        if group and (len(group) == batch or held + size > pixels):
            yield group
            group, held = [], 0
        group.append(image)
        held += size
    if group:
        yield group


def _pixels(image: Loaded | Built) -> int:
    if isinstance(image, Built) or image.pixels is None:
        return 0
    return image.pixels.shape[0] * image.pixels.shape[1]


def _ahead(items: Iterator[T], thread: ThreadPoolExecutor) -> Iterator[T]:
    """The items, of which a few more are made in the thread while the caller works on one."""
    coming = deque(thread.submit(_next, items) for _ in range(_WAITING))
    while item := coming.popleft().result():
        coming.append(thread.submit(_next, items))
        yield item[0]


def _next(items: Iterator[T]) -> tuple[T] | None:
    """The next item, ``None`` after the last: a future cannot hold StopIteration."""
    for item in items:
        return (item,)
    return None
