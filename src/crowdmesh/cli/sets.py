"""The verbs that build sets of placed people from many images, and show what is in them."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from crowdmesh._terminal import console, duration_text, progress, rate_progress, table
from crowdmesh.cli._options import (
    AdapterName,
    Flag,
    Prior,
    StrengthName,
    Upstream,
    UpstreamFlags,
    check_fov,
    dto_config,
    interruptible,
)
from crowdmesh.errors import InputError

if TYPE_CHECKING:
    from crowdmesh.dto import DTOConfig
    from crowdmesh.pgt import Job, Prepared, Progress, Source

SourceName = Literal["images", "4dhumans", "relative-human", "scenes", "synthetic"]
BuildPreset = Literal["best", "paper", "official", "none"]
ExportLayout = Literal["official", "webdataset"]
Split = Literal["train", "val", "test"]

_LITE = Upstream()
_SPEAKS_EVERY = 60.0  # seconds between lines where there is no terminal for a progress bar


@dataclass(frozen=True)
class Origin:
    """Where images and people come from (docs/sources.md)."""

    source: SourceName | None = None
    """Photographs alone, published labels, Relative Human, scenes or other systems' files, a synthetic world."""
    data: Path | None = None
    """Folder of the images, labels, scenes or world."""
    images: Path | None = None
    """Folder of the photographs, where it is not in the data folder."""
    split: Split | None = None
    """Of Relative Human (default: all that are there)."""
    adapter: AdapterName = "auto"
    """Of scenes: the system that made the files."""
    errors: StrengthName = "nominal"
    """Of synthetic worlds: how wrong the simulated experts are."""
    seed: int = 0
    """Of synthetic worlds: of these errors."""
    unpickle: Flag = False
    """Open pickled label files; nothing in them is run."""

    def open(self, cache: Path, fov: float | None) -> Source:
        """The source itself, which may keep what it makes of label files in ``cache``; ``fov`` in degrees."""
        from crowdmesh.pgt import sources

        if self.source is None or self.data is None:
            raise InputError("name where the images come from: --source and --data")
        if self.images is not None and self.source == "images":
            raise InputError("--images does not go with --source images, whose images are in --data")
        if self.source == "images":
            return sources.ImageFolder(self.data)
        if self.source == "4dhumans":
            return sources.LabelSource(self.data, self.images, cache / "labels", self.unpickle)
        if self.source == "relative-human":
            return sources.RelativeHumanSource(self.data, self.images, self.split, self.unpickle)
        if self.source == "scenes":
            angle = None if fov is None else math.radians(fov)
            return sources.SceneSource(self.data, self.images, self.adapter, self.unpickle, angle)
        return sources.SyntheticSource(self.data, self.errors, self.seed)


