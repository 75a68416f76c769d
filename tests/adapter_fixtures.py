"""Made-up results of other systems, in the layout each of them writes, of bodies whose place is known.

Every system's image joints come from the formula of its own camera, written down here a second time: focal lengths,
paddings and units are the system's, not this package's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _adapter_bodies import (
    CENTRES_PX,
    COUNT,
    HEIGHTS_PX,
    SIZE,
    Bodies,
    anny_bodies,
    matrices,
    named,
    person_masks,
    project,
    smpl_bodies,
)
from _adapter_files import WRITERS, coco_runs
from PIL import Image, ImageOps

from crowdmesh.body.keypoints import SMPL45


@dataclass(frozen=True)
class Source:
    """One system's file and the truth about it.

    Attributes:
        adapter: its name. content: what the file holds.
        options: what must be said beside the file.
        joints_m, joints_px: the same joints in the camera frame and, by the system's camera, in the photograph.
        vertices_m: surfaces in the camera frame.
        body: the body the people get. pickled: the file needs ``unpickle``.
        suffix: of the file, which says how it is written.
    """

    adapter: str
    content: Any
    joints_m: np.ndarray
    joints_px: np.ndarray
    vertices_m: np.ndarray
    body: str = "smpl"
    options: dict[str, Any] = field(default_factory=lambda: {"image_size": SIZE})
    suffix: str = ".npz"
    pickled: bool = True

    def save(self, folder: Path) -> Path:
        """Write the file."""
        path = folder / f"{self.adapter}{self.suffix}"
        WRITERS[self.suffix](path, self.content)
        return path


def _camerahmr(kid: bool = False) -> tuple[Bodies, np.ndarray, np.ndarray]:
    focal = 1100.0
    bodies = smpl_bodies(focal, 11 if kid else 10)
    K = np.array([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]])
    return bodies, K, project(bodies.joints_m, focal, SIZE[0] / 2, SIZE[1] / 2)


def camerahmr_release() -> Source:
    bodies, K, pixels = _camerahmr()
    other = ["a/b/other.jpg"]
    gtkps = np.zeros((COUNT + 1, 44, 3))
    gtkps[:COUNT, 5] = (7, 8, 0.9)  # OpenPose's left shoulder
    gtkps[:COUNT, 25 + 8] = (9, 10, 0.8)  # SPIN's right shoulder
    rows = {
        "imgname": np.array(["x/y/im.jpg"] * 2 + other + ["x/y/im.jpg"]),
        "pose_cam": bodies.pose.reshape(3, 72)[[0, 1, 1, 2]],
        "shape": bodies.shape[[0, 1, 1, 2]],
        "trans_cam": bodies.place[[0, 1, 1, 2]],
        "cam_int": np.repeat(K[None], 4, 0),
        "center": CENTRES_PX[[0, 1, 1, 2]],
        "scale": HEIGHTS_PX[[0, 1, 1, 2]] / 200,
        "gtkps": gtkps,
    }
    options = {"image": "x/y/im.jpg"}
    return Source("camerahmr", rows, bodies.joints_m, pixels, bodies.vertices_m, options=options, pickled=False)


def camerahmr_annots() -> Source:
    bodies, K, pixels = _camerahmr()
    record = {
        "trans_cam": bodies.place, "pose_cam": bodies.pose.reshape(3, 72), "shape": bodies.shape,
        "cam_int": np.repeat(K[None], 3, 0),
    }  # fmt: skip
    return Source("camerahmr", {"annots": {"im.jpg": record}}, bodies.joints_m, pixels, bodies.vertices_m, options={})


def dto_opt() -> Source:
    bodies, K, pixels = _camerahmr(kid=True)
    record = {
        "pose_cam": bodies.pose.reshape(3, 72).astype(np.float32), "shape": bodies.shape, "trans_cam": bodies.place,
        "cam_int": np.repeat(K[None], 3, 0), "is_released": np.zeros(3, bool), "is_optimize": True,
    }  # fmt: skip
    content = {"im.jpg": record, "nobody.jpg": {"is_optimize": False}}
    return Source("camerahmr", content, bodies.joints_m, pixels, bodies.vertices_m, options={"image": "im.jpg"})


def dto_released() -> Source:
    bodies, K, pixels = _camerahmr(kid=True)
    people = [
        {
            "smpl_param": {"shape": bodies.shape[k], "pose": bodies.pose[k].reshape(72), "trans": bodies.place[k]},
            "cam_param": {"focal": K[[0, 1], [0, 1]], "princpt": K[:2, 2]},
        }
        for k in range(COUNT)
    ]
    content = {"annots": {"insta-train/0/im.jpg": people}}
    return Source("camerahmr", content, bodies.joints_m, pixels, bodies.vertices_m, options={"image": "im.jpg"})


def hmr2() -> Source:
    side = max(SIZE)
    focal = 5000 / 256 * side
    bodies = smpl_bodies(focal)
    size, centre = 1.2 * HEIGHTS_PX, CENTRES_PX + np.array([3, -5])
    scale = 2 * focal / (size * bodies.place[:, 2])
    sideways = bodies.place[:, :2] - 2 * (centre - np.array(SIZE) / 2) / (size * scale)[:, None]
    rotations = matrices(bodies.pose)
    content = {
        "pred_cam": np.concatenate((scale[:, None], sideways), 1),
        "pred_smpl_params": {"global_orient": rotations[:, :1], "body_pose": rotations[:, 1:], "betas": bodies.shape},
        "pred_cam_t": np.ones((3, 3)), "pred_vertices": bodies.vertices, "focal_length": np.full((3, 2), 5000.0),
        "box_center": centre, "box_size": size, "img_size": np.repeat([[float(s) for s in SIZE]], 3, 0),
    }  # fmt: skip
    pixels = project(bodies.joints_m, focal, SIZE[0] / 2, SIZE[1] / 2)
    return Source("4d-humans", content, bodies.joints_m, pixels, bodies.vertices_m, options={}, suffix=".pt")


def phalp() -> Source:
    width, height = SIZE
    side = max(SIZE)
    left, top = (side - width) // 2, (side - height) // 2
    bodies = smpl_bodies(5000 / 256 * side)
    # PHALP projects in a 256 px image of the padded square; 45 joints, OpenPose's 25 first.
    joints = np.concatenate((bodies.joints, bodies.joints[:, :21]), 1)
    shares = project(joints + bodies.place[:, None], 5000.0, 128.0, 128.0) / 256
    pixels = project(bodies.joints_m, 5000.0, 128.0, 128.0) / 256 * side - (left, top)
    rotations = matrices(bodies.pose)
    masks = person_masks()
    frame = {
        "time": 0, "shot": 0, "frame_path": "f/000001.jpg", "tid": [1, 2, 5], "tracked_time": [0, 0, 2],
        "bbox": [np.array([c[0] - 25, c[1] - 50, 50, 100]) for c in CENTRES_PX],
        "conf": [0.9, 0.8, 0.7], "size": [[height, width]] * 3,
        "smpl": [
            {"global_orient": r[:1].astype(np.float32), "body_pose": r[1:].astype(np.float32), "betas": b}
            for r, b in zip(rotations, bodies.shape, strict=True)
        ],
        "camera": list(bodies.place), "3d_joints": list(joints), "2d_joints": [s.reshape(-1) for s in shares],
        "mask": [{"size": [height, width], "counts": coco_runs(mask)} for mask in masks],
    }  # fmt: skip
    empty = {key: [] if isinstance(value, list) else value for key, value in frame.items()}
    content = {"f/000001.jpg": frame, "f/000002.jpg": empty}
    options = {"image": "000001"}
    return Source("4d-humans", content, bodies.joints_m, pixels, bodies.vertices_m, options=options, suffix=".pkl")


MHR70 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    *["-"] * 26, "right_wrist", *["-"] * 20, "left_wrist", *["-"] * 7,
)  # fmt: skip


def sam3d_body() -> Source:
    focal = math.hypot(*SIZE)
    bodies = anny_bodies(focal)
    joints = named(bodies, MHR70)
    pixels = project(joints + bodies.place[:, None], focal, SIZE[0] / 2, SIZE[1] / 2)
    masks = person_masks()
    people = [
        {
            "bbox": np.array([*(CENTRES_PX[k] - 25), *(CENTRES_PX[k] + 25)], np.float32),
            "focal_length": np.float32(focal), "pred_keypoints_3d": joints[k].astype(np.float32),
            "pred_keypoints_2d": pixels[k].astype(np.float32), "pred_vertices": bodies.vertices[k].astype(np.float32),
            "pred_cam_t": bodies.place[k].astype(np.float32), "shape_params": np.zeros(45),
            "mask": masks[k][..., None].astype(np.uint8), "lhand_bbox": np.zeros(4),
        }
        for k in range(COUNT)
    ]  # fmt: skip
    options = {"faces": bodies.faces}
    joints = joints + bodies.place[:, None]
    return Source("sam3d-body", {"outputs": people}, joints, pixels, bodies.vertices_m, "rigid", options)


SMPLX = (*SMPL45[:22], *["-"] * 33, "nose", "right_eye", "left_eye", "right_ear", "left_ear", *["-"] * 67)
# MakeHuman's rig has two breast bones before the last bone of the spine, and 57 bones of the face after the neck.
_RIG = (*range(45), -1, -1, *range(45, 100), *[-1] * 61)


def padded(side: int) -> tuple[tuple[float, float], tuple[int, int]]:
    """What Pillow makes of the photograph in a square: its pixels per pixel there, and where it begins."""
    photo = ImageOps.contain(Image.new("L", SIZE, 255), (side, side))
    left, top, *_ = ImageOps.pad(photo, (side, side)).getbbox()
    return (SIZE[0] / photo.width, SIZE[1] / photo.height), (left, top)


def multi_hmr(anny: bool) -> Source:
    side = 896
    focal, (scale, begin) = side / (2 * math.tan(math.radians(30))), padded(side)
    bodies = anny_bodies(focal * scale[0])
    joints = named(bodies, SMPLX)
    if anny:
        joints = np.where(np.array(_RIG)[:, None] < 0, bodies.joints[:, :1], bodies.joints[:, np.maximum(_RIG, 0)])
    joints = joints + bodies.place[:, None]
    square = project(joints, focal, side // 2, side // 2)
    names = ("v3d", "j3d", "j2d") if anny else ("verts_smplx", "j3d_smplx", "j2d_smplx")
    K = np.array([[focal, 0, side // 2], [0, focal, side // 2], [0, 0, 1]])
    people = [
        dict(zip(names, (bodies.vertices_m[k], joints[k], square[k]), strict=True))
        | {"transl": joints[k, 15], "transl_pelvis": joints[k, 0], "rotvec": np.zeros((53, 3)), "loc": square[k, 15]}
        | ({"K": K, "shape": np.zeros(11), "fov": 60.0} if anny else {"scores": 0.9, "expression": np.zeros(10)})
        for k in range(COUNT)
    ]
    pixels = (square - begin) * scale
    options = {"image_size": SIZE, "faces": bodies.faces}
    suffix = ".pkl" if anny else ".json"
    return Source("multi-hmr", people, joints, pixels, bodies.vertices_m, "rigid", options, suffix, pickled=anny)


def nlf(millimetres: bool = True) -> Source:
    focal = max(SIZE) / (2 * math.tan(math.radians(55 / 2)))
    bodies = smpl_bodies(focal)
    shift = 0.5 if millimetres else 0.0  # the PyTorch model counts from the centre of the first pixel
    counted = project(bodies.joints_m, focal, SIZE[0] / 2 - shift, SIZE[1] / 2 - shift)
    unit = 1000 if millimetres else 1
    pred = {
        "pose": bodies.pose.reshape(3, 72), "betas": bodies.shape, "trans": bodies.place,
        "vertices3d": unit * bodies.vertices_m, "joints3d": unit * bodies.joints_m, "joints2d": counted,
        "boxes": np.array([[c[0] - 25, c[1] - 50, 50, 100, 0.9] for c in CENTRES_PX]),
    }  # fmt: skip
    content = {key: [value] for key, value in pred.items()} if millimetres else pred
    suffix = ".pt" if millimetres else ".npz"
    return Source("nlf", content, bodies.joints_m, counted + shift, bodies.vertices_m, suffix=suffix, pickled=False)


ROMP_FOCAL = 443.4 / 512 * max(SIZE)


def romp() -> Source:
    # The image joints of the file are orthographic; the perspective image, which counts, is near them.
    bodies, side = smpl_bodies(ROMP_FOCAL), max(SIZE)
    left, top = (side - SIZE[0]) // 2, (side - SIZE[1]) // 2
    pixels = (project(bodies.joints_m, 443.4, 0, 0) / 256 + 1) * side / 2 - (left, top)
    scale = 2 * 443.4 / 512 / bodies.place[:, 2:]
    orthographic = (bodies.joints[..., :2] * scale[:, None] + bodies.place[:, None, :2] * scale[:, None] + 1) * side / 2
    results = {
        "smpl_thetas": bodies.pose.reshape(3, 72), "smpl_betas": bodies.shape, "cam_trans": bodies.place,
        "cam": np.concatenate((scale, bodies.place[:, :2] * scale), 1), "center_confs": np.array([[0.9], [0.5], [1.1]]),
        "verts": bodies.vertices, "joints": seventy_one(bodies.joints),
        "pj2d_org": seventy_one(orthographic - (left, top)),
    }  # fmt: skip
    return Source("romp", {"results": results}, bodies.joints_m, pixels, bodies.vertices_m)


def bev(infant: bool = False) -> Source:
    bodies, side = smpl_bodies(ROMP_FOCAL, 11), max(SIZE)
    left, top = (side - SIZE[0]) // 2, (side - SIZE[1]) // 2
    hips = bodies.vertices[:, :500].mean(1)  # any fixed points of the surface
    shape = bodies.shape.copy()
    if infant:
        shape[1, 10] = 0.95  # SMIL's infant, another body than the posed one
    pixels = (project(bodies.joints_m, 443.4, 0, 0) / 256 + 1) * side / 2 - (left, top)
    results = {
        "smpl_thetas": bodies.pose.reshape(3, 72), "smpl_betas": shape, "cam_trans": bodies.place + hips,
        "cam": np.ones((3, 3)), "params_pred": np.zeros((3, 146)), "center_confs": np.array([0.9, 0.5, 0.8]),
        "verts": bodies.vertices - hips[:, None], "joints": seventy_one(bodies.joints - hips[:, None]),
        "pj2d_org": seventy_one(pixels),
    }  # fmt: skip
    content = {"results": {"im.png": results}, "sequence_results": {}}
    body = "rigid" if infant else "smpl"
    return Source("bev", content, bodies.joints_m, pixels, bodies.vertices_m, body)


def seventy_one(joints: np.ndarray) -> np.ndarray:
    """SMPL's 24 and the points that others add, here copies of the first."""
    return np.concatenate((joints, joints, joints[:, :23]), 1)


