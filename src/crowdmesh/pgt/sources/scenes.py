"""Scenes as a source: those of this package, or what other systems wrote about many images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from crowdmesh._files import reading
from crowdmesh.adapters.reading import ADAPTERS, AUTO, PeopleFile
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import AssetError, CrowdMeshError, FormatError, InputError
from crowdmesh.experts.depth_file import read_depth
from crowdmesh.images import SUFFIXES
from crowdmesh.pgt.records import Entry, Outcome, Sample
from crowdmesh.pgt.sources._image_files import DiskError, ImageFiles, is_image, shared_folders, upright_size
from crowdmesh.pgt.sources._names import clean_name
from crowdmesh.scene import Scene

SCENE = ".scene.npz"
"""Ending of the scenes that this package writes."""

DEPTHS = (".depth.npz", ".depth.npy")
"""Endings of depth maps beside people: ``NAME.depth.npz`` belongs to ``NAME.scene.npz`` and to image ``NAME.jpg``."""

_OTHERS = (".npz", ".npy", ".json", ".pkl", ".pickle", ".joblib", ".pt", ".pth")
_NOT_PEOPLE = (*DEPTHS, ".before.npz")


class SceneSource:
    """Scenes of a folder tree; a :class:`~crowdmesh.pgt.sources.base.Source`.

    ``a/NAME.scene.npz`` is one image, ``a/NAME``. Where a tree holds none, its other files are those of another system
    (:mod:`crowdmesh.adapters`), of one image or of many, called as there. Hidden files are left out, links to folders
    are not followed. No image is called after a photograph that may come or go.

    The image of ``a/NAME.scene.npz`` is ``a/NAME.jpg`` (or another image ending) beside it or under ``images``, else
    the one in ``a`` that the scene itself names as its source; one that is nowhere is taken out of the scene, if it is
    in it. Its depth map is ``a/NAME.depth.npz`` or ``.depth.npy`` beside it. Images and depth maps of other systems'
    files are looked up by the names there, or by tails of them that no other image of the file shares.

    Attributes:
        data: the folder, or one file. images: where the images lie. dataset: the name of the folder or file.
        adapter: whose files they are; ``"auto"``: whichever system each looks like.
        unpickle: read pickled files, without running anything in them.
        vertical_fov: in radians, where files hold no camera.
    """

    kind = "scenes"
    needs_experts = False
    licences = ("people of other systems: the licences of these systems and of their body models",)

    def __init__(
        self,
        data: str | Path,
        images: str | Path | None = None,
        adapter: str = AUTO,
        unpickle: bool = False,
        vertical_fov: float | None = None,
    ) -> None:
        """Name the folder.

        Raises:
            InputError: it, or the one of images, does not exist, or there is no such adapter.
        """
        self.data = Path(data)
        if not self.data.exists():
            raise InputError(f"scenes {data} do not exist; name a folder of them, or one file")
        self.root = self.data if self.data.is_dir() else self.data.parent
        self.images = Path(images) if images is not None else self.root
        if not self.images.is_dir():
            raise InputError(f"the folder of images {images} does not exist")
        if adapter != AUTO and adapter not in ADAPTERS:
            raise InputError(f"unknown adapter {adapter!r}; use {AUTO}, {', '.join(ADAPTERS)}")
        self.dataset = (self.data.resolve().name if self.data.is_dir() else self.data.name.split(".")[0]) or "scenes"
        self.adapter, self.unpickle, self.vertical_fov = adapter, unpickle, vertical_fov

    def signature(self) -> dict[str, Any]:
        """Kind, name and how files are read; scenes that come later become part of the set."""
        return {
            "kind": self.kind,
            "data_sets": [self.dataset],
            "adapter": self.adapter,
            "vertical_fov": self.vertical_fov,
        }

    def entries(self) -> Iterator[Entry]:
        """Every image once; files that cannot be read count as one image, whose sample says what is wrong.

        Raises:
            InputError: there is no file of people, or a folder cannot be read.
        """
        empty, files = True, ImageFiles(self.images)
        for part in self._files():
            empty = False
            if part.endswith(SCENE):
                path = part.removesuffix(SCENE)
                yield Entry(self.dataset, path, part, found=self._image_of_scene(path, part) is not None)
            else:
                yield from self._people_entries(part, files)
        if empty:
            raise InputError(f"there are no scenes in {self.data}: no *{SCENE} and no file of another system")

    def notes(self) -> list[str]:
        """Nothing."""
        return []

    def load(self, entries: Sequence[Entry]) -> Iterator[Sample]:
        """The scene of each image, with its image and depth map as far as they are there."""
        files = ImageFiles(self.images)
        for _, group in groupby(entries, key=lambda entry: entry.part):
            for entry in group:
                try:
                    yield self._sample(entry, files)
                except (AssetError, DiskError):  # SMPL is missing, say: every image alike
                    raise
                except CrowdMeshError as error:
                    yield Sample(entry, problem=(Outcome.LABELS_INVALID, " ".join(str(error).split())))

    def _sample(self, entry: Entry, files: ImageFiles) -> Sample:
        if entry.part.endswith(SCENE):
            name = entry.part.removesuffix(SCENE)
            image = self._image_of_scene(name, entry.part)
            scene = Scene.load(self.root / entry.part)
            kept = name.count("/") + 1
        else:
            people = _opened(self.root / entry.part, self.adapter, self.unpickle)
            if entry.row >= len(people.names):
                raise FormatError(f"{entry.part} has no image number {entry.row} any more; build the set anew")
            kept = _opened_images(self.root / entry.part, entry.part, self.adapter, self.unpickle)[entry.row][1]
            image = self._image_named(entry.path, files, kept)
            size = upright_size(image) if image is not None else None
            scene = people.scene(people.names[entry.row], size, self.vertical_fov)
            name = os.path.splitext(entry.path)[0] if is_image(entry.path) else entry.path
        encoded = _png(scene.image) if image is None and scene.image is not None else None
        bare = Scene(scene.camera, scene.people, None, scene.provenance)
        return Sample(entry, image, encoded, bare, self._depth(name, kept))

    def _depth(self, name: str, kept: int) -> RelativeDepth | None:
        """The depth map that is called so, or like a tail of it that has so many parts at least."""
        parts = name.split("/")
        for first in range(len(parts) - kept + 1):
            for ending in DEPTHS:
                if (file := self.root / f"{'/'.join(parts[first:])}{ending}").is_file():
                    return read_depth(file)
        return None

    def _image_of_scene(self, path: str, part: str) -> Path | None:
        """Where the image of a scene lies: exactly where the scene does, or there under ``images``."""
        for name in _with_endings(path):
            if (found := self._exactly(name)) is not None:
                return found
        source = _source_of(self.root / part)
        return None if source is None else self._exactly(str(PurePosixPath(path).with_name(source)))

    def _exactly(self, name: str) -> Path | None:
        places = (root / name for root in dict.fromkeys((self.root, self.images)))
        return next((place for place in places if place.is_file()), None)

    def _image_named(self, path: str, files: ImageFiles, kept: int) -> Path | None:
        """Where the image lies that a file of another system names: beside that file, else anywhere under ``images``.

        Args:
            kept: how many last parts of the name tell it from the file's others.
        """
        for name in _with_endings(path) if not is_image(path) else [path]:
            if (beside := self.root / name).is_file():
                return beside
            if (found := files.find(self.dataset, name, kept)) is not None:
                return self.images / found
        return None

    def _people_entries(self, part: str, files: ImageFiles) -> Iterator[Entry]:
        try:
            names = _opened(self.root / part, self.adapter, self.unpickle).names
        except AssetError:
            raise
        except CrowdMeshError:
            names = [""]  # load says what is wrong
        for row, (path, kept) in enumerate(_images_of(part, names)):
            yield Entry(self.dataset, path, part, row, found=self._image_named(path, files, kept) is not None)

    def _files(self) -> Iterator[str]:
        """Relative POSIX path of every file of people, sorted by name folder by folder."""
        if self.data.is_file():
            yield self.data.name
            return
        scenes = self.adapter == AUTO and any(name.endswith(SCENE) for _, name in self._walk())
        for folder, name in self._walk():
            if not name.endswith(SCENE) if scenes else not _is_of_others(name):
                continue
            part = (Path(folder) / name).relative_to(self.data).as_posix()
            if not part.isascii() and os.fsencode(part).decode("utf-8", "replace") != part:
                raise InputError(f"a name in {folder} is not in UTF-8 ({os.fsencode(part)!r}); rename it")
            yield part

    def _walk(self) -> Iterator[tuple[str, str]]:
        """Folder and name of every file that is not hidden, sorted by name folder by folder."""
        for folder, folders, names in os.walk(self.data, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from ((folder, name) for name in sorted(names) if not name.startswith("."))


@lru_cache(maxsize=1)
def _opened(path: Path, adapter: str, unpickle: bool) -> PeopleFile:
    """The file that was asked for last stays open: its images are asked for one after the other."""
    return PeopleFile(path, adapter, unpickle)


@lru_cache(maxsize=1)
def _opened_images(path: Path, part: str, adapter: str, unpickle: bool) -> list[tuple[str, int]]:
    return _images_of(part, _opened(path, adapter, unpickle).names)


def _images_of(part: str, names: Sequence[str]) -> list[tuple[str, int]]:
    """What the images of another system's file are called: as there, in the file's folder, else after the file.

    With each how many last parts of it tell it from the others; all, if the file does not name it.
    """
    folder, stem = os.path.split(part.rsplit(".", 1)[0])
    paths, named = [], []
    for row, name in enumerate(names):
        try:
            paths.append(os.path.join(folder, clean_name(name) if name else stem))
            named.append(bool(name))
        except ValueError:
            paths.append(os.path.join(folder, f"{stem}-{row}"))
            named.append(False)
    shared = len(shared_folders(path for path, known in zip(paths, named, strict=True) if known))
    return [(path, path.count("/") + 1 - shared * known) for path, known in zip(paths, named, strict=True)]


def _is_of_others(name: str) -> bool:
    return name.lower().endswith(_OTHERS) and not name.endswith((*_NOT_PEOPLE, SCENE))


def _with_endings(name: str) -> list[str]:
    """The files that an image of a name may be."""
    return [name] * is_image(name) + [f"{name}{suffix}" for suffix in sorted(SUFFIXES)]


def _source_of(scene: Path) -> str | None:
    """The name of the photograph that a scene says it was made from, from its header alone."""
    try:
        with reading(scene, "CrowdMesh scene"), np.load(scene, allow_pickle=False) as arrays:
            name = json.loads(str(arrays["header"]))["provenance"]["source"]
            clean = PurePosixPath(clean_name(name)).name
    except CrowdMeshError:
        return None
    return clean if is_image(clean) else None


def _png(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def _refuse(error: OSError) -> None:
    raise InputError(f"cannot read folder {error.filename}: {error.strerror}") from error
