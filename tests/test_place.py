"""DTO as a whole: people end where the truth has them, and everybody who cannot be placed is told why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crowdmesh.body import body_of, load_body
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import DTOConfig, best, official, paper, place
from crowdmesh.errors import InputError
from crowdmesh.people import People, PersonStatus
from crowdmesh.scene import Scene


def pelvis(scene: Scene) -> np.ndarray:
    return scene.people.joints_m[:, 0, 2].astype(float)


@pytest.mark.parametrize("preset", [best, paper])
def test_children_come_back_and_order_is_right(crowd, preset):
    world, guess, disparity = crowd
    truth, before = pelvis(world.scene), pelvis(guess)
    placed, placement = place(guess, disparity, preset())
    after = pelvis(placed)
    error_before, error_after = np.abs(before / truth - 1), np.abs(after / truth - 1)
    assert error_before.max() > 0.8  # the toddler stood at almost twice the distance
    assert error_after.mean() < 0.25 * error_before.mean()
    np.testing.assert_array_equal(np.argsort(after), np.argsort(truth))
    assert placement.accepted
    assert placement.score < 1.0
    assert all(status.placed for status in placement.statuses)


def test_official_places_those_who_are_neither_too_small_nor_alone_in_their_group(crowd):
    world, guess, disparity = crowd
    placed, placement = place(guess, disparity, official())
    moved = np.array([status.placed for status in placement.statuses])
    assert moved.sum() >= 4
    kept = {placement.statuses[k] for k in np.flatnonzero(~moved)}
    assert kept <= {PersonStatus.KEPT_FEW_PIXELS, PersonStatus.KEPT_ALONE}
    np.testing.assert_allclose(pelvis(placed)[moved], pelvis(world.scene)[moved], rtol=0.08)


def test_best_is_within_five_percent_with_true_metric_depth(crowd):
    world, guess, _ = crowd
    placed, placement = place(guess, world.depth)
    np.testing.assert_allclose(pelvis(placed), pelvis(world.scene), rtol=0.05)
    np.testing.assert_allclose(placed.people.stature_m, world.scene.people.stature_m, rtol=0.05)
    assert placement.scale == pytest.approx(1.0, abs=0.1)


def test_placed_joints_stay_on_their_pixels(crowd):
    _, guess, disparity = crowd
    placed, placement = place(guess, disparity)
    before, after = (scene.camera.project(scene.people.joints_m) for scene in (guess, placed))
    inside = ((before >= 0) & (before < (guess.camera.width, guess.camera.height))).all(-1)
    for k in range(len(placed.people)):
        moved = np.sqrt(((before[k] - after[k])[inside[k]] ** 2).sum(-1).mean())
        assert moved == pytest.approx(placement.reprojection_px[k], rel=0.05, abs=0.02)
        assert moved < 6


def test_pelvis_moves_by_exactly_the_depth_ratio(crowd):
    _, guess, disparity = crowd
    placed, placement = place(guess, disparity)
    np.testing.assert_allclose(pelvis(placed), pelvis(guess) * placement.depth_ratio, rtol=1e-5)
    np.testing.assert_allclose(placed.people.stature_m, guess.people.stature_m * placement.depth_ratio, rtol=1e-3)


def test_parameters_vertices_and_stature_of_the_result_agree(crowd):
    from crowdmesh.body import pose_people

    _, guess, disparity = crowd
    people = place(guess, disparity)[0].people
    again = pose_people(people)
    np.testing.assert_allclose(again.vertices_m, people.vertices_m, atol=2e-5)
    body = load_body("anny")
    np.testing.assert_allclose(
        body.stature(torch.from_numpy(people.shape).float()).numpy(), people.stature_m, atol=1e-5
    )


def test_rigid_bodies_scale_exactly(crowd):
    _, guess, disparity = crowd
    people = guess.people
    rigid = People(
        body="rigid", translation_m=people.translation_m, stature_m=people.stature_m, vertices_m=people.vertices_m,
        faces=load_body("anny").faces.numpy(), masks=people.masks, age_years=people.age_years,
        male_probability=people.male_probability,
    )  # fmt: skip
    placed, placement = place(replace(guess, people=rigid), disparity)
    expected = people.vertices_m * placement.depth_ratio[:, None, None]
    np.testing.assert_allclose(placed.people.vertices_m, expected, rtol=1e-6)
    np.testing.assert_allclose(placed.people.stature_m, people.stature_m * placement.depth_ratio)
    before, after = (guess.camera.project(v) for v in (people.vertices_m, placed.people.vertices_m))
    np.testing.assert_allclose(after, before, atol=1e-2)


def test_order_of_people_does_not_matter(crowd):
    _, guess, disparity = crowd
    order = [3, 0, 5, 1, 4, 2]
    one = place(guess, disparity)[0]
    two = place(replace(guess, people=guess.people[order]), disparity)[0]
    np.testing.assert_allclose(two.people.translation_m, one.people.translation_m[order], atol=1e-5)


def test_resolution_and_unit_of_the_depth_map_do_not_matter(crowd):
    _, guess, disparity = crowd
    one = pelvis(place(guess, disparity)[0])
    scaled = pelvis(place(guess, RelativeDepth(disparity.values * np.float32(37.0), "disparity"))[0])
    coarse = pelvis(place(guess, RelativeDepth(disparity.values[::2, ::2].copy(), "disparity"))[0])
    np.testing.assert_allclose(scaled, one, rtol=1e-4)
    np.testing.assert_allclose(coarse, one, rtol=0.03)


def test_bad_depth_values_are_excluded_and_counted(crowd):
    _, guess, disparity = crowd
    clean_scene, clean = place(guess, disparity)
    spoilt = disparity.values.copy()
    random = np.random.default_rng(0)
    spoilt[random.random(spoilt.shape) < 0.05] = np.nan
    spoilt[random.random(spoilt.shape) < 0.05] = 0
    spoilt[random.random(spoilt.shape) < 0.05] = np.inf
    scene, placement = place(guess, RelativeDepth(spoilt, "disparity"))
    assert np.all(placement.excluded > 0)
    assert np.all(clean.excluded == 0)
    np.testing.assert_allclose(pelvis(scene), pelvis(clean_scene), rtol=0.02)


def without(scene: Scene, **changes) -> Scene:
    return replace(scene, people=replace(scene.people, **changes))


def two_without_evidence(guess: Scene, disparity: RelativeDepth) -> tuple[Scene, RelativeDepth]:
    values = disparity.values.copy()
    mask = guess.people.masks.to_dense()[1]
    values[mask] = np.nan  # no depth on person 1
    translation = guess.people.translation_m.copy()
    vertices, joints = guess.people.vertices_m.copy(), guess.people.joints_m.copy()
    for array in (translation, vertices, joints):
        array[4, ..., 0] += 50  # person 4 far outside the picture
    scene = without(guess, translation_m=translation, vertices_m=vertices, joints_m=joints)
    return scene, RelativeDepth(values, "disparity")


@pytest.mark.parametrize("preset", [best, paper])
def test_people_without_evidence_keep_their_place_with_a_reason(crowd, preset):
    """Where the age is unknown too, or the paper's way, which has no other evidence."""
    _, guess, disparity = crowd
    scene, disparity = two_without_evidence(guess, disparity)
    if preset is best:
        ages = scene.people.age_years.copy()
        ages[[1, 4]] = np.nan
        scene = without(scene, age_years=ages)
    placed, placement = place(scene, disparity, preset())
    assert placement.statuses[1] is PersonStatus.KEPT_NO_DEPTH
    assert placement.statuses[4] is PersonStatus.KEPT_NOT_VISIBLE
    for k in (1, 4):
        np.testing.assert_array_equal(placed.people.vertices_m[k], scene.people.vertices_m[k])
        assert placement.depth_ratio[k] == 1
        # Nothing was learnt: the prior's relative spread of the stature is that of the depth, but for the camera's.
        spread = np.hypot(placement.prior_std_m[k] / placement.prior_mean_m[k], preset().focal_std)
        assert placement.initial_depth_m[k] == pytest.approx(pelvis(scene)[k], rel=1e-6)
        assert placement.depth_std_m[k] == pytest.approx(spread * pelvis(scene)[k], rel=1e-6)
    assert sum(status.placed for status in placement.statuses) == 4


