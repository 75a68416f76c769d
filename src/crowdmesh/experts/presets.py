"""Sets of experts by name, and what else each question may be answered by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from crowdmesh.assets import (
    AGE_SEX_MANIFEST,
    AGE_SEX_WEIGHTS,
    FACE_DETECTION,
    FAST_DEPTH,
    POSE_DETECTION,
    POSE_LANDMARKS,
    YOLOX_NANO,
    Weights,
)
from crowdmesh.errors import InputError
from crowdmesh.experts._device import Device
from crowdmesh.experts.age_classifier import FAIRFACE_AGE, FAIRFACE_SEX, AgeClassifier
from crowdmesh.experts.attributes_file import AttributesFromFile
from crowdmesh.experts.base import Experts
from crowdmesh.experts.camera import CameraChain, MetadataCamera
from crowdmesh.experts.camerahmr import CAMERA_HMR, CameraHMR
from crowdmesh.experts.catalog import DEPTH_ANYTHING, DEPTH_PRO, RF_DETR, VITPOSE
from crowdmesh.experts.combined_keypoints import CombinedKeypoints
from crowdmesh.experts.depth_anything import DepthAnythingV2
from crowdmesh.experts.depth_file import DepthFromFiles
from crowdmesh.experts.depth_pro import DepthPro, DepthProCamera
from crowdmesh.experts.detections_file import DetectionsFromFile
from crowdmesh.experts.humanfov import HUMAN_FOV, HumanFoV
from crowdmesh.experts.landmark_fit import LandmarkFit
from crowdmesh.experts.lite_depth import FastDepth
from crowdmesh.experts.lite_faces import FaceAttributes
from crowdmesh.experts.lite_persons import YoloxPersons
from crowdmesh.experts.lite_pose import BlazePose
from crowdmesh.experts.matching import PAPER_RADIUS_HEADS, RELEASED_RADIUS_HEADS, match_meshes
from crowdmesh.experts.mivolo import MIVOLO_V2, MiVOLO
from crowdmesh.experts.nothing import NOTHING, NoAttributes, NoKeypoints, NoMeshes, NoPersons
from crowdmesh.experts.options import ExpertOptions
from crowdmesh.experts.rf_detr import RfDetrPersons
from crowdmesh.experts.screening import Screening
from crowdmesh.experts.vitpose import ViTPoseKeypoints


@dataclass(frozen=True)
class Offer:
    """One answer to a question: how to make the expert, and the files it needs."""

    make: Callable[[ExpertOptions], Any]
    weights: tuple[Weights, ...] = ()


@dataclass(frozen=True)
class Preset:
    """The names, in :data:`OFFERS`, of one expert per question."""

    persons: str
    keypoints: str
    mesh: str
    ages: str
    depth: str
    camera: str
    screening: Screening | None = None


def _vitpose(model: Weights | Path) -> Callable[[ExpertOptions], ViTPoseKeypoints]:
    return lambda o: ViTPoseKeypoints(model, o.device, flip_test=o.flip_test)


def _with_landmarks(model: Weights | Path) -> Callable[[ExpertOptions], CombinedKeypoints]:
    return lambda o: CombinedKeypoints(_vitpose(model)(o), _network("keypoints", "blazepose", ExpertOptions()))


def _camerahmr(radius_heads: float, optimal: bool) -> Callable[[ExpertOptions], CameraHMR]:
    def match(queries_px: Any, whole: Any, masked: Any) -> Any:
        return match_meshes(queries_px, whole, masked, radius_heads, optimal)

    name = f"CameraHMR (matched within {radius_heads:g} heads, {'optimally' if optimal else 'greedily'})"
    return lambda o: CameraHMR(o.camerahmr, o.device, matcher=match, name=name)


_BLAZEPOSE = (POSE_DETECTION, POSE_LANDMARKS)

OFFERS: Mapping[str, Mapping[str, Offer]] = {
    "persons": {
        "yolox-nano": Offer(lambda o: YoloxPersons(), (YOLOX_NANO,)),
        **{n: Offer(lambda o, m=m: RfDetrPersons(m, o.device), (m,)) for n, m in RF_DETR.items()},
        NOTHING: Offer(lambda o: NoPersons()),
    },
    "keypoints": {
        "blazepose": Offer(lambda o: BlazePose(), _BLAZEPOSE),
        **{n: Offer(_vitpose(m), (m,)) for n, m in VITPOSE.items()},
        **{f"{n}+blazepose": Offer(_with_landmarks(m), (m, *_BLAZEPOSE)) for n, m in VITPOSE.items()},
        NOTHING: Offer(lambda o: NoKeypoints()),
    },
    "mesh": {
        "landmark-fit": Offer(lambda o: LandmarkFit()),
        "camerahmr": Offer(_camerahmr(PAPER_RADIUS_HEADS, True), (CAMERA_HMR,)),
        "camerahmr-released": Offer(_camerahmr(RELEASED_RADIUS_HEADS, False), (CAMERA_HMR,)),
        NOTHING: Offer(lambda o: NoMeshes()),
    },
    "ages": {
        "faces": Offer(lambda o: FaceAttributes(), (FACE_DETECTION, AGE_SEX_WEIGHTS, AGE_SEX_MANIFEST)),
        "classifier": Offer(lambda o: AgeClassifier(o.device), (FACE_DETECTION, FAIRFACE_AGE, FAIRFACE_SEX)),
        "mivolo": Offer(lambda o: MiVOLO(o.device, allow_remote_code=o.allow_remote_code), (FACE_DETECTION, MIVOLO_V2)),
        NOTHING: Offer(lambda o: NoAttributes()),
    },
    "depth": {
        "fastdepth": Offer(lambda o: FastDepth(), (FAST_DEPTH,)),
        **{n: Offer(lambda o, m=m: DepthAnythingV2(m, o.device), (m,)) for n, m in DEPTH_ANYTHING.items()},
        "depth-pro": Offer(lambda o: DepthPro(DEPTH_PRO, o.device), (DEPTH_PRO,)),
    },
    "camera": {
        "metadata": Offer(lambda o: MetadataCamera(o.vertical_fov)),
        "humanfov": Offer(lambda o: CameraChain(o.vertical_fov, _human_fov(o.humanfov, o.device)), (HUMAN_FOV,)),
        "depth-pro": Offer(
            lambda o: CameraChain(o.vertical_fov, DepthProCamera(_network("depth", "depth-pro", _of_network(o)))),
            (DEPTH_PRO,),
        ),
    },
}
"""Every expert by question and name."""

_PAPER = Preset(
    persons="rf-detr-seg-medium", keypoints="vitpose-base-simple", mesh="camerahmr", ages="mivolo",
    depth="depth-anything-v2-large", camera="humanfov", screening=Screening(),
)  # fmt: skip

PRESETS: Mapping[str, Preset] = {
    "lite": Preset("yolox-nano", "blazepose", "landmark-fit", "faces", "fastdepth", "metadata"),
    "open": Preset(
        persons="rf-detr-seg-medium", keypoints="vitpose-base-simple+blazepose", mesh="landmark-fit", ages="classifier",
        depth="depth-anything-v2-small", camera="metadata", screening=Screening(),
    ),
    "paper": _PAPER,
    "official": replace(_PAPER, mesh="camerahmr-released"),
}  # fmt: skip
"""``lite``: small networks for the CPU, 13 MB in all. ``open``: strong networks with permissive licences. ``paper``:
the paper's, except that RF-DETR-Seg stands where Detectron2's Cascade Mask R-CNN ViTDet-H stood (whose detections may
come from a file). ``official``: the same with the matching as released (0.6 heads, greedy)."""


def load_experts(
    name: str = "lite", vertical_fov: float | None = None, options: ExpertOptions | None = None
) -> Experts:
    """A preset of experts, fetching the weights of small networks where they are missing; large ones load when used.

    Args:
        name: ``"lite"``, ``"open"``, ``"paper"`` or ``"official"``.
        vertical_fov: of all images, radians; ``None``: as the options say.
        options: experts in place of the preset's own, and how they run.

    Raises:
        InputError: unknown preset or expert, experts that do not fit together, or code that must be allowed first.
        AssetError: weights are missing and cannot be downloaded, or are damaged.
    """
    if name not in PRESETS:
        raise InputError(
            f"unknown experts {name!r}; use one of {', '.join(PRESETS)}, and replace single experts with options"
        )
    options = options or ExpertOptions()
    if vertical_fov is not None:
        options = replace(options, vertical_fov=vertical_fov)
    chosen = chosen_names(PRESETS[name], options)
    for question, choice in chosen.items():
        _on_disk(question, choice)
    _check_fit(chosen, options)
    made = {question: _expert(question, choice, chosen, options) for question, choice in chosen.items()}
    return Experts(
        persons=made["persons"],
        keypoints=made["keypoints"],
        depth=made["depth"],
        attributes=made["ages"],
        camera=made["camera"],
        mesh=made["mesh"],
        screening=None if chosen["keypoints"] == NOTHING else PRESETS[name].screening,
        settings={"vertical_fov": options.vertical_fov, "precision": str(options.device.dtype).removeprefix("torch.")},
    )


def chosen_names(preset: Preset, options: ExpertOptions) -> dict[str, str]:
    """The expert's name, or what is on disk in its stead, that answers each question."""
    return {question: getattr(options, question) or getattr(preset, question) for question in OFFERS}


