"""Judging a network on held-out samples while it learns: every image whole, without augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import MAHMR, MAHMRConfig
from crowdmesh.mahmr.projection import project
from crowdmesh.training.augment import AugmentConfig, Augmenter
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.forward import train_forward
from crowdmesh.training.judging import Judged, KnownPeople, SeenPeople, judge_image
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.losses import Criterion
from crowdmesh.training.mixing import DataPart
from crowdmesh.training.output import TrainingOutput
from crowdmesh.training.sample import TrainingSample
from crowdmesh.training.scene_judging import judge_scenes, root_of_layout
from crowdmesh.training.targets import Example, Targets

__all__ = ["MakeExample", "Validation", "Validator", "judge_examples", "judge_scenes", "known_of_targets", "see"]

MakeExample = Callable[[TrainingSample, np.ndarray, np.random.Generator], Example | None]
"""A sample and its pixels as the network sees them; ``None``: nobody is visible."""

THRESHOLD = 0.3
"""Least confidence of a person, as in ``MAHMR.infer``."""

KEEP_BYTES = 2**28
"""Prepared images are kept from one validation to the next as long as they fit into this."""

AS_IN_USE = LossConfig(denoising_groups=0, true_map=False)
"""Makes a forward pass of training the one of use: no denoising, the predicted scale map decides."""

_MOST_UNUSABLE = 0.01  # of the images


@dataclass(frozen=True)
class Validation:
    """What a network is worth on held-out images.

    Attributes:
        score: lower is better; mean over the data sets of :attr:`Judged.score`, so that the largest does not decide.
        figures: everything by name over all images; ``DATASET/NAME`` where there are several data sets. ``None``: could
            not be measured. Shares in per cent, lengths in the unit at the end of the name.
    """

    score: float
    figures: dict[str, float | None] = field(default_factory=dict)


class Validator:
    """Judges a network on the same held-out images every time.

    Images are drawn from ``seed`` alone, in equal numbers from each part. Nothing here touches the random numbers of
    training.

    Args:
        datasets, parts: the held-out data, and what each is called.
        network: what examples are made for.
        loss: of training; its value on the images (mean over batches, without denoising, tokens chosen by the predicted
            scale map) is one of the figures.
        images: how many at most, in all.
        make_example: how samples become examples; by default whole images, nothing augmented.

    Attributes:
        skipped: images that could not be read, and why.

    Raises:
        InputError: nothing to validate on.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        parts: Sequence[DataPart],
        network: MAHMRConfig,
        loss: LossConfig | None,
        images: int,
        seed: int,
        make_example: MakeExample | None = None,
        threshold: float = THRESHOLD,
        batch: int = 8,
    ) -> None:
        if len(datasets) != len(parts):
            raise InputError(f"{len(datasets)} data sets for {len(parts)} parts to validate on; give one for each")
        if not datasets or images < 1:
            raise InputError("there is nothing to validate on; name at least one part and one image")
        self.datasets, self.names = tuple(datasets), _names(parts)
        self.loss, self.seed, self.threshold, self.batch = loss, seed, threshold, batch
        self.make_example = make_example or Augmenter(network, AugmentConfig.none())
        self.skipped: dict[str, str] = {}
        self._kept: dict[tuple[int, int], Example | None] = {}
        self._kept_bytes = 0
        share = math.ceil(images / len(datasets))
        self.chosen = tuple(self._choose(i, share) for i in range(len(datasets)))

    def __call__(self, model: MAHMR) -> Validation:
        """Judge the network as it is; its mode (training or not) is put back afterwards.

        Raises:
            InputError: results that are not finite, or too many images that cannot be read.
        """
        judged: dict[str, Judged] = {}
        losses: list[float] = []
        criterion = None if self.loss is None else Criterion(self.loss, model.config, model.body)
        with for_use(model):
            for part, name in enumerate(self.names):
                parts: list[Judged] = []
                for batch in _batches(model, self.examples(part), self.batch):
                    output, found = _judge(model, batch, self.threshold)
                    parts += found
                    if criterion is not None:
                        total = criterion(output, [example.targets for example in batch]).total
                        losses += [float(total)] * len(batch)
                judged[name] = Judged.merged(parts)
        scores = [score for one in judged.values() if (score := one.score) is not None]
        if not scores:
            raise InputError("nobody is labelled in the images to validate on; choose others")
        figures = Judged.merged(judged.values()).figures()
        if len(judged) > 1:
            figures |= {f"{name}/{key}": value for name, one in judged.items() for key, value in one.figures().items()}
        score = math.fsum(scores) / len(scores)
        loss = math.fsum(losses) / len(losses) if losses else None
        return Validation(score, {"score": score, "loss": loss} | figures | {"score": score})

    def examples(self, part: int) -> Iterator[Example]:
        """The examples of a part, always the same; images that cannot be read are left out and noted.

        Raises:
            InputError: more than 1 % of the images cannot be read.
        """
        chosen = self.chosen[part]
        allowed, bad = _MOST_UNUSABLE * len(chosen), 0
        for index in chosen:
            try:
                example = self._example(part, index)
            except (InputError, FormatError) as error:
                bad += 1
                self.skipped[f"{self.names[part]} {index}"] = str(error)
                if bad > allowed:
                    raise InputError(
                        f"more than 1 % of the {len(chosen)} images of {self.names[part]} to validate on cannot be "
                        f"used, among them: {error}"
                    ) from error
                continue
            if example is not None:
                yield example

    def try_out(self) -> None:
        """Prepare the first example of every part, so that what cannot be judged is found before training.

        Raises:
            InputError: as for :meth:`examples`.
        """
        for part in range(len(self.datasets)):
            next(self.examples(part), None)

    def _choose(self, part: int, share: int) -> tuple[int, ...]:
        dataset = self.datasets[part]
        if not len(dataset):
            raise InputError(f"the data set {self.names[part]} to validate on has no images")
        order = np.random.default_rng(np.random.SeedSequence((self.seed, part))).permutation(len(dataset))
        return tuple(sorted(int(index) for index in order[:share]))

    def _example(self, part: int, index: int) -> Example | None:
        if (part, index) in self._kept:
            return self._kept[part, index]
        sample = self.datasets[part].sample(index)
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, part, index)))
        example = self.make_example(sample, sample.pixels(), rng)
        size = 0 if example is None else example.pixels.nbytes
        if self._kept_bytes + size <= KEEP_BYTES:
            self._kept[part, index] = example
            self._kept_bytes += size
        return example


