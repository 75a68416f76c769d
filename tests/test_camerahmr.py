"""CameraHMR: what it is shown of people, what its answers mean in metres, and which mesh is whose."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import roma
import synthetic_smpl
import torch
from _small_hmr import SMALL, lightning, small_state

from crowdmesh.body import load_body
from crowdmesh.camera import Camera
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts import camerahmr
from crowdmesh.experts._device import Device
from crowdmesh.experts._hmr_crops import box_conditions, crop_person, full_translation
from crowdmesh.experts._hmr_head import HMRNetwork, HMROutput
from crowdmesh.experts._weights import Account
from crowdmesh.experts.base import Detections, InputImage, Keypoints, MeshExpert
from crowdmesh.experts.camerahmr import IMPLAUSIBLE, UNMATCHED, CameraHMR
from crowdmesh.experts.matching import MeshMatch
from crowdmesh.masks import Masks

CAMERA = Camera(900.0, 900.0, 640.0, 360.0, 1280, 720)
BOX_ERRORS = np.array([[-20, 0, 15, 8], [0, 0, 0, 0], [3, -30, 0, 60]])
SHIFTED = Camera(900.0, 900.0, 300.0, 500.0, 1280, 720)


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    """An asset folder with a made-up SMPL and a small checkpoint in the release's layout."""
    folder = tmp_path_factory.mktemp("assets")
    synthetic_smpl.write(folder / "smpl")
    (folder / "camerahmr").mkdir()
    torch.save(lightning(small_state()), folder / "camerahmr" / "camerahmr_checkpoint_cleaned.ckpt")
    return folder


@pytest.fixture
def small(assets, monkeypatch) -> Path:
    """Asset folder and network are the small ones."""
    monkeypatch.setenv("CROWDMESH_ASSETS", str(assets))
    monkeypatch.setattr(camerahmr, "HMRNetwork", functools.partial(HMRNetwork, *SMALL))
    return assets


class Recorded(HMRNetwork):
    """Gives the answers it was told, look after look, and remembers what it was shown."""

    def __init__(self, rotations: np.ndarray, weak: np.ndarray) -> None:
        torch.nn.Module.__init__(self)
        self.backbone = torch.nn.Identity()
        self.rotations, self.weak = torch.from_numpy(rotations).float(), torch.from_numpy(weak).float()
        self.crops: list[np.ndarray] = []
        self.boxes: list[np.ndarray] = []
        self.sizes: list[int] = []

    def forward(self, crops, boxes):
        done, n = len(self.crops), len(crops)
        self.crops += list(crops.numpy())
        self.boxes += list(boxes.numpy())
        self.sizes.append(n)
        betas = torch.zeros(n, 10)
        betas[:, 0] = 0.5
        return HMROutput(self.rotations[done : done + n], betas, self.weak[done : done + n])


def told(monkeypatch, rotations, weak, batch: int = 64, weights=None, **options) -> tuple[CameraHMR, Recorded]:
    network = Recorded(np.asarray(rotations), np.asarray(weak, float))
    monkeypatch.setattr(camerahmr, "load_network", lambda *_: (network, Account((), 0, (), ())))
    return CameraHMR(weights, Device(batch=batch), **options), network


def upright(n: int) -> np.ndarray:
    """Rest poses facing the camera, each turned a little otherwise."""
    turns = np.tile(np.eye(3), (n, 24, 1, 1))
    turns[:, 0] = roma.rotvec_to_rotmat(torch.tensor([[0.0, 0.3 * i, 0.0] for i in range(n)])).numpy() @ np.diag(
        [1, -1, -1]
    )
    return turns


def weak_by_hand(camera: Camera, box: np.ndarray, origin_m: np.ndarray) -> np.ndarray:
    """The answer that shows a body at a place: magnification and pixel of its origin, in crop units from -1 to 1."""
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2
    scale = camera.fx / origin_m[2] / half
    shift = (camera.project(origin_m) - centre) / half / scale
    return np.array([scale, *shift])


