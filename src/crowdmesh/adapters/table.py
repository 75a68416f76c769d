"""A plain table of people from any system, as ``.npz`` or ``.json``: the keys are documented in docs/conventions.md."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import nobody
from crowdmesh.adapters._values import (
    STATURES_M,
    array,
    check_faces,
    check_range,
    check_stature,
    image_size,
    whole_numbers,
)
from crowdmesh.adapters.base import Adapter, Given
from crowdmesh.body import BODIES, Anny, BodyModel, RigidBody, load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.scene import Scene

CAMERA_KEYS = ("image_size", "intrinsics", "vertical_fov_deg")
PEOPLE_KEYS = (
    "body", "vertices_m", "pose", "shape", "translation_m", "stature_m", "joints_m", "faces", "boxes_px", "scores",
    "keypoints_px", "age_years", "age_std_years", "male_probability", "known_stature_m", "masks",
)  # fmt: skip

# Outside these nobody's largest extent along an axis is in metres.
_EXTENTS_M = (0.1, 4.0)

_SHAPE_SLACK = 1e-3

Table = dict[str, Any]


def looks_like(content: Any) -> bool:
    """Whether content is a table, complete or not: most of its keys are those of one."""
    if not isinstance(content, dict) or not content:
        return False
    return 2 * len(content.keys() & {*CAMERA_KEYS, *PEOPLE_KEYS}) > len(content)


def read_table(table: Table) -> Scene:
    """The scene of a table.

    Raises:
        InputError: a key is missing or unknown, or has values of a wrong shape or unit.
    """
    _refuse_unknown_keys(table)
    camera = _camera(table)
    return Scene(camera, _people(table, camera))


def read(table: Table, given: Given) -> Scene:
    """The scene of a table, which may lack what is said beside it."""
    table = dict(table)
    if "image_size" not in table and given.image_size is not None:
        table["image_size"] = np.array(given.image_size)
    if "intrinsics" not in table and "vertical_fov_deg" not in table:
        if given.intrinsics is not None:
            table["intrinsics"] = given.intrinsics
        elif given.vertical_fov is not None:
            table["vertical_fov_deg"] = np.degrees(given.vertical_fov)
    if given.faces is not None:
        body = str(table.get("body", "rigid"))
        if body != "rigid":
            raise InputError(f"body {body!r} has triangles of its own; leave --faces out")
        if "faces" in table:
            check_faces(given.faces, whole_numbers(table, "faces"), "the table's own 'faces'")
        table["faces"] = given.faces
    scene = read_table(table)
    given.size((scene.camera.width, scene.camera.height))
    given.camera(scene.camera.width, scene.camera.height, scene.camera)
    return scene


def _refuse_unknown_keys(table: Table) -> None:
    known = sorted((*CAMERA_KEYS, *PEOPLE_KEYS))
    for key in sorted(set(table) - set(known)):
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        raise InputError(f"unknown key {key!r}; {hint}")


def _camera(table: Table) -> Camera:
    if "image_size" not in table:
        raise InputError("the table lacks 'image_size', (width, height) in pixels")
    width, height = image_size(table)
    if "intrinsics" in table:
        return Camera.from_intrinsics(array(table, "intrinsics"), width, height)
    if "vertical_fov_deg" in table:
        fov = array(table, "vertical_fov_deg")
        if fov.size != 1:
            raise InputError(f"vertical_fov_deg must be one number, got shape {fov.shape}")
        return Camera.from_vertical_fov(math.radians(fov.item()), width, height)
    raise InputError("the table lacks 'intrinsics' (3x3 matrix in pixels) or 'vertical_fov_deg'")


def _people(table: Table, camera: Camera) -> People:
    name = str(table.get("body", "rigid"))
    if name != "rigid" and name not in BODIES:
        raise InputError(f"unknown body {name!r}; use rigid, {', '.join(BODIES)}")
    _check_keys(table, name)
    values: Table = {key: array(table, key) for key in PEOPLE_KEYS if key in table and key not in ("body", "masks")}
    if not _check_lengths(values):
        return nobody()
    for key in ("stature_m", "known_stature_m"):
        if key in values:
            check_range(values[key], STATURES_M, f"{key} must be in metres")
    if "masks" in table:
        values["masks"] = _masks(table, camera)
    if name == "rigid":
        values["faces"] = whole_numbers(table, "faces")
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


def _check_lengths(values: Table) -> int:
    """The number of people; blame the arrays in which it differs from that of most others."""
    rows = {key: value.shape[0] if value.ndim else None for key, value in values.items() if key != "faces"}
    count = Counter(rows.values()).most_common(1)[0][0]
    for key, own in rows.items():
        if own is None or own != count:
            raise InputError(f"{key} must have shape ({count}, ...) for {count} people, got {values[key].shape}")
    assert count is not None
    return count


def _masks(table: Table, camera: Camera) -> Masks:
    masks = array(table, "masks", "biuf")
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
    check_range(np.ptp(vertices, 1).max(-1), _EXTENTS_M, "vertices_m must be in metres in the camera frame")
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
    if "stature_m" in values:
        check_stature(people.stature_m, own)
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


ADAPTER = Adapter(
    name="table",
    title="plain table of people",
    reads="an .npz or .json of named arrays (docs/conventions.md)",
    records=lambda content: {"": content} if looks_like(content) else {},
    read=read,
)
