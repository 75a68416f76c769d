"""The small upstream networks: decoding against hand-made tensors, geometry against analytic images, and known facts
about openly licensed photographs (skipped where the networks or photographs are not on this machine)."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from crowdmesh import assets
from crowdmesh.camera import Camera
from crowdmesh.errors import AssetError, InputError
from crowdmesh.experts import lite_alignment, lite_face_detector, lite_faces, lite_landmarks, lite_persons, lite_pose
from crowdmesh.experts._age_network import _pad_same, read_weights
from crowdmesh.experts._crops import SquareCrop, around_box
from crowdmesh.experts._nms import suppress_overlaps
from crowdmesh.experts.base import Attributes, BodyLandmarks, Detections, InputImage, Keypoints
from crowdmesh.experts.camera import MetadataCamera
from crowdmesh.experts.lite_masks import people_masks
from crowdmesh.images import read_image

# --- crops ------------------------------------------------------------------------------------------------------------

CROPS = [
    SquareCrop((50.0, 40.0), 32.0, 32),
    SquareCrop((50.3, 40.8), 20.0, 32),
    SquareCrop((49.0, 41.0), 60.0, 32, math.radians(30)),
    SquareCrop((50.0, 40.0), 61.5, 16, math.radians(-110)),
]


@pytest.mark.parametrize("crop", CROPS)
def test_crops_show_the_image_where_they_say(crop):
    """In an image whose colours are the coordinates of its pixel centres, a crop's colours are its coordinates."""
    rows, columns = np.mgrid[:90, :110] + 0.5
    image = np.stack((columns * 2, rows * 2, np.zeros_like(rows)), axis=-1).round().astype(np.uint8)
    inner = np.arange(3, crop.size - 3) + 0.5
    grid = np.stack(np.meshgrid(inner, inner), axis=-1)
    expected = crop.to_image(grid)
    assert expected.min() > 1 and np.all(expected.max((0, 1)) < (109, 89)), "the comparison must stay inside the image"
    seen = crop.sample(image)[3:-3, 3:-3, :2] / 2.0
    assert np.abs(seen - expected).max() < 0.75
    assert np.abs((seen - expected).mean((0, 1))).max() < 0.2, "a half-pixel mistake would show here"


@pytest.mark.parametrize("crop", CROPS)
def test_pasting_undoes_cropping(crop):
    down, right = np.mgrid[: crop.size, : crop.size] + 0.5
    column, row = (crop.paste(values.astype(np.float32), 30, 20, 40, 40, outside=np.nan) for values in (right, down))
    back = crop.to_image(np.stack((column, row), axis=-1).astype(float))
    rows, columns = np.mgrid[20:60, 30:70] + 0.5
    error = np.abs(back - np.stack((columns, rows), axis=-1))
    assert np.isfinite(error).all(-1).sum() > 200
    assert np.nanmax(error) < 0.1


def test_a_rotated_crop_turns_clockwise():
    """A quarter turn: what is on the right in the image comes up in the crop."""
    crop = SquareCrop((10.0, 10.0), 8.0, 8, math.pi / 2)
    assert np.allclose(crop.to_image(np.array([4.0, 0.0])), (14.0, 10.0))


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    seen = SquareCrop((128.0, 128.0), 256.0, 32).sample(stripes)
    assert np.abs(seen.astype(int) - 100).max() <= 2


def test_crop_around_a_box():
    crop = around_box(np.array([10.0, 20.0, 30.0, 80.0]), 1.5, 64)
    assert (crop.centre_px, crop.side_px, crop.size, crop.rotation) == ((20.0, 50.0), 90.0, 64, 0.0)


# --- persons ----------------------------------------------------------------------------------------------------------


def test_yolox_boxes_from_a_raw_grid():
    output = np.zeros((3549, 85), np.float32)
    last_of_middle = 52 * 52 + 26 * 26 - 1  # cell (25, 25) of the stride-16 grid
    output[last_of_middle, :6] = (0.5, 0.25, math.log(2.0), math.log(4.0), 0.8, 0.5)
    output[53, :6] = (0.0, 0.0, 0.0, 0.0, 1.0, 1.0)  # cell (1, 1) of the stride-8 grid
    boxes, scores = lite_persons.decode(output)
    assert np.allclose(boxes[last_of_middle], (408 - 16, 404 - 32, 408 + 16, 404 + 32), atol=1e-4)
    assert np.allclose(boxes[53], (4, 4, 12, 12))
    assert np.allclose(scores[[last_of_middle, 53, 0]], (0.4, 1.0, 0.0))


