"""Timings of every part, on one core: ``python benchmarks/run.py [part ...]`` prints a Markdown table.

Each row is the median (and range) of repeated calls after a warm-up, single-threaded. Parts that need sample
photographs look for them in ``photos/`` under CROWDMESH_ASSETS.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

torch.set_num_threads(1)
cv2.setNumThreads(1)


def timed(call: Callable[[], object], repeats: int = 15) -> tuple[float, float, float]:
    """Median, least and greatest seconds of a call."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), min(seconds), max(seconds)


def ms(times: tuple[float, float, float]) -> str:
    """Median and range in milliseconds."""
    return f"{times[0] * 1e3:.1f} ms ({times[1] * 1e3:.1f} – {times[2] * 1e3:.1f})"


def solver() -> Iterator[tuple[str, str]]:
    """A million scenes of five people, beside the time memory needs to move the same arrays once."""
    from crowdmesh.dto import solve

    scenes, people = 1_000_000, 5_000_000
    random = np.random.default_rng(0)
    data = [
        random.uniform(0.001, 0.02, people), random.uniform(2, 10, people), random.uniform(1.5, 1.9, people),
        random.uniform(1.6, 1.8, people), np.full(people, 0.07),
    ]  # fmt: skip
    scene = np.repeat(np.arange(scenes), 5)
    times = timed(lambda: solve(*data, (100.0, 500.0), scene), 5)
    yield (
        "solver, 1e6 scenes of 5 people",
        f"{ms(times)}: {scenes / times[0] / 1e6:.2f} M scenes/s, {people / times[0] / 1e6:.1f} M people/s",
    )
    shuffled = random.permutation(people)
    mixed = [values[shuffled] for values in data]
    times = timed(lambda: solve(*mixed, (100.0, 500.0), scene[shuffled]), 3)
    yield "the same, people in random order", f"{ms(times)}: {people / times[0] / 1e6:.1f} M people/s"
    # Floor: read five inputs and the scene number, write four person and seven scene results, once each.
    source, target = np.ones((6, people)), np.ones((4, people))
    results = np.ones((7, scenes))

    def move() -> None:
        np.add.reduce(source, axis=1)
        target.fill(1.0)
        results.fill(1.0)

    floor = timed(move, 5)
    yield "memory floor: inputs read and results written once", f"{ms(floor)}: {people / floor[0] / 1e6:.0f} M people/s"


def crowd(count: int):
    """A synthetic image with ``count`` people at 1280x720: first guess and disparity map."""
    from dataclasses import replace

    from crowdmesh.synth import PRESETS, World, exact, observe

    ages = [float(a) for a in np.tile([35, 30, 6, 11, 2, 60, 40, 15, 9, 25], 3)[:count]]
    lineup = tuple((age, i % 2 == 0) for i, age in enumerate(ages))
    world = World(replace(PRESETS["demo"], lineup=lineup, distance_m=(3.0, 7.5 + 0.6 * count)), 4).scene(0)
    seen = observe(world, exact(), 0)
    return seen.guess, seen.depth


def placing() -> Iterator[tuple[str, str]]:
    """`place` at 1280x720 without networks."""
    from crowdmesh.body import load_body
    from crowdmesh.dto import PRESETS, place

    body = load_body("anny")
    for count in (5, 20):
        guess, depth = crowd(count)
        for preset in ("best", "paper", "official"):
            config = PRESETS[preset]()
            _, placement = place(guess, depth, config, body)
            placed = sum(status.placed for status in placement.statuses)
            times = timed(lambda g=guess, d=depth, c=config: place(g, d, c, body))
            yield f"place, {count} people, 1280x720, {preset}", f"{ms(times)}; {placed} placed"


