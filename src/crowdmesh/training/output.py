"""What the network says while it learns: every query after every decoder layer."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Queries:
    """Q queries of B images after each of L decoder layers; metres in the camera frame.

    Attributes:
        confidence_logits: (L, B, Q) whether the query is a person, before the sigmoid.
        boxes: (L, B, Q, 4) centre x, y, width, height over ``input_size``.
        rotations: (L, B, Q, J, 3, 3) of ``config.posed_joints`` relative to the parent.
        betas: (L, B, Q, S) shape parameters.
        translations: (L, B, Q, 3) of the body model.
    """

    confidence_logits: Float[Tensor, "L B Q"]
    boxes: Float[Tensor, "L B Q 4"]
    rotations: Float[Tensor, "L B Q J 3 3"]
    betas: Float[Tensor, "L B Q S"]
    translations: Float[Tensor, "L B Q 3"]


@dataclass(frozen=True, eq=False)
class NoisyLabels:
    """Which denoising queries stand for whom: N people of the batch in G groups, R slots with a body to find.

    Attributes:
        image, slot, person: (G N) image, query of the image, and row among all people of the batch.
        negative_slot: (G N) of the same images, the queries that should find nobody.
        groups: G.
    """

    image: Int[Tensor, " R"]
    slot: Int[Tensor, " R"]
    person: Int[Tensor, " R"]
    negative_slot: Int[Tensor, " R"]
    groups: int


@dataclass(frozen=True, eq=False)
class TrainingOutput:
    """Everything the losses need of B images.

    Attributes:
        queries: of people. denoising: of noisy labels, and who they are; ``None``: there are none.
        raw_fov: (B,) vertical field of view before it is brought into range, radians; ``None``: no camera branch.
        vertical_fov, focal_px: (B,) as used, radians and pixels of the network's input.
        image_sizes: (B, 2) height, width without padding.
        scale_map: (n, 2) of all images' cells, image after image, in Morton order. map_logits: before the sigmoid.
    """

    queries: Queries
    denoising: tuple[Queries, NoisyLabels] | None
    raw_fov: Float[Tensor, " B"] | None
    vertical_fov: Float[Tensor, " B"]
    focal_px: Float[Tensor, " B"]
    image_sizes: Float[Tensor, "B 2"]
    scale_map: Float[Tensor, "n 2"]
    map_logits: Float[Tensor, "n 2"]
