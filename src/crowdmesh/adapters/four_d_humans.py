"""4D-Humans: what HMR2 says of one photograph, and PHALP's tracks of a video.

| file | layout |
|---|---|
| HMR2 | people as dictionaries or stacked: ``pred_smpl_params`` (``global_orient`` (1, 3, 3), ``body_pose`` (23, 3, 3), ``betas`` (10,)) and ``pred_cam_t_full`` (3,), or ``pred_cam`` (3,) with ``box_center`` (2,), ``box_size``; optional ``img_size`` (width, height), ``scaled_focal_length``, ``pred_vertices`` (6890, 3), ``pred_keypoints_3d`` |
| PHALP ``results/*.pkl`` (joblib) | frame -> lists over tracks: ``smpl`` (the same three), ``camera`` (3,), ``size`` (height, width), ``bbox`` (left, top, width, height), ``conf``, ``tracked_time``, ``3d_joints``, ``2d_joints``, ``mask`` (COCO run lengths) |

SMPL's own translation (model origin), metres, camera frame. The camera is assumed: a focal length of 5000 px at 256 px
over the longer side, principal point in the centre. So people stand some 20 times as far away as they should, and only
their image is right; DTO corrects that. ``pred_cam_t`` of HMR2 is of the crop's camera and of no use here.
PHALP centres the frame in a square of its longer side and scales it to 256 px; its 2D joints are in shares of that.
Tracks not seen in a frame (``tracked_time`` above 0) stay, with a score of 0.

Read in code: 4D-Humans ``demo.py``, PHALP ``PHALP.py`` (b41f606) and ``hmar.py``. From memory: the order of the 45
joints (OpenPose's 25 first), ``cam_crop_to_full`` (found in several copies). Not verified: real files.
"""  # noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import nobody, rotation_vectors, smpl_people
from crowdmesh.adapters._masks import masks_of_runs
from crowdmesh.adapters._pixels import COCO_FROM_OPENPOSE, check_pixels, coco17, pinhole, whole_size
from crowdmesh.adapters._rows import Rows, count
from crowdmesh.adapters.base import Adapter, Given, named_records
from crowdmesh.errors import FormatError
from crowdmesh.scene import Scene

FOCAL_AT_256 = 5000.0
_SMPL = ("global_orient", "body_pose", "betas")


def records(content: Any) -> dict[str, Any]:
    """The people of each image or frame."""
    return named_records(content, lambda part: _is_phalp(part) or _is_hmr2(part))


def _is_phalp(record: Any) -> bool:
    return isinstance(record, dict) and record.keys() >= {"smpl", "camera", "size", "tid"}


def _is_hmr2(record: Any) -> bool:
    if isinstance(record, list):
        return bool(record) and all(isinstance(person, dict) and _is_hmr2(person) for person in record)
    return (
        isinstance(record, dict)
        and "pred_smpl_params" in record
        and ("pred_cam_t_full" in record or record.keys() >= {"pred_cam", "box_center", "box_size"})
    )


def read(record: Any, given: Given) -> Scene:
    """The scene of one image."""
    return _phalp(record, given) if _is_phalp(record) else _hmr2(record, given)


def _hmr2(record: Any, given: Given) -> Scene:
    flat = [_flat(person) for person in record] if isinstance(record, list) else _flat(record) if record else record
    rows = Rows.of(flat, "betas", (None,))
    size = rows.one("img_size", 2) if rows.somebody_has("img_size") else None
    width, height = given.size(None if size is None else whole_size(*size))
    focal = rows.one("scaled_focal_length", 1) if rows.somebody_has("scaled_focal_length") else None
    focal = FOCAL_AT_256 / 256 * max(width, height) if focal is None else float(focal[0])
    camera = given.camera(width, height, pinhole(focal, width / 2, height / 2, width, height))
    if not len(rows):
        return Scene(camera, nobody())
    if rows.has("pred_cam_t_full"):
        translation = rows.get("pred_cam_t_full", 3)
    else:
        translation = _to_full_image(rows, width, height, focal)
    vertices = rows.maybe("pred_vertices", None, 3)
    vertices = None if vertices is None else vertices + translation[:, None]
    return Scene(camera, smpl_people(_pose(rows), rows.get("betas", None), translation, given, vertices))


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the parameters of SMPL among the others."""
    parameters = record["pred_smpl_params"]
    if not isinstance(parameters, dict) or not parameters.keys() >= set(_SMPL):
        raise FormatError("'pred_smpl_params' must be a dictionary of global_orient, body_pose and betas")
    return record | parameters


def _pose(rows: Rows) -> np.ndarray:
    root, body = rows.get("global_orient", 1, 3, 3), rows.get("body_pose", 23, 3, 3)
    return rotation_vectors(np.concatenate((root, body), 1), "'global_orient' or 'body_pose'")


def _to_full_image(rows: Rows, width: int, height: int, focal: float) -> np.ndarray:
    """Translation for the photograph's camera, from the weak perspective (scale, x, y) of a square crop."""
    (scale, x, y), centre = rows.get("pred_cam", 3).T, rows.get("box_center", 2)
    side = scale * rows.get("box_size", 1)[:, 0]
    sideways = 2 * (centre - (width / 2, height / 2)) / side[:, None]
    return np.stack((x + sideways[:, 0], y + sideways[:, 1], 2 * focal / side), 1)


def _phalp(record: dict[str, Any], given: Given) -> Scene:
    smpl = Rows.of([record["smpl"][k] for k in range(count(record["smpl"], "smpl"))], "betas", (None,)).people
    keys = ("camera", "size", "bbox", "conf", "tracked_time", "3d_joints", "2d_joints", "mask")
    kept = {key: record[key] for key in keys if record.get(key) is not None}
    rows = Rows([own | person for own, person in zip(smpl, Rows.stacked(kept, len(smpl)).people, strict=True)])
    size = rows.one("size", 2)
    width, height = given.size(None if size is None else whole_size(size[1], size[0]))
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    own = pinhole(FOCAL_AT_256 / 256 * side, side / 2 - left, side / 2 - top, width, height)
    camera, translation = given.camera(width, height, own), rows.get("camera", 3)
    if not len(rows):
        return Scene(camera, nobody())
    evidence: dict[str, Any] = {}
    if rows.has("bbox"):
        corner, extent = np.split(rows.get("bbox", 4), 2, 1)
        evidence["boxes_px"] = np.concatenate((corner, corner + extent), 1)
    if rows.has("conf"):
        seen = rows.get("tracked_time", 1)[:, 0] == 0 if rows.has("tracked_time") else np.ones(len(rows), bool)
        evidence["scores"] = np.where(seen, rows.get("conf", 1)[:, 0], 0)
    if rows.has("2d_joints"):
        points = rows.get("2d_joints", 45, 2) * side - (left, top)
        evidence["keypoints_px"] = coco17(points, COCO_FROM_OPENPOSE)
        if rows.has("3d_joints"):
            check_pixels(camera, rows.get("3d_joints", 45, 3) + translation[:, None], points)
    if rows.somebody_has("mask"):
        evidence["masks"] = masks_of_runs([person.get("mask") for person in rows.people], height, width)
    return Scene(camera, smpl_people(_pose(rows), rows.get("betas", None), translation, given, **evidence))


ADAPTER = Adapter(
    name="4d-humans",
    title="4D-Humans (HMR2, PHALP)",
    reads="HMR2's output dictionary (.npz, .pkl, .pt, .json); PHALP's results/*.pkl",
    records=records,
    read=read,
)
