"""Stand-ins for upstream estimators: exact where nothing errs, wrong in the documented way and amount otherwise."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from crowdmesh.body import load_body
from crowdmesh.errors import InputError
from crowdmesh.masks import Masks
from crowdmesh.metrics import mpjpe, pa_mpjpe
from crowdmesh.scene import Scene
from crowdmesh.synth._simulated_depth import simulated_depth
from crowdmesh.synth._simulated_evidence import (
    simulated_attributes,
    simulated_keypoints,
    simulated_masks,
)
from crowdmesh.synth._simulated_hmr import single_person_guess, wrong_camera
from crowdmesh.synth.config import PRESETS
from crowdmesh.synth.expert_errors import (
    STRENGTHS,
    ExpertErrors,
    MaskErrors,
    exact,
    nominal,
    strong,
)
from crowdmesh.synth.scene import SyntheticScene
from crowdmesh.synth.simulated_experts import Observation, observe
from crowdmesh.synth.world import World

BODY = load_body("anny")
_MAIN_BONES = ("upperarm01", "lowerarm01", "wrist", "upperleg01", "lowerleg01", "foot", "neck01", "head")
MAIN = [i for i, name in enumerate(BODY.joint_names) if name.split(".")[0] in _MAIN_BONES]
SCENES = 5
ADULT_YEARS = 18.0


@pytest.fixture(scope="module")
def scenes() -> list[SyntheticScene]:
    chosen = []
    for name in ("family", "adults"):
        config = replace(PRESETS[name], image_sizes=((480, 360), (360, 480)), people=(3, 6))
        chosen += World(config, seed=0).scenes(range(SCENES))
    return chosen


@pytest.fixture(scope="module")
def ideal(scenes) -> list[Observation]:
    return [observe(scene, exact(), i) for i, scene in enumerate(scenes)]


@pytest.fixture(scope="module")
def seen(scenes) -> dict[str, list[Observation]]:
    return {name: [observe(scene, make(), i) for i, scene in enumerate(scenes)] for name, make in STRENGTHS.items()}


def with_depth(**errors) -> ExpertErrors:
    """Exact but for these errors of the depth map."""
    return replace(exact(), depth=replace(exact().depth, **errors))


def arrays_of(observation: Observation) -> dict[str, np.ndarray]:
    people, camera = observation.guess.people, observation.guess.camera
    arrays = {f.name: getattr(people, f.name) for f in fields(people) if f.name not in ("body", "faces")}
    arrays["masks"] = people.masks.to_dense()
    arrays |= {"K": camera.K, "depth": observation.depth.values, "person": observation.person}
    return {name: value for name, value in arrays.items() if value is not None}


def map_errors(scene: SyntheticScene, observation: Observation) -> list[float]:
    """Relative error of inverse depth, median of each person's pixels, after the best affine fit over all people."""
    metres = scene.depth.values.astype(float)
    rows = []
    for k in observation.person:
        mask = scene.labels == k
        rows.append(np.stack((observation.depth.values[mask] / 50.0, np.ones(mask.sum())), 1) * metres[mask][:, None])
    weights = np.concatenate([np.full(len(row), len(row) ** -0.5) for row in rows])
    solution = np.linalg.lstsq(np.concatenate(rows) * weights[:, None], weights, rcond=None)[0]
    return [float(np.median(np.abs(row @ solution - 1.0))) for row in rows]


def measured(scenes: list[SyntheticScene], observations: list[Observation]) -> dict[str, float]:
    """Mean errors: adults' pose and stature, depth maps, masks."""
    errors: dict[str, list[float]] = {name: [] for name in ("pa", "mpjpe", "stature", "map", "overlap")}
    for scene, observation in zip(scenes, observations, strict=True):
        truth, guess = scene.scene.people[observation.person], observation.guess.people
        adult = truth.age_years >= ADULT_YEARS
        true, guessed = truth.joints_m[adult].astype(float), guess.joints_m[adult].astype(float)
        errors["pa"] += list(pa_mpjpe(guessed, true, MAIN))
        errors["mpjpe"] += list(mpjpe(guessed, true, 0, MAIN))
        errors["stature"] += list(np.abs(guess.stature_m - truth.stature_m)[adult])
        if len(observation.person) >= 3:
            errors["map"] += map_errors(scene, observation)
        shown, said = truth.masks.to_dense(), guess.masks.to_dense()
        errors["overlap"] += list((shown & said).sum((1, 2)) / (shown | said).sum((1, 2)))
    return {name: float(np.mean(values)) for name, values in errors.items()}


