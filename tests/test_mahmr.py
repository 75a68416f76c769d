"""The parts of MA-HMR by their rules: analytic answers, textbook forms, independence of the batch."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crowdmesh.body import load_body
from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMR, MAHMRConfig
from crowdmesh.mahmr.attention import Block, dense_attention, ragged_attention
from crowdmesh.mahmr.decoder import CrossAttention
from crowdmesh.mahmr.encoder import Cells
from crowdmesh.mahmr.heads import rotations_of_6d
from crowdmesh.mahmr.projection import LEAST_FOV, MOST_FOV, focal_of_fov, metric_translation, project
from crowdmesh.mahmr.tokens import morton_cells, sine_code, sine_code_2d


def tiny(size: int = 112, seed: int = 0, **changes) -> MAHMR:
    """A small network whose every parameter says something."""
    torch.manual_seed(seed)
    model = MAHMR(replace(MAHMRConfig.tiny(size), **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def noise(*sides: tuple[int, int], seed: int = 1) -> list[Tensor]:
    """Pictures of noise of these heights and widths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, height, width, generator=generator) for height, width in sides]


def flat_map(cells: int, covered: float, size: float) -> Tensor:
    return torch.tensor([[covered, size]]).repeat(cells, 1)


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_morton_order_of_four_by_four():
    first = [(0, 0), (0, 1), (1, 0), (1, 1)]
    corners = [(0, 0), (0, 2), (2, 0), (2, 2)]
    assert morton_cells(4, 4).tolist() == [[y + dy, x + dx] for y, x in corners for dy, dx in first]


@given(st.integers(1, 24), st.integers(1, 24))
def test_morton_order_visits_aligned_squares_one_after_the_other(half_height, half_width):
    cells = morton_cells(2 * half_height, 2 * half_width)
    groups = cells.view(-1, 4, 2)
    assert torch.equal(groups - groups[:, :1], torch.tensor([(0, 0), (0, 1), (1, 0), (1, 1)]).expand_as(groups))
    assert len({tuple(cell) for cell in cells.tolist()}) == 4 * half_height * half_width


def test_sine_code_by_hand():
    # Width 4: channels 0, 1 have wavelength 1, channels 2, 3 have 20^(2/4).
    angle = 2 * math.pi * 0.3
    slow = angle / math.sqrt(20)
    expected = torch.tensor([math.sin(angle), math.cos(angle), math.sin(slow), math.cos(slow)])
    torch.testing.assert_close(sine_code(torch.tensor(0.3), 4), expected)


def test_the_code_of_a_point_has_y_first():
    code = sine_code_2d(torch.tensor([0.2, 0.7]), 8)
    torch.testing.assert_close(code, torch.cat((sine_code(torch.tensor(0.7), 4), sine_code(torch.tensor(0.2), 4))))


def test_cells_are_cut_where_they_say():
    image = torch.arange(3 * 56 * 112, dtype=torch.float32).view(3, 56, 112)
    cells = Cells.of([image, image + 1e6])
    assert cells.image.tolist() == [0] * 8 + [1] * 8
    for pixels, (y, x) in zip(cells.pixels[:8], cells.yx[:8].tolist(), strict=True):
        assert torch.equal(pixels, image[:, 28 * y : 28 * y + 28, 28 * x : 28 * x + 28])
    assert torch.equal(cells.pixels[8:], cells.pixels[:8] + 1e6)


