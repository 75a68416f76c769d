"""AttributeExpert of the paper: MiVOLO v2 (Kuprashevich et al. 2024) reads age and sex from face and body together.

Its network is Python code that lies beside the weights on the hub. It is run only where the user allows that, and only
from one commit. It imports the package ``mivolo`` from GitHub (which needs timm and torchvision); CrowdMesh installs
none of them.

The release finds faces with a YOLOv8x; here MediaPipe's detector stands in its place, and where it sees none the face
is cut out around nose, eyes and ears: there those of the fitted mesh, here the detected keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crowdmesh import assets
from crowdmesh.assets import Weights
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts._device import Device
from crowdmesh.experts._people_crops import HeadFaces, assign_face_boxes, cut, estimated_faces, letterbox
from crowdmesh.experts._pretrained import normalise, quiet
from crowdmesh.experts.base import Attributes, Detections, InputImage, Keypoints
from crowdmesh.hub import HubModel

MIVOLO_V2 = HubModel(
    repo="iitolstykh/mivolo_v2",
    licence="Apache-2.0 (its card and repository)",
    size_bytes=115_078_528,
    source="MiVOLO v2 (mivolo_d1_384), Kuprashevich, Alekseenko, Tolstykh 2024: age and sex from face and body",
    revision="53393526c220e34cdd7b722b36d22b6f9e5f4241",
    sha256="96efb47051c038ebeec74b73b4253c5fd000433e5afcab7deee0bd8f3fa7bf18",
    files=("config.json", "configuration_mivolo.py", "modeling_mivolo.py", "model.safetensors"),
)
"""The published network and its code."""

SIZE = 384
"""Pixels per side of both of its inputs."""

DETECTED_FACE_SIDE = 1.2
"""Side of the crop of a detected face in widths of MediaPipe's square, which ends at the brows, while YOLOv8x boxes the
whole face (our choice: as far beyond it as the release goes beyond nose, eyes and ears)."""

_MALE = 0

Network = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Faces and bodies, each (N, 3, 384, 384), to ages in years and probabilities of being male, each (N,)."""


class MiVOLO:
    """Apparent age and sex from face and body by MiVOLO v2, averaged over each crop and its mirror image.

    ``age_std_years`` stays NaN: published is only the mean error over all ages (3.65 years on LAGENDA), which is what
    DTO assumes of ages without one.

    Args:
        device: where it runs.
        model: another commit of it, or another folder in its layout.
        allow_remote_code: run the Python code that comes with the weights.
        faces: finds faces; ``None``: MediaPipe's detector.
        load: makes the network from a checked folder.

    Raises:
        InputError: the code is not allowed, or the model is not pinned to a commit.
    """

    def __init__(
        self,
        device: Device,
        model: HubModel = MIVOLO_V2,
        allow_remote_code: bool = False,
        faces: HeadFaces | None = None,
        load: Callable[[Path, Device], Network] | None = None,
    ) -> None:
        where = f"commit {model.revision}" if model.local is None else "that folder"
        if not allow_remote_code:
            raise InputError(
                f"MiVOLO would run Python code that comes with the weights of {model.name} ({where}), which may do "
                "whatever you may do on this machine; read it and say --allow-remote-code (in Python "
                "allow_remote_code=True), or use other experts for age and sex"
            )
        if model.local is None and not model.pinned:
            raise InputError(
                f"code of {model.name} at {model.revision!r} may change at any time and is not run; name a commit "
                f"(40 hexadecimal digits), as {MIVOLO_V2.revision}"
            )
        self.name = f"MiVOLO v2 ({model.name})"
        self._device, self._model = device, model
        self._faces = faces or HeadFaces()
        self._load = load or load_mivolo
        self._network: Network | None = None

    def sources(self) -> tuple[Weights, ...]:
        """The files it needs."""
        return (self._model, assets.FACE_DETECTION)

    def estimate(
        self, images: Sequence[InputImage], detections: Sequence[Detections], keypoints: Sequence[Keypoints]
    ) -> list[Attributes]:
        """Age and probability of being male; NaN for people whose box shows nothing of the image."""
        answers = [_Answer(len(found)) for found in detections]
        views = self._views(images, detections, keypoints, answers)
        while batch := list(islice(views, self._device.batch)):
            for view, age, male in zip(batch, *self._read(batch), strict=True):
                answers[view.image].add(view.person, age, male)
        return [answer.attributes() for answer in answers]

    def _views(
        self,
        images: Sequence[InputImage],
        detections: Sequence[Detections],
        keypoints: Sequence[Keypoints],
        answers: list[_Answer],
    ) -> Iterator[_View]:
        """Everybody as they are and mirrored, cut out when asked for; the faces' boxes go into the answers."""
        for i, (image, found, points) in enumerate(zip(images, detections, keypoints, strict=True)):
            if not len(found):
                continue
            boxes = self._face_boxes(image, found, points)
            for k, (box, face_box) in enumerate(zip(found.boxes_px, boxes, strict=True)):
                body, face = cut(image.pixels, box), cut(image.pixels, face_box)
                if face is not None:
                    answers[i].faces_px[k] = face_box
                if face is not None or body is not None:
                    view = _View(i, k, *(None if crop is None else letterbox(crop, SIZE) for crop in (face, body)))
                    yield view
                    yield view.mirrored()

    def _face_boxes(self, image: InputImage, detections: Detections, keypoints: Keypoints) -> np.ndarray:
        """(K, 4) box of the face of each person: the detected one, else the estimated one, else NaN."""
        boxes = estimated_faces(keypoints.coco17_px)
        faces = self._faces(image.pixels, detections, keypoints)
        half = DETECTED_FACE_SIDE * faces.widths_px[:, None] / 2.0
        detected = np.concatenate((faces.centres_px - half, faces.centres_px + half), axis=1)
        chosen = assign_face_boxes(boxes, detected)
        return np.where(chosen[:, None] >= 0, np.concatenate((detected, np.zeros((1, 4))))[chosen], boxes)

    def _read(self, views: list[_View]) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        if self._network is None:
            self._network = self._load(self._model.folder(), self._device)
        faces, bodies = (
            _as_input(squares).to(self._device.name, self._device.dtype)
            for squares in ([view.face for view in views], [view.body for view in views])
        )
        with torch.inference_mode():
            ages, male = self._network(faces, bodies)
        return ages.double().cpu().numpy(), male.double().cpu().numpy()


