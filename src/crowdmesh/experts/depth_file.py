"""DepthExpert without a network: maps that another network made, from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crowdmesh._files import read_npz
from crowdmesh.assets import Weights
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import FormatError, InputError
from crowdmesh.experts._files_by_name import FilesPerImage, file_of
from crowdmesh.experts.base import InputImage

_SUFFIXES = (".npz", ".npy", ".png")
_WHAT = "depth map"


class DepthFromFiles:
    """Depth maps from a folder with one file per photograph, named like it.

    Files are ``.npz`` (array ``depth``, and optionally the text ``kind``: ``disparity``, ``depth`` or ``metric``),
    ``.npy``, or one-channel ``.png`` of 8 or 16 bits. A map that does not say its kind is a disparity: larger is
    nearer. Its resolution is free, its shape that of the photograph. The folder may be a tree: for the photograph
    ``.../a/b/NAME.jpg`` the first of ``a/b/NAME.npz``, ``b/NAME.npz`` and ``NAME.npz`` counts.

    Raises:
        InputError: there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise InputError(
                f"depth maps {folder} are no folder; name a folder with one {', '.join(_SUFFIXES)} file per photograph"
            )
        self.name = f"depth maps of {self._folder.name}"

    def sources(self) -> tuple[Weights, ...]:
        """The folder."""
        return (FilesPerImage(self._folder),)

    def file_of(self, image: Path) -> Path | None:
        """The map's file of a photograph; ``None`` if there is none."""
        return file_of(self._folder, image, _SUFFIXES)

    def estimate(self, images: Sequence[InputImage]) -> list[RelativeDepth]:
        """The map of each photograph.

        Raises:
            InputError: a photograph without a name or without a map.
            FormatError: a damaged map, or one without values.
        """
        return [self._estimate(image) for image in images]

    def _estimate(self, image: InputImage) -> RelativeDepth:
        if image.path is None:
            raise InputError(
                f"depth maps of {self._folder} are looked up by file name, and this image has none; give it as a file"
            )
        if (file := self.file_of(image.path)) is None:
            wanted = " or ".join(f"{image.path.stem}{suffix}" for suffix in _SUFFIXES)
            raise InputError(f"depth maps {self._folder} have no {wanted} for {image.path}; add it")
        return read_depth(file)


def read_depth(file: Path) -> RelativeDepth:
    """A depth map from a file as :class:`DepthFromFiles` takes them.

    Raises:
        InputError: there is no such file.
        FormatError: damaged, without a value that counts, of an unknown kind, or not of two dimensions.
    """
    if not file.is_file():
        raise InputError(f"{_WHAT} {file} does not exist")
    try:
        if file.suffix.lower() != ".npz":
            return RelativeDepth.load(file)
        arrays = read_npz(file, _WHAT)
        if "depth" not in arrays:
            raise FormatError(f"{_WHAT} {file} has no array 'depth', only {', '.join(map(repr, arrays))}")
        return RelativeDepth(arrays["depth"], str(arrays.get("kind", "disparity")))  # type: ignore[arg-type]
    except InputError as error:
        raise FormatError(f"{_WHAT} {file}: {error}") from error
