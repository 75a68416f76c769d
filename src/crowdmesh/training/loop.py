"""A training run from its first step, or from its last checkpoint, to its end.

A run's folder holds ``config.json``, ``state.safetensors`` (to go on from), ``best.safetensors`` (the weights of the
best validation), ``last.safetensors`` (those after the last step), ``metrics.jsonl`` and ``tensorboard/``. One process
writes them; with several, all must see the folder.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from crowdmesh._files import atomic_path
from crowdmesh._weights_file import SUFFIX
from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMR, checkpoint
from crowdmesh.training.config import TrainConfig
from crowdmesh.training.forward import TrainingModule
from crowdmesh.training.loading import Loader
from crowdmesh.training.metrics_log import MetricsLog
from crowdmesh.training.processes import make_accelerator
from crowdmesh.training.schedule import learning_rate
from crowdmesh.training.state import (
    STATE_NAME,
    Position,
    Trained,
    digest_of_settings,
    load_state,
    save_state,
    sweep_files,
)
from crowdmesh.training.step_report import StepClock, StepReport
from crowdmesh.training.stepping import Stepper, Taken
from crowdmesh.training.stopping import StopSignals
from crowdmesh.training.validation import Validation

CONFIG_NAME = "config.json"
BEST_NAME = f"best{SUFFIX}"
LAST_NAME = f"last{SUFFIX}"


@dataclass(frozen=True)
class Hooks:
    """What a run does beside its steps; ``None``: nothing. Only the main process does any of it.

    Attributes:
        validate: judges the network, which has its averaged weights if an average is kept.
        pictures: draws what the network sees after a step.
        report: is told of every step. report_validation: of every validation, and after which step.
    """

    validate: Callable[[MAHMR], Validation] | None = None
    pictures: Callable[[MAHMR, int], None] | None = None
    report: Callable[[StepReport], None] | None = None
    report_validation: Callable[[int, Validation], None] | None = None


@dataclass(frozen=True)
class Origin:
    """What is written into files of weights.

    Attributes:
        licence: of the weights, in words.
        provenance: what they were made from, values that JSON knows. What begins with ``start`` is about the first
            weights (``started_from``, ``start_sha256`` ...) and must be the same when a run goes on. Steps,
            configuration and score are added to the rest.
    """

    licence: str = "not stated; it depends on the data and the weights that they were trained from"
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        folder: of the run. step, steps: done, and of the whole run. first: where this call began.
        signal: number of the signal that stopped it; ``None``: it is complete.
        best_score, best_step: of the best validation; ``None`` without one.
        weights: the file to use: of the best validation, else of the last step; ``None`` until there is one.
        skipped: images that this process could not use, and why.
        seconds: of this call.
    """

    folder: Path
    step: int
    steps: int
    first: int
    signal: int | None
    best_score: float | None
    best_step: int | None
    weights: Path | None
    skipped: Mapping[str, str]
    seconds: float


def train(
    config: TrainConfig,
    module: TrainingModule,
    loader: Loader,
    out: Path,
    hooks: Hooks | None = None,
    origin: Origin | None = None,
) -> TrainResult:
    """Train, or go on with what was trained in ``out`` before.

    Going on gives the same weights as never having stopped, bit for bit on a CPU. SIGTERM and SIGINT (in the main
    thread) end the run after the step, when its state is saved; the result says so.

    Args:
        config: of the run. module: the network to train, with its losses; its weights are those that the run begins
            with. loader: of this process and of ``config``'s batch and accumulation.
        out: the run's folder.
        origin: of the data and the first weights.

    Raises:
        InputError: accelerate is missing, the loader does not fit, the folder holds a run with other settings, other
            numbers of images or other first weights, the folder cannot be written, or losses or gradients are not
            finite; the last checkpoint is intact.
        FormatError: the checkpoint in the folder is damaged.
    """
    return _Run(config, module, loader, Path(out), hooks or Hooks(), origin or Origin()).run()


