"""The single errors that make up the loss, each per person, pair or cell; averages and masks are the criterion's.

Formulas: paper section 3.3.2 (Eq. 4 to 6) and spec facts 2, which fill in what the paper leaves open.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.mahmr.heads import axis_angles

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2
OVERESTIMATED_FOV = 3.0
"""Eq. 4: how much more a field of view counts that is too large."""

_EPS_IOU, _EPS_DEPTH = 1e-6, 1e-8


def focal(logits: Float[Tensor, "*n"], positive: Bool[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Focal loss (alpha 0.25, gamma 2) of probabilities given before their sigmoid."""
    right = torch.where(positive, logits, -logits)
    wrong_share = (-right).sigmoid()
    alpha = torch.where(positive, FOCAL_ALPHA, 1 - FOCAL_ALPHA).to(logits)
    return alpha * wrong_share**FOCAL_GAMMA * -F.logsigmoid(right)


def generalised_iou(a: Float[Tensor, "*#n 4"], b: Float[Tensor, "*#n 4"]) -> Float[Tensor, "*n"]:
    """Generalised IoU (Rezatofighi et al. 2019) of boxes given by centre and size, element by element."""
    low_a, high_a = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    low_b, high_b = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    shared = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    hull = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1)
    return shared / (union + _EPS_IOU) - (hull - union) / (hull + _EPS_IOU)


def axis_angle_error(predicted: Float[Tensor, "*#n J 3 3"], true: Float[Tensor, "*#n J 3 3"]) -> Float[Tensor, "*n"]:
    """Mean absolute difference of axis-angle vectors, radians; it jumps where an angle passes half a turn."""
    return (axis_angles(predicted) - axis_angles(true)).abs().mean((-2, -1))


def rotation_error(predicted: Float[Tensor, "*#n J 3 3"], true: Float[Tensor, "*#n J 3 3"]) -> Float[Tensor, "*n"]:
    """Mean absolute difference of rotation matrices' entries."""
    return (predicted - true).abs().mean((-3, -2, -1))


def shape_error(
    predicted: Float[Tensor, "*#n S"], true: Float[Tensor, "*#n S"], weights: Float[Tensor, "*#n S"]
) -> Float[Tensor, "*n"]:
    """Mean over all shape parameters of their weighted absolute errors."""
    return ((predicted - true).abs() * weights).mean(-1)


def joint_error(
    predicted: Float[Tensor, "*#n P D"], true: Float[Tensor, "*#n P D"], mask: Bool[Tensor, "*#n P"], over_all: bool
) -> Float[Tensor, "*n"]:
    """Mean absolute error per coordinate over the joints of the mask; ``over_all``: divided by the number of all."""
    error = torch.where(mask[..., None], (predicted - true).abs(), 0.0).mean(-1).sum(-1)
    return error / (mask.shape[-1] if over_all else mask.sum(-1).clamp(min=1))


def inverse_depth_error(predicted_m: Float[Tensor, "*#n"], true_m: Float[Tensor, "*#n"]) -> Float[Tensor, "*n"]:
    """Absolute difference of inverse depths, 1/metres."""
    return (1 / (predicted_m + _EPS_DEPTH) - 1 / (true_m + _EPS_DEPTH)).abs()


def relative_metric_error(
    predicted_m: Float[Tensor, "L N"], true_m: Float[Tensor, " N"], pairs: Int[Tensor, "M 2"]
) -> Float[Tensor, "L M"]:
    """Eq. 5: log(1 + |error of the depth difference|) of pairs of people."""
    i, j = pairs.unbind(1)
    return torch.log1p((_apart(predicted_m, pairs) - (true_m[j] - true_m[i])).abs())


def layer_order_error(
    predicted_m: Float[Tensor, "L N"], layers: Int[Tensor, " N"], pairs: Int[Tensor, "M 2"]
) -> Float[Tensor, "L M"]:
    """BEV's ordering loss: pairs of one layer cost their distance, others log(1 + e^x), x their wrong distance."""
    i, j = pairs.unbind(1)
    apart = _apart(predicted_m, pairs)
    order = (layers[i] - layers[j]).sign()  # 1: j is the nearer one
    return torch.where(order == 0, apart.abs(), F.softplus(apart * order))


def _apart(depth_m: Float[Tensor, "L N"], pairs: Int[Tensor, "M 2"]) -> Float[Tensor, "L M"]:
    """How much farther the second is. Gradients are added in a fixed order (index_select), which indexing does not."""
    first, second = (depth_m.index_select(1, each) for each in pairs.unbind(1))
    return second - first


def fov_error(predicted: Float[Tensor, " B"], true: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Eq. 4: squared error of the vertical field of view, radians; three times as much where it is too large."""
    error = predicted - true
    return torch.where(error > 0, OVERESTIMATED_FOV, 1.0).to(error) * error**2


def pairs_of_images(image: Int[Tensor, " N"], allowed: Bool[Tensor, " N"]) -> Int[Tensor, "M 2"]:
    """All pairs i < j of allowed people in the same image."""
    index = torch.arange(len(image), device=image.device)
    together = (image[:, None] == image) & allowed[:, None] & allowed & (index[:, None] < index)
    return together.nonzero()
