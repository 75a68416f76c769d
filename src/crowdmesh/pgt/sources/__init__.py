"""Where images, and what is known of their people, come from: one module a source (docs/sources.md)."""

from crowdmesh.pgt.sources.base import Source
from crowdmesh.pgt.sources.images import ImageFolder
from crowdmesh.pgt.sources.labels import LabelSource
from crowdmesh.pgt.sources.relative_human import RelativeHumanSource
from crowdmesh.pgt.sources.scenes import SceneSource
from crowdmesh.pgt.sources.synthetic import SyntheticSource

__all__ = ["ImageFolder", "LabelSource", "RelativeHumanSource", "SceneSource", "Source", "SyntheticSource"]
