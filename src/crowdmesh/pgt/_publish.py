"""A file that is made once: of several processes that make it at the same time, one succeeds and the others see so."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from crowdmesh import _files

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def publish(path: Path, write: Callable[[Path], None]) -> bool:
    """Write a file under another name, then give it its own unless something else has it by then.

    On file systems without hard links (exFAT, some object stores) two processes that finish within the same instant
    may both believe that they made the file; it is complete all the same.

    Args:
        write: writes all of the file to the path it is given.

    Returns:
        Whether this call made the file; if not, that of another process is there, complete.

    Raises:
        InputError: the folder cannot be written, or the disk refuses.
    """
    candidate = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        with _files.atomic_path(candidate, durable=True) as temporary:
            write(temporary)
            made = _link(temporary, path)
        if made is None:
            made = not path.exists()
            if made:
                candidate.rename(path)
    finally:
        candidate.unlink(missing_ok=True)
    _files.sync_folder(path.parent)
    return made


def _link(temporary: Path, path: Path) -> bool | None:
    """Whether the file got its name; ``None``: this file system cannot give a file two names."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return None
    return True
