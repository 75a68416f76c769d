"""The whole figure of one scene: photograph, side view and bird's-eye view in one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from crowdmesh._files import atomic_path
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._canvas import TEXT_PX, blank, strip
from crowdmesh.visual._crowd import Faces
from crowdmesh.visual._projection import MARGINS_PX
from crowdmesh.visual.overlay import overlay
from crowdmesh.visual.topview import side_view, top_view

WIDTH_PX = 1760
HEADING_PX = 46
GAP_PX = 18
_LEAST_WIDTH_PX = 800
_LEAST_SIDE_PX = 330
_LANDSCAPE_ASPECT = 1.15


@dataclass(frozen=True)
class _Box:
    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


@dataclass(frozen=True)
class _Layout:
    photo: _Box
    side: _Box
    top: _Box
    height: int


def scene_picture(
    scene: Scene,
    faces: Faces,
    title: str | None = None,
    truth: Scene | None = None,
    ground: Float[np.ndarray, " 4"] | None = None,
    width: int = WIDTH_PX,
) -> UInt8[np.ndarray, "H W 3"]:
    """Overlay, side view and bird's-eye view in one figure.

    Args:
        faces: triangles of the bodies.
        title: one line above the figure.
        truth, ground: see :func:`~crowdmesh.visual.topview.side_view`.
        width: of the figure in pixels; the height follows from the photo's shape.

    Raises:
        InputError: people without vertices, another number of people in ``truth``, or a width below 800 pixels.
    """
    require_width(width)
    layout = _layout(width, scene.camera.width / scene.camera.height)
    photo = layout.photo
    figure = blank(layout.height, width)
    figure[: photo.top] = strip("Camera view", (photo.top, width), photo.left, 1.1 * TEXT_PX)
    for box, image in (
        (photo, overlay(scene, faces, photo.size)),
        (layout.side, side_view(scene, faces, layout.side.size, truth=truth, ground=ground)),
        (layout.top, top_view(scene, faces, layout.top.size, truth=truth)),
    ):
        figure[box.top : box.top + box.height, box.left : box.left + box.width] = image
    if title is None:
        return figure
    return np.concatenate((strip(title, (HEADING_PX, width), photo.left, 1.4 * TEXT_PX), figure))


def require_width(width: int) -> None:
    """Raise InputError if a figure of one scene would be too narrow to read."""
    if width < _LEAST_WIDTH_PX:
        raise InputError(f"a figure of {width} pixels is too narrow to read; give at least {_LEAST_WIDTH_PX} per scene")


def save_png(path: str | Path, image: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write an RGB image as PNG, atomically.

    Raises:
        InputError: the name does not end in .png, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"a picture is saved as .png, got {path.name}")
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


def _layout(width: int, aspect: float) -> _Layout:
    """Landscape photos: side view below the photo, bird's-eye view beside both. Others: both drawings beside the photo.

    The photo is aligned with the plot frames of the drawings, not with their outer margins.
    """
    left, top, right, bottom = MARGINS_PX
    if aspect >= _LANDSCAPE_ASPECT:
        column = round(0.6 * width)
        photo = _Box(left, top, column - left - right, max(1, round((column - left - right) / aspect)))
        side = _Box(0, top + photo.height + GAP_PX, column, max(round(0.46 * column), _LEAST_SIDE_PX))
        height = side.top + side.height
        return _Layout(photo, side, _Box(column + GAP_PX, 0, width - column - GAP_PX, height), height)
    tall = round(min(0.6 * width, 0.5 * width / aspect))
    photo = _Box(0, top, max(1, round(tall * aspect)), tall)
    height, beside = top + tall + bottom, photo.width + GAP_PX
    above = _Box(beside, 0, width - beside, round(0.58 * height))
    return _Layout(photo, _Box(beside, above.height, width - beside, height - above.height), above, height)
