"""The decoder: queries with anchor boxes gather each person from an image's tokens (DAB-DETR; spec facts 1.3).

Cross-attention is computed from the side of the few queries. In textbook form every token is projected to a key, a
position key and a value, three square matrices per token and layer. But a score is a bilinear form,
(W_q q)^T (W_k m) = (W_k^T W_q q)^T m, so here the *queries* pass through W_k^T once and meet the raw tokens, and the
value projection waits until tokens have been averaged. The results are the same; the biases of keys drop out, since
they add one constant to all scores of a query.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crowdmesh.mahmr.attention import MLP, dense_attention
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.mahmr.tokens import sine_code_2d

_LOGIT_EPS = 1e-5
_LEAST_SIDE = 1e-6  # of a box, so that none divides by zero; a thousandth of a pixel


@dataclass(frozen=True, eq=False)
class Decoded:
    """What each of the L layers makes of B x Q queries.

    Attributes:
        hidden: (L, B, Q, C) normalised states.
        references: (L, B, Q, 4) the anchor that enters each layer: centre x, y, width, height over ``input_size``.
        boxes: (L, B, Q, 4) the anchor moved by what the layer found; the person's box.
    """

    hidden: Float[Tensor, "L B Q C"]
    references: Float[Tensor, "L B Q 4"]
    boxes: Float[Tensor, "L B Q 4"]


class SelfAttention(nn.Module):
    """Queries among themselves; content and position are projected apart and added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_content, self.query_position = nn.Linear(width, width), nn.Linear(width, width)
        self.key_content, self.key_position = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self, content: Float[Tensor, "B Q C"], position: Float[Tensor, "B Q C"], mask: Bool[Tensor, "*b Q Q"] | None
    ) -> Float[Tensor, "B Q C"]:
        """What queries tell each other; ``mask`` says who may see whom (True)."""
        q = self.query_content(content) + self.query_position(position)
        k = self.key_content(content) + self.key_position(position)
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in (q, k, self.value(content)))
        return self.out(dense_attention(q, k, v, mask).flatten(-2))


