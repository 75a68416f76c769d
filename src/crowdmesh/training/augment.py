"""A labelled photograph as the network learns from it: seen by a changed camera, recoloured, partly hidden.

Every change of geometry is one view (:mod:`crowdmesh.training.homography`), so that labels and pixels agree whatever
is drawn, principal point included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from crowdmesh.body.keypoints import LAYOUTS
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.mahmr.canvas import normalised
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.training.homography import View, centred_view, released_view
from crowdmesh.training.photometric import jittered, occluded
from crowdmesh.training.placed_people import PlacedPeople, place, see
from crowdmesh.training.sample import TrainingSample
from crowdmesh.training.targets import Example
from crowdmesh.training.targets_of import padded_size, targets_of

TRIES = 10
"""Draws after which an image in which nobody stays visible is given up (spec facts 3)."""

# A kept person's chest is not cut off; where a layout has no spine, it lies here between hips and shoulders.
_CHEST = 0.75


@dataclass(frozen=True)
class AugmentConfig:
    """How much an image may be changed.

    Attributes:
        rotation_rad: turned by up to this, either way.
        zoom: least and most enlargement.
        flip, crop: probability of a mirror image, and of losing the lower part of the image (below everybody's chest).
        jitter: strength of changes of brightness, contrast and saturation.
        occlusion: probability that a person gets a rectangle of noise in front of them.
        occlusion_share: most of the label box's area that it covers.
        released_crop: label views as the release does, whose crop contradicts the network's centred camera; for
            comparison only.
    """

    rotation_rad: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    crop: float = 0.0
    jitter: float = 0.0
    occlusion: float = 0.0
    occlusion_share: float = 0.3
    released_crop: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rotation_rad <= math.pi:
            raise InputError(f"rotation_rad must lie between 0 and pi, got {self.rotation_rad:g}")
        if len(self.zoom) != 2 or not 0.1 <= self.zoom[0] <= self.zoom[1] <= 10:
            raise InputError(f"zoom must be the least and the most enlargement, from 0.1 to 10, got {self.zoom}")
        for name in ("flip", "crop", "occlusion", "occlusion_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie between 0 and 1, got {getattr(self, name):g}")
        if not 0 <= self.jitter < 1:
            raise InputError(f"jitter must lie between 0 and 1, got {self.jitter:g}")

    @classmethod
    def none(cls) -> AugmentConfig:
        """The image as it is, its principal point centred: validation, and Relative Human as released."""
        return cls()

    @classmethod
    def paper(cls) -> AugmentConfig:
        """Stages 1 to 3: paper 4.1 names the kinds of change; how much of each is the release's (spec facts 3)."""
        return cls(math.radians(15), (0.8, 1.8), 0.5, 0.8, 0.2, 0.6)

    @classmethod
    def fine_tune(cls) -> AugmentConfig:
        """Stage 4 on 3DPW and Hi4D: never smaller, no crop (spec facts 3)."""
        return cls(math.radians(15), (1.0, 2.0), 0.5, 0.0, 0.2, 0.6)

    @property
    def varies(self) -> bool:
        """Whether another draw gives another view."""
        return self.rotation_rad > 0 or self.zoom[0] < self.zoom[1] or self.flip > 0 or self.crop > 0


class Augmenter:
    """Samples to examples; cheap to send to another process, which loads the body on first use.

    Args:
        network: sizes, body and keypoint layout of the network that learns.
        augment: what may be changed.
    """

    def __init__(self, network: MAHMRConfig, augment: AugmentConfig) -> None:
        self.network = network
        self.augment = augment

    def __call__(
        self, sample: TrainingSample, pixels: UInt8[np.ndarray, "H W 3"], rng: np.random.Generator
    ) -> Example | None:
        """One example; ``None`` if people are labelled and none of them is visible in any of ten draws.

        Args:
            pixels: of the sample, upright. rng: the only source of chance.

        Raises:
            InputError: labels of a body that is not the network's. AssetError: a body's licensed files are missing.
        """
        placed = place(sample, self.network)
        for _ in range(TRIES if self.augment.varies else 1):
            view = self.view(sample, placed, pixels.shape[:2], rng)
            seen = see(placed, view, self.network.keypoint_layout)
            if seen.present.any() or not len(placed):
                image = view.warp(pixels)
                if self.augment.jitter:
                    image = jittered(image, self.augment.jitter, rng)
                if self.augment.occlusion:
                    boxes = seen.boxes_px[seen.present]
                    image = occluded(image, boxes, self.augment.occlusion, self.augment.occlusion_share, rng)
                canvas = np.zeros((*padded_size(view.size), 3), np.uint8)
                canvas[: view.size[0], : view.size[1]] = image
                targets = targets_of(sample, placed, seen, view, self.network)
                return Example(normalised(torch.from_numpy(canvas)), targets)
        return None

    def view(
        self, sample: TrainingSample, placed: PlacedPeople, size: tuple[int, ...], rng: np.random.Generator
    ) -> View:
        """Draw a view of an image of ``size`` (height, width)."""
        rules, (height, width) = self.augment, size[:2]
        angle = rules.rotation_rad * rng.uniform(-1, 1)
        zoom, mirror = rng.uniform(*rules.zoom), bool(rng.random() < rules.flip)
        cropped, share = bool(rng.random() < rules.crop), rng.beta(2, 5)
        K = sample.intrinsics_px
        if K is None:
            # Of an unknown camera nothing but turns about its axis is known to be right.
            K, cropped = Camera.from_long_side_fov(math.radians(60), width, height).K, False
        if rules.released_crop:
            return self._released(K, placed, (height, width), (angle, zoom, mirror), share if cropped else None)
        region = None
        if cropped:
            lowest = min(max(height / 2, _lowest_chest(placed, self.network.keypoint_layout)), height)
            region = (0.0, 0.0, float(width), float(share * (height - lowest) + lowest))
        return centred_view(K, (height, width), self.network.input_size, angle, zoom, mirror, region)

    def _released(
        self,
        K: Float[np.ndarray, "3 3"],
        placed: PlacedPeople,
        size: tuple[int, int],
        turn: tuple[float, float, bool],
        share: float | None,
    ) -> View:
        whole = released_view(K, size, self.network.input_size, *turn)
        if share is None:
            return whole
        pixels = see(placed, whole, self.network.keypoint_layout).points_px
        height = whole.size[0]
        lowest = min(max(height // 2, _lowest(pixels, placed.known_px, self.network.keypoint_layout)), height)
        rows = int(share * (height - lowest) + lowest)
        return released_view(K, size, self.network.input_size, *turn, rows=rows)


def _lowest_chest(placed: PlacedPeople, layout: str) -> float:
    """Lowest row of anybody's chest in the photograph; 0 where no chest is labelled."""
    return _lowest(placed.points_px, placed.known_px, layout)


def _lowest(points_px: np.ndarray, known: np.ndarray, layout: str) -> float:
    names = LAYOUTS[layout]
    if "spine3" in names:
        at = names.index("spine3")
        chest, there = points_px[:, at, 1], known[:, at]
    else:
        shoulders, hips = (
            [names.index(f"{side}_{part}") for side in ("left", "right")] for part in ("shoulder", "hip")
        )
        chest = _CHEST * points_px[:, shoulders, 1].mean(1) + (1 - _CHEST) * points_px[:, hips, 1].mean(1)
        there = known[:, shoulders + hips].all(1)
    return float(chest[there].max(initial=0.0))
