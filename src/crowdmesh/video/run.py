"""A video to placed scenes: frame by frame through the experts, then all frames together.

What the experts say of each frame is kept in ``FOLDER/work`` while the video is read, so that memory stays bounded and
an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from crowdmesh._files import atomic_path
from crowdmesh.assets import Weights
from crowdmesh.body import BodyModel, body_of
from crowdmesh.camera import Camera
from crowdmesh.dto.tracks import TrackConfig, Tracks, TrackSolution, measure_frame, require_tracks, solve_tracks
from crowdmesh.errors import InputError
from crowdmesh.experts import CameraEstimate, Reconstructor
from crowdmesh.experts.base import InputImage
from crowdmesh.outputs import detailed
from crowdmesh.scene import Scene
from crowdmesh.video._table import write_table
from crowdmesh.video._work import WorkFolder
from crowdmesh.video.frames import Frame, Report, read_frames
from crowdmesh.video.tracking import Tracker, TrackingConfig
from crowdmesh.visual import save_glb, scene_faces

Progress = Callable[[str, int, int], None]
"""Called with the stage (``"reading"``, ``"placing"``), the frames done and all frames."""


@dataclass(frozen=True)
class VideoConfig:
    """How a video is reconstructed."""

    every: int = 1
    """Only every so many frames are looked at."""
    max_frames: int | None = None
    """At most so many."""
    batch: int = 8
    """Frames that go through the experts at once."""
    camera_frames: int = 16
    """From at least so many frames, spread over the video, the camera is estimated (all, where there are fewer)."""
    keep_images: bool = False
    """Whether the scene files hold the frames' pictures, for ``crowdmesh view``."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    tracks: TrackConfig = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.camera_frames < 1:
            raise InputError(f"batch and camera_frames must be at least 1, got {self.batch} and {self.camera_frames}")


@dataclass(frozen=True, eq=False)
class VideoResult:
    """What became of a video.

    Attributes:
        files: those written, the table of tracks last.
        frames: how many were placed. tracks: the people in them.
        notes: what a reader should know, one sentence each.
    """

    files: tuple[Path, ...]
    frames: int
    tracks: Tracks
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SharedCamera:
    """CameraExpert: one camera for every frame of a video."""

    camera: Camera
    source: str
    focal_std: float | None = None

    name: ClassVar[str] = "shared camera"

    @classmethod
    def sources(cls) -> tuple[Weights, ...]:
        """It needs no files."""
        return ()

    def estimate(self, images: list[InputImage]) -> list[CameraEstimate]:
        """The same camera for each."""
        return [CameraEstimate(self.camera, self.source, self.focal_std) for _ in images]


