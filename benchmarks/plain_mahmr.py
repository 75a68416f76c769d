"""MA-HMR computed plainly, the way the release does: what the package's network is timed against and compared with.

Functions of a state dict in the released layout; no module of the package but the body model. Everything the release
computes is computed: every cell of level 1, attention image by image, keys of content and of position projected anew
in every decoder layer, the pose and shape heads of all six layers for all fifty queries, rotations from matrix to
axis-angle and back, and the surface of all fifty. It is not slowed down on purpose: one call a layer, no copies that
the formulas do not ask for, and the position embedding of level 1 is resized once (:func:`prepared`), as the release
caches it.

Written from the facts of the network (spec 1.1 - 1.7); names of steps and levels as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import roma
import torch
import torch.nn.functional as F
from torch import Tensor

from crowdmesh.body import SMPL

Weights = dict[str, Tensor]

PATCH, WIDTH, HEADS, DECODER_HEADS = 14, 768, 12, 4
EARLY, BLOCKS, DECODER_LAYERS = 3, 12, 6
PERSON, SMALL = 0.3, 0.5
LEAST_FOV = 0.08
TEMPERATURE = 20.0
SURFACE_JOINTS = (
    332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787, 2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905,
    6016, 6133,
)  # fmt: skip
_LEVEL1_POSITIONS = "level 1 positions"


@dataclass(frozen=True)
class Tokens:
    """The selected tokens of one image: features (n, 768), level (n,), centre (n, 2) as (y, x) in canvas units."""

    features: Tensor
    level: Tensor
    centre: Tensor


@dataclass(frozen=True)
class Encoded:
    """What the encoder says: per-image lists, the camera token first in ``entering`` (block 3) and ``leaving``."""

    scale_map: Tensor
    tokens: list[Tokens]
    entering: list[Tensor]
    leaving: list[Tensor]


@dataclass(frozen=True)
class PlainOutput:
    """Every output of B images and Q queries; metres, radians, pixels of the canvas; names as in the package."""

    poses: Tensor
    betas: Tensor
    boxes: Tensor
    confidences: Tensor
    translations: Tensor
    vertical_fov: Tensor
    focal_px: Tensor
    joints_3d: Tensor
    joints_2d: Tensor
    vertices: Tensor
    scale_map: Tensor
    token_lengths: list[int]
    hidden_states: Tensor
    references: Tensor
    pose_6d: Tensor
    camera: Tensor
    encoded: Encoded
    normed: list[Tensor]
    memory: list[Tensor]
    memory_positions: list[Tensor]


def prepared(weights: Weights) -> Weights:
    """The state dict with the position embedding of level 1 beside it: bicubic to half the size."""
    fine = weights["encoder_pos_embeds"].permute(2, 0, 1)[None]
    size = (fine.shape[2] // 2, fine.shape[3] // 2)
    coarse = F.interpolate(fine, size=size, mode="bicubic", align_corners=False)
    return weights | {_LEVEL1_POSITIONS: coarse[0].permute(1, 2, 0).contiguous()}


@torch.no_grad()
def forward(
    weights: Weights,
    images: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    body: SMPL,
    input_size: int,
    scale_map: Tensor | None = None,
) -> PlainOutput:
    """All outputs of a batch.

    Args:
        weights: a state dict in the released layout, through :func:`prepared`.
        images: per image (3, H, W), normalised and padded to multiples of 56.
        sizes: (h, w) of each image before padding, pixels.
        body: SMPL with the kid axis.
        input_size: side of the square canvas.
        scale_map: (cells, 2) in the order of the level 1 tokens, images after each other, in place of the predicted.
    """
    encoded = encode(weights, images, scale_map)
    camera_tokens = torch.stack([rows[0] for rows in encoded.leaving])
    normed = [norm(weights, "encoder.norm", rows[1:], 1e-6) for rows in encoded.leaving]
    memory = [linear(weights, "feature_proj", rows) for rows in normed]
    positions = [sine(tokens.centre) + weights["level_embed"][tokens.level] for tokens in encoded.tokens]
    states, references, boxes = decode(weights, memory, positions)

    pose_6d, betas = weights["mean_pose"], weights["mean_shape"]
    for layer in range(DECODER_LAYERS):
        pose_6d = pose_6d + mlp(weights, f"pose_head.{layer}", states[layer])
        betas = betas + mlp(weights, f"shape_head.{layer}", states[layer])
    poses = roma.rotmat_to_rotvec(rotations(pose_6d))
    camera = mlp(weights, "cam_head", states[-1])
    fov = mlp(weights, "fov_head", camera_tokens).clamp(min=LEAST_FOV)[:, 0]
    size = torch.tensor(sizes, dtype=torch.float32)
    focal = size[:, 0] / (2 * torch.tan(fov / 2))
    scale = 2 * torch.sigmoid(camera[..., 2]) + 1e-6
    translation = torch.stack(
        (camera[..., 0] / scale, camera[..., 1] / scale, 2 * focal[:, None] / (scale * input_size)), -1
    )
    surface = body(betas.flatten(0, 1), roma.rotvec_to_rotmat(poses).flatten(0, 1), translation.flatten(0, 1))
    assert surface.vertices is not None
    joints = torch.cat((surface.joints, surface.vertices[:, SURFACE_JOINTS]), 1).unflatten(0, poses.shape[:2])
    return PlainOutput(
        poses=poses.flatten(2),
        betas=betas,
        boxes=boxes,
        confidences=torch.sigmoid(linear(weights, "conf_head", states[-1])),
        translations=translation,
        vertical_fov=fov,
        focal_px=focal,
        joints_3d=joints,
        joints_2d=project(joints, focal, size),
        vertices=surface.vertices.unflatten(0, poses.shape[:2]),
        scale_map=encoded.scale_map,
        token_lengths=[len(rows) for rows in memory],
        hidden_states=states,
        references=references,
        pose_6d=pose_6d,
        camera=camera,
        encoded=encoded,
        normed=normed,
        memory=memory,
        memory_positions=positions,
    )


def encode(weights: Weights, images: Sequence[Tensor], scale_map: Tensor | None) -> Encoded:
    """From pixels to the tokens that leave block 11."""
    cells = [morton_order(image.shape[1] // 28, image.shape[2] // 28) for image in images]
    token = weights["encoder_cr_token"]
    level1 = [torch.cat((token, level1_tokens(weights, *pair))) for pair in zip(images, cells, strict=True)]
    for block in range(EARLY):
        level1 = transformer_block(weights, f"encoder.additional_blocks.{block}", level1)
    rows = torch.cat([one[1:] for one in level1])
    predicted = torch.sigmoid(mlp(weights, "scale_head", norm(weights, "enc_inter_norm", rows, 1e-6)))
    maps = (predicted if scale_map is None else scale_map).split([len(one) for one in cells])

    valid = [one[:, 0] > PERSON for one in maps]
    small = [mask & (one[:, 1] < SMALL) for mask, one in zip(valid, maps, strict=True)]
    level0 = [
        torch.cat((token, level0_tokens(weights, image, order[mask])))
        for image, order, mask in zip(images, cells, small, strict=True)
    ]
    for block in range(EARLY):
        level0 = transformer_block(weights, f"encoder.blocks.{block}", level0)

    canvas = weights["encoder_pos_embeds"].shape[0]
    tokens = [
        select(*one, canvas)
        for one in zip([r[1:] for r in level0], [r[1:] for r in level1], cells, valid, small, strict=True)
    ]
    entering = [torch.cat((first[:1], one.features)) for first, one in zip(level1, tokens, strict=True)]
    leaving = entering
    for block in range(EARLY, BLOCKS):
        leaving = transformer_block(weights, f"encoder.blocks.{block}", leaving)
    return Encoded(predicted, tokens, entering, leaving)


def morton_order(rows: int, columns: int) -> Tensor:
    """Cells (n, 2) as (y, x) by interleaved bits: x in the even places, y in the odd ones."""
    y, x = (grid.flatten() for grid in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    key = torch.zeros_like(x)
    for bit in range(8):
        key |= ((x >> bit) & 1) << (2 * bit) | ((y >> bit) & 1) << (2 * bit + 1)
    order = key.argsort(stable=True)
    return torch.stack((y[order], x[order]), 1)


def level1_tokens(weights: Weights, image: Tensor, cells: Tensor) -> Tensor:
    """Tokens (n, 768) of all cells of 28 pixels: the image at half size, projected, with its position."""
    half = F.interpolate(image[None], scale_factor=0.5, mode="bilinear", align_corners=False)
    y, x = cells.unbind(1)
    return patches(weights, 1, half)[0, :, y, x].T + weights[_LEVEL1_POSITIONS][y, x]


def level0_tokens(weights: Weights, image: Tensor, cells: Tensor) -> Tensor:
    """Four tokens at full resolution for each of some cells: (4n, 768), rows of a cell before columns."""
    if not len(cells):
        return image.new_zeros(0, WIDTH)
    blocks = torch.stack([image[:, 28 * y : 28 * y + 28, 28 * x : 28 * x + 28] for y, x in cells.tolist()])
    y, x = quarters(cells).unbind(1)
    return patches(weights, 0, blocks).flatten(2).transpose(1, 2).flatten(0, 1) + weights["encoder_pos_embeds"][y, x]


def patches(weights: Weights, level: int, pictures: Tensor) -> Tensor:
    """Patches of 14 pixels, projected: (n, 768, rows, columns)."""
    name = f"encoder_patch_proj.{level}"
    return F.conv2d(pictures, weights[name + ".weight"], weights[name + ".bias"], stride=PATCH)


def quarters(cells: Tensor) -> Tensor:
    """The four cells of the finer level inside each cell: (4n, 2)."""
    steps = torch.tensor([(0, 0), (0, 1), (1, 0), (1, 1)])
    return (2 * cells[:, None] + steps).flatten(0, 1)


def select(level0: Tensor, level1: Tensor, cells: Tensor, valid: Tensor, small: Tensor, canvas: int) -> Tokens:
    """The tokens that go on: fine ones of small people, level 1 near large ones, one for four cells of background."""
    group_valid = valid.view(-1, 4).any(1)
    kept = group_valid.repeat_interleave(4) & ~small
    background = level1.view(-1, 4, WIDTH)[~group_valid].amax(1)
    places = (quarters(cells[small]), cells[kept], cells[::4][~group_valid] // 2)
    centre = torch.cat([(place + 0.5) / (canvas / 2**level) for level, place in enumerate(places)])
    level = torch.repeat_interleave(torch.arange(3), torch.tensor([len(place) for place in places]))
    return Tokens(torch.cat((level0, level1[kept], background)), level, centre)


def transformer_block(weights: Weights, name: str, sequences: list[Tensor]) -> list[Tensor]:
    """A block of the vision transformer over ragged sequences: linear layers over all, attention image by image."""
    lengths = [len(rows) for rows in sequences]
    rows = torch.cat(sequences)
    query, key, value = linear(weights, name + ".attn.qkv", norm(weights, name + ".norm1", rows, 1e-6)).chunk(3, -1)
    split = ([heads(part[None], HEADS) for part in whole.split(lengths)] for whole in (query, key, value))
    attended = torch.cat([merge(F.scaled_dot_product_attention(*one))[0] for one in zip(*split, strict=True)])
    rows = rows + weights[name + ".ls1.gamma"] * linear(weights, name + ".attn.proj", attended)
    hidden = F.gelu(linear(weights, name + ".mlp.fc1", norm(weights, name + ".norm2", rows, 1e-6)))
    rows = rows + weights[name + ".ls2.gamma"] * linear(weights, name + ".mlp.fc2", hidden)
    return list(rows.split(lengths))


def decode(weights: Weights, memory: list[Tensor], positions: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries over the memory: normed states (6, B, Q, 768), anchors entering each layer (6, B, Q, 4), last boxes."""
    content = weights["tgt_embed.weight"].expand(len(memory), -1, -1)
    anchor = torch.sigmoid(weights["refpoint_embed.weight"]).expand(len(memory), -1, -1)
    states, anchors = [], []
    for layer in range(DECODER_LAYERS):
        anchors.append(anchor)
        content = decoder_layer(weights, layer, content, anchor, memory, positions)
        states.append(norm(weights, "decoder.decoder.norm", content, 1e-5))
        anchor = torch.sigmoid(mlp(weights, f"bbox_embed.{layer}", states[-1]) + torch.logit(anchor, 1e-5))
    return torch.stack(states), torch.stack(anchors), anchor


