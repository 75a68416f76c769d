"""Native libraries that greet or warn on the error stream when they start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Drop what native code writes to the error stream; Python exceptions still pass.

    Warp warns on every machine without a GPU, LiteRT logs once per process: nothing a user could act on.
    """
    try:
        saved = os.dup(2)
    except OSError:  # there is no error stream
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
