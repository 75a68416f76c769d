"""The forward pass for training: gradients everywhere, and numbers that do not depend on how a batch is split."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import roma
import synthetic_smpl
import torch
from training_examples import CONFIG, SIZE, example

from crowdmesh.body import load_body
from crowdmesh.body.keypoints import LAYOUTS
from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMR, MAHMRConfig
from crowdmesh.mahmr.encoder import at_places
from crowdmesh.training import loss_terms
from crowdmesh.training.denoising import make_queries
from crowdmesh.training.forward import TrainingModule, train_forward
from crowdmesh.training.losses import LossConfig
from crowdmesh.training.matched import PeopleRow

NOISY = replace(CONFIG, denoising=True, depth=3, early_depth=1, decoder_depth=2, queries=12)
LOSS = replace(LossConfig.tiny(), depth_layers=0.5, denoising_groups=2, true_map=False)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def module(loss: LossConfig = LOSS, config: MAHMRConfig = NOISY, seed: int = 0) -> TrainingModule:
    torch.manual_seed(seed)
    model = MAHMR(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return TrainingModule(model, loss)


@pytest.fixture(scope="module")
def batch():
    return [example(people, seed) for seed, people in enumerate((3, 0, 2, 1))]


def test_every_parameter_learns(batch):
    learner = module()
    losses = learner(batch, generator())
    losses.total.backward()
    for name, parameter in learner.named_parameters():
        if not parameter.requires_grad:
            assert "key_" in name and name.endswith("bias") and "cross_attention" in name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0 or name.endswith("key_position.bias"), name
    assert {"pose", "pose.0", "dn.pose", "dn.detection.0", "fov", "map", "depth_layers"} <= losses.terms.keys()
    assert not {"fov.0", "dn.fov", "dn.map"} & losses.terms.keys()
    for name, value in losses.terms.items():
        assert value.isfinite() and not value.requires_grad, name


def test_the_total_is_the_weighted_sum(batch):
    loss = replace(LOSS, auxiliary=0.25, denoising_detection=0.5)
    losses = module(loss)(batch, generator())
    total = 0.0
    for name, value in losses.terms.items():
        term, _, layer = name.removeprefix("dn.").partition(".")
        factor = 0.5 if name.startswith("dn.detection") else 1.0
        total += getattr(loss, term) * factor * (0.25 if layer else 1.0) * float(value)
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("loss", [LOSS, replace(LossConfig.paper("1-keypoints"), shape_weights=(), fov=0.5)])
def test_a_split_batch_adds_up_to_the_whole(batch, loss):
    learner = module(loss)
    learner(batch, generator()).total.backward()
    whole = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
    learner.zero_grad()
    counts = learner.criterion.counts([each.targets for each in batch])
    for part in (batch[:1], batch[1:3], batch[3:]):
        learner(part, generator(), counts).total.backward()
    for name, parameter in learner.named_parameters():
        if parameter.grad is not None:
            scale = max(float(whole[name].abs().max()), 1e-3)
            torch.testing.assert_close(parameter.grad / scale, whole[name] / scale, atol=2e-4, rtol=0, msg=name)


def test_noisy_queries_leave_the_others_alone(batch):
    learner = module()
    with torch.no_grad():
        plain = train_forward(learner.model, batch, replace(LOSS, denoising_groups=0))
        noisy = train_forward(learner.model, batch, LOSS, generator())
    assert plain.denoising is None and noisy.denoising is not None
    torch.testing.assert_close(plain.queries.boxes, noisy.queries.boxes, atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.queries.rotations, noisy.queries.rotations, atol=1e-5, rtol=0)
    queries, labels = noisy.denoising
    assert queries.boxes.shape[2] == 2 * 2 * 3 and len(labels.image) == 2 * 6


def test_training_says_what_inference_says(batch):
    learner = module(replace(LOSS, denoising_groups=0)).eval()
    model = learner.model
    with torch.no_grad():
        sizes = torch.full((len(batch), 2), float(SIZE))
        usual = model([each.pixels for each in batch], sizes)
        said = train_forward(model, batch, learner.loss)
    torch.testing.assert_close(said.queries.boxes[-1], usual.boxes)
    torch.testing.assert_close(said.queries.translations[-1], usual.translations)
    torch.testing.assert_close(said.queries.betas[-1], usual.betas)
    torch.testing.assert_close(said.queries.confidence_logits[-1].sigmoid(), usual.confidences)
    torch.testing.assert_close(said.vertical_fov, usual.vertical_fov)
    predicted = learner.criterion._joints(said.queries.rotations, said.queries.betas, said.queries.translations)
    torch.testing.assert_close(predicted[-1, :, :, :-1], usual.joints_3d, atol=1e-5, rtol=1e-5)


def test_perfect_words_cost_nothing():
    """A network that says exactly what the labels say has no loss but that of its confidences."""
    config = replace(NOISY, queries=3, decoder_depth=1)
    target = example(3).targets
    learner = module(replace(LOSS, denoising_groups=0), config)
    said = train_forward(learner.model, [example(3)], learner.loss)
    order = torch.tensor([2, 0, 1])
    queries = replace(
        said.queries, boxes=target.boxes[order][None, None], rotations=target.rotations[order][None, None],
        betas=target.betas[order][None, None], translations=target.translations[order][None, None],
    )  # fmt: skip
    output = replace(
        said, queries=queries, raw_fov=target.vertical_fov[None], focal_px=target.focal_px[None],
        scale_map=target.scale_map, map_logits=target.scale_map.logit(eps=1e-7),
    )  # fmt: skip
    terms = learner.criterion(output, [target]).terms
    query, _ = learner.criterion.match(output, [target])
    assert query[0].tolist() == [1, 2, 0]
    for name in ("pose", "shape", "joints_3d", "joints_2d", "box", "depth", "relative_metric", "fov", "map_scale"):
        assert float(terms[name]) == pytest.approx(0, abs=2e-5), name
    assert float(terms["giou"]) < 1e-3 and float(terms["map"]) < 1e-6


def _perfect(queries, image, slot, people: PeopleRow, person):
    """The queries with what the labels of these people say."""
    at = (slice(None), image, slot)
    said = {name: getattr(queries, name).clone() for name in ("boxes", "rotations", "betas", "translations")}
    said["boxes"][at], said["rotations"][at] = people.boxes[person], people.rotations[person]
    said["betas"][at] = people.betas[person]
    return said, at


def test_noisy_queries_without_noise_are_the_labels(batch):
    """Images with unequal numbers of people: every query belongs to its own person, and perfect words cost nothing."""
    learner = module()
    targets = [each.targets for each in batch]
    people = PeopleRow.of(targets)
    noisy = make_queries(learner.model.denoising_encoder, targets, LOSS)
    labels = noisy.labels
    assert torch.equal(labels.image, people.image[labels.person]) and bool(noisy.exist[labels.image, labels.slot].all())
    torch.testing.assert_close(noisy.anchors.sigmoid()[labels.image, labels.slot], people.boxes[labels.person])
    output = train_forward(learner.model, batch, LOSS, generator())
    assert output.denoising is not None
    queries, labels = output.denoising
    said, at = _perfect(queries, labels.image, labels.slot, people, labels.person)
    said["translations"][at] = torch.cat([target.translations for target in targets])[labels.person]
    perfect = replace(output, denoising=(replace(queries, **said), labels), focal_px=torch.stack([
        target.focal_px for target in targets
    ]))  # fmt: skip
    terms = {n: float(v) for n, v in learner.criterion(perfect, targets).terms.items() if n.startswith("dn.")}
    for name in ("pose", "shape", "joints_3d", "joints_2d", "box", "depth", "relative_metric"):
        assert terms[f"dn.{name}"] == pytest.approx(0, abs=2e-5) and terms[f"dn.{name}.0"] < 2e-5, name
    assert terms["dn.giou"] < 1e-3 and terms["dn.detection"] > 0.01


def test_points_alone_give_no_box_to_learn_or_to_match_by():
    learner = module(replace(LOSS, denoising_groups=0))
    target = example(3).targets
    output = train_forward(learner.model, [example(3)], learner.loss)
    nonsense = replace(target, boxes=target.boxes.flip(0), has_box=torch.tensor([False, True, False]))
    points = replace(target, has_box=torch.tensor([False, True, False]))
    terms, others = (learner.criterion(output, [each]).terms for each in (points, nonsense))
    assert {n: float(v) for n, v in terms.items()} == {n: float(v) for n, v in others.items()}
    assert float(learner.criterion.counts([points]).divisor("boxes")) == 1
    query, _ = learner.criterion.match(output, [points])
    error = (output.queries.boxes[-1, 0, query[-1, 1]] - target.boxes[1]).abs().sum()
    assert float(terms["box"]) == pytest.approx(float(error.detach()), rel=1e-5)
    nobody = replace(target, has_box=torch.zeros(3, dtype=torch.bool))
    assert float(learner.criterion(output, [nobody]).terms["giou"]) == 0


def test_cells_that_are_surely_wrong_still_learn():
    learner = module(replace(LOSS, denoising_groups=0))
    target = example(1).targets
    output = train_forward(learner.model, [example(1)], learner.loss)
    logits = torch.where(target.scale_map > 0, -40.0, 40.0).requires_grad_()
    sure = replace(output, map_logits=logits, scale_map=logits.detach().sigmoid())
    learner.criterion(sure, [target]).total.backward()
    assert logits.grad is not None and logits.grad[:, 0].abs().min() > 1e-3


def test_the_camera_is_looked_for_once(batch):
    learner, calls = module(), []
    learner.model.fov_head.register_forward_hook(lambda *_: calls.append(1))
    learner(batch[:1], generator())
    assert len(calls) == 1


def test_gradients_are_the_same_bit_for_bit_with_several_threads():
    """Many cells in the same few places, many pairs of the same people, many noisy queries of one camera."""
    torch.manual_seed(0)
    grid, level = torch.randn(8, 8, 48), torch.randn(3, 48)
    model = MAHMR(replace(CONFIG, width=48, denoising=False))
    cells, levels = torch.randint(4, (4000, 2)), torch.randint(3, (4000,))
    pairs, depth = torch.randint(5, (40000, 2)), torch.randn(2, 5)
    wanted = torch.randn(4000, 48)

    def gradients() -> list[torch.Tensor]:
        leaves = [each.clone().requires_grad_() for each in (grid, depth)]
        model.level_embedding = torch.nn.Parameter(level.clone())
        codes = at_places(leaves[0], cells) + model.position_codes(levels, cells % 2)
        error = loss_terms.relative_metric_error(leaves[1], torch.zeros(5), pairs)
        ((codes - wanted).square().sum() + error.sum()).backward()
        return [each.grad for each in (*leaves, model.level_embedding) if each.grad is not None]

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first = gradients()
        for _ in range(5):
            assert all(torch.equal(one, other) for one, other in zip(first, gradients(), strict=True))
    finally:
        torch.set_num_threads(threads)
    assert len(first) == 3


def unlabelled(people: int):
    """Only boxes and image points are known, and not everybody."""
    yes = torch.ones(people, dtype=torch.bool)
    full = example(people).targets
    return example(
        people, has_pose=~yes, has_depth=~yes, betas_mask=torch.zeros_like(full.betas_mask),
        joints_3d_mask=torch.zeros_like(full.joints_3d_mask), has_camera=torch.tensor(False),
        focal_px=torch.tensor(1.0), has_map=torch.tensor(False), everybody=torch.tensor(False),
        depth_layers=torch.full((people,), -1), rotations=100 * full.rotations, betas=full.betas + 50,
        depth_m=full.depth_m * 0, joints_3d=full.joints_3d + 9,
    )  # fmt: skip


def test_what_is_not_labelled_is_not_learned():
    terms = module()([unlabelled(2)], generator()).terms
    absent = ("pose", "shape", "joints_3d", "depth", "relative_metric", "depth_layers", "fov", "map", "map_scale")
    assert all(float(value) == 0 for name, value in terms.items() if name.removeprefix("dn.").split(".")[0] in absent)
    assert all(float(terms[name]) > 0 for name in ("box", "giou", "joints_2d", "detection", "dn.box"))


def test_people_elsewhere_are_not_background_unless_all_are_labelled():
    learner = module(replace(LOSS, denoising_groups=0))
    some, everybody = example(1, everybody=torch.tensor(False)), example(1)
    output = train_forward(learner.model, [some], learner.loss)
    logits = output.queries.confidence_logits

    def gradients(target) -> int:
        total = learner.criterion(output, [target]).total
        return int((torch.autograd.grad(total, logits, retain_graph=True)[0][-1] != 0).sum())

    assert gradients(some.targets) == 1 and gradients(everybody.targets) == NOISY.queries


@pytest.mark.parametrize("people", [(0, 0), (20, 1)], ids=["nobody", "more than queries"])
def test_unusual_crowds_have_finite_losses_and_gradients(people):
    learner = module()
    losses = learner([example(count, seed) for seed, count in enumerate(people)], generator())
    losses.total.backward()
    assert losses.total.isfinite() and all(value.isfinite() for value in losses.terms.values())
    assert all(p.grad.isfinite().all() for p in learner.parameters() if p.grad is not None)


def test_bodies_behind_the_camera_have_finite_gradients():
    learner = module(replace(LOSS, denoising_groups=0))
    target = example(2).targets
    output = train_forward(learner.model, [example(2)], learner.loss)
    places = output.queries.translations.detach().clone()
    places[..., 2] = -1.0
    places.requires_grad_()
    behind = replace(output, queries=replace(output.queries, translations=places))
    learner.criterion(behind, [target]).total.backward()
    assert places.grad is not None and places.grad.isfinite().all() and places.grad.abs().max() < 1e4


def test_half_precision_reaches_the_encoder_alone(batch):
    learner = module()
    with torch.autocast("cpu", torch.bfloat16):
        losses = learner(batch, generator())
    assert losses.total.dtype == torch.float32
    losses.total.backward()
    assert float(losses.total.detach()) == pytest.approx(float(learner(batch, generator()).total.detach()), rel=0.05)


def test_networks_without_a_camera_branch_have_no_camera_loss(batch):
    config = replace(NOISY, fov=False)
    losses = module(replace(LOSS, denoising_groups=0), config)(batch)
    assert "fov" not in losses.terms and losses.total.isfinite()


def test_the_true_map_chooses_tokens(batch):
    learner = module(replace(LOSS, true_map=True, denoising_groups=0))
    seen = train_forward(learner.model, batch, learner.loss)
    other = [replace(b, targets=replace(b.targets, scale_map=torch.zeros_like(b.targets.scale_map))) for b in batch]
    blind = train_forward(learner.model, other, learner.loss)
    assert not torch.equal(seen.queries.boxes, blind.queries.boxes)
    torch.testing.assert_close(seen.scale_map, blind.scale_map)
    with pytest.raises(InputError, match="made-up/0 has no scale map"):
        train_forward(learner.model, [example(1, has_map=torch.tensor(False))], learner.loss)


def test_denoising_needs_its_layer_and_labels_that_fit(batch):
    with pytest.raises(InputError, match="no layer for it"):
        module(LOSS, replace(NOISY, denoising=False))(batch, generator())
    with pytest.raises(InputError, match="takes 114"):
        module()([example(1, betas=torch.zeros(1, 3), betas_mask=torch.ones(1, 3).bool())], generator())
    assert not module(replace(LOSS, denoising_groups=0)).model.denoising_encoder.weight.requires_grad


def test_noise_is_an_images_own(batch):
    learner = module()
    with torch.no_grad():
        _, first = train_forward(learner.model, batch[:1], LOSS, generator()).denoising or (None, None)
        alone = train_forward(learner.model, batch[2:3], LOSS, generator()).denoising
        beside = train_forward(learner.model, batch[:3], LOSS, generator()).denoising
    assert first is not None and alone is not None and beside is not None
    mine = beside[1].image == 2
    at = (-1, torch.zeros_like(alone[1].slot), alone[1].slot)
    beside_boxes = beside[0].boxes[-1, 2, beside[1].slot[mine]]
    torch.testing.assert_close(alone[0].boxes[at], beside_boxes, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["anny", "smpl"])
def test_points_without_the_rest_of_the_surface(name, tmp_path):
    body = load_body(name, synthetic_smpl.write(tmp_path)) if name == "smpl" else load_body(name)
    torch.manual_seed(0)
    joints, layout = len(body.joint_names), "body22" if name == "anny" else "smpl45"
    shape = torch.rand(3, len(body.shape_params), requires_grad=True)
    turns = roma.rotvec_to_rotmat(0.4 * torch.randn(3, joints, 3))
    places = torch.randn(3, 3)
    points = body.posed_keypoints(shape, turns, places, LAYOUTS[layout])
    usual = body.keypoints(body(shape, turns, places), layout)
    torch.testing.assert_close(points, usual, atol=1e-5, rtol=1e-5)
    points.sum().backward()
    assert shape.grad is not None and shape.grad.abs().max() > 0
    with pytest.raises(InputError, match="has no point tail"):
        body.posed_keypoints(shape, turns, places, ("nose", "tail"))
    double = copy.deepcopy(body).double()
    again = double.posed_keypoints(shape.double(), turns.double(), places.double(), LAYOUTS[layout])
    torch.testing.assert_close(again, points.double(), atol=1e-5, rtol=1e-5)
