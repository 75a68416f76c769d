"""Pictures and the report page of a run, from the files that a run leaves."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_training_validation import Crowds, biased, validator

from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr.canvas import colours, normalised
from crowdmesh.training.pictures import Pictures, draw_example
from crowdmesh.training.report import REPORT_NAME, write_report
from crowdmesh.training.targets import Example


@pytest.fixture
def run(tmp_path):
    """What a run of 60 steps leaves behind."""
    lines = []
    for step in range(1, 61):
        seconds = {"data": 0.1, "forward": 0.2, "backward": 0.5, "update": 0.1, "all": 1.0}
        lines.append(
            {"kind": "step", "step": step, "images": 8, "loss": 10 / step, "losses": {"pose": 1.0, "fov": None},
             "seconds": seconds}
        )  # fmt: skip
        if step % 20 == 0:
            figures = {"score": 1 - step / 100, "mpjpe_mm": 123.456, "recall_percent": 50.0, "fov_deg": None}
            lines.append({"kind": "validation", "step": step, "score": 1 - step / 100, "figures": figures})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "config.json").write_text(
        json.dumps({"stage": "tiny", "loss": {"pose": 5.0}, "data": [{"dataset": "<b>"}]})
    )
    return tmp_path


def test_the_page_holds_everything(run):
    (run / "pictures").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(run / "pictures/00000040.png")
    page = write_report(run, "A run & more", ["Crops are centred."]).read_text()
    assert "<h1>A run &amp; more</h1>" in page and "Crops are centred." in page
    assert "60 steps and 480 images in 0.02 hours" in page
    assert "The best of 3 validations is that after step 60, with a score of 0.4000" in page
    assert "mpjpe (mm)" in page and "123.5" in page and "fov (°)" not in page  # never measured: no column
    assert "loss.pose" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert "after step 40" in page and "50.0 %" in page and "8.0 images a second" in page
    assert page.count("data:image/png;base64,") == 2 and not re.search(r'(src|href)="(?!data:)', page)


def test_a_run_that_has_just_begun(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text(lines[0] + "\n" + lines[1][:20])  # the second is still being written
    assert "1 steps and 8 images" in write_report(run, "Begun").read_text()


def test_without_matplotlib_it_says_so(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    page = write_report(run, "No curves").read_text()
    assert "pip install" in page and "Validations" in page and "data:image" not in page


def test_refusals(tmp_path, run):
    with pytest.raises(InputError, match="holds no log of a training run"):
        write_report(tmp_path / "nowhere", "x")
    (run / "config.json").write_text("{")
    with pytest.raises(FormatError, match=r"config\.json"):
        write_report(run, "x")
    assert not (run / REPORT_NAME).exists()


def test_colours_are_the_inverse_of_normalisation():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(colours(normalised(torch.from_numpy(image))), image)


def test_pictures_after_a_step(tmp_path):
    model = biased(0.01)
    Pictures(validator(Crowds(), model), tmp_path, images=2)(model, 500)
    (file,) = (tmp_path / "pictures").iterdir()
    assert file.name == "00000500.png"
    with Image.open(file) as picture:
        assert picture.height == 2 * (360 + 12)


def test_labels_without_bodies_and_without_anybody(tmp_path):
    """The bodies of the labels are not drawn where there are none; what the network sees is."""
    model = biased(0.9)
    (example,) = validator(Crowds(), model, images=1).examples(0)
    targets = replace(example.targets, has_pose=torch.zeros(1, dtype=torch.bool))
    with_bodies = draw_example(model, example, 0.3)
    without = draw_example(model, Example(example.pixels, targets), 0.3)
    assert with_bodies.shape == without.shape and not np.array_equal(with_bodies[:, :400], without[:, :400])
