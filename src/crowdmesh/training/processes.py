"""The processes that train together: who this one is, and what accelerate does for them (devices, DDP, reductions)."""

from __future__ import annotations

import os
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

from crowdmesh.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

_NEEDED = ("accelerate", "tensorboard")
_PATIENCE = timedelta(hours=2)  # of the others while the main process validates


def process_of_environment() -> tuple[int, int]:
    """Number of this process, and of how many: as ``accelerate launch`` says, (0, 1) without it.

    Raises:
        InputError: what the environment says makes no sense.
    """
    rank, processes = (os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
        raise InputError(f"RANK is {rank!r} and WORLD_SIZE {processes!r}; start several processes by accelerate launch")
    return int(rank), int(processes)


def check_extra() -> None:
    """Raise InputError if what training needs beside the package is not installed."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise InputError(
            f"training needs {' and '.join(missing)}, not installed here; run: pip install 'crowdmesh[train]'"
        )


def make_accelerator() -> Accelerator:
    """This process's accelerator. Precision, accumulation and compilation are the loop's own.

    Raises:
        InputError: accelerate is not installed, or configured to split the network over processes.
    """
    check_extra()
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    from accelerate.utils import DistributedType

    # An image without people, or without a known camera, leaves heads without gradients in some process.
    parallel = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    accelerator = Accelerator(
        mixed_precision="no",
        dynamo_backend="no",
        kwargs_handlers=[parallel, InitProcessGroupKwargs(timeout=_PATIENCE)],
    )
    kind = accelerator.distributed_type
    split = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)
    if kind in split:
        raise InputError(
            f"accelerate is configured for {kind.value}, and training copies the network to every process (DDP); run "
            "accelerate config again, or accelerate launch --multi_gpu"
        )
    return accelerator
