"""Multi-HMR: the list of people that the model returns for one image, saved in any way; with SMPL-X or with Anny.

| meaning | names of the newer (Anny) and the older (SMPL-X) code |
|---|---|
| surface, camera frame, metres | ``v3d`` or ``verts_smplx`` (V, 3) |
| joints, camera frame, metres | ``j3d`` or ``j3d_smplx`` (J, 3) |
| joints in pixels of the network's square input | ``j2d`` or ``j2d_smplx`` (J, 2) |
| detection | ``scores`` |
| not used | ``transl`` (of the head, not of the root), ``transl_pelvis``, ``rotvec``, ``rotmat``, ``shape``, ``expression``, ``loc`` |

Surfaces and joints already stand in the camera frame (x right, y down, z forward). The camera is that of a square: the
photograph scaled to its longer side and centred by Pillow (896 px, say), with 60 degrees over the square unless told
otherwise; ``K`` if the people have it, else solved from ``j3d`` and ``j2d``. The principal point is the square's
centre, which tells its side.

SMPL-X (licensed) has no body here. Multi-HMR's Anny has the full rig of 163 bones, an older set of shape axes and other
triangles than our Anny, so its parameters do not map exactly: people are surfaces in both cases. SMPL-X's triangles are
``f`` in ``SMPLX_NEUTRAL.npz``, which ``--faces`` reads; Anny's are the model's ``faces``.

Read in code: ``model.py``, ``blocks/smpl_layer.py``, ``multi_hmr_anny/multi_hmr.py``, ``demo.py``, ``utils/camera.py``;
SMPL-X's order of joints in several copies. Not verified: files from real runs; where bones stand among Anny's 163 (the
order of MakeHuman's rig, as the model's mask of useful bones has it).
"""  # noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import limbs_of, nobody, rigid_people
from crowdmesh.adapters._padded import Square
from crowdmesh.adapters._pixels import check_pixels, coco17, solve_pinhole
from crowdmesh.adapters._rows import Rows
from crowdmesh.adapters.base import Adapter, Given, named_records
from crowdmesh.camera import Camera
from crowdmesh.errors import FormatError
from crowdmesh.scene import Scene

SMPLX_VERTICES, SMPLX_JOINTS, ANNY_BONES = 10475, 127, 163
SMPLX_LIMBS = {
    "left_hip": 1, "right_hip": 2, "left_knee": 4, "right_knee": 5, "left_ankle": 7, "right_ankle": 8,
    "left_shoulder": 16, "right_shoulder": 17,
}  # fmt: skip
COCO_FROM_SMPLX = (55, 57, 56, 59, 58, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
_ANNY_LIMBS = {
    "left_hip": 2, "right_hip": 22, "left_knee": 4, "right_knee": 24, "left_ankle": 6, "right_ankle": 26,
    "left_shoulder": 50, "right_shoulder": 76,
}  # fmt: skip
_OLD_NAMES = {"verts_smplx": "v3d", "j3d_smplx": "j3d", "j2d_smplx": "j2d"}


def records(content: Any) -> dict[str, Any]:
    """The people of each image."""
    return named_records(content, _is_record)


def _is_record(part: Any) -> bool:
    if isinstance(part, list):
        return bool(part) and all(isinstance(person, dict) and _is_record(person) for person in part)
    if not isinstance(part, dict):
        return False
    names = {_OLD_NAMES.get(name, name) for name in part}
    return names >= {"v3d", "j3d", "transl"}


def _renamed(person: dict[str, Any]) -> dict[str, Any]:
    return {_OLD_NAMES.get(name, name): value for name, value in person.items()}


def read(record: Any, given: Given) -> Scene:
    """The scene of one image."""
    record = [_renamed(person) for person in record] if isinstance(record, list) else _renamed(record)
    rows = Rows.of(record, "v3d", (None, 3))
    width, height = given.size()
    if not len(rows):
        K = rows.one("K", 3, 3)
        found = None if K is None else _of_square(float(K[0, 0]), float(K[0, 2]), float(K[1, 2]), width, height)[1]
        return Scene(given.camera(width, height, found), nobody())
    vertices, joints, points = rows.get("v3d", None, 3), rows.get("j3d", None, 3), rows.maybe("j2d", None, 2)
    square, found = _of_square(*_square_camera(rows, joints, points), width, height)
    camera = given.camera(width, height, found)
    keypoints = limbs = None
    if points is not None:
        points = square.to_photo(points)
        check_pixels(camera, joints, points)
    if joints.shape[1] == SMPLX_JOINTS:
        limbs = limbs_of(joints, SMPLX_LIMBS)
        keypoints = None if points is None else coco17(points, COCO_FROM_SMPLX)
    elif joints.shape[1] == ANNY_BONES:
        limbs = limbs_of(joints, _ANNY_LIMBS)
    faces_of = "the triangles of SMPL-X (SMPLX_NEUTRAL.npz)" if vertices.shape[1] == SMPLX_VERTICES else "its triangles"
    scores = rows.maybe("scores", 1)
    people = rigid_people(
        vertices, given, faces_of, limbs,
        joints_m=joints, keypoints_px=keypoints, scores=None if scores is None else scores[:, 0],
    )  # fmt: skip
    return Scene(camera, people)


def _square_camera(rows: Rows, joints: np.ndarray, points: np.ndarray | None) -> tuple[float, float, float]:
    """Focal length and principal point in pixels of the network's square."""
    if rows.has("K"):
        K = rows.one("K", 3, 3)
        assert K is not None
        return float(K[0, 0]), float(K[0, 2]), float(K[1, 2])
    if points is None:
        raise FormatError("the people have neither 'K' nor 'j2d', from which to tell the camera; save one of them")
    return solve_pinhole(joints.reshape(-1, 3), points.reshape(-1, 2))


def _of_square(focal: float, cx: float, cy: float, width: int, height: int) -> tuple[Square, Camera]:
    """The photograph in the network's square, and its camera."""
    square = Square.as_pillow_does(width, height, _side(cx, cy))
    return square, square.camera(focal, cx, cy)


def _side(cx: float, cy: float) -> int:
    if abs(cx - cy) > 0.5:
        raise FormatError(
            f"the principal point ({cx:.1f}, {cy:.1f}) is not the centre of Multi-HMR's square input; run it without "
            "one of its own"
        )
    return 2 * round((cx + cy) / 2)


ADAPTER = Adapter(
    name="multi-hmr",
    title="Multi-HMR",
    reads="the model's list of people (.npz, .npy, .pkl, .pt, .json), with SMPL-X or Anny",
    records=records,
    read=read,
)
