"""From files to a result: predictions by image name, and the benchmarks by theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import smpl_people as made
from test_formats import plain, pw3d_record, write

from crowdmesh.benchmarks import mupots, relative_human
from crowdmesh.benchmarks._smpl_bodies import load_bodies, smpl_truth
from crowdmesh.benchmarks.predictions import keys_of_images, read_predictions, read_records
from crowdmesh.benchmarks.registry import BENCHMARKS, annotation_file, run
from crowdmesh.errors import FormatError, InputError
from crowdmesh.formats import read_mupots, read_relative_human
from crowdmesh.people import People
from crowdmesh.scene import Scene


def empty_scene() -> Scene:
    return Scene(made.CAMERA, People(body="rigid", translation_m=np.zeros((0, 3)), stature_m=np.zeros(0)))


def touch_scene(path: Path, scene: Scene | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (scene or empty_scene()).save(path)


class TestFolders:
    def test_scenes_by_relative_path(self, tmp_path):
        touch_scene(tmp_path / "a.scene.npz")
        touch_scene(tmp_path / "deep/er/b.scene.npz")
        (tmp_path / "a.json").write_text("{}")  # results for reading, beside the scenes
        found = read_predictions(tmp_path)
        assert list(found) == ["a", "deep/er/b"] and len(found) == 2
        assert len(found["deep/er/b"].people) == 0 and "c" not in found

    def test_tables_when_there_are_no_scenes(self, tmp_path):
        table = {
            "image_size": [100, 80], "vertical_fov_deg": 50, "stature_m": [1.7], "faces": [[0, 1, 2]],
            "vertices_m": [[[0, 0, 3], [0.5, 0, 3], [0, 1.7, 3]]],
        }  # fmt: skip
        (tmp_path / "x.json").write_text(json.dumps(table))
        np.savez(tmp_path / "y.npz", **{key: np.array(value) for key, value in table.items()})
        found = read_predictions(tmp_path)
        assert list(found) == ["x", "y"] and found["x"].people.stature_m == found["y"].people.stature_m == [1.7]

    def test_empty_folders_and_doubles_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="holds no predictions"):
            read_predictions(tmp_path)
        with pytest.raises(InputError, match="is no folder"):
            read_predictions(tmp_path / "none")
        (tmp_path / "x.json").write_text("{}")
        np.savez(tmp_path / "x.npz", a=1)
        with pytest.raises(InputError, match=r"x\.json and .*x\.npz are both predictions of x"):
            read_predictions(tmp_path)

    def test_damaged_scenes_are_reported_when_asked_for(self, tmp_path, unchecked):
        (tmp_path / "a.scene.npz").write_bytes(b"no")
        with pytest.raises(FormatError, match=r"a\.scene\.npz is not a readable CrowdMesh scene"):
            read_predictions(tmp_path)["a"]


class TestRecords:
    def test_both_kinds_of_file(self, tmp_path):
        arrays = {"kp2ds": np.arange(28.0).reshape(1, 14, 2), "trans": np.ones((1, 3))}
        np.savez(tmp_path / "p.npz", **{f"sub/a.jpg/{name}": array for name, array in arrays.items()})
        (tmp_path / "p.json").write_text(json.dumps({"sub/a.jpg": plain(arrays)}))
        one, other = (read_records(tmp_path / name)["sub/a.jpg"] for name in ("p.npz", "p.json"))
        assert list(one) == list(other)
        np.testing.assert_array_equal(one["kp2ds"], other["kp2ds"])

    @pytest.mark.parametrize(
        ("name", "content", "error", "message"),
        [
            ("a.json", "{}", InputError, "is empty; nothing would be measured"),
            ("a.json", "[]", FormatError, "an object of images"),
            ("a.json", '{"a.jpg": 3}', FormatError, "an object of images"),
            ("a.json", "{", FormatError, "not a readable file of predictions"),
            ("a.txt", "", InputError, r"must be \.npz or \.json"),
            ("a.npz", "x", FormatError, r"not a NumPy \.npz archive"),
        ],
    )
    def test_others_are_refused(self, tmp_path, name, content, error, message):
        (tmp_path / name).write_text(content)
        with pytest.raises(error, match=message):
            read_records(tmp_path / name)

    def test_arrays_need_an_image_and_a_field(self, tmp_path):
        np.savez(tmp_path / "p.npz", kp2ds=np.zeros(3))
        with pytest.raises(FormatError, match="must be called IMAGE/FIELD, not 'kp2ds'"):
            read_records(tmp_path / "p.npz")


class TestNames:
    IMAGES = ("x/1.jpg", "y/1.jpg", "y/2.png", "three.jpg")

    def test_full_names_shorter_ones_and_stems(self):
        keys = ["x/1.jpg", "y/1", "2", "three"]
        assert keys_of_images(keys, self.IMAGES) == dict(
            zip(("x/1.jpg", "y/1.jpg", "y/2.png", "three.jpg"), keys, strict=True)
        )
        assert keys_of_images(["2"], self.IMAGES) == {"y/2.png": "2"}

    def test_unknown_ambiguous_and_double_names_are_refused(self):
        with pytest.raises(InputError, match=r"1 predicted images are not annotated, among them four; .*'x/1\.jpg'"):
            keys_of_images(["three", "four"], self.IMAGES)
        with pytest.raises(InputError, match="'1' could be of 2 images; name it by its path"):
            keys_of_images(["1"], self.IMAGES)
        with pytest.raises(InputError, match=r"'three' and 'three\.jpg' are both of image 'three\.jpg'"):
            keys_of_images(["three", "three.jpg"], self.IMAGES)


class TestRun:
    def test_every_benchmark_says_what_it_needs(self, tmp_path):
        assert list(BENCHMARKS) == ["relative-human", "mupots", "3dpw", "hi4d", "agora", "bedlam", "panoptic"]
        for name, benchmark in BENCHMARKS.items():
            assert benchmark.name == name
            with pytest.raises(
                InputError, match=rf"no annotations of {name}: expected {benchmark.files[0]} .*https?://"
            ):
                run(name, tmp_path, tmp_path)
        with pytest.raises(InputError, match="unknown benchmark 'coco'; use one of relative-human, mupots"):
            run("coco", tmp_path, tmp_path)
        with pytest.raises(InputError, match="benchmark 3dpw has no variant 'standard'; it has corrected"):
            run("3dpw", tmp_path, tmp_path, standard=True)

    def test_json_is_preferred_and_a_file_taken_as_it_is(self, tmp_path):
        benchmark = BENCHMARKS["3dpw"]
        (tmp_path / "3dpw").mkdir()
        for name in ("3dpw/annots_smpl_test_genders.npz", "3dpw/annots_smpl_test_genders.json"):
            (tmp_path / name).write_text("")
        assert annotation_file(benchmark, tmp_path).suffix == ".json"
        assert annotation_file(benchmark, tmp_path / "3dpw/annots_smpl_test_genders.npz").suffix == ".npz"

    def test_relative_human_from_files_is_relative_human(self, tmp_path, vectors):
        case = json.loads((vectors / "rh_cases.json").read_text())[0]
        write(tmp_path / "test_annots.json", case["annots"])
        (tmp_path / "p.json").write_text(json.dumps(case["results"]))
        direct = relative_human.evaluate(
            read_relative_human(tmp_path / "test_annots.json"), relative_human.predictions_of_records(case["results"])
        )
        result = run("relative-human", tmp_path, tmp_path / "p.json")
        assert result.figures == direct.figures
        assert result["PCDR_0.2"] == pytest.approx(case["official"]["PCRD_0.2"], abs=1e-6)
        first = next(iter(case["results"]))
        fewer = {image: record for image, record in case["results"].items() if image == first}
        (tmp_path / "q.json").write_text(json.dumps(fewer))
        result = run("relative-human", tmp_path, tmp_path / "q.json", corrected=True)
        missing = len(case["annots"]) - 1
        assert any(f"{missing} annotated images have no prediction" in note for note in result.notes)

    def test_mupots_from_files_is_mupots(self, tmp_path, vectors):
        frames = json.loads((vectors / "mupots_cases.json").read_text())[0]["frames"]
        annots, predictions = {}, {}
        for number, frame in enumerate(frames):
            name = f"{frame['seq']}/img_{number:06}.jpg"
            annots[name] = [
                {"annot_2d": p2, "annot_3d": p3, "vis": vis}
                for p2, p3, vis in zip(frame["gt2d_h36m"], frame["gt3d_h36m"], frame["vis"], strict=True)
            ]
            predictions[name] = {"joints_px": frame["pred2d_h36m"], "joints_mm": frame["pred3d_h36m"]}
        write(tmp_path / "mupots_annots.npz", annots)
        (tmp_path / "p.json").write_text(json.dumps(predictions))
        result = run("mupots", tmp_path, tmp_path / "p.json", unpickle=True)
        direct = mupots.evaluate(
            read_mupots(tmp_path / "mupots_annots.npz", unpickle=True), mupots.predictions_of_records(predictions)
        )
        assert result.figures == direct.figures and result.matched > 0
        with pytest.raises(FormatError, match="--allow-pickle"):
            run("mupots", tmp_path, tmp_path / "p.json")

    def test_meshes_from_files(self, tmp_path, monkeypatch):
        files = made.write_files(tmp_path / "assets/smpl")
        monkeypatch.setenv("CROWDMESH_ASSETS", str(files.parent))
        people = made.annotation([(-1.0, 0, 5), (1.0, 0, 5)])
        truth = smpl_truth(people, load_bodies(("neutral",), [files]))
        record = pw3d_record() | {
            "betas": people.betas, "global_orient": people.pose[:, 0], "body_pose": people.pose[:, 1:].reshape(2, 69),
            "transl": people.translation_m, "cam_intrinsics": made.CAMERA.K, "cam_rot": people.camera_rotation[0],
            "cam_trans": people.camera_translation_m[0], "genders": ["neutral"] * 2,
        }  # fmt: skip
        images = [f"imageFiles/street/{number}.jpg" for number in (1, 2)]
        write(tmp_path / "data.npz", dict.fromkeys(images, record))
        touch_scene(tmp_path / "out/street/1.scene.npz", made.scene(truth))
        with pytest.raises(InputError, match=r"not annotated, among them street/1.*'imageFiles/street/1\.jpg'"):
            run("3dpw", tmp_path / "data.npz", tmp_path / "out", unpickle=True)
        result = run("3dpw", tmp_path / "data.npz", tmp_path / "out/street", unpickle=True)
        assert (result.images, result.people, result.matched, result.missed) == (2, 4, 2, 2)
        assert result["MPJPE"] < 0.01 and result["recall"] == 0.5
        assert any("1 annotated images have no prediction" in note for note in result.notes)
        hi4d = {
            "pair/1.jpg": [
                {
                    "focal": [1200, 1200], "princpt": [644, 362], "cam_rot": people.camera_rotation[k],
                    "cam_trans": people.camera_translation_m[k], "global_orient": people.pose[k, 0],
                    "body_pose": people.pose[k, 1:].reshape(69), "transl": people.translation_m[k],
                    "betas": people.betas[k], "genders": "neutral",
                }
                for k in (0, 1)
            ]
        }  # fmt: skip
        write(tmp_path / "hi4d_smpl_test.json", hi4d)
        assert run("hi4d", tmp_path, tmp_path / "out/street")["MVE"] < 0.01
        bedlam = {
            "seq/1.png": {
                "cam_int": made.CAMERA.K, "cam_rot": people.camera_rotation, "cam_trans": people.camera_translation_m,
                "shape": people.betas, "pose_world": people.pose.reshape(2, 72), "trans_world": people.translation_m,
            }
        }  # fmt: skip
        write(tmp_path / "bedlam_smpl_validation_6fps.json", bedlam)
        result = run("bedlam", tmp_path, tmp_path / "out/street", corrected=True)
        assert result["MVE"] < 0.01 and result.protocol.startswith("BEDLAM validation (corrected")
        person = {"betas": np.pad(people.betas[0], (0, 1)), "transl": people.translation_m[0]}
        person |= {"global_orient": people.pose[0, 0], "body_pose": people.pose[0, 1:].reshape(69)}
        agora = {
            "1.png": {
                "isValid": [1], "cam_intrinsics": made.CAMERA.K[None], "cam_rot": people.camera_rotation[:1],
                "cam_trans": people.camera_translation_m[:1], "smpl_gt": [person],
            }
        }  # fmt: skip
        write(tmp_path / "annots_smpl_validation.json", agora)
        result = run("agora", tmp_path, tmp_path / "out/street", ignore_invalid=True)
        assert (result.matched, result.extra) == (1, 1) and result["MPJPE"] < 0.01 and result["F1"] == 0.67

    def test_one_file_is_for_arrays_only(self, tmp_path):
        write(tmp_path / "annots_smpl_test_genders.json", {"imageFiles/a.jpg": pw3d_record()})
        (tmp_path / "p.json").write_text("{}")
        with pytest.raises(InputError, match="predictions for 3dpw must be a folder of scenes"):
            run("3dpw", tmp_path, tmp_path / "p.json")
        with pytest.raises(InputError, match="do not exist"):
            run("3dpw", tmp_path, tmp_path / "nowhere")

    def test_nan_in_records_is_refused(self, tmp_path):
        write(tmp_path / "test_annots.json", {"a.jpg": []})
        record = {"kp2ds": np.full((1, 14, 2), np.nan).tolist(), "trans": [[0, 0, 3]]}
        (tmp_path / "p.json").write_text(json.dumps({"a.jpg": record}))
        with pytest.raises(InputError, match=r"a\.jpg.*person 0 holds NaN"):
            run("relative-human", tmp_path, tmp_path / "p.json")

    def test_scenes_of_anny_are_scored_on_relative_human(self, tmp_path, crowd):
        world, guess, _ = crowd
        touch_scene(tmp_path / "out/photo.scene.npz", guess)
        joints = relative_human.predictions_from_scenes({"photo": world.scene})["photo"].joints_px
        annots = [
            {
                "kp2d": np.concatenate((person, np.ones((14, 1))), 1).ravel(), "depth_id": number, "age": 0,
                "gender": -1, "bbox": [0, 0, 1, 1],
            }
            for number, person in enumerate(joints)
        ]  # fmt: skip
        write(tmp_path / "test_annots.json", {"photo.jpg": annots})
        result = run("relative-human", tmp_path, tmp_path / "out")
        assert result.matched == len(joints) and result["mPCKh_0.6"] > 0.9
        broken = replace(guess, people=guess.people[[]])
        touch_scene(tmp_path / "none/photo.scene.npz", broken)
        assert run("relative-human", tmp_path, tmp_path / "none").missed == len(joints)
