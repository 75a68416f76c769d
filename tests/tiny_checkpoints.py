"""Tiny networks with random weights, saved in the hub's layout: the architectures of the experts in a few kilobytes.

Some biases are set so that what comes out is legal: everybody is a person, every pixel has a depth, the field of view
is about 60 degrees.
"""

from __future__ import annotations

from pathlib import Path

import torch

RF_DETR_SIDE = 96
DEPTH_PRO_SIDE = 256


def save_rf_detr(folder: Path, names: dict[int, str] | None = None) -> Path:
    from transformers import RfDetrConfig, RfDetrDinov2Config, RfDetrForInstanceSegmentation

    torch.manual_seed(1)
    backbone = RfDetrDinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        patch_size=12,
        num_windows=2,
        image_size=RF_DETR_SIDE,
        out_features=["stage1", "stage2"],
    )
    config = RfDetrConfig(
        backbone_config=backbone,
        d_model=32,
        decoder_ffn_dim=32,
        decoder_layers=2,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=4,
        decoder_n_points=2,
        num_queries=20,
        group_detr=2,
        intermediate_size=32,
        id2label=names or {0: "cat", 1: "person"},
    )
    network = RfDetrForInstanceSegmentation(config)
    with torch.no_grad():
        network.model.class_embed.bias[1] = 1.0
        network.segmentation_bias.fill_(1.0)
    network.save_pretrained(folder)
    return folder


def save_vitpose(folder: Path, num_experts: int = 1, num_keypoints: int = 17) -> Path:
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    torch.manual_seed(2)
    backbone = VitPoseBackboneConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        num_experts=num_experts,
        part_features=8,
        out_indices=[2],
    )
    network = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=num_keypoints))
    with torch.no_grad():
        network.head.conv.weight.mul_(1.5)
        network.head.conv.bias.fill_(0.4)
    network.save_pretrained(folder)
    return folder


def save_depth_anything(folder: Path, depth: str = "relative") -> Path:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(3)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        mlp_ratio=2,
        patch_size=14,
        image_size=518,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=4,
        head_hidden_size=4,
        depth_estimation_type=depth,
    )
    network = DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        for layer in (*network.neck.modules(), *network.head.modules()):
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)
        network.head.conv3.bias.fill_(5.0)
    network.save_pretrained(folder)
    return folder


def save_depth_pro(folder: Path, use_fov_model: bool = True, degrees: float = 60.0) -> Path:
    from transformers import DepthProConfig, DepthProForDepthEstimation, Dinov2Config

    torch.manual_seed(4)

    def encoder() -> Dinov2Config:
        return Dinov2Config(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, patch_size=16, image_size=64
        )

    config = DepthProConfig(
        fusion_hidden_size=16,
        patch_size=64,
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[8, 8],
        scaled_images_feature_dims=[8, 8, 8],
        use_fov_model=use_fov_model,
        num_fov_head_layers=1,
        image_model_config=encoder(),
        patch_model_config=encoder(),
        fov_model_config=encoder(),
    )
    network = DepthProForDepthEstimation(config)
    with torch.no_grad():
        network.head.layers[-2].bias.fill_(0.3)
        if network.fov_model is not None:
            network.fov_model.head.layers[-1].bias.fill_(degrees)
    network.save_pretrained(folder)
    return folder
