"""Everything a report says of a set in numbers, gathered in one pass over its shards and in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from crowdmesh.body.growth import MINOR_AGE_YEARS
from crowdmesh.dto.priors import AgeGroup, age_group
from crowdmesh.errors import FormatError
from crowdmesh.pgt.reading import BuiltSet
from crowdmesh.pgt.records import Outcome
from crowdmesh.pgt.report.histogram import Histogram
from crowdmesh.pgt.report.population import MINORS

MANY_PEOPLE = 10
"""Images with at least as many people are dense crowds (paper section 7)."""

MOST_PEOPLE = 1000
"""Images with more people are counted together."""

DETAILS = 3
"""So many details of each outcome are kept."""

_SCENES = ("key", "dataset", "outcome", "detail", "score", "people", "vertical_fov_rad")
_PEOPLE = (
    "status", "origin", "age_years", "stature_m", "stature_before_m", "standardised_residual",
    "pelvis_m", "pelvis_before_m", "translation_m", "translation_before_m",
)  # fmt: skip


def _bins(low: float, high: float, step: float) -> Histogram:
    return Histogram(np.linspace(low, high, round((high - low) / step) + 1))


@dataclass
class DatasetCounts:
    """One data set within a set: its images, those accepted and failed, and the people of the accepted ones.

    Attributes:
        ages: people whose age is known. minors: those of them below 15 years.
    """

    images: int = 0
    accepted: int = 0
    failed: int = 0
    people: int = 0
    ages: int = 0
    minors: int = 0


@dataclass(eq=False)
class Statistics:
    """What a set holds. All but ``outcomes``, ``details``, ``scores`` and ``all_people`` is of accepted images alone.

    Attributes:
        threshold: of the score, if it is another one than the set was built with.
        outcomes: images by outcome. details: ``(key, detail)`` of the first few images of each outcome that have one.
        datasets: by name. scores: of all images that have one; unknown: nobody was placed together. accepted_scores: of
            accepted images.
        all_people: people of all images.
        people_per_image, fov_deg: per image. statuses, detected: people by status; those that no label had.
        age_years, depth_m, depth_before_m, stature_m, stature_before_m: per person (depth: of the pelvis, or of the
            root of bodies that were not posed). residuals: standardised, of the people who were placed.
        minors: statures (metres) of those whose age is known, by group.
    """

    threshold: float | None = None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    details: dict[Outcome, list[tuple[str, str]]] = field(default_factory=dict)
    datasets: dict[str, DatasetCounts] = field(default_factory=dict)
    scores: Histogram = field(default_factory=lambda: _bins(0.0, 10.0, 0.01))
    accepted_scores: Histogram = field(default_factory=lambda: _bins(0.0, 10.0, 0.01))
    all_people: int = 0
    people_per_image: Histogram = field(default_factory=lambda: _bins(-0.5, MOST_PEOPLE + 0.5, 1.0))
    fov_deg: Histogram = field(default_factory=lambda: _bins(0.0, 180.0, 1.0))
    statuses: Counter[str] = field(default_factory=Counter)
    detected: int = 0
    age_years: Histogram = field(default_factory=lambda: _bins(0.0, 120.0, 1.0))
    depth_m: Histogram = field(default_factory=lambda: _bins(0.0, 200.0, 0.1))
    depth_before_m: Histogram = field(default_factory=lambda: _bins(0.0, 200.0, 0.1))
    stature_m: Histogram = field(default_factory=lambda: _bins(0.0, 3.0, 0.01))
    stature_before_m: Histogram = field(default_factory=lambda: _bins(0.0, 3.0, 0.01))
    residuals: Histogram = field(default_factory=lambda: _bins(-10.0, 10.0, 0.1))
    minors: dict[AgeGroup, Histogram] = field(default_factory=lambda: {g: _bins(0.0, 3.0, 0.01) for g in MINORS})

    @property
    def images(self) -> int:
        """All images of the set."""
        return self.outcomes.total()

    @property
    def accepted(self) -> int:
        """Images that are part of the set as it is filtered."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.accepted)

    @property
    def people(self) -> int:
        """People of the accepted images."""
        return self.statuses.total()

    @property
    def crowds(self) -> int:
        """Accepted images with ten or more people."""
        return int(self.people_per_image.counts[MANY_PEOPLE:].sum()) + self.people_per_image.above

    @property
    def minor_count(self) -> int:
        """People below 15 years."""
        return sum(dataset.minors for dataset in self.datasets.values())


