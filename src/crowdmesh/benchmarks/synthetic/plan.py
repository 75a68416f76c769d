"""What the whole benchmark runs: which scenes under which errors with which methods, by table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crowdmesh.benchmarks.synthetic.methods import METHODS, RIVALS, TRIALS, Method
from crowdmesh.benchmarks.synthetic.run import Job, Setting
from crowdmesh.errors import InputError
from crowdmesh.synth import STRENGTHS, DepthErrors, exact, mild, nominal, strong

DEVELOPMENT_SEED = 0
"""Trials are compared on this seed, on which ``best`` was developed."""
FIRST_HELD_OUT_SEED = 100
"""Every other table comes from seeds from this one on, never looked at while ``best`` was developed."""

TABLES = ("main", "depth", "focal", "worlds", "trials")
FOCAL_ERRORS = (-0.3, -0.15, 0.0, 0.15, 0.3)
WORLDS = ("family", "adults", "crowd", "occluded", "jump", "partial")


@dataclass(frozen=True)
class Effort:
    """How much to run: held-out seeds; scenes per seed of the main table, of the sweeps over depth maps and focal
    lengths, and of each other world; scenes of the trials."""

    seeds: int = 5
    scenes: int = 60
    sweep_scenes: int = 20
    world_scenes: int = 10
    trial_scenes: int = 60

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise InputError(f"seeds and scenes must be at least 1, got {self}")

    def changed(self, seeds: int | None, scenes: int | None) -> Effort:
        """Another number of held-out seeds, or of scenes in every table; ``None``: as it is."""
        seeds = self.seeds if seeds is None else seeds
        return replace(self, seeds=seeds) if scenes is None else Effort(seeds, scenes, scenes, scenes, scenes)


QUICK = Effort(seeds=3, scenes=10, sweep_scenes=3, world_scenes=2, trial_scenes=8)


def settings_of(table: str) -> tuple[Setting, ...]:
    """The errors and methods of one table; the names of settings are unique over all tables."""
    if table == "main":
        return tuple(Setting(name, errors(), METHODS) for name, errors in STRENGTHS.items())
    if table == "depth":
        depths = {"exact": exact().depth, "mild": mild().depth, "nominal": DepthErrors(), "strong": strong().depth}
        return tuple(Setting(f"depth {name}", replace(nominal(), depth=d), RIVALS) for name, d in depths.items())
    if table == "focal":
        return tuple(
            Setting(
                f"focal {bias:+.0%}",
                replace(nominal(), hmr=replace(nominal().hmr, focal_bias=bias, focal_std=0.0)),
                RIVALS,
            )
            for bias in FOCAL_ERRORS
        )
    if table == "worlds":
        return (Setting("nominal", nominal(), RIVALS),)
    if table == "trials":
        methods = tuple(trial.method for trial in TRIALS)
        return tuple(Setting(f"trial {name}", errors(), methods) for name, errors in STRENGTHS.items())
    raise InputError(f"unknown table {table!r}; use one of {', '.join(TABLES)}")


def jobs_of(tables: Sequence[str], effort: Effort, method: str | None = None, strength: str | None = None) -> list[Job]:
    """Every scene once, under all the settings that the tables ask of it.

    Args:
        method, strength: only these rows (a method's name; a setting's name or its last word).
    """
    settings = {table: _chosen(settings_of(table), method, strength) for table in tables}
    sweeps = settings.get("depth", ()) + settings.get("focal", ())
    jobs = []
    for seed in range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + effort.seeds):
        for i in range(max(effort.scenes, effort.sweep_scenes)):
            main = settings.get("main", ()) if i < effort.scenes else ()
            jobs.append(Job("mixed", seed, i, main + (sweeps if i < effort.sweep_scenes else ())))
        others = settings.get("worlds", ())
        jobs += [Job(world, seed, i, others) for world in WORLDS for i in range(effort.world_scenes)]
    trials = settings.get("trials", ())
    jobs += [Job("mixed", DEVELOPMENT_SEED, i, trials) for i in range(effort.trial_scenes)]
    jobs = [job for job in jobs if job.settings]
    if not jobs:
        raise InputError(f"no row of {', '.join(tables)} has method {method!r} and strength {strength!r}")
    return jobs


def _chosen(settings: Sequence[Setting], method: str | None, strength: str | None) -> tuple[Setting, ...]:
    chosen = []
    for setting in settings:
        methods: tuple[Method, ...] = tuple(m for m in setting.methods if method is None or m.name == method)
        if methods and (strength is None or strength in (setting.name, setting.name.split()[-1])):
            chosen.append(replace(setting, methods=methods))
    return tuple(chosen)
