"""Catalog of the downloadable files (network weights) CrowdMesh uses, and the way to a checked copy on this machine.

Nothing of this ships with the package. A file is looked for in the folders named by the environment variable
``CROWDMESH_ASSETS`` (several are separated like ``PATH``), then in the user cache, and otherwise downloaded into that
cache. Whatever is handed out has the SHA-256 written here.
"""

from __future__ import annotations

import functools
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Protocol, runtime_checkable

from crowdmesh._files import atomic_path, sha256
from crowdmesh.errors import AssetError, InputError

TIMEOUT_S = 30.0
"""Longest silence of a server, in seconds, before a download counts as failed."""

_CHUNK_BYTES = 1 << 18


@runtime_checkable
class Weights(Protocol):
    """What a network needs from outside the package: an :class:`Asset`, a ``hub.HubModel`` or a :class:`UserFile`."""

    @property
    def name(self) -> str:
        """What it is called in lists and provenance."""
        ...

    @property
    def licence(self) -> str:
        """Its licence, as far as its source states one."""
        ...

    def find(self) -> Path | None:
        """The copy on this machine, unchecked; ``None`` if there is none."""
        ...

    def fetch(self) -> Path:
        """A checked copy on this machine, downloaded if that is possible; AssetError where it is not."""
        ...

    def defect(self, path: Path) -> str | None:
        """What is wrong with a copy, as a clause; ``None``: nothing."""
        ...

    def remedy(self) -> str:
        """How to get it, as a clause for tables."""
        ...

    def fingerprint(self) -> str:
        """What identifies the content that is used here; "" where there is no copy."""
        ...


@dataclass(frozen=True)
class Asset:
    """One downloadable file.

    Attributes:
        name: file name it is stored under.
        url: where it is downloaded from, pinned to one commit.
        sha256: hexadecimal digest of its content.
        size_bytes: its length.
        licence: its licence, as far as its source states one.
        source: what it is and who made it.
        group: the set it belongs to, also the name of its folder in the cache.
    """

    name: str
    url: str
    sha256: str
    size_bytes: int
    licence: str
    source: str
    group: str

    def find(self) -> Path | None:
        """The first file of that name, at ``FOLDER/NAME`` or ``FOLDER/GROUP/NAME``; ``None`` if there is none.

        Only existence is looked at; :meth:`fetch` also checks the content.
        """
        return find_file(self.name, self.group)

    def fetch(self) -> Path:
        """Path of a copy with the right SHA-256, downloading it into the cache (with a progress bar) if it is nowhere.

        Raises:
            AssetError: the copy found is truncated or another file, or there is none and it cannot be downloaded.
        """
        path = self.find()
        if path is None:
            return download(self, cache_folder() / self.group / self.name)
        if problem := self.defect(path):
            raise AssetError(f"{path} {problem}; delete it (it is then downloaded from {self.url}) or replace it")
        return path

    def defect(self, path: Path) -> str | None:
        """What is wrong with a file that should be the asset, as a clause; an unchanged file is hashed only once."""
        try:
            size = path.stat().st_size
            if size != self.size_bytes:
                return f"has {size} bytes instead of {self.size_bytes} (truncated or another file)"
            digest = digest_of(path)
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if digest == self.sha256:
            return None
        return f"has SHA-256 {digest} instead of {self.sha256} (corrupt or another version)"

    def remedy(self) -> str:
        """How to get it, as a clause for tables."""
        return f"downloaded on first use from {self.url}; offline: put it into {search_folders()[-1] / self.group}"

    def fingerprint(self) -> str:
        """The SHA-256 that every copy used has."""
        return self.sha256


@dataclass(frozen=True)
class UserFile:
    """A file that only the user may fetch, because its licence asks for a registration.

    Attributes:
        name: file name it is looked for under.
        group: its folder in the asset folders.
        licence: its licence, as far as its source states one.
        source: what it is, who made it, and where to get it.
        path: where the user says it is; ``None``: ``FOLDER/GROUP/NAME`` or ``FOLDER/NAME`` in the asset folders.
    """

    name: str
    group: str
    licence: str
    source: str
    path: Path | None = None

    def find(self) -> Path | None:
        """The user's copy; ``None`` if there is none."""
        if self.path is not None:
            return self.path if self.path.is_file() else None
        return find_file(self.name, self.group)

    def fetch(self) -> Path:
        """The user's copy.

        Raises:
            AssetError: there is none; the message says where to get it and where to put it.
        """
        path = self.find()
        if path is None:
            where = f"at {self.path}" if self.path is not None else "in the asset folders"
            raise AssetError(f"{self.name} is not {where}: {self.remedy()}")
        return path

    def defect(self, path: Path) -> str | None:
        """Nothing is known of its content."""
        return None

    def remedy(self) -> str:
        """How to get it, as a clause for tables."""
        return f"{self.source}; put it into {search_folders()[-1] / self.group}"

    def fingerprint(self) -> str:
        """SHA-256 of the user's copy."""
        path = self.find()
        return "" if path is None else digest_of(path)


def _github(repository: str, commit: str, path: str) -> str:
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


_MEDIAPIPE = functools.partial(_github, "google-ai-edge/mediapipe", "63e679d99ca45b30514a9d84c9351a2d77bb9ba0")
_FACE_API = functools.partial(_github, "justadudewhohacks/face-api.js", "a86f011d72124e5fb93e59d5c4ab98f699dd5c9c")

