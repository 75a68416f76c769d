"""What the verbs print with: tables, progress bars, consoles. Imported late, so that ``--help`` stays fast."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


def score_text(score: float) -> str:
    """A score with two digits, a dash where there is none."""
    return f"{score:.2f}" if math.isfinite(score) else "-"


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table with these columns; long cells are folded, never cut, and say what they say: no markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    class Plain(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    made = Plain(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def progress() -> Progress:
    """A progress bar on the error stream that leaves nothing behind."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console(err=True), transient=True)


def rate_progress() -> Progress:
    """Like :func:`progress`, with a field ``says`` that the caller fills, for rates and times that are theirs."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[says]}"))
    return Progress(*columns, console=console(err=True), transient=True)


def duration_text(seconds: float) -> str:
    """A time in two units: ``2 d 3 h``, ``3 h 20 min``, ``4 min 10 s``, ``12 s``."""
    seconds = max(round(seconds), 0)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if seconds >= size:
            return f"{seconds // size} {large} {seconds % size // part} {small}"
    return f"{seconds} s"


def console(err: bool = False) -> Console:
    """The terminal, or the error stream."""
    from rich.console import Console

    return Console(stderr=err)
