"""The viewer's page on a viser server: what stands in the 3D scene, the panel, and what each control changes.

What a control does is data (:class:`Answer`), so that a page served by Python and a file without it behave alike.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from crowdmesh.scene import Scene
from crowdmesh.visual._canvas import Rgb, rgb8
from crowdmesh.visual._crowd import Faces, posed_vertices, scene_faces
from crowdmesh.visual._viewer_layout import (
    FOV,
    Row,
    Shown,
    View,
    World,
    label_place,
    photo_corners,
    photo_distance,
    rows,
    view_from_above,
    view_from_behind,
)
from crowdmesh.visual.palette import person_colors

if TYPE_CHECKING:
    import viser

    from crowdmesh.visual.viewer import ViewerScene

PHOTO_PX = 1280
"""Longest side of the photo on the page."""

_JPEG_QUALITY = 85
_INK: Rgb = (38, 38, 42)
_CELL, _SECTION = (222, 223, 227), (188, 190, 196)
_SKY, _FLOOR, _SKY_INTENSITY = (255, 255, 255), (186, 182, 178), 1.5
_LAMP_FROM, _LAMP_INTENSITY = (-3.0, -5.0, 6.0), 1.7  # over the left shoulder of who looks from behind
_SECTION_M = 5.0
_LINE_PX = 2.0


@dataclass(frozen=True, eq=False)
class Answer:
    """What happens when a control takes a value.

    Attributes:
        visible: handles of scene nodes and of panel elements, and whether each shows from now on.
        scene: the photograph shown from now on; ``None``: the same.
        view: where to look from: ``"behind"``, ``"above"`` or ``None``, as one looks.
    """

    visible: tuple[tuple[Any, bool], ...] = ()
    scene: int | None = None
    view: str | None = None


@dataclass(frozen=True, eq=False)
class Page:
    """Everything on the page.

    Attributes:
        controls: (panel element, its answer per value; a button has the one value ``True``).
        views: the views of each photograph by name.
    """

    controls: tuple[tuple[Any, Mapping[Any, Answer]], ...]
    views: tuple[Mapping[str, View], ...]


@dataclass(frozen=True, eq=False)
class _Nodes:
    """Handles of one photograph; ``None`` and empty: it has no such thing."""

    root: Any
    photo: Any | None
    placed: Any
    guess: Any | None
    labels: tuple[Any, ...]
    views: Mapping[str, View]
    placed_rows: Sequence[Row]
    guess_rows: Sequence[Row]


def build(server: viser.ViserServer, scenes: Sequence[ViewerScene]) -> Page:
    """Put the scenes and the panel on a fresh server; the first photograph shows, after its placement."""
    server.gui.configure_theme(show_share_button=False)
    server.gui.main_panel.dock_right()
    server.gui.set_panel_label("CrowdMesh")
    # An even sky instead of viser's photographed one, which takes software renderers half a minute to prepare.
    server.scene.configure_environment_map(None)
    server.scene.add_light_hemisphere("/sky", sky_color=_SKY, ground_color=_FLOOR, intensity=_SKY_INTENSITY)
    server.scene.add_light_directional("/lamp", intensity=_LAMP_INTENSITY, position=_LAMP_FROM)
    nodes = [_add_scene(server, index, scene) for index, scene in enumerate(scenes)]
    first = nodes[0].views["behind"]
    start = server.initial_camera
    start.fov, start.position, start.look_at = FOV, first.position, first.look_at
    return Page(_add_panel(server, scenes, nodes), tuple(node.views for node in nodes))


def _add_scene(server: viser.ViserServer, index: int, shown: ViewerScene) -> _Nodes:
    scene, before = shown.scene, shown.before
    faces, before_faces = scene_faces(scene), scene_faces(before or scene)
    world = World.of(scene, faces)
    root = f"/photo_{index}"
    root_node = server.scene.add_frame(root, show_axes=False, visible=index == 0)
    corners = photo_corners(scene.camera, photo_distance(scene, faces))
    photo = _add_camera(server, root, scene, world, corners)
    stages = [(scene, faces)] + ([] if before is None else [(before, before_faces)])
    within = Shown.of(stages, world, corners)
    _add_ground(server, root, within.points)
    placed_rows = rows(scene, faces, shown.stature_std_m, shown.depth_std_m)
    placed, placed_labels = _add_people(server, f"{root}/placed", scene, faces, world, placed_rows, True)
    guess, guess_labels, guess_rows = None, None, []
    if before is not None:
        guess_rows = rows(before, before_faces, None, None)
        guess, guess_labels = _add_people(server, f"{root}/first_guess", before, before_faces, world, guess_rows, False)
    labels = tuple(label for label in (placed_labels, guess_labels) if label is not None)
    views = {"behind": view_from_behind(within), "above": view_from_above(within)}
    return _Nodes(root_node, photo, placed, guess, labels, views, placed_rows, guess_rows)


def _add_camera(
    server: viser.ViserServer, root: str, scene: Scene, world: World, corners: Float[np.ndarray, "4 3"]
) -> Any | None:
    """The photo's camera as a pyramid of lines, its photo on the base; returns the photo's handle."""
    centre = np.zeros(3)
    edges = [(centre, corner) for corner in corners] + [(corners[i], corners[(i + 1) % 4]) for i in range(4)]
    server.scene.add_line_segments(
        f"{root}/camera",
        world.place(np.array(edges)).astype(np.float32),
        _INK,
        thickness=_LINE_PX,
        thickness_units="screen",
    )
    if scene.image is None:
        return None
    wide, high = corners[1] - corners[0], corners[3] - corners[0]
    return server.scene.add_image(
        f"{root}/photo",
        page_photo(scene.image),
        float(np.linalg.norm(wide)),
        float(np.linalg.norm(high)),
        format="jpeg",
        jpeg_quality=_JPEG_QUALITY,
        cast_shadow=False,
        receive_shadow=False,
        wxyz=(np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0),  # x right, y down, z ahead: into the world of _viewer_layout
        position=world.place(corners.mean(0)),
    )


def page_photo(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo at the size in which it travels with the page."""
    height, width = image.shape[:2]
    shrink = PHOTO_PX / max(height, width)
    if shrink >= 1:
        return image
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _add_ground(server: viser.ViserServer, root: str, points: Float[np.ndarray, "N 3"]) -> None:
    """A grid of one metre under all that is shown, in whole sections; the photo's camera stands over a grid corner."""
    low = np.floor((points.min(0)[:2] - 1.0) / _SECTION_M) * _SECTION_M
    high = np.ceil((points.max(0)[:2] + 1.0) / _SECTION_M) * _SECTION_M
    server.scene.add_grid(
        f"{root}/ground",
        *(float(extent) for extent in high - low),
        plane="xy",
        cell_size=1.0,
        cell_color=_CELL,
        section_size=_SECTION_M,
        section_color=_SECTION,
        fade_distance=1e4,
        shadow_opacity=0.15,
        position=(*((low + high) / 2), 0.0),
    )


