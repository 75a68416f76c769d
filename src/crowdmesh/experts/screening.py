"""Which detections are people worth a body: enough keypoints, and nobody twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.errors import InputError
from crowdmesh.experts.base import Detections, Keypoints


@dataclass(frozen=True)
class Screening:
    """What a detection must have to be kept.

    Attributes:
        min_keypoints: keypoints that must be seen (paper section 4: five).
        min_confidence: of a keypoint that counts as seen.
        duplicate_distance: mean keypoint distance below which two detections are one person, in longer sides of the
            more confident one's box (release: 0.6 of an eighth of it).
    """

    min_keypoints: int = 5
    min_confidence: float = 0.5
    duplicate_distance: float = 0.6 / 8

    def __post_init__(self) -> None:
        if not 0 <= self.min_keypoints <= 17:
            raise InputError(f"min_keypoints must lie between 0 and the 17 there are, got {self.min_keypoints}")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise InputError(f"min_confidence must lie between 0 and 1, got {self.min_confidence}")
        if not self.duplicate_distance >= 0.0:
            raise InputError(f"duplicate_distance must not be negative, got {self.duplicate_distance}")


@dataclass(frozen=True)
class LeftOut:
    """A detection that is not followed up.

    Attributes:
        index: its row in the detections.
        box_px: left, top, right, bottom.
        score: its confidence.
        reason: why, as a clause for a report.
    """

    index: int
    box_px: tuple[float, float, float, float]
    score: float
    reason: str


@dataclass(frozen=True, eq=False)
class Screened:
    """What became of K detections: each is either kept or left out.

    Attributes:
        kept: rows to go on with, in the order of the detections.
        left_out: the others, in the same order.
    """

    kept: Int[np.ndarray, " n"]
    left_out: tuple[LeftOut, ...]


def screen(detections: Detections, keypoints: Keypoints, rule: Screening) -> Screened:
    """Leave out detections with too few keypoints, then those that show a more confident one's person again.

    Detections meet each other by falling score, equal ones in their order and NaN last; who is left out suppresses
    nobody. Two are compared by the keypoints seen in both, or by all of them if there is none such (as released).
    """
    if len(keypoints) != len(detections):
        raise InputError(f"screening got {len(keypoints)} people's keypoints for {len(detections)} detections")
    points = keypoints.coco17_px
    seen = points[:, :, 2] >= rule.min_confidence
    reasons: dict[int, str] = {}
    kept: list[int] = []
    for k in np.argsort(-np.nan_to_num(detections.scores, nan=-np.inf), kind="stable").tolist():
        if (count := int(seen[k].sum())) < rule.min_keypoints:
            reasons[k] = (
                f"only {count} of its 17 keypoints reach a confidence of {rule.min_confidence:g}; "
                f"{rule.min_keypoints} are needed"
            )
            continue
        twins = np.array(kept, int)
        near = _mean_distance(points[twins, :, :2], seen[twins], points[k, :, :2], seen[k])
        sides = np.max(detections.boxes_px[twins, 2:] - detections.boxes_px[twins, :2], axis=1, initial=0.0)
        if np.any(duplicate := near < rule.duplicate_distance * sides):
            first = twins[int(np.argmax(duplicate))]
            left, top, right, bottom = (round(float(side)) for side in detections.boxes_px[first])
            reasons[k] = f"its keypoints are those of the person at ({left}, {top}) to ({right}, {bottom})"
        else:
            kept.append(k)
    left_out = [_left_out(detections, k, reasons[k]) for k in sorted(reasons)]
    return Screened(np.array(sorted(kept), int), tuple(left_out))


def _mean_distance(
    kept_px: Float[np.ndarray, "n 17 2"],
    kept_seen: Bool[np.ndarray, "n 17"],
    points_px: Float[np.ndarray, "17 2"],
    seen: Bool[np.ndarray, " 17"],
) -> Float[np.ndarray, " n"]:
    """Mean distance of one person's keypoints to those of others, over what both show."""
    both = kept_seen & seen
    both[~both.any(axis=1)] = True
    distance = np.linalg.norm(kept_px - points_px, axis=-1)
    return np.where(both, distance, 0.0).sum(axis=1) / both.sum(axis=1)


def _left_out(detections: Detections, index: int, reason: str) -> LeftOut:
    left, top, right, bottom = map(float, detections.boxes_px[index])
    return LeftOut(index, (left, top, right, bottom), float(detections.scores[index]), reason)
