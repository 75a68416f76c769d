"""A folder of training data in the layouts of the public data sets, made of numbers and images of our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import synthetic_smpl
from _adapter_files import WRITERS

from crowdmesh.formats import SMPLPeople

WIDTH, HEIGHT = 1280, 720
FOCAL = 1000.0
MIXED_CAMERAS = "COCO_train2014_000000000002.jpg"


def write_smpl(folder: Path) -> Path:
    """SMPL of three genders, with the kid template, in ``smpl/`` of an asset folder."""
    smpl = folder / "smpl"
    synthetic_smpl.write(smpl, "SMPL_NEUTRAL.npz")
    arrays = synthetic_smpl.arrays()
    for name, scale in (("SMPL_FEMALE.npz", 0.94), ("basicmodel_m_lbs_10_207_0_v1.1.0.npz", 1.05)):
        changed: dict[str, Any] = arrays | {"v_template": scale * arrays["v_template"]}
        np.savez(smpl / name, **changed)
    return folder


@dataclass(frozen=True)
class Root:
    """What :func:`write_root` wrote.

    Attributes:
        path: the folder of all data.
        truth: data set -> image -> people as they were written, in the world frame (of SMPL sets).
    """

    path: Path
    truth: dict[str, dict[str, SMPLPeople]]


def write_root(path: Path, suffix: str = ".npz", images: bool = True) -> Root:
    """Every public layout, with two or three images each.

    Args:
        suffix: ``.npz`` (pickled, as the field has it) or ``.json``.
        images: write the image files, too.
    """
    truth = {}
    for name, write in _SMPL_SETS.items():
        truth[name] = write(path, suffix)
    for name, folder, betas, label in (
        *(("coco", "coco", b, f"COCO_CHMR_SMPL{o}") for b, o in ((10, ""), (11, "_OPT"))),
        *(("insta", "insta", b, f"INSTA_CHMR_SMPL{o}") for b, o in ((10, ""), (11, "_OPT"))),
    ):
        save(path / folder / f"{label}{suffix}", chmr_annots(name, betas))
    save(path / f"RelativeHuman/train_annots{suffix}", relative_human_annots())
    save(path / f"cmu_panoptic/annots_train{suffix}", panoptic_annots())
    save(path / f"mupots/mupots_annots{suffix}", mupots_annots())
    if images:
        for image, (width, height) in IMAGES.items():
            write_image(path / image, width, height)
    return Root(path, truth)


def save(path: Path, annots: dict[str, Any]) -> None:
    """An annotation file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[path.suffix](path, {"annots": annots})


