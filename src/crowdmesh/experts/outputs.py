"""What a user gets per image: a scene file, a picture, a mesh file and a table of people."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh.body import body_of, load_body, pose_people
from crowdmesh.dto import Placement
from crowdmesh.scene import Scene
from crowdmesh.visual import comparison_picture, save_glb, save_png

SUFFIXES = (".scene.npz", ".png", ".glb", ".json")
"""Endings of the files written per image. The JSON table comes last and marks the set as finished; there is no GLB of
an image without people."""


def output_paths(folder: Path, stem: str) -> tuple[Path, ...]:
    """The files of one image."""
    return tuple(folder / f"{stem}{suffix}" for suffix in SUFFIXES)


def made_from(folder: Path, stem: str) -> dict[str, Any] | None:
    """The provenance of the finished outputs of an image; ``None`` where they are not finished."""
    *files, table = output_paths(folder, stem)
    try:
        record = json.loads(table.read_text())
        needed = [path for path in files if record["people"] or path.suffix != ".glb"]
        return record["provenance"] if all(path.is_file() for path in needed) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_outputs(
    folder: Path, stem: str, before: Scene, after: Scene, placement: Placement, notes: tuple[str, ...] = ()
) -> tuple[Path, ...]:
    """Write scene, picture (before and after), GLB and JSON, each file atomic; returns those written."""
    paths = output_paths(folder, stem)
    paths[3].unlink(missing_ok=True)  # not finished from here to the end
    after.save(paths[0])
    detailed_before, detailed_after = detailed(before), detailed(after)
    faces = body_of(detailed_after.people).faces.numpy()
    save_png(paths[1], comparison_picture(detailed_before, detailed_after, faces))
    if len(after.people):
        save_glb(detailed_after, faces, paths[2])
    else:
        paths[2].unlink(missing_ok=True)
    with atomic_path(paths[3]) as temporary:
        temporary.write_text(json.dumps(person_table(after, placement, notes), indent=1, allow_nan=False) + "\n")
    return tuple(path for path in paths if path.exists())


def detailed(scene: Scene) -> Scene:
    """The scene with its bodies at picture resolution, where a finer mesh of the same model exists."""
    if scene.people.body != "anny":
        return scene
    return replace(scene, people=pose_people(scene.people, load_body("anny-hd")))


def person_table(scene: Scene, placement: Placement, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    """Plain numbers on camera, people and solution, for JSON. Camera frame, metres, degrees; ``None``: unknown."""
    people, camera = scene.people, scene.camera
    pelvis = body_of(people).pelvis
    rows = []
    for k, status in enumerate(people.statuses):
        rows.append(
            {
                "id": k,
                "box_px": _numbers(people.boxes_px, k),
                "age_years": _numbers(people.age_years, k),
                "male_probability": _numbers(people.male_probability, k),
                "translation_m": _numbers(people.translation_m, k),
                "pelvis_m": None if pelvis is None else _numbers(people.joints_m[:, pelvis], k),  # type: ignore[index]
                "stature_m": _numbers(people.stature_m, k),
                "stature_std_m": _numbers(placement.stature_std_m, k),
                "depth_std_m": _numbers(placement.depth_std_m, k),
                "standardised_residual": _numbers(placement.standardised_residual, k),
                "fit_error_px": _numbers(people.fit_error_px, k),
                "reprojection_px": _numbers(placement.reprojection_px, k),
                "status": status.name.lower(),
                "reason": status.reason,
            }
        )
    summary = placement.to_dict()
    dto = {key: summary[key] for key in ("preset", "scale", "shift", "interval", "active", "score", "accepted")}
    return {
        "format": "crowdmesh-people",
        "version": 1,
        "frame": "OpenCV: x right, y down, z forward; metres",
        "camera": {
            **{name: getattr(camera, name) for name in ("fx", "fy", "cx", "cy", "width", "height")},
            "vertical_fov_deg": math.degrees(camera.vertical_fov),
        },
        "people": rows,
        "dto": dto,
        "notes": list(notes),
        "provenance": scene.provenance,
    }


def _numbers(values: np.ndarray | None, person: int) -> float | list[float] | None:
    if values is None:
        return None
    value = np.asarray(values[person], float)
    if value.ndim == 0:
        return float(value) if math.isfinite(value) else None
    return [float(v) for v in value]
