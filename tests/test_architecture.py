"""The house: which room may know which, what is public, and what must never come in."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import crowdmesh

SOURCE = Path(crowdmesh.__file__).parent

FLOORS = {
    "errors": 0, "_files": 0, "_unpickle": 0, "_weights_file": 0,
    "_native": 0, "masks": 0, "camera": 0, "people": 0, "scene": 0, "depth": 0, "assets": 0, "hub": 0, "images": 0,
    "_raster_kernel": 1, "raster": 1, "body": 1, "metrics": 1,
    "dto": 2, "visual": 2,
    "synth": 3, "experts": 3, "mahmr": 3, "adapters": 3, "formats": 3,
    "outputs": 4, "pgt": 4,
    "benchmarks": 5, "video": 5, "training": 5,
    "_terminal": 6, "demo": 6, "doctor": 6, "cli": 6,
}  # fmt: skip

# Rooms on one floor that may still know each other: none of floor 2 and 3 does.
SAME_FLOOR_ALLOWED = {0, 1, 6}


def imports_of(file: Path) -> set[str]:
    """Rooms of this package that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} uses a relative import"
            names = [
                f"{node.module}.{alias.name}" if node.module == "crowdmesh" else str(node.module)
                for alias in node.names
            ]
        found |= {name.split(".")[1] for name in names if name.startswith("crowdmesh.")}
    return found


def test_every_room_has_a_floor():
    rooms = {p.stem for p in SOURCE.glob("*.py")} | {p.name for p in SOURCE.iterdir() if (p / "__init__.py").exists()}
    assert rooms - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_only_go_down(file):
    room = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imports_of(file) - {room}:
        allowed = FLOORS[other] < FLOORS[room] or (FLOORS[other] == FLOORS[room] and FLOORS[room] in SAME_FLOOR_ALLOWED)
        assert allowed, f"{room} (floor {FLOORS[room]}) must not import {other} (floor {FLOORS[other]})"


def test_public_names():
    """A change here is a change of the public interface: say so in CHANGELOG.md."""
    snapshot = {
        "crowdmesh": crowdmesh.__all__,
        "crowdmesh.dto": importlib.import_module("crowdmesh.dto").__all__,
        "crowdmesh.body": importlib.import_module("crowdmesh.body").__all__,
        "crowdmesh.experts": importlib.import_module("crowdmesh.experts").__all__,
        "crowdmesh.mahmr": importlib.import_module("crowdmesh.mahmr").__all__,
        "crowdmesh.visual": importlib.import_module("crowdmesh.visual").__all__,
        "crowdmesh.adapters": importlib.import_module("crowdmesh.adapters").__all__,
        "crowdmesh.synth": importlib.import_module("crowdmesh.synth").__all__,
        "crowdmesh.metrics": importlib.import_module("crowdmesh.metrics").__all__,
        "crowdmesh.formats": importlib.import_module("crowdmesh.formats").__all__,
        "crowdmesh.pgt": importlib.import_module("crowdmesh.pgt").__all__,
        "crowdmesh.video": importlib.import_module("crowdmesh.video").__all__,
        "crowdmesh.outputs": importlib.import_module("crowdmesh.outputs").__all__,
        "crowdmesh.benchmarks": importlib.import_module("crowdmesh.benchmarks").__all__,
        "crowdmesh.training": importlib.import_module("crowdmesh.training").__all__,
    }
    recorded = (Path(__file__).parent / "public_api.txt").read_text()
    assert "".join(f"{module}: {' '.join(sorted(names))}\n" for module, names in snapshot.items()) == recorded


@pytest.mark.parametrize("name", crowdmesh.__all__)
def test_public_names_exist_and_are_documented(name):
    assert getattr(crowdmesh, name).__doc__


def test_importing_the_package_is_light():
    heavy = "{'torch', 'warp', 'cv2', 'trimesh', 'ai_edge_litert', 'numpy', 'tyro'}"
    code = f"import sys, crowdmesh, crowdmesh.errors; print(sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_torchvision_cannot_be_reached_through_the_dependencies():
    forbidden = {
        "torchvision",
        "timm",
        "detectron2",
        "pytorch3d",
        "chumpy",
        "smplx",
        "xformers",
        "ultralytics",
        "lightning",
    }
    seen, waiting, missing = set(), ["crowdmesh"], []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needed = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            missing.append(name)
            continue
        wanted = [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
        waiting += [canonicalize_name(name) for name in wanted]
    assert not missing, "every dependency must be installed for this test to see the whole tree"
    assert len(seen) > 15
    assert not seen & forbidden
    sources = "".join(file.read_text() for file in SOURCE.rglob("*.py"))
    assert not [name for name in forbidden if re.search(rf"^\s*(import|from)\s+{name}\b", sources, re.MULTILINE)]


def test_nothing_unpickles_but_one_file():
    """And that one calls nothing a pickle names: see tests/test_unpickle.py for what it refuses."""
    importing = set()
    for file in SOURCE.rglob("*.py"):
        text = file.read_text()
        assert "allow_pickle=True" not in text, file
        assert "weights_only=False" not in text, file
        if re.search(r"^\s*(import|from)\s+(_?c?pickle|dill|cloudpickle|joblib|shelve|marshal)\b", text, re.MULTILINE):
            importing.add(file.relative_to(SOURCE).as_posix())
    assert importing == {"_unpickle.py"}


def test_links_between_documents_lead_somewhere():
    root = SOURCE.parent.parent
    for document in [*root.glob("*.md"), *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_status_is_documented():
    text = (SOURCE.parent.parent / "docs" / "conventions.md").read_text()
    for status in crowdmesh.PersonStatus:
        assert f"`{status.name}`" in text or status.name in text, status


def test_the_command_line_offers_what_the_configuration_knows():
    from typing import get_args

    from crowdmesh.adapters import ADAPTERS
    from crowdmesh.benchmarks import BENCHMARKS
    from crowdmesh.cli import _options as cli
    from crowdmesh.depth import DepthKind
    from crowdmesh.dto import config
    from crowdmesh.experts import _device, presets
    from crowdmesh.training.config import Precision as TrainPrecision
    from crowdmesh.training.stages import STAGES
    from crowdmesh.visual.export import FORMATS

    assert get_args(cli.Preset) == get_args(config.PresetName) == tuple(config.PRESETS)
    assert get_args(cli.Prior) == get_args(config.PriorName)
    assert get_args(cli.Kind) == get_args(DepthKind)
    assert get_args(cli.ExpertSet) == tuple(presets.PRESETS)
    assert get_args(cli.Precision) == get_args(_device.Precision)
    assert get_args(cli.AdapterName) == ("auto", *ADAPTERS)
    assert get_args(cli.ExportFormat) == FORMATS
    assert get_args(cli.BenchmarkName) == tuple(BENCHMARKS)
    assert get_args(cli.StageName) == tuple(STAGES)
    assert get_args(cli.TrainPrecision) == get_args(TrainPrecision)
