"""The contact sheet: some scenes of a set, before and after, from its best to its worst."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from crowdmesh.body import pose_people
from crowdmesh.errors import AssetError, CrowdMeshError
from crowdmesh.images import decode_image
from crowdmesh.pgt.reading import BuiltScene, BuiltSet
from crowdmesh.pgt.report.dots import dots_picture
from crowdmesh.pgt.report.picks import Pick
from crowdmesh.scene import Scene
from crowdmesh.visual import overlay, save_png, scene_faces, top_view

ImageOf = Callable[[BuiltScene], Path | bytes | None]
"""Finds the photograph of a built image: a file, an encoded file in memory, or ``None``."""

_HEIGHT_PX = 330
_PHOTO_WIDTH_PX = 480
_TOP_WIDTH_PX = 440
_GAP_PX = 10


@dataclass(frozen=True)
class SheetPicture:
    """One scene of the sheet as a picture (``None``: it could not be drawn) with a caption in words."""

    group: str
    caption: str
    path: Path | None


def draw_sheet(built: BuiltSet, picks: Sequence[Pick], folder: Path, image_of: ImageOf | None) -> list[SheetPicture]:
    """One PNG a picked scene: both overlays and the bird's-eye view with the way of everybody.

    Bodies over the photograph where ``image_of`` finds it (the very file that the set was built from, if it was there
    then), else over a plain canvas of its shape. Where the files of a
    licensed body are not there, the bird's-eye view alone, in dots.
    """
    pictures: list[SheetPicture] = []
    numbered: dict[str, int] = {}
    for pick in picks:
        # Its shard alone is searched.
        scene = replace(built, shards=(built.shards[pick.shard],)).image(pick.key)
        numbered[pick.group] = number = numbered.get(pick.group, 0) + 1
        pictures.append(_draw(scene, pick, folder / picture_name(pick.group, number), image_of))
    return pictures


def picture_name(group: str, number: int) -> str:
    """The file of a group's picture, counted from 1."""
    return f"{group.lower().replace(', ', '_').replace(' ', '_')}_{number}.png"


def _draw(scene: BuiltScene, pick: Pick, path: Path, image_of: ImageOf | None) -> SheetPicture:
    assert scene.before is not None and scene.after is not None
    score = f"score {scene.score:.2f}" if np.isfinite(scene.score) else "no score"
    people = len(scene.after.people)
    caption = f"{scene.key}: {people} {'person' if people == 1 else 'people'}, {score}, {pick.outcome.reason}"
    try:
        pixels, problem = _photograph(scene, image_of)
        before, after = (replace(s, image=pixels) for s in (scene.before, scene.after))
        try:
            picture = _bodies(before, after)
        except AssetError:
            picture = dots_picture(scene.before, scene.after, _HEIGHT_PX)
            problem = f"bodies are dots, because the files of body {scene.after.people.body!r} are not on this machine"
    except CrowdMeshError as error:
        return SheetPicture(pick.group, f"{caption}; not drawn: {error}", None)
    save_png(path, picture)
    return SheetPicture(pick.group, f"{caption}; {problem}" if problem else caption, path)


def _bodies(before: Scene, after: Scene) -> UInt8[np.ndarray, "H W 3"]:
    before, after = (replace(s, people=pose_people(s.people)) for s in (before, after))
    faces = scene_faces(after)
    shrink = min(_HEIGHT_PX / after.camera.height, _PHOTO_WIDTH_PX / after.camera.width)
    height, width = (max(1, round(shrink * side)) for side in (after.camera.height, after.camera.width))
    panels = [_on_page(overlay(s, faces, (height, width))) for s in (before, after)]
    panels.append(top_view(after, faces, (_HEIGHT_PX, _TOP_WIDTH_PX), before=before, words=False))
    gap = np.full((_HEIGHT_PX, _GAP_PX, 3), 255, np.uint8)
    return np.concatenate((panels[0], gap, panels[1], gap, panels[2]), axis=1)


def _on_page(picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H2 W 3"]:
    """White above and below, so that all panels are of one height."""
    free = _HEIGHT_PX - len(picture)
    return np.pad(picture, ((free // 2, free - free // 2), (0, 0), (0, 0)), constant_values=255)


def _photograph(scene: BuiltScene, image_of: ImageOf | None) -> tuple[UInt8[np.ndarray, "H W 3"] | None, str]:
    """The photograph, or none and why, where somebody looked for it."""
    if image_of is None:
        return None, ""
    assert scene.after is not None
    try:
        found = image_of(scene)
        if found is None:
            return None, "the photograph was not found"
        content = found if isinstance(found, bytes) else found.read_bytes()
        if scene.file is not None and hashlib.sha256(content).hexdigest() != scene.file.sha256:
            return None, "without its photograph: the one found is another file than the set was built from"
        pixels = decode_image(content, scene.key)
    except CrowdMeshError as error:
        return None, f"without its photograph: {error}"
    except OSError as error:
        return None, f"without its photograph: {found} cannot be read ({error.strerror})"
    camera = scene.after.camera
    if pixels.shape[:2] != (camera.height, camera.width):
        return None, "without its photograph, which is of another size now"
    return pixels, ""
