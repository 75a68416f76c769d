"""Mixing data sets and loading them: every step is the same whoever reads it, and bad images are counted."""

from __future__ import annotations

import logging
import pickle
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.errors import FormatError, InputError
from crowdmesh.training import mixing
from crowdmesh.training.loading import Loader
from crowdmesh.training.mixing import DataPart, Mixture
from crowdmesh.training.remembering import Memory, shrunk
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample
from crowdmesh.training.targets import Example, Targets

KNOWN = Supervision(bodies=False, shape=False, kid=False, everybody=True, camera=True, scale_map=False)


def _mixture(lengths: list[int], weights: list[float] | None = None, seed: int = 3) -> Mixture:
    parts = [DataPart(f"set{i}", weight=None if weights is None else weights[i]) for i in range(len(lengths))]
    return Mixture(parts, [range(n) for n in lengths], seed)


class Photographs:
    """Images of one colour each: the file number is the value of every pixel."""

    def __init__(self, name: str, folder: Path, count: int, broken: tuple[int, ...] = ()) -> None:
        self.name, self.folder, self.count, self.broken = name, folder, count, broken

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int) -> TrainingSample:
        if index in self.broken:
            raise FormatError(f"labels.npz: image '{index}', field 'pose' holds NaN")
        people = LabelledPeople(1, point_names=("nose",), keypoints_px=np.array([[[20.0, 10.0, 1.0]]]))
        K = np.array([[50.0, 0, 20.0], [0, 50.0, 10.0], [0, 0, 1]])
        return TrainingSample(f"{self.name}/{index}.png", self.name, self.folder / f"{index}.png", K, people, KNOWN)


@dataclass
class Made:
    """An example whose pixels are (colour, random number, 0); nobody is seen in images of the colours in ``empty``."""

    empty: tuple[int, ...] = ()
    refuse: bool = False
    blur: bool = False

    def __call__(self, sample: TrainingSample, pixels: np.ndarray, random: np.random.Generator) -> Example | None:
        if self.refuse:
            raise InputError("the network has the body anny and the labels smpl")
        if self.blur:
            cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (31, 31), 0)
        if pixels[0, 0, 0] in self.empty:
            return None
        none = torch.zeros(0, 1)
        targets = Targets(
            key=sample.key, dataset=sample.dataset, image_size=torch.tensor(pixels.shape[:2], dtype=torch.float32),
            boxes=torch.zeros(0, 4), has_box=none[:, 0].bool(), joints_2d=torch.zeros(0, 1, 2),
            joints_2d_mask=none.bool(),
            joints_3d=torch.zeros(0, 1, 3), joints_3d_mask=none.bool(), rotations=torch.zeros(0, 1, 3, 3),
            has_pose=none[:, 0].bool(), betas=none, betas_mask=none.bool(), translations=torch.zeros(0, 3),
            depth_m=none[:, 0], has_depth=none[:, 0].bool(), depth_layers=none[:, 0].long(), age_years=none[:, 0],
            focal_px=torch.tensor(1.0), vertical_fov=torch.tensor(1.0), has_camera=torch.tensor(True),
            everybody=torch.tensor(True), scale_map=torch.zeros(0, 2), has_map=torch.tensor(False),
        )  # fmt: skip
        values = torch.tensor([float(pixels[0, 0, 0]), random.random(), 0.0])
        return Example(values[:, None, None], targets)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photographs")
    for number in range(12):
        cv2.imwrite(str(path / f"{number}.png"), np.full((20, 40, 3), number, np.uint8))
    return path


def _loader(folder: Path, make: Made | None = None, broken: tuple[int, ...] = (), count: int = 12, **options) -> Loader:
    datasets = [Photographs("a", folder, count, broken), Photographs("b", folder, 5)]
    mixture = Mixture([DataPart("a"), DataPart("b")], datasets, options.get("seed", 1))
    return Loader(datasets, mixture, make or Made(), **{"batch": 4, "seed": 1, **options})


def _seen(steps) -> list[list[tuple[str, float, float]]]:
    """(key, colour, random number) of every example of each step, sorted: in which order does not matter."""
    return [
        sorted((e.targets.key, float(e.pixels[0, 0, 0]), float(e.pixels[1, 0, 0])) for micro in step for e in micro)
        for step in steps
    ]


