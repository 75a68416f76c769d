"""The same people before and after a correction, side by side: photograph, numbers, side view, bird's-eye view.

Side view and bird's-eye view stand one above the other on one depth axis, as in an engineering drawing, and have the
same scale on both halves of the figure, so that a shift in depth is a shift along the page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh.scene import Scene
from crowdmesh.visual._axes import Extent
from crowdmesh.visual._canvas import GREY, GRID, INK, TEXT_PX, WHITE, Canvas, blank, rgb8, strip
from crowdmesh.visual._crowd import Faces, posed_vertices, require_same_people, surface_centres
from crowdmesh.visual._projection import FROM_ABOVE_RIGHTWARD, FROM_THE_SIDE, MARGINS_PX
from crowdmesh.visual.overlay import overlay
from crowdmesh.visual.palette import person_colors
from crowdmesh.visual.picture import GAP_PX, HEADING_PX, require_width
from crowdmesh.visual.topview import side_view, top_view

WIDTH_PX = 2200
_LEGEND_PX = 40
_LEAST_PLOT_PX = 120

# Shares of a half's width: the photo's width and most height, the most height of either drawing.
_PHOTO_WIDE, _PHOTO_HIGH, _PLOT_HIGH = 0.60, 0.38, 0.60

_ROW_PX, _LEAST_ROW_PX = 32.0, 15.0
_COLUMN_PX = 92.0


@dataclass(frozen=True)
class _Layout:
    """What both halves share: the photo's size and the two drawings' sizes (height, width) and extents."""

    width: int
    photo: tuple[int, int]
    side: tuple[int, int]
    top: tuple[int, int]
    side_extent: Extent
    top_extent: Extent


def comparison_picture(
    before: Scene,
    after: Scene,
    faces: Faces,
    truth: Scene | None = None,
    ground: Float[np.ndarray, " 4"] | None = None,
    titles: tuple[str, str] = ("Before: each person alone", "After: everybody placed together"),
    width: int = WIDTH_PX,
) -> UInt8[np.ndarray, "H W 3"]:
    """The same people before (left) and after (right) a correction, at one scale and in the same colours.

    Thin arrows on the right lead from where each person was to where they are now. Beside each photo, a table of
    depth (z of the root joint, or of the surface's centre for bodies without joints) and stature, for up to about
    twenty people.

    Args:
        faces: triangles of the bodies.
        truth: where the same people truly are: hollow outlines on both sides, and columns of the table.
        ground: see :func:`~crowdmesh.visual.topview.side_view`.
        titles: headings of the two halves.
        width: of the figure in pixels.

    Raises:
        InputError: people without vertices, scenes that differ in the number of people or in image size, or a width
            below 1636 pixels.
    """
    scenes = [scene for scene in (before, after, truth) if scene is not None]
    require_same_people(scenes)
    gap = 2 * GAP_PX
    half = (width - gap) // 2
    require_width(half)
    layout = _layout(scenes, faces, half)
    left = _half(before, faces, layout, titles[0], truth, None, ground)
    right = _half(after, faces, layout, titles[1], truth, before, ground)
    figure = np.concatenate((left, blank(len(left), gap), right), axis=1)
    return np.concatenate((figure, _legend(figure.shape[1], truth is not None)))


def _layout(scenes: list[Scene], faces: Faces, width: int) -> _Layout:
    """Both drawings at the largest common scale that keeps them on the page."""
    left, top, right, bottom = MARGINS_PX
    side = FROM_THE_SIDE.extent(scenes, faces)
    above = FROM_ABOVE_RIGHTWARD.extent(scenes, faces)
    wide, most_high = width - left - right, _PLOT_HIGH * width
    highest = max(side.top - side.bottom, above.top - above.bottom)
    scale = min(wide / (side.right - side.left), most_high / highest)
    end = side.left + wide / scale
    heights = [max(int(np.ceil((e.top - e.bottom) * scale)), _LEAST_PLOT_PX) + top + bottom for e in (side, above)]
    aspect = scenes[0].camera.width / scenes[0].camera.height
    photo_high = min(_PHOTO_HIGH * width, _PHOTO_WIDE * width / aspect)
    photo = max(1, round(photo_high)), max(1, round(photo_high * aspect))
    return _Layout(
        width, photo, (heights[0], width), (heights[1], width), replace(side, right=end), replace(above, right=end)
    )


def _half(
    scene: Scene,
    faces: Faces,
    layout: _Layout,
    title: str,
    truth: Scene | None,
    before: Scene | None,
    ground: np.ndarray | None,
) -> np.ndarray:
    """Heading, photo and table, side view, bird's-eye view, one below the other."""
    left, top, right, _ = MARGINS_PX
    height, wide = layout.photo
    table_left = left + wide + 2 * GAP_PX
    photo = blank(top + height, layout.width)
    photo[:top] = strip("Camera view", (top, layout.width), left, 1.1 * TEXT_PX)
    photo[top:, left : left + wide] = overlay(scene, faces, layout.photo)
    photo[top:, table_left : layout.width - right] = _table(
        scene, faces, truth, (height, layout.width - right - table_left)
    )
    rows = (
        strip(title, (HEADING_PX, layout.width), left, 1.4 * TEXT_PX),
        photo,
        blank(GAP_PX, layout.width),
        side_view(scene, faces, layout.side, layout.side_extent, truth, before, ground, words=False),
        top_view(scene, faces, layout.top, layout.top_extent, truth, before, heading="right", words=False),
    )
    return np.concatenate(rows)


def _table(scene: Scene, faces: Faces, truth: Scene | None, size: tuple[int, int]) -> np.ndarray:
    """Depth and stature of every person, and their true values; empty if the rows do not fit."""
    canvas = Canvas(blank(*size))
    count = len(scene.people)
    row = min(_ROW_PX, size[0] / (count + 1))
    if count == 0 or row < _LEAST_ROW_PX:
        return canvas.finish()
    depths = _depths([scene] if truth is None else [scene, truth], faces)
    columns = [("depth", depths[0], INK), ("stature", scene.people.stature_m, INK)]
    if truth is not None:
        columns.insert(1, ("true", depths[1], GREY))
        columns.append(("true", truth.people.stature_m, GREY))
    text = min(0.85 * TEXT_PX, 0.72 * row)
    step = min(_COLUMN_PX, (size[1] - 1.6 * _ROW_PX) / len(columns))
    canvas.text((2, row / 2), "metres", GREY, 0.85 * text, "lm")
    for k, color in enumerate(person_colors(count)):
        middle = (k + 1.5) * row
        canvas.line([(0, (k + 1) * row), (1.6 * _ROW_PX + step * len(columns), (k + 1) * row)], GRID)
        canvas.box((2, middle - 0.42 * row), (0.84 * max(row, 24.0), 0.84 * row), rgb8(color), 0.25 * row)
        canvas.text((2 + 0.42 * max(row, 24.0), middle), str(k), INK, text, "mm")
    for j, (name, values, ink) in enumerate(columns):
        edge = 1.6 * _ROW_PX + step * (j + 1)
        canvas.text((edge, row / 2), name, GREY, 0.85 * text, "rm")
        for k, value in enumerate(values):
            canvas.text((edge, (k + 1.5) * row), f"{value:.2f}", ink, text, "rm")
    return canvas.finish()


def _depths(scenes: list[Scene], faces: Faces) -> list[np.ndarray]:
    """(K,) depth of everybody in each scene, of the same point of the body in all scenes."""
    joints = [scene.people.joints_m for scene in scenes]
    if all(joint is not None for joint in joints):
        return [joint[:, 0, 2] for joint in joints if joint is not None]
    return [surface_centres(posed_vertices(scene), faces)[:, 2] for scene in scenes]


def _legend(width: int, with_truth: bool) -> np.ndarray:
    """What arrows and outlines mean."""
    canvas = Canvas(blank(_LEGEND_PX, width))
    left, middle, size = MARGINS_PX[0], _LEGEND_PX / 2, 0.85 * TEXT_PX
    canvas.arrow((left + 5, middle), (left + 50, middle), INK)
    canvas.disc((left + 5, middle), 4.5, WHITE, INK, 1.6)
    _, _, end, _ = canvas.text((left + 60, middle), "from before to after", GREY, size, "lm")
    if with_truth:
        canvas.disc((end + 50, middle), 8, None, INK, 1.5)
        canvas.text((end + 68, middle), "hollow outline: true place", GREY, size, "lm")
    return canvas.finish()