def test_people_without_evidence_but_of_known_age_are_placed_by_their_stature(crowd):
    world, guess, disparity = crowd
    scene, disparity = two_without_evidence(guess, disparity)
    placed, placement = place(scene, disparity)
    for k in (1, 4):
        assert placement.statuses[k] is PersonStatus.PLACED_FROM_STATURE
        assert placed.people.stature_m[k] == pytest.approx(placement.prior_mean_m[k], rel=0.05)
        assert pelvis(placed)[k] == pytest.approx(pelvis(world.scene)[k], rel=0.15)
        assert placement.depth_std_m[k] > 0.1 * pelvis(placed)[k]
    assert [k for k, s in enumerate(placement.statuses) if s is PersonStatus.PLACED] == [0, 2, 3, 5]


@pytest.mark.parametrize("preset", [best, paper])
def test_one_person_alone_is_left_alone(crowd, preset):
    """By ``best`` only where the age is unknown."""
    _, guess, disparity = crowd
    someone = guess.people[[2]]
    if preset is best:
        someone = replace(someone, age_years=np.array([np.nan]))
    placed, placement = place(replace(guess, people=someone), disparity, preset())
    assert placement.statuses == [PersonStatus.KEPT_ALONE]
    assert not placement.accepted
    np.testing.assert_array_equal(placed.people.translation_m, guess.people.translation_m[[2]])


