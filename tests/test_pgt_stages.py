"""Stages of building a set: every image gets an answer, in order, whatever is wrong with it."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from crowdmesh.body import pose_people
from crowdmesh.dto import DTOConfig, official, place
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts import Attributes, Detections, ExpertOptions, Experts, FirstMeshes, Keypoints, load_experts
from crowdmesh.experts.camera import MetadataCamera
from crowdmesh.experts.matching import Targets
from crowdmesh.experts.nothing import NoAttributes, NoKeypoints, NoMeshes, NoPersons
from crowdmesh.experts.screening import Screening
from crowdmesh.masks import Masks
from crowdmesh.people import People
from crowdmesh.pgt.given_people import OtherBodyError, match_labels, projected_boxes
from crowdmesh.pgt.records import Built, Entry, Guessed, Loaded, Outcome, Sample
from crowdmesh.pgt.stages import ExpertChoice, FirstGuess, Place, ReadImages, make_stages
from crowdmesh.scene import Scene

EVIDENCE = ("boxes_px", "scores", "masks", "keypoints_px", "age_years", "age_std_years", "male_probability")


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()


def sample_of(crowd, name: str = "a.png", **changes) -> Sample:
    """The crowd as a source with depth maps and all evidence tells it."""
    _, guess, depth = crowd
    values = {"people": replace(guess, image=None), "depth": depth, **changes}
    return Sample(Entry("crowd", name), **values)


@pytest.fixture(scope="module")
def bare(crowd) -> Scene:
    """Bodies alone: what label files have, in another order than detectors see people in."""
    _, guess, _ = crowd
    return Scene(guess.camera, replace(guess.people, **dict.fromkeys(EVIDENCE)))


class Watchers:
    """All experts but the camera: they see the crowd without person 2, and in another order."""

    name = "watchers"
    order = (4, 0, 5, 1, 3)
    confident = True
    screening = None

    def __init__(self, crowd, **changes) -> None:
        _, self.guess, self.map = crowd
        self.asked: list[str] = []
        for name, value in changes.items():
            setattr(self, name, value)

    def sources(self):
        return ()

    @property
    def seen(self) -> People:
        return self.guess.people[list(self.order)]

    def detect(self, images):
        self.asked.append("persons")
        return [Detections(self.seen.boxes_px, np.linspace(0.9, 0.5, len(self.order)), self.seen.masks) for _ in images]

    def locate(self, images, detections):
        self.asked.append("keypoints")
        points = self.seen.keypoints_px.copy()
        points[..., 2] = self.confident * (points[..., 2] > 0)
        return [Keypoints(points[: len(found)]) for found in detections]

    def fit(self, images, cameras, detections, keypoints):
        self.asked.append("mesh")
        rows = [self._rows(found) for found in detections]
        bare = replace(self.guess.people, age_years=None, age_std_years=None, male_probability=None)
        return [FirstMeshes(bare[r], ("",) * len(r)) for r in rows]

    def _rows(self, found) -> np.ndarray:
        boxes = self.guess.people.boxes_px
        return np.array([int(np.flatnonzero((boxes == box).all(1))[0]) for box in found.boxes_px], int)

    def experts(self, **changes) -> Experts:
        parts = {"persons": self, "keypoints": self, "mesh": self, "attributes": _Ages(self), "depth": _Depth(self)}
        camera = MetadataCamera(self.guess.camera.vertical_fov)
        return Experts(camera=camera, screening=self.screening, **{**parts, **changes})


class _Ages:
    name = "ages"

    def __init__(self, watchers) -> None:
        self.watchers = watchers

    def sources(self):
        return ()

    def estimate(self, images, detections, keypoints):
        self.watchers.asked.append("ages")
        people = self.watchers.guess.people
        rows = [self.watchers._rows(found) for found in detections]
        return [
            Attributes(people.age_years[r], np.ones(len(r)), people.male_probability[r], np.full((len(r), 4), np.nan))
            for r in rows
        ]


class _Depth(_Ages):
    name = "depth"

    def estimate(self, images):
        self.watchers.asked.append("depth")
        return [self.watchers.map for _ in images]


def loaded(crowd, people: Scene | None, name: str = "a.png", **changes) -> Loaded:
    pixels = np.zeros((crowd[1].camera.height, crowd[1].camera.width, 3), np.uint8)
    return Loaded(Sample(Entry("crowd", name), people=people, **changes), pixels)


# Reading


def test_an_image_is_read_once_for_all_that_is_known_of_it(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (24, 40, 3)).astype(np.uint8)
    data = png(pixels)
    (tmp_path / "a.png").write_bytes(data)
    samples = [Sample(Entry("d", "a.png"), tmp_path / "a.png"), Sample(Entry("d", "b.png"), encoded=data)]
    for wanted in (True, False):
        for one in ReadImages(wanted)(samples):
            assert isinstance(one, Loaded) and one.file is not None
            assert (one.file.size_bytes, one.file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
            assert (one.file.width, one.file.height) == (40, 24)
            assert np.array_equal(one.pixels, pixels) if wanted else one.pixels is None


@pytest.mark.parametrize("ending", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_header_tells_the_size_of_the_upright_image(ending, tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 24)).save(tmp_path / "a", ending, exif=exif)
    sample = Sample(Entry("d", "a"), tmp_path / "a")
    sizes = {(one.file.width, one.file.height) for want in (True, False) for one in ReadImages(want)([sample])}
    assert sizes == {(24, 40)}


def test_what_cannot_be_read_is_named(tmp_path):
    good = png(np.zeros((24, 40, 3), np.uint8))
    for name, data in (("empty", b""), ("garbage", b"no image"), ("small", png(np.zeros((4, 40, 3), np.uint8)))):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    samples = [Sample(Entry("d", name), tmp_path / name) for name in ("empty", "garbage", "small", "folder", "gone")]
    samples += [Sample(Entry("d", "nowhere"))]
    samples += [Sample(Entry("d", "told"), encoded=good, problem=(Outcome.LABELS_INVALID, "row 7 holds NaN"))]
    answers = ReadImages(True)(samples)
    assert [type(one) for one in answers] == [Built] * 7 and [one.entry for one in answers] == [
        one.entry for one in samples
    ]
    missing, unreadable = Outcome.IMAGE_MISSING, Outcome.IMAGE_UNREADABLE
    assert [one.outcome for one in answers] == [unreadable] * 4 + [missing] * 2 + [Outcome.LABELS_INVALID]
    reasons = ("0 bytes", "corrupt", "at least 16", "directory", "not there", "not there", "NaN")
    for one, said in zip(answers, reasons, strict=True):
        assert said in one.detail and "\n" not in one.detail
    blind = ReadImages(False)(samples)
    assert [type(one) for one in blind] == [Built, Built, Loaded, Built, Loaded, Loaded, Built]
    assert blind[4].file is None


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOTCONN])
def test_a_disk_that_went_away_is_no_images_fault(tmp_path, monkeypatch, number):
    def gone(path):
        raise OSError(number, "gone")

    monkeypatch.setattr(Path, "read_bytes", gone)
    with pytest.raises(InputError, match=r"cannot read .*a\.png: gone; see to the disk or share"):
        ReadImages(False)([Sample(Entry("d", "a.png"), tmp_path / "a.png")])


def test_labels_of_another_image_or_without_parameters(crowd, bare):
    small = png(np.zeros((24, 40, 3), np.uint8))
    rigid = replace(bare.people, body="rigid", pose=None, shape=None, faces=np.array([[0, 1, 2]]), joints_m=None)
    answers = ReadImages(False)([
        sample_of(crowd, people=bare, encoded=small),
        sample_of(crowd, people=replace(bare, people=rigid)),
        sample_of(crowd, people=bare),
    ])  # fmt: skip
    assert [getattr(one, "outcome", None) for one in answers] == [Outcome.LABELS_INVALID] * 2 + [None]
    assert "1280x720 pixels, but the image has 40x24" in answers[0].detail
    assert "a set holds parameters" in answers[1].detail


# People whom the source has


def test_evidence_that_is_there_is_not_asked_for(crowd):
    watchers = Watchers(crowd)
    (one,) = FirstGuess(watchers.experts(), False)([loaded(crowd, crowd[1], depth=crowd[2])])
    assert watchers.asked == [] and one.depth is crowd[2]
    assert one.origins == ("labelled",) * 6 and one.scene.image is None
    assert all(getattr(one.scene.people, name) is getattr(crowd[1].people, name) for name in EVIDENCE)


def test_labels_get_the_evidence_of_their_detections_and_keep_their_order(crowd, bare):
    watchers, people = Watchers(crowd), crowd[1].people
    rows = np.arange(10, 16)
    (one,) = FirstGuess(watchers.experts(), False)([loaded(crowd, bare, label_rows=rows, focal_std=0.03)])
    assert watchers.asked == ["persons", "keypoints", "ages", "depth"]
    got, found = one.scene.people, np.array([0, 1, 3, 4, 5])
    np.testing.assert_array_equal(got.translation_m, people.translation_m)
    for name in ("boxes_px", "age_years", "male_probability"):
        np.testing.assert_array_equal(getattr(got, name)[found], getattr(people, name)[found])
    np.testing.assert_array_equal(got.masks.to_dense()[found], people.masks.to_dense()[found])
    np.testing.assert_allclose(got.scores[[4, 0, 5, 1, 3]], np.linspace(0.9, 0.5, 5))
    assert np.isnan([got.age_years[2], got.age_std_years[2], got.male_probability[2]]).all() and got.scores[2] == 0
    assert got.masks.to_dense()[2].all(), "whom nobody detected is not confined"
    np.testing.assert_array_equal(got.boxes_px[2], projected_boxes(people.vertices_m[[2]], bare.camera)[0])
    assert one.origins == ("labelled",) * 6 and one.focal_std == 0.03
    np.testing.assert_array_equal(one.label_rows, rows)
    assert "not detected: labelled person 2" in one.notes and "age unknown of person 2" in one.notes


def test_a_whole_image_as_mask_confines_nobody(crowd, bare):
    """DTO reads the map on a body alone as it does on bodies without masks."""
    whole = Masks.from_dense(np.ones((6, 720, 1280), bool))
    scenes = [replace(bare, people=replace(bare.people, masks=masks)) for masks in (None, whole)]
    one, two = (place(scene, crowd[2])[1] for scene in scenes)
    np.testing.assert_array_equal(one.samples, two.samples)
    np.testing.assert_array_equal(one.depth_ratio, two.depth_ratio)


def test_given_values_stay_where_others_are_found(crowd, bare):
    ages = np.full(6, 33.0)
    people = replace(bare.people, age_years=ages, scores=np.full(6, 0.25))
    (one,) = FirstGuess(Watchers(crowd).experts(), False)([loaded(crowd, replace(bare, people=people))])
    assert one.scene.people.age_years is people.age_years and one.scene.people.age_std_years is None
    assert one.scene.people.scores is people.scores
    assert one.scene.people.masks is not None and one.scene.people.male_probability is not None


def test_boxes_match_where_no_keypoint_is_seen(crowd, bare):
    """And only those with half of their union in common."""
    (one,) = FirstGuess(Watchers(crowd, confident=False).experts(), False)([loaded(crowd, bare)])
    known = np.flatnonzero(~np.isnan(one.scene.people.age_years))
    assert 2 not in known and len(known) >= 2
    np.testing.assert_array_equal(one.scene.people.age_years[known], crowd[1].people.age_years[known])


def test_screened_detections_are_nobodys(crowd, bare):
    watchers = Watchers(crowd, order=(0, 0, 1), screening=Screening(min_keypoints=1))
    (one,) = FirstGuess(watchers.experts(), False)([loaded(crowd, bare)])
    assert (~np.isnan(one.scene.people.age_years)).sum() == 2
    assert sum("left out" in note for note in one.notes) == 1


def test_own_boxes_stand_for_detections_where_nobody_is_looked_for(crowd, bare):
    people = crowd[1].people
    boxed = replace(bare, people=replace(bare.people, boxes_px=people.boxes_px, keypoints_px=people.keypoints_px))
    watchers = Watchers(crowd)
    experts = watchers.experts(persons=NoPersons(), keypoints=NoKeypoints(), mesh=NoMeshes())
    (one,) = FirstGuess(experts, False)([loaded(crowd, boxed)])
    assert watchers.asked == ["ages", "depth"]
    np.testing.assert_array_equal(one.scene.people.age_years, people.age_years)
    assert one.scene.people.masks is None


def test_nobody_is_asked_about_nobody(crowd, bare):
    watchers = Watchers(crowd)
    nobody = replace(bare, people=bare.people[[]])
    (one,) = FirstGuess(watchers.experts(), False)([loaded(crowd, nobody)])
    assert watchers.asked == [] and one.origins == () and one.depth is None
    assert Place(DTOConfig())([one])[0].outcome is Outcome.NOBODY


# Added people


def test_people_whom_the_source_lacks_are_added(crowd, bare):
    watchers = Watchers(crowd, order=(4, 0, 5, 1))
    labels = replace(bare, people=bare.people[[0, 2, 5]])
    (one,) = FirstGuess(watchers.experts(), True)([loaded(crowd, labels, label_rows=np.array([7, 8, 9]))])
    people = crowd[1].people
    assert one.origins == ("labelled",) * 3 + ("detected",) * 2
    assert one.label_rows.tolist() == [7, 8, 9, -1, -1]
    np.testing.assert_array_equal(
        one.scene.people.translation_m, people.translation_m[[0, 2, 5, 1, 4]][[0, 1, 2, 4, 3]]
    )
    np.testing.assert_array_equal(one.scene.people.age_years[[0, 2, 3, 4]], people.age_years[[0, 5, 4, 1]])
    assert np.isnan(one.scene.people.age_years[1]) and len(one.scene.people.masks) == 5
    (left,) = FirstGuess(watchers.experts(), False)([loaded(crowd, labels)])
    assert "not added: 2 detected people whom the source lacks" in left.notes and len(left.scene.people) == 3


def test_people_are_added_to_images_of_nobody_and_doubtful_ones_are_not(crowd, bare):
    watchers = Watchers(crowd, order=(3, 4))
    fit = watchers.fit
    watchers.fit = lambda *a: [FirstMeshes(mesh.people, ("too thin", "")) for mesh in fit(*a)]
    (one,) = FirstGuess(watchers.experts(), True)([loaded(crowd, replace(bare, people=bare.people[[]]))])
    np.testing.assert_array_equal(one.scene.people.translation_m, crowd[1].people.translation_m[[4]])
    np.testing.assert_array_equal(one.scene.people.age_years, crowd[1].people.age_years[[4]])
    assert any("too thin" in note for note in one.notes) and one.origins == ("detected",)


def test_who_may_be_labelled_already_is_not_added(crowd, bare):
    """Keypoints that are nobody's in the box of somebody who has none."""
    watchers = Watchers(crowd, order=(0,))
    locate = watchers.locate

    def elsewhere(images, detections):
        return [Keypoints(points.coco17_px + np.array([4000.0, 0, 0])) for points in locate(images, detections)]

    watchers.locate = elsewhere
    covered = projected_boxes(bare.people.vertices_m[[0]], bare.camera)
    watchers.detect = lambda images: [Detections(covered, np.ones(1)) for _ in images]
    ages = NoAttributes()
    (one,) = FirstGuess(watchers.experts(attributes=ages), True)(
        [loaded(crowd, replace(bare, people=bare.people[[0]]))]
    )
    assert len(one.scene.people) == 1 and "mesh" not in watchers.asked
    assert any("labelled ones in another pose" in note for note in one.notes)


