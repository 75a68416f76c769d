"""Files of a synthetic label set: what one scene leaves behind, and what all scenes together."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from crowdmesh._files import atomic_path, read_npz
from crowdmesh.body import load_body
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import FormatError
from crowdmesh.people import People
from crowdmesh.synth.scene import SyntheticScene
from crowdmesh.synth.simulated_experts import Observation

IMAGES, DETECTIONS, DEPTH, PARTS = "images", "detections", "depth", ".parts"
"""Folders with one file an image; the last is there while the set is unfinished, and its file means: all is written."""

LABELS, AGES, TRUTH, STATURES = "synthetic-release.npz", "ages.csv", "truth/people.npz", "truth/statures.npy"
"""Files with a row a person."""

JPEG_QUALITY = 92

_AGE_COLUMNS = ("left", "top", "right", "bottom", "age_years", "male_probability")
_PIXELS_PER_SCALE = 200.0  # of 4D-Humans' labels: scale is the side of a person's square box over this


def scene_name(index: int) -> str:
    """What the files of a scene are called, without their ending."""
    return f"{index:06d}"


def write_scene(folder: Path, index: int, world: SyntheticScene, seen: Observation) -> None:
    """Everything of one scene, its part last."""
    name, people = scene_name(index), seen.guess.people
    assert world.scene.image is not None and people.masks is not None
    assert people.boxes_px is not None and people.scores is not None
    with atomic_path(folder / IMAGES / f"{name}.jpg") as path:
        path.write_bytes(_jpeg(world.scene.image))
    with atomic_path(folder / DETECTIONS / f"{name}.npz") as path:
        masks = people.masks.to_dense().astype(np.uint8)
        np.savez_compressed(path, boxes_px=people.boxes_px, scores=people.scores, masks=masks)
    with atomic_path(folder / DEPTH / f"{name}.npz") as path:
        np.savez_compressed(path, depth=half_precision(seen.depth), kind=np.array(seen.depth.kind))
    groups = {
        "labels": _labels(f"{name}.jpg", people, seen.guess.camera),
        "ages": _ages(people),
        "truth": _truth(f"{name}.jpg", world, seen),
    }
    columns = {f"{group}/{key}": values for group, part in groups.items() for key, values in part.items()}
    with atomic_path(part_path(folder, index)) as path:
        np.savez(path, allow_pickle=False, **columns)


def part_path(folder: Path, index: int) -> Path:
    """Rows of one scene, while the set is unfinished; when the file is there, all files of the scene are."""
    return folder / PARTS / f"{scene_name(index)}.npz"


def half_precision(depth: RelativeDepth) -> np.ndarray:
    """(H, W) float16: relative error at most 2^-11 (0.05 %) from 6e-5 up; what exceeds 65504 stays there."""
    return np.minimum(depth.values, np.finfo(np.float16).max).astype(np.float16)


def assemble(folder: Path, indices: Sequence[int]) -> None:
    """The files with a row a person, of the parts of all scenes; the labels come last.

    Raises:
        FormatError: a part is damaged.
    """
    found: dict[str, list[np.ndarray]] = {}
    for index in indices:
        for key, values in _read_part(part_path(folder, index)).items():
            found.setdefault(key, []).append(values)
    columns = {key: np.concatenate(values) for key, values in found.items()}
    labels, ages, truth = (_group(columns, group) for group in ("labels", "ages", "truth"))
    with atomic_path(folder / TRUTH) as path:
        np.savez(path, allow_pickle=False, **truth)
    with atomic_path(folder / STATURES) as path:
        np.save(path, truth["stature_m"])
    with atomic_path(folder / AGES) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", *_AGE_COLUMNS))
        for image, row in zip(labels["imgname"].tolist(), ages["rows"].tolist(), strict=True):
            writer.writerow((image, *("" if np.isnan(value) else repr(value) for value in row)))
    with atomic_path(folder / LABELS) as path:
        np.savez(path, allow_pickle=False, **labels, body=np.array("anny"))


def _labels(image: str, people: People, camera: Camera) -> dict[str, np.ndarray]:
    """Columns of 4D-Humans' label files, of Anny's parameters; single precision, as theirs."""
    assert people.pose is not None and people.shape is not None and people.keypoints_px is not None
    boxes = people.boxes_px
    assert boxes is not None
    count, corner, extent = len(people), boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    intrinsics = np.array([[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]])
    columns = {
        "pose_cam": people.pose,
        "shape": people.shape,
        "trans_cam": people.translation_m,
        "cam_int": np.broadcast_to(intrinsics, (count, 3, 3)),
        "center": corner + 0.5 * extent,
        "scale": extent.max(1, initial=0.0) / _PIXELS_PER_SCALE,
        "keypoints_px": people.keypoints_px,
    }
    singles = {name: np.ascontiguousarray(value, np.float32) for name, value in columns.items()}
    return {"imgname": np.array([image] * count, dtype=f"<U{len(image)}"), **singles}


def _ages(people: People) -> dict[str, np.ndarray]:
    """Box, age and probability of being male of each person; NaN: unknown."""
    assert people.boxes_px is not None and people.age_years is not None and people.male_probability is not None
    return {"rows": np.column_stack((people.boxes_px, people.age_years, people.male_probability))}


def _truth(image: str, world: SyntheticScene, seen: Observation) -> dict[str, np.ndarray]:
    """Columns of :class:`crowdmesh.synth.label_truth.LabelTruth`."""
    people, found = world.scene.people, seen.person
    assert people.joints_m is not None and people.age_years is not None and people.male_probability is not None
    pelvis = people.joints_m[:, load_body(people.body).pelvis].astype(np.float64)
    lost = np.setdiff1d(np.arange(len(people)), found)
    name = f"<U{len(image)}"
    return {
        "imgname": np.array([image] * len(found), dtype=name),
        "pelvis_m": pelvis[found],
        "stature_m": people.stature_m[found],
        "age_years": people.age_years[found],
        "male": people.male_probability[found],
        "focal_px": np.full(len(found), world.scene.camera.fy),
        "undetected_imgname": np.array([image] * len(lost), dtype=name),
        "undetected_pelvis_m": pelvis[lost],
        "undetected_stature_m": people.stature_m[lost],
        "undetected_age_years": people.age_years[lost],
    }


def _read_part(path: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(path, "part of a synthetic label set")
    except FormatError as error:
        raise FormatError(f"{error}; delete it and run crowdmesh synth with the same arguments again") from error


def _group(columns: Mapping[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{group}/"): value for key, value in columns.items() if key.startswith(f"{group}/")}


def _jpeg(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert done
    return data.tobytes()
