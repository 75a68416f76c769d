"""From a configuration and a folder of data to all that a run needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMR
from crowdmesh.synth import PRESETS, World, open_world
from crowdmesh.training.augment import Augmenter
from crowdmesh.training.config import TrainConfig
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.datasets.catalogue import dataset_spec
from crowdmesh.training.datasets.shared import shared_images
from crowdmesh.training.forward import TrainingModule
from crowdmesh.training.initial import Start, start_from
from crowdmesh.training.loading import Loader
from crowdmesh.training.mixing import DataPart, Mixture
from crowdmesh.training.validation import Validator

_WORLD = "world"
_MANY, _FEW = 4000, 200  # scenes that the advice makes
_PRESET = "family"  # of them


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that can begin.

    Attributes:
        config: with the number of steps, whatever the run's length was given in.
        module: the network with its first weights, and the losses.
        datasets: those of ``config.data``. loader: the steps of this process.
        validator: judges on ``config.validation``; ``None`` where there is none.
        start: what the network starts from.
    """

    config: TrainConfig
    module: TrainingModule
    datasets: tuple[Dataset, ...]
    loader: Loader
    validator: Validator | None
    start: Start

    @property
    def steps(self) -> int:
        """Steps of the run."""
        assert self.config.run.steps is not None
        return self.config.run.steps

    @property
    def licences(self) -> tuple[str, ...]:
        """What the data and the weights it starts from are licensed under, one sentence each."""
        specs = {part.dataset: dataset_spec(part.dataset) for part in self.config.data}
        told = [f"{spec.title}: {spec.licence}" for spec in specs.values()]
        return (*told, *[f"{self.start.file}: {self.start.licence}"] * (self.start.licence is not None))

    @property
    def licence(self) -> str:
        """Of the weights that come out, in words."""
        if self.start.file is None and all(part.dataset == _WORLD for part in self.config.data):
            return "Apache-2.0 (learned from rendered people alone)"
        return f"whatever the data and first weights allow ({'; '.join(self.licences)})"

    def try_out(self) -> Iterator[str]:
        """Prepare the first image of every data set, with augmentation, and say what came of it.

        Raises:
            InputError, FormatError: a data set's image or labels cannot be used with this network.
        """
        make_example = Augmenter(self.config.network, self.config.augment)
        for number, dataset in enumerate(self.datasets):
            sample = dataset.sample(0)
            example = make_example(sample, sample.pixels(), np.random.default_rng((self.config.seed, number)))
            if example is None:
                yield f"{sample.key}: nobody is visible after augmentation; another image would take its place"
                continue
            height, width = example.pixels.shape[-2:]
            yield f"{sample.key}: {len(example.targets)} of {len(sample.people)} people, {width} x {height} pixels"


