"""The types on the ground floor: what they accept, what they refuse, and that they survive a file."""

from __future__ import annotations

import errno
import json
import math
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crowdmesh._files import atomic_path, read_npz
from crowdmesh.body._smpl_files import read_smpl_arrays
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth, usable_depth
from crowdmesh.errors import FormatError, InputError
from crowdmesh.masks import Masks
from crowdmesh.people import People, PersonStatus
from crowdmesh.scene import Scene

CAMERA = Camera.from_vertical_fov(math.radians(50), 640, 480)


def some_people(count: int = 3) -> People:
    random = np.random.default_rng(0)
    return People(
        body="rigid",
        translation_m=random.normal(size=(count, 3)),
        stature_m=random.uniform(1, 2, count),
        vertices_m=random.normal(size=(count, 5, 3)).astype(np.float32),
        faces=np.array([[0, 1, 2]]),
        boxes_px=random.uniform(0, 400, (count, 4)),
        masks=Masks.from_dense(random.random((count, 480, 640)) < 0.5),
        age_years=np.array([30.0, np.nan, 4.0])[:count],
        status=np.array([1, 0, 5])[:count],
    )


class TestCamera:
    def test_vertical_fov_spans_the_image_height(self):
        top, bottom = CAMERA.unproject(np.array([[320.0, 0.0], [320.0, 480.0]]), np.ones(2))
        assert math.atan(-top[1]) + math.atan(bottom[1]) == pytest.approx(math.radians(50))
        assert CAMERA.vertical_fov == pytest.approx(math.radians(50))

    @given(st.floats(0.2, 2.3), st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 50))
    def test_project_undoes_unproject(self, fov, x, y, z):
        camera = Camera.from_vertical_fov(fov, 500, 300)
        pixel = camera.project(np.array([x, y, z]))
        np.testing.assert_allclose(camera.unproject(pixel, np.array(z)), [x, y, z], atol=1e-6)

    def test_scaling_and_cropping_follow_the_pixels(self):
        point = np.array([0.3, -0.2, 4.0])
        pixel = CAMERA.project(point)
        np.testing.assert_allclose(CAMERA.scaled(320, 120).project(point), pixel * (0.5, 0.25))
        np.testing.assert_allclose(CAMERA.cropped(100, -20, 50, 60).project(point), pixel - (100, -20))

    def test_intrinsics_round_trip(self):
        assert Camera.from_intrinsics(CAMERA.K, 640, 480) == CAMERA

    @pytest.mark.parametrize("K", [np.diag([0.8, 0.8, 1.0]), np.diag([1e6, 1e6, 1.0]), np.diag([35.0, 35.0, 1.0])])
    def test_intrinsics_in_another_unit_are_recognised(self, K):
        with pytest.raises(InputError, match="must be given in pixels"):
            Camera.from_intrinsics(K, 640, 480)

    def test_exif_focal_length(self, tmp_path):
        from PIL import Image

        photo = Image.new("RGB", (60, 40))
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = 50
        photo.save(tmp_path / "with.jpg", exif=exif)
        photo.save(tmp_path / "without.jpg")
        camera = Camera.from_exif(tmp_path / "with.jpg", 6000, 4000)
        assert camera is not None
        # A 50 mm lens on 36 x 24 mm film sees 27 degrees vertically.
        assert math.degrees(camera.vertical_fov) == pytest.approx(26.99, abs=0.01)
        assert Camera.from_exif(tmp_path / "without.jpg", 60, 40) is None


