"""Photographs to scenes with a small network of made-up weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic_smpl
import torch
from released_weights import SMALL, official_state
from small_mahmr import tiny

from crowdmesh.body import load_body, pose_people
from crowdmesh.cli import main
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import MAHMR
from crowdmesh.mahmr.canvas import prepare
from crowdmesh.mahmr.checkpoint import save
from crowdmesh.people import PersonStatus
from crowdmesh.scene import Scene

SIZES = [(48, 64), (90, 40), (16, 160), (300, 500), (55, 55)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Colourful noise."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def sure(model: MAHMR, level: float) -> MAHMR:
    """The network with confidences around a level."""
    torch.nn.init.constant_(model.heads.confidence.bias, math.log(level / (1 - level)))
    return model


@pytest.fixture(scope="module")
def model() -> MAHMR:
    return sure(tiny(112), 0.5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(sure(tiny(112, queries=3), 0.99), path, "Apache-2.0 (made-up numbers)")
    return path


def test_the_canvas_is_the_photograph_resized_and_padded():
    canvas = prepare(picture(300, 500), 112)
    assert (canvas.height, canvas.width) == (int(112 / 500 * 300), 112) == (67, 112)
    assert canvas.pixels.shape == (3, 112, 112)
    resized = cv2.resize(picture(300, 500), (112, 67)).transpose(2, 0, 1) / 255
    mean, std = (np.array(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    np.testing.assert_allclose(canvas.pixels[:, :67].numpy(), (resized - mean) / std, atol=1e-6)
    np.testing.assert_allclose(canvas.pixels[:, 67:].numpy(), np.broadcast_to(-mean / std, (3, 45, 112)), atol=1e-6)


def test_a_scene_per_photograph_whatever_the_batch(model):
    photos = [picture(*size, seed=i) for i, size in enumerate(SIZES)]
    scenes = model.infer(photos, threshold=0.45)
    one_by_one = model.infer(photos, threshold=0.45, batch_size=1)
    assert sum(len(scene.people) for scene in scenes) > 20
    for scene, alone, (height, width) in zip(scenes, one_by_one, SIZES, strict=True):
        assert (scene.camera.height, scene.camera.width) == (height, width)
        assert len(scene.people) == len(alone.people)
        assert np.allclose(scene.people.vertices_m, alone.people.vertices_m, atol=1e-4)
        assert np.allclose(scene.people.boxes_px, alone.people.boxes_px, atol=1e-2)
        assert scene.people.scores is not None
        assert (np.diff(scene.people.scores) <= 0).all() and (scene.people.scores > 0.45).all()
        assert set(scene.people.statuses) <= {PersonStatus.PREDICTED}


def test_scene_and_network_agree_in_pixels(model):
    """Joints through the scene's camera are the network's 2D joints, at the photograph's size."""
    photo = picture(300, 500)
    (scene,) = model.infer([photo], threshold=0.0)
    canvas = prepare(photo, 112)
    with torch.no_grad():
        output = model([canvas.pixels], torch.tensor([(canvas.height, canvas.width)]))
    order = output.confidences[0].argsort(descending=True, stable=True)
    expected = output.joints_2d[0, order].numpy() * (500 / canvas.width, 300 / canvas.height)
    joints = output.joints_3d[0, order].numpy()
    assert np.allclose(scene.camera.project(joints), expected, atol=2e-2)
    assert np.allclose(scene.people.scores, output.confidences[0, order].numpy(), atol=1e-6)
    assert scene.provenance["best_confidence"] == pytest.approx(output.confidences.max().item())
    assert np.allclose(scene.people.shape, output.betas[0, order].numpy(), atol=1e-6)
    centre, size = (part.numpy() for part in output.boxes[0, order].split(2, -1))
    corners = np.concatenate((centre - size / 2, centre + size / 2), 1) * 112
    expected = corners * np.tile((500 / canvas.width, 300 / canvas.height), 2)
    assert np.allclose(scene.people.boxes_px, expected, atol=1e-3)
    again = pose_people(scene.people, model.body)
    assert np.allclose(again.vertices_m, scene.people.vertices_m, atol=1e-4)
    assert np.allclose(scene.people.vertices_m, output.vertices[0, order].numpy(), atol=1e-4)
    pelvis = scene.people.joints_m[:, model.body.pelvis]
    assert np.allclose(pelvis, joints[:, 0], atol=1e-5)
    assert scene.camera.vertical_fov == pytest.approx(output.vertical_fov.item(), rel=1e-6)
    assert np.allclose(scene.people.stature_m, model.body.stature(output.betas[0, order]).detach().numpy(), atol=1e-5)


