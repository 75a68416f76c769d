"""A world whose truth is known: scenes of people of all ages, their pictures, and how upstream estimators see them."""

from crowdmesh.synth.config import PRESETS, WorldConfig
from crowdmesh.synth.expert_errors import (
    STRENGTHS,
    AttributeErrors,
    DepthErrors,
    ExpertErrors,
    HmrErrors,
    KeypointErrors,
    MaskErrors,
    exact,
    mild,
    nominal,
    strong,
)
from crowdmesh.synth.label_set import LabelSet, write_label_set
from crowdmesh.synth.label_truth import LabelTruth, read_truth
from crowdmesh.synth.rendering import render_stage
from crowdmesh.synth.scene import SyntheticScene
from crowdmesh.synth.shards import WorldFolder, open_world, read_shard, read_shards, write_shards
from crowdmesh.synth.simulated_experts import Observation, observation_seed, observe
from crowdmesh.synth.stage import Prop, Stage
from crowdmesh.synth.staging import draw_stage
from crowdmesh.synth.world import World

__all__ = [
    "PRESETS",
    "STRENGTHS",
    "AttributeErrors",
    "DepthErrors",
    "ExpertErrors",
    "HmrErrors",
    "KeypointErrors",
    "LabelSet",
    "LabelTruth",
    "MaskErrors",
    "Observation",
    "Prop",
    "Stage",
    "SyntheticScene",
    "World",
    "WorldConfig",
    "WorldFolder",
    "draw_stage",
    "exact",
    "mild",
    "nominal",
    "observation_seed",
    "observe",
    "open_world",
    "read_shard",
    "read_shards",
    "read_truth",
    "render_stage",
    "strong",
    "write_label_set",
    "write_shards",
]