def test_one_person_of_known_age_takes_the_stature_of_that_age(crowd):
    _, guess, disparity = crowd
    placed, placement = place(replace(guess, people=guess.people[[2]]), disparity)
    assert placement.statuses == [PersonStatus.PLACED_FROM_STATURE]
    assert placed.people.stature_m[0] == pytest.approx(placement.prior_mean_m[0], rel=0.03)
    assert not placement.accepted
    assert placement.scale is None
    assert "fewer than two people have depth evidence" in placement.notes[0]


def test_nobody(crowd):
    _, guess, disparity = crowd
    placed, placement = place(replace(guess, people=guess.people[[]]), disparity)
    assert len(placed.people) == 0
    assert len(placement) == 0
    assert not placement.accepted
    assert placement.score == np.inf
    assert placement.scale is None
    assert placement.notes == ()


@pytest.mark.parametrize("preset", [best, paper, official])
def test_everyone_at_one_relative_depth(crowd, preset):
    _, guess, disparity = crowd
    flat = RelativeDepth(np.full_like(disparity.values, 3.0), "disparity")
    placed, placement = place(guess, flat, preset())
    assert np.isfinite(placed.people.vertices_m).all()
    assert np.all(pelvis(placed) > 0)
    assert np.isfinite(placement.scale)


@pytest.mark.parametrize(
    ("preset", "status"), [(best, PersonStatus.PLACED_FROM_STATURE), (paper, PersonStatus.KEPT_NOT_VISIBLE)]
)
def test_duplicate_people_are_both_kept(crowd, preset, status):
    _, guess, disparity = crowd
    twice = replace(guess, people=replace(guess.people[[0, 1, 2, 2]], masks=None))
    placed, placement = place(twice, disparity, preset())
    assert len(placed.people) == 4
    # The second copy is hidden behind the first to the last pixel, and says so.
    assert placement.statuses[2].placed
    assert placement.statuses[3] is status


def nearest_adult_flattened(guess: Scene, disparity: RelativeDepth) -> RelativeDepth:
    """Person 5 seems three times as far away."""
    values = disparity.values.copy()
    values[guess.people.masks.to_dense()[5]] /= 3
    return RelativeDepth(values, "disparity")


def test_where_the_map_is_wrong_on_one_person_stature_decides(crowd):
    world, guess, disparity = crowd
    placed, placement = place(guess, nearest_adult_flattened(guess, disparity))
    assert all(status is PersonStatus.PLACED for status in placement.statuses)
    np.testing.assert_allclose(pelvis(placed)[:5], pelvis(world.scene)[:5], rtol=0.08)
    assert pelvis(placed)[5] == pytest.approx(pelvis(world.scene)[5], rel=0.2)
    # The residual is that of the map, and shows it.
    assert np.abs(placement.standardised_residual).argmax() == 5
    assert np.abs(placement.standardised_residual[5]) > 3


def test_implausible_stature_keeps_the_person(crowd):
    _, guess, disparity = crowd
    placed, placement = place(
        guess, nearest_adult_flattened(guess, disparity), DTOConfig(solver="affine", prior="paper")
    )
    assert placement.statuses[5] is PersonStatus.KEPT_IMPLAUSIBLE_STATURE
    np.testing.assert_array_equal(placed.people.translation_m[5], guess.people.translation_m[5])
    assert placement.score > best().accept_below
    assert not placement.accepted


