"""3DPW, Hi4D, AGORA and BEDLAM: analytic errors, hand-worked matchings, and nothing that depends on order."""

from __future__ import annotations

import random as shuffling
from dataclasses import replace

import numpy as np
import pytest
import smpl_people as made
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.benchmarks import agora, hi4d, pw3d
from crowdmesh.benchmarks._mesh_protocol import MeshRecord, mesh_prediction
from crowdmesh.benchmarks._smpl_bodies import load_bodies, load_regressor, smpl_truth
from crowdmesh.body import load_body
from crowdmesh.camera import Camera
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.formats.joints import H36M14
from crowdmesh.people import People
from crowdmesh.scene import Scene

THREE = [(-1.2, 0.0, 5.0), (0.0, 0.1, 6.0), (1.3, 0.0, 5.5)]
TINY_MM = 0.01  # predictions are stored in single precision


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return made.write_files(tmp_path_factory.mktemp("assets") / "smpl")


@pytest.fixture(scope="module")
def bodies(files):
    return load_bodies(("neutral", "male", "female"), [files])


@pytest.fixture(scope="module")
def people():
    return made.annotation(THREE)


@pytest.fixture(scope="module")
def truth(people, bodies):
    return smpl_truth(people, bodies)


def shifted(*metres):
    """A function that moves points."""
    return lambda points: points + np.array(metres)


def errors_of(result, *names):
    return [result[name] for name in names or ("MPJPE", "PA-MPJPE", "MVE", "height error")]


class TestTruth:
    def test_the_world_is_brought_into_the_camera(self, people, truth, bodies):
        import torch

        rest = bodies["neutral"].rest_joints(torch.from_numpy(np.pad(people.betas, ((0, 0), (0, 1)))))[:, 0].numpy()
        pelvis = (people.camera_rotation @ rest[..., None])[..., 0] + THREE
        np.testing.assert_allclose(truth.joints_m[:, 0], pelvis, atol=1e-9)
        np.testing.assert_allclose(truth.translation_m + rest, pelvis, atol=1e-9)  # as docs/conventions.md has it
        head, foot = truth.joints_m[:, 15, 1], truth.joints_m[:, 7, 1]
        assert np.all(head < foot)  # y points down, people stand
        np.testing.assert_allclose(truth.joints_px, made.CAMERA.project(truth.joints_m), atol=1e-3)

    def test_gender_chooses_the_model(self, people, bodies, truth):
        genders = ("neutral", "female", "male")
        mixed = smpl_truth(replace(people, genders=genders, betas=np.zeros((3, 10))), bodies)
        neutral = smpl_truth(replace(people, betas=np.zeros((3, 10))), bodies)
        ratio = mixed.stature_m / neutral.stature_m
        np.testing.assert_allclose(ratio, (1, made.FEMALE_SCALE, made.MALE_SCALE), rtol=1e-6)

    def test_stature_is_that_of_the_t_pose(self, people, bodies, truth):
        import torch

        surface, _ = bodies["neutral"].rest(torch.from_numpy(np.pad(people.betas, ((0, 0), (0, 1)))))
        np.testing.assert_allclose(truth.stature_m, np.ptp(surface.numpy()[..., 1], axis=1))

    def test_the_kid_axis_is_cut_off_unless_asked_for(self, people, bodies):
        kids = replace(people, betas=np.pad(people.betas, ((0, 0), (0, 1)), constant_values=1.0))
        np.testing.assert_array_equal(smpl_truth(kids, bodies).stature_m, smpl_truth(people, bodies).stature_m)
        assert np.all(smpl_truth(kids, bodies, kid_axis=True).stature_m < 0.6 * smpl_truth(people, bodies).stature_m)

    def test_missing_files_say_where_to_get_them(self, tmp_path):
        with pytest.raises(
            AssetError, match=r"no female SMPL model found at .*smpl\.is\.tue\.mpg\.de.*'female' in its"
        ):
            load_bodies(("female",), [tmp_path])
        with pytest.raises(AssetError, match=r"no J_regressor_h36m_correct\.npy found at .*comes with.*put it there"):
            load_regressor([tmp_path])
        np.save(tmp_path / "J_regressor_h36m_correct.npy", np.ones((17, 6890)))
        with pytest.raises(FormatError, match=r"rows of a joint regressor must sum up to 1"):
            load_regressor([tmp_path])
        np.save(tmp_path / "J_regressor_h36m_correct.npy", np.ones((24, 6890)))
        with pytest.raises(FormatError, match=r"must be a \(17, 6890\) matrix"):
            load_regressor([tmp_path])
        np.save(tmp_path / "body_verts_smpl.npy", np.array([6890]))
        with pytest.raises(FormatError, match=r"vertex numbers from 0 to 6889, got up to 6890"):
            agora.load_body_vertices([tmp_path])


