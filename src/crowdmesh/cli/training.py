"""The verbs that train MA-HMR and look over the data for it."""

from __future__ import annotations

import signal
import sys
import time
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from crowdmesh._terminal import console, duration_text, progress, rate_progress, table
from crowdmesh.cli._options import Flag, StageName, TrainPrecision, check_writable, interruptible
from crowdmesh.errors import InputError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from crowdmesh.training.loop import TrainResult
    from crowdmesh.training.mixing import DataPart
    from crowdmesh.training.prepare import Prepared
    from crowdmesh.training.stages import Stage
    from crowdmesh.training.step_report import StepReport
    from crowdmesh.training.validation import Validation

_SPEAKS_EVERY = 30.0  # seconds between lines with every loss
_SHOWN = 5  # images that could not be used
_WAITS = 0.05  # share of a step's time from which on it is said that images come too slowly


def train(
    stage: tyro.conf.Positional[StageName],
    data: Path,
    out: Path,
    init: str | None = None,
    losses: Literal["paper", "released"] | None = None,
    config: Path | None = None,
    settings: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set")] = (),
    steps: int | None = None,
    batch: int | None = None,
    workers: int | None = None,
    seed: int | None = None,
    precision: TrainPrecision | None = None,
    allow_pickle: Flag = False,
    dry_run: Flag = False,
) -> int:
    """Train MA-HMR, stage by stage (see docs/training.md); the same command goes on where it stopped.

    Args:
        stage: which stage, or tiny: a small network on synthetic scenes.
        data: folder of the data sets.
        out: folder of the run.
        init: weights to start from: SAT-HMR (.pth), a DINOv2 encoder, a .safetensors of ours, or the folder of another
            run; none: random weights.
        losses: weights and averages of the losses: the paper's (default) or the release's.
        config: a JSON file with values that replace the stage's.
        settings: NAME=VALUE that replaces one value, such as loss.fov=0.5; may be repeated.
        steps: of the optimiser, instead of the stage's epochs.
        batch: images a step, over all processes.
        workers: processes that prepare images.
        seed: of first weights, order of images, augmentation, noise.
        precision: of the forward pass.
        allow_pickle: read label files that are pickled, through a restricted reader.
        dry_run: print the plan, try an image of every data set, write nothing.
    """
    from crowdmesh.training.overrides import changed
    from crowdmesh.training.prepare import prepare
    from crowdmesh.training.processes import check_extra, process_of_environment
    from crowdmesh.training.stages import STAGES

    chosen, process = STAGES[stage], process_of_environment()
    named = {"run.steps": steps, "optimiser.batch": batch, "run.workers": workers, "seed": seed}
    given = [f"{name}={value}" for name, value in named.items() if value is not None]
    given += [f"optimiser.precision={precision}"] * (precision is not None)
    plan = changed(chosen.make() if losses is None else chosen.with_losses(losses), (*settings, *given), config)
    if init is None and chosen.starts_from is not None:
        raise InputError(
            f"stage {stage} starts from {chosen.starts_from}; name it with --init (--init none: random weights)"
        )
    if not dry_run:
        check_extra()
        if process[0] == 0:  # several would delete each other's probe
            check_writable(out)
    with interruptible():
        prepared = prepare(plan, data, None if init == "none" else init, allow_pickle, process)
    if process[0] == 0:
        _print_plan(chosen, prepared, out)
    if dry_run:
        for line in prepared.try_out():
            console().print(line, highlight=False, markup=False, soft_wrap=True)
        return 0
    return _run(chosen, prepared, out, main=process[0] == 0)


def data(
    action: tyro.conf.Positional[Literal["check"]],
    root: tyro.conf.Positional[Path],
    only: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    allow_pickle: Flag = False,
) -> int:
    """Say which data sets for training are found below a folder, which are missing, and which malformed.

    Args:
        action: check.
        root: folder of the data sets.
        only: name of a data set to look at alone; may be repeated.
        allow_pickle: read label files that are pickled, through a restricted reader.
    """
    assert action == "check"
    from crowdmesh.training.datasets.check import check_root

    with interruptible(), progress() as bar:
        task = bar.add_task("looking", total=None)

        def report(name: str, done: int, total: int) -> None:
            bar.update(task, description=name, completed=done, total=total)

        checked = check_root(root, only or None, allow_pickle, report)
    rows = table("data set", "split", "", "what there is")
    for found in checked.datasets:
        state = "ok" if found.usable else ("--" if found.status == "missing" else "wrong")
        rows.add_row(found.name, found.split, state, found.summary())
    screen = console()
    screen.print(rows)
    for found in checked.found:
        for line in found.examples():
            screen.print(f"{found.name} {found.split}: {line}", highlight=False, markup=False, soft_wrap=True)
    if not checked.found:
        screen.print(f"nothing that can be trained on lies in {root}; see docs/training.md", highlight=False)
    return 0 if checked.usable else 1


