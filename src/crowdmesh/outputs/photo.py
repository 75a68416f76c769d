"""What a method found out about one photograph, as far as the files tell of it."""

from __future__ import annotations

from dataclasses import dataclass

from crowdmesh.dto import Placement
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene


@dataclass(frozen=True, eq=False)
class PhotoOutput:
    """A scene, and how it came about if a joint placement made it.

    Attributes:
        scene: the result.
        notes: what a reader should know, one sentence each.
        first_guess: the same people before they were placed together; ``None``: there was no such step.
        placement: why people stand where they stand; ``None``: no DTO ran.

    Raises:
        InputError: first guess or placement are of another number of people than the scene.
    """

    scene: Scene
    notes: tuple[str, ...] = ()
    first_guess: Scene | None = None
    placement: Placement | None = None

    def __post_init__(self) -> None:
        people = len(self.scene.people)
        for name, count in (
            ("first guess", people if self.first_guess is None else len(self.first_guess.people)),
            ("placement", people if self.placement is None else len(self.placement)),
        ):
            if count != people:
                raise InputError(f"the {name} has {count} people and the scene {people}; give those of one photograph")
