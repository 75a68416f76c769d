"""Where x, y and z point in an exported file and in which unit; the origin is always the camera.

All frames are right-handed, proper rotations of one another: nothing is mirrored and triangles keep their winding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError

FrameName = Literal["opencv", "opengl", "blender"]
Up = Literal["y", "z"]
Units = Literal["m", "cm"]

# Rows: the file's x, y and z in the camera frame (x right, y down, z forward).
_ROTATIONS = {
    "opencv": np.eye(3),
    "opengl": np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]),
    "blender": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}
_AXES = {
    "opencv": "x right, y down, z forward (away from the viewer)",
    "opengl": "x right, y up, z backward (towards the viewer)",
    "blender": "x right, y forward (away from the viewer), z up",
}
_UP: dict[str, Up | None] = {"opencv": None, "opengl": "y", "blender": "z"}
_OF_UP: dict[str, FrameName] = {"y": "opengl", "z": "blender"}
_PER_METRE = {"m": 1.0, "cm": 100.0}


@dataclass(frozen=True)
class Frame:
    """Axes and unit of a file. ``up`` is the short way to say ``name``; each fills in the other.

    Attributes:
        name: ``"opencv"``: x right, y down, z forward, as in a scene. ``"opengl"``: x right, y up, z backward.
            ``"blender"``: x right, y forward, z up. ``None``: what is usual for the format of the file.
        up: ``"y"`` means ``opengl``, ``"z"`` means ``blender``; ``None`` for ``opencv``, where nothing points up.
        units: of all lengths.

    Raises:
        InputError: an unknown value, or a name and an up axis that contradict each other.
    """

    name: FrameName | None = None
    up: Up | None = None
    units: Units = "m"

    def __post_init__(self) -> None:
        if self.name not in (None, *_ROTATIONS):
            raise InputError(f"unknown frame {self.name!r}; use one of {', '.join(_ROTATIONS)}")
        if self.up not in (None, *get_args(Up)):
            raise InputError(f"unknown up axis {self.up!r}; use 'y' or 'z'")
        if self.units not in _PER_METRE:
            raise InputError(f"unknown units {self.units!r}; use 'm' or 'cm'")
        if self.name is None:
            object.__setattr__(self, "name", None if self.up is None else _OF_UP[self.up])
        elif self.up not in (None, _UP[self.name]):
            raise InputError(
                f"frame {self.name!r} is {_AXES[self.name]}, which contradicts up axis {self.up!r}; give only one of "
                f"them (up {self.up!r} alone means {_OF_UP[self.up]!r})"
            )
        object.__setattr__(self, "up", None if self.name is None else _UP[self.name])

    def or_else(self, name: FrameName) -> Frame:
        """This frame, with the given axes where none were chosen."""
        return self if self.name is not None else replace(self, name=name)

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """From the camera frame to this one: a point is ``per_metre * rotation @ point_m``."""
        return _ROTATIONS[self._chosen].copy()

    @property
    def axes(self) -> str:
        """Where the axes point, in words."""
        return _AXES[self._chosen]

    @property
    def per_metre(self) -> float:
        """Length of a metre in the file's unit."""
        return _PER_METRE[self.units]

    @property
    def _chosen(self) -> FrameName:
        if self.name is None:
            raise InputError("this frame has no axes yet; choose a name or an up axis")
        return self.name
