"""Error metrics against hand-worked cases, invariances, and accumulators that merge exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdmesh import metrics
from crowdmesh.errors import InputError
from crowdmesh.metrics import Detections, Ratio, Samples

seeds = st.integers(0, 10_000)
values = st.lists(st.floats(-1e6, 1e6), max_size=30).map(np.array)


def points(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*shape, 3))


def rotation(seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    return roma.random_rotmat(dtype=torch.float64).numpy()


# Poses and surfaces


def test_mpjpe_of_a_known_offset():
    true = points(0, 2, 5)
    moved = true + np.array([0.3, 0.0, -0.4])
    np.testing.assert_allclose(metrics.mpjpe(moved, true, None), 0.5)
    np.testing.assert_allclose(metrics.mpjpe(moved, true, 0), 0.0, atol=1e-15)
    moved[:, 3] += np.array([0.0, 0.05, 0.0])  # one joint of five
    np.testing.assert_allclose(metrics.mpjpe(moved, true, [1, 2]), 0.01)
    np.testing.assert_allclose(metrics.mpjpe(moved, true, [1, 2], joints=[3, 4]), 0.025)
    # With that joint as the root it is the other four that are off.
    np.testing.assert_allclose(metrics.mpjpe(moved, true, 3), 0.04)


def test_root_alignment_to_the_middle_of_two_joints():
    pose = np.array([[[0.0, 0, 0], [2.0, 0, 0], [5.0, 1, 1]]])
    np.testing.assert_allclose(metrics.root_aligned(pose, [0, 1])[0], [[-1, 0, 0], [1, 0, 0], [4, 1, 1]])


@given(seeds, st.floats(0.01, 100))
def test_procrustes_undoes_any_similarity(seed, scale):
    true = points(seed, 3, 6)
    changed = scale * (true @ rotation(seed).T) + points(seed + 1, 3, 1)
    np.testing.assert_allclose(metrics.procrustes_aligned(changed, true), true, atol=1e-10)
    np.testing.assert_allclose(metrics.pa_mpjpe(changed, true), 0.0, atol=1e-10)


@settings(max_examples=30)
@given(seeds)
def test_procrustes_is_the_best_similarity(seed):
    guess, true = points(seed, 7), points(seed + 1, 7)
    best = ((metrics.procrustes_aligned(guess, true) - true) ** 2).sum()
    random = np.random.default_rng(seed)
    centred = guess - guess.mean(0)
    for number in range(20):
        turned = centred @ rotation(number).T
        scale = random.uniform(0, 1)
        assert best <= ((scale * turned + true.mean(0) - true) ** 2).sum() + 1e-9


def test_procrustes_never_mirrors():
    true = points(4, 8)
    mirrored = true * np.array([-1.0, 1.0, 1.0])
    assert metrics.pa_mpjpe(mirrored, true) > 0.1
    # Seven points along one line have a mirror image that a rotation reaches.
    line = np.linspace(0, 1, 7)[:, None] * np.array([1.0, 2.0, 3.0])
    assert metrics.pa_mpjpe(-line, line) < 1e-12


def test_degenerate_procrustes_has_an_answer():
    true = points(1, 4)
    mean = np.broadcast_to(true.mean(0), true.shape)
    np.testing.assert_allclose(metrics.procrustes_aligned(np.full((4, 3), 7.0), true), mean)
    np.testing.assert_allclose(metrics.procrustes_aligned(np.full((4, 3), 0.1), true), mean)  # 0.1 has rounding noise
    np.testing.assert_allclose(metrics.procrustes_aligned(true, np.full((4, 3), 7.0)), 7.0)
    np.testing.assert_allclose(metrics.procrustes_aligned(true * 1e-100, true), true, atol=1e-9)
    assert metrics.pa_mpjpe(np.zeros((0, 4, 3)), np.zeros((0, 4, 3))).shape == (0,)


def test_pa_mpjpe_aligns_only_the_joints_it_scores():
    true = points(2, 6)
    changed = 2 * true + 1
    changed[5] += 100
    np.testing.assert_allclose(metrics.pa_mpjpe(changed, true, joints=range(5)), 0.0, atol=1e-12)


def test_vertex_error_with_and_without_roots():
    true = points(3, 2, 50)
    shifted = true + np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(metrics.vertex_error(shifted, true), 1.0)
    roots = points(5, 2)
    np.testing.assert_allclose(metrics.vertex_error(shifted, true, roots + np.array([0, 0, 0.75]), roots), 0.25)


def test_pck_3d_counts_joints_nearer_than_the_threshold():
    true = np.zeros((1, 4, 3))
    predicted = true.copy()
    predicted[0, 1:, 0] = 0.149, 0.15, 0.2
    np.testing.assert_allclose(metrics.pck_3d(predicted, true), 0.5)  # exactly 0.15 is wrong
    np.testing.assert_allclose(metrics.pck_3d(predicted, true, joints=[0, 1]), 1.0)
    right, counted = metrics.correct_joints(predicted[..., 0], 0.15, np.array([[True, False, True, True]]))
    assert (right.tolist(), counted.tolist()) == ([1], [3])


def test_mpckh_is_relative_to_the_visible_extent():
    true = np.array([[[0.0, 0], [30, 40], [900, 900], [10, 10]]])  # extent of the visible three: 50 pixels
    visible = np.array([[True, True, False, True]])
    offset = np.array([[[7.1, 0], [0, 7.2], [0, 0], [0, 0]]])  # 0.143 * 50 = 7.15
    right, counted = metrics.mpckh(true + offset, true, visible)
    assert (right.tolist(), counted.tolist()) == ([2], [3])
    nobody = np.array([[True, False, False, False], [False] * 4])
    right, counted = metrics.mpckh(np.repeat(true, 2, 0), np.repeat(true, 2, 0), nobody)
    assert (right.tolist(), counted.tolist()) == ([0, 0], [0, 0])
    point = np.zeros((1, 4, 2))
    assert metrics.mpckh(point, point, np.ones((1, 4), bool))[0].tolist() == [0]


# Placement


def test_depth_relations_by_hand():
    pairs = metrics.depth_relations(np.array([2.0, 2.1, 3.0, 9.0]), np.array([0, 0, 1, -1]))
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]
    np.testing.assert_allclose(pairs.gap_m, [0.1, 1.0, 0.9])
    assert pairs.layer_gap.tolist() == [0, 1, 1]
    assert pairs.correct.all()
    wrong = metrics.depth_relations(np.array([2.0, 2.2, 2.1]), np.array([0, 0, 1]))
    assert not wrong.correct.any()  # 0.2 apart in one layer; 0.1 nearer, not 0.2 farther
    assert metrics.depth_relations(np.array([3.0, 2.0]), np.array([1, 0])).correct.all()
    # Adults are 0; the pair of a kid and an adult counts for both.
    ages = np.array([0, 0, 2, 0])
    assert len(metrics.pairs_of_group(pairs, ages, 0)) == 3 and len(metrics.pairs_of_group(pairs, ages, 2)) == 2


def test_pcdr_counts_a_missed_person_as_three_tenths_of_a_pair():
    assert metrics.pcdr(6, 8, 0) == 0.75
    assert metrics.pcdr(6, 8, 10) == pytest.approx(6 / 11)
    assert metrics.pcdr(0, 0, 5) is None
    with pytest.raises(InputError, match="correct at most pairs"):
        metrics.pcdr(3, 2)


@given(seeds, st.integers(2, 8))
def test_depth_relations_do_not_depend_on_the_order_of_people(seed, count):
    random = np.random.default_rng(seed)
    depth, layer, order = random.uniform(1, 9, count), random.integers(-1, 3, count), random.permutation(count)
    one = metrics.depth_relations(depth, layer)
    other = metrics.depth_relations(depth[order], layer[order])
    assert (len(one), one.correct.sum()) == (len(other), other.correct.sum())


def test_order_accuracy_by_the_true_gap():
    true, guess = np.array([1.0, 1.5, 4.0, 4.0]), np.array([1.2, 1.1, 2.0, 9.0])
    near, far = metrics.order_accuracy(guess, true, [0.0, 1.0, 10.0])
    assert (near.part, near.whole) == (0, 1)  # the pair at one depth is in no bin
    assert (far.part, far.whole) == (4, 4)
    near, far = metrics.order_accuracy(guess, true, [0.0, 1.0, 10.0], missed_true_depth_m=np.array([4.5]))
    assert (near.part, near.whole, far.part, far.whole) == (0, 3, 4, 6)
    assert metrics.order_accuracy(np.array([2.0, 2.0]), np.array([1.0, 2.0]), [0, 5]) == [Ratio(0, 1)]


def test_errors_of_depth_stature_and_camera():
    np.testing.assert_allclose(metrics.relative_depth_error(np.array([2.0, 3.0]), np.array([4.0, 2.0])), [0.5, 0.5])
    np.testing.assert_allclose(metrics.stature_error_m(np.array([1.6]), np.array([1.75])), [0.15])
    np.testing.assert_allclose(metrics.fov_error(np.array([1.0]), np.array([1.2])), [0.2])
    with pytest.raises(InputError, match="degrees"):
        metrics.fov_error(np.array([60.0]), np.array([1.0]))
    with pytest.raises(InputError, match="in front of the camera"):
        metrics.relative_depth_error(np.array([1.0]), np.array([-1.0]))


def test_localisation_splits_along_and_across_the_ray():
    true = np.array([[3.0, 0.0, 4.0], [0.0, 0.0, 5.0]])
    farther = true * 1.2  # on the ray
    aside = true + np.array([[0.0, 0.5, 0.0], [0.3, 0.4, 0.0]])  # at a right angle to it
    error = metrics.localisation_error_m(farther, true)
    np.testing.assert_allclose([error.total, error.along, error.across], [[1, 1], [1, 1], [0, 0]], atol=1e-12)
    error = metrics.localisation_error_m(aside, true)
    np.testing.assert_allclose([error.total, error.along, error.across], [[0.5] * 2, [0, 0], [0.5] * 2], atol=1e-12)


@given(seeds)
def test_localisation_obeys_pythagoras_and_ignores_rotation(seed):
    guess, true, turn = points(seed, 9), points(seed + 1, 9), rotation(seed)
    error, turned = metrics.localisation_error_m(guess, true), metrics.localisation_error_m(guess @ turn, true @ turn)
    np.testing.assert_allclose(error.total**2, error.along**2 + error.across**2, rtol=1e-9)
    np.testing.assert_allclose(turned, error, rtol=1e-7, atol=1e-12)


def test_absolute_error_is_the_mean_over_the_points():
    true = np.array([[[0.0, 0, 2], [0, 0, 4]]])
    error = metrics.absolute_error_m(true + np.array([[[0.0, 0, 1], [3, 0, 0]]]), true)
    np.testing.assert_allclose(np.array(error)[:, 0], [2.0, 0.5, 1.5])


def test_matching_in_3d_prefers_more_matches_over_nearer_ones():
    true = np.array([[0.0, 0, 5], [0.9, 0, 5]])
    predicted = np.array([[0.45, 0, 5], [-0.45, 0, 5], [7.0, 7, 7]])
    # Nearest first would give prediction 0 to either person; both find one within half a metre.
    match = metrics.match_in_3d(predicted, true, 0.5)
    assert match.tolist() == [1, 0]
    assert metrics.detections(match, 3) == Detections(2, 0, 1)
    assert metrics.match_in_3d(predicted, true, 0.25).tolist() == [-1, -1]
    assert metrics.match_in_3d(np.zeros((0, 3)), true, 1.0).tolist() == [-1, -1]
    assert metrics.match_in_3d(predicted, np.zeros((0, 3)), 1.0).tolist() == []


@given(seeds, st.integers(0, 6), st.integers(0, 6))
def test_matching_in_3d_ignores_the_order_of_people(seed, real, guessed):
    true, predicted = points(seed, real), points(seed + 1, guessed)
    random = np.random.default_rng(seed)
    rows, columns = random.permutation(real), random.permutation(guessed)
    match = metrics.match_in_3d(predicted, true, 1.0)
    other = metrics.match_in_3d(predicted[columns], true[rows], 1.0)
    assert [(-1 if m < 0 else columns[m]) for m in other] == match[rows].tolist()
    found = match[match >= 0]
    assert len(set(found.tolist())) == len(found)
    distance = np.linalg.norm(true[:, None] - predicted[None], axis=-1)
    assert np.all(distance[np.flatnonzero(match >= 0), found] <= 1.0)


def test_detection_figures():
    counts = Detections(3, 1, 0) + Detections(0, 1, 2)
    assert (counts.precision, counts.recall, counts.f1) == (0.6, 0.6, 0.6)
    assert (Detections().precision, Detections().recall, Detections().f1) == (None, None, None)
    assert Detections(0, 2, 0).f1 == 0.0


# Accumulators


@given(values, st.integers(0, 3), st.randoms())
def test_samples_merge_to_the_same_bits_in_any_order(everything, missed, random):
    whole = Samples(everything, missed)
    shuffled = everything.tolist()
    random.shuffle(shuffled)
    cut = len(shuffled) // 3
    parts = [Samples(np.array(shuffled[cut:]), missed), Samples(np.array(shuffled[:cut])), Samples()]
    random.shuffle(parts)
    for merged in (Samples.merged(parts), parts[0] + parts[1] + parts[2]):
        assert merged == whole and hash(merged) == hash(whole)
        assert (merged.mean, merged.median, merged.quantile_of_all(0.9)) == (
            whole.mean,
            whole.median,
            whole.quantile_of_all(0.9),
        )


def test_samples_by_hand():
    samples = Samples(np.array([4.0, 1.0, 2.0, 9.0]), missed=1)
    assert (samples.mean, samples.median, samples.count) == (4.0, 3.0, 4)
    assert samples.quantile_of_all(0.5) == 4.0  # of 1, 2, 4, 9 and infinity
    assert samples.quantile_of_all(0.75) == 9.0 and samples.quantile_of_all(0.9) is None
    assert samples.within(2.0) == Ratio(2, 5)
    assert Samples(np.array([1e16, 1.0, -1e16])).mean == 1.0 / 3  # a plain sum loses the 1
    nothing = Samples(missed=3)
    assert (nothing.mean, nothing.median, nothing.quantile_of_all(0.5)) == (None, None, None)
    assert nothing.within(1.0).value == 0.0


@given(hnp.arrays(float, st.integers(1, 20), elements=st.floats(-100, 100)), st.floats(0, 1))
def test_quantile_of_all_is_the_quantile_when_nobody_is_missed(everything, share):
    samples = Samples(everything)
    assert samples.quantile_of_all(share) == pytest.approx(samples.quantile(share), abs=1e-9)


def test_ratios_are_whole_counts():
    assert Ratio.merged([Ratio(1, 3), Ratio(1, 2), Ratio()]) == Ratio(2, 5)
    assert Ratio(2, 5).value == 0.4 and Ratio().value is None


nan = math.nan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.mpjpe(np.zeros((2, 3)), np.full((2, 3), nan)), r"true holds a NaN .* index \(0, 0\)"),
        (lambda: metrics.mpjpe(np.zeros((2, 3)), np.zeros((3, 3))), "one shape"),
        (lambda: metrics.mpjpe(np.zeros((2, 2)), np.zeros((2, 2))), "last dimensions"),
        (lambda: metrics.mpjpe(np.zeros((2, 3)), np.zeros((2, 3)), 2), "root must be joint numbers from 0 to 1"),
        (lambda: metrics.mpjpe(np.zeros((2, 3)), np.zeros((2, 3)), 0, []), "joints must be one joint number"),
        (lambda: metrics.mpjpe(np.zeros((0, 3)), np.zeros((0, 3)), None), "no joints"),
        (lambda: metrics.procrustes_aligned(np.zeros((0, 3)), np.zeros((0, 3))), "at least one joint"),
        (lambda: metrics.vertex_error(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(3)), "both roots or none"),
        (lambda: metrics.vertex_error(*np.zeros((2, 4, 2, 3)), *np.zeros((2, 3))), r"shape \(4, 3\)"),
        (lambda: metrics.mpckh(np.zeros((2, 2)), np.zeros((2, 2)), np.ones(2)), "truth values"),
        (lambda: metrics.root_aligned([["a", "b", "c"]]), "regular array of numbers"),  # type: ignore[list-item]
        (lambda: metrics.depth_relations(np.zeros(2), np.zeros(2)), "whole numbers"),
        (lambda: metrics.order_accuracy(np.zeros(2), np.zeros(2), [1.0, 0.0]), "edges that rise"),
        (lambda: metrics.localisation_error_m(np.ones(3), np.zeros(3)), "no line of sight"),
        (lambda: metrics.absolute_error_m(np.zeros((1, 0, 3)), np.zeros((1, 0, 3))), "no points"),
        (lambda: metrics.match_in_3d(np.zeros((1, 3)), np.zeros((1, 3)), nan), "positive metres"),
        (lambda: metrics.match_in_3d(np.zeros(3), np.zeros((1, 3)), 1.0), r"\(people, 3\)"),
        (lambda: metrics.detections(np.array([0, 1]), 1), "matched to 1 predictions"),
        (lambda: Detections(-1), "must not be negative"),
        (lambda: Samples(np.array([1.0, nan])), "index 1"),
        (lambda: Samples(np.zeros((2, 2))), "one row"),
        (lambda: Samples(missed=-1), "must not be negative"),
        (lambda: Samples(np.ones(1)).quantile(1.5), "between 0 and 1"),
        (lambda: Ratio(0.5, 1), "whole counts"),  # type: ignore[arg-type]
        (lambda: Ratio(-1, 1), "not negative"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
