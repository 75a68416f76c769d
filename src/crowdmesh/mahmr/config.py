"""How large a MA-HMR network is and which body it speaks of; every tensor's size follows from this."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from crowdmesh.body import BODIES, load_body
from crowdmesh.body.keypoints import LAYOUTS
from crowdmesh.body.smpl import JOINT_NAMES as SMPL_JOINTS
from crowdmesh.errors import InputError

PATCH_PX = 14
"""Side of the finest token's square in the network's input (DINOv2 ViT-B/14)."""

LEVELS = 3
"""Token levels: squares of 14, 28 and 56 input pixels."""

MULTIPLE_PX = PATCH_PX * 2 ** (LEVELS - 1)
"""Both sides of the network's input are multiples of the coarsest token's side."""

# No network is larger; a made-up file of weights may say so.
_MOST = {
    "input_size": 65_536, "num_betas": 1000, "width": 65_536, "depth": 256, "heads": 1000, "early_depth": 256,
    "queries": 65_536, "decoder_depth": 256, "decoder_heads": 1000, "decoder_hidden": 65_536, "pose_depth": 256,
    "shape_depth": 256,
}  # fmt: skip

_UNPOSED_ANNY = ("finger", "metacarpal", "toe", "eye")


@dataclass(frozen=True)
class MAHMRConfig:
    """Sizes and constants of the network; the defaults are those of the release (spec facts 1.1 to 1.4).

    Attributes:
        input_size: the longer image side after resizing, pixels; a multiple of 56.
        body: name of the body model.
        posed_joints: the joints whose rotation is predicted, the root first; the others stay at rest.
        num_betas: shape parameters predicted.
        keypoint_layout: points that ``joints_3d`` and ``joints_2d`` list.
        width, depth, heads: of the encoder's blocks; their hidden layer is four times as wide.
        early_depth: blocks that a token level passes before the levels are put together.
        queries: the most people per image.
        decoder_depth, decoder_heads, decoder_hidden: of the decoder.
        pose_depth, shape_depth: linear layers of those heads.
        fov: whether there is a head for the field of view; without it 60 degrees over ``input_size`` are assumed.
        denoising: whether there is the linear layer that embeds noisy labels in training stage 1.
        map_threshold: a cell counts as covered by a person above this.
        small_threshold: a covered cell is looked at in detail below this relative person size.
        official_quirks: keep mistakes of the release that change results (spec 6.3 B1: if no group of four cells of a
            whole batch is background, coarse tokens stay beside the fine ones that replace them).
    """

    input_size: int = 1288
    body: str = "smpl"
    posed_joints: tuple[str, ...] = SMPL_JOINTS
    num_betas: int = 11
    keypoint_layout: str = "smpl45"
    width: int = 768
    depth: int = 12
    heads: int = 12
    early_depth: int = 3
    queries: int = 50
    decoder_depth: int = 6
    decoder_heads: int = 4
    decoder_hidden: int = 2048
    pose_depth: int = 6
    shape_depth: int = 5
    fov: bool = True
    denoising: bool = False
    map_threshold: float = 0.3
    small_threshold: float = 0.5
    official_quirks: bool = False

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{name} must lie between 1 and {most} and be whole, got {value!r}")
        if self.input_size % MULTIPLE_PX:
            raise InputError(
                f"input_size must be a multiple of {MULTIPLE_PX} pixels, got {self.input_size} "
                "(the 644 in names of released files is the middle level of 1288)"
            )
        if self.body not in BODIES:
            raise InputError(f"unknown body {self.body!r}; use one of {', '.join(BODIES)}")
        if self.width % 4 or self.width % self.heads or self.width % self.decoder_heads:
            raise InputError(
                f"width {self.width} must be a multiple of 4, of heads ({self.heads}) and of decoder_heads "
                f"({self.decoder_heads})"
            )
        if self.early_depth > self.depth:
            raise InputError(f"early_depth {self.early_depth} is more than depth {self.depth}")
        if not self.posed_joints or len(set(self.posed_joints)) != len(self.posed_joints):
            raise InputError("posed_joints must name joints, the root first and each once")
        if self.keypoint_layout not in LAYOUTS:
            raise InputError(f"unknown keypoint_layout {self.keypoint_layout!r}; use one of {', '.join(LAYOUTS)}")
        for name in ("map_threshold", "small_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

    @classmethod
    def official(
        cls, input_size: int = 1288, kid: bool = True, fov: bool = True, denoising: bool = False
    ) -> MAHMRConfig:
        """The released networks: stage 3 by default, stage 2 without ``kid``, SAT-HMR without ``fov`` either.

        Stage 1 is SAT-HMR with ``denoising``.
        """
        return cls(input_size, num_betas=11 if kid else 10, fov=fov, denoising=denoising)

    @classmethod
    def anny(cls, input_size: int = 1288) -> MAHMRConfig:
        """The same network for the open body: 36 joints (fingers, toes and eyes stay at rest), six phenotypes."""
        body = load_body("anny")
        posed = tuple(name for name in body.joint_names if not name.startswith(_UNPOSED_ANNY))
        return cls(input_size, "anny", posed, len(body.shape_params), keypoint_layout="body22")

    @classmethod
    def tiny(cls, input_size: int = 448, body: Literal["anny", "smpl"] = "anny") -> MAHMRConfig:
        """Under 10 million parameters: for tests and for training on a CPU."""
        if body not in ("anny", "smpl"):
            raise InputError(f"tiny networks are for body 'anny' or 'smpl', got {body!r}")
        return replace(
            cls.anny(input_size) if body == "anny" else cls(input_size),
            width=192, depth=8, heads=3, early_depth=2, decoder_depth=3, decoder_heads=3, decoder_hidden=512,
            pose_depth=3, shape_depth=2,
        )  # fmt: skip

    @property
    def grid(self) -> int:
        """Finest tokens along a side of the square canvas."""
        return self.input_size // PATCH_PX

    @property
    def hidden(self) -> int:
        """Width of the hidden layer of an encoder block."""
        return 4 * self.width

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MAHMRConfig:
        """What :meth:`to_dict` gave, also after a way through JSON.

        Raises:
            InputError: unknown, missing or wrongly typed values.
        """
        known = {f.name: f for f in fields(cls)}
        if set(values) != set(known):
            wrong = sorted(set(values) ^ set(known))
            raise InputError(
                f"a MA-HMR configuration has exactly the keys {', '.join(known)}; wrong: {', '.join(wrong)}"
            )
        defaults = cls()
        for name, value in values.items():
            wanted = type(getattr(defaults, name))
            given = tuple(value) if wanted is tuple and isinstance(value, list) else value
            fits = type(given) is wanted or (wanted is float and type(given) is int)
            if not fits or (wanted is tuple and not all(isinstance(item, str) for item in given)):
                raise InputError(f"{name} of a MA-HMR configuration must be {wanted.__name__}, got {value!r}")
            values = values | {name: given}
        return cls(**values)
