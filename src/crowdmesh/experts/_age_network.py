"""The age and sex network of face-api.js (a small Xception), run in torch from its published 8-bit weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from crowdmesh.errors import AssetError

INPUT_SIZE = 112
"""Side of the face crops the network takes, in pixels."""

_MEAN_RGB = (122.782, 117.001, 104.298)


class AgeSexNetwork:
    """Apparent age and sex from upright face crops."""

    def __init__(self, weights: Path, manifest: Path) -> None:
        self._weights = read_weights(weights, manifest)

    @torch.inference_mode()
    def __call__(
        self, faces: UInt8[np.ndarray, "N 112 112 3"]
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
        """Age in years and probability of being male, each (N,), of RGB face crops."""
        x = torch.from_numpy(np.ascontiguousarray(faces.transpose(0, 3, 1, 2))).float()
        x = (x - torch.tensor(_MEAN_RGB)[:, None, None]) / 256.0
        x = functional.relu(self._convolve(x, "entry_flow/conv_in", stride=2))
        x = self._reduce(x, x, "entry_flow/reduction_block_0")
        x = self._reduce(functional.relu(x), x, "entry_flow/reduction_block_1")
        for block in range(2):
            y = x
            for layer in range(3):
                y = self._separable(functional.relu(y), f"middle_flow/main_block_{block}/separable_conv{layer}")
            x = x + y
        x = self._reduce(functional.relu(x), x, "exit_flow/reduction_block")
        features = functional.relu(self._separable(x, "exit_flow/separable_conv")).mean((2, 3))
        age = self._linear(features, "fc/age")[:, 0]
        male = self._linear(features, "fc/gender").softmax(1)[:, 0]
        return age.double().numpy(), male.double().numpy()

    def _reduce(self, x: Tensor, shortcut: Tensor, name: str) -> Tensor:
        """Two separable convolutions and a halving, added to a strided projection of the block's input."""
        x = self._separable(x, f"{name}/separable_conv0")
        x = self._separable(functional.relu(x), f"{name}/separable_conv1")
        x = functional.max_pool2d(_pad_same(x, 3, 2, -math.inf), 3, 2)
        return x + self._convolve(shortcut, f"{name}/expansion_conv", stride=2)

    def _separable(self, x: Tensor, name: str) -> Tensor:
        depthwise = self._weights[f"{name}/depthwise_filter"]
        x = functional.conv2d(x, depthwise, padding=1, groups=x.shape[1])
        return functional.conv2d(x, self._weights[f"{name}/pointwise_filter"], self._weights[f"{name}/bias"])

    def _convolve(self, x: Tensor, name: str, stride: int) -> Tensor:
        filters = self._weights[f"{name}/filters"]
        return functional.conv2d(
            _pad_same(x, filters.shape[-1], stride, 0.0), filters, self._weights[f"{name}/bias"], stride
        )

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self._weights[f"{name}/weights"] + self._weights[f"{name}/bias"]


def read_weights(weights: Path, manifest: Path) -> dict[str, Tensor]:
    """Tensors of a TensorFlow.js model in one shard: plain bytes, named and described by a JSON manifest.

    8-bit weights are scaled back to floats; convolution filters are turned from TensorFlow's order (height, width, in,
    out) into torch's (out, in, height, width), depthwise ones into (channels, 1, height, width).

    Raises:
        AssetError: the two files do not belong together, or one of them is not what it should be.
    """
    try:
        entries = json.loads(manifest.read_text("utf-8"))[0]["weights"]
        data = weights.read_bytes()
        tensors, position = {}, 0
        for entry in entries:
            values, position = _read_tensor(data, position, entry)
            tensors[entry["name"]] = values
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise AssetError(
            f"cannot read the network weights {weights} with {manifest} ({error}); fetch both again"
        ) from error
    if position != len(data):
        raise AssetError(f"{weights} has {len(data)} bytes but {manifest} describes {position}; fetch both again")
    return tensors


def _read_tensor(data: bytes, position: int, entry: dict[str, Any]) -> tuple[Tensor, int]:
    """One tensor and where the next one starts."""
    shape, quantisation = entry["shape"], entry.get("quantization")
    count = math.prod(shape)
    kind = np.dtype(np.uint8 if quantisation else "<f4")
    values = np.frombuffer(data, kind, count, position).astype(np.float32).reshape(shape)
    if quantisation:
        values = values * np.float32(quantisation["scale"]) + np.float32(quantisation["min"])
    if len(shape) == 4:
        values = values.transpose((2, 3, 0, 1) if entry["name"].endswith("depthwise_filter") else (3, 2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(values)), position + count * kind.itemsize


def _pad_same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """Pad like TensorFlow's "same": output size = ceil(size / stride), the odd row and column at bottom and right."""
    pads = [max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in (x.shape[-1], x.shape[-2])]
    return functional.pad(x, [side for total in pads for side in (total // 2, total - total // 2)], value=value)
