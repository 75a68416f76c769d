"""The learning rate over a run."""

from __future__ import annotations

import math

from crowdmesh.errors import InputError


def learning_rate(step: int, steps: int, highest: float, warmup_steps: int = 0) -> float:
    """Learning rate of one step: a straight rise, then half a cosine down to 0 (paper 4.1, without the rise).

    Args:
        step: number of the step, from 0.
        steps: of the whole run.
        highest: reached by the first step after the rise.
        warmup_steps: steps of the rise; the first of them already learns a little.

    Raises:
        InputError: a step outside the run, or a rise that is as long as the run.
    """
    if not 0 <= step < steps:
        raise InputError(f"step {step} is not one of a run of {steps} steps")
    if not 0 <= warmup_steps < steps:
        raise InputError(
            f"the learning rate cannot rise over {warmup_steps} steps in a run of {steps}; lower optimiser.warmup_steps"
        )
    if step < warmup_steps:
        return highest * (step + 1) / (warmup_steps + 1)
    return highest * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps))) / 2
