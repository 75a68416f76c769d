"""What exported files and the members of tar shards are called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_LONGEST_STEM = 40
_KEY_DIGITS, _FILE_DIGITS = 16, 8


def file_stems(datasets: Iterable[str]) -> dict[str, str]:
    """A file name for each data set: letters, digits, ``.``, ``_`` and ``-``; a digest tells apart what looks alike.

    Names that differ in case alone count as alike, for the sake of file systems that do not tell them apart.
    """
    safe = {name: re.sub(r"[^\w.-]+", "_", name).strip("._-") or "images" for name in sorted(set(datasets))}
    alike: dict[str, int] = {}
    for stem in safe.values():
        alike[stem.casefold()] = alike.get(stem.casefold(), 0) + 1
    return {
        name: stem if alike[stem.casefold()] == 1 else f"{stem}-{_digest(name, _FILE_DIGITS)}"
        for name, stem in safe.items()
    }


def member_name(key: str) -> str:
    """What an image is called in a tar: the stem of its file in plain letters, then 16 digits of the key's SHA-256.

    There is no dot in it, since tools that read such tars take everything up to the first dot for the name.
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "_", PurePosixPath(key).stem).strip("_")[:_LONGEST_STEM].rstrip("_")
    return f"{stem or 'image'}-{_digest(key, _KEY_DIGITS)}"


def _digest(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
