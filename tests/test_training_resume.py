"""A run that is stopped, killed or short of disk goes on as if nothing had happened, or says what is wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_stand_ins import StandIn, make_config, make_loader, real_run, weights

from crowdmesh._weights_file import read_state
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import checkpoint
from crowdmesh.training.config import TrainConfig
from crowdmesh.training.loop import Hooks, Origin, TrainResult, train
from crowdmesh.training.metrics_log import read_log
from crowdmesh.training.state import STATE_NAME, differing, digest_of_settings
from crowdmesh.training.step_report import StepReport
from crowdmesh.training.validation import Validation

CONFIG = make_config(12, accumulation=2, ema_decay=0.9)
FEW = make_config(2, warmup_steps=0)
ORIGIN = Origin("made up", {"data": ["made-up (train)"], "started_from": "a file", "start_sha256": "ab12"})


class PowerCutError(Exception):
    """The end of a run that nothing can be done about."""


def _judge(network: torch.nn.Module) -> Validation:
    """A score that falls and rises again, and depends on every digit of the weights."""
    value = float(network.memory_projection.weight.detach().sum())  # type: ignore[union-attr]
    return Validation(abs(value + 1.35), {"value": value})


def _train(
    out: Path, config: TrainConfig = CONFIG, seed: int = 0, origin: Origin = ORIGIN, **hooks: Any
) -> tuple[TrainResult, StandIn]:
    module = StandIn(seed, noise=0.1)
    result = train(config, module, make_loader(config), out, Hooks(**{"validate": _judge, **hooks}), origin)
    return result, module


def _at(step: int, act: Any) -> Any:
    def report(seen: StepReport) -> None:
        if seen.step == step:
            act()

    return report


def _terminate(number: int = signal.SIGTERM) -> Any:
    return lambda: os.kill(os.getpid(), number)


def _cut() -> None:
    raise PowerCutError


def _figures(folder: Path) -> list[tuple[Any, ...]]:
    """What the log says, but for times."""
    return [(e["kind"], e["step"], e.get("loss"), e.get("score"), e.get("lr")) for e in read_log(folder)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult, StandIn]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, *_train(folder)


def test_a_run_killed_twice_ends_like_an_undisturbed_one(undisturbed, tmp_path: Path):
    folder, whole, module = undisturbed
    # Told to stop in step 4, after which a validation is due; the power fails after step 8, two steps after a save.
    stopped, _ = _train(tmp_path, report=_at(3, _terminate()))
    assert (stopped.signal, stopped.step, stopped.weights is not None) == (signal.SIGTERM, 4, True)
    with pytest.raises(PowerCutError):
        _train(tmp_path, seed=1, report=_at(8, _cut))  # other first weights, which do not matter any more
    ended, again = _train(tmp_path, seed=2)
    assert (ended.first, ended.step, ended.signal) == (6, 12, None)
    ours, theirs = weights(again.model), weights(module.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (ended.best_step, ended.best_score) == (whole.best_step, whole.best_score)
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    state, _ = read_state(tmp_path / STATE_NAME)
    wanted, _ = read_state(folder / STATE_NAME)
    assert state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert _figures(tmp_path) == _figures(folder)


def test_the_middle_of_the_run_is_what_decides(undisturbed):
    """The run above can only prove something if weights move, and if its best weights are not its last."""
    _, whole, module = undisturbed
    assert whole.best_step is not None and whole.best_step < 12
    start = StandIn(0).model.state_dict()
    moved = {name for name, value in module.model.state_dict().items() if not torch.equal(value, start[name])}
    assert {"memory_projection.weight", "fov_head.layers.0.weight"} <= moved


def test_a_finished_run_is_left_alone(undisturbed, tmp_path: Path):
    result, _ = _train(tmp_path, FEW, seed=3)
    before = (tmp_path / "last.safetensors").read_bytes()
    again, _ = _train(tmp_path, FEW, seed=4, report=lambda _: pytest.fail("a step was taken"))
    assert (again.first, again.step, again.best_score) == (2, 2, result.best_score)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_other_settings_are_refused_by_name(undisturbed, tmp_path: Path):
    folder, *_ = undisturbed
    before = (folder / "config.json").read_bytes()
    other = replace(CONFIG, seed=6, optimiser=replace(CONFIG.optimiser, lr=0.5))
    with pytest.raises(InputError, match=r"optimiser.lr was 0.01, now 0.5; seed was 5, now 6.*another folder"):
        _train(folder, other)
    assert (folder / "config.json").read_bytes() == before


def test_what_does_not_matter_may_change(undisturbed):
    folder, *_ = undisturbed
    before = (folder / "config.json").read_bytes()
    weights_before = (folder / "last.safetensors").read_bytes()
    result, _ = _train(folder, replace(CONFIG, run=replace(CONFIG.run, save_every=7, picture_every=1, workers=1)))
    (folder / "config.json").write_bytes(before)
    assert result.first == 12
    assert (folder / "last.safetensors").read_bytes() == weights_before  # what they say of themselves, too


def test_other_first_weights_and_other_images_are_refused_by_name(undisturbed):
    folder, *_ = undisturbed
    other = Origin(ORIGIN.licence, {**ORIGIN.provenance, "start_sha256": "cd34"})
    with pytest.raises(InputError, match=r"first weights \(first_weights.start_sha256 was 'ab12', now 'cd34'\)"):
        _train(folder, origin=other)
    loader = make_loader(CONFIG)
    loader.mixture.lengths = (14,)
    with pytest.raises(InputError, match=r"images.0 was 13, now 14"):
        train(CONFIG, StandIn(), loader, folder, origin=ORIGIN)


def test_a_validation_that_fails_loses_no_step(tmp_path: Path):
    config = make_config(6, run={"save_every": 100, "validate_every": 4})

    def fail(network: Any) -> Validation:
        raise PowerCutError

    with pytest.raises(PowerCutError):
        _train(tmp_path, config, validate=fail)
    result, _ = _train(tmp_path, config)
    assert (result.first, result.step) == (4, 6)
    judged = [entry["step"] for entry in read_log(tmp_path) if entry["kind"] == "validation"]
    assert judged == [4, 6]


def test_told_to_stop_during_a_validation_it_takes_no_step_more(tmp_path: Path):
    def judge(network: Any) -> Validation:
        _terminate()()
        return _judge(network)

    result, _ = _train(tmp_path, make_config(6, run={"validate_every": 4}), validate=judge)
    assert (result.signal, result.step, result.best_step) == (signal.SIGTERM, 4, 4)


@pytest.mark.slow
def test_the_real_network_killed_twice_ends_like_an_undisturbed_one(tmp_path: Path):
    """With denoising and averaged weights, stopped once and cut off once."""

    def run(out: Path, **hooks: Any) -> TrainResult:
        config, module, loader = real_run(6, ema_decay=0.9)
        with torch.no_grad():  # a network that goes on takes nothing from the one that it was made as
            for parameter in module.parameters():
                parameter.mul_(1.5 if (out / STATE_NAME).exists() else 1.0)
        return train(config, module, loader, out, Hooks(**hooks))

    run(tmp_path / "whole")
    assert run(tmp_path / "killed", report=_at(1, _terminate())).step == 2
    with pytest.raises(PowerCutError):
        run(tmp_path / "killed", report=_at(5, _cut))
    assert run(tmp_path / "killed").first == 3
    for name in ("last.safetensors", STATE_NAME):
        ours, theirs = (read_state(tmp_path / folder / name)[0] for folder in ("killed", "whole"))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert any(name.startswith("weights.denoising_encoder") for name in ours)
    assert any(name.startswith("average.") for name in ours)


def test_settings_are_compared_by_dotted_names():
    old = {"a": {"b": 1, "c": [1, 2]}, "run": {"workers": 1}, "gone": 1}
    new = {"a": {"b": 1, "c": [1, 3]}, "run": {"workers": 2}, "new": None}
    assert differing(old, new) == [("a.c.1", 2, 3), ("gone", 1, "not set"), ("new", "not set", None)]


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path):
    """The disk fills up after the first checkpoint: no file may grow beyond what the log needs."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most[1]))

    try:
        with pytest.raises(InputError, match=r"cannot write .*state.safetensors: .*free some space"):
            _train(tmp_path, validate=None, report=_at(4, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert not list(tmp_path.glob(".*"))
    result, module = _train(tmp_path, seed=1, validate=None)
    assert (result.first, result.step) == (3, 12)
    _, whole = _train(tmp_path / "whole", validate=None)
    assert torch.equal(module.model.memory_projection.weight, whole.model.memory_projection.weight)


@pytest.mark.parametrize("harm", ["truncated", "other", "header", "network"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, harm: str):
    config = make_config(3)
    _train(tmp_path, config, validate=None)
    path = tmp_path / STATE_NAME
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif harm == "other":
        path.write_bytes((tmp_path / "last.safetensors").read_bytes())
    elif harm == "header":
        path.write_bytes(path.read_bytes().replace(b'\\"judged\\"', b'\\"jugded\\"'))
    else:
        path.write_bytes(
            path.read_bytes().replace(b"average.", b"averagd.").replace(b"weights.level", b"weights.levle")
        )
    with pytest.raises(FormatError, match=r"state\.safetensors"):
        _train(tmp_path, config, validate=None)


def test_what_a_killed_process_left_is_deleted(tmp_path: Path):
    (tmp_path / ".state.abc.safetensors").write_bytes(b"half")
    _train(tmp_path, make_config(1, warmup_steps=0), validate=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "last.safetensors", "metrics.jsonl", "state.safetensors", "tensorboard",
    ]  # fmt: skip


def test_weights_say_where_they_come_from(undisturbed):
    folder, result, _ = undisturbed
    loaded = checkpoint.load(folder / "best.safetensors")
    said = loaded.provenance
    assert (said["step"], said["started_from"], said["data"]) == (result.best_step, "a file", ["made-up (train)"])
    assert (
        said["config_sha256"] == digest_of_settings(CONFIG.to_dict()) and said["validation_score"] == result.best_score
    )
    assert said["averaged"] and loaded.config == CONFIG.network
    assert TrainConfig.from_dict(json.loads((folder / "config.json").read_text())) == CONFIG


_KILLED = """
import sys, time
from pathlib import Path
from training_stand_ins import StandIn, make_config, make_loader
from crowdmesh.training.loop import Hooks, train
config = make_config(60, run={"save_every": 5})
def slowly(report):
    print(report.step, flush=True)
    time.sleep(0.05)
train(config, StandIn(noise=0.1), make_loader(config), Path(sys.argv[1]), Hooks(report=slowly))
"""


@pytest.mark.slow
def test_a_run_killed_without_warning_ends_like_an_undisturbed_one(tmp_path: Path):
    config = make_config(60, run={"save_every": 5})
    _, module = _train(tmp_path / "whole", config, validate=None)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    for step in ("13", "31"):
        process = subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(tmp_path / "killed")],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == step:
                break
        time.sleep(0.2)
        process.kill()
        process.wait()
    result, again = _train(tmp_path / "killed", config, validate=None)
    assert result.first >= 30
    ours, theirs = weights(again.model), weights(module.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
