"""What validation says: people found and missed, every error where the answer is known, and one score to choose by."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_mahmr import tiny

from crowdmesh.body import load_body
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.metrics import Detections
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.training.judging import (
    MATCH_AT_MOST,
    UNKNOWN_AGE,
    WORST_DEPTH,
    Judged,
    KnownPeople,
    SeenPeople,
    age_groups,
    judge_image,
    match_people,
)
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.mixing import DataPart
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample
from crowdmesh.training.scene_judging import judge_scenes, known_of_scene, seen_of_scene
from crowdmesh.training.targets import Example
from crowdmesh.training.validation import Validator, judge_examples, see

CAMERA = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)


def crowd(depths: tuple[float, ...] = (3.0, 4.0, 6.0), ages: tuple[float, ...] = (30.0, 5.0, 1.0)) -> Scene:
    """People of these ages standing side by side at these depths."""
    body = load_body("anny")
    count = len(depths)
    shape = body.default_shape(count, np.nan_to_num(ages, nan=40.0), 0.5)
    pose = np.zeros((count, len(body.joint_names), 3))
    pose[:, 0] = (np.pi / 2, 0.0, 0.0)  # upright, facing the camera
    place = np.stack((np.linspace(-0.4, 0.4, count) * depths, np.full(count, 0.2), np.array(depths)), 1)
    people = People(
        "anny", place, body.stature(shape).numpy(), pose=pose, shape=shape.double().numpy(), age_years=np.array(ages)
    )  # fmt: skip
    return Scene(CAMERA, people)


def moved(truth: Scene, shift_m: tuple[float, float, float], person: int) -> Scene:
    place = truth.people.translation_m.copy()
    place[person] += shift_m
    return replace(truth, people=replace(truth.people, translation_m=place))


def changed(known: KnownPeople, **values) -> KnownPeople:
    return replace(known, **values)


class TestMatching:
    def test_the_truth_is_found_whole_and_without_error(self):
        figures = judge_scenes([crowd()], [crowd()]).figures()
        assert figures["recall_percent"] == figures["precision_percent"] == figures["pcdr_percent"] == 100.0
        assert figures["order_percent"] == 100.0 and figures["people"] == 3.0
        for name in ("score", "mpjpe_mm", "place_cm", "depth_percent", "stature_cm", "fov_deg", "keypoints_percent"):
            assert figures[name] == pytest.approx(0.0, abs=1e-6), name

    def test_the_order_of_predictions_does_not_matter(self):
        truth = crowd()
        shuffled = replace(truth, people=truth.people[[2, 0, 1]])
        seen, known = seen_of_scene(shuffled, "body22"), known_of_scene(truth, "body22")
        assert match_people(seen, known)[0].tolist() == [1, 2, 0]
        assert judge_image(seen, known).score == pytest.approx(0.0, abs=1e-6)

    def test_a_wrong_depth_on_the_same_pixels_is_no_miss(self):
        truth = crowd((3.0,), (30.0,))
        seen = seen_of_scene(truth, "body22")
        twice = replace(seen, joints_m=2 * seen.joints_m, depth_m=2 * seen.depth_m)
        judged = judge_image(twice, known_of_scene(truth, "body22"))
        assert judged.people == Detections(1, 0, 0)
        assert judged.depth.mean == pytest.approx(1.0)
        assert judged.pa_mpjpe_m.mean == pytest.approx(0.0, abs=1e-9)

    def test_who_stands_elsewhere_is_missed_and_invented(self):
        truth = crowd()
        judged = judge_scenes([moved(truth, (9.0, 0.0, 0.0), 1)], [truth])
        assert judged.people == judged.complete == Detections(2, 1, 1)
        assert judged.score == pytest.approx(2 / 4, abs=1e-6)

    def test_invented_people_count_only_where_everybody_is_labelled(self):
        truth = crowd()
        some = replace(truth, people=truth.people[[0]])
        assert judge_scenes([truth], [some]).people.extra == 2
        judged = judge_scenes([truth], [some], everybody=False)
        assert judged.people == Detections(1, 0, 0) and judged.complete == Detections()
        assert judged.figures()["precision_percent"] is None and judged.score == pytest.approx(0.0, abs=1e-6)

    def test_hidden_people_are_neither_missed_nor_invented(self):
        truth = crowd()
        visible = np.array([True, False, True])
        for predicted in (truth, replace(truth, people=truth.people[[0, 2]])):
            judged = judge_scenes([predicted], [truth], [visible])
            assert judged.people == Detections(2, 0, 0)
            assert judged.relations[0].pairs.whole == 1 and judged.relations[0].missed == 0

    def test_people_of_no_extent_are_nobodys_match(self):
        known = known_of_scene(crowd(), "body22")
        one = np.zeros_like(known.joints_px_known)
        one[:, 3] = True
        judged = judge_image(seen_of_scene(crowd(), "body22"), changed(known, joints_px_known=one))
        assert judged.people.matched == 0 and judged.people.missed == 3

    def test_the_limit_is_a_share_of_the_extent(self):
        known = known_of_scene(crowd((3.0,), (30.0,)), "body22")
        seen = seen_of_scene(crowd((3.0,), (30.0,)), "body22")
        points = known.joints_px[0][known.joints_px_known[0]]
        extent = np.linalg.norm(points.max(0) - points.min(0))
        for share, matched in ((0.99, 1), (1.01, 0)):
            shifted = replace(seen, joints_px=seen.joints_px + np.array((share * MATCH_AT_MOST * extent, 0.0)))
            judged = judge_image(shifted, known)
            assert judged.people.matched == matched
        assert judged.figures()["mpjpe_mm"] is None and judged.score == 1.0


class TestFigures:
    def test_a_step_to_the_side_is_place_and_no_pose(self):
        truth = crowd((3.0, 4.0), (30.0, 30.0))
        figures = judge_scenes([moved(truth, (0.1, 0.0, 0.0), 0)], [truth]).figures()
        assert figures["place_cm"] == pytest.approx(5.0, abs=1e-3)  # 10 cm of one of two people
        assert figures["mpjpe_mm"] == pytest.approx(0.0, abs=1e-3)
        assert figures["depth_percent"] == pytest.approx(0.0, abs=1e-6)

    def test_statures_and_relations_by_age(self):
        truth = crowd((3.0, 4.0, 6.0), (30.0, 5.0, math.nan))
        stature = truth.people.stature_m + np.array((0.02, -0.04, 0.5))
        predicted = replace(truth, people=replace(truth.people, stature_m=stature))
        judged = judge_scenes([predicted], [truth])
        figures = judged.figures()
        assert figures["stature_adult_cm"] == pytest.approx(2.0) and figures["stature_kid_cm"] == pytest.approx(4.0)
        assert figures["stature_baby_cm"] is None and judged.stature_m[UNKNOWN_AGE].count == 1
        assert figures["stature_cm"] == pytest.approx(56 / 3)
        assert [counts.pairs.whole for counts in judged.relations] == [3, 0, 2, 0, 2]

    def test_relations_by_hand(self):
        """Depths 3, 3.1 and 6 m: of one layer the first two. Seen at 3, 3.3 and 2 m: all three pairs wrong."""
        truth = crowd((3.0, 3.1, 6.0), (30.0, 30.0, 30.0))
        known, seen = known_of_scene(truth, "body22"), seen_of_scene(truth, "body22")
        wrong = judge_image(replace(seen, depth_m=np.array([3.0, 3.3, 2.0])), known)
        assert wrong.relations[0].pcdr == 0.0
        assert wrong.order.part == 1 and wrong.order.whole == 3
        layered = changed(known, depth_m=np.full(3, np.nan), depth_layers=np.array([0, 0, 1]))
        judged = judge_image(replace(seen, depth_m=np.array([3.0, 3.1, 6.0])), layered)
        assert judged.relations[0].pcdr == 1.0 and judged.order.whole == 0 and judged.depth.count == 0

    def test_a_missed_person_costs_relations_and_order(self):
        truth = crowd()
        predicted = replace(truth, people=truth.people[[0, 1]])
        judged = judge_scenes([predicted], [truth])
        assert judged.relations[0].pcdr == pytest.approx(1 / 1.3)
        assert judged.order.part == 1 and judged.order.whole == 3

    def test_field_of_view(self):
        truth = crowd()
        narrow = replace(truth, camera=Camera.from_vertical_fov(CAMERA.vertical_fov - math.radians(3.0), 640, 480))
        assert judge_scenes([narrow], [truth]).figures()["fov_deg"] == pytest.approx(3.0)

    def test_image_labels_alone_are_enough_for_a_score(self):
        """As of a data set with keypoints only: nothing in space is judged, and the score is the keypoints'."""
        truth = crowd()
        known = known_of_scene(truth, "body22")
        flat = changed(
            known,
            joints_m_known=np.zeros_like(known.joints_m_known), depth_m=np.full(3, np.nan),
            stature_m=np.full(3, np.nan), vertical_fov=math.nan,
        )  # fmt: skip
        seen = seen_of_scene(truth, "body22")
        judged = judge_image(replace(seen, joints_px=seen.joints_px + np.array((2.0, 0.0))), flat)
        figures = judged.figures()
        for name in ("mpjpe_mm", "depth_percent", "stature_cm", "fov_deg", "pcdr_percent", "place_cm"):
            assert figures[name] is None, name
        assert judged.keypoints.mean is not None
        assert judged.score == pytest.approx(judged.keypoints.mean / MATCH_AT_MOST)

    def test_the_score_of_a_depth_error_by_hand(self):
        truth = crowd((4.0,), (30.0,))
        known, seen = known_of_scene(truth, "body22"), seen_of_scene(truth, "body22")
        judged = judge_image(replace(seen, depth_m=1.1 * known.depth_m), known)
        assert judged.score == pytest.approx(0.1 / WORST_DEPTH / 3)  # one of three parts
        far = judge_image(replace(seen, depth_m=9.0 * known.depth_m), known)
        assert far.score == pytest.approx(1 / 3)  # no part is worse than a miss

    def test_unknown_joints_are_not_judged(self):
        truth = crowd()
        known, seen = known_of_scene(truth, "body22"), seen_of_scene(truth, "body22")
        some = known.joints_m_known.copy()
        some[:, -4:] = False
        lost = np.where(some[..., None], known.joints_m, np.nan)
        judged = judge_image(seen, changed(known, joints_m=lost, joints_m_known=some))
        assert judged.mpjpe_m.mean == pytest.approx(0.0, abs=1e-9) and judged.mpjpe_m.count == 3
        some[:, known.root[0]] = False
        assert judge_image(seen, changed(known, joints_m_known=some)).mpjpe_m.count == 0