class TestMixture:
    @settings(max_examples=30)
    @given(
        lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), seed=st.integers(0, 2**40),
        epoch=st.integers(0, 10**6),
    )  # fmt: skip
    def test_unweighted_every_epoch_shows_every_image_once(self, lengths, seed, epoch):
        mixture = _mixture(lengths, seed=seed)
        places = [mixture.locate(epoch * mixture.images + i) for i in range(mixture.images)]
        assert sorted((p.part, p.index) for p in places) == [(i, j) for i, n in enumerate(lengths) for j in range(n)]
        assert {p.repeat for p in places} == {epoch}

    def test_weights_are_met_exactly_and_no_image_comes_twice_before_all_came_once(self, monkeypatch):
        monkeypatch.setattr(mixing, "_SMALLEST_BLOCK", 1000)
        mixture = _mixture([7, 100, 3], [1.0, 2.0, 1.0])
        assert mixture.shares == (0.25, 0.5, 0.25)
        places = [mixture.locate(i) for i in range(2000)]
        for part, length in enumerate(mixture.lengths):
            own = [p for p in places if p.part == part]
            assert len(own) == round(2000 * mixture.shares[part])
            seen = np.bincount([p.index for p in own], minlength=length)
            assert seen.max() - seen.min() <= 1
            assert max(p.repeat for p in own) == (len(own) - 1) // length

    def test_a_tiny_weight_still_has_a_place(self):
        mixture = _mixture([5, 5], [1.0, 1e-9])
        assert 0 < mixture.shares[1] < 1e-3

    def test_positions_are_known_without_walking_there_and_anywhere(self):
        mixture = _mixture([50, 20])
        walked = [mixture.locate(i) for i in range(200)]
        copy = pickle.loads(pickle.dumps(mixture))
        assert [copy.locate(i) for i in reversed(range(200))] == walked[::-1]
        assert _mixture([50, 20]).locate(10**12) == mixture.locate(10**12)

    def test_orders_differ_by_seed_pass_and_part(self):
        def order(mixture: Mixture, part: int, repeat: int) -> list[int]:
            places = [mixture.locate(i) for i in range(3 * mixture.images)]
            return [p.index for p in places if (p.part, p.repeat) == (part, repeat)]

        mixture = _mixture([40, 40])
        orders = [order(mixture, 0, 0), order(mixture, 0, 1), order(mixture, 1, 0)]
        orders.append(order(_mixture([40, 40], seed=4), 0, 0))
        assert len({tuple(o) for o in orders}) == 4

    def test_parts_are_interleaved(self):
        mixture = _mixture([150, 150])
        parts = [mixture.locate(i).part for i in range(300)]
        assert 100 < np.count_nonzero(np.diff(parts)) < 200

    def test_refusals(self):
        with pytest.raises(InputError, match=r"set1 \(train\) has no images"):
            _mixture([3, 0])
        with pytest.raises(InputError, match="b has no weight"):
            Mixture([DataPart("a", weight=1.0), DataPart("b")], [range(2), range(2)], 0)
        with pytest.raises(InputError, match="at least one data set"):
            Mixture([], [], 0)
        with pytest.raises(InputError, match="numbered from 0"):
            _mixture([3]).locate(-1)
        for weight in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(InputError, match="must be positive"):
                DataPart("a", weight=weight)


