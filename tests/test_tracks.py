"""DTO over a video: one stature per person from all frames, against brute force, the single image and the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from crowdmesh.body import body_of
from crowdmesh.dto import TrackConfig, best, official, paper, place, place_tracks
from crowdmesh.dto._joint_linear import Priors, Rows, solve_joint
from crowdmesh.dto._track_affine import solve_affine
from crowdmesh.dto._track_evidence import FrameEvidence, pool_evidence, sightings
from crowdmesh.dto.cues import Cues
from crowdmesh.dto.ground import Feet
from crowdmesh.dto.interval import scale_interval
from crowdmesh.dto.place import expected_statures
from crowdmesh.dto.solve import solve
from crowdmesh.dto.tracks import solve_tracks
from crowdmesh.errors import InputError
from crowdmesh.people import People, PersonStatus
from crowdmesh.synth import PRESETS, World, nominal, observe, render_stage

AGES = np.array([30.0, 5.0, 40.0, 9.0, 50.0, 25.0])


def frame(depth_m, relative, kind="depth", ages=AGES, statures=None, slope=1.0, seen=None) -> FrameEvidence:
    """People whose first guess is ``depth_m`` away and 1.70 m tall, with the map's values ``relative``."""
    count = len(depth_m)
    ones = np.ones(count)
    status = np.zeros(count, int) if seen is None else np.where(seen, 0, PersonStatus.KEPT_NOT_VISIBLE)
    cues = Cues(
        relative_depth=np.asarray(relative, float), depth_m=np.asarray(depth_m, float), spread=0.1 * ones,
        slope=slope * ones, correlation=ones, samples=np.full(count, 500), excluded=np.zeros(count, int),
        status=status, visible_share=ones,
    )  # fmt: skip
    people = People("rigid", np.zeros((count, 3)), 1.7 * ones if statures is None else statures, age_years=ages)
    return FrameEvidence(cues, kind, Feet(np.ones((count, 3)), ones, np.zeros(count, bool)), people)


def synthetic(frames=30, noise=0.06, seed=0, kind="disparity"):
    """Six people of true statures who walk about; the map errs by ``noise``, the fit by a third of it."""
    random = np.random.default_rng(seed)
    expected = expected_statures(People("rigid", np.zeros((6, 3)), np.full(6, 1.7), age_years=AGES), best())[0]
    stature = expected.mean_m + expected.std_m * random.uniform(-1, 1, 6)
    start, stride, phase = random.uniform(3, 9, 6), random.uniform(0.5, 1.5, 6), random.uniform(0, 6, 6)
    evidence = []
    for f in range(frames):
        z = start + stride * np.sin(0.15 * f + phase)
        first = z * 1.7 / stature * np.exp(noise / 3 * random.standard_normal(6))
        seen = z * np.exp(noise * random.standard_normal(6))
        if kind == "disparity":
            relative = 1.0 / (40.0 / seen - random.uniform(0, 1))
        else:
            relative = (seen - random.uniform(0, 1)) / random.uniform(2, 4)
        evidence.append(frame(first, relative, kind, slope=1.5))
    return stature, evidence, [np.arange(6)] * frames


# ---- the linear core -------------------------------------------------------------------------------------------------


def random_problem(seed: int, bounded: bool = True) -> tuple[Rows, Priors]:
    random = np.random.default_rng(seed)
    frames, tracks, count = 6, 5, 40
    rows = Rows(
        random.integers(0, frames, count), random.integers(-1, tracks, count), random.normal(size=count),
        random.normal(size=(count, 2)), random.uniform(0.1, 5.0, count),
    )  # fmt: skip
    low = random.normal(0, 0.3, frames)
    high = np.where(random.random(frames) < 0.2, low, low + random.uniform(0, 0.3, frames))
    if not bounded:
        low, high = np.full(frames, -np.inf), np.full(frames, np.inf)
    weight = random.uniform(0.01, 0.1, (frames, 2))
    return rows, Priors(
        weight, weight * random.normal(size=(frames, 2)), random.normal(size=tracks), random.uniform(0.1, 2, tracks),
        low, high,
    )  # fmt: skip


