"""The demo: a small crowd whose truth is known, seen person by person, then placed together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from crowdmesh.dto import DTOConfig, Placement, place
from crowdmesh.outputs import PhotoOutput, detailed, write_outputs
from crowdmesh.scene import Scene
from crowdmesh.synth import PRESETS, World, mild, observe
from crowdmesh.visual import comparison_picture, save_png, scene_faces

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
    """Build the crowd, make the classic mistakes, run DTO, write the files of a photograph called ``demo``.

    Six people of one scene of the synthetic world, all of them in view; upstream errors are mild and the camera is
    known. The picture, ``demo.png``, shows the truth as well.
    """
    world = World(PRESETS["demo"], _SEED).scene(_SCENE)
    errors = mild()
    seen = observe(world, replace(errors, hmr=replace(errors.hmr, focal_std=0.0, focal_bias=0.0)), _SEED)
    before, depth = seen.guess, seen.depth
    after, placement = place(before, depth, config)
    files = write_outputs(folder, "demo", PhotoOutput(after, (), before, placement))
    fine = detailed(after)
    picture = comparison_picture(detailed(before), fine, scene_faces(fine), detailed(world.scene))
    save_png(folder / "demo.png", picture)
    return Demo(world.scene, before, after, placement, files)
