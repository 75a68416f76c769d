"""What is to be built: all that decides what comes out, and where to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crowdmesh.dto import DTOConfig
from crowdmesh.errors import InputError
from crowdmesh.experts.nothing import check_finds_people
from crowdmesh.experts.reconstruct import experts_signature
from crowdmesh.pgt.manifest import hash_of
from crowdmesh.pgt.pipeline import Stages
from crowdmesh.pgt.sources.base import Source
from crowdmesh.pgt.stages import ExpertChoice, make_stages


@dataclass(frozen=True)
class Job:
    """One set: where its images come from, what is done to them, where it is written. It goes to other processes.

    Attributes:
        folder: of the set. source: of the images.
        experts: who finds out what the source does not know; ``None``: nobody.
        config: how people are placed; ``None``: they stay where the source has them.
        per_shard: images in one shard, the unit of work.
        batch: images that the experts see together; changes no result but by rounding.
        add_people: whether people whom experts find and the source does not have are added.
    """

    folder: Path
    source: Source
    experts: ExpertChoice | None
    config: DTOConfig | None
    per_shard: int = 256
    batch: int = 8
    add_people: bool = False

    def __post_init__(self) -> None:
        for name in ("per_shard", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.experts is None and self.source.needs_experts:
            raise InputError(f"source {self.source.kind} has images without people; name the experts that find them")
        if self.add_people and (self.experts is None or self.config is None):
            raise InputError("people can be added only by experts and where people are placed; leave one of both out")

    @cached_property
    def signature(self) -> dict[str, Any]:
        """All that decides what is in the set: plain values as JSON holds them; no paths, devices or batch sizes.

        Weights that are not on this machine yet are fetched: without them nobody knows what they would say.

        Raises:
            AssetError: weights are missing or damaged. InputError, FormatError: the source cannot be read.
        """
        values = {
            "crowdmesh": version("crowdmesh"),
            "source": self.source.signature(),
            "experts": self.experts_signature(),
            "dto": None if self.config is None else asdict(self.config),
            "add_people": self.add_people,
            "per_shard": self.per_shard,
        }
        return json.loads(json.dumps(values))

    @property
    def config_hash(self) -> str:
        """What tells sets of different signatures apart."""
        return hash_of(self.signature)

    def experts_signature(self) -> dict[str, Any] | None:
        """The experts' part of the signature, as this machine has them."""
        if self.experts is None:
            return None
        experts = self.experts.load()
        if self.source.needs_experts or self.add_people:
            check_finds_people(experts)
        for expert in experts.all():
            for weights in expert.sources():
                weights.fetch()
        hashes, settings = experts_signature(experts)
        return json.loads(json.dumps({"name": self.experts.name, "weights": hashes, "settings": settings}))

    def stages(self) -> Stages:
        """The steps of an image, with networks that load on first use."""
        return make_stages(self.experts, self.config, self.add_people, self.source.needs_experts)