def dense(rows: Rows, priors: Priors):
    """The same problem as one matrix for scipy."""
    frames, tracks = len(priors.low), len(priors.value)
    matrix, target = [], []
    for n in range(len(rows.frame)):
        row = np.zeros(2 * frames + tracks)
        row[2 * rows.frame[n] : 2 * rows.frame[n] + 2] = rows.columns[n]
        if rows.track[n] >= 0:
            row[2 * frames + rows.track[n]] = -1
        matrix.append(np.sqrt(rows.weight[n]) * row)
        target.append(-np.sqrt(rows.weight[n]) * rows.constant[n])
    scale = np.sqrt(np.concatenate((priors.theta_weight.ravel(), priors.value_weight)))
    centre = np.concatenate(((priors.theta_pull / priors.theta_weight).ravel(), priors.value))
    low, high = np.full(len(scale), -np.inf), np.full(len(scale), np.inf)
    low[: 2 * frames : 2], high[: 2 * frames : 2] = priors.low, priors.high
    high = np.where(high <= low, low + 1e-10, high)
    return np.vstack((np.array(matrix), np.diag(scale))), np.concatenate((target, scale * centre)), low, high


@pytest.mark.parametrize("seed", range(12))
def test_bounded_optimum_is_that_of_a_dense_solver(seed):
    rows, priors = random_problem(seed)
    joint = solve_joint(rows, priors)
    matrix, target, low, high = dense(rows, priors)
    answer = lsq_linear(matrix, target, (low, high), method="bvls", tol=1e-14)
    np.testing.assert_allclose(np.concatenate((joint.theta.ravel(), joint.value)), answer.x, atol=1e-7)
    expected = np.where(priors.low >= priors.high, -1, answer.active_mask[: 2 * len(priors.low) : 2])
    np.testing.assert_array_equal(joint.held, expected)
    assert {-1, 0, 1} >= set(joint.held.tolist()) and np.any(joint.held != 0)


def test_covariance_is_that_of_the_whole_normal_matrix():
    rows, priors = random_problem(3, bounded=False)
    joint = solve_joint(rows, priors)
    matrix = dense(rows, priors)[0]
    np.testing.assert_allclose(joint.covariance, np.linalg.inv(matrix.T @ matrix)[12:, 12:], rtol=1e-8, atol=1e-12)


# ---- the paper's solver ----------------------------------------------------------------------------------------------


def affine(evidence, ids, frame_error=0.06, config=None):
    seen = sightings(ids)
    config = config or paper()
    prior = expected_statures(pool_evidence(evidence, seen), config)[0]
    return solve_affine(evidence, seen, prior, frame_error, config), prior


def test_one_frame_is_the_solution_of_the_single_image():
    _, evidence, ids = synthetic(1, kind="depth")
    answer, prior = affine(evidence, ids)
    cues, stature = evidence[0].cues, evidence[0].people.stature_m
    interval = scale_interval(cues, paper().scale, prior.mean_m / stature)
    alone = solve(cues.relative_depth, cues.depth_m, stature, prior.mean_m, prior.std_m, (interval.low, interval.high))
    np.testing.assert_allclose(answer.solutions[0].wanted_stature_m, alone.stature_m, rtol=1e-6)
    assert answer.solutions[0].scale == pytest.approx(alone.scale[0], rel=1e-6)


def test_tracks_of_one_frame_each_are_solved_frame_by_frame():
    _, evidence, _ = synthetic(3, kind="depth")
    answer, _ = affine(evidence, [np.arange(6) + 6 * f for f in range(3)])
    for one, solution in zip(evidence, answer.solutions, strict=True):
        alone, _ = affine([one], [np.arange(6)])
        np.testing.assert_allclose(solution.depth_ratio, alone.solutions[0].depth_ratio, rtol=1e-9)
    assert not answer.pooled.any()


