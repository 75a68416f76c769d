"""Sets are built to the last row, whoever builds them, and say what they hold."""

from __future__ import annotations

import csv
import itertools
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from _pgt_stand_ins import ReadingJob, ShiftedSource, StandInSource, crowd_of, rows_of

from crowdmesh.dto import paper
from crowdmesh.errors import AssetError, InputError
from crowdmesh.pgt import builder as building
from crowdmesh.pgt import run as running
from crowdmesh.pgt.builder import BuildShards
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.manifest import read_manifest
from crowdmesh.pgt.pipeline import through
from crowdmesh.pgt.reading import open_set
from crowdmesh.pgt.records import Built, Entry, Loaded, Outcome, Sample
from crowdmesh.pgt.run import Progress, build, prepare
from crowdmesh.pgt.runners import run_here, run_processes, run_ray
from crowdmesh.pgt.shards import people_path, scenes_path, survey


def job_in(folder: Path, images: int = 23, **options) -> Job:
    source = StandInSource(
        images, **{name: options.pop(name) for name in ("people", "folder", "diary") if name in options}
    )
    return Job(folder, source, None, None, **{"per_shard": 4, "batch": 3, **options})


def finished(job: Job, run=run_here, **options) -> list[Progress]:
    return list(build(prepare(job, **options), run))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(job_in(folder))
    return rows_of(folder)


def test_set_holds_every_image_and_person_once(undisturbed):
    scenes, people = undisturbed
    entries = list(StandInSource(23).entries())
    assert scenes["key"].to_pylist() == [entry.key for entry in entries]
    counts = zip(scenes["key"].to_pylist(), scenes["people"].to_pylist(), strict=True)
    owners = [key for key, count in counts for _ in range(count)]
    assert people["key"].to_pylist() == owners and len(owners) > 30
    assert set(scenes["outcome"].to_pylist()) == {"taken_over", "nobody", "labels_invalid"}


def test_people_come_out_as_they_went_in(tmp_path):
    job = job_in(tmp_path, 3)
    finished(job)
    for built, number in zip(open_set(tmp_path).images(), range(3), strict=True):
        given = crowd_of(number, 1 + number % 3).people
        np.testing.assert_array_equal(built.after.people.pose, given.pose)
        np.testing.assert_array_equal(built.after.people.age_years, given.age_years)


def test_progress_manifest_and_problems(tmp_path):
    job = job_in(tmp_path)
    steps = finished(job)
    assert [step.done for step in steps] == list(np.cumsum([3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3]))
    assert steps[-1].total == steps[-1].built == 23 and steps[-1].seconds_left == 0
    assert (steps[-1].accepted, steps[-1].rejected, steps[-1].failed) == (19, 2, 2)
    manifest = read_manifest(tmp_path)
    assert manifest.complete and (manifest.planned, manifest.images, manifest.shards) == (23, 23, 6)
    assert manifest.counts == {"taken_over": 19, "nobody": 2, "labels_invalid": 2}
    assert manifest.people == len(rows_of(tmp_path)[1])
    assert manifest.licences == ("made-up data: no rights reserved",)
    with (tmp_path / "problems.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["key", "outcome", "detail"],
            ["made-up/1/00007.png", "labels_invalid", "row 7 holds NaN"],
            ["made-up/0/00018.png", "labels_invalid", "row 18 holds NaN"],
        ]
    assert not list(tmp_path.rglob(".*"))


def test_finished_set_is_left_alone(tmp_path):
    finished(job_in(tmp_path))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()}
    again = prepare(job_in(tmp_path))
    assert (again.todo, again.images_done, again.images_to_do) == ((), 23, 0)
    assert again.counts == {"taken_over": 19, "nobody": 2, "labels_invalid": 2}
    assert list(build(again)) == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "shards").iterdir()} == times


