"""Pictures and exports of a scene; the page in the browser is ``crowdmesh.visual.viewer``."""

from crowdmesh.visual._crowd import scene_faces
from crowdmesh.visual.comparison import comparison_picture
from crowdmesh.visual.export import Frame, export_notes, export_path, export_scene, save_glb
from crowdmesh.visual.overlay import overlay
from crowdmesh.visual.palette import person_colors
from crowdmesh.visual.picture import save_png, scene_picture
from crowdmesh.visual.topview import side_view, top_view

__all__ = [
    "Frame",
    "comparison_picture",
    "export_notes",
    "export_path",
    "export_scene",
    "overlay",
    "person_colors",
    "save_glb",
    "save_png",
    "scene_faces",
    "scene_picture",
    "side_view",
    "top_view",
]