def test_added_bodies_must_be_those_of_the_labels(crowd, bare):
    watchers = Watchers(crowd, order=(4, 0))
    fit = watchers.fit
    watchers.fit = lambda *a: [FirstMeshes(replace(mesh.people, body="smpl")) for mesh in fit(*a)]
    with pytest.raises(
        OtherBodyError, match=r"the labels are anny bodies and the mesh expert makes smpl; choose a mesh"
    ):
        FirstGuess(watchers.experts(), True)([loaded(crowd, replace(bare, people=bare.people[[0]]))])


# Images without people, and failures


def test_people_are_found_in_images_of_which_nothing_is_known(crowd):
    watchers = Watchers(crowd)
    mixed = [
        loaded(crowd, None, "a.png"),
        loaded(crowd, crowd[1], "b.png"),
        loaded(crowd, None, "c.png", depth=crowd[2]),
    ]
    one, two, three = FirstGuess(watchers.experts(), False)(mixed)
    assert [g.loaded.sample.entry.path for g in (one, two, three)] == ["a.png", "b.png", "c.png"]
    assert one.origins == three.origins == ("detected",) * 5 and two.origins == ("labelled",) * 6
    assert watchers.asked.count("persons") == 1, "all at once"
    assert one.label_rows is None and one.scene.image is None and three.depth is crowd[2]
    assert "photo_sha256" not in one.scene.provenance
    built = Place(DTOConfig())([one, two, three])
    assert all(b.placement is not None for b in built)