def test_parts_together_make_the_same_set(tmp_path, undisturbed):
    parts = [prepare(job_in(tmp_path), part=(number, 3)) for number in range(3)]
    assert sorted(shard for part in parts for shard in part.todo) == list(range(6))
    for part in reversed(parts):
        assert not (tmp_path / "manifest.json").is_file() or not read_manifest(tmp_path).complete
        assert list(build(part))[-1].total == part.images_to_do
    assert read_manifest(tmp_path).complete
    assert all(map(lambda a, b: a.equals(b), rows_of(tmp_path), undisturbed))
    with pytest.raises(InputError, match="part 3/3"):
        prepare(job_in(tmp_path), part=(3, 3))


def test_batches_change_nothing(tmp_path, undisturbed):
    finished(job_in(tmp_path, batch=100))
    assert all(map(lambda a, b: a.equals(b), rows_of(tmp_path), undisturbed))


def test_new_images_are_appended(tmp_path, undisturbed):
    finished(job_in(tmp_path, 10))
    steps = finished(job_in(tmp_path, 23))
    assert (steps[0].done, steps[-1].done, steps[-1].built) == (13, 23, 13)
    scenes, people = rows_of(tmp_path)
    assert scenes.equals(undisturbed[0]) and people.equals(undisturbed[1])
    finished(job_in(tmp_path, 5))
    assert rows_of(tmp_path)[0].equals(scenes)


def test_set_built_otherwise_is_refused_with_the_difference(tmp_path):
    finished(job_in(tmp_path, 2))
    with pytest.raises(InputError, match=r"per_shard: 4 -> 5\)"):
        prepare(job_in(tmp_path, 2, per_shard=5))
    with pytest.raises(InputError, match=r"source.people: 3 -> 4\)"):
        prepare(job_in(tmp_path, 2, people=4))
    with pytest.raises(InputError, match=r'dto: null -> absent; dto.preset: absent -> "paper"'):
        prepare(replace(job_in(tmp_path, 2), config=paper()))


def test_dry_run_writes_nothing_and_tells_the_same(tmp_path):
    folder = tmp_path / "set"
    dry = prepare(job_in(folder), dry=True)
    assert not folder.exists()
    assert (dry.images_to_do, dry.plan.records, len(dry.todo)) == (23, 23, 6)
    with pytest.raises(InputError, match="only looked at"):
        next(build(dry))
    finished(job_in(folder, 10))
    files = sorted(folder.rglob("*"))
    dry = prepare(job_in(folder, 23), dry=True, trial=True)
    assert (dry.images_done, dry.images_to_do) == (10, 13)
    assert sorted(folder.rglob("*")) == files
    with pytest.raises(InputError, match="per_shard"):
        prepare(job_in(folder, per_shard=5), dry=True)


def test_estimate_comes_from_shards_or_a_trial(tmp_path):
    job = replace(job_in(tmp_path), source=StandInSource(12, delay=0.02))
    assert prepare(job).seconds() is None
    tried = prepare(job, trial=True)
    assert 0.02 <= tried.image_seconds < 0.5
    assert tried.seconds(4) == pytest.approx(tried.image_seconds * 3)
    steps = build(prepare(job))
    for _ in range(3):
        next(steps)
    steps.close()
    left = prepare(job)
    assert len(left.committed) == 1 and 0.02 <= left.image_seconds < 0.5
    alone = prepare(replace(job, folder=tmp_path / "alone", source=StandInSource(1, delay=0.02)), trial=True)
    assert 0.02 <= alone.image_seconds < 0.5


# Damage


@pytest.mark.parametrize("kind", [scenes_path, people_path])
@pytest.mark.parametrize("damage", ["truncated", "gone", "empty"])
def test_damaged_shards_are_built_again(tmp_path, undisturbed, kind, damage):
    finished(job_in(tmp_path))
    path = kind(tmp_path, 2)
    data = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes({"truncated": data[:-200], "empty": b""}[damage])
    found = prepare(job_in(tmp_path))
    assert found.todo == (2,)
    assert (2 in found.again) == ((kind, damage) != (scenes_path, "gone"))
    list(build(found))
    assert all(map(lambda a, b: a.equals(b), rows_of(tmp_path), undisturbed))