def test_affine_optimum_is_stationary_for_a_general_optimiser():
    """The stated objective, minimised by scipy from the answer, has nothing to gain."""
    _, evidence, ids = synthetic(5, noise=0.03, kind="depth")
    config = replace(paper(), scale=replace(paper().scale, bounded=False, planar_rule=False))
    answer, prior = affine(evidence, ids, config=config)
    error, count = float(answer.size_error[0]), len(AGES)
    start = np.concatenate([[s.scale, s.shift] for s in answer.solutions] + [np.log(answer.stature_m)])

    def objective(x):
        total = (((x[10:] - np.log(prior.mean_m)) * prior.mean_m / prior.std_m) ** 2).sum()
        for f, one in enumerate(evidence):
            metres = x[2 * f] * one.cues.relative_depth + x[2 * f + 1]
            residual = np.log(metres * 1.7 / one.cues.depth_m) - x[10:]
            total += (residual**2).sum() / error**2
            total -= 2 * (count - 2) / count * np.log(x[2 * f] / metres).sum()
        return total

    def gradient(x):
        step = 1e-6 * np.maximum(np.abs(x), 1e-2)
        return np.array([(objective(x + d) - objective(x - d)) / d.sum() / 2 for d in np.diag(step)])

    curvature = np.array([(gradient(start + d) - gradient(start - d)) / 2e-4 for d in 1e-4 * np.eye(len(start))])
    newton = np.linalg.solve((curvature + curvature.T) / 2, gradient(start))
    assert np.all(np.linalg.eigvalsh((curvature + curvature.T) / 2) > 0)
    np.testing.assert_allclose(newton, 0, atol=2e-4)


# ---- both solvers on people whose statures are known -----------------------------------------------------------------


@pytest.mark.parametrize(("config", "kind"), [(best(), "disparity"), (best(), "depth"), (paper(), "depth")])
def test_statures_are_better_than_frame_by_frame(config, kind):
    together, alone = [], []
    for seed in range(3):
        stature, evidence, ids = synthetic(8, seed=seed, kind=kind)
        tracks = solve_tracks(evidence, ids, config).tracks
        together.append(np.abs(tracks.stature_m / stature - 1))
        for one in evidence[::3]:
            answer = solve_tracks([one], [np.arange(6)], config).answer.solutions[0]
            alone.append(np.abs(1.7 * answer.depth_ratio / stature - 1))
    assert np.mean(together) < 0.8 * np.mean(alone)
    assert np.mean(together) < 0.04


@pytest.mark.parametrize(("config", "frames", "tolerance"), [(best(), 40, 0.1), (paper(), 150, 0.2)])
def test_long_videos_neither_shrink_nor_flatten_people(config, frames, tolerance):
    """A residual that falls when everybody shrinks, or moves to one depth, would outweigh the prior in many frames."""
    stature, evidence, ids = synthetic(frames, noise=0.08, seed=1, kind="depth")
    solution = solve_tracks(evidence, ids, config)
    assert abs(np.log(solution.tracks.stature_m / stature).mean()) < 0.03
    spread = [np.ptp(np.log(e.cues.depth_m * solution.tracks.stature_m / 1.7)) for e in evidence]
    true_spread = [np.ptp(np.log(e.cues.depth_m * stature / 1.7)) for e in evidence]
    assert np.mean(spread) == pytest.approx(np.mean(true_spread), rel=tolerance)


def test_spread_shrinks_with_frames_but_not_below_what_they_share():
    _, evidence, ids = synthetic(6, noise=0.05)
    few, many = (solve_tracks(evidence[:n], ids[:n]).tracks for n in (2, 6))
    assert (few.stature_std_m / few.stature_m).mean() > (many.stature_std_m / many.stature_m).mean() > 0.01
    exact = solve_tracks(evidence, ids, tracks=TrackConfig(shared_error=0.0)).tracks
    assert np.all(exact.stature_std_m < many.stature_std_m)