def reconstruct_video(
    source: str | Path,
    reconstructor: Reconstructor,
    folder: str | Path,
    config: VideoConfig | None = None,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> VideoResult:
    """Everybody in a video, with one camera, one id per person and one stature per id.

    Writes ``NAME_000123.scene.npz`` and ``.glb`` per frame (the number is the frame's in the video; no GLB of nobody),
    ``notes.txt``, and last ``tracks.csv`` (:func:`crowdmesh.video._table.write_table`). People keep the order of their
    detection; ``scene.provenance["track_ids"]`` says who they are.

    Args:
        source: a video file, or a folder of images. reconstructor: the experts and the configuration of DTO.
        folder: where to write. overwrite: start anew where ``folder`` holds another video or other settings.

    Raises:
        InputError: as :func:`read_frames`; nobody in any frame; a preset without tracks; ``folder`` holds another run.
        FormatError: the source is no video.
    """
    config, source, folder = config or VideoConfig(), Path(source), Path(folder)
    notes: list[str] = []
    require_tracks(reconstructor.config)
    camera, total = _shared_camera(source, reconstructor, config, notes.append)
    notes.append(f"camera: {camera.source} (vertical field of view {math.degrees(camera.camera.vertical_fov):.1f}°)")
    shared = Reconstructor(replace(reconstructor.experts, camera=camera), reconstructor.config)
    work = WorkFolder(folder / "work", _signature(source, shared, config), overwrite)
    numbers = []
    for batch in _batches(_frames(source, config), config.batch):
        _look_at([frame for frame in batch if not work.has(frame.index)], shared, work)
        numbers += [frame.index for frame in batch]
        progress("reading", len(numbers), total)
    solution, body, ids = _solve(numbers, work, shared, config, source)
    notes += solution.tracks.notes
    files, rows = [], []
    pictures = _frames(source, config) if config.keep_images else None
    for position, number in enumerate(numbers):
        scene = work.scene(number)
        if pictures is not None:
            scene = replace(scene, image=next(pictures).pixels)
        placed, placement = solution.place(position, scene, body)
        time_s, said = work.about(number)
        about = {"frame": number, "time_s": time_s, "track_ids": ids[position].tolist(), "notes": said}
        placed = replace(placed, provenance={**placed.provenance, "video": source.name, **about})
        files += _write(folder, f"{source.stem}_{number:06d}", placed)
        rows.append((number, time_s, ids[position], placed, placement))
        notes += [f"frame {number}: {sentence}" for sentence in said]
        progress("placing", position + 1, len(numbers))
    files.append(_write_notes(folder / "notes.txt", notes))
    files.append(write_table(folder / "tracks.csv", rows))
    return VideoResult(tuple(files), len(numbers), solution.tracks, tuple(notes))


def _frames(source: Path, config: VideoConfig, report: Report = lambda sentence: None) -> Iterator[Frame]:
    return read_frames(source, config.every, config.max_frames, report)


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    batch = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _shared_camera(
    source: Path, reconstructor: Reconstructor, config: VideoConfig, report: Report
) -> tuple[SharedCamera, int]:
    """The median camera, in log focal length, of frames spread over the video; and how many frames there are."""
    some, stride, total = [], 1, 0
    for frame in _frames(source, config, report):
        if total % stride == 0:
            some.append(InputImage(frame.pixels, frame.path))
            if len(some) == 2 * config.camera_frames:
                some, stride = some[::2], 2 * stride
        total += 1
    estimates = []
    for first in range(0, len(some), config.batch):
        estimates += reconstructor.experts.camera.estimate(some[first : first + config.batch])
    cameras = [estimate.camera for estimate in estimates]
    fx, fy = (math.exp(float(np.median([math.log(getattr(c, name)) for c in cameras]))) for name in ("fx", "fy"))
    cx, cy = (float(np.median([getattr(c, name) for c in cameras])) for name in ("cx", "cy"))
    errors = [estimate.focal_std for estimate in estimates if estimate.focal_std is not None]
    said = estimates[0].source
    if any(c != cameras[0] for c in cameras):
        said = f"{said}, median of {len(cameras)} frames"
    camera = Camera(fx, fy, cx, cy, cameras[0].width, cameras[0].height)
    return SharedCamera(camera, said, float(np.median(errors)) if errors else None), total


def _signature(source: Path, reconstructor: Reconstructor, config: VideoConfig) -> dict:
    """What decides the files in the work folder: the video, which of its frames, the experts and the camera."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    seen = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]
    experts = reconstructor.signature(None)
    experts["settings"] = {name: value for name, value in experts["settings"].items() if name != "dto"}
    return {"video": source.name, "files": seen, "every": config.every, "experts": experts}


def _look_at(frames: list[Frame], reconstructor: Reconstructor, work: WorkFolder) -> None:
    """First guesses and, where somebody was found, depth maps of some frames, kept on disk."""
    if not frames:
        return
    images = [InputImage(frame.pixels, frame.path) for frame in frames]
    guesses = reconstructor.guess(images)
    peopled = [number for number, guess in enumerate(guesses) if len(guess.scene.people)]
    maps = reconstructor.experts.depth.estimate([images[n] for n in peopled]) if peopled else []
    depths = dict(zip(peopled, maps, strict=True))
    for number, (frame, guess) in enumerate(zip(frames, guesses, strict=True)):
        notes = tuple(note for note in guess.notes if not note.startswith("camera:"))
        work.add(frame, replace(guess.scene, image=None), depths.get(number), notes)


def _solve(
    numbers: list[int], work: WorkFolder, reconstructor: Reconstructor, config: VideoConfig, source: Path
) -> tuple[TrackSolution, BodyModel, list[np.ndarray]]:
    """Who is who, and how tall: all frames together."""
    tracker, ids, body, settings = Tracker(config.tracking), [], None, reconstructor.config
    settings = settings.with_focal_std(getattr(reconstructor.experts.camera, "focal_std", None))
    for number in numbers:
        people = work.scene(number).people
        boxes = np.zeros((0, 4)) if len(people) == 0 else people.boxes_px
        assert boxes is not None, "detections have boxes"
        ids.append(tracker.update(boxes, people.keypoints_px if len(people) else None))
        if len(people) and body is None:
            body = body_of(people)
    if body is None:
        raise InputError(f"no person found in any of {len(numbers)} frames of {source}; nothing was written")
    evidence = [measure_frame(work.scene(number), work.depth(number), body, settings) for number in numbers]
    return solve_tracks(evidence, ids, settings, config.tracks), body, ids


def _write(folder: Path, stem: str, scene: Scene) -> list[Path]:
    files = [folder / f"{stem}.scene.npz"]
    scene.save(files[0])
    mesh = folder / f"{stem}.glb"
    if len(scene.people):
        shown = detailed(scene)
        save_glb(shown, scene_faces(shown), mesh)
        return [*files, mesh]
    mesh.unlink(missing_ok=True)
    return files


def _write_notes(path: Path, notes: list[str]) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{note}\n" for note in notes))
    return path
