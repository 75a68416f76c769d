"""PromptHMR: the dictionary that ``scripts/demo_phmr.py`` saves for one photograph (``output.pt``).

Arrays over people: ``vertices`` (K, 10475, 3), ``cam_int`` (K, 3, 3), ``transl`` (K, 3), ``betas``, ``rotmat``;
optional ``body_joints`` (K, 22 or more, 3) and, if saved too, ``body_joints2d`` in pixels of the network's square
input.

Vertices and joints already stand in the camera frame (x right, y down, z forward), metres; ``transl`` (SMPL-X's, model
origin) is in them and not used. ``cam_int`` is in pixels of the square: the photograph scaled to 896 px over its longer
side and centred, without rounding; its principal point is the square's centre unless the photograph's own was not. The
focal length is the photograph's diagonal unless the user gave one.

SMPL-X (licensed) has no body here: people are surfaces. Its triangles are ``f`` in ``SMPLX_NEUTRAL.npz``, which
``--faces`` reads. Statures are told from the first 22 joints, which are SMPL's. ``results.pkl`` of the video pipeline
holds SMPL-X parameters and no surfaces, and is refused.

Read in code: ``prompt_hmr/models/phmr.py``, ``models/inference.py``, ``scripts/demo_phmr.py``,
``pipeline/phmr_vid.py``, ``pipeline/pipeline.py``. From memory: that ``body_joints`` begins with SMPL's 22. Not
verified: files from real runs.
"""

from __future__ import annotations

from typing import Any

from crowdmesh.adapters._bodies import limbs_of, nobody, rigid_people
from crowdmesh.adapters._padded import Square
from crowdmesh.adapters._pixels import check_pixels
from crowdmesh.adapters._rows import Rows
from crowdmesh.adapters.base import Adapter, Given, named_records
from crowdmesh.adapters.multi_hmr import SMPLX_LIMBS
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene

INPUT_SIDE = 896
_NEEDED = {"vertices", "cam_int", "transl", "betas"}


def records(content: Any) -> dict[str, Any]:
    """The people of each image."""
    return named_records(content, lambda part: _is_photo(part) or _is_video(part))


def _is_photo(record: Any) -> bool:
    return isinstance(record, dict) and record.keys() >= _NEEDED


def _is_video(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("people"), dict) or "camera" not in record:
        return False
    return any(isinstance(track, dict) and "smplx_cam" in track for track in record["people"].values())


def read(record: dict[str, Any], given: Given) -> Scene:
    """The scene of one image."""
    if _is_video(record):
        raise InputError(
            "this is a result of PromptHMR's video pipeline, with parameters of SMPL-X, which has no body here, and no "
            "surfaces; run scripts/demo_phmr.py on the photograph, or save 'vertices' and 'cam_int' of its people"
        )
    rows = Rows.of(record, "vertices", (None, 3))
    width, height = given.size()
    square = Square.exactly(width, height, INPUT_SIDE)
    K = rows.one("cam_int", 3, 3)
    found = None if K is None else square.camera(float(K[0, 0]), float(K[0, 2]), float(K[1, 2]))
    camera = given.camera(width, height, found)
    if not len(rows):
        return Scene(camera, nobody())
    joints, points = rows.maybe("body_joints", None, 3), rows.maybe("body_joints2d", None, 2)
    if joints is not None and points is not None:
        check_pixels(camera, joints, square.to_photo(points))
    limbs = None if joints is None or joints.shape[1] < 22 else limbs_of(joints, SMPLX_LIMBS)
    faces_of = "the triangles of SMPL-X (SMPLX_NEUTRAL.npz)"
    return Scene(camera, rigid_people(rows.get("vertices", None, 3), given, faces_of, limbs, joints_m=joints))


ADAPTER = Adapter(
    name="prompthmr",
    title="PromptHMR",
    reads="output.pt of scripts/demo_phmr.py, or the same arrays as .npz or .json",
    records=records,
    read=read,
)
