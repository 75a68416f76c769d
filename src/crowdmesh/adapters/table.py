"""A plain table of people from any system, as ``.npz`` or ``.json``: the keys are documented in docs/conventions.md."""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import read_npz, reading
from crowdmesh.body import BODIES, Anny, BodyModel, RigidBody, load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.scene import Scene, scene_of

CAMERA_KEYS = ("image_size", "intrinsics", "vertical_fov_deg")
PEOPLE_KEYS = (
    "body", "vertices_m", "pose", "shape", "translation_m", "stature_m", "joints_m", "faces", "boxes_px", "scores",
    "keypoints_px", "age_years", "age_std_years", "male_probability", "masks",
)  # fmt: skip

# Outside these nobody's numbers are in metres: the stature, and the largest extent of a posed body along an axis.
_STATURES_M = (0.2, 3.0)
_EXTENTS_M = (0.1, 4.0)

_SHAPE_SLACK = 1e-3
_STATURE_TOLERANCE_M = 0.03
_WHAT = "table of people"

Table = dict[str, Any]


def read_people(path: str | Path) -> Scene:
    """A scene from a CrowdMesh ``.scene.npz`` or from a plain ``.npz`` / ``.json`` table of people.

    Raises:
        InputError: the file does not exist, lacks a key, has an unknown one, or values of a wrong shape or unit.
        FormatError: the file is damaged or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"people file {path} does not exist")
    if path.suffix.lower() == ".json":
        table = _read_json(path)
    else:
        table = read_npz(path, _WHAT)
        if "header" in table:
            scene = scene_of(table, path)
            return scene if scene.people.vertices_m is not None else replace(scene, people=pose_people(scene.people))
    try:
        _refuse_unknown_keys(table)
        camera = _camera(table)
        return Scene(camera, _people(table, camera), None, {"source": path.name})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_json(path: Path) -> Table:
    with reading(path, _WHAT):
        table = json.loads(path.read_text("utf-8"))
        if not isinstance(table, dict):
            raise ValueError("its top level must be an object of named arrays")
        return table


def _refuse_unknown_keys(table: Table) -> None:
    known = sorted((*CAMERA_KEYS, *PEOPLE_KEYS))
    for key in sorted(set(table) - set(known)):
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        raise InputError(f"unknown key {key!r}; {hint}")


def _array(table: Table, key: str, kinds: str = "fiu") -> np.ndarray:
    """The numbers under a key, of one of the kinds of NumPy; JSON's null becomes NaN."""
    try:
        value = np.asarray(table[key])
        value = np.asarray(value, float) if value.dtype == object else value
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{key} must hold numbers in a regular array") from error
    if value.dtype.kind not in kinds:
        raise InputError(f"{key} must hold numbers in a regular array, got {value.dtype}")
    return value


def _whole_numbers(table: Table, key: str) -> np.ndarray:
    value = _array(table, key)
    wrong = value[~(np.isfinite(value) & (np.abs(value) < 2**53) & (value == np.rint(value)))]
    if wrong.size:
        raise InputError(f"{key} must hold whole numbers, got {wrong[0]:g}")
    return value.astype(np.int64)


def _camera(table: Table) -> Camera:
    if "image_size" not in table:
        raise InputError("the table lacks 'image_size', (width, height) in pixels")
    size = _whole_numbers(table, "image_size")
    if size.shape != (2,):
        raise InputError(f"image_size must be (width, height), got shape {size.shape}")
    width, height = int(size[0]), int(size[1])
    if "intrinsics" in table:
        return Camera.from_intrinsics(_array(table, "intrinsics"), width, height)
    if "vertical_fov_deg" in table:
        fov = _array(table, "vertical_fov_deg")
        if fov.size != 1:
            raise InputError(f"vertical_fov_deg must be one number, got shape {fov.shape}")
        return Camera.from_vertical_fov(math.radians(fov.item()), width, height)
    raise InputError("the table lacks 'intrinsics' (3x3 matrix in pixels) or 'vertical_fov_deg'")


def _people(table: Table, camera: Camera) -> People:
    name = str(table.get("body", "rigid"))
    if name != "rigid" and name not in BODIES:
        raise InputError(f"unknown body {name!r}; use rigid, {', '.join(BODIES)}")
    _check_keys(table, name)
    values: Table = {key: _array(table, key) for key in PEOPLE_KEYS if key in table and key not in ("body", "masks")}
    _check_lengths(values)
    if "stature_m" in values:
        _check_range(values["stature_m"], _STATURES_M, "stature_m must be in metres")
    if "masks" in table:
        values["masks"] = _masks(table, camera)
    if name == "rigid":
        values["faces"] = _whole_numbers(table, "faces")
        return _rigid(values)
    return _parametric(values, load_body(name))


