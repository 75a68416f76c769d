"""Doors for other systems' results."""

from crowdmesh.adapters.table import read_people

__all__ = ["read_people"]
