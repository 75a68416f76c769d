"""A set from its plan to its last shard: what is there, what is left to do, doing it, saying how it went."""

from __future__ import annotations

import csv
import shutil
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from crowdmesh._files import atomic_path
from crowdmesh.errors import CrowdMeshError, FormatError, InputError
from crowdmesh.pgt.builder import seconds_per_image
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.manifest import Manifest, check_folder, claim, write_manifest
from crowdmesh.pgt.plan import Plan, extend_plan
from crowdmesh.pgt.reading import BuiltSet
from crowdmesh.pgt.records import Entry, Outcome
from crowdmesh.pgt.runners import Runner, run_here
from crowdmesh.pgt.shards import ShardSummary, Survey, check_shard, scenes_path, survey, sweep

PROBLEMS = "problems.csv"
"""Key, outcome and detail of every image that failed."""

TRIALS = 3
"""Images that are tried to estimate how long the rest will take."""


@dataclass(frozen=True)
class Prepared:
    """A set before the work begins: what is planned, there and left to do, in one part of it.

    Attributes:
        plan: of the whole set. part: (i, n): shards i, i + n, i + 2 n ... are meant.
        committed: shards of the part that are there and stay.
        again: shards that are there and will be replaced, each with the reason.
        todo: shards to build, those of ``again`` among them.
        image_seconds: how long one image takes one worker; ``None``: nobody knows yet.
        dry: whether nothing was written; such a set cannot be built.
    """

    job: Job
    plan: Plan
    part: tuple[int, int]
    committed: tuple[ShardSummary, ...]
    again: dict[int, str]
    todo: tuple[int, ...]
    image_seconds: float | None
    dry: bool

    @property
    def images_done(self) -> int:
        """Images of the part in shards that stay."""
        return sum(shard.scenes for shard in self.committed)

    @property
    def images_to_do(self) -> int:
        """Images of the part that are left to build."""
        return sum(self.plan.size(shard) for shard in self.todo)

    @property
    def counts(self) -> dict[str, int]:
        """Images per outcome in the shards that stay."""
        return _counted(self.committed)

    def seconds(self, workers: int = 1) -> float | None:
        """How long the rest will take so many workers; ``None``: nobody knows yet."""
        return None if self.image_seconds is None else self.image_seconds * self.images_to_do / workers


@dataclass(frozen=True)
class Progress:
    """How far a build is.

    Attributes:
        done, total: images of this part of the set, those of earlier runs included.
        built: images of this run. accepted, rejected, failed: what became of all that are done.
        seconds: since this run began.
    """

    done: int
    total: int
    built: int
    accepted: int
    rejected: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second in this run."""
        return self.built / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate; ``None``: nothing is built yet."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


def prepare(
    job: Job,
    part: tuple[int, int] = (0, 1),
    retry_failed: bool = False,
    verify: bool = False,
    trial: bool = False,
    dry: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Claim the folder, list the source, see what is there.

    Args:
        part: (i, n): only every n-th shard, from shard i: so n processes share the work without talking.
        retry_failed: build shards again that hold images that failed and may not fail now: those of invalid labels do,
            and so do missing ones that are still missing.
        verify: read the finished shards completely, against their checksums, and build damaged ones again. Without
            it only their sizes and footers count.
        trial: build a few images for a first estimate, if no shard tells how long they take. Nothing is written.
        dry: write nothing; the result tells what a build would do.
        progress: called with numbers of images while the source is listed.

    Raises:
        InputError: the folder holds something else or was built otherwise, the source is empty or has an image twice.
        FormatError: the plan or the source is damaged. AssetError: weights are missing.
    """
    number, parts = part
    if not 0 <= number < parts:
        raise InputError(f"part {number}/{parts} does not exist; parts of {parts} are 0 to {parts - 1}")
    folder = job.folder
    manifest = Manifest(job.signature, job.config_hash, job.source.licences)
    with TemporaryDirectory(prefix="crowdmesh-plan-") as scratch:
        if dry:
            check_folder(folder, manifest)
            if (folder / "plan").is_dir():
                shutil.copytree(folder / "plan", Path(scratch) / "plan")
        else:
            claim(folder, manifest)
        plan = extend_plan(Path(scratch) if dry else folder, job.source.entries(), job.per_shard, progress)
        shards = range(number, plan.shards, parts)
        found = survey(folder, shards, job.config_hash)
        _expect_planned(job, plan, found)
        again = _to_replace(job, plan, found, retry_failed, verify)
        todo = tuple(sorted({*found.missing, *again}))
        image_seconds = _known_seconds(found.committed)
        if image_seconds is None and trial and todo and (tried := _spread(plan, todo)):
            image_seconds = seconds_per_image(job, tried)
    committed = tuple(shard for shard in found.committed if shard.shard not in again)
    return Prepared(job, plan, part, committed, again, todo, image_seconds, dry)


def build(prepared: Prepared, run: Runner = run_here) -> Generator[Progress, None, None]:
    """Build what is left, telling of every piece of finished work; at the end write counts and problems.

    It may be stopped at any moment, by closing the generator, Ctrl-C or SIGKILL: what is committed stays, and the next
    build goes on from there.

    Args:
        run: who does the work: ``runners.run_here``, or one of its neighbours with its arguments bound.

    Raises:
        InputError: the disk is full, a worker was killed, memory is short. AssetError: weights are missing.
        FormatError: the plan or the source is damaged.
    """
    if prepared.dry:
        raise InputError("this set was only looked at; prepare it without dry to build it")
    job, started = prepared.job, time.monotonic()
    sweep(job.folder)
    counts, built = Counter(prepared.counts), 0
    done, total = prepared.images_done, prepared.images_done + prepared.images_to_do
    try:
        with closing(run(job, prepared.todo)) as steps:
            for step in steps:
                counts.update(step.counts)
                built += sum(step.counts.values())
                yield _progress(counts, done + built, total, built, time.monotonic() - started)
    except BaseException:
        with suppress(CrowdMeshError, OSError):  # what stopped the build is what matters
            finish(job)
        raise
    sweep(job.folder)
    finish(job)


