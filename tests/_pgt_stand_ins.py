"""A made-up source of images and people, as fast or slow as a test wants, for tests of building sets.

It needs no images, networks or body files. What it tells of an image depends on the image's number alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from crowdmesh.camera import Camera
from crowdmesh.people import People
from crowdmesh.pgt.job import Job
from crowdmesh.pgt.pipeline import Stages
from crowdmesh.pgt.reading import open_set
from crowdmesh.pgt.records import Entry, Outcome, Sample
from crowdmesh.pgt.stages import ReadImages
from crowdmesh.scene import Scene


@dataclass(frozen=True)
class StandInSource:
    """A row of numbered images: some with nobody, some with labels that are invalid, the rest with a few people.

    Attributes:
        images: how many. people: most in one image.
        delay: seconds to wait before each image is told of.
        folder: of image files ``NNNNN.png``; ``None``: there are none.
        diary: file to which the process id is added with every call of ``load``.
        valid: whether all labels are valid.
    """

    images: int
    people: int = 3
    delay: float = 0.0
    folder: Path | None = None
    diary: Path | None = None
    valid: bool = False

    kind = "stand-in"
    licences = ("made-up data: no rights reserved",)
    needs_experts = False

    def signature(self) -> dict[str, Any]:
        """Neither how many images there are nor how long they take decides what an image is."""
        return {"kind": self.kind, "people": self.people}

    def entries(self) -> Iterator[Entry]:
        """The images in order."""
        for number in range(self.images):
            yield Entry("made-up", f"{number % 3}/{number:05d}.png", "all", number, self.people)

    def notes(self) -> list[str]:
        """Nothing besides."""
        return []

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        """What is known of them."""
        if self.diary is not None:
            with self.diary.open("a") as file:
                file.write(f"{os.getpid()}\n")
        for entry in entries:
            time.sleep(self.delay)
            image = None if self.folder is None else self.folder / f"{entry.row:05d}.png"
            image = image if image is not None and image.is_file() else None
            if entry.row % 11 == 7 and not self.valid:
                yield Sample(entry, image, problem=(Outcome.LABELS_INVALID, f"row {entry.row} holds NaN"))
            else:
                count = 0 if entry.row % 11 == 4 else 1 + entry.row % self.people
                yield Sample(entry, image, people=crowd_of(entry.row, count), label_rows=np.arange(count))


class ShiftedSource(StandInSource):
    """The same with two more images in front."""

    def entries(self) -> Iterator[Entry]:
        """The images in order."""
        yield from (Entry("made-up", f"new/{number}.png", "all", number, self.people) for number in range(2))
        yield from super().entries()


@dataclass(frozen=True)
class ReadingJob(Job):
    """A job that reads its images, as if experts were to look at them."""

    def stages(self) -> Stages:
        """The real ones, the first of which reads pixels."""
        return (ReadImages(True), *super().stages()[1:])


def crowd_of(number: int, count: int) -> Scene:
    """Made-up people of the body Anny."""
    random = np.random.default_rng(number)
    people = People(
        body="anny",
        translation_m=random.normal((0.0, 0.0, 5.0), size=(count, 3)),
        stature_m=random.uniform(0.6, 2.0, count),
        pose=random.normal(size=(count, 104, 3)),
        shape=random.uniform(0.0, 1.0, (count, 6)),
        age_years=random.choice([4.0, 30.0, np.nan], count),
    )
    return Scene(Camera(fx=60.0, fy=60.0, cx=32.0, cy=24.0, width=64, height=48), people)


def rows_of(folder: Path) -> tuple[pa.Table, pa.Table]:
    """All rows of a set: images and people."""
    built = open_set(folder)
    return pa.Table.from_batches(built.scene_batches()), pa.Table.from_batches(built.people_batches())
