"""Networks of the transformers library from a folder in the hub's layout (``config.json``, ``model.safetensors``).

transformers is an optional dependency and takes seconds to import: it is imported when the first network is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from crowdmesh.assets import Weights, digest_of
from crowdmesh.errors import AssetError
from crowdmesh.experts._device import Device

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in [0, 1], as most of these networks want them removed."""

_FINGERPRINTED = frozenset({".json", ".npz", ".safetensors"})

Item = TypeVar("Item")


@dataclass(frozen=True)
class LocalWeights:
    """A folder or file that the user names instead of an entry of the catalogue (:class:`crowdmesh.assets.Weights`)."""

    path: Path

    @property
    def name(self) -> str:
        """Its own name."""
        return self.path.name

    @property
    def licence(self) -> str:
        """Not known here."""
        return "that of its origin"

    def find(self) -> Path | None:
        """The path, if there is something."""
        return self.path if self.path.exists() else None

    def fetch(self) -> Path:
        """The path.

        Raises:
            AssetError: there is nothing.
        """
        if self.find() is None:
            raise AssetError(f"{self.path} does not exist; {self.remedy()}")
        return self.path

    def defect(self, path: Path) -> str | None:
        """Nothing is known of its content."""
        return None

    def remedy(self) -> str:
        """How to get it, as a clause for tables."""
        return f"put it at {self.path} or name another path"

    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of the files; looked at once."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        if not self.path.is_dir():
            return digest_of(self.path) if self.path.is_file() else ""
        files = sorted(file for file in self.path.iterdir() if file.suffix in _FINGERPRINTED and file.is_file())
        listing = "".join(f"{file.name} {digest_of(file)}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()


def as_weights(model: Weights | Path | str) -> Weights:
    """An entry of the catalogue as it is, a path as :class:`LocalWeights`."""
    return LocalWeights(Path(model)) if isinstance(model, (str, Path)) else model


class Pretrained:
    """A network on its device, loaded on first use and once.

    Args:
        model: an entry of the catalogue, or a folder with ``config.json`` and ``model.safetensors``.
        architecture: the class of transformers it must be, e.g. ``"VitPoseForPoseEstimation"``.
        device: where it runs and in which precision.
    """

    def __init__(self, model: Weights | Path | str, architecture: str, device: Device) -> None:
        self.weights = as_weights(model)
        self.architecture = architecture
        self.device = device

    @cached_property
    def network(self) -> Any:
        """The network itself.

        Raises:
            AssetError: transformers or the files are missing, the files are damaged or another network's.
        """
        return load_network(self.weights.fetch(), self.architecture, self.device)

    @property
    def config(self) -> Any:
        """Its configuration."""
        return self.network.config

    def __call__(self, pixels: Float[Tensor, "N 3 h w"], **inputs: Any) -> Any:
        """What it says of a batch, without gradients; ``pixels`` are moved to its device and precision."""
        network = self.network
        with torch.inference_mode():
            return network(pixels.to(self.device.name, self.device.dtype), **inputs)


def load_network(folder: Path, architecture: str, device: Device) -> Any:
    """A network of transformers in evaluation mode; see :class:`Pretrained`."""
    try:
        import transformers
        from safetensors import SafetensorError
    except ImportError as error:
        raise AssetError(
            f"{architecture} needs the transformers library ({error}); install it with pip install 'crowdmesh[experts]'"
        ) from error
    _check_architecture(folder, architecture)
    try:
        factory = getattr(transformers, architecture)
    except (AttributeError, ImportError) as error:
        raise AssetError(
            f"transformers {transformers.__version__} has no {architecture}; install version 5.9 or newer"
        ) from error
    options: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        with quiet(transformers):
            network, found = factory.from_pretrained(folder, dtype=device.dtype, **options)
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise AssetError(f"{folder} is not a usable {architecture} ({reason}); download it again") from error
    if missing := sorted(found["missing_keys"]):
        raise AssetError(f"{folder} lacks {len(missing)} weights of {architecture}, as {missing[0]}; download it again")
    return network.eval().to(device.name)


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in order, at most ``size`` at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def normalise(
    pixels: Float[Tensor, "*n 3 h w"], mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Float[Tensor, "*n 3 h w"]:
    """RGB in [0, 1] with mean and standard deviation removed."""
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _check_architecture(folder: Path, architecture: str) -> None:
    """Refuse a folder that holds no network or another one, before anything large is read."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        kinds = list(config.get("architectures") or [])
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise AssetError(
            f"{folder} is not a network in the layout of the Hugging Face hub: no readable config.json; "
            "name a folder with config.json and model.safetensors"
        ) from error
    if kinds and architecture not in kinds:
        raise AssetError(f"{folder} holds {', '.join(map(str, kinds))}, not {architecture}; name another folder")
    if not any(folder.glob("*.safetensors")):
        raise AssetError(f"{folder} has no model.safetensors; download it again, with its weights in that format")


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Hold back progress bars and reports of the library; what matters in them becomes an AssetError."""
    logging = transformers.utils.logging
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