class CrossAttention(nn.Module):
    """Queries to image tokens, with scores for content and for position (see the module's text)."""

    def __init__(self, width: int, heads: int, first: bool) -> None:
        super().__init__()
        self.heads, self.first = heads, first
        self.query_content, self.query_sine = nn.Linear(width, width), nn.Linear(width, width)
        if first:
            self.query_position = nn.Linear(width, width)
        self.key_content, self.key_position = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(
        self,
        content: Float[Tensor, "B Q C"],
        position: Float[Tensor, "B Q C"],
        sine: Float[Tensor, "B Q C"],
        memory: Float[Tensor, "B N C"],
        memory_position: Float[Tensor, "B N C"],
        mask: Bool[Tensor, "B N"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """What queries find in the image; ``mask`` says which tokens there are (True)."""
        q, s = self.query_content(content), self.query_sine(sine)
        if self.first:  # here alone, positions also enter queries and keys of the content
            q = q + self.query_position(position)
            s = s + q
        scores = self._towards(q, self.key_content) @ memory.mT
        scores = scores + self._towards(s, self.key_position) @ memory_position.mT
        scores = scores * (2 * content.shape[-1] // self.heads) ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -torch.inf)
        seen = (scores.softmax(-1) @ memory).unflatten(1, (self.heads, -1))
        weight = self.value.weight.unflatten(0, (self.heads, -1))
        value = torch.einsum("bhqc,hdc->bqhd", seen, weight).flatten(-2) + self.value.bias
        return self.out(value)

    def _towards(self, query: Float[Tensor, "B Q C"], key: nn.Linear) -> Float[Tensor, "B HQ C"]:
        """Queries of each head as vectors that meet unprojected tokens."""
        weight = key.weight.unflatten(0, (self.heads, -1))
        return torch.einsum("bqhd,hdc->bhqc", query.unflatten(-1, (self.heads, -1)), weight).flatten(1, 2)


class DecoderLayer(nn.Module):
    """Pre-norm: self-attention, cross-attention, a ReLU layer."""

    def __init__(self, config: MAHMRConfig, first: bool) -> None:
        super().__init__()
        width = config.width
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, config.decoder_heads)
        self.cross_attention = CrossAttention(width, config.decoder_heads, first)
        self.expand = nn.Linear(width, config.decoder_hidden)
        self.contract = nn.Linear(config.decoder_hidden, width)

    def forward(
        self,
        x: Float[Tensor, "B Q C"],
        position: Float[Tensor, "B Q C"],
        sine: Float[Tensor, "B Q C"],
        memory: Float[Tensor, "B N C"],
        memory_position: Float[Tensor, "B N C"],
        memory_mask: Bool[Tensor, "B N"] | None,
        query_mask: Bool[Tensor, "*b Q Q"] | None,
    ) -> Float[Tensor, "B Q C"]:
        """Transform the queries' content."""
        x = x + self.self_attention(self.norm1(x), position, query_mask)
        x = x + self.cross_attention(self.norm2(x), position, sine, memory, memory_position, memory_mask)
        return x + self.contract(F.relu(self.expand(self.norm3(x))))


class Decoder(nn.Module):
    """Learned queries, refined layer by layer together with their boxes."""

    def __init__(self, config: MAHMRConfig) -> None:
        super().__init__()
        width = config.width
        self.width = width
        self.content = nn.Parameter(torch.randn(config.queries, width))
        self.anchors = nn.Parameter(torch.randn(config.queries, 4))
        self.layers = nn.ModuleList(DecoderLayer(config, first=i == 0) for i in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width)
        self.query_scale = MLP(width, width, width)
        self.position_head = MLP(2 * width, width, width)
        self.size_head = MLP(width, width, 2)
        box_heads = [MLP(width, width, width, 4) for _ in range(config.decoder_depth)]
        for head in box_heads:  # boxes start where their anchors are
            nn.init.zeros_(head.last.weight)
            nn.init.zeros_(head.last.bias)
        self.box_heads = nn.ModuleList(box_heads)

    def forward(
        self,
        memory: Float[Tensor, "B N C"],
        memory_position: Float[Tensor, "B N C"],
        memory_mask: Bool[Tensor, "B N"] | None = None,
        content: Float[Tensor, "B Q C"] | None = None,
        anchors: Float[Tensor, "B Q 4"] | None = None,
        query_mask: Bool[Tensor, "*b Q Q"] | None = None,
    ) -> Decoded:
        """Find people among image tokens.

        Args:
            memory, memory_position: tokens and their position codes.
            memory_mask: which tokens there are (True); None: all.
            content, anchors: other queries than the learned ones; anchors before the sigmoid.
            query_mask: which query (row) may see which (True), (Q, Q) or, one per image, (B, 1, Q, Q); None: all.
        """
        batch = len(memory)
        x = self.content.expand(batch, -1, -1) if content is None else content
        reference = (self.anchors.expand(batch, -1, -1) if anchors is None else anchors).sigmoid()
        hidden, references, boxes = [], [], []
        for layer, box_head in zip(self.layers, self.box_heads, strict=True):
            assert isinstance(layer, DecoderLayer) and isinstance(box_head, MLP)
            references.append(reference)
            x, state, box, reference = self.step(
                layer, box_head, x, reference, memory, memory_position, memory_mask, query_mask
            )
            hidden.append(state)
            boxes.append(box)
        return Decoded(torch.stack(hidden), torch.stack(references), torch.stack(boxes))

    def step(
        self,
        layer: DecoderLayer,
        box_head: MLP,
        x: Float[Tensor, "B Q C"],
        reference: Float[Tensor, "B Q 4"],
        memory: Float[Tensor, "B N C"],
        memory_position: Float[Tensor, "B N C"],
        memory_mask: Bool[Tensor, "B N"] | None,
        query_mask: Bool[Tensor, "*b Q Q"] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries and their anchors through one layer: content, normalised state, boxes, next anchors."""
        anchor = reference.detach()
        centre = sine_code_2d(anchor[..., :2], self.width)
        position = self.position_head(torch.cat((centre, sine_code_2d(anchor[..., 2:], self.width)), -1))
        sine = centre if layer.cross_attention.first else centre * self.query_scale(x)
        sine = sine * self._size_factor(x, anchor)
        x = layer(x, position, sine, memory, memory_position, memory_mask, query_mask)
        state = self.norm(x)
        move = box_head(state)
        # The box's gradient also reaches the layer before, the next anchor's does not ("look forward twice").
        return x, state, (move + _logit(reference)).sigmoid(), (move + _logit(anchor)).sigmoid()

    def _size_factor(self, x: Float[Tensor, "B Q C"], anchor: Float[Tensor, "B Q 4"]) -> Float[Tensor, "B Q C"]:
        """How much the position's halves for y and x count: less for a large box, as far as the query wants it."""
        factor = self.size_head(x).sigmoid() / anchor[..., 2:].clamp(min=_LEAST_SIDE)
        return factor.flip(-1).repeat_interleave(self.width // 2, -1)


def _logit(share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    return share.clamp(min=_LOGIT_EPS).log() - (1 - share).clamp(min=_LOGIT_EPS).log()
