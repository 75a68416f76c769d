"""Experts that answer nothing, under the name ``none``: for images whose people are known already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crowdmesh.assets import Weights
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.experts._people_crops import unknown_attributes
from crowdmesh.experts.base import Attributes, Detections, Experts, FirstMeshes, InputImage, Keypoints

NOTHING = "none"
"""The name by which they are chosen."""


class _Nothing:
    name = NOTHING

    @classmethod
    def sources(cls) -> tuple[Weights, ...]:
        """It needs no files."""
        return ()


class NoPersons(_Nothing):
    """PersonDetector that looks for nobody: where people are known, their own boxes stand for detections."""

    def detect(self, images: Sequence[InputImage]) -> list[Detections]:
        """Nobody in each image."""
        return [Detections(np.zeros((0, 4)), np.zeros(0)) for _ in images]


class NoKeypoints(_Nothing):
    """KeypointExpert that sees no joint."""

    def locate(self, images: Sequence[InputImage], detections: Sequence[Detections]) -> list[Keypoints]:
        """Points with confidence 0."""
        return [Keypoints(np.zeros((len(found), 17, 3))) for found in detections]


class NoAttributes(_Nothing):
    """AttributeExpert that knows nobody's age or sex."""

    def estimate(
        self, images: Sequence[InputImage], detections: Sequence[Detections], keypoints: Sequence[Keypoints]
    ) -> list[Attributes]:
        """NaN for everybody."""
        return [unknown_attributes(len(found)) for found in detections]


class NoMeshes(_Nothing):
    """MeshExpert that makes no bodies."""

    def fit(
        self,
        images: Sequence[InputImage],
        cameras: Sequence[Camera],
        detections: Sequence[Detections],
        keypoints: Sequence[Keypoints],
    ) -> list[FirstMeshes]:
        """Refused: people without bodies are none.

        Raises:
            InputError: always.
        """
        raise InputError("there is no mesh expert, so nobody can be given a body; choose one with --mesh")


def check_finds_people(experts: Experts) -> None:
    """InputError if these experts cannot find the people of an image of which nothing is known."""
    missing = [
        flag
        for flag, expert, kind in (
            ("--persons", experts.persons, NoPersons),
            ("--keypoints", experts.keypoints, NoKeypoints),
            ("--mesh", experts.mesh, NoMeshes),
        )
        if isinstance(expert, kind)
    ]
    if missing:
        raise InputError(
            f"{' and '.join(missing)} {NOTHING} are for images whose people are known; choose an expert to find people"
        )
