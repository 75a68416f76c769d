"""Photographs in: any common image file to an upright 8-bit RGB array."""

from __future__ import annotations

import glob
import io
import struct
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from crowdmesh.errors import FormatError, InputError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
"""File name endings that count as photographs when a folder is given (any case)."""

MIN_SIDE_PX = 16
"""Smallest accepted image side; no person can be found in less."""

# Pillow's plugins for the formats that OpenCV decodes for us, by how their files begin (``Image.open`` would refuse
# images of 179 megapixels), and OpenCV's own limits.
_READERS = (
    (b"\xff\xd8\xff", "JpegImagePlugin", "JpegImageFile"), (b"\x89PNG\r\n\x1a\n", "PngImagePlugin", "PngImageFile"),
    (b"RIFF", "WebPImagePlugin", "WebPImageFile"), (b"BM", "BmpImagePlugin", "BmpImageFile"),
)  # fmt: skip
_MOST_SIDE_PX, _MOST_PX = 1 << 20, 1 << 30

# EXIF's tag for images that lie on their side.
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)


def read_image(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a JPEG, PNG, WebP, TIFF or BMP file as (H, W, 3) uint8 RGB, upright (EXIF orientation applied).

    Grey images get three equal channels; of 16-bit images the upper 8 bits are kept (full range assumed); transparency
    is ignored: the colours stored under it are used, whatever they are.

    Raises:
        InputError: no such file, or an image side shorter than 16 pixels.
        FormatError: empty, truncated, corrupt, or not an image of these formats.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"image {path} does not exist" if not path.exists() else f"image {path} is a folder; name a file"
        )
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read image {path}: {error.strerror}") from error
    return decode_image(data, str(path))


def decode_image(data: bytes | UInt8[np.ndarray, " N"], name: str) -> UInt8[np.ndarray, "H W 3"]:
    """The image of an encoded file, as from :func:`read_image`; messages say ``name``.

    Raises:
        InputError: an image side shorter than 16 pixels.
        FormatError: empty, truncated, corrupt, or not an image of these formats.
    """
    _check_content(data, name)
    image = _decode(np.frombuffer(data, np.uint8))
    if image is None:
        raise _undecodable(name)
    return check_image(image, f"image {name}")


def encoded_size(data: bytes, name: str) -> tuple[int, int]:
    """(height, width) of the upright image in an encoded file, from its header alone; messages say ``name``.

    A TIFF is decoded. Of other formats no pixel is looked at: they may be cut short.

    Raises:
        FormatError: empty, not an image of the formats of :func:`read_image`, or larger than it reads (2^20 pixels a
            side, 2^30 in all).
    """
    _check_content(data, name)
    if data.startswith((b"II", b"MM")):  # versions of Pillow differ in whether a TIFF's size is that of the upright one
        return decode_image(data, name).shape[:2]
    try:
        (width, height), exif = _header(data)
    except (OSError, ValueError, SyntaxError) as error:
        raise _undecodable(name) from error
    if max(width, height) > _MOST_SIDE_PX or width * height > _MOST_PX:
        raise _undecodable(name)
    return (width, height) if _lies(exif) else (height, width)


def _header(data: bytes) -> tuple[tuple[int, int], bytes | None]:
    """Width, height and EXIF block of an encoded file; SyntaxError if it is of no format that is read."""
    for beginning, module, reader in _READERS:
        if data.startswith(beginning):
            with getattr(import_module(f"PIL.{module}"), reader)(io.BytesIO(data)) as image:
                return image.size, _exif_of_png(data) if module == "PngImagePlugin" else image.info.get("exif")
    raise SyntaxError("it is of no known format")


def _exif_of_png(data: bytes) -> bytes | None:
    """The EXIF block, which may stand before or behind the pixels."""
    at = 8
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + length]
        at += 12 + length
    return None


def _lies(exif: bytes | None) -> bool:
    """Whether an EXIF block says that width and height are to be exchanged; a damaged one says nothing."""
    from PIL import Image

    if not exif:
        return False
    told = Image.Exif()
    try:
        told.load(exif)
        return told.get(_ORIENTATION, 1) in _LYING
    except (OSError, ValueError, SyntaxError, LookupError, struct.error):
        return False


def check_image(image: UInt8[np.ndarray, "H W 3"], name: str = "the image") -> UInt8[np.ndarray, "H W 3"]:
    """The image itself, if it is (H, W, 3) uint8 of at least 16 x 16 pixels.

    Raises:
        InputError: it is not; the message begins with ``name``.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"{name} must be a (height, width, 3) uint8 RGB array, got {what}")
    height, width = image.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise InputError(f"{name} has {width}x{height} pixels; at least {MIN_SIDE_PX}x{MIN_SIDE_PX} are needed")
    return image


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The image files meant by files, folders and glob patterns: sorted, each once.

    A folder stands for the images directly in it, a pattern for the images it matches (``**`` descends into folders);
    there, images are told by their file name ending and hidden files do not count. A file named itself is taken
    whatever its name, and a path that exists is never read as a pattern.

    Raises:
        InputError: one of the paths stands for no image at all.
    """
    paths = list(paths)
    if not paths:
        raise InputError("name at least one photo, folder or pattern")
    found: dict[Path, Path] = {}
    for entry in paths:
        files = _expand(Path(entry))
        if not files:
            kinds = ", ".join(sorted(SUFFIXES))
            raise InputError(f"no image found at {entry}; name a file, a folder or a pattern with images ({kinds})")
        for file in files:
            found.setdefault(file.resolve(), file)
    return sorted(found.values())


def _expand(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    candidates = path.iterdir() if path.is_dir() else map(Path, glob.iglob(str(path), recursive=True))
    return [file for file in candidates if _looks_like_image(file)]


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _check_content(data: bytes | np.ndarray, name: str) -> None:
    if not len(data):
        raise FormatError(f"image {name} is empty (0 bytes); copy or download it again")


def _undecodable(name: str) -> FormatError:
    return FormatError(f"{name} is truncated, corrupt or not a JPEG, PNG, WebP, TIFF or BMP image; check the file")


def _decode(data: UInt8[np.ndarray, " N"]) -> UInt8[np.ndarray, "H W 3"] | None:
    """OpenCV's decoder with its messages to the error stream turned off; ``None`` when it cannot."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
