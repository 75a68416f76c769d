"""From a released checkpoint to a network of ours, with every tensor of the file accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from crowdmesh._weights_file import about, read_state, unwrap
from crowdmesh.errors import FormatError

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)

_UNKNOWN = "not known, not needed"


@dataclass(frozen=True)
class Layout:
    """What checkpoints of a network hold beside the tensors that our network has.

    Attributes:
        network: its name.
        unused: regular expression of whole names to the reason why tensors of the released network are left.
        training: beginning of names to what training leaves in a checkpoint.
    """

    network: str
    unused: Mapping[str, str]
    training: Mapping[str, str]


@dataclass(frozen=True)
class Left:
    """A group of tensors that were left in the file: their names, why, and their size."""

    names: tuple[str, ...]
    reason: str
    bytes: int


@dataclass(frozen=True)
class Account:
    """What became of everything in a checkpoint.

    Attributes:
        loaded: names of the tensors that the network has now.
        parameters: how many numbers in them are trained.
        left: the other tensors, by reason.
        beside: names of what stands beside the weights (state of the optimiser, settings ...), not looked at.
    """

    loaded: tuple[str, ...]
    parameters: int
    left: tuple[Left, ...]
    beside: tuple[str, ...]


def load_network(path: Path, build: Callable[[], AnyNetwork], layout: Layout) -> tuple[AnyNetwork, Account]:
    """A network with the weights of a file, float32 on the CPU, ready to be used; mapped from the file, not read.

    Args:
        path: a released checkpoint (``.ckpt``, ``.pth``, ``.pt``, ``.bin``) or a ``.safetensors`` file of its tensors.
        build: makes the network; its first weights are never computed.
        layout: what its checkpoints hold.

    Raises:
        InputError: there is no such file.
        FormatError: another kind of file, damaged, with code in it, another network's, incomplete or not finite.
    """
    state, _ = read_state(path)
    with about(path):
        tensors, beside = unwrap(state)
        with torch.device("meta"):
            network = build()
        return network, fill(network, tensors, layout, beside)


def fill(network: nn.Module, tensors: Mapping[str, Tensor], layout: Layout, beside: tuple[str, ...] = ()) -> Account:
    """Give a network its tensors (not copies, where they are float32 already) and say what became of all.

    Raises:
        FormatError: tensors are missing, of another shape or not finite, or belong to a larger or another network.
    """
    wanted = network.state_dict()
    if problem := _misfit(wanted, tensors, layout):
        raise FormatError(problem)
    weights = {name: tensors[name].float() for name in wanted}
    if broken := [name for name, tensor in weights.items() if not all(x.isfinite() for x in tensor.aminmax())]:
        raise FormatError(f"weights are not finite ({_some(broken)}); download the file again")
    network.load_state_dict(weights, assign=True)
    network.requires_grad_(False).eval()
    groups: dict[str, list[str]] = {}
    for name in tensors:
        if name not in wanted:
            groups.setdefault(_reason(name, layout), []).append(name)
    return Account(
        loaded=tuple(wanted),
        parameters=sum(tensor.numel() for tensor in network.parameters()),
        left=tuple(Left(tuple(names), why, sum(tensors[n].nbytes for n in names)) for why, names in groups.items()),
        beside=beside,
    )


def _misfit(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], layout: Layout) -> str | None:
    """What keeps tensors from being those of a network, in one sentence; ``None``: nothing."""
    roots = {name.split(".")[0] for name in wanted}
    missing = [name for name in wanted if name not in given]
    foreign = [
        name
        for name in given
        if name not in wanted and name.split(".")[0] in roots and _reason(name, layout) == _UNKNOWN
    ]
    shapes = {name: (list(given[name].shape), list(wanted[name].shape)) for name in wanted if name in given}
    resized = [f"{name} {have} instead of {want}" for name, (have, want) in shapes.items() if have != want]
    integer = [name for name in shapes if not given[name].is_floating_point()]
    parts = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (
            ("missing", missing),
            ("of another shape", resized),
            ("whole numbers", integer),
            ("not part of it", foreign),
        )
        if names
    ]
    if not parts:
        return None
    return (
        f"these are not the weights of {layout.network}, they look like {describe(given)}: of its tensors are "
        f"{', '.join(parts)}; give the checkpoint of {layout.network}"
    )


def _reason(name: str, layout: Layout) -> str:
    for pattern, why in layout.unused.items():
        if re.fullmatch(pattern, name):
            return why
    for start, what in layout.training.items():
        if name.startswith(start):
            return what
    return _UNKNOWN


def describe(tensors: Mapping[str, Tensor]) -> str:
    """What a state dict looks like, as a noun."""
    token = tensors.get("smpl_head.transformer.to_token_embedding.weight")
    vit = next((start for start in ("backbone.", "") if f"{start}blocks.0.attn.qkv.weight" in tensors), None)
    size = ""
    if vit is not None:
        blocks = {name.removeprefix(vit).split(".")[1] for name in tensors if name.startswith(f"{vit}blocks.")}
        size = f" ({len(blocks)} blocks, {tensors[f'{vit}blocks.0.attn.qkv.weight'].shape[-1]} wide)"
    if token is not None:
        conditioned = token.ndim == 2 and token.shape[1] == 160
        return ("CameraHMR" if conditioned else "HMR 2.0 (4D-Humans) or another head without the box") + size
    if _has(tensors, "encoder_cr_token") or _has(tensors, "encoder.camera_token"):
        return "MA-HMR or SAT-HMR"
    if _has(tensors, "backbone.stage4.") and _has(tensors, "fc3."):
        return "HumanFoV"
    if _has(tensors, "stage4.") or _has(tensors, "backbone.stage4."):
        return "an HRNet"
    if vit is not None and (_has(tensors, "keypoint_head.") or _has(tensors, "head.deconv")):
        return f"ViTPose{size}"
    if vit is not None:
        return f"a bare ViT{size}"
    return f"something else ({_some(list(tensors))})"


def _has(names: Mapping[str, Any], start: str) -> bool:
    return any(name.startswith(start) for name in names)


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
