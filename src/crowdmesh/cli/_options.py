"""Choices that several verbs share, spelled out so that ``--help`` needs no torch."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from crowdmesh.errors import InputError

if TYPE_CHECKING:
    from crowdmesh.dto import DTOConfig
    from crowdmesh.experts import Experts
    from crowdmesh.experts.options import ExpertOptions

Preset = Literal["best", "paper", "official"]
TrackPreset = Literal["best", "paper"]
Prior = Literal["marginal", "paper", "lms", "agnostic"]
Kind = Literal["disparity", "depth", "metric"]
WorldName = Literal["mixed", "family", "adults", "crowd", "occluded", "jump", "partial", "demo"]
LayoutName = Literal["world", "4dhumans"]
StrengthName = Literal["mild", "nominal", "strong"]
TableName = Literal["main", "depth", "focal", "worlds", "trials"]
BenchmarkName = Literal["relative-human", "mupots", "3dpw", "hi4d", "agora", "bedlam", "panoptic"]
ExpertSet = Literal["lite", "open", "paper", "official"]
Precision = Literal["float32", "bfloat16", "float16"]
AdapterName = Literal[
    "auto", "camerahmr", "4d-humans", "sam3d-body", "multi-hmr", "nlf", "romp", "bev", "prompthmr", "sat-hmr", "table"
]
StageName = Literal[
    "1-keypoints", "2-camera", "3-dto", "4-finetune-rh", "4-finetune-3dpw", "4-finetune-panoptic", "4-finetune-hi4d",
    "tiny",
]  # fmt: skip
TrainPrecision = Literal["float32", "bfloat16"]
ExportFormat = Literal["glb", "ply", "obj", "npz", "json", "smpl"]
Flag = Annotated[bool, tyro.conf.FlagCreatePairsOff]


@dataclass(frozen=True)
class Upstream:
    """Upstream networks: one set, and single experts in place of its own (docs/experts.md lists their names)."""

    experts: ExpertSet = "lite"
    """Set of upstream networks: lite (small, for the CPU), open (permissive licences), paper, official."""
    persons: str | None = None
    """Detector, e.g. rf-detr-seg-large, or a file or folder of detections."""
    keypoints: str | None = None
    """Keypoint network, e.g. vitpose-plus-huge."""
    mesh: str | None = None
    """First bodies: landmark-fit or camerahmr."""
    ages: str | None = None
    """Ages and sexes: faces, classifier, mivolo, or a .csv or .json file."""
    depth_model: str | None = None
    """Depth network, e.g. depth-anything-v2-large or depth-pro."""
    camera: str | None = None
    """Field of view where none is given: metadata, humanfov or depth-pro."""
    flip_test: Flag = False
    """Average ViTPose over each crop and its mirror image."""
    camerahmr: Path | None = None
    """CameraHMR's checkpoint, if it is not in the asset folders."""
    humanfov: Path | None = None
    """HumanFoV's checkpoint, if it is not in the asset folders."""
    allow_remote_code: Flag = False
    """Let MiVOLO run the Python code that comes with its weights."""
    device: str = "auto"
    """Where large networks run: auto (CUDA if there is one), cpu, cuda, cuda:1 ..."""
    precision: Precision = "float32"
    """Of large networks."""
    batch: int = 8
    """Most crops or images that go through a network at once, and photographs read at once."""

    def options(self, fov: float | None = None) -> ExpertOptions:
        """The choices for :func:`crowdmesh.experts.load_experts`; ``fov`` in degrees."""
        from crowdmesh.experts import Device, ExpertOptions

        return ExpertOptions(
            vertical_fov=None if fov is None else math.radians(fov),
            persons=self.persons,
            keypoints=self.keypoints,
            mesh=self.mesh,
            depth=self.depth_model,
            camera=self.camera,
            ages=self.ages,
            flip_test=self.flip_test,
            camerahmr=self.camerahmr,
            humanfov=self.humanfov,
            allow_remote_code=self.allow_remote_code,
            device=Device.choose(self.device, self.precision, self.batch),
        )

    def load(self, fov: float | None = None) -> Experts:
        """The experts themselves."""
        from crowdmesh.experts import load_experts

        return load_experts(self.experts, options=self.options(fov))


UpstreamFlags = Annotated[Upstream, tyro.conf.OmitArgPrefixes]


def check_fov(fov: float | None) -> None:
    """Raise InputError if a field of view is not one in degrees."""
    if fov is not None and not 1 <= fov <= 175:
        raise InputError(f"--fov is the vertical field of view in degrees (1 to 175), got {fov:g}")


def dto_config(preset: Preset, prior: Prior | None) -> DTOConfig:
    """A preset of DTO, with another stature prior if one is given."""
    from dataclasses import replace

    from crowdmesh.dto import PRESETS

    config = PRESETS[preset]()
    return config if prior is None else replace(config, prior=prior)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM, which batch schedulers send before they kill, ends the block like Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check_writable(folder: Path) -> None:
    """Raise InputError before any work is done if nothing can be written to a folder."""
    from crowdmesh._files import atomic_path

    with atomic_path(folder / ".writable") as probe:
        probe.touch()
    (folder / ".writable").unlink()
