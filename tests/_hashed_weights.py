"""The weights behind the recorded outputs of CameraHMR and HumanFoV: every tensor drawn from its name."""

from __future__ import annotations

import json
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def hashed(key: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor, by the rule in the README of the vectors."""
    n = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    last = key.rsplit(".", 1)[-1]
    if last == "running_var":
        n = 1 + 0.1 * np.abs(n)
    elif last == "running_mean":
        n *= 0.01
    elif len(shape) > 1 and not last.startswith(("pos_embed", "init_")):
        n /= np.sqrt(prod(shape[1:]))
    elif len(shape) == 1 and last.endswith("weight"):
        n = 1 + 0.1 * n
    else:
        n *= 0.02
    return torch.from_numpy(n.astype(np.float32))


def hashed_state(network: nn.Module) -> dict[str, Tensor]:
    """All tensors of a network."""
    return {key: hashed(key, tuple(value.shape)) for key, value in network.state_dict().items()}


def recorded_keys(path: Path) -> dict[str, Tensor]:
    """A checkpoint with the recorded names and shapes; its zeros take no memory."""
    keys = json.loads(path.read_text())["keys"]
    zero = {"float32": torch.zeros(1), "int64": torch.zeros(1, dtype=torch.int64)}
    return {name: zero[dtype].expand(shape) if shape else zero[dtype][0] for name, (shape, dtype) in keys.items()}


def relative_error(found: Tensor, wanted: np.ndarray) -> float:
    """Largest difference over largest value."""
    return float(np.abs(found.numpy() - wanted).max() / np.abs(wanted).max())
