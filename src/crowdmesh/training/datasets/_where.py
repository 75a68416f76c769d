"""Where a data set lies below the folder of all data: its annotation file, and the folder of its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crowdmesh.errors import InputError
from crowdmesh.training.datasets.body_table import image_folder

SUFFIXES = (".npz", ".json")
"""Of annotation files; the first that is there."""


@dataclass(frozen=True)
class Where:
    """A data set that was found.

    Attributes:
        name: of the data set. split: of it.
        path: the annotation file, or the folder of a set of ours.
        bases: folders that images may lie below. images: candidates relative to those, the likeliest first.
        unpickle: whether a pickled file may be read.
    """

    name: str
    split: str
    path: Path
    bases: tuple[Path, ...] = ()
    images: tuple[str, ...] = (".",)
    unpickle: bool = False

    def image_folder(self, images: Sequence[str]) -> Path:
        """The folder that these paths are relative to: where most of some of them are found."""
        candidates = [base / folder for base in self.bases for folder in self.images]
        return image_folder(candidates, images)


def bases_of(root: Path, folders: Sequence[str], path: str | None) -> tuple[Path, ...]:
    """Folders that a data set may lie in, the likeliest first.

    Args:
        folders: its usual names below the root. path: where the user says it is, a folder or an annotation file.
    """
    usual = (*(root / folder for folder in folders), root)
    if path is None:
        return usual
    named = root / path
    return (named,) if named.is_dir() else (named.parent, *usual)


def annotation_file(root: Path, bases: Sequence[Path], files: Sequence[str], path: str | None, hint: str) -> Path:
    """The annotation file of a data set.

    Args:
        files: candidates without suffix, relative to the bases. hint: a clause for the message: where to get it.

    Raises:
        InputError: there is none; says what was looked for, where, and where to get it.
    """
    if path is not None and not (root / path).is_dir():
        if (root / path).is_file():
            return root / path
        raise InputError(
            f"{root / path} does not exist; name the data set's folder or its annotation file below {root}"
        )
    found = (base / f"{file}{suffix}" for base in bases for file in files for suffix in SUFFIXES)
    for candidate in found:
        if candidate.is_file():
            return candidate
    raise InputError(
        f"no {' or '.join(f'{Path(file).name}.npz' for file in files)} in {' or '.join(map(str, bases))} (nor .json): "
        f"{hint}"
    )