def build(
    out: Path,
    origin: Annotated[Origin, tyro.conf.OmitArgPrefixes] = Origin(),
    fov: float | None = None,
    upstream: UpstreamFlags = _LITE,
    add_people: Flag = False,
    preset: BuildPreset = "best",
    prior: Prior | None = None,
    threshold: float | None = None,
    workers: int = 1,
    ray: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    shard: str | None = None,
    per_shard: int = 256,
    retry_failed: Flag = False,
    verify: Flag = False,
    dry_run: Flag = False,
    export: ExportLayout | None = None,
    export_threshold: float | None = None,
) -> int:
    """A set of placed people from many images, in Parquet shards; the same command goes on where it stopped.

    Args:
        out: folder of the set.
        origin: where images and people come from.
        fov: vertical field of view of all images in degrees, where nothing else tells it.
        upstream: upstream networks, for what the source does not know.
        add_people: add people whom the networks find and the labels lack.
        preset: which DTO; none: everybody stays where the source has them.
        prior: stature prior: marginal, paper, lms or agnostic (default: the preset's).
        threshold: images whose mean standardised residual stays below are accepted (default 1.5, as in the paper).
        workers: processes on this machine, or actors on the cluster.
        ray: build on a Ray cluster: its address, auto, or local.
        cpus: on the cluster, CPUs of each worker.
        gpus: on the cluster, GPUs of each worker; 0.25 puts four workers on one.
        shard: build a part, as I/N: every N-th shard from I, for batch schedulers.
        per_shard: images in one shard, which is what a stop can cost at most.
        retry_failed: build shards with failed images again.
        verify: check every finished shard against its checksums first.
        dry_run: print the plan, try a few images, write nothing.
        export: also write the accepted images in the released layout (official) or as tars (webdataset). With
            official, --source may be left out: the set as it is.
        export_threshold: filter again for the export.
    """
    check_fov(fov)
    _check_given(locals())
    if origin.source is None and export == "official":
        return _export(export, out, None, export_threshold)
    config = None if preset == "none" else _config(preset, prior, threshold)
    part = _part(shard)
    with interruptible(), TemporaryDirectory(prefix="crowdmesh-dry-") as scratch:
        job = _job(out, Path(scratch) if dry_run else out, origin, fov, upstream, config, add_people, per_shard)
        prepared = _prepare(job, part, retry_failed, verify, dry_run, trial=dry_run or (workers == 1 and ray is None))
        _print_plan(prepared, workers)
        if dry_run:
            return 0
        _run(prepared, workers, ray, cpus, gpus)
        _print_outcomes(job)
        return 0 if export is None else _export(export, out, job.source, export_threshold)


def _check_given(given: dict[str, Any]) -> None:
    """Refuse options that would do nothing, or make no sense, beside the others."""
    origin: Origin = given["origin"]
    if given["workers"] < 1:
        raise InputError(f"--workers must be at least 1, got {given['workers']}")
    belongs = [
        ("--cpus", given["cpus"] != 1.0, "--ray", given["ray"] is not None),
        ("--gpus", given["gpus"] != 0.0, "--ray", given["ray"] is not None),
        ("--export-threshold", given["export_threshold"] is not None, "--export", given["export"] is not None),
        ("--split", origin.split is not None, "--source relative-human", origin.source == "relative-human"),
        ("--adapter", origin.adapter != "auto", "--source scenes", origin.source == "scenes"),
        ("--errors", origin.errors != "nominal", "--source synthetic", origin.source == "synthetic"),
        ("--seed", origin.seed != 0, "--source synthetic", origin.source == "synthetic"),
        ("--prior", given["prior"] is not None, "a --preset that places people", given["preset"] != "none"),
        ("--threshold", given["threshold"] is not None, "a --preset that places people", given["preset"] != "none"),
        ("--add-people", given["add_people"], "a --preset that places people", given["preset"] != "none"),
    ]
    for option, used, other, there in belongs:
        if used and not there:
            raise InputError(f"{option} does nothing without {other}; leave it out")
    for option, used in (("--images", origin.images), ("--fov", given["fov"])):
        if used is not None and origin.source == "synthetic":
            raise InputError(f"{option} does not go with --source synthetic, whose images and cameras are in --data")
    if given["export"] is not None and given["dry_run"]:
        raise InputError("--dry-run writes nothing; leave out --export")


def _config(preset: BuildPreset, prior: Prior | None, threshold: float | None) -> DTOConfig:
    from dataclasses import replace

    assert preset != "none"
    config = dto_config(preset, prior)
    if threshold is None:
        return config
    if not 0 < threshold < math.inf:
        raise InputError(f"--threshold must be a positive number, got {threshold:g}")
    return replace(config, accept_below=threshold)


def _job(
    out: Path,
    cache: Path,
    origin: Origin,
    fov: float | None,
    upstream: Upstream,
    config: DTOConfig | None,
    add_people: bool,
    per_shard: int,
) -> Job:
    from crowdmesh.pgt import ExpertChoice, Job

    source = origin.open(cache, fov)
    assert origin.data is not None
    if origin.source in ("images", "scenes") and out.resolve().is_relative_to(origin.data.resolve()):
        raise InputError(f"the set {out} would lie in the folder of its own source, {origin.data}; choose one outside")
    asked = config is not None and origin.source != "synthetic"
    experts = ExpertChoice(upstream.experts, upstream.options(fov)) if asked or source.needs_experts else None
    return Job(out, source, experts, config, per_shard, upstream.batch, add_people)