# Nothing errs


def test_exact_bodies_reproject_and_are_as_far_away_as_their_size_says(scenes, ideal):
    """Depth over true depth is stature over true stature; adults tightly, children as far as proportions allow."""
    ratios, apart_px, apart, adult = [], [], [], []
    for scene, observation in zip(scenes, ideal, strict=True):
        truth, guess, camera = scene.scene.people[observation.person], observation.guess.people, scene.scene.camera
        assert observation.guess.camera == camera
        true, guessed = truth.joints_m.astype(float), guess.joints_m.astype(float)
        ratio = guessed[:, BODY.pelvis, 2] / true[:, BODY.pelvis, 2] / (guess.stature_m / truth.stature_m)
        distance = np.linalg.norm(camera.project(true[:, MAIN]) - camera.project(guessed[:, MAIN]), axis=-1).mean(1)
        size_px = camera.fy * truth.stature_m / true[:, BODY.pelvis, 2]
        ratios += list(ratio)
        apart_px += list(distance)
        apart += list(distance / size_px)
        adult += list(truth.age_years >= ADULT_YEARS)
    ratios, apart_px, apart, adult = np.array(ratios), np.array(apart_px), np.array(apart), np.array(adult)
    assert 10 <= adult.sum() < len(adult)
    assert np.median(np.abs(ratios[adult] - 1.0)) < 0.01 and np.abs(ratios[adult] - 1.0).max() < 0.05
    assert np.median(apart_px[adult]) < 1.5 and apart[adult].max() < 0.025
    assert np.abs(ratios - 1.0).max() < 0.15 and apart.max() < 0.04


def test_exact_experts_see_an_adult_in_everybody_and_all_else_as_it_is(scenes, ideal):
    for scene, observation in zip(scenes, ideal, strict=True):
        truth, guess = scene.scene.people[observation.person], observation.guess.people
        np.testing.assert_allclose(guess.stature_m, 1.70, atol=1e-3)
        np.testing.assert_array_equal(guess.age_years, truth.age_years)
        np.testing.assert_array_equal(guess.male_probability, truth.male_probability)
        np.testing.assert_allclose(guess.keypoints_px, truth.keypoints_px)
        np.testing.assert_array_equal(guess.masks.to_dense(), truth.masks.to_dense())
        np.testing.assert_array_equal(guess.boxes_px, truth.boxes_px)
        visible = np.flatnonzero(scene.visible_px > 0)
        np.testing.assert_array_equal(observation.person, visible)
        assert observation.undetected == len(scene.scene.people) - len(visible)


def test_exact_disparity_is_proportional_to_inverse_depth(scenes, ideal):
    """far_m of exactly 10 m: the map reads 50 there."""
    for scene, observation in zip(scenes, ideal, strict=True):
        assert observation.depth.kind == "disparity"
        np.testing.assert_allclose(observation.depth.values * scene.depth.values, 500.0, rtol=1e-5)


# How much errs


def test_errors_rise_with_strength_and_nominal_is_what_is_documented(scenes, ideal, seen):
    figures = {"exact": measured(scenes, ideal)} | {name: measured(scenes, seen[name]) for name in STRENGTHS}
    order = [figures[name] for name in ("exact", *STRENGTHS)]
    for name in ("pa", "mpjpe", "map"):
        assert all(a[name] < b[name] for a, b in pairwise(order)), (name, order)
    # Even an exact expert has nothing but the mean to say of stature: compare those that see and err.
    assert order[1]["stature"] < order[2]["stature"] < order[3]["stature"]
    assert 1.0 == order[0]["overlap"] > order[1]["overlap"] > order[2]["overlap"] > order[3]["overlap"]
    nominal_figures = figures["nominal"]
    assert order[0]["pa"] < 0.02 and order[0]["map"] < 1e-5
    assert 0.045 < nominal_figures["pa"] < 0.090 and 0.080 < nominal_figures["mpjpe"] < 0.150
    assert 0.05 < nominal_figures["stature"] < 0.13
    assert 0.04 < nominal_figures["map"] < 0.15
    assert 0.7 < nominal_figures["overlap"] < 0.95


