"""HumanFoV: HRNet-W48 with two linear layers that tell a photograph's field of view.

Modules are named as in its checkpoint (Patel and Black, "CameraHMR", 3DV 2025; HRNet: Sun et al., CVPR 2019).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

WIDTHS = (48, 96, 192, 384)
"""Channels of the branches at 1/4, 1/8, 1/16 and 1/32 of the resolution; W48 is named after the first."""

_STEM, _BOTTLENECK, _EXPANSION = 64, 64, 4
_MODULES = {2: 1, 3: 4, 4: 3}  # how many exchanges stages 2 to 4 have, which run on as many branches
_BLOCKS = 4


class FovNetwork(nn.Module):
    """Normalised RGB pictures of 256 x 256 pixels to two angles, of which the second is the vertical field of view."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = HRNet()
        self.fc1 = nn.Linear(sum(WIDTHS), 1024)
        self.fc3 = nn.Linear(1024, 2)  # follows at once: no activation, and no fc2

    def forward(self, pictures: Float[Tensor, "N 3 256 256"]) -> tuple[Float[Tensor, "N 2"], Float[Tensor, "N C"]]:
        """The two angles in radians, and the features they come from.

        The convolutions run in the precision of their weights, the linear layers in float32.
        """
        features = self.backbone(pictures.to(self.backbone.conv1.weight.dtype)).float()
        return self.fc3(self.fc1(features)), features


class HRNet(nn.Module):
    """HRNet-W48 to one vector a picture: every branch is brought down to 1/32 and averaged over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, _STEM, 2), _Norm(_STEM)
        self.conv2, self.bn2 = _conv(_STEM, _STEM, 2), _Norm(_STEM)
        wide = _EXPANSION * _BOTTLENECK
        self.layer1 = nn.Sequential(*(_Bottleneck(wide if i else _STEM) for i in range(_BLOCKS)))
        self.transition1 = nn.ModuleList([_step(wide, WIDTHS[0], 1), nn.Sequential(_step(wide, WIDTHS[1], 2))])
        self.stage2 = _stage(2)
        self.transition2 = _new_branch(2)
        self.stage3 = _stage(3)
        self.transition3 = _new_branch(3)
        self.stage4 = _stage(4)
        for branch in range(3):
            steps = (_step(WIDTHS[branch], WIDTHS[branch], 2) for _ in range(3 - branch))
            self.add_module(f"downsample_stage_{branch + 1}", nn.Sequential(*(m for step in steps for m in step)))

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 720"]:
        """Features, branch after branch."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        branches = self.stage2([make(x) for make in self.transition1])
        branches = self.stage3([*branches, self.transition2[-1](branches[-1])])
        branches = self.stage4([*branches, self.transition3[-1](branches[-1])])
        down = [getattr(self, f"downsample_stage_{i + 1}")(branch) for i, branch in enumerate(branches[:-1])]
        return torch.cat([branch.mean((2, 3)) for branch in (*down, branches[-1])], 1)


class _Exchange(nn.Module):
    """Four blocks on each branch, then every branch becomes the sum of all, brought to its resolution."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        every = range(branches)
        self.branches = nn.ModuleList(nn.Sequential(*(_Basic(WIDTHS[i]) for _ in range(_BLOCKS))) for i in every)
        self.fuse_layers = nn.ModuleList(nn.ModuleList(_fusion(source, target) for source in every) for target in every)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        branches = [blocks(branch) for blocks, branch in zip(self.branches, branches, strict=True)]
        return [
            F.relu(torch.stack([fuse(branch) for fuse, branch in zip(row, branches, strict=True)]).sum(0))  # type: ignore[arg-type]
            for row in self.fuse_layers
        ]


def _fusion(source: int, target: int) -> nn.Module:
    """The way of one branch to the resolution and width of another."""
    if source == target:
        return nn.Identity()
    if source > target:  # up: nearest neighbour
        mix = nn.Conv2d(WIDTHS[source], WIDTHS[target], 1, bias=False)
        return nn.Sequential(mix, _Norm(WIDTHS[target]), nn.Upsample(scale_factor=2 ** (source - target)))
    steps = [_step(WIDTHS[source], WIDTHS[source], 2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, nn.Sequential(_conv(WIDTHS[source], WIDTHS[target], 2), _Norm(WIDTHS[target])))


class _Basic(nn.Module):
    """Residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(width, width), _Norm(width)
        self.conv2, self.bn2 = _conv(width, width), _Norm(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class _Bottleneck(nn.Module):
    """Residual block whose middle convolution is four times narrower than its output."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = _EXPANSION * _BOTTLENECK
        self.conv1, self.bn1 = nn.Conv2d(width, _BOTTLENECK, 1, bias=False), _Norm(_BOTTLENECK)
        self.conv2, self.bn2 = _conv(_BOTTLENECK, _BOTTLENECK), _Norm(_BOTTLENECK)
        self.conv3, self.bn3 = nn.Conv2d(_BOTTLENECK, wide, 1, bias=False), _Norm(wide)
        self.downsample = (
            nn.Identity() if width == wide else nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), _Norm(wide))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.downsample(x) + self.bn3(self.conv3(y)))


def _stage(branches: int) -> nn.Sequential:
    return nn.Sequential(*(_Exchange(branches) for _ in range(_MODULES[branches])))


def _new_branch(branches: int) -> nn.ModuleList:
    """The transition to one branch more: only the new one needs anything."""
    step = nn.Sequential(_step(WIDTHS[branches - 1], WIDTHS[branches], 2))
    return nn.ModuleList([*(nn.Identity() for _ in range(branches)), step])


def _step(source: int, target: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_conv(source, target, stride), _Norm(target), nn.ReLU())


def _conv(source: int, target: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(source, target, 3, stride, padding=1, bias=False)


class _Norm(nn.Module):
    """Batch normalisation with the statistics of training; it keeps none of its own."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)