def prompthmr() -> Source:
    side = 896
    scale = side / max(SIZE)
    offset = (side - scale * np.array(SIZE)) / 2
    focal = math.hypot(*SIZE)
    bodies = anny_bodies(focal)
    joints = named(bodies, SMPL45[:22]) + bodies.place[:, None]
    K = np.array([[focal * scale, 0, SIZE[0] / 2 * scale + offset[0]], [0, focal * scale, side / 2], [0, 0, 1]])
    square = project(joints, focal * scale, side / 2, side / 2)
    content = {
        "pose": np.zeros((3, 132)), "betas": np.zeros((3, 10)), "transl": bodies.place,
        "rotmat": np.zeros((3, 22, 3, 3)), "vertices": bodies.vertices_m, "body_joints": joints,
        "body_joints2d": square, "cam_int": np.repeat(K[None], 3, 0),
    }  # fmt: skip
    options = {"image_size": SIZE, "faces": bodies.faces}
    pixels = (square - offset) / scale
    return Source("prompthmr", content, joints, pixels, bodies.vertices_m, "rigid", options, ".pt", pickled=False)


def sat_hmr() -> Source:
    side = 1288
    rate = side / max(SIZE)
    width, height = side, int(rate * SIZE[1])
    focal = height / (2 * math.tan(math.radians(25)))
    bodies = smpl_bodies(focal / rate, 11)
    network = project(bodies.joints_m, focal, width / 2, height / 2)
    everything = np.concatenate((network, network[:, :21]), 1)
    content = {
        "pred_poses": bodies.pose.reshape(3, 72), "pred_betas": bodies.shape, "pred_transl": bodies.place,
        "pred_verts": bodies.vertices_m, "pred_j3ds": np.concatenate((bodies.joints_m, bodies.joints_m[:, :21]), 1),
        "pred_j2ds": everything, "pred_confs": np.array([[0.9], [0.8], [0.6]]),
        "pred_boxes": np.array([[*(c * rate / side), 0.1, 0.3] for c in CENTRES_PX]),
        "pred_intrinsics": np.array([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]]),
    }  # fmt: skip
    pixels = network * (SIZE[0] / width, SIZE[1] / height)
    return Source("sat-hmr", content, bodies.joints_m, pixels, bodies.vertices_m, pickled=False)


