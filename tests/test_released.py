"""The restated release against the numbers its own code gave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import official, place
from crowdmesh.dto.released import solve_group
from crowdmesh.errors import InputError


def test_recorded_groups(solver_cases):
    c, config = solver_cases, official()
    for i, count in enumerate(c["K"]):
        names = ("d", "z_hat", "h_hat", "mu", "sigma", "d_std", "slope", "corr")
        answer = solve_group(*(c[name][i, :count] for name in names), config)
        assert answer.scale == pytest.approx(c["official_s"][i], rel=1e-6, abs=1e-9), i
        assert answer.shift == pytest.approx(c["official_t"][i], rel=1e-5, abs=1e-9), i
        assert answer.count == c["official_count"][i], i
        assert answer.deviation == pytest.approx(c["official_deviation"][i], rel=1e-8, abs=1e-9), i
        np.testing.assert_array_equal(answer.skipped, c["official_skipped"][i, :count], err_msg=str(i))


def test_a_pair_is_moved_but_never_counts_as_optimised(crowd):
    _, guess, disparity = crowd
    # The two nearest adults are large enough for the release.
    pair = replace(guess, people=guess.people[[0, 5]])
    free = replace(official(), scale=replace(official().scale, min_correlation=2.0))  # nobody's slope counts
    scaled = RelativeDepth(disparity.values * np.float32(10), "disparity")  # well above the default bound
    placed, placement = place(pair, scaled, free)
    assert placement.active == 0
    assert all(status.placed for status in placement.statuses)
    np.testing.assert_allclose(placement.standardised_residual, 0, atol=1e-6)
    assert placement.score == np.inf
    assert not placement.accepted
    assert len(placed.people) == 2


def test_far_people_end_behind_near_ones(crowd):
    _, guess, disparity = crowd
    # Raw units in which half of the crowd lies beyond the release's threshold of 0.02.
    depths = np.sort(1 / np.array([np.median(disparity.values[m]) for m in guess.people.masks.to_dense()]))
    scaled = RelativeDepth(disparity.values * np.float32(np.median(depths) / 0.02), "disparity")
    _, placement = place(guess, scaled, official())
    far = placement.relative_depth > 0.02
    assert 2 <= far.sum() <= len(far) - 2
    depth = placement.initial_depth_m * placement.depth_ratio
    assert depth[far].min() >= depth[~far].max() - 1e-9
    assert any("far group" in note for note in placement.notes)


def test_other_depth_kinds_are_refused(crowd):
    world, guess, _ = crowd
    with pytest.raises(InputError, match="raw Depth Anything V2 disparity"):
        place(guess, world.depth, official())
