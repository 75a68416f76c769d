"""A scene as a file for other programs: meshes (GLB, PLY, OBJ), arrays (NPZ), a table (JSON), SMPL parameters."""

from crowdmesh.visual.export.frame import Frame, FrameName, Units, Up
from crowdmesh.visual.export.glb import save_glb
from crowdmesh.visual.export.write import FORMATS, Format, export_notes, export_path, export_scene, format_of

__all__ = [
    "FORMATS",
    "Format",
    "Frame",
    "FrameName",
    "Units",
    "Up",
    "export_notes",
    "export_path",
    "export_scene",
    "format_of",
    "save_glb",
]
