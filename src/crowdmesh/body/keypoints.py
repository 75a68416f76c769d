"""Keypoint layouts: the order in which the field's datasets name body points."""

from __future__ import annotations

from crowdmesh.errors import InputError

COCO17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""COCO keypoints (Lin et al. 2014)."""

_FEET = ("left_toe", "right_toe", "left_heel", "right_heel")

BODY22 = ("pelvis", *COCO17, *_FEET)
"""The pelvis, COCO's keypoints and the feet: points that every body with a skeleton has."""

_FINGERS = ("thumb", "index", "middle", "ring", "little")

SMPL45 = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
    "nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_toe", "left_small_toe", "left_heel",
    "right_toe", "right_small_toe", "right_heel",
    *(f"{side}_{finger}_tip" for side in ("left", "right") for finger in _FINGERS),
)  # fmt: skip
"""SMPL's 24 joints and the 21 surface points that its users add to them (nose to finger tips)."""

LAYOUTS: dict[str, tuple[str, ...]] = {"coco17": COCO17, "body22": BODY22, "smpl45": SMPL45}


def layout_names(layout: str, body: str, available: dict[str, int]) -> tuple[str, ...]:
    """The point names of a layout, checked against what a body offers."""
    names = LAYOUTS.get(layout)
    if names is None:
        raise InputError(f"unknown keypoint layout {layout!r}; use one of {', '.join(LAYOUTS)}")
    missing = [name for name in names if name not in available]
    if missing:
        raise InputError(f"body {body!r} has no {', '.join(missing)}, which layout {layout!r} needs")
    return names