def test_one_bad_image_fails_alone(crowd, bare):
    watchers = Watchers(crowd)
    detect = watchers.detect

    def picky(images):
        if any(image.path.name == "b.png" for image in images):
            raise ValueError("no\nidea")
        return detect(images)

    watchers.detect = picky
    early = Built(Entry("crowd", "x.png"), Outcome.IMAGE_MISSING, "gone")
    for people in (None, bare):
        group = [loaded(crowd, people, f"{name}.png") for name in "abc"]
        answers = FirstGuess(watchers.experts(), False)([early, *group])
        assert answers[0] is early
        assert [type(one) for one in answers] == [Built, Guessed, Built, Guessed]
        assert answers[2].outcome is Outcome.FAILED and answers[2].entry.path == "b.png"
        assert answers[2].detail == "unexpected ValueError, please report it: no idea"
        placed = Place(DTOConfig())(answers)
        assert placed[0] is early and placed[2] is answers[2] and placed[1].placement is not None


@pytest.mark.parametrize(
    "error",
    [
        AssetError("no weights"), MemoryError(), torch.OutOfMemoryError(), OSError(errno.ENOSPC, "full"),
        torch.AcceleratorError("an illegal memory access"), RuntimeError("CUDA error: device-side assert triggered"),
    ],
)  # fmt: skip
def test_what_would_hit_every_image_stops_all(crowd, error):
    watchers = Watchers(crowd)

    def fail(images):
        raise error

    watchers.detect = fail
    with pytest.raises(type(error)):
        FirstGuess(watchers.experts(), False)([loaded(crowd, None)])