class TestLoader:
    def test_a_step_is_the_positions_of_the_batch(self, folder):
        loader = _loader(folder)
        steps = list(loader.steps(0, 3))
        assert [[len(micro) for micro in step] for step in steps] == [[4]] * 3
        places = [loader.mixture.locate(i) for i in range(12)]
        wanted = ["ab"[p.part] + f"/{p.index}.png" for p in places]
        assert [e.targets.key for step in steps for micro in step for e in micro] == wanted
        assert loader.tried == 12 and not loader.skipped

    def test_processes_micro_batches_workers_and_stops_change_nothing(self, folder):
        whole = _seen(_loader(folder).steps(0, 6))
        assert _seen(_loader(folder, accumulation=2).steps(0, 6)) == whole
        assert _seen(_loader(folder, remember_px=40).steps(0, 6)) == whole
        assert _seen(_loader(folder).steps(0, 2)) + _seen(_loader(folder).steps(2, 6)) == whole
        halves = [_loader(folder, process=(rank, 2), accumulation=2).steps(0, 6) for rank in (0, 1)]
        assert [sorted(a + b) for a, b in zip(*map(_seen, halves), strict=True)] == whole

    def test_worker_processes_give_the_same_and_leave_the_random_state_of_the_training_alone(self, folder):
        before = torch.get_rng_state()
        loader = _loader(folder, workers=2, broken=(3,), seed=5)
        alone = _loader(folder, broken=(3,), seed=5)
        assert _seen(loader.steps(0, 4)) == _seen(alone.steps(0, 4))
        assert loader.skipped == alone.skipped and loader.tried == alone.tried
        assert torch.equal(torch.get_rng_state(), before)

    def test_workers_wait_for_no_thread_that_stayed_behind(self, folder):
        """OpenCV's threads do not come along when a process is forked; theirs are up and running here."""
        cv2.setNumThreads(4)
        try:
            cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (31, 31), 0)
            loader = _loader(folder, Made(blur=True), workers=1)
            assert len(list(loader.steps(0, 1))) == 1
            assert cv2.getNumThreads() == 4
        finally:
            cv2.setNumThreads(1)

    def test_random_numbers_are_those_of_the_position_and_of_the_seed(self, folder):
        def numbers(seed: int) -> list[float]:
            loader = _loader(folder)
            loader = Loader(loader._reader.datasets, loader.mixture, Made(), batch=17, seed=seed)
            return [float(e.pixels[1, 0, 0]) for step in loader.steps(0, 2) for e in step[0]]

        assert numbers(1) == numbers(1) != numbers(2)
        assert len(set(numbers(1))) == 34

    def test_bad_images_are_replaced_named_and_counted(self, folder, caplog):
        with caplog.at_level(logging.WARNING, logger="crowdmesh.training"):
            loader = _loader(folder, broken=(3,), count=13)  # and there is no 12.png
            steps = _seen(loader.steps(0, 4))
        assert all(len(step) == 4 for step in steps)
        assert set(loader.skipped) == {"a, image number 3", "a/12.png"}
        assert "holds NaN" in loader.skipped["a, image number 3"] and "does not exist" in loader.skipped["a/12.png"]
        assert {record.args[0] for record in caplog.records} == set(loader.skipped)
        assert not any(key in ("a/3.png", "a/12.png") for step in steps for key, *_ in step)

    def test_a_substitute_follows_from_the_position(self, folder):
        assert _seen(_loader(folder, broken=(3,)).steps(0, 4))[2:] == _seen(_loader(folder, broken=(3,)).steps(2, 4))

    def test_more_than_one_percent_is_refused(self, folder):
        with pytest.raises(
            InputError, match=r"of \d+ images cannot be used, more than 1 %, first a, image number [345]: .*NaN"
        ):
            list(_loader(folder, broken=(3, 4, 5)).steps(0, 100))

    def test_two_images_are_forgiven_and_of_more_one_in_a_hundred(self, folder):
        loader = _loader(folder)
        for tried, unusable, images, refused in ((10, 10, 2, False), (10, 3, 3, True), (300, 3, 3, False),
                                                 (299, 3, 3, True), (5000, 50, 50, False),
                                                 (5000, 51, 50, True)):  # fmt: skip
            loader.tried, loader.unusable = tried - 1, unusable
            loader.skipped = {str(i): "because" for i in range(images)}
            loaded = loader._reader[0]
            if refused:
                with pytest.raises(InputError, match="more than 1 %"):
                    loader._accept(loaded)
            else:
                loader._accept(loaded)

    def test_an_image_that_shows_nobody_is_no_bad_image(self, folder):
        loader = _loader(folder, Made(empty=(0, 1, 2)))
        assert all(len(step) == 4 for step in _seen(loader.steps(0, 4)))
        assert loader.nobody > 0 and not loader.skipped
        with pytest.raises(InputError, match=r"images of [ab] in a row show nobody"):
            list(_loader(folder, Made(empty=tuple(range(12)))).steps(0, 1))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_an_example_that_cannot_be_made_ends_the_run(self, folder, workers):
        with pytest.raises(InputError) as caught:
            list(_loader(folder, Made(refuse=True), workers=workers).steps(0, 1))
        assert str(caught.value) == "the network has the body anny and the labels smpl"

    def test_refusals(self, folder):
        with pytest.raises(InputError, match="multiple of 8"):
            _loader(folder, process=(0, 4), accumulation=2)
        with pytest.raises(InputError, match="process 2 of 2"):
            _loader(folder, process=(2, 2))
        with pytest.raises(InputError, match="batch must be at least 1"):
            _loader(folder, batch=0)
        with pytest.raises(InputError, match="no range of steps"):
            list(_loader(folder).steps(3, 2))
        loader = _loader(folder)
        with pytest.raises(InputError, match="lengths differ"):
            Loader(loader._reader.datasets[:1], loader.mixture, Made(), batch=1, seed=0)