class TestErrors:
    """Predictions that differ from the truth in a known way."""

    def score(self, people, predicted, files, **options):
        return pw3d.evaluate({"a": people}, {"a": made.scene(predicted)}, smpl_folders=[files], **options)

    def test_the_truth_has_no_error(self, people, truth, files):
        result = self.score(people, truth, files)
        assert max(errors_of(result)) < TINY_MM
        assert (result["precision"], result["recall"], result["F1"]) == (1, 1, 1)
        assert (result.people, result.matched, result.missed, result.extra) == (3, 3, 0, 0)
        assert result.protocol == "3DPW (official release)"

    def test_a_shift_is_taken_out(self, people, truth, files):
        moved = made.changed(truth, shifted(0.02, -0.03, 0.1))
        assert max(errors_of(self.score(people, moved, files))) < TINY_MM

    def test_a_scale_is_an_error_that_procrustes_takes_out(self, people, truth, files):
        joints = truth.regressed(made.regressor())
        centre = joints[:, :1]
        scaled = made.changed(truth, lambda points: centre + 1.1 * (points - centre))
        expected = 100 * np.linalg.norm(joints - centre, axis=-1)[:, H36M14].mean()
        surface = 100 * np.linalg.norm(truth.vertices_m - centre, axis=-1).mean()
        values = errors_of(self.score(people, scaled, files))
        np.testing.assert_allclose(values, (expected, 0, surface, 0), atol=TINY_MM)

    def test_a_turn_is_an_error_that_procrustes_takes_out(self, people, truth, files):
        joints = truth.regressed(made.regressor())
        centre, angle = joints[:, :1], 0.2
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        turned = made.changed(truth, lambda points: centre + (points - centre) @ turn.T)
        across = np.linalg.norm((joints - centre)[..., [0, 2]], axis=-1)[:, H36M14]
        values = errors_of(self.score(people, turned, files))
        np.testing.assert_allclose(values[0], (2000 * np.sin(angle / 2) * across).mean(), atol=TINY_MM)
        assert values[1] < TINY_MM

    def test_one_vertex(self, people, truth, files):
        vertices = truth.vertices_m.copy()
        vertices[:, 3, 2] += 0.1  # around no joint of the made-up regressor
        values = errors_of(self.score(people, replace(truth, vertices_m=vertices), files))
        np.testing.assert_allclose(values, (0, 0, 100 / 6890, 0), atol=1e-3)

    def test_height_error_in_millimetres(self, people, truth, files):
        stature = truth.stature_m + np.array((0.05, -0.1, 0.0))
        values = errors_of(self.score(people, replace(truth, stature_m=stature), files))
        np.testing.assert_allclose(values[3], 50, atol=1e-6)

    def test_every_pair_enters_the_mean_once(self, people, truth, files):
        joints = truth.regressed(made.regressor())
        predicted = made.changed(
            truth, lambda p: joints[:, :1] + np.array([1.0, 1.1, 1.3])[:, None, None] * (p - joints[:, :1])
        )
        lengths = 1000 * np.linalg.norm(joints - joints[:, :1], axis=-1)[:, H36M14].mean(1)
        result = self.score(people, predicted, files)
        assert result["MPJPE"] == pytest.approx((0.1 * lengths[1] + 0.3 * lengths[2]) / 3, abs=TINY_MM)
        assert result.figures[0].count == 3

    def test_smpl_scenes_are_posed_with_the_users_model(self, people, truth, files, monkeypatch):
        monkeypatch.setenv("CROWDMESH_ASSETS", str(files.parent))
        import roma
        import torch

        rotations = torch.from_numpy(people.camera_rotation) @ roma.rotvec_to_rotmat(
            torch.from_numpy(people.pose[:, 0])
        )
        pose = people.pose.copy()
        pose[:, 0] = roma.rotmat_to_rotvec(rotations).numpy()
        predicted = People(
            body="smpl",
            translation_m=truth.translation_m,
            stature_m=truth.stature_m,
            pose=pose,
            shape=np.pad(people.betas, ((0, 0), (0, 1))),
        )
        result = pw3d.evaluate({"a": people}, {"a": Scene(made.CAMERA, predicted)})
        assert max(errors_of(result)) < TINY_MM and result.matched == 3


