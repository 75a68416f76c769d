"""Masks, keypoints, ages and sexes as networks see them: models of their errors on exact evidence."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.camera import Camera
from crowdmesh.synth.expert_errors import AttributeErrors, KeypointErrors, MaskErrors

_FACE_WIDTH_M = 0.15
_TWELVE_YEARS = 12.0
_OLDEST_YEARS = 90.0
_OLDEST_GUESS_YEARS = 100.0


def simulated_masks(
    masks: Bool[np.ndarray, "K H W"], errors: MaskErrors, random: np.random.Generator
) -> Bool[np.ndarray, "K H W"]:
    """Masks shrunk or grown, some merged with a neighbour, some with a part cut away.

    A mask becomes empty only where it was.
    """
    count = len(masks)
    shrink = errors.erode * (1.0 + 0.7 * random.standard_normal(count))
    merged, cut = random.random(count) < errors.merge_share, random.random(count) < errors.cut_share
    swallowed, kept, side = (
        random.uniform(0.2, 0.6, count),
        random.uniform(0.4, 0.8, count),
        random.integers(0, 4, count),
    )
    seen = np.zeros_like(masks)
    for k, mask in enumerate(masks):
        rows, columns = np.nonzero(mask)
        if not len(rows):
            continue
        diagonal = float(np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1))
        changed = _resized(mask, shrink[k] * diagonal)
        if merged[k]:
            changed |= _touching(masks, k, swallowed[k])
        if cut[k]:
            changed &= _without_side(rows, columns, mask.shape, kept[k], int(side[k]))
        seen[k] = changed if changed.any() else mask
    return seen


def boxes_of(masks: Bool[np.ndarray, "K H W"]) -> Float[np.ndarray, "K 4"]:
    """Left, top, right, bottom of each mask in pixels; zeros where it is empty."""
    boxes = np.zeros((len(masks), 4))
    for k, mask in enumerate(masks):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            boxes[k] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _resized(mask: np.ndarray, pixels: float) -> np.ndarray:
    """Eroded by about so many pixels, dilated where negative; erosion to nothing leaves the mask."""
    radius = round(abs(pixels))
    if radius == 0:
        return mask.copy()
    window = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    change = cv2.erode if pixels > 0 else cv2.dilate
    changed = change(mask.astype(np.uint8), window).astype(bool)
    return changed if changed.any() else mask.copy()


def _touching(masks: np.ndarray, k: int, share: float) -> np.ndarray:
    """The part of the neighbour with the longest common border that lies nearest to person ``k``."""
    rim = cv2.dilate(masks[k].astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    contact = (masks & rim).sum((1, 2))
    contact[k] = 0
    neighbour = int(contact.argmax())
    if contact[neighbour] == 0:
        return np.zeros_like(masks[k])
    distance = cv2.distanceTransform((~masks[k]).astype(np.uint8), cv2.DIST_L2, 3)
    other = masks[neighbour]
    return other & (distance <= np.quantile(distance[other], share))


def _without_side(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...], kept: float, side: int) -> np.ndarray:
    """What remains when the upper, lower, left or right part of a person's box is lost."""
    along = rows if side < 2 else columns
    threshold = np.quantile(along, kept if side % 2 else 1.0 - kept)
    grid = np.arange(shape[0])[:, None] if side < 2 else np.arange(shape[1])[None]
    remaining = grid <= threshold if side % 2 else grid >= threshold
    return np.broadcast_to(remaining, shape)


def simulated_keypoints(
    keypoints_px: Float[np.ndarray, "K 17 3"],
    boxes_px: Float[np.ndarray, "K 4"],
    errors: KeypointErrors,
    random: np.random.Generator,
) -> Float[np.ndarray, "K 17 3"]:
    """Noisy points; the confidence falls with the size of the error that was drawn and for hidden points."""
    diagonal = np.hypot(boxes_px[:, 2] - boxes_px[:, 0], boxes_px[:, 3] - boxes_px[:, 1])
    hidden = keypoints_px[..., 2] < 1.0
    spread = errors.px_share * diagonal[:, None] * np.where(hidden, errors.hidden_gain, 1.0)
    noise = spread[..., None] * random.standard_normal((*hidden.shape, 2))
    relative = np.hypot(*np.moveaxis(noise, -1, 0)) / np.maximum(diagonal[:, None], 1.0)
    confidence = keypoints_px[..., 2] * np.exp(-20.0 * relative)
    return np.concatenate((keypoints_px[..., :2] + noise, confidence[..., None]), -1)


def simulated_attributes(
    age_years: Float[np.ndarray, " K"],
    male: Float[np.ndarray, " K"],
    face_px: Float[np.ndarray, " K"],
    errors: AttributeErrors,
    random: np.random.Generator,
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Apparent age (years, NaN: nothing is said) and probability of being male (NaN likewise).

    Args:
        male: true sex, 1 male. face_px: width of the face in pixels, 0 where it is not seen.
    """
    count = len(age_years)
    face = face_px > errors.small_face_px
    small = np.divide(errors.small_face_px, face_px, out=np.zeros(count), where=face)
    spread = (errors.age_std_years + errors.age_std_share * age_years) * np.where(
        face, 1.0 + small**2, errors.faceless_gain
    )
    age = np.minimum(np.abs(age_years + spread * random.standard_normal(count)), _OLDEST_GUESS_YEARS)
    gross = random.random(count) < errors.gross_share
    age = np.where(gross, random.uniform(0.0, _OLDEST_YEARS, count), age)
    adult = np.where(face, *errors.sex_accuracy)
    accuracy = np.where(age_years < _TWELVE_YEARS, np.minimum(adult, errors.child_sex_accuracy), adult)
    right = random.random(count) < accuracy
    # Confidence about the accuracy itself, spread a little: such networks are roughly calibrated.
    confidence = np.clip(accuracy + (1.0 - accuracy) * random.uniform(-1.0, 1.0, count), 0.5, 1.0)
    probability = np.where(right == (male > 0.5), confidence, 1.0 - confidence)
    missing = ~face & (random.random(count) < errors.missing_share)
    return np.where(missing, np.nan, age), np.where(missing, np.nan, probability)


def face_width_px(
    keypoints_px: Float[np.ndarray, "K 17 3"], depth_m: Float[np.ndarray, " K"], camera: Camera
) -> Float[np.ndarray, " K"]:
    """Width of a face in pixels where nose and an eye are seen, else 0 (COCO order: nose, left eye, right eye)."""
    confidence = keypoints_px[..., 2]
    seen = (confidence[:, 0] >= 1.0) & (confidence[:, 1:3].max(1) >= 1.0)
    return np.where(seen, camera.fx * _FACE_WIDTH_M / np.maximum(depth_m, 0.05), 0.0)