@pytest.fixture(scope="module")
def parts() -> list[Judged]:
    truth = crowd()
    return [judge_scenes([moved(truth, (0.05 * i, 0.0, 0.1 * i), i % 3)], [truth]) for i in range(4)]


class TestMerging:
    @settings(max_examples=20)
    @given(order=st.permutations(range(4)), cut=st.integers(0, 4))
    def test_any_split_and_order_gives_the_same_figures(self, parts, order, cut):
        whole = Judged.merged(parts)
        chosen = [parts[i] for i in order]
        merged = Judged.merged(chosen[:cut]) + Judged.merged(chosen[cut:])
        assert merged.figures() == whole.figures()

    def test_nothing_at_all(self):
        empty = replace(crowd(), people=crowd().people[[]])
        judged = judge_scenes([empty], [empty])
        assert judged.images == 1 and judged.score is None
        assert Judged.merged([]).figures()["score"] is None

    def test_bodies_of_another_kind_are_comparable(self):
        """People of the finer mesh are the same people."""
        from crowdmesh.body import pose_people

        truth = crowd()
        fine = replace(truth, people=pose_people(truth.people, load_body("anny-hd")))
        mean = judge_scenes([fine], [truth]).mpjpe_m.mean
        assert mean is not None and mean < 0.005

    def test_refusals(self):
        with pytest.raises(InputError, match="1 predicted scenes for 2 true ones"):
            judge_scenes([crowd()], [crowd()] * 2)
        small = replace(crowd(), camera=CAMERA.scaled(320, 240))
        with pytest.raises(InputError, match="predicted of a"):
            judge_scenes([small], [crowd()])
        seen = seen_of_scene(crowd(), "body22")
        with pytest.raises(InputError, match="one layout"):
            judge_image(seen, known_of_scene(crowd(), "coco17"))


