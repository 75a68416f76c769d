"""Whatever stops a build, and whenever: the next one goes on, and the set comes out as if nothing had happened.

Builders run in processes of their own, which are killed without warning (SIGKILL).
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from _pgt_stand_ins import StandInSource, rows_of

from crowdmesh.errors import InputError
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.manifest import read_manifest
from crowdmesh.pgt.run import build, prepare
from crowdmesh.pgt.runners import run_here, run_processes, run_ray

# Processes start from one that has loaded everything once, as a killed builder's command would have to each time.
multiprocessing.set_forkserver_preload(["crowdmesh.pgt.run", "_pgt_stand_ins"])
CONTEXT = multiprocessing.get_context("forkserver")
pooled = functools.partial(run_processes, workers=2, start="forkserver")
nested = functools.partial(run_processes, workers=2, start="fork")  # in a process that has loaded everything


def slow_job(folder: Path, images: int = 60, delay: float = 0.01, **options) -> Job:
    source = StandInSource(images, delay=delay, diary=folder.parent / f"{folder.name}.diary")
    return Job(folder, source, None, None, **{"per_shard": 4, "batch": 3, **options})


def work(job: Job, run, part: tuple[int, int] = (0, 1)) -> None:
    for _ in build(prepare(job, part), run):
        pass


def started(job: Job, run=run_here, part: tuple[int, int] = (0, 1)) -> multiprocessing.Process:
    process = CONTEXT.Process(target=work, args=(job, run, part))
    process.start()
    return process


def committed(folder: Path) -> int:
    return len(list(folder.glob("shards/scenes-*.parquet")))


def assert_undisturbed(folder: Path, undisturbed: tuple[pa.Table, pa.Table]) -> None:
    """The set is complete, equal row for row to one that was built in one go, and nothing else is left."""
    assert read_manifest(folder).complete
    for there, expected in zip(rows_of(folder), undisturbed, strict=True):
        assert there.equals(expected)
    assert not list(folder.rglob(".*"))
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "plan", "shards", "problems.csv"}


def wait_for(what, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[pa.Table, pa.Table]:
    """The rows of a set that was built in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    process = started(Job(folder, StandInSource(60), None, None, per_shard=4, batch=3))
    process.join()
    return rows_of(folder)


@pytest.mark.parametrize(
    "run", [pytest.param(run_here, id="here"), pytest.param(nested, id="processes", marks=pytest.mark.slow)]
)
def test_builder_killed_at_ten_random_moments(tmp_path, run):
    """Enough work that none of the ten comes too late, on a fast machine or a slow one."""
    whole = started(Job(tmp_path / "whole", StandInSource(240), None, None, per_shard=4, batch=3))
    whole.join(120)
    job = slow_job(tmp_path / "set", images=240)
    moments = random.Random(6)
    for _ in range(10):
        process = started(job, run)
        time.sleep(moments.uniform(0.0, 0.2))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert committed(job.folder) < 60
    process = started(replace(job, source=replace(job.source, delay=0.0)), run)
    process.join(120)
    assert process.exitcode == 0
    assert_undisturbed(job.folder, rows_of(tmp_path / "whole"))


def test_workers_end_when_their_parent_is_killed(tmp_path):
    job = slow_job(tmp_path / "set", images=1000)
    process = started(job, nested)
    wait_for(lambda: job.source.diary.is_file() and len(set(job.source.diary.read_text().split())) == 2)
    workers = {int(pid) for pid in job.source.diary.read_text().split()}
    assert process.pid not in workers
    process.kill()
    process.join()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 10)


def test_worker_killed_from_outside_is_one_sentence_and_finished_shards_stay(tmp_path, undisturbed):
    job = slow_job(tmp_path / "set")
    steps = build(prepare(job), pooled)
    next(steps)
    os.kill(int(job.source.diary.read_text().split()[-1]), signal.SIGKILL)
    with pytest.raises(InputError, match=r"stopped from outside .* finished shards are kept"):
        list(steps)
    assert 0 < committed(job.folder) < 15
    work(job, pooled)
    assert_undisturbed(job.folder, undisturbed)


