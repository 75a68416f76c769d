"""The user's SMPL files by gender, in double precision: what labels of gendered bodies are posed with."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from crowdmesh.assets import search_folders
from crowdmesh.body import SMPL, find_smpl
from crowdmesh.errors import AssetError

_LETTERS = {"male": "m", "female": "f"}


def smpl_body(gender: str) -> SMPL:
    """SMPL of a gender, from ``smpl/`` of the asset folders; the same object every time.

    A gendered file is told by its name: ``SMPL_FEMALE.pkl``, ``basicmodel_f_lbs_10_207_0_v1.1.0.pkl`` ...

    Args:
        gender: ``neutral``, ``male`` or ``female``.

    Raises:
        AssetError: there is none; says where to get it and where to put it.
    """
    folders = search_folders()
    return _load(*find_smpl(None if gender == "neutral" else _gendered(gender, folders), folders))


def _gendered(gender: str, folders: list[Path]) -> Path:
    places = [folder / "smpl" for folder in folders]
    for place in places:
        for path in sorted(place.glob("*")):
            words = re.split(r"[^a-z]+", path.stem.lower())
            if path.suffix.lower() in (".pkl", ".npz") and (gender in words or _LETTERS[gender] in words):
                return path
    raise AssetError(
        f"no {gender} SMPL model found at {f' {os.pathsep} '.join(map(str, places))}: register at "
        f"https://smpl.is.tue.mpg.de, download 'SMPL for Python' 1.1.0 and put its {gender} .pkl there, with "
        f"'{gender}' in its name"
    )


@lru_cache(maxsize=4)
def _load(path: Path, kid_template: Path | None) -> SMPL:
    return SMPL(path, kid_template).double()