def _print_plan(stage: Stage, prepared: Prepared, out: Path) -> None:
    """What will be learned from what, and what the released configuration did differently."""
    from crowdmesh.training.datasets.body_table import bad_records
    from crowdmesh.training.stages import loss_differences

    config, mixture = prepared.config, prepared.loader.mixture
    optimiser, network = config.optimiser, config.network
    rows = table("plan", "")
    rows.add_row("stage", f"{stage.name}: {stage.title}")
    rows.add_row("values", f"{stage.source}; anything set on the command line or in a file goes before")
    parameters = sum(parameter.numel() for parameter in prepared.module.model.parameters())
    rows.add_row("network", f"body {network.body}, {network.input_size} px, {parameters / 1e6:.1f} M parameters")
    for number, line in enumerate(prepared.start.lines()):
        rows.add_row("start" if number == 0 else "", line)
    for part, dataset, share in zip(config.data, prepared.datasets, mixture.shares, strict=True):
        images = f"{len(dataset):,} images, {100 * share:.1f} % of a batch"
        bad = bad_records(dataset)
        left_out = f"; {len(bad)} bad records left out, such as {bad[0]}" if bad else ""
        rows.add_row("learns from", f"{_named(part)}: {images}{left_out}")
    for part in config.validation:
        rows.add_row("is judged on", f"{_named(part)}")
    if prepared.validator is None:
        rows.add_row("is judged on", "nothing: the last weights are kept, whatever they are worth")
    epochs = prepared.steps * optimiser.batch / mixture.images
    rows.add_row("length", f"{prepared.steps:,} steps of {optimiser.batch} images, {epochs:.2f} times all images")
    rows.add_row("optimiser", f"AdamW, learning rate {optimiser.lr:g}, weight decay {optimiser.weight_decay:g}, "
                 f"{optimiser.precision}")  # fmt: skip
    for sentence in stage.differences:
        rows.add_row("release", sentence)
    if losses := loss_differences(config):
        rows.add_row("release", f"Losses: {', '.join(losses)}.")
    for licence in prepared.licences:
        rows.add_row("licence", licence)
    rows.add_row("into", str(out))
    console().print(rows)


def _named(part: DataPart) -> str:
    return f"{part.dataset} ({part.split})" if part.path is None else f"{part.dataset} in {part.path} ({part.split})"


def _run(stage: Stage, prepared: Prepared, out: Path, main: bool) -> int:
    """Train under a progress bar, then say what came of it."""
    from crowdmesh.training.loop import Hooks, Origin, train
    from crowdmesh.training.pictures import Pictures

    with rate_progress() as bar:
        task = bar.add_task("steps", total=prepared.steps, visible=main, says="")
        told = _Told(bar, task)
        hooks = Hooks(
            validate=prepared.validator,
            pictures=None if prepared.validator is None else Pictures(prepared.validator, out),
            report=told.step,
            report_validation=told.validation,
        )
        origin = Origin(prepared.licence, prepared.module.model.provenance)
        result = train(prepared.config, prepared.module, prepared.loader, out, hooks, origin)
    if main:
        _print_outcome(stage, prepared, result)
    return 0 if result.signal is None else 128 + result.signal


def _print_outcome(stage: Stage, prepared: Prepared, result: TrainResult) -> None:
    from crowdmesh.training.report import write_report
    from crowdmesh.training.stages import loss_differences

    screen = console()
    for key, reason in list(result.skipped.items())[:_SHOWN]:
        screen.print(f"left out {key}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if result.skipped:
        screen.print(f"{len(result.skipped)} images could not be used", highlight=False)
    if result.signal is not None:
        print(
            f"crowdmesh: stopped by {signal.Signals(result.signal).name} after step {result.step:,} of "
            f"{result.steps:,}; it is saved, and the same command goes on from there",
            file=sys.stderr,
        )
        return
    if result.best_step is not None:
        screen.print(
            f"best validation after step {result.best_step:,}: score {result.best_score:.4f} (lower is better)",
            highlight=False,
        )
    losses = loss_differences(prepared.config)
    remarks = [stage.source, *stage.differences, *[f"Released losses: {', '.join(losses)}."] * bool(losses)]
    page = write_report(result.folder, f"Training MA-HMR: {stage.name}", remarks)
    took = duration_text(result.seconds)
    screen.print(f"weights: {result.weights}, report: {page}, {took}", highlight=False, markup=False, soft_wrap=True)


class _Told:
    """Says how a run goes: a bar with the most important figures, and from time to time a line with every loss."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self.bar, self.task = bar, task
        self.begun: tuple[float, int] | None = None
        self.spoke = time.monotonic()
        self.rates: deque[float] = deque(maxlen=50)

    def step(self, report: StepReport) -> None:
        """After every step."""
        now = time.monotonic()
        if self.begun is None:  # the first step of a call is slower than the others
            self.begun = (now, report.step)
        done = report.step - self.begun[1]
        left = (now - self.begun[0]) / done * (report.steps - report.step) if done else None
        self.rates.append(report.images_per_s)
        says = f"{_mean(self.rates):.1f} images/s, loss {report.loss:.3f}, lr {report.lr:.2e}"
        says += f", waits for images {100 * report.data_wait_share:.0f} %" if report.data_wait_share > _WAITS else ""
        says += "" if left is None else f", {duration_text(left)} left"
        self.bar.update(self.task, completed=report.step, says=says)
        if now > self.spoke + _SPEAKS_EVERY or report.step == report.steps:
            losses = ", ".join(f"{name} {value:.4g}" for name, value in report.losses.items() if "." not in name)
            self._line(f"step {report.step:,} of {report.steps:,}: {says}; {losses}")
            self.spoke = now

    def validation(self, step: int, validation: Validation) -> None:
        """After every validation."""
        figures = [
            f"{name} {value:.4g}"
            for name, value in validation.figures.items()
            if value is not None and "/" not in name and name != "score"
        ]
        self._line(f"validation after step {step:,}: score {validation.score:.4f}; {', '.join(figures)}")

    def _line(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)