# What errs, and what stays as it is


def test_the_same_seed_gives_the_same_observation_and_another_one_another(scenes):
    first, again, other = (arrays_of(observe(scenes[0], nominal(), seed)) for seed in (7, 7, 8))
    assert first.keys() == again.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    for name in ("K", "depth", "pose", "keypoints_px", "masks", "age_years"):
        assert not np.array_equal(first[name], other[name], equal_nan=True), name


_HMR = {"pose", "shape", "stature_m", "translation_m", "vertices_m", "joints_m"}
_MASKS = {"masks", "boxes_px"}
_FACES = {"age_years", "male_probability"}


@pytest.mark.parametrize(
    ("part", "change", "affected"),
    [
        ("hmr", {"pose_deg": 20.0, "stature_std_m": 0.1, "depth_std": 0.1}, _HMR),
        ("hmr", {"focal_std": 0.3}, _HMR | {"K"}),
        ("depth", {"bleed_share": 1.0, "local_std": 0.2, "blur": 0.02}, {"depth"}),
        ("masks", {"erode": 0.03, "cut_share": 1.0}, _MASKS),
        ("attributes", {"age_std_share": 0.4, "missing_share": 1.0}, _FACES),
        ("keypoints", {"px_share": 0.05}, {"keypoints_px"}),
    ],
)
def test_changing_one_error_leaves_the_other_experts_as_they_are(scenes, part, change, affected):
    before = arrays_of(observe(scenes[0], nominal(), 3))
    errors = replace(nominal(), **{part: replace(getattr(nominal(), part), **change)})
    after = arrays_of(observe(scenes[0], errors, 3))
    changed = {name for name in before if not np.array_equal(before[name], after[name], equal_nan=True)}
    assert changed and changed <= affected
    if part != "hmr":
        assert changed == affected


@pytest.mark.parametrize("expert", ["camera", "hmr", "depth", "masks", "faces", "points"])
def test_every_expert_draws_as_much_whatever_the_errors(scenes, expert):
    scene = scenes[0]
    people, camera = scene.scene.people, scene.scene.camera
    runs = {
        "camera": lambda e, r: wrong_camera(camera, e.hmr, r),
        "hmr": lambda e, r: single_person_guess(people, camera, camera, 1.0 - scene.visible_share, e.hmr, r),
        "depth": lambda e, r: simulated_depth(
            scene.depth.values, scene.labels, np.zeros(len(people), bool), camera, scene.ground, e.depth, r
        ),
        "masks": lambda e, r: simulated_masks(people.masks.to_dense(), e.masks, r),
        "faces": lambda e, r: simulated_attributes(
            people.age_years, people.male_probability, np.full(len(people), 20.0), e.attributes, r
        ),
        "points": lambda e, r: simulated_keypoints(people.keypoints_px, people.boxes_px, e.keypoints, r),
    }
    next_draws = []
    for errors in (exact(), strong()):
        random = np.random.default_rng(5)
        runs[expert](errors, random)
        next_draws.append(random.random())
    assert next_draws[0] == next_draws[1] != np.random.default_rng(5).random()


