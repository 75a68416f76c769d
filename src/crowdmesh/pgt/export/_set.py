"""The set that is exported: its images, and its plan, which knows where their photographs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crowdmesh.errors import InputError
from crowdmesh.pgt.plan import Plan
from crowdmesh.pgt.reading import BuiltSet, open_set


@dataclass(frozen=True)
class PlannedSet:
    """A set with its plan.

    Attributes:
        images: in the set so far. unbuilt: images of the plan that are not.
    """

    built: BuiltSet
    plan: Plan

    @property
    def images(self) -> int:
        return sum(shard.scenes for shard in self.built.shards)

    @property
    def unbuilt(self) -> int:
        return self.plan.records - self.images


def open_planned(folder: str | Path) -> PlannedSet:
    """The set in a folder.

    Raises:
        InputError: no set, or one without a plan. FormatError: a damaged one.
    """
    built, plan = open_set(folder), Plan.open(Path(folder))
    if plan is None:
        raise InputError(f"{folder} has shards and no plan, so nobody knows where the images are; build it again")
    return PlannedSet(built, plan)