def test_unknown_ages_show_in_status_and_acceptance(crowd):
    _, guess, disparity = crowd
    some = guess.people.age_years.copy()
    some[[0, 1]] = np.nan
    _, placement = place(without(guess, age_years=some), disparity)
    assert [k for k, s in enumerate(placement.statuses) if s is PersonStatus.PLACED_AGE_UNKNOWN] == [0, 1]
    assert placement.accepted
    _, placement = place(without(guess, age_years=np.full(6, np.nan)), disparity)
    assert not placement.accepted
    assert any("age of 6 of 6 people is unknown" in note for note in placement.notes)


def test_without_ages_everybody_is_an_adult(crowd):
    _, guess, disparity = crowd
    _, placement = place(without(guess, age_years=None), disparity)
    assert (placement.prior_mean_m > 1.6).all()
    assert all(s in (PersonStatus.PLACED, PersonStatus.PLACED_STATURE_LIMITED) for s in placement.statuses if s.placed)


def test_depth_stays_positive_with_an_adversarial_map(crowd):
    _, guess, disparity = crowd
    for seed in range(8):
        noise = np.random.default_rng(seed).lognormal(0, 2, disparity.values.shape[0])[:, None].astype(np.float32)
        for preset in (best, paper, official):
            placed, placement = place(guess, RelativeDepth(disparity.values * noise, "disparity"), preset())
            assert np.all(pelvis(placed) > 0)
            assert np.isfinite(placement.depth_std_m).all()
            assert np.isfinite(placed.people.vertices_m).all()


def test_depth_map_of_another_shape_is_refused(crowd):
    _, guess, _ = crowd
    with pytest.raises(InputError, match="depth map is 100x100 but the image 1280x720"):
        place(guess, RelativeDepth(np.ones((100, 100), np.float32), "disparity"))


def test_people_given_by_parameters_alone_are_posed(crowd):
    _, guess, disparity = crowd
    bare = without(guess, vertices_m=None, joints_m=None)
    np.testing.assert_allclose(pelvis(place(bare, disparity)[0]), pelvis(place(guess, disparity)[0]), rtol=1e-5)


def test_body_of_names_the_fix():
    people = People(body="rigid", translation_m=np.zeros((1, 3)), stature_m=np.ones(1), vertices_m=np.ones((1, 4, 3)))
    with pytest.raises(InputError, match=r"needs people\.faces"):
        body_of(people)


def test_zeros_are_no_depth_whatever_the_kind(crowd):
    world, guess, _ = crowd
    values = world.depth.values.copy()
    values[::2] = 0
    for kind in ("depth", "metric", "disparity"):
        inverse = np.where(values > 0, 1 / np.maximum(values, 0.1), 0).astype(np.float32)
        some = RelativeDepth(inverse if kind == "disparity" else values, kind)
        placed, placement = place(guess, some)
        assert (placement.excluded > 0).all()
        np.testing.assert_allclose(pelvis(placed), pelvis(place(guess, world.depth)[0]), rtol=0.03)


@pytest.mark.parametrize("preset", [best, paper])
def test_disparity_too_small_to_invert_is_excluded(crowd, preset):
    _, guess, disparity = crowd
    values = disparity.values.astype(float)
    values[guess.people.masks.to_dense()[3]] = 1e-310
    _, placement = place(guess, RelativeDepth(values, "disparity"), preset())
    # The age of that person is known: best places them by it.
    status = PersonStatus.PLACED_FROM_STATURE if preset is best else PersonStatus.KEPT_NO_DEPTH
    assert placement.statuses[3] is status
    assert placement.excluded[3] > 0


def test_posterior_spread_is_positive_for_everybody(crowd):
    _, guess, disparity = crowd
    for preset in (best, paper, official):
        _, placement = place(guess, disparity, preset())
        assert (placement.depth_std_m > 0).all()
        assert (placement.stature_std_m > 0).all()


def test_vertices_of_another_body_are_refused(crowd):
    _, guess, disparity = crowd
    other = without(guess, vertices_m=guess.people.vertices_m[:, :100], pose=None, shape=None, joints_m=None)
    with pytest.raises(InputError, match="100 vertices each, but body 'anny' has 1229"):
        place(other, disparity)


@pytest.mark.usefixtures("unchecked")
def test_misspelt_presets_and_priors_are_refused():
    with pytest.raises(InputError, match="unknown prior 'who'; use one of marginal, paper, lms, agnostic"):
        DTOConfig(prior="who")
    with pytest.raises(InputError, match="unknown solver 'magic'; use one of fused, affine, released"):
        DTOConfig(solver="magic")
    with pytest.raises(InputError, match="unknown preset"):
        DTOConfig(preset="mine")
