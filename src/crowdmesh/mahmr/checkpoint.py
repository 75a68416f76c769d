"""Files of weights: writing ours, reading ours and the released ones, and turning the one into the other.

Ours is a safetensors file: tensors by our names in float32, and in its header one entry, ``crowdmesh``, a JSON object
with ``format``, ``version``, ``config``, ``licence``, ``provenance`` and the ``crowdmesh`` version that wrote it; where
the file is halved by storing float16, also ``storage``. (One entry, because safetensors writes several in random order,
and equal weights shall give equal files.) No file of ours holds a body model's data: the released checkpoints carry
SMPL's, which are licensed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from crowdmesh._files import atomic_path, sha256
from crowdmesh._weights_file import ENTRY, SUFFIX, about, read_state, unwrap
from crowdmesh.assets import search_folders
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import official
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.mahmr.network import Network, tensor_shapes

FORMAT = "crowdmesh-ma-hmr"
VERSION = 1

MA_HMR_LICENCE = "CC BY-NC 4.0 (MA-HMR weights; research only)"
SAT_HMR_LICENCE = "not stated (SAT-HMR weights; the code beside them is Apache-2.0)"

UNTRAINED = ("heads.mean_pose", "heads.mean_shape")
"""Tensors that belong to the weights and are no parameters."""

PACKAGED = "crowdmesh_tiny.safetensors"
"""The file of weights that may come with the package, in ``mahmr/data``."""

_STORAGE = {"float32": torch.float32, "float16": torch.float16}
_HEADER = {"format": str, "version": int, "config": dict, "licence": str, "provenance": dict, "crowdmesh": str}
_NAME = re.compile(r"\w[\w.-]*")

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights as they come from a file.

    Attributes:
        config: of the network they belong to.
        weights: all its tensors by our names, float32, on the CPU.
        provenance: ``file``, ``sha256``, ``licence``, and what else the file says of itself.
    """

    config: MAHMRConfig
    weights: dict[str, Tensor]
    provenance: dict[str, Any]

    def network(self) -> Network:
        """The network itself, without a body model."""
        return self.fill(Network(self.config))

    def fill(self, network: AnyNetwork) -> AnyNetwork:
        """A network of this configuration with these weights, ready to be used."""
        network.load_state_dict(self.weights)
        network.provenance = self.provenance
        return network.eval()


@dataclass(frozen=True)
class Dropped:
    """A group of tensors that did not go into a converted file, with their number and size."""

    group: str
    tensors: int
    bytes: int


@dataclass(frozen=True)
class Conversion:
    """What was done to a file of weights.

    Attributes:
        path: the file written.
        description: what the checkpoint was.
        config: of its network.
        licence: of the weights, as it stands in the file.
        source_sha256: of the checkpoint.
        tensors: how many were taken over.
        parameters: how many numbers in them are trained; the mean pose and shape are not.
        dropped: what was not.
    """

    path: Path
    description: str
    config: MAHMRConfig
    licence: str
    source_sha256: str
    tensors: int
    parameters: int
    dropped: tuple[Dropped, ...]


