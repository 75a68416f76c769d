"""The crowd to scale: from above (who stands where) and from the side (how far, how tall)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from crowdmesh.scene import Scene
from crowdmesh.visual._axes import Axes, Extent, ticks
from crowdmesh.visual._canvas import Rgb
from crowdmesh.visual._crowd import ground_range, page_points, posed_vertices, surface_centres
from crowdmesh.visual._plan import FROM_ABOVE, FROM_THE_SIDE, Plan, plot_frame

_ARC: Rgb = (203, 206, 213)
_GROUND: Rgb = (150, 140, 126)
_LEAST_ARC_PX = 84.0

# Drawings start at the people, not at the camera, when the nearest is farther than this many metres and than this
# share of the farthest: a telephoto scene would otherwise be mostly empty.
_LONG_LENS_FROM_M = 8.0
_LONG_LENS_FROM_SHARE = 0.5


def top_extent(scenes: Sequence[Scene], faces: Int[np.ndarray, "F 3"]) -> Extent:
    """What a bird's-eye view of these scenes must show (x across, z up): the people and, unless far away, the camera.

    Give the same extent to several views to compare them at one scale. A lone person far beyond the others (over three
    times the median distance) or behind the camera does not count; the view names such people at its edge.
    """
    x, _, z = _ranges(scenes, faces)
    return Extent(min(x[0], -1.0) - 0.3, max(x[1], 1.0) + 0.3, z[0] - 0.35, z[1] + 0.45)


def side_extent(scenes: Sequence[Scene], faces: Int[np.ndarray, "F 3"]) -> Extent:
    """What a side view of these scenes must show (z across, height up), by the rules of :func:`top_extent`."""
    _, y, z = _ranges(scenes, faces)
    return Extent(z[0] - 0.35, z[1] + 0.45, min(-y[1], -0.6) - 0.12, max(-y[0], 0.3) + 0.4)


def top_axes(extent: Extent, size: tuple[int, int]) -> Axes:
    """Where :func:`top_view` draws a metre: page point (x, z)."""
    return Axes.fit(extent, plot_frame(size), align=(0.5, 0.0))


def side_axes(extent: Extent, size: tuple[int, int]) -> Axes:
    """Where :func:`side_view` draws a metre: page point (z, -y)."""
    return Axes.fit(extent, plot_frame(size), align=(0.0, 0.5))


def top_view(
    scene: Scene,
    faces: Int[np.ndarray, "F 3"],
    size: tuple[int, int] = (900, 720),
    extent: Extent | None = None,
    truth: Scene | None = None,
    before: Scene | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Bird's-eye view: bodies from above, the camera and its field of view, arcs of equal distance.

    Labels give number and distance from the camera, measured on the ground plane of the drawing: sqrt(x^2 + z^2).

    Args:
        faces: triangles of the bodies.
        size: (height, width) of the picture.
        extent: part of the world to show; by default :func:`top_extent` of all given scenes.
        truth: where the same people truly are, drawn as hollow outlines.
        before: where the same people were before, from where thin arrows lead to where they are.
    """
    others = [other for other in (truth, before) if other is not None]
    axes = top_axes(extent or top_extent([scene, *others], faces), size)
    plan = Plan(size, axes, FROM_ABOVE)
    camera = scene.camera
    slopes = (-camera.cx / camera.fx, (camera.width - camera.cx) / camera.fx)
    plan.wedge(slopes, forward=(0.0, 1.0), sideways=(1.0, 0.0))
    arcs = _draw_arcs(plan, slopes)
    plan.camera(forward=(0.0, 1.0))
    _draw_people(plan, scene, faces, truth, before)
    plan.frame("Bird's-eye view", "x (m)", "depth z (m)")
    for position, words in arcs:
        plan.note(position, words)
    vertices = posed_vertices(scene)
    centres = surface_centres(vertices, faces)
    plan.labels(vertices, centres, [f"{distance:.1f} m" for distance in ground_range(centres)])
    return plan.canvas.finish()


