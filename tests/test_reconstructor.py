"""Any method on the photographs of a data set: where they lie, what it means to fail, and that nothing is lost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import smpl_people as made
from test_evaluate_cli import ANNOTATIONS, write
from test_relative_human import scene

from crowdmesh.benchmarks import Photo, RecordedScenes, SceneReconstructor, Scenes, find_photos, run
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.people import People
from crowdmesh.scene import Scene


class Method:
    """Sees the same two people everywhere, and fails where it is told to."""

    name = "two people"

    def __init__(self, **errors: Exception) -> None:
        self.errors = errors
        self.scene = scene("anny")

    def __call__(self, photo: Photo) -> Scene:
        if photo.path is not None and photo.path.stem in self.errors:
            raise self.errors[photo.path.stem]
        return self.scene


def save_photo(path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((20, 30, 3), value, np.uint8)
    image[0, 0] = 255
    cv2.imwrite(str(path), image)


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "test_annots.json", ANNOTATIONS)
    for image in ANNOTATIONS:
        save_photo(tmp_path / "images" / image)
    return tmp_path


class TestPhotos:
    def test_names_end_paths(self, tmp_path):
        for name in ("deep/er/1.png", "other/1.png", "2.png", "copies/2.png"):
            save_photo(tmp_path / name)
        photos = find_photos(tmp_path, {"er/1.png": (), "2.png": ()})
        assert list(photos) == ["er/1.png", "2.png"]
        assert photos["er/1.png"].path == tmp_path / "deep/er/1.png"
        assert photos["2.png"].path == tmp_path / "2.png"  # the very path, before others that end in it

    def test_missing_and_ambiguous_ones_are_refused(self, tmp_path):
        for name in ("a/1.png", "b/1.png"):
            save_photo(tmp_path / name)
        with pytest.raises(InputError, match=r"a/1\.png and .*b/1\.png could both be the photograph 1\.png"):
            find_photos(tmp_path, {"1.png": ()})
        with pytest.raises(InputError, match=r"1 of 2 annotated photographs do not lie below .*, among them 3\.png"):
            find_photos(tmp_path, {"a/1.png": (), "3.png": ()})

    def test_images_that_lie_on_their_side_are_turned(self, tmp_path):
        save_photo(tmp_path / "closeup.png")
        annotation = made.annotation([(0, 0, 5)], turn_clockwise=True)
        photo = find_photos(tmp_path, {"closeup.png": annotation})["closeup.png"]
        upright = photo.read()
        assert upright.shape == (30, 20, 3) and upright[0, -1, 0] == 255  # the left top comes to the right
        assert Photo("closeup.png", photo.path).read()[0, 0, 0] == 255
        with pytest.raises(InputError, match=r"x\.jpg is not at hand"):
            Photo("x.jpg").read()


class TestRunning:
    def test_every_photograph_is_seen_once(self, data, unchecked):  # the checks of the suite look into mappings
        seen = []
        result = run("relative-human", data, Method(), progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 2), (2, 2)]
        assert (result.images, result.people, result.predicted) == (2, 4, 4)
        assert result.notes[0] == "Scored: two people."
        assert isinstance(Method(), SceneReconstructor)

    def test_failures_are_reported_and_their_people_missed(self, data):
        for error, sentence in (
            (InputError("too dark"), "a.jpg: too dark"),
            (ZeroDivisionError("by zero"), "a.jpg: unexpected ZeroDivisionError: by zero"),
        ):
            result = run("relative-human", data, Method(a=error))
            assert (result.people, result.predicted, result.missed) == (4, 2, 4)
            assert result.notes[1] == (
                f"two people fails on 1 images, all of whose people are missed, among them {sentence}."
            )

    def test_a_method_that_always_fails_is_no_result(self, data):
        with pytest.raises(InputError, match="two people fails on every photograph: too dark"):
            run("relative-human", data, Method(a=InputError("too dark"), b=InputError("too dark")))

    @pytest.mark.parametrize("error", [FormatError("damaged"), AssetError("no weights")])
    def test_what_the_user_must_mend_ends_the_evaluation(self, data, error):
        with pytest.raises(type(error), match=str(error)):
            run("relative-human", data, Method(b=error))

    def test_nothing_runs_before_it_is_asked_for(self, unchecked):
        asked = []
        photos = {"a": Photo("a"), "b": Photo("b")}
        scenes = Scenes(Method(), photos, lambda done, total: asked.append((done, total)))
        assert list(scenes) == ["a", "b"] and "a" in scenes and "c" not in scenes and scenes.get("c") is None
        assert asked == [] and scenes["b"] is not None and asked == [(1, 2)] and scenes.notes() == ()


def test_results_in_files_are_a_method_like_any_other(tmp_path):
    nobody = Scene(made.CAMERA, People("rigid", np.zeros((0, 3)), np.zeros(0)))
    nobody.save(tmp_path / "a.scene.npz")
    method = RecordedScenes(tmp_path, ["deep/a.jpg", "b.jpg"])
    assert isinstance(method, SceneReconstructor) and list(method.keys) == ["deep/a.jpg"]
    assert len(method(Photo("deep/a.jpg")).people) == 0
    with pytest.raises(InputError, match=r"holds no scene of b\.jpg"):
        method(Photo("b.jpg"))
