"""A metric drawing of the scene in parallel projection: what the bird's-eye and the side view have in common."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from crowdmesh.raster import rasterize
from crowdmesh.visual._axes import Axes, ticks
from crowdmesh.visual._canvas import (
    FINENESS,
    GREY,
    GRID,
    INK,
    TEXT_PX,
    WHITE,
    Box,
    Canvas,
    Rgb,
    blank,
    rgb8,
)
from crowdmesh.visual._crowd import Faces, ground_range, triangles
from crowdmesh.visual._labels import Label, draw_labels, place_labels
from crowdmesh.visual._projection import Projection
from crowdmesh.visual.palette import darker, person_colors
from crowdmesh.visual.shading import Rendering, inner_contours, orthographic, render

# Labels have room for words unless more people than this would fill more than this share of the plot with them.
_ALWAYS_WORDED = 6
_LABELLED_SHARE = 0.08
_WORDED_LABEL_PX2 = 2600.0

_ARC: Rgb = (203, 206, 213)
_FRAME: Rgb = (150, 151, 156)
_WEDGE: Rgb = (241, 244, 249)
_WEDGE_EDGE: Rgb = (186, 195, 210)
_LEAST_TICK_PX = 56.0
_LEAST_ARC_PX = 84.0
_LEAST_MOVE_PX = 7.0
_GHOST_PX = 1.5
_NOTE_PX = 0.8 * TEXT_PX


class Plan:
    """One drawing in the making; the methods are called in the order of the layers, from the ground up."""

    def __init__(self, size: tuple[int, int], axes: Axes, projection: Projection) -> None:
        self.canvas = Canvas(blank(*size))
        self.axes = axes
        self.projection = projection
        self._ground = self.canvas.finish()
        self._keep_clear: list[Box] = []

    def wedge(self, slopes: tuple[float, float], axis: tuple[float, float, float]) -> None:
        """The field of view: everything between the two viewing rays (0, 0, 1) + slope * axis."""
        shown = self.axes.shown
        reach = 4.0 * max(abs(edge) for edge in (shown.left, shown.right, shown.bottom, shown.top))
        rays = np.array([np.add((0.0, 0.0, 1.0), slope * np.array(axis)) for slope in slopes])
        first, second = self.axes.to_px(self.projection.to_page(reach * rays))
        apex = self.axes.to_px((0.0, 0.0))
        self.canvas.polygon([apex, first, second], _WEDGE)
        self.canvas.line([first, apex, second], _WEDGE_EDGE, 1.2)

    def arcs(self, slopes: tuple[float, float]) -> list[tuple[np.ndarray, str]]:
        """Arcs of equal distance from the camera within the field of view; returns where to write which distance."""
        shown, step = self.axes.shown, self.axes.step_m(_LEAST_ARC_PX)
        corners = np.abs([(shown.left, shown.right), (shown.bottom, shown.top)]).max(1)
        angles = np.linspace(np.arctan(slopes[0]), np.arctan(slopes[1]), 97)
        ring = np.stack((np.sin(angles), np.zeros_like(angles), np.cos(angles)), -1)
        left, top, right, bottom = self.axes.frame_px
        texts = []
        for radius in ticks(step, float(np.linalg.norm(corners)), step):
            points = self.axes.to_px(self.projection.to_page(radius * ring))
            self.canvas.line(points, _ARC, 1.2)
            roomy = ((points > (left + 56, top + 14)) & (points < (right - 56, bottom - 30))).all(1)
            if roomy.any():
                texts.append((points[np.flatnonzero(roomy)[-1]], f"{radius:g} m"))
        return texts

    def camera(self) -> None:
        """A small camera at the origin, looking forward, or a pointer to it."""
        ahead = self.projection.to_page((0.0, 0.0, 1.0)) * (1.0, -1.0)
        across = np.array((-ahead[1], ahead[0]))
        lens = self.axes.to_px((0.0, 0.0))
        left, top, right, bottom = self.axes.frame_px
        edge = np.clip(lens, (left, top), (right, bottom))
        if (edge != lens).any():
            self.pointer(edge, lens - edge, INK)
            self.note(np.add(edge, (20.0, -14.0)), "camera")
            return
        body = [(-15, -8), (-15, 8), (-4, 8), (-4, 3), (3, 7), (3, -7), (-4, -3), (-4, -8)]
        self.canvas.polygon([lens + a * ahead + b * across for a, b in body], INK)

    def end_ground(self) -> None:
        """What has been drawn so far is background that labels may hide; what follows they avoid."""
        self._ground = self.canvas.finish()

    def people(self, vertices_m: Float[np.ndarray, "K V 3"], faces: Faces) -> None:
        """The bodies, shaded, in their colours."""
        self.canvas.paint_rendering(self._render(vertices_m, faces), self.axes.frame_px[:2])

    def ghosts(self, vertices_m: Float[np.ndarray, "K V 3"], faces: Faces) -> None:
        """Hollow outlines of bodies, e.g. of where people truly are."""
        view, K, size = self._view(vertices_m)
        person = rasterize(torch.from_numpy(view), triangles(faces), K, size).person.numpy()
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

    def frame(self, title: str) -> None:
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
            canvas.text((left - 9, y), f"{self.projection.up_sign * value + 0.0:g}", GREY, small, "rm")
        canvas.text(((left + right) / 2, height - 4), self.projection.across, GREY, small, "md")
        canvas.text_up((2, (top + bottom) / 2), self.projection.up, GREY, small)

    def note(self, position: np.ndarray, text: str, anchor: str = "lm") -> None:
        """A small remark that labels keep clear of."""
        self._keep_clear.append(self.canvas.text(position, text, GREY, _NOTE_PX, anchor))

    def pointer(self, at: np.ndarray, outward: np.ndarray, color: Rgb) -> None:
        """A triangle at the edge of the plot that points to something beyond it."""
        along = outward / np.linalg.norm(outward)
        across = np.array((-along[1], along[0]))
        corners = np.array([at, at - 15 * along + 8 * across, at - 15 * along - 8 * across])
        self.canvas.polygon(corners, color)
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        self._keep_clear.append((left, top, right, bottom))

    def roomy(self, count: int) -> bool:
        """Whether so many labels with words leave the drawing readable."""
        left, top, right, bottom = self.axes.frame_px
        room = _LABELLED_SHARE * (right - left) * (bottom - top) / _WORDED_LABEL_PX2
        return count <= max(room, _ALWAYS_WORDED)

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
        anchors = np.clip(np.where(outside[:, None], edge, tops), (left, top), (right, bottom))
        labels = [
            Label((float(x), float(y)), k, colors[k], far[k] if outside[k] else words[k])
            for k, (x, y) in enumerate(anchors)
        ]
        drawn = (self.canvas.finish() != self._ground).any(-1)
        area = (left + 3, top + 3, right - 3, bottom - 3)
        corners = place_labels(labels, 0.85 * TEXT_PX, area, drawn, self._keep_clear)
        draw_labels(self.canvas, labels, corners, 0.85 * TEXT_PX)

    def _ticks(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """(metres, pixel) of the ticks across and up."""
        shown, step = self.axes.shown, self.axes.step_m(_LEAST_TICK_PX)
        across = [(v, float(self.axes.to_px((v, 0.0))[0])) for v in ticks(shown.left, shown.right, step)]
        return across, [(v, float(self.axes.to_px((0.0, v))[1])) for v in ticks(shown.bottom, shown.top, step)]

    def _render(self, vertices_m: np.ndarray, faces: Faces) -> Rendering:
        """People inside the plot frame on the canvas's fine grid."""
        view, K, size = self._view(vertices_m)
        return render(view, faces, K, size, supersampling=1)

    def _view(self, vertices_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Vertices, intrinsics and image size that show the plot frame on the canvas's fine grid."""
        left, top, right, bottom = self.axes.frame_px
        origin = ((self.axes.x_px - left) * FINENESS, (self.axes.y_px - top) * FINENESS)
        view, K = orthographic(vertices_m, self.projection.rotation, self.axes.scale * FINENESS, origin)
        return view, K, ((bottom - top) * FINENESS, (right - left) * FINENESS)
