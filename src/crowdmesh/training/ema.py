"""A moving average of a network's weights, which is smoother than the weights of any single step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from crowdmesh.errors import InputError


class MovingAverage:
    """Exponential moving average of the parameters of a network.

    In step ``n`` (from 1) the decay is at most ``(1 + n) / (10 + n)``, so that first weights are soon forgotten.

    Attributes:
        decay: how much of the old average stays in a step.
        values: the averages by the parameters' names, on the parameters' device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with the network's parameters as they are.

        Raises:
            InputError: a decay outside (0, 1).
        """
        if not 0 < decay < 1:
            raise InputError(f"the decay of a moving average must lie in (0, 1), got {decay:g}")
        self.decay = decay
        self._parameters = dict(network.named_parameters())
        self.values = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after a step, numbered from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from averages of an earlier run, which must have the same names and shapes."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the network has the averages as its parameters; no training step may be taken there."""
        own = {name: parameter.data for name, parameter in self._parameters.items()}
        for name, parameter in self._parameters.items():
            parameter.data = self.values[name]
        try:
            yield
        finally:
            for name, parameter in self._parameters.items():
                parameter.data = own[name]
