"""Doors for other systems' results."""

from crowdmesh.adapters.base import Adapter, Given
from crowdmesh.adapters.reading import ADAPTERS, identify, image_names, read_people, read_scenes

__all__ = ["ADAPTERS", "Adapter", "Given", "identify", "image_names", "read_people", "read_scenes"]
