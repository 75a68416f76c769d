"""Records of a label file that cannot be used: a few among many are left out and named, more are an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crowdmesh.errors import FormatError

MOST_UNUSABLE = 0.01
"""Share of images that may be missing or damaged before training refuses a data set."""


def refuse_many(file: Path, bad: Mapping[str, str], records: int) -> None:
    """Say what is wrong with a file more than 1 % of whose records cannot be used.

    Args:
        file: the label file. bad: what is wrong with which image. records: of all images of the file.

    Raises:
        FormatError: with the first reason, which names file, image and field.
    """
    if len(bad) > MOST_UNUSABLE * records:
        rest = f" ({len(bad)} of {records} records of {file.name} cannot be used)" if len(bad) > 1 else ""
        raise FormatError(f"{next(iter(bad.values()))}{rest}")