def locate(path_or_name: str | Path) -> Path:
    """A file of weights by its path, or by NAME as ``mahmr/NAME.safetensors`` in one of the asset folders.

    Raises:
        InputError: there is neither; the message says where it was looked for.
    """
    path = Path(path_or_name).expanduser()
    if path.is_file():
        return path
    name = str(path_or_name)
    if not _NAME.fullmatch(name) or path.suffix in (".bin", ".pth", ".pt"):
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}; give the path of MA-HMR weights")
    candidates = [folder / "mahmr" / f"{name.removesuffix(SUFFIX)}{SUFFIX}" for folder in search_folders()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(map(str, candidates))
    raise InputError(
        f"there are no weights {name!r}: neither {path.absolute()} nor {looked} is a file; give a path, or put the "
        "file into a folder named by CROWDMESH_ASSETS"
    )


def packaged() -> Path:
    """The weights that come with this package.

    Raises:
        InputError: it comes without any.
    """
    path = Path(str(files("crowdmesh.mahmr"))) / "data" / PACKAGED
    if not path.is_file():
        raise InputError(
            "this CrowdMesh comes without weights of MA-HMR; give --weights: a .safetensors file, a released "
            "checkpoint, or a name in the asset folders"
        )
    return path


def load(path: str | Path) -> Checkpoint:
    """Weights from a file of ours or from a released checkpoint (``.bin``, ``.pth``, ``.pt`` or ``.safetensors``).

    Nothing in the file is executed, and it is mapped rather than read where its format permits.

    Raises:
        InputError: there is no such file.
        FormatError: another kind of file, damaged, with code in it, of another version, incomplete, not finite.
    """
    path = Path(path)
    loaded = _read(path)
    return replace(loaded, provenance=loaded.provenance | {"file": path.name, "sha256": sha256(path)})


def _read(path: Path) -> Checkpoint:
    """What :meth:`load` says, but for the file's name and digest."""
    state, header = read_state(path)
    with about(path):
        loaded = _released(state) if header is None else _ours(state, header)
        _check(loaded)
    return loaded


def _released(state: Mapping[str, Any]) -> Checkpoint:
    config, weights = official.recognise(state), official.from_official(state)
    if odd := [name for name, tensor in weights.items() if not tensor.is_floating_point()]:
        raise FormatError(f"weights must be floating-point numbers, and {official.list_some(odd)} are not")
    provenance = {"licence": _licence(config), "description": official.describe(state)}
    return Checkpoint(config, {name: tensor.float() for name, tensor in weights.items()}, provenance)


def _ours(state: dict[str, Tensor], header: str) -> Checkpoint:
    fields = _parsed(header)
    storage = fields.get("storage", "float32")
    if storage not in _STORAGE:
        raise FormatError(f"its storage is {storage!r}, this CrowdMesh reads {' and '.join(_STORAGE)}; update")
    if odd := [name for name, tensor in state.items() if tensor.dtype != _STORAGE[storage]]:
        raise FormatError(
            f"tensors must be {storage}, and {official.list_some(odd)} are not; convert the weights again"
        )
    state = {name: tensor.float() for name, tensor in state.items()}
    provenance = fields["provenance"] | {"licence": fields["licence"], "crowdmesh": fields["crowdmesh"]}
    return Checkpoint(MAHMRConfig.from_dict(fields["config"]), state, provenance)


def save(
    model: Network, path: str | Path, licence: str, provenance: Mapping[str, Any] | None = None, half: bool = False
) -> None:
    """Write a network's weights to a ``.safetensors`` file; the old file stays until the new one is complete.

    Args:
        licence: of the weights, in words.
        provenance: where they come from, values that JSON knows.
        half: store float16 numbers, in half the space; they are float32 again when they are loaded.

    Raises:
        InputError: another suffix, no licence, weights that are not finite (or too large for float16), or a folder that
            cannot be written.
    """
    state, storage = model.state_dict(), "float16" if half else "float32"
    weights = {name: state[name].to(_STORAGE[storage]) for name in tensor_shapes(model.config)}
    if broken := _not_finite(weights):
        kind = " in float16" if half else ""
        raise InputError(f"the network has weights that are not finite{kind} ({broken}); it cannot be saved")
    with _written(path) as temporary:
        _write(temporary, model.config, weights, licence, dict(provenance or {}), storage)


def convert(source: str | Path, out: str | Path, licence: str | None = None) -> Conversion:
    """Turn a released checkpoint into a file of ours, without the body model's data, and check it by reading it back.

    Args:
        source: a released checkpoint of SAT-HMR or MA-HMR.
        out: the ``.safetensors`` file to write.
        licence: of the weights; by default what is known of their release.

    Raises:
        InputError: there is no such checkpoint, it is a file of ours already (:func:`halve` takes those), or ``out``
            cannot be written.
        FormatError: see :func:`load`.
    """
    source, out = Path(source), Path(out)
    state, header = read_state(source)
    if header is not None:
        raise InputError(f"{source} is a converted file already; use it as it is, or halve it (--half)")
    _check_another(source, out)
    with about(source):
        state, _ = unwrap(state)
        loaded = _released(state)
        _check(loaded)
    keys = official.sort_keys(state)
    groups = {**keys.dropped, "second names of box heads": [key for names in keys.taken.values() for key in names[1:]]}
    description = loaded.provenance["description"]
    terms = licence or loaded.provenance["licence"]
    provenance = {"source": source.name, "source_sha256": sha256(source), "description": description}
    with _written(out) as temporary:
        _write(temporary, loaded.config, loaded.weights, terms, provenance)
        _verify(temporary, loaded)
    return Conversion(
        path=out,
        description=description,
        config=loaded.config,
        licence=terms,
        source_sha256=provenance["source_sha256"],
        tensors=len(loaded.weights),
        parameters=sum(tensor.numel() for name, tensor in loaded.weights.items() if name not in UNTRAINED),
        dropped=tuple(
            Dropped(group, len(names), sum(state[key].nbytes for key in names))
            for group, names in groups.items()
            if names
        ),
    )


def halve(source: str | Path, out: str | Path, licence: str | None = None) -> Conversion:
    """Write weights as float16 numbers, in half the space, and check the file by reading it back.

    Args:
        source: a file of ours, or a released checkpoint. out: the ``.safetensors`` file to write.
        licence: of the weights; by default that of the source.

    Raises:
        InputError: there is no such file, its numbers are too large for float16, or ``out`` cannot be written.
        FormatError: see :func:`load`.
    """
    source, out = Path(source), Path(out)
    loaded = _read(source)
    _check_another(source, out)
    weights = {name: tensor.half() for name, tensor in loaded.weights.items()}
    if broken := _not_finite(weights):
        raise InputError(f"{source} holds numbers that are too large for float16 ({broken}); use it as it is")
    told = {name: value for name, value in loaded.provenance.items() if name not in ("licence", "crowdmesh")}
    terms, digest = licence or loaded.provenance["licence"], sha256(source)
    with _written(out) as temporary:
        _write(
            temporary, loaded.config, weights, terms, told | {"halved": source.name, "halved_sha256": digest}, "float16"
        )
        _verify(temporary, replace(loaded, weights={name: tensor.float() for name, tensor in weights.items()}))
    return Conversion(
        path=out,
        description=str(told.get("description", official.describe(loaded.weights))),
        config=loaded.config,
        licence=terms,
        source_sha256=digest,
        tensors=len(weights),
        parameters=sum(tensor.numel() for name, tensor in weights.items() if name not in UNTRAINED),
        dropped=(),
    )


def _check_another(source: Path, out: Path) -> None:
    if out.exists() and out.samefile(source):
        raise InputError(f"{out} is the checkpoint itself; choose another file to write")


def _parsed(header: str) -> dict[str, Any]:
    """The fields of our header."""
    try:
        fields = json.loads(header)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise FormatError("its header is not that of MA-HMR weights; convert or download them again")
    written = fields.get("version")
    if written != VERSION:
        raise FormatError(
            f"it has format version {written!r}, this CrowdMesh reads {VERSION}; update, or convert again"
        )
    for name, kind in _HEADER.items():
        if not isinstance(fields.get(name), kind):
            raise FormatError(f"its header lacks {name} ({kind.__name__}); convert or download it again")
    return fields


@contextmanager
def _written(path: str | Path) -> Iterator[Path]:
    if Path(path).suffix != SUFFIX:
        raise InputError(f"weights are written to a {SUFFIX} file, not to {path}")
    with atomic_path(path) as temporary:
        try:
            yield temporary
        except SafetensorError as error:
            raise InputError(f"cannot write {path}: {error}; free some space or choose another folder") from error


def _write(
    path: Path,
    config: MAHMRConfig,
    weights: dict[str, Tensor],
    licence: str,
    provenance: dict[str, Any],
    storage: str = "float32",
) -> None:
    if not licence.strip():
        raise InputError("weights need a licence, in words")
    fields = {
        "format": FORMAT,
        "version": VERSION,
        "config": config.to_dict(),
        "licence": licence,
        "provenance": provenance,
        "crowdmesh": version("crowdmesh"),
    } | ({} if storage == "float32" else {"storage": storage})
    try:
        header = json.dumps(fields, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the provenance of weights must be values that JSON knows: {error}") from error
    tensors = {name: tensor.detach().to("cpu", _STORAGE[storage]).contiguous() for name, tensor in weights.items()}
    save_file(tensors, path, metadata={ENTRY: header})


def _verify(path: Path, wanted: Checkpoint) -> None:
    """Read a file back and compare every number, bit by bit."""
    found = _read(path)
    same = found.config == wanted.config and found.weights.keys() == wanted.weights.keys()
    for name, tensor in wanted.weights.items():
        same = same and torch.equal(found.weights[name].view(torch.int32), tensor.contiguous().view(torch.int32))
    if not same:
        raise FormatError(f"what was written to {path.parent} reads back differently; check that disk")


def _licence(config: MAHMRConfig) -> str:
    """What is known of the licence of released weights."""
    sat_hmr = not config.fov and not config.denoising and config.num_betas == 10
    return SAT_HMR_LICENCE if sat_hmr else MA_HMR_LICENCE


def _check(loaded: Checkpoint) -> None:
    """Are these all the tensors of the network, and are they numbers?"""
    if problem := official.misfit(tensor_shapes(loaded.config), loaded.weights):
        raise FormatError(problem)
    if broken := _not_finite(loaded.weights):
        raise FormatError(f"weights are not finite ({broken}); download or train them again")


def _not_finite(weights: Mapping[str, Tensor]) -> str:
    """Names of the tensors with NaN or infinity in them."""
    return official.list_some([name for name, tensor in weights.items() if not bool(tensor.isfinite().all())])
