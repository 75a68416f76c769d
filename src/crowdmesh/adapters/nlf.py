"""NLF: the dictionary that ``detect_smpl_batched`` returns, saved in any way.

Per image, arrays over people (in the batched call, lists over images of them): ``pose`` (K, 72) axis-angle, ``betas``
(K, 10), ``trans`` (K, 3), ``vertices3d`` (K, V, 3), ``joints3d`` (K, 24, 3), ``joints2d`` (K, 24, 2), ``boxes`` (K, 5:
left, top, width, height, score). The fields named ``*_nonparam`` and the uncertainties are not used.

Camera frame (x right, y down, z forward). **Units differ within one file**: ``trans`` is in metres; vertices and
joints are in millimetres in the PyTorch model, in metres in the TensorFlow one; which it is, is told from the size of
bodies. ``trans`` is SMPL's own (model origin). The camera is not in the file: it is solved from ``joints3d`` and
``joints2d``; without those, ``--fov`` or ``--intrinsics`` must give what NLF was run with (55 degrees over the longer
side if it was not told). NLF may count pixels from the centre of the first one (its default principal point is half a
pixel up and left of the image's centre, depending on the version); a centre solved within a pixel of the image's is
taken for it.

With another body model than SMPL (``model_name``, SMPL-X), people are surfaces.

Read in code: the PyTorch and TensorFlow models that are published in copies of the author's code, ``run_nlf.py`` of
nlf-pipeline, the demo notebook. From memory: the layout of ``boxes``. Not verified: files from real runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import limbs_of, rigid_people, smpl_people
from crowdmesh.adapters._pixels import check_pixels, pinhole, solve_pinhole
from crowdmesh.adapters._rows import Rows
from crowdmesh.adapters.base import Adapter, Given
from crowdmesh.adapters.multi_hmr import SMPLX_LIMBS
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene

_NEEDED = {"pose", "betas", "trans"}
_SMPL_VERTICES, _SMPL_POSE = 6890, 72
_IN_MILLIMETRES = 30.0  # no body is so many metres large, and none so few millimetres
_CENTRE_PX = 1.0
_ASSUMED = "NLF assumes 55 degrees over the longer side unless it is told"


def records(content: Any) -> dict[str, Any]:
    """The people of each image."""
    while isinstance(content, dict) and len(content) == 1:
        content = next(iter(content.values()))
    if not isinstance(content, dict) or not content.keys() >= _NEEDED:
        return {}
    if not any(key in content for key in ("vertices3d", "joints3d", "vertices3d_nonparam", "joints3d_nonparam")):
        return {}
    if not isinstance(content["pose"], list) or np.ndim(_first(content["pose"])) < 2:
        return {"": content}
    count = len(content["pose"])
    images = [
        {key: value[i] for key, value in content.items() if isinstance(value, list) and len(value) == count}
        for i in range(count)
    ]
    return {"": images[0]} if count == 1 else {str(i): image for i, image in enumerate(images)}


def _first(images: list[Any]) -> Any:
    return images[0] if images else None


def read(record: dict[str, Any], given: Given) -> Scene:
    """The scene of one image."""
    rows = Rows.of(record, "pose", (None,))
    vertices, joints = (_metres(rows.maybe(key, None, 3)) for key in ("vertices3d", "joints3d"))
    points = rows.maybe("joints2d", None, 2)
    camera = _camera(joints, points, given)
    evidence: dict[str, Any] = {}
    if rows.has("boxes"):
        boxes = rows.get("boxes", 5)
        evidence["boxes_px"] = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]), 1)
        evidence["scores"] = boxes[:, 4].clip(0, 1)
    if joints is not None and points is not None:
        check_pixels(camera, joints, points)
    if len(rows) and np.size(rows.people[0]["pose"]) != _SMPL_POSE:
        if vertices is None:
            raise InputError("the file has parameters of another body than SMPL and no 'vertices3d'; save these too")
        limbs = None if joints is None else limbs_of(joints, SMPLX_LIMBS)
        people = rigid_people(vertices, given, "the triangles of its body model", limbs, joints_m=joints, **evidence)
        return Scene(camera, people)
    pose, betas = rows.get("pose", 24, 3), rows.get("betas", None) if len(rows) else np.zeros((0, 10))
    people = smpl_people(pose, betas, rows.get("trans", 3), given, vertices, joints, **evidence)
    return Scene(camera, people)


def _metres(points: np.ndarray | None) -> np.ndarray | None:
    if points is None or not points.size:
        return points
    return points / 1000 if np.median(np.ptp(points, 1).max(-1)) > _IN_MILLIMETRES else points


def _camera(joints: np.ndarray | None, points: np.ndarray | None, given: Given) -> Camera:
    width, height = given.size()
    if joints is None or points is None or not len(joints):
        return given.camera(width, height, else_say=_ASSUMED)
    focal, cx, cy = solve_pinhole(joints.reshape(-1, 3), points.reshape(-1, 2))
    if max(abs(cx - width / 2), abs(cy - height / 2)) <= _CENTRE_PX:
        cx, cy = width / 2, height / 2
    return given.camera(width, height, pinhole(focal, cx, cy, width, height))


ADAPTER = Adapter(
    name="nlf",
    title="NLF",
    reads="the dictionary of detect_smpl_batched (.npz, .pkl, .pt, .json), of one image or a batch",
    frame="camera: x right, y down, z forward",
    units="trans in metres; vertices and joints in millimetres (PyTorch) or metres (TensorFlow), told by their size",
    translation="SMPL's, added to the posed model",
    camera="solved from joints3d and joints2d, else --fov or --intrinsics (NLF's own default: 55 degrees, longer side)",
    body="SMPL (your SMPL files, non-commercial licence); with SMPL-X rigid",
    records=records,
    read=read,
)
