"""Experts on networks of transformers: what goes in and what is read out against the library's own processors and
analytic answers, and every network from a tiny checkpoint on photographs (skipped where these are not)."""

from __future__ import annotations

import gc
import importlib
import json
import math
import sys
import types
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny_checkpoints
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from crowdmesh.camera import Camera
from crowdmesh.depth import RelativeDepth
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.experts import _heatmaps, depth_anything, depth_pro, rf_detr
from crowdmesh.experts._device import Device
from crowdmesh.experts._mask_codes import decode_coco, join_masks
from crowdmesh.experts._nms import box_overlap, suppress_overlaps
from crowdmesh.experts._pretrained import LocalWeights, Pretrained
from crowdmesh.experts.base import (
    BodyLandmarks,
    CameraExpert,
    DepthExpert,
    Detections,
    InputImage,
    KeypointExpert,
    Keypoints,
    PersonDetector,
)
from crowdmesh.experts.combined_keypoints import CombinedKeypoints, combine
from crowdmesh.experts.depth_anything import DepthAnythingV2
from crowdmesh.experts.depth_pro import DepthPro, DepthProCamera
from crowdmesh.experts.detections_file import DetectionsFromFile
from crowdmesh.experts.lite_pose import COCO17
from crowdmesh.experts.rf_detr import RfDetrPersons
from crowdmesh.experts.vitpose import MIRRORED, ViTPoseKeypoints
from crowdmesh.images import read_image
from crowdmesh.masks import Masks

transformers = pytest.importorskip("transformers", reason="the networks are an extra: crowdmesh[experts]")
transformers.utils.logging.disable_progress_bar()

