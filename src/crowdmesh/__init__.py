"""CrowdMesh: one photograph of several people becomes body meshes that share one metric camera space.

>>> import crowdmesh
>>> scene = crowdmesh.reconstruct("photo.jpg")              # everybody in their place
>>> placed, placement = crowdmesh.place(guess, depth)       # DTO on anybody's first guess
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crowdmesh.adapters import read_people
    from crowdmesh.body import load_body, pose_people
    from crowdmesh.camera import Camera
    from crowdmesh.depth import RelativeDepth
    from crowdmesh.dto import DTOConfig, Placement, place
    from crowdmesh.errors import AssetError, CrowdMeshError, FormatError, InputError
    from crowdmesh.experts import Reconstruction, Reconstructor, load_experts, reconstruct
    from crowdmesh.mahmr import MAHMR, MAHMRConfig
    from crowdmesh.masks import Masks
    from crowdmesh.people import People, PersonStatus
    from crowdmesh.scene import Scene

try:
    __version__ = version("crowdmesh")
except PackageNotFoundError:  # running from a source tree that was not installed
    __version__ = "0+unknown"

# Where each public name lives. Imported on first use, so that ``import crowdmesh`` stays fast.
_HOMES = {
    "AssetError": "errors",
    "Camera": "camera",
    "CrowdMeshError": "errors",
    "DTOConfig": "dto",
    "FormatError": "errors",
    "InputError": "errors",
    "MAHMR": "mahmr",
    "MAHMRConfig": "mahmr",
    "Masks": "masks",
    "People": "people",
    "PersonStatus": "people",
    "Placement": "dto",
    "Reconstruction": "experts",
    "Reconstructor": "experts",
    "RelativeDepth": "depth",
    "Scene": "scene",
    "load_body": "body",
    "load_experts": "experts",
    "place": "dto",
    "pose_people": "body",
    "read_people": "adapters",
    "reconstruct": "experts",
}

__all__ = [
    "MAHMR",
    "AssetError",
    "Camera",
    "CrowdMeshError",
    "DTOConfig",
    "FormatError",
    "InputError",
    "MAHMRConfig",
    "Masks",
    "People",
    "PersonStatus",
    "Placement",
    "Reconstruction",
    "Reconstructor",
    "RelativeDepth",
    "Scene",
    "load_body",
    "load_experts",
    "place",
    "pose_people",
    "read_people",
    "reconstruct",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"crowdmesh.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'crowdmesh' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
