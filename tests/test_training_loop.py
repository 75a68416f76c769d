"""The loop: the same weights however a batch is split, the best ones kept, and what goes wrong said in a sentence."""

from __future__ import annotations

import ast
import json
import math
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training_stand_ins import (
    MakeExample,
    StandIn,
    largest_difference,
    make_config,
    make_loader,
    real_run,
    weights,
    with_optimiser,
)
from training_two_processes import main as train_in_this_process

import crowdmesh.training
from crowdmesh.errors import InputError
from crowdmesh.mahmr import checkpoint
from crowdmesh.training import processes
from crowdmesh.training.config import TrainConfig
from crowdmesh.training.ema import MovingAverage
from crowdmesh.training.loop import Hooks, TrainResult, train
from crowdmesh.training.metrics_log import LOG_NAME, MetricsLog, read_log
from crowdmesh.training.processes import process_of_environment
from crowdmesh.training.schedule import learning_rate
from crowdmesh.training.step_report import StepReport
from crowdmesh.training.stopping import StopSignals
from crowdmesh.training.validation import Validation

TESTS = Path(__file__).parent


def _train(
    out: Path, config: TrainConfig, module: StandIn | None = None, poisoned: tuple[int, ...] = (), **hooks: Any
) -> tuple[TrainResult, StandIn]:
    module = StandIn() if module is None else module
    return train(config, module, make_loader(config, make_example=MakeExample(poisoned)), out, Hooks(**hooks)), module


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[StandIn, list[StepReport]]:
    """A run of one process and one pass a step."""
    reports: list[StepReport] = []
    folder = tmp_path_factory.mktemp("plain")
    return _train(folder, make_config(8), report=reports.append)[1], reports


def test_a_step_is_adamw_on_the_clipped_gradient_of_the_whole_batch(plain, tmp_path: Path):
    """The loop against torch written out by hand."""
    config = make_config(8)
    module = StandIn()
    optimiser = torch.optim.AdamW(module.model.parameters(), weight_decay=config.optimiser.weight_decay)
    for step, ((examples,),) in enumerate(zip(make_loader(config).steps(0, 8), strict=True)):
        counts = module.criterion.counts([example.targets for example in examples])
        optimiser.zero_grad()
        module(examples, torch.Generator(), counts).total.backward()
        norm = nn.utils.clip_grad_norm_(module.model.parameters(), 1.0)
        optimiser.param_groups[0]["lr"] = learning_rate(step, 8, 1e-2, 2)
        optimiser.step()
        assert plain[1][step].grad_norm == pytest.approx(float(norm), rel=1e-5)
    assert any(report.grad_norm > 1 for report in plain[1])
    assert largest_difference(weights(module.model), weights(plain[0].model)) < 1e-6


@pytest.mark.parametrize("accumulation", [2, 4])
def test_a_batch_may_be_split_into_passes(plain, tmp_path: Path, accumulation: int):
    reports: list[StepReport] = []
    _, module = _train(tmp_path, make_config(8, accumulation=accumulation), report=reports.append)
    assert largest_difference(weights(module.model), weights(plain[0].model)) < 1e-5
    for ours, theirs in zip(reports, plain[1], strict=True):
        assert ours.losses == pytest.approx(dict(theirs.losses), rel=1e-4)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-4)


def _forked(environment: dict[str, str], out: Path, options: dict[str, Any]) -> None:
    """What a process of its own does, in one that has everything imported already."""
    from accelerate.state import AcceleratorState

    os.environ.update(environment)
    AcceleratorState._reset_state(reset_partial_state=True)
    train_in_this_process(out, options)


