"""The state of a run in one file: all that is needed to go on as if it had never been stopped.

A safetensors file: tensors ``weights.NAME`` (parameters and buffers of the network), ``average.NAME`` (their moving
average) and ``optimiser.KEY.NAME``, and in its header the step, the best validation, the configuration, and what the
run was given beside it: how many images, and what the network started from. Data order, augmentation, noise and
learning rate follow from the configuration and the step, so no generator's state is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from crowdmesh._files import atomic_path, sweep
from crowdmesh._weights_file import ENTRY, SUFFIX, read_state
from crowdmesh.errors import FormatError, InputError
from crowdmesh.training.ema import MovingAverage

FORMAT = "crowdmesh-training-state"
VERSION = 2
"""Version 1 did not say what a run was given."""

STATE_NAME = f"state{SUFFIX}"
"""Name of the file in a run's folder."""

FREE = frozenset({"run.workers", "run.save_every", "run.picture_every"})
"""Settings that do not change a result and may differ."""

_ANEW = "give another folder, or delete this file to begin anew"


@dataclass(frozen=True)
class Position:
    """How far a run is.

    Attributes:
        step: steps that are done.
        judged: the step whose weights were validated last; ``None``: none yet.
        best_score: lowest validation score so far. best_step: after which step.
    """

    step: int = 0
    judged: int | None = None
    best_score: float | None = None
    best_step: int | None = None

    def after(self, step: int) -> Position:
        """The same when ``step`` steps are done."""
        return Position(step, self.judged, self.best_score, self.best_step)

    def with_score(self, score: float) -> Position:
        """The same after a validation; a score that is not finite is never the best."""
        better = math.isfinite(score) and (self.best_score is None or score < self.best_score)
        return Position(
            self.step, self.step, score if better else self.best_score, self.step if better else self.best_step
        )


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run changes.

    Attributes:
        network: its weights. optimiser: of its parameters. average: of its weights, if one is kept.
    """

    network: nn.Module
    optimiser: Optimizer
    average: MovingAverage | None = None
    _names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = {id(parameter): name for name, parameter in self.network.named_parameters()}
        groups = self.optimiser.param_groups
        object.__setattr__(self, "_names", tuple(names[id(p)] for group in groups for p in group["params"]))

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by the names of the file."""
        found = {f"weights.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{name}": tensor for name, tensor in self.average.values.items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{key}.{self._names[index]}": value for key, value in values.items()}
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave.

        Raises:
            FormatError: tensors are missing, too many, or of other shapes.
        """
        weights, average, optimiser = (
            {name.removeprefix(kind): t for name, t in tensors.items() if name.startswith(kind)}
            for kind in ("weights.", "average.", "optimiser.")
        )
        wanted = self.average.values if self.average is not None else {}
        for found, needed in ((weights, self.network.state_dict()), (average, wanted)):
            wrong = sorted(found.keys() ^ needed.keys())
            wrong += sorted(n for n in found.keys() & needed.keys() if found[n].shape != needed[n].shape)
            if wrong:
                raise FormatError(f"{wrong[0]} is missing, of another size, or unknown; {_ANEW}")
        moments = self._moments(optimiser)
        self.network.load_state_dict(weights)
        if self.average is not None:
            self.average.load(average)
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})

    def _moments(self, tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        parameters = dict(self.network.named_parameters())
        index = {name: i for i, name in enumerate(self._names)}
        found: dict[int, dict[str, Tensor]] = {}
        for full, tensor in tensors.items():
            key, _, name = full.partition(".")
            if name not in index or (tensor.ndim and tensor.shape != parameters[name].shape):
                raise FormatError(f"optimiser.{full} is of another network; {_ANEW}")
            found.setdefault(index[name], {})[key] = tensor
        return found


def digest_of_settings(config: Mapping[str, Any]) -> str:
    """SHA-256 of the settings that decide on the result, plain values: all but :data:`FREE`."""
    kept = {name: value for name, value in _flat(config).items() if name not in FREE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def save_state(
    path: Path, trained: Trained, position: Position, config: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> None:
    """Write a run's state; the old file stays until the new one is complete, also through a power cut.

    Args:
        config: of the run, plain values. given: what else decides on its result, plain values.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    fields_ = {
        "format": FORMAT, "version": VERSION, "position": asdict(position), "config": config, "given": given or {},
    }  # fmt: skip
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.tensors().items()}
    with atomic_path(path, durable=True) as temporary:
        try:
            save_file(tensors, temporary, metadata={ENTRY: json.dumps(fields_, sort_keys=True, allow_nan=False)})
        except SafetensorError as error:
            raise InputError(
                f"cannot write {path}: {error}; free some space and run the same command again, the run goes on from "
                "its last checkpoint"
            ) from error


def load_state(
    path: Path, trained: Trained, config: Mapping[str, Any], given: Mapping[str, Any] | None = None
) -> Position:
    """Go on from a run's state.

    Raises:
        InputError: it is the state of a run with other settings, images or first weights; the message names them.
        FormatError: not such a file, damaged, or of another network.
    """
    tensors, header = read_state(path)
    position, settings, beside = _parsed(path, header)
    differences = differing(settings, config)
    if beside:
        differences += differing(beside, given or {})
    if differences:
        listed = "; ".join(f"{name} was {old!r}, now {new!r}" for name, old, new in differences[:5])
        more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise InputError(
            f"{path} is the checkpoint of a run with other settings, data or first weights ({listed}{more}); use the "
            "same to go on, or another folder"
        )
    try:
        trained.load(tensors)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    return position


def sweep_files(folder: Path) -> None:
    """Delete what killed processes left of states that they were writing."""
    if folder.is_dir():
        sweep(folder, f"{Path(STATE_NAME).stem}.*{SUFFIX}")


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Dotted names of the settings that differ and matter, with both values."""
    before, after = _flat(old), _flat(new)
    missing = "not set"
    return [
        (name, before.get(name, missing), after.get(name, missing))
        for name in sorted(before.keys() | after.keys())
        if name not in FREE and before.get(name, missing) != after.get(name, missing)
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, item in items:
        found |= _flat(item, f"{name}.{key}" if name else str(key))
    return found


def _parsed(path: Path, header: str | None) -> tuple[Position, dict[str, Any], dict[str, Any]]:
    try:
        values = json.loads(header or "null")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise FormatError(f"{path} is not the checkpoint of a training run; {_ANEW}")
    if values.get("version") not in (1, VERSION):
        raise FormatError(
            f"{path} has format version {values.get('version')!r}, this CrowdMesh reads 1 and {VERSION}; {_ANEW}"
        )
    position, config = values.get("position"), values.get("config")
    given = values.get("given") if values["version"] == VERSION else {}
    known = {entry.name for entry in fields(Position)}
    if not isinstance(position, dict) or not isinstance(config, dict) or not isinstance(given, dict):
        raise FormatError(f"the header of {path} is damaged; {_ANEW}")
    if set(position) != known:
        raise FormatError(f"the header of {path} is damaged; {_ANEW}")
    return Position(**position), config, given
