"""A picture of the synthetic world together with everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene
from crowdmesh.synth.stage import Prop

SKY_DEPTH_M = 1000.0
"""Depth of the sky and of everything farther away, metres: its disparity is as good as zero."""

GROUND, WALL, FAR, SKY, CLUTTER, PROP = -1, -2, -3, -4, -5, -10
"""Labels of what nobody's body covers: ground; walls and ceiling; hills and skyline; sky; boxes that only fill the
place; and prop ``i`` of the stage as ``PROP - i``."""


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """One rendered stage and its truth.

    Attributes:
        scene: camera, image, provenance and the true people: pose, shape, translation, vertices and joints (camera
            frame, metres), statures, ages, sexes (``male_probability`` 0 or 1); as perfect detectors would report
            them, masks of the visible pixels, boxes around those (zeros where nothing is visible), scores of 1, and
            COCO-17 keypoints whose confidence is 1 visible, 0.5 hidden (by anything, also the own body), 0 outside
            the image ((0, 0, 0) behind the camera).
        depth: metric depth of every pixel centre, up to :data:`SKY_DEPTH_M`.
        labels: (H, W) what every pixel centre shows: a person's index, or one of the negative labels above.
        visible_vertices: (K, V) which vertices the camera sees.
        silhouette_px: (K,) pixels inside the image that each person would cover if they were alone.
        ground: plane (a, b, c, d): a x + b y + c z + d = 0 in the camera frame, unit normal up.
        poses, supports: pose family of each person and what carries them.
        props: furniture, steps and occluders; ``labels`` refers to them.
        arrangement: how people are arranged.
    """

    scene: Scene
    depth: RelativeDepth
    labels: Int[np.ndarray, "H W"]
    visible_vertices: Bool[np.ndarray, "K V"]
    silhouette_px: Int[np.ndarray, " K"]
    ground: Float[np.ndarray, " 4"]
    poses: tuple[str, ...]
    supports: tuple[str, ...]
    props: tuple[Prop, ...]
    arrangement: str

    def __post_init__(self) -> None:
        count, size = len(self.scene.people), (self.scene.camera.height, self.scene.camera.width)
        for name in ("visible_vertices", "silhouette_px", "poses", "supports"):
            if len(getattr(self, name)) != count:
                raise InputError(f"{name} tells of {len(getattr(self, name))} people, the scene has {count}")
        if self.depth.kind != "metric" or self.depth.size != size or self.labels.shape != size:
            raise InputError(f"a synthetic scene needs metric depth and labels of {size[1]}x{size[0]} pixels")

    @property
    def visible_px(self) -> Int[np.ndarray, " K"]:
        """(K,) pixels that show each person."""
        seen = self.labels[self.labels >= 0]
        return np.bincount(seen, minlength=len(self.scene.people)).astype(np.int64)

    @property
    def visible_share(self) -> Float[np.ndarray, " K"]:
        """(K,) visible part of each person's silhouette inside the image, 0 to 1; 0 for who is outside."""
        return self.visible_px / np.maximum(self.silhouette_px, 1)
