"""What every protocol asks of its input, and says of figures it cannot give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crowdmesh.benchmarks.result import Figure
from crowdmesh.errors import InputError


def check_images(annotations: Mapping[str, Any], predictions: Mapping[str, Any]) -> None:
    """Refuse to measure nothing, or predictions that nothing is known about."""
    if not annotations:
        raise InputError("there are no annotated images to evaluate on")
    if not predictions:
        raise InputError("the predictions are empty; nothing would be measured")
    unknown = [image for image in predictions if image not in annotations]
    if unknown:
        raise InputError(
            f"{len(unknown)} predicted images are not annotated, among them {', '.join(map(str, unknown[:3]))}; remove "
            "them or evaluate against the split they belong to"
        )


def check_records(images: Iterable[str]) -> None:
    """Refuse to sum up nothing, or an image twice."""
    images = list(images)
    if not images or len(set(images)) < len(images):
        raise InputError("summarise needs at least one record, and one record for each image")


def absence_notes(figures: Sequence[Figure]) -> tuple[str, ...]:
    """A sentence on the figures that have no value, if there are any."""
    absent = [figure.name for figure in figures if figure.value is None]
    return (f"Absent, because there was nothing to measure: {', '.join(absent)}.",) if absent else ()
