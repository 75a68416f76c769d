"""Photographs to scenes with a MA-HMR network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crowdmesh._files import sha256
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.images import check_image, read_image
from crowdmesh.mahmr.canvas import Canvas, prepare
from crowdmesh.mahmr.decoder import Decoded
from crowdmesh.mahmr.heads import axis_angles
from crowdmesh.people import People, PersonStatus
from crowdmesh.scene import Scene

if TYPE_CHECKING:
    from crowdmesh.mahmr.model import MAHMR

_WITHIN = 1 + 1e-9  # so that rounding does not lead out of a range

Photo = str | Path | UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, eq=False)
class _Batch:
    """Photographs that go through the network together, and what it finds in all of them."""

    sources: list[str]
    photos: list[UInt8[np.ndarray, "_ _ 3"]]
    canvases: list[Canvas]
    known: list[float | None]


class Predictor:
    """A network with its settings, for one photograph after the other.

    Args:
        fov: vertical field of view of all photographs in radians; ``None``: predict it.
        threshold, precision: see :meth:`crowdmesh.mahmr.MAHMR.infer`.
    """

    def __init__(
        self, model: MAHMR, fov: float | None = None, threshold: float = 0.3, precision: torch.dtype = torch.float32
    ) -> None:
        _check_settings(model, threshold, precision)
        self.model, self.fov, self.threshold, self.precision = model, fov, threshold, precision

    def __call__(self, photo: Photo) -> tuple[Scene, tuple[str, ...]]:
        """The scene of a photograph, and what a reader should know, one sentence each."""
        (scene,) = predict_scenes(self.model, [photo], self.fov, self.threshold, 1, self.precision)
        notes = [f"camera: {scene.provenance['camera']}"]
        if not len(scene.people):
            best = scene.provenance["best_confidence"]
            notes.append(f"nobody above confidence {self.threshold:g}; the best query has {best:.2f}")
        elif len(scene.people) == self.model.config.queries:
            notes.append(f"as many people as the network has queries ({len(scene.people)}); there may be more")
        return scene, tuple(notes)

    def signature(self, photo: Path) -> dict[str, Any]:
        """What decides the result: the photograph's content, the weights, the settings."""
        return {
            "photo_sha256": sha256(photo),
            "weights_sha256": self.model.provenance.get("sha256"),
            "settings": {
                "fov": self.fov,
                "threshold": self.threshold,
                "precision": str(self.precision).removeprefix("torch."),
                "network": self.model.config.to_dict(),
            },
        }


def predict_scenes(
    model: MAHMR,
    images: Sequence[Photo],
    fov: float | Sequence[float | None] | None,
    threshold: float,
    batch_size: int,
    precision: torch.dtype,
) -> list[Scene]:
    """See :meth:`crowdmesh.mahmr.MAHMR.infer`."""
    if isinstance(images, (str, Path, np.ndarray)):
        raise InputError("infer takes a list of photographs; for one, give [photo]")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    _check_settings(model, threshold, precision)
    known = _known_fovs(fov, len(images))
    scenes: list[Scene] = []
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        batch = _batch(model, images[chosen], known[chosen], start)
        scenes += _predict_batch(model, batch, threshold, precision)
    return scenes


def _check_settings(model: MAHMR, threshold: float, precision: torch.dtype) -> None:
    if not 0 <= threshold < 1:
        raise InputError(f"threshold must lie in [0, 1), got {threshold:g}")
    if precision not in (torch.float32, torch.bfloat16, torch.float16):
        raise InputError(f"precision must be torch.float32, torch.bfloat16 or torch.float16, got {precision!r}")
    kind = next(model.parameters()).dtype
    if kind is not torch.float32:
        raise InputError(f"the network's weights are {kind}; keep them in float32 and choose with precision=")


def _known_fovs(fov: float | Sequence[float | None] | None, count: int) -> list[float | None]:
    values = [fov] * count if fov is None or np.ndim(fov) == 0 else list(fov)  # type: ignore[arg-type]
    if len(values) != count:
        raise InputError(f"{len(values)} fields of view for {count} images; give one per image (None: predict it)")
    known = [None if value is None else float(value) for value in values]  # type: ignore[arg-type]
    for value in known:
        if value is not None and not 0 < value < math.pi:
            raise InputError(f"a field of view must lie between 0 and pi radians, got {value:g}; are these degrees?")
    return known


def _batch(model: MAHMR, images: Sequence[Photo], known: list[float | None], first: int) -> _Batch:
    device = next(model.parameters()).device
    sources, photos = [], []
    for i, image in enumerate(images, first):
        if isinstance(image, (str, Path)):
            sources.append(Path(image).name)
            photos.append(read_image(image))
        else:
            sources.append(f"array {i}")
            photos.append(check_image(image, f"image {i} of the list"))
    canvases = [prepare(photo, model.config.input_size, device) for photo in photos]
    return _Batch(sources, photos, canvases, known)


