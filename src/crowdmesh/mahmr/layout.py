"""Names and shapes of all tensors of a network, known from its configuration alone.

Building the network needs its body model, which may be licensed and absent; looking at a file of weights must not. The
tests hold this list against ``MAHMR(config).state_dict()``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from crowdmesh.mahmr.config import LEVELS, PATCH_PX, MAHMRConfig

Shape = tuple[int, ...]

UNTRAINED = ("heads.mean_pose", "heads.mean_shape")
"""Tensors that belong to the weights and are no parameters."""

_ATTENTION = ("query_content", "query_position", "key_content", "key_position", "value", "out")


def layout(config: MAHMRConfig) -> Iterator[tuple[str, Shape]]:
    """Name and shape of every tensor of a network, one by one (a made-up configuration may promise billions)."""
    width = config.width
    yield "level_embedding", (LEVELS, width)
    yield from _encoder(config)
    yield from _linear("memory_projection", width, width)
    yield from _decoder(config)
    yield from _heads(config)
    if config.fov:
        yield from _mlp("fov_head", *[width] * 4, 1)
    if config.denoising:
        yield from _linear("denoising_encoder", 3 * len(config.posed_joints) + config.num_betas, width)


def _linear(name: str, size_in: int, size_out: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (size_out, size_in)
    yield f"{name}.bias", (size_out,)


def _norm(name: str, width: int) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _mlp(name: str, *sizes: int) -> Iterator[tuple[str, Shape]]:
    for i, (size_in, size_out) in enumerate(itertools.pairwise(sizes)):
        yield from _linear(f"{name}.layers.{i}", size_in, size_out)


def _block(name: str, width: int, hidden: int) -> Iterator[tuple[str, Shape]]:
    for norm in ("norm1", "norm2"):
        yield from _norm(f"{name}.{norm}", width)
    for scale in ("scale1", "scale2"):
        yield f"{name}.{scale}", (width,)
    yield from _linear(f"{name}.qkv", width, 3 * width)
    yield from _linear(f"{name}.out", width, width)
    yield from _linear(f"{name}.expand", width, hidden)
    yield from _linear(f"{name}.contract", hidden, width)


def _encoder(config: MAHMRConfig) -> Iterator[tuple[str, Shape]]:
    width = config.width
    yield "encoder.camera_token", (1, width)
    yield "encoder.position", (config.grid, config.grid, width)
    for level in range(2):
        yield f"encoder.patch_projection.{level}.weight", (width, 3, PATCH_PX, PATCH_PX)
        yield f"encoder.patch_projection.{level}.bias", (width,)
    for i in range(config.early_depth):
        yield from _block(f"encoder.base_blocks.{i}", width, config.hidden)
    for i in range(config.depth):
        yield from _block(f"encoder.blocks.{i}", width, config.hidden)
    for norm in ("norm", "map_norm"):
        yield from _norm(f"encoder.{norm}", width)
    yield from _mlp("encoder.map_head", *[width] * 4, 2)


def _decoder(config: MAHMRConfig) -> Iterator[tuple[str, Shape]]:
    width = config.width
    yield "decoder.content", (config.queries, width)
    yield "decoder.anchors", (config.queries, 4)
    for i in range(config.decoder_depth):
        name = f"decoder.layers.{i}"
        for part in _ATTENTION:
            yield from _linear(f"{name}.self_attention.{part}", width, width)
        for part in (*_ATTENTION, "query_sine"):
            if part != "query_position" or i == 0:
                yield from _linear(f"{name}.cross_attention.{part}", width, width)
        yield from _linear(f"{name}.expand", width, config.decoder_hidden)
        yield from _linear(f"{name}.contract", config.decoder_hidden, width)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _norm(f"{name}.{norm}", width)
        yield from _mlp(f"decoder.box_heads.{i}", width, width, width, 4)
    yield from _norm("decoder.norm", width)
    yield from _mlp("decoder.query_scale", width, width, width)
    yield from _mlp("decoder.position_head", 2 * width, width, width)
    yield from _mlp("decoder.size_head", width, width, 2)


def _heads(config: MAHMRConfig) -> Iterator[tuple[str, Shape]]:
    width, pose = config.width, 6 * len(config.posed_joints)
    for i in range(config.decoder_depth):
        yield from _mlp(f"heads.pose.{i}", *[width] * config.pose_depth, pose)
        yield from _mlp(f"heads.shape.{i}", *[width] * config.shape_depth, config.num_betas)
    yield from _mlp("heads.placement", width, width // 2, width // 2, 3)
    yield from _linear("heads.confidence", width, 1)
    yield "heads.mean_pose", (pose,)
    yield "heads.mean_shape", (config.num_betas,)
