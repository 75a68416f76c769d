"""One function for all formats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import scene_faces
from crowdmesh.visual.export._records import unit_notes
from crowdmesh.visual.export._surface import posed
from crowdmesh.visual.export.frame import Frame, FrameName
from crowdmesh.visual.export.glb import glb_notes, write_glb
from crowdmesh.visual.export.meshes import write_obj, write_ply
from crowdmesh.visual.export.tables import write_json, write_npz, write_smpl

Format = Literal["glb", "ply", "obj", "npz", "json", "smpl"]
FORMATS: tuple[Format, ...] = get_args(Format)

_SUFFIXES = {name: ".npz" if name == "smpl" else f".{name}" for name in FORMATS}
_USUAL: dict[str, FrameName] = {name: "opengl" if name in ("glb", "ply", "obj") else "opencv" for name in FORMATS}
_SCENE_SUFFIX = ".scene.npz"


def export_scene(
    scene: Scene, path: str | Path, format: Format | None = None, frame: Frame | None = None
) -> list[Path]:
    """Write the people of a scene for other programs; every file is complete or not there.

    ========  =============  ================================================================================
    format    usual frame    content
    ========  =============  ================================================================================
    ``glb``   opengl, m      a node ``person_K`` each, with parameters as extras, and the camera
    ``ply``   opengl, m      one binary mesh with normals, colours and the vertex property ``person``
    ``obj``   opengl, m      an object ``person_K`` each, with a material file beside it
    ``npz``   opencv, m      all of ``People`` as plain arrays, and the camera
    ``json``  opencv, m      a table of parameters, evidence and the camera, without surfaces
    ``smpl``  opencv, m      ``global_orient``, ``body_pose``, ``betas``, ``kid``, ``transl`` (``.npz``)
    ========  =============  ================================================================================

    People are written as they are in the scene (person K is index K); those without vertices are posed from their
    parameters. In ``glb``, ``npz``, ``json`` and ``smpl`` the body model posed with the parameters of the file gives
    its vertices, in every frame: the root rotation and the translation are turned along.

    Args:
        path: the file to write.
        format: by default that of the path's suffix; ``smpl`` must be named.
        frame: axes and unit; by default the usual ones.

    Returns:
        The files written, the main one first.

    Raises:
        InputError: nobody in the scene; a suffix that is unknown or not the format's; a body that the format cannot
            hold; a folder that cannot be written.
        AssetError: the files of a licensed body are missing.
    """
    path = Path(path)
    format = format_of(path, format)
    frame = (frame or Frame()).or_else(_USUAL[format])
    if len(scene.people) == 0:
        raise InputError(f"there is nobody in this scene to write to {path.name}")
    if format == "smpl":
        write_smpl(scene, path, frame)
    elif format == "json":
        write_json(_with_joints(scene), path, frame)
    else:
        scene = posed(scene)
        if format == "glb":
            write_glb(scene, scene_faces(scene), path, frame)
        elif format == "ply":
            write_ply(scene, path, frame)
        elif format == "obj":
            return [path, write_obj(scene, path, frame)]
        else:
            write_npz(scene, path, frame)
    return [path]


def export_path(scene_path: str | Path, format: Format) -> Path:
    """Where the export of a scene file goes unless told: ``NAME.export.EXT`` (``NAME.smpl.npz``) beside it.

    Not ``NAME.glb`` and ``NAME.json``, which belong to the results of a photograph.
    """
    scene_path = Path(scene_path)
    name = scene_path.name.removesuffix(_SCENE_SUFFIX).removesuffix(".npz")
    return scene_path.with_name(f"{name}.{'smpl' if format == 'smpl' else 'export'}{_SUFFIXES[format]}")


def export_notes(format: Format, frame: Frame | None = None) -> tuple[str, ...]:
    """What a user should know of a file in this format and frame, whole sentences; also in the file itself."""
    frame = (frame or Frame()).or_else(_USUAL[format])
    if format == "glb":
        return glb_notes(frame)
    return unit_notes(frame) if format in ("npz", "json", "smpl") else ()


def format_of(path: str | Path, format: Format | None = None) -> Format:
    """The format of a file to write: the one asked for, checked against its suffix, or that of the suffix.

    Raises:
        InputError: a suffix that is unknown or not the format's, or the name of a scene file.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if format is None:
        of_suffix: dict[str, Format] = {_SUFFIXES[name]: name for name in FORMATS if name != "smpl"}
        if suffix not in of_suffix:
            raise InputError(f"cannot tell the format of {path.name}; end it in one of {', '.join(of_suffix)}")
        format = of_suffix[suffix]
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    if suffix != _SUFFIXES[format]:
        raise InputError(f"format {format} is saved as {_SUFFIXES[format]}, got {path.name}")
    if path.name.lower().endswith(_SCENE_SUFFIX):
        raise InputError(f"{path.name} is the name of a scene file; choose another ending than {_SCENE_SUFFIX}")
    return format


def _with_joints(scene: Scene) -> Scene:
    """The scene with joints for the table, where its parameters give any."""
    people = scene.people
    can_be_posed = people.body != "rigid" and people.pose is not None and people.shape is not None
    return posed(scene) if people.vertices_m is None and can_be_posed else scene
