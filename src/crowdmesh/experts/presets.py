"""Sets of experts by name."""

from __future__ import annotations

from functools import lru_cache

from crowdmesh.assets import LITE, Asset
from crowdmesh.errors import InputError
from crowdmesh.experts.base import Experts
from crowdmesh.experts.camera import MetadataCamera
from crowdmesh.experts.landmark_fit import LandmarkFit
from crowdmesh.experts.lite_depth import FastDepth
from crowdmesh.experts.lite_faces import FaceAttributes
from crowdmesh.experts.lite_persons import YoloxPersons
from crowdmesh.experts.lite_pose import BlazePose

PRESETS: dict[str, tuple[Asset, ...]] = {
    "lite": LITE,
}
"""The files each preset needs; ``lite``: small networks for the CPU, 13 MB in all."""


def load_experts(name: str = "lite", vertical_fov: float | None = None) -> Experts:
    """Load a preset, fetching its weights where they are missing.

    Args:
        name: ``"lite"``.
        vertical_fov: of all images, radians; ``None``: from EXIF, else assumed.

    Raises:
        InputError: unknown preset.
        AssetError: weights are missing and cannot be downloaded, or are damaged.
    """
    if name not in PRESETS:
        raise InputError(f"unknown experts {name!r}; use one of {', '.join(PRESETS)}")
    persons, keypoints, mesh, attributes, depth = _lite()
    return Experts(persons, keypoints, depth, attributes, MetadataCamera(vertical_fov), mesh)


@lru_cache(maxsize=1)
def _lite() -> tuple[YoloxPersons, BlazePose, LandmarkFit, FaceAttributes, FastDepth]:
    return YoloxPersons(), BlazePose(), LandmarkFit(), FaceAttributes(), FastDepth()
