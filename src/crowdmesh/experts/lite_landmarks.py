"""The BlazePose landmark network: 33 body landmarks in 2D and 3D and a mask of the person in one crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh import assets
from crowdmesh.experts._crops import SquareCrop
from crowdmesh.experts._runtime import TfliteNetwork, sigmoid
from crowdmesh.experts.lite_alignment import CROP_SIZE, upright_crop

NUM_LANDMARKS = 33
"""The network gives six more points; the first two say where the person is (:attr:`PersonView.tighter_crop`)."""

_HEATMAP_SIZE = 64
_CELL = CROP_SIZE // _HEATMAP_SIZE
_REACH = 3  # heatmap cells looked at on each side of a regressed landmark
_MIN_PEAK = 0.5


@dataclass(frozen=True, eq=False)
class PersonView:
    """What the network sees of one person in one crop.

    Attributes:
        crop: the crop it was shown.
        px: (39, 2) landmarks and auxiliary points in image pixels.
        visibility: (33,) probability of being in view and not hidden.
        sharpness: (33,) how sure its heatmap is of a landmark at that place, in [0, 1].
        world_m: (33, 3) metres, origin between the hips, x and y along the image's axes, z away from the camera.
        presence: probability that there is a person.
        mask_logits: (256, 256) over the crop; positive: the person.
    """

    crop: SquareCrop
    px: Float[np.ndarray, "39 2"]
    visibility: Float[np.ndarray, " 33"]
    sharpness: Float[np.ndarray, " 33"]
    world_m: Float[np.ndarray, "33 3"]
    presence: float
    mask_logits: Float[np.ndarray, "256 256"]

    @property
    def tighter_crop(self) -> SquareCrop:
        """The crop the network itself would rather have seen."""
        return upright_crop(self.px[NUM_LANDMARKS], self.px[NUM_LANDMARKS + 1])


class LandmarkNetwork:
    """BlazePose GHUM lite (Bazarevsky et al. 2020; Grishchenko et al. 2022) on one CPU core."""

    def __init__(self) -> None:
        self._network = TfliteNetwork(assets.POSE_LANDMARKS.fetch())

    def __call__(self, image: UInt8[np.ndarray, "H W 3"], crop: SquareCrop) -> PersonView:
        """Landmarks of the person in the middle of the crop (whether there is one or not: see ``presence``)."""
        points, presence, mask, heatmaps, world = self._network((crop.sample(image).astype(np.float32) / 255.0)[None])
        points = points.reshape(-1, 5).astype(np.float64)
        located, sharpness = refine(points[:, :2], sigmoid(heatmaps[0]))
        world_m = world.reshape(-1, 3)[:NUM_LANDMARKS].astype(np.float64)
        world_m[:, :2] = world_m[:, :2] @ crop.turn.T
        return PersonView(
            crop=crop,
            px=crop.to_image(located),
            visibility=sigmoid(points[:NUM_LANDMARKS, 3]),
            sharpness=sharpness[:NUM_LANDMARKS],
            world_m=world_m,
            presence=float(presence[0, 0]),
            mask_logits=mask[0, :, :, 0],
        )


def refine(
    points: Float[np.ndarray, "N 2"], heatmaps: Float[np.ndarray, "64 64 N"]
) -> tuple[Float[np.ndarray, "N 2"], Float[np.ndarray, " N"]]:
    """Move regressed points (crop pixels) to the centre of mass of their heatmaps nearby, where these are sure.

    As in MediaPipe: 7 x 7 cells around the point, used if one of them reaches 0.5. Heatmap cell i stands for crop pixel
    4 i (not for the cell's middle): measured by comparing crops with their mirror images.

    Returns:
        The points, and the largest heatmap value near each (0 for points outside the crop).
    """
    number = np.arange(len(points))[:, None, None]
    offsets = np.arange(-_REACH, _REACH + 1)
    cells = np.floor(points / _CELL).astype(int)
    columns, rows = np.broadcast_arrays(cells[:, 0, None, None] + offsets, cells[:, 1, None, None] + offsets[:, None])
    centred = np.all((cells >= 0) & (cells < _HEATMAP_SIZE), axis=1)[:, None, None]
    inside = centred & (columns >= 0) & (columns < _HEATMAP_SIZE) & (rows >= 0) & (rows < _HEATMAP_SIZE)
    last = _HEATMAP_SIZE - 1
    weights = np.where(inside, heatmaps[rows.clip(0, last), columns.clip(0, last), number], 0.0)
    peaks = weights.max((1, 2))
    total = np.maximum(weights.sum((1, 2)), 1e-9)
    moved = np.stack(((weights * columns).sum((1, 2)), (weights * rows).sum((1, 2))), axis=1) / total[:, None] * _CELL
    return np.where((peaks >= _MIN_PEAK)[:, None], moved, points), peaks
