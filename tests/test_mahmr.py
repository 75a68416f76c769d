"""The parts of MA-HMR by their rules: analytic answers, textbook forms, independence of the batch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small_mahmr import flat_map, noise, tiny
from torch import Tensor

from crowdmesh.mahmr.attention import Block, dense_attention, ragged_attention
from crowdmesh.mahmr.decoder import CrossAttention
from crowdmesh.mahmr.encoder import Cells
from crowdmesh.mahmr.tokens import morton_cells, sine_code, sine_code_2d

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
            for name in ("boxes", "confidences", "vertical_fov", "translations", "vertices", "hidden_states"):
                # Noisy heads place some people far away, where rounding is more than it is of states and boxes.
                tolerance = 1e-3 if name in ("translations", "vertices") else 1e-5
                one, many, back = (getattr(output, name) for output in (alone, together, backwards))
                if name == "hidden_states":
                    one, many, back = (states.transpose(0, 1) for states in (one, many, back))
                torch.testing.assert_close(one[0], many[i], atol=tolerance, rtol=1e-5)
                torch.testing.assert_close(back[3 - i], many[i], atol=tolerance, rtol=1e-5)


def test_the_predicted_map_decides_unless_one_is_given():
    model = tiny()
    images = noise((112, 112))
    with torch.no_grad():
        predicted = model.encoder(images)
        torch.testing.assert_close(model.encoder(images, predicted.scale_map).tokens, predicted.tokens)
        assert model.encoder(images, flat_map(16, 1.0, 0.1)).lengths == [64]


def test_a_coarse_token_is_the_maximum_of_four():
    encoder, entering = tiny().encoder, []
    encoder.blocks[encoder.config.early_depth].register_forward_pre_hook(lambda _, given: entering.append(given[0]))
    images = noise((112, 56))
    with torch.no_grad():
        encoder(images, flat_map(8, 0.0, 0.0))
        camera, base = encoder.see_roughly(Cells.of(images))
    torch.testing.assert_close(entering[0], torch.cat((camera, base.view(2, 4, -1).max(1).values)))


def test_positions_of_the_base_level_are_a_bicubic_half():
    """Half way between samples, Keys' kernel with a = -3/4 weighs four of them; at the border the last one repeats."""
    encoder = tiny().encoder
    rows = torch.tensor([-3.0, 19.0, 19.0, -3.0]) / 32
    along = torch.zeros(4, 8)
    for i in range(4):
        for weight, j in zip(rows, range(2 * i - 1, 2 * i + 3), strict=True):
            along[i, min(max(j, 0), 7)] += weight
    expected = torch.einsum("ay,bx,yxc->abc", along, along, encoder.position.detach())
    with torch.no_grad():
        torch.testing.assert_close(encoder.base_position(), expected, atol=1e-5, rtol=1e-5)


def test_positions_follow_the_weights():
    encoder = tiny().encoder
    with torch.no_grad():
        before = encoder.base_position().clone()
        encoder.position.mul_(2)
        torch.testing.assert_close(encoder.base_position(), 2 * before)


def test_the_base_level_sees_means_of_four_pixels_through_its_own_projection():
    encoder = tiny().encoder
    pixels = torch.randn(2, 3, 28, 28)
    projection = encoder.patch_projection[1]
    means = (pixels[..., ::2, ::2] + pixels[..., 1::2, ::2] + pixels[..., ::2, 1::2] + pixels[..., 1::2, 1::2]) / 4
    expected = projection(means)[:, :, 0, 0]
    with torch.no_grad():
        torch.testing.assert_close(encoder.base_tokens(pixels, torch.zeros(2, 192)), expected, atol=1e-5, rtol=1e-5)


def test_fine_tokens_are_the_four_quarters_of_a_cell():
    encoder = tiny().encoder
    pixels, projection = torch.randn(1, 3, 28, 28), encoder.patch_projection[0]
    with torch.no_grad():
        tokens, places = encoder.fine_tokens(pixels, torch.tensor([[1, 3]]))
        for token, (y, x) in zip(tokens, places.tolist(), strict=True):
            quarter = pixels[:, :, 14 * (y - 2) : 14 * (y - 1), 14 * (x - 6) : 14 * (x - 5)]
            expected = projection(quarter)[0, :, 0, 0] + encoder.position[y, x]
            torch.testing.assert_close(token, expected, atol=1e-5, rtol=1e-5)
    assert places.tolist() == [[2, 6], [2, 7], [3, 6], [3, 7]]


def test_the_camera_token_that_goes_on_has_seen_the_image_roughly():
    model, entering = tiny(), []
    late = model.encoder.blocks[model.config.early_depth]
    late.register_forward_pre_hook(lambda _, given: entering.append(given[0]))
    images = noise((112, 112))
    with torch.no_grad():
        model.encoder(images, flat_map(16, 1.0, 0.1))
        camera, _ = model.encoder.see_roughly(Cells.of(images))
    torch.testing.assert_close(entering[0][:1], camera)


def test_positions_tell_where_and_at_which_level():
    model = tiny()
    level, yx = torch.tensor([0, 1, 2]), torch.tensor([(3, 5), (1, 2), (1, 0)])
    centre = (yx + 0.5) / torch.tensor([8.0, 4.0, 2.0])[:, None]
    expected = sine_code_2d(centre.flip(-1), model.config.width) + model.level_embedding
    torch.testing.assert_close(model.position_codes(level, yx), expected)


def test_tokens_leave_normalised_and_the_camera_token_as_it_is():
    encoder, leaving = tiny().encoder, []
    encoder.blocks[-1].register_forward_hook(lambda _, given, result: leaving.append(result))
    with torch.no_grad():
        encoded = encoder(noise((112, 112)), flat_map(16, 1.0, 1.0))
    torch.testing.assert_close(encoded.camera, leaving[0][:1])
    normalised = F.layer_norm(leaving[0][1:], (192,), encoder.norm.weight, encoder.norm.bias, 1e-6)
    torch.testing.assert_close(encoded.tokens, normalised)
