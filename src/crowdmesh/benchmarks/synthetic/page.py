"""docs/results.md: the tables, the figure and the worst scenes, with the command and the machine that made them."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crowdmesh._files import atomic_path
from crowdmesh.benchmarks.synthetic.methods import METHODS
from crowdmesh.benchmarks.synthetic.pictures import WorstScene
from crowdmesh.benchmarks.synthetic.plan import DEVELOPMENT_SEED, FIRST_HELD_OUT_SEED, Effort
from crowdmesh.benchmarks.synthetic.tables import TextTable

KEPT = "<!-- from here on: not of crowdmesh bench, which keeps it -->"
"""What follows this line of a page stays when the page is written anew: results of other commands."""


@dataclass(frozen=True)
class Run:
    """What a reader must know of the run behind a page: the command, the effort, seconds and processes."""

    command: str
    effort: Effort
    seconds: float
    workers: int


def write_page(
    path: Path, tables: Mapping[str, Sequence[TextTable]], figure: Path | None, worst: Sequence[WorstScene], run: Run
) -> None:
    """Write the page; atomic. What stands below :data:`KEPT` in an old page stays there.

    Args:
        tables: text tables by table of the plan. figure: the four panels. worst: worst scenes with their pictures.
    """
    parts = [_head(run)]
    if "main" in tables:
        main = list(tables["main"])
        parts += ["## In the world of mixed scenes\n", _methods(), *(table.markdown() for table in main)]
        if figure is not None:
            parts.append(f"![Accuracy by strength, order by gap, error by size, calibration.]({_link(figure, path)})\n")
    for name, heading in (
        ("depth", "## What the depth map is worth\n"),
        ("focal", "## What the focal length is worth\n"),
        ("worlds", "## Elsewhere\n"),
    ):
        if name in tables:
            parts += [heading, *(table.markdown() for table in tables[name])]
    if worst:
        parts += ["## Where each method fails worst\n", *(_worst(scene, path) for scene in worst)]
    if "trials" in tables:
        parts += ["## How `best` came about\n", *(table.markdown() for table in tables["trials"])]
    _, kept, rest = (path.read_text("utf-8") if path.is_file() else "").partition(KEPT)
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*parts, kept + rest] if kept else parts), "utf-8")


def _head(run: Run) -> str:
    effort = run.effort
    again = (
        f"crowdmesh bench --table main --method best --strength nominal --seeds {effort.seeds} --scenes {effort.scenes}"
    )
    return f"""# Results

Accuracy of the placement in the synthetic world, where the truth is known. The world, the simulated experts and every
strength of their errors: [world.md](world.md). What this says of photographs and what it does not, why `best` is what
it is, and the sample photographs stage by stage: [findings.md](findings.md). Public benchmarks:
[evaluation.md](evaluation.md). Speed: [benchmarks.md](benchmarks.md).

`{run.command}`, {datetime.date.today().isoformat()}: {run.seconds / 60:.0f} minutes on {run.workers} processes,
{_machine()}.

- {effort.seeds} held-out seeds, from {FIRST_HELD_OUT_SEED} on; per seed {effort.scenes} scenes of the main world,
  {effort.sweep_scenes} of them also for depth maps and focal lengths, and {effort.world_scenes} of each other world.
- Trials: development seed {DEVELOPMENT_SEED}, {effort.trial_scenes} scenes.
- Scenes in which nobody is detected are left out: there is nothing to place, whatever the method.
- This page but for its last part is written by that command. Single rows again, for example: `{again}`.
"""


def _machine() -> str:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    import torch

    return f"{name}, Python {platform.python_version()}, torch {torch.__version__}"


def _methods() -> str:
    return "\n".join(f"- `{method.name}`: {method.says}" for method in METHODS) + "\n"


def _worst(scene: WorstScene, page: Path) -> str:
    return (
        f"`{scene.method}`: scene {scene.index} of seed {scene.seed}, mean relative depth error {scene.error:.0%} had "
        f"the focal length been known (hollow: truth).\n\n"
        f"![First guess and {scene.method} in its worst scene.]({_link(scene.picture, page)})\n"
    )


def _link(target: Path, page: Path) -> str:
    return target.relative_to(page.parent).as_posix()
