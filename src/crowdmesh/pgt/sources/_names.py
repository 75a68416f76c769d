"""Names of images in label files: one image gets one name, whoever wrote it down on whichever machine."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Data sets whose labels come in several files or by several names, and how many last parts of a path name an image
# there, as the released code groups them. Any other data set: the whole path.
_PARTS = {"insta": 3, "coco": 1, "aic": 1, "mpii": 1}
_RELEASED_PREFIX = {"insta": "insta-train/"}

_ENDINGS = re.compile(r"(_chmr_smpl_opt|_chmr_smpl|[-_]release|[-_]opt|_annots)$", re.IGNORECASE)
_NUMBERED = re.compile(r"insta\d*", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f]")
_DRIVE = re.compile(r"^[A-Za-z]:(?=/|$)")
_LONGEST = 4096


def data_set_of(stem: str) -> str:
    """The data set a label file belongs to, from its name without the suffix: ``insta1-release`` is of ``insta``."""
    name = _ENDINGS.sub("", unicodedata.normalize("NFC", stem)) or stem
    if _NUMBERED.fullmatch(name):
        return "insta"
    return name.lower() if name.lower() in _PARTS else name


def clean_name(name: Any) -> str:
    """An image's name as a relative POSIX path in NFC.

    Bytes are UTF-8. Drives (``C:``), leading, doubled and turned slashes and ``.`` are taken off.

    Raises:
        ValueError: no text, no name, or one that leads out of its folder; one clause.
    """
    text = name.decode("utf-8") if isinstance(name, bytes) else name
    if not isinstance(text, str):
        raise ValueError(f"its image name must be text, got {type(text).__name__}")
    if len(text) > _LONGEST:
        raise ValueError(f"its image name has {len(text)} characters")
    text.encode("utf-8")  # half a character of UTF-16 is no text
    path = unicodedata.normalize("NFC", text).replace("\\", "/")
    parts = [part for part in _DRIVE.sub("", path).split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"its image name {text!r} leads out of the folder of images")
    if not parts or _CONTROL.search(path):
        raise ValueError(f"its image name {text!r} names no file")
    return "/".join(parts)


def path_in(data_set: str, name: str) -> str:
    """What an image is called within its data set: rows with the same path are people of one image.

    Args:
        name: as :func:`clean_name` gives it.
    """
    name = name.removeprefix(_RELEASED_PREFIX.get(data_set, "")) or name
    return "/".join(name.split("/")[-_PARTS.get(data_set, 0) :])