def test_where_layers_are_all_that_is_known_wrong_relations_are_the_depth():
    """Three people in three layers, in place in the image; the second is put behind the third: one of two each."""
    known = known_of_scene(crowd((3.0, 4.0, 6.0)), "body22")
    known = changed(
        known, joints_m_known=np.zeros_like(known.joints_m_known), depth_m=np.full(3, np.nan), depth_layers=np.arange(3)
    )
    seen = seen_of_scene(crowd((3.0, 4.0, 6.0)), "body22")
    assert judge_image(seen, known).score == pytest.approx(0.0, abs=1e-6)
    wrong = replace(seen, depth_m=np.array([3.0, 7.0, 6.0]))
    assert judge_image(wrong, known).score == pytest.approx((0 + 0.25 + 0.25) / 3, abs=1e-6)
    unknown = changed(known, depth_layers=np.array([0, -1, -1]))
    assert judge_image(wrong, unknown).score == pytest.approx(0.0, abs=1e-6)


def test_age_groups():
    assert age_groups(np.array([0.0, 2.99, 3.0, 7.99, 8.0, 14.99, 15.0, 90.0, math.nan])).tolist() == [
        0, 0, 1, 1, 2, 2, 3, 3, UNKNOWN_AGE,
    ]  # fmt: skip


