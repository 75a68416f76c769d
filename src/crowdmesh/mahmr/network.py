"""MA-HMR without a body model: images to tokens, tokens to people as numbers, and the camera's field of view."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from crowdmesh.errors import InputError
from crowdmesh.mahmr.attention import MLP, Block
from crowdmesh.mahmr.config import LEVELS, MULTIPLE_PX, MAHMRConfig
from crowdmesh.mahmr.decoder import Decoded, Decoder
from crowdmesh.mahmr.encoder import CELL_PX, EncodedImages, ScaleAdaptiveEncoder
from crowdmesh.mahmr.heads import PersonHeads, rotations_of_6d
from crowdmesh.mahmr.projection import (
    ASSUMED_FOV,
    LEAST_FOV,
    MOST_FOV,
    focal_of_fov,
    fov_of_focal,
    metric_translation,
)
from crowdmesh.mahmr.tokens import sine_code


class Network(nn.Module):
    """All that has weights.

    Attributes:
        provenance: where the weights come from (file, SHA-256, licence ...), for what is made with them.
    """

    def __init__(self, config: MAHMRConfig) -> None:
        super().__init__()
        self.config = config
        self.provenance: dict[str, Any] = {}
        self.encoder = ScaleAdaptiveEncoder(config)
        self.level_embedding = nn.Parameter(torch.zeros(LEVELS, config.width))
        self.memory_projection = nn.Linear(config.width, config.width)
        self.decoder = Decoder(config)
        self.heads = PersonHeads(config)
        if config.fov:
            self.fov_head = MLP(*[config.width] * 4, 1)
            nn.init.xavier_uniform_(self.fov_head.last.weight, gain=0.1)
            nn.init.constant_(self.fov_head.last.bias, torch.pi / 6)
        if config.denoising:
            posed = 3 * len(config.posed_joints)
            self.denoising_encoder = nn.Linear(posed + config.num_betas, config.width)

    def check_batch(
        self,
        images: list[Tensor],
        image_sizes: Tensor,
        scale_map: Tensor | None = None,
        vertical_fov: Tensor | None = None,
    ) -> None:
        """Raise InputError for what the network cannot take: no images, other shapes, types or values."""
        if not isinstance(images, (list, tuple)) or not images:
            raise InputError("a batch is a list of at least one image, each (3, height, width)")
        most, cells = self.config.input_size, 0
        for i, image in enumerate(images):
            what = f"image {i} of the batch"
            if image.ndim != 3 or len(image) != 3 or not image.is_floating_point():
                raise InputError(
                    f"{what} must be (3, height, width) normalised floating-point numbers, got {image.dtype} "
                    f"{tuple(image.shape)}"
                )
            height, width = image.shape[-2:]
            if not (0 < height <= most and 0 < width <= most and height % MULTIPLE_PX == width % MULTIPLE_PX == 0):
                raise InputError(
                    f"{what} must be padded to multiples of {MULTIPLE_PX} pixels and have at most {most}, got "
                    f"{height}x{width}"
                )
            cells += height * width // CELL_PX**2
        count = len(images)
        if not isinstance(image_sizes, Tensor) or image_sizes.shape != (count, 2) or bool((image_sizes < 1).any()):
            raise InputError(f"image_sizes must be a ({count}, 2) tensor of heights and widths from 1 pixel on")
        if scale_map is not None and scale_map.shape != (cells, 2):
            raise InputError(f"scale_map must be ({cells}, 2) for these images, got {tuple(scale_map.shape)}")
        if vertical_fov is not None:
            known = isinstance(vertical_fov, Tensor) and vertical_fov.shape == (count,)
            if not known or bool(((vertical_fov <= 0) | (vertical_fov >= math.pi)).any()):
                raise InputError(f"vertical_fov must be a ({count},) tensor of radians between 0 and pi (NaN: predict)")

    def decode(
        self,
        encoded: EncodedImages,
        content: Float[Tensor, "B Q C"] | None = None,
        anchors: Float[Tensor, "B Q 4"] | None = None,
        query_mask: Bool[Tensor, "*b Q Q"] | None = None,
    ) -> Decoded:
        """Queries against the tokens of their images: the learned ones, or others (see :class:`Decoder`)."""
        memory = self.memory_projection(encoded.tokens)
        position = self.token_positions(encoded)
        if len(encoded.lengths) == 1:
            return self.decoder(memory[None], position[None], None, content, anchors, query_mask)
        memory, position = (pad_sequence(x.split(encoded.lengths), batch_first=True) for x in (memory, position))
        lengths = torch.tensor(encoded.lengths, device=memory.device)
        mask = torch.arange(memory.shape[1], device=memory.device) < lengths[:, None]
        return self.decoder(memory, position, mask, content, anchors, query_mask)

    def token_positions(self, encoded: EncodedImages) -> Float[Tensor, "T C"]:
        """Position codes of the tokens of images."""
        return self.position_codes(encoded.level, encoded.yx)

    def position_codes(self, level: Int[Tensor, "*n"], yx: Int[Tensor, "*n 2"]) -> Float[Tensor, "*n C"]:
        """Codes of places in the grids of levels: sine code of the centre on the square canvas, and the level's."""
        half = self.config.width // 2
        tables = []  # codes of all coordinates of a level, level after level
        starts = [0]
        for i in range(LEVELS):
            cells = self.config.grid / 2**i
            centres = (torch.arange(int(cells), device=level.device) + 0.5) / cells
            tables.append(sine_code(centres, half))
            starts.append(starts[-1] + int(cells))
        table, start = torch.cat(tables), torch.tensor(starts, device=level.device)[level]
        y, x = (start + axis for axis in yx.unbind(-1))
        return torch.cat((table[y], table[x]), -1) + F.embedding(level, self.level_embedding)

    def field_of_view(
        self, camera: Float[Tensor, "B C"], sizes: Float[Tensor, "B 2"], known: Float[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """Vertical field of view (radians) and focal length (pixels): known, predicted, or assumed."""
        return self.camera_of(self.raw_fov(camera), sizes, known)

    def raw_fov(self, camera: Float[Tensor, "B C"]) -> Float[Tensor, " B"] | None:
        """Vertical field of view before it is brought into range, radians; ``None``: no camera branch."""
        return self.fov_head(camera)[:, 0] if self.config.fov else None

    def camera_of(
        self, raw_fov: Float[Tensor, " B"] | None, sizes: Float[Tensor, "B 2"], known: Float[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """As :meth:`field_of_view`, from what :meth:`raw_fov` gave."""
        heights = sizes[:, 0]
        if raw_fov is not None:
            fov = raw_fov.float().clamp(LEAST_FOV, MOST_FOV)
        else:
            canvas = torch.full_like(heights, self.config.input_size)
            fov = fov_of_focal(focal_of_fov(torch.full_like(heights, ASSUMED_FOV), canvas), heights)
        if known is not None:
            fov = torch.where(known.isnan(), fov, known.to(fov))
        return fov, focal_of_fov(fov, heights)

    def confidences(self, state: Float[Tensor, "*n C"]) -> Float[Tensor, "*n"]:
        """Confidence that queries are people, from their last state."""
        return self.heads.confidence(state)[..., 0].sigmoid()

    def people(self, hidden: Float[Tensor, "L *n C"]) -> tuple[Float[Tensor, "*n P 3 3"], Float[Tensor, "*n S"]]:
        """Rotations of ``config.posed_joints`` relative to their parents, and shapes, from states after every layer."""
        rotations = rotations_of_6d(self.heads.poses_6d(hidden)[-1].float())
        return rotations, self.heads.shapes(hidden)[-1].float()

    def translations(self, state: Float[Tensor, "B *n C"], focal_px: Float[Tensor, " B"]) -> Float[Tensor, "B *n 3"]:
        """Translations of bodies in the camera frame, metres, from their last state."""
        placement = self.heads.placement(state).float()
        focal = focal_px.view(-1, *(1,) * (placement.ndim - 2)).expand(placement.shape[:-1])
        return metric_translation(placement, focal, self.config.input_size)

    def compile_parts(self) -> None:
        """Use ``torch.compile`` for the encoder's blocks and the decoder's layers from the next call on.

        The first call then takes a minute or more, and so does the first with several images; other numbers of tokens
        do not compile anew, since attention within each image stays outside. Results change by rounding. On a CPU it
        is no faster: matrix products are what takes time. Save ``state_dict()``, not the compiled network.
        """
        before, after, step = (torch.compile(f, dynamic=True) for f in (Block.before, Block.after, Decoder.step))
        for part in self.modules():
            if isinstance(part, Block):  # one compiled function for all of them
                setattr(part, "before", partial(before, part))  # noqa: B010
                setattr(part, "after", partial(after, part))  # noqa: B010
            elif isinstance(part, Decoder):
                setattr(part, "step", partial(step, part))  # noqa: B010


def tensor_shapes(config: MAHMRConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors of a network's state, without making them."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Network(config).state_dict().items()}
