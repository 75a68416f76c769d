"""The Relative Human protocol: recorded figures of the released evaluation, cases by hand, invariances, refusals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import roma
import synthetic_smpl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.benchmarks import relative_human as rh
from crowdmesh.benchmarks.relative_human import RelativeHumanPrediction
from crowdmesh.body import load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.formats.relative_human import RelativeHumanPerson, people_of_record
from crowdmesh.people import People
from crowdmesh.scene import Scene

# A figure of 14 joints, 60 pixels wide and 180 high: joints 0 to 11 down the two sides, head top, neck.
FIGURE = np.array([[x, 30.0 * row] for row in range(1, 7) for x in (60.0, 0.0)] + [[30.0, 0.0], [30.0, 20.0]])


def person(x: float, y: float = 500.0, layer: int = 0, age: int = 0, hidden: tuple[int, ...] = ()):
    points = np.column_stack((FIGURE + np.array([x, y]), np.ones(14)))
    points[list(hidden), 2] = 0.0
    return RelativeHumanPerson(points, layer, age, -1, np.array([x, y, x + 60, y + 180]))


def predict(*people: tuple[float, float], y: float = 500.0, shift: tuple[float, float] = (0.0, 0.0)):
    """A prediction of people (x, depth)."""
    joints = np.array([FIGURE + np.array([x + shift[0], y + shift[1]]) for x, _ in people]).reshape(-1, 14, 2)
    return RelativeHumanPrediction(joints, np.array([z for _, z in people], float))


# Recorded figures


@pytest.fixture(scope="module")
def cases(vectors):
    found = json.loads((vectors / "rh_cases.json").read_text())
    assert len(found) == 20
    return found


def test_recorded_figures(cases):
    for case in cases:
        annotations = {image: people_of_record(people) for image, people in case["annots"].items()}
        result = rh.evaluate(annotations, rh.predictions_of_records(case["results"]))
        official = {
            key.replace("PCRD_0.2_", "PCDR_0.2 ").replace("PCRD", "PCDR"): v for key, v in case["official"].items()
        }
        for name in ("PCDR_0.2", *(f"PCDR_0.2 {age}" for age in ("adult", "teen", "kid", "baby"))):
            assert result[name] == (pytest.approx(official[name], abs=1e-6) if name in official else None), name
        assert result["mPCKh_0.6"] == pytest.approx(case["pck"], abs=1e-6)
        assert [result["precision"], result["recall"], result["F1"]] == case["precision_recall_f1"]
        assert result.missed == case["n_missed"]


def test_recorded_matches_and_pairs(cases):
    for case in cases:
        predictions = rh.predictions_of_records(case["results"])
        records = [
            rh.measure(image, people_of_record(people), predictions.get(image))
            for image, people in case["annots"].items()
        ]
        for record in records:
            recorded = case["per_image"][record.image]
            assert [list(pair) for pair in record.match] == (recorded["match"] or [])
            assert list(record.missed) == recorded["missed_gt"]
            np.testing.assert_allclose(record.keypoint_share, recorded.get("pck_per_match", []), atol=1e-6)
        assert [age for record in records for age in record.missed_ages] == case["missed_ages"]
        pairs = [
            (gap, layers, ages)
            for r in records
            for gap, layers, ages in zip(r.pair_gap_m, r.pair_layer_gap, r.pair_ages, strict=True)
        ]
        for number, (kind, sign) in enumerate((("eq", 0), ("cd", -1), ("fd", 1))):
            chosen = [(gap, ages) for gap, layers, ages in pairs if np.sign(layers) == sign]
            assert len(chosen) == case["n_pairs"][number]
            np.testing.assert_allclose([gap for gap, _ in chosen], case["pair_delta"][kind], atol=1e-6)
            assert [list(ages) for _, ages in chosen] == case["pair_ages"][kind]


# Cases by hand


def test_a_perfect_prediction():
    people = (person(100), person(300, age=2), person(600, layer=1))
    result = rh.evaluate({"a.jpg": people}, {"a.jpg": predict((100, 3.0), (300, 3.1), (600, 5.0))})
    for name in ("PCDR_0.2", "PCDR_0.2 adult", "PCDR_0.2 kid", "mPCKh_0.6", "precision", "recall", "F1"):
        assert result[name] == 1.0
    assert (result.people, result.matched, result.missed, result.predicted, result.extra) == (3, 3, 0, 3, 0)
    assert result["PCDR_0.2 baby"] is None and any("PCDR_0.2 baby" in note for note in result.notes)
    assert result.protocol == "Relative Human (official)"


def test_missed_people_count_as_three_tenths_of_a_wrong_pair():
    people = (person(100), person(300), person(600, layer=1, age=2))
    result = rh.evaluate({"a.jpg": people, "b.jpg": (person(100, age=3),)}, {"a.jpg": predict((100, 3.0), (300, 3.1))})
    assert result["PCDR_0.2"] == pytest.approx(1 / 1.6)  # one right pair, a person missed in either image
    assert result["PCDR_0.2 adult"] == 1.0  # the missed are a kid and a baby
    assert result["PCDR_0.2 kid"] is None  # missed, but not in any pair
    # "Right" are the predicted less the missed, none here: 0 of 0 claimed (the released code crashes), 0 of 2 real.
    assert (result["precision"], result["recall"], result["F1"]) == (None, 0.0, None)
    assert (result.matched, result.missed) == (2, 2)


def test_wrong_relations():
    people = (person(100), person(300), person(600, layer=1))
    result = rh.evaluate({"a.jpg": people}, {"a.jpg": predict((100, 3.0), (300, 3.3), (600, 3.15))})
    assert result["PCDR_0.2"] == 0.0  # 0.3 m apart in one layer, 0.15 m behind, and 0.15 m before


def test_unknown_layers_are_in_no_pair():
    people = (person(100), person(300, layer=-1))
    result = rh.evaluate({"a.jpg": people}, {"a.jpg": predict((100, 3.0), (300, 3.0))})
    assert result["PCDR_0.2"] is None and result["recall"] == 1.0


def test_keypoints_are_judged_against_the_extent():
    extent = math.hypot(60, 180)
    for share, expected in ((0.142, 1.0), (0.144, 0.0)):
        prediction = predict((100, 3.0), shift=(share * extent, 0.0))
        assert rh.evaluate({"a.jpg": (person(100),)}, {"a.jpg": prediction})["mPCKh_0.6"] == expected


def test_one_visible_keypoint_enters_as_minus_one_and_is_left_out_when_corrected():
    # Near the corner, so that the stretched box still overlaps.
    people = (person(0, y=0.0, hidden=tuple(range(13))), person(300))
    prediction = RelativeHumanPrediction(np.stack((FIGURE, FIGURE + np.array([300, 500]))), np.array([3.0, 3.0]))
    result = rh.evaluate({"a.jpg": people}, {"a.jpg": prediction})
    assert result["mPCKh_0.6"] == 0.0 and any("-1" in note for note in result.notes)
    # Corrected, the box of one joint is one pixel: it cannot overlap a whole figure, but it does a joint on a joint.
    assert rh.evaluate({"a.jpg": people}, {"a.jpg": prediction}, corrected=True)["mPCKh_0.6"] == 1.0


def test_an_unannotated_joint_stretches_the_box_to_the_corner_unless_corrected():
    annotations, predictions = {"a.jpg": (person(900, hidden=(3,)),)}, {"a.jpg": predict((900, 3.0))}
    released, corrected = (rh.evaluate(annotations, predictions, flag) for flag in (False, True))
    assert (released.matched, released.missed) == (0, 1)
    assert (corrected.matched, corrected.missed, corrected["F1"]) == (1, 0, 1.0)
    assert "corrected" in corrected.protocol and any("not the released one" in note for note in corrected.notes)


def test_the_released_search_stops_early_unless_corrected():
    # Two people show two joints each. The nearest prediction is close to them, but its box hardly overlaps theirs: two
    # false alarms for two predictions, and the search is over before it comes to the third person.
    few = tuple(range(2, 14))
    people = (person(0, y=0.0, hidden=few), person(1, y=1.0, hidden=few), person(900))
    joints = np.stack((FIGURE + np.array([31, 31]), FIGURE + np.array([920, 500])))
    prediction = RelativeHumanPrediction(joints, np.array([3.0, 4.0]))
    released, corrected = (rh.measure("a.jpg", people, prediction, flag) for flag in (False, True))
    assert (released.match, released.missed) == ((), (0, 1, 2))
    assert (corrected.match, corrected.missed) == (((1, 2),), (0, 1))


def test_people_without_a_visible_keypoint_shift_the_labels_unless_corrected():
    people = (person(50, hidden=tuple(range(14)), age=3), person(300, layer=0, age=1), person(600, layer=1, age=2))
    prediction = predict((300, 3.0), (600, 5.0))
    released = rh.measure("a.jpg", people, prediction)
    assert released.match == ((0, 0), (1, 1)) and released.pair_ages == ((1, 3),)
    corrected = rh.measure("a.jpg", people, prediction, corrected=True)
    assert corrected.match == ((0, 1), (1, 2)) and corrected.pair_ages == ((2, 1),)
    # In an image without a prediction, released, even they are missed.
    assert rh.measure("a.jpg", people, None).missed == (0, 1, 2)
    assert rh.measure("a.jpg", people, None, corrected=True).missed == (1, 2)


def test_people_without_keypoints_do_not_take_part():
    nobody = RelativeHumanPerson(None, 0, 0, -1, np.zeros(4))
    record = rh.measure("a.jpg", (nobody, person(300)), predict((300, 3.0)))
    assert (record.annotated, record.match, record.missed) == (1, ((0, 1),), ())
    only = rh.evaluate({"a.jpg": (nobody,)}, {"a.jpg": predict((300, 3.0))})
    assert (only.people, only.extra, only["precision"], only["recall"], only["mPCKh_0.6"]) == (0, 1, 0.5, None, None)


def test_skeletons_of_19_joints_follow_from_the_name():
    joints = np.column_stack((np.arange(19.0), np.arange(19.0), np.ones(19)))
    for image, shoulder, head in (("1234567.jpg", 5, 0), ("000_000002xx.jpg", 3, 12), ("BK/1234567.png", 5, 0)):
        points, visible = rh.crowdpose_keypoints(joints, image)
        assert points[0, 0] == shoulder and points[12, 0] == head
        assert visible.tolist() == [True] * 13 + [False] and points[13, 0] == -2.0


# Invariances


def random_image(random: np.random.Generator) -> tuple[tuple[RelativeHumanPerson, ...], RelativeHumanPrediction | None]:
    count = int(random.integers(1, 6))
    places = random.uniform(0, 150, (count, 2)) + np.arange(count)[:, None] * (120.0, 40.0)
    people = []
    for place in places:
        points = np.column_stack((FIGURE + place, random.random(14) < 0.85))
        points[0, 2] = 1.0  # everybody has a visible joint: see the test of shifted labels
        people.append(
            RelativeHumanPerson(points, int(random.integers(-1, 3)), int(random.integers(-1, 4)), -1, np.zeros(4))
        )
    guessed = random.random(count) < 0.85
    joints = (FIGURE + places[:, None] + random.normal(0, 8, (count, 14, 2)))[guessed]
    depth = random.uniform(2, 6, count)[guessed]
    return tuple(people), RelativeHumanPrediction(joints, depth) if random.random() < 0.9 else None


def figures(result):
    return result.figures, result.images, result.people, result.matched, result.missed, result.predicted, result.notes


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.booleans())
def test_images_may_come_in_any_order_and_shards(seed, corrected):
    random = np.random.default_rng(seed)
    images = {f"{number}.jpg": random_image(random) for number in range(5)}
    records = [rh.measure(name, people, guess, corrected) for name, (people, guess) in images.items()]
    shuffled = [records[i] for i in random.permutation(5)]
    assert figures(rh.summarise(shuffled[2:] + shuffled[:2], corrected)) == figures(rh.summarise(records, corrected))


@given(st.integers(0, 10_000), st.booleans())
def test_people_may_come_in_any_order(seed, corrected):
    random = np.random.default_rng(seed)
    people, guess = random_image(random)
    rows = random.permutation(len(people))
    other = guess
    if guess is not None:
        columns = random.permutation(len(guess))
        other = RelativeHumanPrediction(guess.joints_px[columns], guess.translation_z_m[columns])
    one = rh.summarise([rh.measure("a.jpg", people, guess, corrected)], corrected)
    two = rh.summarise([rh.measure("a.jpg", tuple(people[i] for i in rows), other, corrected)], corrected)
    assert figures(one) == figures(two)


# Scenes


def scene(body: str, folder: str | None = None, shift: float = 0.0) -> Scene:
    model = load_body(body, folder)
    shape = model.default_shape(2, np.array([30.0, 2.0]))
    pose = np.zeros((2, len(model.joint_names), 3))
    pose[:, 0] = roma.rotmat_to_rotvec(torch.from_numpy(model.facing_camera)).numpy()
    people = People(
        body, np.array([[-0.8, 0.0, 4.0], [0.8, 0.5, 4.0 + shift]]), model.stature(shape).double().numpy(), pose,
        shape.double().numpy(),
    )  # fmt: skip
    return Scene(Camera.from_vertical_fov(1.0, 640, 480), people)


def test_an_anny_scene_becomes_a_prediction():
    crowd = scene("anny")
    prediction = rh.predictions_from_scenes({"a.jpg": crowd})["a.jpg"]
    posed = pose_people(crowd.people)
    body = load_body("anny")
    assert posed.joints_m is not None and posed.vertices_m is not None
    np.testing.assert_allclose(prediction.translation_z_m, posed.joints_m[:, 0, 2])
    knee = crowd.camera.project(posed.joints_m[:, body.points["left_knee"]])
    np.testing.assert_allclose(prediction.joints_px[:, 8], knee, rtol=1e-6)
    x, y = np.moveaxis(prediction.joints_px, -1, 0)
    assert np.all(x[:, 0:12:2] > x[:, 1:12:2])  # facing the camera, the left is on the right
    heads = crowd.camera.project(posed.vertices_m)[..., 1].min(1)
    assert np.all(np.abs(y[:, 12] - heads) < 3)  # the head top is the top of the picture of the body
    assert np.all((y[:, 12] < y[:, 13]) & (y[:, 13] < y[:, 0]) & (y[:, 0] < y[:, 6]) & (y[:, 8] < y[:, 10]))
    people = tuple(
        RelativeHumanPerson(np.column_stack((joints, np.ones(14))), layer, age, -1, np.zeros(4))
        for joints, layer, age in zip(prediction.joints_px, (0, 0), (0, 3), strict=True)
    )
    result = rh.evaluate({"a.jpg": people}, {"a.jpg": prediction})
    assert result["mPCKh_0.6"] == 1.0 and any("pelvis" in note for note in result.notes)


def test_an_smpl_scene_is_as_deep_as_its_translation(tmp_path, monkeypatch):
    synthetic_smpl.write(tmp_path / "smpl")
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    prediction = rh.predictions_from_scenes({"a.jpg": scene("smpl", shift=1.0)})["a.jpg"]
    np.testing.assert_allclose(prediction.translation_z_m, [4.0, 5.0])
    assert "translation" in prediction.note and np.isfinite(prediction.joints_px).all()


# Refusals


def test_scenes_that_cannot_be_scored():
    rigid = People("rigid", np.array([[0.0, 0, 3]]), np.array([1.7]), vertices_m=np.ones((1, 4, 3), np.float32))
    camera = Camera.from_vertical_fov(1.0, 640, 480)
    with pytest.raises(InputError, match=r"a\.jpg have body 'rigid', which has no named joints"):
        rh.predictions_from_scenes({"a.jpg": Scene(camera, rigid)})


def test_people_behind_the_camera_are_compared_as_released():
    prediction = rh.predictions_from_scenes({"a.jpg": scene("anny", shift=-5.0), "b.jpg": None})
    assert list(prediction) == ["a.jpg"]
    assert np.isfinite(prediction["a.jpg"].joints_px).all() and prediction["a.jpg"].translation_z_m[1] < 0


def test_a_scene_of_nobody_has_no_body_that_matters():
    nobody = Scene(Camera.from_vertical_fov(1.0, 640, 480), People("rigid", np.zeros((0, 3)), np.zeros(0)))
    assert len(rh.predictions_from_scenes({"a.jpg": nobody})["a.jpg"]) == 0


GOOD = {"kp2ds": FIGURE[None].tolist(), "trans": [[0.0, 0.0, 3.0]]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rh.evaluate({}, {"a.jpg": predict((1, 3))}), "no annotated images"),
        (lambda: rh.evaluate({"a.jpg": (person(1),)}, {}), "predictions are empty"),
        (lambda: rh.evaluate({"a.jpg": (person(1),)}, {"b.jpg": predict((1, 3))}), r"1 predicted images .* b\.jpg"),
        (lambda: rh.summarise([]), "at least one record"),
        (lambda: rh.summarise([rh.ImageRecord("a", 0, 0)] * 2), "one record for each image"),
        (lambda: rh.predictions_of_records({"a.jpg": GOOD | {"x": 1}}), r"a\.jpg must have the keys"),
        (lambda: rh.predictions_of_records({"a.jpg": {"kp2ds": []}}), r"a\.jpg must have the keys"),
        (
            lambda: rh.predictions_of_records({"a.jpg": GOOD | {"trans": [[0, 0, math.nan]]}}),
            r"a\.jpg: .*person 0 .*NaN",
        ),
        (lambda: rh.predictions_of_records({"a.jpg": GOOD | {"trans": [3.0]}}), r"trans must have shape \(people, 3\)"),
        (lambda: rh.predictions_of_records({"a.jpg": GOOD | {"trans": []}}), r"\(1, 14, 2\) and \(0,\)"),
        (lambda: rh.predictions_of_records({"a.jpg": GOOD | {"trans": "far"}}), "regular arrays of numbers"),
        (lambda: RelativeHumanPerson(np.zeros((13, 3)), 0, 0, 0, np.zeros(4)), r"\(14, 3\) or \(19, 3\)"),
        (lambda: RelativeHumanPerson(np.full((14, 3), math.nan), 0, 0, 0, np.zeros(4)), "keypoints_px holds NaN"),
        (lambda: RelativeHumanPerson(None, 0, 4, 0, np.zeros(4)), "age must be from -1 to 3, got 4"),
        (lambda: RelativeHumanPerson(None, -2, 0, 0, np.zeros(4)), "depth_layer must be from -1, got -2"),
        (lambda: RelativeHumanPerson(None, 0, 0, 0, np.zeros(3)), "left, top, right, bottom"),
        (lambda: people_of_record([{"kp2d": None}]), "person 0 lacks bbox, depth_id, age, gender"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_empty_record_is_an_image_without_people():
    predictions = rh.predictions_of_records({"a.jpg": {"kp2ds": [], "trans": []}})
    result = rh.evaluate({"a.jpg": (person(1), person(300))}, predictions)
    assert (result.missed, result.predicted, result["PCDR_0.2"], result["precision"]) == (2, 0, None, None)
    assert any("mean nothing" in note for note in result.notes)
