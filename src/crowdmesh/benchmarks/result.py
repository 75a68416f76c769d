"""What a benchmark says: named figures with their unit and count, and how many people were matched and missed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from crowdmesh._files import atomic_path
from crowdmesh.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One number of a protocol.

    Attributes:
        name: as the protocol calls it, e.g. ``"PCDR_0.2 baby"``.
        value: ``None`` when there was nothing to measure (never zero in its place).
        unit: ``"mm"``, ``"m"``, ``"%"``, or ``""`` for a share between 0 and 1.
        count: how many items (people, pairs, images) the value stands on.
        better: which direction is better.
    """

    name: str
    value: float | None
    unit: str
    count: int
    better: Literal["higher", "lower"]

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise InputError(f"figure {self.name!r} is {self.value}; a figure without a value is None")

    def __str__(self) -> str:
        if self.value is None:
            return "absent"
        digits = {"mm": 1, "%": 2, "m": 3}.get(self.unit, 4)
        return f"{self.value:.{digits}f}{' ' + self.unit if self.unit else ''}"


@dataclass(frozen=True)
class Result:
    """The answer of one protocol on one set of images.

    Attributes:
        protocol: full name, variant included, e.g. ``"Relative Human (official)"``.
        figures: the numbers, in the order in which the protocol reports them.
        images: images evaluated.
        people: annotated people. matched, missed: how many of them found a prediction, and how many did not.
        predicted: predicted people. extra: those who belong to no annotated person.
        notes: what a reader should know, one sentence each.
    """

    protocol: str
    figures: tuple[Figure, ...]
    images: int
    people: int
    matched: int
    missed: int
    predicted: int
    extra: int
    notes: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> float | None:
        """The value of a figure by name; ``None``: absent."""
        for figure in self.figures:
            if figure.name == name:
                return figure.value
        raise InputError(f"{self.protocol} has no figure {name!r}; it has {', '.join(f.name for f in self.figures)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**vars(self), "figures": [vars(figure) for figure in self.figures], "notes": list(self.notes)}

    def save(self, path: str | Path) -> None:
        """Write the result as JSON; atomic."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n", "utf-8")

    def table(self) -> Table:
        """The figures as a table for the terminal; counts in its caption."""
        from rich import box
        from rich.table import Table

        table = Table(title=self.protocol, box=box.SIMPLE_HEAD, caption=self.caption(), caption_justify="left")
        for column, justify in (("figure", "left"), ("value", "right"), ("over", "right"), ("better", "left")):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for figure in self.figures:
            table.add_row(figure.name, str(figure), str(figure.count), figure.better)
        return table

    def caption(self) -> str:
        """How many people were matched, missed and invented, in one line."""
        return (
            f"{self.images} images, {self.people} people: {self.matched} matched, {self.missed} missed; "
            f"{self.predicted} predicted, {self.extra} of them extra"
        )
