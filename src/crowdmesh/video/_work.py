"""What the experts said of each frame, on disk until the whole video is solved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from crowdmesh._files import atomic_path, read_npz, reading
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.video.frames import Frame

_DEPTH = "depth map of a frame"
_LARGEST = 6e4  # of half precision


class WorkFolder:
    """``NUMBER.scene.npz``, ``NUMBER.depth.npz`` (half precision) and, last, ``NUMBER.json`` per frame.

    Args:
        folder: made where it is missing. signature: what decides the files' content.
        overwrite: forget files of another signature instead of refusing.

    Raises:
        InputError: the folder holds the files of another signature.
    """

    def __init__(self, folder: Path, signature: dict[str, Any], overwrite: bool = False) -> None:
        self._folder = folder
        path, wanted = folder / "video.json", json.loads(json.dumps(signature))
        if path.is_file():
            with reading(path, "record of a video"):
                found = json.loads(path.read_text())
            if found == wanted:
                return
            if not overwrite:
                raise InputError(
                    f"{folder} holds the frames of another video, or of other settings; use another output folder or "
                    "overwrite it"
                )
            path.unlink()
            for old in folder.glob("[0-9]*.json"):
                old.unlink()
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(wanted, indent=1))

    def has(self, number: int) -> bool:
        """Whether the frame is complete."""
        return self._path(number, "json").is_file()

    def add(self, frame: Frame, scene: Scene, depth: RelativeDepth | None, notes: tuple[str, ...]) -> None:
        """Keep a frame. ``depth`` may lack where nobody is to be placed."""
        number = frame.index
        scene.save(self._path(number, "scene.npz"))
        if depth is not None:
            self._save_depth(self._path(number, "depth.npz"), depth)
        time_s = frame.time_s if math.isfinite(frame.time_s) else None
        about = {"name": frame.name, "time_s": time_s, "notes": list(notes)}
        with atomic_path(self._path(number, "json")) as temporary:
            temporary.write_text(json.dumps(about))

    def scene(self, number: int) -> Scene:
        """The first guess, without the picture."""
        return Scene.load(self._path(number, "scene.npz"))

    def depth(self, number: int) -> RelativeDepth:
        """The depth map; a level one where nobody is in the frame."""
        path = self._path(number, "depth.npz")
        if not path.is_file():
            camera = self.scene(number).camera
            return RelativeDepth(np.ones((camera.height, camera.width), np.float32), "metric")
        arrays = read_npz(path, _DEPTH)
        with reading(path, _DEPTH):
            values = arrays["values"].astype(np.float32) * float(arrays["scale"])
            kind = str(arrays["kind"])
        return RelativeDepth(values.astype(np.float32), kind)  # type: ignore[arg-type]

    def about(self, number: int) -> tuple[float | None, list[str]]:
        """Seconds (``None``: unknown) and notes."""
        path = self._path(number, "json")
        with reading(path, "record of a frame"):
            about = json.loads(path.read_text())
            return about["time_s"], about["notes"]

    def _path(self, number: int, kind: str) -> Path:
        return self._folder / f"{number:06d}.{kind}"

    @staticmethod
    def _save_depth(path: Path, depth: RelativeDepth) -> None:
        values = np.where(depth.valid(), depth.values, np.nan)
        scale = float(np.nanmax(np.abs(values))) / _LARGEST
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary, values=(values / scale).astype(np.float16), scale=np.array(scale), kind=np.array(depth.kind)
            )