def test_a_missing_depth_map_fails_alone_and_costs_no_second_guess(crowd, bare):
    watchers = Watchers(crowd)

    class Maps(_Depth):
        def estimate(self, images):
            if any(image.path.name == "b.png" for image in images):
                raise InputError("there is no map of b.png")
            return super().estimate(images)

    group = [loaded(crowd, bare, f"{name}.png") for name in "abc"]
    answers = FirstGuess(watchers.experts(depth=Maps(watchers)), False)(group)
    assert [type(one) for one in answers] == [Guessed, Built, Guessed]
    assert watchers.asked.count("persons") == 1
    (alone,) = FirstGuess(None, False)([loaded(crowd, bare)])
    assert alone.outcome is Outcome.FAILED and "no depth map of it; choose a depth expert" in alone.detail
    (unknown,) = FirstGuess(None, False)([loaded(crowd, None)])
    assert "choose experts to find them" in unknown.detail


# Placing


def test_sources_with_everything_need_no_experts(crowd):
    read, guess, put = make_stages(None, DTOConfig(), False, needs_experts=False)
    assert not read.pixels and guess.experts is None
    (one,) = put(guess(read([sample_of(crowd, focal_std=0.0)])))
    scene, placement = place(crowd[1], crowd[2], DTOConfig().with_focal_std(0.0))
    assert one.outcome is Outcome.ACCEPTED and one.score == placement.score and one.detail == ""
    np.testing.assert_array_equal(one.placement.depth_std_m, placement.depth_std_m)
    np.testing.assert_array_equal(one.after.people.translation_m, scene.people.translation_m)
    np.testing.assert_array_equal(one.after.people.joints_m, scene.people.joints_m)
    np.testing.assert_array_equal(one.before.people.joints_m, pose_people(crowd[1].people).joints_m)
    np.testing.assert_array_equal(one.before.people.age_years, crowd[1].people.age_years)
    for kept in (one.before, one.after):
        assert kept.people.vertices_m is None and kept.people.masks is None and kept.image is None


