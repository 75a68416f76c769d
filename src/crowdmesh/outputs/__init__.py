"""What a user gets per photograph, whoever reconstructed it: a scene file, a picture, a mesh file and a table."""

from crowdmesh.outputs.batch import PhotoResult, process_photos
from crowdmesh.outputs.files import detailed, write_outputs
from crowdmesh.outputs.photo import PhotoOutput

__all__ = ["PhotoOutput", "PhotoResult", "detailed", "process_photos", "write_outputs"]
