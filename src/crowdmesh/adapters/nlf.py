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

from crowdmesh.adapters._bodies import limbs_of, nobody, rigid_people, smpl_people
from crowdmesh.adapters._pixels import check_pixels, pinhole, solve_pinhole
from crowdmesh.adapters._rows import Rows
from crowdmesh.adapters.base import Adapter, Given, named_records
from crowdmesh.adapters.multi_hmr import SMPLX_LIMBS
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene

_NEEDED = {"pose", "betas", "trans"}
_SURFACES = {"vertices3d", "joints3d", "vertices3d_nonparam", "joints3d_nonparam"}
_SMPL_POSE = 72
_IN_MILLIMETRES = 30.0  # no body is so many metres large, and none so few millimetres
_CENTRE_PX = 1.0
_ASSUMED = "NLF assumes 55 degrees over the longer side unless it is told"


def records(content: Any) -> dict[str, Any]:
    """The people of each image."""
    found = named_records(content, _is_record)
    if len(found) != 1:
        return found
    ((name, batch),) = found.items()
    if not _is_batch(batch["pose"]):
        return found
    count = len(batch["pose"])
    images = [
        {key: value[i] for key, value in batch.items() if isinstance(value, list) and len(value) == count}
        for i in range(count)
    ]
    return {name: images[0]} if count == 1 else {str(i): image for i, image in enumerate(images)}


def _is_record(part: Any) -> bool:
    return isinstance(part, dict) and part.keys() >= _NEEDED and not _SURFACES.isdisjoint(part)


def _is_batch(poses: Any) -> bool:
    """Whether these are lists over images, some of which may be of nobody, and not the poses of one image's people."""
    if not isinstance(poses, list) or not poses:
        return False
    depths = [_depth(pose) for pose in poses]
    return max(depths) >= 2 or (min(depths) == 1 and not any(map(len, poses)))


def _depth(value: Any) -> int:
    """How deep lists and arrays are nested."""
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return value.ndim if isinstance(value, np.ndarray) else 0


def read(record: dict[str, Any], given: Given) -> Scene:
    """The scene of one image."""
    rows = Rows.of(record, "pose", (None,))
    vertices, joints = (_metres(rows.maybe(key, None, 3)) for key in ("vertices3d", "joints3d"))
    points = rows.maybe("joints2d", None, 2)
    camera = _camera(joints, points, given)
    if not len(rows):
        return Scene(camera, nobody())
    evidence: dict[str, Any] = {}
    if rows.has("boxes"):
        boxes = rows.get("boxes", 5)
        evidence["boxes_px"] = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]), 1)
        evidence["scores"] = boxes[:, 4].clip(0, 1)
    if joints is not None and points is not None:
        check_pixels(camera, joints, points)
    if np.size(rows.people[0]["pose"]) != _SMPL_POSE:
        if vertices is None:
            raise InputError("the file has parameters of another body than SMPL and no 'vertices3d'; save these too")
        limbs = None if joints is None else limbs_of(joints, SMPLX_LIMBS)
        people = rigid_people(vertices, given, "the triangles of its body model", limbs, joints_m=joints, **evidence)
        return Scene(camera, people)
    pose, betas = rows.get("pose", 24, 3), rows.get("betas", None)
    people = smpl_people(pose, betas, rows.get("trans", 3), given, vertices, joints, **evidence)
    return Scene(camera, people)


def _metres(points: np.ndarray | None) -> np.ndarray | None:
    if points is None:
        return None
    return points / 1000 if np.median(np.ptp(points, 1).max(-1)) > _IN_MILLIMETRES else points


def _camera(joints: np.ndarray | None, points: np.ndarray | None, given: Given) -> Camera:
    width, height = given.size()
    if joints is None or points is None:
        return given.camera(width, height, else_say=_ASSUMED)
    focal, cx, cy = solve_pinhole(joints.reshape(-1, 3), points.reshape(-1, 2))
    if max(abs(cx - width / 2), abs(cy - height / 2)) <= _CENTRE_PX:
        cx, cy = width / 2, height / 2
    return given.camera(width, height, pinhole(focal, cx, cy, width, height))


ADAPTER = Adapter(
    name="nlf",
    title="NLF",
    reads="the dictionary of detect_smpl_batched (.npz, .pkl, .pt, .json), of one image or a batch",
    records=records,
    read=read,
)