def test_outcomes(crowd, bare):
    _, guess, depth = crowd
    config = DTOConfig()

    def outcome(people: People, config: DTOConfig | None = config) -> Outcome:
        guessed = Guessed(loaded(crowd, None), replace(guess, image=None, people=people), depth, ("x",) * len(people))
        return Place(config)([guessed])[0].outcome

    assert outcome(guess.people) is Outcome.ACCEPTED
    strict = replace(config, accept_below=1e-6)
    assert outcome(guess.people, strict) is Outcome.SCORE_TOO_HIGH
    ageless = replace(guess.people, age_years=np.full(6, np.nan))
    assert outcome(ageless) is outcome(ageless, strict) is Outcome.AGES_UNKNOWN
    assert outcome(guess.people[[0]]) is Outcome.FEWER_THAN_TWO
    assert outcome(guess.people[[]]) is outcome(guess.people[[]], None) is Outcome.NOBODY
    assert outcome(guess.people, None) is Outcome.TAKEN_OVER


def test_errors_of_the_placement_are_rows(crowd):
    from crowdmesh.depth import RelativeDepth

    wide = RelativeDepth(np.ones((10, 100)), "disparity")
    metric = RelativeDepth(crowd[2].values + 1.0, "metric")
    guesses = [
        Guessed(loaded(crowd, None), replace(crowd[1], image=None), depth, ("labelled",) * 6)
        for depth in (wide, metric, crowd[2])
    ]
    answers = Place(official())(guesses)
    assert [one.outcome is Outcome.FAILED for one in answers] == [True, True, False]
    assert "the depth map is 100x10" in answers[0].detail and answers[0].before is None


