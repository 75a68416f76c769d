"""Whole figures: photograph, side view and bird's-eye view of a scene in one image, alone or before and after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from crowdmesh._files import atomic_path
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._axes import Extent
from crowdmesh.visual._canvas import GREY, INK, TEXT_PX, Canvas, blank
from crowdmesh.visual._plan import MARGINS_PX
from crowdmesh.visual.overlay import overlay
from crowdmesh.visual.topview import side_extent, side_view, top_extent, top_view

WIDTH_PX = 1760
COMPARISON_WIDTH_PX = 2200
_GAP_PX = 18
_HEADING_PX = 46
_LEAST_SIDE_PX = 330
_CAPTION_PX = 40
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
    faces: Int[np.ndarray, "F 3"],
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
    """
    scenes = [scene] if truth is None else [scene, truth]
    extents = (top_extent(scenes, faces), side_extent(scenes, faces))
    panel = _panel(scene, faces, width, extents, truth, None, ground)
    return panel if title is None else np.concatenate((_heading(title, scene, width), panel))


def comparison_picture(
    before: Scene,
    after: Scene,
    faces: Int[np.ndarray, "F 3"],
    truth: Scene | None = None,
    ground: Float[np.ndarray, " 4"] | None = None,
    titles: tuple[str, str] = ("Before: each person alone", "After: everybody placed together"),
    width: int = COMPARISON_WIDTH_PX,
) -> UInt8[np.ndarray, "H W 3"]:
    """The same people before (left) and after (right) a correction, at one scale and in the same colours.

    Thin arrows on the right lead from where each person was to where they are now; with ``truth``, hollow outlines on
    both sides show where they should be.

    Raises:
        InputError: the scenes do not hold the same number of people.
    """
    counts = {len(scene.people) for scene in (before, after, truth or after)}
    if len(counts) > 1:
        raise InputError(f"before, after and truth must hold the same people, got {sorted(counts)} of them")
    scenes = [before, after] if truth is None else [before, after, truth]
    extents = (top_extent(scenes, faces), side_extent(scenes, faces))
    gap = 2 * _GAP_PX
    half = (width - gap) // 2
    left = np.concatenate(
        (_heading(titles[0], before, half), _panel(before, faces, half, extents, truth, None, ground))
    )
    right = np.concatenate(
        (_heading(titles[1], after, half), _panel(after, faces, half, extents, truth, before, ground))
    )
    figure = np.concatenate((left, blank(len(left), gap), right), axis=1)
    return np.concatenate((figure, _legend(figure.shape[1], truth is not None)))


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


def _panel(
    scene: Scene,
    faces: np.ndarray,
    width: int,
    extents: tuple[Extent, Extent],
    truth: Scene | None,
    before: Scene | None,
    ground: np.ndarray | None,
) -> np.ndarray:
    """The three views of one scene, laid out for its photo's shape."""
    layout = _layout(width, scene.camera.width / scene.camera.height)
    panel = blank(layout.height, width)
    photo = layout.photo
    panel[: photo.top, photo.left :] = _strip("Camera view", width - photo.left, 0, 1.1 * TEXT_PX, photo.top)
    for box, image in (
        (photo, overlay(scene, faces, photo.size)),
        (layout.side, side_view(scene, faces, layout.side.size, extents[1], truth, before, ground)),
        (layout.top, top_view(scene, faces, layout.top.size, extents[0], truth, before)),
    ):
        panel[box.top : box.top + box.height, box.left : box.left + box.width] = image
    return panel


def _layout(width: int, aspect: float) -> _Layout:
    """Landscape photos: side view below the photo, bird's-eye view beside both. Others: both drawings beside the photo.

    The photo is aligned with the plot frames of the drawings, not with their outer margins.
    """
    left, top, right, bottom = MARGINS_PX
    if aspect >= _LANDSCAPE_ASPECT:
        column = round(0.6 * width)
        photo = _Box(left, top, column - left - right, max(1, round((column - left - right) / aspect)))
        side = _Box(0, top + photo.height + _GAP_PX, column, max(round(0.46 * column), _LEAST_SIDE_PX))
        height = side.top + side.height
        return _Layout(photo, side, _Box(column + _GAP_PX, 0, width - column - _GAP_PX, height), height)
    tall = round(min(0.6 * width, 0.5 * width / aspect))
    photo = _Box(0, top, max(1, round(tall * aspect)), tall)
    height, beside = top + tall + bottom, photo.width + _GAP_PX
    above = _Box(beside, 0, width - beside, round(0.58 * height))
    return _Layout(photo, _Box(beside, above.height, width - beside, height - above.height), above, height)


def _strip(text: str, width: int, left: int, text_px: float, height: int) -> np.ndarray:
    """A line of text as an image; its baseline lies eleven pixels above the lower edge, as in the drawings."""
    canvas = Canvas(blank(height, width))
    canvas.text((left, height - 11), text, INK, text_px, "ls")
    return canvas.finish()


def _heading(text: str, scene: Scene, width: int) -> np.ndarray:
    """The title of a panel, flush with its photo."""
    photo = _layout(width, scene.camera.width / scene.camera.height).photo
    return _strip(text, width, photo.left, 1.4 * TEXT_PX, _HEADING_PX)


def _legend(width: int, with_truth: bool) -> np.ndarray:
    """What arrows and outlines mean."""
    canvas = Canvas(blank(_CAPTION_PX, width))
    middle = _CAPTION_PX / 2
    canvas.arrow((10, middle), (52, middle), INK)
    canvas.disc((10, middle), 4.5, (255, 255, 255), INK, 1.6)
    canvas.text((64, middle), "from before to after", GREY, 0.9 * TEXT_PX, "lm")
    if with_truth:
        canvas.disc((286, middle), 9, None, INK, 1.5)
        canvas.text((304, middle), "hollow outline: true place", GREY, 0.9 * TEXT_PX, "lm")
    return canvas.finish()
