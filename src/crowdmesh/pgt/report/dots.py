"""A bird's-eye view that needs no body model: where everybody was and is, as dots."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from crowdmesh.scene import Scene

_DPI = 100
_ASPECT = 1.35
_BEFORE, _AFTER = "#b0b0b0", "#0072b2"


def dots_picture(before: Scene, after: Scene, height: int) -> UInt8[np.ndarray, "H W 3"]:
    """Root of everybody from above, before (hollow) and after (filled), with the way between them.

    Args:
        height: of the picture, pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_ASPECT * height / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axis = figure.subplots()
    was, now = before.people.translation_m, after.people.translation_m
    for start, end in zip(was, now, strict=True):
        axis.plot([start[0], end[0]], [start[2], end[2]], color=_BEFORE, linewidth=1)
    axis.scatter(was[:, 0], was[:, 2], facecolors="none", edgecolors="#808080", s=26, label="before")
    axis.scatter(now[:, 0], now[:, 2], color=_AFTER, s=26, label="after")
    axis.scatter([0.0], [0.0], color="#222222", marker="^", s=40, label="camera")
    axis.set_aspect("equal", adjustable="datalim")
    axis.set_xlabel("to the right (m)", fontsize=8)
    axis.set_ylabel("away from the camera (m)", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(color="#e6e6e6")
    axis.set_axisbelow(True)
    axis.legend(frameon=False, fontsize=7)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