def side_view(
    scene: Scene,
    faces: Int[np.ndarray, "F 3"],
    size: tuple[int, int] = (420, 1080),
    extent: Extent | None = None,
    truth: Scene | None = None,
    before: Scene | None = None,
    ground: Float[np.ndarray, " 4"] | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Side view: depth to the right, height above the camera up, over a metric grid.

    Labels give number and stature (``people.stature_m``, the height of the body standing straight).

    Args:
        faces, size, truth, before: as for :func:`top_view`.
        extent: part of the world to show; by default :func:`side_extent` of all given scenes.
        ground: plane (a, b, c, d) with a x + b y + c z + d = 0 in the camera frame (metres); its line under the camera's
            line of sight (x = 0) is drawn.
    """
    others = [other for other in (truth, before) if other is not None]
    axes = side_axes(extent or side_extent([scene, *others], faces), size)
    plan = Plan(size, axes, FROM_THE_SIDE)
    camera = scene.camera
    plan.wedge((-camera.cy / camera.fy, (camera.height - camera.cy) / camera.fy), (1.0, 0.0), (0.0, -1.0))
    plan.grid()
    if ground is not None:
        _draw_ground(plan, ground)
    plan.camera(forward=(1.0, 0.0))
    _draw_people(plan, scene, faces, truth, before)
    plan.frame("Side view", "depth z (m)", "height above camera (m)")
    vertices = posed_vertices(scene)
    plan.labels(vertices, surface_centres(vertices, faces), [f"{stature:.2f} m" for stature in scene.people.stature_m])
    return plan.canvas.finish()


def _ranges(scenes: Sequence[Scene], faces: np.ndarray) -> list[tuple[float, float]]:
    """(low, high) of x, y and z to show, metres; the depth starts at the camera unless everybody is far beyond it."""
    points = page_points(scenes, faces)
    if len(points) == 0:
        return [(-2.0, 2.0), (-1.0, 1.0), (0.0, 5.0)]
    (x, y, z) = [(float(low), float(high)) for low, high in zip(points.min(0), points.max(0), strict=True)]
    nearest = z[0] if z[0] > max(_LONG_LENS_FROM_M, _LONG_LENS_FROM_SHARE * z[1]) else 0.0
    return [x, y, (nearest, max(z[1], 2.0))]


def _draw_people(plan: Plan, scene: Scene, faces: np.ndarray, truth: Scene | None, before: Scene | None) -> None:
    vertices = posed_vertices(scene)
    plan.people(vertices, faces)
    if truth is not None:
        plan.ghosts(posed_vertices(truth), faces)
    if before is not None:
        plan.moves(surface_centres(posed_vertices(before), faces), surface_centres(vertices, faces))


def _draw_arcs(plan: Plan, slopes: tuple[float, float]) -> list[tuple[np.ndarray, str]]:
    """Arcs of equal distance within the field of view; returns where to write which distance."""
    shown = plan.axes.shown
    step = plan.axes.step_m(_LEAST_ARC_PX)
    farthest = float(np.hypot(max(-shown.left, shown.right), shown.top))
    first, last = np.arctan(slopes[0]), np.arctan(slopes[1])
    texts = []
    for radius in ticks(max(step, shown.bottom), farthest, step):
        angle = np.linspace(first, last, 96)
        plan.canvas.line(plan.axes.to_px(radius * np.stack((np.sin(angle), np.cos(angle)), -1)), _ARC, 1.2)
        # Labels follow the right edge of the field of view, or the plot's edge where that comes first.
        margin = shown.right - 62.0 / plan.axes.scale
        end = min(last, float(np.arcsin(np.clip(margin / radius, -1.0, 1.0))))
        if shown.bottom < radius * np.cos(end) < shown.top - 14.0 / plan.axes.scale:
            at = plan.axes.to_px((radius * np.sin(end), radius * np.cos(end)))
            texts.append((at + (7.0, 0.0), f"{radius:g} m"))
    return texts


def _draw_ground(plan: Plan, ground: Float[np.ndarray, " 4"]) -> None:
    _, b, c, d = (float(value) for value in ground)
    if b == 0:
        return
    depth = np.array((plan.axes.shown.left, plan.axes.shown.right))
    plan.canvas.line(plan.axes.to_px(np.stack((depth, (c * depth + d) / b), -1)), _GROUND, 2.0)
