"""Files: writing that leaves the old file or the complete new one, reading that says what is wrong with a file."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from crowdmesh.errors import FormatError, InputError

# What the parsers of NumPy, zip and JSON raise on files that are damaged, hostile or of another kind.
_READ_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

_NPY_MAGIC = b"\x93NUMPY"

# What a disk says while it is written; an OSError of the network (a download) carries other numbers or none.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EISDIR})

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})  # no second names

_UMASK = os.umask(0o077)  # it can only be read by setting it, which later would be seen by other threads
os.umask(_UMASK)


@contextmanager
def atomic_path(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path with the same suffix beside ``path``; rename it onto ``path`` when the block succeeds.

    Args:
        durable: once renamed, the file survives a power cut; while it is written, :func:`sweep` leaves it alone.

    Raises:
        InputError: the folder cannot be made or written, or the disk refuses (it is full, say). Any other error of
            the block passes unchanged.
    """
    path = Path(path)
    with _beside(path, durable) as temporary:
        yield temporary
        _settle(temporary, durable)
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)


@contextmanager
def new_path(path: Path) -> Iterator[Path]:
    """Like :func:`atomic_path` with ``durable``, but what stands at ``path`` by then stays, and the new file vanishes.

    On file systems without hard links (exFAT, some object stores) two processes that finish within the same instant
    may both believe that they made the file; it is complete all the same.
    """
    with _beside(path, durable=True) as temporary:
        yield temporary
        _settle(temporary, durable=True)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not path.exists():
                temporary.replace(path)
        sync_folder(path.parent)


def _settle(temporary: Path, durable: bool) -> None:
    """Give a file that is written the usual rights and, if it is to be durable, have the disk write it."""
    temporary.chmod(0o666 & ~_UMASK)
    if durable:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


@contextmanager
def _beside(path: Path, durable: bool) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = _temporary(path, durable)
    except OSError as error:
        raise InputError(
            f"cannot write to folder {path.parent}: {error.strerror}; choose another output folder"
        ) from error
    try:
        with writing(path):
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a disk says while ``path`` is written (it is full, say) into one InputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise InputError(f"cannot write {path}: {error.strerror}; free some space or choose another folder") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path, pattern: str) -> int:
    """Delete what processes that were killed left of files whose names match ``pattern`` (as in ``Path.glob``).

    Only files of :func:`atomic_path` with ``durable``, which a living process holds locked. Where the file system has
    no locks, or the files are somebody else's, they stay. Returns how many were deleted.
    """
    swept = 0
    for leftover in folder.glob(f".{pattern}"):
        try:
            handle = os.open(leftover, os.O_RDWR)
        except OSError:
            continue
        try:
            _lock(handle, wait=False)
            leftover.unlink(missing_ok=True)
            swept += 1
        except OSError:
            continue
        finally:
            os.close(handle)
    return swept


def _temporary(path: Path, durable: bool) -> tuple[int | None, Path]:
    """A new temporary file beside ``path``; if it is to be durable open, and locked where the file system has locks."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        if not durable:
            os.close(handle)
            return None, Path(name)
        with suppress(OSError):
            _lock(handle, wait=True)
        if os.fstat(handle).st_nlink:  # no other process swept it before it was locked
            return handle, Path(name)
        os.close(handle)


def _lock(handle: int, wait: bool) -> None:
    """Lock a file until it is closed or its process dies.

    Raises:
        OSError: another process holds it and there is no waiting, or the file system has no locks.
    """
    import fcntl  # there is none on Windows, where nothing else of this module needs it

    fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into one FormatError: "PATH is not a readable WHAT: reason"."""
    try:
        yield
    except _READ_ERRORS as error:
        raise FormatError(f"{path} is not a readable {what}: {_reason(error)}") from error


@contextmanager
def mendable(path: Path, what: str, advice: str) -> Iterator[None]:
    """As :func:`reading`, where a damaged file can be made again: the FormatError ends with ``advice`` on how.

    What says nothing about the file itself (a stale mount, missing rights, too little memory) becomes an InputError
    instead, so that nobody deletes a good file for it.
    """
    try:
        with reading(path, what):
            yield
    except FormatError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError):
            raise InputError(f"cannot read {path}: there is not enough memory; run the same again with more") from error
        if isinstance(cause, OSError) and cause.errno not in (None, errno.ENOENT):
            reason = os.strerror(cause.errno)  # type: ignore[arg-type]
            raise InputError(f"cannot read {path}: {reason}; run the same again when it can be read") from error
        raise FormatError(f"{error}; {advice}") from error


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_npz(path: Path, what: str = "NumPy archive") -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file; nothing in it is executed.

    Args:
        what: what the file should be, for the message.

    Raises:
        FormatError: not an ``.npz`` file, damaged, without arrays, or with Python objects in it.
    """
    with reading(path, what):
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not a NumPy .npz archive")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if not arrays or not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("it is not a NumPy .npz archive of arrays")
        return arrays


def read_npy(path: Path, what: str = "NumPy array") -> np.ndarray:
    """The array of an ``.npy`` file; nothing in it is executed.

    Args:
        what: what the file should be, for the message.

    Raises:
        FormatError: not an ``.npy`` file, damaged, or with Python objects in it.
    """
    with reading(path, what), path.open("rb") as file:
        if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
            raise ValueError("it is not a NumPy .npy array")
        file.seek(0)
        return np.load(file, allow_pickle=False)


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in an open ``.npy`` file, whose content follows; ValueError where there is none."""
    shape, _, dtype = read_npy_layout(file)
    return shape, dtype


def read_npy_layout(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """As :func:`read_npy_header`, and between the two whether the first axis runs fastest (Fortran order)."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError("it is of an unknown NumPy version")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _reason(error: BaseException) -> str:
    """One clause for a message, free of the parsers' advice to switch their safety off."""
    text = str(error)
    if text.startswith("Object arrays"):
        return "it holds Python objects instead of arrays"
    if "allow_pickle" in text:
        return "it is not a NumPy file"
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (SyntaxError, tokenize.TokenError)) or not text:
        return "it is damaged"
    return text.splitlines()[0]
