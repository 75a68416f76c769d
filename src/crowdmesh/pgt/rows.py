"""Images on their way into a set as tables: whole columns at once, whatever the number of people in each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from crowdmesh.dto.priors import AgeGroup
from crowdmesh.errors import InputError
from crowdmesh.people import People, PersonStatus
from crowdmesh.pgt.records import Built
from crowdmesh.pgt.schema import BEFORE, EVIDENCE, PEOPLE_SCHEMA, PLACEMENT, SCENE_SCHEMA

PELVIS = 0
"""The root of every body with a skeleton (docs/conventions.md)."""

_STATUS_NAMES = [status.name.lower() for status in PersonStatus]

NAMES = {
    "status": _STATUS_NAMES,
    "status_before": _STATUS_NAMES,
    "prior_group": [group.name.lower() for group in AgeGroup],
}
"""What stands in the files for the values of an enum, each at the place of its value."""

_PLACED = np.array([status.placed for status in PersonStatus])


def tables_of(built: Sequence[Built]) -> tuple[pa.Table, pa.Table]:
    """Rows of some images and of their people, in their order (:data:`SCENE_SCHEMA`, :data:`PEOPLE_SCHEMA`).

    Raises:
        InputError: people without pose and shape (``rigid``), or an image whose parts do not belong together; the
            message names the image.
    """
    for image in built:
        _check(image)
    return _scene_rows(built), _people_rows([image for image in built if image.after is not None])


def _check(image: Built) -> None:
    """The columns hold one camera, one pose and one set of evidence per image, and parameters of every body."""
    wrong = None
    if image.before is not None and image.after is not None:
        camera, before, after = image.after.camera, image.before.people, image.after.people
        count = len(after)
        if count and any(values is None for values in (after.pose, after.shape, before.shape)):
            wrong = f"its people ({after.body}) have no pose and shape, and a set holds parameters"
        elif image.before.camera != camera or before.body != after.body:
            wrong = "camera and body must be the same before and after"
        elif _parameters(before) != _parameters(after):
            wrong = "shapes must have as many parameters before and after"
        elif not all(_same(getattr(before, name), getattr(after, name)) for name in ("pose", *EVIDENCE.values())):
            wrong = "poses and evidence must be the same before and after"
        elif image.file and (image.file.width, image.file.height) != (camera.width, camera.height):
            wrong = "image and camera differ in size"
        elif image.placement is not None and len(image.placement) != count:
            wrong = f"{len(image.placement)} people were placed, there are {count}"
        elif len(image.origins) not in (0, count) or (image.label_rows is not None and len(image.label_rows) != count):
            wrong = "there must be an origin and a label row for every person, or for nobody"
    if wrong:
        raise InputError(f"{image.entry.key} cannot be stored: {wrong}")


def _same(one: np.ndarray | None, two: np.ndarray | None) -> bool:
    if one is two:
        return True
    return one is not None and two is not None and np.array_equal(one, two, equal_nan=True)


def _parameters(people: People) -> int | None:
    return None if people.shape is None else people.shape.shape[1]


def _scene_rows(built: Sequence[Built]) -> pa.Table:
    return pa.Table.from_pylist([_scene_row(image) for image in built], SCENE_SCHEMA)


def _scene_row(image: Built) -> dict[str, Any]:
    row: dict[str, Any] = {
        "key": image.entry.key,
        "dataset": image.entry.dataset,
        "path": image.entry.path,
        "people": 0,
        "placed": 0,
        "evidence": [],
        "outcome": image.outcome.value,
        "detail": image.detail,
        "accepted": image.outcome.accepted,
        "score": image.score if math.isfinite(image.score) else None,
        "notes": list(image.notes),
        "focal_std": image.focal_std,
    }
    if image.file is not None:
        file = image.file
        row |= {"image_bytes": file.size_bytes, "image_sha256": file.sha256, "width": file.width, "height": file.height}
    if image.after is not None:
        row |= _scene_values(image)
    if image.placement is not None:
        placement, interval = image.placement, image.placement.interval
        row |= {
            "preset": placement.preset,
            "scale": placement.scale,
            "shift": placement.shift,
            "interval_low": interval.low,
            "interval_high": interval.high,
            "slope": interval.slope,
            "planar": interval.planar,
            "active": placement.active,
        }
    return row


def _scene_values(image: Built) -> dict[str, Any]:
    assert image.after is not None
    camera, people = image.after.camera, image.after.people
    source = image.after.provenance.get("camera")
    return {
        "width": camera.width,
        "height": camera.height,
        "fx": camera.fx,
        "fy": camera.fy,
        "cx": camera.cx,
        "cy": camera.cy,
        "vertical_fov_rad": camera.vertical_fov,
        "camera_source": None if source is None else str(source),
        "body": people.body,
        "pose_joints": None if people.pose is None else people.pose.shape[1],
        "shape_parameters": _parameters(people),
        "people": len(people),
        "placed": int(_PLACED[people.status].sum()),
        "evidence": [column for column, name in EVIDENCE.items() if getattr(people, name) is not None],
    }


def _people_rows(built: Sequence[Built]) -> pa.Table:
    after = [image.after.people for image in built if image.after is not None]  # all of them have before and after
    before = [image.before.people for image in built if image.before is not None]
    sizes = np.array([len(people) for people in after], np.int64)
    origins = [image.origins or [None] * size for image, size in zip(built, sizes, strict=True)]
    columns: dict[str, pa.Array] = {
        "key": _repeated([image.entry.key for image in built], sizes),
        "dataset": _repeated([image.entry.dataset for image in built], sizes),
        "person": pa.array(np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)),
        "origin": pa.array([origin for part in origins for origin in part], pa.string()),
    }
    parts: dict[str, list[np.ndarray | None]] = {
        "label_row": [image.label_rows for image in built],
        "pelvis_m": [_pelvis(people) for people in after],
        "pelvis_before_m": [_pelvis(people) for people in before],
    }
    for name in ("pose", *BEFORE):
        parts[name] = [getattr(people, name) for people in after]
    for name, column in BEFORE.items():
        parts[column] = [getattr(people, name) for people in before]
    for name in PLACEMENT:
        parts[name] = [None if image.placement is None else getattr(image.placement, name) for image in built]
    for column, name in EVIDENCE.items():
        parts[column] = [getattr(people, name) for people in after]
    for name, values in parts.items():
        columns[name] = _column(PEOPLE_SCHEMA.field(name).type, values, sizes, NAMES.get(name))
    arrays = [columns[field.name].cast(field.type) for field in PEOPLE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=PEOPLE_SCHEMA)


def _pelvis(people: People) -> np.ndarray | None:
    return None if people.joints_m is None else people.joints_m[:, PELVIS].astype(np.float64)


def _repeated(values: Sequence[str], sizes: np.ndarray) -> pa.Array:
    return pa.array(values, pa.string()).take(pa.array(np.repeat(np.arange(len(values)), sizes)))


def _column(
    type_: pa.DataType, parts: Sequence[np.ndarray | None], sizes: np.ndarray, names: list[str] | None
) -> pa.Array:
    """The arrays of all images, one after the other; null where an image has none.

    NaN becomes null in columns of single numbers; in lists it stays NaN.

    Args:
        names: of whole numbers that stand in the files as text.
    """
    known = np.repeat(np.array([part is not None for part in parts], bool), sizes)
    if pa.types.is_list(type_):
        lengths = [0 if part is None or len(part) == 0 else part[0].size for part in parts]
        offsets = np.concatenate(([0], np.cumsum(np.repeat(np.array(lengths, np.int64), sizes))))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(_flat(parts)), type=type_)
    width = type_.list_size if pa.types.is_fixed_size_list(type_) else 1
    fill = [np.zeros(size * width) if part is None else part for part, size in zip(parts, sizes, strict=True)]
    values = _flat(fill)
    if pa.types.is_fixed_size_list(type_):
        return pa.FixedSizeListArray.from_arrays(pa.array(values), type=type_, mask=pa.array(~known))
    if pa.types.is_floating(type_):
        return pa.array(values, type_, mask=~known | np.isnan(values))
    numbers = pa.array(values.astype(np.int64), mask=~known)
    return numbers if names is None else pa.array(names).take(numbers)


def _flat(parts: Sequence[np.ndarray | None]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(part.ravel() for part in parts if part is not None)])