def _predict_batch(model: MAHMR, batch: _Batch, threshold: float, precision: torch.dtype) -> list[Scene]:
    device = batch.canvases[0].pixels.device
    with torch.inference_mode():
        with torch.autocast(device.type, precision, enabled=precision is not torch.float32):
            encoded = model.encoder([canvas.pixels for canvas in batch.canvases])
        encoded = replace(encoded, tokens=encoded.tokens.float(), camera=encoded.camera.float())
        decoded = model.decode(encoded)
        confidences = model.confidences(decoded.hidden[-1])
        sizes = torch.tensor([(canvas.height, canvas.width) for canvas in batch.canvases], device=device).float()
        known = torch.tensor([math.nan if v is None else v for v in batch.known], device=device)
        fov, _ = model.field_of_view(encoded.camera, sizes, known)
        finite = decoded.hidden.isfinite().flatten(2).all(2).all(0) & fov.isfinite()
        for source, fine in zip(batch.sources, finite.tolist(), strict=True):
            if not fine:
                raise InputError(
                    f"the network's result for {source} is not finite: its weights do not suit precision "
                    f"{str(precision).removeprefix('torch.')}; use float32, or other weights"
                )
        return [
            _scene(model, batch, i, decoded, confidences[i], float(value), threshold)
            for i, value in enumerate(fov.tolist())
        ]


def _scene(
    model: MAHMR, batch: _Batch, i: int, decoded: Decoded, confidence: Float[Tensor, " Q"], fov: float, threshold: float
) -> Scene:
    """One image's people above the threshold, the most certain one first."""
    canvas, photo = batch.canvases[i], batch.photos[i]
    height, width = photo.shape[:2]
    camera, source = _camera(model, canvas, photo, fov, batch.known[i] is not None)
    order = confidence.argsort(descending=True, stable=True)
    chosen = order[: int((confidence > threshold).sum())]
    hidden = decoded.hidden[:, i, chosen]
    posed_joints, betas = model.people(hidden)
    rotations = model.all_joints(posed_joints)
    focal = torch.full((1,), camera.fy * canvas.height / height, device=hidden.device)
    translations = model.translations(hidden[-1:], focal)[0]
    shapes = model.body_shapes(betas)
    posed = model.body(shapes, rotations, translations)
    assert posed.vertices is not None
    people = People(
        body=model.body.name,
        pose=_array(axis_angles(rotations)),
        shape=_array(shapes),
        translation_m=_array(translations),
        stature_m=_array(model.body.stature(shapes)),
        vertices_m=_array(posed.vertices, np.float32),
        joints_m=_array(posed.joints, np.float32),
        boxes_px=_boxes(decoded.boxes[-1, i, chosen], canvas, model.config.input_size, width, height),
        scores=_array(confidence[chosen]),
        status=np.full(len(chosen), PersonStatus.PREDICTED),
    )
    provenance: dict[str, Any] = {
        "source": batch.sources[i],
        "crowdmesh": version("crowdmesh"),
        "method": "ma-hmr",
        "camera": source,
        "threshold": threshold,
        "best_confidence": float(confidence.max()),
        "weights": model.provenance,
    }
    return Scene(camera, people, photo, provenance)


def _camera(
    model: MAHMR, canvas: Canvas, photo: UInt8[np.ndarray, "H W 3"], fov: float, known: bool
) -> tuple[Camera, str]:
    """The photograph's camera, and where it comes from; a predicted focal length no camera has is bounded, and said.

    Rounding makes the resized image's pixels slightly oblong on the photograph, and the camera keeps that.
    """
    height, width = photo.shape[:2]
    across, down = width / canvas.width, height / canvas.height
    focal = canvas.height / (2 * math.tan(fov / 2))
    source = "given" if known else "predicted by the network" if model.config.fov else "assumed by the network"
    if not known:
        shortest, longest = Camera.focal_range(width, height)
        bounded = min(max(focal, shortest * _WITHIN / min(across, down)), longest / _WITHIN / max(across, down))
        if bounded != focal:
            source += f", bounded from an implausible {math.degrees(fov):.1f}°"
            focal = bounded
    camera = Camera(focal * across, focal * down, width / 2, height / 2, width, height)
    return camera, f"{source} (vertical field of view {math.degrees(camera.vertical_fov):.1f}°)"


def _boxes(
    boxes: Float[Tensor, "K 4"], canvas: Canvas, input_size: int, width: int, height: int
) -> Float[np.ndarray, "K 4"]:
    """Left, top, right, bottom in pixels of the photograph."""
    centre, size = _array(boxes[:, :2]), _array(boxes[:, 2:])
    corners = np.stack((centre - size / 2, centre + size / 2), 1) * input_size
    return (corners * (width / canvas.width, height / canvas.height)).reshape(-1, 4)


def _array(values: Tensor, dtype: type = np.float64) -> np.ndarray:
    return values.detach().cpu().numpy().astype(dtype)
