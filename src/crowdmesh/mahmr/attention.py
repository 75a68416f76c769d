"""Attention within each of several sequences that lie in one row, and the transformer block that uses it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn

ENCODER_EPS = 1e-6

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values (..., tokens, heads, channels) to what is attended, in the same shape."""


def ragged_attention(
    q: Float[Tensor, "T H D"],
    k: Float[Tensor, "T H D"],
    v: Float[Tensor, "T H D"],
    lengths: list[int],
    ends: Int[Tensor, " B1"] | None = None,
) -> Float[Tensor, "T H D"]:
    """Softmax attention of every token to the tokens of its own sequence, with scale 1 / sqrt(D).

    CUDA in half precision, where the device has it: torch's variable-length kernel, one call for all sequences.
    Otherwise one call of ``scaled_dot_product_attention`` per sequence, which on a CPU beats one padded or masked
    call. Either way a sequence's result does not depend on the others. (No CUDA device was at hand when this was
    written; its test skips without one.)

    Args:
        lengths: tokens of each sequence; they add up to T.
        ends: 0 and where each sequence ends, int32 on the device of q; made of ``lengths`` where it is not given.
    """
    if _has_ragged_kernel(q):
        if ends is None:
            ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(q.device)
        longest = max(lengths)
        return varlen_attn(q, k, v, ends, ends, longest, longest, num_splits=1)  # type: ignore[return-value]
    return torch.cat(
        [dense_attention(*qkv) for qkv in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)]
    )


def _has_ragged_kernel(q: Float[Tensor, "T H D"]) -> bool:
    """Whether torch's variable-length kernel takes this: half precision on an NVIDIA GPU from Ampere on."""
    if not q.is_cuda or q.dtype not in (torch.float16, torch.bfloat16) or torch.version.hip is not None:
        return False
    width = q.shape[-1]
    return torch.cuda.get_device_capability(q.device)[0] >= 8 and width % 8 == 0 and width <= 256


def dense_attention(
    q: Float[Tensor, "*b N H D"],
    k: Float[Tensor, "*b M H D"],
    v: Float[Tensor, "*b M H D"],
    mask: Tensor | None = None,
) -> Float[Tensor, "*b N H D"]:
    """The same for one sequence, or several of one length; ``mask`` tells which keys may be attended (True)."""
    q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
    if q.ndim == 3:  # without a batch axis torch falls back to a slow path
        return F.scaled_dot_product_attention(q[None], k[None], v[None], mask)[0].transpose(-3, -2)
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(-3, -2)


class Block(nn.Module):
    """Pre-norm transformer block of DINOv2: attention and a GELU layer, each scaled per channel (LayerScale)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, ENCODER_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.scale1 = nn.Parameter(torch.ones(width))
        self.norm2 = nn.LayerNorm(width, ENCODER_EPS)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.scale2 = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*n C"], attend: Attend) -> Float[Tensor, "*n C"]:
        """Transform tokens; ``attend`` knows which tokens see each other."""
        return self.after(x, attend(*self.before(x)))

    def before(self, x: Float[Tensor, "*n C"]) -> tuple[Tensor, ...]:
        """Queries, keys and values (..., tokens, heads, channels)."""
        return self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(-3)

    def after(self, x: Float[Tensor, "*n C"], attended: Float[Tensor, "*n H D"]) -> Float[Tensor, "*n C"]:
        """Tokens with what they have attended, through the GELU layer."""
        x = torch.addcmul(x, self.out(attended.flatten(-2)), self.scale1)
        return torch.addcmul(x, self.contract(F.gelu(self.expand(self.norm2(x)))), self.scale2)


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the output."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Float[Tensor, "*n A"]) -> Float[Tensor, "*n B"]:
        """Transform the last axis."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.last(x)