class TestCounting:
    def test_missed_and_extra_people(self, people, truth, files):
        behind = made.changed(truth[[0]], shifted(0, 0, 60))
        both = replace(
            truth,
            **{
                name: np.concatenate((getattr(truth[[0, 2]], name), getattr(behind, name)))
                for name in truth.__dataclass_fields__
            },
        )
        result = pw3d.evaluate({"a": people}, {"a": made.scene(both)}, smpl_folders=[files])
        assert (result.people, result.matched, result.missed) == (3, 2, 1)
        assert (result.predicted, result.extra) == (3, 1)
        assert result["recall"] == round(2 / 3, 2) == 0.67 and result["precision"] == 0.67
        assert result["MPJPE"] < TINY_MM  # the missed do not enter
        corrected = pw3d.evaluate({"a": people}, {"a": made.scene(both)}, corrected=True, smpl_folders=[files])
        assert corrected["recall"] == 2 / 3
        assert "corrected" in corrected.protocol and any("not the released" in note for note in corrected.notes)

    def test_corrected_errors_over_f1(self, people, truth, files):
        centre = truth.regressed(made.regressor())[:, :1]
        scaled = made.changed(truth, lambda points: centre + 1.1 * (points - centre))[[0, 1]]
        result = pw3d.evaluate({"a": people}, {"a": made.scene(scaled)}, corrected=True, smpl_folders=[files])
        assert result["F1"] == pytest.approx(0.8)
        assert result["NMJE"] == pytest.approx(result["MPJPE"] / 0.8)
        assert result["NMVE"] == pytest.approx(result["MVE"] / 0.8)

    def test_images_without_people_or_prediction(self, people, truth, files):
        empty = Scene(made.CAMERA, People(body="smpl", translation_m=np.zeros((0, 3)), stature_m=np.zeros(0)))
        predictions = {"a": made.scene(truth), "b": empty, "d": made.scene(truth)}
        annotations = {"a": people, "b": people, "c": people, "d": made.annotation([])}
        result = pw3d.evaluate(annotations, predictions, smpl_folders=[files])
        assert (result.images, result.people, result.matched, result.missed) == (4, 9, 3, 6)
        assert (result.predicted, result.extra) == (6, 3)
        nobody = pw3d.evaluate({"a": people}, {"a": empty}, smpl_folders=[files])
        assert nobody["MPJPE"] is None and nobody["recall"] == 0 and nobody["precision"] is None
        assert any("nothing to measure: MPJPE" in note for note in nobody.notes)

    def test_what_cannot_be_measured_is_refused(self, people, truth, files):
        scene = made.scene(truth)
        with pytest.raises(InputError, match="predictions are empty"):
            pw3d.evaluate({"a": people}, {}, smpl_folders=[files])
        with pytest.raises(InputError, match="no annotated images"):
            pw3d.evaluate({}, {"a": scene}, smpl_folders=[files])
        with pytest.raises(InputError, match="1 predicted images are not annotated, among them b"):
            pw3d.evaluate({"a": people}, {"a": scene, "b": scene}, smpl_folders=[files])
        anny = load_body("anny")
        people_of_anny = People(
            body="anny",
            translation_m=np.zeros((1, 3)),
            stature_m=np.ones(1),
            pose=np.zeros((1, len(anny.joint_names), 3)),
            shape=np.zeros((1, len(anny.shape_params))),
        )
        with pytest.raises(
            InputError, match=r"people of a have body 'anny', but 3DPW compares the 6890 vertices of SMPL"
        ):
            pw3d.evaluate({"a": people}, {"a": Scene(made.CAMERA, people_of_anny)}, smpl_folders=[files])
        few = replace(scene, people=replace(scene.people, joints_m=None))
        with pytest.raises(InputError, match=r"joints_m \(people, 24, 3\).*got \(3, 6890, 3\) and none"):
            pw3d.evaluate({"a": people}, {"a": few}, smpl_folders=[files])
        joints = truth.joints_m.copy()
        joints[1, 3] = np.nan
        with pytest.raises(InputError, match="joints_m holds NaN"):
            made.scene(replace(truth, joints_m=joints))

    def test_matching_does_not_depend_on_the_size_of_the_image(self, people, truth):
        """Twice the resolution, twice the intrinsics: the same boxes after scaling to 1288 pixels."""
        camera = Camera(2400.0, 2400.0, 1288.0, 724.0, 2576, 1448)
        large = replace(truth, joints_px=2 * truth.joints_px)
        moved = made.changed(truth, shifted(0.4, 0, 0))
        errors = pw3d.errors_with(made.regressor())
        small = pw3d.measure("a", truth, made.scene(moved), errors)
        double = pw3d.measure("a", large, made.scene(moved, camera), errors)
        assert small.pairs == double.pairs

    def test_hi4d_is_the_same_protocol(self, people, truth, files):
        moved = made.scene(made.changed(truth, lambda points: 1.05 * points, 0.02))
        one = pw3d.evaluate({"a": people}, {"a": moved}, smpl_folders=[files])
        other = hi4d.evaluate({"a": people}, {"a": moved}, smpl_folders=[files])
        assert one.figures == other.figures and other.protocol == "Hi4D (official release)"


