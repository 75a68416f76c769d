"""``crowdmesh evaluate --method ma-hmr`` and ``crowdmesh predict``: weights that are given, packaged, or not there."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
import smpl_people as made
import torch
from small_mahmr import tiny
from test_evaluate_cli import evaluate, refused, shown
from test_formats import READERS, write

from crowdmesh.cli import main
from crowdmesh.mahmr import MAHMR, MAHMRConfig, checkpoint
from crowdmesh.scene import Scene


def save_photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))


def sure(model: MAHMR) -> MAHMR:
    """All queries are people, nearly in the rest pose and upright."""
    with torch.no_grad():
        model.heads.confidence.weight.zero_()
        model.heads.confidence.bias.fill_(4.0)
    return model


@pytest.fixture
def anny_weights(tmp_path):
    checkpoint.save(sure(tiny(queries=3)), tmp_path / "anny.safetensors", "none", half=True)
    return tmp_path / "anny.safetensors"


@pytest.fixture
def smpl_weights(tmp_path, monkeypatch):
    folder = made.write_files(tmp_path / "assets/smpl")
    monkeypatch.setenv("CROWDMESH_ASSETS", str(folder.parent))
    torch.manual_seed(0)
    model = MAHMR(MAHMRConfig.tiny(112, "smpl"))
    checkpoint.save(sure(model), tmp_path / "smpl.safetensors", "none")
    return tmp_path / "smpl.safetensors"


def data_of(folder: Path, benchmark: str) -> Path:
    """One annotated photograph of a benchmark; the annotation file."""
    _, image, record = READERS[benchmark]
    annotation = record()
    if benchmark == "3dpw":
        annotation["transl"] = np.array([[0.0, 0, 5], [1.0, 0, 5]])
    save_photo(folder / "images" / image)
    return write(folder / "annotations.json", {image: annotation})


@pytest.mark.parametrize(
    ("benchmark", "variant"),
    [
        ("relative-human", None), ("mupots", None), ("3dpw", None), ("agora", None), ("panoptic", None),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                ("relative-human", "--corrected"), ("mupots", "--standard"), ("3dpw", "--corrected"), ("hi4d", None),
                ("hi4d", "--corrected"), ("agora", "--ignore-invalid"), ("bedlam", None), ("panoptic", "--corrected"),
            )
        ),
    ],
)  # fmt: skip
def test_every_benchmark_and_protocol(tmp_path, smpl_weights, capsys, unchecked, benchmark, variant):
    data = data_of(tmp_path, benchmark)
    arguments = ["--method", "ma-hmr", "--weights", smpl_weights, "--device", "cpu", *([variant] if variant else [])]
    assert evaluate(benchmark, data, *arguments) == 0, capsys.readouterr().err
    printed = shown(capsys)
    digest = checkpoint.load(smpl_weights).provenance["sha256"][:12]
    assert f"Scored: ma-hmr, weights smpl.safetensors (sha256 {digest})." in printed and "fails on" not in printed
    assert "50 predicted" in printed


def test_the_open_body_on_keypoint_protocols(tmp_path, anny_weights, capsys, unchecked):
    for benchmark in ("relative-human", "panoptic", "mupots"):
        data = data_of(tmp_path / benchmark, benchmark)
        assert evaluate(benchmark, data, "--method", "ma-hmr", "--weights", anny_weights) == 0
        assert "3 predicted" in shown(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "lite", "--weights", "w"], "--weights and --device belong to --method ma-hmr"),
        (["--predictions", ".", "--device", "cpu"], "--weights and --device belong to --method ma-hmr"),
        (["--method", "ma-hmr", "--preset", "best"], "--preset belongs to --method lite"),
        (["--method", "ma-hmr", "--weights", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--method", "ma-hmr", "--weights", "{w}", "--device", "abacus"], "abacus"),
    ],
)
def test_wrong_arguments(tmp_path, anny_weights, capsys, arguments, message):
    data = data_of(tmp_path, "relative-human")
    assert evaluate("relative-human", data, *(argument.format(w=anny_weights) for argument in arguments)) == 1
    assert message in refused(capsys)


class TestPackagedWeights:
    def test_there_may_be_none(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(checkpoint, "PACKAGED", "not_there.safetensors")
        save_photo(tmp_path / "a.jpg")
        assert main(["predict", str(tmp_path / "a.jpg"), "--out", str(tmp_path / "out")]) == 1
        assert "comes without weights of MA-HMR; give --weights" in refused(capsys)
        assert evaluate("mupots", data_of(tmp_path, "mupots"), "--method", "ma-hmr") == 1
        assert "comes without weights of MA-HMR; give --weights" in refused(capsys)

    def test_they_are_used_if_there_are_some(self, tmp_path, anny_weights, capsys, monkeypatch):
        monkeypatch.setattr(checkpoint, "packaged", lambda: anny_weights)
        save_photo(tmp_path / "a.jpg")
        assert main(["predict", str(tmp_path / "a.jpg"), "--out", str(tmp_path / "out")]) == 0
        scene = Scene.load(tmp_path / "out/a.scene.npz")
        assert len(scene.people) == 3 and scene.provenance["weights"]["file"] == "anny.safetensors"

    def test_those_of_this_package_are_what_it_says(self):
        """A file under 20 MB in float16 that says what it was trained on, or no file."""
        path = Path(str(files("crowdmesh.mahmr"))) / "data" / checkpoint.PACKAGED
        if not path.is_file():
            pytest.skip("this package comes without weights")
        assert checkpoint.packaged() == path and path.stat().st_size < 20_000_000
        loaded = checkpoint.load(path)
        assert loaded.config.body == "anny" and loaded.provenance["licence"]
