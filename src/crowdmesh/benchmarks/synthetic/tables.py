"""The tables of the synthetic benchmark as rows of text, for the page and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from crowdmesh.benchmarks.synthetic import scores
from crowdmesh.benchmarks.synthetic.methods import METHODS, RIVALS, TRIALS, Method
from crowdmesh.benchmarks.synthetic.plan import FOCAL_ERRORS, WORLDS
from crowdmesh.benchmarks.synthetic.records import SceneRecord
from crowdmesh.benchmarks.synthetic.scores import AGE_GROUPS, GAP_EDGES_M, RADII_M, Score, over_seeds
from crowdmesh.dto import best
from crowdmesh.metrics import Samples, fov_error
from crowdmesh.synth import STRENGTHS

Records = Sequence[SceneRecord]
SIZES = ((2, 4), (5, 9), (10, 19), (20, 60))
NORMAL_QUANTILES = {50: 0.674, 80: 1.282, 90: 1.645, 95: 1.960}


@dataclass(frozen=True)
class TextTable:
    """A table ready to print.

    Attributes:
        title: heading. says: one sentence on how to read it.
        columns, rows: text; the first column names the row.
    """

    title: str
    says: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return f"### {self.title}\n\n{self.says}\n\n" + "\n".join(lines) + "\n"


def where(records: Records, setting: str, world: str = "mixed", method: str | None = None) -> list[SceneRecord]:
    """The records of one setting, world and method."""
    return [
        r for r in records
        if r.setting == setting and r.world == world and (method is None or r.method == method)
    ]  # fmt: skip


_PCDR = [(f"PCDR {name}", lambda r, g=g: scores.pcdr_percent(r, g)) for g, name in enumerate(AGE_GROUPS)]
_ERRORS: list[tuple[str, Score]] = [
    ("PCDR all", scores.pcdr_percent),
    ("depth error %", scores.depth_error_percent),
    ("with true focal length", lambda r: scores.depth_error_percent(r, True)),
    ("stature cm", scores.stature_error_cm),
    ("accepted %", scores.accepted_percent),
]


def main_table(records: Records, strength: str, methods: Sequence[Method] = METHODS) -> TextTable:
    """The analogue of the paper's Tables 1, 6 and 8 at one strength."""
    rows = _rows(records, [(m.name, strength, "mixed", m.name) for m in methods], _PCDR + _ERRORS)
    says = (
        "PCDR_0.2 in per cent by age group, median relative depth error, the same had the focal length been known, "
        "mean stature error, share of images the method accepts; mean ± standard deviation over seeds."
    )
    return TextTable(f"Strength {strength}", says, ("method", *_names(_PCDR + _ERRORS)), rows)


def margin_table(records: Records) -> TextTable:
    """How far ``best`` is ahead, seed by seed on the same scenes."""
    rows = []
    for strength in STRENGTHS:
        for rival in ("paper", "official"):
            some = where(records, strength)
            gains = scores.margin(some, scores.pcdr_percent, "best", rival)
            errors = scores.margin(some, scores.depth_error_percent, "best", rival)
            verdict = "yes" if _beyond(gains, 1) and _beyond(errors, -1) else "no"
            rows.append((strength, rival, str(gains), str(errors), verdict))
    says = (
        "Difference to `best` on the same scenes: mean ± standard deviation over seeds, in points. Beyond the spread: "
        "both means are on the good side by more than one standard deviation."
    )
    return TextTable(
        "How far ahead", says, ("strength", "rival", "PCDR", "depth error", "both beyond the spread"), tuple(rows)
    )


def _beyond(spread: scores.Spread | None, sign: int) -> bool:
    return spread is not None and sign * spread.mean > (spread.std or 0.0)


def calibration_table(records: Records) -> TextTable:
    """How often the posterior intervals of ``best`` hold the truth."""
    rows = []
    for strength in STRENGTHS:
        some = where(records, strength, method="best")
        for name, focal in (("in the camera's space", False), ("had the focal length been known", True)):
            cells = (
                over_seeds(some, lambda r, q=q, f=focal: scores.coverage_percent(r, q, best().focal_std if f else None))
                for q in NORMAL_QUANTILES.values()
            )
            rows.append((strength, name, *map(_cell, cells)))
    columns = ("strength", "depth", *(f"{level} % interval" for level in NORMAL_QUANTILES))
    says = "Share of the people whose true depth lies inside the interval that `best` reports, in per cent."
    return TextTable("Calibration of the posterior", says, columns, tuple(rows))


def order_table(records: Records) -> TextTable:
    """Right order against the true gap."""
    gaps = [
        (f"{low:g}–{high:g} m", lambda r, b=b: scores.order_percent(r, b))
        for b, (low, high) in enumerate(pairwise(GAP_EDGES_M))
    ]
    rows = _rows(records, [(m.name, "nominal", "mixed", m.name) for m in RIVALS], gaps)
    says = (
        "Pairs of detected people in the right order, in per cent, by how far apart they truly are. (Whom nobody "
        "detected, no method can order; PCDR counts them.)"
    )
    return TextTable("Order against gap", says, ("method", *_names(gaps)), rows)


