"""Written outputs as the viewer wants them: a scene with its first guess and the spreads beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from crowdmesh.body import pose_people
from crowdmesh.errors import FormatError, InputError
from crowdmesh.scene import Scene
from crowdmesh.visual.viewer import ViewerScene

_SUFFIX = ".scene.npz"


def find_scenes(names: Sequence[str | Path]) -> list[Path]:
    """Scene files, and those of folders (``*.scene.npz``) by name.

    Raises:
        InputError: a file or folder that does not exist, or a folder without scenes.
    """
    found: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            inside = sorted(path.glob(f"*{_SUFFIX}"))
            if not inside:
                raise InputError(f"folder {path} holds no *{_SUFFIX}; make some with crowdmesh reconstruct")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"scene {path} does not exist")
    if not found:
        raise InputError("name at least one scene file (.scene.npz), or a folder of them")
    return list(dict.fromkeys(found))


def viewer_scene(path: str | Path) -> ViewerScene:
    """A scene file with what lies beside it: ``NAME.before.npz`` as the first guess, spreads from ``NAME.json``.

    Raises:
        InputError: no such scene, or a first guess of other people.
        FormatError: one of the files is damaged.
    """
    path = Path(path)
    name = path.name.removesuffix(_SUFFIX).removesuffix(".npz")
    scene = _posed(Scene.load(path))
    before_path = path.with_name(f"{name}.before.npz")
    spreads = _spreads(path.with_name(f"{name}.json"), len(scene.people)) if path.name.endswith(_SUFFIX) else {}
    before = _first_guess(before_path, scene) if before_path != path and before_path.is_file() else None
    return ViewerScene(name, scene, before, **spreads)


def _first_guess(path: Path, scene: Scene) -> Scene:
    """The scene of a file, if it is of the people and the image of another one."""
    before = Scene.load(path)
    kinds = [(len(s.people), s.camera.width, s.camera.height) for s in (before, scene)]
    if kinds[0] != kinds[1]:
        guess, placed = (f"{people} people in {width}x{height} pixels" for people, width, height in kinds)
        raise InputError(f"{path} is of {guess} and its scene of {placed}; delete it or make it again")
    return _posed(before)


def _posed(scene: Scene) -> Scene:
    people = scene.people
    return scene if people.vertices_m is not None else replace(scene, people=pose_people(people))


def _spreads(path: Path, count: int) -> dict[str, Float[np.ndarray, " K"]]:
    """Standard deviations from the table of people, if there is one."""
    try:
        rows = json.loads(path.read_text("utf-8"))["people"]
        told = {name: [row[name] for row in rows] for name in ("stature_std_m", "depth_std_m")}
        spreads = {name: np.array(values, float) for name, values in told.items()}  # None becomes NaN
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise FormatError(f"{path} is not a readable table of people ({error}); delete it or make it again") from error
    if any(len(values) != count for values in spreads.values()):
        raise FormatError(f"{path} tells of {len(rows)} people and its scene of {count}; delete it or make it again")
    return spreads
