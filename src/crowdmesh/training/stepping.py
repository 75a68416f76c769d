"""One step of the optimiser over all processes and passes, with the same result however the batch is split.

Every loss is a sum over people, pairs or cells divided by their number in the whole batch, so gradients of passes and
processes only have to be added: passes add by themselves, and since DDP averages over processes, each multiplies its
loss by their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from crowdmesh.errors import InputError
from crowdmesh.training.config import OptimiserConfig
from crowdmesh.training.ema import MovingAverage
from crowdmesh.training.forward import TrainingModule
from crowdmesh.training.losses import Losses, TermCounts
from crowdmesh.training.schedule import learning_rate
from crowdmesh.training.step_report import StepClock
from crowdmesh.training.targets import Example

if TYPE_CHECKING:
    from accelerate import Accelerator

_MOST_NAMED = 10
_TOTAL = "total"


@dataclass(frozen=True)
class Taken:
    """A step that was taken.

    Attributes:
        loss, losses, lr, grad_norm: as in :class:`~crowdmesh.training.step_report.StepReport`.
        stop: some process was told to stop.
    """

    loss: float
    losses: dict[str, float]
    lr: float
    grad_norm: float
    stop: bool


class Stepper:
    """Takes steps; every process has one and calls it with its own part of the batch."""

    def __init__(self, accelerator: Accelerator, module: TrainingModule, config: OptimiserConfig, seed: int) -> None:
        """Put the network on the device, for DDP if there are several processes, and make its optimiser.

        Args:
            module: network and losses. seed: of the noise of denoising queries.
        """
        self.accelerator, self.config, self.seed = accelerator, config, seed
        if config.compile:
            module.model.compile_parts()
        self.module = module.train()
        self._parallel = accelerator.prepare_model(module)  # also moves the module itself to the device
        self.optimiser = make_optimiser(module.model, config, accelerator.device)
        decay = config.ema_decay
        self.average = None if decay is None else MovingAverage(module.model, decay)

    def __call__(self, step: int, steps: int, micro: list[list[Example]], stop: bool, clock: StepClock) -> Taken:
        """Take step number ``step`` of ``steps``, from 0.

        Args:
            micro: examples of this process, a list for each pass. stop: this process was told to stop.
            clock: its phases are marked.

        Raises:
            InputError: losses or gradients are not finite; the weights are as they were before.
        """
        try:
            return self._step(step, steps, micro, stop, clock)
        finally:
            self.optimiser.zero_grad(set_to_none=True)

    def _step(self, step: int, steps: int, micro: list[list[Example]], stop: bool, clock: StepClock) -> Taken:
        counts = self._counts(micro)
        found: list[dict[str, Tensor]] = []
        for index, examples in enumerate(micro):
            passed = [example.to(self.accelerator.device) for example in examples]
            clock.mark("data")
            last = index == len(micro) - 1
            with nullcontext() if last else self.accelerator.no_sync(self._parallel):
                losses = self._losses(self._parallel, passed, step, counts)
                clock.mark("forward")
                (losses.total * self.accelerator.num_processes).backward()
                clock.mark("backward")
            found.append({_TOTAL: losses.total.detach(), **{n: t.detach() for n, t in losses.terms.items()}})
        values, stopped = self._summed(found, stop)
        if not np.isfinite(list(values.values())).all():
            self._refuse_losses(step, micro, found, counts)
        norm = float(nn.utils.clip_grad_norm_(self.module.model.parameters(), self.config.clip))
        if not np.isfinite(norm):
            self._refuse_gradients(step, micro)
        lr = learning_rate(step, steps, self.config.lr, self.config.warmup_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        if self.average is not None:
            self.average.update(step + 1)
        clock.mark("update")
        return Taken(values.pop(_TOTAL), values, lr, norm, stopped)

    def _losses(self, module: nn.Module, examples: list[Example], step: int, counts: TermCounts) -> Losses:
        """Losses of one pass. Random numbers follow from seed and step alone, so that no generator has to be saved."""
        seed = int(np.random.SeedSequence((self.seed, step)).generate_state(1, np.uint64)[0] >> 1)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        # Only the encoder, nine tenths of the work, runs in another precision: see train_forward.
        precision = getattr(torch, self.config.precision)
        with torch.autocast(self.accelerator.device.type, precision, enabled=precision is not torch.float32):
            return module(examples, generator, counts)

    def _counts(self, micro: Sequence[Sequence[Example]]) -> TermCounts:
        """What the losses of the whole batch are divided by."""
        criterion = self.module.criterion
        counts = reduce(add, (criterion.counts([example.targets for example in examples]) for examples in micro))
        if self.accelerator.num_processes == 1:
            return counts
        together = self.accelerator.reduce(counts.values.to(self.accelerator.device), "sum")
        return TermCounts(together.to(counts.values.device))  # type: ignore[union-attr]

    def _summed(self, found: list[dict[str, Tensor]], stop: bool) -> tuple[dict[str, float], bool]:
        """Loss terms of the whole batch, and whether any process was told to stop."""
        names = sorted({name for terms in found for name in terms})
        none = found[0][_TOTAL].new_zeros(())
        sums = [torch.stack([terms.get(name, none).float() for terms in found]).sum() for name in names]
        values = torch.stack([*sums, torch.full_like(none, stop, dtype=torch.float32)])
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "sum")
        *numbers, stops = values.tolist()  # type: ignore[union-attr]
        return dict(zip(names, numbers, strict=True)), stops > 0

    def _refuse_losses(
        self, step: int, micro: list[list[Example]], found: list[dict[str, Tensor]], counts: TermCounts
    ) -> None:
        """Find the samples by passing them alone, and say which they are."""
        terms: set[str] = set()
        keys: list[str] = []
        for examples, losses in zip(micro, found, strict=True):
            broken = {name for name, value in losses.items() if not bool(value.isfinite())}
            if not broken:
                continue
            terms |= broken
            guilty = [example.targets.key for example in examples if self._breaks(example, step, counts)]
            keys += guilty or [example.targets.key for example in examples]
        listed = sorted(self._gathered(sorted(terms - {_TOTAL}) or sorted(terms)))
        raise InputError(
            f"the loss of step {step + 1} is not finite ({', '.join(dict.fromkeys(listed))}) for "
            f"{_named(self._gathered(keys))}; look at their labels, or train with a lower optimiser.lr"
        )

    def _breaks(self, example: Example, step: int, counts: TermCounts) -> bool:
        with torch.no_grad():
            losses = self._losses(self.module, [example.to(self.accelerator.device)], step, counts)
        return not all(bool(value.isfinite()) for value in (losses.total, *losses.terms.values()))

    def _refuse_gradients(self, step: int, micro: list[list[Example]]) -> None:
        keys = self._gathered([example.targets.key for examples in micro for example in examples])
        raise InputError(
            f"the gradients of step {step + 1} are not finite, over {_named(keys)}; train with a lower optimiser.lr, "
            "or in precision float32"
        )

    def _gathered(self, words: list[str]) -> list[str]:
        """The words of all processes."""
        from accelerate.utils import gather_object

        return gather_object(words) if self.accelerator.num_processes > 1 else words


def make_optimiser(network: nn.Module, config: OptimiserConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW over all parameters of a network that is on its device (paper 4.1)."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(parameters, config.lr, config.betas, weight_decay=config.weight_decay, fused=fused)


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - _MOST_NAMED} more" if len(keys) > _MOST_NAMED else ""
    return ", ".join(keys[:_MOST_NAMED]) + more
