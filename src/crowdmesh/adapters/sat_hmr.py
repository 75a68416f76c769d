"""SAT-HMR and MA-HMR: the network's outputs for one image, the people above its threshold, saved in any way.

Arrays over people: ``pred_poses`` (K, 72) axis-angle, ``pred_betas`` (K, 10, MA-HMR 11), ``pred_transl`` (K, 3),
``pred_intrinsics`` (3, 3); optional ``pred_verts`` (K, 6890, 3), ``pred_j3ds`` and ``pred_j2ds`` (K, 24 or more, 3 or
2), ``pred_confs`` (K,), ``pred_boxes`` (K, 4: centre, width, height over ``input_size``). The outputs of the network
itself have all queries and a batch axis before them: those are refused.

Camera frame (x right, y down, z forward), metres; surfaces and joints already stand there; ``pred_transl`` is SMPL's
own (model origin). The intrinsics and 2D joints are in pixels of the network's input: the photograph scaled to 1288 px
(say) over its longer side, the other side rounded down, in the top left corner. Their principal point is the scaled
photograph's centre, which tells its size.

Read in code: copies of SAT-HMR's ``infer_funcs.py``, ``eval_funcs.py`` and model; MA-HMR as this package has it.
SAT-HMR itself saves pictures only, so the file is one that its user wrote. Not verified: files from real runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import nobody, smpl_people
from crowdmesh.adapters._pixels import COCO_FROM_SMPL45, check_pixels, coco17
from crowdmesh.adapters._rows import Rows
from crowdmesh.adapters.base import Adapter, Given, named_records
from crowdmesh.camera import Camera
from crowdmesh.errors import FormatError, InputError
from crowdmesh.scene import Scene

_NEEDED = {"pred_poses", "pred_betas", "pred_transl", "pred_intrinsics"}
_ASPECT_ERROR = 0.02


def records(content: Any) -> dict[str, Any]:
    """The people of each image."""
    return named_records(content, _is_record)


def _is_record(part: Any) -> bool:
    if isinstance(part, list):
        return bool(part) and all(isinstance(person, dict) and _is_record(person) for person in part)
    return isinstance(part, dict) and part.keys() >= _NEEDED


def read(record: Any, given: Given) -> Scene:
    """The scene of one image."""
    poses = record.get("pred_poses", ()) if isinstance(record, dict) else ()
    if np.ndim(poses) > 2 and np.shape(poses)[-1] == 72:
        raise FormatError(
            "'pred_poses' has a batch axis, so these are all queries of the network; save those above its threshold, "
            "outputs[name][0][chosen]"
        )
    rows = Rows.of(record, "pred_poses", (None,))
    width, height = given.size()
    K = rows.one("pred_intrinsics", 3, 3)
    if K is None:
        return Scene(given.camera(width, height), nobody())
    across, down = _scale(K, width, height)
    found = Camera(float(K[0, 0]) * across, float(K[1, 1]) * down, width / 2, height / 2, width, height)
    camera = given.camera(width, height, found)
    if not len(rows):
        return Scene(camera, nobody())
    evidence: dict[str, Any] = {}
    if rows.has("pred_confs"):
        evidence["scores"] = rows.get("pred_confs", 1)[:, 0].clip(0, 1)
    if rows.has("pred_boxes"):
        centre, extent = np.split(rows.get("pred_boxes", 4) * max(width, height), 2, 1)
        evidence["boxes_px"] = np.concatenate((centre - extent / 2, centre + extent / 2), 1)
    if rows.has("pred_j2ds"):
        points = rows.get("pred_j2ds", None, 2) * (across, down)
        if points.shape[1] >= 45:
            evidence["keypoints_px"] = coco17(points, COCO_FROM_SMPL45)
        if rows.has("pred_j3ds"):
            check_pixels(camera, rows.get("pred_j3ds", None, 3)[:, :24], points[:, :24])
    pose, betas, place = rows.get("pred_poses", 24, 3), rows.get("pred_betas", None), rows.get("pred_transl", 3)
    vertices = rows.maybe("pred_verts", None, 3)
    return Scene(camera, smpl_people(pose, betas, place, given, vertices, **evidence))


def _scale(K: np.ndarray, width: int, height: int) -> tuple[float, float]:
    """Pixels of the photograph per pixel of the network's input, across and down."""
    across, down = width / (2 * K[0, 2]), height / (2 * K[1, 2])
    if abs(across / down - 1) > _ASPECT_ERROR:
        raise InputError(
            f"'pred_intrinsics' are of an image of {2 * K[0, 2]:.0f}x{2 * K[1, 2]:.0f} px, which no scaling makes of "
            f"{width}x{height}; give the size of this photograph"
        )
    return float(across), float(down)


ADAPTER = Adapter(
    name="sat-hmr",
    title="SAT-HMR or MA-HMR",
    reads="the network's outputs for one image, people above the threshold (.npz, .pkl, .pt, .json)",
    records=records,
    read=read,
)
