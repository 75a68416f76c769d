"""The synthetic benchmark: its scores against cases worked by hand, its plan, and one run from end to end."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest

from crowdmesh.benchmarks.synthetic import METHODS, QUICK, TABLES, TRIALS, Effort, bench_rows, run_bench, scores
from crowdmesh.benchmarks.synthetic.methods import BEST, PAPER
from crowdmesh.benchmarks.synthetic.page import KEPT, Run, write_page
from crowdmesh.benchmarks.synthetic.plan import DEVELOPMENT_SEED, FIRST_HELD_OUT_SEED, jobs_of, settings_of
from crowdmesh.benchmarks.synthetic.records import SceneRecord
from crowdmesh.benchmarks.synthetic.run import run, run_job
from crowdmesh.benchmarks.synthetic.tables import margin_table, where
from crowdmesh.cli import main
from crowdmesh.errors import InputError


def scene_record(depth, true_depth, age=None, undetected=(), seed=0, **changes) -> SceneRecord:
    """People on the optical axis at these depths; undetected people are adults."""

    def on_axis(values) -> np.ndarray:
        values = np.asarray(values, float)
        return np.stack((np.zeros_like(values), np.zeros_like(values), values), -1)

    count = len(depth)
    values = {
        "method": "best", "setting": "nominal", "world": "mixed", "seed": seed, "index": 0,
        "pelvis_m": on_axis(depth), "true_pelvis_m": on_axis(true_depth),
        "stature_m": np.full(count, 1.8), "true_stature_m": np.full(count, 1.7), "log_std": np.full(count, 0.1),
        "age_years": np.full(count, 30.0) if age is None else np.asarray(age, float),
        "undetected_m": on_axis(undetected), "undetected_age_years": np.full(len(undetected), 30.0),
        "focal_ratio": 1.0, "fov": 1.0, "true_fov": 0.9, "accepted": True,
    }  # fmt: skip
    return SceneRecord(**values | changes)


def test_scores_of_a_scene_worked_by_hand():
    # True gaps: 0.1 (one layer), 1.9, 2.0. Predicted: 0.3 apart (wrong), 2.7 and 3.0 farther (right).
    record = scene_record((4.0, 4.3, 7.0), (4.0, 4.1, 6.0), age=(30, 2, 10), undetected=(9.0,))
    assert scores.pcdr_percent([record]) == pytest.approx(100 * 2 / 3.3)
    assert scores.pcdr_percent([record], group=0) == pytest.approx(100 * 1 / 2)  # two pairs with the baby, one right
    assert scores.pcdr_percent([record], group=1) is None
    assert scores.pcdr_percent([record], group=3) == pytest.approx(100 * 1 / 2.3)
    assert scores.depth_error_percent([record]) == pytest.approx(100 * 0.2 / 4.1)
    assert scores.stature_error_cm([record]) == pytest.approx(10.0)
    assert scores.localisation_cm([record], 0) == pytest.approx(20.0)
    assert scores.localisation_cm([record], 2) == pytest.approx(0.0)
    assert scores.f1_percent([record], 0.25) == pytest.approx(100 * 4 / (4 + 2 + 1))
    assert [scores.order_percent([record], b) for b in range(len(scores.GAP_EDGES_M) - 1)] == [
        100,
        None,
        100,
        None,
        None,
    ]


def test_a_wrong_focal_length_is_taken_out_where_asked():
    record = scene_record((4.4, 8.8), (4.0, 8.0), focal_ratio=1.1)
    assert scores.depth_error_percent([record]) == pytest.approx(10.0)
    assert scores.depth_error_percent([record], focal_free=True) == pytest.approx(0.0, abs=1e-9)


def test_coverage_counts_the_truths_inside_the_interval():
    # log errors 0, 0.095 and 0.405 at a spread of 0.1: inside 0.674 sigma one, inside 1.645 two of three.
    record = scene_record((4.0, 4.4, 6.0), (4.0, 4.0, 4.0))
    assert scores.coverage_percent([record], 0.674) == pytest.approx(100 / 3)
    assert scores.coverage_percent([record], 1.645) == pytest.approx(200 / 3)
    known = scene_record((4.4,), (4.0,), focal_ratio=1.1)
    assert scores.coverage_percent([known], 0.5, focal_std=0.08) == 100.0
    assert scores.coverage_percent([known], 0.5) == 0.0


def test_figures_do_not_depend_on_the_order_of_scenes():
    random = np.random.default_rng(3)
    records = [
        scene_record(random.uniform(2, 9, 5), random.uniform(2, 9, 5), random.uniform(0, 60, 5), seed=i % 3)
        for i in range(12)
    ]
    shuffled = [records[i] for i in random.permutation(12)]
    for score in (scores.pcdr_percent, scores.depth_error_percent, scores.stature_error_cm, scores.coverage_percent):
        assert scores.over_seeds(records, score) == scores.over_seeds(shuffled, score)


def test_margins_are_taken_seed_by_seed():
    ours = [scene_record((4.0, 6.0), (4.0, 6.0), seed=s) for s in (0, 1)]
    theirs = [scene_record((4.0, 6.0 * f), (4.0, 6.0), seed=s, method="paper") for s, f in ((0, 1.1), (1, 1.3))]
    gap = scores.margin([*ours, *theirs], scores.depth_error_percent, "best", "paper")
    assert (gap.mean, gap.std, gap.seeds) == (pytest.approx(-10.0), pytest.approx(math.sqrt(50.0)), 2)
    table = margin_table([*ours, *theirs])
    assert table.rows[2][:2] == ("nominal", "paper")
    assert "None" not in str(gap)


def test_every_setting_has_its_own_name_and_every_trial_its_verdict():
    names = [setting.name for table in TABLES if table != "worlds" for setting in settings_of(table)]
    assert len(names) == len(set(names))
    assert len({trial.method.name for trial in TRIALS}) == len(TRIALS)
    assert {trial.verdict for trial in TRIALS} == {"kept", "not kept", "default before", "for comparison"}
    assert TRIALS[-1].method.config == BEST.config


def test_held_out_scenes_are_never_those_of_development():
    jobs = jobs_of(TABLES, Effort(2, 3, 1, 1, 4))
    trials = [job for job in jobs if job.settings[0].name.startswith("trial")]
    assert {job.seed for job in trials} == {DEVELOPMENT_SEED}
    assert {job.seed for job in jobs if job not in trials} == {FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + 1}
    assert len(trials) == 4
    assert len({(job.world, job.seed, job.index) for job in jobs}) == len(jobs)  # each scene is made once


def test_rows_can_be_chosen():
    (job,) = jobs_of(["main"], Effort(1, 1, 1, 1, 1), method="paper", strength="strong")
    assert [setting.name for setting in job.settings] == ["strong"]
    assert job.settings[0].methods == (PAPER,)
    with pytest.raises(InputError, match="no row of main has method 'nobody'"):
        jobs_of(["main"], QUICK, method="nobody")
    with pytest.raises(InputError, match="at least 1"):
        Effort(seeds=0)


@pytest.fixture(scope="module")
def some_records() -> list[SceneRecord]:
    jobs = [
        dataclasses.replace(job, world="family") for job in jobs_of(["main"], Effort(1, 3, 1, 1, 1), strength="nominal")
    ]
    return run(jobs, workers=1)


def test_a_run_scores_every_method_on_the_same_people(some_records):
    by_method = {m.name: where(some_records, "nominal", "family", m.name) for m in METHODS}
    first = by_method["first guess"]
    assert len(first) >= 2
    for records in by_method.values():
        for ours, theirs in zip(records, first, strict=True):
            np.testing.assert_array_equal(ours.true_pelvis_m, theirs.true_pelvis_m)
            assert ours.focal_ratio == theirs.focal_ratio
    assert scores.depth_error_percent(by_method["best"], True) < scores.depth_error_percent(first, True)
    assert all(np.isnan(r.log_std).all() for r in first)
    assert all((r.log_std > 0).all() for r in by_method["best"])


def test_a_scene_gives_the_same_record_again(some_records):
    (job,) = jobs_of(["main"], Effort(1, 1, 1, 1, 1), method="best", strength="nominal")
    again = run_job(dataclasses.replace(job, world="family"))
    once = [r for r in some_records if r.method == "best" and r.index == 0]
    for a, b in zip(again, once, strict=True):
        np.testing.assert_array_equal(a.pelvis_m, b.pelvis_m)


def test_the_command_prints_a_row_again(capsys):
    arguments = ["--table", "main", "--method", "best", "--strength", "nominal", "--seeds", "1", "--scenes", "1"]
    assert main(["bench", *arguments, "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "Strength nominal" in printed and "best" in printed and "strong" not in printed


def test_the_command_refuses_rows_without_a_table(capsys):
    assert main(["bench", "--method", "best"]) == 1
    assert "--table" in capsys.readouterr().err


def test_the_command_makes_scenes_and_goes_on(tmp_path, capsys):
    arguments = ["synth", "--out", str(tmp_path / "w"), "--scenes", "2", "--preset", "adults", "--per-shard", "1"]
    assert main(arguments) == 0
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "w").glob("*.parquet")}
    assert len(before) == 2
    assert main(arguments) == 0
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "w").glob("*.parquet")} == before
    assert main([*arguments, "--seed", "1"]) == 1
    assert "another world" in capsys.readouterr().err


@pytest.mark.slow
def test_the_whole_benchmark_writes_its_page(tmp_path):
    result = run_bench(tmp_path, Effort(2, 2, 1, 1, 1), 1, "crowdmesh bench")
    page = (tmp_path / "results.md").read_text()
    for table in result.tables:
        assert f"### {table.title}" in page
    for name in ("bench.png", "worst_best.png"):
        assert (tmp_path / "images" / name).is_file()
        assert f"images/{name}" in page
    assert bench_rows("trials", Effort(1, 1, 1, 1, 1), 1, "fused", "mild").tables[0].rows


def test_results_of_other_commands_stay_on_the_page(tmp_path):
    page, run = tmp_path / "results.md", Run("crowdmesh bench", Effort(), 60.0, 1)
    page.write_text(f"# Results\n\nold tables\n\n{KEPT}\n\n## Trained networks\n")
    write_page(page, {}, None, [], run)
    text = page.read_text()
    assert "old tables" not in text
    assert text.endswith(f"{KEPT}\n\n## Trained networks\n")


def test_a_missing_matplotlib_is_said_before_the_long_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "--out", str(tmp_path)]) == 1
    assert "crowdmesh[plots]" in capsys.readouterr().err
