"""PersonDetector without a network: the people that another detector found, from files.

The way in for the paper's detector, Detectron2's Cascade Mask R-CNN on ViTDet-H. What belongs to an image is a
*record*:

    boxes_px  (K, 4)   left, top, right, bottom in pixels of the image
    scores    (K,)     confidence in [0, 1]
    masks     optional: (K, H, W) of 0 and 1, or (JSON only) K run-length codes of COCO's tools

Files are ``.json`` (an object) or ``.npz`` (an array per key). Either a folder with one file per image, named like it
(``STEM.json``, ``STEM.npz``; for the image ``.../a/b/STEM.jpg`` in ``a/b/``, else ``b/``, else directly in it), or one
file: with the record of the only image, or with those of many, as JSON ``{"IMAGE": record, ...}`` or as arrays
``IMAGE/KEY``, where IMAGE is the image's file name with or without its ending.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import read_npz, reading
from crowdmesh.assets import Weights
from crowdmesh.errors import FormatError, InputError
from crowdmesh.experts._files_by_name import FilesPerImage, file_of
from crowdmesh.experts._mask_codes import decode_coco, join_masks
from crowdmesh.experts._pretrained import LocalWeights
from crowdmesh.experts.base import Detections, InputImage
from crowdmesh.masks import Masks

_SUFFIXES = (".npz", ".json")
_KEYS = frozenset({"boxes_px", "scores", "masks"})


class DetectionsFromFile:
    """The people in files, in place of a detector: all of them are taken, whatever their score or overlap.

    Args:
        path: the folder or file.

    Raises:
        InputError: there is no such folder or file, or a file with another ending.
    """

    name = "detections from file"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._asked: Path | None = None
        if not self._path.exists():
            raise InputError(f"detections {path} do not exist; name a folder or a .json or .npz file")
        if self._path.is_file() and self._path.suffix not in _SUFFIXES:
            raise InputError(f"detections {path} must be a folder or a .json or .npz file")

    def sources(self) -> tuple[Weights, ...]:
        """The file or folder."""
        return (FilesPerImage(self._path) if self._path.is_dir() else LocalWeights(self._path),)

    def file_of(self, image: Path) -> Path | None:
        """The image's own file in a folder of detections; ``None`` if there is none."""
        return file_of(self._path, image, _SUFFIXES) if self._path.is_dir() else None

    def detect(self, images: Sequence[InputImage]) -> list[Detections]:
        """The people of each image, looked up by the name of its file; highest score first.

        Raises:
            InputError: an image without a file, or one that the detections do not know.
            FormatError: a damaged file, or numbers that cannot belong to the image.
        """
        return [self._detect(image) for image in images]

    def _detect(self, image: InputImage) -> Detections:
        if image.path is None:
            raise InputError(f"detections from {self._path} are looked up by file name; give the image as a file")
        record, where = self._record(image.path)
        return read_detections(record, image.height, image.width, where)

    def _record(self, image: Path) -> tuple[Mapping[str, Any], str]:
        """The record of an image, and what to call it in a message."""
        if self._path.is_dir():
            found = self.file_of(image)
            if found is None:
                wanted = " or ".join(f"{image.stem}{suffix}" for suffix in _SUFFIXES)
                raise InputError(f"detections {self._path} have no {wanted} for {image}")
            return _read(found), str(found)
        content = self._content
        if "boxes_px" in content:
            if self._asked not in (None, image):
                raise InputError(
                    f"detections {self._path} are those of one image, but {self._asked} and {image} were asked for; "
                    "name a folder with a file per image"
                )
            self._asked = image
            return content, str(self._path)
        for name in (image.name, image.stem):
            if isinstance(content.get(name), Mapping):
                return content[name], f"{self._path}, {name}"
        raise InputError(f"detections {self._path} do not know the image {image.name}")

    @cached_property
    def _content(self) -> Mapping[str, Any]:
        return _read(self._path)


def read_detections(record: Mapping[str, Any], height: int, width: int, where: str) -> Detections:
    """The people of one record, for an image of ``height`` x ``width`` pixels; highest score first.

    Raises:
        FormatError: fields are missing, unknown, of another shape, or cannot belong to the image; ``where`` is named.
    """
    if unknown := sorted(map(str, set(record) - _KEYS)):
        raise FormatError(f"{where}: unknown field {unknown[0]!r}; use {', '.join(sorted(_KEYS))}")
    boxes, scores = (_numbers(record, key, where) for key in ("boxes_px", "scores"))
    count = scores.size
    if boxes.size == 0 and count == 0:
        return Detections(np.zeros((0, 4)), np.zeros(0), join_masks(height, width, []))
    if boxes.shape != (count, 4) or scores.shape != (count,):
        raise FormatError(f"{where}: boxes_px {boxes.shape} and scores {scores.shape} must be (K, 4) and (K,)")
    if np.any((scores < 0.0) | (scores > 1.0)):
        raise FormatError(f"{where}: scores must lie between 0 and 1")
    inside = np.clip(boxes, 0.0, (width, height, width, height))
    if np.any(bad := np.any(inside[:, 2:] <= inside[:, :2], axis=1)):
        person = int(np.argmax(bad))
        raise FormatError(
            f"{where}: box {person}, {boxes[person].tolist()}, has no area in the image of {width}x{height} pixels; "
            "boxes are left, top, right, bottom in its pixels"
        )
    masks = None if record.get("masks") is None else _read_masks(record["masks"], count, height, width, where)
    order = np.argsort(-scores, kind="stable")
    return Detections(inside[order], scores[order], None if masks is None else masks[order])


def _read_masks(given: Any, count: int, height: int, width: int, where: str) -> Masks:
    if not isinstance(given, (list, np.ndarray)) or len(given) != count:
        raise FormatError(f"{where}: masks must be one mask for each of the {count} boxes")
    coded = []
    for person, code in enumerate(given):
        with reading(Path(where), f"list of masks (number {person})"):
            mask = decode_coco(code) if isinstance(code, Mapping) else np.asarray(code)
            if mask.shape != (height, width):
                size = "x".join(map(str, mask.shape[::-1]))
                raise ValueError(f"it has {size} pixels, the image has {width}x{height}")
            if not np.isin(mask, (0, 1)).all():
                raise ValueError("its values are not 0 and 1")
        coded.append(Masks.from_dense(mask[None].astype(bool)))
    return join_masks(height, width, coded)


def _numbers(record: Mapping[str, Any], key: str, where: str) -> np.ndarray:
    if key not in record:
        raise FormatError(f"{where}: {key} is missing")
    try:
        values = np.asarray(record[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}: {key} must be a regular array of numbers") from error
    if not np.isfinite(values).all():
        raise FormatError(f"{where}: {key} holds values that are not finite")
    return values


def _read(path: Path) -> Mapping[str, Any]:
    """The content of a file as a record, or as records by image."""
    if path.suffix == ".json":
        with reading(path, "JSON file of detections"):
            content = json.loads(path.read_text("utf-8"))
            if not isinstance(content, dict):
                raise ValueError("it is not an object")
            return content
    content: dict[str, Any] = {}
    for name, array in read_npz(path, "archive of detections").items():
        image, slash, key = name.rpartition("/")
        if slash:
            content.setdefault(image, {})[key] = array
        else:
            content[name] = array
    return content
