"""ROMP and BEV: the ``.npz`` files of the ``simple_romp`` package, one an image or one a video.

``results``: a dictionary (in ``video_results.npz`` one for each frame) of arrays over people: ``smpl_thetas`` (K, 72)
axis-angle, ``smpl_betas`` (K, 10; BEV: 11), ``cam_trans`` (K, 3), ``cam`` (K, 3), ``center_confs``; with ``calc_smpl``
(the default) also ``joints`` (K, 71, 3: SMPL's 24 and 21 surface points first), ``verts`` (K, 6890, 3) and
``pj2d_org`` (K, 71, 2) in pixels of the image.

Camera frame (x right, y down, z forward), metres. Both assume a focal length of 443.4 px at 512 px over the longer side
(60 degrees), the photograph in the middle of a square. What ``cam_trans`` means differs:

* ROMP: SMPL's own translation (model origin). ``pj2d_org`` is **orthographic**; ``cam_trans`` is fitted so that the
  perspective image comes near it. They differ by some percent of a person's size, and the perspective one counts here.
* BEV: the middle of the hips (two of its nine extra joints), around which ``joints`` and ``verts`` are centred; SMPL's
  own is found by comparing ``joints`` with the posed body. Projections are perspective. ``smpl_betas[10]`` is AGORA's
  kid axis. Above 0.8 BEV poses SMIL's infant instead of SMPL; such a file becomes surfaces (triangles of your SMPL).

The image's size is not in the file.

Read in code: ``simple_romp`` (``romp/main.py``, ``romp/post_parser.py`` de6a19d, ``romp/smpl.py``, ``romp/utils.py``,
``bev/main.py``, ``bev/post_parser.py``). Older files of ROMP, whose ``cam_trans`` is (x, y, 1) · 2 / scale, do not
project to their own joints and are refused. Not verified: files from real runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import SMPL_INDEX, limbs_of, nobody, rigid_people, smpl_people
from crowdmesh.adapters._padded import Square
from crowdmesh.adapters._pixels import COCO_FROM_SMPL45, check_orthographic, check_pixels, coco17
from crowdmesh.adapters._rows import Rows
from crowdmesh.adapters.base import Adapter, Given, named_records
from crowdmesh.body import load_body
from crowdmesh.errors import FormatError
from crowdmesh.scene import Scene

FOCAL_PER_SIDE = 443.4 / 512
_NEEDED = {"smpl_thetas", "smpl_betas", "cam", "cam_trans"}
_INFANT = 0.8


def _records(content: Any, betas: int) -> dict[str, Any]:
    if isinstance(content, dict) and set(content) == {"results", "sequence_results"}:
        content = content["results"]

    def is_record(part: Any) -> bool:
        return isinstance(part, dict) and part.keys() >= _NEEDED and np.shape(part["smpl_betas"])[-1:] == (betas,)

    return named_records(content, is_record)


def records(content: Any) -> dict[str, Any]:
    """ROMP's people of each image."""
    return _records(content, 10)


def bev_records(content: Any) -> dict[str, Any]:
    """BEV's people of each image."""
    return _records(content, 11)


def read(record: dict[str, Any], given: Given) -> Scene:
    """The scene of one image, out of ROMP's results."""
    rows, square, evidence = _common(record, given)
    camera = given.camera(square.width, square.height, square.camera(FOCAL_PER_SIDE, 0.5, 0.5))
    if not len(rows):
        return Scene(camera, nobody())
    place = rows.get("cam_trans", 3)
    joints, vertices = (
        None if points is None else points + place[:, None]
        for points in (rows.maybe("joints", None, 3), rows.maybe("verts", None, 3))
    )
    if joints is not None and rows.has("pj2d_org"):
        check_orthographic(camera, joints[:, :24], rows.get("pj2d_org", None, 2)[:, :24])
    pose, betas = rows.get("smpl_thetas", 24, 3), rows.get("smpl_betas", 10)
    return Scene(camera, smpl_people(pose, betas, place, given, vertices, joints, **evidence))


def read_bev(record: dict[str, Any], given: Given) -> Scene:
    """The scene of one image, out of BEV's results."""
    rows, square, evidence = _common(record, given)
    camera = given.camera(square.width, square.height, square.camera(FOCAL_PER_SIDE, 0.5, 0.5))
    if not len(rows):
        return Scene(camera, nobody())
    if not rows.has("joints"):
        raise FormatError("the people have no 'joints', without which cam_trans has no meaning; run BEV with calc_smpl")
    place, joints, vertices = rows.get("cam_trans", 3), rows.get("joints", None, 3), rows.maybe("verts", None, 3)
    joints = joints + place[:, None]
    vertices = None if vertices is None else vertices + place[:, None]
    if rows.has("pj2d_org"):
        check_pixels(camera, joints, rows.get("pj2d_org", None, 2))
    pose, betas = rows.get("smpl_thetas", 24, 3), rows.get("smpl_betas", 11)
    infants = np.flatnonzero(betas[:, 10] > _INFANT)
    if not len(infants):
        return Scene(camera, smpl_people(pose, betas, None, given, vertices, joints, **evidence))
    if vertices is None:
        raise FormatError(f"person {infants[0]} is an infant of SMIL's, who needs 'verts'; run BEV with calc_smpl")
    if given.faces is None:
        given = replace(given, faces=load_body("smpl").faces.numpy())
    return Scene(
        camera, rigid_people(vertices, given, "", limbs_of(joints, SMPL_INDEX), joints_m=joints[:, :24], **evidence)
    )


def _common(record: dict[str, Any], given: Given) -> tuple[Rows, Square, dict[str, Any]]:
    rows = Rows.of(record, "smpl_thetas", (None,))
    square = Square.before_scaling(*given.size())
    evidence: dict[str, Any] = {}
    if rows.has("center_confs"):
        evidence["scores"] = rows.get("center_confs", 1)[:, 0].clip(0, 1)
    points = rows.maybe("pj2d_org", None, 2)
    if points is not None and points.shape[1] >= len(SMPL_INDEX):
        evidence["keypoints_px"] = coco17(points, COCO_FROM_SMPL45)
    return rows, square, evidence


_READS = "simple_romp's NAME.npz or video_results.npz (pickled: --unpickle)"

ADAPTER = Adapter(
    name="romp",
    title="ROMP",
    reads=_READS,
    records=records,
    read=read,
)
BEV = Adapter(
    name="bev",
    title="BEV",
    reads=_READS,
    records=bev_records,
    read=read_bev,
)
