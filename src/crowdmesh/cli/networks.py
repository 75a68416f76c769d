"""The verbs about networks of our own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from crowdmesh._terminal import console, table
from crowdmesh.cli._options import ExpertSet, Flag, Upstream, UpstreamFlags
from crowdmesh.errors import CrowdMeshError, InputError

if TYPE_CHECKING:
    from crowdmesh.assets import Weights

_LITE = Upstream()


def download(upstream: UpstreamFlags = _LITE, preset: ExpertSet | None = None, dry_run: Flag = False) -> int:
    """Fetch and check all weights of a set of experts, and say which files only you can get.

    Args:
        upstream: the experts whose weights are wanted.
        preset: the same as --experts.
        dry_run: only list them.
    """
    from crowdmesh.experts.presets import weights_of

    rows = table("", "what", "licence", "MB", "where")
    missing = 0
    for weights in weights_of(preset or upstream.experts, upstream.options()):
        fine, where = _here(weights) if dry_run else _fetched(weights)
        missing += not fine
        size = getattr(weights, "size_bytes", None)
        rows.add_row("ok" if fine else "--", weights.name, weights.licence, f"{size / 1e6:.0f}" if size else "?", where)
    console().print(rows)
    return 1 if missing and not dry_run else 0


def _here(weights: Weights) -> tuple[bool, str]:
    """Whether a good copy is on this machine, and where, or how to get one."""
    path = weights.find()
    problem = None if path is None else weights.defect(path)
    if path is None or problem is not None:
        return False, weights.remedy() if path is None else f"{path} {problem}"
    return True, str(path)


def _fetched(weights: Weights) -> tuple[bool, str]:
    try:
        return True, str(weights.fetch())
    except CrowdMeshError as error:
        return False, str(error)


def convert(
    weights: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    licence: str | None = None,
    half: Flag = False,
    height: int | None = None,
    width: int | None = None,
    batch: int = 1,
    max_tokens: int | None = None,
) -> int:
    """Weights of MA-HMR from one kind of file to another: released .bin/.pth to .safetensors, or anything to .onnx.

    Args:
        weights: a released SAT-HMR or MA-HMR checkpoint, or for .onnx and --half also a .safetensors file of ours.
        out: .safetensors (the body model's licensed data is left out, header with configuration, licence and hash) or
            .onnx (one image size, checked against the network).
        licence: of the weights, to be written into the file (default: that of their release).
        half: .safetensors: store float16 numbers, in half the space; they are float32 again when they are loaded.
        height: .onnx: of the padded image, a multiple of 56 (default: the network's longer side).
        width: .onnx: as height.
        batch: .onnx: images per call.
        max_tokens: .onnx: room for that many image tokens after the first blocks; what does not fit is counted
            (default: room for all there can be, which is slow at large sizes).
    """
    if out.suffix == ".onnx":
        if half:
            raise InputError("--half belongs to .safetensors files")
        return _to_onnx(weights, out, licence, height, width, batch, max_tokens)
    if out.suffix != ".safetensors":
        raise InputError(f"weights are converted to .safetensors or .onnx, not to {out.name}")
    if (height, width, batch, max_tokens) != (None, None, 1, None):
        raise InputError("--height, --width, --batch and --max-tokens belong to .onnx files")
    from crowdmesh.mahmr import checkpoint

    run = checkpoint.halve if half else checkpoint.convert
    done = run(checkpoint.locate(weights), out, licence)
    screen = console()
    screen.print(f"{weights.name}: {done.description}, licence {done.licence}", highlight=False, markup=False)
    rows = table("left out", "tensors", "MB")
    for group in done.dropped:
        rows.add_row(group.group, str(group.tensors), f"{group.bytes / 1e6:.1f}")
    if done.dropped:
        screen.print(rows)
    screen.print(
        f"wrote {out}: {done.tensors} tensors, {done.parameters / 1e6:.1f} M numbers, read back and compared",
        highlight=False, markup=False,
    )  # fmt: skip
    return 0


def _to_onnx(
    weights: Path, out: Path, licence: str | None, height: int | None, width: int | None, batch: int,
    max_tokens: int | None,
) -> int:  # fmt: skip
    if licence is not None:
        raise InputError("--licence belongs to .safetensors files; an .onnx file takes that of its weights")
    from crowdmesh.mahmr.checkpoint import load, locate
    from crowdmesh.mahmr.export import export_onnx

    network = load(locate(weights)).network()
    size = network.config.input_size
    done = export_onnx(network, out, height or size, width or size, batch, max_tokens)
    rows = table("output", "largest difference from the network")
    for name, difference in done.differences.items():
        rows.add_row(name, f"{difference:.1e}")
    console().print(rows)
    console().print(
        f"wrote {out} ({done.bytes / 1e6:.0f} MB, room for {done.most_tokens} tokens), compared in {done.runtime} on "
        f"made-up pictures of {', '.join(map(str, done.tokens))} tokens",
        highlight=False, markup=False,
    )  # fmt: skip
    return 0