def evidence(boxes: np.ndarray, coco: np.ndarray | None = None, size=(720, 1280)) -> tuple[Detections, Keypoints]:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[max(0, top) : bottom, max(0, left) : (left + right) // 2] = True
    points = np.zeros((len(boxes), 17, 3)) if coco is None else np.concatenate((coco, np.ones((len(boxes), 17, 1))), -1)
    return Detections(boxes, np.linspace(0.9, 0.5, len(boxes)), Masks.from_dense(masks)), Keypoints(points)


def grey(height: int = 720, width: int = 1280) -> InputImage:
    return InputImage(np.full((height, width, 3), 128, np.uint8))


def test_missing_files_are_named(small, tmp_path, monkeypatch):
    expert = CameraHMR(tmp_path / "none.ckpt", Device())
    with pytest.raises(AssetError, match=r"is not at .*none\.ckpt: .*register at https://camerahmr\.is\.tue\.mpg\.de"):
        expert.fit([grey()], [CAMERA], *([x] for x in evidence(np.array([[600.0, 200, 700, 500]]))))
    assert [source.name for source in expert.sources()] == [
        "camerahmr_checkpoint_cleaned.ckpt", "SMPL_NEUTRAL.pkl", "smpl_kid_template.npy",
    ]  # fmt: skip
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(AssetError, match="no SMPL model found"):
        CameraHMR(None, Device())


# Its crops


def test_a_crop_of_the_networks_size_is_the_image_itself():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    assert (
        crop_person(pixels, np.array([10.0, 20.0, 266.0, 200.0]))
        == np.pad(pixels, ((18, 0), (0, 0), (0, 0)))[:256, 10:266]
    ).all()


@pytest.mark.parametrize("box", [(4.0, 2.0, 26.0, 20.0), (3.3, 5.1, 20.9, 30.2)])
def test_the_middle_of_crop_pixels_lies_where_it_should(box):
    """A ramp of 8 a pixel tells where every crop pixel was read: a missing half pixel would be a difference of 4."""
    ramp = np.repeat(8 * np.arange(32, dtype=np.uint8)[None], 32, 0)
    pixels = np.stack((ramp, ramp.T, ramp), -1)
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    where = [
        middle - side / 2 + (np.arange(256) + 0.5) * side / 256 for middle in ((left + right) / 2, (top + bottom) / 2)
    ]
    crop = crop_person(pixels, np.array(box)).astype(float)
    inner = [(w > 0.6) & (w < 31.4) for w in where]
    found_x, found_y = crop[..., 0][np.ix_(inner[1], inner[0])], crop[..., 1][np.ix_(inner[1], inner[0])]
    assert np.abs(found_x - 8 * (where[0][inner[0]] - 0.5)).max() < 0.75
    assert np.abs(found_y - 8 * (where[1][inner[1]] - 0.5)[:, None]).max() < 0.75


def test_outside_the_image_and_the_mask_is_black():
    pixels = np.full((100, 100, 3), 255, np.uint8)
    box = np.array([-28.0, 30.0, 36.0, 94.0])
    crop = crop_person(pixels, box)
    assert (crop[:, :110] == 0).all() and (crop[:, 114:] == 255).all()
    mask = np.zeros((100, 100), bool)
    mask[68:] = True
    masked = crop_person(pixels, box, mask)
    assert (masked[:150] == 0).all() and (masked[154:] == crop[154:]).all()
    assert (pixels == 255).all()
    with pytest.raises(InputError, match="empty or not finite"):
        crop_person(pixels, np.array([5.0, 5.0, 5.0, 5.0]))


# From crops to metres


def test_conditions_are_directions():
    boxes = np.array([[540.0, 260.0, 740.0, 460.0], [640.0, 0.0, 820.0, 900.0]])
    assert np.allclose(box_conditions(boxes, CAMERA), [[0, 0, 200 / 900], [0.1, 0.1, 1.0]])
    moved = box_conditions(
        boxes + np.array([-340, 140, -340, 140]), SHIFTED
    )  # the same picture, seen through another window
    assert np.allclose(moved, box_conditions(boxes, CAMERA))


@pytest.mark.parametrize("camera", [CAMERA, SHIFTED, replace(CAMERA, fx=1100.0, fy=700.0)])
def test_the_origin_stays_on_its_pixel_also_where_pixels_are_not_square(camera):
    boxes = np.array([[100.0, 50.0, 300.0, 650.0], [900.0, 300.0, 1270.0, 500.0]])
    weak = np.array([[0.9, 0.1, -0.2], [0.4, -0.3, 0.5]])
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, np.array([600.0, 370.0])
    seen = centre + side[:, None] / 2 * weak[:, :1] * weak[:, 1:]
    assert np.allclose(camera.project(full_translation(weak, boxes, camera)), seen)


@pytest.mark.parametrize("camera", [CAMERA, SHIFTED], ids=["central", "shifted"])
def test_a_body_comes_back_to_its_place_and_pixels(small, monkeypatch, camera):
    body = load_body("smpl")
    origins = np.array([[0.2, -0.1, 3.0], [-0.8, 0.3, 5.0], [1.5, 0.4, 9.0]])
    turns = upright(3)
    shape = torch.zeros(3, len(body.shape_params))
    shape[:, 0] = 0.5
    truth = body(shape, torch.from_numpy(turns).float(), torch.from_numpy(origins).float())
    points = camera.project(truth.vertices.numpy())
    boxes = np.concatenate((points.min(1), points.max(1)), 1) + BOX_ERRORS
    coco = camera.project(body.keypoints(truth, "coco17").numpy())
    weak = [weak_by_hand(camera, *pair) for pair in zip(boxes, origins, strict=True)]
    expert, network = told(monkeypatch, turns, weak, masked=False)
    found, keypoints = evidence(boxes, coco)
    (meshes,) = expert.fit([grey()], [camera], [found], [keypoints])
    people = meshes.people
    assert np.abs(people.translation_m - origins).max() < 1e-5
    assert np.abs(camera.project(people.vertices_m) - points).max() < 0.01
    assert people.fit_error_px.max() < 0.01
    turned = roma.rotvec_to_rotmat(torch.from_numpy(people.pose)).numpy()
    assert np.abs(turned - turns).max() < 1e-6
    assert people.body == "smpl" and people.shape.shape == (3, 11) and (people.shape[:, 10] == 0).all()
    assert np.allclose(people.stature_m, body.stature(shape))
    assert (people.status == 0).all() and meshes.doubts == ("", "", "")
    assert np.array_equal(people.boxes_px, boxes) and people.masks is found.masks
    assert np.allclose(network.boxes, box_conditions(boxes, camera), atol=1e-6)


def test_a_body_of_ten_betas_gets_ten(assets, tmp_path, monkeypatch):
    synthetic_smpl.write(tmp_path / "smpl", kid=False)
    monkeypatch.setenv("CROWDMESH_ASSETS", str(tmp_path))
    weights = assets / "camerahmr" / "camerahmr_checkpoint_cleaned.ckpt"
    expert, _ = told(monkeypatch, upright(1), [[0.9, 0, 0]], weights=weights, masked=False)
    found, keypoints = evidence(np.array([[600.0, 200, 700, 500]]))
    (meshes,) = expert.fit([grey()], [CAMERA], [found], [keypoints])
    assert meshes.people.shape.shape == (1, 10) and np.isnan(meshes.people.fit_error_px).all()


# Which mesh is whose


def scene(monkeypatch, wholes, maskeds, seen, **options):
    """The expert's answer where people `seen` are in the image and the crops show those numbered; -1: nonsense."""
    body = load_body("smpl")
    origins = np.array([[-1.0, 0.0, 4.0], [1.0, 0.0, 4.0], [0.0, 0.0, 6.0]])
    shape = torch.zeros(3, 11)
    shape[:, 0] = 0.5
    truth = body(shape, torch.from_numpy(upright(3)).float(), torch.from_numpy(origins).float())
    points, coco = CAMERA.project(truth.vertices.numpy()), CAMERA.project(body.keypoints(truth, "coco17").numpy())
    boxes = np.concatenate((points.min(1), points.max(1)), 1)[seen]
    shown = [*zip(wholes, boxes, strict=True), *zip(maskeds, boxes, strict=True)]
    weak = [weak_by_hand(CAMERA, box, origins[who]) if who >= 0 else [-0.5, 0, 0] for who, box in shown]
    expert, network = told(monkeypatch, upright(3)[[who for who, _ in shown]], weak, **options)
    found, keypoints = evidence(boxes, coco[seen])
    (meshes,) = expert.fit([grey()], [CAMERA], [found], [keypoints])
    return meshes, origins, network


def test_everybody_gets_the_mesh_that_agrees_with_the_keypoints(small, monkeypatch):
    # Both whole crops show person 0; person 1 is only in the own masked crop.
    meshes, origins, _ = scene(monkeypatch, wholes=[0, 0], maskeds=[2, 1], seen=[0, 1])
    assert np.allclose(meshes.people.translation_m, origins[[0, 1]], atol=1e-4)
    assert meshes.doubts == ("", "")
    # Each whole crop shows the other person: meshes change places.
    meshes, origins, _ = scene(monkeypatch, wholes=[1, 0], maskeds=[2, 2], seen=[0, 1])
    assert np.allclose(meshes.people.translation_m, origins[[0, 1]], atol=1e-4)
    assert meshes.people.fit_error_px.max() < 0.01


def test_people_whom_no_mesh_fits_are_doubted(small, monkeypatch):
    meshes, origins, _ = scene(monkeypatch, wholes=[0, 2], maskeds=[0, 2], seen=[0, 1])
    assert meshes.doubts == ("", UNMATCHED)
    assert np.allclose(meshes.people.translation_m, origins[[0, 2]], atol=1e-4)  # the own masked mesh
    meshes, _, _ = scene(monkeypatch, wholes=[-1, 1], maskeds=[-1, 1], seen=[0, 1])
    assert meshes.doubts == (IMPLAUSIBLE, "") and np.isfinite(meshes.people.vertices_m).all()


def test_another_matcher_may_decide(small, monkeypatch):
    def nobody(queries_px, whole, masked):
        assert queries_px.shape == (2, 17, 3)
        assert whole.head_px == pytest.approx(head_px, rel=0.1) and masked.points_px.shape == (2, 17, 2)
        return MeshMatch(np.array([1, 0]), np.array([1, 0]))

    body = load_body("smpl")
    surface, joints = body.rest(torch.tensor([[0.5] + [0.0] * 10]))
    head_px = 900 / 4 * float(surface[0, :, 1].max() - joints[0, 12, 1])
    meshes, origins, _ = scene(monkeypatch, wholes=[0, 1], maskeds=[0, 1], seen=[0, 1], matcher=nobody)
    assert np.allclose(meshes.people.translation_m, origins[[1, 0]], atol=1e-4)


def test_masked_looks_see_only_the_person(small, monkeypatch):
    _, _, network = scene(monkeypatch, wholes=[0, 1], maskeds=[0, 1], seen=[0, 1], batch=3)
    assert network.sizes == [3, 1]
    grey_level = (128 / 255 - 0.485) / 0.229
    for whole, masked in zip(network.crops[:2], network.crops[2:], strict=True):
        inside = whole[0] > 0
        assert np.allclose(whole[0][inside], grey_level, atol=1e-5) and inside.mean() > 0.9
        black = masked[0] < -2
        assert black[:, 140:].all() and not (black & inside)[:, 64:120].all()  # the mask is the box's left half


# Many images


def test_crops_of_many_images_share_batches_and_change_nothing(small):
    rng = np.random.default_rng(1)
    images = [
        InputImage(rng.integers(0, 256, (h, w, 3)).astype(np.uint8)) for h, w in ((240, 320), (300, 200), (64, 64))
    ]
    cameras = [Camera.from_vertical_fov(0.8, image.width, image.height) for image in images]
    boxes = [np.array([[10.0, 20, 110, 230], [150, 5, 300, 200]]), np.zeros((0, 4)), np.array([[5.0, 6, 60, 50]])]
    pairs = [evidence(b, size=(i.height, i.width)) for b, i in zip(boxes, images, strict=True)]
    detections, keypoints = [p[0] for p in pairs], [p[1] for p in pairs]
    together = CameraHMR(None, Device(batch=4)).fit(images, cameras, detections, keypoints)
    assert [len(mesh.people) for mesh in together] == [2, 0, 1]
    alone = CameraHMR(None, Device(batch=1))
    for i, mesh in enumerate(together):
        (single,) = alone.fit([images[i]], [cameras[i]], [detections[i]], [keypoints[i]])
        for name in ("translation_m", "pose", "shape", "vertices_m"):
            found, wanted = getattr(mesh.people, name), getattr(single.people, name)
            assert found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-4, atol=1e-4), name
    assert together[1].people.vertices_m.shape == (0, 6890, 3)
    assert alone.account.loaded and isinstance(alone, MeshExpert)
    assert alone.fit([], [], [], []) == []


