"""A drawing surface in final pixels that works on a finer grid, so that lines and text come out smooth."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from crowdmesh.visual.shading import Rendering

Rgb = tuple[int, int, int]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

Point = Sequence[float] | np.ndarray

FINENESS = 2
"""Canvas samples per final pixel along each axis."""

TEXT_PX = 22
WHITE: Rgb = (255, 255, 255)
INK: Rgb = (38, 38, 42)
GREY: Rgb = (112, 112, 118)
GRID: Rgb = (226, 227, 230)
_BEYOND_ASCII = "\u00b7\u00b0\u00b1"  # middle dot, degree, plus-minus: in the built-in font


class Canvas:
    """Draws on a background image; coordinates, widths and text sizes are in final pixels."""

    def __init__(self, background: UInt8[np.ndarray, "H W 3"]) -> None:
        self.height, self.width = background.shape[:2]
        self._image = Image.fromarray(background.repeat(FINENESS, 0).repeat(FINENESS, 1))
        self._draw = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point] | np.ndarray, color: Rgb, width: float = 1.0) -> None:
        """A polyline with rounded joints."""
        self._draw.line(_fine(points), color, max(1, round(width * FINENESS)), joint="curve")

    def polygon(self, points: Sequence[Point] | np.ndarray, fill: Rgb) -> None:
        """A filled polygon."""
        self._draw.polygon(_fine(points), fill)

    def disc(self, center: Point, radius: float, fill: Rgb | None, outline: Rgb, width: float) -> None:
        """A circle, filled or hollow."""
        box = _fine([np.subtract(center, radius), np.add(center, radius)])
        self._draw.ellipse(box, fill, outline, round(width * FINENESS))

    def arrow(self, start: Point, end: Point, color: Rgb, width: float = 1.6) -> None:
        """A thin arrow with a filled head, with a white rim that keeps it readable on any ground."""
        start, end = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(end - start))
        if length == 0:
            return
        along = (end - start) / length
        across = np.array((-along[1], along[0]))
        reach = min(5.5 * width, length)
        neck = end - along * reach
        for rim, ink in ((1.2, WHITE), (0.0, color)):
            self.line([start, neck], ink, width + 2 * rim)
            half = across * (0.42 * reach + 1.4 * rim)
            self.polygon([end + along * 2.0 * rim, neck - along * rim + half, neck - along * rim - half], ink)

    def text(self, position: Point, text: str, color: Rgb = INK, size: float = TEXT_PX, anchor: str = "la") -> Box:
        """Text with Pillow's two-letter anchor: l, m, r across and a (top), m, s (baseline), d (bottom) down.

        Returns the box it covers.
        """
        (x, y), font = _fine([position]), _font(round(size * FINENESS))
        self._draw.text((x, y), printable(text), color, font, anchor)
        left, top, right, bottom = self._draw.textbbox((x, y), printable(text), font, anchor)
        return left / FINENESS, top / FINENESS, right / FINENESS, bottom / FINENESS

    def text_up(self, left_middle: Point, text: str, color: Rgb = INK, size: float = TEXT_PX) -> None:
        """Text running up the page, centred vertically on the point, its top at the point's left."""
        font = _font(round(size * FINENESS))
        block = Image.new("L", (round(font.getlength(printable(text))) + 2, round(1.3 * font.size)))
        ImageDraw.Draw(block).text((1, 0), printable(text), 255, font)
        block = block.transpose(Image.Transpose.ROTATE_90)
        left, middle = _fine([left_middle])
        self._image.paste(color, (round(left), round(middle - block.height / 2)), block)

    def box(self, left_top: Point, size: Point, fill: Rgb, radius: float, outline: Rgb | None = None) -> None:
        """A rounded rectangle."""
        corners = _fine([left_top, np.add(left_top, size)])
        self._draw.rounded_rectangle(corners, radius * FINENESS, fill, outline, FINENESS if outline else 0)

    def paint(
        self, where: Bool[np.ndarray, "h w"], colors: UInt8[np.ndarray, "h w 3"], left_top: tuple[int, int]
    ) -> None:
        """Set the marked samples of a block on the fine grid whose corner lies at a whole final pixel."""
        corner = (left_top[0] * FINENESS, left_top[1] * FINENESS)
        self._image.paste(Image.fromarray(colors), corner, Image.fromarray(where))

    def paint_rendering(self, rendering: Rendering, left_top: tuple[int, int]) -> None:
        """Lay people over the canvas that were rendered on the fine grid without supersampling."""
        self.paint(rendering.alpha > 0, np.rint(255.0 * rendering.rgb).astype(np.uint8), left_top)

    def finish(self) -> UInt8[np.ndarray, "H W 3"]:
        """The picture at final resolution."""
        return np.asarray(self._image.reduce(FINENESS))


def blank(height: int, width: int, color: Rgb = WHITE) -> UInt8[np.ndarray, "H W 3"]:
    """An image of one colour."""
    return np.full((height, width, 3), color, np.uint8)


def strip(text: str, size: tuple[int, int], left: float, text_px: float) -> UInt8[np.ndarray, "H W 3"]:
    """A line of text as an image of ``size`` (height, width), its baseline eleven pixels above the lower edge."""
    canvas = Canvas(blank(*size))
    canvas.text((left, size[0] - 11.0), text, INK, text_px, "ls")
    return canvas.finish()


def rgb8(color: Float[np.ndarray, " 3"]) -> Rgb:
    """A colour in [0, 1] as 8-bit numbers."""
    return cast(Rgb, tuple(round(255 * float(c)) for c in color))


def text_size(text: str, size: float = TEXT_PX) -> tuple[float, float]:
    """Width of the text and height of its digits, final pixels."""
    font = _font(round(size * FINENESS))
    return font.getlength(printable(text)) / FINENESS, 0.72 * size


def printable(text: str) -> str:
    """The text in the characters the built-in font has: accents dropped, what remains unknown becomes ``?``."""
    plain = unicodedata.normalize("NFKD", text)
    return "".join(c if c.isascii() or c in _BEYOND_ASCII else "?" for c in plain if not unicodedata.combining(c))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(max(size, 1)))


def _fine(points: Sequence[Point] | np.ndarray) -> list[float]:
    return (np.asarray(points, float) * FINENESS).ravel().tolist()
