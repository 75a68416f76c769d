"""The figures of a run on disk: one JSON object a line, and TensorBoard's files beside it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crowdmesh._files import atomic_path, reading, writing
from crowdmesh.errors import FormatError

LOG_NAME = "metrics.jsonl"
"""Name of the file in a run's folder: lines of ``kind`` (``step`` or ``validation``), ``step`` and figures."""

BOARD_NAME = "tensorboard"
_EARLIER_LAYER = re.compile(r"\.\d+$")


class MetricsLog:
    """The log of a run, continued at a step: what an interrupted run logged after it is dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        """Open the log.

        Args:
            folder: of the run. step: steps that are done; later lines are dropped.

        Raises:
            InputError: the folder cannot be written. FormatError: the log there is damaged before its last line.
        """
        self._path = folder / LOG_NAME
        kept = [line for line in read_log(folder) if line["step"] <= step] if step else []
        with atomic_path(self._path) as temporary:
            temporary.write_text("".join(_line(entry) for entry in kept))
        self._file = self._path.open("a")
        self._board = _board(folder / BOARD_NAME, step)

    def step(self, step: int, figures: Mapping[str, Any]) -> None:
        """Log a training step; losses of earlier decoder layers are left out."""
        losses = {name: value for name, value in figures["losses"].items() if not _EARLIER_LAYER.search(name)}
        self._write("step", step, {**figures, "losses": losses})

    def validation(self, step: int, figures: Mapping[str, Any]) -> None:
        """Log a validation after a step."""
        self._write("validation", step, figures)

    def close(self) -> None:
        """Write what is pending."""
        self._file.close()
        self._board.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, kind: str, step: int, figures: Mapping[str, Any]) -> None:
        entry = {"kind": kind, "step": step, **_finite(figures)}
        with writing(self._path):
            self._file.write(_line(entry))
            self._file.flush()
        for name, value in _scalars(figures, kind):
            self._board.add_scalar(name, value, step)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, oldest first; none if there is no log. A last line that was cut off is left out.

    Raises:
        FormatError: the log is damaged before its last line.
    """
    path = folder / LOG_NAME
    if not path.is_file():
        return []
    with reading(path, "log of a training run"):
        lines = path.read_text().splitlines(keepends=True)
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
                raise ValueError
        except (ValueError, RecursionError):
            if number == len(lines):
                break
            raise FormatError(f"line {number} of {path} is damaged; delete that file, it is only a log") from None
        entries.append(entry)
    return entries


def _board(folder: Path, step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and not part of the package's own needs

    return SummaryWriter(str(folder), purge_step=step + 1)


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """JSON has no NaN: ``null`` stands for it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """All numbers in nested dictionaries with their names, as TensorBoard groups them."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _scalars(item, f"{name}/{key}")
    elif isinstance(value, int | float) and math.isfinite(value):
        yield name, float(value)
