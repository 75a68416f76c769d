"""The user's SMPL files by gender, in double precision: what labels of gendered bodies are posed with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from crowdmesh.assets import search_folders
from crowdmesh.body import SMPL, find_smpl, find_smpl_of_gender


def smpl_body(gender: str) -> SMPL:
    """SMPL of a gender, from ``smpl/`` of the asset folders; the same object every time.

    A gendered file is told by its name: ``SMPL_FEMALE.pkl``, ``basicmodel_f_lbs_10_207_0_v1.1.0.pkl`` ...

    Args:
        gender: ``neutral``, ``male`` or ``female``.

    Raises:
        AssetError: there is none; says where to get it and where to put it.
    """
    folders = search_folders()
    places = [folder / "smpl" for folder in folders]
    return _load(*find_smpl(None if gender == "neutral" else find_smpl_of_gender(gender, places), folders))


@lru_cache(maxsize=4)
def _load(path: Path, kid_template: Path | None) -> SMPL:
    return SMPL(path, kid_template).double()
