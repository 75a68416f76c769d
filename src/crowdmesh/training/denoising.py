"""Denoising: labels with noise as extra queries that must find their own person again (DN-DETR; spec facts 2).

Each group holds every person of the image twice: once near the truth, to be found, and once farther away, to be
recognised as nobody. Groups cannot see each other, and the learned queries see none of them. Room that an image with
fewer people does not need is hidden, so that what happens in an image does not depend on the others of its batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crowdmesh.errors import InputError
from crowdmesh.mahmr.heads import axis_angles
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.output import NoisyLabels
from crowdmesh.training.targets import Targets

_LOGIT_EPS = 1e-5


@dataclass(frozen=True, eq=False)
class DenoisingQueries:
    """D extra queries per image, group after group, each first the P people to find and then the P negatives.

    Attributes:
        content: (B, D, C). anchors: (B, D, 4) before the sigmoid; both 0 where there is no query.
        exist: (B, D).
        labels: who is who.
    """

    content: Float[Tensor, "B D C"]
    anchors: Float[Tensor, "B D 4"]
    exist: Bool[Tensor, "B D"]
    labels: NoisyLabels


def make_queries(
    embed: nn.Linear, targets: Sequence[Targets], config: LossConfig, generator: torch.Generator | None = None
) -> DenoisingQueries:
    """Noisy labels of a batch as queries.

    The noise of an image depends on one number drawn from the generator and on the image's key, not on the images
    beside it. People without a known pose are described by their box alone. A batch without people gets room for one.

    Args:
        embed: from axis-angles of the posed joints (radians) and shape parameters to a query's content.
        generator: ``None``: no noise.

    Raises:
        InputError: labels of another number of joints or shape parameters than ``embed`` takes.
    """
    groups, room = config.denoising_groups, max([1, *(len(t) for t in targets)])
    seed = None if generator is None else int(torch.randint(2**31, (), generator=generator, device=generator.device))
    device, batch = embed.weight.device, len(targets)
    bodies = torch.zeros(batch, groups, 2, room, embed.in_features, device=device)
    anchors = torch.zeros(batch, groups, 2, room, 4, device=device)
    exist = torch.zeros(batch, groups, 2, room, dtype=torch.bool, device=device)
    for i, target in enumerate(targets):
        people = len(target)
        described = torch.cat((axis_angles(target.rotations).flatten(1), target.betas), 1)
        if described.shape[1] != embed.in_features:
            raise InputError(
                f"labels of {target.key} describe a body by {described.shape[1]} numbers, the network's denoising "
                f"layer takes {embed.in_features}"
            )
        known = target.has_pose[:, None].to(described)
        noise = None if seed is None else _Noise(seed, target.key, (groups, 2, people))
        boxes, bodies_of = target.boxes.expand(groups, 2, -1, -1), described.expand(groups, 2, -1, -1)
        if noise is not None:
            boxes = _moved(boxes, noise.draw(4, boxes) * config.denoising_box_noise)
            bodies_of = bodies_of + noise.draw(described.shape[1], described) * config.denoising_body_noise
        bodies[i, :, :, :people] = (bodies_of * known).to(bodies)
        anchors[i, :, :, :people] = _logit(boxes).to(anchors)
        exist[i, :, :, :people] = True
    content = torch.where(exist[..., None], embed(bodies), 0.0)
    labels = _who_is_who([len(t) for t in targets], groups, device)
    return DenoisingQueries(content.flatten(1, 3), anchors.flatten(1, 3), exist.flatten(1), labels)


def query_mask(groups: int, slots: int, queries: int, device: torch.device | str = "cpu") -> Bool[Tensor, "Q Q"]:
    """Which query (row) may see which (True): D noisy ones in groups of ``slots``, then the learned ones."""
    group = torch.arange(groups * slots + queries, device=device) // slots
    group[groups * slots :] = groups
    return (group[:, None] == group) | (group == groups)


def hide_missing(mask: Bool[Tensor, "Q Q"], exist: Bool[Tensor, "B D"]) -> Bool[Tensor, "B 1 Q Q"]:
    """The mask per image, without the room for queries that an image has not; those see themselves alone."""
    there = torch.cat((exist, exist.new_ones(len(exist), len(mask) - exist.shape[1])), 1)
    itself = torch.eye(len(mask), dtype=torch.bool, device=mask.device)
    return ((mask & there[:, None]) | itself)[:, None]


class _Noise:
    """Numbers in +-[0, 1) for queries to find and +-[1, 2) for negatives."""

    def __init__(self, seed: int, key: str, shape: tuple[int, int, int]) -> None:
        self.generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(key.encode()))
        self.shape = shape

    def draw(self, size: int, like: Tensor) -> Tensor:
        amount = torch.rand(*self.shape, size, generator=self.generator)
        amount[:, 1] += 1
        sign = torch.randint(2, amount.shape, generator=self.generator) * 2 - 1
        return (amount * sign).to(like)


def _moved(boxes: Float[Tensor, "*n 4"], noise: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Boxes whose corners move by shares of half a side, inside the unit square."""
    half = boxes[..., 2:] / 2
    low = (boxes[..., :2] - half + noise[..., :2] * half).clamp(0, 1)
    high = (boxes[..., :2] + half + noise[..., 2:] * half).clamp(0, 1)
    return torch.cat(((low + high) / 2, (high - low).abs()), -1)


def _logit(share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    return share.clamp(_LOGIT_EPS, 1 - _LOGIT_EPS).logit()


def _who_is_who(people: list[int], groups: int, device: torch.device) -> NoisyLabels:
    """Where the queries of each person of the batch are: group by group, all people of the batch in order."""
    room = max([1, *people])
    image = torch.tensor([i for i, count in enumerate(people) for _ in range(count)], dtype=torch.int64)
    place = torch.tensor([k for count in people for k in range(count)], dtype=torch.int64)
    group = torch.arange(groups)[:, None] * 2 * room
    slot = (group + place).flatten()
    every = image.repeat(groups)
    person = torch.arange(len(image)).repeat(groups)
    every, slot, person = every.to(device), slot.to(device), person.to(device)
    return NoisyLabels(every, slot, person, slot + room, groups)
