"""Who is who from frame to frame, by place alone: predicted boxes, their overlap, and joints where there are any."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from crowdmesh.errors import InputError

_SMALLEST_PX = 1.0


@dataclass(frozen=True)
class TrackingConfig:
    """When two detections are one person (values assumed; time is counted in the frames that are looked at)."""

    least_similarity: float = 0.2
    """Least similarity, 0 to 1, of a detection to where a person is expected."""
    max_gap: int = 15
    """Frames for which a person may be out of sight (half a second at 30 frames per second)."""
    velocity_gain: float = 0.5
    """How fast the velocity follows a new step: 1 takes the last step alone."""
    velocity_decay: float = 0.8
    """What remains of a velocity per frame out of sight: people stop and turn."""
    gap_cost: float = 0.01
    """Similarity lost per frame out of sight, so that whoever was seen last is preferred."""
    keypoint_weight: float = 0.5
    """Weight of the joints in the similarity, the rest is the boxes' overlap ..."""
    keypoint_scale: float = 0.15
    """... joints off by this share of the box's diagonal have a similarity of exp(-1/2) ..."""
    keypoint_confidence: float = 0.3
    """... and count from this confidence in both frames ..."""
    fewest_keypoints: int = 4
    """... where at least so many do; else boxes alone."""

    def __post_init__(self) -> None:
        shares = (self.least_similarity, self.velocity_gain, self.velocity_decay, self.gap_cost, self.keypoint_weight)
        if not all(0 <= share <= 1 for share in shares) or self.max_gap < 0 or self.keypoint_scale <= 0:
            raise InputError(
                "TrackingConfig needs shares between 0 and 1, max_gap of at least 0 and a positive keypoint_scale"
            )


@dataclass
class _Track:
    """A person so far: last box as centre and size (4), its velocity per frame, and joints relative to the centre."""

    number: int
    place: np.ndarray
    velocity: np.ndarray
    joints: np.ndarray | None
    unseen: int = 0


@dataclass
class Tracker:
    """Gives the people of one frame after the other their ids: 0, 1, 2 ... in the order of first appearance.

    Newcomers of one frame are numbered from left to right, so that the order of detections does not matter.
    """

    config: TrackingConfig = field(default_factory=TrackingConfig)
    _tracks: list[_Track] = field(default_factory=list, init=False)
    _next: int = field(default=0, init=False)

    def update(
        self, boxes_px: Float[np.ndarray, "K 4"], keypoints_px: Float[np.ndarray, "K 17 3"] | None = None
    ) -> Int[np.ndarray, " K"]:
        """The ids of the next frame's people, each exactly once.

        Args:
            boxes_px: left, top, right, bottom. keypoints_px: x, y, confidence.
        """
        order = np.lexsort(np.asarray(boxes_px, float).T[::-1])
        places = _places(np.asarray(boxes_px, float)[order])
        joints = None if keypoints_px is None else np.asarray(keypoints_px, float)[order]
        rows, columns = self._matches(places, joints)
        ids = np.full(len(places), -1, np.int64)
        seen = set(rows.tolist())
        for row, column in zip(rows, columns, strict=True):
            self._follow(self._tracks[row], places[column], None if joints is None else joints[column])
            ids[column] = self._tracks[row].number
        for row, track in enumerate(self._tracks):
            if row not in seen:
                track.unseen += 1
        self._tracks = [track for track in self._tracks if track.unseen <= self.config.max_gap]
        for column in np.flatnonzero(ids < 0):
            shape = None if joints is None else _around(joints[column], places[column])
            self._tracks.append(_Track(self._next, places[column], np.zeros(4), shape))
            ids[column] = self._next
            self._next += 1
        result = np.empty(len(ids), np.int64)
        result[order] = ids
        return result

    def _matches(self, places: np.ndarray, joints: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Tracks and detections that belong together: the pairs of the largest total similarity."""
        if not self._tracks or not len(places):
            return np.zeros(0, int), np.zeros(0, int)
        config = self.config
        expected = np.stack([self._expected(track) for track in self._tracks])
        similarity = _overlap(_boxes(expected), _boxes(places))
        if joints is not None:
            for row, track in enumerate(self._tracks):
                if track.joints is not None:
                    similarity[row] = self._with_joints(similarity[row], track.joints, expected[row], joints)
        similarity -= config.gap_cost * np.array([track.unseen for track in self._tracks])[:, None]
        gain = np.where(similarity >= config.least_similarity, similarity, 0.0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        kept = gain[rows, columns] > 0
        return rows[kept], columns[kept]

    def _expected(self, track: _Track) -> np.ndarray:
        """Where a person should be now; velocities fade out of sight."""
        decay = self.config.velocity_decay
        return track.place + track.velocity * sum(decay**i for i in range(track.unseen + 1))

    def _with_joints(
        self, overlap: np.ndarray, shape: np.ndarray, expected: np.ndarray, joints: np.ndarray
    ) -> np.ndarray:
        config = self.config
        diagonal = float(np.hypot(*np.exp(expected[2:])))
        both = (shape[:, 2] >= config.keypoint_confidence) & (joints[:, :, 2] >= config.keypoint_confidence)
        distance = np.hypot(*np.moveaxis(joints[:, :, :2] - (shape[:, :2] + expected[:2]), -1, 0)) / diagonal
        alike = np.exp(-((distance / config.keypoint_scale) ** 2) / 2)
        count = both.sum(1)
        mean = (alike * both).sum(1) / np.maximum(count, 1)
        weight = np.where(count >= config.fewest_keypoints, config.keypoint_weight, 0.0)
        return (1.0 - weight) * overlap + weight * mean

    def _follow(self, track: _Track, place: np.ndarray, joints: np.ndarray | None) -> None:
        step = (place - track.place) / (track.unseen + 1)
        gain = self.config.velocity_gain
        # The very first step is all that is known of the velocity.
        track.velocity = step if not track.velocity.any() else (1.0 - gain) * track.velocity + gain * step
        track.place, track.unseen = place, 0
        track.joints = None if joints is None else _around(joints, place)


def _places(boxes_px: np.ndarray) -> Float[np.ndarray, "K 4"]:
    """Centre, and logarithms of width and height."""
    size = np.maximum(boxes_px[:, 2:] - boxes_px[:, :2], _SMALLEST_PX)
    return np.concatenate(((boxes_px[:, :2] + boxes_px[:, 2:]) / 2, np.log(size)), 1)


def _boxes(places: np.ndarray) -> Float[np.ndarray, "K 4"]:
    half = np.exp(np.clip(places[:, 2:], 0.0, 20.0)) / 2
    return np.concatenate((places[:, :2] - half, places[:, :2] + half), 1)


def _around(joints: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Joints relative to the centre of their box."""
    return np.concatenate((joints[:, :2] - place[:2], joints[:, 2:]), 1)


def _overlap(one: np.ndarray, two: np.ndarray) -> Float[np.ndarray, "M K"]:
    """Intersection over union of every pair of boxes."""
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0.0), -1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], -1) for boxes in (one, two)]
    return common / (areas[0][:, None] + areas[1][None] - common)
