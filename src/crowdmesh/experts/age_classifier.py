"""AttributeExpert of the ``open`` set: image classifiers of age groups and of the sexes, on upright face crops.

Any two ViT classifiers of transformers will do whose labels say age groups (``0-2``, ``10-19``, ``more than 70``) and
sexes (``Male``, ``Female``). The default ones are trained on FairFace (Karkkainen and Joo 2021, CC BY 4.0), whose ages
are groups of ten years that people guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from crowdmesh import assets
from crowdmesh.assets import Weights
from crowdmesh.errors import AssetError
from crowdmesh.experts._device import Device
from crowdmesh.experts._people_crops import HeadFaces, unknown_attributes
from crowdmesh.experts._pretrained import as_weights, load_network, normalise
from crowdmesh.experts.base import Attributes, Detections, InputImage, Keypoints
from crowdmesh.experts.lite_face_detector import Faces
from crowdmesh.experts.lite_faces import CLEAR_FACE_PX, MIN_FACE_PX, assign_faces
from crowdmesh.hub import HubModel

_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")

FAIRFACE_AGE = HubModel(
    repo="dima806/fairface_age_image_detection",
    licence="Apache-2.0 (its card)",
    size_bytes=343_000_000,
    source="ViT-B/16 fine-tuned on FairFace: nine age groups, 59 % right on its author's test part",
    revision="12ebfffac95870200c3af9057302e41399ecf6c1",
    sha256="1265d8e5a8a363a615898be873c224aebc6f310654bf23b1745da0975a7b7555",
    files=_FILES,
)
FAIRFACE_SEX = HubModel(
    repo="dima806/fairface_gender_image_detection",
    licence="Apache-2.0 (its card)",
    size_bytes=343_223_968,
    source="ViT-B/16 fine-tuned on FairFace: two sexes, 93 % right on its author's test part",
    revision="a8e129dc622dafa08bd2ee2e0fd05759850ae14e",
    sha256="311bf7c7de91b9dcde135c4788a634cae812240543afd5bff1c905440ec219cb",
    files=_FILES,
)

FACE_SIDE = 1.1
"""Side of a face crop in widths of MediaPipe's square. FairFace's crops are dlib's face chips with padding 0.25, 2.85
eye distances wide; grown-ups who face the camera have their eyes 0.37 to 0.40 of MediaPipe's square apart."""

OPEN_GROUP_YEARS = 20.0
"""Length of an age group without end, as ``more than 70`` (our assumption)."""