# --- attention ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99))
def test_ragged_attention_is_softmax_within_each_sequence(lengths, seed):
    q, k, v = torch.randn(3, sum(lengths), 2, 4, generator=torch.Generator().manual_seed(seed))
    expected = []
    for a, b, c in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True):
        weights = (torch.einsum("nhd,mhd->hnm", a, b) / 2).softmax(-1)
        expected.append(torch.einsum("hnm,mhd->nhd", weights, c))
    torch.testing.assert_close(ragged_attention(q, k, v, lengths), torch.cat(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_ragged_attention_on_cuda(dtype):
    lengths = [5, 1, 130, 64]
    q, k, v = torch.randn(3, sum(lengths), 3, 64, generator=torch.Generator().manual_seed(0))
    ours = ragged_attention(*(x.to("cuda", dtype) for x in (q, k, v)), lengths).float().cpu()
    torch.testing.assert_close(ours, ragged_attention(q, k, v, lengths), atol=2e-2, rtol=2e-2)


def test_masked_keys_are_not_seen():
    q, k, v = torch.randn(3, 2, 6, 2, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([True, True, False, True, False, False])
    expected = dense_attention(q, k[:, mask], v[:, mask])
    torch.testing.assert_close(dense_attention(q, k, v, mask.expand(2, 1, 1, 6)), expected)


def test_a_block_is_pre_norm_with_erf_gelu_and_layer_scale():
    torch.manual_seed(0)
    block = Block(8, 2, 32)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = 1e-2 * torch.randn(5, 8)  # small enough for the epsilon of the norm to count
    q, k, v = F.linear(F.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias, 1e-6), block.qkv.weight,
                       block.qkv.bias).view(5, 3, 2, 4).unbind(1)  # fmt: skip
    attended = torch.einsum("hnm,mhd->nhd", (torch.einsum("nhd,mhd->hnm", q, k) / 2).softmax(-1), v).flatten(1)
    y = x + block.scale1 * F.linear(attended, block.out.weight, block.out.bias)
    hidden = F.linear(F.layer_norm(y, (8,), block.norm2.weight, block.norm2.bias, 1e-6), block.expand.weight,
                      block.expand.bias)  # fmt: skip
    hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
    y = y + block.scale2 * F.linear(hidden, block.contract.weight, block.contract.bias)
    torch.testing.assert_close(block(x, dense_attention), y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", [True, False])
def test_cross_attention_is_that_of_the_textbook(first):
    """Keys and values projected token by token; queries and keys of content and position side by side in each head."""
    torch.manual_seed(0)
    width, heads, depth = 12, 3, 4
    cross = CrossAttention(width, heads, first)
    content, position, sine = torch.randn(3, 2, 5, width)
    memory, memory_position = torch.randn(2, 2, 7, width)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, depth)).transpose(1, 2)

    q, k = cross.query_content(content), cross.key_content(memory)
    if first:
        q, k = q + cross.query_position(position), k + cross.key_position(memory_position)
    q = torch.cat((split(q), split(cross.query_sine(sine))), -1)
    k = torch.cat((split(k), split(cross.key_position(memory_position))), -1)
    scores = (q @ k.mT / math.sqrt(2 * depth)).masked_fill(~mask[:, None, None], -torch.inf)
    expected = cross.out((scores.softmax(-1) @ split(cross.value(memory))).transpose(1, 2).flatten(2))
    ours = cross(content, position, sine, memory, memory_position, mask)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


# --- token selection ------------------------------------------------------------------------------------------------


def test_who_is_small_who_is_large_and_where_nobody_is():
    encoder = tiny().encoder
    people = torch.zeros(16, 2)
    people[0] = torch.tensor([0.31, 0.49])  # small
    people[1] = torch.tensor([0.31, 0.50])  # not small: the threshold itself does not count
    people[4] = torch.tensor([0.30, 0.10])  # not covered, for the same reason
    people[8:12] = torch.tensor([0.9, 0.9])
    chosen = encoder.select(people)
    assert chosen.fine.nonzero().flatten().tolist() == [0]
    assert chosen.base.nonzero().flatten().tolist() == [1, 2, 3, 8, 9, 10, 11]
    assert chosen.coarse.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    ("covered", "size", "tokens"), [(0.0, 0.0, 4), (1.0, 1.0, 16), (1.0, 0.1, 64)], ids=["nobody", "large", "small"]
)
def test_levels_of_a_uniform_map(covered, size, tokens):
    encoded = tiny().encoder(noise((112, 112)), flat_map(16, covered, size))
    assert encoded.lengths == [tokens]
    assert set(encoded.level.tolist()) == {{4: 2, 16: 1, 64: 0}[tokens]}
    side = math.isqrt(tokens)
    assert sorted(map(tuple, encoded.yx.tolist())) == [(y, x) for y in range(side) for x in range(side)]