@pytest.mark.parametrize("kind", [scenes_path, people_path])
def test_flipped_byte_is_found_when_the_set_is_verified(tmp_path, undisturbed, kind):
    finished(job_in(tmp_path))
    path = kind(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    path.write_bytes(data)
    assert prepare(job_in(tmp_path)).todo == ()
    found = prepare(job_in(tmp_path), verify=True)
    assert found.todo == (1,) and "not a readable shard" in found.again[1]
    list(build(found))
    assert all(map(lambda a, b: a.equals(b), rows_of(tmp_path), undisturbed))


def test_stray_files_of_killed_writers_are_swept(tmp_path, undisturbed):
    job = job_in(tmp_path)
    prepared = prepare(job)
    (tmp_path / "shards").mkdir()
    for name in (".scenes-00001.abc.parquet", ".people-00001.abc.parquet"):
        (tmp_path / "shards" / name).write_bytes(b"half")
    (tmp_path / "plan" / ".records-00001.abc.parquet").write_bytes(b"half")
    people_path(tmp_path, 3).write_bytes(b"of a shard whose scenes were never named")
    list(build(prepared))
    prepare(replace(job, source=StandInSource(23)))
    assert not list(tmp_path.rglob(".*"))
    assert all(map(lambda a, b: a.equals(b), rows_of(tmp_path), undisturbed))


def test_shards_of_another_plan_are_refused(tmp_path):
    """The plan is deleted and the source has other images in front: every number now means others."""
    job = job_in(tmp_path, images=12)
    finished(job)
    shutil.rmtree(tmp_path / "plan")
    with pytest.raises(InputError, match=r"scenes-00000.parquet does not hold the images that plan/ has for it"):
        prepare(replace(job, source=ShiftedSource(12)))


def test_finish_returns_while_others_go_on_building(tmp_path, monkeypatch):
    """Every survey finds one more shard of another process; whoever is not the last need not wait for it."""
    job = job_in(tmp_path, images=23)
    prepared = prepare(job)
    surveys = []

    def counted(folder, shards, config_hash):
        found = survey(folder, shards, config_hash)
        surveys.append(len(found.committed))
        if found.missing:
            list(run_here(job, found.missing[:1]))
        return found

    monkeypatch.setattr(running, "survey", counted)
    list(run_here(job, prepared.todo[:1]))
    assert not running.finish(job).complete and len(surveys) == 1
    while not running.finish(job).complete:
        assert len(surveys) < 2 * prepared.plan.shards
    assert read_manifest(tmp_path).complete


def test_only_what_may_have_changed_is_retried(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(8):
        if number != 5:
            cv2.imwrite(str(images / f"{number:05d}.png"), np.full((48, 64, 3), 10 * number, np.uint8))
    job = ReadingJob(tmp_path / "set", StandInSource(8, folder=images), None, None, per_shard=4, batch=3)
    finished(job)  # image 5 is missing, the labels of image 7 are invalid
    assert prepare(job, retry_failed=True).todo == ()
    cv2.imwrite(str(images / "00005.png"), np.zeros((48, 64, 3), np.uint8))
    assert prepare(job, retry_failed=True).todo == (1,)


def test_a_folder_that_is_gone_ends_the_build(tmp_path):
    """One shard of missing images is written down, not all of them."""
    job = ReadingJob(tmp_path / "set", StandInSource(28, folder=tmp_path / "gone"), None, None, per_shard=7, batch=3)
    list(build(prepare(job)))  # seven missing images may be chance
    job = replace(job, folder=tmp_path / "other", per_shard=14)
    job = replace(job, source=replace(job.source, valid=True))
    with pytest.raises(InputError, match="not one of the 14 images of shard 0 can be read"):
        list(build(prepare(job)))
    assert read_manifest(job.folder).counts == {"image_missing": 14}


def test_a_stopped_build_says_how_far_it_is(tmp_path):
    steps = build(prepare(job_in(tmp_path, images=23)))
    seen = next(steps)
    while seen.done < 8:
        seen = next(steps)
    steps.close()
    assert 0 < read_manifest(tmp_path).images < 23 and (tmp_path / "problems.csv").is_file()


def test_foreign_shards_are_refused(tmp_path):
    finished(job_in(tmp_path / "a"))
    finished(job_in(tmp_path / "b", people=2))
    for path in (tmp_path / "b" / "shards").iterdir():
        (tmp_path / "a" / "shards" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"scenes-00000.parquet \(6 shards in all\)"):
        prepare(job_in(tmp_path / "a"))


def test_image_replaced_by_garbage_is_built_when_it_is_back(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(12):
        cv2.imwrite(str(images / f"{number:05d}.png"), np.full((48, 64, 3), 10 * number, np.uint8))
    job = ReadingJob(tmp_path / "set", StandInSource(12, folder=images), None, None, per_shard=4, batch=3)
    finished(replace(job, folder=tmp_path / "undisturbed"))
    good = {name: (images / name).read_bytes() for name in ("00005.png", "00009.png")}
    steps = build(prepare(job))
    next(steps)
    (images / "00005.png").write_bytes(b"garbage")
    (images / "00009.png").unlink()
    outcomes = list(steps)[-1]
    assert outcomes.failed == 3 and outcomes.done == 12
    with (tmp_path / "set" / "problems.csv").open(newline="") as file:
        assert [row[1] for row in csv.reader(file)][1:] == ["image_unreadable", "labels_invalid", "image_missing"]
    for name, data in good.items():
        (images / name).write_bytes(data)
    assert prepare(job).todo == ()
    again = prepare(job, retry_failed=True)
    assert again.todo == (1, 2) and again.again[2] == "1 image that failed may be built now"
    list(build(again))
    assert all(map(lambda a, b: a.equals(b), rows_of(tmp_path / "set"), rows_of(tmp_path / "undisturbed")))


# Steps that go wrong


def stages_with(guess):
    return (
        lambda samples: [Loaded(sample) for sample in samples],
        guess,
        lambda guessed: [Built(one.sample.entry, Outcome.FAILED, "made up") for one in guessed],
    )


class OddJob(Job):
    """A job with stages of a test."""

    def stages(self):
        return self.__dict__["odd"]


def odd_job(folder: Path, stages) -> Job:
    job = OddJob(folder, StandInSource(9), None, None, per_shard=9, batch=2)
    job.__dict__["odd"] = stages
    return job


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("error", [AssetError("no weights"), OSError(28, "No space left on device"), KeyError("x")])
def test_what_a_step_raises_ends_the_build_and_leaves_no_thread_or_file(tmp_path, where, error):
    def breaking(_):
        if (calls := next(counter)) == 2:
            raise error
        return stages_with(lambda loaded: list(loaded))[where](_) if calls >= 0 else []

    counter = itertools.count()
    stages = list(stages_with(lambda loaded: list(loaded)))
    stages[where] = breaking
    threads = threading.active_count()
    with pytest.raises(type(error)) as caught:
        finished(odd_job(tmp_path, tuple(stages)))
    assert caught.value is error
    assert threading.active_count() == threads
    assert not list((tmp_path / "shards").iterdir())


def test_lack_of_memory_is_one_sentence_and_no_row(tmp_path):
    def hungry(_):
        raise MemoryError

    with pytest.raises(InputError, match="2 images at once; run the same again with a smaller --batch"):
        finished(odd_job(tmp_path, stages_with(hungry)))
    assert not list((tmp_path / "shards").iterdir())


def test_images_that_get_lost_or_swapped_on_the_way_are_noticed(tmp_path):
    with pytest.raises(InputError, match="came out where"):
        finished(odd_job(tmp_path / "swapped", stages_with(lambda loaded: list(loaded)[::-1])))
    with pytest.raises(InputError, match=r"came out where|told nothing"):
        finished(odd_job(tmp_path / "lost", stages_with(lambda loaded: list(loaded)[:1])))


def test_groups_depend_on_sizes_alone_and_little_waits():
    seen, read, done = [], [], []

    def load():
        for number, side in enumerate([10, 10, 10, 40, 10, 30, 30, 10]):
            read.append(number)
            yield Sample(Entry("a", str(number), row=side))

    def guess(loaded):
        seen.append([image.sample.entry.row for image in loaded])
        time.sleep(0.005)
        assert len(read) - len(done) <= 2 * (2 + 2 + 2)
        return loaded

    def look(samples):
        return [Loaded(sample, np.zeros((sample.entry.row, sample.entry.row, 3), np.uint8)) for sample in samples]

    stages = (look, guess, stages_with(guess)[2])
    for group in through(load(), stages, batch=2, pixels=1000):
        done += group
    assert seen == [[10, 10], [10], [40], [10, 30], [30, 10]]
    assert [built.entry.path for built in done] == list("01234567")


def test_steps_work_at_the_same_time():
    def wait(answer):
        def step(items):
            time.sleep(0.02 * len(items))
            return answer(items)

        return step

    plain = stages_with(lambda loaded: list(loaded))
    samples = (Sample(Entry("a", str(number))) for number in range(12))
    started = time.perf_counter()
    assert len(list(through(samples, tuple(map(wait, plain)), batch=1))) == 12
    assert time.perf_counter() - started < 0.55  # one after the other: 0.72


# Jobs and runners


def test_batch_call_is_what_ray_data_wants(tmp_path):
    job = job_in(tmp_path)
    prepare(job)
    counts = BuildShards(job, job.config_hash)({"shard": np.array([5, 1])})
    assert counts["shard"].tolist() == [5, 1] and counts["taken_over"].tolist() == [3, 2]
    assert set(counts) == {"shard", "people", *(outcome.value for outcome in Outcome)}
    assert counts["people"].tolist() == [open_set(tmp_path).shards[k].people for k in (1, 0)]


def test_worker_with_other_weights_or_without_the_folder_refuses(tmp_path):
    job = job_in(tmp_path)
    with pytest.raises(InputError, match="no plan on this machine"):
        BuildShards(job, job.config_hash)
    prepare(job)
    with pytest.raises(InputError, match="other weights"):
        BuildShards(job, job.config_hash, {"name": "lite"})


def test_bad_numbers(tmp_path):
    with pytest.raises(InputError, match="per_shard must be at least 1"):
        job_in(tmp_path, per_shard=0)
    with pytest.raises(InputError, match="batch must be at least 1"):
        job_in(tmp_path, batch=0)
    with pytest.raises(InputError, match="workers must be at least 1"):
        list(run_processes(job_in(tmp_path), [0], 0))
    for bad in ({"workers": 0}, {"cpus": 0.0}, {"gpus": -1.0}, {"address": ""}):
        with pytest.raises(InputError, match="Ray needs"):
            list(run_ray(job_in(tmp_path), [0], **{"address": "local", "workers": 1, **bad}))


def test_ray_not_installed_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'crowdmesh\[ray\]'"):
        list(run_ray(job_in(tmp_path), [0], "local", 1))


def test_signature_tells_what_decides_the_result_and_nothing_else(tmp_path):
    job = job_in(tmp_path)
    same = replace(job, folder=tmp_path / "elsewhere", batch=99, source=StandInSource(5, delay=1.0))
    assert same.config_hash == job.config_hash and str(tmp_path) not in str(job.signature)
    for other in (replace(job, config=paper()), replace(job, per_shard=5), replace(job, source=StandInSource(5, 2))):
        assert other.config_hash != job.config_hash


def test_trial_of_seconds_skips_the_first_image(tmp_path):
    marks = iter([0.5, 0.0, 0.0])

    def slow_start(loaded):
        time.sleep(next(marks))
        return list(loaded)

    entries = list(StandInSource(3).entries())
    assert building.seconds_per_image(odd_job(tmp_path, stages_with(slow_start)), entries) < 0.2