def bodies() -> Iterator[tuple[str, str]]:
    """Body forward passes and the z-buffer."""
    from crowdmesh.body import load_body
    from crowdmesh.raster import rasterize

    K = np.array([[415.0, 0, 256], [0, 415.0, 144], [0, 0, 1]])
    for name in ("anny", "anny-hd"):
        body = load_body(name)
        for count in (1, 5, 20):
            shape = body.default_shape(count)
            rotations = torch.eye(3).repeat(count, len(body.joint_names), 1, 1)
            rotations[:, 0] = torch.from_numpy(body.facing_camera).float()
            random = np.random.default_rng(0)
            place = np.stack((random.uniform(-3, 3, count), np.zeros(count), random.uniform(4, 9, count)), 1)
            translation = torch.from_numpy(place).float()
            with torch.no_grad():
                yield (
                    f"{name} forward, {count} people",
                    ms(timed(lambda b=body, s=shape, r=rotations, t=translation: b(s, r, t))),
                )
                vertices = body(shape, rotations, translation).vertices
            yield (
                f"z-buffer 512x288, {name}, {count} people",
                ms(timed(lambda b=body, v=vertices: rasterize(v, b.faces, K, (288, 512)))),
            )


def photographs() -> Iterator[tuple[str, str]]:
    """Landmark fit and the whole line on sample photographs."""
    from crowdmesh.experts import InputImage, Reconstructor, load_experts
    from crowdmesh.images import read_image
    from crowdmesh.outputs import PhotoOutput, write_outputs

    folder = Path(os.environ.get("CROWDMESH_ASSETS", "")) / "photos"
    if not folder.is_dir():
        yield "photographs", "skipped: CROWDMESH_ASSETS names no folder with photos/"
        return
    experts = load_experts("lite")
    reconstructor = Reconstructor(experts)
    for path in sorted(folder.glob("*.jpg")):
        images = [InputImage(read_image(path), path)]
        cameras = [estimate.camera for estimate in experts.camera.estimate(images)]
        detections = experts.persons.detect(images)
        keypoints = experts.keypoints.locate(images, detections)
        fit = timed(lambda i=images, c=cameras, d=detections, k=keypoints: experts.mesh.fit(i, c, d, k), 5)
        count = len(detections[0])
        yield f"landmark fit, {path.stem} ({count} people)", f"{ms(fit)}: {fit[0] / count * 1e3:.0f} ms per person"
        whole = timed(lambda p=path: reconstructor(p), 3)
        yield f"reconstruct without writing, {path.stem}", ms(whole)
    result = reconstructor(path)
    output = PhotoOutput(result.scene, result.notes, result.first_guess, result.placement)
    target = Path(os.environ.get("TMPDIR", "/tmp")) / "crowdmesh_bench"
    yield (
        f"writing the four outputs, {path.stem}",
        ms(timed(lambda: write_outputs(target, "x", output), 3)),
    )


def worlds() -> Iterator[tuple[str, str]]:
    """The synthetic world: geometry, picture, simulated experts, shards."""
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from crowdmesh.synth import PRESETS, World, nominal, observe, write_shards

    for count in (5, 60):
        config = replace(PRESETS["mixed"], people=(count, count), image_sizes=((640, 480),))
        world = World(config, 0)
        scenes = [world.scene(i) for i in range(6)]
        for what, call in (
            ("geometry", world.stage),
            ("whole", world.scene),
            ("seen by the experts", lambda i, some=scenes: observe(some[i], nominal(), 0)),
        ):
            times = timed(lambda c=call: [c(i) for i in range(6)], 3)
            yield (
                f"synthetic scene 640x480, {count} people, {what}",
                f"{times[0] / 6 * 1e3:.0f} ms, {6 / times[0]:.1f}/s",
            )
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_shards(World(PRESETS["mixed"], 0), 24, folder, 24)
        seconds = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder).glob("*.parquet")) / 24
    yield "synthetic scenes of `mixed` made and written", f"{24 / seconds:.1f}/s, {size / 1e3:.0f} kB each"


PARTS = {"solver": solver, "placing": placing, "bodies": bodies, "worlds": worlds, "photographs": photographs}


def main() -> None:
    """Run the named parts, or all."""
    unknown = set(sys.argv[1:]) - set(PARTS)
    if unknown:
        sys.exit(f"unknown part {', '.join(unknown)}; use {', '.join(PARTS)}")
    print(
        f"{_processor()}, Python {platform.python_version()}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n"
    )
    print("| what | median (range) |\n|---|---|")
    for name in sys.argv[1:] or PARTS:
        for what, figure in PARTS[name]():
            print(f"| {what} | {figure} |", flush=True)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.processor()}, one core of {os.cpu_count()}"


if __name__ == "__main__":
    main()
