"""Videos: frames in order, who is who, and the whole way on experts that are made up."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import permutations

import cv2
import numpy as np
import pytest

from crowdmesh import Reconstructor, Scene
from crowdmesh.body import load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import official
from crowdmesh.errors import FormatError, InputError
from crowdmesh.experts.base import Attributes, CameraEstimate, Detections, Experts, FirstMeshes, Keypoints
from crowdmesh.people import People
from crowdmesh.video import Tracker, TrackingConfig, VideoConfig, read_frames, reconstruct_video
from crowdmesh.video.run import VideoResult

HEIGHT, WIDTH = 240, 320


def picture(value: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.full((height, width, 3), (value, 20, 200), np.uint8)


def save(path, image) -> None:
    assert cv2.imwrite(str(path), image[..., ::-1])


def folder_of(path, values):
    path.mkdir()
    for number, value in enumerate(values):
        save(path / f"frame{number}.png", picture(value))
    return path


def film(path, values, rate=10.0):
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (WIDTH, HEIGHT))
    assert video.isOpened()
    for value in values:
        video.write(picture(value)[..., ::-1])
    video.release()
    return path


# ---- frames ----------------------------------------------------------------------------------------------------------


def test_images_of_a_folder_come_in_natural_order(tmp_path):
    frames = list(read_frames(folder_of(tmp_path / "walk", range(12))))
    assert [f.name for f in frames] == [f"frame{n}.png" for n in range(12)]
    assert [int(f.pixels[0, 0, 0]) for f in frames] == list(range(12))
    assert [f.index for f in read_frames(tmp_path / "walk", every=5)] == [0, 5, 10]
    assert [f.index for f in read_frames(tmp_path / "walk", every=5, max_frames=2)] == [0, 5]


def test_a_video_file_gives_colours_numbers_and_times(tmp_path):
    values = [10, 60, 110, 160, 210]
    frames = list(read_frames(film(tmp_path / "walk.avi", values)))
    np.testing.assert_allclose([f.pixels.mean((0, 1)) for f in frames], [(v, 20, 200) for v in values], atol=6)
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(5) / 10.0)
    some = list(read_frames(tmp_path / "walk.avi", every=2))
    assert [f.index for f in some] == [0, 2, 4]
    np.testing.assert_allclose([f.pixels[..., 0].mean() for f in some], values[::2], atol=6)


def test_a_damaged_image_is_left_out_and_told(tmp_path):
    folder = folder_of(tmp_path / "walk", range(4))
    (folder / "frame2.png").write_bytes(b"no picture")
    told = []
    assert [f.index for f in read_frames(folder, report=told.append)] == [0, 1, 3]
    assert len(told) == 1 and "frame 2 is left out" in told[0]


def test_a_video_that_ends_early_is_told(tmp_path):
    path = film(tmp_path / "walk.avi", [50] * 40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    told = []
    try:
        count = len(list(read_frames(path, report=told.append)))
    except (InputError, FormatError):  # some builds of OpenCV refuse a file without its index
        return
    assert count < 40


def test_bad_sources_get_one_sentence(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list(read_frames(tmp_path / "no.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(FormatError, match="not a video"):
        list(read_frames(tmp_path / "text.mp4"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image found"):
        list(read_frames(tmp_path / "empty"))
    folder = folder_of(tmp_path / "walk", range(2))
    save(folder / "frame2.png", picture(0, 100, 200))
    with pytest.raises(InputError, match=r"frame 2 .* has 200x100 pixels and the first 320x240"):
        list(read_frames(folder))
    with pytest.raises(InputError, match="is an image"):
        list(read_frames(folder / "frame0.png"))
    with pytest.raises(InputError, match="every 0"):
        list(read_frames(folder, every=0))


# ---- tracking --------------------------------------------------------------------------------------------------------


def boxes(*centres, size=(40.0, 100.0)) -> np.ndarray:
    half = np.array(size) / 2
    return np.array([[*(np.array(c) - half), *(np.array(c) + half)] for c in centres], float).reshape(-1, 4)


def ids_of(frames, config=None, keypoints=None) -> list[list[int]]:
    tracker = Tracker(config or TrackingConfig())
    points = keypoints or [None] * len(frames)
    return [tracker.update(b, p).tolist() for b, p in zip(frames, points, strict=True)]


def test_people_who_cross_keep_their_ids():
    frames = [boxes((50 + 16 * f, 100), (290 - 16 * f, 100)) for f in range(16)]  # places swap from frame 7 to 8
    assert ids_of(frames) == [[0, 1]] * 16


def test_order_of_detections_does_not_matter():
    random = np.random.default_rng(0)
    frames = [boxes(*[(60 * k + 3 * f * (-1) ** k, 100 + 5 * k) for k in range(5)]) for f in range(15)]
    plain = ids_of(frames)
    orders = [random.permutation(5) for _ in frames]
    shuffled = ids_of([f[o] for f, o in zip(frames, orders, strict=True)])
    assert [np.array(p)[o].tolist() for p, o in zip(plain, orders, strict=True)] == shuffled


def test_somebody_hidden_for_a_while_comes_back_as_the_same():
    config = TrackingConfig(max_gap=6)

    def walk(hidden):
        return [boxes((50 + 4 * f, 100), *([] if f in hidden else [(200, 100 + 2 * f)])) for f in range(20)]

    assert ids_of(walk(range(8, 13)), config)[-1] == [0, 1]
    assert ids_of(walk(range(6, 14)), config)[-1] == [0, 2]


def test_people_enter_and_leave_and_ids_are_never_reused():
    frames = [boxes((50, 100)), boxes((50, 100), (200, 100)), boxes((200, 100)), boxes(), boxes((300, 100), (20, 60))]
    assert ids_of(frames, TrackingConfig(max_gap=0)) == [[0], [0, 1], [1], [], [3, 2]]


def test_assignment_is_the_best_of_all():
    """Against every possible assignment of four people, on boxes of one place where speeds are zero."""
    random = np.random.default_rng(3)
    for _ in range(20):
        one = boxes(*random.uniform(0, 60, (4, 2)))
        two = boxes(*(random.uniform(0, 60, (4, 2))))
        tracker = Tracker(TrackingConfig(least_similarity=0.0))
        first, second = tracker.update(one), tracker.update(two)

        def overlap(a, b):
            w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
            common = max(w, 0) * max(h, 0)
            return common / (2 * 40 * 100 - common)

        value = {p: sum(overlap(one[i], two[p[i]]) for i in range(4)) for p in permutations(range(4))}
        found = sum(overlap(one[i], two[j]) for i in range(4) for j in range(4) if first[i] == second[j])
        assert found == pytest.approx(max(value.values()))


def test_joints_tell_people_apart_whose_boxes_do_not():
    """Two people swap places in one step; boxes alone would swap their ids, joints say who is who."""
    shape = np.random.default_rng(1).uniform(-1, 1, (2, 17, 2)) * (18, 48)

    def joints(centres):
        return np.stack([np.c_[shape[k] + c, np.ones(17)] for k, c in enumerate(centres)])

    places = [[(100, 100), (106, 100)]] * 3 + [[(106, 100), (100, 100)]]
    frames = [boxes(*p) for p in places]
    assert ids_of(frames)[-1] == [1, 0]
    assert ids_of(frames, keypoints=[joints(p) for p in places])[-1] == [0, 1]


def test_few_switches_in_a_crowd_with_jitter_and_misses():
    random = np.random.default_rng(5)
    start, speed = random.uniform((50, 50), (900, 300), (8, 2)), random.uniform(-6, 6, (8, 2)) * (1, 0.2)
    tracker, last, switches = Tracker(), {}, 0
    for f in range(120):
        seen = np.flatnonzero(random.random(8) > 0.1)
        centres = start + speed * f + random.normal(0, 2, (8, 2))
        ids = tracker.update(boxes(*centres[seen]))
        assert len(set(ids.tolist())) == len(seen)
        for person, number in zip(seen.tolist(), ids.tolist(), strict=True):
            switches += last.get(person, number) != number
            last[person] = number
    assert switches <= 6


# ---- the whole way ---------------------------------------------------------------------------------------------------


class MadeUp:
    """All experts in one: three people who walk; the red of a picture is the number of its frame times ten."""

    name = "made up"

    def __init__(self, fov=(1.0,), empty=()) -> None:
        self.fov, self.empty, self.looked_at = fov, empty, 0
        self.body = load_body("anny")

    def sources(self):
        return ()

    def number(self, image) -> int:
        return round(float(image.pixels[..., 0].mean()) / 10)

    def camera(self, image) -> Camera:
        return Camera.from_vertical_fov(self.fov[self.number(image) % len(self.fov)], image.width, image.height)

    def people(self, image) -> People:
        """The same body three times; person 1 is seen 10 % too tall in odd frames."""
        number = self.number(image)
        count = 0 if number in self.empty else 3
        pose = np.zeros((count, len(self.body.joint_names), 3))
        pose[:, 0] = cv2.Rodrigues(np.asarray(self.body.facing_camera, float))[0].ravel()
        shape = self.body.default_shape(count, 30.0, np.full(count, 0.5))
        place = np.array([(-1.5, 1.0, 5.0), (0.0, 1.0, 6.0 * (1 + 0.1 * (number % 2))), (1.8, 1.0, 8.0)])[:count]
        place = place + np.array([0.1 * number, 0, 0])
        people = People(
            "anny", place, self.body.stature(shape).double().numpy(), pose=pose, shape=shape.double().numpy(),
            age_years=np.full(count, 30.0), male_probability=np.full(count, 0.5),
        )  # fmt: skip
        people = pose_people(people, self.body)
        camera = Camera.from_vertical_fov(1.0, image.width, image.height)
        points = camera.project(people.vertices_m)
        box = np.concatenate((points.min(1), points.max(1)), -1).reshape(count, 4)
        return replace(people, boxes_px=np.clip(box, 0, (WIDTH, HEIGHT) * 2), scores=np.full(count, 0.9))


class Cameras(MadeUp):
    def estimate(self, images):
        return [CameraEstimate(self.camera(image), "a network", 0.05) for image in images]


class Detector(MadeUp):
    def detect(self, images):
        self.looked_at += len(images)
        return [Detections(p.boxes_px, p.scores) for p in map(self.people, images)]


class Joints(MadeUp):
    def locate(self, images, detections):
        return [Keypoints(np.ones((len(d), 17, 3))) for d in detections]


class Meshes(MadeUp):
    def fit(self, images, cameras, detections, keypoints):
        self.cameras = getattr(self, "cameras", []) + list(cameras)
        return [FirstMeshes(self.people(image)) for image in images]


class Ages(MadeUp):
    def estimate(self, images, detections, keypoints):
        return [
            Attributes(np.full(len(d), 30.0), np.full(len(d), 3.0), np.full(len(d), 0.5), np.zeros((len(d), 4)))
            for d in detections
        ]


class Depth(MadeUp):
    def estimate(self, images):
        """True disparity: the people stand at 5, 6 and 8 m in every frame."""
        maps = []
        for image in images:
            values = np.full((HEIGHT, WIDTH), 100 / 15.0, np.float32)
            for box, z in zip(self.people(image).boxes_px, (5.0, 6.0, 8.0), strict=False):
                left, top, right, bottom = box.astype(int)
                values[top:bottom, left:right] = 100 / z
            maps.append(RelativeDepth(values, "disparity"))
        return maps


def reconstructor(config=None, **options) -> Reconstructor:
    experts = Experts(
        Detector(**options), Joints(**options), Depth(**options), Ages(**options), Cameras(**options), Meshes(**options)
    )
    return Reconstructor(experts, config)


def table(result: VideoResult) -> list[dict[str, str]]:
    with result.files[-1].open() as file:
        return list(csv.DictReader(file))


def test_a_video_becomes_scenes_meshes_and_a_table(tmp_path):
    source = film(tmp_path / "walk.avi", [10 * n for n in range(1, 6)])
    stages = []
    result = reconstruct_video(
        source, reconstructor(empty=(3,)), tmp_path / "out", progress=lambda *news: stages.append(news)
    )
    names = [p.name for p in result.files]
    assert names[:3] == ["walk_000000.scene.npz", "walk_000000.glb", "walk_000001.scene.npz"]
    assert "walk_000002.scene.npz" in names and "walk_000002.glb" not in names
    assert names[-2:] == ["notes.txt", "tracks.csv"]
    assert all(p.is_file() for p in result.files)
    rows = table(result)
    assert [r["frame"] for r in rows] == [n for n in "0134" for _ in range(3)]
    assert [r["id"] for r in rows[:6]] == ["0", "1", "2"] * 2
    assert [float(r["time_s"]) for r in rows[::3]] == [0.0, 0.1, 0.3, 0.4]
    for person in range(3):
        statures = [float(r["stature_m"]) for r in rows if r["id"] == str(person)]
        assert len(statures) == 4 and np.ptp(statures) < 1e-3
    scene = Scene.load(tmp_path / "out" / "walk_000003.scene.npz")
    assert scene.provenance["track_ids"] == [0, 1, 2] and scene.provenance["frame"] == 3
    row = next(r for r in rows if r["frame"] == "3" and r["id"] == "1")
    pelvis = scene.people.joints_m[1, load_body("anny").pelvis]
    np.testing.assert_allclose([float(row[k]) for k in "xyz"], pelvis, atol=1e-3)
    np.testing.assert_allclose(
        [float(row[f"box_{s}"]) for s in ("left", "top")], scene.people.boxes_px[1, :2], atol=0.1
    )
    assert row["status"] == "placed"
    assert any("frame 2: no person found" in note for note in result.notes)
    assert stages[-1] == ("placing", 5, 5) and ("reading", 5, 5) in stages


def test_all_frames_share_one_camera(tmp_path):
    source = folder_of(tmp_path / "walk", [10, 20, 30])
    line = reconstructor(fov=(1.0, 1.1, 0.9))
    result = reconstruct_video(source, line, tmp_path / "out")
    cameras = {Scene.load(p).camera for p in result.files if p.name.endswith(".npz")}
    assert len(cameras) == 1
    assert cameras.pop().vertical_fov == pytest.approx(1.0)
    np.testing.assert_allclose([c.vertical_fov for c in line.experts.mesh.cameras], 1.0)
    assert any("median of 3 frames" in note for note in result.notes)
    assert table(result)[0]["time_s"] == ""


def test_an_interrupted_run_goes_on_and_another_is_refused(tmp_path):
    source = folder_of(tmp_path / "walk", [10, 20])
    first = reconstructor()

    def stop(stage, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct_video(source, first, tmp_path / "out", VideoConfig(batch=1), progress=stop)
    assert first.experts.persons.looked_at == 1
    again = reconstructor()
    result = reconstruct_video(source, again, tmp_path / "out", VideoConfig(batch=1))
    assert again.experts.persons.looked_at == 1
    whole = reconstruct_video(source, reconstructor(), tmp_path / "whole")
    assert table(result) == table(whole)
    with pytest.raises(InputError, match="another video, or of other settings"):
        reconstruct_video(source, reconstructor(fov=(0.8,)), tmp_path / "out")
    reconstruct_video(source, reconstructor(fov=(0.8,)), tmp_path / "out", overwrite=True)


def test_pictures_are_kept_when_asked_for(tmp_path):
    source = folder_of(tmp_path / "walk", [10, 20, 30])
    result = reconstruct_video(source, reconstructor(), tmp_path / "out", VideoConfig(every=2, keep_images=True))
    scenes = [Scene.load(p) for p in result.files if p.name.endswith(".npz")]
    assert [int(s.image[0, 0, 0]) for s in scenes] == [10, 30]


def test_a_video_without_people_or_tracks_is_refused(tmp_path):
    source = folder_of(tmp_path / "walk", [10, 20])
    with pytest.raises(InputError, match=r"no person found in any of 2 frames of .*walk"):
        reconstruct_video(source, reconstructor(empty=(1, 2)), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.npz"))
    with pytest.raises(InputError, match="'official'"):
        reconstruct_video(source, reconstructor(official()), tmp_path / "out")
    with pytest.raises(InputError, match="batch"):
        VideoConfig(batch=0)