def test_the_released_mistake_keeps_coarse_tokens_if_nothing_is_background():
    images, small = noise((112, 112)), flat_map(16, 1.0, 0.1)
    quirky = tiny(official_quirks=True)
    assert quirky.encoder(images, small).lengths == [64 + 16]
    # ... and a second image with background changes what the first one gets:
    both = quirky.encoder(noise((112, 112), (112, 112)), torch.cat((small, flat_map(16, 0.0, 0.0))))
    assert both.lengths == [64, 4]
    assert tiny().encoder(images, small).lengths == [64]


def test_an_image_does_not_depend_on_its_company():
    model = tiny()
    images = noise((112, 56), (56, 112), (112, 112), (56, 56))
    sizes = torch.tensor([(112, 50), (56, 112), (100, 112), (30, 56)])
    maps = [torch.rand(image.shape[1] * image.shape[2] // 784, 2) for image in images]
    maps[3] = flat_map(4, 0.0, 0.0)
    with torch.no_grad():
        together = model(images, sizes, torch.cat(maps))
        backwards = model(images[::-1], sizes.flip(0), torch.cat(maps[::-1]))
        for i, image in enumerate(images):
            alone = model([image], sizes[i : i + 1], maps[i])
            for name in ("poses", "boxes", "confidences", "translations", "vertical_fov", "vertices", "joints_2d"):
                one, many, back = (getattr(o, name) for o in (alone, together, backwards))
                torch.testing.assert_close(one[0], many[i], atol=1e-5 if name != "joints_2d" else 1e-3, rtol=1e-5)
                torch.testing.assert_close(back[3 - i], many[i], atol=1e-5 if name != "joints_2d" else 1e-3, rtol=1e-5)


def test_the_predicted_map_decides_unless_one_is_given():
    model = tiny()
    images = noise((112, 112))
    with torch.no_grad():
        predicted = model.encoder(images)
        torch.testing.assert_close(model.encoder(images, predicted.scale_map).tokens, predicted.tokens)
        assert model.encoder(images, flat_map(16, 1.0, 0.1)).lengths == [64]


# --- camera and place -----------------------------------------------------------------------------------------------


def test_a_known_field_of_view_replaces_the_predicted_one():
    model, images = tiny(), noise((112, 112), (112, 112))
    sizes = torch.tensor([(112, 112), (90, 112)])
    with torch.no_grad():
        free = model(images, sizes)
        known = model(images, sizes, vertical_fov=torch.tensor([math.nan, 1.2]))
    assert known.vertical_fov[0] == free.vertical_fov[0]
    assert known.vertical_fov[1].item() == pytest.approx(1.2)
    assert known.focal_px[1].item() == pytest.approx(45 / math.tan(0.6), rel=1e-6)
    # Depth is proportional to the focal length, the rest of the place does not change.
    ratio = known.focal_px / free.focal_px
    torch.testing.assert_close(known.translations[..., 2], free.translations[..., 2] * ratio[:, None])
    torch.testing.assert_close(known.translations[..., :2], free.translations[..., :2])


@pytest.mark.parametrize(
    ("raw", "expected"), [(0.5, 0.5), (2.9, 2.9), (0.01, LEAST_FOV), (-3.0, LEAST_FOV), (3.3, MOST_FOV)]
)
def test_the_field_of_view_is_bounded(raw, expected):
    model = tiny()
    torch.nn.init.zeros_(model.fov_head.layers[-1].weight)
    torch.nn.init.constant_(model.fov_head.layers[-1].bias, raw)
    fov, focal = model.field_of_view(torch.randn(1, model.config.width), torch.tensor([[80.0, 112.0]]))
    assert fov.item() == pytest.approx(expected)
    assert focal.item() > 0


def test_without_the_head_sixty_degrees_over_the_canvas():
    model = tiny(fov=False)
    fov, focal = model.field_of_view(torch.zeros(1, model.config.width), torch.tensor([[80.0, 112.0]]))
    assert focal.item() == pytest.approx(56 / math.tan(math.radians(30)), rel=1e-6)
    assert fov.item() == pytest.approx(2 * math.atan(40 / focal.item()), rel=1e-6)


@given(st.floats(-60, 60), st.floats(50, 2000))
def test_nobody_is_nearer_than_the_focal_length_over_the_input_size(s, focal):
    placed = metric_translation(torch.tensor([0.3, -0.2, s]), torch.tensor(focal), 1288)
    assert torch.isfinite(placed).all()
    assert placed[2].item() >= focal / 1288 * (1 - 1e-5)


def test_place_by_hand():
    placed = metric_translation(torch.tensor([[0.5, -0.25, 0.0]]), torch.tensor([644.0]), 1288)
    torch.testing.assert_close(placed, torch.tensor([[0.5, -0.25, 1.0]]), atol=2e-6, rtol=0)
    pixels = project(torch.tensor([[[0.5, -0.25, 2.0]]]), torch.tensor([100.0]), torch.tensor([[40.0, 60.0]]))
    torch.testing.assert_close(pixels, torch.tensor([[[55.0, 7.5]]]), atol=1e-4, rtol=0)
    assert focal_of_fov(torch.tensor([math.pi / 2]), torch.tensor([40.0])).item() == pytest.approx(20.0)


# --- people ---------------------------------------------------------------------------------------------------------


def test_six_numbers_are_two_columns_read_row_by_row():
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    values = torch.stack((2 * turn[:, 0], turn[:, 1] + 0.7 * turn[:, 0]), 1).flatten()  # x0 y0 x1 y1 x2 y2
    torch.testing.assert_close(rotations_of_6d(values)[0], turn)


@given(st.integers(0, 10_000))
def test_six_numbers_always_give_a_rotation(seed):
    rotations = rotations_of_6d(torch.randn(4, 12, generator=torch.Generator().manual_seed(seed)))
    assert rotations.shape == (4, 2, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(4, 2, 3, 3), atol=1e-4, rtol=0)
    assert (torch.linalg.det(rotations) > 0.99).all()


def test_a_network_that_learned_nothing_sees_people_who_stand():
    torch.manual_seed(0)
    model = MAHMR(MAHMRConfig.tiny(112)).eval()
    with torch.no_grad():
        posed, betas = model.people(torch.zeros(3, 2, model.config.width))
        rotations = model.all_joints(posed)
    body = load_body("anny")
    upright = torch.eye(3).repeat(2, len(body.joint_names), 1, 1)
    upright[:, 0] = torch.from_numpy(body.facing_camera).float()
    torch.testing.assert_close(rotations, upright, atol=0.1, rtol=0)
    torch.testing.assert_close(betas, torch.tensor([[p.default for p in body.shape_params]] * 2), atol=0.05, rtol=0)


def test_pose_and_shape_add_up_over_layers():
    model = tiny()
    hidden = torch.randn(3, 1, model.config.width)
    with torch.no_grad():
        poses, shapes = model.heads.poses_6d(hidden), model.heads.shapes(hidden)
        for heads, values, mean in (
            (model.heads.pose, poses, model.heads.mean_pose),
            (model.heads.shape, shapes, model.heads.mean_shape),
        ):
            for layer in range(3):
                steps = [head(state) for head, state in zip(heads, hidden, strict=True)][: layer + 1]
                torch.testing.assert_close(values[layer], mean + sum(steps))


def test_joints_that_are_not_predicted_stay_at_rest():
    model = tiny()
    posed = torch.zeros(1, len(model.config.posed_joints), 3, 3)
    rotations = model.all_joints(posed)[0]
    at_rest = [name for name, r in zip(model.body.joint_names, rotations, strict=True) if torch.equal(r, torch.eye(3))]
    assert at_rest
    assert all(name.startswith(("finger", "metacarpal", "toe", "eye")) for name in at_rest)


# --- training -------------------------------------------------------------------------------------------------------


def test_gradients_reach_every_parameter_that_matters():
    model = tiny()
    some_of_each = torch.tensor([(1.0, 0.1), (1.0, 0.9), (0.0, 0.0)]).repeat_interleave(8, 0)
    encoded = model.encoder(noise((112, 112), (56, 112)), some_of_each)
    decoded = model.decode(encoded)
    fov, focal = model.field_of_view(encoded.camera, torch.full((2, 2), 112.0))
    rotations, betas = model.people(decoded.hidden)
    places, sure = model.translations(decoded.hidden[-1], focal), model.confidences(decoded.hidden[-1])
    loss = sum(v.square().mean() for v in (rotations[..., :2], betas, places, sure, fov, encoded.scale_map))
    loss = loss + decoded.boxes.square().mean()
    loss.backward()
    unused = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    keys = {
        f"decoder.layers.{i}.cross_attention.{key}.bias"
        for i in range(model.config.decoder_depth)
        for key in ("key_content", "key_position")
    }  # a constant added to all scores of a query
    assert unused == keys


def test_boxes_look_forward_twice():
    """The box of a layer teaches the layer before; the anchor that goes on does not."""
    model = tiny()
    memory, position = torch.randn(2, 1, 9, model.config.width)
    decoded = model.decoder(memory, position)
    heads = [head.layers[-1].weight for head in model.decoder.box_heads]
    before, own = torch.autograd.grad(decoded.boxes[1].sum(), heads[:2], retain_graph=True)
    assert before.abs().sum() > 0 and own.abs().sum() > 0
    (first,) = torch.autograd.grad(decoded.references[2].sum(), heads[:1], allow_unused=True)
    assert first is None or first.abs().sum() == 0
    torch.testing.assert_close(decoded.boxes[:-1], decoded.references[1:])


def test_other_queries_with_a_mask_leave_the_learned_ones_as_they_are():
    """As denoising needs it: additional queries that the learned ones do not see."""
    model = tiny()
    memory, position = torch.randn(2, 1, 9, model.config.width)
    learned = model.decoder(memory, position)
    count = model.config.queries
    content = torch.cat((torch.randn(1, 4, model.config.width), model.decoder.content[None]), 1)
    anchors = torch.cat((torch.randn(1, 4, 4), model.decoder.anchors[None]), 1)
    mask = torch.ones(count + 4, count + 4, dtype=torch.bool)
    mask[4:, :4] = False
    more = model.decoder(memory, position, None, content, anchors, mask)
    torch.testing.assert_close(more.hidden[:, :, 4:], learned.hidden, atol=1e-5, rtol=1e-5)


# --- configurations and bad input -----------------------------------------------------------------------------------


def test_the_tiny_network_is_tiny():
    assert sum(p.numel() for p in tiny(448).parameters()) < 10_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": 644}, "multiple of 56"),
        ({"input_size": 0}, "between 1 and"),
        ({"body": "smplx"}, "unknown body"),
        ({"width": 770}, "must be a multiple of 4"),
        ({"early_depth": 13}, "more than depth"),
        ({"queries": 0}, "queries must lie between 1 and"),
        ({"depth": 10**9}, "depth must lie between 1 and 256"),
        ({"posed_joints": ()}, "posed_joints"),
    ],
)
def test_impossible_configurations(change, message):
    with pytest.raises(InputError, match=message):
        replace(MAHMRConfig(), **change)


