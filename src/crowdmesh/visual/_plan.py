"""A metric drawing of the scene in parallel projection: what the bird's-eye and the side view have in common."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.visual._axes import Axes, ticks
from crowdmesh.visual._canvas import FINENESS, GREY, GRID, INK, TEXT_PX, WHITE, Canvas, Rgb, blank, rgb8, text_size
from crowdmesh.visual._crowd import ground_range
from crowdmesh.visual._labels import Label, draw_labels
from crowdmesh.visual.palette import darker, person_colors
from crowdmesh.visual.shading import Rendering, inner_contours, orthographic, render

MARGINS_PX = (68, 42, 12, 64)  # left, top, right, bottom, around the plot

# Labels carry only the number where numbers with words would fill more than this share of the plot.
_LABELLED_SHARE = 0.12
_WORDED_LABEL_PX2 = 2600.0

_FRAME: Rgb = (150, 151, 156)
_WEDGE: Rgb = (241, 244, 249)
_WEDGE_EDGE: Rgb = (186, 195, 210)
_LEAST_TICK_PX = 56.0
_LEAST_MOVE_PX = 7.0
_GHOST_PX = 1.5
_NOTE_PX = 0.8 * TEXT_PX


@dataclass(frozen=True, eq=False)
class Projection:
    """A direction to look along.

    Attributes:
        rotation: rows are page right, page down and away from the viewer, in the camera frame.
    """

    rotation: Float[np.ndarray, "3 3"]

    def to_page(self, points_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Page coordinates (right, up) in metres of camera-frame points."""
        return (np.asarray(points_m, float) @ self.rotation[:2].T) * (1.0, -1.0)


FROM_ABOVE = Projection(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]))
"""x to the right of the page, depth z up the page, seen from above."""

FROM_THE_SIDE = Projection(np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]))
"""Depth z to the right of the page, height up, seen from the camera's right-hand side."""


