"""Fixtures shared by the suite, in which every annotated shape of the package is checked at run time."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook

# The kernels are compiled from their source text and must not be wrapped; everything else is checked.
_CHECKED = [
    f"crowdmesh.{room}"
    for room in (
        "adapters",
        "benchmarks",
        "body",
        "camera",
        "depth",
        "dto",
        "experts",
        "formats",
        "hub",
        "images",
        "mahmr",
        "masks",
        "metrics",
        "outputs",
        "people",
        "pgt",
        "raster",
        "scene",
        "synth",
        "training",
        "video",
        "visual",
    )
]
_hook = install_import_hook(_CHECKED, "_typecheck.check")

torch.set_num_threads(1)

# No deadline: a shared machine may pause. In CI the same examples every time, elsewhere new ones.
settings.register_profile("suite", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("suite")


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(
            f"{variable} does not name a folder: recorded references and sample files are not part of the project"
        )
    return Path(value)


@pytest.fixture
def unchecked():
    """Annotations are not checked, as for every user: what a function itself says about bad input shows."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Folder of recorded reference numbers."""
    return _folder("CROWDMESH_VECTORS")


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder of sample photographs."""
    return _folder("CROWDMESH_ASSETS") / "photos"


@pytest.fixture(scope="session")
def solver_cases(vectors: Path) -> dict[str, np.ndarray]:
    """The 100 recorded solver problems."""
    with np.load(vectors / "solver_cases.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="session")
def crowd():
    """A synthetic crowd of mixed ages and about median statures, with its truth, per-person guess and disparity map."""
    from dataclasses import replace

    from crowdmesh.synth import PRESETS, World, exact, observe

    world = World(replace(PRESETS["demo"], stature_spread=0.5), 6).scene(4)
    errors = exact()
    seen = observe(world, replace(errors, depth=replace(errors.depth, local_std=0.02)), 0)
    assert len(seen.person) == len(world.scene.people)
    return world, seen.guess, seen.depth
