"""PersonDetector on the GPU: boxes and masks from RF-DETR-Seg (Robinson et al. 2025, Apache-2.0) through transformers.

The network sees the whole image squeezed into a square (432 pixels for the size "medium"). The paper's detector, a
Cascade Mask R-CNN on ViTDet-H, exists only in Detectron2: its results come in through
:class:`crowdmesh.experts.detections_file.DetectionsFromFile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from crowdmesh.assets import Weights
from crowdmesh.errors import AssetError
from crowdmesh.experts._device import Device
from crowdmesh.experts._mask_codes import join_masks
from crowdmesh.experts._nms import suppress_overlaps
from crowdmesh.experts._pretrained import Pretrained, batches, normalise
from crowdmesh.experts.base import Detections, InputImage
from crowdmesh.masks import Masks

MIN_SCORE = 0.5
"""People of a lower confidence are dropped, as in the paper."""

MAX_OVERLAP = 0.7
"""Of two boxes with a larger intersection over union, the less confident one is dropped, as in the paper."""

_COCO_CLASSES, _COCO_PERSON = 91, 1


class RfDetrPersons:
    """Person boxes and masks from RF-DETR-Seg.

    The network is small and always runs in float32: in bfloat16 boxes come in steps of up to a 256th of the image.

    Args:
        model: an entry of the catalogue, or a folder in the hub's layout.
        device: where the network runs; ``device.batch`` images go through it at once.
    """

    def __init__(self, model: Weights | Path, device: Device) -> None:
        precise = replace(device, dtype=torch.float32)
        self._network = Pretrained(model, "RfDetrForInstanceSegmentation", precise)
        self.name = f"RF-DETR-Seg ({self._network.weights.name})"

    def sources(self) -> tuple[Weights, ...]:
        """The network's weights."""
        return (self._network.weights,)

    def detect(self, images: Sequence[InputImage]) -> list[Detections]:
        """Everybody in each image, most confident first, with masks of the image's size.

        Masks may overlap. Boxes of less than one pixel in the image are nobody's; a mask may be empty.

        Raises:
            AssetError: the network cannot be loaded, or does not know people.
        """
        if not images:
            return []
        config = self._network.config
        side, person = _input_side(config), person_class(config.id2label)
        found = []
        for group in batches(images, self._network.device.batch):
            pixels = torch.stack([prepare(image.pixels, side) for image in group])
            said = self._network(pixels)
            logits, boxes = said.logits[..., person].float().cpu(), said.pred_boxes.float().cpu()
            for k, image in enumerate(group):
                found.append(read_people(logits[k], boxes[k], said.pred_masks[k], image.height, image.width))
        return found


def person_class(names: dict[int, str]) -> int:
    """Number of the class "person".

    91 classes without names are COCO's category numbers, which the released checkpoints use: person is 1.

    Raises:
        AssetError: there is no such class.
    """
    for number, name in names.items():
        if str(name).strip().lower() == "person":
            return int(number)
    if len(names) == _COCO_CLASSES and all(str(name) == f"LABEL_{number}" for number, name in names.items()):
        return _COCO_PERSON
    known = ", ".join(sorted(map(str, names.values()))[:5])
    raise AssetError(f"the RF-DETR network has no class 'person' (it knows {known} ...); use one trained on COCO")


def prepare(image: UInt8[np.ndarray, "H W 3"], side: int) -> Float[Tensor, "3 s s"]:
    """The whole image as a square of ``side`` pixels, bilinear with smoothing where it shrinks, normalised.

    As the library's processor does it, resized in 8 bits. (rfdetr's own ``predict`` has not smoothed since July 2026:
    roboflow/rf-detr, pull request 1206.)
    """
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    square = functional.interpolate(planes[None], size=(side, side), mode="bilinear", antialias=True)[0]
    return normalise(square.float() / 255.0)


def read_people(
    logits: Float[Tensor, " Q"],
    boxes: Float[Tensor, "Q 4"],
    masks: Float[Tensor, "Q h w"],
    height: int,
    width: int,
) -> Detections:
    """The people among Q queries of one image of ``height`` x ``width`` pixels.

    Args:
        logits: of the class "person"; the score is their sigmoid.
        boxes: centre x, centre y, width, height as shares of the image.
        masks: logits over the whole image, on any device; positive: the person.
    """
    scores = logits.double().sigmoid().numpy()
    centre, half = boxes[:, :2].double().numpy(), boxes[:, 2:].double().numpy() / 2.0
    corners = np.concatenate((centre - half, centre + half), axis=1) * (width, height, width, height)
    boxes_px = np.clip(corners, 0.0, (width, height, width, height))
    likely = np.flatnonzero((scores >= MIN_SCORE) & np.all(boxes_px[:, 2:] - boxes_px[:, :2] >= 1.0, axis=1))
    kept = likely[suppress_overlaps(boxes_px[likely], scores[likely], MAX_OVERLAP)]
    # One mask at a time has the image's size, so that a crowd fits.
    coded = [Masks.from_dense(_enlarge(masks[int(index)], height, width)[None]) for index in kept]
    return Detections(boxes_px[kept], scores[kept], join_masks(height, width, coded))


def _enlarge(mask: Float[Tensor, "h w"], height: int, width: int) -> Bool[np.ndarray, "H W"]:
    full = functional.interpolate(mask[None, None].float(), size=(height, width), mode="bilinear", align_corners=False)
    return (full[0, 0] > 0.0).cpu().numpy()


def _input_side(config: Any) -> int:
    """Side of the square the network was trained on, in pixels."""
    size = config.backbone_config.image_size
    return int(size[0] if isinstance(size, (list, tuple)) else size)
