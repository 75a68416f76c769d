"""The released networks' state dicts: their names in ours, and what a state dict is the weights of (spec facts 1.8)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crowdmesh._weights_file import peeled, unwrap
from crowdmesh.body.smpl import JOINT_NAMES as SMPL_JOINTS
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr.config import PATCH_PX, MAHMRConfig

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_HEAD_WIDTH = 64  # of DINOv2's attention at every width; the state dict does not tell
_DECODER_HEADS = 4
_BETAS = (10, 11)


_BODY = "human_model"
_CONSTANTS = ("cam_intrinsics", "z_order_map", "y_coords", "x_coords")
_SMPL_SKINNING = (6890, 24)
_ALIAS, _ALIASED = "decoder.decoder.bbox_embed.", "bbox_embed."


def _block_names(theirs: str, ours: str) -> dict[str, str]:
    parts = {
        "norm1": "norm1", "norm2": "norm2", "attn.qkv": "qkv", "attn.proj": "out", "mlp.fc1": "expand",
        "mlp.fc2": "contract",
    }  # fmt: skip
    names = {f"{theirs}.#.{part}.@": f"{ours}.#.{name}.@" for part, name in parts.items()}
    return names | {f"{theirs}.#.ls{i}.gamma": f"{ours}.#.scale{i}" for i in (1, 2)}


def _attention_names() -> dict[str, str]:
    parts = {
        "qcontent": "query_content", "qpos": "query_position", "qpos_sine": "query_sine", "kcontent": "key_content",
        "kpos": "key_position", "v": "value", "out": "out",
    }  # fmt: skip
    return {
        f"decoder.decoder.layers.#.{short}_{part}_proj.@": f"decoder.layers.#.{attention}_attention.{name}.@"
        for short, attention in (("sa", "self"), ("ca", "cross"))
        for part, name in parts.items()
        if (short, part) != ("sa", "qpos_sine")
    }


# Their names and ours; # is a number and @ is weight or bias.
_NAMES = {
    "level_embed": "level_embedding",
    "encoder_cr_token": "encoder.camera_token",
    "encoder_pos_embeds": "encoder.position",
    "encoder_patch_proj.#.@": "encoder.patch_projection.#.@",
    **_block_names("encoder.additional_blocks", "encoder.base_blocks"),
    **_block_names("encoder.blocks", "encoder.blocks"),
    "encoder.norm.@": "encoder.norm.@",
    "enc_inter_norm.@": "encoder.map_norm.@",
    "scale_head.layers.#.@": "encoder.map_head.layers.#.@",
    "fov_head.layers.#.@": "fov_head.layers.#.@",
    "feature_proj.@": "memory_projection.@",
    "tgt_embed.weight": "decoder.content",
    "refpoint_embed.weight": "decoder.anchors",
    **_attention_names(),
    "decoder.decoder.layers.#.linear1.@": "decoder.layers.#.expand.@",
    "decoder.decoder.layers.#.linear2.@": "decoder.layers.#.contract.@",
    **{f"decoder.decoder.layers.#.norm{i}.@": f"decoder.layers.#.norm{i}.@" for i in (1, 2, 3)},
    "decoder.decoder.norm.@": "decoder.norm.@",
    "decoder.decoder.query_scale.layers.#.@": "decoder.query_scale.layers.#.@",
    "decoder.decoder.ref_point_head.layers.#.@": "decoder.position_head.layers.#.@",
    "decoder.decoder.ref_anchor_head.layers.#.@": "decoder.size_head.layers.#.@",
    "bbox_embed.#.layers.#.@": "decoder.box_heads.#.layers.#.@",
    "pose_head.#.layers.#.@": "heads.pose.#.layers.#.@",
    "shape_head.#.layers.#.@": "heads.shape.#.layers.#.@",
    "cam_head.layers.#.@": "heads.placement.layers.#.@",
    "conf_head.@": "heads.confidence.@",
    "mean_pose": "heads.mean_pose",
    "mean_shape": "heads.mean_shape",
    "dn_enc.@": "denoising_encoder.@",
}
_VARIABLE = re.compile(r"(?<=\.)(?:\d+|weight|bias)(?=\.|$)")


def our_name(key: str) -> str | None:
    """Our name of an official tensor, an alias' being that of the tensor it repeats; ``None`` if there is none."""
    if key.startswith(_ALIAS):
        key = _ALIASED + key.removeprefix(_ALIAS)
    if key in _NAMES:  # those whose last part is "weight" for the embeddings, too
        return _NAMES[key]
    values = _VARIABLE.findall(key)
    pattern = _VARIABLE.sub(lambda found: "#" if found[0].isdigit() else "@", key)
    if pattern not in _NAMES:
        return None
    remaining = iter(values)
    return re.sub("[#@]", lambda _: next(remaining), _NAMES[pattern])


