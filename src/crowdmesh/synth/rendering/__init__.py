"""Pictures of stages: places, light, clothes and lens, with the truth of every pixel."""

from crowdmesh.synth.rendering.render import render_stage

__all__ = ["render_stage"]