def _check_keys(table: Table, body: str) -> None:
    if body == "rigid":
        for key, meaning in (
            ("vertices_m", "(K, V, 3) in the camera frame, metres"),
            ("faces", "(F, 3) triangles"),
            ("stature_m", "(K,) height of each body standing upright, metres"),
        ):
            if key not in table:
                raise InputError(
                    f"the table lacks '{key}', {meaning}; or give 'body' with pose, shape and translation_m"
                )
        return
    missing = [key for key in ("pose", "shape", "translation_m") if key not in table]
    if missing:
        raise InputError(f"body {body!r} needs {' and '.join(missing)} per person")
    idle = [key for key in ("vertices_m", "joints_m", "faces") if key in table]
    if idle:
        raise InputError(
            f"{' and '.join(idle)} of body {body!r} follow from pose, shape and translation_m; "
            "leave them out or use body 'rigid'"
        )


def _check_lengths(values: Table) -> None:
    """Blame the arrays whose number of people differs from that of most others."""
    rows = {key: value.shape[0] if value.ndim else None for key, value in values.items() if key != "faces"}
    count = Counter(rows.values()).most_common(1)[0][0]
    for key, own in rows.items():
        if own is None or own != count:
            raise InputError(f"{key} must have shape ({count}, ...) for {count} people, got {values[key].shape}")


def _check_range(per_person: np.ndarray, limits: tuple[float, float], demand: str) -> None:
    """Refuse numbers in another unit; what is no number at all, ``People`` refuses."""
    low, high = limits
    wrong = per_person[(per_person < low) | (per_person > high)]
    if wrong.size:
        raise InputError(f"{demand}: {wrong[0]:g} lies outside {low:g} to {high:g}")


def _masks(table: Table, camera: Camera) -> Masks:
    masks = _array(table, "masks", "biuf")
    if masks.ndim != 3 or masks.shape[1:] != (camera.height, camera.width):
        raise InputError(f"masks must have shape (people, {camera.height}, {camera.width}), got {masks.shape}")
    if not np.all((masks == 0) | (masks == 1)):
        raise InputError("masks must hold 0 (background) and 1 (person) alone")
    return Masks.from_dense(masks.astype(bool))


def _rigid(values: Table) -> People:
    vertices = values["vertices_m"]
    if vertices.ndim != 3 or vertices.shape[1] == 0 or vertices.shape[2] != 3:
        raise InputError(f"vertices_m must have shape (people, vertices, 3), got {vertices.shape}")
    if not np.isfinite(vertices).all():
        raise InputError("vertices_m holds NaN or infinite values")
    _check_range(np.ptp(vertices, 1).max(-1), _EXTENTS_M, "vertices_m must be in metres in the camera frame")
    RigidBody(values["faces"], vertices.shape[1])
    values.setdefault("translation_m", vertices.mean(1, dtype=float))
    return People(body="rigid", **values)


def _parametric(values: Table, body: BodyModel) -> People:
    """Posed people, whose stature follows from their shape; a given one must agree."""
    import torch

    given = {"stature_m": np.ones(len(values["translation_m"])), **values}
    people = pose_people(People(body=body.name, **given), body)
    assert people.shape is not None
    if isinstance(body, Anny):
        _check_shape(people.shape, body)
    own = body.stature(torch.from_numpy(people.shape).float()).double().numpy()
    off = np.abs(people.stature_m - own)
    if "stature_m" in values and np.any(off > _STATURE_TOLERANCE_M):
        worst = int(off.argmax())
        raise InputError(
            f"stature_m of person {worst} is {people.stature_m[worst]:.3f} m but the shape makes {own[worst]:.3f} m; "
            "leave it out"
        )
    return replace(people, stature_m=own)


def _check_shape(shape: np.ndarray, body: BodyModel) -> None:
    """Refuse shapes beyond the sculpted bodies, where Anny has nothing to blend."""
    for parameter, column in zip(body.shape_params, shape.T, strict=True):
        wrong = np.flatnonzero((column < parameter.low - _SHAPE_SLACK) | (column > parameter.high + _SHAPE_SLACK))
        if len(wrong):
            raise InputError(
                f"shape parameter {parameter.name!r} of person {wrong[0]} is {column[wrong[0]]:g}, "
                f"body {body.name!r} has {parameter.low:g} to {parameter.high:g}"
            )