def test_a_known_field_of_view_per_photograph(model):
    photos = [picture(48, 64), picture(48, 64)]
    free, known = model.infer(photos, fov=[None, 0.9])
    assert known.camera.vertical_fov == pytest.approx(0.9)
    assert free.camera.vertical_fov != pytest.approx(0.9)
    assert "given" in known.provenance["camera"] and "predicted" in free.provenance["camera"]
    ratio = known.people.translation_m[:, 2] / free.people.translation_m[:, 2]
    assert np.allclose(ratio, known.camera.fy / free.camera.fy, rtol=1e-5)
    fovs = [0.5, None, 0.7]
    in_batches = model.infer([picture(48, 64, seed=i) for i in range(3)], fov=fovs, batch_size=1)
    assert [scene.camera.vertical_fov for scene in in_batches][::2] == pytest.approx(fovs[::2])
    (everywhere,) = model.infer(photos[:1], fov=0.9)
    assert everywhere.camera == known.camera


@pytest.mark.parametrize("raw", [-5.0, 0.0, 3.3, 50.0])
def test_fields_of_view_that_no_camera_has_are_bounded_and_said(raw):
    model = sure(tiny(112), 0.5)
    torch.nn.init.constant_(model.fov_head.layers[-1].bias, raw)
    torch.nn.init.zeros_(model.fov_head.layers[-1].weight)
    (scene,) = model.infer([picture(64, 48)])
    assert len(scene.people)
    assert np.isfinite(scene.people.vertices_m).all()
    if raw > 1:
        assert "implausible" in scene.provenance["camera"]


def test_nobody_is_a_scene_of_nobody(tmp_path):
    (scene,) = sure(tiny(112), 1e-6).infer([picture(48, 64)])
    assert len(scene.people) == 0
    assert scene.provenance["best_confidence"] < 0.3
    scene.save(tmp_path / "x.scene.npz")
    assert len(Scene.load(tmp_path / "x.scene.npz").people) == 0


def test_weights_beyond_all_bounds_are_said_to_be():
    model = tiny(112)
    torch.nn.init.constant_(model.memory_projection.weight, 3e38)
    with pytest.raises(InputError, match="result for array 0 is not finite"):
        model.infer([picture(48, 64)])


def test_no_photographs_give_no_scenes(model):
    assert model.infer([]) == []


def test_half_precision_is_close(model):
    (exact,), (rough,) = (
        model.infer([picture(300, 500)], threshold=0.0, precision=precision)
        for precision in (torch.float32, torch.bfloat16)
    )
    order = rough.people.scores.argsort(), exact.people.scores.argsort()
    assert len(exact.people) == len(rough.people) == 50
    assert np.median(abs(rough.people.scores[order[0]] - exact.people.scores[order[1]])) < 0.02
    assert rough.camera.vertical_fov == pytest.approx(exact.camera.vertical_fov, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.zeros((48, 64), np.uint8)],), "uint8 RGB"),
        (([np.zeros((48, 64, 4), np.uint8)],), "uint8 RGB"),
        (([np.zeros((48, 64, 3))],), "uint8 RGB"),
        (([np.zeros((8, 64, 3), np.uint8)],), "at least 16x16"),
        ((np.zeros((48, 64, 3), np.uint8),), "takes a list"),
        (([picture(48, 64)], 60.0), "are these degrees"),
        (([picture(48, 64)], [0.5, 0.6]), "2 fields of view for 1 images"),
        (([picture(48, 64)], None, 1.5), "threshold"),
        (([picture(48, 64)], None, 0.3, 0), "batch_size"),
        (([picture(48, 64)], None, 0.3, 1, "bfloat16"), "precision must be"),
        (([picture(48, 64)], None, 0.3, 1, torch.float64), "precision must be"),
        (([picture(48, 64), np.zeros((8, 8, 3), np.uint8)],), "image 1 of the list has 8x8"),
        ((["nowhere.jpg"],), "nowhere.jpg does not exist"),
    ],
)
def test_what_infer_cannot_use(unchecked, model, arguments, message):
    with pytest.raises(InputError, match=message):
        model.infer(*arguments)