def _part(shard: str | None) -> tuple[int, int]:
    if shard is None:
        return 0, 1
    number, _, parts = shard.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and int(number) < int(parts)):
        raise InputError(f"--shard is I/N with I from 0 to N - 1, for example 0/8, got {shard!r}")
    return int(number), int(parts)


def _prepare(job: Job, part: tuple[int, int], retry_failed: bool, verify: bool, dry: bool, trial: bool) -> Prepared:
    from crowdmesh.pgt import LabelSource, prepare

    with progress() as bar:
        if isinstance(job.source, LabelSource):
            reading = bar.add_task("people in the label files", total=None)
            job.source.table(lambda count: bar.advance(reading, count))
        task = bar.add_task("images listed", total=None)
        return prepare(job, part, retry_failed, verify, trial, dry, lambda count: bar.advance(task, count))


def _print_plan(prepared: Prepared, workers: int) -> None:
    """What will be done, and with what."""
    job, plan = prepared.job, prepared.plan
    rows = table("plan", "")
    rows.add_row("source", f"{job.source.kind}: {', '.join(job.signature['source'].get('data_sets', []))}")
    rows.add_row(
        "images",
        f"{plan.records:,} in {plan.shards:,} shard{'s' * (plan.shards != 1)}, {plan.missing:,} of them not there",
    )
    if plan.vanished:
        rows.add_row("", f"{plan.vanished:,} planned images are not in the source any more")
    for note in job.source.notes():
        rows.add_row("", note)
    if prepared.part[1] > 1:
        rows.add_row("part", f"{prepared.part[0]}/{prepared.part[1]}: every {prepared.part[1]}th shard")
    rows.add_row("done before", f"{prepared.images_done:,} images; {prepared.images_to_do:,} to do")
    for number, reason in list(prepared.again.items())[:5]:
        rows.add_row("again", f"shard {number}: {reason}")
    rows.add_row("placed by", "nobody: people stay where they are" if job.config is None else _says(job.config))
    for name, weights in (job.signature["experts"] or {}).get("weights", {}).items():
        if name == "none":
            continue
        rows.add_row("expert", name if not weights else f"{name} ({', '.join(weights)})")
    for licence in (*job.source.licences, *_network_licences(job)):
        rows.add_row("licence", licence)
    seconds = prepared.seconds(workers)
    rows.add_row("time", "known after the first shard" if seconds is None else f"about {duration_text(seconds)}")
    rows.add_row("into", str(job.folder))
    console().print(rows)


def _network_licences(job: Job) -> list[str]:
    """One sentence per licence of the networks' weights."""
    from crowdmesh.experts.presets import weights_of

    if job.experts is None:
        return []
    under: dict[str, list[str]] = {}
    for weights in weights_of(job.experts.name, job.experts.options):
        under.setdefault(weights.licence, []).append(weights.name)
    return [f"{', '.join(names)}: {licence}" for licence, names in under.items()]


def _says(config: DTOConfig) -> str:
    return f"DTO {config.preset}, prior {config.prior}; accepted below {config.accept_below:g}"


def _run(prepared: Prepared, workers: int, ray: str | None, cpus: float, gpus: float) -> None:
    """Build what is left under a progress bar."""
    from crowdmesh.pgt import build as run
    from crowdmesh.pgt import run_here, run_processes, run_ray

    if ray is not None:
        runner: Any = partial(run_ray, address=ray, workers=workers, cpus=cpus, gpus=gpus)
    else:
        runner = run_here if workers == 1 else partial(run_processes, workers=workers)
    steps: Generator[Progress, None, None] = run(prepared, runner)
    total = prepared.images_done + prepared.images_to_do
    spoke = time.monotonic()
    with rate_progress() as bar:
        task = bar.add_task("images", total=total, completed=prepared.images_done, says="")
        for step in steps:
            says = (
                f"{step.rate:.1f} images/s, {step.accepted:,} accepted, {step.rejected:,} rejected, "
                f"{step.failed:,} failed{_left(step)}"
            )
            bar.update(task, completed=step.done, says=says)
            if not bar.console.is_terminal and time.monotonic() > spoke + _SPEAKS_EVERY:
                bar.console.print(f"{step.done:,} of {step.total:,} images, {says}", highlight=False, soft_wrap=True)
                spoke = time.monotonic()