CPU = Device("cpu", torch.float32, 3)
HALF = Device("cpu", torch.bfloat16, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder of a tiny checkpoint by the name of its function in ``tiny_checkpoints``, saved once."""
    root, made = tmp_path_factory.mktemp("checkpoints"), {}

    def get(name: str, **options) -> Path:
        key = "_".join([name, *(f"{k}{v}" for k, v in options.items())])
        if key not in made:
            made[key] = getattr(tiny_checkpoints, f"save_{name}")(root / key, **options)
        return made[key]

    return get


@pytest.fixture(scope="module")
def pictures(photos) -> list[InputImage]:
    """Three photographs of different sizes."""
    paths = [photos / f"{name}.jpg" for name in ("parents_and_baby", "skiers", "soccer")]
    return [InputImage(cv2.resize(read_image(path), None, fx=0.5, fy=0.5), path) for path in paths]


def library_processor(module: str, name: str):
    """A processor of the library; what it imports of torchvision, which our functions do not need, is left empty."""
    torchvision = types.ModuleType("torchvision")
    transforms, v2 = types.ModuleType("torchvision.transforms"), types.ModuleType("torchvision.transforms.v2")
    v2.functional = SimpleNamespace()  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        for stub in (torchvision, transforms, v2):
            patch.setitem(sys.modules, stub.__name__, stub)
        loaded = importlib.import_module(f"transformers.models.{module}.image_processing_{module}")
    return getattr(loaded, name)


def noise_image(height: int, width: int, seed: int = 0) -> InputImage:
    coarse = np.random.default_rng(seed).integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), np.uint8)
    return InputImage(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def boxes_of(*boxes: tuple[float, float, float, float]) -> Detections:
    return Detections(np.array(boxes, float).reshape(-1, 4), np.linspace(0.9, 0.6, len(boxes)))


# --- loading ----------------------------------------------------------------------------------------------------------


def test_making_an_expert_loads_nothing_and_the_first_call_loads_once(folder, monkeypatch):
    calls = []
    original = transformers.VitPoseForPoseEstimation.from_pretrained
    monkeypatch.setattr(
        transformers.VitPoseForPoseEstimation,
        "from_pretrained",
        lambda *args, **options: calls.append(args) or original(*args, **options),
    )
    expert = ViTPoseKeypoints(folder("vitpose"), CPU)
    assert not calls
    for _ in range(2):
        expert.locate([noise_image(60, 50)], [boxes_of((5, 5, 30, 50))])
    assert len(calls) == 1


def test_a_missing_library_is_one_sentence(folder, monkeypatch):
    path = folder("vitpose")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(AssetError, match=r"pip install 'crowdmesh\[experts\]'"):
        _ = Pretrained(path, "VitPoseForPoseEstimation", CPU).network


def test_folders_that_are_not_the_network(folder, tmp_path):
    def refusal(path: Path) -> str:
        with pytest.raises(AssetError) as caught:
            _ = Pretrained(path, "VitPoseForPoseEstimation", CPU).network
        message = str(caught.value)
        assert str(path) in message and "\n" not in message
        return message

    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert "DepthAnythingForDepthEstimation, not VitPose" in refusal(folder("depth_anything"))
    assert "no readable config.json" in refusal(tmp_path)
    config = (folder("vitpose") / "config.json").read_text()
    weights = (folder("vitpose") / "model.safetensors").read_bytes()
    (tmp_path / "config.json").write_text(config)
    assert "no model.safetensors" in refusal(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights[:-100])
    assert "is not a usable" in refusal(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["head.conv.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert "lacks 1 weights" in (message := refusal(tmp_path)) and "head.conv.weight" in message


def test_a_folder_is_fingerprinted_by_its_content(folder, tmp_path):
    source = folder("vitpose")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    assert LocalWeights(tmp_path).fingerprint() == LocalWeights(source).fingerprint()
    (tmp_path / "config.json").write_text((source / "config.json").read_text() + " ")
    assert LocalWeights(tmp_path).fingerprint() != LocalWeights(source).fingerprint()
    assert RfDetrPersons(source, CPU).sources()[0].fingerprint() == LocalWeights(source).fingerprint()


def test_who_answers_what(folder, tmp_path):
    depth, keypoints = DepthPro(tmp_path, CPU), ViTPoseKeypoints(tmp_path, CPU)
    assert isinstance(RfDetrPersons(tmp_path, CPU), PersonDetector)
    assert isinstance(DetectionsFromFile(tmp_path), PersonDetector)
    assert isinstance(keypoints, KeypointExpert)
    assert isinstance(CombinedKeypoints(keypoints, keypoints), KeypointExpert)
    assert isinstance(DepthAnythingV2(tmp_path, CPU), DepthExpert)
    assert isinstance(depth, DepthExpert)
    assert isinstance(DepthProCamera(depth), CameraExpert)
    assert DepthProCamera(depth).sources() == depth.sources()


# --- one box per person -----------------------------------------------------------------------------------------------


def test_overlap_by_hand():
    boxes = np.array([[0.0, 0, 4, 2], [2, 0, 6, 2], [0, 2, 4, 4], [10, 10, 10, 10]])
    expected = [[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert np.allclose(box_overlap(boxes, boxes), expected)


def test_a_dropped_box_drops_nobody():
    """B overlaps A, C overlaps B but not A: C stays, since B is gone."""
    boxes = np.array([[0.0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]])
    assert box_overlap(boxes, boxes)[0, 1] > 0.6 > box_overlap(boxes, boxes)[0, 2]
    assert suppress_overlaps(boxes, np.array([0.9, 0.8, 0.7]), 0.6).tolist() == [0, 2]
    assert suppress_overlaps(boxes, np.array([0.7, 0.9, 0.8]), 0.6).tolist() == [1]
    assert suppress_overlaps(boxes, np.array([0.5, 0.5, 0.5]), 0.9).tolist() == [0, 1, 2]
    assert suppress_overlaps(np.zeros((0, 4)), np.zeros(0), 0.7).shape == (0,)


# --- RF-DETR ----------------------------------------------------------------------------------------------------------


def test_persons_are_found_by_their_class_name():
    assert rf_detr.person_class({0: "cat", 3: "Person"}) == 3
    assert rf_detr.person_class({k: f"LABEL_{k}" for k in range(91)}) == 1, "COCO's category number"
    for names in ({0: "cat", 1: "dog"}, {k: f"LABEL_{k}" for k in range(80)}):
        with pytest.raises(AssetError, match="no class 'person'"):
            rf_detr.person_class(names)


@pytest.mark.parametrize("size", [(667, 1000), (40, 60)])
def test_the_detector_sees_the_image_as_pillow_shrinks_it(size):
    """Pillow's bilinear filter smooths in the same way as the one of the library's processor."""
    image = noise_image(*size).pixels
    seen = rf_detr.prepare(image, 432).permute(1, 2, 0).numpy() * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)
    expected = np.asarray(Image.fromarray(image).resize((432, 432), Image.Resampling.BILINEAR))
    assert np.abs(seen * 255 - expected).max() <= 1.01


def raw_output(rng: np.random.Generator) -> SimpleNamespace:
    """What the network may say of one image about 9 people in a grid and 3 cats, masks within their boxes."""
    logits = np.full((1, 12, 2), -8.0)
    logits[0, :9, 1], logits[0, 9:, 0] = rng.uniform(-2, 3, 9), 2.0
    centres = (np.stack(np.meshgrid([0.2, 0.5, 0.8], [0.2, 0.5, 0.8]), -1).reshape(-1, 2))[[*range(9), 1, 4, 8]]
    boxes = np.concatenate((centres, rng.uniform(0.1, 0.35, (12, 2))), axis=1)[None]
    rows, columns = (np.mgrid[:24, :24] + 0.5) / 24
    offset = np.stack((columns, rows), -1)[None] - centres[:, None, None]
    masks = (
        1.0 - np.sum((offset / boxes[0, :, None, None, 2:] * 2) ** 2, -1)[None] + rng.normal(0, 0.1, (1, 12, 24, 24))
    )
    return SimpleNamespace(**{
        name: torch.tensor(value, dtype=torch.float32)
        for name, value in (("logits", logits), ("pred_boxes", boxes), ("pred_masks", masks))
    })  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_people_are_read_as_the_library_does(seed):
    said, size = raw_output(np.random.default_rng(seed)), (131, 217)
    processor = library_processor("rf_detr", "RfDetrImageProcessor")
    found = processor.post_process_object_detection(None, said, 0.5, [size])[0]
    people = found["labels"] == 1
    assert 2 <= people.sum() < 9, "some people must lie below the threshold"
    segmented = processor.post_process_instance_segmentation(
        None, said, 0.5, target_sizes=[size], return_binary_maps=True
    )[0]
    ours = rf_detr.read_people(said.logits[0, :, 1], said.pred_boxes[0], said.pred_masks[0], *size)
    boxes = found["boxes"][people].numpy().clip(0, (217, 131, 217, 131))
    assert np.allclose(ours.scores, found["scores"][people], atol=1e-6)
    assert np.allclose(ours.boxes_px, boxes, atol=1e-3)
    is_person = [info["label_id"] == 1 for info in segmented["segments_info"]]
    assert ours.masks is not None
    assert np.array_equal(ours.masks.to_dense(), segmented["segmentation"].numpy()[is_person])


def test_people_by_hand():
    """In an image of 200 x 100: a duplicate, somebody cut by the border, outside it, unsure, without mask."""
    boxes = torch.tensor(
        [[0.3, 0.5, 0.2, 0.4], [0.31, 0.5, 0.2, 0.4], [0.0, 0.5, 0.2, 0.2], [1.2, 0.5, 0.2, 0.2],
         [0.7, 0.7, 0.2, 0.2], [0.7, 0.2, 0.2, 0.2]]
    )  # fmt: skip
    logits = torch.tensor([1.0, 2.0, 0.0, 3.0, -0.01, 4.0])
    masks = torch.full((6, 4, 4), -1.0)
    masks[:5, 1:3, :2] = 1.0
    found = rf_detr.read_people(logits, boxes, masks, 100, 200)
    assert np.allclose(found.boxes_px, [[120, 10, 160, 30], [42, 30, 82, 70], [0, 40, 20, 60]], atol=1e-4)
    assert np.allclose(found.scores, [1 / (1 + math.exp(-4)), 1 / (1 + math.exp(-2)), 0.5])
    assert found.masks is not None
    empty, mask, _ = found.masks.to_dense()
    assert not empty.any(), "who has no mask is still there"
    rows, columns = np.nonzero(mask)
    # The border of a mask lies midway between the centres of unlike cells, which cover 25 x 50 pixels: on their edge.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (25, 74, 0, 99)


def test_nobody_at_all():
    nobody = rf_detr.read_people(torch.zeros(0), torch.zeros(0, 4), torch.zeros(0, 4, 4), 30, 20)
    assert len(nobody) == 0 and nobody.masks is not None and len(nobody.masks) == 0
    assert nobody.masks.to_dense().shape == (0, 30, 20)


def test_the_detector_on_photographs(folder, pictures):
    expert = RfDetrPersons(folder("rf_detr"), CPU)
    extreme = [InputImage(np.full((500, 700, 3), 128, np.uint8)), noise_image(16, 16), noise_image(16, 700)]
    images = [*pictures, *extreme]
    together = expert.detect(images)
    for image, found in zip(images, together, strict=True):
        assert found.masks is not None and (len(found) > 0 or image.height == 16)
        assert (found.masks.height, found.masks.width) == (image.height, image.width)
        assert np.all(np.diff(found.scores) <= 0) and found.boxes_px.dtype == np.float64
        assert np.all((found.boxes_px >= 0) & (found.boxes_px <= np.tile((image.width, image.height), 2)))
    for image, found in zip(images, together, strict=True):
        alone = expert.detect([image])[0]
        assert np.allclose(alone.boxes_px, found.boxes_px, atol=0.01)
        assert np.allclose(alone.scores, found.scores, atol=1e-5)
        assert alone.masks is not None and found.masks is not None
        assert np.sum(alone.masks.to_dense() != found.masks.to_dense()) <= 1e-3 * alone.masks.to_dense().size
    again = expert.detect(images)[0]
    assert np.array_equal(again.boxes_px, together[0].boxes_px), "the same twice"
    half = RfDetrPersons(folder("rf_detr"), HALF).detect(images[:1])[0]
    assert np.array_equal(half.boxes_px, expert.detect(images[:1])[0].boxes_px), "always in float32"
    assert expert.detect([]) == []


def test_a_detector_without_people_is_refused(folder):
    expert = RfDetrPersons(folder("rf_detr", names={0: "cat", 1: "dog"}), CPU)
    with pytest.raises(AssetError, match="no class 'person'"):
        expert.detect([noise_image(40, 40)])


# --- ViTPose ----------------------------------------------------------------------------------------------------------

BOXES = [(20.0, 30.0, 90.5, 210.25), (5.0, 100.0, 300.0, 140.0), (250.0, -20.0, 420.0, 300.0)]


@pytest.mark.parametrize("box", BOXES)
def test_crops_are_those_of_the_library(pictures, box):
    image = pictures[1].pixels
    crop = _heatmaps.crop_around(np.array(box))
    seen = crop.sample(image).astype(float)
    processor = transformers.models.vitpose.image_processing_pil_vitpose.VitPoseImageProcessorPil()
    as_coco = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    pixels = processor.preprocess(image, boxes=[[as_coco]])["pixel_values"][0]
    expected = pixels.transpose(1, 2, 0) * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)
    difference = seen - expected * 255
    # Beyond the centres of the image's outermost pixels OpenCV fades to black, the library's SciPy is black at once.
    columns = crop.left + np.arange(192) * crop.width / 191
    rows = crop.top + np.arange(256) * crop.height / 255
    in_columns = (columns > 0) & (columns < image.shape[1] - 1)
    inner = ((rows > 0) & (rows < image.shape[0] - 1))[:, None] & in_columns
    assert inner.mean() > 0.15 and expected[inner].std() > 0.05
    assert np.abs(difference[inner]).max() < 1.01
    assert np.abs(difference).mean() < 1.2, "the rim is thin"


def gaussian_heatmaps(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of width 2 at random places well inside, a little disturbed, and the places."""
    places = rng.uniform((5, 5), (42, 58), (count, 17, 2))
    rows, columns = np.mgrid[:64, :48]
    distance = (columns - places[..., 0, None, None]) ** 2 + (rows - places[..., 1, None, None]) ** 2
    heights = rng.uniform(0.3, 1.0, (count, 17, 1, 1))
    return (heights * np.exp(-distance / 8.0)).astype(np.float32), places


def test_peaks_are_read_as_the_library_does():
    rng = np.random.default_rng(3)
    heatmaps, _ = gaussian_heatmaps(rng, 3)
    heatmaps += rng.normal(0, 0.005, heatmaps.shape).astype(np.float32)
    processor = transformers.models.vitpose.image_processing_pil_vitpose.VitPoseImageProcessorPil()
    as_coco = [[b[0], b[1], b[2] - b[0], b[3] - b[1]] for b in BOXES]
    expected = processor.post_process_pose_estimation(
        SimpleNamespace(heatmaps=torch.from_numpy(heatmaps)), boxes=[[box] for box in as_coco]
    )
    cells, values = _heatmaps.find_peaks(heatmaps)
    for k, box in enumerate(BOXES):
        points = _heatmaps.crop_around(np.array(box)).to_image(cells[k], (48, 64))
        assert np.allclose(points, expected[k][0]["keypoints"].numpy() + 0.5, atol=1e-3)
        assert np.allclose(values[k], expected[k][0]["scores"])


def test_peaks_lie_where_the_gaussians_are():
    heatmaps, places = gaussian_heatmaps(np.random.default_rng(4), 2)
    cells, _ = _heatmaps.find_peaks(heatmaps)
    assert np.abs(cells - places).max() < 0.02


@pytest.mark.parametrize("value", [-0.3, 0.0, 0.7])
def test_flat_heatmaps_have_no_peak_to_refine(value):
    cells, values = _heatmaps.find_peaks(np.full((1, 17, 64, 48), value, np.float32))
    assert np.array_equal(cells, np.zeros((1, 17, 2))) and np.allclose(values, value)


class BlobNetwork:
    """In the network's place: its heatmaps are how bright the crop is, on the grid that shares the crop's corners."""

    def __init__(self, only_left: bool = False) -> None:
        self.only_left = only_left
        self.batches: list[int] = []

    def __call__(self, views: np.ndarray) -> np.ndarray:
        self.batches.append(len(views))
        bright = torch.from_numpy(views[..., 0].astype(np.float32) / 255.0)[:, None]
        grid = torch.nn.functional.interpolate(bright, size=(64, 48), mode="bilinear", align_corners=True)
        heatmaps = grid.numpy().repeat(17, axis=1)
        if self.only_left:
            heatmaps[:, list(MIRRORED[2::2])] = 0.0  # the odd keypoints, which are those of the left side
        return heatmaps


def blob_image(height: int, width: int, x: float, y: float, sigma: float) -> InputImage:
    """A bright spot around the image point (x, y), pixel centres at +0.5."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    spot = 250 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return InputImage(spot.round().astype(np.uint8)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize(("box", "sigma"), [((100.0, 60.0, 220.0, 260.0), 8.0), ((110.0, 100.0, 200.0, 170.0), 6.0)])
def test_a_spot_in_the_image_is_found_where_it_is(monkeypatch, tmp_path, box, sigma, flip_test):
    """From pixels to pixels through crop, mirror and heatmap: no half pixel is lost anywhere."""
    expert = ViTPoseKeypoints(tmp_path, CPU, flip_test=flip_test)
    monkeypatch.setattr(expert, "_heatmaps", BlobNetwork())
    x, y = 151.3, 140.8
    found = expert.locate([blob_image(300, 320, x, y, sigma)], [boxes_of(box)])[0]
    assert np.abs(found.coco17_px[0, :, :2] - (x, y)).max() < 0.1
    assert np.all(found.coco17_px[0, :, 2] > 0.9)


def test_the_mirror_swaps_left_and_right(monkeypatch, tmp_path):
    """A network that only sees left keypoints: in the mirror these are the right ones, with half the confidence."""
    assert [MIRRORED[k] for k in MIRRORED] == list(range(17))
    expert = ViTPoseKeypoints(tmp_path, CPU, flip_test=True)
    monkeypatch.setattr(expert, "_heatmaps", BlobNetwork(only_left=True))
    confidence = expert.locate([blob_image(200, 200, 100, 100, 8)], [boxes_of((60, 40, 140, 160))])[0].coco17_px[
        0, :, 2
    ]
    assert confidence[0] > 0.9 and np.allclose(confidence[1:], 0.49, atol=0.02)


def test_masks_hide_the_others(monkeypatch, tmp_path):
    left, right = blob_image(200, 240, 90.0, 100.0, 7.0), blob_image(200, 240, 130.0, 100.0, 8.0)
    image = InputImage(np.maximum((left.pixels * 0.6).astype(np.uint8), right.pixels))
    masks = np.zeros((1, 200, 240), bool)
    masks[0, :, :110] = True
    found = replace(boxes_of((60, 40, 160, 160)), masks=Masks.from_dense(masks))
    for masked, x in ((True, 90.0), (False, 130.0)):
        expert = ViTPoseKeypoints(tmp_path, CPU, masked=masked)
        monkeypatch.setattr(expert, "_heatmaps", BlobNetwork())
        assert np.abs(expert.locate([image], [found])[0].coco17_px[0, :, 0] - x).max() < 0.2


def test_people_of_many_images_share_batches(monkeypatch, tmp_path):
    expert, network = ViTPoseKeypoints(tmp_path, CPU), BlobNetwork()
    monkeypatch.setattr(expert, "_heatmaps", network)
    images = [blob_image(200, 200, 100 + k, 90, 8) for k in range(4)]
    counts = [2, 0, 1, 4]
    asked = [boxes_of(*[(60.0, 40.0, 140.0, 160.0)] * count) for count in counts]
    answers = expert.locate(images, asked)
    assert network.batches == [3, 3, 1]
    assert [len(answer) for answer in answers] == counts
    for k in (0, 2, 3):
        assert np.abs(answers[k].coco17_px[..., 0] - (100 + k)).max() < 0.1
    with pytest.raises(InputError, match="4 images"):
        expert.locate(images, asked[:3])


def test_keypoints_on_photographs(folder, pictures):
    expert = ViTPoseKeypoints(folder("vitpose"), CPU)
    asked = [
        boxes_of((10, 10, 150, 300), (200.0, 50.0, 201.0, 51.0)),
        boxes_of(),
        boxes_of((0, 0, 600, 400), (30, 30, 30, 30)),
    ]
    together = expert.locate(pictures, asked)
    assert [len(keypoints) for keypoints in together] == [2, 0, 2]
    for image, found, keypoints in zip(pictures, asked, together, strict=True):
        values = keypoints.coco17_px
        assert values.dtype == np.float64 and np.isfinite(values).all()
        assert np.all((values[..., 2] >= 0) & (values[..., 2] <= 1))
        alone = expert.locate([image], [found])[0].coco17_px
        assert np.allclose(alone, values, atol=0.02)
    assert np.array_equal(expert.locate(pictures, asked)[0].coco17_px, together[0].coco17_px), "the same twice"
    half = ViTPoseKeypoints(folder("vitpose"), HALF).locate(pictures[:1], asked[:1])[0].coco17_px
    assert np.abs(half[..., 2] - together[0].coco17_px[..., 2]).max() < 0.02
    assert expert.locate([], []) == []


def test_mixtures_ask_the_experts_for_coco(folder):
    image, found = noise_image(90, 80), boxes_of((5, 5, 60, 80))
    expert = ViTPoseKeypoints(folder("vitpose", num_experts=3), CPU)
    assert np.isfinite(expert.locate([image], [found])[0].coco17_px).all()


def test_other_keypoints_are_refused(folder):
    expert = ViTPoseKeypoints(folder("vitpose", num_keypoints=14), CPU)
    with pytest.raises(AssetError, match="14 keypoints"):
        expert.locate([noise_image(90, 80)], [boxes_of((5, 5, 60, 80))])


# --- Depth Anything ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((518, 518), (518, 518)),
        ((480, 640), (518, 686)),  # 690.67 px: 49.3 patches
        ((1080, 1920), (518, 924)),  # 920.9 px: 65.8 patches
        ((1920, 1080), (924, 518)),
        ((16, 16), (518, 518)),
        ((100, 800), (518, 4144)),  # the longest shape that is shown in full
    ],
)
def test_the_depth_network_sees_the_official_size(size, seen):
    assert depth_anything.input_size(*size) == seen


@pytest.mark.parametrize("size", [(100, 900), (500, 20_000), (16, 500_000), (500_000, 16), (30_000, 700)])
def test_long_panoramas_are_bounded(size):
    rows, columns = (side / depth_anything.PATCH for side in depth_anything.input_size(*size))
    assert rows * columns <= depth_anything.MAX_PATCHES and min(rows, columns) >= 1
    assert rows == int(rows) and columns == int(columns)
    if min(rows, columns) > 5:
        assert rows * columns > 0.9 * depth_anything.MAX_PATCHES
        assert math.isclose(rows / columns, size[0] / size[1], rel_tol=0.2)


def test_the_depth_network_sees_a_bicubic_image():
    """Against torch's own bicubic filter, which uses the same kernel (a = -0.75) on the same pixel centres."""
    image = noise_image(300, 420).pixels
    height, width = depth_anything.input_size(300, 420)
    seen = depth_anything.prepare(image).permute(1, 2, 0).numpy() * (0.229, 0.224, 0.225) + (0.485, 0.456, 0.406)
    planes = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].double() / 255
    expected = torch.nn.functional.interpolate(planes, size=(height, width), mode="bicubic", align_corners=False)
    assert np.abs(seen - expected[0].permute(1, 2, 0).numpy()).max() < 1e-4


