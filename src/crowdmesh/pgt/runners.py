"""Where shards are built: in this process, in several, or on a cluster by Ray Data. The work is the same everywhere."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from typing import Any

from crowdmesh.errors import InputError
from crowdmesh.pgt.builder import NOTHING, BuildShards, Step
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.records import Outcome

Runner = Callable[[Job, Sequence[int]], Generator[Step, None, None]]
"""Builds the shards of a job that has a plan, telling of each piece of finished work."""


def run_here(job: Job, shards: Sequence[int]) -> Generator[Step, None, None]:
    """Build in this process, one shard after the other; tells of every group of images."""
    if shards:
        builder = BuildShards(job, job.config_hash)
        for shard in shards:
            with closing(builder.steps(shard)) as steps:
                yield from steps


def run_processes(job: Job, shards: Sequence[int], workers: int, start: str = "spawn") -> Generator[Step, None, None]:
    """Build in several processes of this machine; tells of every shard.

    When the caller stops early, or after an error, workers give up their shards after the group they are at. They end
    by themselves should this process be killed.

    Args:
        workers: processes. start: how they are started, see ``multiprocessing.get_context``.

    Raises:
        InputError: one of them was killed from outside; the errors of :meth:`BuildShards.steps`.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    workers = min(workers, len(shards))
    if workers == 0:
        return
    context = multiprocessing.get_context(start)
    stop = context.Event()
    begin = (job, job.config_hash, stop, workers > 1)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=begin)
    try:
        for done in as_completed([pool.submit(_build, shard) for shard in shards]):
            if (step := done.result()) is not None:
                yield step
    except BrokenProcessPool as error:
        raise InputError(
            "a process that built shards was stopped from outside (often for want of memory); run the same again, with "
            "fewer workers or a smaller --batch: finished shards are kept"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def run_ray(
    job: Job, shards: Sequence[int], address: str, workers: int, cpus: float = 1.0, gpus: float = 0.0
) -> Generator[Step, None, None]:
    """Build with actors of Ray Data; tells of every shard. An actor that is killed is replaced and its shard repeated.

    All machines must see the set's folder, the source's files and the asset folders under the same paths.

    Args:
        address: of the cluster (``"auto"``, ``"ray://HOST:10001"``, ``"HOST:6379"``), or ``"local"`` for one that is
            started here and ends with this run.
        workers: actors. cpus, gpus: what each takes; ``gpus=0.25`` puts four on one GPU.

    Raises:
        InputError: Ray is not installed or not there, or has not what the actors ask for; the errors of
            :meth:`BuildShards.steps`.
    """
    if workers < 1 or cpus <= 0 or gpus < 0 or not address:
        raise InputError(
            f"Ray needs an address and positive workers and CPUs, got {address!r}, {workers} workers, {cpus} CPUs, "
            f"{gpus} GPUs"
        )
    from crowdmesh.pgt._ray import rows_of

    if shards:
        arguments = {"job": job, "config_hash": job.config_hash, "experts": job.signature["experts"]}
        size = min(workers, len(shards))
        with closing(rows_of(BuildShards, arguments, shards, address, size, cpus, gpus)) as rows:
            yield from map(_step, rows)


def _step(row: Mapping[str, Any]) -> Step:
    return Step({outcome.value: int(row[outcome.value]) for outcome in Outcome}, int(row["people"]))


_worker: tuple[Job, str, Event] | None = None  # of a worker process: what it is there for
_builder: BuildShards | None = None


def _begin(job: Job, config_hash: str, stop: Event, one_thread: bool) -> None:
    """Make a process a worker. Networks are loaded with its first shard, whose errors reach the caller."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller hears it and says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if one_thread:
        import pyarrow as pa
        import torch

        torch.set_num_threads(1)
        pa.set_cpu_count(1)
    _worker = (job, config_hash, stop)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever, and keep its GPU."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _build(shard: int) -> Step | None:
    """Build one shard; ``None``: the caller wants no more."""
    global _builder
    assert _worker is not None
    job, config_hash, stop = _worker
    if stop.is_set():
        return None
    if _builder is None:
        _builder = BuildShards(job, config_hash)
    done = NOTHING
    with closing(_builder.steps(shard)) as steps:
        for step in steps:
            done += step
            if stop.is_set():
                return None
    return done
