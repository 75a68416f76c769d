"""MA-HMR from queries to people and cameras; what training and configurations rely on."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_mahmr import noise, tiny

from crowdmesh.body import load_body
from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMR, MAHMRConfig
from crowdmesh.mahmr.heads import rotations_of_6d
from crowdmesh.mahmr.projection import LEAST_FOV, MOST_FOV, focal_of_fov, metric_translation, project

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


def test_boxes_without_extent_give_numbers():
    model = tiny()
    for head in model.decoder.box_heads:
        torch.nn.init.constant_(head.last.bias, -1e4)
    memory, position = torch.randn(2, 1, 9, model.config.width)
    decoded = model.decoder(memory, position)
    assert decoded.boxes.max() == 0
    assert decoded.hidden.isfinite().all()


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
        ({"posed_joints": ("pelvis", "pelvis")}, "each once"),
        ({"keypoint_layout": "coco99"}, "unknown keypoint_layout"),
        ({"map_threshold": math.nan}, "map_threshold must lie in"),
        ({"width": 768.0}, "be whole"),
    ],
)
def test_impossible_configurations(unchecked, change, message):
    with pytest.raises(InputError, match=message):
        replace(MAHMRConfig(), **change)


def test_configurations_survive_json():
    import json

    for config in (MAHMRConfig.official(), MAHMRConfig.tiny(), replace(MAHMRConfig.anny(672), map_threshold=0.25)):
        assert MAHMRConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(InputError, match="colour"):
        MAHMRConfig.from_dict(MAHMRConfig().to_dict() | {"colour": 1})
    with pytest.raises(InputError, match="depth of a MA-HMR configuration must be int"):
        MAHMRConfig.from_dict(MAHMRConfig().to_dict() | {"depth": "12"})


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image"),
        (torch.zeros(1, 3, 112, 112), "a list of at least one image"),
        ([torch.zeros(3, 100, 112)], "multiples of 56"),
        ([torch.zeros(3, 168, 112)], "at most 112"),
        ([torch.zeros(1, 112, 112)], r"must be \(3, height, width\)"),
        ([torch.zeros(112)], r"must be \(3, height, width\)"),
        ([torch.zeros(3, 112, 112, dtype=torch.uint8)], "floating-point"),
        ([torch.zeros(3, 0, 112)], "at most 112"),
    ],
)
def test_batches_the_network_cannot_take(unchecked, images, message):
    with pytest.raises(InputError, match=message):
        tiny()(images, torch.tensor([(112, 112)] * len(images)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_sizes": [(112, 112), (112, 112)]}, "image_sizes"),
        ({"image_sizes": torch.ones(2, 2)}, "image_sizes"),
        ({"image_sizes": torch.tensor([(0, 112)])}, "image_sizes"),
        ({"scale_map": torch.zeros(15, 2)}, r"scale_map must be \(16, 2\)"),
        ({"vertical_fov": 0.9}, "vertical_fov"),
        ({"vertical_fov": torch.tensor([0.0])}, "vertical_fov"),
        ({"vertical_fov": torch.tensor([60.0])}, "vertical_fov"),
    ],
)
def test_what_else_forward_cannot_take(unchecked, given, message):
    arguments = {"image_sizes": torch.tensor([(112, 112)]), "scale_map": None, "vertical_fov": None} | given
    with pytest.raises(InputError, match=message):
        tiny()(noise((112, 112)), **arguments)


def test_a_body_must_fit_the_configuration(unchecked):
    with pytest.raises(InputError, match="speaks of body 'smpl'"):
        MAHMR(MAHMRConfig.official(112), load_body("anny"))
    with pytest.raises(InputError, match="7 shape parameters"):
        tiny(num_betas=7)
    with pytest.raises(InputError, match="no joint tail"):
        tiny(posed_joints=("root", "tail"))
    with pytest.raises(InputError, match="begin with the root joint"):
        tiny(posed_joints=("head", "root"))
    with pytest.raises(InputError, match="'anny' or 'smpl'"):
        MAHMRConfig.tiny(body="anny-hd")  # type: ignore[arg-type]
