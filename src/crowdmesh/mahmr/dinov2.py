"""The encoder's start: a plain DINOv2 ViT, from a file with the names of its authors or with those of transformers.

It is what training begins with (spec facts 1.2): all blocks, the early ones twice, one patch projection for both
levels, the class token as camera token, and the position embeddings stretched to our grid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from crowdmesh._weights_file import unwrap
from crowdmesh.errors import FormatError
from crowdmesh.mahmr import official
from crowdmesh.mahmr.checkpoint import about, read_state
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.mahmr.network import tensor_shapes

_OFFSET = 0.1  # DINO adds it to the wanted size, against rounding down; the stretched grid is a little off for it
_OURS_ALONE = ("encoder.map_norm.", "encoder.map_head.")
_UNUSED = ("mask_token",)

_TRANSFORMERS = {  # parts of names in transformers' Dinov2Model and in the authors' file, in this order
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "encoder.layer.": "blocks.",
    "layernorm.": "norm.",
    ".attention.output.dense.": ".attn.proj.",
    ".layer_scale1.lambda1": ".ls1.gamma",
    ".layer_scale2.lambda1": ".ls2.gamma",
}
_THIRD = re.compile(r"(blocks\.\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)")


def encoder_state(source: str | Path | Mapping[str, Tensor], config: MAHMRConfig) -> dict[str, Tensor]:
    """The ``encoder.*`` weights that a network starts with; those of the scale map, which DINOv2 lacks, are not in it.

    Args:
        source: a DINOv2 encoder without registers, as a file (``.pth``, ``.bin``, ``.safetensors``) or a state dict.
        config: of the network. Width and depth must be the encoder's; the grid may be any.

    Returns:
        New tensors by our names, float32.

    Raises:
        InputError: there is no such file.
        FormatError: another kind of file, an encoder with registers, or one of another size.
    """
    if isinstance(source, Mapping):
        return _encoder_state(source, config)
    state, _ = read_state(Path(source))
    with about(Path(source)):
        return _encoder_state(state, config)


def _encoder_state(state: Mapping[str, Tensor], config: MAHMRConfig) -> dict[str, Tensor]:
    state, _ = unwrap(state)
    looks = official.describe(state)
    if any(key.endswith("register_tokens") for key in state):
        raise FormatError(f"this is {looks}, whose registers MA-HMR has no place for; use the one without registers")
    names = {key: tensor.float() for key, tensor in _with_authors_names(state).items() if key not in _UNUSED}
    try:
        class_token, positions = names.pop("cls_token"), names.pop("pos_embed")
        patches = {part: names.pop(f"patch_embed.proj.{part}") for part in ("weight", "bias")}
    except KeyError as error:
        raise FormatError(f"this is not a DINOv2 encoder, but {looks}: there is no {error.args[0]}") from error
    ours = {official.our_name(f"encoder.{key}") or key: tensor.clone() for key, tensor in names.items()}
    for name in list(ours):
        block = re.match(r"encoder\.blocks\.(\d+)\.", name)
        if block and int(block[1]) < config.early_depth:
            ours[name.replace(".blocks.", ".base_blocks.", 1)] = ours[name].clone()
    for level in range(2):
        ours |= {f"encoder.patch_projection.{level}.{part}": tensor.clone() for part, tensor in patches.items()}
    ours["encoder.camera_token"], ours["encoder.position"] = _tokens(class_token, positions, config.grid, looks)
    _check(ours, config, looks)
    return ours


def _with_authors_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the authors' names, if it is under those of transformers; another is given back as it is."""
    if not any(key.startswith("embeddings.") for key in state):
        return state
    renamed, thirds = {}, {}
    for key, tensor in state.items():
        for theirs, authors in _TRANSFORMERS.items():
            key = authors + key.removeprefix(theirs) if key.startswith(theirs) else key
            key = key.replace(theirs, authors) if theirs.startswith(".") else key
        if third := _THIRD.fullmatch(key):
            thirds.setdefault(f"{third[1]}.attn.qkv.{third[3]}", {})[third[2]] = tensor
        else:
            renamed[key] = tensor
    for key, parts in thirds.items():
        if len(parts) == 3:
            renamed[key] = torch.cat([parts[name] for name in ("query", "key", "value")])
    return renamed


def _tokens(class_token: Tensor, positions: Tensor, grid: int, looks: str) -> tuple[Tensor, Tensor]:
    """Camera token (1, C) and position embeddings (grid, grid, C) from the class token and all position embeddings."""
    side = math.isqrt(max(0, positions.shape[1] - 1)) if positions.ndim == 3 else 0
    if side < 1 or positions.shape != (1, 1 + side**2, class_token.shape[-1]) or class_token.shape[:-1] != (1, 1):
        raise FormatError(
            f"this is not a DINOv2 encoder, but {looks}: its class token {list(class_token.shape)} and position "
            f"embeddings {list(positions.shape)} do not belong together"
        )
    patches = positions[0, 1:].unflatten(0, (side, side))
    return class_token[0] + positions[:, 0], stretched(patches, grid)


def stretched(positions: Float[Tensor, "M M C"], grid: int) -> Float[Tensor, "G G C"]:
    """Position embeddings of a square grid for another one, bicubic, by DINO's factor (G + 0.1) / M."""
    side = len(positions)
    if side == grid:
        return positions.clone()
    factor = (grid + _OFFSET) / side
    image = F.interpolate(positions.permute(2, 0, 1)[None], scale_factor=(factor, factor), mode="bicubic")
    return image[0].permute(1, 2, 0).contiguous()


def _check(ours: dict[str, Tensor], config: MAHMRConfig, looks: str) -> None:
    wanted = {
        name: shape
        for name, shape in tensor_shapes(config).items()
        if name.startswith("encoder.") and not name.startswith(_OURS_ALONE)
    }
    wrong = [
        f"{name} {list(ours[name].shape) if name in ours else 'missing'} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name not in ours or tuple(ours[name].shape) != shape
    ] + [f"{name} too many" for name in ours if name not in wanted]
    if wrong:
        raise FormatError(
            f"this does not fit a network {config.width} wide with {config.depth} encoder blocks; it looks like "
            f"{looks}: {official.list_some(wrong, 3)}"
        )
