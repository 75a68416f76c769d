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
from crowdmesh.experts._files_by_name import file_of
from crowdmesh.experts.depth_file import read_depth
from crowdmesh.images import SUFFIXES
from crowdmesh.pgt.records import Entry, Outcome, Sample
from crowdmesh.pgt.sources._image_files import ImageFiles, upright_size
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

    ``NAME.scene.npz`` is one image. Where a folder holds none, its other files are those of another system
    (:mod:`crowdmesh.adapters`), of one image or of many. Hidden files are left out, links to folders are not followed.

    The image of ``a/NAME.scene.npz`` is ``a/NAME.jpg`` (or another image ending) beside it or under ``images``, else
    the one that the scene itself names as its source; one that is nowhere is taken out of the scene, if it is in it.
    Images of other systems' files are looked up by the names there. Depth maps (``NAME.depth.npz``, ``.depth.npy``; as
    :class:`~crowdmesh.experts.depth_file.DepthFromFiles` reads them) lie below the same folder.

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
                yield self._scene_entry(part, files)
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
                except AssetError:  # SMPL is missing, for every image alike
                    raise
                except CrowdMeshError as error:
                    yield Sample(entry, problem=(Outcome.LABELS_INVALID, " ".join(str(error).split())))

    def _sample(self, entry: Entry, files: ImageFiles) -> Sample:
        image = self._image(entry.path, files)
        if entry.part.endswith(SCENE):
            scene = Scene.load(self.root / entry.part)
            name = entry.part.removesuffix(SCENE)
        else:
            people = _opened(self.root / entry.part, self.adapter, self.unpickle)
            if entry.row >= len(people.names):
                raise FormatError(f"{entry.part} has no image number {entry.row} any more; build the set anew")
            size = upright_size(image) if image is not None else None
            scene = people.scene(people.names[entry.row], size, self.vertical_fov)
            name = os.path.splitext(entry.path)[0] if _is_image(entry.path) else entry.path
        encoded = _png(scene.image) if image is None and scene.image is not None else None
        bare = Scene(scene.camera, scene.people, None, scene.provenance)
        return Sample(entry, image, encoded, bare, self._depth(name))

    def _depth(self, name: str) -> RelativeDepth | None:
        file = file_of(self.root, Path(f"{name}.image"), DEPTHS)
        return None if file is None else read_depth(file)

    def _image(self, path: str, files: ImageFiles) -> Path | None:
        """Where an image lies: beside the people, else under ``images``."""
        if (beside := self.root / path).is_file() and _is_image(path):
            return beside
        found = files.find(self.dataset, path) if _is_image(path) else None
        return None if found is None else self.images / found

    def _scene_entry(self, part: str, files: ImageFiles) -> Entry:
        stem = part.removesuffix(SCENE)
        names = [stem] * _is_image(stem) + [f"{stem}{suffix}" for suffix in sorted(SUFFIXES)]
        path = next((name for name in names if self._image(name, files) is not None), None)
        if path is None and (source := _source_of(self.root / part)) is not None:
            path = str(PurePosixPath(stem).with_name(source))
        found = path is not None and self._image(path, files) is not None
        return Entry(self.dataset, path or stem, part, found=found)

    def _people_entries(self, part: str, files: ImageFiles) -> Iterator[Entry]:
        try:
            names = _opened(self.root / part, self.adapter, self.unpickle).names
        except AssetError:
            raise
        except CrowdMeshError:
            names = [""]  # load says what is wrong
        folder, stem = os.path.split(part.rsplit(".", 1)[0])
        for row, name in enumerate(names):
            try:
                path = os.path.join(folder, clean_name(name) if name else stem)
            except ValueError:
                path = os.path.join(folder, f"{stem}-{row}")
            if not _is_image(path):
                variants = (f"{path}{suffix}" for suffix in sorted(SUFFIXES))
                path = next((one for one in variants if self._image(one, files) is not None), path)
            yield Entry(self.dataset, path, part, row, found=self._image(path, files) is not None)

    def _files(self) -> Iterator[str]:
        """Relative POSIX path of every file of people, sorted by name folder by folder."""
        if self.data.is_file():
            yield self.data.name
            return
        for folder, folders, names in os.walk(self.data, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            names = sorted(name for name in names if not name.startswith("."))
            scenes = [name for name in names if name.endswith(SCENE)]
            if self.adapter != AUTO or not scenes:
                endings = tuple(name for name in names if name.lower().endswith(_OTHERS))
                scenes = [name for name in endings if not name.endswith((*_NOT_PEOPLE, SCENE))]
            for name in scenes:
                part = (Path(folder) / name).relative_to(self.data).as_posix()
                if not part.isascii() and os.fsencode(part).decode("utf-8", "replace") != part:
                    raise InputError(f"a name in {folder} is not in UTF-8 ({os.fsencode(part)!r}); rename it")
                yield part


@lru_cache(maxsize=1)
def _opened(path: Path, adapter: str, unpickle: bool) -> PeopleFile:
    """The file that was asked for last stays open: its images are asked for one after the other."""
    return PeopleFile(path, adapter, unpickle)


def _source_of(scene: Path) -> str | None:
    """The name of the photograph that a scene says it was made from, from its header alone."""
    try:
        with reading(scene, "CrowdMesh scene"), np.load(scene, allow_pickle=False) as arrays:
            name = json.loads(str(arrays["header"]))["provenance"]["source"]
            clean = PurePosixPath(clean_name(name)).name
    except CrowdMeshError:
        return None
    return clean if _is_image(clean) else None


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _png(image: UInt8[np.ndarray, "H W 3"]) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def _refuse(error: OSError) -> None:
    raise InputError(f"cannot read folder {error.filename}: {error.strerror}") from error
