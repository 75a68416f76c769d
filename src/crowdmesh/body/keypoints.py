"""Keypoint layouts: the order in which the field's datasets name body points."""

from __future__ import annotations

from crowdmesh.errors import InputError

COCO17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""COCO keypoints (Lin et al. 2014)."""

LAYOUTS: dict[str, tuple[str, ...]] = {"coco17": COCO17}


def layout_names(layout: str, body: str, available: dict[str, int]) -> tuple[str, ...]:
    """The point names of a layout, checked against what a body offers."""
    names = LAYOUTS.get(layout)
    if names is None:
        raise InputError(f"unknown keypoint layout {layout!r}; use one of {', '.join(LAYOUTS)}")
    missing = [name for name in names if name not in available]
    if missing:
        raise InputError(f"body {body!r} has no {', '.join(missing)}, which layout {layout!r} needs")
    return names
