"""CameraHMR's labels and results, and those of DTO-Humans, which are laid out alike.

| file | layout |
|---|---|
| labels ``*-release.npz`` | one row a person: ``imgname``, ``pose_cam`` (N, 72) or (N, 24, 3), ``shape`` (N, 10 or more), ``trans_cam``, ``cam_int`` (N, 3, 3); optional ``center``, ``scale`` (box side / 200), ``gtkps`` (N, 44 or more, 3); older names ``pose``, ``cam_t`` |
| first guesses | ``annots``: image -> ``pose_cam`` (N, 72), ``shape`` (N, 10), ``trans_cam`` (N, 3), ``cam_int`` (N, 3, 3) |
| DTO ``*_opt.npz`` | one entry an image, the same fields; ``shape`` has 11; images in which everybody was rejected hold ``is_optimize`` alone |
| released ``*_CHMR_SMPL_OPT.npz`` | ``annots``: image -> list of ``smpl_param`` (``pose`` (72,), ``shape`` (11,), ``trans`` (3,)) and ``cam_param`` (``focal`` (2,), ``princpt`` (2,)) |

SMPL's own translation (model origin), metres, camera frame; full-image intrinsics, principal point in the image's
centre, which is why twice that point is the image's size. The eleventh beta is AGORA's kid axis.

Read in code: the release of DTO-Humans 5918f61 and CameraHMR's ``mesh_estimator.py``. Not verified: real files, and
what ``gtkps`` holds beyond OpenPose's 25 (taken here: the 19 points of SPIN from number 25 on).
"""  # noqa: E501

from __future__ import annotations

from typing import Any

import numpy as np

from crowdmesh.adapters._bodies import betas_for as betas_for  # part of what this door offers
from crowdmesh.adapters._bodies import nobody, smpl_people
from crowdmesh.adapters._pixels import COCO_FROM_OPENPOSE
from crowdmesh.adapters._rows import Rows, count, numbers
from crowdmesh.adapters.base import Adapter, Given
from crowdmesh.camera import Camera
from crowdmesh.errors import FormatError, InputError
from crowdmesh.people import People
from crowdmesh.scene import Scene

_OLD_NAMES = {"pose": "pose_cam", "cam_t": "trans_cam"}
_NEEDED = {"pose_cam", "shape", "trans_cam", "cam_int"}
_FLAGS = {"is_released", "is_optimize"}
_OPTIONAL = {"center", "scale", "gtkps", *_FLAGS}
# Where COCO's limbs are among the 19 points of SPIN: shoulders, elbows, wrists, hips, knees, ankles; left, right.
_SPIN_FIRST, _SPIN_LIMBS = 25, (9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0)


def records(content: Any) -> dict[str, Any]:
    """The people of each image."""
    if not isinstance(content, dict) or not content:
        return {}
    if "imgname" in content:
        return _release(content)
    annots = content.get("annots", content) if len(content) == 1 else content
    if not isinstance(annots, dict) or not all(isinstance(name, str) for name in annots):
        return {}
    if not any(isinstance(record, (list, dict)) and record for record in annots.values()):
        return {}  # nobody anywhere, of no system in particular
    found = {image: _fields(record) for image, record in annots.items()}
    return (
        {image: record for image, record in found.items() if record is not None} if None not in found.values() else {}
    )


def _release(content: dict[str, Any]) -> dict[str, Any]:
    columns = {_OLD_NAMES.get(name, name): value for name, value in content.items()}
    if not columns.keys() >= _NEEDED:
        return {}
    count(columns["imgname"], "imgname")
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in columns["imgname"]]
    chosen: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        chosen.setdefault(name, []).append(row)
    kept = {key: columns[key] for key in (_NEEDED | _OPTIONAL) & columns.keys()}
    people = Rows.stacked(kept, len(names)).people
    return {name: {key: [people[i][key] for i in rows] for key in kept} for name, rows in chosen.items()}


def _fields(record: Any) -> dict[str, Any] | None:
    """The record of one image with the names of first guesses; None if it is of another system."""
    if isinstance(record, list):
        if not all(isinstance(p, dict) and _has_parts(p, "smpl_param", "cam_param") for p in record):
            return None
        return {
            "pose_cam": [p["smpl_param"].get("pose") for p in record],
            "shape": [p["smpl_param"].get("shape") for p in record],
            "trans_cam": [p["smpl_param"].get("trans") for p in record],
            "cam_int": [_matrix(p["cam_param"]) for p in record],
        }
    if not isinstance(record, dict) or not record.keys() <= _NEEDED | _OPTIONAL:
        return None
    return record if record.keys() >= _NEEDED or set(record) == {"is_optimize"} else None


