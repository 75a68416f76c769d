"""Files of network weights, whoever wrote them: reading their tensors without running anything.

A file of ``torch.save`` is a pickle, and a pickle is a program. Torch lets only tensors and plain values through; what
trainers put beside the weights (their settings, in classes of OmegaConf, yacs and Lightning) is replaced by objects
that do nothing, so that such files can be read without those packages. Every other name is refused.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crowdmesh._files import reading
from crowdmesh._unpickle import UnpicklingError
from crowdmesh.errors import FormatError, InputError

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
ENTRY = "crowdmesh"
"""The header entry of safetensors files that CrowdMesh writes."""

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


class _Ignored:
    """Stands in for a class of settings; whatever it is made of is dropped."""

    def __new__(cls, *_: Any) -> Any:
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _IgnoredDict:
    """Stands in for a dictionary class of settings: a plain one, which a pickle may fill."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


_SETTINGS = (
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("Metadata", "ContainerMetadata", "SCMode")),
    *(
        f"omegaconf.nodes.{name}Node"
        for name in ("Any", "String", "Integer", "Float", "Boolean", "Bytes", "Path", "Enum", "InterpolationResult")
    ),
    *(f"builtins.{name}" for name in ("dict", "list", "tuple", "int", "float", "bool", "str", "object")),
    "typing.Any",
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath")),
)
_SETTINGS_DICTS = (
    "yacs.config.CfgNode",
    "collections.defaultdict",
    "argparse.Namespace",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
)


_WRAPPERS = ("state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and of torch.compile


def read_state(path: Path) -> tuple[dict[str, Any], str | None]:
    """What a file of weights holds, whatever its names, and the header of ours (JSON) if it has one.

    Tensors come on the CPU, mapped rather than read where the file's format permits.

    Raises:
        InputError: there is no such file.
        FormatError: another kind of file, damaged, or with code in it, which is not run.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of network weights")
    if path.suffix != SUFFIX:
        return _read_pickle(path), None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata.get(ENTRY)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FormatError(f"{path} is not a readable safetensors file: {error}; copy or download it again") from error


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Say which file it is that does not hold what it should."""
    try:
        yield
    except (FormatError, InputError) as error:
        raise FormatError(f"{path}: {error}") from error


def unwrap(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors themselves, and the names of what stands beside them in a checkpoint.

    Taken off are ``{"model": ...}`` or ``{"state_dict": ...}`` around them, and what data-parallel or compiled
    training puts before every name.

    Raises:
        FormatError: not a dictionary from names to tensors, or an empty one.
    """
    from torch import Tensor

    tensors, beside = peeled(state)
    if not tensors or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in tensors.items()):
        raise FormatError(
            "weights are a dictionary from names to tensors, and this is not one; save model.state_dict() alone"
        )
    return tensors, beside


def peeled(state: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """As :func:`unwrap`, whatever the values are."""
    for wrapper in _WRAPPERS:
        if isinstance(inner := state.get(wrapper), Mapping):
            tensors, beside = peeled(inner)
            return tensors, (*(str(key) for key in state if key != wrapper), *beside)
    for prefix in _PREFIXES:
        if state and all(isinstance(key, str) and key.startswith(prefix) for key in state):
            return peeled({key.removeprefix(prefix): value for key, value in state.items()})
    return dict(state), ()


def _read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a file of ``torch.save``. Only tensors and plain values are let through, by torch."""
    import torch

    what = "PyTorch file of weights"
    with reading(path, what), path.open("rb") as file:
        magic = file.read(len(_ZIP))
        zipped = zipfile.is_zipfile(file)
    if magic == _ZIP and not zipped:
        raise FormatError(f"{path} is not a readable {what}: it is truncated; copy or download it again")
    if magic != _ZIP and not magic.startswith(_PICKLE):
        raise FormatError(f"{path} is not a {what}; give a released checkpoint or a {SUFFIX} file of CrowdMesh")
    stand_ins: list[Any] = [(_Ignored, name) for name in _SETTINGS] + [(_IgnoredDict, name) for name in _SETTINGS_DICTS]
    with reading(path, what), warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
        warnings.simplefilter("ignore")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except UnpicklingError as error:
            raise FormatError(_refusal(path, str(error))) from None
    if not isinstance(state, Mapping):
        raise FormatError(
            f"{path} holds a {type(state).__name__} instead of a dictionary of weights; save a state dict"
        )
    return dict(state)


def _refusal(path: Path, reason: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"other things than tensors (it names {found[1]})" if found else "other things than tensors, or is damaged"
    return (
        f"{path} holds {what}; nothing of it was run, since such a file can run any code: where you trust it, load it "
        "and save model.state_dict() alone"
    )
