"""What a training run is: network, data, augmentation, losses, optimiser, length; all of it in one frozen object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

from crowdmesh.errors import InputError
from crowdmesh.images import MIN_SIDE_PX
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.training._plain import from_plain, to_plain
from crowdmesh.training.augment import AugmentConfig
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.mixing import DataPart

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW on all parameters, its learning rate falling to 0 over half a cosine (paper 4.1; spec facts 3).

    Attributes:
        lr: the highest learning rate. weight_decay, betas: of AdamW.
        warmup_steps: steps in which the learning rate rises from 0 first.
        clip: gradients with a larger norm are shortened to it.
        ema_decay: keep a moving average of the weights with this decay, which is what is judged and kept as the result;
            ``None``: none.
        batch: images a step, over all processes. accumulation: passes a step is split into, for less memory.
        precision: of the forward pass; bfloat16 is autocast, weights and losses stay float32.
        compile: ``torch.compile`` the encoder's blocks and the decoder's layers.
    """

    lr: float = 1e-5
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    clip: float = 1.0
    ema_decay: float | None = None
    batch: int = 64
    accumulation: int = 1
    precision: Precision = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        _check("lr", self.lr, least=0.0, above=True)
        _check("weight_decay", self.weight_decay, least=0.0)
        _check("clip", self.clip, least=0.0, above=True)
        _check("warmup_steps", self.warmup_steps, least=0)
        _check("batch", self.batch, least=1)
        _check("accumulation", self.accumulation, least=1)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas of AdamW must be two numbers in [0, 1), got {self.betas}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise InputError(f"ema_decay must lie in (0, 1), got {self.ema_decay:g}")
        if self.batch % self.accumulation:
            raise InputError(f"a batch of {self.batch} images cannot be split into {self.accumulation} equal passes")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision must be float32 or bfloat16, got {self.precision!r}")


@dataclass(frozen=True)
class RunConfig:
    """How long a run is, and what it does beside the steps.

    Attributes:
        steps: of the optimiser; ``None``: as ``epochs`` says.
        epochs: passes over as many images as all data sets hold together; ``None``: as ``steps`` says.
        save_every, validate_every, picture_every: steps between checkpoints, validations and pictures.
        validation_images: the most images that a validation looks at, over all its data sets.
        workers: processes that prepare images; results do not depend on them.
        remember_px: keep decoded images in memory, shrunk to this longer side; for small sets, as every worker keeps a
            copy of its own. ``None``: do not.
    """

    steps: int | None = None
    epochs: float | None = None
    save_every: int = 1000
    validate_every: int = 1000
    picture_every: int = 1000
    validation_images: int = 512
    workers: int = 2
    remember_px: int | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise InputError("a run is as long as run.steps or run.epochs says; set one of them and the other to null")
        if self.steps is not None:
            _check("steps", self.steps, least=1)
        if self.epochs is not None:
            _check("epochs", self.epochs, least=0.0, above=True)
        for name in ("save_every", "validate_every", "picture_every", "validation_images"):
            _check(name, getattr(self, name), least=1)
        _check("workers", self.workers, least=0)
        if self.remember_px is not None:
            _check("remember_px", self.remember_px, least=MIN_SIDE_PX)

    def steps_for(self, images: int, batch: int) -> int:
        """Steps of a run over data sets that hold this many images together."""
        return self.steps if self.steps is not None else max(1, math.ceil((self.epochs or 0) * images / batch))


@dataclass(frozen=True)
class TrainConfig:
    """A training run; with the data sets and the weights it starts from, all that decides on its result.

    Attributes:
        stage: name of the stage it was made from.
        network: sizes and body. data: what is learned from. validation: what is judged on, never learned from.
        augment, loss, optimiser, run: see there.
        seed: of first weights, order of images, augmentation, noise.
    """

    stage: str
    network: MAHMRConfig
    data: tuple[DataPart, ...]
    validation: tuple[DataPart, ...]
    augment: AugmentConfig
    loss: LossConfig
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(epochs=5.0))
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise InputError("a training run needs data; name at least one data set in data")
        _check("seed", self.seed, least=0)
        if tested := [part.dataset for part in self.validation if part.split == "test"]:
            raise InputError(
                f"{tested[0]} is there to test on; the network to keep is not chosen by it, so name other data in "
                "validation"
            )
        shared = [part.dataset for part in self.validation if any(_overlap(part, other) for other in self.data)]
        if shared:
            raise InputError(
                f"{', '.join(shared)} is learned from and judged on; validation needs images of its own (another "
                "split, or another folder)"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; :meth:`from_dict` reads them back."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """What :meth:`to_dict` gave, also after a way through JSON.

        Raises:
            InputError: unknown, missing or wrongly typed values, or values that make no sense.
        """
        return from_plain(cls, values)


def _overlap(a: DataPart, b: DataPart) -> bool:
    """Whether names alone say that two parts share images; what lies there, ``prepare`` compares."""
    paths = [None if part.path is None else PurePath(part.path) for part in (a, b)]
    return a.dataset == b.dataset and paths[0] == paths[1] and (a.split == b.split or "all" in (a.split, b.split))


def _check(name: str, value: float, least: float, above: bool = False) -> None:
    """Refuse numbers that are not finite or too small, and fractions where whole numbers are meant."""
    whole = isinstance(least, int)
    if (whole and type(value) is not int) or not math.isfinite(value) or value < least or (above and value == least):
        raise InputError(
            f"{name} must be {'a whole' if whole else 'a'} number {'above' if above else 'of at least'} {least:g}, "
            f"got {value!r}"
        )
