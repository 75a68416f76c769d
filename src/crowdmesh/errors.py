"""The errors a user of CrowdMesh can meet: each message is one sentence saying what, where, and what to do."""


class CrowdMeshError(Exception):
    """Base class of every error CrowdMesh raises on purpose."""


class InputError(CrowdMeshError, ValueError):
    """Something given by the caller cannot be used: wrong shape, unit, value, file or size."""


class FormatError(CrowdMeshError):
    """A file exists but does not hold what its format promises (corrupt, truncated, other version)."""


class AssetError(CrowdMeshError):
    """A downloadable file (network weights, body model) is missing, unreachable or not what it should be."""
