"""Predictions from files: scenes of any method, or the arrays of a protocol, by image name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from crowdmesh._files import read_npz, reading
from crowdmesh.adapters import read_people
from crowdmesh.errors import FormatError, InputError
from crowdmesh.scene import Scene

SCENE_SUFFIX = ".scene.npz"
_TABLE_SUFFIXES = (".npz", ".json")
_WHAT = "file of predictions"


class SceneFiles(Mapping[str, Scene]):
    """Scenes by image name, each read from its file when it is asked for, so that a data set need not fit in memory."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = dict(files)

    def __getitem__(self, image: str) -> Scene:
        path = self.files[image]
        return Scene.load(path) if path.name.endswith(SCENE_SUFFIX) else read_people(path)

    def __contains__(self, image: object) -> bool:
        return image in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def read_predictions(folder: str | Path) -> SceneFiles:
    """The scenes of a folder and its subfolders, by path relative to the folder, without ending.

    The files are those that end in ``.scene.npz``, as CrowdMesh writes them. If there is none, all ``.npz`` and
    ``.json`` are read as plain tables of people (docs/conventions.md).

    Raises:
        InputError: no such folder, no such files in it, or two of one name. A file that is none of these is reported
            when its scene is asked for.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of predictions")
    endings = (SCENE_SUFFIX,) if any(folder.rglob(f"*{SCENE_SUFFIX}")) else _TABLE_SUFFIXES
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        ending = next((ending for ending in endings if path.name.endswith(ending)), None)
        if ending is None:
            continue
        name = path.relative_to(folder).as_posix().removesuffix(ending)
        if name in files:
            raise InputError(f"{files[name]} and {path} are both predictions of {name}; keep one")
        files[name] = path
    if not files:
        raise InputError(f"{folder} holds no predictions (NAME{SCENE_SUFFIX}, or tables NAME.npz and NAME.json)")
    return SceneFiles(files)


def read_records(path: str | Path) -> dict[str, dict[str, Any]]:
    """The arrays of a protocol by image name, from one file: ``{image: {field: array}}``.

    ``.json``: an object of objects of nested lists. ``.npz``: plain arrays under ``IMAGE/FIELD``, for instance
    ``photo.jpg/kp2ds``.

    Raises:
        InputError: no such file, or nothing in it.
        FormatError: damaged, or nested otherwise.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{_WHAT} {path} does not exist")
    if path.suffix.lower() not in _TABLE_SUFFIXES:
        raise InputError(f"{_WHAT} {path} must be .npz or .json")
    records: dict[str, dict[str, Any]] = {}
    if path.suffix.lower() == ".json":
        with reading(path, _WHAT):
            records = json.loads(path.read_text("utf-8"))
            if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
                raise ValueError("its top level must be an object of images, each an object of named arrays")
    else:
        for key, array in read_npz(path, _WHAT).items():
            image, slash, name = key.rpartition("/")
            if not slash or not image:
                raise FormatError(
                    f"{path} is not a readable {_WHAT}: its arrays must be called IMAGE/FIELD, not {key!r}"
                )
            records.setdefault(image, {})[name] = array
    if not records:
        raise InputError(f"{_WHAT} {path} is empty; nothing would be measured")
    return records


def record_arrays(image: str, record: Mapping[str, Any], keys: tuple[str, str]) -> list[np.ndarray]:
    """The two arrays of numbers that the record of an image must hold, and nothing else.

    Raises:
        InputError: a missing or unknown key, or no regular array; names the image.
    """
    if set(record) != set(keys):
        raise InputError(f"prediction of {image} must have the keys {' and '.join(keys)}, got {', '.join(record)}")
    try:
        return [np.asarray(record[key], np.float64) for key in keys]
    except (TypeError, ValueError) as error:
        raise InputError(f"prediction of {image}: {' and '.join(keys)} must be regular arrays of numbers") from error


def keys_of_images(keys: Iterable[str], images: Iterable[str]) -> dict[str, str]:
    """Annotated image → key of its prediction, for the images that have one.

    A key is the image's name as annotated, or that without its ending, or, if no other image has the same, its last
    part without ending.

    Raises:
        InputError: a key that is no annotated image, that could be several, or two keys of one image.
    """
    images = list(images)
    named = {image: image for image in images}
    for shorten in (_without_ending, _stem):
        count = Counter(map(shorten, images))
        named |= {short: image for image in images if count[short := shorten(image)] == 1 and short not in named}
    stems = Counter(map(_stem, images))
    found: dict[str, str] = {}
    unknown: list[str] = []
    for key in keys:
        image = named.get(key)
        if image is None and stems[key] > 1:
            raise InputError(f"prediction {key!r} could be of {stems[key]} images; name it by its path in the data set")
        if image is None:
            unknown.append(key)
        elif image in found:
            raise InputError(f"predictions {found[image]!r} and {key!r} are both of image {image!r}; keep one")
        else:
            found[image] = key
    if unknown:
        raise InputError(
            f"{len(unknown)} predicted images are not annotated, among them {', '.join(unknown[:3])}; remove them or "
            f"name predictions like the data set's images ({images[0]!r} ...)"
        )
    return found


def _without_ending(image: str) -> str:
    return PurePosixPath(image).with_suffix("").as_posix()


def _stem(image: str) -> str:
    return PurePosixPath(image).stem
