"""The reconstructed people over their photograph."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from crowdmesh.scene import Scene
from crowdmesh.visual._canvas import TEXT_PX, Canvas, blank, rgb8
from crowdmesh.visual._crowd import Faces, posed_vertices
from crowdmesh.visual._labels import Label, draw_labels, place_labels
from crowdmesh.visual.palette import person_colors
from crowdmesh.visual.shading import Rendering, render

LONGEST_SIDE_PX = 1600
_BACKGROUND = (236, 237, 239)
_LEAST_LABELLED_PX = 12
_FULL_TEXT_FROM_PX = 540


def overlay(
    scene: Scene,
    faces: Faces,
    size: tuple[int, int] | None = None,
    opacity: float = 1.0,
    labels: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """Shaded bodies over the photograph (or a neutral ground when the scene carries none), each with its number.

    Nearer people hide farther ones, as the scene has them.

    Args:
        faces: triangles of the bodies.
        size: (height, width) of the picture; by default that of the photo, at most 1600 pixels on the longer side.
        opacity: of the bodies; below 1 the photo shines through.
        labels: whether to write each visible person's number.
    """
    height, width = size or _default_size(scene)
    background = blank(height, width, _BACKGROUND)
    if scene.image is not None:
        background = np.asarray(Image.fromarray(scene.image).resize((width, height), Image.Resampling.LANCZOS))
    rendering = render(posed_vertices(scene), faces, scene.camera.scaled(width, height).K, (height, width))
    picture = rendering.over(background, opacity)
    return _labelled(picture, rendering, len(scene.people)) if labels else picture


def _default_size(scene: Scene) -> tuple[int, int]:
    camera = scene.camera
    shrink = min(1.0, LONGEST_SIDE_PX / max(camera.width, camera.height))
    return max(1, round(camera.height * shrink)), max(1, round(camera.width * shrink))


def _labelled(picture: UInt8[np.ndarray, "H W 3"], rendering: Rendering, count: int) -> UInt8[np.ndarray, "H W 3"]:
    """Numbers just above the highest visible point of every person with enough visible pixels."""
    labels = []
    for k, color in enumerate(person_colors(count)):
        rows, columns = np.nonzero(rendering.person == k)
        if len(rows) >= _LEAST_LABELLED_PX:
            top = rows[0]
            labels.append(Label((float(columns[rows == top].mean()), float(top)), k, rgb8(color)))
    canvas = Canvas(picture)
    area = (2.0, 2.0, canvas.width - 2.0, canvas.height - 2.0)
    text_px = TEXT_PX * float(np.clip(min(picture.shape[:2]) / _FULL_TEXT_FROM_PX, 0.65, 1.0))
    corners = place_labels(labels, text_px, area, rendering.person >= 0)
    draw_labels(canvas, labels, corners, text_px)
    return canvas.finish()
