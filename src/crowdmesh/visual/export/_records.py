"""What the files say of frame, camera and people, as plain values for JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from crowdmesh.camera import Camera
from crowdmesh.people import People
from crowdmesh.visual.export._turn import Parameters
from crowdmesh.visual.export.frame import Frame

FORMAT = "crowdmesh-export"
FORMAT_VERSION = 1


def head(body: str, frame: Frame, notes: tuple[str, ...]) -> dict[str, Any]:
    """What file this is and how its numbers are meant."""
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "frame": {"name": frame.name, "axes": frame.axes, "origin": "camera", "units": frame.units},
        "body": body,
        "notes": list(notes),
    }


def unit_notes(frame: Frame) -> tuple[str, ...]:
    """How to pose bodies with parameters of this file, where it is not plain."""
    if frame.units == "m":
        return ()
    return (
        f"lengths are in {frame.units}, but body models work in metres: pose them with translation / "
        f"{frame.per_metre:g} and multiply what comes out by {frame.per_metre:g}",
    )


def camera_values(camera: Camera) -> dict[str, float]:
    """Intrinsics and image size in pixels, pixel centres at +0.5."""
    return {field.name: getattr(camera, field.name) for field in fields(Camera)}


def person_values(people: People, parameters: Parameters, frame: Frame) -> list[dict[str, Any]]:
    """One object per person, in order: who it is and with what its body is posed, in the file's frame and unit."""
    return [
        {
            "id": k,
            "body": people.body,
            "status": status.name.lower(),
            "reason": status.reason,
            "stature": float(people.stature_m[k]) * frame.per_metre,
            "translation": plain(parameters.translation, k),
            "pose": plain(parameters.pose, k),
            "shape": plain(parameters.shape, k),
        }
        for k, status in enumerate(people.statuses)
    ]


def plain(values: np.ndarray | None, person: int) -> Any:
    """A person's numbers as lists; ``None`` for unknown ones."""
    if values is None:
        return None
    value = np.asarray(values[person], float) + 0.0  # no negative zeros
    known = np.array(value, object)
    known[~np.isfinite(value)] = None
    return known.tolist()
