"""From a file of anybody's to a ``Scene``: whose it is, which image of it, and what its adapter makes of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from crowdmesh._files import reading
from crowdmesh.adapters import camerahmr, four_d_humans, multi_hmr, nlf, prompthmr, romp, sam3d_body, sat_hmr, table
from crowdmesh.adapters._extras import apart, beside, with_extras
from crowdmesh.adapters._faces import read_faces
from crowdmesh.adapters._files import WHAT, open_content
from crowdmesh.adapters.base import Adapter, Given, is_empty
from crowdmesh.body import pose_people
from crowdmesh.errors import CrowdMeshError, FormatError, InputError
from crowdmesh.scene import FORMAT, Scene, scene_of

ADAPTERS: dict[str, Adapter] = {
    adapter.name: adapter
    for adapter in (
        camerahmr.ADAPTER, four_d_humans.ADAPTER, sam3d_body.ADAPTER, multi_hmr.ADAPTER, nlf.ADAPTER, romp.ADAPTER,
        romp.BEV, prompthmr.ADAPTER, sat_hmr.ADAPTER, table.ADAPTER,
    )
}  # fmt: skip
"""Every adapter by its name."""

AUTO = "auto"


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

    What is said beside the file fills in what the file does not have; where it has it, both must agree. At the top of
    another system's file may stand ``image_size``, ``intrinsics``, ``faces``, ``stature_m`` and, of one image's people,
    ``age_years``, ``age_std_years``, ``male_probability`` and ``known_stature_m``, as in the plain table.

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
        if image is not None:
            raise InputError(f"{path} is a scene, which is of one image; leave --image out")
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


class PeopleFile:
    """A file of anybody's, opened once and held in memory, whose images are read in any order.

    Arguments and errors are those of :func:`read_people`.

    Attributes:
        names: of its images, in the file's order; ``[""]`` where it is of one and does not name it.
    """

    def __init__(self, path: str | Path, adapter: str = AUTO, unpickle: bool = False) -> None:
        self._path = Path(path)
        content = open_content(self._path, unpickle)
        self._own, self.names = None, [""]
        if _is_own(self._path, content, adapter):
            self._own = content
        else:
            self._adapter, self._records, self._given = _records(self._path, content, adapter, Given())
            self.names = list(self._records)

    def scene(self, name: str, image_size: tuple[int, int] | None = None, vertical_fov: float | None = None) -> Scene:
        """The scene of one of its images; an image size that the file says itself goes before ``image_size``."""
        if self._own is not None:
            return _own_scene(self._path, self._own, _given(None, vertical_fov, None, None))
        size = self._given.image_size or image_size
        given = replace(self._given, image_size=size, vertical_fov=vertical_fov)
        return _read(self._path, self._adapter, name, self._records[name], given)


def image_names(path: str | Path, adapter: str = AUTO, unpickle: bool = False) -> list[str]:
    """The names of the images in another system's file; ``[""]`` where it is of one image and does not name it."""
    path = Path(path)
    content = open_content(path, unpickle)
    return [""] if _is_own(path, content, adapter) else list(_records(path, content, adapter, Given())[1])


def identify(path: str | Path, unpickle: bool = False) -> list[str]:
    """Names of the adapters whose files look like this one; several, none, or most often one."""
    path = Path(path)
    content = open_content(path, unpickle)
    return [] if _is_own(path, content, AUTO) else _identified(content)


def _identified(content: Any) -> list[str]:
    """The systems whose content this is, whatever stands beside their keys; a table alone where it is none's."""
    rest, _ = apart(content)
    systems = [name for name, adapter in ADAPTERS.items() if name != "table" and adapter.looks_like(rest)]
    return systems or (["table"] if table.looks_like(content) else [])


def _given(
    image_size: tuple[int, int] | None,
    vertical_fov: float | None,
    intrinsics: np.ndarray | None,
    faces: str | Path | np.ndarray | None,
) -> Given:
    triangles = read_faces(faces) if isinstance(faces, (str, Path)) else faces
    return Given(image_size, vertical_fov, intrinsics, triangles)


def _is_own(path: Path, content: Any, adapter: str) -> bool:
    """Whether a file is a scene of this package; only archives have a header.

    Raises:
        InputError: it is, and an adapter was asked for.
    """
    if not isinstance(content, dict) or "header" not in content or path.suffix.lower() == ".json":
        return False
    if adapter != AUTO and FORMAT in str(content["header"]):
        raise InputError(f"{path} is a scene of this package; leave --adapter out")
    return adapter == AUTO


def _own_scene(path: Path, content: dict[str, Any], given: Given) -> Scene:
    scene = scene_of(content, path)
    with _one_sentence(path, "CrowdMesh scene", str(path)):
        given.size((scene.camera.width, scene.camera.height))
        given.camera(scene.camera.width, scene.camera.height, scene.camera)
        own = scene.people.faces
        if given.faces is not None and (own is None or not np.array_equal(given.faces, own)):
            raise InputError("the scene has bodies with triangles of their own; leave --faces out")
    return scene if scene.people.vertices_m is not None else replace(scene, people=pose_people(scene.people))


@contextmanager
def _one_sentence(path: Path, what: str, where: str) -> Iterator[None]:
    """Whatever goes wrong with a file's values becomes one sentence that names the file.

    Numbers may become infinite or NaN on the way without a warning; the checks refuse those.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except (InputError, FormatError) as error:
        raise type(error)(f"{where}: {error}") from error
    except CrowdMeshError:
        raise
    except Exception:
        with reading(path, what):
            raise


def _records(path: Path, content: Any, name: str, given: Given) -> tuple[Adapter, dict[str, Any], Given]:
    """The adapter of a file, the people of each of its images, and everything said beside them.

    Raises:
        InputError: unknown adapter, or another system's file.
    """
    if name != AUTO and name not in ADAPTERS:
        raise InputError(f"unknown adapter {name!r}; use {AUTO}, {', '.join(ADAPTERS)}")
    rest, extras = apart(content)
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
    with _one_sentence(path, f"file of {adapter.title}", str(path)):
        records = adapter.records(rest)
        if not records and found in ([], ["table"]) and is_empty(rest) and not (extras and rest == {}):
            records = {"": {}}
        if records:
            return adapter, records, beside(given, extras, len(records))
    if found:
        raise _of_another_system(path, found)
    raise FormatError(f"{path} is no file of {adapter.title}: it has {_outline(content)}; read are: {adapter.reads}")


def _of_another_system(path: Path, found: list[str]) -> InputError:
    title, name = ADAPTERS[found[0]].title, found[0]
    looks = f"a {title}" if name == "table" else f"the output of {title}"
    return InputError(f"{path} looks like {looks}; use --adapter {name}")


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
    where, what = (f"{path}: image {image!r}", f", image {image!r}") if image else (str(path), "")
    with _one_sentence(path, (WHAT if adapter.name == "table" else f"file of {adapter.title}") + what, where):
        scene = adapter.read(record, given)
        scene = replace(scene, people=with_extras(scene.people, given))
    if adapter.name == "table":
        return replace(scene, provenance={"source": path.name})
    provenance = {"source": path.name, "adapter": adapter.name, **({"image": image} if image else {})}
    return replace(scene, provenance=provenance)
