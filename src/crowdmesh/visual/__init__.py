"""Pictures and exports of a scene: overlay, bird's-eye view, side view, whole figures, GLB."""

from crowdmesh.visual.comparison import comparison_picture
from crowdmesh.visual.export import save_glb
from crowdmesh.visual.overlay import overlay
from crowdmesh.visual.palette import person_colors
from crowdmesh.visual.picture import save_png, scene_picture
from crowdmesh.visual.topview import side_view, top_view

__all__ = [
    "comparison_picture",
    "overlay",
    "person_colors",
    "save_glb",
    "save_png",
    "scene_picture",
    "side_view",
    "top_view",
]