@pytest.mark.parametrize(("height", "width"), [(200, 600), (833, 417), (16, 5000)])
def test_letterbox_keeps_the_whole_image_and_tells_its_scale(height, width):
    batch, scale = lite_persons.letterbox(np.full((height, width, 3), (200, 100, 0), np.uint8))
    assert batch.shape == (1, 3, 416, 416) and batch.dtype == np.float32
    x, y = scale * (width, height)
    assert max(x, y) == 416
    assert np.all(batch[0, :, : round(y), : round(x)].reshape(3, -1).T == (0, 100, 200)), "BGR, at the top left"
    assert np.all(batch[0, :, round(y) :] == 114) and np.all(batch[0, :, :, round(x) :] == 114)


def test_duplicates_are_suppressed_but_a_baby_on_the_lap_is_not():
    boxes = np.array([[0.0, 0, 100, 200], [5, 5, 100, 200], [30, 100, 80, 200]])
    assert suppress_overlaps(boxes, np.array([0.8, 0.9, 0.5]), lite_persons.MAX_OVERLAP).tolist() == [1, 2]
    assert suppress_overlaps(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


# --- pose -------------------------------------------------------------------------------------------------------------


def test_alignment_anchors_are_cell_centres():
    regression, logits = np.zeros((2254, 12), np.float32), np.full(2254, -100.0, np.float32)
    regression[2253, 4:8] = (1.0, 2.0, -3.0, -40.0)
    logits[[0, 2253]] = 0.0, 100.0
    hips, tops, scores = lite_alignment.decode(regression, logits)
    assert np.allclose(hips[[0, 1, 2]], [(4, 4), (4, 4), (12, 4)]), "two anchors a cell, row by row"
    assert np.allclose((hips[2253], tops[2253]), [(209, 210), (205, 168)]), "six anchors a cell in the 7x7 grid"
    assert np.allclose(scores[[0, 1, 2253]], (0.5, 0.0, 1.0))


def test_near_copies_of_a_proposal_are_left_out():
    hips = np.array([[0.0, 0], [1, 0], [100, 0], [0, 0], [200, 0]])
    tops = hips + np.array([[0.0, -50], [0, -50], [0, -50], [50, 0], [0, -50]])
    assert lite_alignment.distinct(hips, tops, np.array([0.9, 0.95, 0.5, 0.7, 0.2])) == [1, 3, 2]


@pytest.mark.parametrize(("top", "degrees"), [((0, -10), 0), ((10, 0), 90), ((0, 10), 180), ((-10, 0), -90)])
def test_upright_crop_puts_the_head_up(top, degrees):
    crop = lite_alignment.upright_crop(np.array([30.0, 40.0]), np.array([30.0, 40.0]) + top)
    assert math.isclose(math.degrees(crop.rotation), degrees, abs_tol=1e-9)
    assert math.isclose(crop.side_px, 25.0)
    assert np.allclose(crop.to_image(np.array([128.0, 128.0 - 256 / 2.5])), np.array([30.0, 40.0]) + top)


def test_a_window_hung_from_a_box_keeps_its_upper_edge():
    box = np.array([100.0, 50.0, 140.0, 150.0])
    for side in lite_alignment.BOX_SIDES:
        crop = lite_alignment.hung_from_box(box, side)
        assert np.allclose(crop.to_image(np.array([128.0, 0.0])), (120.0, 50.0 - 12.5))
        assert math.isclose(crop.side_px, 100.0 * side)


def test_landmarks_move_to_sure_heatmaps_only():
    heatmaps = np.zeros((64, 64, 4))
    heatmaps[20, 11, 0], heatmaps[21, 11, 0] = 0.9, 0.3  # sure, near: row 20.25, column 11
    heatmaps[20, 11, 1] = 0.4  # not sure
    heatmaps[20, 30, 2] = 0.9  # sure, but far away
    heatmaps[0, 0, 3] = 0.9  # at the border of the map
    points = np.array([[40.0, 80.0], [40.0, 80.0], [40.0, 80.0], [-1.0, 3.0]])
    moved, peaks = lite_landmarks.refine(points, heatmaps)
    assert np.allclose(moved, [(44.0, 81.0), (40.0, 80.0), (40.0, 80.0), (-1.0, 3.0)])
    assert np.allclose(peaks, (0.9, 0.4, 0.0, 0.0)), "a point outside the crop has no heatmap"


def fake_view(mask, centre=(32.0, 32.0), side=64.0, sharpness=0.8):
    """A view of an image whose landmarks all lie in the crop's middle."""
    crop = SquareCrop(centre, side, 256)
    logits = np.where(cv2.resize(mask.astype(np.uint8), (256, 256), interpolation=cv2.INTER_NEAREST) > 0, 9.0, -9.0)
    return lite_landmarks.PersonView(
        crop=crop,
        px=np.tile(crop.centre_px, (39, 1)),
        visibility=np.ones(33),
        sharpness=np.full(33, sharpness),
        world_m=np.zeros((33, 3)),
        presence=1.0,
        mask_logits=logits.astype(np.float32),
    )


def block(top, bottom, left, right, size=64):
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_understanding_prefers_the_mask_that_fills_the_box_and_no_more():
    box, size = np.array([16.0, 8.0, 48.0, 56.0]), (64, 64)
    exact = lite_pose.understanding(fake_view(block(8, 56, 16, 48)), box, size)
    squeezed = lite_pose.understanding(fake_view(block(8, 32, 16, 48)), box, size)
    spilt = lite_pose.understanding(fake_view(block(8, 56, 16, 64)), box, size)
    elsewhere = lite_pose.understanding(fake_view(block(0, 64, 52, 64)), box, size)
    assert 0.7 < exact <= 0.8
    assert elsewhere == 0.0 < squeezed < exact
    assert spilt < exact
    blurred = lite_pose.understanding(fake_view(block(8, 56, 16, 48), sharpness=0.4), box, size)
    assert math.isclose(blurred, exact / 2)


def test_masks_are_pasted_in_place_and_clipped_to_the_box():
    mask = block(8, 40, 20, 44)
    masks = people_masks([fake_view(mask)], np.array([[20.0, 8.0, 40.0, 40.0]]), 64, 64).to_dense()
    assert np.array_equal(masks[0], mask & block(0, 64, 18, 42)), "ten percent beyond the box is the limit"


def test_the_small_person_in_front_owns_the_contested_pixels():
    parent, child = block(4, 60, 10, 50), block(30, 60, 20, 40)
    boxes = np.array([[10.0, 4.0, 50.0, 60.0], [20.0, 30.0, 40.0, 60.0]])
    for order in ([0, 1], [1, 0]):
        views = [fake_view((parent, child)[k]) for k in order]
        dense = people_masks(views, boxes[order], 64, 64).to_dense()
        assert np.array_equal(dense[order.index(1)], child)
        assert np.array_equal(dense[order.index(0)], parent & ~child)


def test_no_people_no_masks():
    masks = people_masks([], np.zeros((0, 4)), 48, 64)
    assert len(masks) == 0 and (masks.height, masks.width) == (48, 64)


# --- faces and age ----------------------------------------------------------------------------------------------------


def test_face_decoding():
    regression, logits = np.zeros((2304, 16), np.float32), np.full(2304, -100.0, np.float32)
    k = 10 * 48 + 20  # cell (row 10, column 20): centre (82, 42)
    logits[k], regression[k] = 100.0, (1.0, 2.0, 30.0, 30.0, *range(12))
    faces = lite_face_detector.decode(regression, logits)
    assert len(faces) == 1
    assert np.allclose(faces.centres_px, [(83, 44)]) and np.allclose(faces.widths_px, 30)
    assert np.allclose(faces.points_px[0], np.arange(12).reshape(6, 2) + np.array([82, 42]))


def faces_at(*centres, width=10.0, scores=None):
    centres = np.array(centres, float).reshape(-1, 2)
    offsets = np.array([(-2, -2), (2, -2), (0, 0), (0, 2), (-4, 0), (4, 0)]) * (width / 10.0)
    scores = np.ones(len(centres)) if scores is None else np.array(scores)
    return lite_face_detector.Faces(centres, np.full(len(centres), width), centres[:, None] + offsets, scores)


def heads_at(*centres):
    """COCO-17 keypoints whose nose, eyes and ears fit ``faces_at``."""
    points = np.zeros((len(centres), 17, 3))
    points[:, [2, 1, 0, 4, 3], :2] = faces_at(*centres).points_px[:, [0, 1, 2, 4, 5]]
    return points


def test_each_face_is_reported_once():
    kept = lite_face_detector.distinct(faces_at((0, 0), (4, 0), (9, 0), scores=[0.6, 0.9, 0.7]))
    assert kept.centres_px.tolist() == [[4, 0], [9, 0]]


def test_faces_go_to_the_nearest_people_and_to_one_only():
    people = heads_at((0, 0), (3, 0), (100, 100), (200, 0))
    chosen = lite_faces.assign_faces(faces_at((200, 1), (2, 0), (300, 300)), people)
    assert chosen.tolist() == [-1, 1, -1, 0], "the face between the first two fits the second better"
    assert lite_faces.assign_faces(faces_at(), people).tolist() == [-1] * 4
    assert lite_faces.assign_faces(faces_at((0, 0)), np.zeros((0, 17, 3))).tolist() == []


def test_face_crops_are_upright():
    faces = faces_at((50, 50))
    turned = lite_face_detector.Faces(
        faces.centres_px, faces.widths_px, (faces.points_px - 50) @ np.array([[0, 1], [-1, 0]]) + 50, faces.scores
    )
    assert math.isclose(faces.crop(0, 1.2, 112).rotation, 0.0) and math.isclose(faces.crop(0, 1.2, 112).side_px, 12.0)
    assert math.isclose(turned.crop(0, 1.2, 112).rotation, math.pi / 2)


def test_leaning_heads_are_also_searched_turned():
    lying = heads_at((50, 50))
    lying[..., :2] = (lying[..., :2] - 50) @ np.array([[0, 1], [-1, 0]]) + 50
    boxes = np.array([[0.0, 0.0, 100.0, 40.0]])
    assert [w.rotation for w in lite_faces.head_windows(boxes, heads_at((50, 50)))] == [0.0, 0.0]
    assert np.allclose([w.rotation for w in lite_faces.head_windows(boxes, lying)], [0, math.pi / 2, 0, math.pi / 2])


def test_age_error_grows_with_age_and_for_small_faces():
    clear = [lite_faces.age_error_std(age, 100.0) for age in (1.0, 6.0, 14.0, 35.0, 70.0)]
    assert clear == sorted(clear) and 1.5 < clear[0] < 2.5 and 6 < clear[-1] < 9
    assert math.isclose(lite_faces.age_error_std(30.0, 24.0), 2 * lite_faces.age_error_std(30.0, 48.0))


def test_quantised_weights_are_read_from_plain_bytes(tmp_path):
    manifest, weights = tmp_path / "manifest.json", tmp_path / "shard"
    manifest.write_text(
        '[{"weights": [{"name": "a/bias", "shape": [2], "dtype": "float32"}, {"name": "a/filters", '
        '"shape": [1, 1, 2, 3], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}}]}]'
    )
    weights.write_bytes(np.array([1.5, -2.0], "<f4").tobytes() + bytes(range(6)))
    read = read_weights(weights, manifest)
    assert read["a/bias"].tolist() == [1.5, -2.0]
    assert read["a/filters"][:, :, 0, 0].tolist() == [[-1.0, 0.5], [-0.5, 1.0], [0.0, 1.5]], "out, in"
    for content in (weights.read_bytes()[:-1], weights.read_bytes() + b"x"):
        weights.write_bytes(content)
        with pytest.raises(AssetError, match="shard"):
            read_weights(weights, manifest)


@pytest.mark.parametrize(("size", "stride", "pads"), [(4, 2, (0, 1)), (5, 2, (1, 1)), (4, 1, (1, 1))])
def test_same_padding_is_tensorflows(size, stride, pads):
    padded = _pad_same(torch.ones(1, 1, size, size), 3, stride, 0.0)[0, 0]
    assert padded[pads[0]].tolist() == [0.0] * pads[0] + [1.0] * size + [0.0] * pads[1]
    assert padded.shape == (size + sum(pads),) * 2


# --- types and camera -------------------------------------------------------------------------------------------------


WRONG = (InputError, TypeCheckError)  # whichever looks first: the package, or the suite's own checks of annotations


def test_answers_must_be_about_the_same_people():
    with pytest.raises(WRONG, match="scores"):
        Detections(np.zeros((2, 4)), np.zeros(3))
    with pytest.raises(WRONG, match="coco17_px"):
        Keypoints(np.zeros((2, 16, 3)))
    with pytest.raises(WRONG, match="faces_px"):
        Attributes(np.zeros(2), np.zeros(2), np.zeros(2), np.zeros((1, 4)))
    landmarks = BodyLandmarks(np.zeros((1, 33, 2)), np.zeros((1, 33)), np.zeros((1, 33, 3)), np.zeros(1))
    with pytest.raises(InputError, match="Keypoints of 2 people came with landmarks of 1"):
        Keypoints(np.zeros((2, 17, 3)), landmarks)


def test_the_camera_always_says_where_it_comes_from(tmp_path):
    from PIL import Image

    image = np.zeros((300, 400, 3), np.uint8)
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 50
    Image.fromarray(image).save(tmp_path / "photo.jpg", exif=exif)
    (given,) = MetadataCamera(math.radians(40)).estimate([InputImage(image, tmp_path / "photo.jpg")])
    assert (
        given.source == "given" and given.focal_std == 0 and math.isclose(given.camera.vertical_fov, math.radians(40))
    )
    (read,) = MetadataCamera().estimate([InputImage(image, tmp_path / "photo.jpg")])
    assert read.source == "EXIF focal length"
    assert math.isclose(read.camera.fx, 50 * 500 / math.hypot(36, 24))
    Image.fromarray(image).save(tmp_path / "plain.png")
    for assumed in MetadataCamera().estimate([InputImage(image), InputImage(image, tmp_path / "plain.png")]):
        assert assumed.source == "assumed 60° over the longer side"
        assert assumed.camera == Camera.from_long_side_fov(math.radians(60), 400, 300)


# --- photographs ------------------------------------------------------------------------------------------------------

SKIP = "put it into a folder named by CROWDMESH_ASSETS to run this test"


def photo(name: str) -> np.ndarray:
    paths = [folder / "photos" / name for folder in assets.search_folders()]
    path: Path | None = next((path for path in paths if path.is_file()), None)
    if path is None:
        pytest.skip(f"the photograph {name} is not on this machine; {SKIP}")
    return read_image(path)


@functools.cache
def expert(kind: type):
    missing = [asset.name for asset in kind.sources() if asset.find() is None]
    if missing:
        pytest.skip(f"{missing[0]} is not on this machine; {SKIP}")
    return kind()


@functools.cache
def seen(name: str) -> SimpleNamespace:
    """What the detector, the keypoint and the attribute expert say about a photograph."""
    image = photo(name)
    (detections,) = expert(lite_persons.YoloxPersons).detect([InputImage(image)])
    (keypoints,) = expert(lite_pose.BlazePose).locate([InputImage(image)], [detections])
    (attributes,) = expert(lite_faces.FaceAttributes).estimate([InputImage(image)], [detections], [keypoints])
    return SimpleNamespace(image=image, detections=detections, keypoints=keypoints, attributes=attributes)


PHOTOS = {"parents_and_baby.jpg": 3, "surf_family.jpg": 5, "skiers.jpg": 5, "soccer.jpg": 2}


@pytest.mark.parametrize(("name", "people"), PHOTOS.items())
def test_everybody_is_found_once(name, people):
    view = seen(name)
    assert len(view.detections) == len(view.keypoints) == len(view.attributes) == people
    height, width = view.image.shape[:2]
    boxes = view.detections.boxes_px
    assert np.all(boxes[:, :2] >= 0) and np.all(boxes[:, 2:] <= (width, height))
    assert np.all(np.diff(view.detections.scores) <= 0)
    masks = view.keypoints.masks.to_dense()
    assert masks.shape == (people, height, width) and masks.sum(0).max() == 1, "a pixel belongs to one person"
    centres = view.keypoints.landmarks.px[:, [11, 12]].mean(1)
    assert np.all((centres > boxes[:, :2]) & (centres < boxes[:, 2:])), "everybody's shoulders lie in their own box"


@pytest.mark.parametrize("name", PHOTOS)
def test_keypoints_are_the_landmarks_and_unseen_ones_have_no_confidence(name):
    view = seen(name)
    height, width = view.image.shape[:2]
    keypoints, landmarks = view.keypoints.coco17_px, view.keypoints.landmarks
    assert np.array_equal(keypoints[:, [0, 5, 16], :2], landmarks.px[:, [0, 11, 28]])
    assert keypoints[..., 2].min() >= 0 and keypoints[..., 2].max() <= 1
    outside = np.any((landmarks.px < 0) | (landmarks.px > (width, height)), axis=-1)
    assert np.all(landmarks.visibility[outside] == 0)
    hips = landmarks.world_m[:, [23, 24]].mean(1)
    assert np.abs(hips).max() < 0.05, "3D landmarks start between the hips"
    # A person's left is on the right of the picture exactly when they face the camera: 2D and 3D must agree on it.
    px, world = (np.sign(points[:, 11, 0] - points[:, 12, 0]) for points in (landmarks.px, landmarks.world_m))
    assert np.array_equal(px, world)


def test_parents_and_baby_ages():
    view = seen("parents_and_baby.jpg")
    baby = int(np.argmin(view.detections.boxes_px[:, 2] - view.detections.boxes_px[:, 0]))
    age = view.attributes.age_years
    assert age[baby] < 4 and view.attributes.age_std_years[baby] < 4
    assert np.all(np.delete(age, baby) > 15)
    mother, father = np.argsort(np.where(np.arange(3) == baby, np.inf, view.detections.boxes_px[:, 0]))[:2]
    assert view.attributes.male_probability[mother] < 0.3 < 0.7 < view.attributes.male_probability[father]


def test_close_up_bodies_are_not_squeezed_into_the_picture():
    """Hips of people cut off at the chest lie outside the image, below them; the baby's are in it."""
    view = seen("parents_and_baby.jpg")
    baby = int(np.argmin(view.detections.boxes_px[:, 2] - view.detections.boxes_px[:, 0]))
    hips = view.keypoints.landmarks.px[:, [23, 24], 1].mean(1)
    height = view.image.shape[0]
    assert np.all(np.delete(hips, baby) > height)
    shoulders = np.abs(np.diff(view.keypoints.landmarks.px[:, [11, 12], 0], axis=1))[:, 0]
    assert np.all(shoulders[baby] < 0.7 * np.delete(shoulders, baby))


def test_a_face_seen_from_behind_gives_no_age():
    view = seen("surf_family.jpg")
    standing = int(np.argmin(view.detections.boxes_px[:, 1]))
    for values in (view.attributes.age_years, view.attributes.age_std_years, view.attributes.male_probability):
        assert np.isnan(values[standing])
    assert np.isnan(view.attributes.faces_px[standing]).all()


def test_soccer_players_are_located():
    """Noses and some wrists, read off the photograph by eye."""
    points = seen("soccer.jpg").keypoints.coco17_px
    left, right = points[np.argsort(points[:, 0, 0])]
    located = np.array([left[0], left[9], left[10], right[0], right[9]])
    by_eye = np.array([(418, 77), (556, 288), (330, 288), (757, 112), (917, 337)])
    assert np.linalg.norm(located[:, :2] - by_eye, axis=1).max() < 15
    assert located[:, 2].min() > 0.5


def test_a_turned_photograph_gives_the_same_people_turned():
    """Lying people are recognised as well as standing ones, in 2D and 3D."""
    view = seen("soccer.jpg")
    height = view.image.shape[0]
    left, top, right, bottom = view.detections.boxes_px.T
    turned_boxes = np.stack((height - bottom, left, height - top, right), axis=1)
    (turned,) = expert(lite_pose.BlazePose).locate(
        [InputImage(cv2.rotate(view.image, cv2.ROTATE_90_CLOCKWISE))],
        [Detections(turned_boxes, view.detections.scores)],
    )
    x, y = np.moveaxis(view.keypoints.landmarks.px, -1, 0)
    error_px = np.linalg.norm(turned.landmarks.px - np.stack((height - y, x), axis=-1), axis=-1)
    assert np.median(error_px) < 8
    x, y, z = np.moveaxis(view.keypoints.landmarks.world_m, -1, 0)
    error_m = np.linalg.norm(turned.landmarks.world_m - np.stack((-y, x, z), axis=-1), axis=-1)
    assert np.median(error_m) < 0.1


def test_depth_of_a_photograph():
    from crowdmesh.experts.lite_depth import FastDepth

    view = seen("soccer.jpg")
    (depth,) = expert(FastDepth).estimate([InputImage(view.image)])
    assert depth.kind == "depth" and depth.size == view.image.shape[:2]
    left, right = np.argsort(view.detections.boxes_px[:, 0])
    masks = view.keypoints.masks.to_dense()
    near, far = (np.median(depth.values[masks[k]]) for k in (right, left))
    assert near < far, "the left player is farther away"


def test_an_empty_picture_has_nobody():
    image = np.full((120, 160, 3), 128, np.uint8)
    (detections,) = expert(lite_persons.YoloxPersons).detect([InputImage(image)])
    (keypoints,) = expert(lite_pose.BlazePose).locate([InputImage(image)], [detections])
    (attributes,) = expert(lite_faces.FaceAttributes).estimate([InputImage(image)], [detections], [keypoints])
    assert len(detections) == len(keypoints) == len(keypoints.landmarks) == len(attributes) == 0
    assert keypoints.masks.to_dense().shape == (0, 120, 160)
