"""Crowds whose truth is known."""

from crowdmesh.synth.simulated_experts import relative_depth, single_person_guess
from crowdmesh.synth.world import SyntheticScene, WorldConfig, make_scene

__all__ = ["SyntheticScene", "WorldConfig", "make_scene", "relative_depth", "single_person_guess"]