def test_the_wrong_focal_length_is_shared_and_bodies_reproject_with_it(scenes, ideal):
    """All depths grow by the same factor; x and y are such that the image points stay."""
    longer = replace(exact(), hmr=replace(exact().hmr, focal_bias=0.5))
    for i, (scene, before) in enumerate(zip(scenes, ideal, strict=True)):
        after = observe(scene, longer, i)
        camera, wrong = scene.scene.camera, after.guess.camera
        assert (wrong.fx, wrong.fy) == pytest.approx((1.5 * camera.fx, 1.5 * camera.fy))
        assert (wrong.cx, wrong.cy, wrong.width, wrong.height) == (camera.cx, camera.cy, camera.width, camera.height)
        true = scene.scene.people.joints_m[after.person][:, MAIN].astype(float)
        old, new = (o.guess.people.joints_m[:, MAIN].astype(float) for o in (before, after))
        size_px = camera.fy * 1.7 / true[..., 2].mean(1)
        apart = np.linalg.norm(camera.project(true) - wrong.project(new), axis=-1).mean(1)
        assert (apart < 0.08 * size_px).all()  # a longer lens also foreshortens otherwise: not a pixel, but near
        ratio = new[..., 2].mean(1) / old[..., 2].mean(1)
        np.testing.assert_allclose(ratio, 1.5, rtol=0.12)


def test_depth_error_of_a_body_moves_it_along_its_ray(scenes, ideal):
    errors = replace(exact(), hmr=replace(exact().hmr, depth_std=0.2))
    for i, (scene, before) in enumerate(zip(scenes, ideal, strict=True)):
        after = observe(scene, errors, i)
        camera = scene.scene.camera
        old, new = (o.guess.people.joints_m[:, BODY.pelvis].astype(float) for o in (before, after))
        assert (np.abs(new[:, 2] / old[:, 2] - 1.0) > 1e-3).any()
        size_px = camera.fy * 1.7 / old[:, 2]
        assert (np.linalg.norm(camera.project(old) - camera.project(new), axis=-1) < 0.1 * size_px).all()


def test_undetected_people_are_counted_and_the_others_keep_their_place(scenes, seen):
    for scene, observation in zip(scenes, seen["nominal"], strict=True):
        truth, guess = scene.scene.people, observation.guess.people
        limits = MaskErrors()
        visible = (scene.visible_px >= limits.fewest_px) & (scene.visible_share >= limits.fewest_share)
        np.testing.assert_array_equal(observation.person, np.flatnonzero(visible))
        assert observation.undetected == (~visible).sum() and len(guess) == visible.sum()
        pelvis = truth.joints_m[observation.person, BODY.pelvis].astype(float)
        seen_pelvis = guess.joints_m[:, BODY.pelvis].astype(float)
        apart = np.linalg.norm(
            scene.scene.camera.project(pelvis) - observation.guess.camera.project(seen_pelvis), axis=-1
        )
        assert (apart < 0.5 * scene.scene.camera.fy * 1.7 / pelvis[:, 2]).all()
    scene = scenes[0]
    fewest = int(np.sort(scene.visible_px)[-1])
    lone = observe(scene, replace(nominal(), masks=replace(MaskErrors(), fewest_px=fewest)), 0)
    assert lone.person.tolist() == [int(scene.visible_px.argmax())]
    assert lone.undetected == len(scene.scene.people) - 1


def test_a_jumping_athlete_is_read_too_far_away():
    config = replace(PRESETS["jump"], image_sizes=((320, 240),), people=(2, 3))
    scene = World(config, seed=1).scene(0)
    athlete = scene.supports.index("air")
    before, after = (observe(scene, with_depth(airborne_share=share), 0).depth.values for share in (0.0, 1.0))
    on_athlete = scene.labels == athlete
    assert on_athlete.any() and (after[on_athlete] < before[on_athlete]).all()
    np.testing.assert_array_equal(after[~on_athlete], before[~on_athlete])


def test_own_errors_change_the_level_and_relief_of_people_and_leave_the_rest(scenes):
    scene = scenes[0]
    before, own, flat = (
        observe(scene, with_depth(**errors), 0).depth.values
        for errors in ({}, {"person_std": 0.1}, {"relief": (0.0, 0.0)})
    )
    nobody = scene.labels < 0
    np.testing.assert_array_equal(own[nobody], before[nobody])
    for k in np.flatnonzero(scene.visible_px > 20):
        mask = scene.labels == k
        ratio = own[mask] / before[mask]
        assert np.ptp(ratio) < 1e-5 and abs(ratio[0] - 1.0) > 1e-5
        assert np.ptp(flat[mask]) < 1e-5 * flat[mask].max()
        np.testing.assert_allclose(np.median(flat[mask]), np.median(before[mask]), rtol=1e-3)