def prepare(
    config: TrainConfig,
    root: Path,
    init: str | Path | None = None,
    unpickle: bool = False,
    process: tuple[int, int] = (0, 1),
) -> Prepared:
    """Open the data sets, make the network and give it its first weights.

    Args:
        config: of the run.
        root: folder of all data sets.
        init: weights to start from, see :func:`~crowdmesh.training.initial.start_from`; ``None``: random ones, by the
            configuration's seed.
        unpickle: read pickled label files through the restricted reader.
        process: number of this process, and how many train together.

    Raises:
        InputError: data sets or weights that are not there or do not fit, images that are learned from and judged on, a
            batch that cannot be split, a learning rate that rises for longer than the run.
        FormatError: damaged files. AssetError: a licensed body model is missing.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; give the folder that holds the data sets")
    _check_worlds(config, root)
    datasets = open_parts(config.data, root, unpickle)
    mixture = Mixture(config.data, datasets, config.seed)
    try:
        held_out = open_parts(config.validation, root, unpickle)
    except InputError as error:
        raise InputError(
            f"there is nothing to validate on: {error} (validation may name other data sets, or none: [])"
        ) from error
    _check_held_out(config, datasets, held_out)
    optimiser, run = config.optimiser, config.run
    steps = run.steps_for(mixture.images, optimiser.batch)
    _check_rise(steps, optimiser.warmup_steps)
    loader = _loader(config, datasets, mixture, process)
    torch.manual_seed(config.seed)
    model = MAHMR(config.network)
    start = start_from(model, init)
    model.provenance = provenance(config, start)
    validator = None
    if held_out:
        validator = Validator(
            held_out, config.validation, config.network, config.loss, run.validation_images, config.seed
        )
        validator.try_out()
    return Prepared(
        config=replace(config, run=replace(run, steps=steps, epochs=None)),
        module=TrainingModule(model, config.loss),
        datasets=tuple(datasets),
        loader=loader,
        validator=validator,
        start=start,
    )


def _loader(config: TrainConfig, datasets: list[Dataset], mixture: Mixture, process: tuple[int, int]) -> Loader:
    optimiser, run = config.optimiser, config.run
    return Loader(
        datasets,
        mixture,
        Augmenter(config.network, config.augment),
        optimiser.batch,
        config.seed,
        run.workers,
        process,
        optimiser.accumulation,
        run.remember_px,
    )


def open_parts(parts: Sequence[DataPart], root: Path, unpickle: bool = False) -> list[Dataset]:
    """The data sets of parts below the root of all data, in their order.

    Errors are those of :meth:`DatasetSpec.open <crowdmesh.training.datasets.catalogue.DatasetSpec.open>`.
    """
    return [dataset_spec(part.dataset).open(root, unpickle, part.split, part.path) for part in parts]


def provenance(config: TrainConfig, start: Start) -> dict[str, object]:
    """What to say of the weights in their file, beside what the run says of itself."""
    told: dict[str, object] = {
        "stage": config.stage,
        "data": [f"{part.dataset} ({part.split})" for part in config.data],
        "validation": [f"{part.dataset} ({part.split})" for part in config.validation],
        "started_from": start.description,
    }
    if start.file is not None:
        told |= {"start_file": start.file, "start_sha256": start.sha256, "start_licence": start.licence}
    return told


def _check_held_out(config: TrainConfig, datasets: Sequence[Dataset], held_out: Sequence[Dataset]) -> None:
    """Refuse images that are learned from and judged on, whatever the parts are called."""
    for part, judged in zip(config.validation, held_out, strict=True):
        for other, learned in zip(config.data, datasets, strict=True):
            if shared := shared_images(judged, learned):
                raise InputError(
                    f"{len(shared)} images of {part.dataset} ({part.split}), such as {shared[0]}, would be judged on "
                    f"and are learned from in {other.dataset} ({other.split}); validation needs images of its own "
                    "(another split, or another folder)"
                )


def _check_rise(steps: int, warmup_steps: int) -> None:
    if warmup_steps >= steps:
        raise InputError(
            f"the learning rate would rise for {warmup_steps} steps in a run of {steps}; let it rise for fewer, with "
            f"--set optimiser.warmup_steps={steps // 10}"
        )


def _check_worlds(config: TrainConfig, root: Path) -> None:
    """Say how synthetic worlds are made where they are wanted and missing."""
    folders = {
        root / part.path: scenes
        for parts, scenes in ((config.validation, _FEW), (config.data, _MANY))
        for part in parts
        if part.dataset == _WORLD and part.path is not None
    }
    missing = [folder for folder in reversed(folders) if not folder.is_dir()]
    if not missing:
        return
    there = [open_world(folder).world for folder in folders if folder.is_dir()]
    seeds = (seed for seed in range(1, 100) if seed not in {world.seed for world in there})
    commands = [
        f"  crowdmesh synth --out {folder} --preset {_preset_of(there)} --scenes {folders[folder]} --seed {seed} "
        "--workers 2"
        for folder, seed in zip(missing, seeds, strict=False)
    ]
    raise InputError(
        f"there is no folder {' or '.join(map(str, missing))}; make synthetic scenes to learn from and others to "
        "judge on:\n" + "\n".join(commands)
    )


def _preset_of(worlds: Sequence[World]) -> str:
    """The preset of a world that is there already, so that its counterpart is of the same kind."""
    names = [name for world in worlds for name, config in PRESETS.items() if config == world.config]
    return names[0] if names else _PRESET
