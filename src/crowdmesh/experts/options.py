"""What a user may choose within a set of experts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from crowdmesh.experts._device import Device


@dataclass(frozen=True)
class ExpertOptions:
    """Choices that replace those of a preset; ``None`` leaves the preset's own.

    Attributes:
        vertical_fov: of all images, in radians.
        persons: a detector by name (``presets.OFFERS``), an RF-DETR model folder, or a file or folder of detections.
        keypoints: an expert by name, or a folder with a ViTPose model.
        depth: an expert by name, a folder with a Depth Anything model, or (without a ``config.json``) one of maps.
        mesh, camera: an expert by name.
        ages: an expert by name, or a ``.csv`` or ``.json`` file.
        flip_test: average ViTPose over each crop and its mirror image.
        camerahmr, humanfov: where the user's checkpoints are, if not in the asset folders.
        allow_remote_code: whether MiVOLO may run the Python code that comes with its weights.
        device: where networks run, in which precision, and on how much at once. Decides no result but by rounding.
    """

    vertical_fov: float | None = None
    persons: str | None = None
    keypoints: str | None = None
    mesh: str | None = None
    depth: str | None = None
    camera: str | None = None
    ages: str | None = None
    flip_test: bool = False
    camerahmr: Path | None = None
    humanfov: Path | None = None
    allow_remote_code: bool = False
    device: Device = field(default_factory=Device)
