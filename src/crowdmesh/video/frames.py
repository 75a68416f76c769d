"""The frames of a video, one at a time: of a file that OpenCV decodes, or of a folder of images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from crowdmesh.errors import CrowdMeshError, FormatError, InputError
from crowdmesh.images import SUFFIXES, check_image, find_images, read_image

Report = Callable[[str], None]
"""Told what a user should know of a video, one sentence each."""

_MOST_DAMAGED_IN_A_ROW = 50


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame.

    Attributes:
        index: its number in the video, from 0, whatever is skipped.
        time_s: seconds since the first frame; NaN for images of a folder.
        pixels: RGB. name: the image's file, or the video's.
        path: the image file; ``None`` for a video.
    """

    index: int
    time_s: float
    pixels: UInt8[np.ndarray, "H W 3"]
    name: str
    path: Path | None = None


def read_frames(
    path: str | Path, every: int = 1, max_frames: int | None = None, report: Report = lambda sentence: None
) -> Iterator[Frame]:
    """Frames 0, ``every``, 2 ``every`` ...; at most ``max_frames``. Only one is in memory.

    A frame that cannot be read is left out and told to ``report``, as is a video that ends early.

    Args:
        path: a video file, or a folder whose images are taken in natural order (2 before 10).
        report: called with one sentence per thing that is not as it should be.

    Raises:
        InputError: no such file, ``every`` or ``max_frames`` below 1, frames of different sizes, or no frame that can
            be read.
        FormatError: a file that is no video.
    """
    path = Path(path)
    if every < 1 or (max_frames is not None and max_frames < 1):
        raise InputError(f"take every 1st, 2nd ... frame and at least one, got every {every} and at most {max_frames}")
    if not path.exists():
        raise InputError(f"video {path} does not exist; name a video file or a folder of images")
    source = _of_folder(path, every, report) if path.is_dir() else _of_file(path, every, report)
    size, count = None, 0
    for frame in source:
        size = size or frame.pixels.shape
        if frame.pixels.shape != size:
            (height, width), (first_height, first_width) = frame.pixels.shape[:2], size[:2]
            raise InputError(
                f"frame {frame.index} of {path} ({frame.name}) has {width}x{height} pixels and the first "
                f"{first_width}x{first_height}; one video has one size"
            )
        yield frame
        count += 1
        if count == max_frames:
            break
    if count == 0:
        raise InputError(f"no frame of {path} can be read; check the file")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorts numbers in names by their value: frame2 before frame10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def _of_folder(folder: Path, every: int, report: Report) -> Iterator[Frame]:
    images = sorted(find_images([folder]), key=lambda file: natural_order(file.name))
    for index in range(0, len(images), every):
        file = images[index]
        try:
            pixels = read_image(file)
        except CrowdMeshError as error:
            report(f"frame {index} is left out: {error}")
            continue
        yield Frame(index, float("nan"), pixels, file.name, file)


def _of_file(path: Path, every: int, report: Report) -> Iterator[Frame]:
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"{path} is an image, not a video; give a folder of images or a video file")
    video = _open(path)
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        rate = rate if np.isfinite(rate) and 0 < rate < 1e4 else float("nan")
        stated = int(max(video.get(cv2.CAP_PROP_FRAME_COUNT), 0))
        index, damaged = 0, []
        while len(damaged) < _MOST_DAMAGED_IN_A_ROW:
            pixels = None
            if video.grab():
                if index % every:
                    index, damaged = index + 1, _told(damaged, report)
                    continue
                found, image = video.retrieve()
                pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if found else None
            elif index >= stated:
                break
            if pixels is None:
                damaged.append(index)
            else:
                damaged = _told(damaged, report)
                yield Frame(index, index / rate, check_image(pixels, f"frame {index} of {path}"), path.name)
            index += 1
        if damaged:  # nothing readable came after them
            report(f"{path.name} states {stated} frames but ends after {damaged[0]}")
    finally:
        video.release()


def _told(damaged: list[int], report: Report) -> list[int]:
    """Report frames that could not be read between others that could."""
    if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (" ..." if len(damaged) > 5 else "")
        report(f"{len(damaged)} damaged frames are left out: {numbers}")
    return []


def _open(path: Path) -> cv2.VideoCapture:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        video = cv2.VideoCapture(str(path))
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not video.isOpened():
        raise FormatError(f"{path} is not a video that OpenCV can read; convert it, for example to MP4")
    return video