@pytest.mark.parametrize("fov", [np.float32(0.9), torch.tensor(0.9), np.array([0.9]), (0.9,)])
def test_fields_of_view_may_be_any_numbers(unchecked, model, fov):
    (scene,) = model.infer([picture(48, 64)], fov=fov)
    assert scene.camera.vertical_fov == pytest.approx(0.9)


def test_half_precision_weights_are_refused():
    with pytest.raises(InputError, match="keep them in float32"):
        tiny(112).half().infer([picture(48, 64)])


def test_everything_within_inference_mode(weights):
    with torch.inference_mode():
        model = MAHMR.from_pretrained(weights)
        assert len(model.infer([picture(48, 64)], threshold=0.0)) == 1


def test_quirks_are_kept_in_files_and_can_be_chosen(tmp_path):
    save(tiny(112, official_quirks=True), tmp_path / "x.safetensors", "none")
    chosen = {q: MAHMR.from_pretrained(tmp_path / "x.safetensors", official_quirks=q).config for q in (None, False)}
    assert chosen[None].official_quirks and not chosen[False].official_quirks


def test_predict_writes_what_reconstruct_writes(weights, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), picture(120, 100))
    arguments = ["predict", str(tmp_path / "a.png"), "--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "predicted by the network" in " ".join(capsys.readouterr().out.split())
    scene = Scene.load(tmp_path / "out" / "a.scene.npz")
    table = json.loads((tmp_path / "out" / "a.json").read_text())
    assert len(scene.people) == len(table["people"]) > 0
    assert table["provenance"]["weights"]["licence"] == "Apache-2.0 (made-up numbers)"
    assert len(table["provenance"]["weights"]["sha256"]) == 64
    assert table["dto"] is None
    assert (tmp_path / "out" / "a.glb").is_file()
    assert cv2.imread(str(tmp_path / "out" / "a.png")) is not None
    assert main(arguments) == 0
    assert "skipped" in capsys.readouterr().out
    renamed = weights.with_name("renamed.safetensors")
    renamed.write_bytes(weights.read_bytes())
    assert main([str(renamed) if argument == str(weights) else argument for argument in arguments]) == 0
    assert "skipped" in capsys.readouterr().out
    assert main([*arguments, "--threshold", "0.2"]) == 1  # other settings: not replaced without --overwrite
    assert main([*arguments, "--fov", "50", "--overwrite"]) == 0
    assert Scene.load(tmp_path / "out" / "a.scene.npz").camera.vertical_fov == pytest.approx(math.radians(50))


def test_predict_says_that_it_found_nobody(tmp_path, capsys):
    save(sure(tiny(112), 1e-6), tmp_path / "shy.safetensors", "none")
    cv2.imwrite(str(tmp_path / "a.png"), picture(48, 64))
    folder = tmp_path / "out"
    photo, file = str(tmp_path / "a.png"), str(tmp_path / "shy.safetensors")
    assert main(["predict", photo, "--weights", file, "--out", str(folder)]) == 0
    assert "nobody above confidence 0.3" in " ".join(capsys.readouterr().out.split())
    assert len(Scene.load(folder / "a.scene.npz").people) == 0
    assert (folder / "a.png").is_file() and not (folder / "a.glb").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--weights", "nowhere.safetensors"], "nowhere"),
        (["--weights", "{weights}", "--fov", "0.6"], "--fov is the vertical field of view in degrees"),
        (["--weights", "{weights}", "--threshold", "1.5"], "threshold must lie in"),
        (["--weights", "{weights}", "--device", "cuda"], "device cuda cannot be used"),
    ],
)
def test_what_predict_cannot_use(weights, tmp_path, capsys, extra, message):
    if "cuda" in extra and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    cv2.imwrite(str(tmp_path / "a.png"), picture(48, 64))
    arguments = [argument.format(weights=weights) for argument in extra]
    assert main(["predict", str(tmp_path / "a.png"), *arguments, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_predict_on_sample_photographs(weights, photos, tmp_path):
    assert main(["predict", str(photos), "--weights", str(weights), "--out", str(tmp_path)]) == 0
    names = [path.stem for path in sorted(photos.glob("*.jpg"))]
    assert names
    for name in names:
        assert Scene.load(tmp_path / f"{name}.scene.npz").image is not None
        assert (tmp_path / f"{name}.png").is_file()


def test_weights_that_can_run_code_are_refused(tmp_path, capsys):
    import pickle

    class Evil:
        def __reduce__(self):
            return print, ("this must not be printed",)

    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FormatError, match="nothing of it was run"):
        MAHMR.from_pretrained(tmp_path / "evil.bin")
    assert "must not" not in capsys.readouterr().out


def test_convert_then_predict(tmp_path, capsys):
    """A checkpoint of the release's layout to our file; then the network sees people with the user's SMPL files."""
    state = official_state()
    state["conf_head.weight"].zero_()  # everybody is equally sure
    state["conf_head.bias"].fill_(1.0)
    torch.save(state, tmp_path / "stage3.bin")
    out = tmp_path / "ours.safetensors"
    assert main(["convert", str(tmp_path / "stage3.bin"), str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "MA-HMR stage 3" in said and "CC BY-NC" in said and "human_model" in said
    body = synthetic_smpl.write(tmp_path / "smpl")
    model = MAHMR.from_pretrained(out, load_body("smpl", body))
    assert model.config == SMALL
    (scene,) = model.infer([picture(48, 64)], threshold=0.0)
    assert scene.people.body == "smpl" and scene.people.pose.shape == (SMALL.queries, 24, 3)
    assert main(["convert", str(out), str(tmp_path / "again.safetensors")]) == 1
    assert "converted file already" in capsys.readouterr().err


@pytest.mark.slow
def test_convert_to_onnx(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    small = tiny(112, depth=2, early_depth=1, decoder_depth=1, queries=2, pose_depth=1, shape_depth=1)
    save(small, tmp_path / "small.safetensors", "none")
    out = tmp_path / "tiny.onnx"
    arguments = [
        "convert",
        str(tmp_path / "small.safetensors"),
        str(out),
        "--height",
        "56",
        "--width",
        "112",
        "--max-tokens",
        "30",
    ]
    assert main(arguments) == 0
    assert "room for 30 tokens" in " ".join(capsys.readouterr().out.split())
    assert out.stat().st_size > 1e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{weights}", "x.pt"], "converted to .safetensors or .onnx"),
        (["nowhere.bin", "{folder}/x.safetensors"], "nowhere.bin"),
        (["{weights}", "{folder}/x.safetensors", "--height", "56"], "belong to .onnx"),
        (["{weights}", "{folder}/x.onnx", "--licence", "mine"], "belongs to .safetensors"),
        (["{weights}", "{folder}/x.onnx", "--height", "100"], "multiples of 56"),
    ],
)
def test_what_convert_cannot_use(weights, tmp_path, capsys, arguments, message):
    assert main(["convert", *(argument.format(weights=weights, folder=tmp_path) for argument in arguments)]) == 1
    assert message in capsys.readouterr().err