def _together(out: Path, options: dict[str, Any]) -> None:
    """Train in two processes that talk over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    started = [
        multiprocessing.get_context("fork").Process(
            target=_forked, args=(common | {"RANK": rank, "LOCAL_RANK": rank}, out, options)
        )
        for rank in ("0", "1")
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0


def _check_together(out: Path, alone: StandIn) -> None:
    for rank in (0, 1):
        found = torch.load(out / f"weights{rank}.pt", weights_only=True)
        assert largest_difference(found, weights(alone.model)) < 1e-5
    assert json.loads((out / "seen0.json").read_text()) == [list(range(1, 9)), 8]
    assert json.loads((out / "seen1.json").read_text()) == [[], 8]  # only the first process reports
    assert [entry["step"] for entry in read_log(out) if entry["kind"] == "step"] == list(range(1, 9))


@pytest.mark.skipif(torch.cuda.is_available(), reason="gradients cannot be taken in forked processes beside a GPU")
def test_two_processes_train_as_one(plain, tmp_path: Path):
    """Unequal numbers of people on both sides, layers without gradients on one side, and two passes a step."""
    _together(tmp_path, {"steps": 8, "accumulation": 2})
    _check_together(tmp_path, plain[0])


@pytest.mark.slow
def test_two_processes_by_accelerate_launch(plain, tmp_path: Path):
    """As on two GPUs, each process told to use the CPU (``--cpu`` itself starts one process, or MPI's)."""
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2"]
    usual = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    told = {"PYTHONPATH": str(TESTS), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    script = [str(TESTS / "training_two_processes.py"), str(tmp_path), json.dumps({"steps": 8})]
    ran = subprocess.run([*launch, *usual, *script], env=os.environ | told, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    _check_together(tmp_path, plain[0])


def _logged(folder: Path) -> list[dict[str, float]]:
    """Every loss and gradient that a run's log has."""
    steps = [entry for entry in read_log(folder) if entry["kind"] == "step"]
    return [{"loss": e["loss"], "grad_norm": e["grad_norm"], **e["losses"]} for e in steps]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="gradients cannot be taken in forked processes beside a GPU")
def test_the_real_network_learns_the_same_however_its_batch_is_split(tmp_path: Path):
    """All losses with denoising, images without people or camera; 4 images at once, in 2 passes, in 2 processes."""
    for name, accumulation in (("whole", 1), ("passes", 2)):
        config, module, loader = real_run(3, accumulation=accumulation)
        train(config, module, loader, tmp_path / name)
    _together(tmp_path / "processes", {"real": True, "steps": 3})
    whole = _logged(tmp_path / "whole")
    assert len(whole) == 3 and {"pose", "detection", "dn.pose", "fov", "relative_metric"} <= set(whole[0])
    for other in ("passes", "processes"):
        for ours, theirs in zip(_logged(tmp_path / other), whole, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_infinite_loss_names_the_sample_and_the_term(tmp_path: Path, accumulation: int):
    config = make_config(12, accumulation=accumulation)
    module = StandIn()
    held: list[dict[str, torch.Tensor]] = [weights(module.model)]
    with pytest.raises(InputError, match=r"loss of step \d+ is not finite \(depth, depth.0\) for made-up/7.png; look"):
        _train(tmp_path, config, module, (7,), report=lambda _: held.append(weights(module.model)))
    assert largest_difference(weights(module.model), held[-1]) == 0
    assert all(parameter.grad is None for parameter in module.model.parameters())


class _Steep(StandIn):
    """A finite loss whose gradient is infinite."""

    def forward(self, *args: Any) -> Any:
        losses = super().forward(*args)
        steep = (self.model.level_embedding.sum() - self.model.level_embedding.detach().sum()).abs().sqrt()
        return replace(losses, total=losses.total + steep)


def test_infinite_gradients_leave_the_weights(tmp_path: Path):
    module = _Steep()
    before = weights(module.model)
    with pytest.raises(InputError, match=r"gradients of step 1 are not finite, over made-up/\d+.png, "):
        _train(tmp_path, make_config(3), module)
    assert largest_difference(weights(module.model), before) == 0


def test_the_best_weights_are_kept(tmp_path: Path):
    scores = iter([math.nan, 3.0, 1.0, 2.0])
    held: dict[int, dict[str, torch.Tensor]] = {}
    module = StandIn()

    def judge(network: nn.Module) -> Validation:
        assert network is module.model and not network.training
        return Validation(next(scores), {"unknown": None})

    result, _ = _train(
        tmp_path, make_config(8), module, validate=judge,
        report=lambda report: held.update({report.step: weights(module.model)}),
    )  # fmt: skip
    assert (result.best_step, result.best_score, result.weights) == (6, 1.0, tmp_path / "best.safetensors")
    assert largest_difference(checkpoint.load(tmp_path / "best.safetensors").weights, held[6]) == 0
    assert largest_difference(checkpoint.load(tmp_path / "last.safetensors").weights, held[8]) == 0
    logged = [(entry["step"], entry["score"]) for entry in read_log(tmp_path) if entry["kind"] == "validation"]
    assert logged == [(2, None), (4, 3.0), (6, 1.0), (8, 2.0)]
    assert module.model.training


def test_averaged_weights_are_judged_drawn_and_kept(tmp_path: Path):
    module = StandIn()
    name = "memory_projection.bias"
    average = weights(module.model)[name]
    judged, drawn = [], []

    def follow(report: StepReport) -> None:
        nonlocal average
        decay = min(0.8, (1 + report.step) / (10 + report.step))
        average = decay * average + (1 - decay) * weights(module.model)[name]

    def judge(network: Any) -> Validation:
        judged.append(float((network.memory_projection.bias.detach() - average).abs().max()))
        return Validation(1.0)

    def draw(network: Any, step: int) -> None:
        drawn.append((step, float((network.memory_projection.bias.detach() - average).abs().max())))

    _train(tmp_path, make_config(8, ema_decay=0.8), module, report=follow, validate=judge, pictures=draw)
    assert max(judged) < 1e-6 and [step for step, _ in drawn] == [5, 8] and max(off for _, off in drawn) < 1e-6
    assert (checkpoint.load(tmp_path / "last.safetensors").weights[name] - average).abs().max() < 1e-6
    assert (weights(module.model)[name] - average).abs().max() > 1e-3  # the network itself goes on from its own


@given(st.integers(2, 400), st.data())
def test_the_learning_rate_rises_straight_and_falls_over_half_a_cosine(steps: int, data: st.DataObject):
    warmup = data.draw(st.integers(0, steps - 1))
    rates = [learning_rate(step, steps, 3.0, warmup) for step in range(steps)]
    assert max(rates) == rates[warmup] == 3.0 and min(rates) > 0
    assert np.allclose(np.diff(rates[: warmup + 1]), 3.0 / (warmup + 1))
    middle = warmup + (steps - warmup) / 2
    if middle.is_integer():
        assert rates[int(middle)] == pytest.approx(1.5)


@pytest.mark.parametrize(("step", "steps", "warmup"), [(5, 5, 0), (-1, 5, 0), (0, 5, 5)])
def test_learning_rates_outside_a_run_are_refused(step: int, steps: int, warmup: int):
    with pytest.raises(InputError):
        learning_rate(step, steps, 1.0, warmup)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_an_average_needs_a_decay(decay: float):
    with pytest.raises(InputError, match="decay"):
        MovingAverage(nn.Linear(1, 1), decay)


def test_bfloat16_is_asked_of_the_network_alone(tmp_path: Path):
    seen = []

    class Asked(StandIn):
        def forward(self, *args: Any) -> Any:
            seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
            return super().forward(*args)

    _train(tmp_path, make_config(3, precision="bfloat16"), Asked())
    assert seen == [(True, torch.bfloat16)] * 3 and not torch.is_autocast_enabled("cpu")


def test_reports_say_where_the_time_went(plain):
    report = plain[1][3]
    parts = {name: value for name, value in report.seconds.items() if name != "all"}
    assert set(parts) == {"data", "forward", "backward", "update"} and min(parts.values()) > 0
    assert sum(parts.values()) <= report.seconds["all"]
    assert (report.step, report.steps, report.images) == (4, 8, 4)
    assert report.images_per_s == pytest.approx(4 / report.seconds["all"])
    assert report.data_wait_share == pytest.approx(parts["data"] / report.seconds["all"])
    assert report.loss == pytest.approx(report.losses["depth"] + 2 * report.losses["fov"], rel=1e-5)
    assert report.lr == learning_rate(3, 8, 1e-2, 2)


def test_signals_are_heard_in_the_main_thread_only(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    steps: list[int] = []
    config = make_config(3)
    inside = []

    def report(seen: StepReport) -> None:
        steps.append(seen.step)
        inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=_train, args=(tmp_path, config), kwargs={"report": report})
    thread.start()
    thread.join()
    assert steps == [1, 2, 3] and set(inside) == {before}
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.heard == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):  # asked twice: at once
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_loader_of_another_batch_is_refused(tmp_path: Path):
    config = make_config(3)
    loader = make_loader(with_optimiser(config, batch=2))
    with pytest.raises(InputError, match="batches of 2 in 1 passes for process 0 of 1, and this run needs 4 in 1"):
        train(config, StandIn(), loader, tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_long_a_rise_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(InputError, match=r"rise over 9 steps in a run of 3; lower optimiser\.warmup_steps"):
        _train(tmp_path, make_config(3, warmup_steps=9))
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "find_spec", lambda name: None if name == "accelerate" else name)
    with pytest.raises(InputError, match=r"training needs accelerate.*pip install 'crowdmesh\[train\]'"):
        _train(tmp_path, make_config(3))


def test_the_room_is_imported_without_the_extra():
    for file in Path(crowdmesh.training.__file__).parent.rglob("*.py"):
        imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        named = {alias.name for node in imports for alias in node.names} | {
            node.module or "" for node in imports if isinstance(node, ast.ImportFrom)
        }
        assert not {name for name in named if name.split(".")[0] in ("accelerate", "tensorboard")}, file
        assert "torch.utils.tensorboard" not in named, file


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("one", "2"), ("0", "-1")])
def test_processes_that_cannot_be_are_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(InputError, match="accelerate launch"):
        process_of_environment()


