"""CMU Panoptic: hand-worked errors, the released way of matching, and nothing that depends on order."""

from __future__ import annotations

import random as shuffling
from dataclasses import replace

import numpy as np
import pytest
import smpl_people as made
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.benchmarks import panoptic
from crowdmesh.benchmarks._h36m import ANNY_NOTE, h36m_joints, mupots_predictions
from crowdmesh.benchmarks._smpl_bodies import load_bodies, smpl_truth
from crowdmesh.body import load_body, pose_people
from crowdmesh.errors import AssetError, InputError
from crowdmesh.formats import PanopticPeople
from crowdmesh.formats.joints import H36M17, H36M17_FROM_J24, J24_PELVIS
from crowdmesh.people import People
from crowdmesh.scene import Scene

UNSEEN = tuple(H36M17.index(name) for name in ("spine", "neck_base", "head_top"))
NUM_SEEN = 17 - len(UNSEEN)


def annotated(n: int = 2, seed: int = 0, sequence: str = "mafia") -> PanopticPeople:
    random = np.random.default_rng(seed)
    joints = 0.4 * random.normal(size=(n, 19, 3)) + np.arange(n)[:, None, None] * (3, 0, 0) + np.array((0, 0, 5))
    visibility = np.ones((n, 19))
    visibility[:, [H36M17_FROM_J24[j] for j in UNSEEN]] = 0
    return PanopticPeople(joints, visibility, (1920, 1080), sequence)


def exact(people: PanopticPeople) -> np.ndarray:
    """Joints of a perfect prediction: the pelvis lies 6 cm above the annotated one."""
    joints = people.joints_m.copy()
    joints[:, J24_PELVIS, 1] -= 0.06
    return joints[:, list(H36M17_FROM_J24)]


def scene(joints: np.ndarray) -> Scene:
    n = len(joints)
    return Scene(
        made.CAMERA,
        People(
            body="rigid",
            translation_m=np.zeros((n, 3)),
            stature_m=np.ones(n),
            vertices_m=np.zeros((n, 3, 3), np.float32),
            joints_m=joints.astype(np.float32),
            faces=np.array([[0, 1, 2]]),
        ),
    )


def score(people, joints, **options):
    return panoptic.summarise([panoptic.measure("a", people, joints, **options)], **options)


def test_the_pelvis_is_raised_before_anything_is_measured():
    people = annotated()
    assert score(people, exact(people))["MPJPE"] == pytest.approx(0, abs=1e-9)
    as_annotated = people.joints_m[:, list(H36M17_FROM_J24)]
    # All but the pelvis itself are then 6 cm off, the unseen ones for free.
    assert score(people, as_annotated)["MPJPE"] == pytest.approx(60 * (NUM_SEEN - 1) / 17)
    assert score(people, as_annotated, corrected=True)["MPJPE"] == pytest.approx(60 * (NUM_SEEN - 1) / NUM_SEEN)


@pytest.mark.parametrize(("joint", "visible"), [("left_wrist", True), ("spine", False)])
def test_unseen_joints_count_as_perfect(joint, visible):
    people = annotated(1)
    joints = exact(people)
    joints[0, H36M17.index(joint), 2] += 0.34
    assert score(people, joints)["MPJPE"] == pytest.approx(20 if visible else 0, abs=1e-9)
    assert score(people, joints, corrected=True)["MPJPE"] == pytest.approx(340 / 14 if visible else 0, abs=1e-9)


def test_visibility_between_0_and_1_weighs():
    people = annotated(1)
    half = people.visibility.copy()
    half[0, H36M17_FROM_J24[H36M17.index("left_wrist")]] = 0.5
    joints = exact(people)
    joints[0, H36M17.index("left_wrist"), 2] += 0.34
    assert score(replace(people, visibility=half), joints)["MPJPE"] == pytest.approx(10)


def test_where_somebody_stands_does_not_matter():
    people = annotated()
    assert score(people, exact(people) + np.array((1.0, 2.0, 30.0)))["MPJPE"] == pytest.approx(0, abs=1e-9)


