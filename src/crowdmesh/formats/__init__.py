"""Readers of the public data sets' annotation files. Pickled files are opened on demand only, and then safely."""

from crowdmesh.formats.agora import read_agora
from crowdmesh.formats.bedlam import read_bedlam
from crowdmesh.formats.hi4d import read_hi4d
from crowdmesh.formats.mupots import MuPoTSPerson, read_mupots
from crowdmesh.formats.panoptic import PanopticPeople, read_panoptic
from crowdmesh.formats.pw3d import read_3dpw
from crowdmesh.formats.relative_human import RelativeHumanPerson, read_relative_human
from crowdmesh.formats.smpl_people import SMPLPeople

__all__ = [
    "MuPoTSPerson",
    "PanopticPeople",
    "RelativeHumanPerson",
    "SMPLPeople",
    "read_3dpw",
    "read_agora",
    "read_bedlam",
    "read_hi4d",
    "read_mupots",
    "read_panoptic",
    "read_relative_human",
]
