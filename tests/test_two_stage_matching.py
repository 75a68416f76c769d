"""The two-stage matching of meshes to detections (paper 6.2): cases worked by hand, and rules that hold for all."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.errors import InputError
from crowdmesh.experts.matching import (
    MASKED,
    NOBODY,
    PAPER_RADIUS_HEADS,
    RELEASED_RADIUS_HEADS,
    WHOLE,
    Targets,
    match_meshes,
)

BODY = np.column_stack((np.linspace(-20.0, 20.0, 17), np.linspace(0.0, 160.0, 17)))
HEAD = 20.0


def people(*x: float, seen: int = 17) -> np.ndarray:
    """Keypoints of people who stand at these places along the image, the first ``seen`` of them visible."""
    points = np.zeros((len(x), 17, 3))
    points[..., :2] = BODY + np.array(x)[:, None, None] * (1.0, 0.0)
    points[:, :seen, 2] = 0.9
    return points


def meshes(*x: float) -> Targets:
    return Targets(people(*x)[..., :2], np.full(len(x), HEAD))


NOWHERE = float("nan")


def match(queries: np.ndarray, whole: Targets, masked: Targets, optimal=True, radius=PAPER_RADIUS_HEADS):
    found = match_meshes(queries, whole, masked, radius, optimal)
    return list(zip(found.source.tolist(), found.target.tolist(), strict=True))


@pytest.mark.parametrize("optimal", [True, False])
def test_everybody_finds_their_own_mesh(optimal):
    queries = people(0, 100, 300)
    assert match(queries, meshes(0, 104, 300), meshes(0, 100, 300), optimal) == [(WHOLE, 0), (WHOLE, 1), (WHOLE, 2)]


@pytest.mark.parametrize("optimal", [True, False])
def test_who_fits_no_whole_mesh_tries_the_masked_ones(optimal):
    queries = people(0, 100, 300)
    found = match(queries, meshes(0, 150, 250), meshes(0, 101, 200), optimal)
    assert found == [(WHOLE, 0), (MASKED, 1), (NOBODY, -1)]


@pytest.mark.parametrize(("radius", "found"), [(PAPER_RADIUS_HEADS, NOBODY), (RELEASED_RADIUS_HEADS, WHOLE)])
def test_the_radius_is_in_heads_of_the_mesh(radius, found):
    """Eleven pixels lie between one half and six tenths of a head of 20 pixels."""
    assert match(people(0), meshes(11), meshes(500), radius=radius)[0][0] == found
    larger = Targets(meshes(11).points_px, np.array([22.5]))
    assert match(people(0), larger, meshes(500), radius=PAPER_RADIUS_HEADS)[0][0] == WHOLE


@pytest.mark.parametrize("optimal", [True, False])
@pytest.mark.parametrize(("close", "fits"), [(5, False), (6, True)])
def test_more_than_half_of_the_visible_keypoints_must_fit(close, fits, optimal):
    """Ten of the seventeen are visible: five that agree are not enough. Hidden ones do not count."""
    target = meshes(0).points_px + np.array([0.0, 1000.0])
    target[:, :close] = meshes(0).points_px[:, :close]
    target[:, 10:] = meshes(0).points_px[:, 10:]
    found = match(people(0, seen=10), Targets(target, np.array([HEAD])), meshes(500), optimal)
    assert found == [(WHOLE, 0) if fits else (NOBODY, -1)]


@pytest.mark.parametrize("optimal", [True, False])
def test_nothing_visible_nothing_projected_no_head(optimal):
    queries = people(0, 100)
    queries[0, :, 2] = 0.49
    assert match(queries, meshes(0, NOWHERE), meshes(0, NOWHERE), optimal) == [(NOBODY, -1)] * 2
    partly = meshes(100, 0)
    partly.points_px[0, 16] = np.nan
    assert match(queries, partly, meshes(500, 500), optimal)[1] == (NOBODY, -1)
    for head in (0.0, np.nan):
        headless = Targets(meshes(0, 100).points_px, np.array([HEAD, head]))
        assert match(queries, headless, meshes(0, NOWHERE), optimal)[1] == (NOBODY, -1)
    assert match(people(), meshes(), meshes(), optimal) == []
    assert match(people(0), meshes(), meshes(), optimal) == [(NOBODY, -1)]


def test_greedy_loses_somebody_whom_the_assignment_keeps():
    """The first person could have either mesh and takes the nearer one, the only one that the second could have."""
    queries, whole, nobody = people(0, -7), meshes(-2, 8), meshes(500, 500)
    assert match(queries, whole, nobody, optimal=False) == [(WHOLE, 0), (NOBODY, -1)]
    assert match(queries, whole, nobody, optimal=True) == [(WHOLE, 1), (WHOLE, 0)]


@pytest.mark.parametrize("optimal", [True, False])
def test_nobody_is_made_twice(optimal):
    """The released code gives the second person the masked mesh of the first, who has been matched already."""
    queries = people(0, 6)
    found = match(queries, meshes(1, 500), meshes(5, 500), optimal)
    assert found.count((NOBODY, -1)) == 1 and [pair for pair in found if pair[0] != NOBODY] == [(WHOLE, 0)]


def test_equal_counts_are_decided_by_distance():
    for optimal in (True, False):
        assert match(people(0), meshes(6, -3), meshes(500, 500), optimal) == [(WHOLE, 1)]


def test_more_keypoints_are_better_than_nearer_ones():
    target = meshes(0, 8)
    target.points_px[0, :3] += 500.0
    for optimal in (True, False):
        assert match(people(0), target, meshes(500, 500), optimal) == [(WHOLE, 1)]


def test_a_whole_mesh_is_preferred_to_a_masked_one_that_fits_better():
    whole, masked = meshes(9, 500), meshes(0, 0)
    for optimal in (True, False):
        assert match(people(0), whole, masked, optimal) == [(WHOLE, 0)]


def test_bad_input_is_named(unchecked):
    with pytest.raises(InputError, match="radius_heads must be positive"):
        match_meshes(people(0), meshes(0), meshes(0), 0.0, True)
    with pytest.raises(InputError, match="2 whole and 1 masked"):
        match_meshes(people(0), meshes(0, 1), meshes(0), 0.5, True)
    with pytest.raises(InputError, match="points_px"):
        Targets(np.zeros((2, 17, 2)), np.zeros(3))


# --- rules that hold for all ------------------------------------------------------------------------------------------

crowds = st.integers(0, 2**32 - 1).map(lambda seed: crowd(np.random.default_rng(seed)))


def crowd(rng: np.random.Generator) -> tuple[np.ndarray, Targets, Targets]:
    """Up to five people close together and up to five meshes of each kind near some of them."""
    count, rows = rng.integers(0, 6, 2)
    queries = people(*rng.uniform(0, 40, count))
    queries[..., :2] += rng.normal(0, 4, (count, 17, 2))
    queries[..., 2] = rng.random((count, 17))
    whole, masked = (meshes(*rng.uniform(0, 40, rows)) for _ in range(2))
    for targets in (whole, masked):
        targets.points_px[...] += rng.normal(0, 4, targets.points_px.shape)
        targets.points_px[rng.random(rows) < 0.1] = np.nan
    return queries, whole, masked


def fit(query, targets, row):
    """Keypoints that agree (0: too few) and their mean distance, written out."""
    if np.isnan(targets.points_px[row]).any():
        return 0, 0.0
    seen = [k for k in range(17) if query[k, 2] >= 0.5]
    distance = [float(np.hypot(*(query[k, :2] - targets.points_px[row, k]))) for k in seen]
    count = sum(d <= PAPER_RADIUS_HEADS * targets.head_px[row] for d in distance)
    return (count, sum(distance) / len(seen)) if count > len(seen) / 2 else (0, 0.0)


@settings(max_examples=50)
@given(crowds)
def test_no_mesh_row_is_used_twice_and_every_pair_fits(case):
    queries, whole, masked = case
    for optimal in (True, False):
        pairs = match(queries, whole, masked, optimal)
        rows = [row for source, row in pairs if source != NOBODY]
        assert len(set(rows)) == len(rows)
        for k, (source, row) in enumerate(pairs):
            assert (source == NOBODY) == (row == -1)
            if source != NOBODY:
                assert fit(queries[k], (whole, masked)[source], row)[0] > 0


@settings(max_examples=50)
@given(crowds)
def test_the_assignment_finds_at_least_as_many_as_greedy(case):
    queries, whole, masked = case
    found = [sum(source != NOBODY for source, _ in match(queries, whole, masked, way)) for way in (True, False)]
    assert found[0] >= found[1]


@settings(max_examples=50)
@given(crowds, st.randoms(use_true_random=False))
def test_the_assignment_does_not_depend_on_the_order(case, random):
    queries, whole, masked = case
    people_order, rows_order = (random.sample(range(n), n) for n in (len(queries), len(whole)))
    turned_whole, turned_masked = (Targets(t.points_px[rows_order], t.head_px[rows_order]) for t in (whole, masked))
    found = match(queries, whole, masked)
    expected = [(s, rows_order.index(row) if row >= 0 else -1) for s, row in (found[k] for k in people_order)]
    assert match(queries[people_order], turned_whole, turned_masked) == expected


@settings(max_examples=50)
@given(crowds)
def test_the_assignment_is_the_best_of_all(case):
    """Against trying everything: most people, then most whole meshes, then most keypoints, then least distance."""
    queries, whole, masked = case
    options = {}
    for k, row in product(range(len(queries)), range(len(whole))):
        in_whole = fit(queries[k], whole, row)
        count, distance = in_whole if in_whole[0] else fit(queries[k], masked, row)
        if count:
            options[k, row] = (1, int(in_whole[0] > 0), count, -distance)

    def value(rows):
        gains = [options[k, row] for k, row in enumerate(rows) if row >= 0]
        return tuple(map(sum, zip(*gains, strict=True))) if gains else (0, 0, 0, 0.0)

    per_person = [[-1, *(row for k, row in options if k == person)] for person in range(len(queries))]
    candidates = (rows for rows in product(*per_person) if len({*rows} - {-1}) == sum(row >= 0 for row in rows))
    best = max(map(value, candidates))
    found = value([row for _, row in match(queries, whole, masked)])
    assert found[:3] == best[:3]
    assert found[3] == pytest.approx(best[3], abs=1e-6)
