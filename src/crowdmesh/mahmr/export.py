"""The network as an ONNX file for pictures of one size, checked against the network itself."""

from __future__ import annotations

import copy
import importlib
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crowdmesh._files import atomic_path
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr.canvas import normalised
from crowdmesh.mahmr.config import MULTIPLE_PX
from crowdmesh.mahmr.fixed_shape import FixedShape, outputs_of

if TYPE_CHECKING:
    from crowdmesh.mahmr.network import Network

FORMAT = "crowdmesh-ma-hmr-onnx"
VERSION = 1
OPSET = 18

TOLERANCE = 1e-3
"""Largest accepted difference between an exported network and ours; of values above 1, relative."""

_ENTRY = "crowdmesh"
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
_PICTURES = 8  # test pictures tried, until one suits
_MARGIN = 1e-5  # no cell of a test picture may be that close to a threshold: rounding would decide on its level


@dataclass(frozen=True)
class ExportCheck:
    """An exported file and how well it agrees with the network.

    Attributes:
        path: the file.
        bytes: its size.
        differences: per output, the largest difference from the network on a made-up picture (see ``TOLERANCE``).
        tokens: tokens of each made-up picture.
        most_tokens: tokens per picture that the late blocks of the file have room for.
        runtime: what ran the file.
    """

    path: Path
    bytes: int
    differences: dict[str, float]
    tokens: tuple[int, ...]
    most_tokens: int
    runtime: str


def export_onnx(
    model: Network, path: str | Path, height: int, width: int, batch: int = 1, max_tokens: int | None = None
) -> ExportCheck:
    """Write a network for pictures of one size as an ONNX file, and compare it with the network itself.

    The file has the inputs and outputs of :meth:`FixedShape.forward`, and in its metadata an entry ``crowdmesh``, a
    JSON object with ``format``, ``version``, ``config``, ``joints`` (names, in the order of the rotations),
    ``licence``, ``provenance``, ``height``, ``width``, ``batch``, ``max_tokens``. Nothing of the body model is in it.

    Args:
        height, width, batch, max_tokens: see :class:`FixedShape`.

    Raises:
        InputError: see :class:`FixedShape`; missing libraries; no ``.onnx`` path, or one that cannot be written.
        FormatError: the file's results differ from the network's by more than ``TOLERANCE``; nothing is written.
    """
    _need_libraries()
    if Path(path).suffix != ".onnx":
        raise InputError(f"an ONNX export is written to a .onnx file, not to {path}")
    fixed = FixedShape(_plain(model), height, width, batch, max_tokens).eval()
    pixels, sizes, expected, tokens = _test_pictures(fixed)
    with atomic_path(path) as temporary:
        _write(fixed, temporary, (pixels, sizes), list(expected))
        runtime, found = _run_onnx(temporary, pixels, sizes)
        differences = {name: _difference(found[name], value) for name, value in expected.items()}
        worst = max(differences, key=lambda name: differences[name])
        if not differences[worst] <= TOLERANCE:
            raise FormatError(
                f"{path} was not written: the output {worst} of the exported network differs by "
                f"{differences[worst]:.2g} from the network's (allowed: {TOLERANCE:g}; its values reach "
                f"{float(expected[worst].abs().max()):.2g}); try other weights, or other versions of "
                f"{', '.join(_LIBRARIES)}"
            )
        size = temporary.stat().st_size
    most = fixed.max_tokens or fixed.all_tokens
    return ExportCheck(Path(path), size, differences, tuple(tokens), most, runtime)


def _need_libraries() -> None:
    missing = []
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise InputError(
            f"export to ONNX needs {', '.join(missing)}, not installed here; run: pip install 'crowdmesh[onnx]'"
        )


def _plain(model: Network) -> Network:
    """The network on the CPU in float32, where torch traces it and the runtime compares."""
    first = next(model.parameters())
    if first.device.type == "cpu" and first.dtype is torch.float32:
        return model
    return copy.deepcopy(model).cpu().float()