def test_configurations_survive_json():
    import json

    for config in (MAHMRConfig.official(), MAHMRConfig.tiny(), MAHMRConfig.anny(672, map_threshold=0.25)):
        assert MAHMRConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(InputError, match="colour"):
        MAHMRConfig.from_dict(MAHMRConfig().to_dict() | {"colour": 1})
    with pytest.raises(InputError, match="depth of a MA-HMR configuration must be int"):
        MAHMRConfig.from_dict(MAHMRConfig().to_dict() | {"depth": "12"})


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image"),
        ([torch.zeros(3, 100, 112)], "multiples of 56"),
        ([torch.zeros(3, 168, 112)], "at most 112"),
        ([torch.zeros(1, 112, 112)], r"must be \(3, height, width\)"),
        ([torch.zeros(3, 0, 112)], r"must be \(3, height, width\)"),
    ],
)
def test_batches_the_network_cannot_take(unchecked, images, message):
    with pytest.raises(InputError, match=message):
        tiny()(images, torch.tensor([(112, 112)] * len(images)))


def test_a_body_must_fit_the_configuration():
    with pytest.raises(InputError, match="speaks of body 'smpl'"):
        MAHMR(MAHMRConfig.official(112), load_body("anny"))
    with pytest.raises(InputError, match="7 shape parameters"):
        tiny(num_betas=7)
    with pytest.raises(InputError, match="no joint tail"):
        tiny(posed_joints=("root", "tail"))
