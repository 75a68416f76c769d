"""A training run that takes milliseconds: a network of a few thousand numbers, made-up images, two simple losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from small_mahmr import tiny
from torch import Tensor, nn
from training_examples import SIZE, example

from crowdmesh.mahmr import MAHMRConfig
from crowdmesh.mahmr.network import Network
from crowdmesh.training.augment import AugmentConfig
from crowdmesh.training.config import OptimiserConfig, RunConfig, TrainConfig
from crowdmesh.training.forward import TrainingModule
from crowdmesh.training.loading import Loader
from crowdmesh.training.losses import LossConfig, Losses, TermCounts
from crowdmesh.training.mixing import DataPart, Mixture
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample
from crowdmesh.training.targets import Example, Targets

NETWORK = MAHMRConfig(
    input_size=56, width=12, depth=1, heads=3, early_depth=1, queries=2, decoder_depth=1, decoder_heads=3,
    decoder_hidden=8, pose_depth=1, shape_depth=1,
)  # fmt: skip
IMAGES = 13


@dataclass
class Images:
    """Images of one pixel's worth of information each; image ``i`` has ``i % 4`` people and a known camera if even."""

    name: str = "made-up"

    def __len__(self) -> int:
        return IMAGES

    def sample(self, index: int) -> TrainingSample:
        people = LabelledPeople(index % 4)
        known = Supervision(False, False, False, everybody=True, camera=index % 2 == 0, scale_map=False)
        pixels = np.full((16, 16, 3), 10 * index, np.uint8)
        return TrainingSample(f"{self.name}/{index}.png", self.name, pixels, None, people, known)


@dataclass
class MakeExample:
    """The example of an image, with noise as augmentation. Images in ``poisoned`` teach infinitely much."""

    poisoned: tuple[int, ...] = ()

    def __call__(self, sample: TrainingSample, pixels: np.ndarray, random: np.random.Generator) -> Example:
        K = sample.people.count
        number = int(pixels[0, 0, 0]) // 10
        depth = 2 + 0.3 * torch.arange(K) + random.random()
        if number in self.poisoned:
            depth = depth * torch.inf
        targets = Targets(
            key=sample.key, dataset=sample.dataset, image_size=torch.tensor([56.0, 56.0]), boxes=torch.zeros(K, 4),
            has_box=torch.ones(K, dtype=torch.bool),
            joints_2d=torch.zeros(K, 1, 2), joints_2d_mask=torch.zeros(K, 1, dtype=torch.bool),
            joints_3d=torch.zeros(K, 1, 3), joints_3d_mask=torch.zeros(K, 1, dtype=torch.bool),
            rotations=torch.eye(3).expand(K, 1, 3, 3), has_pose=torch.zeros(K, dtype=torch.bool),
            betas=torch.zeros(K, 1), betas_mask=torch.zeros(K, 1, dtype=torch.bool), translations=torch.zeros(K, 3),
            depth_m=depth.float(), has_depth=torch.ones(K, dtype=torch.bool),
            depth_layers=-torch.ones(K, dtype=torch.int64), age_years=torch.full((K,), torch.nan),
            focal_px=torch.tensor(1.0), vertical_fov=torch.tensor(0.5 + number / 20),
            has_camera=torch.tensor(sample.supervision.camera), everybody=torch.tensor(True),
            scale_map=torch.zeros(4, 2), has_map=torch.tensor(False),
        )  # fmt: skip
        return Example(torch.full((3, 56, 56), number / 10 - 0.6 + 0.1 * random.random()), targets)


class StandInCriterion:
    """Counts people and cameras."""

    def counts(self, targets: Sequence[Targets]) -> TermCounts:
        cameras = sum(bool(target.has_camera) for target in targets)
        return make_counts([float(sum(map(len, targets))), float(cameras)])


def make_counts(values: list[float]) -> TermCounts:
    return TermCounts(torch.tensor(values, dtype=torch.float64))


