"""DTO's presets on synthetic crowds with known truth: ``python benchmarks/placement.py [--scenes 200]`` prints a table.

Upstream errors: everybody adult-sized, ages wrong by a fifth, depth maps with smooth multiplicative error. An
illustration of how the parts act together, not a claim about photographs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from crowdmesh.demo import order_errors, pelvis_depth
from crowdmesh.dto import best, official, paper, place
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.synth import WorldConfig, make_scene, relative_depth, single_person_guess

torch.set_num_threads(1)

VARIANTS = {
    "paper": paper(),
    "official": official(),
    "best": best(),
    "best, slope of the first guess": replace(best(), scale=replace(best().scale, expected_size=False)),
    "best, prior lms": replace(best(), prior="lms"),
}
AGE_ERROR = 0.2
DEPTH_ERROR = 0.04


def scene(seed: int) -> tuple[Scene, Scene, object] | None:
    """Truth, first guess and disparity map; ``None`` when the crowd found no room."""
    random = np.random.default_rng(1000 + seed)
    count = int(random.integers(2, 8))
    ages = np.where(random.random(count) < 0.4, random.uniform(1, 15, count), random.uniform(18, 75, count))
    male = random.random(count) < 0.5
    config = WorldConfig(
        ages_years=tuple(ages.tolist()), male=tuple(male.tolist()), seed=seed, width=640, height=360, farthest_m=10.0
    )
    try:
        world = make_scene(config)
    except InputError:
        return None
    seen = ages * np.exp(AGE_ERROR * random.standard_normal(count))
    guess = single_person_guess(world.scene)
    people = replace(guess.people, age_years=seen, age_std_years=AGE_ERROR * seen)
    return world.scene, replace(guess, people=people), relative_depth(world.depth, random, DEPTH_ERROR)


def errors(found: Scene, truth: Scene) -> tuple[float, float, int, int]:
    """Mean relative depth error, mean stature error, wrong and all ordered pairs."""
    z, true = pelvis_depth(found), pelvis_depth(truth)
    stature = np.abs(found.people.stature_m - truth.people.stature_m)
    return float(np.abs(z / true - 1).mean()), float(stature.mean()), *order_errors(z, true)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=200)
    scenes = parser.parse_args().scenes
    rows: dict[str, list[tuple[float, float, int, int]]] = {"first guess": [], **{name: [] for name in VARIANTS}}
    accepted = dict.fromkeys(VARIANTS, 0)
    for seed in range(scenes):
        made = scene(seed)
        if made is None:
            continue
        truth, guess, depth = made
        rows["first guess"].append(errors(guess, truth))
        for name, config in VARIANTS.items():
            placed, placement = place(guess, depth, config)
            rows[name].append(errors(placed, truth))
            accepted[name] += placement.accepted
    used = len(rows["first guess"])
    print(f"{used} scenes\n")
    print("| method | relative depth error, mean (median) | stature error | pairs in wrong order | accepted |")
    print("|---|---|---|---|---|")
    for name, values in rows.items():
        depth, stature, wrong, pairs = np.array(values).T
        share = f"{accepted[name] / used:.0%}" if name in accepted else ""
        print(
            f"| {name} | {depth.mean():.1%} ({np.median(depth):.1%}) | {stature.mean() * 100:.1f} cm "
            f"| {wrong.sum() / pairs.sum():.1%} | {share} |"
        )


if __name__ == "__main__":
    main()
