"""The verbs that show scenes and hand them to other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from crowdmesh._terminal import console
from crowdmesh.cli._options import ExportFormat, Flag
from crowdmesh.errors import InputError


def view(
    scenes: tyro.conf.Positional[tuple[str, ...]],
    html: Path | None = None,
    port: int = 8080,
    host: str = "127.0.0.1",
    open_browser: Flag = False,
) -> int:
    """Scenes in 3D on a page in the browser: photo, people before and after, labels, ground, bird's-eye view.

    Args:
        scenes: .scene.npz files or folders of them; NAME.before.npz and NAME.json beside them are shown too.
        html: write one file that opens anywhere, without a server or network, instead of serving a page.
        port: of the page.
        host: address to listen on; 0.0.0.0 shows the page to the whole network.
        open_browser: open the page in the browser.
    """
    from crowdmesh.outputs.viewed import find_scenes, viewer_scene
    from crowdmesh.visual.viewer import serve, write_html

    shown = [viewer_scene(path) for path in find_scenes(scenes)]
    if html is not None:
        write_html(shown, html)
        console().print(f"wrote {html} ({html.stat().st_size / 1e6:.1f} MB)", highlight=False, markup=False)
        return 0
    with serve(shown, port, host, open_browser) as viewer:
        console().print(f"{len(shown)} scenes at {viewer.url} (Ctrl+C ends)", highlight=False, markup=False)
        viewer.wait()
    return 0


def export(
    scene: tyro.conf.Positional[Path],
    format: ExportFormat | None = None,
    out: Path | None = None,
    frame: Literal["opencv", "opengl", "blender"] | None = None,
    up: Literal["y", "z"] | None = None,
    units: Literal["m", "cm"] = "m",
    detail: Flag = False,
) -> int:
    """A scene for other programs: meshes (glb, ply, obj) or parameters (npz, json, smpl).

    Args:
        scene: a .scene.npz file.
        format: what to write (default: by the ending of --out).
        out: file to write (default: NAME.export.EXT beside the scene).
        frame: opencv (x right, y down, z forward), opengl (y up, z backward) or blender (z up, y forward). Default:
            opengl for meshes, opencv for parameters.
        up: y for opengl, z for blender.
        units: of all lengths.
        detail: meshes of Anny bodies with 13,718 vertices each instead of 1,229.
    """
    from crowdmesh.outputs import detailed
    from crowdmesh.scene import Scene
    from crowdmesh.visual import Frame, export_notes, export_path, export_scene
    from crowdmesh.visual.export import format_of

    if out is None and format is None:
        raise InputError("say what to write: --format glb, ply, obj, npz, json or smpl, or --out FILE")
    target = out if out is not None else export_path(scene, format or "glb")
    if target.resolve() == scene.resolve():
        raise InputError(f"{target} is the scene itself, which an export would overwrite; give --out another name")
    chosen, axes = format_of(target, format), Frame(frame, up, units)
    loaded = Scene.load(scene)
    files = export_scene(detailed(loaded) if detail else loaded, target, chosen, axes)
    for note in export_notes(chosen, axes):
        console().print(note, highlight=False, markup=False)
    console().print("\n".join(f"wrote {file}" for file in files), highlight=False, markup=False)
    return 0