def write_image(path: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    """A photograph of nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 120, np.uint8))


def intrinsics(width: int = WIDTH, height: int = HEIGHT, focal: float = FOCAL) -> np.ndarray:
    """A camera with its principal point in the centre."""
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def people(n: int, seed: int, betas: int = 10, genders: tuple[str, ...] | None = None, **change: Any) -> SMPLPeople:
    """People in a world frame whose camera is turned and moved."""
    random = np.random.default_rng(seed)
    pose = 0.2 * random.normal(size=(n, 24, 3))
    pose[:, 0] += (np.pi, 0, 0)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    shift = random.normal(size=3)
    places = np.stack((np.linspace(-1.5, 1.5, n), np.zeros(n), 4 + random.random(n)), 1)
    shape = 0.5 * random.normal(size=(n, betas))
    shape[:, 10:] = np.abs(shape[:, 10:])
    return SMPLPeople(
        change.get("K", intrinsics())[None].repeat(n, 0), np.tile(turn, (n, 1, 1)), np.tile(shift, (n, 1)), pose, shape,
        (places - shift) @ turn, genders or ("neutral",) * n, change.get("valid", np.ones(n, bool)),
        change.get("child"), turn_clockwise=change.get("turned", False),
    )  # fmt: skip


def _agora(root: Path, suffix: str) -> dict[str, SMPLPeople]:
    found = {
        "all.png": people(2, 1, child=np.zeros(2, bool)),
        "one_invalid.png": people(3, 2, child=np.array([True, False, False]), valid=np.array([True, False, True])),
        "nobody_valid.png": people(1, 3, child=np.zeros(1, bool), valid=np.zeros(1, bool)),
    }
    save(root / f"agora/smpl_neutral_annots/annots_smpl_train_fit{suffix}", _agora_annots(found))
    children = {"kids.png": people(2, 4, betas=11, child=np.ones(2, bool))}
    save(root / f"agora/smpl_neutral_annots/annots_smpl_validation{suffix}", _agora_annots(children))
    return found | children


def _agora_annots(found: dict[str, SMPLPeople]) -> dict[str, Any]:
    return {
        image: {
            "isValid": p.valid, "cam_intrinsics": p.intrinsics_px[:1], "cam_rot": p.camera_rotation,
            "cam_trans": p.camera_translation_m, "kid": p.child,
            "smpl_gt": [
                {"betas": p.betas[k], "global_orient": p.pose[k, 0], "body_pose": p.pose[k, 1:].reshape(-1),
                 "transl": p.translation_m[k]}
                for k in range(len(p))
            ],
        }
        for image, p in found.items()
    }  # fmt: skip


def _bedlam(root: Path, suffix: str) -> dict[str, SMPLPeople]:
    found = {
        "scene/seq_0/a.png": people(3, 5),
        "scene_closeup/seq_1/b.png": people(1, 6, K=intrinsics(HEIGHT, WIDTH), turned=True),
    }
    save(root / f"bedlam/bedlam_smpl_train_6fps{suffix}", bedlam_annots(found))
    return found


def bedlam_annots(found: dict[str, SMPLPeople] | None = None) -> dict[str, Any]:
    """People as BEDLAM annotates them."""
    return {
        image: {
            "cam_int": p.intrinsics_px[0], "cam_rot": list(p.camera_rotation), "shape": list(p.betas),
            "cam_trans": list(p.camera_translation_m), "pose_world": list(p.pose.reshape(-1, 72)),
            "trans_world": list(p.translation_m),
        }
        for image, p in (found or {"a.png": people(3, 5)}).items()
    }  # fmt: skip


def _3dpw(root: Path, suffix: str) -> dict[str, SMPLPeople]:
    found = {"imageFiles/walk/image_00000.jpg": people(2, 7, genders=("male", "female"))}
    annots = {
        image: {
            "betas": p.betas, "global_orient": p.pose[:, 0], "body_pose": p.pose[:, 1:].reshape(-1, 69),
            "transl": p.translation_m, "cam_intrinsics": p.intrinsics_px[0], "cam_rot": p.camera_rotation[0],
            "cam_trans": p.camera_translation_m[0], "genders": [gender[0] for gender in p.genders],
        }
        for image, p in found.items()
    }  # fmt: skip
    save(root / f"3dpw/annots_smpl_train_genders{suffix}", annots)
    return found


def _hi4d(root: Path, suffix: str) -> dict[str, SMPLPeople]:
    found = {"pair00/dance/images/4/000001.jpg": people(2, 8, genders=("female", "male"))}
    annots = {
        image: [
            {"focal": p.intrinsics_px[k, [0, 1], [0, 1]], "princpt": p.intrinsics_px[k, :2, 2],
             "cam_rot": p.camera_rotation[k], "cam_trans": p.camera_translation_m[k], "global_orient": p.pose[k, 0],
             "body_pose": p.pose[k, 1:].reshape(-1), "transl": p.translation_m[k], "betas": p.betas[k],
             "genders": p.genders[k]}
            for k in range(len(p))
        ]
        for image, p in found.items()
    }  # fmt: skip
    save(root / f"hi4d/hi4d_smpl_train{suffix}", annots)
    return found


_SMPL_SETS = {"agora": _agora, "bedlam": _bedlam, "3dpw": _3dpw, "hi4d": _hi4d}

CHMR_IMAGES = {
    "coco": ("COCO_train2014_000000000001.jpg", MIXED_CAMERAS, "COCO_train2014_000000000003.jpg"),
    "insta": ("insta-train/0/clip/0001.jpg", "insta-train/0/clip/0002.jpg"),
}
"""Images of :func:`chmr_annots`; of COCO's, the second has people of two cameras and the third nobody."""


def chmr_annots(name: str, betas: int) -> dict[str, Any]:
    """Labels in the layout of ``*_CHMR_SMPL.npz`` (10 betas) or ``*_CHMR_SMPL_OPT.npz`` (11)."""
    annots = {}
    for seed, image in enumerate(CHMR_IMAGES[name]):
        count = 0 if seed == 2 else 2
        K = np.stack([intrinsics(), intrinsics(focal=FOCAL * (1.25 if image == MIXED_CAMERAS else 1))])
        annots[image] = [chmr_person(40 + 10 * seed + k, K[k], betas) for k in range(count)]
    return annots


def chmr_person(seed: int, K: np.ndarray, betas: int) -> dict[str, Any]:
    """One person of such labels."""
    random = np.random.default_rng(seed)
    pose = 0.2 * random.normal(size=72)
    pose[:3] += (np.pi, 0, 0)
    place = np.array([random.uniform(-1, 1), 0.1, random.uniform(4, 6)])
    camera = {"focal": K[[0, 1], [0, 1]].astype(np.float32), "princpt": K[:2, 2].astype(np.float32)}
    shape = np.abs(0.3 * random.normal(size=betas))
    return {"smpl_param": {"shape": shape, "pose": pose, "trans": place}, "cam_param": camera}


def relative_human_annots() -> dict[str, Any]:
    """Two people with 14 keypoints and depth layers."""
    random = np.random.default_rng(20)
    person = {"bbox": [100.0, 100, 400, 600], "gender": 0}
    points = np.concatenate((random.uniform(100, 600, (2, 14, 2)), np.ones((2, 14, 1))), 2)
    return {
        "12345.jpg": [
            person | {"kp2d": points[0].reshape(-1), "depth_id": 0, "age": 0},
            person | {"kp2d": points[1].reshape(-1), "depth_id": 1, "age": 2},
        ]
    }


def panoptic_annots() -> dict[str, Any]:
    """Two people with 19 joints."""
    random = np.random.default_rng(21)
    joints = np.ones((2, 19, 4))
    joints[..., :3] = random.uniform((-1, -1, 3), (1, 1, 5), (2, 19, 3))
    pixels = (joints[..., :3] @ intrinsics().T)[..., :2] / joints[..., 2:3]
    return {"160422_haggling1/00_16/a.jpg": {"kpts3d": joints, "kpts2d": pixels, "width": WIDTH, "height": HEIGHT}}


def mupots_annots() -> dict[str, Any]:
    """One person with Human3.6M's 17 joints."""
    joints = np.random.default_rng(22).uniform((-1000, -1000, 3000), (1000, 1000, 5000), (17, 3))
    pixels = (joints @ intrinsics().T)[:, :2] / joints[:, 2:]
    person = {"annot_2d": pixels, "annot_3d": joints, "annot_3d_univ": joints, "vis": np.ones(17, bool)}
    return {"TS1/img_000000.jpg": [person]}


_WIDE = (WIDTH, HEIGHT)
IMAGES = {
    **{f"agora/train/{name}.png": _WIDE for name in ("all", "one_invalid", "nobody_valid")},
    "agora/validation/kids.png": _WIDE,
    "bedlam/images/scene/seq_0/a.png": _WIDE,
    "bedlam/images/scene_closeup/seq_1/b.png": _WIDE,
    "3dpw/imageFiles/walk/image_00000.jpg": _WIDE,
    "hi4d/pair00/dance/images/4/000001.jpg": _WIDE,
    **{f"coco/train2014/{name}": _WIDE for name in CHMR_IMAGES["coco"]},
    **{f"insta/{name}": _WIDE for name in CHMR_IMAGES["insta"]},
    "RelativeHuman/images/12345.jpg": _WIDE,
    "cmu_panoptic/160422_haggling1/00_16/a.jpg": _WIDE,
    "mupots/TS1/img_000000.jpg": _WIDE,
}
"""Image files below the folder of all data, with width and height as stored."""