def judge_examples(model: MAHMR, examples: Iterable[Example], threshold: float = THRESHOLD, batch: int = 8) -> Judged:
    """Judge a network on examples that are not augmented."""
    with for_use(model):
        return Judged.merged(
            judged for some in _batches(model, examples, batch) for judged in _judge(model, some, threshold)[1]
        )


def see(model: MAHMR, examples: Sequence[Example], threshold: float = THRESHOLD) -> list[SeenPeople]:
    """The people above the threshold in each example, in pixels of the network's input; with the predicted scale map.

    Raises:
        InputError: results that are not finite.
    """
    with for_use(model):
        return seen_in(model, examples, train_forward(model, examples, AS_IN_USE), threshold)


def _judge(model: MAHMR, examples: list[Example], threshold: float) -> tuple[TrainingOutput, list[Judged]]:
    output = train_forward(model, examples, AS_IN_USE)
    known = [known_of_targets(model, example.targets) for example in examples]
    return output, [judge_image(s, k) for s, k in zip(seen_in(model, examples, output, threshold), known, strict=True)]


def seen_in(model: MAHMR, examples: Sequence[Example], output: TrainingOutput, threshold: float) -> list[SeenPeople]:
    """As :func:`see`, from a forward pass that was made already."""
    last, layout = output.queries, model.config.keypoint_layout
    confidences = last.confidence_logits[-1].sigmoid()
    seen = []
    for i, example in enumerate(examples):
        finite = (
            confidences[i],
            last.translations[-1, i],
            last.rotations[-1, i],
            last.betas[-1, i],
            output.vertical_fov,
        )
        if not all(bool(values.isfinite().all()) for values in finite):
            raise InputError(f"the network's result for {example.targets.key} is not finite; its weights are unusable")
        shapes, rotations, translations = bodies_above(model, output, i, threshold)
        joints = model.body.keypoints(model.body(shapes, rotations, translations), layout)
        pixels = project(joints[None], output.focal_px[i : i + 1], output.image_sizes[i : i + 1])[0]
        depth = joints[:, list(root_of_layout(layout)), 2].mean(1)
        values = (joints, pixels, depth, model.body.stature(shapes))
        arrays = [_array(value) for value in values]
        seen.append(SeenPeople(*arrays, vertical_fov=float(output.vertical_fov[i])))
    return seen


def bodies_above(model: MAHMR, output: TrainingOutput, image: int, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Shapes, rotations of all joints, and translations of an image's people above the threshold."""
    last = output.queries
    chosen = last.confidence_logits[-1, image].sigmoid() > threshold
    shapes = model.body_shapes(last.betas[-1, image, chosen])
    return shapes, model.all_joints(last.rotations[-1, image, chosen]), last.translations[-1, image, chosen]


@contextmanager
def for_use(model: MAHMR) -> Iterator[None]:
    """The network as it is used, without gradients; its mode is put back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _batches(model: MAHMR, examples: Iterable[Example], batch: int) -> Iterator[list[Example]]:
    device = next(model.parameters()).device
    waiting: list[Example] = []
    for example in examples:
        waiting.append(example.to(device))
        if len(waiting) == batch:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def known_of_targets(model: MAHMR, targets: Targets) -> KnownPeople:
    """The labels of an image; statures only of people all of whose shape is known."""
    device = next(model.parameters()).device
    stature = _array(model.body.stature(model.body_shapes(targets.betas.to(device))))
    shaped = targets.betas_mask.all(1).cpu().numpy() & targets.has_pose.cpu().numpy()
    depth, measured = _array(targets.depth_m), targets.has_depth.cpu().numpy()
    return KnownPeople(
        joints_m=_array(targets.joints_3d),
        joints_m_known=targets.joints_3d_mask.cpu().numpy(),
        joints_px=_array(targets.joints_2d),
        joints_px_known=targets.joints_2d_mask.cpu().numpy(),
        depth_m=np.where(measured, depth, np.nan),
        stature_m=np.where(shaped, stature, np.nan),
        age_years=_array(targets.age_years),
        depth_layers=targets.depth_layers.cpu().numpy().astype(np.int64),
        root=root_of_layout(model.config.keypoint_layout),
        vertical_fov=float(targets.vertical_fov) if bool(targets.has_camera) else math.nan,
        everybody=bool(targets.everybody),
        counted=np.ones(len(targets), bool),
    )


def _names(parts: Sequence[DataPart]) -> tuple[str, ...]:
    """What each part is called: its data set, with folder and split where two are of one data set."""
    plain = [part.dataset for part in parts]
    longer = [f"{part.dataset}:{part.path}" if part.path is not None else part.dataset for part in parts]
    names = tuple(
        part.dataset
        if plain.count(part.dataset) == 1
        else (name if longer.count(name) == 1 else f"{name}:{part.split}")
        for part, name in zip(parts, longer, strict=True)
    )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{twice[0]} is named twice to validate on; name it once")
    return names


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.float64)
