"""The demo: a small crowd whose truth is known, seen person by person, then placed together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from crowdmesh.body import load_body
from crowdmesh.dto import DTOConfig, Placement, place
from crowdmesh.outputs import detailed
from crowdmesh.scene import Scene
from crowdmesh.synth import PRESETS, World, mild, observe
from crowdmesh.visual import comparison_picture, save_glb, save_png

_SEED, _SCENE = 3, 4

ORDER_GAPS_M = (0.2, math.inf)
"""Two people whose true depths differ by less than 0.2 m have no order to get wrong (as in PCDR_0.2)."""


@dataclass(frozen=True, eq=False)
class Demo:
    """Truth, first guess and placed scene of the demo crowd, and the files written."""

    truth: Scene
    before: Scene
    after: Scene
    placement: Placement
    files: tuple[Path, ...]


def run_demo(folder: Path, config: DTOConfig | None = None) -> Demo:
    """Build the crowd, make the classic mistakes, run DTO, write ``picture.png``, ``scene.npz``, ``scene.glb``.

    Six people of one scene of the synthetic world, all of them in view; upstream errors are mild and the camera is
    known.
    """
    world = World(PRESETS["demo"], _SEED).scene(_SCENE)
    errors = mild()
    seen = observe(world, replace(errors, hmr=replace(errors.hmr, focal_std=0.0, focal_bias=0.0)), _SEED)
    before, depth = seen.guess, seen.depth
    after, placement = place(before, depth, config)
    files = (folder / "picture.png", folder / "scene.npz", folder / "scene.glb")
    faces = load_body("anny-hd").faces.numpy()
    fine_after = detailed(after)
    save_png(files[0], comparison_picture(detailed(before), fine_after, faces, detailed(world.scene)))
    after.save(files[1])
    save_glb(fine_after, faces, files[2])
    return Demo(world.scene, before, after, placement, files)
