"""DTO: one affine depth transform puts everybody in an image in their place (paper section 3.2)."""

from crowdmesh.dto.config import (
    PRESETS,
    CueConfig,
    DensityConfig,
    DTOConfig,
    FusionConfig,
    ScaleConfig,
    best,
    official,
    paper,
)
from crowdmesh.dto.cues import Cues, measure, person_depth
from crowdmesh.dto.density import StatureDensity, marginal_density
from crowdmesh.dto.interval import ScaleInterval, scale_interval
from crowdmesh.dto.place import place
from crowdmesh.dto.placement import Placement
from crowdmesh.dto.posterior import FusedDepth, fuse
from crowdmesh.dto.priors import AgeGroup, StaturePrior, stature_prior
from crowdmesh.dto.reshape import Reshaped, reshape
from crowdmesh.dto.solve import AffineDepth, solve
from crowdmesh.dto.tracks import PlacedTracks, TrackConfig, Tracks, place_tracks

__all__ = [
    "PRESETS",
    "AffineDepth",
    "AgeGroup",
    "CueConfig",
    "Cues",
    "DTOConfig",
    "DensityConfig",
    "FusedDepth",
    "FusionConfig",
    "PlacedTracks",
    "Placement",
    "Reshaped",
    "ScaleConfig",
    "ScaleInterval",
    "StatureDensity",
    "StaturePrior",
    "TrackConfig",
    "Tracks",
    "best",
    "fuse",
    "marginal_density",
    "measure",
    "official",
    "paper",
    "person_depth",
    "place",
    "place_tracks",
    "reshape",
    "scale_interval",
    "solve",
    "stature_prior",
]