def weights_of(preset: str, options: ExpertOptions | None = None) -> tuple[Weights, ...]:
    """All files that a preset needs, with the options' experts in place of its own.

    Raises:
        InputError: unknown preset or expert.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown experts {preset!r}; use one of {', '.join(PRESETS)}")
    named = chosen_names(PRESETS[preset], options or ExpertOptions()).items()
    offers = [OFFERS[question][choice] for question, choice in named if not _on_disk(question, choice)]
    return tuple(dict.fromkeys(weights for offer in offers for weights in offer.weights))


def _check_fit(chosen: Mapping[str, str], options: ExpertOptions) -> None:
    """InputError where experts do not fit together, or an option is of an expert that is not chosen."""
    keypoints, mesh = chosen["keypoints"], chosen["mesh"]
    landmarks = "blazepose" in keypoints or Path(keypoints).is_dir()
    if mesh == "landmark-fit" and not landmarks:
        better = f"blazepose, or --mesh {NOTHING}" if keypoints == NOTHING else f"blazepose or {keypoints}+blazepose"
        raise InputError(
            f"the mesh expert landmark-fit needs body landmarks in 3D, which keypoints {keypoints} have not; use "
            f"{better}"
        )
    persons, maskless = chosen["persons"], ("yolox-nano", NOTHING)
    if mesh.startswith("camerahmr") and persons in maskless and "blazepose" not in keypoints:
        raise InputError(
            f"the mesh expert {mesh} looks at masked people, and neither {persons} nor {keypoints} makes masks; use "
            "rf-detr-seg-medium"
        )
    for option, given, fits in (
        ("flip_test", options.flip_test, keypoints not in ("blazepose", NOTHING)),
        ("camerahmr", options.camerahmr, mesh.startswith("camerahmr")),
        ("humanfov", options.humanfov, chosen["camera"] == "humanfov"),
        ("allow_remote_code", options.allow_remote_code, chosen["ages"] == "mivolo"),
    ):
        if given and not fits:
            raise InputError(f"option {option} is of an expert that is not chosen; leave it out, or choose that expert")


def _expert(question: str, choice: str, chosen: Mapping[str, str], options: ExpertOptions) -> Any:
    """The expert itself: files are read anew each time, networks are made once per process and device."""
    if not _on_disk(question, choice):
        # A camera holds the given field of view; the networks in it are shared.
        return OFFERS[question][choice].make(options) if question == "camera" else _network(
            question, choice, _of_network(options)
        )  # fmt: skip
    path, device = Path(choice), options.device
    if question == "ages":
        return AttributesFromFile(path)
    model = (path / "config.json").is_file()
    if question == "depth":
        return DepthAnythingV2(path, device) if model else DepthFromFiles(path)
    if question == "keypoints":
        return (_with_landmarks if chosen["mesh"] == "landmark-fit" else _vitpose)(path)(options)
    return RfDetrPersons(path, device) if model else DetectionsFromFile(path)


def _of_network(options: ExpertOptions) -> ExpertOptions:
    """The options that networks depend on, so that no other one makes a second copy of them."""
    return ExpertOptions(
        flip_test=options.flip_test,
        camerahmr=options.camerahmr,
        allow_remote_code=options.allow_remote_code,
        device=options.device,
    )


@lru_cache(maxsize=16)
def _network(question: str, choice: str, options: ExpertOptions) -> Any:
    return OFFERS[question][choice].make(options)


@lru_cache(maxsize=2)
def _human_fov(weights: Path | None, device: Device) -> HumanFoV:
    return HumanFoV(weights, device)


_DISK = {
    "persons": ", or a file or folder of detections, or a model folder",
    "ages": ", or a .csv or .json file",
    "depth": ", or a model folder, or a folder of maps",
    "keypoints": ", or a model folder",
}


def _on_disk(question: str, choice: str) -> bool:
    """Whether a choice names something on disk; InputError if it names nothing at all."""
    if choice in OFFERS[question]:
        return False
    if question in _DISK and Path(choice).exists():
        return True
    names = ", ".join(OFFERS[question])
    raise InputError(f"unknown {question} expert {choice!r}; use one of {names}{_DISK.get(question, '')}")
