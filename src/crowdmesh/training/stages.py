"""The stages of training, as frozen configurations: what the paper says, and what the released ones did differently."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

from crowdmesh.errors import InputError
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.training.augment import AugmentConfig
from crowdmesh.training.config import OptimiserConfig, RunConfig, TrainConfig
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.mixing import DataPart


@dataclass(frozen=True)
class Stage:
    """A step of training.

    Attributes:
        name: on the command line. title: in a few words.
        source: where its values come from.
        starts_from: what ``--init`` should be; ``None``: random weights will do.
        differences: what the released configuration did differently, and what we do on purpose, a sentence each.
        make: its configuration, made anew.
    """

    name: str
    title: str
    source: str
    starts_from: str | None
    differences: tuple[str, ...]
    make: Callable[[], TrainConfig]

    def with_losses(self, kind: Literal["paper", "released"]) -> TrainConfig:
        """Its configuration with the paper's or the release's weights and averages of the losses.

        Raises:
            InputError: a stage of ours, which neither has.
        """
        if self.starts_from is None:
            raise InputError(f"stage {self.name} is neither in the paper nor in the release; set its losses one by one")
        loss = LossConfig.paper(self.name) if kind == "paper" else LossConfig.released(self.name)
        return replace(self.make(), loss=loss)


_SYNTHETIC = (DataPart("agora"), DataPart("bedlam"))
_CHMR = tuple(DataPart(f"{name}-chmr") for name in ("coco", "mpii", "insta", "aic"))
_DTO = tuple(DataPart(f"{name}-dto") for name in ("coco", "mpii", "insta", "aic"))
_VALIDATION = (DataPart("agora", split="validation"), DataPart("bedlam", split="validation"))

_PAPER = OptimiserConfig(lr=1e-5, weight_decay=1e-4, batch=64)

_EVERY_STAGE = (
    "Released: joints outside the image count as visible in the 2D loss and in matching; here they are masked.",
    "Released: vertices outside the image are painted into the border of the scale map; here they are left out.",
)
"""What concerns the losses of every stage."""

_CROPS = (
    "Released: crops cut rows off the bottom and leave the principal point off-centre, 72 to 77 pixels from where the "
    "network's camera has it; here every augmentation keeps the camera centred.",
)
_COLOURS = ("As released, though not in the paper: colours change, and noise hides parts of people.",)

_ALWAYS = (
    "Released: 6 epochs are configured; the paper says 5, and so do we.",
    "Released: the epoch to keep is chosen on test sets, another one per benchmark; here on validation splits.",
    *_EVERY_STAGE,
    *_CROPS,
    "Released: COCO, AI Challenger and InstaVariety count as fully labelled, so that people without labels are learned "
    "as background; here only sets that label everybody teach where nobody is.",
    *_COLOURS,
)
"""Of stages 1 to 3."""

_TUNED = (
    *_EVERY_STAGE,
    "Released: the network to start from and the epoch to keep are chosen on the test set; here on a validation split.",
)
"""Of stage 4."""

_WEIGHTS = "The paper gives no loss weights of fine-tuning; these are those of the stage before."
_WEIGHTS_RH = (
    "The paper gives no loss weights of fine-tuning; these are those of the stage before, and the depth layers weigh "
    "what the release gives them."
)


def _keypoints() -> TrainConfig:
    return TrainConfig(
        stage="1-keypoints",
        network=MAHMRConfig.official(kid=False, fov=False, denoising=True),
        data=(*_SYNTHETIC, *_CHMR),
        validation=_VALIDATION,
        augment=AugmentConfig.paper(),
        loss=LossConfig.paper("1-keypoints"),
        optimiser=_PAPER,
        run=RunConfig(epochs=5.0),
    )


def _camera() -> TrainConfig:
    return replace(
        _keypoints(),
        stage="2-camera",
        network=MAHMRConfig.official(kid=False),
        loss=LossConfig.paper("2-camera"),
    )


def _dto() -> TrainConfig:
    return replace(
        _keypoints(),
        stage="3-dto",
        network=MAHMRConfig.official(),
        data=(*_SYNTHETIC, *_DTO),
        loss=LossConfig.paper("3-dto"),
    )


def _finetune(
    name: str, data: tuple[DataPart, ...], validation: tuple[DataPart, ...], epochs: float = 10.0
) -> TrainConfig:
    return replace(
        _dto(),
        stage=f"4-finetune-{name}",
        data=data,
        validation=validation,
        augment=AugmentConfig.fine_tune(),
        loss=LossConfig.paper(f"4-finetune-{name}"),
        run=RunConfig(epochs=epochs),
    )


def _finetune_rh() -> TrainConfig:
    config = _finetune("rh", (DataPart("relative-human"),), (DataPart("relative-human", split="validation"),))
    return replace(config, augment=AugmentConfig.none(), optimiser=replace(_PAPER, batch=8))


def _finetune_3dpw() -> TrainConfig:
    return _finetune("3dpw", (DataPart("3dpw"),), (DataPart("3dpw", split="validation"),))


def _finetune_panoptic() -> TrainConfig:
    data = (DataPart("3dpw"), DataPart("bedlam-1fps"), DataPart("agora"))
    config = _finetune("panoptic", data, _VALIDATION, epochs=6.0)
    return replace(config, augment=replace(AugmentConfig.paper(), zoom=(0.8, 2.0), crop=1.0))


def _finetune_hi4d() -> TrainConfig:
    return _finetune("hi4d", (DataPart("hi4d"),), (DataPart("hi4d", split="validation"),))


def _tiny() -> TrainConfig:
    return TrainConfig(
        stage="tiny",
        network=replace(MAHMRConfig.tiny(224), denoising=True),
        data=(DataPart("world", "world", split="all"),),
        validation=(DataPart("world", "validation", split="all"),),
        augment=AugmentConfig.fine_tune(),
        loss=LossConfig.tiny(),
        optimiser=OptimiserConfig(lr=1e-3, betas=(0.9, 0.98), warmup_steps=100, ema_decay=0.998, batch=16),
        run=RunConfig(
            steps=4000,
            save_every=200,
            validate_every=500,
            picture_every=500,
            validation_images=64,
            workers=1,
            remember_px=448,
        ),
    )


_STAGES = (
    Stage(
        "1-keypoints",
        "SAT-HMR goes on with CameraHMR's labels of photographs, of which only the 2D side is learned",
        "paper 4.1, first stage; loss weights of 8.3; augmentation and denoising of the release",
        "SAT-HMR's stage-1 weights (sat_644.pth), or a DINOv2 ViT-B/14 encoder without registers",
        (
            "Released: 16 images a GPU, not 64 over all of them.",
            *_ALWAYS,
            "Released: denoising also learns from noisy pseudo bodies whose 3D side is not to be learned.",
        ),
        _keypoints,
    ),
    Stage(
        "2-camera",
        "the camera branch learns the field of view",
        "paper 4.1, second stage; loss weights of 8.3",
        "the run folder of stage 1-keypoints",
        _ALWAYS,
        _camera,
    ),
    Stage(
        "3-dto",
        "bodies placed by DTO are learned in full, with the relative metric loss and the kid axis",
        "paper 4.1, third stage, equations 4 to 6; loss weights of 8.3",
        "the run folder of stage 2-camera (its ten shape parameters get a kid axis of zeros)",
        (
            "Released: no loss of absolute depth, so that only 2D points and sizes say how far away people are; the "
            "paper says full loss.",
            *_ALWAYS,
            "Released: AGORA's children, refitted with adult bodies, teach a kid axis of 0; here they teach none.",
        ),
        _dto,
    ),
    Stage(
        "4-finetune-rh",
        "for Relative Human: image points and depth layers",
        "paper 4.1, fourth stage; batch and augmentation (none) of the release",
        "the run folder of stage 3-dto",
        (
            "Released: people of unknown depth layer are compared like the others; here they are left out.",
            "As released: the loss of depth layers replaces the relative metric loss; these labels have no metres.",
            "As released: boxes are not learned; around the labelled points alone they are not those of the people.",
            _WEIGHTS_RH,
            *_TUNED,
        ),
        _finetune_rh,
    ),
    Stage(
        "4-finetune-3dpw",
        "for 3DPW",
        "paper 4.1, fourth stage; length and augmentation of the release",
        "the run folder of stage 3-dto",
        (
            "Released: betas of gendered bodies teach the neutral body; here they are not learned.",
            _WEIGHTS,
            *_TUNED,
            *_COLOURS,
        ),
        _finetune_3dpw,
    ),
    Stage(
        "4-finetune-panoptic",
        "for CMU Panoptic, of which it sees nothing: 3DPW, BEDLAM and AGORA",
        "paper 4.1, fourth stage; data, length and augmentation of the release",
        "the run folder of stage 3-dto",
        (
            "Released: every fourth of BEDLAM's images at one a second; here all of them.",
            "Released: betas of gendered bodies teach the neutral body; here they are not learned.",
            _WEIGHTS,
            *_TUNED,
            *_CROPS,
            *_COLOURS,
        ),
        _finetune_panoptic,
    ),
    Stage(
        "4-finetune-hi4d",
        "for Hi4D",
        "paper 4.1, fourth stage; length and augmentation of the release",
        "the run folder of stage 3-dto",
        ("As released: shape is not learned from gendered bodies.", _WEIGHTS, *_TUNED, *_COLOURS),
        _finetune_hi4d,
    ),
    Stage(
        "tiny",
        "a small open network on the synthetic world, on a laptop",
        "ours: the same path with the Anny body, 224 pixels and all losses at once",
        None,
        ("Nothing of the kind is in the paper or the release.",),
        _tiny,
    ),
)

STAGES: dict[str, Stage] = {stage.name: stage for stage in _STAGES}
"""All stages by name, in their order."""


def loss_differences(config: TrainConfig) -> list[str]:
    """Which values of the losses the released configuration of this stage has otherwise, a clause each.

    None for a stage of ours.
    """
    if config.stage not in STAGES or STAGES[config.stage].starts_from is None:
        return []
    released = LossConfig.released(config.stage)
    pairs = [
        (field.name, getattr(released, field.name), getattr(config.loss, field.name)) for field in fields(released)
    ]
    return [f"{name} {_shown(theirs)} (here {_shown(ours)})" for name, theirs, ours in pairs if theirs != ours]


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
