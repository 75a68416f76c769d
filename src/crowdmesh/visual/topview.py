"""The crowd to scale: from above (who stands where) and from the side (how far, how tall)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._axes import Extent
from crowdmesh.visual._canvas import Rgb
from crowdmesh.visual._crowd import Faces, ground_range, posed_vertices, require_same_people, surface_centres
from crowdmesh.visual._plan import Plan
from crowdmesh.visual._projection import FROM_ABOVE, FROM_ABOVE_RIGHTWARD, FROM_THE_SIDE, Projection

HEADINGS = {"up": FROM_ABOVE, "right": FROM_ABOVE_RIGHTWARD}
_GROUND: Rgb = (150, 140, 126)

# Where a distance is written beside the end of its arc.
_NOTE_PLACES = {"up": ((7.0, 0.0), "lm"), "right": ((-5.0, 5.0), "ra")}


def top_view(
    scene: Scene,
    faces: Faces,
    size: tuple[int, int] = (900, 720),
    extent: Extent | None = None,
    truth: Scene | None = None,
    before: Scene | None = None,
    heading: Literal["up", "right"] = "up",
    words: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """Bird's-eye view: bodies from above, the camera and its field of view, arcs of equal distance.

    Labels give number and distance from the camera, measured on the ground plane of the drawing: sqrt(x^2 + z^2).

    Args:
        faces: triangles of the bodies.
        size: (height, width) of the picture.
        extent: part of the world to show; by default what all given scenes need.
        truth: where the same people truly are, drawn as hollow outlines.
        before: where the same people were before, from where thin arrows lead to where they are.
        heading: where on the page the camera looks.
        words: whether labels carry the distance; in a dense crowd they never do.

    Raises:
        InputError: people without vertices, another number of people in ``truth`` or ``before``, or a tiny size.
    """
    plan = _begin(HEADINGS[heading], scene, faces, size, extent, truth, before)
    camera = scene.camera
    slopes = (-camera.cx / camera.fx, (camera.width - camera.cx) / camera.fx)
    plan.wedge(slopes, axis=(1.0, 0.0, 0.0))
    arcs = plan.arcs(slopes)
    plan.camera()
    _draw_people(plan, scene, faces, truth, before)
    plan.frame("Bird's-eye view")
    offset, anchor = _NOTE_PLACES[heading]
    for position, distance in arcs:
        plan.note(np.add(position, offset), distance, anchor)
    centres = surface_centres(posed_vertices(scene), faces)
    _label_people(plan, scene, faces, [f"{distance:.1f} m" for distance in ground_range(centres)], words)
    return plan.canvas.finish()


def side_view(
    scene: Scene,
    faces: Faces,
    size: tuple[int, int] = (420, 1080),
    extent: Extent | None = None,
    truth: Scene | None = None,
    before: Scene | None = None,
    ground: Float[np.ndarray, " 4"] | None = None,
    words: bool = True,
) -> UInt8[np.ndarray, "H W 3"]:
    """Side view: depth to the right, height above the camera up, over a metric grid.

    Labels give number and stature (``people.stature_m``, the height of the body standing straight).

    Args:
        faces, size, extent, truth, before, words: as for :func:`top_view`.
        ground: plane (a, b, c, d) with a x + b y + c z + d = 0 in the camera frame (metres); its line in the
            plane x = 0 is drawn.

    Raises:
        InputError: as for :func:`top_view`, or an upright ground plane.
    """
    plan = _begin(FROM_THE_SIDE, scene, faces, size, extent, truth, before)
    camera = scene.camera
    plan.wedge((-camera.cy / camera.fy, (camera.height - camera.cy) / camera.fy), axis=(0.0, 1.0, 0.0))
    plan.grid()
    if ground is not None:
        _draw_ground(plan, ground)
    plan.camera()
    _draw_people(plan, scene, faces, truth, before)
    plan.frame("Side view")
    _label_people(plan, scene, faces, [f"{stature:.2f} m" for stature in scene.people.stature_m], words)
    return plan.canvas.finish()


def _begin(
    projection: Projection,
    scene: Scene,
    faces: Faces,
    size: tuple[int, int],
    extent: Extent | None,
    truth: Scene | None,
    before: Scene | None,
) -> Plan:
    scenes = [other for other in (scene, truth, before) if other is not None]
    require_same_people(scenes)
    return Plan(size, projection.axes(extent or projection.extent(scenes, faces), size), projection)


def _draw_people(plan: Plan, scene: Scene, faces: Faces, truth: Scene | None, before: Scene | None) -> None:
    plan.end_ground()
    if truth is not None:
        plan.ghosts(posed_vertices(truth), faces)
    vertices = posed_vertices(scene)
    plan.people(vertices, faces)
    if before is not None:
        plan.moves(surface_centres(posed_vertices(before), faces), surface_centres(vertices, faces))


def _label_people(plan: Plan, scene: Scene, faces: Faces, texts: list[str], words: bool) -> None:
    vertices = posed_vertices(scene)
    shown = texts if words and plan.roomy(len(texts)) else [""] * len(texts)
    plan.labels(vertices, surface_centres(vertices, faces), shown)


def _draw_ground(plan: Plan, ground: Float[np.ndarray, " 4"]) -> None:
    _, b, c, d = (float(value) for value in ground)
    if b == 0:
        raise InputError(
            f"the plane {tuple(map(float, ground))} stands upright; a ground plane (a, b, c, d) needs b != 0"
        )
    depth = np.array((plan.axes.shown.left, plan.axes.shown.right))
    plan.canvas.line(plan.axes.to_px(np.stack((depth, (c * depth + d) / b), -1)), _GROUND, 2.0)
