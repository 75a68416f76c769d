"""Losses of training: the release's recorded values, and what must hold for any labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import roma
import synthetic_smpl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_examples import CONFIG, example

from crowdmesh.body import BodyModel, load_body
from crowdmesh.errors import InputError
from crowdmesh.mahmr import MAHMRConfig
from crowdmesh.mahmr.projection import fov_of_focal
from crowdmesh.mahmr.tokens import morton_cells, sine_code_2d
from crowdmesh.training import loss_terms, matcher
from crowdmesh.training.counts import COUNTED
from crowdmesh.training.denoising import hide_missing, make_queries, query_mask
from crowdmesh.training.loss_config import TERMS
from crowdmesh.training.losses import Criterion, LossConfig, TermCounts
from crowdmesh.training.matched import PeopleRow, Predicted
from crowdmesh.training.output import Queries, TrainingOutput
from crowdmesh.training.targets import Targets

SIZE = 1288
EXACT = 1e-6
RECORDED = {  # our names of the release's terms
    "confs": "detection", "poses": "pose", "betas": "shape", "boxes": "box", "giou": "giou", "j3ds": "joints_3d",
    "j2ds": "joints_2d", "depths": "depth", "depths_mt": "relative_metric", "depths_re": "depth_layers", "fov": "fov",
    "map_confs": "map", "map_scales": "map_scale",
}  # fmt: skip
ALL_TERMS = replace(LossConfig.released("3-dto"), depth=0.5, depth_layers=0.5)


@dataclass
class Recording:
    """A recorded batch in our types, in float64."""

    output: TrainingOutput
    joints: tuple[Tensor, Tensor]
    depths: Tensor
    targets: list[Targets]
    criterion: Criterion

    def match(self) -> tuple[Tensor, Tensor]:
        queries = self.output.queries
        tables = [
            matcher.costs(
                queries.confidence_logits[:, i].sigmoid(), queries.boxes[:, i], self.joints[1][:, i], target.boxes,
                target.has_box, target.joints_2d, target.joints_2d_mask, SIZE, self.criterion.config,
            )
            for i, target in enumerate(self.targets)
        ]  # fmt: skip
        return matcher.assign(tables, 2, torch.device("cpu"))

    def losses(self) -> dict[str, Tensor]:
        criterion, people, counts = self.criterion, PeopleRow.of(self.targets), self.criterion.counts(self.targets)
        query, found = self.match()
        at, queries = (torch.arange(2)[:, None], people.image, query), self.output.queries
        depth = self.depths[at]
        predicted = Predicted(
            found, queries.boxes[at], queries.rotations[at], queries.betas[at], self.joints[0][at], self.joints[1][at],
            depth[..., 0], people.focal_px * depth[..., 1],
        )  # fmt: skip
        terms = criterion.of_people(predicted, people, counts)
        terms["detection"] = criterion._detection(queries, people, query, found, self.targets) / counts.divisor(
            "detections"
        )
        return terms | criterion.of_images(self.output, self.targets, counts)


def recording(vectors, body, stage: str, bodies: tuple[bool, bool] = (True, True)) -> Recording:
    with np.load(vectors / "ma_hmr_losses.npz") as file:
        data = {key: file[key] for key in file.files if key.startswith(f"{stage}/in")}

    def both(name: str) -> Tensor:  # the auxiliary layer, then the last
        return torch.stack([torch.from_numpy(data[f"{stage}/in/{part}/{name}"]) for part in ("aux0", "out")]).double()

    targets = [labels(data, f"{stage}/in/target{i}", known) for i, known in enumerate(bodies)]
    sizes = torch.stack([target.image_size for target in targets])
    focal = torch.from_numpy(data[f"{stage}/in/out/pred_intrinsics"])[:, 0, 0, 0].double()
    fov = fov_of_focal(focal, sizes[:, 0])
    rotations = roma.rotvec_to_rotmat(both("pred_poses").unflatten(-1, (24, 3)))
    queries = Queries(
        both("pred_confs")[..., 0].logit(), both("pred_boxes"), rotations, both("pred_betas"),
        torch.zeros(2, 2, 12, 3).double(),
    )  # fmt: skip
    scale_map = torch.from_numpy(data[f"{stage}/in/out/enc_outputs/scale_map"]).double()
    output = TrainingOutput(queries, None, fov, fov, focal, sizes, scale_map, scale_map.logit())
    network = replace(MAHMRConfig.official(SIZE, kid=stage == "stage3"), queries=12)
    criterion = Criterion(ALL_TERMS, network, body)
    return Recording(output, (both("pred_j3ds"), both("pred_j2ds")), both("pred_depths"), targets, criterion)


def labels(data: dict[str, np.ndarray], prefix: str, bodies: bool) -> Targets:
    given = {k.removeprefix(f"{prefix}/"): torch.from_numpy(v) for k, v in data.items() if k.startswith(f"{prefix}/")}
    people = len(given["boxes"])
    known = torch.full((people,), bodies)
    depth = given["depths"][:, 0].double()
    size, focal = given["img_size"].double(), given["focals"][0, 0].double()
    order = depth.argsort()  # the release makes up depth layers where there are none: a new one after each 0.3 m
    layers = torch.zeros(people, dtype=torch.int64)
    layers[order[1:]] = ((depth[order[1:]] - depth[order[:-1]]) >= 0.3).cumsum(0)
    return Targets(
        key=prefix, dataset="recorded", image_size=size, boxes=given["boxes"].double(),
        has_box=torch.ones(people, dtype=torch.bool),
        joints_2d=given["j2ds"].double(), joints_2d_mask=given["j2ds_mask"][..., 0], joints_3d=given["j3ds"].double(),
        joints_3d_mask=known[:, None].expand(-1, 45),
        rotations=roma.rotvec_to_rotmat(given["poses"].double().unflatten(1, (24, 3))), has_pose=known,
        betas=given["betas"].double(), betas_mask=known[:, None].expand(-1, given["betas"].shape[1]),
        translations=torch.zeros(people, 3).double(), depth_m=depth, has_depth=known, depth_layers=layers,
        age_years=torch.full((people,), torch.nan), focal_px=focal,
        vertical_fov=fov_of_focal(focal[None], size[:1])[0], has_camera=torch.tensor(True),
        everybody=given["detect_all_people"], scale_map=given["scale_map"].double(), has_map=torch.tensor(True),
    )  # fmt: skip


@pytest.fixture(scope="module")
def smpl(tmp_path_factory) -> BodyModel:
    return load_body("smpl", synthetic_smpl.write(tmp_path_factory.mktemp("smpl")))


@pytest.mark.parametrize("stage", ["stage3", "stage1", "stage1_2donly"])
def test_the_releases_losses(vectors, smpl, stage):
    batch = recording(vectors, smpl, stage.split("_")[0], (True, stage != "stage1_2donly"))
    mine = batch.losses()
    with np.load(vectors / "ma_hmr_losses.npz") as file:
        recorded = {key.split("/")[-1]: float(file[key]) for key in file.files if key.startswith(f"{stage}/loss/")}
    assert len(recorded) >= 10
    for name, value in recorded.items():
        theirs, earlier = name.partition(".")[::2]
        if theirs == "fov" and earlier:
            assert value == 0  # counted once
            continue
        term = mine[RECORDED[theirs]]
        term = term if term.ndim == 0 else term[0 if earlier else 1]
        assert float(term) == pytest.approx(value, rel=0, abs=EXACT), name


@pytest.mark.parametrize("stage", ["stage3", "stage1"])
def test_the_releases_matches(vectors, smpl, stage):
    query, found = recording(vectors, smpl, stage).match()
    assert found.all()
    with np.load(vectors / "ma_hmr_losses.npz") as file:
        for image, people in enumerate((slice(0, 3), slice(3, 5))):
            queries, persons = file[f"{stage}/match{image}"]
            assert query[1, people][persons].tolist() == queries.tolist()


def test_the_releases_denoising_queries(vectors, smpl):
    targets = recording(vectors, smpl, "stage1").targets
    embed = nn.Linear(82, 16)
    noisy = make_queries(embed, targets, replace(LossConfig(), denoising_groups=3))
    with np.load(vectors / "ma_hmr_losses.npz") as file:
        torch.testing.assert_close(
            noisy.anchors, torch.from_numpy(file["dn/query_bbox_unsigmoid"]), atol=1e-6, rtol=0, check_dtype=False
        )
        assert noisy.content.shape[1] == int(file["dn/pad_size"])
        mask = query_mask(3, noisy.content.shape[1] // 3, 5)
        assert (mask.numpy() == ~file["dn/attn_mask_true_is_blocked"]).all()
    hidden = hide_missing(mask, noisy.exist)
    assert not hidden[1, 0, 0, 2] and hidden[1, 0, 2, 2] and hidden[0, 0, 0, 2]  # image 1 has no third person


def test_the_releases_cell_order_and_position_code(vectors):
    with np.load(vectors / "ma_hmr_losses.npz") as file:
        cells = morton_cells(64, 64)
        assert (file["z_map_depth6"][cells[:, 0], cells[:, 1]] == np.arange(64 * 64)).all()
        xy = torch.from_numpy(np.stack((file["sine/pos_x"], file["sine/pos_y"]), -1))
        torch.testing.assert_close(sine_code_2d(xy, 768), torch.from_numpy(file["sine/embed_768"]), atol=1e-6, rtol=0)


# --- single terms ---------------------------------------------------------------------------------------------------


def test_too_wide_a_view_costs_three_times_as_much():
    wide, narrow = loss_terms.fov_error(torch.tensor([1.2, 0.8]), torch.tensor([1.0, 1.0]))
    assert float(wide) == pytest.approx(0.12, rel=1e-5) and float(narrow) == pytest.approx(0.04, rel=1e-5)


@given(st.lists(st.floats(1, 8), min_size=2, max_size=6), st.floats(-2, 2))
@settings(max_examples=30, deadline=None)
def test_relative_depths_do_not_mind_where_the_group_stands(depths, shift):
    true = torch.tensor(depths, dtype=torch.float64)
    pairs = loss_terms.pairs_of_images(torch.zeros(len(depths), dtype=torch.int64), torch.ones(len(depths)).bool())
    assert len(pairs) == len(depths) * (len(depths) - 1) // 2
    error = loss_terms.relative_metric_error(true[None] + shift, true, pairs)
    assert float(error.max()) < 1e-9


def test_only_pairs_nearer_than_a_metre_are_compared():
    depth = torch.tensor([4.0, 4.5, 5.0])
    target = example(3, depth_m=depth).targets
    strict, released = (
        Criterion(c, CONFIG, load_body("anny")).counts([target])
        for c in (no_shape(LossConfig.paper()), no_shape(LossConfig.released()))
    )
    pairs = COUNTED.index("pairs")
    assert int(strict.values[pairs]) == 2 and int(released.values[pairs]) == 3  # exactly 1 m counts in the release


def no_shape(config: LossConfig) -> LossConfig:
    return replace(config, shape_weights=())


def test_order_of_layers():
    apart = torch.tensor([[1.0, 3.0]])
    pair = torch.tensor([[0, 1]])

    def error(*layers: int) -> float:
        return float(loss_terms.layer_order_error(apart, torch.tensor(layers), pair))

    assert error(0, 0) == pytest.approx(2.0)
    assert error(0, 1) == pytest.approx(math.log1p(math.exp(-2)))  # the second is farther, as the labels say
    assert error(1, 0) == pytest.approx(math.log1p(math.exp(2)))


def test_focal_loss_of_sure_logits_stays_finite():
    logits = torch.tensor([-200.0, 200.0, 0.0], requires_grad=True)
    loss = loss_terms.focal(logits, torch.tensor([True, False, True]))
    loss.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert loss.tolist() == pytest.approx([50.0, 150.0, 0.25 * 0.25 * math.log(2)])


@pytest.mark.parametrize("kind", [loss_terms.axis_angle_error, loss_terms.rotation_error])
def test_rotation_errors_have_gradients_at_rest(kind):
    turn = torch.eye(3).repeat(2, 4, 1, 1).requires_grad_()
    kind(turn, roma.rotvec_to_rotmat(torch.full((2, 4, 3), 0.2))).sum().backward()
    assert turn.grad is not None and turn.grad.isfinite().all() and turn.grad.abs().max() > 0


def test_disjoint_boxes_pull_together():
    box = torch.tensor([[0.2, 0.2, 0.1, 0.1]], requires_grad=True)
    iou = loss_terms.generalised_iou(box, torch.tensor([[0.8, 0.8, 0.1, 0.1]]))
    (1 - iou).sum().backward()
    assert float(iou.detach()) < 0
    assert box.grad is not None and float(box.grad[0, 0]) < 0  # moving right lowers the loss
    same = loss_terms.generalised_iou(box.detach(), box.detach())
    assert float(same) == pytest.approx(1, abs=2e-4)


def test_the_cheapest_assignment_and_more_people_than_queries():
    cost = torch.tensor([[[0.0, 5.0, 1.0], [4.0, 0.0, 9.0]]])  # 2 queries, 3 people
    query, found = matcher.assign([cost, cost[:, :, :0]], 1, torch.device("cpu"))
    assert found.tolist() == [[True, True, False]] and query[0, :2].tolist() == [0, 1]
    broken, _ = matcher.assign([torch.full((1, 2, 2), torch.nan)], 1, torch.device("cpu"))
    assert sorted(broken[0].tolist()) == [0, 1]


# --- configurations -------------------------------------------------------------------------------------------------


def test_presets_differ_as_paper_and_release_do():
    paper, released = LossConfig.paper(), LossConfig.released()
    assert (paper.detection, paper.depth, paper.fov_reduction, paper.pair_limit) == (1.0, 0.5, "mean", "below")
    assert (released.detection, released.depth, released.fov_reduction, released.pair_limit) == (
        4.0, 0.0, "sum", "up_to",
    )  # fmt: skip
    first = LossConfig.paper("1-keypoints")
    assert first.denoising_groups == 10 and not first.fov and not first.relative_metric
    assert LossConfig.released("4-finetune-hi4d").shape == 0
    assert set(LossConfig.released("4-finetune-rh").weights) == {"detection", "joints_2d", "depth_layers"}
    assert set(LossConfig().weights) == set(TERMS) - {"depth_layers"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pose": -1.0}, "pose of the losses must be a finite number"),
        ({"fov": math.nan}, "fov of the losses"),
        ({"pose_error": "quaternion"}, "'axis_angle' or 'rotation'"),
        ({"denoising_groups": -1}, "denoising_groups"),
        ({"match_joints": 0}, "match_joints"),
        ({"shape_weights": (math.inf,)}, "shape_weights"),
    ],
)
def test_wrong_loss_configurations(wrong, said):
    config = LossConfig()
    for name, value in wrong.items():  # as a JSON file may say it, past the checker of annotations
        object.__setattr__(config, name, value)
    with pytest.raises(InputError, match=said):
        config.__post_init__()


def test_too_few_shape_weights_and_unknown_stages():
    with pytest.raises(InputError, match="6 shape parameters"):
        Criterion(replace(LossConfig(), shape_weights=(1.0,)), CONFIG, load_body("anny"))
    with pytest.raises(InputError, match="unknown training stage 'three'"):
        LossConfig.paper("three")


def test_counts_add_up():
    criterion = Criterion(LossConfig.tiny(), CONFIG, load_body("anny"))
    targets = [example(k, seed).targets for seed, k in enumerate((3, 0, 2))]
    together = criterion.counts(targets)
    parts = [criterion.counts([target]) for target in targets]
    added = parts[0] + parts[1] + parts[2]
    assert isinstance(added, TermCounts) and torch.equal(added.values, together.values)
    assert float(together.divisor("people")) == 5 and float(parts[1].divisor("people")) == 1
