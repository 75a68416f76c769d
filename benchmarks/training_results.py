"""What labels, camera branch and relative metric loss are worth: ``python benchmarks/training_results.py --work DIR``.

The paper's two claims about training, in the synthetic world, where the truth is known (docs/results.md). Everything is
made by commands of the package, which are printed; the same command goes on where an earlier one was stopped.

1. Data: rendered adults with true labels (the part of AGORA and BEDLAM); family photographs as upstream networks label
   them, one person at a time (the part of 4D-Humans); a set built from those labels (the part of DTO-Humans); held-out
   family scenes.
2. One network learns from the adults alone. Every variant starts from it and learns the same number of steps from the
   same images in the same order: adults, and the family photographs with one kind of label.
3. All are judged on held-out scenes. Prints Markdown, writes ``DIR/figures.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from crowdmesh._files import atomic_path
from crowdmesh.mahmr import MAHMR
from crowdmesh.scene import Scene
from crowdmesh.synth import STRENGTHS, observe, read_shards
from crowdmesh.synth.scene import SyntheticScene
from crowdmesh.synth.simulated_experts import observation_seed
from crowdmesh.training.judging import Judged
from crowdmesh.training.scene_judging import judge_scenes

FAMILY_SEED, VALIDATION_SEED, TEST_SEED, ADULTS_SEED = 700, 701, 702, 900
LEAST_VISIBLE = 0.1
"""People of whom less is seen are neither missed nor invented."""
CHUNKS = 10
"""Parts of the test scenes over which the standard error is taken."""

NETWORK = {
    "queries": 20, "width": 128, "heads": 2, "depth": 6, "decoder_depth": 2, "decoder_heads": 2, "decoder_hidden": 256,
}  # fmt: skip
"""Smaller than ``MAHMRConfig.tiny``: what one core can teach in minutes."""
AUGMENT = {"rotation_rad": 0.0, "zoom": [1.0, 1.2], "jitter": 0.1, "occlusion": 0.0}


@dataclass(frozen=True)
class Variant:
    """One run: which labels the photographs have, and which parts of the method are on."""

    name: str
    title: str
    labels: str
    camera: bool
    relative: bool


VARIANTS = (
    Variant("per-person", "per-person labels", "set-before", True, True),
    Variant("dto", "DTO labels", "set", True, True),
    Variant("truth", "true labels", "label-truth", True, True),
    Variant("no-camera", "no camera branch (60° assumed)", "set", False, False),
    Variant("camera", "camera branch, without L_rm", "set", True, False),
)
TABLES = (
    ("Labels", ("per-person", "dto", "truth")),
    ("Camera branch and relative metric loss, DTO labels", ("no-camera", "camera", "dto")),
)
COLUMNS = {
    "recall_percent": "found %", "precision_percent": "right %", "mpjpe_mm": "MPJPE mm", "pa_mpjpe_mm": "PA-MPJPE mm",
    "depth_median_percent": "depth %", "fov_deg": "FoV °", "order_percent": "order %", "pcdr_percent": "PCDR",
    "pcdr_baby_percent": "PCDR baby", "pcdr_kid_percent": "kid", "pcdr_teen_percent": "teen",
    "pcdr_adult_percent": "adult", "stature_cm": "stature cm", "stature_baby_cm": "baby", "stature_kid_cm": "kid",
    "stature_teen_cm": "teen", "stature_adult_cm": "adult",
}  # fmt: skip


def main() -> None:
    """Make data, train, judge, print."""
    chosen = _arguments()
    work: Path = chosen.work
    make_data(work, chosen.scenes, chosen.adults, chosen.test)
    start = train(work, "base", base_config(), chosen.base_steps, None)
    with ThreadPoolExecutor(chosen.parallel) as pool:  # each run is a process of its own
        runs = {v.name: pool.submit(train, work, v.name, config_of(v), chosen.steps, start) for v in VARIANTS}
        weights = {name: run.result() for name, run in runs.items()}
    scenes = list(read_shards(work / "test"))
    figures = {"base": judge(start, scenes)} | {name: judge(path, scenes) for name, path in weights.items()}
    figures["estimates"] = judge_estimates(scenes)
    told = {"options": {k: v if not isinstance(v, Path) else str(v) for k, v in vars(chosen).items()}}
    told["figures"] = figures  # type: ignore[assignment]
    with atomic_path(work / "figures.json") as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n")
    print_tables(figures)


def make_data(work: Path, scenes: int, adults: int, test: int) -> None:
    """Worlds, labels and the set built from them."""
    labels = work / "labels"
    crowdmesh("synth", "--layout", "4dhumans", "--preset", "family", "--scenes", scenes, "--seed", FAMILY_SEED,
              "--out", labels, "--workers", 2)  # fmt: skip
    crowdmesh("build", "--source", "4dhumans", "--data", labels, "--out", work / "set", "--persons",
              labels / "detections", "--ages", labels / "ages.csv", "--depth-model", labels / "depth", "--keypoints",
              "none", "--mesh", "none", "--workers", 2)  # fmt: skip
    worlds = (("adults", "adults", adults, ADULTS_SEED), ("validation", "family", 300, VALIDATION_SEED),
              ("test", "family", test, TEST_SEED))  # fmt: skip
    for name, preset, count, seed in worlds:
        crowdmesh("synth", "--preset", preset, "--scenes", count, "--seed", seed, "--out", work / name, "--workers", 2)


def base_config() -> dict[str, Any]:
    """What learns from the rendered adults alone."""
    return {
        "data": [{"dataset": "world", "path": "adults", "split": "all"}],
        "validation": [{"dataset": "world", "path": "validation", "split": "all"}],
        "network": dict(NETWORK),
        "augment": AUGMENT,
        "loss": {"relative_metric": 0.0},
        "run": {"validate_every": 400, "picture_every": 400},
    }


def config_of(variant: Variant) -> dict[str, Any]:
    """What a variant learns from, and with which losses."""
    config = base_config()
    config["data"] = [
        {"dataset": "world", "path": "adults", "split": "all", "weight": 1.0},
        {"dataset": variant.labels, "path": "set", "split": "all", "weight": 2.0},
    ]
    if not variant.camera:
        config["network"]["fov"] = False
        config["loss"]["fov"] = 0.0
    if variant.relative:
        del config["loss"]["relative_metric"]
    return config


def train(work: Path, name: str, config: dict[str, Any], steps: int, start: Path | None) -> Path:
    """One run by the command line; its weights after the last step, so that all have had the same budget."""
    out = work / "runs" / name
    if (weights := out / "last.safetensors").is_file():
        return weights
    out.mkdir(parents=True, exist_ok=True)
    file = out.with_suffix(".json")
    file.write_text(json.dumps(config, indent=1) + "\n")
    crowdmesh("train", "tiny", "--data", work, "--out", out, "--config", file, "--steps", steps, "--workers", 0,
              "--init", "none" if start is None else start)  # fmt: skip
    return weights


def crowdmesh(*arguments: object) -> None:
    """Run a command of the package, and say so; its output goes into a file."""
    words = [str(argument) for argument in arguments]
    print("crowdmesh", *words, flush=True)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "crowdmesh.cli", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"crowdmesh {' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
    print(f"  {(time.monotonic() - began) / 60:.1f} min", flush=True)


def judge(weights: Path, scenes: Sequence[SyntheticScene]) -> dict[str, Any]:
    """A network's figures on held-out scenes."""
    model = MAHMR.from_pretrained(weights)

    def predict(chunk: Sequence[SyntheticScene]) -> list[Scene]:
        return model.infer([scene.scene.image for scene in chunk if scene.scene.image is not None])

    return _judged(scenes, predict)


