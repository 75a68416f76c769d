"""What is installed, what is missing, and the exact next step."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from crowdmesh.assets import Weights, search_folders
from crowdmesh.body import RESOLUTIONS, find_smpl, load_body
from crowdmesh.errors import CrowdMeshError
from crowdmesh.experts.presets import OFFERS, PRESETS, weights_of

_LIBRARIES = (
    "torch", "warp-lang", "numpy", "opencv-python-headless", "ai-edge-litert", "roma", "safetensors", "trimesh",
    "tyro",
)  # fmt: skip

_OPTIONAL = (
    ("transformers", "experts", "the experts open, paper and official"),
    ("viser", "view", "crowdmesh view"),
    ("matplotlib", "plots", "the figures of crowdmesh bench"),
    ("onnx", "onnx", "crowdmesh convert to .onnx"),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, whether it is fine, what was found, what to do next."""

    topic: str
    name: str
    fine: bool
    found: str
    next_step: str = ""


def examine() -> list[Finding]:
    """Look at libraries, device, bodies, weights and folders; fetches nothing."""
    return [*_system(), *_bodies(), *_networks(), *_weights()]


def _system() -> list[Finding]:
    import torch

    found = [Finding("system", "python", True, platform.python_version())]
    for library in ("crowdmesh", *_LIBRARIES):
        try:
            found.append(Finding("system", library, True, version(library)))
        except PackageNotFoundError:
            found.append(Finding("system", library, False, "missing", f"pip install {library}"))
    for library, extra, use in _OPTIONAL:
        try:
            found.append(Finding("system", library, True, version(library)))
        except PackageNotFoundError:
            found.append(Finding("system", library, False, f"missing (optional: {use})", f"pip install '.[{extra}]'"))
    if torch.cuda.is_available():
        found.append(Finding("system", "device", True, f"cuda: {torch.cuda.get_device_name(0)}"))
    else:
        found.append(Finding("system", "device", True, f"cpu, {torch.get_num_threads()} threads (no CUDA device)"))
    found.extend(
        Finding("folders", "assets", True, f"{folder}{'' if folder.is_dir() else ' (does not exist yet)'}")
        for folder in search_folders()
    )
    return found


def _bodies() -> list[Finding]:
    found = []
    for name in RESOLUTIONS:
        body = load_body(name)
        found.append(Finding("body", name, True, f"{body.num_vertices} vertices, {body.license}"))
    try:
        model, kid = find_smpl(None, search_folders())
        body = load_body("smpl", model)
        step = "" if kid else f"for children put AGORA's smpl_kid_template.npy into {model.parent}"
        found.append(Finding("body", "smpl", True, f"{model}{'' if kid else ' (no kid template)'}", step))
    except CrowdMeshError as error:
        found.append(Finding("body", "smpl", False, "not installed (optional)", str(error)))
    return found


def _networks() -> list[Finding]:
    """Weights of MA-HMR that ``predict --weights NAME`` finds."""
    files = [file for folder in search_folders() for file in sorted((folder / "mahmr").glob("*.safetensors"))]
    if not files:
        step = "convert a released checkpoint: crowdmesh convert FILE OUT.safetensors (docs/mahmr.md)"
        return [Finding("ma-hmr", "weights", False, "none in mahmr/ of the asset folders (optional)", step)]
    return [Finding("ma-hmr", file.stem, True, str(file)) for file in files]


def _weights() -> list[Finding]:
    """Every file of every expert, once, with the sets that need it."""
    sets: dict[Weights, list[str]] = {w: [] for offers in OFFERS.values() for o in offers.values() for w in o.weights}
    for preset in PRESETS:
        for weights in weights_of(preset):
            sets[weights].append(preset)
    return [_weight(f"experts {', '.join(presets) or '(on demand)'}", weights) for weights, presets in sets.items()]


def _weight(topic: str, weights: Weights) -> Finding:
    path, size, revision = weights.find(), getattr(weights, "size_bytes", None), getattr(weights, "revision", "")
    about = weights.licence
    if size:
        about += f", {size / 1e6:.0f} MB"
    if revision:
        about += f", revision {revision[:12]}"
    if path is None:
        return Finding(topic, weights.name, False, f"missing ({about})", weights.remedy())
    if (problem := weights.defect(path)) is not None:
        return Finding(topic, weights.name, False, f"{path}: {problem}", f"delete {path}")
    return Finding(topic, weights.name, True, f"{path} ({about})")
