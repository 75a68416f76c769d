"""The report on a set: one page for people, its pictures beside it, one table for the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError
from crowdmesh.pgt.manifest import Manifest, read_manifest
from crowdmesh.pgt.reading import BuiltSet, open_set
from crowdmesh.pgt.report import tables
from crowdmesh.pgt.report.figures import draw_figures
from crowdmesh.pgt.report.histogram import Histogram
from crowdmesh.pgt.report.page import write_page
from crowdmesh.pgt.report.picks import EACH, GROUPS, pick_scenes
from crowdmesh.pgt.report.sheet import ImageOf, draw_sheet, picture_name
from crowdmesh.pgt.report.statistics import Statistics, gather
from crowdmesh.visual.plots import require_plots

PAGE = "index.html"


@dataclass(frozen=True, eq=False)
class Report:
    """What was written.

    Attributes:
        page: the HTML file. files: the page and every picture. summary: the numbers behind them.
    """

    page: Path
    files: tuple[Path, ...]
    summary: Statistics

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """For the terminal: what, of this set, of the paper's; then the images by outcome."""
        held = tables.beside_paper(self.summary).rows
        became = tables.outcomes(self.summary).rows
        return tuple((what, ours, papers) for what, ours, papers in held) + tuple(
            (what, f"{count} ({share})", tables.NONE) for what, count, share in became
        )


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    threshold: float | None = None,
    truth_m: Float[np.ndarray, " N"] | None = None,
    image_of: ImageOf | None = None,
) -> Report:
    """Write the report on a set, also on one that is not finished yet; needs matplotlib.

    The set is read twice, for the numbers and to pick scenes, in bounded memory. Pictures of an earlier report in the
    folder that this one does not have are removed.

    Args:
        folder: of the set. out: where page and pictures go; default ``report`` in ``folder``.
        threshold: of the score, to filter again (nothing is computed anew); ``None``: as the set was built.
        truth_m: true statures of people like those of the set, metres, for the figure of statures.
        image_of: finds photographs for the contact sheet; ``None``: it does without.

    Raises:
        AssetError: matplotlib is not installed.
        InputError: no set there, a threshold that is no positive number, statures that are none, an unwritable folder.
        FormatError: a damaged set.
    """
    require_plots("report")
    if threshold is not None and not threshold > 0:
        raise InputError(f"the threshold of the score must be positive, got {threshold}")
    folder = Path(folder)
    out = folder / "report" if out is None else Path(out)
    manifest, built = read_manifest(folder), open_set(folder)
    statistics = gather(built, threshold)
    truth = None if truth_m is None else _truth(truth_m, statistics)
    marked = _threshold_of(manifest) if threshold is None else threshold
    figures = draw_figures(statistics, out, marked, truth)
    sheet = draw_sheet(built, pick_scenes(built, statistics), out, image_of)
    shown = [tables.beside_paper(statistics), tables.outcomes(statistics), tables.details(statistics)]
    shown += [tables.statuses(statistics), tables.datasets(statistics)]
    page = out / PAGE
    write_page(
        page, f"Report on {folder.resolve().name}", _introduction(built, manifest, statistics, marked),
        [table for table in shown if table is not None and table.rows], figures, sheet, manifest.licences,
    )  # fmt: skip
    pictures = [picture.path for picture in (*figures, *sheet) if picture.path is not None]
    _remove_old(out, {path.name for path in pictures}, [figure.name for figure in figures])
    return Report(page, (page, *pictures), statistics)


def _remove_old(folder: Path, written: set[str], figures: list[str]) -> None:
    """Delete pictures that an earlier report had and this one has not: only names that reports write."""
    names = [f"{name}.png" for name in figures]
    names += [picture_name(group, number + 1) for group in GROUPS for number in range(EACH)]
    for name in names:
        if name not in written:
            (folder / name).unlink(missing_ok=True)


def _truth(truth_m: Float[np.ndarray, " N"], statistics: Statistics) -> Histogram:
    if truth_m.ndim != 1 or not len(truth_m) or not np.all(np.isfinite(truth_m) & (truth_m > 0)):
        raise InputError("true statures must be one row of positive numbers (metres)")
    truth = Histogram(statistics.stature_m.edges)
    truth.add(truth_m.astype(float))
    return truth


def _threshold_of(manifest: Manifest) -> float | None:
    """The threshold with which the set was filtered; ``None``: nobody was placed."""
    dto = manifest.config.get("dto")
    return None if dto is None else float(dto["accept_below"])


def _introduction(built: BuiltSet, manifest: Manifest, statistics: Statistics, threshold: float | None) -> list[str]:
    """What a reader should know before any figure, a paragraph each."""
    if not statistics.images:
        return ["The set holds no image yet."]
    shards = f"{len(built.shards):,} {'shard' if len(built.shards) == 1 else 'shards'}"
    text = f"{statistics.images:,} images in {shards}, {statistics.accepted:,} of them accepted"
    if threshold is not None:
        text += f" (mean standardised residual below {threshold:g})"
    said = [text + "."]
    if statistics.images < manifest.planned:
        said.append(f"The set is not finished: {manifest.planned:,} images are planned.")
    if statistics.threshold is not None:
        said.append("Filtered again with that threshold: nothing was computed anew, and the set is as it was.")
    if not statistics.accepted:
        said.append("No image was accepted, so most figures have nothing to show; the tables say why.")
    return said
