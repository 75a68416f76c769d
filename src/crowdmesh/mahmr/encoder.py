"""The scale-adaptive encoder: a ViT that looks closely where people are small and roughly where nobody is.

Every image is cut into cells of 28 pixels. A few blocks see each cell at half resolution and predict who covers it
(the *scale map*); small people's cells are then cut into four tokens at full resolution, groups of four cells without
anybody are pooled into one, and all tokens go on together (SAT-HMR; paper section 3.3; spec facts 1.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from crowdmesh.mahmr.attention import ENCODER_EPS, MLP, Block, ragged_attention
from crowdmesh.mahmr.config import PATCH_PX, MAHMRConfig
from crowdmesh.mahmr.tokens import Rows, morton_cells

CELL_PX = 2 * PATCH_PX
FINE, BASE, COARSE = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells of 28 pixels of a batch: image after image, each in Morton order.

    Attributes:
        pixels: (n, 3, 28, 28) of the normalised images.
        image: (n,) which image.
        yx: (n, 2) where in it, in cells.
        batch: number of images.
    """

    pixels: Float[Tensor, "n 3 28 28"]
    image: Int[Tensor, " n"]
    yx: Int[Tensor, "n 2"]
    batch: int

    @classmethod
    def of(cls, images: list[Float[Tensor, "3 _ _"]]) -> Cells:
        """Cut up images whose sides are multiples of 56 pixels."""
        device = images[0].device
        pixels, places = [], []
        for image in images:
            place = morton_cells(*(side // CELL_PX for side in image.shape[1:])).to(device)
            places.append(place)
            pixels.append(cut(image, place))
        counts = torch.tensor([len(place) for place in places], device=device)
        image_of = torch.arange(len(images), device=device).repeat_interleave(counts, output_size=sum(map(len, places)))
        return cls(torch.cat(pixels), image_of, torch.cat(places), len(images))


def cut(images: Float[Tensor, "*b 3 _ _"], yx: Int[Tensor, "n 2"]) -> Float[Tensor, "*b n 3 28 28"]:
    """Cells of images at these places."""
    grid = images.unflatten(-2, (-1, CELL_PX)).unflatten(-1, (-1, CELL_PX)).movedim((-4, -2), (-5, -4))
    return grid[..., yx[:, 0], yx[:, 1], :, :, :]


def at_places(grid: Float[Tensor, "g g C"], yx: Int[Tensor, "*n 2"]) -> Float[Tensor, "*n C"]:
    """Rows of a grid; unlike indexing, its gradients are added in a fixed order, whatever threads there are."""
    return F.embedding(yx[..., 0] * grid.shape[1] + yx[..., 1], grid.flatten(0, 1))


@dataclass(frozen=True, eq=False)
class Selection:
    """Which level shows each cell (boolean (n,)) and each group of four consecutive cells (boolean (n / 4,))."""

    fine: Bool[Tensor, " n"]
    base: Bool[Tensor, " n"]
    coarse: Bool[Tensor, " g"]


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """What the encoder makes of a batch; T tokens in all, image after image.

    Attributes:
        tokens: (T, C) normalised, without the camera tokens.
        camera: (B, C) the camera token of each image, not normalised.
        level: (T,) 0, 1, 2: squares of 14, 28, 56 pixels.
        yx: (T, 2) position in the grid of its level.
        lengths: tokens of each image.
        scale_map: (n, 2) per cell of 28 pixels, in Morton order: the probability that a person covers it, and that
            person's size relative to the image. map_logits: the same before the sigmoid.
    """

    tokens: Float[Tensor, "T C"]
    camera: Float[Tensor, "B C"]
    level: Int[Tensor, " T"]
    yx: Int[Tensor, "T 2"]
    lengths: list[int]
    scale_map: Float[Tensor, "n 2"]
    map_logits: Float[Tensor, "n 2"]


class ScaleAdaptiveEncoder(nn.Module):
    """Images to tokens (see the module's text)."""

    def __init__(self, config: MAHMRConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.camera_token = nn.Parameter(torch.zeros(1, width))
        self.position = nn.Parameter(torch.zeros(config.grid, config.grid, width))
        self.patch_projection = nn.ModuleList(nn.Conv2d(3, width, PATCH_PX, PATCH_PX) for _ in (FINE, BASE))
        make = partial(Block, width, config.heads, config.hidden)
        self.base_blocks = nn.ModuleList(make() for _ in range(config.early_depth))
        self.blocks = nn.ModuleList(make() for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, ENCODER_EPS)
        self.map_norm = nn.LayerNorm(width, ENCODER_EPS)
        self.map_head = MLP(width, width, width, width, 2)
        nn.init.normal_(self.camera_token, std=0.02)
        nn.init.normal_(self.position, std=0.02)

    def forward(
        self, images: list[Float[Tensor, "3 _ _"]], scale_map: Float[Tensor, "n 2"] | None = None
    ) -> EncodedImages:
        """Encode images of any sizes that are multiples of 56 pixels.

        Args:
            scale_map: a known map, which then decides on the levels in place of the predicted one.
        """
        cells = Cells.of(images)
        camera, base = self.see_roughly(cells)
        with torch.autocast(base.device.type, enabled=False):  # it decides on levels, and rounding would change some
            logits = self.map_logits(base)
            predicted = logits.sigmoid()
        chosen = self.select(predicted if scale_map is None else scale_map)
        fine, fine_image, fine_yx = self.see_closely(cells, chosen.fine)
        coarse = base.unflatten(0, (-1, 4))[chosen.coarse].amax(1)
        coarse_image, coarse_yx = cells.image[::4][chosen.coarse], cells.yx[::4][chosen.coarse] // 2
        images_of = [fine_image, cells.image[chosen.base], coarse_image]
        rows = Rows([torch.arange(cells.batch, device=base.device), *images_of], cells.batch)
        x = self.run(self.blocks[self.config.early_depth :], rows.join(camera, fine, base[chosen.base], coarse), rows)
        camera, *parts = rows.split(x)
        order = Rows(images_of, cells.batch)
        level = torch.cat([torch.full_like(part, i) for i, part in enumerate(images_of)])
        return EncodedImages(
            tokens=self.norm(order.join(*parts)),
            camera=camera,
            level=level[order.order],
            yx=order.join(fine_yx, cells.yx[chosen.base], coarse_yx),
            lengths=order.lengths,
            scale_map=predicted,
            map_logits=logits,
        )

    def see_roughly(self, cells: Cells) -> tuple[Float[Tensor, "B C"], Float[Tensor, "n C"]]:
        """Camera tokens and one token per cell, seen at half resolution, after the first blocks."""
        base = self.base_tokens(cells.pixels, at_places(self.base_position(), cells.yx))
        rows = Rows([torch.arange(cells.batch, device=base.device), cells.image], cells.batch)
        x = self.run(self.base_blocks, rows.join(self.camera_token.expand(cells.batch, -1), base), rows)
        camera, base = rows.split(x)
        return camera, base

    def see_closely(
        self, cells: Cells, small: Bool[Tensor, " n"]
    ) -> tuple[Float[Tensor, "m C"], Int[Tensor, " m"], Int[Tensor, "m 2"]]:
        """Four tokens at full resolution for each of the chosen cells, after the first blocks; their image and place.

        They see each other and the untouched camera token, whose own result is not used.
        """
        fine, yx = self.fine_tokens(cells.pixels[small], cells.yx[small])
        image = cells.image[small].repeat_interleave(4)
        rows = Rows([torch.arange(cells.batch, device=fine.device), image], cells.batch)
        row = rows.join(self.camera_token.expand(cells.batch, -1), fine)
        _, fine = rows.split(self.run(self.blocks[: self.config.early_depth], row, rows))
        return fine, image, yx

    def base_tokens(self, pixels: Float[Tensor, "n 3 28 28"], position: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
        """One token per cell, at half resolution, before any block; ``position`` is its embedding."""
        return self.project(BASE, F.avg_pool2d(pixels, 2)) + position

    def fine_tokens(
        self, pixels: Float[Tensor, "m 3 28 28"], yx: Int[Tensor, "m 2"]
    ) -> tuple[Float[Tensor, "m4 C"], Int[Tensor, "m4 2"]]:
        """Four tokens per cell, at full resolution, before any block, and their places in the fine grid."""
        patches = pixels.unflatten(2, (2, -1)).unflatten(4, (2, -1)).permute(0, 2, 4, 1, 3, 5)
        corner = torch.tensor([(0, 0), (0, 1), (1, 0), (1, 1)], device=yx.device)
        yx = (2 * yx[:, None] + corner).flatten(0, 1)
        return self.project(FINE, patches.flatten(0, 2)) + at_places(self.position, yx), yx

    def predict_map(self, base: Float[Tensor, "*n C"]) -> Float[Tensor, "*n 2"]:
        """The scale map (see ``EncodedImages``) from the cells' tokens after the first blocks."""
        return self.map_logits(base).sigmoid()

    def map_logits(self, base: Float[Tensor, "*n C"]) -> Float[Tensor, "*n 2"]:
        """The scale map before the sigmoid."""
        return self.map_head(self.map_norm(base))

    def select(self, scale_map: Float[Tensor, "n 2"]) -> Selection:
        """Levels by the scale map: small people finely, others at the base level, empty groups of cells coarsely."""
        covered = scale_map[:, 0] > self.config.map_threshold
        small = covered & (scale_map[:, 1] < self.config.small_threshold)
        group = covered.unflatten(0, (-1, 4)).any(1)
        base = group.repeat_interleave(4) & ~small
        if self.config.official_quirks:
            base = base | group.all()
        return Selection(small, base, ~group)

    def base_position(self) -> Float[Tensor, "g g C"]:
        """Position embeddings of the base level: bicubic, of the fine ones."""
        grid = self.position.permute(2, 0, 1)[None]
        half = F.interpolate(grid, size=(self.config.grid // 2,) * 2, mode="bicubic", align_corners=False)
        return half[0].permute(1, 2, 0)

    def project(self, level: int, patches: Float[Tensor, "m 3 14 14"]) -> Float[Tensor, "m C"]:
        """Tokens of patches: the convolution as what it is here, one matrix product."""
        convolution = self.patch_projection[level]
        assert isinstance(convolution, nn.Conv2d)
        return F.linear(patches.flatten(1), convolution.weight.flatten(1), convolution.bias)

    def run(self, blocks: nn.ModuleList, row: Float[Tensor, "T C"], rows: Rows) -> Float[Tensor, "T C"]:
        """A row of tokens through blocks, attention within each image."""
        attend = partial(ragged_attention, lengths=rows.lengths, ends=rows.ends)
        for block in blocks:
            row = block(row, attend)
        return row
