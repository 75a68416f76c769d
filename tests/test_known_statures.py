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
    tolerance = 5e-3 if config.solver == "fused" else 0.06
    np.testing.assert_allclose(placed.people.stature_m[moved], true[moved], atol=tolerance)
    np.testing.assert_allclose(placement.prior_mean_m, true, rtol=2e-3)
    assert np.all(placement.prior_std_m < 1.2 * KNOWN_STATURE_STD_M)


@pytest.mark.parametrize("height_m", [1.2, 1.5, 1.9])
def test_whoever_is_measured_has_that_height_whatever_the_depth_map_says(ageless, height_m):
    guess, _, depth = ageless
    for person in range(len(guess.people)):
        given = statures(len(guess.people), {person: height_m})
        placed, placement = place(known(guess, known_stature_m=given), depth)
        assert placement.statuses[person].placed
        assert abs(placed.people.stature_m[person] - height_m) < 5e-3
        assert placement.stature_std_m[person] == pytest.approx(KNOWN_STATURE_STD_M)
        before = guess.camera.project(guess.people.joints_m[person])
        after = placed.camera.project(placed.people.joints_m[person])
        inside = np.all((before > 0) & (before < (guess.camera.width, guess.camera.height)), -1)
        assert np.linalg.norm(before - after, axis=-1)[inside].mean() < 12, "the body still covers its image"


def test_a_known_height_leaves_the_doubt_how_large_the_body_is_in_the_image(crowd):
    _, guess, depth = crowd
    count = len(guess.people)
    config = replace(best(), focal_std=0.0)
    _, free = place(guess, depth, config)
    _, told = place(known(guess, known_stature_m=statures(count, {0: guess.people.stature_m[0]})), depth, config)
    relative = told.depth_std_m[0] / (told.initial_depth_m[0] * told.depth_ratio[0])
    assert 0.02 < relative < 0.15 and told.stature_std_m[0] < free.stature_std_m[0]


def test_one_known_height_helps_that_person_and_leaves_the_prior_of_the_others(ageless):
    scene, true, depth = ageless
    child = int(np.argmin(true))
    _, before = place(scene, depth)
    placed, after = place(known(scene, known_stature_m=statures(len(true), {child: true[child]})), depth)
    assert abs(placed.people.stature_m[child] - true[child]) < 5e-3
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


def test_heights_given_on_the_command_line_add_to_those_in_the_file(crowd, tmp_path, capsys):
    from crowdmesh.cli import main

    _, guess, depth = crowd
    known(guess, known_stature_m=statures(len(guess.people), {1: 1.6})).save(tmp_path / "a.scene.npz")
    np.save(tmp_path / "depth.npy", depth.values)
    place_it = ["place", str(tmp_path / "a.scene.npz"), "--depth", str(tmp_path / "depth.npy"), "--out", str(tmp_path)]
    assert main([*place_it, "--stature", "0=1.5", "--stature", "2=1.8"]) == 0
    people = Scene.load(tmp_path / "a.placed.scene.npz").people
    np.testing.assert_array_equal(people.known_stature_m[:4], [1.5, 1.6, 1.8, np.nan])
    np.testing.assert_allclose(people.stature_m[:3], [1.5, 1.6, 1.8], atol=5e-3)
    assert main([*place_it, "--stature", "0=1.5", "--stature", "0=1.8"]) == 1
    assert "person 0 has 1.5 m already" in capsys.readouterr().err


@pytest.mark.parametrize(("people", "image", "stem"), [
    ("out/a.scene.npz", None, "a"), ("table.json", None, "table"), ("labels.npz", "x/im.jpg", "labels.x_im"),
    ("labels.npz", "y/im.jpg", "labels.y_im"),
])  # fmt: skip
def test_images_of_one_file_get_files_of_their_own(people, image, stem):
    from pathlib import Path

    from crowdmesh.cli.photos import _stem

    assert _stem(Path(people), image) == stem
