"""The verb for videos."""

from __future__ import annotations

from pathlib import Path

import tyro

from crowdmesh._terminal import console, progress, table
from crowdmesh.cli._options import (
    Flag,
    Prior,
    TrackPreset,
    Upstream,
    UpstreamFlags,
    check_fov,
    check_writable,
    dto_config,
)

_LITE = Upstream()


def track(
    video: tyro.conf.Positional[Path],
    out: Path = Path("crowdmesh_out"),
    every: int = 1,
    max_frames: int | None = None,
    fov: float | None = None,
    upstream: UpstreamFlags = _LITE,
    preset: TrackPreset = "best",
    prior: Prior | None = None,
    keep_images: Flag = False,
    overwrite: Flag = False,
) -> int:
    """A video, or a folder of frames: one camera, stable ids, one stature per person; files per frame and tracks.csv.

    Args:
        video: a video file, or a folder of images in their order.
        out: output folder; what the networks said of each frame is kept in work/ there, from which a run goes on.
        every: look only at every so many frames.
        max_frames: at most so many.
        fov: vertical field of view in degrees (default: EXIF or a network, else 60 over the longer side).
        upstream: upstream networks.
        preset: which DTO; official has no tracks.
        prior: stature prior. Default: the preset's.
        keep_images: keep each frame's picture in its scene file, for crowdmesh view.
        overwrite: start anew where the folder holds another video or other settings.
    """
    check_fov(fov)
    from crowdmesh.experts import Reconstructor
    from crowdmesh.video import VideoConfig, reconstruct_video

    check_writable(out)
    reconstructor = Reconstructor(upstream.load(fov), dto_config(preset, prior))
    config = VideoConfig(every=every, max_frames=max_frames, batch=upstream.batch, keep_images=keep_images)
    with progress() as bar:
        tasks = {stage: bar.add_task(stage, total=None) for stage in ("reading", "placing")}

        def report(stage: str, done: int, total: int) -> None:
            bar.update(tasks[stage], completed=done, total=total)

        result = reconstruct_video(video, reconstructor, out, config, overwrite, report)
    rows = table("id", "frames", "with depth evidence", "stature")
    tracks = result.tracks
    for k, person in enumerate(tracks.ids):
        stature = f"{tracks.stature_m[k]:.2f} ± {tracks.stature_std_m[k]:.2f} m"
        known = tracks.stature_m[k] == tracks.stature_m[k]
        rows.add_row(str(person), str(tracks.frames[k]), str(tracks.evident[k]), stature if known else "-")
    console().print(rows)
    console().print(
        f"{result.frames} frames, {len(result.files)} files in {out}, among them tracks.csv and notes.txt",
        highlight=False, markup=False,
    )  # fmt: skip
    return 0