def _has_parts(person: dict[str, Any], *keys: str) -> bool:
    return all(isinstance(person.get(key), dict) for key in keys)


def _matrix(camera: dict[str, Any]) -> Any:
    focal, centre = (numbers(camera.get(key), key).reshape(-1) for key in ("focal", "princpt"))
    if focal.size != 2 or centre.size != 2:
        raise FormatError("'cam_param' must hold 'focal' and 'princpt', two numbers each")
    return np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])


def read(record: dict[str, Any], given: Given) -> Scene:
    """The scene of one image."""
    rows = _rows(record)
    K = rows.one("cam_int", 3, 3)
    if K is None:
        return Scene(given.camera(*given.size()), nobody())
    width, height = _size(K, given)
    camera = given.camera(width, height, Camera.from_intrinsics(K, width, height))
    return Scene(camera, _people(rows, given) if len(rows) else nobody())


def arrays(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The people of one image as arrays over people, not yet bodies; empty for nobody.

    ``pose_cam`` (K, 24, 3), ``shape`` (K, 10 or more), ``trans_cam`` (K, 3), ``cam_int`` (K, 3, 3) and, where the file
    has them, ``boxes_px`` (K, 4) and ``keypoints_px`` (K, 17, 3).

    Raises:
        FormatError: of another shape or length, or with NaN; names the person and the entry.
    """
    rows = _rows(record)
    if not len(rows):
        return {}
    found = {
        "pose_cam": rows.get("pose_cam", 24, 3),
        "shape": rows.get("shape", None),
        "trans_cam": rows.get("trans_cam", 3),
        "cam_int": rows.get("cam_int", 3, 3),
    }
    return found | {name: value for name, value in _evidence(rows).items() if value is not None}


def _rows(record: dict[str, Any]) -> Rows:
    columns = {key: value for key, value in record.items() if key not in _FLAGS}
    once = np.shape(columns.get("cam_int", ())) == (3, 3)
    shared = {"cam_int": columns.pop("cam_int")} if once else {}
    return Rows.stacked(columns, count(columns["pose_cam"], "pose_cam") if columns else 0, shared)


def _size(K: np.ndarray, given: Given) -> tuple[int, int]:
    """The image's size: CameraHMR puts the principal point in its centre; where that is not so, the size said."""
    size = 2 * K[:2, 2]
    if np.abs(size - np.rint(size)).max() <= 0.02:
        return given.size((int(np.rint(size[0])), int(np.rint(size[1]))))
    if given.image_size is None:
        raise InputError(
            f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) is not the centre of an image; give --image-size"
        )
    return given.size()


def _people(rows: Rows, given: Given) -> People:
    betas = rows.get("shape", None)
    pose, translation = rows.get("pose_cam", 24, 3), rows.get("trans_cam", 3)
    return smpl_people(pose, betas, translation, given, **_evidence(rows))


def _evidence(rows: Rows) -> dict[str, np.ndarray | None]:
    boxes = keypoints = None
    if rows.has("center", "scale"):
        boxes = boxes_px(rows.get("center", 2), rows.get("scale", 1))
    if rows.has("gtkps"):
        keypoints = coco_keypoints(rows.get("gtkps", None, 3))
    return {"boxes_px": boxes, "keypoints_px": keypoints}


def boxes_px(center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(K, 4) left, top, right, bottom of square boxes by ``center`` (K, 2) and ``scale`` (K, 1), side / 200."""
    half = 100 * scale
    return np.concatenate((center - half, center + half), 1)


def coco_keypoints(points: np.ndarray) -> np.ndarray | None:
    """COCO's 17 points among ``gtkps`` (K, 44 or more, 3), confidences from 0 to 1; ``None`` where there are fewer."""
    if points.shape[1] < _SPIN_FIRST + 19:
        return None
    coco, limbs = points[:, COCO_FROM_OPENPOSE], points[:, [_SPIN_FIRST + i for i in _SPIN_LIMBS]]
    coco[:, 5:] = np.where(coco[:, 5:, 2:] > 0, coco[:, 5:], limbs)
    coco[..., 2] = coco[..., 2].clip(0, 1)
    return coco


ADAPTER = Adapter(
    name="camerahmr",
    title="CameraHMR or DTO-Humans",
    reads="*-release.npz labels; first guesses (annots); *_opt.npz; *_CHMR_SMPL_OPT.npz",
    records=records,
    read=read,
)
