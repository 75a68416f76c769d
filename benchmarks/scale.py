"""What building a set costs beside experts and placement: time, memory and bytes per image, from few images to many.

    python benchmarks/scale.py [--records 1000 10000 100000 1000000] [--people 5] [--per-shard 256] [--folder DIR]

The whole engine runs (plan, shards, rows, Parquet, manifest) on people who are made up, as large as those of label
sets of SMPL and as hard to compress; no image is read, no network asked and nobody moved (preset ``none``). Every
size has a process of its own, on one core. A million images of five people take about a quarter of an hour and 7 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crowdmesh.pgt.job import Job

SAMPLE = 2048  # images whose steps are timed one by one


def made_up(records: int, people: int, folder: Path, per_shard: int) -> Job:
    """A job on people who are made up: random numbers of single precision, as networks give them."""
    import numpy as np

    from crowdmesh.camera import Camera
    from crowdmesh.people import People
    from crowdmesh.pgt.job import Job
    from crowdmesh.pgt.records import Entry, Sample
    from crowdmesh.scene import Scene

    camera = Camera.from_vertical_fov(1.0, 640, 480)
    sizes = {"translation_m": (3,), "pose": (24, 3), "shape": (11,), "boxes_px": (4,), "keypoints_px": (17, 3)}
    numbers = {name: int(np.prod(size)) for name, size in sizes.items()}

    class MadeUp:
        """The source; see :class:`crowdmesh.pgt.sources.base.Source`."""

        kind = "made-up"
        licences: tuple[str, ...] = ()
        needs_experts = False

        def signature(self) -> dict[str, Any]:
            return {"kind": self.kind, "people": people}

        def entries(self) -> Iterator[Entry]:
            for number in range(records):
                yield Entry("made-up", f"{number // 1000:04d}/{number:012d}.jpg", "labels", number * people, people)

        def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
            for entry in entries:
                random = np.random.default_rng(entry.row).random((people, 2 + sum(numbers.values())), np.float32)
                flat = random.astype(np.float64)
                values, start = {}, 2
                for name, size in sizes.items():
                    values[name] = flat[:, start : start + numbers[name]].reshape(people, *size)
                    start += numbers[name]
                scene = Scene(camera, People("smpl", stature_m=1.0 + flat[:, 0], scores=flat[:, 1], **values))
                yield Sample(entry, people=scene, label_rows=entry.row + np.arange(people))

    return Job(folder, MadeUp(), None, None, per_shard)


def measure(records: int, people: int, per_shard: int, folder: Path) -> dict[str, float]:
    """Build a set in this process and say what it took."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import pyarrow as pa
    import torch

    from crowdmesh.pgt.reading import open_set
    from crowdmesh.pgt.run import build, prepare

    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    job = made_up(records, people, folder / "set", per_shard)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    marks = [time.perf_counter()]
    prepared = prepare(job)
    marks.append(time.perf_counter())
    started = time.process_time()
    for _ in build(prepared):
        pass
    cpu = time.process_time() - started
    marks.append(time.perf_counter())
    built = open_set(job.folder)
    assert sum(shard.scenes for shard in built.shards) == records
    size = sum(path.stat().st_size for path in (job.folder / "shards").iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    marks.append(time.perf_counter())
    steps = steps_alone(made_up(min(records, SAMPLE), people, folder / "alone", per_shard))
    per_image = 1e3 / records
    return {
        "records": records,
        "plan_ms": (marks[1] - marks[0]) * per_image,
        "build_ms": (marks[2] - marks[1]) * per_image,
        "cpu_ms": cpu * per_image,
        "open_s": marks[3] - marks[2],
        "before_mib": before / 1024,
        "peak_mib": peak / 1024,
        "bytes": size / records,
        **steps,
    }


def steps_alone(job: Job) -> dict[str, float]:
    """CPU milliseconds per image of each step by itself."""
    from crowdmesh.pgt.rows import tables_of
    from crowdmesh.pgt.shards import ShardWriter

    marks = [time.process_time()]
    samples = list(job.source.load(list(job.source.entries())))
    marks.append(time.process_time())
    built: Any = samples
    for stage in job.stages():
        built = stage(built)
    marks.append(time.process_time())
    for start in range(0, len(built), job.per_shard):
        tables_of(built[start : start + job.per_shard])
    marks.append(time.process_time())
    for start in range(0, len(built), job.per_shard):
        with ShardWriter(job.folder, start // job.per_shard, "alone") as writer:
            writer.add(built[start : start + job.per_shard])
    marks.append(time.process_time())
    source, stages, rows, written = ((b - a) * 1e3 / len(built) for a, b in pairwise(marks))
    return {"source_ms": source, "stages_ms": stages, "rows_ms": rows, "parquet_ms": written - rows}


def main() -> None:
    """Measure every size in a process of its own and print two tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--people", type=int, default=5)
    parser.add_argument("--per-shard", type=int, default=256)
    parser.add_argument("--folder", type=Path, help="where sets are written and deleted again; default: temporary")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(measure(chosen.records[0], chosen.people, chosen.per_shard, chosen.child)))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = []
    for records in chosen.records:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
            command = [sys.executable, __file__, "--records", str(records), "--people", str(chosen.people)]
            command += ["--per-shard", str(chosen.per_shard), "--child", folder]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{records} images done", file=sys.stderr)
    report(found)


def report(found: list[dict[str, float]]) -> None:
    """Print the tables of docs/scale.md."""
    print(
        "| images | plan, ms per image | build, ms per image | of which CPU | memory, MiB (before) | bytes per image |"
    )
    print("|---|---|---|---|---|---|")
    for row in found:
        print(
            f"| {row['records']:,} | {row['plan_ms']:.3f} | {row['build_ms']:.2f} | {row['cpu_ms']:.2f} "
            f"| {row['peak_mib']:.0f} ({row['before_mib']:.0f}) | {row['bytes']:,.0f} |"
        )
    print("\n| images | source, ms | stages, ms | rows, ms | Parquet, ms | opening the set, s |")
    print("|---|---|---|---|---|---|")
    for row in found:
        steps = " | ".join(f"{row[name]:.3f}" for name in ("source_ms", "stages_ms", "rows_ms", "parquet_ms"))
        print(f"| {row['records']:,} | {steps} | {row['open_s']:.2f} |")


if __name__ == "__main__":
    main()