@dataclass(frozen=True)
class Sorted:
    """Keys of an official state dict, by what becomes of them.

    Attributes:
        taken: our name to the official keys that hold it; two where an alias repeats it.
        dropped: group to keys that hold nothing of the network: the body model's data and constants.
        unknown: keys no released network has.
    """

    taken: dict[str, list[str]]
    dropped: dict[str, list[str]]
    unknown: list[str]


def sort_keys(keys: Mapping[str, Any]) -> Sorted:
    """What becomes of the keys of an (unwrapped) state dict."""
    taken: dict[str, list[str]] = {}
    dropped: dict[str, list[str]] = {}
    unknown: list[str] = []
    for key in keys:
        if ours := our_name(key):
            taken.setdefault(ours, []).append(key)
        elif key in _CONSTANTS or key.startswith(_BODY + "."):
            dropped.setdefault(key if key in _CONSTANTS else _BODY, []).append(key)
        else:
            unknown.append(key)
    return Sorted(taken, dropped, unknown)


def from_official(state: Mapping[str, Any], widen_betas: bool = False) -> dict[str, Tensor]:
    """Weights of a released network under our names; the tensors are those given, not copies.

    The body model's data and constants are left out; a tensor under two names is taken once.

    Args:
        state: a state dict of any stage, also wrapped or prefixed (see ``_weights_file.unwrap``).
        widen_betas: give a network of ten shape parameters an eleventh, the kid axis, that is always 0 (as the
            release starts stage 3).

    Raises:
        FormatError: names that no released network has, or aliases that differ.
    """
    state, _ = unwrap(state)
    keys = sort_keys(state)
    if "encoder.camera_token" in keys.unknown:
        raise FormatError("these weights have CrowdMesh's own names already; use load_state_dict")
    if keys.unknown:
        raise FormatError(
            f"{len(keys.unknown)} of {len(state)} tensors have names that no released MA-HMR network has "
            f"({list_some(keys.unknown)}); they look like {describe(state)}"
        )
    for name, (first, *others) in keys.taken.items():
        for other in others:
            if not _equal(state[first], state[other]):
                raise FormatError(
                    f"{first} and {other} must be the same tensor and differ ({name}); the file is damaged"
                )
    renamed = {name: state[first] for name, (first, *_) in keys.taken.items()}
    return widened(renamed) if widen_betas else renamed


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.is_meta or b.is_meta:
        return a.shape == b.shape
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def widened(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Ten shape parameters made eleven: another output row of zeros in every shape head, another 0 in the mean.

    Args:
        state: weights by our names; those of another number of shape parameters are given back as they are.
    """
    betas = state.get("heads.mean_shape")
    if betas is None or len(betas) != min(_BETAS):
        return state
    wider = dict(state)
    for name, tensor in state.items():
        last = name.startswith("heads.shape.") and len(tensor) == len(betas)
        if last or name == "heads.mean_shape":
            wider[name] = torch.cat((tensor, tensor.new_zeros(1, *tensor.shape[1:])))
        elif name == "denoising_encoder.weight":  # its input is pose and shape
            wider[name] = torch.cat((tensor, tensor.new_zeros(len(tensor), 1)), 1)
    return wider


def recognise(state: Mapping[str, Any]) -> MAHMRConfig:
    """The configuration of the network that an official state dict belongs to; every size is read from shapes.

    Two numbers do not show in shapes and are those of the release: encoder heads 64 wide, four decoder heads.

    Raises:
        FormatError: not the weights of a MA-HMR or SAT-HMR network for SMPL, or parts of them are missing.
    """
    state, _ = unwrap(state)
    looks = describe(state)
    shapes = {name: tuple(state[first].shape) for name, (first, *_) in sort_keys(state).taken.items()}
    try:
        if not _is_smpl(shapes) or _other_body(state):
            raise InputError("a released network has SMPL's 24 joints and 10 or 11 shape parameters")
        return _config(shapes)
    except KeyError as error:
        reason = f"there is no {error.args[0]}"
    except InputError as error:
        reason = str(error)
    except (ValueError, IndexError):
        reason = "a tensor has the wrong number of dimensions"
    raise FormatError(f"these are not the weights of a released network ({reason}): they look like {looks}")


def _config(shapes: Shapes) -> MAHMRConfig:
    rows, columns, width = shapes["encoder.position"]
    if rows != columns:
        raise InputError(f"the grid of position embeddings must be square and is {rows}x{columns}")
    return MAHMRConfig(
        input_size=rows * PATCH_PX,
        num_betas=shapes["heads.mean_shape"][0],
        width=width,
        depth=_count(shapes, "encoder.blocks"),
        heads=max(1, width // _HEAD_WIDTH),
        early_depth=_count(shapes, "encoder.base_blocks"),
        queries=shapes["decoder.anchors"][0],
        decoder_depth=_count(shapes, "decoder.layers"),
        decoder_heads=_DECODER_HEADS,
        decoder_hidden=shapes["decoder.layers.0.expand.weight"][0],
        pose_depth=_count(shapes, "heads.pose.0.layers"),
        shape_depth=_count(shapes, "heads.shape.0.layers"),
        fov=_has(shapes, "fov_head."),
        denoising=_has(shapes, "denoising_encoder."),
    )


def _count(shapes: Mapping[str, Any], prefix: str) -> int:
    """How many numbered parts there are below a name."""
    return len({name[len(prefix) + 1 :].split(".")[0] for name in shapes if name.startswith(prefix + ".")})


def _has(names: Mapping[str, Any], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _is_smpl(shapes: Shapes) -> bool:
    joints, betas = shapes["heads.mean_pose"][0] // 6, shapes["heads.mean_shape"][0]
    return joints == len(SMPL_JOINTS) and betas in _BETAS


def _other_body(state: Mapping[str, Any]) -> str | None:
    """Size of the body model that came with official weights, if it is not SMPL."""
    weights = _shape(state.get(f"{_BODY}.layer_n.lbs_weights", _SMPL_SKINNING))
    return None if weights == _SMPL_SKINNING else f"{' x '.join(map(str, weights))} skinning weights"


def _shape(value: Tensor | Shape) -> Shape:
    return tuple(value.shape) if isinstance(value, Tensor) else tuple(value)


def describe(state: Mapping[str, Any]) -> str:
    """What a state dict looks like, as a noun: ``MA-HMR stage 3 for 1288 px``, ``a DINOv2 encoder`` and the like.

    Args:
        state: tensors or their shapes, under official, our or other names, also wrapped or prefixed.
    """
    state = {key: value for key, value in peeled(state)[0].items() if isinstance(value, Tensor | tuple)}
    keys = sort_keys(state)
    ours = {name: _shape(state[first]) for name, (first, *_) in keys.taken.items()}
    if "encoder.camera_token" not in ours:
        ours = {name: _shape(value) for name, value in state.items()}
    if "encoder.camera_token" in ours and "heads.mean_pose" in ours and "heads.mean_shape" in ours:
        return _describe_network(ours, _other_body(state))
    for block, tokens in (("blocks", "pos_embed"), ("encoder.layer", "embeddings.position_embeddings")):
        if _has(ours, f"{block}.0.") and tokens in ours:
            registers = " with registers" if any("register_tokens" in name for name in ours) else ""
            return f"a DINOv2 encoder{registers} ({ours[tokens][-1]} wide, {_count(ours, block)} blocks)"
    return f"something else ({list_some(list(ours))})" if ours else "something without tensors"


def _describe_network(shapes: Shapes, other_body: str | None) -> str:
    joints, betas = shapes["heads.mean_pose"][0] // 6, shapes["heads.mean_shape"][0]
    fov, denoising = _has(shapes, "fov_head."), _has(shapes, "denoising_encoder.")
    kid = betas == max(_BETAS)
    known = {  # fov, denoising, kid
        (True, False, True): "MA-HMR stage 3",
        (True, False, False): "MA-HMR stage 2 (no kid axis)",
        (False, True, False): "MA-HMR stage 1 (no field-of-view head, with denoising)",
        (False, False, False): "SAT-HMR (no field-of-view head, 10 shape parameters)",
    }
    what = known.get((fov, denoising, kid))
    if not _is_smpl(shapes) or other_body:
        what = f"MA-HMR for another body than SMPL ({other_body or f'{joints} joints, {betas} shape parameters'})"
    elif what is None:
        heads = f"{'with' if fov else 'no'} field-of-view head, {'with' if denoising else 'no'} denoising"
        what = f"MA-HMR of no released stage ({heads}, {betas} shape parameters)"
    size = shapes.get("encoder.position", (0,))[0] * PATCH_PX
    return f"{what} for {size} px, {_count(shapes, 'encoder.blocks')} blocks {shapes['encoder.camera_token'][-1]} wide"


def misfit(wanted: Mapping[str, Tensor | Shape], given: Mapping[str, Tensor | Shape]) -> str | None:
    """What keeps weights from fitting a network, in one sentence; ``None`` if they fit.

    Args:
        wanted: the network's tensors or their shapes, by our names.
        given: those of the weights, by our names.
    """
    missing = [name for name in wanted if name not in given]
    foreign = [name for name in given if name not in wanted]
    pairs = {name: (_shape(given[name]), _shape(wanted[name])) for name in wanted if name in given}
    resized = [f"{name} {list(have)} instead of {list(want)}" for name, (have, want) in pairs.items() if have != want]
    parts = [
        f"{len(names)} {what} ({list_some(names, 3)})"
        for what, names in (("missing", missing), ("of another shape", resized), ("not part of it", foreign))
        if names
    ]
    if not parts:
        return None
    hint = ""
    if not missing and not foreign and pairs.get("heads.mean_shape") == tuple((betas,) for betas in _BETAS):
        hint = "; from_official(..., widen_betas=True) adds a kid axis of zeros"
    return (
        f"the weights do not fit the network: they look like {describe(given)}, and it is {describe(wanted)}; of its "
        f"tensors are {', '.join(parts)}{hint}"
    )


def list_some(names: Sequence[str], most: int = 8) -> str:
    """Names for a message, the first few of many."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
