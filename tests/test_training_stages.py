"""Stages as configurations, changes to them by name, and the weights they start from."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from released_weights import SMALL, official_state
from test_mahmr_dinov2 import authors_state

from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import MAHMRConfig, checkpoint
from crowdmesh.mahmr.network import Network
from crowdmesh.training.augment import AugmentConfig
from crowdmesh.training.config import OptimiserConfig, RunConfig, TrainConfig
from crowdmesh.training.datasets.catalogue import dataset_spec
from crowdmesh.training.initial import BEST, LAST, start_from
from crowdmesh.training.loss_config import LossConfig
from crowdmesh.training.mixing import DataPart
from crowdmesh.training.overrides import changed, names
from crowdmesh.training.stages import STAGES, loss_differences
from crowdmesh.training.state import digest_of_settings

PAPER_STAGES = [name for name in STAGES if name != "tiny"]


@pytest.fixture
def tiny() -> TrainConfig:
    return STAGES["tiny"].make()


def test_the_stages_and_their_order():
    assert list(STAGES) == [
        "1-keypoints", "2-camera", "3-dto", "4-finetune-rh", "4-finetune-3dpw", "4-finetune-panoptic",
        "4-finetune-hi4d", "tiny",
    ]  # fmt: skip


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_frozen_and_goes_through_json(name):
    config = STAGES[name].make()
    assert config.stage == name
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config and digest_of_settings(again.to_dict()) == digest_of_settings(config.to_dict())
    other = replace(config, seed=config.seed + 1)
    assert digest_of_settings(other.to_dict()) != digest_of_settings(config.to_dict())


@pytest.mark.parametrize("name", STAGES)
def test_every_data_set_of_a_stage_has_the_splits_it_names(name):
    config = STAGES[name].make()
    for part in (*config.data, *config.validation):
        assert part.split in dataset_spec(part.dataset).splits
    assert config.validation
    assert all(part.split == "validation" or part.path == "validation" for part in config.validation)


@pytest.mark.parametrize("name", PAPER_STAGES)
def test_the_paper_s_optimiser(name):
    """Section 4.1: AdamW, learning rate 1e-5, weight decay 1e-4, 64 images (8 on Relative Human, as released)."""
    optimiser = STAGES[name].make().optimiser
    assert (optimiser.lr, optimiser.weight_decay, optimiser.clip) == (1e-5, 1e-4, 1.0)
    assert optimiser.batch == (8 if name == "4-finetune-rh" else 64)
    assert STAGES[name].differences and loss_differences(STAGES[name].make())


def test_what_each_stage_adds_to_the_one_before():
    first, second, third = (STAGES[name].make() for name in PAPER_STAGES[:3])
    assert [c.run.epochs for c in (first, second, third)] == [5.0, 5.0, 5.0]
    assert [c.network.denoising for c in (first, second, third)] == [True, False, False]
    assert [c.network.fov for c in (first, second, third)] == [False, True, True]
    assert [c.network.num_betas for c in (first, second, third)] == [10, 10, 11]
    assert [c.loss.fov for c in (first, second, third)] == [0, 0.5, 0.5]
    assert [c.loss.relative_metric for c in (first, second, third)] == [0, 0, 0.5]
    photographs = [{p.dataset for p in c.data} - {"agora", "bedlam"} for c in (first, second, third)]
    assert photographs[0] == photographs[1] == {f"{n}-chmr" for n in ("coco", "mpii", "insta", "aic")}
    assert photographs[2] == {f"{n}-dto" for n in ("coco", "mpii", "insta", "aic")}


def test_the_release_s_augmentation():
    """Spec facts 3: stages 1 to 3 alike, none on Relative Human, no crop on 3DPW and Hi4D, always one for Panoptic."""
    made = {name: STAGES[name].make().augment for name in PAPER_STAGES}
    first = made["1-keypoints"]
    assert (first.rotation_rad, first.zoom, first.flip, first.crop) == (math.radians(15), (0.8, 1.8), 0.5, 0.8)
    assert made["2-camera"] == made["3-dto"] == first and made["4-finetune-rh"] == AugmentConfig.none()
    assert made["4-finetune-3dpw"] == made["4-finetune-hi4d"] == replace(first, zoom=(1.0, 2.0), crop=0.0)
    assert made["4-finetune-panoptic"] == replace(first, zoom=(0.8, 2.0), crop=1.0)
    assert STAGES["tiny"].make().augment == made["4-finetune-3dpw"]


def test_what_concerns_every_stage_is_said_by_every_stage():
    said = {name: " ".join(STAGES[name].differences) for name in PAPER_STAGES}
    for words in ("joints outside the image count", "painted into the border"):
        assert all(words in text for text in said.values())
    assert {name for name, text in said.items() if "6 epochs" in text} == set(PAPER_STAGES[:3])
    assert {name for name, text in said.items() if "crops cut rows" in text} == {*PAPER_STAGES[:3], PAPER_STAGES[5]}


def test_what_the_release_weighs_otherwise_is_said():
    said = " ".join(loss_differences(STAGES["3-dto"].make()))
    assert "detection 4 (here 1)" in said and "depth 0 (here 0.5)" in said
    assert "detection" not in " ".join(loss_differences(changed(STAGES["3-dto"].make(), ["loss.detection=4"])))
    released = STAGES["3-dto"].with_losses("released")
    assert released.loss == LossConfig.released("3-dto") and loss_differences(released) == []
    assert STAGES["3-dto"].with_losses("paper") == STAGES["3-dto"].make()
    with pytest.raises(InputError, match="neither in the paper nor in the release"):
        STAGES["tiny"].with_losses("released")


def test_the_tiny_network_is_small(tiny):
    assert sum(p.numel() for p in Network(tiny.network).parameters()) < 10_000_000
    assert tiny.network.body == "anny"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RunConfig(), "set one of them"),
        (lambda: RunConfig(steps=1, epochs=1.0), "set one of them"),
        (lambda: RunConfig(steps=0), "steps must be a whole number of at least 1, got 0"),
        (lambda: OptimiserConfig(lr=0.0), "lr must be a number above 0"),
        (lambda: OptimiserConfig(lr=float("nan")), "lr"),
        (lambda: OptimiserConfig(batch=6, accumulation=4), "cannot be split into 4"),
        (lambda: OptimiserConfig(ema_decay=1.0), "ema_decay must lie in"),
        (lambda: OptimiserConfig(betas=(0.9, 1.0)), "betas"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_nothing_is_judged_on_that_is_learned_from(tiny):
    with pytest.raises(InputError, match="world is learned from and judged on"):
        replace(tiny, validation=tiny.data)
    with pytest.raises(InputError, match="world is learned from and judged on"):
        replace(tiny, validation=(replace(tiny.data[0], split="validation"),))
    with pytest.raises(InputError, match="needs data"):
        replace(tiny, data=())


def test_a_test_set_is_not_judged_on(tiny):
    with pytest.raises(InputError, match="mupots is there to test on"):
        replace(tiny, validation=(DataPart("mupots", split="test"),))


def test_steps_of_epochs():
    assert RunConfig(epochs=2.5).steps_for(images=100, batch=8) == 32  # 250 images
    assert RunConfig(steps=7).steps_for(images=100, batch=8) == 7
    assert RunConfig(epochs=0.001).steps_for(images=100, batch=64) == 1


def test_settings_change_one_value_each(tiny):
    config = changed(
        tiny, ["loss.fov=0.25", "optimiser.ema_decay=null", "optimiser.betas=[0.8, 0.9]", "data.0.weight=2",
               "network.body=anny", "run.steps = 50", "augment.zoom=[1, 1]"],
    )  # fmt: skip
    assert config.loss.fov == 0.25 and config.optimiser.ema_decay is None and config.optimiser.betas == (0.8, 0.9)
    assert config.data[0].weight == 2.0 and config.run.steps == 50 and config.augment.zoom == (1.0, 1.0)
    rest = changed(config, ["loss.fov=5"])
    assert replace(rest, loss=tiny.loss).optimiser == config.optimiser
    assert changed(tiny) == tiny


def test_a_length_in_steps_takes_the_place_of_one_in_epochs(tiny):
    config = changed(STAGES["3-dto"].make(), ["run.steps=10"])
    assert (config.run.steps, config.run.epochs) == (10, None)
    config = changed(tiny, ["run.epochs=1"])
    assert (config.run.steps, config.run.epochs) == (None, 1.0)


def test_of_two_lengths_the_later_one_counts(tiny, tmp_path):
    assert changed(tiny, ["run.epochs=1", "run.steps=3"]).run == replace(tiny.run, steps=3)
    file = tmp_path / "config.json"
    file.write_text('{"run": {"epochs": 2.5}}')
    assert changed(tiny, file=file).run == replace(tiny.run, steps=None, epochs=2.5)
    assert changed(tiny, ["run.steps=50"], file).run == replace(tiny.run, steps=50)
    file.write_text('{"run": {"epochs": 2.5, "steps": 3}}')
    with pytest.raises(InputError, match="set one of them"):
        changed(tiny, file=file)


def test_a_list_of_data_sets_is_replaced_whole(tiny):
    config = changed(tiny, ['data=[{"dataset": "set", "path": "S", "weight": 1}, {"dataset": "world", "weight": 3}]'])
    assert config.data == (DataPart("set", "S", 1.0), DataPart("world", None, 3.0))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("loss.fvo=1", r"no loss.fvo; did you mean loss.fov\? loss has pose, shape,"),
        ("los.fov=1", r"no los.fov; did you mean loss.fov"),
        ("batch=4", r"no batch; did you mean optimiser.batch\? the configuration has stage, network,"),
        ("optimiser.lr.x=4", "no optimiser.lr.x"),
        ("data.3.weight=4", "no data.3.weight"),
        ("zzzz=1", "no zzzz; the configuration has"),
        ("stage=3-dto", "stage cannot be set"),
        ("loss.fov", "NAME=VALUE"),
        ("=3", "NAME=VALUE"),
        ("loss.fov=much", "loss.fov must be a finite number, got 'much'"),
        ("loss.fov=NaN", "loss.fov must be a finite number"),
        ("loss.fov=null", "loss.fov must be a finite number, got None"),
        ("optimiser.batch=1.5", "optimiser.batch must be a whole number, got 1.5"),
        ("optimiser.batch=true", "optimiser.batch must be a whole number, got True"),
        ("optimiser.compile=1", "optimiser.compile must be true or false, got 1"),
        ("optimiser.precision=half", "optimiser.precision must be one of float32, bfloat16"),
        ("optimiser.betas=[1]", "optimiser.betas must be a list of 2 values"),
        ("augment=3", "augment must be an object"),
        ("data=[{}]", r"data.0 has the names dataset, path, weight, split; missing: dataset"),
        ('data=[{"dataset": "world", "wieght": 1}]', "unknown: wieght"),
        ("optimiser.lr=-1", "lr must be a number above 0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_there_is(tiny, setting, said):
    with pytest.raises(InputError, match=said):
        changed(tiny, [setting])


@pytest.mark.parametrize("name", [pytest.param("1-keypoints", marks=pytest.mark.slow), "tiny"])
def test_every_name_can_be_set_to_what_it_is(name):
    config = STAGES[name].make()
    values = config.to_dict()
    for dotted in names(values):
        if dotted != "stage":
            place = values
            for part in dotted.split("."):
                place = place[int(part) if isinstance(place, list) else part]
            assert changed(config, [f"{dotted}={json.dumps(place)}"]) == config


def test_a_file_replaces_what_it_names_and_settings_come_last(tiny, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"loss": {"fov": 2, "pose": 3}, "seed": 9}))
    config = changed(tiny, ["loss.pose=4"], file)
    assert (config.loss.fov, config.loss.pose, config.seed) == (2.0, 4.0, 9)
    assert config.loss.depth == tiny.loss.depth
    file.write_text(json.dumps(config.to_dict()))
    assert changed(tiny, file=file) == config


def test_a_file_that_cannot_be_used_is_refused(tiny, tmp_path):
    file = tmp_path / "config.json"
    with pytest.raises(InputError, match="no file"):
        changed(tiny, file=file)
    for text, error, said in (
        ("{", FormatError, "not a readable JSON file"),
        ("[1]", InputError, "must hold a JSON object"),
        ('{"loss": {"fvo": 1}}', InputError, "config.json: there is no loss.fvo; did you mean loss.fov"),
        ('{"loss": 1}', InputError, "loss must be an object"),
    ):
        file.write_text(text)
        with pytest.raises(error, match=said):
            changed(tiny, file=file)
    file.write_text(json.dumps(STAGES["3-dto"].make().to_dict()))
    with pytest.raises(InputError, match="stage cannot be set"):
        changed(tiny, file=file)


# What a stage starts from


def released(tmp_path, **changes) -> tuple[MAHMRConfig, dict[str, torch.Tensor], str]:
    """A released checkpoint in a file."""
    config = replace(SMALL, **changes)
    state = official_state(config)
    torch.save(state, tmp_path / "released.pth")
    return config, state, str(tmp_path / "released.pth")


def test_random_weights_are_left_alone():
    network = Network(SMALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert start_from(network, None).description == "random weights"
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_stage_1_starts_from_sat_hmr_with_a_new_denoising_layer(tmp_path):
    config, state, file = released(tmp_path, num_betas=10, fov=False, denoising=False)
    network = Network(replace(config, denoising=True))
    layer = network.denoising_encoder.weight.clone()
    start = start_from(network, file)
    assert "SAT-HMR" in start.description and start.fresh == ("denoising_encoder",) and not start.dropped
    assert start.sha256 is not None and start.licence is not None
    assert torch.equal(network.denoising_encoder.weight, layer)
    assert torch.equal(network.encoder.position, state["encoder_pos_embeds"])


def test_stage_2_starts_from_stage_1_with_a_new_camera_head_and_without_denoising(tmp_path):
    config, state, file = released(tmp_path, num_betas=10, fov=False, denoising=True)
    network = Network(replace(config, denoising=False, fov=True))
    start = start_from(network, file)
    assert start.fresh == ("fov_head",) and start.dropped == ("denoising_encoder",) and not start.widened
    assert any("at random" in line and "fov_head" in line for line in start.lines())
    assert torch.equal(network.decoder.content, state["tgt_embed.weight"])


def test_stage_3_starts_from_stage_2_with_a_kid_axis_of_zeros(tmp_path):
    config, state, _ = released(tmp_path, num_betas=10)
    before = Network(config)
    start_from(before, str(tmp_path / "released.pth"))
    run = tmp_path / "run"
    run.mkdir()
    checkpoint.save(before, run / BEST, "ours", {"stage": "2-camera"})
    network = Network(replace(config, num_betas=11))
    start = start_from(network, run)
    assert start.widened and start.licence == "ours" and not start.fresh and not start.dropped
    assert network.heads.mean_shape.tolist()[:10] == state["mean_shape"].tolist() and network.heads.mean_shape[10] == 0
    for i in range(config.decoder_depth):
        last = network.state_dict()[f"heads.shape.{i}.layers.{config.shape_depth - 1}.weight"]
        assert torch.equal(last[:10], state[f"shape_head.{i}.layers.{config.shape_depth - 1}.weight"])
        assert not last[10].any()


def test_a_run_that_was_not_validated_starts_with_its_last_weights(tmp_path):
    checkpoint.save(Network(SMALL), tmp_path / LAST, "ours")
    assert start_from(Network(SMALL), tmp_path).file == LAST
    checkpoint.save(Network(SMALL), tmp_path / BEST, "ours")
    assert start_from(Network(SMALL), tmp_path).file == BEST


def test_a_dinov2_encoder_starts_the_encoder_alone(tmp_path):
    authors = authors_state()
    torch.save(authors, tmp_path / "dino.pth")
    network = Network(SMALL)
    decoder = network.decoder.content.clone()
    start = start_from(network, tmp_path / "dino.pth")
    assert "DINOv2" in start.description and "decoder" in start.fresh and "encoder.map_head" in start.fresh
    assert "encoder.blocks" not in start.fresh
    assert torch.equal(network.encoder.state_dict()["blocks.2.qkv.weight"], authors["blocks.2.attn.qkv.weight"])
    assert torch.equal(network.decoder.content, decoder)


def test_weights_of_another_size_or_body_are_refused_in_a_clear_sentence(tmp_path):
    config, _, file = released(tmp_path)
    with pytest.raises(InputError, match=r"cannot start this network: its network is of another size \(width 64, not"):
        start_from(Network(replace(config, width=128, heads=2)), file)
    with pytest.raises(InputError, match=r"input_size 112, not 168"):
        start_from(Network(replace(config, input_size=168)), file)
    with pytest.raises(InputError, match="do not fit the network"):
        start_from(Network(replace(config, num_betas=10)), file)
    with pytest.raises(InputError, match="body 'smpl', and this network is for 'anny'"):
        start_from(Network(MAHMRConfig.tiny(112)), file)
    torch.save(authors_state(), tmp_path / "dino.pth")
    with pytest.raises(InputError, match="cannot start this network"):
        start_from(Network(replace(SMALL, width=128, heads=2)), tmp_path / "dino.pth")


def test_a_network_is_as_it_was_when_its_start_is_refused(tmp_path):
    config, _, file = released(tmp_path)
    network = Network(replace(config, num_betas=10))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(InputError):
        start_from(network, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_is_no_start_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"has no {BEST}"):
        start_from(Network(SMALL), tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        start_from(Network(SMALL), tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(FormatError, match=r"text.pth is not a PyTorch file"):
        start_from(Network(SMALL), tmp_path / "text.pth")
    state = official_state(SMALL)
    del state["conf_head.weight"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(FormatError, match="missing"):
        start_from(Network(SMALL), tmp_path / "cut.pth")
