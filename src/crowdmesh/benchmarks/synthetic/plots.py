"""The benchmark as one figure: accuracy by strength, order by gap, error by crowd size, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh.benchmarks.synthetic import scores
from crowdmesh.benchmarks.synthetic.methods import RIVALS
from crowdmesh.benchmarks.synthetic.records import SceneRecord
from crowdmesh.benchmarks.synthetic.tables import SIZES, where
from crowdmesh.dto import best
from crowdmesh.synth import STRENGTHS

# Colours that differ in lightness as well as in hue.
_COLOURS = {"first guess": "#9a9a9a", "paper": "#e0a030", "official": "#b3477d", "best": "#1f5fa8"}
_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_DPI = 110
_DODGE = 0.06


def save_figure(records: Sequence[SceneRecord], path: Path) -> None:
    """Draw the four panels and write a PNG; needs matplotlib (``visual.plots.require_plots``)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 8.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2)
    _by_strength(axes[0, 0], records)
    _by_gap(axes[0, 1], records)
    _by_size(axes[1, 0], records)
    _calibration(axes[1, 1], records)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _by_strength(axis, records) -> None:
    width = 0.8 / len(RIVALS)
    for m, method in enumerate(RIVALS):
        spreads = [scores.over_seeds(where(records, s, method=method.name), scores.pcdr_percent) for s in STRENGTHS]
        for x, spread in enumerate(spreads):
            if spread is not None:
                axis.bar(
                    x + (m - (len(RIVALS) - 1) / 2) * width, spread.mean, width, yerr=spread.std or 0.0, capsize=2,
                    color=_COLOURS[method.name], label=method.name if x == 0 else None,
                )  # fmt: skip
    axis.set_xticks(range(len(STRENGTHS)), list(STRENGTHS))
    _dress(axis, "Correct depth relations", "strength of the upstream errors", "PCDR$_{0.2}$ (%)")
    axis.set_ylim(40, 100)


def _by_gap(axis, records) -> None:
    edges = scores.GAP_EDGES_M
    names = [f"{low:g}–{high:g}" for low, high in pairwise(edges)]
    for method in RIVALS:
        some = where(records, "nominal", method=method.name)
        spreads = [scores.over_seeds(some, lambda r, b=b: scores.order_percent(r, b)) for b in range(len(names))]
        _line(axis, spreads, method.name)
    axis.set_xticks(range(len(names)), names)
    _dress(axis, "Order against gap (nominal)", "true gap between two people (m)", "pairs in the right order (%)")


def _by_size(axis, records) -> None:
    for method in RIVALS:
        some = where(records, "nominal", method=method.name)
        spreads = [
            scores.over_seeds([r for r in some if low <= r.people <= high], scores.depth_error_percent)
            for low, high in SIZES
        ]
        _line(axis, spreads, method.name)
    axis.set_xticks(range(len(SIZES)), [f"{low}–{high}" for low, high in SIZES])
    _dress(axis, "Depth error by crowd size (nominal)", "people in the scene", "median relative depth error (%)")


def _calibration(axis, records) -> None:
    from scipy.special import ndtri

    axis.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=1)
    for strength, style in zip(STRENGTHS, ("-", "--", ":"), strict=True):
        some = where(records, strength, method="best")
        values = []
        for level in _LEVELS:
            deviations = float(ndtri(0.5 + level / 2))
            spread = scores.over_seeds(some, lambda r, q=deviations: scores.coverage_percent(r, q, best().focal_std))
            values.append(np.nan if spread is None else spread.mean)
        axis.plot([100 * level for level in _LEVELS], values, style, color=_COLOURS["best"], label=strength)
    _dress(axis, "Calibration of best (focal length known)", "reported interval (%)", "truths inside (%)")


def _line(axis, spreads, name: str) -> None:
    # Side by side, so that error bars do not hide each other.
    shift = _DODGE * ([method.name for method in RIVALS].index(name) - (len(RIVALS) - 1) / 2)
    x = [i + shift for i, spread in enumerate(spreads) if spread is not None]
    known = [spread for spread in spreads if spread is not None]
    axis.errorbar(
        x, [s.mean for s in known], yerr=[s.std or 0.0 for s in known], color=_COLOURS[name], label=name, capsize=2,
        marker="o", markersize=4,
    )  # fmt: skip


def _dress(axis, title: str, x: str, y: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.grid(axis="y", color="#e6e6e6")
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
