"""The network's forward pass for training: all decoder layers, denoising queries, and the losses in one module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMR
from crowdmesh.mahmr.decoder import CrossAttention
from crowdmesh.mahmr.encoder import EncodedImages
from crowdmesh.mahmr.heads import rotations_of_6d
from crowdmesh.training.denoising import DenoisingQueries, hide_missing, make_queries, query_mask
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.losses import Criterion, Losses, TermCounts
from crowdmesh.training.output import Queries, TrainingOutput
from crowdmesh.training.targets import Example

__all__ = ["TrainingModule", "TrainingOutput", "train_forward"]


def train_forward(
    model: MAHMR, examples: Sequence[Example], config: LossConfig, generator: torch.Generator | None = None
) -> TrainingOutput:
    """What the network makes of a batch, after every decoder layer, before any body is posed.

    The encoder runs in the precision of an autocast region around this call; decoder, heads and geometry in float32.

    Args:
        config: decides on denoising and on whose scale map chooses the tokens.
        generator: draws the denoising queries' noise (see :func:`~crowdmesh.training.denoising.make_queries`);
            ``None``: they have none.

    Raises:
        InputError: images that the network cannot take, denoising without the layer for it, or a true map wanted
            where an example has none.
    """
    targets = [example.targets for example in examples]
    images = [example.pixels for example in examples]
    sizes = torch.stack([target.image_size for target in targets]).to(images[0])
    true_map = _true_maps(examples) if config.true_map else None
    model.check_batch(images, sizes, true_map)
    encoded = model.encoder(images, true_map)
    with torch.autocast(images[0].device.type, enabled=False):
        encoded = _in_float32(encoded)
        noisy = None
        if config.denoising_groups:
            if not model.config.denoising:
                raise InputError(
                    "the losses want denoising, the network has no layer for it; set denoising of its configuration, "
                    "or loss.denoising_groups to 0"
                )
            noisy = make_queries(model.denoising_encoder, targets, config, generator)
        hidden, boxes = _decode(model, encoded, noisy)
        raw = model.raw_fov(encoded.camera)
        fov, focal = model.camera_of(raw, sizes)
        extra = 0 if noisy is None else noisy.content.shape[1]
        everything = _read_out(model, hidden, boxes, focal)
        return TrainingOutput(
            queries=_some(everything, slice(extra, None)),
            denoising=None if noisy is None else (_some(everything, slice(0, extra)), noisy.labels),
            raw_fov=raw,
            vertical_fov=fov,
            focal_px=focal,
            image_sizes=sizes,
            scale_map=encoded.scale_map,
            map_logits=encoded.map_logits,
        )


class TrainingModule(nn.Module):
    """Network, matching and losses as one module, which data-parallel wrappers can call.

    Parameters that cannot matter (biases of cross-attention keys, which add one constant to all scores of a query) do
    not require gradients, so that every parameter that does may get one.

    Attributes:
        model, loss, criterion: the network, its losses' configuration, and the losses.
    """

    def __init__(self, model: MAHMR, loss: LossConfig) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.criterion = Criterion(loss, model.config, model.body)
        for part in model.modules():
            if isinstance(part, CrossAttention):
                for key in (part.key_content, part.key_position):
                    key.bias.requires_grad_(False)
        if model.config.denoising and not loss.denoising_groups:
            model.denoising_encoder.requires_grad_(False)

    def forward(
        self, examples: Sequence[Example], generator: torch.Generator | None = None, counts: TermCounts | None = None
    ) -> Losses:
        """Losses of a batch.

        Args:
            generator: for the noise of denoising. Begin every micro-batch of a step, on every process, with a
                generator of the same state: an image's noise then does not depend on how the batch is split.
            counts: what sums are divided by; ``None``: the batch's own. See :class:`TermCounts`.
        """
        output = train_forward(self.model, examples, self.loss, generator)
        return self.criterion(output, [example.targets for example in examples], counts)


def _true_maps(examples: Sequence[Example]) -> Float[Tensor, "n 2"]:
    for example in examples:
        if not example.targets.has_map:
            raise InputError(
                f"{example.targets.key} has no scale map to choose tokens by; set loss.true_map to false for such data"
            )
    return torch.cat([example.targets.scale_map for example in examples])


def _in_float32(encoded: EncodedImages) -> EncodedImages:
    return replace(encoded, tokens=encoded.tokens.float(), camera=encoded.camera.float())


def _decode(model: MAHMR, encoded: EncodedImages, noisy: DenoisingQueries | None) -> tuple[Tensor, Tensor]:
    """States and boxes after all layers, of noisy queries and then the learned ones."""
    if noisy is None:
        decoded = model.decode(encoded)
        return decoded.hidden, decoded.boxes
    batch, learned = len(encoded.lengths), model.config.queries
    content = torch.cat((noisy.content, model.decoder.content.expand(batch, -1, -1)), 1)
    anchors = torch.cat((noisy.anchors, model.decoder.anchors.expand(batch, -1, -1)), 1)
    slots = noisy.content.shape[1] // noisy.labels.groups
    mask: Bool[Tensor, "*b Q Q"] = query_mask(noisy.labels.groups, slots, learned, content.device)
    decoded = model.decode(encoded, content, anchors, hide_missing(mask, noisy.exist))
    return decoded.hidden, decoded.boxes


def _read_out(model: MAHMR, hidden: Tensor, boxes: Tensor, focal: Tensor) -> Queries:
    """The heads' words about all queries after all layers."""
    layers = hidden.shape[0]
    places = model.translations(hidden.transpose(0, 1), focal)
    assert places.shape[1] == layers
    return Queries(
        confidence_logits=model.heads.confidence(hidden)[..., 0].float(),
        boxes=boxes.float(),
        rotations=rotations_of_6d(model.heads.poses_6d(hidden).float()),
        betas=model.heads.shapes(hidden).float(),
        translations=places.transpose(0, 1),
    )


def _some(queries: Queries, which: slice) -> Queries:
    return Queries(
        queries.confidence_logits[:, :, which],
        queries.boxes[:, :, which],
        queries.rotations[:, :, which],
        queries.betas[:, :, which],
        queries.translations[:, :, which],
    )
