"""The files of one photograph: scene, first guess, picture, meshes and a table of people."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh.body import body_of, load_body, pose_people
from crowdmesh.dto import Placement
from crowdmesh.outputs.photo import PhotoOutput
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.visual import comparison_picture, save_glb, save_png, scene_faces, scene_picture

SUFFIXES = (".scene.npz", ".before.npz", ".png", ".glb", ".json")
"""Endings of the files written per image. The JSON table comes last and marks the set as finished; there is no GLB of
an image without people, and no ``.before.npz`` where nothing was placed."""

_FROM_DTO = ("stature_std_m", "depth_std_m", "standardised_residual", "reprojection_px")


def output_paths(folder: Path, stem: str) -> tuple[Path, ...]:
    """The files of one image."""
    return tuple(folder / f"{stem}{suffix}" for suffix in SUFFIXES)


@dataclass(frozen=True)
class Earlier:
    """What an earlier run left of an image: the provenance of its table, and whether all its files are there."""

    provenance: dict[str, Any]
    complete: bool


def made_from(folder: Path, stem: str) -> Earlier | None:
    """What an earlier run left; ``None`` where it was not finished."""
    *files, table = output_paths(folder, stem)
    try:
        record = json.loads(table.read_text())
        absent = {".glb"} if not record["people"] else set()
        absent |= {".before.npz"} if record["dto"] is None else set()
        needed = [path for path in files if not any(path.name.endswith(suffix) for suffix in absent)]
        return Earlier(dict(record["provenance"]), all(path.is_file() for path in needed))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_outputs(folder: Path, stem: str, output: PhotoOutput) -> tuple[Path, ...]:
    """Write scene, first guess, picture, GLB and JSON, each file atomic; returns those written.

    The picture shows before and after where there is a first guess, else the scene alone; of a photograph without
    people it says so.
    """
    scene, before, picture, meshes, table = output_paths(folder, stem)
    table.unlink(missing_ok=True)  # not finished from here to the end
    output.scene.save(scene)
    shown = detailed(output.scene)
    faces = scene_faces(shown)
    if output.first_guess is None:
        before.unlink(missing_ok=True)
        image = scene_picture(shown, faces, title=None if len(shown.people) else "Nobody found")
    else:
        replace(output.first_guess, image=None).save(before)  # the photograph is in the scene
        image = comparison_picture(detailed(output.first_guess), shown, faces)
    save_png(picture, image)
    if len(shown.people):
        save_glb(shown, faces, meshes)
    else:
        meshes.unlink(missing_ok=True)
    with atomic_path(table) as temporary:
        temporary.write_text(json.dumps(person_table(output), indent=1, allow_nan=False) + "\n")
    return tuple(path for path in output_paths(folder, stem) if path.exists())


def detailed(scene: Scene) -> Scene:
    """The scene with its bodies at picture resolution, where a finer mesh of the same model exists."""
    if scene.people.body != "anny" or len(scene.people) == 0:
        return scene
    return replace(scene, people=pose_people(scene.people, load_body("anny-hd")))


def person_table(output: PhotoOutput) -> dict[str, Any]:
    """Plain numbers on camera, people and solution, for JSON. Camera frame, metres, degrees; ``None``: unknown.

    The keys are always the same. Without a placement, ``dto`` and what only DTO knows of a person are ``None``.
    """
    scene, placement = output.scene, output.placement
    camera = scene.camera
    dto = None
    if placement is not None:
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
        "people": _rows(scene.people, placement),
        "dto": dto,
        "notes": list(output.notes),
        "provenance": scene.provenance,
    }


def _rows(people: People, placement: Placement | None) -> list[dict[str, Any]]:
    """One object per person; what nobody found out is ``None``."""
    pelvis = body_of(people).pelvis if len(people) else None
    pelvis_m = None if pelvis is None or people.joints_m is None else people.joints_m[:, pelvis]
    solved = {name: None if placement is None else getattr(placement, name) for name in _FROM_DTO}
    return [
        {
            "id": k,
            "score": _numbers(people.scores, k),
            "box_px": _numbers(people.boxes_px, k),
            "age_years": _numbers(people.age_years, k),
            "male_probability": _numbers(people.male_probability, k),
            "translation_m": _numbers(people.translation_m, k),
            "pelvis_m": _numbers(pelvis_m, k),
            "stature_m": _numbers(people.stature_m, k),
            "stature_std_m": _numbers(solved["stature_std_m"], k),
            "depth_std_m": _numbers(solved["depth_std_m"], k),
            "standardised_residual": _numbers(solved["standardised_residual"], k),
            "fit_error_px": _numbers(people.fit_error_px, k),
            "reprojection_px": _numbers(solved["reprojection_px"], k),
            "status": status.name.lower(),
            "reason": status.reason,
        }
        for k, status in enumerate(people.statuses)
    ]


def _numbers(values: np.ndarray | None, person: int) -> float | list[float] | None:
    if values is None:
        return None
    value = np.asarray(values[person], float)
    if value.ndim == 0:
        return float(value) if math.isfinite(value) else None
    return [float(v) for v in value]