class TestOrder:
    @settings(max_examples=20)
    @given(seed=st.integers(0, 10**6), corrected=st.booleans())
    def test_results_do_not_depend_on_the_order_of_images_or_shards(self, seed, corrected):
        random = np.random.default_rng(seed)
        names = ("MPJPE", "PA-MPJPE", "MVE", "height error")
        records = []
        for image in range(6):
            pairs = int(random.integers(0, 4))
            errors = {name: tuple(random.exponential(60, pairs).tolist()) for name in names}
            records.append(MeshRecord(f"{image}", pairs + 1, pairs + 2, tuple((i, i) for i in range(pairs)), errors))
        whole = pw3d.summarise(records, corrected)
        shuffling.Random(seed).shuffle(records)
        assert pw3d.summarise(iter(records), corrected) == whole

    @settings(max_examples=6)
    @given(seed=st.integers(0, 10**6))
    def test_results_do_not_depend_on_the_order_of_people(self, truth, seed):
        random = np.random.default_rng(seed)
        predicted = replace(
            truth,
            **{
                n: getattr(truth, n) + 0.02 * random.normal(size=getattr(truth, n).shape)
                for n in ("joints_m", "vertices_m")
            },
        )
        errors = pw3d.errors_with(made.regressor())
        one = pw3d.summarise([pw3d.measure("a", truth, made.scene(predicted), errors)])
        new_p, new_t = random.permutation(3), random.permutation(3)
        other = pw3d.summarise([pw3d.measure("a", truth[new_t], made.scene(predicted[new_p]), errors)])
        assert [f.count for f in one.figures] == [f.count for f in other.figures]
        np.testing.assert_allclose([f.value for f in one.figures], [f.value for f in other.figures], rtol=1e-12)

    def test_records_are_checked(self):
        with pytest.raises(InputError, match="at least one record"):
            pw3d.summarise([])
        with pytest.raises(InputError, match="one record for each image"):
            pw3d.summarise([MeshRecord("a", 1, 0), MeshRecord("a", 1, 0)])