def test_people_may_share_a_prediction_as_released_only():
    people = annotated(2)
    one = exact(people)[:1]
    result = score(people, one)
    assert (result.matched, result.missed, result.extra) == (2, 0, 0)
    relative = exact(people) - exact(people)[:, :1]
    apart = np.linalg.norm(relative[0] - relative[1], axis=-1)
    apart[list(UNSEEN)] = 0
    assert result["MPJPE"] == pytest.approx(1000 * apart.mean() / 2)
    assert any("1 of them one that somebody else took" in note for note in result.notes)
    corrected = score(people, one, corrected=True)
    assert (corrected.matched, corrected.missed, corrected.extra) == (1, 1, 0)
    assert corrected["MPJPE"] == pytest.approx(0, abs=1e-9) and "corrected" in corrected.protocol


def test_nearest_looks_at_joints_that_all_have_visible():
    people = annotated(2)
    hidden = people.visibility.copy()
    wrist = H36M17.index("left_wrist")
    hidden[1, H36M17_FROM_J24[wrist]] = 0
    wrong_wrist, wrong_knee = exact(people)[0], exact(people)[0].copy()
    wrong_wrist[wrist] += 1.0
    wrong_knee[H36M17.index("left_knee")] += 0.1
    record = panoptic.measure("a", replace(people, visibility=hidden), np.stack((wrong_knee, wrong_wrist)))
    assert dict((t, p) for p, t in record.pairs)[0] == 1  # its wrist is left out because the other's is hidden
    record = panoptic.measure("a", people, np.stack((wrong_knee, wrong_wrist)))
    assert dict((t, p) for p, t in record.pairs)[0] == 0


def test_extra_and_missed_people():
    people = annotated(2)
    three = np.concatenate((exact(people), exact(people)[:1] + np.random.default_rng(1).normal(size=(1, 17, 3))))
    result = score(people, three)
    assert (result.people, result.predicted, result.matched, result.extra) == (2, 3, 2, 1)
    nobody = score(people, np.zeros((0, 17, 3)))
    assert nobody["MPJPE"] is None and (nobody.matched, nobody.missed) == (0, 2)
    assert score(people, None).missed == 2
    without = score(annotated(0), exact(people))
    assert (without.people, without.predicted, without.extra) == (0, 2, 2)


def test_sequences_are_reported_apart_and_together():
    pizza, mafia = annotated(1, 1, "pizza"), annotated(3, 2, "mafia")
    off = exact(pizza)
    off[:, 2] += (0.17, 0, 0)
    annotations = {"pizza/0.jpg": pizza, "mafia/0.jpg": mafia}
    result = panoptic.evaluate(annotations, {"pizza/0.jpg": scene(off), "mafia/0.jpg": scene(exact(mafia))})
    assert result["MPJPE pizza"] == pytest.approx(10, abs=1e-3)
    assert result["MPJPE mafia"] == pytest.approx(0, abs=1e-3)
    assert result["MPJPE"] == pytest.approx(10 / 4, abs=1e-3)  # over people
    assert result["MPJPE haggling"] is None and result["MPJPE ultimatum"] is None
    assert [figure.count for figure in result.figures] == [0, 3, 0, 1, 4]
    assert result.protocol == "CMU Panoptic (official release)"


def test_smpl_surfaces_need_the_regressor(tmp_path):
    files = made.write_files(tmp_path / "smpl")
    body = made.annotation([(0, 0, 5), (1, 0, 6)])
    truth = smpl_truth(body, load_bodies(("neutral",), [files]))
    joints = truth.regressed(made.regressor())
    j24 = np.zeros((2, 19, 3))
    j24[:, list(H36M17_FROM_J24)] = joints
    j24[:, J24_PELVIS, 1] += 0.06
    people = PanopticPeople(j24, np.ones((2, 19)), (1920, 1080), "haggling")
    result = panoptic.evaluate({"a": people}, {"a": made.scene(truth)}, smpl_folders=[files])
    assert result["MPJPE haggling"] == pytest.approx(0, abs=0.01)
    with pytest.raises(AssetError, match="no J_regressor_h36m_correct"):
        panoptic.evaluate({"a": people}, {"a": made.scene(truth)}, smpl_folders=[tmp_path])
    mupots = mupots_predictions({"TS1/0.jpg": made.scene(truth)}, [files])["TS1/0.jpg"]
    np.testing.assert_allclose(mupots.joints_mm, 1000 * joints, atol=0.01)
    np.testing.assert_allclose(mupots.joints_px, made.CAMERA.project(joints), atol=0.01)
    behind = made.changed(truth, lambda points: points * (1, 1, -1))
    mirrored = mupots_predictions({"TS1/0.jpg": made.scene(behind), "TS1/1.jpg": None}, [files])
    assert list(mirrored) == ["TS1/0.jpg"] and np.isfinite(mirrored["TS1/0.jpg"].joints_px).all()


