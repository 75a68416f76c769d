"""What this package asks of Ray Data: one block per shard, a pool of actors, rows as they come."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from crowdmesh.errors import CrowdMeshError, InputError

_PLACE = re.compile(r"(ray://)?(?P<host>[^:/]+):(?P<port>\d+)$")
_PATIENCE_S = 10.0  # until a cluster counts as not there
_ERRORS = InputError.__module__


def rows_of(
    work: type,
    arguments: Mapping[str, Any],
    shards: Sequence[int],
    address: str,
    workers: int,
    cpus: float,
    gpus: float,
) -> Generator[dict[str, Any], None, None]:
    """What actors of a class answer to each shard, in the order in which they are done.

    Args:
        work: its instances, made with ``arguments``, map ``{"shard": (1,)}`` to columns of one value.
        workers: number of actors. cpus, gpus: what each takes.

    Raises:
        InputError: Ray is not installed or not there. CrowdMeshError: what an actor raised.
    """
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError as error:
        raise InputError("Ray is not installed; run pip install 'crowdmesh[ray]', or leave --ray out") from error
    mine = not ray.is_initialized()
    if mine:
        _connect(ray, address)
    try:
        _expect_room(ray, workers if address == "local" else 1, cpus, gpus)  # a cluster may grow
        _quiet()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.raise_original_map_exception = True
        dataset = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=len(shards))
        built = dataset.map_batches(
            work,
            fn_constructor_kwargs=dict(arguments),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        yield from built.iter_rows()
    except ray.exceptions.RayError as error:
        raise _said(error) from error
    finally:
        if mine:
            ray.shutdown()


def _quiet() -> None:
    """Ray's pages about an error stay in its log files; the user gets the one sentence that is raised."""
    for handler in logging.getLogger("ray.data").handlers:
        if not hasattr(handler, "baseFilename") and isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _connect(ray: Any, address: str) -> None:
    local = address == "local"
    options = {"include_dashboard": False} if local else {}
    try:
        if place := _PLACE.match(address):  # Ray itself tries for many minutes
            socket.create_connection((place["host"], int(place["port"])), _PATIENCE_S).close()
        ray.init(address, logging_level=logging.WARNING, log_to_driver=False, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        what = "start Ray here" if local else f"reach a Ray cluster at {address}"
        raise InputError(
            f"cannot {what} ({line}); see docs/scale.md for how to start one, or leave --ray out"
        ) from error


def _expect_room(ray: Any, actors: int, cpus: float, gpus: float) -> None:
    """InputError where actors would wait for ever."""
    there = ray.cluster_resources()
    for kind, each in (("CPU", cpus), ("GPU", gpus)):
        has = there.get(kind, 0.0)
        if actors * each > has + 1e-6:
            raise InputError(
                f"{actors} workers of {each:g} {kind} each ask for more than the {has:g} {kind} that Ray has; use "
                "fewer workers or a smaller share for each"
            )


def _said(error: BaseException) -> CrowdMeshError:
    """The error of ours at the bottom of what Ray makes of it, or one sentence."""
    cause: BaseException | None = error
    ours: CrowdMeshError | None = None
    while cause is not None:
        # Ray makes classes that are both its own and ours, with a page for a message.
        ours = cause if isinstance(cause, CrowdMeshError) and type(cause).__module__ == _ERRORS else ours
        cause = getattr(cause, "cause", None) or cause.__cause__
    if ours is not None:  # a new one: Ray adds its own lines, and the old one is among the causes of the error
        return type(ours)(str(ours).splitlines()[0])
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InputError(f"Ray gave up ({lines[-1] if lines else type(error).__name__}); finished shards are kept")