def test_boxes_enclose_the_masks_that_are_reported(seen):
    for observation in seen["strong"]:
        people = observation.guess.people
        for mask, box in zip(people.masks.to_dense(), people.boxes_px, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


# Degenerate scenes


def only(scene: SyntheticScene, people: list[int], labels: np.ndarray) -> SyntheticScene:
    """The scene with these people alone, whose pixels are given."""
    truth = scene.scene.people[people]
    masks = Masks.from_dense(labels[None] == np.arange(len(people))[:, None, None])
    return replace(
        scene,
        scene=Scene(scene.scene.camera, replace(truth, masks=masks), scene.scene.image),
        labels=labels,
        visible_vertices=scene.visible_vertices[people],
        silhouette_px=scene.silhouette_px[people],
        poses=tuple(scene.poses[k] for k in people),
        supports=tuple(scene.supports[k] for k in people),
    )


@pytest.mark.parametrize("make", [exact, strong])
def test_empty_lone_and_hidden(scenes, make):
    scene = scenes[0]
    count = len(scene.scene.people)
    empty = np.full(scene.labels.shape, -1)
    nobody = observe(only(scene, [], empty), make(), 0)
    assert len(nobody.guess.people) == nobody.undetected == 0 and nobody.guess.people.joints_m.shape[0] == 0
    hidden = observe(only(scene, list(range(count)), empty), make(), 0)
    assert len(hidden.person) == 0 and hidden.undetected == count
    shown = int(scene.visible_share.argmax())
    alone = observe(only(scene, [shown], np.where(scene.labels == shown, 0, -1)), make(), 0)
    assert alone.person.tolist() == [0] and alone.undetected == 0
    pixel = empty.copy()
    pixel[5, 7] = 0
    speck = observe(only(scene, [shown], pixel), replace(make(), masks=replace(exact().masks, fewest_share=0.0)), 0)
    assert speck.person.tolist() == [0] and speck.guess.people.masks.to_dense().sum() == 1
    for observation in (nobody, hidden, alone, speck):
        assert np.isfinite(observation.depth.values).all() and observation.depth.values.max() > 0


@pytest.mark.parametrize("make", [exact, strong])
def test_people_behind_or_beside_the_camera_get_finite_bodies(scenes, make):
    scene = scenes[0]
    people, camera = scene.scene.people, scene.scene.camera
    for move in ((0.0, 0.0, -60.0), (200.0, 0.0, 0.0), (0.0, 0.0, -float(people.joints_m[0, 0, 2]))):
        moved = replace(people, joints_m=people.joints_m + np.float32(move))
        guess = single_person_guess(moved, camera, camera, np.ones(len(people)), make().hmr, np.random.default_rng(0))
        assert all(np.isfinite(getattr(guess, name)).all() for name in _HMR)
        assert (guess.joints_m[:, BODY.pelvis, 2] >= 0.299).all()


def test_nothing_unexpected_is_nan_at_any_strength(seen):
    for observations in seen.values():
        for observation in observations:
            for name, value in arrays_of(observation).items():
                if name not in _FACES:
                    assert np.isfinite(value).all(), name
            age, male = observation.guess.people.age_years, observation.guess.people.male_probability
            np.testing.assert_array_equal(np.isnan(age), np.isnan(male))
            stature = observation.guess.people.stature_m
            assert ((stature > 1.44) & (stature < 2.01)).all()


# Refusals


def test_scenes_without_evidence_and_negative_seeds_are_refused(scenes):
    scene = scenes[0]
    bare = replace(scene, scene=replace(scene.scene, people=replace(scene.scene.people, masks=None)))
    with pytest.raises(InputError, match="masks"):
        observe(bare, nominal(), 0)
    with pytest.raises(InputError, match="negative"):
        observe(scene, nominal(), -1)
