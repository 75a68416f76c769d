"""Any method in one shape: a photograph in, a scene out. Ours is one; other systems' results from files are another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from crowdmesh.benchmarks.photos import Photo
from crowdmesh.benchmarks.predictions import keys_of_images, read_predictions
from crowdmesh.errors import AssetError, CrowdMeshError, FormatError, InputError
from crowdmesh.experts import Reconstructor
from crowdmesh.mahmr import MAHMR
from crowdmesh.mahmr.predict import Predictor
from crowdmesh.scene import Scene

Progress = Callable[[int, int], None]
"""Called after every photograph with how many are done, and how many there are."""


@runtime_checkable
class SceneReconstructor(Protocol):
    """What a benchmark can score."""

    @property
    def name(self) -> str:
        """What the result calls it."""
        ...

    def __call__(self, photo: Photo) -> Scene:
        """Everybody in one photograph; a scene of nobody when nobody is found.

        Raises:
            FormatError, AssetError: a file is damaged or missing, which the user must mend: it ends the evaluation.
            Any other exception: the method fails on this photograph, whose people then count as missed.
        """
        ...


class ExpertLine:
    """Our own way from a photograph to a scene: a set of experts, then DTO."""

    def __init__(self, reconstructor: Reconstructor, name: str) -> None:
        self.reconstructor = reconstructor
        self.name = name

    def __call__(self, photo: Photo) -> Scene:
        """Read and reconstruct; the file itself is handed on where it can be, because it may tell the focal length."""
        if photo.path is None or photo.turn_clockwise:
            return self.reconstructor(photo.read()).scene
        return self.reconstructor(photo.path).scene


class OneStage:
    """A MA-HMR network: everybody in a photograph and its camera in one pass.

    Args:
        model: the network, where it shall run. name: what the result calls it.
        threshold: least confidence of a person; every public protocol takes 0.3.
    """

    def __init__(self, model: MAHMR, name: str, threshold: float = 0.3) -> None:
        self.predictor = Predictor(model, threshold=threshold)
        self.name = name

    def __call__(self, photo: Photo) -> Scene:
        """Read and predict."""
        return self.predictor(photo.read())[0]


class RecordedScenes:
    """Scenes that any system made before, from a folder of files (see ``read_predictions``).

    Attributes:
        keys: of each annotated image that has a scene, the name of its file.
    """

    def __init__(self, folder: str | Path, images: Iterable[str]) -> None:
        self.name = str(folder)
        self.scenes = read_predictions(folder)
        self.keys = keys_of_images(self.scenes, images)

    def __call__(self, photo: Photo) -> Scene:
        """The scene that was made of the photograph."""
        if photo.key not in self.keys:
            raise InputError(f"{self.name} holds no scene of {photo.key}")
        try:
            return self.scenes[self.keys[photo.key]]
        except InputError as error:  # here, bad values are a bad file
            raise FormatError(str(error)) from error


class Scenes(Mapping[str, Scene | None]):
    """What a method makes of photographs, each made when it is asked for; ``None`` where the method fails.

    None is kept, so that a data set need not fit in memory: who asks twice has it made twice.

    Attributes:
        failures: why, by image name.
    """

    def __init__(
        self, method: SceneReconstructor, photos: Mapping[str, Photo], progress: Progress | None = None
    ) -> None:
        self.method, self.photos, self.progress = method, photos, progress
        self.failures: dict[str, str] = {}
        self._done: set[str] = set()

    def __getitem__(self, image: str) -> Scene | None:
        photo = self.photos[image]
        try:
            scene = self.method(photo)
        except (FormatError, AssetError):
            raise
        except Exception as error:  # one photograph must not stop a data set
            scene, known = None, isinstance(error, CrowdMeshError)
            self.failures[image] = str(error) if known else f"unexpected {type(error).__name__}: {error}"
            if len(self.failures) == len(self.photos):
                raise InputError(f"{self.method.name} fails on every photograph: {self.failures[image]}") from error
        self._done.add(image)
        if self.progress is not None:
            self.progress(len(self._done), len(self.photos))
        return scene

    def __contains__(self, image: object) -> bool:
        return image in self.photos

    def __iter__(self) -> Iterator[str]:
        return iter(self.photos)

    def __len__(self) -> int:
        return len(self.photos)

    def notes(self) -> tuple[str, ...]:
        """A sentence on the failures, if there are any."""
        if not self.failures:
            return ()
        reasons = "; ".join(f"{image}: {reason}" for image, reason in list(self.failures.items())[:3])
        return (
            f"{self.method.name} fails on {len(self.failures)} images, all of whose people are missed, among them "
            f"{reasons}.",
        )
