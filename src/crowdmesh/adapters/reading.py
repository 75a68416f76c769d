"""From a file of anybody's to a ``Scene``: whose it is, which image of it, and what its adapter makes of that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.adapters import camerahmr, four_d_humans, multi_hmr, nlf, prompthmr, romp, sam3d_body, sat_hmr, table
from crowdmesh.adapters._bodies import nobody
from crowdmesh.adapters._faces import read_faces
from crowdmesh.adapters._files import WHAT, open_content
from crowdmesh.adapters.base import Adapter, Given
from crowdmesh.body import pose_people
from crowdmesh.errors import CrowdMeshError, FormatError, InputError
from crowdmesh.scene import Scene, scene_of

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        camerahmr.ADAPTER, four_d_humans.ADAPTER, sam3d_body.ADAPTER, multi_hmr.ADAPTER, nlf.ADAPTER, romp.ADAPTER,
        romp.BEV, prompthmr.ADAPTER, sat_hmr.ADAPTER, table.ADAPTER,
    )
}  # fmt: skip
"""Every adapter by its name."""

AUTO = "auto"
EXTRAS = ("image_size", "intrinsics", "faces", "stature_m")
"""Keys of the plain table that may stand beside any system's own, at the top of the file."""


def read_people(
    path: str | Path,
    adapter: str = AUTO,
    image_size: tuple[int, int] | None = None,
    vertical_fov: float | None = None,
    intrinsics: Float[np.ndarray, "3 3"] | None = None,
    image: str | None = None,
    unpickle: bool = False,
    faces: str | Path | Int[np.ndarray, "F 3"] | None = None,
) -> Scene:
    """A scene from a CrowdMesh ``.scene.npz``, a plain ``.npz`` / ``.json`` table of people, or another system's file.

    What is said beside the file fills in what the file does not have; where it has it, both must agree.

    Args:
        adapter: a name of :data:`ADAPTERS`; ``"auto"``: whichever system the file looks like.
        image_size: width and height of the photograph in pixels.
        vertical_fov: in radians. intrinsics: camera matrix in pixels of the photograph.
        image: which image, of a file with several: its name, or the end of it.
        unpickle: read pickled files, without running anything in them.
        faces: triangles of surfaces, or a file of them (``.npy``, ``.npz``, ``.obj``).

    Raises:
        InputError: the file does not exist, is another system's, or lacks what must then be said beside it; a table
            lacks a key, has an unknown one, or values of a wrong shape or unit.
        FormatError: the file is damaged or of another format, is pickled without ``unpickle``, or holds values that
            no people have.
        AssetError: SMPL is needed and not installed.
    """
    path = Path(path)
    content = open_content(path, unpickle)
    given = _given(image_size, vertical_fov, intrinsics, faces)
    if _is_own(path, content, adapter):
        return _own_scene(path, content, given)
    chosen, records, given = _records(path, content, adapter, given)
    name = _chosen(path, records, image)
    return _read(path, chosen, name, records[name], given)


def read_scenes(
    path: str | Path,
    adapter: str = AUTO,
    image_size: tuple[int, int] | None = None,
    vertical_fov: float | None = None,
    intrinsics: Float[np.ndarray, "3 3"] | None = None,
    unpickle: bool = False,
    faces: str | Path | Int[np.ndarray, "F 3"] | None = None,
) -> Iterator[tuple[str, Scene]]:
    """The name and the scene of every image of another system's file, one by one, in the file's order.

    Arguments and errors are those of :func:`read_people`.
    """
    path = Path(path)
    content = open_content(path, unpickle)
    given = _given(image_size, vertical_fov, intrinsics, faces)
    if _is_own(path, content, adapter):
        yield "", _own_scene(path, content, given)
        return
    chosen, records, given = _records(path, content, adapter, given)
    for name, record in records.items():
        yield name, _read(path, chosen, name, record, given)


def image_names(path: str | Path, adapter: str = AUTO, unpickle: bool = False) -> list[str]:
    """The names of the images in another system's file; ``[""]`` where it is of one image and does not name it."""
    return list(_records(Path(path), open_content(Path(path), unpickle), adapter, Given())[1])


def identify(path: str | Path, unpickle: bool = False) -> list[str]:
    """Names of the adapters whose files look like this one; several, none, or most often one."""
    return _identified(_split(open_content(Path(path), unpickle))[0])


def _identified(content: Any) -> list[str]:
    systems = [name for name, adapter in ADAPTERS.items() if name != "table" and adapter.looks_like(content)]
    return systems or (["table"] if table.looks_like(content) else [])


def _given(
    image_size: tuple[int, int] | None,
    vertical_fov: float | None,
    intrinsics: np.ndarray | None,
    faces: str | Path | np.ndarray | None,
) -> Given:
    triangles = read_faces(faces) if isinstance(faces, (str, Path)) else faces
    return Given(image_size, vertical_fov, intrinsics, triangles)


def _split(content: Any) -> tuple[Any, dict[str, Any]]:
    """Another system's content, and what its user put beside it; a table keeps all its keys."""
    if not isinstance(content, dict) or not content.keys() & set(EXTRAS):
        return content, {}
    rest = {key: value for key, value in content.items() if key not in EXTRAS}
    system = any(adapter.looks_like(rest) for name, adapter in ADAPTERS.items() if name != "table")
    return (rest, {key: content[key] for key in EXTRAS if key in content}) if system else (content, {})


