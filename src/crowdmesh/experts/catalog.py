"""The networks on the hub that presets use: licence, size and, where known to us, the commit and SHA-256.

Licences are those of the model cards as published; the cards are what counts.
"""

from __future__ import annotations

from crowdmesh.hub import HubModel

RF_DETR: dict[str, HubModel] = {
    f"rf-detr-seg-{size}": HubModel(
        f"Roboflow/rf-detr-seg-{size}",
        "Apache-2.0 (network; see its card)",
        142_000_000 if size == "medium" else None,
        "RF-DETR-Seg, Roboflow: boxes and masks of the COCO classes",
    )
    for size in ("nano", "small", "medium", "large", "xlarge", "xxlarge")
}
"""Boxes and masks. No commit of theirs is known to us: that of the first download is kept."""

_VITPOSE = "ViTPose (Xu et al. 2022): 17 COCO keypoints"

VITPOSE: dict[str, HubModel] = {
    "vitpose-base-simple": HubModel(
        "usyd-community/vitpose-base-simple", "Apache-2.0", 343_673_076, _VITPOSE,
        "a93ac0c67e0b7e2c55287d21d4c460c8f3c54d45",
        "85375373893ddd3641f3912821073e53f5435f9e966e1dca59d004454bfe4fdf",
    ),
    "vitpose-base": HubModel(
        "usyd-community/vitpose-base", "Apache-2.0", 360_007_012, _VITPOSE,
        "95be2991424e646950d656bb7fc15ec9be119700",
    ),
    "vitpose-plus-base": HubModel(
        "usyd-community/vitpose-plus-base", "Apache-2.0", 501_627_628, _VITPOSE,
        "92be54d7a29e42fad47b6e2ca01dd9e685a61e0d",
        "640225e4a9dd544239f1da0ae36af865a6e76e21e5f33a12656aa7b77fa5a5fa",
    ),
    "vitpose-plus-huge": HubModel(
        "usyd-community/vitpose-plus-huge", "Apache-2.0", 3_597_700_000, _VITPOSE,
        "9f36d7aec1800d23e97f10c2e74393aee92aa53f",
        "0ecb49f1ab0b18cc2f18446b8100442cec88bd99dd53779ad5a7f8c71aa08506",
    ),
}  # fmt: skip
"""2D keypoints; the paper uses ViTPose-Base."""

_DEPTH_ANYTHING = "Depth Anything V2 (Yang et al. 2024): affine-invariant disparity"

DEPTH_ANYTHING: dict[str, HubModel] = {
    "depth-anything-v2-small": HubModel(
        "depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0", 99_173_660, _DEPTH_ANYTHING,
        "5426e4f0f36572d16453bbda7a8389317b1bef99",
        "3152477ce0d8d6978d76b995120de97cb5b928701fd0f817769f59e249a16b70",
    ),
    "depth-anything-v2-base": HubModel(
        "depth-anything/Depth-Anything-V2-Base-hf", "CC BY-NC 4.0 (non-commercial)", 390_000_000, _DEPTH_ANYTHING,
        "b1958afc87fb45a9e3746cb387596094de553ed8",
    ),
    "depth-anything-v2-large": HubModel(
        "depth-anything/Depth-Anything-V2-Large-hf", "CC BY-NC 4.0 (non-commercial)", 1_341_322_868, _DEPTH_ANYTHING,
        "7581137eff8d4e94f6e796d3baea0e9fa79b22d2",
        "4e01e34ed5549b529b70b92d53226bc370f03041977b390d3dde45d47f516cf9",
    ),
}  # fmt: skip
"""Relative depth; the paper uses Large."""

DEPTH_PRO = HubModel(
    "apple/DepthPro-hf", "Apple AMLR (research only)", 1_904_000_000,
    "Depth Pro (Bochkovskii et al. 2024): metric depth and field of view",
    "de816c8ce7168afcb231f96d501d72b869d0beda",
    "9c6811e3165485b9a94a204329860cb333a79877e757eb795a179a4ea34bbcf7",
)  # fmt: skip
"""Metric depth and the field of view."""
