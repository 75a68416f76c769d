"""The verbs train and data, from the command line to the files."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import training_fixtures as made
from PIL import Image

from crowdmesh import cli
from crowdmesh.cli import main
from crowdmesh.mahmr import MAHMR, checkpoint
from crowdmesh.synth import PRESETS, World, write_shards
from crowdmesh.training import report as training_report

SMALL = [
    f"network.{name}={value}"
    for name, value in {
        "input_size": 112, "width": 32, "depth": 2, "heads": 1, "early_depth": 1, "queries": 6, "decoder_depth": 1,
        "decoder_heads": 1, "decoder_hidden": 32, "pose_depth": 2, "shape_depth": 2,
    }.items()
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def plain_report():
    """The page without its curves, which take seconds to draw."""

    def draw(path: Path, panels: list) -> None:
        assert len({title for title, _, _ in panels}) == len(panels) and all(points for _, _, points in panels)
        Image.new("RGB", (2, 2)).save(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_report, "_draw", draw)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    world = World(replace(PRESETS["family"], image_sizes=((160, 120),), people=(2, 3)), 1)
    write_shards(world, 3, folder / "world")
    shutil.copytree(folder / "world", folder / "validation")  # as good as another one, and sooner made
    return folder


def command(root: Path, out: Path, *more: str, steps: int = 3) -> list[str]:
    settings = [*SMALL, "optimiser.warmup_steps=1", "run.remember_px=112"]
    length = ["--steps", str(steps), "--batch", "2", "--workers", "0"]
    return [
        "train", "tiny", "--data", str(root), "--out", str(out), *length,
        *(word for setting in settings for word in ("--set", setting)), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(root) -> Path:
    out = root / "run"
    assert main(command(root, out)) == 0
    return out


def test_a_run_leaves_weights_that_predict_a_log_and_its_settings(root, run, capsys):
    best = checkpoint.load(run / "best.safetensors")
    assert best.config.width == 32 and best.config.body == "anny"
    told = best.provenance
    assert told["stage"] == "tiny" and "rendered people" in told["licence"] and told["started_from"] == "random weights"
    assert MAHMR.from_pretrained(run / "best.safetensors").infer([torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()])
    settings = json.loads((run / "config.json").read_text())
    assert settings["run"]["steps"] == 3 and settings["network"]["queries"] == 6
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == [1, 2, 3]
    assert {"pose", "fov", "relative_metric"} <= set(lines[0]["losses"])


def test_the_plan_and_the_outcome_are_printed(root, tmp_path, capsys):
    assert main(command(root, tmp_path / "run", steps=2)) == 0
    streams = capsys.readouterr()
    plan, told = " ".join(streams.out.split()), " ".join(streams.err.split())
    assert "tiny: a small open network" in plan and "world in world (all): 3 images" in plan
    assert "2 steps of 2 images" in plan and "random weights" in plan
    assert "best validation after step 2" in plan and "weights:" in plan
    page = (tmp_path / "run" / "report.html").read_text()
    assert "2 steps and 4 images" in page and "The best of 1 validations is that after step 2" in page
    assert "Where the time of a step goes" in page and "loss.pose" in page and page.count("data:image/png") == 2
    assert "Nothing of the kind is in the paper" in page and list((tmp_path / "run" / "pictures").glob("*.png"))
    assert "step 2 of 2" in told and "images/s" in told and "lr " in told and "pose " in told and "score" in told


def test_the_same_command_has_nothing_left_to_do_and_another_is_refused(root, run, capsys):
    before = (run / "best.safetensors").read_bytes()
    assert main(command(root, run)) == 0
    assert (run / "best.safetensors").read_bytes() == before
    capsys.readouterr()
    assert main(command(root, run, "--set", "loss.fov=1", "--seed", "4")) == 1
    said = capsys.readouterr().err
    assert "loss.fov was 5.0, now 1.0" in said and "seed was 0, now 4" in said


def test_another_run_starts_from_its_folder(root, run, tmp_path, capsys):
    assert main(command(root, tmp_path / "next", "--init", str(run), "--dry-run")) == 0
    assert "best.safetensors: MA-HMR" in " ".join(capsys.readouterr().out.split())
    assert main(command(root, tmp_path / "next", "--init", str(run), "--set", "network.width=64", "--dry-run")) == 1
    assert "another size (width 32, not 64)" in capsys.readouterr().err


def test_a_dry_run_prints_the_plan_tries_an_image_and_writes_nothing(root, tmp_path, capsys):
    assert main(command(root, tmp_path / "run", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "world/" in said and "people" in said and "pixels" in said
    assert not (tmp_path / "run").exists()


def test_without_a_world_the_two_commands_that_make_one_are_named(tmp_path, capsys):
    assert main(command(tmp_path, tmp_path / "run")) == 1
    said = capsys.readouterr().err
    for name, seed in (("world", 1), ("validation", 2)):
        assert f"crowdmesh synth --out {tmp_path / name} --preset family" in said and f"--seed {seed} " in said
    assert main(command(tmp_path / "none", tmp_path / "run")) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_where_one_world_is_missing_another_of_its_kind_is_advised(tmp_path, capsys):
    write_shards(World(replace(PRESETS["adults"]), 1), 1, tmp_path / "validation")
    assert main(command(tmp_path, tmp_path / "run")) == 1
    said = capsys.readouterr().err
    assert f"--out {tmp_path / 'world'} --preset adults --scenes 4000 --seed 2" in said
    assert str(tmp_path / "validation") not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "loss.fvo=1"], "did you mean loss.fov?"),
        (["--steps", "0"], "steps must be a whole number of at least 1"),
        (["--batch", "0"], "batch must be a whole number of at least 1"),
        (["--config", "nowhere.json"], "there is no file nowhere.json"),
        (["--losses", "released"], "neither in the paper nor in the release"),
        (["--init", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--dry-run", "--set", "optimiser.warmup_steps=3"], "with --set optimiser.warmup_steps=0"),
        (["--set", "validation.0.path=./world"], "world is learned from and judged on"),
        (["--set", "data.0.path=null", "--set", "validation.0.path=world"], "3 images of world (all), such as"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_in_a_sentence(root, tmp_path, capsys, words, said):
    assert main([*command(root, tmp_path / "run"), *words]) == 1
    assert said in capsys.readouterr().err


def test_a_stage_of_the_paper_wants_to_know_what_it_starts_from(tmp_path, capsys):
    assert main(["train", "3-dto", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "the run folder of stage 2-camera" in said and "--init none" in said
    assert main(["train", "3-dto", "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--init", "none"]) == 1
    assert "AGORA" in capsys.readouterr().err


def test_data_check_says_what_is_there(root, tmp_path, capsys):
    assert main(["data", "check", str(root), "--only", "world"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "world all ok 3 images" in said and "world in validation all ok 3 images" in said
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "nothing that can be trained on" in capsys.readouterr().out
    assert main(["data", "check", str(root), "--only", "wrold"]) == 1
    assert "did you mean world" in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_saves_and_the_same_command_goes_on(root, tmp_path):
    out = tmp_path / "run"
    words = [sys.executable, "-m", "crowdmesh.cli", *command(root, out, steps=400)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    log, deadline = out / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (log.is_file() and log.stat().st_size):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in said and "goes on from there" in said
    assert (out / "state.safetensors").is_file()


def commands_of(text: str) -> list[list[str]]:
    """The words after ``crowdmesh`` of every command in a text."""
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.replace("\\\n", "").splitlines()
    ]
    words = [shlex.split(line, comments=True) for line in lines]
    starts = [next((i for i, word in enumerate(row) if word in ("crowdmesh", "crowdmesh.cli")), None) for row in words]
    return [row[i + 1 :] for row, i in zip(words, starts, strict=True) if i is not None]


def test_the_commands_of_the_documentation_parse(monkeypatch):
    readme, guide = Path("README.md").read_text("utf-8"), Path("docs/training.md").read_text("utf-8")
    commands = commands_of(guide) + commands_of(readme[readme.index("## Training a network") :])
    parsed = []
    for name in {words[0] for words in commands}:
        verb = getattr(cli, name)

        @functools.wraps(verb)
        def told(*_: object, name: str = name, **__: object) -> int:
            parsed.append(name)
            return 0

        monkeypatch.setattr(cli, name, told)
    for words in commands:
        assert main(words) == 0, words
    assert len(parsed) == len(commands) and {"train", "synth", "data", "evaluate", "predict"} <= set(parsed)


def test_help_needs_no_torch():
    code = "import sys; from crowdmesh.cli import main\ntry:\n main(['train', '--help'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "False" and "--set" in done.stdout


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> tuple[Path, Path]:
    """All public layouts in a folder, and an asset folder with SMPL."""
    folder = tmp_path_factory.mktemp("public")
    made.write_smpl(folder / "assets")
    root = made.write_root(folder / "data").path
    for name in ("mpii", "aic"):  # as COCO's
        shutil.copytree(root / "coco" / "train2014", root / name / "images")
        for end in ("", "_OPT"):
            shutil.copy(root / f"coco/COCO_CHMR_SMPL{end}.npz", root / f"{name}/{name.upper()}_CHMR_SMPL{end}.npz")
    shutil.copy(root / "bedlam/bedlam_smpl_train_6fps.npz", root / "bedlam/bedlam_smpl_train_1fps.npz")
    return root, folder / "assets"


def paper_command(root: Path, stage: str, out: Path, *more: str) -> list[str]:
    words = [word for setting in (*SMALL, "validation=[]") for word in ("--set", setting)]
    more = ("--batch", "2", "--workers", "0", "--allow-pickle", "--init", "none", *more)
    return ["train", stage, "--data", str(root), "--out", str(out), *words, *more]


@pytest.mark.parametrize(
    "stage",
    ["1-keypoints", "4-finetune-rh", "4-finetune-panoptic"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("2-camera", "4-finetune-3dpw", "4-finetune-hi4d")],
)
def test_a_stage_of_the_paper_takes_every_data_set_it_names(public, tmp_path, capsys, monkeypatch, stage):
    root, assets = public
    monkeypatch.setenv("CROWDMESH_ASSETS", str(assets))
    assert main(paper_command(root, stage, tmp_path / "run", "--dry-run")) == 0, capsys.readouterr().err
    said = " ".join(capsys.readouterr().out.split())
    assert "paper 4.1" in said and "Released:" in said and "Losses:" in said


def test_a_stage_of_the_paper_trains(public, tmp_path, capsys, monkeypatch):
    root, assets = public
    monkeypatch.setenv("CROWDMESH_ASSETS", str(assets))
    assert main(paper_command(root, "3-dto", tmp_path / "run", "--steps", "2")) == 0, capsys.readouterr().err
    weights = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert weights.config.body == "smpl" and "AGORA" in weights.provenance["licence"]
