"""One image on its way into a set: from a line of the plan to what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from crowdmesh.depth import RelativeDepth
from crowdmesh.dto import Placement
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene


@dataclass(frozen=True)
class Entry:
    """One line of the plan: light, so that millions of them can be written down before any work begins.

    Attributes:
        dataset: name of the data set the image belongs to.
        path: of the image, relative to the images of that data set; POSIX.
        part, row, count: where the source finds what it knows of the image (its file, the first row there, how many
            rows); each source says what they mean to it.
        found: whether the image was there when the plan was made.
    """

    dataset: str
    path: str
    part: str = ""
    row: int = 0
    count: int = 0
    found: bool = True

    @property
    def key(self) -> str:
        """What the image is called in the set; no other one is called so."""
        return f"{self.dataset}/{self.path}"


class KeysDigest:
    """Hash of the keys of some images in their order, which ties a shard to its part of the plan."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, keys: Iterable[str]) -> None:
        """Take further keys in."""
        for key in keys:
            self._hash.update(key.encode() + b"\0")

    @property
    def text(self) -> str:
        """The hash so far, hexadecimal."""
        return self._hash.hexdigest()


class Outcome(StrEnum):
    """What became of one image; the values stand in the set's files."""

    ACCEPTED = "accepted"
    TAKEN_OVER = "taken_over"
    SCORE_TOO_HIGH = "score_too_high"
    FEWER_THAN_TWO = "fewer_than_two"
    AGES_UNKNOWN = "ages_unknown"
    NOBODY = "nobody"
    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"
    LABELS_INVALID = "labels_invalid"
    FAILED = "failed"

    @property
    def reason(self) -> str:
        """One clause for tables and reports."""
        return _REASONS[self]

    @property
    def accepted(self) -> bool:
        """Whether the image is part of the set as it was filtered."""
        return self in (Outcome.ACCEPTED, Outcome.TAKEN_OVER)

    @property
    def failed(self) -> bool:
        """Whether nothing was found out about its people, for a reason that may be mended."""
        return self in (Outcome.IMAGE_MISSING, Outcome.IMAGE_UNREADABLE, Outcome.LABELS_INVALID, Outcome.FAILED)

    def at(self, score: float, threshold: float) -> Outcome:
        """What it would be with another threshold of the mean standardised residual."""
        if self not in (Outcome.ACCEPTED, Outcome.SCORE_TOO_HIGH):
            return self
        return Outcome.ACCEPTED if score < threshold else Outcome.SCORE_TOO_HIGH


_REASONS = {
    Outcome.ACCEPTED: "accepted",
    Outcome.TAKEN_OVER: "accepted: taken over as the source has it",
    Outcome.SCORE_TOO_HIGH: "rejected: statures too far from what ages and sexes suggest",
    Outcome.FEWER_THAN_TWO: "rejected: fewer than two people could be placed together",
    Outcome.AGES_UNKNOWN: "rejected: the age of most people is unknown",
    Outcome.NOBODY: "rejected: nobody in the image",
    Outcome.IMAGE_MISSING: "failed: the image is not there",
    Outcome.IMAGE_UNREADABLE: "failed: the image cannot be read",
    Outcome.LABELS_INVALID: "failed: the labels are no people of one image",
    Outcome.FAILED: "failed: an expert or the placement raised an error",
}


@dataclass(frozen=True)
class ImageFile:
    """How a set refers to an image, which it does not hold.

    Attributes:
        size_bytes, sha256: of the encoded file. width, height: of the upright image, pixels.
    """

    size_bytes: int
    sha256: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Sample:
    """An entry with all that its source knows of it.

    Attributes:
        image: the photograph's file on this machine; ``None``: it is not there, or is no file of its own.
        encoded: the photograph as an encoded file (PNG, JPEG), from sources that hold images themselves.
        people: the people as the source has them, without ``image``; ``None``: the source has none, experts find them.
        depth: the depth map, from sources that have it.
        focal_std: relative error of the focal length, where the source tells it.
        label_rows: (K,) row of each person in the source's table; ``None``: it has no rows.
        problem: why the image cannot be built, one sentence, and what that makes of it.
    """

    entry: Entry
    image: Path | None = None
    encoded: bytes | None = None
    people: Scene | None = None
    depth: RelativeDepth | None = None
    focal_std: float | None = None
    label_rows: Int[np.ndarray, " K"] | None = None
    problem: tuple[Outcome, str] | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A sample whose image was read.

    Attributes:
        pixels: (H, W, 3) RGB, upright; ``None`` where no stage asks for pixels.
        file: of the image; ``None`` where the image is not needed and not there.
    """

    sample: Sample
    pixels: UInt8[np.ndarray, "H W 3"] | None = None
    file: ImageFile | None = None


@dataclass(frozen=True, eq=False)
class Guessed:
    """A first guess of everybody, ready to be placed.

    Attributes:
        scene: the people, each alone; without ``image``.
        depth: the depth map; ``None`` where nobody is to be placed.
        origins: per person ``"labelled"`` (the source has them) or ``"detected"`` (an expert found them).
        label_rows: (K,) as in :class:`Sample`, -1 for detected people.
        notes: what a reader should know, one sentence each.
    """

    loaded: Loaded
    scene: Scene
    depth: RelativeDepth | None
    origins: tuple[str, ...]
    label_rows: Int[np.ndarray, " K"] | None = None
    focal_std: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.origins) != len(self.scene.people):
            raise InputError(f"{len(self.origins)} origins were given for {len(self.scene.people)} people")


@dataclass(frozen=True, eq=False)
class Built:
    """What became of one image: a row of scenes and K rows of people.

    Attributes:
        detail: one sentence that says more of a failure.
        before, after: the same people, in the same order, before and after they were placed; ``None``: a failure.
        placement: why people stand where they stand; ``None``: nobody was to be placed.
        focal_std: relative error of the focal length, where the camera's source tells it.
    """

    entry: Entry
    outcome: Outcome
    detail: str = ""
    file: ImageFile | None = None
    before: Scene | None = None
    after: Scene | None = None
    placement: Placement | None = None
    origins: tuple[str, ...] = ()
    label_rows: Int[np.ndarray, " K"] | None = None
    notes: tuple[str, ...] = ()
    focal_std: float | None = None

    def __post_init__(self) -> None:
        if (self.before is None) != (self.after is None):
            raise InputError("a built image has people before and after, or neither")
        if self.before is not None and len(self.before.people) != len(self.after.people):  # type: ignore[union-attr]
            raise InputError("a built image has the same people before and after")

    @property
    def score(self) -> float:
        """Mean standardised residual; infinite where nobody was placed."""
        return float("inf") if self.placement is None else self.placement.score