def test_the_log_goes_on_where_the_checkpoint_stands(tmp_path: Path):
    with MetricsLog(tmp_path, 0) as log:
        for step in (1, 2, 3):
            log.step(step, {"loss": 1.0 / step, "losses": {"pose": 1.0, "pose.0": 2.0}, "memory_mib": None})
        log.validation(2, {"score": math.inf, "figures": {"recall": 0.5}})
    with (tmp_path / LOG_NAME).open("a") as file:
        file.write('{"kind": "st')
    assert [entry["step"] for entry in read_log(tmp_path)] == [1, 2, 3, 2]
    with MetricsLog(tmp_path, 2) as log:
        log.step(3, {"loss": 9.0, "losses": {}})
    entries = read_log(tmp_path)
    assert [(entry["kind"], entry["step"]) for entry in entries] == [
        ("step", 1), ("step", 2), ("validation", 2), ("step", 3),
    ]  # fmt: skip
    assert entries[0]["losses"] == {"pose": 1.0} and entries[2]["score"] is None and entries[3]["loss"] == 9.0


def test_tensorboard_reads_the_run(tmp_path: Path):
    _train(tmp_path, make_config(4), validate=lambda _: Validation(2.0, {"recall": 0.5, "unknown": None}))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    names = set(board.Tags()["scalars"])
    assert {"step/loss", "step/losses/depth", "step/lr", "step/seconds/data", "validation/figures/recall"} <= names
    assert not any(name.endswith(".0") or "unknown" in name for name in names)
    assert [event.step for event in board.Scalars("step/loss")] == [1, 2, 3, 4]