def test_one_bad_frame_is_outvoted():
    stature, evidence, ids = synthetic(12, noise=0.03)
    relative = evidence[4].cues.relative_depth.copy()
    relative[0] *= 2.5
    evidence[4] = replace(evidence[4], cues=replace(evidence[4].cues, relative_depth=relative))
    assert np.abs(solve_tracks(evidence, ids).tracks.stature_m / stature - 1).max() < 0.06


@pytest.mark.parametrize("config", [best(), paper()])
def test_order_of_people_frames_and_ids_does_not_matter(config):
    _, evidence, ids = synthetic(4, kind="depth")
    one = solve_tracks(evidence, ids, config).tracks
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = [
        FrameEvidence(
            Cues(**{k: None if v is None else v[order] for k, v in vars(e.cues).items()}), e.kind,
            Feet(e.feet.ray[order], e.feet.depth_m[order], e.feet.inside[order]), e.people[order],
        )
        for e in evidence[::-1]
    ]  # fmt: skip
    two = solve_tracks(shuffled, [order + 10] * 4, config).tracks
    np.testing.assert_allclose(two.stature_m, one.stature_m, rtol=1e-4)
    np.testing.assert_array_equal(two.ids, np.arange(6) + 10)


def test_a_tracks_evidence_is_pooled():
    ages = [np.array([30.0, np.nan]), np.array([34.0, 8.0]), np.array([90.0, np.nan])]
    evidence = [frame([3.0, 4.0], [1.0, 2.0], ages=a) for a in ages]
    pooled = pool_evidence(evidence, sightings([np.array([4, 9])] * 3))
    np.testing.assert_array_equal(pooled.age_years, [34.0, 8.0])
    for one, std in zip(evidence, (9.0, 9.0, 1.0), strict=True):
        object.__setattr__(one.people, "age_std_years", np.array([std, 1.0]))
    np.testing.assert_array_equal(pool_evidence(evidence, sightings([np.array([4, 9])] * 3)).age_years, [90.0, 8.0])


@pytest.mark.parametrize("config", [best(), paper()])
def test_who_has_no_depth_evidence_in_a_frame_has_the_stature_of_the_others(config):
    _, evidence, ids = synthetic(5, kind="depth")
    hidden = np.array([False, True, True, True, True, True])
    status = np.where(hidden, 0, PersonStatus.KEPT_NOT_VISIBLE)
    evidence[2] = replace(evidence[2], cues=replace(evidence[2].cues, status=status))
    solution = solve_tracks(evidence, ids, config)
    found, shared = solution._solution(2)
    assert found.status[0] == PersonStatus.PLACED_FROM_STATURE and shared[0]
    assert 1.7 * found.depth_ratio[0] == pytest.approx(solution.tracks.stature_m[0])
    np.testing.assert_array_equal(solution.tracks.evident, [4, 5, 5, 5, 5, 5])
    np.testing.assert_array_equal(solution.tracks.frames, 5)


# ---- meshes, pictures and depth maps ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walk():
    """A synthetic crowd that moves over four frames, and what simulated experts say of each."""
    stage = World(replace(PRESETS["demo"], image_sizes=((640, 360),)), 6).stage(4)
    errors = nominal()
    errors = replace(errors, hmr=replace(errors.hmr, focal_std=0.0, focal_bias=0.0))
    worlds, seen = [], []
    for number in range(4):
        step = np.array([0.05 * number, 0.0, 0.15 * number])
        people = stage.people
        moved = replace(
            people, translation_m=people.translation_m + step, vertices_m=people.vertices_m + step.astype(np.float32),
            joints_m=people.joints_m + step.astype(np.float32),
        )  # fmt: skip
        worlds.append(render_stage(replace(stage, people=moved), np.random.default_rng(5), {}))
        seen.append(observe(worlds[-1], errors, number))
    return worlds, seen


