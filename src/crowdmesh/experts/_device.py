"""Where networks run, in which precision, and on how much at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from crowdmesh.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Device:
    """A device for networks.

    Attributes:
        name: of the torch device, e.g. ``"cpu"`` or ``"cuda"``.
        dtype: of weights and activations.
        batch: most crops or images that go through a network at once: bounds the memory.
    """

    name: str = "cpu"
    dtype: torch.dtype = torch.float32
    batch: int = 8

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InputError(f"networks need a batch of at least 1, got {self.batch}")

    @classmethod
    def choose(cls, name: str = "auto", precision: Precision = "float32", batch: int = 8) -> Device:
        """A device by name, ``"auto"``: CUDA if there is one.

        Raises:
            InputError: a device that torch does not know or cannot use here, or an unknown precision.
        """
        if precision not in get_args(Precision):
            raise InputError(f"unknown precision {precision!r}; use one of {', '.join(get_args(Precision))}")
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.zeros(1, device=name)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise InputError(f"device {name} cannot be used ({reason}); use auto, cpu or cuda") from error
        return cls(name, getattr(torch, precision), batch)