@torch.no_grad()
def _test_pictures(fixed: FixedShape) -> tuple[Tensor, Tensor, dict[str, Tensor], list[int]]:
    """Pictures that suit a comparison, and what the network with its rows of tokens makes of them.

    Returns:
        Pixels, sizes without padding, outputs, and tokens of each picture.
    """
    model, most = fixed.model, fixed.max_tokens or fixed.all_tokens
    height, width = fixed.size
    sizes = torch.tensor([(height - MULTIPLE_PX // 4, width - MULTIPLE_PX // 2)]).repeat(fixed.batch, 1)
    fewest = fixed.all_tokens
    for seed in range(_PICTURES):
        pixels = _made_up(seed, (fixed.batch, height, width))
        encoded = model.encoder(list(normalised(pixels)))
        fewest = min(fewest, max(encoded.lengths))
        if max(encoded.lengths) > most or _near_threshold(model, encoded.scale_map):
            continue
        outputs = outputs_of(model, encoded.camera, model.decode(encoded), sizes)
        outputs["scale_map"] = encoded.scale_map.unflatten(0, (fixed.batch, -1))
        if fixed.max_tokens is not None:
            outputs["dropped_tokens"] = torch.zeros(fixed.batch, dtype=torch.int64)
        return pixels, sizes, outputs, encoded.lengths
    if fewest > most:
        raise InputError(f"max_tokens {most} is too few: the test pictures have {fewest} and more; give more room")
    raise InputError("the network's scale map lies at its thresholds everywhere, so nothing can be compared; train it")


def _made_up(seed: int, shape: Sequence[int]) -> UInt8[Tensor, "B H W 3"]:
    """Patches of colour with some noise, no two pictures alike, black at the right and bottom."""
    batch, height, width = shape
    random = np.random.default_rng(seed)
    side = MULTIPLE_PX
    patches = random.integers(0, 256, (batch, height // side, width // side, 3)).repeat(side, 1).repeat(side, 2)
    pixels = (patches + random.normal(0, 20, patches.shape)).clip(0, 255).astype(np.uint8)
    pixels[:, height - side // 4 :], pixels[:, :, width - side // 2 :] = 0, 0
    return torch.from_numpy(pixels)


def _near_threshold(model: Network, scale_map: Float[Tensor, "n 2"]) -> bool:
    thresholds = scale_map.new_tensor((model.config.map_threshold, model.config.small_threshold))
    return bool(((scale_map - thresholds).abs() < _MARGIN).any())


def _write(fixed: FixedShape, path: Path, example: tuple[Tensor, Tensor], outputs: list[str]) -> None:
    """Trace and write; names and metadata included."""
    model, (height, width) = fixed.model, fixed.size
    entry = {
        "format": FORMAT,
        "version": VERSION,
        "config": model.config.to_dict(),
        "joints": list(model.config.posed_joints),
        "licence": model.provenance.get("licence", "not stated"),
        "provenance": model.provenance,
        "height": height,
        "width": width,
        "batch": fixed.batch,
        "max_tokens": fixed.max_tokens,
        "crowdmesh": version("crowdmesh"),
    }
    metadata = json.dumps(entry, sort_keys=True)
    with _silence(), torch.no_grad():
        program = torch.onnx.export(
            fixed, example, input_names=["pixels", "image_sizes"], output_names=outputs, opset_version=OPSET,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    for node in program.model.graph.all_nodes():  # the exporter notes lines and files of this machine there
        node.metadata_props.clear()
    program.model.metadata_props[_ENTRY] = metadata
    program.save(str(path), external_data=False)


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the exporter says about itself (that torchvision is not there, and such)."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _run_onnx(path: Path, pixels: Tensor, sizes: Tensor) -> tuple[str, dict[str, np.ndarray]]:
    """Name of the runtime, and the outputs by their names."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {"pixels": pixels.numpy(), "image_sizes": sizes.numpy()})
    found = {name: np.asarray(value) for name, value in zip(names, values, strict=True)}
    return f"onnxruntime {onnxruntime.__version__}", found


def _difference(found: np.ndarray, expected: Tensor) -> float:
    """Largest difference; of values above 1, relative."""
    reference = expected.numpy().astype(np.float64)
    if found.shape != reference.shape:
        return float("inf")
    worst = float((np.abs(found - reference) / np.maximum(1.0, np.abs(reference))).max())
    return float("inf") if math.isnan(worst) else worst