def test_depth_maps_are_enlarged_corner_to_corner():
    ramp = torch.linspace(-1.0, 3.0, 9)[None].repeat(5, 1)
    full = depth_anything.enlarge(ramp, InputImage(np.zeros((20, 33, 3), np.uint8)))
    assert np.allclose(full, np.linspace(-1.0, 3.0, 33).clip(0)[None], atol=1e-6)
    assert full.shape == (20, 33)


def test_depth_on_photographs(folder, pictures, monkeypatch):
    monkeypatch.setattr(depth_anything, "SHORT_SIDE", 154)  # the network takes any size; this one is quick
    expert = DepthAnythingV2(folder("depth_anything"), CPU)
    turned = InputImage(np.ascontiguousarray(pictures[1].pixels[::-1, ::-1]))  # the same shape: shares a batch
    images = [pictures[0], pictures[1], InputImage(np.full((40, 60, 3), 128, np.uint8)), turned, noise_image(30, 90)]
    maps = expert.estimate(images)
    for image, depth in zip(images, maps, strict=True):
        assert isinstance(depth, RelativeDepth) and depth.kind == "disparity"
        assert depth.size == (image.height, image.width) and depth.values.min() >= 0
    assert np.std(maps[1].values) > 0.01 * np.mean(maps[1].values), "the comparison needs a map that varies"
    for index in (1, 3):
        alone = expert.estimate([images[index]])[0]
        assert np.allclose(alone.values, maps[index].values, rtol=1e-3, atol=1e-3)
    assert np.abs(maps[1].values - maps[3].values).max() > 0.01, "each image has its own map"
    assert np.array_equal(expert.estimate(images)[1].values, maps[1].values), "the same twice"
    half = DepthAnythingV2(folder("depth_anything"), HALF).estimate(images[1:2])[0]
    assert np.abs(half.values - maps[1].values).mean() < 0.02 * maps[1].values.mean()
    assert expert.estimate([]) == []