def _add_people(
    server: viser.ViserServer,
    name: str,
    scene: Scene,
    faces: Faces,
    world: World,
    texts: Sequence[Row],
    visible: bool,
) -> tuple[Any, Any]:
    """Bodies and labels below one node; returns its handle and that of the labels."""
    group = server.scene.add_frame(name, show_axes=False, visible=visible)
    labels = server.scene.add_frame(f"{name}/labels", show_axes=False)
    corners = np.asarray(faces, np.uint32)
    colors = person_colors(len(scene.people))
    for row, vertices in zip(texts, world.place(posed_vertices(scene)), strict=True):
        server.scene.add_mesh_simple(
            f"{name}/person_{row.person}",
            vertices.astype(np.float32),
            corners,
            color=rgb8(colors[row.person]),
            side="double",
        )
        server.scene.add_label(
            f"{name}/labels/label_{row.person}",
            row.label,
            position=label_place(vertices),
            anchor="bottom-center",
            font_screen_scale=0.9,
        )
    return group, labels


def _add_panel(
    server: viser.ViserServer, scenes: Sequence[ViewerScene], nodes: Sequence[_Nodes]
) -> tuple[tuple[Any, Mapping[Any, Answer]], ...]:
    gui = server.gui
    names = _distinct([scene.name for scene in scenes])
    controls: list[tuple[Any, Mapping[Any, Answer]]] = []
    chooser = gui.add_dropdown("Photograph", names) if len(names) > 1 else None
    guess = gui.add_checkbox("First guess", False) if any(node.guess is not None for node in nodes) else None
    labels, photo = gui.add_checkbox("Labels", True), gui.add_checkbox("Photo", True)
    above, behind = gui.add_button("Bird's-eye view"), gui.add_button("View from behind")
    folders, placed, guessed = _add_tables(server, names, nodes)
    if chooser is not None:
        switched = [(node.root, folder) for node, folder in zip(nodes, folders, strict=True)]
        answers = {
            name: Answer(tuple((h, i == k) for i, pair in enumerate(switched) for h in pair), k, "behind")
            for k, name in enumerate(names)
        }
        controls.append((chooser, answers))
    if guess is not None:
        controls.append((guess, {on: _stages(placed, guessed, on) for on in (False, True)}))
    on_off = (
        (labels, [label for node in nodes for label in node.labels]),
        (photo, [node.photo for node in nodes if node.photo is not None]),
    )
    for box, handles in on_off:
        controls.append((box, {on: Answer(tuple((handle, on) for handle in handles)) for on in (True, False)}))
    controls += [(above, {True: Answer(view="above")}), (behind, {True: Answer(view="behind")})]
    return tuple(controls)