def test_anny_stands_in_with_its_named_points():
    body = load_body("anny")
    people = pose_people(
        People(
            body="anny",
            translation_m=np.array([[0.0, 0, 5]]),
            stature_m=np.ones(1),
            pose=np.concatenate(([[[-np.pi / 2, 0, 0]]], np.zeros((1, len(body.joint_names) - 1, 3))), 1),
            shape=body.default_shape(1).double().numpy(),
        )
    )
    anny = Scene(made.CAMERA, people)
    joints = dict(zip(H36M17, h36m_joints("a", anny, None)[0], strict=True))
    np.testing.assert_allclose(joints["pelvis"], (joints["left_hip"] + joints["right_hip"]) / 2)
    down = people.joints_m[0, body.joint_names.index("foot.L")] - people.joints_m[0, body.joint_names.index("neck01")]
    down = down / np.linalg.norm(down)
    order = ["head_top", "neck_base", "thorax", "spine", "pelvis", "left_knee", "left_ankle"]
    heights = [joints[name] @ down for name in order]
    assert heights == sorted(heights) and np.min(np.diff(heights)) > 0.03
    result = panoptic.evaluate({"a": annotated(1)}, {"a": anny})
    assert result.matched == 1 and ANNY_NOTE in result.notes


def test_what_cannot_be_measured_is_refused():
    people = annotated(1)
    with pytest.raises(InputError, match="predictions are empty"):
        panoptic.evaluate({"a": people}, {})
    with pytest.raises(InputError, match="not annotated, among them b"):
        panoptic.evaluate({"a": people}, {"b": scene(exact(people))})
    with pytest.raises(InputError, match=r"people of a have body 'rigid' without Human3\.6M joints"):
        panoptic.evaluate({"a": people}, {"a": scene(exact(people)[:, :5])})
    broken = exact(people)
    broken[0, 3] = np.nan
    with pytest.raises(InputError, match="predicted person 0 of a has NaN"):
        panoptic.measure("a", people, broken)
    with pytest.raises(InputError, match="one record for each image"):
        panoptic.summarise([panoptic.measure("a", people, exact(people))] * 2)
    with pytest.raises(InputError, match="unknown sequence 'tennis'"):
        replace(people, sequence="tennis")


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), corrected=st.booleans())
def test_results_do_not_depend_on_order_or_shards(seed, corrected):
    random = np.random.default_rng(seed)
    records, again = [], []
    for image in range(5):
        n, count = int(random.integers(1, 4)), int(random.integers(0, 4))
        people = annotated(n, seed + image, panoptic.SEQUENCES[image % 4])
        joints = 0.4 * random.normal(size=(count, 17, 3))
        records.append(panoptic.measure(str(image), people, joints, corrected))
        new = random.permutation(n)
        shuffled = replace(people, joints_m=people.joints_m[new], visibility=people.visibility[new])
        again.append(panoptic.measure(str(image), shuffled, joints[random.permutation(count)], corrected))
    whole = panoptic.summarise(records, corrected)
    shuffling.Random(seed).shuffle(records)
    assert panoptic.summarise(records, corrected) == whole
    other = panoptic.summarise(again, corrected)
    for one, two in zip(whole.figures, other.figures, strict=True):
        assert one.count == two.count and (one.value == two.value or one.value == pytest.approx(two.value, rel=1e-9))