def test_seen_people_know_their_number():
    none = SeenPeople(np.zeros((0, 22, 3)), np.zeros((0, 22, 2)), np.zeros(0), np.zeros(0))
    assert len(none) == 0
    judged = judge_image(none, known_of_scene(crowd(), "body22"))
    assert judged.people == Detections(0, 3, 0) and judged.score == 1.0 and judged.fov.count == 0


class Crowds:
    """A data set of crowds on images of noise; the indices in ``broken`` cannot be read."""

    name = "crowds"

    def __init__(self, count: int = 6, broken: tuple[int, ...] = ()) -> None:
        self.count, self.broken = count, broken
        self.people = crowd().people

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> TrainingSample:
        if index in self.broken:
            raise InputError(f"image {index} does not exist")
        people = self.people[[index % 3]]
        assert people.pose is not None and people.shape is not None
        labels = LabelledPeople(
            1, "anny", pose=people.pose, betas=people.shape, translation_m=people.translation_m,
            age_years=people.age_years,
        )  # fmt: skip
        image = np.random.default_rng(index).integers(0, 255, (480, 640, 3), dtype=np.uint8)
        truth = Supervision(True, True, True, True, True)
        return TrainingSample(f"crowds/{index}", self.name, image, CAMERA.K, labels, truth)


def validator(dataset: Crowds, model, images: int = 4, **options) -> Validator:
    return Validator([dataset], [DataPart("world")], model.config, LossConfig(), images, 0, **options)


def biased(certain: float):
    """A small network all of whose queries have about this confidence."""
    model = tiny()
    with torch.no_grad():
        model.heads.confidence.weight.zero_()
        model.heads.confidence.bias.fill_(math.log(certain / (1 - certain)))
    return model


