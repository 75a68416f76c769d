"""Training MA-HMR: data, augmentation, losses, stages and the loop (docs/training.md)."""

from crowdmesh.training.augment import AugmentConfig, Augmenter
from crowdmesh.training.config import OptimiserConfig, RunConfig, TrainConfig
from crowdmesh.training.datasets.base import Dataset
from crowdmesh.training.datasets.catalogue import DATASETS, DatasetSpec
from crowdmesh.training.datasets.check import RootCheck, check_root
from crowdmesh.training.forward import TrainingModule
from crowdmesh.training.judging import Judged
from crowdmesh.training.loading import Loader
from crowdmesh.training.loop import Hooks, Origin, TrainResult, train
from crowdmesh.training.losses import Criterion, LossConfig, Losses, TermCounts
from crowdmesh.training.mixing import DataPart, Mixture
from crowdmesh.training.prepare import Prepared, prepare
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample
from crowdmesh.training.scene_judging import judge_scenes
from crowdmesh.training.stages import STAGES, Stage
from crowdmesh.training.targets import Example, Targets
from crowdmesh.training.validation import Validation, Validator

__all__ = [
    "DATASETS",
    "STAGES",
    "AugmentConfig",
    "Augmenter",
    "Criterion",
    "DataPart",
    "Dataset",
    "DatasetSpec",
    "Example",
    "Hooks",
    "Judged",
    "LabelledPeople",
    "Loader",
    "LossConfig",
    "Losses",
    "Mixture",
    "OptimiserConfig",
    "Origin",
    "Prepared",
    "RootCheck",
    "RunConfig",
    "Stage",
    "Supervision",
    "Targets",
    "TermCounts",
    "TrainConfig",
    "TrainResult",
    "TrainingModule",
    "TrainingSample",
    "Validation",
    "Validator",
    "check_root",
    "judge_scenes",
    "prepare",
    "train",
]
