"""The network for pictures of one size, without data-dependent shapes.

Which cells are seen finely depends on the picture, so the encoder's rows of tokens differ in length from picture to
picture; many runtimes want every shape in advance. Here the tokens of all levels are computed for all cells, and those
that the scale map does not call for are masked. The mathematics is the encoder's own, and so are the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from crowdmesh.errors import InputError
from crowdmesh.mahmr.attention import Attend, dense_attention
from crowdmesh.mahmr.canvas import normalised
from crowdmesh.mahmr.config import MULTIPLE_PX
from crowdmesh.mahmr.decoder import Decoded
from crowdmesh.mahmr.encoder import BASE, CELL_PX, COARSE, FINE, cut
from crowdmesh.mahmr.tokens import morton_cells

if TYPE_CHECKING:
    from crowdmesh.mahmr.network import Network


@dataclass(frozen=True, eq=False)
class _Tokens:
    """N places for tokens in each of B pictures, not all of them taken.

    Attributes:
        states: (B, N, C).
        exist: (B, N) whether there is a token.
        level, yx: (B, N), (B, N, 2) as in ``EncodedImages``.
    """

    states: Float[Tensor, "B N C"]
    exist: Bool[Tensor, "B N"]
    level: Int[Tensor, "B N"]
    yx: Int[Tensor, "B N 2"]

    def first(self, count: int) -> _Tokens:
        """The first ones that exist, in a row of this length."""
        index = _first(self.exist, count)
        return _Tokens(*(_take(part, index) for part in (self.states, self.exist, self.level, self.yx)))


class FixedShape(nn.Module):
    """A network for pictures of one padded size; no shape and no branch depends on what is in them.

    The body model is not part of it: it is licensed, or large, and simple to apply to the result. Nor is a known field
    of view: multiply the translations' z by the ratio of focal lengths.

    Args:
        model: the network.
        height, width: of the padded pictures, pixels, multiples of 56; of unpadded ones they are rounded up.
        batch: pictures that pass together.
        max_tokens: room for tokens in the late blocks and the decoder. ``None``: for all that could be, 21 per square
            of 56 pixels, of which a picture has 4 to 16 where there are small people, 1 where there is nobody. The
            attention of the runtime may need memory for the square of that. A picture with no more tokens than there
            is room for has exact results; of others, background is left out first.

    Raises:
        InputError: a size that the network cannot take, or too few tokens.
    """

    yx: Tensor
    base_position: Tensor

    def __init__(self, model: Network, height: int, width: int, batch: int = 1, max_tokens: int | None = None) -> None:
        super().__init__()
        most = model.config.input_size
        if not all(0 < side <= most and side % MULTIPLE_PX == 0 for side in (height, width)):
            raise InputError(
                f"height and width of an export must be multiples of {MULTIPLE_PX} up to the network's {most} pixels, "
                f"got {height}x{width}"
            )
        if batch < 1:
            raise InputError(f"the batch of an export must be at least 1, got {batch}")
        groups = height * width // MULTIPLE_PX**2
        if max_tokens is not None and max_tokens < groups:
            raise InputError(
                f"max_tokens must be at least {groups}, as many as an empty picture of {height}x{width} has, "
                f"got {max_tokens}"
            )
        self.model = model
        self.batch = batch
        self.size = (height, width)
        self.all_tokens = 21 * groups  # 16 fine, 4 base, 1 coarse
        self.max_tokens = None if max_tokens is None else min(max_tokens, self.all_tokens)
        yx = morton_cells(height // CELL_PX, width // CELL_PX)
        device = model.encoder.position.device
        self.register_buffer("yx", yx.to(device))
        position = model.encoder.base_position().detach()
        self.register_buffer("base_position", position[yx[:, 0], yx[:, 1]])

    def forward(self, pixels: UInt8[Tensor, "B H W 3"], image_sizes: Int[Tensor, "B 2"]) -> dict[str, Tensor]:
        """Everybody in some pictures.

        Args:
            pixels: RGB, the longer side resized to ``input_size``, black at the right and bottom up to this size.
            image_sizes: heights and widths without padding.

        Returns:
            ``confidences`` (B, Q), ``boxes`` (B, Q, 4), ``betas`` (B, Q, S), ``translations`` (B, Q, 3) and
            ``vertical_fov`` (B,) as in ``MAHMROutput``; ``rotations`` (B, Q, P, 3, 3) of ``config.posed_joints``
            relative to their parents; ``scale_map`` (B, n, 2) as in ``EncodedImages``; with ``max_tokens`` also
            ``dropped_tokens`` (B,), how many had no room: 0 where the results are exact.
        """
        model, encoder = self.model, self.model.encoder
        cells = cut(normalised(pixels), self.yx)
        camera, base = self._see_roughly(cells)
        scale_map = encoder.predict_map(base)
        chosen = encoder.select(scale_map.flatten(0, 1))
        small, kept, coarse = (
            mask.unflatten(0, (self.batch, -1)) for mask in (chosen.fine, chosen.base, chosen.coarse)
        )
        fine = self._see_closely(cells, small)
        tokens = self._put_together(fine, base, kept, coarse)
        if self.max_tokens is not None:
            tokens = tokens.first(self.max_tokens)
        camera, states = self._run(encoder.blocks[model.config.early_depth :], camera, tokens.states, tokens.exist)
        memory = model.memory_projection(encoder.norm(states))
        decoded = model.decoder(memory, model.position_codes(tokens.level, tokens.yx), tokens.exist)
        outputs = outputs_of(model, camera, decoded, image_sizes) | {"scale_map": scale_map}
        if self.max_tokens is not None:
            wanted = 4 * small.sum(1) + kept.sum(1) + coarse.sum(1)
            outputs["dropped_tokens"] = (wanted - self.max_tokens).clamp(min=0)
        return outputs

    def _see_roughly(self, cells: Float[Tensor, "B n 3 28 28"]) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B n C"]]:
        encoder = self.model.encoder
        base = encoder.base_tokens(cells.flatten(0, 1), self.base_position.repeat(self.batch, 1))
        camera = encoder.camera_token.expand(self.batch, -1)
        return self._run(encoder.base_blocks, camera, base.unflatten(0, (self.batch, -1)))

    def _see_closely(self, cells: Float[Tensor, "B n 3 28 28"], small: Bool[Tensor, "B n"]) -> _Tokens:
        """The fine tokens of all cells, or of the first small ones as far as there is room."""
        encoder = self.model.encoder
        yx = self.yx.expand(self.batch, -1, -1)
        room = cells.shape[1] if self.max_tokens is None else min(-(-self.max_tokens // 4), cells.shape[1])
        if room < cells.shape[1]:
            index = _first(small, room)
            cells, small, yx = (_take(part, index) for part in (cells, small, yx))
        fine, yx = encoder.fine_tokens(cells.flatten(0, 1), yx.flatten(0, 1))
        fine, yx = (part.unflatten(0, (self.batch, -1)) for part in (fine, yx))
        exist = small.repeat_interleave(4, 1)
        camera = encoder.camera_token.expand(self.batch, -1)
        _, fine = self._run(encoder.blocks[: self.model.config.early_depth], camera, fine, exist)
        return _Tokens(fine, exist, torch.full_like(exist, FINE, dtype=torch.int64), yx)

    def _put_together(
        self, fine: _Tokens, base: Float[Tensor, "B n C"], kept: Bool[Tensor, "B n"], coarse: Bool[Tensor, "B g"]
    ) -> _Tokens:
        """The tokens of all levels."""
        states = [fine.states, base, base.unflatten(1, (-1, 4)).amax(2)]
        levels = [torch.full_like(mask, i, dtype=torch.int64) for i, mask in ((BASE, kept), (COARSE, coarse))]
        places = [yx.expand(self.batch, -1, -1) for yx in (self.yx, self.yx[::4] // 2)]
        return _Tokens(
            torch.cat(states, 1),
            torch.cat((fine.exist, kept, coarse), 1),
            torch.cat((fine.level, *levels), 1),
            torch.cat((fine.yx, *places), 1),
        )

    def _run(
        self,
        blocks: nn.ModuleList,
        camera: Float[Tensor, "B C"],
        tokens: Float[Tensor, "B N C"],
        exist: Bool[Tensor, "B N"] | None = None,
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B N C"]]:
        """The camera token, which everybody sees, and the tokens through blocks."""
        attend: Attend = dense_attention
        if exist is not None:
            seen = torch.cat((torch.ones_like(exist[:, :1]), exist), 1)
            attend = partial(dense_attention, mask=seen[:, None, None])
        x = torch.cat((camera[:, None], tokens), 1)
        for block in blocks:
            x = block(x, attend)
        return x[:, 0], x[:, 1:]


def outputs_of(model: Network, camera: Float[Tensor, "B C"], decoded: Decoded, sizes: Tensor) -> dict[str, Tensor]:
    """What an export tells about people and cameras."""
    state = decoded.hidden[-1]
    rotations, betas = model.people(decoded.hidden)
    fov, focal = model.field_of_view(camera, sizes.to(state))
    return {
        "confidences": model.confidences(state),
        "boxes": decoded.boxes[-1],
        "rotations": rotations,
        "betas": betas,
        "translations": model.translations(state, focal),
        "vertical_fov": fov,
    }


def _first(exist: Bool[Tensor, "B N"], count: int) -> Int[Tensor, "B M"]:
    """Where the first ones are that exist; where there are fewer, any others fill the row."""
    rank = torch.arange(exist.shape[1], 0, -1, device=exist.device, dtype=torch.float32)
    return (exist * rank).topk(count, 1).indices


def _take(values: Tensor, index: Int[Tensor, "B M"]) -> Tensor:
    """From each row (B, N, ...) what stands at these places (B, M)."""
    batch, length = values.shape[:2]
    start = torch.arange(batch, device=index.device)[:, None] * length
    return values.flatten(0, 1).index_select(0, (index + start).flatten()).unflatten(0, (batch, -1))
