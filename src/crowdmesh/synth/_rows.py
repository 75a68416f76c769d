"""One synthetic scene as one row of a Parquet table, and back."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from jaxtyping import Float, UInt16

from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.synth.scene import SKY_DEPTH_M, SyntheticScene
from crowdmesh.synth.stage import Prop

NEAREST_M = 0.01
"""Depths are stored between this and ``SKY_DEPTH_M``."""

_STEPS = 2**16 - 2
_STEP = math.log(SKY_DEPTH_M / NEAREST_M) / _STEPS

DEPTH_ERROR = math.expm1(0.5 * _STEP)
"""Largest relative error of a stored depth: half a step of its 16-bit logarithm, below 0.01 %."""

_DOUBLE, _SINGLE, _WHOLE = pa.list_(pa.float64()), pa.list_(pa.float32()), pa.list_(pa.int64())

# Arrays of People: their columns, and the sizes that follow the number of people.
_ARRAYS: dict[str, tuple[str | int, ...]] = {
    "translation_m": (3,), "stature_m": (), "pose": ("pose_joints", 3), "shape": ("shape_parameters",),
    "vertices_m": ("vertices", 3), "joints_m": ("joints", 3), "boxes_px": (4,), "scores": (), "keypoints_px": (17, 3),
    "age_years": (), "male_probability": (),
}  # fmt: skip
_SINGLE_PRECISION = ("vertices_m", "joints_m")
_FOCAL = ("fx", "fy", "cx", "cy")
_SIZES = ("people", "vertices", "joints", "pose_joints", "shape_parameters")

SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), False),
        pa.field("image", pa.binary(), False),
        pa.field("depth", pa.binary(), False),
        pa.field("labels", pa.binary(), False),
        pa.field(
            "camera",
            pa.struct([(n, pa.float64()) for n in _FOCAL] + [(n, pa.int32()) for n in ("width", "height")]),
            False,
        ),
        pa.field("body", pa.string(), False),
        pa.field("sizes", pa.struct([(name, pa.int32()) for name in _SIZES]), False),
        *(pa.field(name, _SINGLE if name in _SINGLE_PRECISION else _DOUBLE) for name in _ARRAYS),
        pa.field("mask_runs", pa.list_(pa.int32()), False),
        pa.field("mask_offsets", _WHOLE, False),
        pa.field("visible_vertices", pa.binary(), False),
        pa.field("silhouette_px", _WHOLE, False),
        pa.field("poses", pa.list_(pa.string()), False),
        pa.field("supports", pa.list_(pa.string()), False),
        pa.field("arrangement", pa.string(), False),
        pa.field("ground", _DOUBLE, False),
        pa.field(
            "props", pa.list_(pa.struct([("kind", pa.string()), ("vertices_m", _DOUBLE), ("faces", _WHOLE)])), False
        ),
        pa.field("provenance", pa.string(), False),
    ]
)  # fmt: skip
"""Columns of a shard; ``docs/conventions.md`` describes them."""

SPLIT_COLUMNS = [f"{name}.list.element" for name in _SINGLE_PRECISION]
"""Columns of noisy floats, which compress better with their bytes apart."""


def row_of(synthetic: SyntheticScene, index: int) -> dict[str, Any]:
    """The row of a scene, exact but for the depth (:data:`DEPTH_ERROR`)."""
    scene, people = synthetic.scene, synthetic.scene.people
    assert scene.image is not None and people.masks is not None and people.vertices_m is not None
    row: dict[str, Any] = {name: _flat(getattr(people, name)) for name in _ARRAYS}
    lengths = {
        name: 0 if value is None else value.shape[1]
        for name, value in (
            ("vertices", people.vertices_m), ("joints", people.joints_m), ("pose_joints", people.pose),
            ("shape_parameters", people.shape),
        )
    }  # fmt: skip
    return row | {
        "index": index,
        "image": _png(scene.image),
        "depth": pack(depth_codes(synthetic.depth.values)),
        "labels": pack(synthetic.labels.astype(np.int16).view(np.uint16)),
        "camera": {f.name: getattr(scene.camera, f.name) for f in fields(Camera)},
        "body": people.body,
        "sizes": {"people": len(people), **lengths},
        "mask_runs": people.masks.runs,
        "mask_offsets": people.masks.offsets,
        "visible_vertices": np.packbits(synthetic.visible_vertices).tobytes(),
        "silhouette_px": synthetic.silhouette_px,
        "poses": list(synthetic.poses),
        "supports": list(synthetic.supports),
        "arrangement": synthetic.arrangement,
        "ground": synthetic.ground,
        "props": [
            {"kind": p.kind, "vertices_m": _flat(p.vertices_m), "faces": _flat(p.faces)} for p in synthetic.props
        ],
        "provenance": json.dumps(scene.provenance),
    }


def scene_of(batch: pa.RecordBatch, number: int) -> SyntheticScene:
    """The scene of one row; ValueError or LookupError says what is wrong with it."""
    row = {name: batch.column(name)[number] for name in batch.schema.names}
    camera, sizes = Camera(**row["camera"].as_py()), row["sizes"].as_py()
    count, size = sizes["people"], (camera.height, camera.width)
    arrays = {
        name: _numbers(row[name]).reshape(count, *(s if isinstance(s, int) else sizes[s] for s in trailing))
        for name, trailing in _ARRAYS.items()
        if row[name].is_valid
    }
    masks = Masks(*size, _numbers(row["mask_runs"]), _numbers(row["mask_offsets"]))
    packed = np.frombuffer(row["visible_vertices"].as_py(), np.uint8)
    seen = np.unpackbits(packed, count=count * sizes["vertices"]).astype(bool).reshape(count, sizes["vertices"])
    props = tuple(
        Prop(p["kind"], np.reshape(p["vertices_m"], (-1, 3)).astype(float), np.reshape(p["faces"], (-1, 3)).astype(int))
        for p in row["props"].as_py()
    )
    return SyntheticScene(
        scene=Scene(
            camera,
            People(body=row["body"].as_py(), masks=masks, **arrays),
            _picture(row["image"].as_py(), size),
            json.loads(row["provenance"].as_py()),
        ),
        depth=RelativeDepth(depths_m(unpack(row["depth"].as_py(), size)), "metric"),
        labels=unpack(row["labels"].as_py(), size).view(np.int16),
        visible_vertices=seen,
        silhouette_px=_numbers(row["silhouette_px"]),
        ground=_numbers(row["ground"]),
        poses=tuple(row["poses"].as_py()),
        supports=tuple(row["supports"].as_py()),
        props=props,
        arrangement=row["arrangement"].as_py(),
    )


def depth_codes(depth_m: Float[np.ndarray, "H W"]) -> UInt16[np.ndarray, "H W"]:
    """1 + the logarithm of depth in equal steps from :data:`NEAREST_M` to ``SKY_DEPTH_M``; 0: no value."""
    known = np.isfinite(depth_m) & (depth_m > 0)
    near = np.where(known, depth_m, NEAREST_M).astype(float).clip(NEAREST_M, SKY_DEPTH_M)
    return np.where(known, 1 + np.rint(np.log(near / NEAREST_M) / _STEP), 0).astype(np.uint16)


def depths_m(codes: UInt16[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Depths of :func:`depth_codes`, float32; 0 where there is no value."""
    table = np.concatenate(([0.0], NEAREST_M * np.exp(np.arange(_STEPS + 1) * _STEP))).astype(np.float32)
    return table[np.minimum(codes, _STEPS + 1)]


