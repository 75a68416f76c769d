"""SAM 3D Body: the list of people that ``SAM3DBodyEstimator.process_one_image`` returns, saved in any way.

One dictionary a person, or arrays stacked over people: ``pred_vertices`` (V, 3), ``pred_cam_t`` (3,), ``focal_length``;
optional ``pred_keypoints_3d`` and ``pred_keypoints_2d`` (70, 3 or 2), ``bbox`` (left, top, right, bottom), ``mask``
(H, W, 1). What is not used here (MHR's parameters, hands) may be there too.

Vertices and 3D keypoints are around the body's own origin, already turned into the camera frame (x right, y down, z
forward), in metres (MHR itself is in centimetres); ``pred_cam_t`` is where that origin stands. 2D keypoints are in
pixels of the image. The focal length is the camera's; its principal point is not in the file: it is solved from the
keypoints, and is the image's centre without them. The image's size comes from the masks or from ``--image-size``.

MHR (Apache-2.0) has no body here: people are surfaces. Its triangles are in the estimator as ``faces``, not in its
results. Statures are told from shoulders, hips, knees and ankles of the 70 keypoints.

Read in code: ``sam_3d_body_estimator.py``, ``mhr_head.py``, ``camera_head.py``, ``prepare_batch.py``, ``mhr70.py``. Not
verified: a file from a real run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import limbs_of, nobody, rigid_people
from crowdmesh.adapters._pixels import check_pixels, coco17, pinhole, solve_pinhole
from crowdmesh.adapters._rows import Rows
from crowdmesh.adapters.base import Adapter, Given, named_records
from crowdmesh.errors import FormatError
from crowdmesh.masks import Masks
from crowdmesh.scene import Scene

COCO_FROM_MHR70 = (0, 1, 2, 3, 4, 5, 6, 7, 8, 62, 41, 9, 10, 11, 12, 13, 14)
_LIMBS = {
    "left_shoulder": 5, "right_shoulder": 6, "left_hip": 9, "right_hip": 10, "left_knee": 11, "right_knee": 12,
    "left_ankle": 13, "right_ankle": 14,
}  # fmt: skip
_NEEDED = {"pred_vertices", "pred_cam_t", "focal_length"}
_MASK = "'mask' must be (height, width) of the image, alike for everybody"
_CENTRE_PX = 1.0  # solved principal points this near the image's centre are meant to be there


def records(content: Any) -> dict[str, Any]:
    """The people of each image."""
    return named_records(content, _is_record)


def _is_record(part: Any) -> bool:
    if isinstance(part, list):
        return bool(part) and all(isinstance(person, dict) and _is_record(person) for person in part)
    return isinstance(part, dict) and part.keys() >= _NEEDED and "pred_smpl_params" not in part


def read(record: Any, given: Given) -> Scene:
    """The scene of one image."""
    rows = Rows.of(record, "pred_vertices", (None, 3))
    place = rows.get("pred_cam_t", 3)[:, None]
    masks = _masks(rows)
    width, height = given.size(None if masks is None else (masks.width, masks.height))
    if not len(rows):
        focal = rows.one("focal_length", 1)
        found = None if focal is None else pinhole(focal[0], width / 2, height / 2, width, height)
        return Scene(given.camera(width, height, found), nobody())
    focal = float(rows.one("focal_length", 1)[0])  # type: ignore[index]
    joints = points = None
    centre = (width / 2, height / 2)
    if rows.has("pred_keypoints_3d", "pred_keypoints_2d"):
        joints, points = rows.get("pred_keypoints_3d", None, 3) + place, rows.get("pred_keypoints_2d", None, 2)
        solved_focal, *solved = solve_pinhole(joints.reshape(-1, 3), points.reshape(-1, 2))
        if abs(solved_focal / focal - 1) > 0.01:
            raise FormatError(
                f"'focal_length' is {focal:.0f} px, but the 2D keypoints are those of {solved_focal:.0f} px"
            )
        if max(abs(solved[0] - centre[0]), abs(solved[1] - centre[1])) > _CENTRE_PX:
            centre = (solved[0], solved[1])
    camera = given.camera(width, height, pinhole(focal, *centre, width, height))
    limbs = keypoints = None
    if joints is not None and points is not None:
        check_pixels(camera, joints, points)
        if joints.shape[1] == 70:
            limbs, keypoints = limbs_of(joints, _LIMBS), coco17(points, COCO_FROM_MHR70)
    people = rigid_people(
        rows.get("pred_vertices", None, 3) + place, given, "the triangles of MHR (the estimator's 'faces')", limbs,
        joints_m=joints, boxes_px=rows.maybe("bbox", 4), keypoints_px=keypoints, masks=masks,
    )  # fmt: skip
    return Scene(camera, people)


def _masks(rows: Rows) -> Masks | None:
    """Everybody's masks, empty for people without; ``None`` if nobody has one."""
    some = {k: _mask(person["mask"]) for k, person in enumerate(rows.people) if person.get("mask") is not None}
    if not some:
        return None
    shapes = {mask.shape for mask in some.values()}
    if len(shapes) > 1:
        raise FormatError(_MASK)
    dense = np.zeros((len(rows), *shapes.pop()), bool)
    for k, mask in some.items():
        dense[k] = mask
    return Masks.from_dense(dense)


def _mask(value: Any) -> np.ndarray:
    try:
        mask = np.asarray(value)
    except ValueError as error:
        raise FormatError(_MASK) from error
    mask = mask[..., 0] if mask.ndim == 3 and mask.shape[-1] == 1 else mask
    if mask.ndim != 2 or mask.dtype.kind not in "biuf":
        raise FormatError(_MASK)
    return mask > 0


ADAPTER = Adapter(
    name="sam3d-body",
    title="SAM 3D Body",
    reads="the list of people of process_one_image (.npz, .npy, .pkl, .pt, .json), or its arrays stacked over people",
    records=records,
    read=read,
)