def decoder_layer(
    weights: Weights, layer: int, content: Tensor, anchor: Tensor, memory: list[Tensor], positions: list[Tensor]
) -> Tensor:
    """One decoder layer, pre-norm: attention among the queries, to the memory, and the feed-forward part."""
    root, name = "decoder.decoder", f"decoder.decoder.layers.{layer}"

    def project(part: str, rows: Tensor) -> Tensor:
        return linear(weights, f"{name}.{part}_proj", rows)

    centre, extent = sine(anchor[..., [1, 0]]), sine(anchor[..., [3, 2]])
    query_position = mlp(weights, f"{root}.ref_point_head", torch.cat((centre, extent), -1))
    reach = centre if layer == 0 else centre * mlp(weights, f"{root}.query_scale", content)
    ratio = torch.sigmoid(mlp(weights, f"{root}.ref_anchor_head", content)) / anchor[..., 2:]
    reach = reach * ratio[..., [1, 0]].repeat_interleave(WIDTH // 2, -1)

    rows = norm(weights, name + ".norm1", content, 1e-5)
    query = heads(project("sa_qcontent", rows) + project("sa_qpos", query_position))
    key = heads(project("sa_kcontent", rows) + project("sa_kpos", query_position))
    attended = F.scaled_dot_product_attention(query, key, heads(project("sa_v", rows)))
    content = content + project("sa_out", merge(attended))

    rows = norm(weights, name + ".norm2", content, 1e-5)
    query = project("ca_qcontent", rows)
    if layer == 0:
        query = query + project("ca_qpos", query_position)
    query = torch.cat((heads(query), heads(project("ca_qpos_sine", reach))), -1)
    attended = []
    for one, seen, place in zip(query.split(1), memory, positions, strict=True):
        seen = seen[None]
        key, key_position = project("ca_kcontent", seen), project("ca_kpos", place[None])
        key = key + key_position if layer == 0 else key
        key = torch.cat((heads(key), heads(key_position)), -1)
        attended.append(merge(F.scaled_dot_product_attention(one, key, heads(project("ca_v", seen)))))
    content = content + project("ca_out", torch.cat(attended))

    hidden = F.relu(linear(weights, name + ".linear1", norm(weights, name + ".norm3", content, 1e-5)))
    return content + linear(weights, name + ".linear2", hidden)


def sine(pairs: Tensor) -> Tensor:
    """Sine code (..., 768) of pairs (..., 2) in canvas units, half of it for each; y or height comes first."""
    index = torch.arange(WIDTH // 4, dtype=torch.float32)
    angles = 2 * pi * pairs[..., None] / TEMPERATURE ** (2 * index / (WIDTH // 2))
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(-3)


def rotations(pose_6d: Tensor) -> Tensor:
    """Rotation matrices (..., 24, 3, 3) from (..., 144): two columns per joint, made orthonormal."""
    first, second = pose_6d.unflatten(-1, (24, 3, 2)).unbind(-1)
    first = F.normalize(first, dim=-1)
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), -1)


def project(points: Tensor, focal: Tensor, size: Tensor) -> Tensor:
    """Pixels (B, Q, J, 2) of points (B, Q, J, 3): principal point in the middle of the unpadded image."""
    middle = size.flip(1)[:, None, None] / 2
    return points[..., :2] * focal[:, None, None, None] / (points[..., 2:] + 1e-6) + middle


def heads(rows: Tensor, count: int = DECODER_HEADS) -> Tensor:
    """(..., n, 768) to (..., heads, n, 768 / heads)."""
    return rows.unflatten(-1, (count, -1)).transpose(-2, -3)


def merge(rows: Tensor) -> Tensor:
    """The opposite of :func:`heads`."""
    return rows.transpose(-2, -3).flatten(-2)


def linear(weights: Weights, name: str, rows: Tensor) -> Tensor:
    """A linear layer by its name."""
    return F.linear(rows, weights[name + ".weight"], weights[name + ".bias"])


def norm(weights: Weights, name: str, rows: Tensor, eps: float) -> Tensor:
    """A layer norm by its name."""
    return F.layer_norm(rows, (WIDTH,), weights[name + ".weight"], weights[name + ".bias"], eps)


def mlp(weights: Weights, name: str, rows: Tensor) -> Tensor:
    """Linear layers ``NAME.layers.0`` and on, ReLU between them."""
    count = next(i for i in range(1, 100) if f"{name}.layers.{i}.weight" not in weights)
    for layer in range(count):
        rows = linear(weights, f"{name}.layers.{layer}", rows)
        rows = F.relu(rows) if layer < count - 1 else rows
    return rows
