"""The figures of a report, each as one PNG with one idea; needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr

from crowdmesh._files import atomic_path
from crowdmesh.body.growth import MINOR_AGE_YEARS
from crowdmesh.dto.priors import AgeGroup
from crowdmesh.pgt.report import captions
from crowdmesh.pgt.report.histogram import Histogram
from crowdmesh.pgt.report.population import MINORS, OLDEST_YEARS, minors_as_charted, minors_as_published, population
from crowdmesh.pgt.report.statistics import MANY_PEOPLE, Statistics

# Okabe and Ito's colours, told apart by colour-blind readers; lines differ in style as well.
_BEFORE, _AFTER, _THEORY, _TRUTH, _LIMIT = "#e69f00", "#0072b2", "#222222", "#009e73", "#d55e00"
_FEW = "#7fb3d9"
_INCHES, _DPI = (6.0, 3.5), 150
_MOST_BARS = 40
_MANY = 2000  # from so many values on, bins are narrow
_GROUP_YEARS = {AgeGroup.BABY: "0–3 years", AgeGroup.KID: "3–8 years", AgeGroup.TEEN: "8–15 years"}


@dataclass(frozen=True)
class ReportFigure:
    """One figure: its name in the report, a heading, a caption in words, the picture (``None``: nothing to draw)."""

    name: str
    title: str
    caption: str
    path: Path | None


def draw_figures(
    statistics: Statistics, folder: Path, threshold: float | None = None, truth: Histogram | None = None
) -> list[ReportFigure]:
    """Draw every figure into ``folder``; needs matplotlib (``visual.plots.require_plots``).

    Args:
        threshold: of the score, to be marked.
        truth: true statures of people like those of the set, metres, in the bins of ``statistics.stature_m``.

    Returns:
        The figures in the order of the page; those of which the set has no values come without a picture.
    """
    drawings: list[tuple[str, str, Histogram, str, Callable[[Any], None]]] = [
        ("people", "People per image", statistics.people_per_image, captions.people(statistics),
         lambda axes: _people(axes, statistics)),
        ("statures", "Statures before and after", statistics.stature_m, captions.statures(statistics, truth),
         lambda axes: _statures(axes, statistics, truth)),
        ("minors", "Minors against the priors of stature", _largest_group(statistics), captions.minors(statistics),
         lambda axes: _minors(axes, statistics)),
        ("ages", "Ages", statistics.age_years, captions.ages(statistics), lambda axes: _ages(axes, statistics)),
        ("scores", "Scores of the images", statistics.scores, captions.scores(statistics, threshold),
         lambda axes: _scores(axes, statistics, threshold)),
        ("residuals", "Residuals of the people", statistics.residuals, captions.residuals(statistics),
         lambda axes: _residuals(axes, statistics)),
        ("depths", "Distance from the camera", statistics.depth_m, captions.depths(statistics),
         lambda axes: _depths(axes, statistics)),
        ("fields_of_view", "Fields of view", statistics.fov_deg, captions.fields_of_view(statistics),
         lambda axes: _fields_of_view(axes, statistics)),
    ]  # fmt: skip
    return [
        ReportFigure(name, title, caption, _save(folder / f"{name}.png", draw, len(MINORS) if name == "minors" else 1))
        if values.known
        else ReportFigure(name, title, caption, None)
        for name, title, values, caption, draw in drawings
    ]


def _save(path: Path, draw: Callable[[Any], None], columns: int) -> Path:
    """Draw on one axis, or on a row of them that share what they can, and write the PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    draw(figure.subplots() if columns == 1 else figure.subplots(1, columns, sharey=True))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI, metadata={"Software": None})
    return path


