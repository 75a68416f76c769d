"""The verbs build and report, from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crowdmesh.cli import main

SCENES = 3


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "labels"
    world = ["--preset", "family", "--seed", "3"]
    assert main(["synth", "--out", str(folder), "--layout", "4dhumans", "--scenes", str(SCENES), *world]) == 0
    return folder


def command(labels: Path, out: Path, *more: str) -> list[str]:
    files = ["--persons", f"{labels}/detections", "--ages", f"{labels}/ages.csv", "--depth-model", f"{labels}/depth"]
    none = ["--keypoints", "none", "--mesh", "none"]
    return ["build", "--source", "4dhumans", "--data", str(labels), "--out", str(out), *files, *none, *more]


@pytest.fixture(scope="module")
def built(labels) -> Path:
    assert main(command(labels, labels.parent / "built", "--per-shard", "2")) == 0
    return labels.parent / "built"


def test_a_dry_run_prints_the_plan_and_writes_nothing(labels, tmp_path, capsys):
    assert main(command(labels, tmp_path / "set", "--dry-run")) == 0
    said = capsys.readouterr().out
    assert f"{SCENES} in 1 shard" in said and "CC BY-NC" in said and "about" in said
    assert not (tmp_path / "set").exists()


def test_build_counts_what_became_of_the_images_and_does_it_once(labels, built, capsys):
    before = {path: path.stat().st_mtime_ns for path in (built / "shards").iterdir()}
    assert main(command(labels, built, "--per-shard", "2")) == 0
    said = capsys.readouterr().out
    assert (
        f"{SCENES} images; 0 to do" in said
        and "accepted" in said
        and f"crowdmesh report {built}" in said.replace("\n", "")
    )
    assert {path: path.stat().st_mtime_ns for path in (built / "shards").iterdir()} == before
    counts = json.loads((built / "manifest.json").read_text())["counts"]
    rows = [row for path in (built / "shards").glob("scenes-*") for row in pq.read_table(path).to_pylist()]
    assert sum(counts.values()) == len(rows) == SCENES


def test_another_threshold_is_refused_with_the_difference_and_the_way_out(labels, built, capsys):
    assert main(command(labels, built, "--per-shard", "2", "--threshold", "2")) == 1
    said = capsys.readouterr().err
    assert "dto.accept_below: 1.5 -> 2.0" in said and "--export-threshold" in said


def test_report_and_export(labels, built, capsys):
    pictures = ["--images", str(labels / "images"), "--truth", str(labels / "truth" / "statures.npy")]
    assert main(["report", str(built), *pictures]) == 0
    assert (built / "report" / "index.html").is_file()
    assert main(command(labels, built, "--per-shard", "2", "--export", "webdataset", "--export-threshold", "9")) == 0
    assert list((built / "webdataset").glob("*.tar"))
    assert main(["build", "--out", str(built), "--export", "official"]) == 1
    assert "webdataset holds every body" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--workers", "0"], "--workers"),
        (["--gpus", "0.5"], "--gpus does nothing without --ray"),
        (["--split", "train"], "--split does nothing without --source relative-human"),
        (["--export-threshold", "2"], "--export-threshold does nothing without --export"),
        (["--preset", "none", "--threshold", "2"], "--threshold does nothing without a --preset"),
        (["--threshold", "inf"], "--threshold must be a positive number"),
        (["--shard", "3/3"], "--shard is I/N"),
        (["--dry-run", "--export", "webdataset"], "leave out --export"),
    ],
)
def test_options_that_would_do_nothing_are_refused(labels, tmp_path, capsys, more, says):
    assert main(command(labels, tmp_path / "set", *more)) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_set_does_not_lie_in_its_own_source(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    assert (
        main(["build", "--source", "images", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "photos/set")])
        == 1
    )
    assert "own source" in capsys.readouterr().err
    assert main(["build", "--out", str(tmp_path / "set")]) == 1
    assert "--source and --data" in capsys.readouterr().err
