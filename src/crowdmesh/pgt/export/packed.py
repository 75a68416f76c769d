"""One image in a tar shard: the photograph's file as it is, and everything known of its people beside it.

``NAME.safetensors`` holds the arrays, and in its header the one entry ``crowdmesh``, a JSON object. (One entry, because
safetensors writes several in random order, and the same set shall give the same bytes.) docs/exports.md lists both.
"""

from __future__ import annotations

import json
import math
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from crowdmesh._files import reading
from crowdmesh._weights_file import ENTRY, SUFFIX
from crowdmesh.errors import FormatError, InputError
from crowdmesh.people import PersonStatus
from crowdmesh.pgt.reading import BuiltScene

FORMAT = "crowdmesh-packed"
FORMAT_VERSION = 1

UNITS = {
    "length": "metre",
    "angle": "radian",
    "age": "year",
    "image": "pixels of the upright image (EXIF orientation applied), centres at +0.5",
    "frame": "OpenCV: x right, y down, z forward; the camera is the origin",
}
_WHAT = "tar shard of CrowdMesh"
_EVIDENCE = (
    "boxes_px", "scores", "keypoints_px", "age_years", "age_std_years", "male_probability", "known_stature_m",
    "fit_error_px",
)  # fmt: skip
_PLACEMENT = ("standardised_residual", "depth_std_m", "stature_std_m")


@dataclass(frozen=True, eq=False)
class PackedImage:
    """One image read from a tar shard.

    Attributes:
        name: of its members in the tar. key: of the image in the set it was packed from.
        image: the photograph as an encoded file. suffix: which kind of file: ``jpg``, ``png`` ...
        arrays: per person unless docs/exports.md says otherwise; float32 and int64.
        metadata: everything else.
    """

    name: str
    key: str
    dataset: str
    image: bytes
    suffix: str
    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]


def packed_people(scene: BuiltScene, sha256: str, licences: tuple[str, ...], config_hash: str) -> bytes:
    """The content of ``NAME.safetensors`` for one image that has people.

    Args:
        sha256: digest of the image's file. licences: of the source. config_hash: of the set.
    """
    assert scene.after is not None
    statuses = [PersonStatus(int(status)).name.lower() for status in scene.after.people.status]  # type: ignore[union-attr]
    metadata = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "key": scene.key,
        "dataset": scene.dataset,
        "path": scene.path,
        "image_sha256": sha256,
        "body": scene.after.people.body,
        "outcome": str(scene.outcome),
        "score": scene.score if scene.score is not None and math.isfinite(scene.score) else None,
        "statuses": statuses,
        "origins": list(scene.origins),
        "units": UNITS,
        "licences": list(licences),
        "set": config_hash,
    }
    return save(_arrays(scene), {ENTRY: json.dumps(metadata, ensure_ascii=False, sort_keys=True)})


def _arrays(scene: BuiltScene) -> dict[str, np.ndarray]:
    assert scene.before is not None and scene.after is not None
    people, before, camera = scene.after.people, scene.before.people, scene.after.camera
    values: dict[str, Any] = {
        "intrinsics": np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]),
        "image_size": np.array([camera.width, camera.height]),
        "pose": people.pose,
        "shape": people.shape,
        "translation_m": people.translation_m,
        "stature_m": people.stature_m,
        "shape_before": before.shape,
        "translation_before_m": before.translation_m,
        "stature_before_m": before.stature_m,
        "status": people.status,
        "label_rows": scene.label_rows,
    }
    values |= {name: getattr(people, name) for name in _EVIDENCE}
    values |= {name: scene.placement.get(name) for name in _PLACEMENT}
    known = {name: np.asarray(value) for name, value in values.items() if value is not None}
    return {
        name: np.ascontiguousarray(value, np.float32 if value.dtype.kind == "f" else np.int64)
        for name, value in known.items()
    }


def read_webdataset(path: str | Path) -> Iterator[PackedImage]:
    """The images of a tar shard, or of all tar shards of a folder in the order of their names, one by one.

    Raises:
        InputError: there is no such file, or no tar in the folder.
        FormatError: a damaged tar, or one that CrowdMesh did not write.
    """
    path = Path(path)
    tars = [path]
    if path.is_dir():
        tars = sorted(tar for tar in path.glob("*.tar") if not tar.name.startswith("."))  # hidden: not yet finished
    if not tars or not all(tar.is_file() for tar in tars):
        raise InputError(f"there is no tar shard at {path}; make some with crowdmesh build --export webdataset")
    return (image for tar in tars for image in _read_tar(tar))


def _read_tar(path: Path) -> Iterator[PackedImage]:
    photograph: tuple[str, str, bytes] | None = None
    for name, content in _members(path):
        stem, _, suffix = name.partition(".")
        if f".{suffix}" != SUFFIX:
            if photograph is not None:
                raise FormatError(f"{path} has no people beside the image {'.'.join(photograph[:2])}; pack it again")
            photograph = stem, suffix, content
            continue
        if photograph is None or photograph[0] != stem:
            raise FormatError(f"{path} has no image right before {name}; pack it again")
        with reading(path, _WHAT):
            arrays, metadata = _parse(content, name)
        yield PackedImage(stem, metadata["key"], metadata["dataset"], photograph[2], photograph[1], arrays, metadata)
        photograph = None
    if photograph is not None:
        raise FormatError(f"{path} has no people beside the image {'.'.join(photograph[:2])}; pack it again")


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file in a tar that is not compressed."""
    with _damage(path):
        tar = tarfile.open(path, "r:")  # noqa: SIM115 (closed below)
    with tar:
        while True:
            with _damage(path):
                member = tar.next()
                if member is None:
                    _check_end(tar)
                    return
                content = _content(tar, member)
            yield member.name, content
            tar.members = []  # type: ignore[attr-defined]  # it would keep a list of them all


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() else None
    if file is None:
        raise ValueError(f"its member {member.name} is no file")
    content = file.read()
    if len(content) != member.size:
        raise ValueError(f"it ends in the middle of {member.name}")
    return content


def _check_end(tar: tarfile.TarFile) -> None:
    """A tar ends with empty blocks; Python takes a damaged header for the end too."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise ValueError(f"it is truncated or damaged at byte {tar.offset}")


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    with reading(path, _WHAT):
        try:
            yield
        except tarfile.TarError as error:
            raise ValueError(str(error)) from error


def _parse(content: bytes, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    try:
        arrays = load(content)
    except SafetensorError as error:
        raise ValueError(f"its member {name} is damaged: {error}") from error
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = json.loads(header.get("__metadata__", {}).get(ENTRY, "{}"))
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"its member {name} does not say that it is of CrowdMesh")
    if type(metadata.get("version")) is not int or not 1 <= metadata["version"] <= FORMAT_VERSION:
        raise ValueError(
            f"its member {name} has format {metadata.get('version')}, this CrowdMesh reads up to {FORMAT_VERSION}; "
            "update crowdmesh"
        )
    if not all(isinstance(metadata.get(entry), str) for entry in ("key", "dataset", "body", "outcome")):
        raise ValueError(f"its member {name} lacks the name, body or outcome of the image")
    return arrays, metadata
