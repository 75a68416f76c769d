"""MA-HMR against the recorded forward pass of the release (448 px, two images of different size, made-up weights)."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from crowdmesh.body import SMPL
from crowdmesh.mahmr import MAHMR, MAHMRConfig, MAHMROutput
from crowdmesh.mahmr.decoder import Decoded
from crowdmesh.mahmr.encoder import EncodedImages

SIZE = 448
PIXELS = 5e-3
TOLERANCE = 1e-4


def script(folder: Path, name: str):
    """A recorded rule, run from where it is kept."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def body_files(vectors, tmp_path_factory) -> Path:
    """Made-up files in SMPL's layout, as the recording used them."""
    folder = tmp_path_factory.mktemp("smpl")
    script(vectors, "smpl_stand_in").write(str(folder))
    return folder / "smpl"


@pytest.fixture(scope="module")
def official_state(vectors, body_files) -> dict[str, Tensor]:
    """The recording's weights under the release's names."""
    rule = script(vectors, "weights_rule")
    state = {}
    for group in json.loads((vectors / "state_dict_keys.json").read_text())["stage3_fov_kid"]["groups"].values():
        for key, entry in group.items():
            if key not in rule.SKIP_EXACT and not key.startswith(rule.SKIP_PREFIX):
                shape = [SIZE // 14, SIZE // 14, 768] if key == "encoder_pos_embeds" else entry["shape"]
                state[key] = rule.tensor_for(key, shape)
    state |= {f"decoder.decoder.{key}": value for key, value in state.items() if key.startswith("bbox_embed.")}
    mean = np.load(body_files / "smpl_mean_params.npz")
    state["mean_pose"] = torch.from_numpy(mean["pose"])
    state["mean_shape"] = torch.from_numpy(np.append(mean["shape"], np.float32(0)))
    return state


@pytest.fixture(scope="module")
def model(official_state, body_files) -> MAHMR:
    """The network with the recording's weights and body."""
    body = SMPL(body_files / "SMPL_NEUTRAL.pkl", body_files / "smpl_kid_template.npy")
    model = MAHMR(MAHMRConfig.official(SIZE), body).eval()
    model.load_official(official_state)
    return model


@pytest.fixture(scope="module")
def recorded(vectors) -> dict[str, np.ndarray]:
    """The recorded arrays."""
    with np.load(vectors / "ma_hmr_forward_448.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def images(recorded) -> list[Tensor]:
    """The recorded pictures, normalised."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pictures = [torch.from_numpy(recorded[f"img{i}_u8"]).float() / 255 for i in (0, 1)]
    return [((picture - mean) / std).permute(2, 0, 1).contiguous() for picture in pictures]


@pytest.fixture(scope="module")
def result(model, images, recorded) -> tuple[MAHMROutput, EncodedImages, Decoded, Tensor]:
    """The output, and on the way to it what the encoder and the decoder give and what the decoder is
    given: tokens and, beside them, their position codes."""
    sizes, given = torch.from_numpy(recorded["img_size"]), torch.from_numpy(recorded["gt_scale_map"])
    with torch.inference_mode():
        output = model(images, sizes, given)
        encoded = model.encoder(images, given)
        memory = model.memory_projection(encoded.tokens), model.token_positions(encoded)
        return output, encoded, model.decode(encoded), torch.cat(memory, 1)


def close(ours: Tensor, theirs: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Every number within the tolerance."""
    assert ours.shape == theirs.shape
    assert np.abs(ours.numpy().astype(float) - theirs.astype(float)).max() < tolerance


def test_tokens(model, result, recorded):
    _, encoded, _, given = result
    memory, position = given.split(model.config.width, 1)
    assert encoded.lengths == recorded["token_lens"].tolist()
    assert encoded.level.tolist() == recorded["token_lvl"].tolist()
    centre = (encoded.yx + 0.5) / (model.config.grid / 2.0**encoded.level)[:, None]
    close(centre[:, 0], recorded["token_pos_y"], 1e-7)
    close(centre[:, 1], recorded["token_pos_x"], 1e-7)
    close(encoded.scale_map, recorded["scale_map"])
    close(encoded.camera, recorded["camera_token"], 2e-5)
    close(encoded.tokens, recorded["enc_tokens_normed"], 2e-5)
    close(memory[:, :16], recorded["memory_first16ch"], 2e-5)
    close(position[:8], recorded["memory_pos_first8tok"], 1e-6)
    assert memory.mean().item() == pytest.approx(recorded["memory_mean_std"][0], abs=1e-6)
    assert memory.std().item() == pytest.approx(recorded["memory_mean_std"][1], abs=1e-5)


def test_cells_are_in_morton_order(images, recorded):
    from crowdmesh.mahmr.encoder import Cells

    cells = Cells.of(images)
    assert torch.bincount(cells.image).tolist() == recorded["lvl1_lens"].tolist()
    assert cells.yx.tolist() == np.stack((recorded["lvl1_pos_y"], recorded["lvl1_pos_x"]), 1).tolist()


def test_what_enters_the_late_blocks(model, images, recorded):
    entering = []
    late = model.encoder.blocks[model.config.early_depth]
    hook = late.register_forward_pre_hook(lambda _, arguments: entering.append(arguments[0]))
    with torch.inference_mode():
        encoded = model.encoder(images, torch.from_numpy(recorded["gt_scale_map"]))
    hook.remove()
    second = encoded.lengths[0] + 1
    close(torch.stack((entering[0][:3], entering[0][second : second + 3])), recorded["enc_mid_first_token_rows"], 2e-5)


def test_decoder(result, recorded):
    _, _, decoded, _ = result
    close(decoded.hidden, recorded["hs"], 2e-5)
    close(decoded.references, recorded["ref"], 2e-5)


def test_heads(model, result, recorded):
    output, encoded, decoded, _ = result
    with torch.inference_mode():
        close(model.heads.poses_6d(decoded.hidden)[-1], recorded["pose6d_last"], 1e-5)
        close(model.heads.placement(decoded.hidden[-1]), recorded["cam_xys_last"], 2e-5)
        close(model.fov_head(encoded.camera), recorded["fov_raw"], 1e-5)
    close(output.vertical_fov[:, None], recorded["fov_raw"], 1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs", "tolerance"),
    [
        ("poses", "pred_poses", TOLERANCE),
        ("betas", "pred_betas", TOLERANCE),
        ("boxes", "pred_boxes", TOLERANCE),
        ("confidences", "pred_confs", TOLERANCE),
        ("translations", "pred_transl", TOLERANCE),
        ("joints_3d", "pred_j3ds", TOLERANCE),
        ("joints_2d", "pred_j2ds", PIXELS),
        ("intrinsics", "intrinsics", PIXELS),
    ],
)
def test_output(result, recorded, ours, theirs, tolerance):
    value = getattr(result[0], ours)
    close(value, recorded[theirs].reshape(value.shape), tolerance)


def test_vertices_and_depths(result, recorded):
    output = result[0]
    close(output.vertices[:, :, ::100], recorded["pred_verts_every100"])
    depth = output.translations[..., 2]
    close(torch.stack((depth, depth / output.focal_px[:, None]), -1), recorded["pred_depths"])


def test_an_image_alone_gives_the_same(model, images, recorded, result):
    sizes, given = torch.from_numpy(recorded["img_size"]), torch.from_numpy(recorded["gt_scale_map"])
    maps = given.split(recorded["lvl1_lens"].tolist())
    for i in (0, 1):
        with torch.inference_mode():
            alone = model(images[i : i + 1], sizes[i : i + 1], maps[i])
        for name in ("poses", "betas", "boxes", "confidences", "translations", "vertices", "vertical_fov"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(result[0], name)[i], atol=1e-5, rtol=0)


def plain(official_state, body_files, images, sizes, size):
    """The network as benchmarks/plain_mahmr.py computes it: written apart from ours, in the way of the release."""
    reference = script(Path(__file__).parents[1] / "benchmarks", "plain_mahmr")
    body = SMPL(body_files / "SMPL_NEUTRAL.pkl", body_files / "smpl_kid_template.npy")
    return reference.forward(reference.prepared(official_state), images, sizes, body, size)


def same_as_plain(output, reference):
    """All outputs, and the levels of tokens that the predicted map asks for."""
    assert output.token_lengths.tolist() == reference.token_lengths
    for name in ("scale_map", "poses", "betas", "boxes", "confidences", "translations", "vertical_fov", "vertices",
                 "joints_3d", "hidden_states", "joints_2d", "focal_px"):  # fmt: skip
        theirs = getattr(reference, name)
        tolerance = PIXELS if name in ("joints_2d", "focal_px") else 1e-5
        torch.testing.assert_close(getattr(output, name).reshape(theirs.shape), theirs, atol=tolerance, rtol=0)


def test_the_plain_reference_agrees_on_the_predicted_map(model, official_state, body_files, images, recorded):
    sizes = [tuple(size) for size in recorded["img_size"].tolist()]
    with torch.inference_mode():
        output = model(images[:1], torch.tensor(sizes[:1]))
    same_as_plain(output, plain(official_state, body_files, images[:1], sizes[:1], SIZE))


@pytest.mark.slow
def test_the_plain_reference_agrees_at_1288_pixels(official_state, body_files, photos):
    from crowdmesh.images import read_image
    from crowdmesh.mahmr.canvas import prepare

    state = dict(official_state)
    state["encoder_pos_embeds"] = 0.02 * torch.randn(92, 92, 768, generator=torch.Generator().manual_seed(0))
    canvas = prepare(read_image(photos / "soccer.jpg"), 1288)
    body = SMPL(body_files / "SMPL_NEUTRAL.pkl", body_files / "smpl_kid_template.npy")
    model = MAHMR(MAHMRConfig.official(), body).eval()
    model.load_official(state)
    with torch.inference_mode():
        output = model([canvas.pixels], torch.tensor([(canvas.height, canvas.width)]))
    same_as_plain(output, plain(state, body_files, [canvas.pixels], [(canvas.height, canvas.width)], 1288))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"kid": False, "fov": False}, 221_885_956),
        ({"kid": False}, 223_658_501),
        ({}, 223_663_115),
        ({"kid": False, "fov": False, "denoising": True}, 221_949_700),
    ],
)
def test_parameter_counts(body_files, options, count):
    body = SMPL(body_files / "SMPL_NEUTRAL.pkl", body_files / "smpl_kid_template.npy")
    with torch.device("meta"):
        model = MAHMR(MAHMRConfig.official(**options), body)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
