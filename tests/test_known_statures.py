"""Heights that somebody measured hold people where age, sex and depth map would put them elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crowdmesh.dto import DTOConfig, best, paper, place
from crowdmesh.dto.known import KNOWN_STATURE_STD_M
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene


def known(scene: Scene, **changes) -> Scene:
    return replace(scene, people=replace(scene.people, **changes))


@pytest.fixture
def ageless(crowd):
    """The crowd of mixed ages, of whom no age can be read; its true statures; the depth map."""
    world, guess, depth = crowd
    nothing = np.full(len(guess.people), np.nan)
    scene = known(guess, age_years=nothing, age_std_years=nothing, male_probability=nothing)
    return scene, world.scene.people.stature_m, depth


def statures(count: int, given: dict[int, float]) -> np.ndarray:
    values = np.full(count, np.nan)
    for person, stature in given.items():
        values[person] = stature
    return values


@pytest.mark.parametrize(
    "config", [best(), paper(), DTOConfig(solver="affine", prior="lms")], ids=["best", "paper", "lms"]
)
def test_everybodys_height_known_puts_everybody_in_place(ageless, config):
    scene, true, depth = ageless
    placed, placement = place(known(scene, known_stature_m=true), depth, config)
    moved = np.array([status.placed for status in placement.statuses])
    assert moved.sum() >= 4
    np.testing.assert_allclose(placed.people.stature_m[moved], true[moved], rtol=0.04)
    np.testing.assert_allclose(placement.prior_mean_m, true, rtol=2e-3)
    assert np.all(placement.prior_std_m < 1.2 * KNOWN_STATURE_STD_M)


def test_one_known_height_sharpens_that_person_and_leaves_the_prior_of_the_others(ageless):
    scene, true, depth = ageless
    child = int(np.argmin(true))
    without, before = place(scene, depth)
    placed, after = place(known(scene, known_stature_m=statures(len(true), {child: true[child]})), depth)
    assert abs(placed.people.stature_m[child] - true[child]) < 0.03
    assert abs(placed.people.stature_m[child] - true[child]) < abs(without.people.stature_m[child] - true[child])
    assert after.stature_std_m[child] < 0.5 * before.stature_std_m[child]
    others = np.arange(len(true)) != child
    np.testing.assert_array_equal(after.prior_mean_m[others], before.prior_mean_m[others])
    assert after.statuses[child].name == "PLACED", "an unknown age does not matter where the height is known"


def test_known_heights_count_as_knowledge_when_a_scene_is_judged(ageless):
    scene, true, depth = ageless
    _, unknown = place(scene, depth)
    assert not unknown.accepted and any("rests on guesses" in note for note in unknown.notes)
    _, told = place(known(scene, known_stature_m=true), depth)
    assert not any("rests on guesses" in note for note in told.notes)


def test_nothing_known_changes_nothing(crowd):
    _, guess, depth = crowd
    plain, _ = place(guess, depth)
    empty, _ = place(known(guess, known_stature_m=np.full(len(guess.people), np.nan)), depth)
    np.testing.assert_array_equal(plain.people.translation_m, empty.people.translation_m)


def test_a_height_outlives_saving_and_wrong_ones_are_refused(crowd, tmp_path):
    _, guess, _ = crowd
    scene = known(guess, known_stature_m=statures(len(guess.people), {2: 1.32}))
    scene.save(tmp_path / "a.scene.npz")
    np.testing.assert_array_equal(
        Scene.load(tmp_path / "a.scene.npz").people.known_stature_m, scene.people.known_stature_m
    )
    with pytest.raises(InputError, match="known_stature_m must be positive"):
        known(guess, known_stature_m=statures(len(guess.people), {1: -1.0}))


@pytest.mark.parametrize(("given", "said"), [
    ("2:1.32", "ID=METRES, for example 2=1.32, got '2:1.32'"), ("a=1.3", "ID=METRES"), ("2=", "ID=METRES"),
    ("99=1.5", r"there is no person 99; the scene has 6, counted from 0"), ("-1=1.5", "no person -1"),
    ("0=132", "nobody is 132 m tall; give metres"), ("0=nan", "nobody is nan m tall"),
])  # fmt: skip
def test_the_flag_is_read_strictly(crowd, given, said):
    from crowdmesh.cli.photos import with_statures

    with pytest.raises(InputError, match=said):
        with_statures(crowd[1], [given])
    assert with_statures(crowd[1], ["1=1.2", "0=1.9"]).people.known_stature_m[:2].tolist() == [1.9, 1.2]
