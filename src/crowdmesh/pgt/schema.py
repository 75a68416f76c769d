"""What stands in a set's Parquet files: one row per image, one row per person, every column with its meaning.

Numbers are stored as they are, in double precision. Null means that nobody knows: in the columns of
:data:`EVIDENCE` NaN (unknown for this person) and ``None`` (nobody asked for it in this image) are both null, and the
image's column ``evidence`` names those that were asked for. Masks and vertices are not kept: vertices follow from the
parameters (``body.pose_people``), masks from the experts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

FORMAT = "crowdmesh-set"
FORMAT_VERSION = 1

UNITS = {
    "length": "metre",
    "angle": "radian",
    "age": "year",
    "image": "pixel, centres at +0.5",
    "frame": "OpenCV: x right, y down, z forward",
}


class Column(NamedTuple):
    """A column: its type, what it means, and whether every row has a value."""

    type: Any
    meaning: str
    needed: bool = False


_TEXT, _REAL, _COUNT, _WHOLE, _FLAG = pa.string(), pa.float64(), pa.int32(), pa.int64(), pa.bool_()
_TEXTS, _REALS = pa.list_(pa.field("element", pa.string(), False)), pa.list_(pa.field("element", pa.float64(), False))


def _reals(count: int) -> pa.DataType:
    return pa.list_(pa.field("element", pa.float64(), False), count)


SCENE_COLUMNS: dict[str, Column] = {
    "key": Column(_TEXT, "what the image is called in the set: dataset/path", True),
    "dataset": Column(_TEXT, "data set that the image belongs to", True),
    "path": Column(_TEXT, "of the image, relative to the images of its data set", True),
    "image_bytes": Column(_WHOLE, "size of the image file, bytes"),
    "image_sha256": Column(_TEXT, "hash of the image file"),
    "width": Column(_COUNT, "of the upright image, pixels"),
    "height": Column(_COUNT, "of the upright image, pixels"),
    "fx": Column(_REAL, "focal length, pixels"),
    "fy": Column(_REAL, "focal length, pixels"),
    "cx": Column(_REAL, "principal point, pixels"),
    "cy": Column(_REAL, "principal point, pixels"),
    "vertical_fov_rad": Column(_REAL, "vertical field of view, radians"),
    "focal_std": Column(_REAL, "relative error of the focal length, where the camera's source tells it"),
    "camera_source": Column(_TEXT, "where the focal length comes from"),
    "body": Column(_TEXT, "body model; null: nothing was found out about the people"),
    "pose_joints": Column(_COUNT, "joints of a pose"),
    "shape_parameters": Column(_COUNT, "parameters of a shape"),
    "people": Column(_COUNT, "rows of this image in the people file, in the order of the images", True),
    "placed": Column(_COUNT, "people whom the placement moved", True),
    "evidence": Column(_TEXTS, "which of the evidence columns of its people somebody asked for", True),
    "outcome": Column(_TEXT, "what became of the image", True),
    "detail": Column(_TEXT, "one sentence that says more of a failure", True),
    "accepted": Column(_FLAG, "whether the image is part of the set as it was filtered", True),
    "score": Column(_REAL, "mean absolute standardised residual; null: infinite, nobody counts"),
    "preset": Column(_TEXT, "which DTO placed the people; null: none did"),
    "scale": Column(_REAL, "of the depth transform, see Placement.scale"),
    "shift": Column(_REAL, "of the depth transform, see Placement.shift"),
    "interval_low": Column(_REAL, "smallest plausible scale"),
    "interval_high": Column(_REAL, "largest plausible scale; may be infinite"),
    "slope": Column(_REAL, "mean slope of depth inside people"),
    "planar": Column(_FLAG, "whether everybody stands at about one depth"),
    "active": Column(_COUNT, "bound that holds the scale: -1 lower, 0 none, 1 upper, 2 degenerate"),
    "notes": Column(_TEXTS, "what a reader should know, one sentence each", True),
}

EVIDENCE: dict[str, str] = {
    "box_px": "boxes_px",
    "score": "scores",
    "keypoints_px": "keypoints_px",
    "age_years": "age_years",
    "age_std_years": "age_std_years",
    "male_probability": "male_probability",
    "known_stature_m": "known_stature_m",
    "fit_error_px": "fit_error_px",
}
"""Columns of evidence and the field of ``People`` that each holds."""

BEFORE: dict[str, str] = {
    "status": "status_before",
    "shape": "shape_before",
    "translation_m": "translation_before_m",
    "stature_m": "stature_before_m",
}
"""Fields of ``People`` that the placement changes, and the column that holds each of the first guess."""

PLACEMENT: dict[str, Column] = {
    "initial_depth_m": Column(_REAL, "depth before the placement that belongs to the relative depth, metres"),
    "relative_depth": Column(_REAL, "what the depth map says; 0: nothing"),
    "depth_ratio": Column(_REAL, "placed over initial depth"),
    "prior_mean_m": Column(_REAL, "stature that age and sex suggest, metres"),
    "prior_std_m": Column(_REAL, "its standard deviation, metres"),
    "prior_group": Column(_TEXT, "baby, kid, teen, female, male or undecided"),
    "standardised_residual": Column(_REAL, "(wanted stature - prior mean) / prior standard deviation"),
    "depth_std_m": Column(_REAL, "standard deviation of the depth, metres"),
    "stature_std_m": Column(_REAL, "standard deviation of the stature, metres"),
    "reprojection_px": Column(_REAL, "how far the placement moved the image joints, pixels"),
    "samples": Column(_WHOLE, "depth samples used"),
    "excluded": Column(_WHOLE, "depth samples without a usable value"),
}
"""Columns that hold the per-person arrays of ``Placement``, under the same names; null where nobody was placed."""

PEOPLE_COLUMNS: dict[str, Column] = {
    "key": Column(_TEXT, "of the image", True),
    "dataset": Column(_TEXT, "of the image", True),
    "person": Column(_COUNT, "index in the image, from 0", True),
    "origin": Column(_TEXT, "labelled (the source has them) or detected (an expert found them)"),
    "label_row": Column(_WHOLE, "row in the source's table; -1: detected; null: the source has no rows"),
    "status": Column(_TEXT, "what happened to the person, see docs/conventions.md", True),
    "status_before": Column(_TEXT, "the status that the first guess came with", True),
    "pose": Column(_REALS, "axis-angle per joint, relative to the parent, flat; the same before and after", True),
    "shape": Column(_REALS, "parameters of the body model", True),
    "shape_before": Column(_REALS, "of the first guess", True),
    "translation_m": Column(_reals(3), "root translation, camera frame, metres", True),
    "translation_before_m": Column(_reals(3), "of the first guess", True),
    "stature_m": Column(_REAL, "height at rest, metres", True),
    "stature_before_m": Column(_REAL, "of the first guess", True),
    "pelvis_m": Column(_reals(3), "pelvis joint, camera frame, metres; null: the body was not posed"),
    "pelvis_before_m": Column(_reals(3), "of the first guess"),
    **PLACEMENT,
    "box_px": Column(_reals(4), "left, top, right, bottom, pixels"),
    "score": Column(_REAL, "confidence of the detection, 0 to 1"),
    "keypoints_px": Column(_reals(51), "COCO-17: x, y, confidence; pixels, pixels, 0 to 1; flat"),
    "age_years": Column(_REAL, "apparent age, years"),
    "age_std_years": Column(_REAL, "standard deviation of its error, years"),
    "male_probability": Column(_REAL, "0 to 1, apparent"),
    "known_stature_m": Column(_REAL, "height that somebody measured, metres"),
    "fit_error_px": Column(_REAL, "mean reprojection error of the body fit, pixels"),
}


def _schema(columns: dict[str, Column]) -> pa.Schema:
    return pa.schema([pa.field(name, column.type, not column.needed) for name, column in columns.items()])


SCENE_SCHEMA = _schema(SCENE_COLUMNS)
"""Columns of ``scenes-NNNNN.parquet``: one row per image."""

PEOPLE_SCHEMA = _schema(PEOPLE_COLUMNS)
"""Columns of ``people-NNNNN.parquet``: one row per person, in the order of the images and of the people in them."""
