"""Upstream models behind one protocol per question, and the way of one photograph through them."""

from crowdmesh.experts._device import Device
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
    FirstMeshes,
    InputImage,
    KeypointExpert,
    Keypoints,
    MeshExpert,
    PersonDetector,
)
from crowdmesh.experts.first_guess import Guess
from crowdmesh.experts.options import ExpertOptions
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
    "Device",
    "Expert",
    "ExpertOptions",
    "Experts",
    "FirstMeshes",
    "Guess",
    "InputImage",
    "KeypointExpert",
    "Keypoints",
    "MeshExpert",
    "PersonDetector",
    "Reconstruction",
    "Reconstructor",
    "load_experts",
    "reconstruct",
]
