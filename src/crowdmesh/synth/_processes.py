"""Work on many items shared out to processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from crowdmesh.errors import InputError

Item = TypeVar("Item")


def share_out(
    work: Callable[[Item], object], items: Sequence[Item], workers: int, done: Callable[[Item], None]
) -> None:
    """Do the work on every item, in this process or in several; ``done`` is called here after each, in any order.

    Args:
        work: with several workers it must be picklable.

    Raises:
        InputError: a process was killed. What ``work`` raises is passed on, and the items left are not begun.
    """
    if workers == 1 or len(items) < 2:
        for item in items:
            work(item)
            done(item)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=_one_thread) as pool:
        waiting = {pool.submit(work, item): item for item in items}
        try:
            for future in as_completed(waiting):
                future.result()
                done(waiting[future])
        except BrokenProcessPool as error:
            raise InputError(
                "a process that wrote scenes was stopped from outside (often for want of memory); run the same again, "
                "with fewer workers: what is finished is kept"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    import pyarrow as pa
    import torch

    torch.set_num_threads(1)
    pa.set_cpu_count(1)
