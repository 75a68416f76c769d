"""People of two origins in one set."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from crowdmesh.camera import Camera
from crowdmesh.experts._mask_codes import join_masks
from crowdmesh.masks import Masks
from crowdmesh.people import People

# What stands for a person of whom nobody said it; what is not here both have, or neither.
_UNSAID = {
    "boxes_px": 0.0, "scores": 0.0, "keypoints_px": 0.0, "age_years": np.nan, "age_std_years": np.nan,
    "male_probability": np.nan, "known_stature_m": np.nan, "fit_error_px": np.nan,
}  # fmt: skip


def join_people(first: People, second: People, camera: Camera) -> People:
    """The people of both, of the same body, in this order; the whole image is the mask of who has none."""
    values: dict[str, Any] = {"body": first.body, "faces": first.faces, "masks": None}
    if first.masks is not None or second.masks is not None:
        parts = [p.masks if p.masks is not None else whole_images(len(p), camera) for p in (first, second)]
        values["masks"] = join_masks(camera.height, camera.width, parts)
    for name in (field.name for field in fields(People) if field.name not in values):
        a, b = getattr(first, name), getattr(second, name)
        if name in _UNSAID and (a is None) != (b is None):
            a = np.full((len(first), *b.shape[1:]), _UNSAID[name]) if a is None else a
            b = np.full((len(second), *a.shape[1:]), _UNSAID[name]) if b is None else b
        values[name] = None if a is None or b is None else np.concatenate((a, b))
    return People(**values)


def whole_images(people: int, camera: Camera) -> Masks:
    """Masks that confine nobody."""
    runs = np.tile([0, camera.width * camera.height], people)
    return Masks(camera.height, camera.width, runs, np.arange(people + 1) * 2)