@pytest.mark.parametrize("run", [run_here, pooled], ids=["here", "processes"])
def test_build_closed_in_the_middle_leaves_whole_shards_only(tmp_path, undisturbed, run):
    job = slow_job(tmp_path / "set")
    steps = build(prepare(job), run)
    for _ in range(3):
        next(steps)
    steps.close()
    assert 0 < committed(job.folder) < 15
    assert not list(job.folder.rglob(".*"))
    assert len(list(job.folder.glob("shards/people-*"))) == committed(job.folder)
    work(job, run)
    assert_undisturbed(job.folder, undisturbed)


def test_processes_build_the_same_set(tmp_path, undisturbed):
    job = slow_job(tmp_path / "set", delay=0.0)
    steps = list(build(prepare(job), pooled))
    assert len(steps) == 15 and steps[-1].done == steps[-1].built == 60
    assert_undisturbed(job.folder, undisturbed)


def test_two_processes_share_the_work_at_once(tmp_path, undisturbed):
    job = slow_job(tmp_path / "set", delay=0.005)
    parts = [started(job, run_here, (number, 2)) for number in range(2)]
    for process in parts:
        process.join(120)
        assert process.exitcode == 0
    assert len(job.source.diary.read_text().split()) == 15  # no shard was built twice
    assert_undisturbed(job.folder, undisturbed)


def test_same_build_started_twice_at_once(tmp_path, undisturbed):
    job = slow_job(tmp_path / "set", delay=0.005)
    twins = [started(job) for _ in range(2)]
    for process in twins:
        process.join(120)
        assert process.exitcode == 0
    assert_undisturbed(job.folder, undisturbed)


@pytest.mark.parametrize("run", [run_here, pooled], ids=["here", "processes"])
def test_full_disk_is_one_sentence_and_the_build_goes_on_when_there_is_room(tmp_path, undisturbed, run):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here (needs root)")
    try:
        job = slow_job(disk / "set", delay=0.0)
        job = replace(job, source=replace(job.source, diary=None))
        with pytest.raises(InputError, match=r"cannot write .*No space left on device; free some space") as caught:
            work(job, run)
        assert "\n" not in str(caught.value)
        there = committed(job.folder)
        assert 0 < there < 15 and not list(job.folder.rglob(".*"))
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        work(job, run)
        assert_undisturbed(job.folder, undisturbed)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


_COMMAND = """
import sys
from pathlib import Path
from test_pgt_kills import slow_job, work
from crowdmesh.pgt.runners import run_here
if __name__ == "__main__":
    try:
        work(slow_job(Path(sys.argv[1])), run_here)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.slow
def test_command_is_interrupted_from_the_keyboard(tmp_path, undisturbed):
    job = slow_job(tmp_path / "set")
    command = [sys.executable, "-c", _COMMAND, str(job.folder)]
    process = subprocess.Popen(command, cwd=Path(__file__).parent)
    wait_for(lambda: committed(job.folder) > 1)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert 0 < committed(job.folder) < 15 and not list(job.folder.rglob(".*"))
    subprocess.run(command, cwd=Path(__file__).parent, check=True)
    assert_undisturbed(job.folder, undisturbed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_replaces_an_actor_that_is_killed(tmp_path, undisturbed, monkeypatch):
    pytest.importorskip("ray.data")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    job = slow_job(tmp_path / "set", delay=0.05)
    steps = build(prepare(job), functools.partial(run_ray, address="local", workers=2))
    next(steps)
    killed = int(job.source.diary.read_text().split()[-1])
    os.kill(killed, signal.SIGKILL)
    assert [step.done for step in steps][-1] == 60
    assert_undisturbed(job.folder, undisturbed)
    builders = set(job.source.diary.read_text().split())
    assert str(killed) in builders and len(builders) == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_says_in_one_sentence_what_is_wrong(tmp_path, monkeypatch):
    pytest.importorskip("ray.data")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    job = slow_job(tmp_path / "set", delay=0.0)
    prepare(job)
    with pytest.raises(InputError, match=r"cannot reach a Ray cluster at 127.0.0.1:1 \(") as caught:
        list(run_ray(job, [0], "127.0.0.1:1", 1))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="ask for more than the"):
        list(run_ray(job, [0], "local", 1, gpus=8.0))
    with pytest.raises(InputError, match="shards 0 to 14"):
        list(run_ray(job, [99], "local", 1))