def test_half_precision_is_for_the_encoder_alone(small):
    found, keypoints = evidence(np.array([[600.0, 200, 700, 500]]))
    exact, rough = (
        CameraHMR(None, Device(dtype=dtype), masked=False).fit([grey()], [CAMERA], [found], [keypoints])[0].people
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert 0 < np.abs(exact.pose - rough.pose).max() < 0.1
    expert = CameraHMR(None, Device(dtype=torch.bfloat16))
    network = expert._loaded[0]
    assert {p.dtype for p in network.smpl_head.parameters()} == {torch.float32}
    assert {p.dtype for p in network.backbone.parameters()} == {torch.bfloat16}


def test_what_does_not_belong_together_is_refused(small):
    expert = CameraHMR(None, Device())
    found, keypoints = evidence(np.array([[600.0, 200, 700, 500]]))
    with pytest.raises(InputError, match="these detections have no masks"):
        expert.fit([grey()], [CAMERA], [replace(found, masks=None)], [keypoints])
    with pytest.raises(InputError, match="1 images came with 0 cameras"):
        expert.fit([grey()], [], [found], [keypoints])
    with pytest.raises(InputError, match="keypoints of 0 people do not belong to 1 detections"):
        expert.fit([grey()], [CAMERA], [found], [keypoints[[]]])


def test_the_set_paper_runs_from_detections_to_a_scene_and_signs_smpl(small, photos, tmp_path, monkeypatch):
    """With the networks that are here: everybody is accounted for, in the scene or by name in the notes."""
    from crowdmesh.experts import ExpertOptions, Reconstructor, load_experts
    from crowdmesh.images import read_image

    monkeypatch.setenv("CROWDMESH_ASSETS", f"{small}:{photos.parent}")
    height, width = read_image(photos / "soccer.jpg").shape[:2]
    boxes = np.array([[300.0, 20, 620, 780], [640, 60, 1000, 790]])
    masks = np.zeros((2, height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    np.savez(tmp_path / "soccer.npz", boxes_px=boxes, scores=np.array([0.9, 0.8]), masks=masks)
    (tmp_path / "ages.csv").write_text("image,person,age_years\nsoccer.jpg,0,25\nsoccer.jpg,1,30\n")
    options = ExpertOptions(
        persons=str(tmp_path / "soccer.npz"), keypoints="blazepose", depth="fastdepth", camera="metadata",
        ages=str(tmp_path / "ages.csv"),
    )  # fmt: skip
    ours = Reconstructor(load_experts("paper", options=options))
    result = ours(photos / "soccer.jpg")
    left_out = [note for note in result.notes if note.startswith("left out")]
    assert len(result.scene.people) + len(left_out) == 2
    signed = ours.signature(photos / "soccer.jpg")["experts"]
    (name,) = [name for name in signed if name.startswith("CameraHMR")]
    assert name == "CameraHMR (matched within 0.5 heads, optimally)"
    assert set(signed[name]) == {"camerahmr_checkpoint_cleaned.ckpt", "SMPL_NEUTRAL.pkl", "smpl_kid_template.npy"}
    assert all(len(digest) == 64 for digest in signed[name].values())
