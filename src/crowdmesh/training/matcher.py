"""Which query stands for whom: the cheapest assignment, per decoder layer and image (spec facts 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.loss_terms import generalised_iou

_LOG_EPS, _COUNT_EPS = 1e-8, 1e-6
_NEVER = 1e6  # what a cost that is not a number counts as; the loss then is no number either, and names the image


@torch.no_grad()
def costs(
    confidences: Float[Tensor, "L Q"],
    boxes: Float[Tensor, "L Q 4"],
    joints_2d: Float[Tensor, "L Q P 2"],
    true_boxes: Float[Tensor, "K 4"],
    has_box: Bool[Tensor, " K"],
    true_joints_2d: Float[Tensor, "K P 2"],
    mask: Bool[Tensor, "K P"],
    input_size: int,
    config: LossConfig,
) -> Float[Tensor, "L Q K"]:
    """Cost of every query for every person of one image.

    The focal loss of the confidence, the boxes' absolute and generalised IoU errors, and the mean absolute error of
    the first visible joints over ``input_size``; people without a box are told apart by the others alone.

    Args:
        confidences: probabilities. boxes: shares of ``input_size``. joints_2d: pixels.
    """
    first = slice(config.match_joints)
    sure = 0.25 * (1 - confidences) ** 2 * -(confidences + _LOG_EPS).log()
    box = (boxes[:, :, None] - true_boxes).abs().sum(-1) * has_box
    iou = generalised_iou(boxes[:, :, None], true_boxes[None, None]) * has_box
    seen = mask[:, first, None].to(boxes).expand(-1, -1, 2).flatten(1)
    wanted, given = (true_joints_2d[:, first].flatten(1) / input_size, joints_2d[:, :, first].flatten(2) / input_size)
    apart = ((given[:, :, None] - wanted).abs() * seen).sum(-1) / (seen.sum(-1) + _COUNT_EPS)
    return (
        config.cost_detection * sure[..., None]
        + config.cost_box * box
        - config.cost_giou * iou
        + config.cost_joints * apart
    )


def assign(
    costs_of_images: Sequence[Float[Tensor, "L Q _"]], layers: int, device: torch.device
) -> tuple[Int[Tensor, "L N"], Bool[Tensor, "L N"]]:
    """Query of each of the N people of all images, per layer, and whether there was one left (with K > Q people).

    Args:
        costs_of_images: per image, of its K people.
    """
    queries, found = [], []
    for cost in costs_of_images:
        people = cost.shape[2]
        query = torch.zeros(layers, people, dtype=torch.int64)
        got = torch.zeros(layers, people, dtype=torch.bool)
        for layer, table in enumerate(cost.nan_to_num(_NEVER, _NEVER, _NEVER).cpu().numpy()):
            rows, columns = linear_sum_assignment(table)
            query[layer, columns] = torch.from_numpy(rows)
            got[layer, columns] = True
        queries.append(query)
        found.append(got)
    return torch.cat(queries, 1).to(device), torch.cat(found, 1).to(device)
