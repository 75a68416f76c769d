"""The weights that training starts from: SAT-HMR, a DINOv2 encoder, a file of ours, or the run of another stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from crowdmesh._files import sha256
from crowdmesh._weights_file import about, read_state
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import checkpoint, official
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.mahmr.dinov2 import encoder_state
from crowdmesh.mahmr.network import Network

BEST, LAST = "best.safetensors", "last.safetensors"
"""The file in a run's folder that another stage starts from, and the one where nothing was validated."""

_OPTIONAL = ("fov_head.", "denoising_encoder.")


@dataclass(frozen=True)
class Start:
    """What a network starts from.

    Attributes:
        description: in words. file, sha256: of the weights, if they come from a file.
        licence: of the weights, where the file says it.
        fresh: parts that the file does not have and that start at random (``fov_head`` ...).
        dropped: parts of the file that the network has no place for.
        widened: whether shapes got a kid axis of zeros.
    """

    description: str
    file: str | None = None
    sha256: str | None = None
    licence: str | None = None
    fresh: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    widened: bool = False

    def lines(self) -> list[str]:
        """What to tell the user."""
        told = [self.description if self.file is None else f"{self.file}: {self.description}"]
        told += [f"at random, since the file has none: {', '.join(self.fresh)}"] * bool(self.fresh)
        told += [f"left out, since the network has none: {', '.join(self.dropped)}"] * bool(self.dropped)
        return told + ["shapes get a kid axis that starts at 0"] * self.widened


def start_from(model: Network, source: str | Path | None) -> Start:
    """Give a network its first weights.

    A network of ten shape parameters gives one of eleven a kid axis of zeros; a head for the field of view or a layer
    for denoising that the file lacks stays as it is (at random), one that the network lacks is left out. Everything
    else must fit exactly.

    Args:
        model: a new network; changed in place.
        source: a released ``.pth`` or ``.bin`` of SAT-HMR or MA-HMR, a DINOv2 encoder without registers, a
            ``.safetensors`` of ours, its name in the asset folders, or the folder of a run; ``None``: stay at random.

    Raises:
        InputError: there is no such file or folder, or its network is of another size or for another body.
        FormatError: another kind of file, or a damaged one.
    """
    if source is None:
        return Start("random weights")
    path = _file(source)
    state, header = read_state(path)
    looks = official.describe(state)
    if header is None and looks.startswith("a DINOv2 encoder"):
        return _from_encoder(model, path, looks)
    loaded = checkpoint.load(path)
    if (problem := _other_body(model.config, loaded.config)) is not None:
        raise InputError(f"{path} cannot start this network: {problem}")
    weights, widened, dropped = _fitted(loaded.weights, model)
    wanted = model.state_dict()
    fresh = {name: tensor for name, tensor in wanted.items() if name not in weights and name.startswith(_OPTIONAL)}
    if (misfit := official.misfit(wanted, weights | fresh)) is not None:
        raise InputError(f"{path} cannot start this network: {misfit}")
    model.load_state_dict(weights, strict=False)
    return Start(
        description=str(loaded.provenance.get("description", official.describe(loaded.weights))),
        file=path.name,
        sha256=loaded.provenance["sha256"],
        licence=loaded.provenance["licence"],
        fresh=_parts(fresh),
        dropped=dropped,
        widened=widened,
    )


def _file(source: str | Path) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return checkpoint.locate(source)
    for name in (BEST, LAST):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder} has no {BEST} and no {LAST}: it is no folder of a run that has validated or ended yet; let that run "
        "go on, or give a file of weights"
    )


def _from_encoder(model: Network, path: Path, looks: str) -> Start:
    try:
        encoder = encoder_state(path, model.config)
    except FormatError as error:
        raise InputError(f"{path} cannot start this network: {error}") from error
    with about(path):
        if broken := [name for name, tensor in encoder.items() if not bool(tensor.isfinite().all())]:
            raise FormatError(f"weights are not finite ({official.list_some(broken)}); download them again")
    fresh = {name: tensor for name, tensor in model.state_dict().items() if name not in encoder}
    fresh = {name: tensor for name, tensor in fresh.items() if name not in checkpoint.UNTRAINED}
    model.load_state_dict(encoder, strict=False)
    return Start(looks, path.name, sha256(path), fresh=_parts(fresh))


def _other_body(wanted: MAHMRConfig, given: MAHMRConfig) -> str | None:
    """Why a network cannot take another's weights although shapes may agree."""
    if wanted.body != given.body:
        return f"its weights are for body {given.body!r}, and this network is for {wanted.body!r}"
    if wanted.posed_joints != given.posed_joints:
        return "its weights pose other joints of the body (network.posed_joints)"
    sizes: list[tuple[str, Any, Any]] = [
        (name, getattr(given, name), getattr(wanted, name))
        for name in ("input_size", "width", "depth", "heads", "early_depth", "queries", "decoder_depth",
                     "decoder_heads", "decoder_hidden", "pose_depth", "shape_depth")
    ]  # fmt: skip
    differing = [f"{name} {theirs}, not {ours}" for name, theirs, ours in sizes if theirs != ours]
    if not differing:
        return None
    return f"its network is of another size ({', '.join(differing)}); train one of that size (--set network.…=…)"


def _fitted(weights: dict[str, Tensor], model: Network) -> tuple[dict[str, Tensor], bool, tuple[str, ...]]:
    """Weights with as many shape parameters as the network and without parts that it lacks; what was done."""
    betas = len(weights["heads.mean_shape"])
    widen = model.config.body == "smpl" and (betas, model.config.num_betas) == (10, 11)
    if widen:
        weights = official.widened(weights)
    wanted = model.state_dict()
    extra = {name: tensor for name, tensor in weights.items() if name not in wanted and name.startswith(_OPTIONAL)}
    return {name: tensor for name, tensor in weights.items() if name not in extra}, widen, _parts(extra)


def _parts(tensors: dict[str, Tensor]) -> tuple[str, ...]:
    """The parts of a network that tensors belong to."""
    return tuple(
        dict.fromkeys(".".join(name.split(".")[: 2 if name.startswith("encoder.") else 1]) for name in tensors)
    )
