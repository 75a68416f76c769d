"""A small network learns eight synthetic scenes by heart: data, losses, loop and judging all pull one way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crowdmesh.mahmr import MAHMR
from crowdmesh.synth import PRESETS, World, read_shards, write_shards
from crowdmesh.training import AugmentConfig, DataPart, prepare, train
from crowdmesh.training.scene_judging import judge_scenes
from crowdmesh.training.stages import STAGES

LEAST_VISIBLE = 0.1
STEPS = 700


@pytest.mark.slow
def test_eight_scenes_are_learned_by_heart(tmp_path):
    write_shards(World(PRESETS["family"], 5), 8, tmp_path / "world")
    stage = STAGES["tiny"].make()
    config = replace(
        stage,
        network=replace(stage.network, queries=20),
        data=(DataPart("world", "world", split="all"),),
        validation=(),
        augment=AugmentConfig.none(),
        optimiser=replace(stage.optimiser, lr=1e-3, batch=8, warmup_steps=30, ema_decay=None),
        run=replace(stage.run, steps=STEPS, workers=0, save_every=STEPS, remember_px=448),
    )
    ready = prepare(config, tmp_path)
    done = train(ready.config, ready.module, ready.loader, tmp_path / "run")
    scenes = list(read_shards(tmp_path / "world"))
    seen = MAHMR.from_pretrained(done.weights).infer([scene.scene.image for scene in scenes])
    judged = judge_scenes(
        seen, [scene.scene for scene in scenes], [scene.visible_share >= LEAST_VISIBLE for scene in scenes]
    )
    figures = judged.figures()
    assert figures["recall_percent"] == 100
    assert figures["mpjpe_mm"] < 20
    assert figures["fov_deg"] < 1