def test_the_depth_network_copes_with_a_strip(folder, monkeypatch):
    monkeypatch.setattr(depth_anything, "MAX_PATCHES", 300)
    image = noise_image(16, 5000)
    assert depth_anything.input_size(16, 5000) == (14, 4200)
    assert DepthAnythingV2(folder("depth_anything"), CPU).estimate([image])[0].size == (16, 5000)


def test_metric_checkpoints_give_metres(folder, monkeypatch):
    monkeypatch.setattr(depth_anything, "SHORT_SIDE", 56)
    expert = DepthAnythingV2(folder("depth_anything", depth="metric"), CPU)
    assert expert.estimate([noise_image(60, 60)])[0].kind == "metric"


def test_a_map_without_any_value_names_the_image(tmp_path):
    image = InputImage(np.zeros((20, 20, 3), np.uint8), tmp_path / "black.jpg")
    for value in (0.0, math.nan):
        with pytest.raises(InputError, match=r"no value at all for image .*black\.jpg"):
            depth_anything.checked_map(np.full((20, 20), value), "disparity", image)


# --- Depth Pro --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "degrees"), [((60, 90), 55.0), ((200, 80), 30.0), ((31, 33), 120.0)])
def test_metres_are_those_of_the_library(monkeypatch, size, degrees):
    inverse = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(5)) * 0.5 - 0.02
    said = SimpleNamespace(predicted_depth=inverse, field_of_view=torch.tensor([degrees]))
    processor = library_processor("depth_pro", "DepthProImageProcessor")
    bilinear = {processor.resample: SimpleNamespace(value="bilinear")}  # in the library a table of torchvision's names
    monkeypatch.setattr(sys.modules[processor.__module__], "pil_torch_interpolation_mapping", bilinear)
    expected = processor.post_process_depth_estimation(processor, said, [size])[0]["predicted_depth"].numpy()
    ours = depth_pro.metric_depth(inverse[0], math.radians(degrees), *size)
    assert np.allclose(ours, expected, rtol=1e-4)
    assert expected.max() == pytest.approx(1e4), "somewhere the sky must be reached"