def finish(job: Job) -> Manifest:
    """Write what all shards say of themselves into the manifest, and their failures into ``problems.csv``.

    Other processes may finish at the same moment: who finds all shards there after it has written that some are not
    writes once more, so that the last one tells the whole.

    Raises:
        InputError: there is no plan, or the folder cannot be written. FormatError: plan or a shard are damaged.
    """
    plan = Plan.open(job.folder)
    if plan is None:
        raise InputError(f"{job.folder} holds no plan; run crowdmesh build first")
    while True:
        shards = range(plan.shards)
        found = survey(job.folder, shards, job.config_hash)
        _expect_planned(job, plan, found)
        manifest = Manifest(
            job.signature,
            job.config_hash,
            job.source.licences,
            planned=plan.records,
            images=sum(shard.scenes for shard in found.committed),
            people=sum(shard.people for shard in found.committed),
            shards=len(found.committed),
            counts=_counted(found.committed),
            complete=len(found.committed) == len(shards),
        )
        _write_problems(job, found.committed)
        write_manifest(job.folder, manifest)
        if not found.missing or not all(scenes_path(job.folder, shard).is_file() for shard in found.missing):
            return manifest


def _expect_planned(job: Job, plan: Plan, found: Survey) -> None:
    """InputError where finished shards are of another configuration, or hold other images than the plan says."""
    if found.foreign:
        raise InputError(
            f"{scenes_path(job.folder, found.foreign[0])} ({len(found.foreign)} shards in all) was built with another "
            "configuration than the manifest says; move such shards away or choose another folder"
        )
    for shard in found.committed:
        if shard.keys != plan.keys_digest(shard.shard):
            raise InputError(
                f"{scenes_path(job.folder, shard.shard)} does not hold the images that plan/ has for it, so one of "
                "them is from elsewhere; put the right plan back, or move shards/ away to build them again"
            )


def _to_replace(job: Job, plan: Plan, found: Survey, retry_failed: bool, verify: bool) -> dict[int, str]:
    """Shards to build again, each with the reason."""
    again = dict(found.damaged)
    for shard in found.committed:
        if retry_failed and (reason := _worth_a_retry(job, plan, shard)):
            again[shard.shard] = reason
        elif verify:
            try:
                check_shard(job.folder, shard.shard, job.config_hash, deep=True)
            except FormatError as error:
                again[shard.shard] = str(error)
    return again


def _worth_a_retry(job: Job, plan: Plan, shard: ShardSummary) -> str:
    """How many images of a shard failed and may not fail now, in words; "" where it is none."""
    failed = shard.counts.get(Outcome.IMAGE_UNREADABLE, 0) + shard.counts.get(Outcome.FAILED, 0)
    if shard.counts.get(Outcome.IMAGE_MISSING, 0):
        rows = BuiltSet(job.folder, (shard,), job.config_hash).scene_batches(["key", "outcome"])
        missing = {
            key
            for batch in rows
            for key, outcome in zip(batch["key"].to_pylist(), batch["outcome"].to_pylist(), strict=True)
            if outcome == Outcome.IMAGE_MISSING
        }
        samples = job.source.load([entry for entry in plan.entries(shard.shard) if entry.key in missing])
        failed += sum(sample.image is not None or sample.encoded is not None for sample in samples)
    return f"{failed} image{'s' * (failed != 1)} that failed may be built now" if failed else ""


def _known_seconds(shards: Iterable[ShardSummary]) -> float | None:
    told = [(shard.seconds, shard.scenes) for shard in shards if shard.scenes]
    return sum(seconds for seconds, _ in told) / sum(scenes for _, scenes in told) if told else None


def _spread(plan: Plan, todo: Sequence[int]) -> list[Entry]:
    """A few images from all over the work, of those that are there."""
    chosen = sorted({todo[(len(todo) - 1) * k // max(TRIALS - 1, 1)] for k in range(TRIALS)})
    found = [[entry for entry in plan.entries(shard) if entry.found] for shard in chosen]
    if len(chosen) == 1:
        return found[0][:: max(1, len(found[0]) // TRIALS)][:TRIALS]
    return [entries[0] for entries in found if entries]


def _counted(shards: Iterable[ShardSummary]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard.counts)
    return {outcome.value: total[outcome.value] for outcome in Outcome if total[outcome.value]}


def _progress(counts: Counter[str], done: int, total: int, built: int, seconds: float) -> Progress:
    accepted = sum(count for name, count in counts.items() if Outcome(name).accepted)
    failed = sum(count for name, count in counts.items() if Outcome(name).failed)
    return Progress(done, total, built, accepted, sum(counts.values()) - accepted - failed, failed, seconds)


def _write_problems(job: Job, shards: Iterable[ShardSummary]) -> None:
    failing = tuple(shard for shard in shards if any(Outcome(name).failed for name in shard.counts))
    with (
        atomic_path(job.folder / PROBLEMS, durable=True) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.writer(file)
        table.writerow(["key", "outcome", "detail"])
        for batch in BuiltSet(job.folder, failing, job.config_hash).scene_batches(["key", "outcome", "detail"]):
            rows = zip(*(batch.column(name).to_pylist() for name in ("key", "outcome", "detail")), strict=True)
            table.writerows(row for row in rows if Outcome(row[1]).failed)