class TestValidator:
    def test_a_network_that_sees_nobody(self):
        model = biased(0.01)
        validation = validator(Crowds(), model)(model)
        assert validation.score == validation.figures["score"] == 1.0
        assert validation.figures["recall_percent"] == 0.0 and validation.figures["precision_percent"] is None
        assert validation.figures["images"] == 4.0 and validation.figures["mpjpe_mm"] is None
        assert (validation.figures["loss"] or 0) > 0 and (validation.figures["fov_deg"] or 0) > 0

    def test_a_network_that_sees_people_everywhere(self):
        model = biased(0.9)
        figures = validator(Crowds(), model)(model).figures
        assert (figures["precision_percent"] or 0) <= 100 / model.config.queries

    def test_labels_made_of_what_the_network_sees_are_found_without_error(self):
        """Targets replaced by the network's own answer: all in place, whatever pixels and layout."""
        model = biased(0.9)
        (example,) = validator(Crowds(), model, images=1).examples(0)
        (own,) = see(model, [example])
        first = slice(0, 1)
        targets = replace(
            example.targets,
            joints_3d=torch.from_numpy(own.joints_m[first]), joints_2d=torch.from_numpy(own.joints_px[first]),
            joints_2d_mask=torch.ones(1, own.joints_m.shape[1], dtype=torch.bool),
            joints_3d_mask=torch.ones(1, own.joints_m.shape[1], dtype=torch.bool),
            depth_m=torch.from_numpy(own.depth_m[first]), vertical_fov=torch.tensor(own.vertical_fov),
            everybody=torch.tensor(False),
        )  # fmt: skip
        judged = judge_examples(model, [Example(example.pixels, targets)])
        assert judged.people == Detections(1, 0, 0) and judged.score == pytest.approx(0.0, abs=1e-5)
        assert judged.fov.mean == pytest.approx(0.0, abs=1e-6)

    def test_the_same_images_every_time_and_nothing_else_changes(self):
        model = biased(0.9).train()
        judge = validator(Crowds(), model, images=2)
        state = torch.get_rng_state()
        assert judge(model).figures == judge(model).figures
        assert judge.chosen == validator(Crowds(), model, images=2).chosen
        assert torch.equal(torch.get_rng_state(), state) and model.training
        assert all(parameter.grad is None for parameter in model.parameters())
        assert len(set(judge.chosen[0])) == 2

    def test_several_parts_count_alike(self):
        model = biased(0.01)
        parts = [DataPart("world"), DataPart("set")]
        judged = Validator([Crowds(20), Crowds(2)], parts, model.config, None, 8, 0)(model)
        assert judged.figures["world/images"] == 4.0 and judged.figures["set/images"] == 2.0
        assert judged.figures["images"] == 6.0 and judged.figures["loss"] is None and judged.score == 1.0

    def test_two_splits_of_one_set_have_names_of_their_own(self):
        parts = [DataPart("agora"), DataPart("agora", split="validation"), DataPart("set", "A"), DataPart("set", "B")]
        judge = Validator([Crowds(2)] * 4, parts, biased(0.01).config, None, 4, 0)
        assert judge.names == ("agora:train", "agora:validation", "set:A", "set:B")

    def test_one_image_of_every_part_is_tried_before_anything_is_learned(self):
        judge = Validator(
            [Crowds(4), Crowds(4, broken=(0,))], [DataPart("world"), DataPart("set")], biased(0.01).config, None, 8, 0
        )
        with pytest.raises(InputError, match=r"of set to validate on cannot be used.*image 0 does"):
            judge.try_out()

    def test_images_that_cannot_be_read(self):
        model = biased(0.01)
        with pytest.raises(InputError, match=r"the 4 images of world to validate on cannot be used.*image 2 does"):
            validator(Crowds(4, broken=(2,)), model)(model)
        judge = validator(Crowds(4, broken=(2,)), model, images=4)
        judge.chosen = ((0, *[1] * 98, 2),)
        assert len(list(judge.examples(0))) == 99 and list(judge.skipped) == ["world 2"]

    def test_refusals(self):
        model = biased(0.01)
        with pytest.raises(InputError, match="has no images"):
            validator(Crowds(0), model)
        with pytest.raises(InputError, match="nothing to validate on"):
            Validator([], [], model.config, None, 8, 0)
        with pytest.raises(InputError, match="named twice"):
            Validator([Crowds()] * 2, [DataPart("world")] * 2, model.config, None, 8, 0)
        with pytest.raises(InputError, match="nobody is labelled"):
            validator(Crowds(), model, make_example=lambda sample, pixels, rng: None)(model)
        with torch.no_grad():
            model.heads.placement.last.bias.fill_(math.nan)
        with pytest.raises(InputError, match=r"crowds/.* is not finite"):
            validator(Crowds(), model)(model)
