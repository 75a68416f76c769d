"""What a source of images is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from crowdmesh.pgt.records import Entry, Sample


@runtime_checkable
class Source(Protocol):
    """Where images, and what is known of their people, come from. It goes to other processes: it must be picklable."""

    @property
    def kind(self) -> str:
        """Its name on the command line."""
        ...

    @property
    def licences(self) -> tuple[str, ...]:
        """What a user must know about using its data, one sentence each."""
        ...

    @property
    def needs_experts(self) -> bool:
        """Whether images come without people, so that experts must find them."""
        ...

    def signature(self) -> dict[str, Any]:
        """All that decides what it tells of an image: plain values that JSON holds; no paths of this machine."""
        ...

    def entries(self) -> Iterator[Entry]:
        """Every image once, in an order that depends on the data alone, without holding them all.

        Raises:
            InputError, FormatError: the data are not there, or are not those of this source.
        """
        ...

    def notes(self) -> list[str]:
        """What a user should know of the data besides, one sentence each; call it after ``entries`` came to its end."""
        ...

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        """What is known of these images, in their order, one after the other.

        What is wrong with one image stands in its ``Sample.problem``; what is wrong with all is raised.
        """
        ...
