"""The synthetic world: an endless, numbered row of scenes, each of which can be made on its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np

from crowdmesh.errors import InputError
from crowdmesh.synth.config import WorldConfig
from crowdmesh.synth.rendering import render_stage
from crowdmesh.synth.scene import SyntheticScene
from crowdmesh.synth.stage import Stage
from crowdmesh.synth.staging import draw_stage


@dataclass(frozen=True)
class World:
    """Scene ``index`` depends on config, seed and index alone: not on other scenes, the order, or the machine.

    Geometry and looks are drawn from two streams of random numbers, so that a change of one leaves the other alone.

    Attributes:
        config: what scenes may contain, e.g. one of ``PRESETS``.
        seed: of all random numbers; not negative.
    """

    config: WorldConfig = field(default_factory=WorldConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"the seed of a world must not be negative, got {self.seed}")

    def stage(self, index: int) -> Stage:
        """The geometry of scene ``index``, without its picture."""
        return draw_stage(self.config, self._random(index)[0])

    def scene(self, index: int) -> SyntheticScene:
        """Scene ``index`` with its picture and truth; ``provenance`` holds what reproduces it."""
        provenance = {
            "source": "synthetic world",
            "crowdmesh": version("crowdmesh"),
            "seed": self.seed,
            "index": index,
            "config": self.config.to_dict(),
        }
        return render_stage(self.stage(index), self._random(index)[1], provenance)

    def scenes(self, indices: Iterable[int]) -> Iterator[SyntheticScene]:
        """The scenes of these indices, one after the other."""
        return (self.scene(index) for index in indices)

    def _random(self, index: int) -> list[np.random.Generator]:
        """Streams of the geometry and of the looks."""
        if index < 0:
            raise InputError(f"the scenes of a world are numbered from 0, got {index}")
        streams = np.random.SeedSequence(self.seed, spawn_key=(index,)).spawn(2)
        return [np.random.Generator(np.random.PCG64(stream)) for stream in streams]