_MALE = frozenset({"male", "man", "men", "boy", "m"})
_FEMALE = frozenset({"female", "woman", "women", "girl", "f"})
_GROUP = re.compile(r"(?:(?P<low>\d+)\s*(?:-|–|to)\s*(?P<high>\d+)|(?P<year>\d+)|(?P<open>\d+)\s*\+|"
                    r"(?:more than|over|>=?)\s*(?P<more>\d+))(?:\s*years?(?: old)?)?")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that tells classes of square RGB crops.

    Attributes:
        size: pixels per side of the crops it takes.
        labels: its classes.
        probabilities: (N, size, size, 3) uint8 crops to the (N, C) probability of each class, float64.
    """

    size: int
    labels: tuple[str, ...]
    probabilities: Callable[[np.ndarray], np.ndarray]


def load_classifier(folder: Path, device: Device) -> Classifier:
    """The ``ViTForImageClassification`` of a folder in the hub's layout.

    Raises:
        AssetError: it holds no such network.
    """
    network = load_network(folder, "ViTForImageClassification", device)
    mean, std = _mean_and_std(folder)

    def probabilities(crops: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)) / np.float32(255.0))
        with torch.inference_mode():
            logits = network(normalise(pixels, mean, std).to(device.name, device.dtype)).logits
        return logits.double().softmax(dim=-1).cpu().numpy()

    labels: Mapping[int, str] = network.config.id2label
    return Classifier(int(network.config.image_size), tuple(labels[k] for k in range(len(labels))), probabilities)


def _mean_and_std(folder: Path) -> tuple[list[float], list[float]]:
    """Of RGB in [0, 1], from ``preprocessor_config.json``, else one half, with which ViTs are trained."""
    path = folder / "preprocessor_config.json"
    try:
        config = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        half = (0.5, 0.5, 0.5)
        mean, std = ([float(config.get(key, half)[c]) for c in range(3)] for key in ("image_mean", "image_std"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise AssetError(f"{path} does not say how pixels are normalised ({error}); download it again") from error
    return mean, std


class AgeClassifier:
    """Apparent age and sex from faces, by classes; averaged over each face and its mirror image.

    Args:
        device: where the networks run.
        age, sex: classifiers of age groups and of sexes: entries of the catalogue or folders in the hub's layout.
        faces: finds faces; ``None``: MediaPipe's detector.
        load: makes a classifier from a checked folder.
    """

    def __init__(
        self,
        device: Device,
        age: Weights | Path | str = FAIRFACE_AGE,
        sex: Weights | Path | str = FAIRFACE_SEX,
        faces: HeadFaces | None = None,
        load: Callable[[Path, Device], Classifier] = load_classifier,
    ) -> None:
        self._device, self._load, self._sources = device, load, (as_weights(age), as_weights(sex))
        self._faces = faces or HeadFaces()
        self.name = f"{self._sources[0].name} + {self._sources[1].name}"

    def sources(self) -> tuple[Weights, ...]:
        """The files it needs."""
        return (*self._sources, assets.FACE_DETECTION)

    def estimate(
        self, images: Sequence[InputImage], detections: Sequence[Detections], keypoints: Sequence[Keypoints]
    ) -> list[Attributes]:
        """Age, its standard deviation and probability of being male; NaN for people whose face is not seen.

        Inside a group all ages are taken as equally probable. The standard deviation is that over the groups, larger
        for small faces as in ``lite_faces``.
        """
        answers = [unknown_attributes(len(found)) for found in detections]
        people = self._people(images, detections, keypoints)
        while batch := list(islice(people, max(1, self._device.batch // 2))):
            for person, age, std, male in zip(batch, *self._read(batch), strict=True):
                answer, k, width = answers[person.image], person.index, person.width_px
                answer.age_years[k], answer.male_probability[k] = age, male
                answer.age_std_years[k] = std * max(1.0, CLEAR_FACE_PX / width)
                answer.faces_px[k] = person.box_px
        return answers

    def _people(
        self, images: Sequence[InputImage], detections: Sequence[Detections], keypoints: Sequence[Keypoints]
    ) -> Iterator[_Face]:
        """Everybody whose face is seen, cut out when asked for."""
        for i, (image, found, points) in enumerate(zip(images, detections, keypoints, strict=True)):
            if not len(found):
                continue
            faces = self._faces(image.pixels, found, points)
            for k, face in enumerate(assign_faces(faces, points.coco17_px).tolist()):
                if face >= 0 and faces.widths_px[face] >= MIN_FACE_PX:
                    yield _Face(i, k, image.pixels, faces, face)

    def _read(self, people: list[_Face]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Age, its standard deviation and the probability of being male, each (N,)."""
        age, std = age_moments(_classify(self._age, people, self._device.batch), self._groups)
        male, female = self._columns
        sexes = _classify(self._sex, people, self._device.batch)
        return age, std, sexes[:, male] / np.maximum(sexes[:, male] + sexes[:, female], np.finfo(float).tiny)

    @cached_property
    def _age(self) -> Classifier:
        return self._load(self._sources[0].fetch(), self._device)

    @cached_property
    def _sex(self) -> Classifier:
        return self._load(self._sources[1].fetch(), self._device)

    @cached_property
    def _groups(self) -> Float[np.ndarray, "C 2"]:
        return np.array([age_group(label) for label in self._age.labels])

    @cached_property
    def _columns(self) -> tuple[int, int]:
        """Where the classifier of sexes has men and women."""
        labels = [label.strip().lower() for label in self._sex.labels]
        columns = [[k for k, label in enumerate(labels) if label in words] for words in (_MALE, _FEMALE)]
        if any(len(found) != 1 for found in columns):
            raise AssetError(
                f"{self._sources[1].name} tells {', '.join(labels)}, not male and female; use another model"
            )
        return columns[0][0], columns[1][0]


@dataclass(frozen=True, eq=False)
class _Face:
    """One person's face in one image."""

    image: int
    index: int
    pixels: UInt8[np.ndarray, "H W 3"]
    faces: Faces
    face: int

    @property
    def width_px(self) -> float:
        return float(self.faces.widths_px[self.face])

    @property
    def box_px(self) -> Float[np.ndarray, " 4"]:
        centre, half = self.faces.centres_px[self.face], self.width_px / 2.0
        return np.concatenate((centre - half, centre + half))

    def crop(self, size: int) -> UInt8[np.ndarray, "S S 3"]:
        return self.faces.crop(self.face, FACE_SIDE, size).sample(self.pixels)


def _classify(classifier: Classifier, people: list[_Face], batch: int) -> Float[np.ndarray, "N C"]:
    """Mean probabilities over each face and its mirror image, at most ``batch`` crops at once."""
    crops = np.stack([person.crop(classifier.size) for person in people])
    views = (crops, crops[:, :, ::-1])
    if 2 * len(crops) > batch:
        return np.mean([classifier.probabilities(view) for view in views], axis=0)
    return classifier.probabilities(np.concatenate(views)).reshape(2, len(crops), -1).mean(axis=0)


def age_group(label: str) -> tuple[float, float]:
    """First and last moment of an age group, in years: ``3-9`` is 3 to 10, for a nine-year-old is not yet ten.

    Raises:
        AssetError: the label is no age group.
    """
    found = _GROUP.fullmatch(label.strip().lower())
    if found is None:
        raise AssetError(f"{label!r} is no age group as '3-9' or 'more than 70'; use a classifier of age groups")
    if start := found["open"] or found["more"]:
        return float(start), float(start) + OPEN_GROUP_YEARS
    low = float(found["low"] or found["year"])
    return low, float(found["high"] or found["year"]) + 1.0


def age_moments(
    probabilities: Float[np.ndarray, "N C"], groups: Float[np.ndarray, "C 2"]
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Mean and standard deviation of ages that are uniform inside each group."""
    low, high = groups.T
    mean = probabilities @ ((low + high) / 2.0)
    square = probabilities @ ((low**2 + low * high + high**2) / 3.0)
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))