def test_taken_over_as_they_are_nobody_is_asked(crowd, bare):
    """Not even for surfaces: label sets can be taken over without the body model."""
    flat = replace(bare.people, vertices_m=None, joints_m=None, body="smpl")
    read, guess, put = make_stages(ExpertChoice("paper", ExpertOptions()), None, False, needs_experts=False)
    assert not read.pixels
    (one,) = put(guess(read([sample_of(crowd, people=Scene(bare.camera, flat), depth=None)])))
    assert one.outcome is Outcome.TAKEN_OVER and one.placement is None and one.score == float("inf")
    np.testing.assert_array_equal(one.before.people.pose, flat.pose)
    assert one.after is not None and len(one.origins) == 6


def test_stages_that_cannot_work_are_refused(crowd, photos):
    none = ExpertOptions(persons="none", keypoints="none", mesh="none")
    with pytest.raises(InputError, match="choose experts to find people"):
        make_stages(None, DTOConfig(), False, needs_experts=True)
    with pytest.raises(InputError, match="are for images whose people are known"):
        make_stages(ExpertChoice("lite", none), DTOConfig(), False, needs_experts=True)
    with pytest.raises(InputError, match="are for images whose people are known"):
        make_stages(ExpertChoice("lite", none), DTOConfig(), True, needs_experts=False)
    with pytest.raises(InputError, match="added only by experts"):
        make_stages(None, DTOConfig(), True, needs_experts=False)
    with pytest.raises(InputError, match="added only by experts"):
        make_stages(ExpertChoice("lite", ExpertOptions()), None, True, needs_experts=False)


def test_small_networks_find_people_in_a_photograph(photos):
    path = photos / "parents_and_baby.jpg"
    samples = [Sample(Entry("photos", path.name), path), Sample(Entry("photos", "x.jpg"), Path("/nowhere/x.jpg"))]
    read, guess, put = make_stages(ExpertChoice("lite", ExpertOptions()), DTOConfig(), False, needs_experts=True)
    one, gone = put(guess(read(samples)))
    assert len(one.after.people) >= 2 and one.placement is not None and one.file.width == one.after.camera.width
    assert gone.outcome is Outcome.IMAGE_MISSING
    labels = Sample(samples[0].entry, path, people=one.before)
    again = guess(read([labels]))[0]
    assert again.origins == ("labelled",) * len(one.after.people) and load_experts("lite").persons is not None
    # The detector sees them again where they were labelled.
    np.testing.assert_array_equal(np.isnan(again.scene.people.age_years), np.isnan(one.before.people.age_years))


def test_a_hidden_person_is_found_by_the_part_that_shows():
    """Boxes of bodies that others hide are larger than those of what is seen of them; nobody is taken twice."""
    bodies = np.array([[0.0, 0.0, 100.0, 200.0], [150.0, 0.0, 250.0, 200.0], [400.0, 0.0, 500.0, 200.0]])
    seen = np.array([[160.0, 0.0, 230.0, 40.0], [0.0, 5.0, 100.0, 195.0], [90.0, 0.0, 140.0, 40.0]])
    nothing = Keypoints(np.zeros((3, 17, 3)))
    labels = Targets(np.zeros((3, 17, 2)), np.ones(3))
    found = match_labels(labels, bodies, Detections(seen, np.ones(3)), nothing)
    assert found.tolist() == [1, 0, -1]


def test_an_image_that_would_fill_the_memory_is_named(crowd, monkeypatch):
    monkeypatch.setattr("crowdmesh.pgt.stages.LARGEST_PX", 40 * 30)
    small, large = (
        sample_of(crowd, name, encoded=png(np.zeros((30, width, 3), np.uint8)), people=None)
        for name, width in (("a.png", 40), ("b.png", 41))
    )
    kept, refused = ReadImages(pixels=True)([small, large])
    assert isinstance(kept, Loaded) and refused.outcome is Outcome.IMAGE_UNREADABLE and "41x30 pixels" in refused.detail
    assert all(isinstance(one, Loaded) for one in ReadImages(pixels=False)([small, large]))
