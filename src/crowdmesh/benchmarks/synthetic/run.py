"""Methods over synthetic scenes, spread over processes: one scene is made once and seen under every setting."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass

from crowdmesh.benchmarks.synthetic.methods import Method
from crowdmesh.benchmarks.synthetic.records import SceneRecord, apply, record
from crowdmesh.synth.config import PRESETS
from crowdmesh.synth.expert_errors import ExpertErrors
from crowdmesh.synth.simulated_experts import observation_seed, observe
from crowdmesh.synth.world import World


@dataclass(frozen=True)
class Setting:
    """Upstream errors under a name, and the methods to compare under them."""

    name: str
    errors: ExpertErrors
    methods: tuple[Method, ...]


@dataclass(frozen=True)
class Job:
    """One scene of one world under some settings."""

    world: str
    seed: int
    index: int
    settings: tuple[Setting, ...]


def run_job(job: Job) -> list[SceneRecord]:
    """Make the scene, let the simulated experts see it under each setting, and run each method.

    Observations in which nobody was detected leave no record: there is nothing to place.
    """
    import torch

    torch.set_num_threads(1)
    world = World(PRESETS[job.world], job.seed).scene(job.index)
    records = []
    for setting in job.settings:
        # One stream per scene, the same for every setting: settings differ by strength, not by luck.
        seen = observe(world, setting.errors, observation_seed(job.seed, job.index))
        if not len(seen.person):
            continue
        for method in setting.methods:
            answer = apply(method, seen)
            records.append(record(method, setting.name, job.world, job.seed, job.index, world, seen, answer))
    return records


def run(jobs: Sequence[Job], workers: int, done: Callable[[], None] = lambda: None) -> list[SceneRecord]:
    """All records, in the order of the jobs, however many processes share the work; ``done`` is called per job."""
    if workers <= 1:
        return [r for records in _one_by_one(jobs, done) for r in records]
    results: dict[int, list[SceneRecord]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(run_job, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                done()
        except BaseException:  # do not run hundreds of scenes for an answer that is lost
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [r for number in range(len(jobs)) for r in results[number]]


def _one_by_one(jobs: Sequence[Job], done: Callable[[], None]) -> Iterator[list[SceneRecord]]:
    for job in jobs:
        yield run_job(job)
        done()
