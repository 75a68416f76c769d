"""A plain table of people from any system, as ``.npz`` or ``.json``: the keys are documented in docs/conventions.md."""

from __future__ import annotations

import difflib
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh.body import BODIES, load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import FormatError, InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.scene import Scene

CAMERA_KEYS = frozenset({"intrinsics", "vertical_fov_deg", "image_size"})
PEOPLE_KEYS = frozenset(
    {
        "body", "pose", "shape", "translation_m", "vertices_m", "joints_m", "faces", "stature_m", "boxes_px", "scores",
        "keypoints_px", "age_years", "age_std_years", "male_probability", "masks",
    }
)  # fmt: skip


def read_people(path: str | Path) -> Scene:
    """A scene from a CrowdMesh ``.scene.npz`` or from a plain ``.npz`` / ``.json`` table of people.

    Raises:
        InputError: the file does not exist, lacks a key, has an unknown one, or values of a wrong shape or unit.
        FormatError: the file is corrupt.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"people file {path} does not exist")
    try:
        table = _read_json(path) if path.suffix.lower() == ".json" else _read_npz(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise FormatError(f"cannot read people from {path}: {error}") from error
    if "header" in table:
        scene = Scene.load(path)
        return scene if scene.people.vertices_m is not None else replace(scene, people=pose_people(scene.people))
    unknown = set(table) - CAMERA_KEYS - PEOPLE_KEYS
    if unknown:
        key = min(unknown)
        near = difflib.get_close_matches(key, sorted(CAMERA_KEYS | PEOPLE_KEYS), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(CAMERA_KEYS | PEOPLE_KEYS))}"
        raise InputError(f"{path} has an unknown key {key!r}; {hint}")
    camera = _camera(table, path)
    return Scene(camera, _people(table, camera, path), None, {"source": path.name})


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _read_json(path: Path) -> dict[str, Any]:
    table = json.loads(path.read_text())
    if not isinstance(table, dict):
        raise ValueError("the top level must be an object of named arrays")
    return table


def _camera(table: dict[str, Any], path: Path) -> Camera:
    if "image_size" not in table:
        raise InputError(f"{path} lacks 'image_size', (width, height) in pixels")
    size = _numbers(table, "image_size", path)
    if size.shape != (2,):
        raise InputError(f"{path}: image_size must be (width, height), got shape {size.shape}")
    width, height = int(size[0]), int(size[1])
    if "intrinsics" in table:
        return Camera.from_intrinsics(_numbers(table, "intrinsics", path), width, height)
    if "vertical_fov_deg" in table:
        fov = _numbers(table, "vertical_fov_deg", path)
        if fov.size != 1:
            raise InputError(f"{path}: vertical_fov_deg must be one number, got shape {fov.shape}")
        return Camera.from_vertical_fov(math.radians(float(fov.reshape(()))), width, height)
    raise InputError(f"{path} lacks 'intrinsics' (3x3 matrix in pixels) or 'vertical_fov_deg'")


def _numbers(table: dict[str, Any], key: str, path: Path) -> np.ndarray:
    """The numbers under a key; JSON's null becomes NaN."""
    try:
        value = np.asarray(table[key])
        value = np.asarray(value, float) if value.dtype == object else value
    except (TypeError, ValueError):
        value = np.array("irregular")
    if value.dtype.kind not in "fiu":
        raise InputError(f"{path}: {key} must hold numbers in a regular array")
    return value


def _people(table: dict[str, Any], camera: Camera, path: Path) -> People:
    values: dict[str, Any] = {
        key: _numbers(table, key, path) for key in table if key in PEOPLE_KEYS - {"body", "masks"}
    }
    if "masks" in table:
        masks = np.asarray(table["masks"])
        if masks.ndim != 3 or masks.shape[1:] != (camera.height, camera.width):
            raise InputError(
                f"{path}: masks must have shape (people, {camera.height}, {camera.width}), got {masks.shape}"
            )
        values["masks"] = Masks.from_dense(masks.astype(bool))
    name = str(table.get("body", "rigid"))
    if name == "rigid":
        return _rigid(values, path)
    if name not in BODIES:
        raise InputError(f"{path}: unknown body {name!r}; use rigid, {', '.join(BODIES)}")
    missing = [key for key in ("pose", "shape", "translation_m") if key not in values]
    if missing:
        raise InputError(f"{path}: body {name!r} needs {' and '.join(missing)} per person")
    body = load_body(name)
    count = len(values["translation_m"])
    stature = values.pop("stature_m", None)
    people = pose_people(People(body=name, stature_m=np.ones(count), **values), body)
    # The stature of a parametric body follows from its shape; a given one must agree.
    import torch

    own = body.stature(torch.from_numpy(people.shape).float()).double().numpy()  # type: ignore[arg-type]
    if stature is not None and not np.allclose(stature, own, atol=0.03):
        worst = int(np.abs(stature - own).argmax())
        raise InputError(
            f"{path}: stature_m of person {worst} is {stature[worst]:.3f} m but the shape makes {own[worst]:.3f} m; "
            "leave it out"
        )
    return People(**{**vars(people), "stature_m": own})


def _rigid(values: dict[str, Any], path: Path) -> People:
    for key, meaning in (
        ("vertices_m", "(K, V, 3) in the camera frame, metres"),
        ("faces", "(F, 3) triangles"),
        ("stature_m", "(K,) height of each body standing upright, metres"),
    ):
        if key not in values:
            raise InputError(f"{path} lacks '{key}', {meaning}; or give 'body' with pose, shape and translation_m")
    vertices = values["vertices_m"]
    if vertices.ndim != 3 or vertices.shape[-1] != 3:
        raise InputError(f"{path}: vertices_m must have shape (people, vertices, 3), got {vertices.shape}")
    values.setdefault("translation_m", vertices.mean(1, dtype=float))
    values["faces"] = values["faces"].astype(np.int64)
    return People(body="rigid", **values)
