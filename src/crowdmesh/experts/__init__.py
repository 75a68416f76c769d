"""Upstream models behind one protocol per question, and the way of one photograph through them."""

from crowdmesh.experts.base import (
    AttributeExpert,
    Attributes,
    BodyLandmarks,
    CameraEstimate,
    CameraExpert,
    DepthExpert,
    Detections,
    Expert,
    Experts,
    KeypointExpert,
    Keypoints,
    MeshExpert,
    PersonDetector,
)
from crowdmesh.experts.presets import load_experts
from crowdmesh.experts.reconstruct import Reconstruction, Reconstructor, reconstruct

__all__ = [
    "AttributeExpert",
    "Attributes",
    "BodyLandmarks",
    "CameraEstimate",
    "CameraExpert",
    "DepthExpert",
    "Detections",
    "Expert",
    "Experts",
    "KeypointExpert",
    "Keypoints",
    "MeshExpert",
    "PersonDetector",
    "Reconstruction",
    "Reconstructor",
    "load_experts",
    "reconstruct",
]