def _people(axis: Any, statistics: Statistics) -> None:
    counts = statistics.people_per_image.counts
    last = int(np.flatnonzero(counts)[-1]) if counts.any() else len(counts)
    last = len(counts) if statistics.people_per_image.above else last
    shown = counts[: min(last, _MOST_BARS) + 1].astype(float)
    rest = statistics.people_per_image.known - shown.sum()
    colours = [_AFTER if people >= MANY_PEOPLE else _FEW for people in range(len(shown))]
    axis.bar(range(len(shown)), shown, color=colours, width=0.85)
    if rest:
        axis.bar(_MOST_BARS + 2, rest, color=_AFTER, width=0.85)
        axis.annotate(f"> {_MOST_BARS}", (_MOST_BARS + 2, rest), ha="center", va="bottom", fontsize=8)
    if shown.max() > 50:
        axis.set_yscale("log")
        axis.set_ylim(bottom=0.7)
    axis.set_xlim(left=0.0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    for name, colour in (("fewer than ten", _FEW), ("ten or more", _AFTER)):
        axis.bar(0, 0, color=colour, label=name)
    _dress(axis, "people in the image", "accepted images")


def _fields_of_view(axis: Any, statistics: Statistics) -> None:
    step = 2 if statistics.fov_deg.known >= _MANY else 5
    _filled(axis, statistics.fov_deg, step, _AFTER, None)
    axis.set_xlim(*_range(statistics.fov_deg, 5.0))
    _dress(axis, "vertical field of view (degrees)", f"accepted images per {step}° (%)", legend=False)


def _statures(axis: Any, statistics: Statistics, truth: Histogram | None) -> None:
    merge = 2 if statistics.people >= _MANY else 5
    edges, fine = statistics.stature_m.shares(merge)[0], statistics.stature_m.edges
    _filled(axis, statistics.stature_before_m, merge, _BEFORE, "before")
    _filled(axis, statistics.stature_m, merge, _AFTER, "after")
    label = f"uniform ages, 0–{OLDEST_YEARS:.0f} years"
    axis.plot(_middles(fine), 100.0 * merge * population(fine), "--", color=_THEORY, linewidth=1.4, label=label)
    if truth is not None:
        axis.stairs(100.0 * truth.shares(merge)[1], edges, color=_TRUTH, linewidth=1.8, label="truth")
    axis.set_xlim(0.4, 2.2)
    _dress(axis, "stature (m)", f"people per {100 * (edges[1] - edges[0]):.0f} cm (%)")
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def _minors(axes: Any, statistics: Statistics) -> None:
    for axis, group in zip(axes, MINORS, strict=True):
        values = statistics.minors[group]
        edges, shares = values.shares(5)
        fine = values.edges
        centres = _middles(fine)
        if values.known:
            axis.stairs(100.0 * shares, edges, color=_AFTER, fill=True, alpha=0.45, label="this set, after")
        # Five fine bins to one of the bars.
        axis.plot(centres, 500.0 * minors_as_charted(group, fine), "--", color=_THEORY, linewidth=1.3, label="charts")
        axis.plot(centres, 500.0 * minors_as_published(group, fine), color=_LIMIT, linewidth=1.5, label="paper's prior")
        axis.set_title(f"{_GROUP_YEARS[group]}\n{values.known:,} people", fontsize=9)
        axis.set_xlim(0.3, 2.0)
        axis.set_xticks((0.5, 1.0, 1.5))
        _dress(axis, "stature (m)", "people per 5 cm (%)" if group == MINORS[0] else "", legend=False)
    axes[-1].legend(frameon=False, fontsize=7, loc="upper left")


def _ages(axis: Any, statistics: Statistics) -> None:
    values = statistics.age_years
    _filled(axis, values, 5, _AFTER, "this set")
    axis.plot([0.0, OLDEST_YEARS], [500.0 / OLDEST_YEARS] * 2, "--", color=_THEORY, linewidth=1.4, label="uniform ages")
    axis.axvline(MINOR_AGE_YEARS, color=_LIMIT, linewidth=1.2, label=f"{MINOR_AGE_YEARS:.0f} years")
    axis.set_xlim(0.0, max(90.0, _range(values, 5.0)[1]))
    _dress(axis, "apparent age (years)", "people per 5 years (%)")


def _scores(axis: Any, statistics: Statistics, threshold: float | None) -> None:
    values = statistics.scores
    _filled(axis, values, 10, _AFTER, None)
    if threshold is not None:
        axis.axvline(threshold, color=_LIMIT, linewidth=1.5, label=f"threshold {threshold:g}")
    axis.set_xlim(0.0, captions.MOST_SCORE)
    _dress(axis, "mean standardised residual of the image", "images per 0.1 (%)", legend=threshold is not None)


def _residuals(axis: Any, statistics: Statistics) -> None:
    edges, _ = statistics.residuals.shares(2)
    _filled(axis, statistics.residuals, 2, _AFTER, "this set")
    normal = np.diff(ndtr(edges))
    axis.plot(_middles(edges), 100.0 * normal, "--", color=_THEORY, linewidth=1.4, label="standard normal")
    axis.set_xlim(-5.0, 5.0)
    _dress(axis, "standardised residual of the stature", "placed people per 0.2 (%)")


def _depths(axis: Any, statistics: Statistics) -> None:
    low, high = 0.0, max(_range(h, 1.0)[1] for h in (statistics.depth_m, statistics.depth_before_m))
    merge = 5 if high < 40 else 20
    _filled(axis, statistics.depth_before_m, merge, _BEFORE, "before")
    _filled(axis, statistics.depth_m, merge, _AFTER, "after")
    axis.set_xlim(low, high)
    _dress(axis, "depth of the pelvis (m)", f"people per {merge / 10:g} m (%)")


def _filled(axis: Any, values: Histogram, merge: int, colour: str, label: str | None) -> None:
    """Shares in per cent as a filled staircase with a clear upper line."""
    edges, shares = values.shares(merge)
    axis.stairs(100.0 * shares, edges, color=colour, fill=True, alpha=0.35)
    axis.stairs(100.0 * shares, edges, color=colour, linewidth=1.6, label=label)


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _range(values: Histogram, step: float) -> tuple[float, float]:
    """Where all but two in a thousand values lie, widened to whole steps."""
    low, high = values.quantile(0.001), values.quantile(0.999)
    return max(float(values.edges[0]), step * np.floor(low / step)), step * (np.floor(high / step) + 1.0)


def _largest_group(statistics: Statistics) -> Histogram:
    return max(statistics.minors.values(), key=lambda histogram: histogram.known)


def _dress(axis: Any, x: str, y: str, legend: bool = True) -> None:
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(axis="y", color="#e6e6e6")
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize=8)