def _left(step: Progress) -> str:
    return "" if step.seconds_left is None else f", {duration_text(step.seconds_left)} left"


def _print_outcomes(job: Job) -> None:
    from crowdmesh.pgt import Outcome, read_manifest

    manifest = read_manifest(job.folder)
    rows = table("what became of the images", "images", "share")
    for name, count in manifest.counts.items():
        rows.add_row(Outcome(name).reason, f"{count:,}", f"{100 * count / max(manifest.images, 1):.1f} %")
    screen = console()
    screen.print(rows)
    whole = "complete" if manifest.complete else f"{manifest.images:,} of {manifest.planned:,} images so far"
    screen.print(f"{job.folder}: {whole}, {manifest.people:,} people", highlight=False, markup=False)
    if any(Outcome(name).failed for name in manifest.counts):
        screen.print(f"failures are listed in {job.folder / 'problems.csv'}", highlight=False, markup=False)
    screen.print(f"next: crowdmesh report {job.folder}", highlight=False, markup=False)


def _export(layout: ExportLayout, folder: Path, source: Source | None, threshold: float | None) -> int:
    from crowdmesh.pgt import export_official, export_webdataset
    from crowdmesh.pgt.export import WebdatasetExport

    with progress() as bar:
        task = bar.add_task("exporting", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if layout == "official":
            result = export_official(folder, threshold=threshold, progress=report)
        else:
            assert source is not None
            result = export_webdataset(folder, None, source, threshold, progress=report)
    rows = table(*result.columns)
    for row in result.rows():
        rows.add_row(*row)
    screen = console()
    screen.print(rows)
    if result.unbuilt:
        screen.print(f"{result.unbuilt:,} planned images are not built yet and not in it", highlight=False)
    absent = sum(d.missing + d.changed for d in result.datasets) if isinstance(result, WebdatasetExport) else 0
    if absent:
        screen.print(f"{absent:,} accepted images are missing or changed: see left_out.csv there", highlight=False)
    screen.print(f"wrote {result.folder}", highlight=False, markup=False)
    return 0


def report(
    folder: tyro.conf.Positional[Path],
    out: Path | None = None,
    threshold: float | None = None,
    images: Path | None = None,
    truth: Path | None = None,
) -> int:
    """What a set holds: figures, reasons and a contact sheet, as one page and its pictures.

    Args:
        folder: of the set.
        out: where the page goes (default: report in the set's folder).
        threshold: filter again with this mean standardised residual.
        images: folder of the photographs, for the contact sheet.
        truth: true statures of such people in metres (.npy), for the figure of statures.
    """
    from crowdmesh._files import read_npy
    from crowdmesh.pgt import photographs_below, write_report

    statures = None if truth is None else read_npy(truth, "row of statures")
    if statures is not None and statures.dtype.kind not in "fiu":
        raise InputError(f"{truth} must hold numbers, statures in metres, got {statures.dtype}")
    truth_m = None if statures is None else statures.astype(float)
    start = time.monotonic()
    with progress() as bar:
        bar.add_task("reading the set", total=None)
        made = write_report(folder, out, threshold, truth_m, None if images is None else photographs_below(images))
    rows = table("", "this set", "the paper's")
    for row in made.rows:
        rows.add_row(*row)
    console().print(rows)
    console().print(
        f"wrote {made.page} and {len(made.files) - 1} pictures in {duration_text(time.monotonic() - start)}",
        highlight=False, markup=False,
    )  # fmt: skip
    return 0