def pack(values: UInt16[np.ndarray, "H W"]) -> bytes:
    """16-bit numbers as zstd of their differences along each row, low bytes first, then all high bytes."""
    steps = np.diff(values, axis=1, prepend=np.zeros((len(values), 1), np.uint16))
    return pa.compress(np.ascontiguousarray(steps.astype("<u2").view(np.uint8).reshape(-1, 2).T), "zstd", asbytes=True)


def unpack(data: bytes, size: tuple[int, int]) -> UInt16[np.ndarray, "H W"]:
    """The numbers that :func:`pack` was given, for an image of ``size`` (height, width)."""
    height, width = size
    raw = pa.decompress(data, 2 * height * width, "zstd", asbytes=True)
    steps = np.frombuffer(raw, np.uint8).reshape(2, -1).T.copy().view("<u2").reshape(height, width)
    return np.cumsum(steps, axis=1, dtype=np.uint16)


def _png(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return data.tobytes()


def _picture(data: bytes, size: tuple[int, int]) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None or image.shape[:2] != size:
        raise ValueError("a picture in it is damaged")
    return image


def _flat(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else np.ascontiguousarray(values).ravel()


def _numbers(value: pa.ListScalar) -> np.ndarray:
    """A list as a writable array."""
    return value.values.to_numpy(zero_copy_only=False).copy()
