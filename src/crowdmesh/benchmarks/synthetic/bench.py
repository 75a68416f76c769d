"""The whole synthetic benchmark in one call: run, tabulate, draw, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crowdmesh.benchmarks.synthetic.methods import METHODS
from crowdmesh.benchmarks.synthetic.page import Run, write_page
from crowdmesh.benchmarks.synthetic.pictures import save_worst
from crowdmesh.benchmarks.synthetic.plan import TABLES, Effort, jobs_of
from crowdmesh.benchmarks.synthetic.plots import save_figure
from crowdmesh.benchmarks.synthetic.run import run
from crowdmesh.benchmarks.synthetic.tables import BUILDERS, TextTable, main_table
from crowdmesh.synth import STRENGTHS
from crowdmesh.visual.plots import require_plots

Progress = Callable[[int, int], None]
"""Called with the number of scenes done and to do."""


@dataclass(frozen=True)
class Bench:
    """What a run of the benchmark gave: its tables in order, and the files written."""

    tables: tuple[TextTable, ...]
    files: tuple[Path, ...]


def run_bench(
    docs: Path, effort: Effort, workers: int, command: str, progress: Progress = lambda done, total: None
) -> Bench:
    """Run everything and write ``results.md`` and its pictures into ``docs``."""
    require_plots("benchmark")
    start = time.perf_counter()
    records = _run(jobs_of(TABLES, effort), workers, progress)
    tables = {name: [build(records) for build in BUILDERS[name]] for name in TABLES}
    images = docs / "images"
    figure = images / "bench.png"
    save_figure(records, figure)
    worst = save_worst(records, images)
    page = docs / "results.md"
    write_page(page, tables, figure, worst, Run(command, effort, time.perf_counter() - start, workers))
    files = (page, figure, *(scene.picture for scene in worst))
    return Bench(tuple(table for part in tables.values() for table in part), files)


def bench_rows(
    table: str,
    effort: Effort,
    workers: int,
    method: str | None = None,
    strength: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Bench:
    """Run one table again, or some of its rows, and write nothing.

    Args:
        table: one of ``TABLES``. method: only this one. strength: only this setting.
    """
    records = _run(jobs_of([table], effort, method, strength), workers, progress)
    if table == "main" and (method or strength):
        chosen = [m for m in METHODS if method in (None, m.name)]
        names = [name for name in STRENGTHS if strength in (None, name)]
        return Bench(tuple(main_table(records, name, chosen) for name in names), ())
    return Bench(tuple(build(records) for build in BUILDERS[table]), ())


def _run(jobs: Sequence, workers: int, progress: Progress) -> list:
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        progress(done, len(jobs))

    return run(jobs, workers, one_more)
