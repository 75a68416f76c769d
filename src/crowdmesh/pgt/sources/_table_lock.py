"""Who makes a table of labels, and what is left of those who were killed while they did."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from crowdmesh._files import sweep

WORK = ".work"
"""Ending of the folders in which tables are made: ``.STEM.RANDOM.work`` beside ``STEM.parquet``."""

Held = Literal["held", "busy", "no locks"]

# Where there are no locks, nobody has worked on something this old for as long.
_ABANDONED_S = 24 * 3600


@contextmanager
def table_lock(folder: Path, stem: str, wait: bool) -> Iterator[Held]:
    """Hold the lock of a table, a file ``.STEM.lock`` beside it, which is gone afterwards.

    Yields ``"busy"`` if another process holds it and nobody waits, ``"no locks"`` where the file system has none.
    """
    try:
        handle = _locked(folder / f".{stem}.lock", wait)
    except BlockingIOError:
        yield "busy"
        return
    except OSError:
        yield "no locks"
        return
    try:
        yield "held"
    finally:
        (folder / f".{stem}.lock").unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path, wait: bool) -> int:
    """An open, locked file that no process before has taken away."""
    import fcntl

    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                path.unlink(missing_ok=True)
            os.close(handle)
            raise
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)


def sweep_conversions(folder: Path) -> None:
    """Delete what killed processes left of tables that they made, but nothing that others are working on.

    A folder that cannot be written is left as it is.
    """
    with suppress(OSError):
        sweep(folder, "labels-*.parquet")
        for stem in sorted({path.name.split(".")[1] for path in folder.glob(".labels-*")}):
            with table_lock(folder, stem, wait=False) as held:
                if held != "busy":
                    sweep_table(folder, stem, 0.0 if held == "held" else _ABANDONED_S)


def sweep_table(folder: Path, stem: str, idle_s: float) -> None:
    """Delete what is left of the making of one table, as far as nobody has touched it for so many seconds."""
    for leftover in folder.glob(f".{stem}.*"):
        with suppress(OSError):
            if leftover.suffix == ".lock" or (idle_s and leftover.stat().st_mtime > time.time() - idle_s):
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif idle_s:
                leftover.unlink()