class TestMemory:
    def test_a_point_keeps_its_place_in_the_shrunken_image(self, folder):
        sample = Photographs("a", folder, 1).sample(0)
        pixels = np.zeros((300, 500, 3), np.uint8)
        pixels[90:120, 250:300] = 255
        points = np.array([[[275.0, 105.0, 0.7]]])
        sample = replace(sample, image=pixels, people=replace(sample.people, keypoints_px=points), turn_clockwise=True)
        small, image = shrunk(sample, pixels, 137)
        assert image.shape == (82, 137, 3) and small.image is image and not small.turn_clockwise
        assert np.allclose(small.people.keypoints_px, [[[275 * 137 / 500, 105 * 82 / 300, 0.7]]])
        ys, xs = np.mgrid[:82, :137] + 0.5
        weight = image[..., 0] / image[..., 0].sum(dtype=float)
        assert np.allclose([(xs * weight).sum(), (ys * weight).sum()], small.people.keypoints_px[0, 0, :2], atol=0.02)
        ray = np.linalg.solve(sample.intrinsics_px, [275.0, 105.0, 1.0])
        assert np.allclose((small.intrinsics_px @ ray)[:2], small.people.keypoints_px[0, 0, :2])

    def test_small_images_stay_as_they_are(self, folder):
        sample = Photographs("a", folder, 1).sample(0)
        small, pixels = shrunk(sample, sample.pixels(), 100)
        assert np.array_equal(pixels, sample.pixels()) and np.array_equal(small.intrinsics_px, sample.intrinsics_px)

    def test_images_are_read_once(self, folder, tmp_path):
        for number in range(5):
            cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 40, 3), number, np.uint8))
        dataset = Photographs("a", tmp_path, 5)
        loader = Loader([dataset], Mixture([DataPart("a")], [dataset], 0), Made(), batch=5, seed=0, remember_px=20)
        first = _seen(loader.steps(0, 1))
        for path in tmp_path.iterdir():
            path.unlink()
        again = _seen(loader.steps(1, 2))
        assert [key for key, *_ in again[0]] == [key for key, *_ in first[0]] and not loader.skipped
        assert len(loader._reader.memory) == 5

    def test_too_small_a_memory_is_refused(self):
        with pytest.raises(InputError, match="at least 16 pixels"):
            Memory(8)


def test_a_worker_outlives_the_signal_that_ends_the_run(folder):
    """SIGTERM and SIGINT reach the workers too; the step that is under way must still be finished."""
    import multiprocessing
    import os

    steps = _loader(folder, workers=1).steps(0, 40)
    next(steps)
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        os.kill(worker.pid, signal.SIGINT)
        os.kill(worker.pid, signal.SIGTERM)
    assert len(list(steps)) == 39


def test_a_worker_whose_patience_ends_leaves_without_a_fault(folder):
    """While the training process validates, say, in which the error of a dead worker would come up."""
    import multiprocessing
    import os

    steps = _loader(folder, workers=1).steps(0, 400)
    next(steps)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGALRM)
    worker.join(10)
    assert worker.exitcode == 0
    steps.close()
