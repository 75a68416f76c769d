"""The MuPoTS-3D protocols: recorded figures of the release, cases by hand, invariances, refusals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.benchmarks import mupots
from crowdmesh.benchmarks.mupots import MuPoTSPrediction
from crowdmesh.errors import InputError
from crowdmesh.formats.joints import H36M17, H36M17_PARENTS
from crowdmesh.formats.mupots import H36M_FROM_RAW, JOINTS, MuPoTSPerson

# A figure in millimetres, pelvis at the origin, in the order of Human3.6M-17.
FIGURE = 100.0 * np.array(
    [
        (0, 0, 0), (-1, 0, 0), (-1, 4, 0), (-1, 8, 0), (1, 0, 0), (1, 4, 0), (1, 8, 0), (0, -2.5, 0), (0, -5, 0),
        (0, -6, 0), (0, -7.5, 0), (2, -5, 0), (2, -2, 0), (2, 0, 0), (-2, -5, 0), (-2, -2, 0), (-2, 0, 0),
    ]
)  # fmt: skip
PLACE = np.array([500.0, 0.0, 4000.0])
NONE = np.zeros(17, bool)


def pixels(joints_mm: np.ndarray) -> np.ndarray:
    return joints_mm[..., :2] / joints_mm[..., 2:] * 1500 + (1000, 600)


def person(joints_mm: np.ndarray, occluded: np.ndarray = NONE, universal: np.ndarray | None = None) -> MuPoTSPerson:
    return MuPoTSPerson(pixels(joints_mm), joints_mm, occluded, joints_mm if universal is None else universal)


def predict(*people: np.ndarray) -> MuPoTSPrediction:
    joints = np.array(people).reshape(-1, 17, 3)
    return MuPoTSPrediction(pixels(joints), joints)


# Recorded figures


@pytest.fixture(scope="module")
def cases(vectors):
    found = json.loads((vectors / "mupots_cases.json").read_text())
    assert len(found) == 20
    return found


def frames_of(case):
    """The annotations, predictions and recorded values of a case, by frame name."""
    for number, frame in enumerate(case["frames"]):
        people = tuple(
            MuPoTSPerson(*(np.array(value) for value in (pixels, joints, np.logical_not(visible))))
            for pixels, joints, visible in zip(frame["gt2d_h36m"], frame["gt3d_h36m"], frame["vis"], strict=True)
        )
        record = {"joints_px": frame["pred2d_h36m"], "joints_mm": frame["pred3d_h36m"]}
        yield f"{frame['seq']}/img_{number:06d}.jpg", people, record, frame


def test_recorded_figures(cases):
    for case in cases:
        frames = list(frames_of(case))
        result = mupots.evaluate(
            {name: people for name, people, _, _ in frames},
            mupots.predictions_of_records({name: record for name, _, record, _ in frames}),
        )
        official = case["official"]
        assert result["PCK (All)"] == pytest.approx(official["pck_all"], abs=1e-6)
        assert result["PCK (Match)"] == pytest.approx(official["pck_match"], abs=1e-6)
        assert result["PCK (All, H36M numbers)"] == pytest.approx(official["pck_h36m_all"], abs=1e-6)


def test_recorded_pairs_bones_and_errors(cases):
    missed = 0
    for case in cases:
        for name, people, record, frame in frames_of(case):
            measured = mupots.measure(name, people, mupots.predictions_of_records({name: record})[name])
            assert measured.pair.tolist() == frame["pair"]
            assert measured.sequence == frame["seq"]
            np.testing.assert_allclose(measured.scaled_mm, frame["scaled_pred_mpi"], rtol=0, atol=1e-6)
            np.testing.assert_allclose(measured.error_mm, frame["err_mpi"], rtol=0, atol=1e-6)
            missed += frame["pair"].count(-1)
    assert missed > 0


# Joint orders


def test_joint_orders():
    assert [JOINTS[i] for i in H36M_FROM_RAW][:7] == list(H36M17[:7])
    assert [H36M_FROM_RAW[i] for i in mupots.RAW_FROM_H36M] == list(range(17))
    # The release's order differs in the legs alone: an occlusion label speaks of the other leg.
    released = [JOINTS[H36M_FROM_RAW[i]] for i in mupots.MPI_FROM_H36M]
    assert released[8:14] == [*JOINTS[11:14], *JOINTS[8:11]]
    assert released[:8] == list(JOINTS[:8]) and released[14:] == list(JOINTS[14:])


def test_occlusion_labels_speak_of_the_other_leg_in_the_release_only():
    guess = FIGURE.copy()
    guess[3] = guess[2] + (400.0, 0.0, 0.0)  # the right shin points aside: the right ankle is off
    labels = np.array([joint == "left_ankle" for joint in JOINTS])
    truth, prediction = {"TS1/0.jpg": (person(FIGURE + PLACE, labels),)}, {"TS1/0.jpg": predict(guess + PLACE)}
    assert mupots.evaluate(truth, prediction)["PCK (All)"] == 1.0
    assert mupots.evaluate(truth, prediction, standard=True)["PCK (All)"] == pytest.approx(13 / 14)


# Cases by hand


def test_a_prediction_of_another_size_and_place_is_right_but_for_its_mpjpe():
    result = mupots.evaluate({"a": (person(FIGURE + PLACE),)}, {"a": predict(1.1 * FIGURE + PLACE + (0, 0, 300.0))})
    assert result["PCK (All)"] == result["PCK (Match)"] == 1.0
    scored = [1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16]
    assert result["MPJPE"] == pytest.approx(0.1 * np.linalg.norm(FIGURE, axis=1)[scored].mean())
    assert result["PA-MPJPE"] == pytest.approx(0.0, abs=1e-9)
    assert (result.people, result.matched, result.missed, result.extra) == (1, 1, 0, 0)


def test_missed_people_are_entirely_wrong_in_all_and_left_out_of_match():
    far = FIGURE + PLACE + (2000.0, 0.0, 0.0)
    truth = {"a": (person(FIGURE + PLACE), person(far)), "b": (person(FIGURE + PLACE),)}
    result = mupots.evaluate(truth, {"a": predict(FIGURE + PLACE)})
    assert result["PCK (All)"] == pytest.approx(1 / 3) and result["PCK (Match)"] == 1.0
    assert (result.matched, result.missed, result["MPJPE"]) == (1, 2, 0.0)
    nobody = mupots.evaluate(truth, {"a": predict(FIGURE + PLACE - (5000.0, 0.0, 0.0))})
    assert nobody["PCK (All)"] == 0.0 and nobody["PCK (Match)"] is None and nobody["MPJPE"] is None
    assert (nobody.missed, nobody.extra) == (3, 1) and any("Absent" in note for note in nobody.notes)


def test_a_person_all_of_whose_joints_are_occluded_counts_as_right():
    result = mupots.evaluate({"TS1/a": (person(FIGURE + PLACE, ~NONE),)}, {"TS1/a": predict()})
    assert result["PCK (All)"] == 1.0 and any("only occluded" in note for note in result.notes)
    standard = mupots.evaluate({"TS1/a": (person(FIGURE + PLACE, ~NONE),)}, {"TS1/a": predict()}, standard=True)
    assert standard["PCK (All)"] == 0.0


def test_people_choose_in_the_order_of_the_annotations():
    near = np.full((1, 17, 2), 100.0)
    votes = near.repeat(2, 0)
    votes[0, 5:] += 40.0  # four of the thirteen joints are near: exactly 40 pixels is not
    assert mupots.match(votes, near).tolist() == [1]
    assert mupots.match(votes, near.repeat(3, 0)).tolist() == [1, 0, -1]
    assert mupots.match(near.repeat(2, 0), near).tolist() == [0]  # the first of equals
    assert mupots.match(np.zeros((0, 17, 2)), near).tolist() == [-1]
    # Joints at (0, 0) are near, but to the data set's script they are not predicted at all.
    corner = np.full((1, 17, 2), 10.0)
    assert mupots.match(0 * corner, corner).tolist() == [0]
    assert mupots.match(0 * corner, corner, zero_is_invisible=True).tolist() == [-1]


def test_the_standard_protocol_averages_sequences_and_compares_universal_skeletons():
    wrong = FIGURE.copy()
    wrong[[3, 6]] += (0.0, -400.0, 0.0)  # both shins folded up: the ankles are 800 mm off once as long as the truth
    wrong[[3, 6], 1] -= 400.0
    half = 0.5 * FIGURE + PLACE
    right, folded = person(FIGURE + PLACE, universal=half), person(FIGURE + PLACE)
    truth = {"TS1/0.jpg": (right,), "TS1/1.jpg": (right,), "TS1/2.jpg": (right,), "data/TS2/0.jpg": (folded,)}
    prediction = {name: predict(FIGURE + PLACE) for name in truth} | {"data/TS2/0.jpg": predict(wrong + PLACE)}
    result = mupots.evaluate(truth, prediction, standard=True)
    assert result["PCK (All)"] == result["PCK (Match)"] == pytest.approx((1 + 12 / 14) / 2)
    assert any("2 sequences" in note for note in result.notes) and "standard" in result.protocol
    assert mupots.evaluate(truth, prediction)["PCK (All)"] == pytest.approx((3 + 12 / 14) / 4)
    records = [mupots.measure(name, people, prediction[name], standard=True) for name, people in truth.items()]
    np.testing.assert_allclose(records[0].scaled_mm[0], 0.5 * FIGURE[list(mupots.RAW_FROM_H36M)], atol=1e-9)
    missed = mupots.evaluate(truth, {"TS1/0.jpg": prediction["TS1/0.jpg"]}, standard=True)
    assert missed["PCK (All)"] == pytest.approx(1 / 6) and missed["PCK (Match)"] == 1.0


@given(st.integers(0, 10_000), st.floats(0.2, 5))
def test_true_bones_have_the_direction_of_the_prediction_and_the_length_of_the_truth(seed, scale):
    random = np.random.default_rng(seed)
    order = list(mupots.RAW_FROM_H36M)
    true, guess = FIGURE + random.normal(0, 30, (17, 3)), scale * (FIGURE + random.normal(0, 30, (17, 3)))
    rebuilt = mupots.with_true_bones(guess[None, order], true[None, order])[0, list(H36M_FROM_RAW)]
    np.testing.assert_allclose(rebuilt[0], 0.0)
    # Both trees have the limbs in common; spine and head are put together differently.
    for joint, parent in enumerate(H36M17_PARENTS):
        if 0 < joint < 7 or joint > 10:
            bone = rebuilt[joint] - rebuilt[parent]
            assert np.linalg.norm(bone) == pytest.approx(np.linalg.norm(true[joint] - true[parent]))
            np.testing.assert_allclose(np.cross(bone, guess[joint] - guess[parent]), 0.0, atol=1e-6)
    again = mupots.with_true_bones(rebuilt[None, order], true[None, order])[0, list(H36M_FROM_RAW)]
    np.testing.assert_allclose(again, rebuilt, atol=1e-9)


def test_a_bone_without_length_gives_no_nan():
    guess = FIGURE.copy()
    guess[2] = guess[1]
    result = mupots.evaluate({"a": (person(FIGURE + PLACE),)}, {"a": predict(guess + PLACE)})
    assert result["PCK (All)"] is not None and 0.5 < result["PCK (All)"] < 1.0


# Invariances


def random_frame(random: np.random.Generator) -> tuple[tuple[MuPoTSPerson, ...], MuPoTSPrediction | None]:
    """Up to three people side by side, two metres apart so that nobody can be taken for another."""
    count = int(random.integers(1, 4))
    places = np.arange(count)[:, None] * np.array([2000.0, 0, 0]) + (-2000.0, 0.0, 4000.0)
    truth = FIGURE + places[:, None] + random.normal(0, 20, (count, 17, 3))
    people = tuple(person(joints, random.random(17) < 0.2) for joints in truth)
    guess = truth + random.normal(0, 60, truth.shape)
    found = random.random(count) < 0.8
    prediction = MuPoTSPrediction(pixels(truth)[found], guess[found])
    return people, prediction if random.random() < 0.9 else None


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.booleans())
def test_frames_may_come_in_any_order_and_shards(seed, standard):
    random = np.random.default_rng(seed)
    frames = {f"TS{number % 3 + 1}/{number}.jpg": random_frame(random) for number in range(7)}
    records = [mupots.measure(name, people, guess, standard) for name, (people, guess) in frames.items()]
    shuffled = [records[i] for i in random.permutation(7)]
    assert mupots.summarise(shuffled[3:] + shuffled[:3], standard) == mupots.summarise(records, standard)


@given(st.integers(0, 10_000), st.booleans())
def test_people_may_come_in_any_order(seed, standard):
    random = np.random.default_rng(seed)
    people, guess = random_frame(random)
    other = guess
    if guess is not None:
        columns = random.permutation(len(guess))
        other = MuPoTSPrediction(guess.joints_px[columns], guess.joints_mm[columns])
    rows = random.permutation(len(people))
    one = mupots.summarise([mupots.measure("TS1/0", people, guess, standard)], standard)
    two = mupots.summarise([mupots.measure("TS1/0", tuple(people[i] for i in rows), other, standard)], standard)
    for figure in one.figures:
        assert two[figure.name] == (figure.value if figure.value is None else pytest.approx(figure.value, abs=1e-9))
    assert (one.matched, one.missed, one.extra) == (two.matched, two.missed, two.extra)


@given(st.integers(0, 1000))
def test_pa_mpjpe_does_not_see_rotation(seed):
    torch.manual_seed(seed)
    turned = FIGURE @ roma.random_rotmat(dtype=torch.float64).numpy().T + PLACE
    prediction = MuPoTSPrediction(pixels(FIGURE + PLACE)[None], turned[None])
    result = mupots.evaluate({"a": (person(FIGURE + PLACE),)}, {"a": prediction})
    assert result["PA-MPJPE"] == pytest.approx(0.0, abs=1e-6)


# Refusals

RECORD = {"joints_px": np.zeros((1, 17, 2)).tolist(), "joints_mm": np.zeros((1, 17, 3)).tolist()}
PERSON = person(FIGURE + PLACE)


def with_nan(key: str) -> dict:
    joints = np.array(RECORD[key])
    joints[0, 3, 1] = math.nan
    return RECORD | {key: joints}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mupots.evaluate({}, {"a": predict()}), "no annotated images"),
        (lambda: mupots.evaluate({"a": (PERSON,)}, {}), "predictions are empty"),
        (lambda: mupots.evaluate({"a": (PERSON,)}, {"b": predict()}), "1 predicted images are not annotated.*b"),
        (lambda: mupots.evaluate({"a": (PERSON,)}, {"a": predict()}, True), "needs a sequence .* frame a lacks"),
        (
            lambda: mupots.evaluate(
                {"TS1/a": (MuPoTSPerson(PERSON.joints_px, PERSON.joints_mm, NONE),)}, {"TS1/a": predict()}, True
            ),
            "needs the universal skeleton .* TS1/a",
        ),
        (lambda: mupots.summarise([]), "at least one record"),
        (lambda: mupots.predictions_of_records({"a": RECORD | {"x": 1}}), "a must have the keys"),
        (lambda: mupots.predictions_of_records({"a": with_nan("joints_mm")}), "a: joints_mm .* person 0 .* NaN"),
        (lambda: mupots.predictions_of_records({"a": with_nan("joints_px")}), "a: joints_px .* person 0 .* NaN"),
        (lambda: mupots.predictions_of_records({"a": RECORD | {"joints_mm": []}}), "1 people .* 0 have joints_mm"),
        (lambda: mupots.predictions_of_records({"a": RECORD | {"joints_mm": "x"}}), "regular arrays of numbers"),
        (lambda: MuPoTSPrediction(np.zeros((1, 16, 2)), np.zeros((1, 17, 3))), r"\(people, 17, 2\)"),
        (lambda: MuPoTSPerson(np.zeros((16, 2)), FIGURE, NONE), r"joints_px must have shape \(17, 2\)"),
        (lambda: MuPoTSPerson(np.zeros((17, 2)), FIGURE * math.nan, NONE), "joints_mm holds NaN"),
        (lambda: MuPoTSPerson(np.zeros((17, 2)), FIGURE, np.zeros(17)), "17 truth values"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