class TestMasks:
    @given(hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)))
    def test_dense_round_trip(self, dense):
        masks = Masks.from_dense(dense)
        np.testing.assert_array_equal(masks.to_dense(), dense)
        np.testing.assert_array_equal(masks[::-1].to_dense(), dense[::-1])

    @given(hnp.arrays(bool, (2, 12, 18)), st.sampled_from([(6, 9), (4, 6), (24, 36), (5, 7)]))
    def test_resampling_takes_the_nearest_pixel(self, dense, size):
        rows = [int((r + 0.5) * 12 / size[0]) for r in range(size[0])]
        columns = [int((c + 0.5) * 18 / size[1]) for c in range(size[1])]
        np.testing.assert_array_equal(Masks.from_dense(dense).to_dense(size), dense[:, rows][:, :, columns])

    def test_runs_that_do_not_fill_the_image_are_refused(self):
        with pytest.raises(InputError, match="do not add up to 4x4"):
            Masks(4, 4, np.array([3, 2]), np.array([0, 2]))

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("height", "runs", "offsets", "message"),
        [
            (0, np.array([0]), np.array([0, 1]), "positive image size, got 0x4"),
            (4, np.array([16]), np.zeros(0, int), "do not partition"),
            (4, np.array([16]), np.array([0, 2]), "do not partition"),
            (4, np.array([16.0]), np.array([0, 1]), "whole numbers"),
            (4, np.array([[16]]), np.array([0, 1]), "one-dimensional"),
            (4, np.array([20, -4]), np.array([0, 2]), "do not add up"),
            (4, np.array([2**63 - 1, 2**63 - 1, 18]), np.array([0, 3]), "do not add up"),  # 16 modulo 2**64
            (4, np.array([16, 16]), np.array([0, 2, 1, 2], np.uint8), "do not partition"),
        ],
    )
    def test_broken_codes_are_refused(self, height, runs, offsets, message):
        with pytest.raises(InputError, match=message):
            Masks(height, 4, runs, offsets)

    @pytest.mark.parametrize("shape", [(2, 0, 5), (0, 5, 0)])
    def test_masks_need_pixels(self, shape):
        with pytest.raises(InputError, match="positive image size"):
            Masks.from_dense(np.zeros(shape, bool))


class TestPeople:
    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"stature_m": np.ones(2)}, r"stature_m must have shape \(3\) for 3 people, got \(2,\)"),
            ({"stature_m": np.array([1.0, -1, 1])}, "positive"),
            ({"vertices_m": np.full((3, 5, 3), np.nan, np.float32)}, "NaN or infinite values for person 0, 1, 2"),
            ({"male_probability": np.array([0.5, 2.0, 0.1])}, r"\[0, 1\]"),
            ({"keypoints_px": np.ones((3, 14, 3))}, r"keypoints_px must have shape \(3, 17, 3\)"),
            ({"masks": Masks.from_dense(np.zeros((2, 480, 640), bool))}, "2 masks for 3 people"),
            ({"age_years": np.array([-1.0, np.nan, 4])}, "age_years must not be negative"),
            ({"age_std_years": np.array([1.0, np.nan, -4])}, "age_std_years must not be negative"),
            ({"status": np.array([1, 0, 99])}, "status of person 2 is 99"),
            ({"status": np.array([1, 0.5, 1])}, "status of person 1 is 0.5"),
            ({"status": np.array([1, 0, np.nan])}, "status of person 2 is nan"),
            ({"translation_m": np.array(1.0)}, r"translation_m must have shape \(people, 3\), got \(\)"),
            ({"scores": np.array(list("abc"))}, "scores must hold numbers"),
            ({"scores": np.ones(3, complex)}, "scores must hold numbers"),
            ({"faces": np.array([[0, 1, 1.5]])}, r"faces must be \(F, 3\) whole numbers"),
            ({"faces": np.array([0, 1, 2])}, r"faces must be \(F, 3\) whole numbers"),
        ],
    )
    def test_bad_arrays_are_refused(self, change, message):
        with pytest.raises(InputError, match=message):
            replace(some_people(), **change)

    @pytest.mark.usefixtures("unchecked")
    def test_indexing_keeps_everything_together(self):
        people = some_people()[[2, 0]]
        np.testing.assert_array_equal(people.age_years, [4.0, 30.0])
        np.testing.assert_array_equal(people.status, [5, 1])
        np.testing.assert_array_equal(people.masks.to_dense()[0], some_people().masks.to_dense()[2])
        with pytest.raises(InputError, match="people"):
            people[0]

    def test_every_status_has_a_reason(self):
        assert len({status.reason for status in PersonStatus}) == len(PersonStatus)
        assert {s for s in PersonStatus if s.placed} == {
            PersonStatus.PLACED, PersonStatus.PLACED_STATURE_LIMITED, PersonStatus.PLACED_AGE_UNKNOWN,
            PersonStatus.PLACED_FROM_STATURE,
        }  # fmt: skip


