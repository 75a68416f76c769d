"""Released MA-HMR networks by their state dicts: every name, every shape, and what a state dict is taken for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic_smpl
import torch
from released_weights import SMALL, official_shapes, official_state

from crowdmesh.body import load_body
from crowdmesh.errors import FormatError
from crowdmesh.mahmr import MAHMR, MAHMRConfig, official
from crowdmesh.mahmr.network import tensor_shapes

STAGES = {  # recorded name: configuration, description
    "stage3_fov_kid": (MAHMRConfig.official(), "MA-HMR stage 3 "),
    "stage2_fov": (MAHMRConfig.official(kid=False), "MA-HMR stage 2 (no kid axis) "),
    "stage1_default_dn": (
        MAHMRConfig.official(kid=False, fov=False, denoising=True),
        "MA-HMR stage 1 (no field-of-view head, with denoising) ",
    ),
}


@pytest.fixture(scope="module")
def smpl(tmp_path_factory):
    return load_body("smpl", synthetic_smpl.write(tmp_path_factory.mktemp("smpl"), "any name.pkl"))


def recorded_shapes(vectors: Path, stage: str) -> dict[str, tuple[int, ...]]:
    recorded = json.loads((vectors / "state_dict_keys.json").read_text())
    groups = recorded["stage3_fov_kid"]["groups"].values()
    shapes = {name: tuple(entry["shape"]) for group in groups for name, entry in group.items()}
    if stage != "stage3_fov_kid":
        difference = recorded[stage]["difference_from_stage3"]
        shapes = {name: shape for name, shape in shapes.items() if name not in difference["missing_here"]}
        shapes |= {name: tuple(here) for name, (here, _) in difference["shape_differs"].items()}
        shapes |= {name: (768, 82) if name.endswith("weight") else (768,) for name in difference["only_here"]}
    assert len(shapes) == recorded[stage]["num_state_dict_keys"]
    return shapes


@pytest.mark.parametrize("stage", STAGES)
def test_every_recorded_key_is_accounted_for(vectors, stage):
    config, description = STAGES[stage]
    shapes = recorded_shapes(vectors, stage)
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    keys = official.sort_keys(state)
    assert keys.unknown == []
    dropped = {name for group in keys.dropped.values() for name in group}
    aliases = {name for name in state if name.startswith("decoder.decoder.bbox_embed.")}
    assert (len(dropped), len(aliases)) == (12, 36)
    assert sorted(name for names in keys.taken.values() for name in names) == sorted(state.keys() - dropped)
    assert all(len(names) == 1 + bool(aliases & set(names)) for names in keys.taken.values())

    weights = official.from_official(state)
    assert len(weights) == len(state) - 12 - 36
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == tensor_shapes(config)
    assert official.recognise(state) == config
    assert official.describe(state).startswith(description)
    recorded = json.loads((vectors / "state_dict_keys.json").read_text())[stage]["num_parameters"]
    trained = [
        tensor.numel() for name, tensor in weights.items() if name not in ("heads.mean_pose", "heads.mean_shape")
    ]
    assert sum(trained) == recorded


def test_recorded_names_are_those_of_this_file(vectors):
    for stage, (config, _) in STAGES.items():
        recorded = recorded_shapes(vectors, stage)
        here = official_shapes(config)
        assert here.items() <= recorded.items()
        assert all(name.startswith("human_model.") for name in recorded.keys() - here.keys())


@pytest.mark.parametrize(
    ("kid", "fov", "denoising"),
    [(True, True, False), (False, True, False), (False, False, True), (False, False, False)],
)
def test_names_and_shapes_are_those_of_the_network(smpl, kid, fov, denoising):
    config = replace(SMALL, num_betas=10 + kid, fov=fov, denoising=denoising)
    state = MAHMR(config, smpl).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == tensor_shapes(config)
    assert official.recognise(official_state(config)) == config
    assert official.misfit(state, official.from_official(official_state(config))) is None


def test_layout_of_the_open_body():
    config = MAHMRConfig.tiny(112)
    state = MAHMR(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == tensor_shapes(config)
    assert official.describe(state).startswith("MA-HMR for another body than SMPL (36 joints, 6 shape parameters)")


def test_values_go_where_their_names_say():
    state = official_state()
    weights = official.from_official(state)
    for ours, theirs in {
        "level_embedding": "level_embed",
        "encoder.camera_token": "encoder_cr_token",
        "encoder.position": "encoder_pos_embeds",
        "encoder.base_blocks.1.scale2": "encoder.additional_blocks.1.ls2.gamma",
        "encoder.blocks.2.qkv.bias": "encoder.blocks.2.attn.qkv.bias",
        "encoder.blocks.0.contract.weight": "encoder.blocks.0.mlp.fc2.weight",
        "encoder.norm.weight": "encoder.norm.weight",
        "encoder.map_norm.bias": "enc_inter_norm.bias",
        "encoder.map_head.layers.3.weight": "scale_head.layers.3.weight",
        "encoder.patch_projection.1.bias": "encoder_patch_proj.1.bias",
        "memory_projection.weight": "feature_proj.weight",
        "decoder.content": "tgt_embed.weight",
        "decoder.anchors": "refpoint_embed.weight",
        "decoder.layers.1.self_attention.query_position.weight": "decoder.decoder.layers.1.sa_qpos_proj.weight",
        "decoder.layers.0.cross_attention.query_position.bias": "decoder.decoder.layers.0.ca_qpos_proj.bias",
        "decoder.layers.1.cross_attention.query_sine.weight": "decoder.decoder.layers.1.ca_qpos_sine_proj.weight",
        "decoder.layers.1.cross_attention.key_content.weight": "decoder.decoder.layers.1.ca_kcontent_proj.weight",
        "decoder.layers.1.expand.weight": "decoder.decoder.layers.1.linear1.weight",
        "decoder.norm.bias": "decoder.decoder.norm.bias",
        "decoder.query_scale.layers.1.bias": "decoder.decoder.query_scale.layers.1.bias",
        "decoder.position_head.layers.0.weight": "decoder.decoder.ref_point_head.layers.0.weight",
        "decoder.size_head.layers.1.weight": "decoder.decoder.ref_anchor_head.layers.1.weight",
        "decoder.box_heads.1.layers.2.weight": "bbox_embed.1.layers.2.weight",
        "heads.pose.1.layers.0.weight": "pose_head.1.layers.0.weight",
        "heads.shape.0.layers.2.bias": "shape_head.0.layers.2.bias",
        "heads.placement.layers.2.weight": "cam_head.layers.2.weight",
        "heads.confidence.weight": "conf_head.weight",
        "heads.mean_pose": "mean_pose",
        "fov_head.layers.3.bias": "fov_head.layers.3.bias",
    }.items():
        assert torch.equal(weights[ours], state[theirs]), ours


@pytest.mark.parametrize("wrap", [lambda s: {"model": s}, lambda s: {"epoch": 3, "state_dict": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_wrapped_and_prefixed_checkpoints_are_the_same(wrap, prefix):
    state = official_state()
    wrapped = wrap({prefix + name: tensor for name, tensor in state.items()})
    assert official.recognise(wrapped) == SMALL
    assert official.describe(wrapped) == official.describe(state)
    weights = official.from_official(wrapped)
    assert all(tensor is weights[name] for name, tensor in official.from_official(state).items())


def test_an_alias_may_be_absent_but_not_differ():
    state = official_state()
    alias = "decoder.decoder.bbox_embed.1.layers.0.weight"
    everything = official.from_official(state)
    for kept in (alias, alias.removeprefix("decoder.decoder.")):
        one = {name: tensor for name, tensor in state.items() if "bbox_embed.1.layers.0.weight" not in name}
        one[kept] = state[alias]
        weights = official.from_official(one)
        assert weights.keys() == everything.keys()
        assert torch.equal(weights["decoder.box_heads.1.layers.0.weight"], state[alias])
    with pytest.raises(FormatError, match=r"bbox_embed.1.layers.0.weight .* must be the same tensor and differ"):
        official.from_official(state | {alias: state[alias] + 1e-6})


def test_unknown_names_are_refused():
    with pytest.raises(
        FormatError, match=r"2 of \d+ tensors have names .* \(decoder.decoder.foo, x.weight\); .*stage 3"
    ):
        official.from_official(official_state() | {"decoder.decoder.foo": torch.zeros(1), "x.weight": torch.zeros(1)})
    with pytest.raises(FormatError, match="dictionary from names to tensors"):
        official.from_official({"model": {"epoch": 3}})
    with pytest.raises(FormatError, match="dictionary from names to tensors"):
        official.from_official({})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("tgt_embed.weight"), None),  # no size is read from it: what is missing shows when it is loaded
        (lambda s: s.pop("encoder_pos_embeds"), "there is no encoder.position"),
        (lambda s: s.pop("mean_pose"), "there is no heads.mean_pose"),
        (lambda s: s.update({"encoder_pos_embeds": torch.zeros(8, 4, 64)}), "square and is 8x4"),
        (lambda s: s.update({"encoder_pos_embeds": torch.zeros(8, 64)}), "wrong number of dimensions"),
        (lambda s: s.update({"encoder_pos_embeds": torch.zeros(9, 9, 64)}), "multiple of 56"),
        (lambda s: s.update({"mean_pose": torch.zeros(132)}), "another body than SMPL .22 joints, 11 shape"),
        (
            lambda s: s.update({"human_model.layer_n.lbs_weights": torch.zeros(10475, 55)}),
            "another body than SMPL .10475 x 55 skinning",
        ),
    ],
)
def test_what_is_not_a_released_network_is_not_recognised(edit, message):
    state = official_state()
    edit(state)
    if message is None:
        assert official.recognise(state) == SMALL
        return
    with pytest.raises(FormatError, match=message):
        official.recognise(state)


def test_descriptions():
    sat_hmr = replace(SMALL, num_betas=10, fov=False)
    described = official.describe(official_state(sat_hmr))
    assert described == "SAT-HMR (no field-of-view head, 10 shape parameters) for 112 px, 3 blocks 64 wide"
    assert official.describe(official_state(replace(SMALL, fov=False))).startswith(
        "MA-HMR of no released stage (no field-of-view head, no denoising, 11 shape parameters)"
    )
    assert official.describe(official.from_official(official_state())).startswith("MA-HMR stage 3 for 112 px")
    assert official.describe({"a.weight": torch.zeros(1)}) == "something else (a.weight)"
    assert official.describe({}) == "something without tensors"


def test_a_misfit_names_tensors_shapes_and_kinds():
    wanted = tensor_shapes(SMALL)
    stage1 = official.from_official(official_state(replace(SMALL, num_betas=10, fov=False, denoising=True)))
    problem = official.misfit(wanted, stage1)
    assert problem is not None
    for part in (
        "they look like MA-HMR stage 1", "it is MA-HMR stage 3", "8 missing (fov_head.layers.0.weight, ", "and 5 more",
        "5 of another shape (heads.mean_shape [10] instead of [11], ",
        "2 not part of it (denoising_encoder.",
    ):  # fmt: skip
        assert part in problem, part
    assert len(problem) < 800
    assert official.misfit(wanted, wanted) is None


def test_ten_shape_parameters_become_eleven_only_when_asked():
    state = official_state(replace(SMALL, num_betas=10))
    wanted = tensor_shapes(SMALL)
    narrow = official.from_official(state)
    assert "widen_betas=True" in (official.misfit(wanted, narrow) or "")
    wide = official.from_official(state, widen_betas=True)
    assert official.misfit(wanted, wide) is None
    for name in ("heads.shape.1.layers.2.weight", "heads.shape.0.layers.2.bias", "heads.mean_shape"):
        assert torch.equal(wide[name][:10], narrow[name]) and not wide[name][10].any()
    already = official.from_official(official_state(), widen_betas=True)
    assert official.misfit(wanted, already) is None


def test_widening_touches_only_the_last_layer_even_if_the_network_is_ten_wide():
    config = replace(SMALL, num_betas=10, denoising=True)
    weights = official.from_official(official_state(config), widen_betas=True)
    assert official.misfit(tensor_shapes(replace(config, num_betas=11)), weights) is None


def test_network_takes_official_weights(smpl):
    config = replace(SMALL, num_betas=10)
    model = MAHMR(config, smpl)
    state = official_state(config)
    model.load_official(state)
    assert torch.equal(model.decoder.content, state["tgt_embed.weight"])
    with pytest.raises(FormatError, match="they look like SAT-HMR"):
        model.load_official(official_state(replace(config, fov=False)))
