"""MA-HMR: one photograph to everybody's mesh and the camera's field of view in one pass."""

from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.mahmr.model import MAHMR, MAHMROutput

__all__ = ["MAHMR", "MAHMRConfig", "MAHMROutput"]