def test_metres_of_a_wall():
    """A wall seen 90 degrees wide: the focal length is half a width, so the distance is half of the network's."""
    depth = depth_pro.metric_depth(torch.full((8, 8), 0.25), math.radians(90.0), 10, 20)
    assert np.allclose(depth, 2.0)


def test_depth_pro_sees_a_bilinear_square():
    image = noise_image(120, 200).pixels
    seen = depth_pro.prepare(image, 64)[0].permute(1, 2, 0).numpy()
    expected = cv2.resize(image.astype(np.float32) / 127.5 - 1, (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(seen - expected).max() < 1e-4
    released = SimpleNamespace(patch_size=384, scaled_images_ratios=[0.25, 0.5, 1])
    assert depth_pro.input_side(released) == 1536


def test_depth_and_camera_share_one_pass(folder, pictures, monkeypatch):
    passes = []
    original = Pretrained.__call__
    monkeypatch.setattr(
        Pretrained,
        "__call__",
        lambda self, pixels, **rest: passes.append(len(pixels)) or original(self, pixels, **rest),
    )
    expert = DepthPro(folder("depth_pro"), replace(CPU, batch=70))
    camera = DepthProCamera(expert)
    images = [*pictures, noise_image(16, 40)]
    estimates = camera.estimate(images)
    maps = expert.estimate(images)
    assert passes == [2, 2], "35 crops an image: two images go through at once"
    for image, estimate, depth in zip(images, estimates, maps, strict=True):
        assert depth.kind == "metric" and depth.size == (image.height, image.width)
        seen = estimate.camera
        assert (seen.width, seen.height, seen.fx) == (image.width, image.height, seen.fy)
        fov = 2 * math.degrees(math.atan(image.width / 2 / seen.fx))
        assert 50 < fov < 75
    alone = DepthPro(folder("depth_pro"), CPU)
    assert np.allclose(alone.estimate(images[2:3])[0].values, maps[2].values, rtol=1e-3)
    assert passes[2:] == [1]
    half = DepthProCamera(DepthPro(folder("depth_pro"), HALF)).estimate(images[:1])[0].camera
    assert half.fx == pytest.approx(estimates[0].camera.fx, rel=0.02)


def test_what_depth_pro_knows_goes_with_the_image(folder):
    expert = DepthPro(folder("depth_pro"), CPU)
    image = noise_image(40, 40)
    expert.estimate([image, image])
    assert len(expert._known) == 1
    del image
    gc.collect()
    assert len(expert._known) == 0


def test_depth_pro_needs_a_field_of_view(folder):
    with pytest.raises(AssetError, match="field-of-view head"):
        DepthPro(folder("depth_pro", use_fov_model=False), CPU).estimate([noise_image(40, 40)])


@pytest.mark.parametrize("degrees", [-20.0, 0.0, 179.5, 400.0, math.nan])
def test_depth_pro_needs_a_possible_field_of_view(folder, monkeypatch, tmp_path, degrees):
    said = SimpleNamespace(predicted_depth=torch.ones(1, 8, 8), field_of_view=torch.tensor([degrees]))
    monkeypatch.setattr(Pretrained, "__call__", lambda self, pixels: said)
    expert = DepthPro(folder("depth_pro"), CPU)
    image = replace(noise_image(40, 40), path=tmp_path / "odd.jpg")
    with pytest.raises(InputError, match=r"degrees over the width of image .*odd\.jpg, which no camera has"):
        DepthProCamera(expert).estimate([image])


def test_the_field_of_view_of_the_width_becomes_a_camera(monkeypatch, tmp_path):
    depth = DepthPro(tmp_path, CPU)
    monkeypatch.setattr(depth, "horizontal_fovs", lambda images: [math.radians(90.0)])
    camera = DepthProCamera(depth).estimate([noise_image(100, 300)])[0].camera
    assert camera == Camera(camera.fx, camera.fx, 150.0, 50.0, 300, 100)
    assert camera.fx == pytest.approx(150.0)
    assert camera.vertical_fov == pytest.approx(2 * math.atan(1 / 3))


# --- both kinds of keypoints ------------------------------------------------------------------------------------------


class Fixed:
    """A keypoint expert with a ready answer."""

    def __init__(self, name: str, answer: Keypoints) -> None:
        self.name = name
        self._answer = answer

    def sources(self):
        return ()

    def locate(self, images, detections):
        return [self._answer[: len(found)] for found in detections]


def two_people() -> tuple[Keypoints, Keypoints]:
    rng = np.random.default_rng(6)
    landmarks = BodyLandmarks(
        px=rng.uniform(0, 100, (2, 33, 2)),
        visibility=np.full((2, 33), 0.8),
        world_m=rng.normal(size=(2, 33, 3)),
        presence=np.array([0.9, 0.7]),
    )
    coco17_px = np.concatenate((rng.uniform(0, 100, (2, 17, 2)), np.full((2, 17, 1), 0.9)), axis=-1)
    coco17_px[0, 5, 2], coco17_px[1, 16, 2] = 0.49, 0.1
    weaker = Masks.from_dense(np.ones((2, 10, 10), bool))
    return Keypoints(coco17_px), Keypoints(np.zeros((2, 17, 3)), landmarks, weaker)


def test_landmarks_are_drawn_onto_confident_keypoints():
    points, weaker = two_people()
    assert weaker.landmarks is not None
    found = boxes_of((0, 0, 9, 9), (1, 1, 9, 9))
    both = combine(points, weaker, found)
    assert both.landmarks is not None and both.coco17_px is points.coco17_px and both.masks is weaker.masks
    px, visibility = both.landmarks.px, both.landmarks.visibility
    left_shoulder, right_ankle = 11, 28  # of BlazePose
    for person, joint, landmark in ((0, 0, 0), (0, 6, 12), (1, 5, left_shoulder), (1, 15, 27)):
        assert np.array_equal(px[person, landmark], points.coco17_px[person, joint, :2])
        assert visibility[person, landmark] == 0.9
    assert np.array_equal(px[0, left_shoulder], weaker.landmarks.px[0, left_shoulder])
    assert (visibility[0, left_shoulder], visibility[1, right_ankle]) == (0.49, 0.1)
    others = np.setdiff1d(np.arange(33), COCO17)
    assert np.array_equal(px[:, others], weaker.landmarks.px[:, others])
    assert np.all(visibility[:, others] == 0.8)
    assert np.array_equal(both.landmarks.world_m, weaker.landmarks.world_m)


def test_masks_come_from_the_detector_if_it_has_some():
    points, weaker = two_people()
    own = Masks.from_dense(np.zeros((2, 10, 10), bool))
    found = replace(boxes_of((0, 0, 9, 9), (1, 1, 9, 9)), masks=own)
    expert = CombinedKeypoints(Fixed("a", points), Fixed("b", weaker))
    first, nobody = expert.locate([noise_image(16, 16)] * 2, [found, boxes_of()])
    assert first.masks is own and len(nobody) == 0 and expert.name == "a with b"
    with pytest.raises(InputError, match="33 body landmarks"):
        CombinedKeypoints(Fixed("a", points), Fixed("c", points)).locate([noise_image(16, 16)], [found])


# --- detections from files --------------------------------------------------------------------------------------------

# An ellipse with slanted holes, coded by pycocotools 2.0.11.
COCO_CODES = [
    ("b':243NMO0130LO220<'", (7, 9), 11),
    (
        "b'b5214l03TOJh02XO5g00YOMc0O]O40Ia0N_O900`0L@40K?LA9000G=6C30N<ID9000I;4E300:GF9000K:1F400:GF9000M8OH4000H98G00N8"
        "MH5000I87H00O8KH6000J85H1008IH7000K83H2009HG8000L81H3000G80H9000M8OH4000H98G00N8MH5000I96G10N:KF7000I:5F20O;HE9"
        "000I<3D40O=1C00I?0A70N`00@20Ia0N_O90Nc0M]O50He07[ONh0JXO9m0JSO0Tc0'",
        (40, 60),
        11,
    ),
]


def striped_ellipse(height: int, width: int, step: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - height * 0.55) / (height * 0.4)) ** 2 + ((columns - width * 0.4) / (width * 0.35)) ** 2 < 1
    return inside & ((columns + 2 * rows) % step != 0)


@pytest.mark.parametrize(("code", "size", "step"), COCO_CODES)
def test_coco_codes(code, size, step):
    expected = striped_ellipse(*size, step)
    assert np.array_equal(decode_coco({"size": list(size), "counts": code[2:-1]}), expected)


def test_coco_codes_as_lists_and_nonsense():
    assert decode_coco({"size": [2, 3], "counts": [1, 2, 3]}).tolist() == [[False, True, False], [True, False, False]]
    for broken in (
        {"size": [2, 3], "counts": [1, 2]},
        {"size": [2, 3], "counts": "1 2"},
        {"size": [2, 3], "counts": "o"},
    ):
        with pytest.raises((ValueError, IndexError)):
            decode_coco(broken)


def record(code: bool = False) -> dict:
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 2:6, 3:9], masks[1, 10:, 20:] = True, True
    coded = []
    for mask in masks:  # both start with background
        edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=False, append=mask[-1, -1])) + 0
        runs = np.diff(np.concatenate(([0], edges, [mask.size])))
        coded.append({"size": [20, 30], "counts": runs.tolist()})
    return {"boxes_px": [[3.0, 2, 9, 6], [20, 10, 33, 20]], "scores": [0.4, 0.8], "masks": coded if code else masks}


