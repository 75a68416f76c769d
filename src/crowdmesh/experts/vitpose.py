"""KeypointExpert on the GPU: COCO-17 keypoints from ViTPose (Xu et al. 2022, Apache-2.0) through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from crowdmesh.assets import Weights
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts._device import Device
from crowdmesh.experts._heatmaps import PersonCrop, crop_around, find_peaks
from crowdmesh.experts._pretrained import Pretrained, batches, normalise
from crowdmesh.experts.base import Detections, InputImage, Keypoints

MIRRORED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""The keypoint that takes the place of each COCO keypoint in a mirror."""

COCO_DATASET = 0
"""Which of the training sets' experts the mixture networks (ViTPose+) are asked for."""


class ViTPoseKeypoints:
    """17 keypoints of each detected person.

    Args:
        model: an entry of the catalogue, or a folder in the hub's layout.
        device: where the network runs; ``device.batch`` crops, of whichever images, go through it at once.
        masked: black out everything but the person where the detections have masks, as in the paper.
        flip_test: average with the mirrored crop: twice the work, slightly better.
    """

    def __init__(self, model: Weights | Path, device: Device, masked: bool = True, flip_test: bool = False) -> None:
        self._network = Pretrained(model, "VitPoseForPoseEstimation", device)
        self._masked = masked
        self._flip_test = flip_test
        details = [word for word, said in (("masked", masked), ("flip test", flip_test)) if said]
        self.name = f"ViTPose ({', '.join((self._network.weights.name, *details))})"

    def sources(self) -> tuple[Weights, ...]:
        """The network's weights."""
        return (self._network.weights,)

    def locate(self, images: Sequence[InputImage], detections: Sequence[Detections]) -> list[Keypoints]:
        """Keypoints of every detected person; the confidence is the largest value of the heatmap, in [0, 1].

        Raises:
            InputError: as many detections as images are needed.
            AssetError: the network cannot be loaded, or has other keypoints.
        """
        if len(images) != len(detections):
            raise InputError(f"{len(detections)} sets of detections were given for {len(images)} images")
        answers = [np.zeros((len(found), 17, 3)) for found in detections]
        people = [(i, k) for i, found in enumerate(detections) for k in range(len(found))]
        for group in batches(people, self._network.device.batch):
            crops = [crop_around(detections[i].boxes_px[k]) for i, k in group]
            views = [self._view(images[i], detections[i], k, crop) for (i, k), crop in zip(group, crops, strict=True)]
            for (i, k), keypoints in zip(group, self._read(np.stack(views), crops), strict=True):
                answers[i][k] = keypoints
        return [Keypoints(answer) for answer in answers]

    def _view(self, image: InputImage, found: Detections, person: int, crop: PersonCrop) -> UInt8[np.ndarray, "h w 3"]:
        mask = found.masks[[person]].to_dense()[0] if self._masked and found.masks is not None else None
        return crop.sample(image.pixels, mask)

    def _read(
        self, views: UInt8[np.ndarray, "N 256 192 3"], crops: Sequence[PersonCrop]
    ) -> Float[np.ndarray, "N 17 3"]:
        heatmaps = self._heatmaps(views)
        if self._flip_test:
            mirrored = self._heatmaps(np.ascontiguousarray(views[:, :, ::-1]))
            heatmaps = (heatmaps + mirrored[:, MIRRORED, :, ::-1]) / 2.0
        cells, values = find_peaks(heatmaps)
        size = (heatmaps.shape[3], heatmaps.shape[2])
        points = np.stack([crop.to_image(cell, size) for crop, cell in zip(crops, cells, strict=True)])
        return np.concatenate((points, values.clip(0.0, 1.0)[..., None]), axis=-1)

    def _heatmaps(self, views: UInt8[np.ndarray, "N 256 192 3"]) -> Float[np.ndarray, "N 17 h w"]:
        pixels = normalise(torch.from_numpy(views.transpose(0, 3, 1, 2).copy()).float() / 255.0)
        inputs: dict[str, Any] = {}
        if getattr(self._network.config.backbone_config, "num_experts", 1) > 1:
            inputs["dataset_index"] = torch.full((len(views),), COCO_DATASET, device=self._network.device.name)
        heatmaps = self._network(pixels, **inputs).heatmaps.float().cpu().numpy()
        if heatmaps.shape[1] != len(MIRRORED):
            raise AssetError(
                f"{self.name} has {heatmaps.shape[1]} keypoints instead of COCO's 17; use a network trained on COCO"
            )
        return heatmaps