def gather(built: BuiltSet, threshold: float | None = None) -> Statistics:
    """Everything a report needs to know of a set.

    Args:
        threshold: of the score, to filter again; ``None``: as the set was built.

    Raises:
        FormatError: the people of the set are not those its scenes count.
    """
    statistics = Statistics(threshold)
    people = _Rows(built.people_batches(_PEOPLE))
    for scenes in built.scene_batches(_SCENES):
        outcomes = outcomes_at(scenes, threshold)
        counts = numbers(scenes, "people").astype(np.int64)
        _add_scenes(statistics, scenes, outcomes, counts)
        accepted = np.repeat([outcome.accepted for outcome in outcomes], counts)
        names = np.repeat(np.asarray(scenes.column("dataset").to_pylist(), object), counts)
        for first, last, batch in people.take(len(accepted)):
            _add_people(statistics, batch, accepted[first:last], names[first:last])
    people.finish()
    return statistics


def outcomes_at(scenes: pa.RecordBatch, threshold: float | None) -> list[Outcome]:
    """What became of these images; with a threshold, what would become of them there.

    Args:
        scenes: rows with the columns ``outcome`` and ``score``.
    """
    outcomes = [Outcome(name) for name in scenes.column("outcome").to_pylist()]
    if threshold is None:
        return outcomes
    scores = np.nan_to_num(numbers(scenes, "score"), nan=np.inf)
    return [outcome.at(float(score), threshold) for outcome, score in zip(outcomes, scores, strict=True)]


def numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """(N,) float64 values of a column; NaN where it is null."""
    return pc.cast(batch.column(name), pa.float64()).to_numpy(zero_copy_only=False)


class _Rows:
    """People one batch after the other, handed out in the portions that scenes ask for."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def take(self, count: int) -> Iterator[tuple[int, int, pa.RecordBatch]]:
        """The next ``count`` people as batches, each with the number of its first row and of the one after its last."""
        done = 0
        while done < count:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise FormatError("the set has fewer people than its scenes count; build it again in a new folder")
            part = batch.slice(0, count - done)
            self._rest = batch.slice(len(part)) if len(part) < len(batch) else None
            yield done, done + len(part), part
            done += len(part)

    def finish(self) -> None:
        """FormatError if people are left."""
        if self._rest is not None or any(len(batch) for batch in self._batches):
            raise FormatError("the set has more people than its scenes count; build it again in a new folder")


def _add_scenes(statistics: Statistics, scenes: pa.RecordBatch, outcomes: list[Outcome], counts: np.ndarray) -> None:
    accepted = np.array([outcome.accepted for outcome in outcomes], bool)
    scores = numbers(scenes, "score")
    statistics.outcomes.update(outcomes)
    statistics.all_people += int(counts.sum())
    statistics.scores.add(scores)
    statistics.accepted_scores.add(scores[accepted])
    statistics.people_per_image.add(counts[accepted].astype(float))
    statistics.fov_deg.add(np.degrees(numbers(scenes, "vertical_fov_rad")[accepted]))
    for outcome, key, detail in zip(outcomes, *(scenes.column(n).to_pylist() for n in ("key", "detail")), strict=True):
        kept = statistics.details.setdefault(outcome, [])
        if detail and len(kept) < DETAILS:
            kept.append((key, detail))
    names = scenes.column("dataset").to_pylist()
    for name, outcome, count in zip(names, outcomes, counts.tolist(), strict=True):
        dataset = statistics.datasets.setdefault(name, DatasetCounts())
        dataset.images += 1
        dataset.failed += outcome.failed
        if outcome.accepted:
            dataset.accepted += 1
            dataset.people += count


def _add_people(
    statistics: Statistics, people: pa.RecordBatch, kept: Bool[np.ndarray, " N"], datasets: np.ndarray
) -> None:
    people, datasets = people.filter(pa.array(kept)), datasets[kept]
    status = people.column("status").to_pylist()
    statistics.statuses.update(status)
    statistics.detected += sum(origin == "detected" for origin in people.column("origin").to_pylist())
    age = numbers(people, "age_years")
    statistics.age_years.add(age)
    for name in ("stature_m", "stature_before_m"):
        getattr(statistics, name).add(numbers(people, name))
    for end in ("", "_before"):
        getattr(statistics, f"depth{end}_m").add(_depth(people, end))
    placed = np.array([name.startswith("placed") for name in status], bool)
    statistics.residuals.add(numbers(people, "standardised_residual")[placed])
    group = age_group(age, np.full(len(age), np.nan))
    stature = numbers(people, "stature_m")
    for one, histogram in statistics.minors.items():
        histogram.add(stature[group == one])
    for name in set(datasets):
        own = age[datasets == name]
        statistics.datasets[name].ages += int((~np.isnan(own)).sum())
        statistics.datasets[name].minors += int((own < MINOR_AGE_YEARS).sum())


def _depth(people: pa.RecordBatch, end: str) -> np.ndarray:
    """(N,) depth of the pelvis, or of the root where nobody posed the body."""
    depths = [
        pc.call_function("list_element", [people.column(f"{name}{end}_m"), pa.scalar(2)])
        for name in ("pelvis", "translation")
    ]
    return pc.call_function("coalesce", depths).to_numpy(zero_copy_only=False)
