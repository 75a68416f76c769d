"""A DINOv2 encoder as the start of ours."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from released_weights import SMALL, official_state
from safetensors.torch import save_file

from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import MAHMRConfig, dinov2, official
from crowdmesh.mahmr.network import tensor_shapes


def authors_state(config: MAHMRConfig = SMALL, side: int = 5) -> dict[str, torch.Tensor]:
    """A DINOv2 encoder by its authors' names, with random numbers."""
    C, blocks = config.width, {k: v for k, v in official_state(config).items() if k.startswith("encoder.blocks.")}
    generator = torch.Generator().manual_seed(2)
    shapes = {
        "cls_token": (1, 1, C), "mask_token": (1, C), "pos_embed": (1, 1 + side**2, C),
        "patch_embed.proj.weight": (C, 3, 14, 14), "patch_embed.proj.bias": (C,),
        "norm.weight": (C,), "norm.bias": (C,),
    }  # fmt: skip
    loose = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return loose | {name.removeprefix("encoder."): tensor for name, tensor in blocks.items()}


def transformers_state(authors: dict[str, torch.Tensor], depth: int = SMALL.depth) -> dict[str, torch.Tensor]:
    """The same encoder by the names of transformers' Dinov2Model."""
    state = {
        "embeddings.cls_token": authors["cls_token"],
        "embeddings.mask_token": authors["mask_token"],
        "embeddings.position_embeddings": authors["pos_embed"],
        "embeddings.patch_embeddings.projection.weight": authors["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": authors["patch_embed.proj.bias"],
        "layernorm.weight": authors["norm.weight"],
        "layernorm.bias": authors["norm.bias"],
    }
    for i in range(depth):
        old, new = f"blocks.{i}", f"encoder.layer.{i}"
        for end in ("weight", "bias"):
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{new}.{part}.{end}"] = authors[f"{old}.{part}.{end}"]
            state[f"{new}.attention.output.dense.{end}"] = authors[f"{old}.attn.proj.{end}"]
            thirds = authors[f"{old}.attn.qkv.{end}"].chunk(3)
            for part, third in zip(("query", "key", "value"), thirds, strict=True):
                state[f"{new}.attention.attention.{part}.{end}"] = third.clone()
        for n in (1, 2):
            state[f"{new}.layer_scale{n}.lambda1"] = authors[f"{old}.ls{n}.gamma"]
    return state


def test_a_dinov2_encoder_becomes_ours():
    authors = authors_state()
    ours = dinov2.encoder_state(authors, SMALL)
    shapes = tensor_shapes(SMALL).items()
    wanted = {name: shape for name, shape in shapes if name.startswith("encoder.") and ".map_" not in name}
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == wanted
    assert torch.equal(ours["encoder.blocks.2.qkv.weight"], authors["blocks.2.attn.qkv.weight"])
    assert torch.equal(ours["encoder.norm.bias"], authors["norm.bias"])
    for i in range(SMALL.early_depth):
        early = {k: v for k, v in ours.items() if k.startswith(f"encoder.base_blocks.{i}.")}
        assert len(early) == 14
        for name, tensor in early.items():
            source = ours[name.replace("base_blocks", "blocks")]
            assert torch.equal(tensor, source) and tensor.data_ptr() != source.data_ptr()
    for level in range(2):
        assert torch.equal(ours[f"encoder.patch_projection.{level}.weight"], authors["patch_embed.proj.weight"])
    assert torch.equal(ours["encoder.camera_token"][0], authors["cls_token"][0, 0] + authors["pos_embed"][0, 0])


def test_both_key_layouts_give_the_same(tmp_path):
    authors = authors_state()
    other = transformers_state(authors)
    assert not other.keys() & authors.keys()
    ours = dinov2.encoder_state(authors, SMALL)
    torch.save(authors, tmp_path / "authors.pth")
    save_file(other, tmp_path / "model.safetensors")
    for source in (other, tmp_path / "authors.pth", tmp_path / "model.safetensors"):
        again = dinov2.encoder_state(source, SMALL)
        assert again.keys() == ours.keys()
        assert all(torch.equal(tensor, again[name]) for name, tensor in ours.items())


def bicubic_row(values: torch.Tensor, size: int, factor: float) -> torch.Tensor:
    """Cubic interpolation of (M, ...) along its first axis by a factor, as written in books (a = -0.75)."""
    a, rows = -0.75, []
    for i in range(size):
        position = (i + 0.5) / factor - 0.5
        start = int(torch.tensor(position).floor())
        total, t = 0.0, position - start
        for step, x in zip((-1, 0, 1, 2), (1 + t, t, 1 - t, 2 - t), strict=True):
            inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
            outer = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
            total = total + (inner if x <= 1 else outer) * values[min(max(start + step, 0), len(values) - 1)]
        rows.append(total)
    return torch.stack(rows)


@pytest.mark.parametrize(("side", "grid"), [(5, 8), (37, 92), (9, 4)])
def test_positions_are_stretched_by_dinos_factor(side, grid):
    positions = torch.randn(side, side, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factor = (grid + 0.1) / side
    columns = bicubic_row(positions, grid, factor)
    wanted = bicubic_row(columns.transpose(0, 1), grid, factor).transpose(0, 1)
    given = dinov2.stretched(positions.float(), grid)
    assert given.shape == (grid, grid, 3)
    torch.testing.assert_close(given.double(), wanted, atol=2e-5, rtol=0)
    assert torch.equal(dinov2.stretched(positions.float(), side), positions.float())


@pytest.mark.parametrize("layout_of", [lambda s: s, transformers_state])
def test_dinov2_encoders_that_do_not_fit(layout_of, tmp_path):
    state = layout_of(authors_state())
    prefix = "embeddings." if "embeddings.cls_token" in state else ""
    registers = state | {f"{prefix}register_tokens": torch.zeros(1, 4, 64)}
    with pytest.raises(FormatError, match=r"a DINOv2 encoder with registers .* use the one without registers"):
        dinov2.encoder_state(registers, SMALL)
    with pytest.raises(FormatError, match=r"does not fit a network 128 wide .*a DINOv2 encoder \(64 wide, 3 blocks\)"):
        dinov2.encoder_state(state, replace(SMALL, width=128))
    with pytest.raises(FormatError, match=r"encoder.blocks.3.norm1.weight missing instead of \[64\]"):
        dinov2.encoder_state(state, replace(SMALL, depth=4))
    with pytest.raises(FormatError, match="too many"):
        dinov2.encoder_state(state, replace(SMALL, depth=2))
    torch.save(state | {"head.weight": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(FormatError, match=r"x\.pth: .*head.weight too many"):
        dinov2.encoder_state(tmp_path / "x.pth", SMALL)
    positions = next(name for name in state if "pos" in name)
    with pytest.raises(FormatError, match="do not belong together"):
        dinov2.encoder_state(state | {positions: torch.zeros(1, 27, 64)}, SMALL)
    with pytest.raises(FormatError, match="not a DINOv2 encoder, but MA-HMR stage 3"):
        dinov2.encoder_state(official_state(), SMALL)
    with pytest.raises(InputError, match="there is no file"):
        dinov2.encoder_state(tmp_path / "none.pth", SMALL)


def test_released_networks_are_not_mistaken_for_dinov2():
    assert official.describe(authors_state()) == "a DINOv2 encoder (64 wide, 3 blocks)"
    with pytest.raises(FormatError, match="they look like a DINOv2 encoder"):
        official.recognise(authors_state())
