"""Rows of a table of labels as scenes, one an image; what is wrong with an image is said of it alone.

Bodies come as parameters, without surfaces: whoever needs those poses them. Statures are those of the shapes, worked
out for many people at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int

from crowdmesh.adapters import camerahmr
from crowdmesh.body import SMPL, load_body
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.people import People
from crowdmesh.pgt.sources._label_files import BODIES
from crowdmesh.scene import Scene

# Column of the table -> what label files call it.
_COLUMNS = {
    "pose": "pose_cam",
    "shape": "shape",
    "translation_m": "trans_cam",
    "intrinsics": "cam_int",
    "boxes_px": "center or scale",
    "keypoints_px": "the keypoints",
}
_FARTHEST_M = 3000.0  # as for files of other systems
_SAME_CAMERA = 1e-3
_WHOLE_PX = 0.02


class LabelError(ValueError):
    """Why the labels of one image are no people of one image, one sentence."""


@dataclass(frozen=True, eq=False)
class LabelBlock:
    """Rows of some images of one data set, as arrays over people.

    Attributes:
        body: name. rows: number of each row in its data set, -1 for images of nobody.
        problem: what was found wrong when the table was made.
        sound: whether the numbers of this row could be somebody's.
        stature_m: NaN where a shape holds NaN.
        has_box, has_keypoints: whether the labels have them for this person.
    """

    body: str
    rows: Int[np.ndarray, " N"]
    problem: list[str | None]
    pose: Float[np.ndarray, "N P"]
    shape: Float[np.ndarray, "N S"]
    translation_m: Float[np.ndarray, "N 3"]
    intrinsics: Float[np.ndarray, "N 9"]
    boxes_px: Float[np.ndarray, "N 4"]
    keypoints_px: Float[np.ndarray, "N 51"]
    has_box: np.ndarray
    has_keypoints: np.ndarray
    sound: np.ndarray
    stature_m: Float[np.ndarray, " N"]


def block_of(table: pa.Table, body: str) -> LabelBlock:
    """Rows of one data set's labels.

    Raises:
        AssetError: the labels are SMPL's, and the user has no SMPL here.
        InputError: they use SMPL's kid axis, and the user has no kid template here.
    """
    joints, parameters = BODIES[body]
    widths = {"pose": 3 * joints, "shape": parameters, "translation_m": 3, "intrinsics": 9}
    widths |= {"boxes_px": 4, "keypoints_px": 51}
    values, known = {}, {}
    for name, width in widths.items():
        column = table[name].combine_chunks()
        known[name] = column.is_valid().to_numpy(zero_copy_only=False)
        values[name] = np.zeros((len(column), width))
        values[name][known[name]] = column.flatten().to_numpy().reshape(-1, width)
    people = known["pose"]
    depth = values["translation_m"][:, 2]
    sound = np.all([np.isfinite(column).all(1) for column in values.values()], 0) & (depth > 0) & (depth <= _FARTHEST_M)
    values["shape"], values["stature_m"] = _bodies(values["shape"], people, body)
    return LabelBlock(
        body=body,
        rows=table["row"].to_numpy(),
        problem=table["problem"].to_pylist(),
        has_box=known["boxes_px"],
        has_keypoints=known["keypoints_px"],
        sound=sound,
        **values,
    )


@torch.no_grad()
def _bodies(shape: np.ndarray, people: np.ndarray, body: str) -> tuple[np.ndarray, np.ndarray]:
    """Shapes as the body here has them, and the statures that they make."""
    if not people.any():
        return shape, np.full(len(shape), np.nan)
    model = load_body("smpl") if body == "smpl" else load_body("anny")
    if isinstance(model, SMPL):
        shape = camerahmr.betas_for(model, shape)
    stature = np.full(len(shape), np.nan)
    sound = people & np.isfinite(shape).all(1)
    stature[sound] = model.stature(torch.from_numpy(shape[sound]).float()).double().numpy()
    return shape, stature


def scene_of(
    block: LabelBlock,
    rows: slice,
    origin: Callable[[int], str],
    image_size: Callable[[], tuple[int, int] | None],
) -> tuple[Scene | None, Int[np.ndarray, " K"]]:
    """The people of one image, and the row of each in its data set; no scene of nobody.

    Args:
        rows: of the block. origin: names the file and row of a row. image_size: of the image's file, asked for where
            the labels do not tell it.

    Raises:
        LabelError: the rows are no people of one image.
    """
    for problem in block.problem[rows]:
        if problem is not None:
            raise LabelError(problem)
    chosen = np.arange(rows.start, rows.stop)[block.rows[rows] >= 0]
    numbers = block.rows[chosen]
    if not len(chosen):
        return None, numbers
    if not block.sound[chosen].all():
        _refuse(block, chosen, lambda k: origin(int(numbers[k])))
    _check_camera(block.intrinsics[chosen], lambda k: origin(int(numbers[k])))
    camera = _camera(block.intrinsics[chosen], image_size)
    try:
        people = People(
            body=block.body,
            pose=block.pose[chosen].reshape(len(chosen), -1, 3),
            shape=block.shape[chosen],
            translation_m=block.translation_m[chosen],
            stature_m=block.stature_m[chosen],
            boxes_px=block.boxes_px[chosen] if block.has_box[chosen].all() else None,
            keypoints_px=block.keypoints_px[chosen].reshape(-1, 17, 3) if block.has_keypoints[chosen].any() else None,
        )
    except InputError as error:
        raise LabelError(str(error)) from error
    return Scene(camera, people), numbers


def _refuse(block: LabelBlock, chosen: np.ndarray, origin: Callable[[int], str]) -> NoReturn:
    """Say what is unsound."""
    for name, called in _COLUMNS.items():
        wrong = ~np.isfinite(getattr(block, name)[chosen]).all(1)
        if wrong.any():
            raise LabelError(f"{origin(int(wrong.argmax()))}: {called} holds NaN or infinite values")
    depth = block.translation_m[chosen, 2]
    k = int(((depth <= 0) | (depth > _FARTHEST_M)).argmax())
    raise LabelError(
        f"{origin(k)}: the person stands {depth[k]:.3g} m in front of the camera, so trans_cam is in another frame or "
        "unit"
    )


def _check_camera(intrinsics: np.ndarray, origin: Callable[[int], str]) -> None:
    """Refuse people of several cameras."""
    apart = np.abs(intrinsics - intrinsics[0]).max(1)
    if apart.max() > _SAME_CAMERA * np.abs(intrinsics[0]).max():
        k = int(apart.argmax())
        raise LabelError(
            f"{origin(k)}: cam_int has a focal length of {intrinsics[k, 0]:.1f} px and a centre of "
            f"({intrinsics[k, 2]:.1f}, {intrinsics[k, 5]:.1f}), the first person of this image {intrinsics[0, 0]:.1f} "
            f"px and ({intrinsics[0, 2]:.1f}, {intrinsics[0, 5]:.1f}); one camera sees them all"
        )


def _camera(intrinsics: np.ndarray, image_size: Callable[[], tuple[int, int] | None]) -> Camera:
    """The first person's camera; the image is twice its centre where that is whole, as CameraHMR has it."""
    K = intrinsics[0].reshape(3, 3)
    size = 2 * K[:2, 2]
    if size.min() >= 1 and np.abs(size - np.rint(size)).max() <= _WHOLE_PX:
        width, height = int(np.rint(size[0])), int(np.rint(size[1]))
    else:
        found = image_size()
        if found is None:
            raise LabelError(
                f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) is not the centre of an image, and there is no "
                "readable image that says how large it is"
            )
        width, height = found
    try:
        return Camera.from_intrinsics(K, width, height)
    except InputError as error:
        raise LabelError(f"cam_int: {error}") from error


def blocks(counts: Sequence[int], data_sets: Sequence[str], most_rows: int) -> list[slice]:
    """Runs of images of one data set, of so many rows together, or of one image."""
    found, start, rows = [], 0, 0
    for i, (count, data_set) in enumerate(zip(counts, data_sets, strict=True)):
        if i > start and (rows + count > most_rows or data_set != data_sets[start]):
            found.append(slice(start, i))
            start, rows = i, 0
        rows += count
    return [*found, slice(start, len(counts))] if len(counts) else []