YOLOX_NANO = Asset(
    name="yolox_nano.onnx",
    url=_github("hamacom2004jp/iinfer", "c7f9a3c5216c6f8b3e8b35886f863dffa2dc0bf9", "models/yolox_nano.onnx"),
    sha256="d39bee73564e338080378b0ad567fbb40e818b55bbfaf971de82a0267ed16b8a",
    size_bytes=3_713_911,
    licence="Apache-2.0 (network), MIT (host)",
    source="YOLOX-nano, Megvii: boxes of the 80 COCO classes",
    group="lite",
)
POSE_DETECTION = Asset(
    name="pose_detection.tflite",
    url=_MEDIAPIPE("mediapipe/modules/pose_detection/pose_detection.tflite"),
    sha256="a63c614bef30d35947f13be361820b1e4e3bec9cfeebf4d11216a18373108e85",
    size_bytes=2_962_288,
    licence="Apache-2.0",
    source="MediaPipe BlazePose detector, Google: hips, size and rotation of a person",
    group="lite",
)
POSE_LANDMARKS = Asset(
    name="pose_landmark_lite.tflite",
    url=_MEDIAPIPE("mediapipe/modules/pose_landmark/pose_landmark_lite.tflite"),
    sha256="f17bfbecadb61c3be1baa8b8d851cc6619c870a87167b32848ad20db306b9d61",
    size_bytes=2_819_824,
    licence="Apache-2.0",
    source="MediaPipe BlazePose GHUM lite, Google: 33 body landmarks in 2D and 3D, person mask",
    group="lite",
)
FACE_DETECTION = Asset(
    name="face_detection_full_range.tflite",
    url=_MEDIAPIPE("mediapipe/modules/face_detection/face_detection_full_range.tflite"),
    sha256="99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    size_bytes=1_083_984,
    licence="Apache-2.0",
    source="MediaPipe full-range face detector, Google",
    group="lite",
)
FAST_DEPTH = Asset(
    name="fast_depth_224_int8.tflite",
    url=_github("openmv/openmv", "49a017eafd3aebda9b6b827bd2a367ded1592efc", "lib/models/fast_depth_224.tflite"),
    sha256="e8957602750f16ac130210868f4403b38b4042f0d10c00b89ec03fc3dc840125",
    size_bytes=1_680_480,
    licence="Apache-2.0 (network), MIT (most of the host)",
    source="FastDepth 8-bit, trained on NYUv2 (MIT; STMicroelectronics model zoo): relative depth",
    group="lite",
)
AGE_SEX_WEIGHTS = Asset(
    name="age_gender_model-shard1",
    url=_FACE_API("weights/age_gender_model-shard1"),
    sha256="49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa",
    size_bytes=429_708,
    licence="MIT",
    source="face-api.js age and gender network (small Xception), Vincent Mühler: weights",
    group="lite",
)
AGE_SEX_MANIFEST = Asset(
    name="age_gender_model-weights_manifest.json",
    url=_FACE_API("weights/age_gender_model-weights_manifest.json"),
    sha256="780ca481c12f6501c63e3551caa4df9bc4a05ffc5357060079b75badfd350d86",
    size_bytes=7_774,
    licence="MIT",
    source="face-api.js age and gender network: names, shapes and quantisation of the weights",
    group="lite",
)

LITE: tuple[Asset, ...] = (
    YOLOX_NANO,
    POSE_DETECTION,
    POSE_LANDMARKS,
    FACE_DETECTION,
    FAST_DEPTH,
    AGE_SEX_WEIGHTS,
    AGE_SEX_MANIFEST,
)
"""The files of the ``lite`` expert set, 13 MB together."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/crowdmesh``, by default ``~/.cache/crowdmesh``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "crowdmesh"


def search_folders() -> list[Path]:
    """The folders assets are looked for in, first come first served; they need not exist."""
    named = [Path(entry).expanduser() for entry in os.environ.get("CROWDMESH_ASSETS", "").split(os.pathsep) if entry]
    return [*named, cache_folder()]


def find_file(name: str, group: str) -> Path | None:
    """The first file ``FOLDER/NAME`` or ``FOLDER/GROUP/NAME`` in the asset folders; ``None`` if there is none."""
    candidates = (path for folder in search_folders() for path in (folder / name, folder / group / name))
    return next((path for path in candidates if path.is_file()), None)


def digest_of(path: Path) -> str:
    """SHA-256 of a file; an unchanged file is hashed only once."""
    stat = path.stat()
    return _sha256(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, _mtime_ns: int, _size_bytes: int) -> str:
    """SHA-256 of a file; remembered for as long as path, modification time and size stay the same."""
    return sha256(path)


def download(asset: Asset, target: Path) -> Path:
    """Download an asset to ``target``, checked; AssetError where that fails."""
    try:
        with atomic_path(target) as temporary:
            _transfer(asset, temporary)
            if problem := asset.defect(temporary):
                raise AssetError(f"the download of {asset.url} {problem}; try again later or check that address")
    except InputError as error:
        raise AssetError(f"cannot store {asset.name} in the user cache: {error}") from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        looked = ", ".join(map(str, search_folders()))
        raise AssetError(
            f"{asset.name} is in none of the asset folders ({looked}) and downloading {asset.url} failed ({reason}); "
            f"connect to the internet, or put the file into {target.parent} or a folder named by CROWDMESH_ASSETS"
        ) from error
    return target


def _transfer(asset: Asset, path: Path) -> None:
    """Copy the asset's URL into a file, showing a progress bar on the error stream; content is not checked here."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        urllib.request.urlopen(asset.url, timeout=TIMEOUT_S) as response,
        path.open("wb") as file,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task(asset.name, total=asset.size_bytes)
        received = 0
        # One chunk more than promised is enough to know that the file is not the asset.
        while received <= asset.size_bytes and (chunk := response.read(_CHUNK_BYTES)):
            file.write(chunk)
            received += len(chunk)
            progress.update(task, completed=received)
