"""Who stands, sits or lies where, in which pose, on what, before which camera: scenes as geometry alone."""

from crowdmesh.synth.staging.compose import draw_stage

__all__ = ["draw_stage"]
