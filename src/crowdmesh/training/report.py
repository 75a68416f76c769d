"""A training run as one self-contained page: curves, figures of every validation, settings, pictures, time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from crowdmesh._files import atomic_path, reading
from crowdmesh.errors import AssetError, InputError
from crowdmesh.pgt.report.html import image_html, table_html, write_html
from crowdmesh.pgt.report.tables import NONE, ReportTable
from crowdmesh.training.metrics_log import read_log
from crowdmesh.training.pictures import FOLDER
from crowdmesh.training.step_report import PHASES
from crowdmesh.visual.plots import require_plots

REPORT_NAME = "report.html"
_CONFIG = "config.json"
_MOST_PICTURES, _MOST_ROWS = 4, 40
_SMOOTH = 50  # a curve of losses has about so many points
_SHOWN = (
    "score", "loss", "recall_percent", "precision_percent", "mpjpe_mm", "pa_mpjpe_mm", "depth_percent", "order_percent",
    "pcdr_percent", "stature_cm", "fov_deg",
)  # fmt: skip
_UNITS = {"percent": "%", "deg": "°", "mm": "mm", "cm": "cm"}
_BLUE, _ORANGE = "#0072b2", "#d55e00"


def write_report(folder: str | Path, title: str, remarks: Sequence[str] = ()) -> Path:
    """Write ``report.html`` into a run's folder from what lies there; it can be written while the run goes on.

    Args:
        folder: of the run. title: of the page. remarks: paragraphs below it, e.g. what the stage does differently from
            the release.

    Returns:
        The page.

    Raises:
        InputError: no run there, or nothing can be written. FormatError: its log or settings are damaged.
    """
    folder = Path(folder)
    entries, settings = read_log(folder), _settings(folder)
    if not entries:
        raise InputError(f"{folder} holds no log of a training run; name the folder that was given as --out")
    steps = [entry for entry in entries if entry.get("kind") == "step"]
    validations = [entry for entry in entries if entry.get("kind") == "validation"]
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(text)}</p>" for text in (*_summary(steps, validations), *remarks)),
    ]
    if validations:
        parts.append(table_html(_validation_table(validations)))
    parts += ["<h2>Curves</h2>", *_curves(folder, steps, validations)]
    if steps:
        parts.append(table_html(_time_table(steps)))
    parts += _pictures(folder)
    parts.append(table_html(settings))
    write_html(folder / REPORT_NAME, title, parts)
    return folder / REPORT_NAME


def _summary(steps: list[dict[str, Any]], validations: list[dict[str, Any]]) -> list[str]:
    sentences = []
    if steps:
        images = sum(entry["images"] for entry in steps)
        hours = sum(entry["seconds"]["all"] for entry in steps) / 3600
        sentences.append(f"{steps[-1]['step']:,} steps and {images:,} images in {hours:.2f} hours of training.")
    scored = [entry for entry in validations if entry.get("score") is not None]
    if scored:
        best = min(scored, key=lambda entry: entry["score"])
        sentences.append(
            f"The best of {len(scored)} validations is that after step {best['step']:,}, with a score of "
            f"{best['score']:.4f} (0: perfect, 1: nobody found)."
        )
    return sentences


def _validation_table(validations: list[dict[str, Any]]) -> ReportTable:
    names = [name for name in _SHOWN if any(entry["figures"].get(name) is not None for entry in validations)]
    every = -(-len(validations) // _MOST_ROWS)
    chosen = [entry for i, entry in enumerate(validations) if (len(validations) - 1 - i) % every == 0]
    rows = tuple((f"{entry['step']:,}", *(_number(entry["figures"].get(name)) for name in names)) for entry in chosen)
    note = "Held-out images, nothing augmented. Lower is better but for recall, precision, order and PCDR."
    return ReportTable("Validations", ("step", *(_words(name) for name in names)), rows, note)


def _time_table(steps: list[dict[str, Any]]) -> ReportTable:
    total = sum(entry["seconds"]["all"] for entry in steps)
    spent: dict[str, float] = {phase: sum(entry["seconds"].get(phase, 0.0) for entry in steps) for phase in PHASES}
    spent["other"] = max(0.0, total - sum(spent.values()))
    rows = tuple(
        (phase, f"{1000 * seconds / len(steps):.1f}", f"{100 * seconds / max(total, 1e-9):.1f} %")
        for phase, seconds in spent.items()
    )
    images = sum(entry["images"] for entry in steps)
    note = f"Mean over {len(steps):,} steps: {images / max(total, 1e-9):.1f} images a second."
    return ReportTable("Where the time of a step goes", ("", "milliseconds", "share"), rows, note)


def _settings(folder: Path) -> ReportTable:
    path = folder / _CONFIG
    values: Any = {}
    if path.is_file():
        with reading(path, "settings of a training run"):
            values = json.loads(path.read_text("utf-8"))
    return ReportTable("Settings", ("name", "value"), tuple(_flat(values, "")))


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{name}.{key}" if name else str(key))]
    return [(name, json.dumps(value))]


def _pictures(folder: Path) -> list[str]:
    files = sorted((folder / FOLDER).glob("*.png"))
    if not files:
        return []
    every = max(1, (len(files) - 1) / max(1, _MOST_PICTURES - 1))
    chosen = sorted({files[round(i * every)] for i in range(min(_MOST_PICTURES, len(files)))}, reverse=True)
    parts = ["<h2>Pictures</h2>", "<p>Left: labels. Middle: what the network sees. Right: who is on both, from above "]
    parts[-1] += "(hollow: labels).</p>"
    for file in chosen:
        step = f"after step {int(file.stem):,}" if file.stem.isdigit() else file.stem
        parts.append(f"<figure>{image_html(file, step)}\n<figcaption>{escape(step)}</figcaption></figure>")
    return parts


def _curves(folder: Path, steps: list[dict[str, Any]], validations: list[dict[str, Any]]) -> list[str]:
    """Small panels; a sentence where matplotlib is missing."""
    try:
        require_plots("report")
    except AssetError as error:
        return [f"<p>{escape(str(error))}</p>"]
    panels: list[tuple[str, str, list[tuple[int, float]]]] = []
    losses: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for entry in steps:
        for name, value in {"loss": entry["loss"], **entry["losses"]}.items():
            if value is not None:
                losses[name].append((entry["step"], value))
    panels += [(f"training: {name}", _BLUE, _smoothed(points)) for name, points in losses.items()]
    for name in _SHOWN:
        points = [(e["step"], e["figures"][name]) for e in validations if e["figures"].get(name) is not None]
        if points:
            panels.append((f"validation: {_words(name)}", _ORANGE, points))
    if not panels:
        return ["<p>Nothing was measured yet.</p>"]
    path = folder / "curves.png"
    _draw(path, panels)
    return [f"<figure>{image_html(path, 'curves of losses and of validations over steps')}</figure>"]


def _draw(path: Path, panels: list[tuple[str, str, list[tuple[int, float]]]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.3 * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (title, colour, points) in zip(axes, panels, strict=False):
        x, y = zip(*points, strict=True)
        axis.plot(x, y, color=colour, marker="o" if len(points) < 12 else None, markersize=3, linewidth=1.4)
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _smoothed(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means of runs of steps, each at the last one's step."""
    size = max(1, len(points) // _SMOOTH)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _words(name: str) -> str:
    """A figure's name for people, its unit in brackets."""
    head, _, unit = name.rpartition("_")
    return f"{head.replace('_', ' ')} ({_UNITS[unit]})" if unit in _UNITS else name


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.4f}" if abs(value) < 1 else f"{value:.1f}"
