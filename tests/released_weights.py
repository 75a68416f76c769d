"""Checkpoints in the layout of the released MA-HMR networks, of any size, made of random numbers."""

from __future__ import annotations

import torch

from crowdmesh.mahmr import MAHMRConfig

SMALL = MAHMRConfig(
    input_size=112, width=64, depth=3, heads=1, early_depth=2, queries=5, decoder_depth=2, decoder_hidden=32,
    pose_depth=2, shape_depth=3,
)  # fmt: skip


def official_shapes(config: MAHMRConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released network of any size, as they stand in its checkpoint; body data cut short."""
    C, shapes = config.width, {}

    def linear(name: str, size_in: int, size_out: int) -> None:
        shapes.update({f"{name}.weight": (size_out, size_in), f"{name}.bias": (size_out,)})

    def norm(name: str) -> None:
        shapes.update({f"{name}.weight": (C,), f"{name}.bias": (C,)})

    def mlp(name: str, *sizes: int) -> None:
        for i in range(len(sizes) - 1):
            linear(f"{name}.layers.{i}", sizes[i], sizes[i + 1])

    for prefix, count in (("encoder.blocks", config.depth), ("encoder.additional_blocks", config.early_depth)):
        for i in range(count):
            block = f"{prefix}.{i}"
            norm(f"{block}.norm1"), norm(f"{block}.norm2")
            linear(f"{block}.attn.qkv", C, 3 * C), linear(f"{block}.attn.proj", C, C)
            linear(f"{block}.mlp.fc1", C, 4 * C), linear(f"{block}.mlp.fc2", 4 * C, C)
            shapes.update({f"{block}.ls1.gamma": (C,), f"{block}.ls2.gamma": (C,)})
    for i in range(2):
        shapes.update({f"encoder_patch_proj.{i}.weight": (C, 3, 14, 14), f"encoder_patch_proj.{i}.bias": (C,)})
    norm("encoder.norm"), norm("enc_inter_norm"), norm("decoder.decoder.norm")
    mlp("scale_head", C, C, C, C, 2)
    linear("feature_proj", C, C)
    attention = [f"{a}_{part}_proj" for a in ("sa", "ca") for part in ("qcontent", "kcontent", "kpos", "v", "out")]
    for i in range(config.decoder_depth):
        layer = f"decoder.decoder.layers.{i}"
        for part in (*attention, "sa_qpos_proj", "ca_qpos_sine_proj", *(["ca_qpos_proj"] if i == 0 else [])):
            linear(f"{layer}.{part}", C, C)
        linear(f"{layer}.linear1", C, config.decoder_hidden), linear(f"{layer}.linear2", config.decoder_hidden, C)
        norm(f"{layer}.norm1"), norm(f"{layer}.norm2"), norm(f"{layer}.norm3")
        mlp(f"bbox_embed.{i}", C, C, C, 4), mlp(f"decoder.decoder.bbox_embed.{i}", C, C, C, 4)
        mlp(f"pose_head.{i}", *[C] * config.pose_depth, 144)
        mlp(f"shape_head.{i}", *[C] * config.shape_depth, config.num_betas)
    mlp("decoder.decoder.query_scale", C, C, C), mlp("decoder.decoder.ref_point_head", 2 * C, C, C)
    mlp("decoder.decoder.ref_anchor_head", C, C, 2), mlp("cam_head", C, C // 2, C // 2, 3), linear("conf_head", C, 1)
    if config.fov:
        mlp("fov_head", C, C, C, C, 1)
    if config.denoising:
        linear("dn_enc", 72 + config.num_betas, C)
    return shapes | {
        "level_embed": (3, C), "encoder_cr_token": (1, C), "encoder_pos_embeds": (config.grid, config.grid, C),
        "refpoint_embed.weight": (config.queries, 4), "tgt_embed.weight": (config.queries, C),
        "mean_pose": (144,), "mean_shape": (config.num_betas,), "cam_intrinsics": (3, 3),
        "z_order_map": (64, 64), "y_coords": (64, 64), "x_coords": (64, 64),
        "human_model.layer_n.lbs_weights": (6890, 24), "human_model.layer_n.v_template": (6890, 3),
    }  # fmt: skip


def official_state(config: MAHMRConfig = SMALL) -> dict[str, torch.Tensor]:
    """A checkpoint in the release's layout with random numbers."""
    generator = torch.Generator().manual_seed(1)
    state = {name: torch.randn(shape, generator=generator) for name, shape in official_shapes(config).items()}
    for name in state:
        if name.startswith("decoder.decoder.bbox_embed."):
            state[name] = state[name.removeprefix("decoder.decoder.")]
    return state
