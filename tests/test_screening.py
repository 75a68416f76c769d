"""Which detections go on: enough keypoints, nobody twice, nobody lost without a word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.errors import InputError
from crowdmesh.experts.base import Detections, Keypoints
from crowdmesh.experts.screening import Screening, screen

RULE = Screening()
SIDE = 200.0
REACH = 0.6 / 8 * SIDE  # 15 pixels


def found(x, scores=None, seen=None):
    """People in boxes 80 by 200 pixels at these places, with their visible keypoints (default: all 17)."""
    x = np.asarray(x, float)
    boxes = np.column_stack((x, np.zeros_like(x), x + 80.0, np.full_like(x, SIDE)))
    points = np.zeros((len(x), 17, 3))
    points[..., 0] = x[:, None] + np.linspace(0, 80, 17)
    points[..., 1] = np.linspace(0, SIDE, 17)
    for k in range(len(x)):
        points[k, : 17 if seen is None else seen[k], 2] = 0.5
    scores = np.linspace(0.9, 0.6, len(x)) if scores is None else np.array(scores)
    return Detections(boxes, scores), Keypoints(points)


def test_five_keypoints_are_enough_and_four_are_not():
    screened = screen(*found([0, 300, 600], seen=[5, 4, 0]), RULE)
    assert screened.kept.tolist() == [0]
    assert [out.index for out in screened.left_out] == [1, 2]
    out = screened.left_out[0]
    assert out.box_px == (300.0, 0.0, 380.0, 200.0) and out.score == pytest.approx(0.75)
    assert "only 4 of its 17 keypoints reach a confidence of 0.5; 5 are needed" in out.reason


@pytest.mark.parametrize(("apart", "one"), [(REACH - 0.1, True), (REACH + 0.1, False)])
def test_duplicates_are_closer_than_a_share_of_the_kept_box(apart, one):
    screened = screen(*found([0, apart]), RULE)
    assert screened.kept.tolist() == ([0] if one else [0, 1])
    assert [out.index for out in screened.left_out] == ([1] if one else [])
    if one:
        assert screened.left_out[0].reason == "its keypoints are those of the person at (0, 0) to (80, 200)"


def test_the_side_is_that_of_the_kept_box():
    detections, keypoints = found([0, 20])
    for larger, kept in ((0, [0]), (1, [0, 1])):
        boxes = detections.boxes_px.copy()
        boxes[larger, 3] = 300.0
        assert screen(Detections(boxes, detections.scores), keypoints, RULE).kept.tolist() == kept


def test_only_what_both_show_is_compared_and_everything_if_that_is_nothing():
    detections, keypoints = found([0, 0])
    points = keypoints.coco17_px.copy()
    points[1, 8:, :2] += 500.0
    assert screen(detections, Keypoints(points), RULE).kept.tolist() == [0, 1]
    points[1, 8:, 2] = 0.0
    assert screen(detections, Keypoints(points), RULE).kept.tolist() == [0]
    points[0, :8, 2] = 0.0
    assert screen(detections, Keypoints(points), RULE).kept.tolist() == [0, 1]


def test_the_more_confident_one_stays_wherever_it_stands():
    screened = screen(*found([0, 5, 300], scores=[0.6, 0.9, 0.7]), RULE)
    assert screened.kept.tolist() == [1, 2], "in the order of the detections"
    assert screened.left_out[0].index == 0


def test_who_is_left_out_suppresses_nobody():
    """A chain: the middle one is a duplicate of the first, the last one only of the middle one."""
    assert screen(*found([0, 10, 20]), RULE).kept.tolist() == [0, 2]
    assert screen(*found([0, 5, 10], seen=[17, 3, 17]), Screening(duplicate_distance=0.03)).kept.tolist() == [0, 2]


@pytest.mark.parametrize("scores", [[0.5, 0.5, 0.5], [np.nan] * 3])
def test_of_equal_scores_the_first_stays(scores):
    assert screen(*found([0, 3, 400], scores=scores), RULE).kept.tolist() == [0, 2]


def test_a_score_that_is_not_a_number_comes_last():
    assert screen(*found([0, 3], scores=[np.nan, 0.1]), RULE).kept.tolist() == [1]


def test_nobody_in_nobody_out():
    screened = screen(*found([]), RULE)
    assert screened.kept.tolist() == [] and screened.kept.dtype.kind == "i" and screened.left_out == ()


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_everybody_is_kept_or_left_out_with_a_reason(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 9))
    detections, keypoints = found(rng.uniform(0, 100, count), rng.choice([0.5, 0.7, np.nan], count))
    keypoints.coco17_px[..., 2] = rng.random((count, 17))
    screened = screen(detections, keypoints, RULE)
    rows = [*screened.kept.tolist(), *(out.index for out in screened.left_out)]
    assert sorted(rows) == list(range(count))
    assert screened.kept.tolist() == sorted(screened.kept.tolist())
    assert all(out.reason for out in screened.left_out)
    again = screen(detections[screened.kept], keypoints[screened.kept], RULE)
    assert len(again.kept) == len(screened.kept), "a second look leaves out nobody"


def test_bad_rules_and_lists_are_named():
    for name, value in (("min_keypoints", 18), ("min_confidence", 1.5), ("duplicate_distance", -0.1)):
        with pytest.raises(InputError, match=name):
            replace(RULE, **{name: value})
    detections, keypoints = found([0, 300])
    with pytest.raises(InputError, match="1 people's keypoints for 2 detections"):
        screen(detections, keypoints[[0]], RULE)
