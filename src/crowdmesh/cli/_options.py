"""Choices that several verbs share, spelled out so that ``--help`` needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from crowdmesh.dto import DTOConfig

Preset = Literal["best", "paper", "official"]
Prior = Literal["marginal", "paper", "lms", "agnostic"]
Kind = Literal["disparity", "depth", "metric"]
WorldName = Literal["mixed", "family", "adults", "crowd", "occluded", "jump", "partial", "demo"]
TableName = Literal["main", "depth", "focal", "worlds", "trials"]
BenchmarkName = Literal["relative-human", "mupots", "3dpw", "hi4d", "agora", "bedlam", "panoptic"]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def dto_config(preset: Preset, prior: Prior | None) -> DTOConfig:
    """A preset of DTO, with another stature prior if one is given."""
    from dataclasses import replace

    from crowdmesh.dto import PRESETS

    config = PRESETS[preset]()
    return config if prior is None else replace(config, prior=prior)


def check_writable(folder: Path) -> None:
    """Raise InputError before any work is done if nothing can be written to a folder."""
    from crowdmesh._files import atomic_path

    with atomic_path(folder / ".writable") as probe:
        probe.touch()
    (folder / ".writable").unlink()