def size_table(records: Records) -> TextTable:
    """By crowd size."""
    rows = []
    for method in RIVALS:
        cells = []
        for low, high in SIZES:
            some = [r for r in where(records, "nominal", method=method.name) if low <= r.people <= high]
            cells += [_cell(over_seeds(some, scores.pcdr_percent)), _cell(over_seeds(some, scores.depth_error_percent))]
        rows.append((method.name, *cells))
    columns = [f"{what}, {low}–{high} people" for low, high in SIZES for what in ("PCDR", "depth error %")]
    return TextTable("By number of people", "Nominal strength.", ("method", *columns), tuple(rows))


def camera_table(records: Records) -> TextTable:
    """Where people are in the camera's space, nothing aligned."""
    columns: list[tuple[str, Score]] = [
        (name, lambda r, p=p: scores.localisation_cm(r, p))
        for p, name in enumerate(("pelvis cm", "along the ray", "across it"))
    ]
    columns += [(f"F1 at {radius:g} m", lambda r, d=radius: scores.f1_percent(r, d)) for radius in RADII_M]
    columns += [("FoV error °", _fov_degrees)]
    rows = _rows(records, [(m.name, "nominal", "mixed", m.name) for m in RIVALS], columns)
    says = "Nominal: median distance of the pelvis from the truth; people found within a radius of it, in per cent."
    return TextTable("In the camera's space", says, ("method", *_names(columns)), rows)


def _fov_degrees(records: Records) -> float | None:
    import numpy as np

    errors = [fov_error(np.array([r.fov]), np.array([r.true_fov])) for r in records]
    mean = Samples.merged(Samples(e) for e in errors).mean
    return None if mean is None else math.degrees(mean)


def depth_table(records: Records) -> TextTable:
    """By quality of the depth map: the analogue of the paper's Table 9."""
    keys = [(f"{name}, {m.name}", f"depth {name}", "mixed", m.name) for name in ("exact", *STRENGTHS) for m in RIVALS]
    says = "All other errors nominal; `exact` is a map without error or shift."
    return TextTable(
        "By quality of the depth map", says, ("map, method", *_names(_ERRORS)), _rows(records, keys, _ERRORS)
    )


def focal_table(records: Records) -> TextTable:
    """By error of the focal length."""
    keys = [(f"{b:+.0%}, {m.name}", f"focal {b:+.0%}", "mixed", m.name) for b in FOCAL_ERRORS for m in RIVALS]
    says = (
        "All other errors nominal. No cue shows the focal length: depth is off by its error, order and stature are not."
    )
    return TextTable(
        "By error of the focal length", says, ("error, method", *_names(_ERRORS)), _rows(records, keys, _ERRORS)
    )


def world_table(records: Records) -> TextTable:
    """Other worlds, the paper's three failure cases among them."""
    keys = [(f"{world}, {m.name}", "nominal", world, m.name) for world in WORLDS for m in RIVALS]
    says = "Nominal strength. `occluded`, `jump` and `partial` are the failure cases of the paper's section 10."
    return TextTable("Other worlds", says, ("world, method", *_names(_ERRORS)), _rows(records, keys, _ERRORS))


def trial_table(records: Records) -> TextTable:
    """Every trial on the way to ``best``."""
    rows = []
    tried = {r.method for r in records if r.setting.startswith("trial ")}
    for trial in (t for t in TRIALS if t.method.name in tried):
        cells = []
        for strength in STRENGTHS:
            some = where(records, f"trial {strength}", method=trial.method.name)
            for score in (scores.pcdr_percent, lambda r: scores.depth_error_percent(r, True)):
                cells.append(_cell(over_seeds(some, score)))
        rows.append((trial.method.name, trial.method.says, *cells, trial.verdict))
    columns = [f"{what}, {strength}" for strength in STRENGTHS for what in ("PCDR", "depth error %")]
    says = "On the development seed: PCDR_0.2 and median relative depth error had the focal length been known."
    return TextTable("Trials", says, ("trial", "what", *columns, "verdict"), tuple(rows))


Key = tuple[str, str, str, str]


def _rows(records: Records, keys: Sequence[Key], columns: Sequence[tuple[str, Score]]) -> tuple[tuple[str, ...], ...]:
    rows = []
    for name, setting, world, method in keys:
        some = where(records, setting, world, method)
        if some:
            rows.append((name, *(_cell(over_seeds(some, score)) for _, score in columns)))
    return tuple(rows)


def _cell(spread: scores.Spread | None) -> str:
    return "–" if spread is None else str(spread)


def _names(columns: Sequence[tuple[str, Score]]) -> tuple[str, ...]:
    return tuple(name for name, _ in columns)


BUILDERS: dict[str, tuple[Callable[[Records], TextTable], ...]] = {
    "main": (
        *((lambda records, s=strength: main_table(records, s)) for strength in STRENGTHS),
        margin_table, calibration_table, order_table, size_table, camera_table,
    ),
    "depth": (depth_table,),
    "focal": (focal_table,),
    "worlds": (world_table,),
    "trials": (trial_table,),
}  # fmt: skip
"""The text tables that each table of the plan gives, in the order of the page."""