class TestAgora:
    def annotated(self, people, **change):
        return replace(people, image_size=made.SIZE, **change)

    def score(self, people, predicted, files, **options):
        return agora.evaluate({"a": people}, {"a": made.scene(predicted)}, smpl_folders=[files], **options)

    def test_root_is_the_middle_of_the_hips(self, people, truth, files):
        centre = truth.joints_m[:, [1, 2]].mean(1, keepdims=True)
        scaled = made.changed(truth, lambda points: centre + 1.1 * (points - centre) + np.array((0, 0, 0.3)))
        result = self.score(self.annotated(people), scaled, files)
        joints = 100 * np.linalg.norm(truth.joints_m - centre, axis=-1).mean()
        body = 100 * np.linalg.norm((truth.vertices_m - centre)[:, ::2], axis=-1).mean()
        np.testing.assert_allclose(errors_of(result, "MPJPE", "MVE"), (joints, body), atol=TINY_MM)
        assert result["NMJE"] == round(joints, 1)

    def test_normalised_errors_are_rounded_as_released(self, people, truth, files):
        centre = truth.joints_m[:, [1, 2]].mean(1, keepdims=True)
        scaled = made.changed(truth, lambda points: centre + 1.1 * (points - centre))[[0, 1]]
        result = self.score(self.annotated(people), scaled, files)
        assert result["F1"] == 0.8 and result["recall"] == 0.67 and result["precision"] == 1.0
        assert result["NMJE"] == round(result["MPJPE"], 1) / 0.8
        assert result["NMVE"] == round(result["MVE"], 1) / 0.8
        corrected = self.score(self.annotated(people), scaled, files, corrected=True)
        assert corrected["NMJE"] == corrected["MPJPE"] / corrected["F1"]

    def test_predictions_of_invalid_people_are_extra_or_ignored(self, people, truth, files):
        annotated = self.annotated(people, valid=np.array([True, False, True]))
        result = self.score(annotated, truth, files)
        assert (result.people, result.matched, result.predicted, result.extra) == (2, 2, 3, 1)
        ignoring = self.score(annotated, truth, files, ignore_invalid=True)
        assert (ignoring.people, ignoring.matched, ignoring.predicted, ignoring.extra) == (2, 2, 2, 0)
        assert ignoring["F1"] == 1 and "invalid left out" in ignoring.protocol
        with_miss = self.score(annotated, truth[[0, 2]], files, ignore_invalid=True)
        assert (with_miss.people, with_miss.missed, with_miss.extra) == (2, 0, 0)

    def test_people_outside_the_image_do_not_count(self, bodies, files):
        places = [(0.0, 0, 5), (9.0, 0, 5), (0.0, 0, -5)]
        annotated = self.annotated(made.annotation(places))
        truth = smpl_truth(annotated, bodies)
        assert agora.inside_image(annotated, truth).tolist() == [True, False, False]
        result = self.score(annotated, truth[[0]], files)
        assert (result.people, result.matched) == (1, 1)
        with pytest.raises(InputError, match="do not say how large"):
            agora.inside_image(made.annotation(places), truth)

    def test_children_keep_their_axis_only_when_corrected(self, people, bodies, files):
        kids = self.annotated(replace(people, betas=np.pad(people.betas, ((0, 0), (0, 1)), constant_values=0.5)))
        as_they_are = smpl_truth(kids, bodies, kid_axis=True)
        assert self.score(kids, as_they_are, files)["MVE"] > 50
        assert self.score(kids, as_they_are, files, corrected=True)["MVE"] < TINY_MM


def test_predictions_behind_the_camera_stay_finite(truth):
    flat = made.changed(truth, lambda points: points * (1, 1, 0))
    prediction = mesh_prediction("a", made.scene(flat), "3DPW")
    assert np.isfinite(prediction.joints_px).all()
    behind = made.scene(made.changed(truth, lambda points: points * (1, 1, -1)))
    record = pw3d.measure("a", truth, behind, pw3d.errors_with(made.regressor()))
    assert record.predicted == 3