@pytest.mark.parametrize("config", [best(), paper()])
def test_people_of_a_video_keep_their_stature_and_their_pixels(walk, config):
    _, seen = walk
    scenes, ids = [s.guess for s in seen], [np.asarray(s.person) for s in seen]
    result = place_tracks(scenes, [s.depth for s in seen], ids, config)
    statures: dict[int, list[float]] = {}
    for (scene, placement), guess, track in zip(result.frames, scenes, ids, strict=True):
        for k, person in enumerate(track):
            if placement.statuses[k] == PersonStatus.PLACED:
                statures.setdefault(int(person), []).append(scene.people.stature_m[k])
        before, after = (s.camera.project(s.people.joints_m) for s in (guess, scene))
        inside = ((before >= 0) & (before < (guess.camera.width, guess.camera.height))).all(-1)
        moved = np.sqrt((((before - after) ** 2).sum(-1) * inside).sum(1) / np.maximum(inside.sum(1), 1))
        assert np.median(moved) < 6
        np.testing.assert_allclose(moved, placement.reprojection_px, rtol=0.1, atol=0.05)
        np.testing.assert_array_equal(scene.people.status, placement.status)
    assert len(statures) >= 4
    for values in statures.values():
        assert np.ptp(values) < 1e-3


def test_a_video_of_one_frame_is_what_place_says(walk):
    _, seen = walk
    for config in (best(), paper()):
        alone, why = place(seen[0].guess, seen[0].depth, config)
        ((together, placement),) = place_tracks([seen[0].guess], [seen[0].depth], [seen[0].person], config).frames
        np.testing.assert_allclose(together.people.translation_m, alone.people.translation_m, atol=1e-6)
        np.testing.assert_allclose(together.people.vertices_m, alone.people.vertices_m, atol=1e-6)
        np.testing.assert_array_equal(placement.status, why.status)
        np.testing.assert_allclose(placement.depth_std_m, why.depth_std_m, rtol=1e-6)
        assert placement.score == pytest.approx(why.score)


def test_shape_is_the_tracks_unless_told_otherwise(walk):
    _, seen = walk
    scenes, depths, ids = [s.guess for s in seen[:2]], [s.depth for s in seen[:2]], [s.person for s in seen[:2]]
    body = body_of(scenes[0].people)
    wide = replace(scenes[1].people, shape=scenes[1].people.shape + 0.02)
    scenes[1] = replace(scenes[1], people=wide)

    def difference(tracks):
        frames = place_tracks(scenes, depths, ids, tracks=tracks, body=body).frames
        one, two = (frames[f][0].people.shape[np.isin(ids[f], ids[1 - f])] for f in (0, 1))
        return np.abs(one - two).max(0)

    assert np.median(difference(TrackConfig())) < 1e-6
    assert np.median(difference(TrackConfig(pool_shape=False))) > 0.01


def test_bad_input_gets_one_sentence(walk):
    _, seen = walk
    scene, depth, ids = seen[0].guess, seen[0].depth, np.asarray(seen[0].person)
    with pytest.raises(InputError, match="'official' solves every image by itself"):
        place_tracks([scene], [depth], [ids], official())
    with pytest.raises(InputError, match="2 scenes, 1 depth maps"):
        place_tracks([scene, scene], [depth], [ids])
    with pytest.raises(InputError, match="at most once"):
        place_tracks([scene], [depth], [np.zeros_like(ids)])
    with pytest.raises(InputError, match="one integer each"):
        place_tracks([scene], [depth], [ids[1:]])
    with pytest.raises(InputError, match="shared_error"):
        TrackConfig(shared_error=1.5)
    assert len(place_tracks([], [], []).tracks) == 0