class TestScene:
    def test_file_round_trip_is_exact(self, tmp_path):
        image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
        scene = Scene(CAMERA, some_people(), image, {"experts": {"a": [1, 2.5, None]}})
        scene.save(tmp_path / "x.scene.npz")
        again = Scene.load(tmp_path / "x.scene.npz")
        assert again.camera == scene.camera
        assert again.provenance == scene.provenance
        np.testing.assert_array_equal(again.image, image)
        for field in fields(People):
            old, new = getattr(scene.people, field.name), getattr(again.people, field.name)
            if field.name == "masks":
                old, new = old.to_dense(), new.to_dense()
            if isinstance(old, np.ndarray):
                assert old.dtype == new.dtype, field.name
                np.testing.assert_array_equal(old, new)
            else:
                assert old == new, field.name

    def test_no_pickle_is_written_or_read(self, tmp_path):
        Scene(CAMERA, some_people()).save(tmp_path / "x.npz")
        with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
            assert all(archive[name].dtype != object for name in archive.files)
        np.savez(tmp_path / "evil.npz", header=np.array([{}], object))
        with pytest.raises(FormatError, match="not a readable CrowdMesh scene"):
            Scene.load(tmp_path / "evil.npz")

    def test_newer_and_foreign_files_are_refused(self, tmp_path):
        header = {"format": "crowdmesh-scene", "version": 99}
        np.savez(tmp_path / "new.npz", header=np.array(json.dumps(header)))
        with pytest.raises(FormatError, match=r"scene format 99.*update crowdmesh"):
            Scene.load(tmp_path / "new.npz")
        np.savez(tmp_path / "other.npz", data=np.ones(3))
        (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 cut short")
        for name in ("other.npz", "broken.npz"):
            with pytest.raises(FormatError, match=name):
                Scene.load(tmp_path / name)
        with pytest.raises(InputError, match="does not exist"):
            Scene.load(tmp_path / "missing.npz")

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("header", "arrays", "message"),
        [
            ({"version": None}, {}, "lacks 'version'"),
            ({"version": "2"}, {}, "version must be a whole number from 1, got '2'"),
            ({"version": 0}, {}, "version must be a whole number from 1, got 0"),
            ({"version": True}, {}, "version must be a whole number from 1, got True"),
            ({"camera": None}, {}, "lacks 'camera'"),
            ({"camera": [1, 2]}, {}, "camera must have exactly the keys fx, fy"),
            ({"camera": {"skew": 1.0}}, {}, "camera must have exactly the keys fx, fy"),
            ({"camera": {"fx": "1"}}, {}, "camera's fx must be a number, got '1'"),
            ({"camera": {"width": 640.0}}, {}, r"camera's width must be a whole number, got 640\.0"),
            ({"camera": {"fx": 1.0}}, {}, "focal length"),
            ({"body": None}, {}, "lacks 'body'"),
            ({"body": 3}, {}, "body must be a name"),
            ({"provenance": None}, {}, "lacks 'provenance'"),
            ({}, {"mask_offsets": None}, "lacks 'mask_offsets'"),
            ({}, {"mask_runs": None}, "lacks 'mask_runs'"),
            ({}, {"translation_m": None}, "lacks 'translation_m'"),
            ({}, {"status": np.array([0, 1, 99])}, "status of person 2 is 99"),
            ({}, {"stature_m": np.array(list("abc"))}, "stature_m must hold numbers"),
            ({}, {"image": np.zeros((3, 3, 3), np.uint8)}, "image is 3x3"),
            ({}, {"header": np.array("[" * 100_000)}, "nested too deeply"),
        ],
    )
    def test_damaged_files_are_refused_in_one_sentence(self, tmp_path, header, arrays, message):
        path = tmp_path / "x.npz"
        Scene(CAMERA, some_people()).save(path)
        content = read_npz(path)
        whole = json.loads(str(content["header"]))
        if isinstance(header.get("camera"), dict):
            header = {"camera": whole["camera"] | header["camera"]}
        changed = {k: v for k, v in (whole | header).items() if v is not None}
        content |= {"header": np.array(json.dumps(changed))} | arrays
        np.savez(path, **{k: v for k, v in content.items() if v is not None})
        with pytest.raises(FormatError, match=rf"^{path} is not a readable CrowdMesh scene: .*{message}"):
            Scene.load(path)

    def test_interrupted_writing_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "x.npz"
        Scene(CAMERA, some_people()).save(path)
        before = path.read_bytes()

        def interrupted(*_args, **_kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(np, "savez_compressed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Scene(CAMERA, some_people(2)).save(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]

    @pytest.mark.usefixtures("unchecked")
    def test_image_and_camera_must_fit(self):
        with pytest.raises(InputError, match="image is 10x10 but the camera is 640x480"):
            Scene(CAMERA, some_people(), np.zeros((10, 10, 3), np.uint8))


class TestDepth:
    @pytest.mark.parametrize("suffix", ["npy", "npz", "png"])
    def test_files(self, tmp_path, suffix):
        import cv2

        values = np.arange(1, 13, dtype=np.uint16).reshape(3, 4)
        path = tmp_path / f"depth.{suffix}"
        if suffix == "png":
            values[0, 0] = 0  # means: no value
            cv2.imwrite(str(path), values)
        elif suffix == "npy":
            np.save(path, values)
        else:
            np.savez(path, depth=values, extra=np.ones(3))
        depth = RelativeDepth.load(path, "disparity")
        np.testing.assert_array_equal(depth.values[1:], values[1:])
        assert depth.valid()[0, 0] == (suffix != "png")

    def test_values_that_count(self):
        values = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0, 1e-310, 1e-300, 2.0])
        usable = {kind: usable_depth(values, kind).tolist() for kind in ("disparity", "depth", "metric")}
        assert usable["disparity"] == [False] * 6 + [True, True]  # 1 / 1e-310 is infinite
        assert usable["depth"] == [False] * 3 + [True, False, True, True, True]
        assert usable["metric"] == [False] * 5 + [True, True, True]

    @given(st.floats(0, allow_infinity=False))
    def test_usable_disparities_have_a_finite_reciprocal(self, value):
        with np.errstate(divide="ignore", over="ignore"):
            assert usable_depth(np.array([value]), "disparity")[0] == np.isfinite(1 / np.array(value))

    def test_a_map_of_zeros_is_refused(self):
        with pytest.raises(InputError, match="no finite nonzero value"):
            RelativeDepth(np.zeros((4, 4), np.float32), "depth")

    @pytest.mark.usefixtures("unchecked")
    def test_values_become_an_array_of_numbers(self):
        assert RelativeDepth([[1, 2], [3, 4]], "depth").values.dtype == np.float32
        for wrong in ([[1, 2], [3]], np.ones((2, 2), complex), [["a"]], 3.0, None, np.ones((0, 3))):
            with pytest.raises(InputError, match="a depth map must"):
                RelativeDepth(wrong, "depth")

    @pytest.mark.parametrize("kind", ["disparity", "metric"])
    @pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
    def test_maps_without_any_depth_are_refused(self, kind, value):
        with pytest.raises(InputError, match="no finite positive value"):
            RelativeDepth(np.full((4, 4), value, np.float32), kind)

    @pytest.mark.parametrize("content", [b"", b"not a depth map"])
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".png", ".exr"])
    def test_broken_files_are_refused(self, tmp_path, content, suffix):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        with pytest.raises(FormatError, match=f"x{suffix} is not a readable depth map: "):
            RelativeDepth.load(path)

    @pytest.mark.usefixtures("unchecked")
    def test_kind_must_be_known(self):
        with pytest.raises(InputError, match="unknown depth kind 'inverse'"):
            RelativeDepth(np.ones((2, 2), np.float32), "inverse")

    def test_arrays_under_the_wrong_suffix_are_refused(self, tmp_path):
        np.save(tmp_path / "x.npy", np.ones((2, 2)))
        np.savez(tmp_path / "y.npz", np.ones((2, 2)))
        (tmp_path / "x.npy").rename(tmp_path / "x.npz")
        (tmp_path / "y.npz").rename(tmp_path / "y.npy")
        with pytest.raises(FormatError, match=r"x\.npz is not a readable depth map: it is not a NumPy \.npz archive"):
            RelativeDepth.load(tmp_path / "x.npz")
        with pytest.raises(FormatError, match=r"y\.npy is not a readable depth map: it is not a NumPy \.npy array"):
            RelativeDepth.load(tmp_path / "y.npy")

    def test_one_of_several_arrays_must_be_named_depth(self, tmp_path):
        np.savez(tmp_path / "x.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
        with pytest.raises(FormatError, match="holds 2 arrays; name the right one 'depth'"):
            RelativeDepth.load(tmp_path / "x.npz")


class TestFiles:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ({"a": np.array([{}], object)}, "it holds Python objects instead of arrays"),
            ({}, "it is not a NumPy .npz archive of arrays"),
        ],
    )
    def test_archives_without_plain_arrays_are_refused(self, tmp_path, content, message):
        np.savez(tmp_path / "x.npz", **content)
        with pytest.raises(FormatError, match=rf"x\.npz is not a readable NumPy archive: {message}$"):
            read_npz(tmp_path / "x.npz")

    def test_other_zip_files_are_refused(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("notes.txt", "hello")
        with pytest.raises(FormatError, match=r"not a NumPy \.npz archive of arrays"):
            read_npz(tmp_path / "x.npz")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"J_regressor": np.array([{}], object)}, "it holds Python objects instead of arrays"),
            ({"kintree_table": None}, "it lacks 'kintree_table'"),
            ({"kintree_table": np.zeros((2, 0))}, "index 0 is out of bounds"),
            ({"weights": np.ones((4, 3))}, r"its weights has shape \(4, 3\), its mesh and joints need \(4, 2\)"),
            ({"posedirs": np.ones(3)}, r"its posedirs has shape \(3,\)"),
            ({"v_template": np.array(1.0)}, ""),
        ],
    )
    def test_smpl_archives_are_checked(self, tmp_path, change, message):
        whole = {
            "v_template": np.ones((4, 3)), "shapedirs": np.ones((4, 3, 10)), "posedirs": np.ones((4, 3, 9)),
            "weights": np.ones((4, 2)), "J_regressor": np.ones((2, 4)), "kintree_table": np.zeros((2, 2)),
            "f": np.array([[0, 1, 2]]),
        }  # fmt: skip
        path = tmp_path / "x.npz"
        np.savez(path, **whole)
        assert read_smpl_arrays(path)["parents"].tolist() == [-1, 0]
        np.savez(path, **{k: v for k, v in (whole | change).items() if v is not None})
        with pytest.raises(FormatError, match=rf"x\.npz is not a readable SMPL model file: {message}"):
            read_smpl_arrays(path)

    def test_every_damage_is_one_sentence_without_advice_on_pickle(self, tmp_path):
        path = tmp_path / "x.npz"
        np.savez_compressed(path, a=np.arange(200.0), b=np.ones((3, 3)))
        whole, random, messages = path.read_bytes(), np.random.default_rng(0), []
        for _ in range(300):
            broken = bytearray(whole)
            broken[random.integers(len(whole))] = random.integers(256)
            path.write_bytes(broken[: random.integers(1, len(whole) + 1)] if random.random() < 0.3 else broken)
            try:
                read_npz(path)
            except FormatError as error:
                messages.append(str(error))
        assert len(messages) > 100
        assert all(m.startswith(f"{path} is not a readable NumPy archive: ") for m in messages)
        assert not any("pickle" in m or "\n" in m for m in messages)

    def test_a_full_disk_is_said_and_the_old_file_stays(self, tmp_path):
        path = tmp_path / "x.txt"
        path.write_text("old")
        full, reset = OSError(errno.ENOSPC, "No space left"), ConnectionResetError(errno.ECONNRESET, "of a download")

        def write(error: OSError) -> None:
            with atomic_path(path) as temporary:
                temporary.write_text("half")
                raise error

        with pytest.raises(InputError, match=rf"cannot write {path}: No space left; free some space or choose another"):
            write(full)
        with pytest.raises(ConnectionResetError):
            write(reset)
        assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
        assert path.read_text() == "old"