def plain_table() -> Source:
    focal = 1000.0
    bodies = anny_bodies(focal)
    content = {
        "vertices_m": bodies.vertices_m, "faces": bodies.faces, "stature_m": bodies.stature,
        "joints_m": bodies.joints_m, "image_size": np.array(SIZE),
        "intrinsics": np.array([[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]]),
    }  # fmt: skip
    pixels = project(bodies.joints_m, focal, SIZE[0] / 2, SIZE[1] / 2)
    return Source("table", content, bodies.joints_m, pixels, bodies.vertices_m, "rigid", {}, pickled=False)


SOURCES: dict[str, Callable[[], Source]] = {
    "camerahmr labels": camerahmr_release,
    "camerahmr first guesses": camerahmr_annots,
    "dto opt": dto_opt,
    "dto released": dto_released,
    "hmr2": hmr2,
    "phalp": phalp,
    "sam3d-body": sam3d_body,
    "multi-hmr smplx": lambda: multi_hmr(False),
    "multi-hmr anny": lambda: multi_hmr(True),
    "nlf pytorch": nlf,
    "nlf tensorflow": lambda: nlf(False),
    "romp": romp,
    "bev": bev,
    "bev infant": lambda: bev(True),
    "prompthmr": prompthmr,
    "sat-hmr": sat_hmr,
    "table": plain_table,
}
