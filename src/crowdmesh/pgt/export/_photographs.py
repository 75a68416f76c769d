"""The photograph that a set refers to: found again, and checked to be the one the set was built from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from crowdmesh.errors import CrowdMeshError
from crowdmesh.images import encoded_size
from crowdmesh.pgt.records import Sample
from crowdmesh.pgt.sources._image_files import content_of

MISSING, CHANGED = "missing", "changed"

# How the files of each kind begin.
_BEGINNINGS = (
    ("jpg", b"\xff\xd8\xff"), ("png", b"\x89PNG\r\n\x1a\n"), ("webp", b"RIFF"), ("bmp", b"BM"), ("tif", b"II*\x00"),
    ("tif", b"MM\x00*"),
)  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """The photograph as the set knows it.

    Attributes:
        sha256: of its file; ``None``: it was not there when the set was built, and its size alone is known.
        width, height: upright, pixels.
    """

    sha256: str | None
    width: int
    height: int


@dataclass(frozen=True)
class Photograph:
    """An encoded photograph and which kind of file it is (``jpg``, ``png`` ...)."""

    content: bytes
    suffix: str
    sha256: str


@dataclass(frozen=True)
class Absent:
    """Why a photograph is not packed: ``missing`` or ``changed``, and a sentence that says more."""

    reason: str
    detail: str


def photograph_of(sample: Sample, expected: Expected) -> Photograph | Absent:
    """The photograph of a sample, if it is the one that is expected.

    Raises:
        InputError: the disk or share it lies on cannot be read at the moment.
    """
    where = f"image {sample.image or sample.entry.key}"
    if sample.encoded is not None:
        content = sample.encoded
    elif sample.image is None:
        detail = sample.problem[1] if sample.problem else f"{where} is not there"
        return Absent(MISSING, detail)
    else:
        try:
            content = content_of(sample.image)
        except OSError as error:
            return Absent(MISSING, f"{where} cannot be read: {error.strerror}")
    digest = hashlib.sha256(content).hexdigest()
    if expected.sha256 is not None and digest != expected.sha256:
        return Absent(CHANGED, f"{where} is another file than the set was built from")
    if expected.sha256 is None and (wrong := _other_size(content, where, expected)):
        return Absent(CHANGED, wrong)
    suffix = _suffix(content)
    if suffix is None:
        return Absent(CHANGED, f"{where} is no JPEG, PNG, WebP, TIFF or BMP file")
    return Photograph(content, suffix, digest)


def _other_size(content: bytes, where: str, expected: Expected) -> str | None:
    """One sentence if the upright image has another size than it should."""
    try:
        height, width = encoded_size(content, where)
    except CrowdMeshError as error:
        return str(error)
    if (width, height) == (expected.width, expected.height):
        return None
    return f"{where} has {width}x{height} pixels, and the set knows one of {expected.width}x{expected.height}"


def _suffix(content: bytes) -> str | None:
    """What the file is, whatever it is called."""
    for suffix, beginning in _BEGINNINGS:
        if content.startswith(beginning):
            return suffix
    return None