def _beside(given: Given, extras: dict[str, Any]) -> Given:
    """What was said, with what the file itself says beside its system's keys."""
    changes: dict[str, Any] = {}
    if "image_size" in extras:
        size = np.asarray(extras["image_size"]).reshape(-1)
        changes["image_size"] = given.size((int(size[0]), int(size[1]))) if size.size == 2 else tuple(size)
    if "intrinsics" in extras:
        if given.intrinsics is not None or given.vertical_fov is not None:
            raise InputError("the file has 'intrinsics' of its own; leave --fov and --intrinsics out")
        changes["intrinsics"] = np.asarray(extras["intrinsics"], float)
    if "faces" in extras:
        changes["faces"] = np.asarray(extras["faces"])
    if "stature_m" in extras:
        changes["stature_m"] = np.asarray(extras["stature_m"], float)
    return replace(given, **changes)


def _is_own(path: Path, content: Any, adapter: str) -> bool:
    """Whether a file is a scene of this package; only archives have a header."""
    return adapter == AUTO and isinstance(content, dict) and "header" in content and path.suffix.lower() != ".json"


def _own_scene(path: Path, content: dict[str, Any], given: Given) -> Scene:
    scene = scene_of(content, path)
    try:
        given.size((scene.camera.width, scene.camera.height))
        given.camera(scene.camera.width, scene.camera.height, scene.camera)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return scene if scene.people.vertices_m is not None else replace(scene, people=pose_people(scene.people))


def _records(path: Path, content: Any, name: str, given: Given) -> tuple[Adapter, dict[str, Any], Given]:
    """The adapter of a file, the people of each of its images, and everything said beside them.

    Raises:
        InputError: unknown adapter, or another system's file.
    """
    if name != AUTO and name not in ADAPTERS:
        raise InputError(f"unknown adapter {name!r}; use {AUTO}, {', '.join(ADAPTERS)}")
    content, extras = _split(content)
    found = _identified(content)
    if name == AUTO and len(found) > 1:
        raise InputError(f"{path} looks like results of several systems; say which with --adapter {' or '.join(found)}")
    if name == AUTO:
        name = found[0] if found else "table"
    adapter = ADAPTERS[name]
    if name == "table":
        if found and found != ["table"]:
            raise _of_another_system(path, found)
        if not isinstance(content, dict):
            raise FormatError(
                f"{path} is not a readable {WHAT}: its top level must be an object of named arrays, or the results of "
                f"a system named by --adapter ({', '.join(n for n in ADAPTERS if n != 'table')})"
            )
        return adapter, {"": content}, given
    try:
        records, given = adapter.records(content), _beside(given, extras)
    except CrowdMeshError as error:
        raise type(error)(f"{path}: {error}") from error
    if records:
        return adapter, records, given
    if found:
        raise _of_another_system(path, found)
    if _is_empty(content):
        return adapter, {"": None}, given
    raise FormatError(f"{path} is no file of {adapter.title}: it has {_outline(content)}; read are: {adapter.reads}")


def _of_another_system(path: Path, found: list[str]) -> InputError:
    title, name = ADAPTERS[found[0]].title, found[0]
    looks = f"a {title}" if name == "table" else f"the output of {title}"
    return InputError(f"{path} looks like {looks}; use --adapter {name}")


def _is_empty(content: Any, depth: int = 5) -> bool:
    """Whether content says nothing: no people, in some nesting."""
    if isinstance(content, np.ndarray):
        return content.size == 0
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else [depth]
    return content is None or (depth > 0 and all(_is_empty(part, depth - 1) for part in parts))


def _outline(content: Any) -> str:
    if isinstance(content, dict):
        return f"the keys {', '.join(map(repr, list(content)[:6]))}" if content else "no keys"
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return f"a list of objects with the keys {', '.join(map(repr, list(content[0])[:6]))}"
    return f"a {type(content).__name__} on top"


def _chosen(path: Path, records: dict[str, Any], image: str | None) -> str:
    """The name of the image asked for.

    Raises:
        InputError: none or several have such a name, or several are there and none was asked for.
    """
    names = list(records)
    some = f"{', '.join(names[:4])}{' ...' if len(names) > 4 else ''}"
    if image is None:
        if len(names) == 1:
            return names[0]
        raise InputError(f"{path} is of {len(names)} images ({some}); say which with --image NAME")
    if image in records:
        return image
    fitting = [name for name in names if name.endswith(f"/{image}") or name.split("/")[-1].rsplit(".", 1)[0] == image]
    if len(fitting) != 1:
        what = f"has no image {image!r}" if not fitting else f"has {len(fitting)} images {image!r}"
        raise InputError(f"{path} {what}; it has {some or 'one without a name'}")
    return fitting[0]


def _read(path: Path, adapter: Adapter, image: str, record: Any, given: Given) -> Scene:
    try:
        scene = _empty(given) if record is None else adapter.read(record, given)
    except (InputError, FormatError) as error:
        where = f"{path}: image {image!r}" if image else str(path)
        raise type(error)(f"{where}: {error}") from error
    if adapter.name == "table":
        return replace(scene, provenance={"source": path.name})
    provenance = {"source": path.name, "adapter": adapter.name, **({"image": image} if image else {})}
    return replace(scene, provenance=provenance)


def _empty(given: Given) -> Scene:
    width, height = given.size()
    return Scene(given.camera(width, height), nobody())
