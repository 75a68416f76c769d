"""What is said of every training step, and the clock that says where its time went."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

PHASES = ("data", "forward", "backward", "update")
"""Where a step's time goes: waiting for images, network with losses, gradients, optimiser with clipping and average."""


@dataclass(frozen=True)
class StepReport:
    """One training step.

    Attributes:
        step: steps that are done, this one included. steps: of the whole run.
        images: of this step in all processes together. images_per_s: of this step.
        loss: the weighted sum that is minimised. losses: its terms without their weights, by name.
        lr: learning rate. grad_norm: norm of all gradients before it is clipped.
        seconds: of each of :data:`PHASES` in the main process (on a GPU as the GPU sees it), and ``all`` of the step.
        memory_mib: most memory of the GPU that tensors took so far; ``None`` on a CPU.
    """

    step: int
    steps: int
    images: int
    images_per_s: float
    loss: float
    losses: Mapping[str, float]
    lr: float
    grad_norm: float
    seconds: Mapping[str, float]
    memory_mib: float | None

    @property
    def data_wait_share(self) -> float:
        """Share of the step's time that was spent on waiting for images."""
        return min(self.seconds["data"] / max(self.seconds["all"], 1e-9), 1.0)

    def figures(self) -> dict[str, Any]:
        """All but the step, for the log."""
        values = asdict(self)
        del values["step"], values["steps"]
        return values | {"data_wait_share": self.data_wait_share}


class StepClock:
    """Time of the phases of one step, which may come several times. A GPU is not waited for until the end."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._device = device
        self._start = time.perf_counter()
        self._marks: list[tuple[str, Any]] = [("", self._now())]

    def mark(self, phase: str) -> None:
        """What was done since the last mark belongs to ``phase``."""
        self._marks.append((phase, self._now()))

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase, and of ``all``."""
        found: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        if self._cuda:
            torch.cuda.synchronize(self._device)
        for (_, before), (phase, after) in zip(self._marks[:-1], self._marks[1:], strict=True):
            found[phase] += before.elapsed_time(after) / 1000 if self._cuda else after - before
        return found | {"all": time.perf_counter() - self._start}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