class StandIn(TrainingModule):
    """Losses of the mean pixel: people's depth through one layer, the field of view through another.

    Images without people, and those without a camera, leave one of the layers without gradients; all other layers never
    have any. Both losses are sums over what is counted.
    """

    def __init__(self, seed: int = 0, noise: float = 0.0) -> None:
        nn.Module.__init__(self)
        torch.manual_seed(seed)
        self.model: Any = Network(NETWORK)
        self.criterion: Any = StandInCriterion()
        self.noise = noise

    def forward(
        self, examples: Sequence[Example], generator: torch.Generator | None = None, counts: TermCounts | None = None
    ) -> Losses:
        assert generator is not None and counts is not None
        drawn = self.noise * (torch.rand((), generator=generator) + torch.rand(()))
        people, cameras = counts.values.float().clamp_min(1)
        zero = examples[0].pixels.new_zeros(())
        depth, fov = zero, zero
        for each in examples:
            target = each.targets
            state = each.pixels.mean() * torch.linspace(-1, 2, NETWORK.width)
            if len(target):
                guess = self.model.memory_projection(state).mean() + drawn
                depth = depth + (guess - target.depth_m).square().sum() / people
            if target.has_camera:
                fov = fov + (self.model.fov_head(state)[0] - target.vertical_fov).square() / cameras
        if not (depth + fov).requires_grad:  # nobody and no camera: gradients of zero
            fov = fov + 0 * self.model.level_embedding.sum()
        return Losses(depth + 2 * fov, {"depth": depth, "fov": fov, "depth.0": depth})


def make_config(steps: int = 12, seed: int = 5, run: dict[str, Any] | None = None, **optimiser: Any) -> TrainConfig:
    values: dict[str, Any] = {"lr": 1e-2, "batch": 4, "warmup_steps": 2, **optimiser}
    lengths: dict[str, Any] = {"steps": steps, "save_every": 3, "validate_every": 2, "picture_every": 5, "workers": 0}
    return TrainConfig(
        stage="made-up",
        network=NETWORK,
        data=(DataPart("made-up"),),
        validation=(),
        augment=AugmentConfig.none(),
        loss=LossConfig(),
        optimiser=OptimiserConfig(**values),
        run=RunConfig(**{**lengths, **(run or {})}),
        seed=seed,
    )


def make_loader(
    config: TrainConfig, process: tuple[int, int] = (0, 1), make_example: MakeExample | RealExamples | None = None
) -> Loader:
    mixture = Mixture(config.data, [Images()], config.seed)
    return Loader(
        [Images()],
        mixture,
        MakeExample() if make_example is None else make_example,
        config.optimiser.batch,
        config.seed,
        process=process,
        accumulation=config.optimiser.accumulation,
    )


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def with_optimiser(config: TrainConfig, **changes: Any) -> TrainConfig:
    return replace(config, optimiser=replace(config.optimiser, **changes))


@dataclass
class RealExamples:
    """Noise with Anny people in it, as many as the image's number says; every third image has no known camera."""

    def __call__(self, sample: TrainingSample, pixels: np.ndarray, random: np.random.Generator) -> Example:
        number = int(pixels[0, 0, 0]) // 10
        changes = {"key": sample.key, "has_camera": torch.tensor(number % 3 > 0)}
        return example(sample.people.count, seed=number, **changes)


def real_run(steps: int, process: tuple[int, int] = (0, 1), **optimiser: Any) -> tuple[TrainConfig, Any, Loader]:
    """Configuration, the real module of a small network with denoising, and a loader; weights and data are made up."""
    model = tiny(
        SIZE, width=48, depth=2, early_depth=1, queries=6, decoder_depth=2, decoder_hidden=32, pose_depth=2,
        denoising=True,
    )  # fmt: skip
    config = replace(
        make_config(steps, lr=1e-4, warmup_steps=0, **optimiser), network=model.config, loss=LossConfig.tiny()
    )
    module = TrainingModule(model, config.loss)
    return config, module, make_loader(config, process, make_example=RealExamples())
