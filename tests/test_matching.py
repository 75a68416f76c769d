"""Who is matched with whom by joints in the image: the released greedy search, and the best assignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdmesh.benchmarks._matching import box_overlap, match_best, match_greedily


def points(*centres):
    """24 points around each centre, pixels."""
    around = np.random.default_rng(0).uniform(-10, 10, (24, 2))
    return np.array([around + centre for centre in centres])


@pytest.mark.parametrize(("stretch", "third_is_found"), [(4.0, True), (8.0, False)])
def test_false_alarms_end_the_greedy_search(stretch, third_is_found):
    """Two people close together, a third far off whose prediction is the better or worse stretched.

    The two wrong pairs among the close ones do not overlap: two false alarms. With two matches they make four, not
    less than three predictions, so the search ends before it comes to a third pair that costs more.
    """
    true = points((100, 100), (130, 100), (400, 100))
    predicted = true.copy()
    predicted[2, :, 0] = 400 + stretch * (true[2, :, 0] - 400)
    cost = np.linalg.norm(predicted[:, None] - true[None], 2, axis=(-2, -1))
    overlap = box_overlap(predicted, true)
    assert overlap[0, 1] < 0.1 < overlap[2, 2]
    assert (cost[2, 2] < cost[0, 1]) == third_is_found
    assert match_greedily(predicted, true) == [(0, 0), (1, 1), (2, 2)][: 3 if third_is_found else 2]
    assert match_best(predicted, true) == [(0, 0), (1, 1), (2, 2)]


def test_the_cost_is_the_largest_singular_value():
    true = points((100, 100))
    along, both = true[0].copy(), true[0].copy()
    along[:, 0] += 5.0  # singular values 5 sqrt(24), 0
    both[::2, 0] += 6.0  # singular values 6 sqrt(12) twice: a smaller one, a larger Frobenius norm
    both[1::2, 1] += 6.0
    predicted = np.stack((along, both))
    assert np.linalg.norm(along - true[0]) < np.linalg.norm(both - true[0])
    assert match_greedily(predicted, true) == [(1, 0)]
    assert match_best(predicted, true) == [(0, 0)]


def test_boxes_count_whole_pixels():
    square = np.array([[[0.0, 0], [9, 9]]])
    beside = np.array([[[9.0, 0], [18, 9]]])
    assert box_overlap(square, square)[0, 0] == 1
    assert box_overlap(square, beside)[0, 0] == pytest.approx(10 / 190)


def test_the_best_assignment_finds_most_pairs():
    true = points((100, 100), (110, 100))
    predicted = points((108, 100), (113, 100))
    predicted[1] = true[0] + (14, 0)
    greedy, best = match_greedily(predicted, true), match_best(predicted, true)
    assert len(best) == 2 >= len(greedy)


@given(seed=st.integers(0, 10**6), count=st.integers(0, 5), people=st.integers(0, 5))
def test_matchings_use_everybody_at_most_once_and_ignore_order(seed, count, people):
    random = np.random.default_rng(seed)
    true = points(*random.uniform(0, 300, (people, 2))).reshape(-1, 24, 2)
    predicted = points(*random.uniform(0, 300, (count, 2))).reshape(-1, 24, 2)
    predicted += random.normal(size=predicted.shape)
    new_p, new_t = random.permutation(count), random.permutation(people)
    for match in (match_greedily, match_best):
        pairs = match(predicted, true)
        assert len({p for p, _ in pairs}) == len({t for _, t in pairs}) == len(pairs)
        again = match(predicted[new_p], true[new_t])
        assert {(int(new_p[p]), int(new_t[t])) for p, t in again} == set(pairs)
    assert len(match_best(predicted, true)) >= len(match_greedily(predicted, true))
