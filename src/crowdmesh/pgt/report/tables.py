"""The tables of a report: what a set holds beside the paper's, what became of images and people, the data sets."""

from __future__ import annotations

from dataclasses import dataclass

from crowdmesh.people import PersonStatus
from crowdmesh.pgt.records import Outcome
from crowdmesh.pgt.report.statistics import Statistics

NONE = "-"
"""Stands where there is no value."""


@dataclass(frozen=True)
class ReportTable:
    """A table of text: a heading, columns, rows of as many cells, and a sentence below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def beside_paper(statistics: Statistics) -> ReportTable:
    """What the set holds, beside what the paper says of DTO-Humans."""
    s = statistics
    rows = (
        ("images looked at", f"{s.images:,}", "2 M"),
        ("images accepted", f"{s.accepted:,}", "0.56 M"),
        ("share of images accepted", share(s.accepted, s.images), "28 %"),
        ("people of accepted images", f"{s.people:,}", "2.7 M"),
        ("people per accepted image", f"{s.people / s.accepted:.1f}" if s.accepted else NONE, "4.8"),
        ("accepted images with ten or more people", f"{s.crowds:,}", "50.9 K"),
        ("their share", share(s.crowds, s.accepted), "9.1 %"),
        ("minors among people of known age", share(s.minor_count, s.age_years.known), "6.2 %"),
        ("people of unknown age", share(s.age_years.unknown, s.people), NONE),
        ("people whom no label had", share(s.detected, s.people), NONE),
    )
    note = (
        "The paper's figures: DTO-Humans, sections 3.2.4 and 7; the shares of images follow from them. Minors are "
        "younger than 15 years; in a population of uniform ages from 0 to 80 they would be 18.8 %."
    )
    return ReportTable("What the set holds", ("", "this set", "paper"), rows, note)


def outcomes(statistics: Statistics) -> ReportTable:
    """Images by what became of them; every image is in one row."""
    rows = tuple(
        (outcome.reason, f"{statistics.outcomes[outcome]:,}", share(statistics.outcomes[outcome], statistics.images))
        for outcome in Outcome
        if statistics.outcomes[outcome]
    )
    total = (("all images", f"{statistics.images:,}", share(statistics.images, statistics.images)),)
    return ReportTable("What became of the images", ("outcome", "images", "share"), rows + total)


def details(statistics: Statistics) -> ReportTable | None:
    """The first images of each outcome that say more; ``None``: none does."""
    rows = tuple(
        (outcome.reason, key, text) for outcome in Outcome for key, text in statistics.details.get(outcome, ())
    )
    note = "The first few of each outcome; problems.csv, written at the end of a build, has all that failed."
    return ReportTable("Examples", ("outcome", "image", "why"), rows, note) if rows else None


def statuses(statistics: Statistics) -> ReportTable:
    """People of accepted images by what happened to them."""
    rows = tuple(
        (status.reason, f"{count:,}", share(count, statistics.people))
        for status in PersonStatus
        if (count := statistics.statuses[status.name.lower()])
    )
    return ReportTable(
        "What happened to the people of accepted images",
        ("status", "people", "share"),
        rows,
        f"The set has {statistics.all_people:,} people in all its images.",
    )


def datasets(statistics: Statistics) -> ReportTable:
    """One row per data set, in the order of their names."""
    rows = tuple(
        (
            name, f"{d.images:,}", f"{d.accepted:,}", share(d.accepted, d.images), f"{d.failed:,}", f"{d.people:,}",
            f"{d.people / d.accepted:.1f}" if d.accepted else NONE, share(d.minors, d.ages),
        )
        for name, d in sorted(statistics.datasets.items())
    )  # fmt: skip
    columns = ("data set", "images", "accepted", "share", "failed", "people", "people per image", "minors")
    return ReportTable("Data sets", columns, rows, "People and minors are those of accepted images.")


def share(count: int, whole: int) -> str:
    """A share in per cent, a dash of nothing."""
    return f"{100.0 * count / whole:.1f} %" if whole else NONE