@dataclass(frozen=True, eq=False)
class _View:
    """One look at one person of one image, in squares of the network's size."""

    image: int
    person: int
    face: UInt8[np.ndarray, "S S 3"] | None
    body: UInt8[np.ndarray, "S S 3"] | None

    def mirrored(self) -> _View:
        """The same with left and right exchanged."""
        face, body = (None if square is None else square[:, ::-1] for square in (self.face, self.body))
        return _View(self.image, self.person, face, body)


class _Answer:
    """What is known so far of the K people of an image."""

    def __init__(self, people: int) -> None:
        self.faces_px = np.full((people, 4), np.nan)
        self._sums, self._views = np.zeros((2, people)), np.zeros(people)

    def add(self, person: int, age: float, male: float) -> None:
        """One more look at somebody."""
        self._sums[:, person] += age, male
        self._views[person] += 1

    def attributes(self) -> Attributes:
        """Means over the looks; NaN for those nobody looked at."""
        age, male = self._sums / np.where(self._views > 0, self._views, np.nan)
        return Attributes(np.maximum(age, 0.0), np.full(len(age), np.nan), male, self.faces_px)


def _as_input(squares: list[UInt8[np.ndarray, "S S 3"] | None]) -> Float[Tensor, "N 3 S S"]:
    """What the network takes, RGB with ImageNet's mean and deviation removed; black for what is missing."""
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels = np.stack([black if square is None else square for square in squares])
    return normalise(torch.from_numpy(pixels.transpose(0, 3, 1, 2) / np.float32(255.0)))


def load_mivolo(folder: Path, device: Device) -> Network:
    """The network of a folder, by running the code in it.

    Raises:
        AssetError: transformers, or what the code imports, is missing, or the folder does not hold such a network.
    """
    try:
        import transformers
    except ImportError as error:
        raise AssetError(f"MiVOLO needs the transformers library ({error}); install it") from error
    try:
        with quiet(transformers):
            network = transformers.AutoModelForImageClassification.from_pretrained(
                folder, trust_remote_code=True, local_files_only=True, use_safetensors=True, dtype=device.dtype
            )
    except ImportError as error:
        raise AssetError(
            f"the code in {folder} imports what is not installed ({_first_line(error)}); install the "
            "package mivolo from https://github.com/WildChlamydia/MiVOLO, not one of that name from elsewhere"
        ) from error
    except Exception as error:  # whatever somebody else's code raises
        raise AssetError(
            f"{folder} is not a usable MiVOLO network ({_first_line(error)}); download it again"
        ) from error
    network = network.eval().to(device.name)

    def run(faces: Tensor, bodies: Tensor) -> tuple[Tensor, Tensor]:
        output = network(faces_input=faces, body_input=bodies, return_dict=True)
        # The more probable sex and its probability.
        probability, sex = output.gender_probs[:, 0].double(), output.gender_class_idx[:, 0]
        return output.age_output[:, 0], torch.where(sex == _MALE, probability, 1.0 - probability)

    return run


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
