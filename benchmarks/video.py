"""What one stature per person is worth in a video: depth and stature errors frame by frame and all frames together.

    python benchmarks/video.py [--world demo] [--videos 6] [--frames 10] [--seed 20] [--same-error]

Synthetic crowds walk for some frames (0.15 m a frame, each in a direction of their own); simulated experts of nominal
strength, with the true focal length, look at every frame, with an error of their own per frame or, with
``--same-error``, with the same in all frames. Ids are those of the truth, so that tracking is not judged.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from dataclasses import replace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from crowdmesh.dto import best, paper, place, place_tracks
from crowdmesh.scene import Scene
from crowdmesh.synth import PRESETS, Observation, SyntheticScene, World, nominal, observe, render_stage

STEP_M = 0.15


def walk(world: str, seed: int, index: int, frames: int) -> list[SyntheticScene]:
    """Everybody who stands on the ground walks straight on."""
    stage = World(PRESETS[world], seed).stage(index)
    people, random = stage.people, np.random.default_rng([seed, index])
    normal = stage.ground[:3] / np.linalg.norm(stage.ground[:3])
    right = np.cross(normal, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    angle = random.uniform(0.0, 2.0 * np.pi, len(people))
    stride = STEP_M * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * np.cross(right, normal))
    stride[[support != "ground" for support in stage.supports]] = 0.0
    scenes = []
    for frame in range(frames):
        moved = stride * (frame - (frames - 1) / 2)
        shifted = {
            name: getattr(people, name) + (moved[:, None] if getattr(people, name).ndim == 3 else moved)
            for name in ("translation_m", "vertices_m", "joints_m")
        }
        scene = render_stage(replace(stage, people=replace(people, **shifted)), np.random.default_rng(5), {})
        scenes.append(replace(scene, scene=replace(scene.scene, image=None)))
    return scenes


def errors_of(scene: Scene, truth: SyntheticScene, seen: Observation) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of pelvis depth and stature of everybody who was seen."""
    true, people = truth.scene.people, scene.people
    depth = people.joints_m[:, 0, 2] / true.joints_m[seen.person, 0, 2] - 1.0
    return np.abs(depth), np.abs(people.stature_m / true.stature_m[seen.person] - 1.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--world", default="demo")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--same-error", action="store_true")
    chosen = parser.parse_args()
    strength = nominal()
    strength = replace(strength, hmr=replace(strength.hmr, focal_std=0.0, focal_bias=0.0))
    rows, inside = defaultdict(list), defaultdict(list)
    for index in range(chosen.videos):
        truths = walk(chosen.world, chosen.seed, index, chosen.frames)
        seeds = [1000 * index + (0 if chosen.same_error else frame) for frame in range(chosen.frames)]
        seen = [observe(truth, strength, seed) for truth, seed in zip(truths, seeds, strict=True)]
        scenes, depths = [s.guess for s in seen], [s.depth for s in seen]
        for name, config in (("best", best()), ("paper", paper())):
            alone = [place(scene, depth, config) for scene, depth in zip(scenes, depths, strict=True)]
            together = place_tracks(scenes, depths, [s.person for s in seen], config).frames
            for how, placed in (("frame by frame", alone), ("tracks", together)):
                for (scene, placement), truth, view in zip(placed, truths, seen, strict=True):
                    rows[name, how].append(errors_of(scene, truth, view))
                    off = np.abs(scene.people.stature_m - truth.scene.people.stature_m[view.person])
                    inside[name, how].append(off < 1.645 * placement.stature_std_m)
        rows["first guess", ""] += [errors_of(*one) for one in zip(scenes, truths, seen, strict=True)]
    print(
        "| preset | | depth error | stature error | truth within the 90 % interval of stature |\n|---|---|---|---|---|"
    )
    for (name, how), values in rows.items():
        depth, stature = (np.concatenate(part).mean() for part in zip(*values, strict=True))
        told = inside.get((name, how))
        share = "" if told is None else f"{np.concatenate(told).mean():.0%}"
        print(f"| {name} | {how} | {depth:.1%} | {stature:.1%} | {share} |")


if __name__ == "__main__":
    main()
