"""How fast training is, against its arithmetic, and where a step's time goes: ``python benchmarks/training_speed.py``.

Prints Markdown: (1) steps of the released size (made-up SMPL body, given scale map, one image) and of the small
network (as many synthetic scenes as its stage takes); (2) how fast images are prepared, alone, with 0 and 2 workers.
The floor is three times the multiply-adds of the forward pass (once forward, twice backward) over the rate of matrix
products of the network's shapes, measured between the steps.
"""

from __future__ import annotations

import argparse
import os
import sys

_arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
_arguments.add_argument("--threads", type=int, default=2, help="of torch")
_arguments.add_argument("--repeats", type=int, default=5, help="steps timed, after one warm-up")
_arguments.add_argument("--world", default=None, help="folder of crowdmesh synth; default: one is made")
ARGUMENTS = _arguments.parse_args()
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = str(ARGUMENTS.threads)

import resource
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import mahmr as forward_benchmark  # benchmarks/mahmr.py
import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from training_examples import example
from training_fixtures import write_smpl

from crowdmesh.mahmr import MAHMR, MAHMRConfig
from crowdmesh.synth import PRESETS, World, write_shards
from crowdmesh.training import DataPart, Example, LossConfig, OptimiserConfig, TrainingModule, prepare
from crowdmesh.training.forward import train_forward
from crowdmesh.training.stages import STAGES
from crowdmesh.training.stepping import make_optimiser

torch.set_num_threads(ARGUMENTS.threads)
forward_benchmark.clock = time.perf_counter  # wall time, whatever the threads

COLUMNS = (
    "step", "images", "forward", "matching, losses", "backward", "clip, update", "all, s (range)", "images/s",
    "floor, s", "over floor", "memory, MiB",
)  # fmt: skip


def main() -> None:
    """Both tables."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["CROWDMESH_ASSETS"] = str(write_smpl(root / "assets"))
        world = Path(ARGUMENTS.world) if ARGUMENTS.world else root / "world"
        if not ARGUMENTS.world:
            write_shards(World(PRESETS["family"], 3), 64, world, workers=2)
        print(f"{ARGUMENTS.threads} threads, torch {torch.__version__}, {os.cpu_count()} cores\n")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for measure, what in ((official_row, "1288"), (official_row, "crowd"), (tiny_row, world)):
            # A process each: its largest memory is the row's own.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                print(process.submit(measure, what).result(), flush=True)
        print("\n| images prepared, small network, augmentation of its stage | images/s |\n|---|---|")
        for workers, remember in ((0, None), (2, None), (0, 448)):
            print(loading_row(world, workers, remember))


def official_row(title: str) -> str:
    """A step of the released size on one image."""
    case = forward_benchmark.CASES[title]
    config = MAHMRConfig.official(case.input_size)
    size = torch.tensor([float(side) for side in case.size])
    made = example(case.people, config=config, image_size=size, scale_map=case.scale_map())
    floor = 3 * sum(forward_benchmark.multiply_adds_needed(case).values())
    floor -= 3 * forward_benchmark.multiply_adds_needed(case)["bodies"]  # only points that losses need are posed
    module = TrainingModule(MAHMR(config), replace(LossConfig.paper("3-dto"), true_map=True))
    rate = forward_benchmark.MatrixRate(sum(case.tokens()))
    return row(f"released size, {case.title}, {case.people} people", module, [Example(case.image(), made.targets)],
               OptimiserConfig(), (rate, floor))  # fmt: skip


def tiny_row(world: Path) -> str:
    """A step of the small network on a batch of its stage."""
    ready = prepared(world, 0, None)
    batch = next(ready.loader.steps(0, 1))[0]
    module = TrainingModule(ready.module.model, replace(ready.module.loss, true_map=True))
    return row("`tiny`, 224 px", module, batch, ready.config.optimiser, None)


def row(
    title: str,
    module: TrainingModule,
    batch: Sequence[Example],
    config: OptimiserConfig,
    arithmetic: tuple[forward_benchmark.MatrixRate, float] | None,
) -> str:
    """Timed steps, as a row of the table."""
    optimiser = make_optimiser(module.model, config, torch.device("cpu"))
    targets = [one.targets for one in batch]
    taken = []
    for _ in range(ARGUMENTS.repeats + 1):
        marks = [time.perf_counter()]
        output = train_forward(module.model, batch, module.loss, torch.Generator().manual_seed(0))
        marks.append(time.perf_counter())
        losses = module.criterion(output, targets)
        marks.append(time.perf_counter())
        losses.total.backward()
        marks.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(module.model.parameters(), config.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        marks.append(time.perf_counter())
        taken.append(np.diff(marks))
        if arithmetic:
            arithmetic[0].measure()
    times = np.array(taken[1:])
    whole = times.sum(1)
    shares = 100 * np.median(times, 0) / np.median(times, 0).sum()
    floor = arithmetic[0].floor(arithmetic[1]) if arithmetic else None
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return " | ".join([
        f"| {title}", str(len(batch)), *(f"{share:.0f} %" for share in shares),
        f"{np.median(whole):.2f} ({whole.min():.2f} – {whole.max():.2f})", f"{len(batch) / np.median(whole):.2f}",
        "-" if floor is None else f"{floor:.2f}", "-" if floor is None else f"{np.median(whole) / floor:.2f}",
        f"{memory:.0f} |",
    ])  # fmt: skip


def loading_row(world: Path, workers: int, remember: int | None) -> str:
    """Images a second that the loader alone delivers, after the first batches (with memory: after a first pass)."""
    ready = prepared(world, workers, remember)
    batch = ready.config.optimiser.batch
    skipped, timed = (ready.loader.mixture.images // batch + 1 if remember else 3), 12
    steps = ready.loader.steps(0, skipped + timed)
    for _ in range(skipped):
        next(steps)
    start = time.perf_counter()
    for _ in range(timed):
        next(steps)
    rate = timed * batch / (time.perf_counter() - start)
    kept = "" if remember is None else ", pixels kept in memory"
    return f"| {workers or 'no'} workers{kept} | {rate:.0f} |"


def prepared(world: Path, workers: int, remember: int | None):
    """The stage `tiny` on a world."""
    config = STAGES["tiny"].make()
    run = replace(config.run, workers=workers, remember_px=remember)
    data = (DataPart("world", world.name, split="all"),)
    return prepare(replace(config, data=data, validation=(), run=run), world.parent)


if __name__ == "__main__":
    main()