def judge_estimates(scenes: Sequence[SyntheticScene]) -> dict[str, Any]:
    """The same of what upstream networks say of one person at a time (nominal errors), from which labels are made."""
    errors = STRENGTHS["nominal"]()

    def predict(chunk: Sequence[SyntheticScene]) -> list[Scene]:
        seeds = [observation_seed(TEST_SEED, scene.scene.provenance["index"]) for scene in chunk]
        return [observe(scene, errors, seed).guess for scene, seed in zip(chunk, seeds, strict=True)]

    return _judged(scenes, predict)


def _judged(
    scenes: Sequence[SyntheticScene], predict: Callable[[Sequence[SyntheticScene]], list[Scene]]
) -> dict[str, Any]:
    parts = []
    for chunk in np.array_split(np.arange(len(scenes)), min(CHUNKS, len(scenes))):
        some = [scenes[i] for i in chunk]
        counted = [scene.visible_share >= LEAST_VISIBLE for scene in some]
        parts.append(judge_scenes(predict(some), [scene.scene for scene in some], counted))
    figures, split = Judged.merged(parts).figures(), [part.figures() for part in parts]
    errors = {name: _standard_error([one[name] for one in split]) for name in figures}
    return {"figures": figures, "standard_errors": errors}


def _standard_error(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else None


def print_tables(figures: dict[str, Any]) -> None:
    """Markdown."""
    titles = {variant.name: variant.title for variant in VARIANTS}
    titles |= {"base": "adults alone (where all start)", "estimates": "per-person estimates of upstream networks"}
    for title, names in (*TABLES, ("For comparison", ("base", "estimates"))):
        print(f"\n### {title}\n\n| | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}")
        for name in names:
            cells = [_cell(figures[name]["figures"][c], figures[name]["standard_errors"][c]) for c in COLUMNS]
            print(f"| {titles[name]} | {' | '.join(cells)} |")


def _cell(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if error is None else f"{value:.1f} ± {error:.1f}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything")
    parser.add_argument("--scenes", type=int, default=4000, help="family photographs to learn from")
    parser.add_argument("--adults", type=int, default=2000, help="rendered adults to learn from")
    parser.add_argument("--test", type=int, default=400, help="held-out scenes")
    parser.add_argument("--base-steps", type=int, default=1500, help="of the common start")
    parser.add_argument("--steps", type=int, default=300, help="of every variant")
    parser.add_argument("--parallel", type=int, default=2, help="variants that train at once, one core each")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    return chosen


if __name__ == "__main__":
    main()