def _stages(placed: Sequence[Any], guessed: Sequence[Any], guess: bool) -> Answer:
    return Answer((*((handle, not guess) for handle in placed), *((handle, guess) for handle in guessed)))


def _add_tables(
    server: viser.ViserServer, names: Sequence[str], nodes: Sequence[_Nodes]
) -> tuple[list[Any], list[Any], list[Any]]:
    """One folder a photograph; and all that shows after, and all that shows before the placement.

    What has no first guess shows always.
    """
    folders, placed, guessed = [], [], []
    for index, (name, node) in enumerate(zip(names, nodes, strict=True)):
        folder = server.gui.add_folder(name, visible=index == 0)
        folders.append(folder)
        with folder:
            after = server.gui.add_html(table(node.placed_rows))
            if node.guess is not None:
                placed += [node.placed, after]
                guessed += [node.guess, server.gui.add_html(table(node.guess_rows), visible=False)]
    return folders, placed, guessed


def table(texts: Sequence[Row]) -> str:
    """HTML: everybody's number in their colour, stature and distance."""
    if not texts:
        return '<div style="padding:0.3em 0.8em;font-size:0.875em">Nobody in this photograph.</div>'
    colors = person_colors(len(texts))
    cell = 'style="padding:0.15em 0.4em;text-align:right;white-space:nowrap"'
    lines = []
    for row in texts:
        chip = (
            f'<span style="display:inline-block;min-width:1.6em;border-radius:0.4em;text-align:center;color:#26262a;'
            f'background:rgb{rgb8(colors[row.person])}">{row.person}</span>'
        )
        texts_of_row = "".join(f"<td {cell}>{html.escape(text)}</td>" for text in (row.stature, row.distance))
        lines.append(f'<tr><td style="padding:0.15em 0.4em">{chip}</td>{texts_of_row}</tr>')
    head = f"<tr><th></th><th {cell}>stature</th><th {cell}>distance</th></tr>"
    style = "margin:0.2em 0.4em;border-collapse:collapse;font-size:0.8125em;font-variant-numeric:tabular-nums"
    return f'<table style="{style}">{head}{"".join(lines)}</table>'


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, each once: a photograph whose name was taken before has its number added."""
    taken: list[str] = []
    for name in names:
        number, distinct = 1, name
        while distinct in taken:
            number += 1
            distinct = f"{name} ({number})"
        taken.append(distinct)
    return taken
