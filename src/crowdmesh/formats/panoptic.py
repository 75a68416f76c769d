"""CMU Panoptic (Joo et al. 2015): groups of people in a dome, as three-dimensional joints.

Layout of ``annots_test`` (.npz with a pickled ``annots``, or .json): image path → record of the n people of the image:

| field | shape | meaning |
|---|---|---|
| ``kpts3d`` | (n, J, 4), J from 19 to 24 | x, y, z in metres, camera frame; then visibility, 0 to 1 |
| ``kpts2d`` | (n, J, 2) or more columns | pixels |
| ``width``, ``height`` | numbers | pixels |

The joints are the first J of :data:`crowdmesh.formats.joints.J24`. The path says the sequence: it contains one of
``haggling``, ``mafia``, ``ultimatum`` and ``pizza``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError
from crowdmesh.formats._record import Place, fields, numbers, read_images, vector
from crowdmesh.formats.joints import J24

SEQUENCES = ("haggling", "mafia", "ultimatum", "pizza")
"""The four activities, in the order in which they are reported."""

_FEWEST_JOINTS = 19


@dataclass(frozen=True, eq=False)
class PanopticPeople:
    """n people of one image, J joints in the order of :data:`crowdmesh.formats.joints.J24`.

    Attributes:
        joints_m: (n, J, 3) camera frame, metres.
        visibility: (n, J) 0 (not annotated) to 1.
        image_size: width, height in pixels.
        sequence: one of :data:`SEQUENCES`.
        joints_px: (n, J, 2) pixels, or ``None``.
    """

    joints_m: Float[np.ndarray, "n J 3"]
    visibility: Float[np.ndarray, "n J"]
    image_size: tuple[int, int]
    sequence: str
    joints_px: Float[np.ndarray, "n J 2"] | None = None

    def __post_init__(self) -> None:
        n, joints = np.shape(self.visibility) if np.ndim(self.visibility) == 2 else (0, 0)
        if not _FEWEST_JOINTS <= joints <= len(J24):
            raise InputError(f"people must have {_FEWEST_JOINTS} to {len(J24)} joints, got {np.shape(self.visibility)}")
        for name, last in (("joints_m", (3,)), ("visibility", ()), ("joints_px", (2,))):
            value = getattr(self, name)
            if value is None and name == "joints_px":
                continue
            value = np.asarray(value, np.float64)
            if value.shape != (n, joints, *last):
                raise InputError(f"{name} must have shape {(n, joints, *last)}, got {value.shape}")
            if not np.isfinite(value).all():
                raise InputError(f"{name} holds NaN or infinite values")
            object.__setattr__(self, name, value)
        if np.any((self.visibility < 0) | (self.visibility > 1)):
            raise InputError(
                f"visibility must lie between 0 and 1, got {self.visibility.min():g} to {self.visibility.max():g}"
            )
        if self.sequence not in SEQUENCES:
            raise InputError(f"unknown sequence {self.sequence!r}; use one of {', '.join(SEQUENCES)}")
        if min(self.image_size) < 1:
            raise InputError(f"image_size must be positive, got {self.image_size}")

    def __len__(self) -> int:
        return len(self.joints_m)


def read_panoptic(path: str | Path, unpickle: bool = False) -> dict[str, PanopticPeople]:
    """Image path → people of a CMU Panoptic annotation file; arguments and errors as in ``read_3dpw``."""
    return read_images(path, "CMU Panoptic annotation file", unpickle, _people)


def _people(place: Place, record: Any) -> PanopticPeople:
    record = fields(place, record, ("kpts3d", "kpts2d", "width", "height"))
    sequences = [name for name in SEQUENCES if name in place.image.lower()]
    if len(sequences) != 1:
        place.refuse(f"the path of an image must contain exactly one of {', '.join(SEQUENCES)}")
    points = numbers(place, record, "kpts3d", (None, None, 4))
    if not len(points):
        points = np.zeros((0, _FEWEST_JOINTS, 4))
    pixels = numbers(place, record, "kpts2d", (None, None, None)) if len(points) else points
    size = tuple(int(vector(place, record, name, 1)[0]) for name in ("width", "height"))
    return PanopticPeople(points[..., :3], points[..., 3], (size[0], size[1]), sequences[0], pixels[..., :2])