def plot_frame(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The plot rectangle (left, top, right, bottom) of a drawing of ``size`` (height, width)."""
    left, top, right, bottom = MARGINS_PX
    return left, top, max(size[1] - right, left + 8), max(size[0] - bottom, top + 8)


class Plan:
    """One drawing in the making; the methods are called in the order of the layers, from the ground up."""

    def __init__(self, size: tuple[int, int], axes: Axes, projection: Projection) -> None:
        self.canvas = Canvas(blank(*size))
        self.axes = axes
        self.projection = projection
        self._ground = self.canvas.finish()
        self._keep_clear: list[tuple[float, float, float, float]] = []

    def wedge(self, slopes: tuple[float, float], forward: tuple[float, float], sideways: tuple[float, float]) -> None:
        """The field of view: everything between two rays ``forward + slope * sideways`` (page directions)."""
        shown = self.axes.shown
        reach = 2.0 * (shown.right - shown.left + shown.top - shown.bottom)
        ends = [np.add(forward, slope * np.asarray(sideways)) * reach for slope in slopes]
        apex, first, second = self.axes.to_px(np.array([(0.0, 0.0), *ends]))
        self.canvas.polygon([apex, first, second], _WEDGE)
        self.canvas.line([first, apex, second], _WEDGE_EDGE, 1.2)

    def camera(self, forward: tuple[float, float]) -> None:
        """A small camera at the origin, looking along ``forward`` (unit page direction)."""
        ahead = np.array((forward[0], -forward[1]))
        across = np.array((-ahead[1], ahead[0]))
        lens = self.axes.to_px((0.0, 0.0))
        body = [(-15, -8), (-15, 8), (-4, 8), (-4, 3), (3, 7), (3, -7), (-4, -3), (-4, -8)]
        self.canvas.polygon([lens + a * ahead + b * across for a, b in body], INK)

    def people(self, vertices_m: Float[np.ndarray, "K V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
        """The bodies, shaded, in their colours."""
        self._ground = self.canvas.finish()
        self._keep_clear: list[tuple[float, float, float, float]] = []
        self.canvas.paint_rendering(self._render(vertices_m, faces), self.axes.frame_px[:2])

    def ghosts(self, vertices_m: Float[np.ndarray, "K V 3"], faces: Int[np.ndarray, "F 3"]) -> None:
        """Hollow outlines of bodies, e.g. of where people truly are."""
        person = self._render(vertices_m, faces).person
        outline = inner_contours(person, round(_GHOST_PX * FINENESS / 2))
        inks = np.rint(255 * darker(person_colors(max(len(vertices_m), 1)))).astype(np.uint8)
        self.canvas.paint(outline, inks[np.maximum(person, 0)], self.axes.frame_px[:2])

    def moves(self, from_m: Float[np.ndarray, "K 3"], to_m: Float[np.ndarray, "K 3"]) -> None:
        """Thin arrows from hollow dots: how far each person was moved."""
        starts, ends = (self.axes.to_px(self.projection.to_page(points)) for points in (from_m, to_m))
        for start, end, color in zip(starts, ends, darker(person_colors(len(to_m)), 0.45), strict=True):
            if np.linalg.norm(end - start) >= _LEAST_MOVE_PX:
                self.canvas.arrow(start, end, rgb8(color))
                self.canvas.disc(start, 4.5, WHITE, rgb8(color), 1.6)

    def grid(self) -> None:
        """Thin lines at every tick."""
        left, top, right, bottom = self.axes.frame_px
        across, up = self._ticks()
        for _, x in across:
            self.canvas.line([(x, top), (x, bottom)], GRID, 1)
        for _, y in up:
            self.canvas.line([(left, y), (right, y)], GRID, 1)

    def frame(self, title: str, across: str, up: str) -> None:
        """Clean margins, plot frame, title, ticks in metres and the names of the two axes."""
        left, top, right, bottom = self.axes.frame_px
        canvas, small = self.canvas, 0.85 * TEXT_PX
        width, height = canvas.width, canvas.height
        for low, high in (
            ((0, 0), (width, top)),
            ((0, bottom), (width, height)),
            ((0, 0), (left, height)),
            ((right, 0), (width, height)),
        ):
            canvas.polygon([low, (high[0], low[1]), high, (low[0], high[1])], WHITE)
        canvas.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], _FRAME, 1)
        canvas.text((left, top - 11), title, INK, 1.1 * TEXT_PX, "ls")
        ticks_across, ticks_up = self._ticks()
        for value, x in ticks_across:
            canvas.line([(x, bottom), (x, bottom + 5)], _FRAME, 1)
            canvas.text((x, bottom + 8), f"{value:g}", GREY, small, "ma")
        for value, y in ticks_up:
            canvas.line([(left - 5, y), (left, y)], _FRAME, 1)
            canvas.text((left - 9, y), f"{value:g}", GREY, small, "rm")
        canvas.text(((left + right) / 2, height - 4), across, GREY, small, "md")
        canvas.text_up((2, (top + bottom) / 2), up, GREY, small)

    def note(self, left_middle: np.ndarray, text: str) -> None:
        """A small remark that labels keep clear of."""
        (width, height), (left, middle) = text_size(text, _NOTE_PX), left_middle
        self.canvas.text(left_middle, text, GREY, _NOTE_PX, "lm")
        self._keep_clear.append((left, middle - height / 2, left + width, middle + height / 2))

    def pointer(self, at: np.ndarray, outward: np.ndarray, color: Rgb) -> None:
        """A triangle at the edge of the plot that points to something beyond it."""
        along = outward / np.linalg.norm(outward)
        across = np.array((-along[1], along[0]))
        corners = np.array([at, at - 15 * along + 8 * across, at - 15 * along - 8 * across])
        self.canvas.polygon(corners, color)
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        self._keep_clear.append((left, top, right, bottom))

    def labels(
        self, vertices_m: Float[np.ndarray, "K V 3"], centres_m: Float[np.ndarray, "K 3"], words: list[str]
    ) -> None:
        """Number and words above each person; whoever lies outside the plot is named at its edge, with the distance."""
        if len(vertices_m) == 0:
            return
        left, top, right, bottom = self.axes.frame_px
        outlines = self.axes.to_px(self.projection.to_page(vertices_m))
        tops = np.take_along_axis(outlines, outlines[..., 1].argmin(1)[:, None, None], 1)[:, 0]
        middles = self.axes.to_px(self.projection.to_page(centres_m))
        edge = np.clip(middles, (left, top), (right, bottom))
        outside = (edge != middles).any(1)
        colors = [rgb8(color) for color in person_colors(len(vertices_m))]
        for k in np.flatnonzero(outside):
            self.pointer(edge[k], middles[k] - edge[k], colors[k])
        far = [
            f"{d:.0f} m" + (" behind" if z < 0 else "")
            for d, z in zip(ground_range(centres_m), centres_m[:, 2], strict=True)
        ]
        crowded = len(vertices_m) * _WORDED_LABEL_PX2 > _LABELLED_SHARE * (right - left) * (bottom - top)
        anchors = np.clip(np.where(outside[:, None], edge, tops), (left, top), (right, bottom))
        labels = [
            Label((float(x), float(y)), k, colors[k], far[k] if outside[k] else "" if crowded else words[k])
            for k, (x, y) in enumerate(anchors)
        ]
        drawn = (self.canvas.finish() != self._ground).any(-1)
        draw_labels(
            self.canvas, labels, 0.85 * TEXT_PX, (left + 3, top + 3, right - 3, bottom - 3), drawn, self._keep_clear
        )

    def _ticks(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """(metres, pixel) of the ticks across and up."""
        shown, step = self.axes.shown, self.axes.step_m(_LEAST_TICK_PX)
        across = [(v, float(self.axes.to_px((v, 0.0))[0])) for v in ticks(shown.left, shown.right, step)]
        return across, [(v, float(self.axes.to_px((0.0, v))[1])) for v in ticks(shown.bottom, shown.top, step)]

    def _render(self, vertices_m: np.ndarray, faces: np.ndarray) -> Rendering:
        """People inside the plot frame on the canvas's fine grid."""
        left, top, right, bottom = self.axes.frame_px
        origin = ((self.axes.x_px - left) * FINENESS, (self.axes.y_px - top) * FINENESS)
        view, K = orthographic(vertices_m, self.projection.rotation, self.axes.scale * FINENESS, origin)
        return render(view, faces, K, ((bottom - top) * FINENESS, (right - left) * FINENESS), supersampling=1)