class _Run:
    """One call of :func:`train`."""

    def __init__(
        self, config: TrainConfig, module: TrainingModule, loader: Loader, out: Path, hooks: Hooks, origin: Origin
    ) -> None:
        self.begun = time.monotonic()
        self.accelerator = make_accelerator()
        self.config, self.loader, self.out, self.hooks, self.origin = config, loader, out, hooks, origin
        self.main = self.accelerator.is_main_process
        self.steps = config.run.steps_for(loader.mixture.images, config.optimiser.batch)
        self._check_loader()
        learning_rate(0, self.steps, config.optimiser.lr, config.optimiser.warmup_steps)  # refuses too long a rise
        self.stepper = Stepper(self.accelerator, module, config.optimiser, config.seed)
        self.network = module.model
        self.trained = Trained(self.network, self.stepper.optimiser, self.stepper.average)
        self.settings = config.to_dict()
        first_weights = {name: value for name, value in self.origin.provenance.items() if name.startswith("start")}
        self.given = {"images": list(loader.mixture.lengths), "first_weights": first_weights}
        self.position = self._resume()

    def run(self) -> TrainResult:
        first = self.position.step
        with ExitStack() as stack:
            stop = stack.enter_context(StopSignals())
            log = stack.enter_context(MetricsLog(self.out, first)) if self.main else None
            if first and not self._judged():
                self._validate(log)
                self._save()
            ended = self._steps(stop, log)
        if self.position.step == self.steps:
            self._write_weights(LAST_NAME)
        files = [self.out / BEST_NAME] * (self.position.best_step is not None) + [self.out / LAST_NAME]
        return TrainResult(
            folder=self.out,
            step=self.position.step,
            steps=self.steps,
            first=first,
            signal=ended,
            best_score=self.position.best_score,
            best_step=self.position.best_step,
            weights=next((file for file in files if file.is_file()), None),
            skipped=dict(self.loader.skipped),
            seconds=time.monotonic() - self.begun,
        )

    def _steps(self, stop: StopSignals, log: MetricsLog | None) -> int | None:
        """All steps that are left; the signal that ended them early."""
        batches = self.loader.steps(self.position.step, self.steps)
        for step in range(self.position.step, self.steps):
            clock = StepClock(self.accelerator.device)
            micro = next(batches)
            taken = self.stepper(step, self.steps, micro, stop.heard is not None, clock)
            self.position = self.position.after(step + 1)
            self._report(taken, clock, log)
            stopped = taken.stop and step + 1 < self.steps
            if stopped or not self._judged() or self._due(self.config.run.save_every):
                self._save()  # first, so that a validation that fails loses nothing
            if not stopped:
                stopped = self._beside(stop, log) and step + 1 < self.steps
            if stopped:
                # All processes end at the same step; one that heard nothing itself was told by another one.
                return stop.heard or signal.SIGTERM
        return None

    def _beside(self, stop: StopSignals, log: MetricsLog | None) -> bool:
        """Validation and pictures, where they are due; whether any process was told to stop during a validation."""
        told = False
        if not self._judged():
            self._validate(log)
            self._save()
            heard = torch.tensor(float(stop.heard is not None), device=self.accelerator.device)
            told = bool(self.accelerator.reduce(heard, "sum") > 0)  # type: ignore[operator]
        if not told:
            self._draw()
        return told

    def _draw(self) -> None:
        if self.main and self.hooks.pictures is not None and self._due(self.config.run.picture_every):
            with self._as_judged():
                self.hooks.pictures(self.network, self.position.step)

    def _due(self, every: int) -> bool:
        return self.position.step % every == 0 or self.position.step == self.steps

    def _judged(self) -> bool:
        """Is there no validation left to do after the steps that are done?"""
        due = self.hooks.validate is not None and self._due(self.config.run.validate_every)
        return not due or self.position.judged == self.position.step

    def _validate(self, log: MetricsLog | None) -> None:
        """Judge the network; if it was never better, keep its weights."""
        if self.main and self.hooks.validate is not None and log is not None:
            with self._as_judged():
                validation = self.hooks.validate(self.network)
            self.position = self.position.with_score(validation.score)
            log.validation(self.position.step, {"score": validation.score, "figures": dict(validation.figures)})
            if self.position.best_step == self.position.step:
                self._write_weights(BEST_NAME)
            if self.hooks.report_validation is not None:
                self.hooks.report_validation(self.position.step, validation)
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _as_judged(self) -> Iterator[None]:
        """The network as it is judged and kept: not training, with its averaged weights if there are any."""
        average = self.stepper.average
        with ExitStack() as stack:
            if average is not None:
                stack.enter_context(average.applied())
            self.network.eval()
            try:
                yield
            finally:
                self.network.train()

    def _write_weights(self, name: str) -> None:
        if not self.main:
            return
        provenance = {
            **self.origin.provenance,
            "step": self.position.step,
            "averaged": self.stepper.average is not None,
            "config_sha256": digest_of_settings(self.settings),
        }
        if name == BEST_NAME:
            provenance["validation_score"] = self.position.best_score
        with self._as_judged():
            checkpoint.save(self.network, self.out / name, self.origin.licence, provenance)

    def _report(self, taken: Taken, clock: StepClock, log: MetricsLog | None) -> None:
        seconds = clock.seconds()
        if log is None:
            return
        batch, device = self.config.optimiser.batch, self.accelerator.device
        report = StepReport(
            step=self.position.step,
            steps=self.steps,
            images=batch,
            images_per_s=batch / max(seconds["all"], 1e-9),
            loss=taken.loss,
            losses=taken.losses,
            lr=taken.lr,
            grad_norm=taken.grad_norm,
            seconds=seconds,
            memory_mib=torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
        )
        log.step(report.step, report.figures())
        if self.hooks.report is not None:
            self.hooks.report(report)

    def _save(self) -> None:
        if self.main:
            save_state(self.out / STATE_NAME, self.trained, self.position, self.settings, self.given)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> Position:
        """Go on from the folder's checkpoint, if there is one, and leave the settings there."""
        path = self.out / STATE_NAME
        position = load_state(path, self.trained, self.settings, self.given) if path.is_file() else Position()
        if self.accelerator.num_processes > 1:
            step = torch.tensor([position.step, -position.step], device=self.accelerator.device)
            highest, lowest = self.accelerator.gather(step).view(-1, 2).amax(0).tolist()  # type: ignore[union-attr]
            if highest != -lowest:
                raise InputError(
                    f"not all processes find the same checkpoint in {self.out}; use a folder all of them see"
                )
        if self.main:
            sweep_files(self.out)
            with atomic_path(self.out / CONFIG_NAME) as temporary:
                temporary.write_text(json.dumps(self.settings, indent=2) + "\n")
        return position

    def _check_loader(self) -> None:
        """Does the loader read what this process is to train on?"""
        wanted = self.config.optimiser
        process = (self.accelerator.process_index, self.accelerator.num_processes)
        given = (self.loader.batch, self.loader.accumulation, self.loader.process)
        if given != (wanted.batch, wanted.accumulation, process):
            raise InputError(
                f"the loader reads batches of {given[0]} in {given[1]} passes for process {given[2][0]} of "
                f"{given[2][1]}, and this run needs {wanted.batch} in {wanted.accumulation} for process {process[0]} "
                f"of {process[1]}"
            )