@pytest.mark.parametrize("layout", ["folder json", "folder npz", "one json", "one npz", "many json", "many npz"])
def test_people_come_from_files(tmp_path, layout):
    image = InputImage(np.zeros((20, 30, 3), np.uint8), Path("elsewhere/photo.1.jpg"))
    where, kind = layout.split()
    content = record(code=kind == "json")
    path = tmp_path / ("photo.1" if where == "folder" else "people")
    path = path.with_name(f"{path.name}.{kind}")
    if kind == "json":
        path.write_text(json.dumps({"photo.1.jpg": content, "b.jpg": {}} if where == "many" else content))
    else:
        np.savez(path, **{f"photo.1/{k}" if where == "many" else k: np.asarray(v) for k, v in content.items()})
    expert = DetectionsFromFile(tmp_path if where == "folder" else path)
    found = expert.detect([image])[0]
    assert found.scores.tolist() == [0.8, 0.4], "highest first"
    assert found.boxes_px.tolist() == [[20, 10, 30, 20], [3, 2, 9, 6]], "within the image"
    assert found.masks is not None and np.array_equal(found.masks.to_dense(), record()["masks"][::-1])
    with pytest.raises(InputError, match=r"other\.jpg"):
        expert.detect([image, replace(image, path=Path("other.jpg"))])
    assert expert.sources()[0].fingerprint()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"boxes_px": [[3, 2, 9, 6]]}, r"\(1, 4\).*must be"),
        ({"boxes_px": [[3, 2, 9, 6], [40, 10, 50, 20]]}, "no area in the image of 30x20"),
        ({"boxes_px": [[9, 2, 3, 6], [20, 10, 30, 20]]}, "no area"),
        ({"scores": [0.4, 80]}, "between 0 and 1"),
        ({"scores": [0.4, math.nan]}, "not finite"),
        ({"boxes": []}, "unknown field 'boxes'"),
        ({"masks": np.zeros((1, 20, 30), int).tolist()}, "each of the 2 boxes"),
        ({"masks": np.zeros((2, 30, 20), int).tolist()}, "20x30 pixels, the image has 30x20"),
        ({"masks": np.full((2, 20, 30), 3).tolist()}, "not 0 and 1"),
        ({"masks": [{"size": [20, 30], "counts": "0"}] * 2}, "do not add up"),
        ({"masks": [{"counts": "0"}] * 2}, "lacks 'size'"),
        ({"scores": None}, "scores"),
    ],
)
def test_files_that_cannot_be_right(tmp_path, change, complaint):
    content = {**record(code=True), **change}
    (tmp_path / "photo.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    with pytest.raises(FormatError, match=complaint) as caught:
        DetectionsFromFile(tmp_path).detect([InputImage(np.zeros((20, 30, 3), np.uint8), Path("photo.jpg"))])
    assert "photo.json" in str(caught.value) and "\n" not in str(caught.value)


def test_images_without_people_or_file(tmp_path):
    (tmp_path / "photo.json").write_text('{"boxes_px": [], "scores": []}')
    nobody = DetectionsFromFile(tmp_path / "photo.json").detect(
        [InputImage(np.zeros((20, 30, 3), np.uint8), Path("a"))]
    )
    assert len(nobody[0]) == 0
    with pytest.raises(InputError, match="by file name"):
        DetectionsFromFile(tmp_path).detect([InputImage(np.zeros((20, 30, 3), np.uint8))])
    for path in (tmp_path / "nothing.json", tmp_path / "photo.txt"):
        if path.suffix == ".txt":
            path.write_text("")
        with pytest.raises(InputError, match=path.name):
            DetectionsFromFile(path)
    assert len(join_masks(4, 5, [])) == 0


def test_the_set_open_goes_from_a_photograph_to_files_and_resumes(folder, photos, tmp_path, monkeypatch, capsys):
    """With tiny random networks, which are sure of nobody: who was detected is named in the notes."""
    from crowdmesh.cli import main

    monkeypatch.setenv("CROWDMESH_ASSETS", str(photos.parent))
    (tmp_path / "seen").mkdir()
    np.savez(tmp_path / "seen" / "soccer.npz", boxes_px=np.array([[300.0, 20, 620, 780]]), scores=np.array([0.9]))
    (tmp_path / "ages.csv").write_text("image,person,age_years\nsoccer.jpg,0,25\n")
    command = [
        "reconstruct", str(photos / "soccer.jpg"), "--out", str(tmp_path / "out"), "--experts", "open", "--batch", "2",
        "--persons", str(tmp_path / "seen"), "--keypoints", str(folder("vitpose")),
        "--ages", str(tmp_path / "ages.csv"),
        "--depth-model", str(folder("depth_anything")), "--device", "cpu", "--fov", "40",
    ]  # fmt: skip
    assert main(command) == 0
    table = json.loads((tmp_path / "out" / "soccer.json").read_text())
    assert any("of its 17 keypoints reach a confidence" in note for note in table["notes"]) or table["people"]
    assert table["provenance"]["settings"]["screening"]["min_keypoints"] == 5
    assert any("ViTPose" in name and "BlazePose" in name for name in table["provenance"]["experts"])
    assert main(command) == 0
    assert "skipped" in capsys.readouterr().out
    assert main([*command, "--flip-test"]) == 1, "other settings are not taken for finished work"
