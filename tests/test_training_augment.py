"""Labels and pixels under augmentation: they agree to a hundredth of a pixel, with the network's own camera."""

from __future__ import annotations

import importlib.util
import math
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdmesh.body import SMPL, load_body
from crowdmesh.body.keypoints import LAYOUTS
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.mahmr.canvas import normalised, prepare
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.mahmr.projection import project
from crowdmesh.mahmr.tokens import morton_cells
from crowdmesh.training.augment import AugmentConfig, Augmenter
from crowdmesh.training.homography import centred_view, released_view
from crowdmesh.training.photometric import jittered, occluded
from crowdmesh.training.placed_people import label_boxes, mirrored_order, place, see
from crowdmesh.training.sample import LabelledPeople, Supervision, TrainingSample
from crowdmesh.training.scale_map import scale_map, silhouette_points
from crowdmesh.training.targets import Targets
from crowdmesh.training.targets_of import centre_size, targets_of

NETWORK = MAHMRConfig.tiny()
ALL = Supervision(True, True, True, True, True)
CAMERA = Camera.from_vertical_fov(0.9, 640, 360)
NAMES = LAYOUTS["body22"]


def crowd(places_m, seed: int = 0, bend: float = 0.3) -> LabelledPeople:
    """Anny's people, upright, facing the camera, every joint bent a little."""
    body, rng, count = load_body("anny"), np.random.default_rng(seed), len(places_m)
    pose = bend * rng.normal(size=(count, len(body.joint_names), 3))
    pose[:, 0] = roma.rotmat_to_rotvec(torch.from_numpy(body.facing_camera.copy())).numpy()
    shape = body.default_shape(count, rng.uniform(4, 60, count)).numpy()
    return LabelledPeople(
        count, "anny", pose=pose, betas=shape, translation_m=np.array(places_m, float).reshape(-1, 3),
        age_years=np.arange(count) + 20.0,
    )  # fmt: skip


PLACES = [(-0.8, 0.1, 4.0), (0.2, 0.0, 5.0), (1.0, 0.3, 3.5)]


def sample(people: LabelledPeople | None = None, camera: Camera | None = CAMERA, rules: Supervision = ALL, size=None):
    """A sample of a grey image."""
    size = size or ((camera.height, camera.width) if camera else (360, 640))
    image = np.full((*size, 3), 128, np.uint8)
    people = crowd(PLACES) if people is None else people
    return TrainingSample("made-up/0", "made-up", image, camera.K if camera else None, people, rules)


def example(given: TrainingSample, augment: AugmentConfig | None = None, seed: int = 0, network: MAHMRConfig = NETWORK):
    """What the augmenter makes of it."""
    augmenter = Augmenter(network, augment or AugmentConfig.none())
    return augmenter(given, given.pixels(), np.random.default_rng(seed))


def seen_by_network(targets: Targets) -> np.ndarray:
    """The labelled joints as the network's own projection shows them."""
    joints = targets.joints_3d[None].double()
    return project(joints, targets.focal_px[None].double(), targets.image_size[None].double())[0].numpy()


@settings(max_examples=40)
@given(
    size=st.sampled_from([(360, 640), (640, 361), (500, 500), (97, 333)]),
    fov=st.floats(0.3, 1.6),
    squeeze=st.floats(0.9, 1.1),
    shift=st.tuples(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15)),
    angle=st.floats(-math.pi, math.pi),
    zoom=st.floats(0.5, 2.5),
    mirror=st.booleans(),
    kept=st.floats(0.4, 1.0),
)
def test_labels_follow_the_homography_and_the_networks_camera(size, fov, squeeze, shift, angle, zoom, mirror, kept):
    height, width = size
    camera = Camera.from_vertical_fov(fov, width, height)
    camera = replace(camera, fx=camera.fx * squeeze, cx=camera.cx + shift[0] * width, cy=camera.cy + shift[1] * height)
    given_sample = sample(camera=camera)
    placed = place(given_sample, NETWORK)
    view = centred_view(camera.K, size, NETWORK.input_size, angle, zoom, mirror, (0, 0, width, kept * height))
    seen = see(placed, view, NETWORK.keypoint_layout)
    targets = targets_of(given_sample, placed, seen, view, NETWORK)
    assert max(view.size) == NETWORK.input_size
    assert view.intrinsics_px[0, 0] == view.intrinsics_px[1, 1]
    order = mirrored_order(NAMES) if mirror else np.arange(len(NAMES))
    people = crowd(PLACES)
    body = load_body("anny")
    rotations = roma.rotvec_to_rotmat(torch.from_numpy(people.pose)).float()
    posed = body(torch.from_numpy(people.betas).float(), rotations, torch.from_numpy(people.translation_m).float())
    pixels = view.map(camera.project(body.keypoints(posed, "body22").numpy()))[seen.present][:, order]
    visible = targets.joints_2d_mask.numpy()
    assert visible.sum() == view.inside(pixels).sum()
    assert np.abs(targets.joints_2d.numpy() - pixels)[visible].max(initial=0) < 0.01
    assert np.abs(seen_by_network(targets) - pixels)[visible].max(initial=0) < 0.01
    assert targets.vertical_fov == pytest.approx(2 * math.atan(view.size[0] / 2 / view.focal_px), abs=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
def test_parameters_pose_the_body_that_the_labels_show(mirror):
    given_sample = sample()
    # Toes and fingers stay at rest in the network's joints.
    pose = given_sample.people.pose.copy()
    body = load_body("anny")
    posed_at = [body.joint_names.index(name) for name in NETWORK.posed_joints]
    pose[:, [i for i in range(pose.shape[1]) if i not in posed_at]] = 0
    given_sample = replace(given_sample, people=replace(given_sample.people, pose=pose))
    placed = place(given_sample, NETWORK)
    view = centred_view(CAMERA.K, (360, 640), NETWORK.input_size, 0.3, 1.0, mirror, (0, 0, 640, 250))
    targets = targets_of(given_sample, placed, see(placed, view, "body22"), view, NETWORK)
    assert len(targets) == 3
    rotations = torch.eye(3).repeat(3, len(body.joint_names), 1, 1)
    rotations[:, posed_at] = targets.rotations
    posed = body(targets.betas, rotations, targets.translations)
    # Anny's upper neck is a millimetre off its plane of symmetry.
    tolerance = 3e-3 if mirror else 1e-5
    torch.testing.assert_close(body.keypoints(posed, "body22"), targets.joints_3d, atol=tolerance, rtol=0)
    torch.testing.assert_close(posed.joints[:, 0], targets.joints_3d[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.depth_m, targets.joints_3d[:, 0, 2])


def test_the_pixels_move_as_the_labels():
    """A bright spot drawn where a person's pelvis is lies where the labels say, whatever is drawn."""
    people = crowd([(0.05, -0.1, 4.0)])
    camera = replace(CAMERA, cx=300.0, cy=200.0)
    given_sample = sample(people, camera)
    at = camera.project(place(given_sample, NETWORK).points_m[0, 0])
    y, x = np.indices((360, 640)) + 0.5
    spot = 255 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 2 / 4**2)
    given_sample = replace(given_sample, image=np.repeat(spot[..., None], 3, 2).astype(np.uint8))
    augment = replace(AugmentConfig.paper(), jitter=0.0, occlusion=0.0)
    seen = 0
    for seed in range(10):
        made = example(given_sample, augment, seed)
        pixels = (made.pixels[1].double() * 0.224 + 0.456).clamp(min=0).numpy()
        at, (height, width) = made.targets.joints_2d[0, 0].numpy(), made.targets.image_size.numpy()
        if 20 < at[0] < width - 20 and 20 < at[1] < height - 20:
            y, x = np.indices(pixels.shape) + 0.5
            centre = np.array([(pixels * x).sum(), (pixels * y).sum()]) / pixels.sum()
            assert np.abs(centre - at).max() < 0.05
            seen += 1
    assert seen >= 5


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (500, 500), (720, 1280), (333, 600)])
def test_without_augmentation_the_input_is_that_of_prediction(size):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    camera = Camera.from_vertical_fov(0.9, size[1], size[0])
    given_sample = replace(sample(camera=camera), image=image)
    made, wanted = example(given_sample), prepare(image, NETWORK.input_size)
    # Prediction may lose one more row to rounding.
    assert (made.targets.image_size - torch.tensor([wanted.height, wanted.width])).abs().max() <= 1
    assert made.pixels.shape == wanted.pixels.shape
    height, width = made.targets.image_size.int().tolist()
    resized = torch.from_numpy(cv2.resize(image, (width, height)))
    assert (made.pixels[:, :height, :width] - normalised(resized)).abs().mean() < 0.02
    assert (made.pixels[:, height:] == normalised(torch.zeros(1, 1, 3, dtype=torch.uint8))).all()
    assert made.targets.vertical_fov == pytest.approx(camera.vertical_fov, rel=4e-3)


def test_turns_are_counter_clockwise_and_come_before_the_mirror():
    turned = centred_view(CAMERA.K, (360, 640), 448, math.pi / 2)
    right, centre = np.array([340.0, 180.0]), np.array([224.0, 126.0])
    assert turned.map(right) - centre == pytest.approx([0, -20 * 0.7], abs=1e-9)
    both = centred_view(CAMERA.K, (360, 640), 448, math.pi / 4, mirror=True)
    assert both.map(right)[0] < centre[0]
    assert both.map(right)[1] < centre[1]


def test_zoom_narrows_the_field_of_view():
    plain, close = (centred_view(CAMERA.K, (360, 640), 448, zoom=zoom) for zoom in (1.0, 1.6))
    assert math.tan(close.vertical_fov / 2) == pytest.approx(math.tan(plain.vertical_fov / 2) / 1.6)


def test_a_crop_is_a_turned_camera():
    """The upper half of an image has half of its vertical field of view and looks up by a quarter of it."""
    view = centred_view(CAMERA.K, (360, 640), 448, region=(0, 0, 640, 180))
    # The input is as many whole rows as fit.
    assert view.vertical_fov == pytest.approx(CAMERA.vertical_fov / 2, rel=0.01)
    up = np.array([0, -math.sin(CAMERA.vertical_fov / 4), math.cos(CAMERA.vertical_fov / 4)])
    assert view.move(up) == pytest.approx([0, 0, 1])
    assert np.linalg.det(view.motion) == pytest.approx(1)
    with pytest.raises(InputError, match="area"):
        centred_view(CAMERA.K, (360, 640), 448, region=(0, 50, 640, 50))


def test_only_what_is_inside_the_image_is_supervised_in_it():
    made = example(sample(crowd([(0, 0.7, 3.0), (0, 0, -3.0), (9.0, 0, 3.0)])))
    targets = made.targets
    assert len(targets) == 1  # the others are behind the camera and beside the image
    assert targets.age_years.tolist() == [20.0]
    inside = ((targets.joints_2d >= 0) & (targets.joints_2d < targets.image_size.flip(0))).all(-1)
    assert targets.joints_2d_mask.tolist() == inside.tolist()
    assert 4 <= inside.sum() < inside.numel()
    low, high = (targets.boxes[0, :2] - targets.boxes[0, 2:] / 2), (targets.boxes[0, :2] + targets.boxes[0, 2:] / 2)
    assert low.min() >= 0
    assert (high <= targets.image_size.flip(0) / 448 + 1e-6).all()


def test_nobody():
    assert example(sample(crowd([(9.0, 0, 3.0)])), AugmentConfig.paper()) is None
    empty = example(sample(crowd([])), AugmentConfig.paper())
    assert len(empty.targets) == 0
    assert bool(empty.targets.everybody)
    assert float(empty.targets.scale_map.abs().sum()) == 0


def test_supervision_masks():
    rules = Supervision(bodies=False, shape=False, kid=False, everybody=False, camera=False)
    targets = example(sample(rules=rules)).targets
    for name in ("joints_3d_mask", "has_pose", "betas_mask", "has_depth", "has_camera", "everybody"):
        assert not getattr(targets, name).any(), name
    assert targets.joints_2d_mask.any()
    assert bool(targets.has_map)
    everything = example(sample()).targets
    for name in ("joints_3d_mask", "has_pose", "betas_mask", "has_depth", "has_camera", "everybody"):
        assert getattr(everything, name).all(), name


def test_people_of_points():
    names = ("left_hip", "right_wrist", "nose", "elsewhere", "right_hip")
    pixels = np.array(
        [
            [[100, 50, 1], [120, 60, 1], [110, 20, 1], [5, 5, 1], [90, 50, 0.3]],
            [[400, 90, 1], [0, 0, 0], [0, 0, 0], [5, 5, 1], [0, 0, 0]],
            [[0, 0, 0], [0, 0, 0], [0, 0, 0], [5, 5, 1], [0, 0, 0]],
        ],
        float,
    )
    people = LabelledPeople(3, point_names=names, keypoints_px=pixels, depth_layers=np.array([1, 0, -1]))
    targets = example(sample(people, None)).targets
    assert targets.depth_layers.tolist() == [1, 0]
    assert targets.joints_2d_mask.sum(1).tolist() == [4, 1]
    assert targets.joints_2d[0, NAMES.index("right_wrist")].tolist() == pytest.approx([84, 42])
    assert not targets.has_camera
    assert not targets.has_map
    assert not targets.everybody  # the third is there, but where?
    mirrored = example(sample(people, None), AugmentConfig(flip=1.0)).targets
    assert mirrored.joints_2d[0, NAMES.index("left_wrist")].tolist() == pytest.approx([448 - 84, 42])
    assert not mirrored.joints_2d_mask[0, NAMES.index("right_wrist")]


def test_points_in_space_turn_with_the_camera():
    metres = np.array([[[0, 0, 4.0, 1], [0.5, -0.2, 4.1, 1], [9, 9, 9, 0]]])
    pixels = np.concatenate((CAMERA.project(metres[..., :3]), np.ones((1, 3, 1))), 2)
    people = LabelledPeople(1, point_names=("pelvis", "left_wrist", "nose"), keypoints_px=pixels, joints_m=metres)
    augment = AugmentConfig(rotation_rad=0.4, zoom=(0.5, 0.6), flip=1.0)
    targets = example(sample(people), augment).targets
    known = targets.joints_3d_mask
    assert [NAMES[i] for i in known[0].nonzero()[:, 0]] == ["pelvis", "right_wrist"]
    assert np.abs(seen_by_network(targets) - targets.joints_2d.numpy())[known.numpy()].max() < 0.01
    assert targets.depth_m.tolist() == pytest.approx([4.0])
    assert bool(targets.has_depth[0])
    assert not targets.has_pose[0]


def test_points_obey_what_may_be_learned_and_give_no_box():
    metres = np.array([[[0, 0, 4.0, 1], [0.5, -0.2, 4.1, 1]], [[0.5, 0.1, 0.06, 1], [0, 0, 3.0, 1]]])
    pixels = np.concatenate((CAMERA.project(metres[..., :3]), np.ones((2, 2, 1))), 2)
    pixels[1, 0, 2] = 0
    people = LabelledPeople(2, point_names=("pelvis", "left_wrist"), keypoints_px=pixels, joints_m=metres)
    targets = example(sample(people)).targets
    assert targets.joints_3d_mask.sum() == 4 and not targets.has_box.any()
    assert targets.has_depth.tolist() == [True, False]  # the other's pelvis is nearly in the camera
    unsure = replace(ALL, bodies=False, camera=False)
    targets = example(sample(people, rules=unsure)).targets
    assert targets.joints_2d_mask.any() and not targets.joints_3d_mask.any() and not targets.has_depth.any()


def test_somebody_cut_off_by_the_view_leaves_not_everybody_labelled():
    """Half an arm is in the picture, too little to learn from, and it is no background either."""
    half_width = 4 * math.tan(CAMERA.vertical_fov / 2) * 640 / 360
    inside = crowd([(0, 0, 4.0)], bend=0.0)
    counted = set()
    for beside in np.arange(0.3, 1.5, 0.05):
        people = crowd([(0, 0, 4.0), (half_width + beside, 0, 4.0)], bend=0.0)
        placed = place(sample(people), NETWORK)
        view = centred_view(CAMERA.K, (360, 640), NETWORK.input_size)
        seen = see(placed, view, "body22")
        targets = targets_of(sample(people), placed, seen, view, NETWORK)
        surface = view.inside(view.project(view.move(placed.surface_m[1]))).any()
        assert bool(targets.everybody) == (len(targets) == 2 or not surface)
        counted.add((len(targets), bool(targets.everybody)))
    assert (1, False) in counted and (1, True) in counted
    assert bool(example(sample(inside)).targets.everybody)


def test_other_bodies_are_refused():
    people = crowd(PLACES)
    smpl = LabelledPeople(1, "smpl", pose=np.zeros((1, 24, 3)), betas=np.zeros((1, 10)), translation_m=np.ones((1, 3)))
    with pytest.raises(InputError, match="labelled with body 'smpl', the network speaks of 'anny'"):
        example(sample(smpl))
    with pytest.raises(InputError, match="poses of 5 joints"):
        example(sample(replace(people, pose=people.pose[:, :5])))


def test_the_same_chance_gives_the_same_example():
    given_sample = sample()
    augmenter = pickle.loads(pickle.dumps(Augmenter(NETWORK, AugmentConfig.paper())))
    first, again = (augmenter(given_sample, given_sample.pixels(), np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.targets.joints_2d, again.targets.joints_2d)
    other = augmenter(given_sample, given_sample.pixels(), np.random.default_rng(8))
    assert not torch.equal(first.targets.rotations[0], other.targets.rotations[0])


def test_a_crop_keeps_every_chest():
    augment = AugmentConfig(crop=1.0)
    for seed in range(10):
        targets = example(sample(crowd(PLACES, bend=0.05)), augment, seed).targets
        shoulders = [NAMES.index("left_shoulder"), NAMES.index("right_shoulder")]
        assert targets.joints_2d_mask[:, shoulders].all()


@pytest.mark.parametrize(
    "wrong",
    [{"zoom": (2.0, 1.0)}, {"flip": 1.5}, {"jitter": 1.0}, {"rotation_rad": -0.1}, {"occlusion_share": -1.0}],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        AugmentConfig(**wrong)


def test_no_cell_inside_a_silhouette_is_missed_and_none_outside_is_painted():
    body = load_body("anny")
    for distance in (0.45, 1.5, 5.0):
        people = crowd([(0.3, 0.1, distance)], bend=0.1)
        given_sample = sample(people)
        placed = place(given_sample, NETWORK)
        view = centred_view(CAMERA.K, (360, 640), NETWORK.input_size)
        targets = targets_of(given_sample, placed, see(placed, view, "body22"), view, NETWORK)
        pixels = view.project(view.move(placed.surface_m[0]))
        drawn = np.zeros((252, 448), np.uint8)
        for face in body.faces.numpy():
            cv2.fillConvexPoly(drawn, np.round(pixels[face] - 0.5).astype(np.int32), 1)
        covered = np.zeros((10, 16))
        covered[tuple(morton_cells(10, 16).T)] = targets.scale_map[:, 0]
        cells = drawn.reshape(9, 28, 16, 28)
        assert (covered[:9] >= cells.min((1, 3))).all()
        assert (covered[:9] <= cells.max((1, 3))).all()
        assert covered[9].sum() == 0  # padding


def test_a_few_large_triangles():
    """A triangle that fills the image from far outside covers all cells; one outside covers none."""
    corners = np.array([[-9000.0, -8000], [9000, -8000], [100, 9000], [500, 0], [700, 0], [600, 90]])
    front = np.ones(6, bool)
    points = silhouette_points(corners, front, np.array([[0, 1, 2]] * 200), (224, 448))
    painted = scale_map([points], np.array([1.7]), np.ones(1), (8, 16))
    assert painted.tolist() == np.ones((128, 2)).tolist()
    assert len(silhouette_points(corners, front, np.array([[3, 4, 5]]), (224, 448))) == 0


def test_the_nearest_person_has_the_cell():
    points = [np.array([[10.0, 10.0], [40.0, 10.0]]), np.array([[10.0, 10.0]])]
    painted = scale_map(points, np.array([0.3, 0.6]), np.array([2.0, 5.0]), (2, 2))
    assert painted.tolist() == [[1, 0.3], [1, 0.3], [0, 0], [0, 0]]


def test_colours_and_occluders_stay_in_bounds():
    rng, image = np.random.default_rng(0), np.full((100, 200, 3), 100, np.uint8)
    assert np.array_equal(jittered(image, 0.0, rng), image)
    brightest = [float(jittered(image, 0.2, rng).mean()) for _ in range(20)]
    assert 75 < min(brightest) < 95 < 105 < max(brightest) < 125
    boxes = np.array([[20.0, 10, 120, 90], [150, 20, 150, 20]])
    hidden = [(occluded(image, boxes, 1.0, 0.3, rng) != image).any(2) for _ in range(20)]
    assert all(not h[:, :20].any() and not h[:, 120:].any() and h.sum() <= 0.3 * 8000 for h in hidden)
    assert max(h.sum() for h in hidden) > 0.15 * 8000
    assert np.array_equal(occluded(image, boxes, 0.0, 0.3, rng), image)


# ---- SMPL, with made-up files; the recorded cases -------------------------------------------------------------------


@pytest.fixture(scope="module")
def geometry(vectors: Path) -> dict[str, np.ndarray]:
    """The recorded cases of the release's augmentation."""
    with np.load(vectors / "ma_hmr_geometry.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def stand_in(vectors, tmp_path_factory):
    """Made-up files in SMPL's layout, as the recording used them, where bodies are looked for."""
    folder = tmp_path_factory.mktemp("assets")
    spec = importlib.util.spec_from_file_location("smpl_stand_in", vectors / "smpl_stand_in.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROWDMESH_ASSETS", str(folder))
        yield load_body("smpl")


OFFICIAL = MAHMRConfig.official()
CASES = range(6)


@pytest.fixture(scope="module")
def recorded_sample(geometry, stand_in) -> TrainingSample:
    """The recorded people, in the camera frame."""
    turn, shift = geometry["in/cam_rot"].astype(float), geometry["in/cam_trans"].astype(float)
    pose = geometry["in/poses"].reshape(3, 24, 3).astype(float)
    root = torch.from_numpy(turn) @ roma.rotvec_to_rotmat(torch.from_numpy(pose[:, 0].copy()))
    pose[:, 0] = roma.rotmat_to_rotvec(root).numpy()
    rest = stand_in.rest_joints(torch.from_numpy(geometry["in/betas"]))[:, 0].numpy()
    there = np.einsum("kij,kj->ki", turn, rest + geometry["in/transl"]) + shift - rest
    people = LabelledPeople(3, "smpl", pose=pose, betas=geometry["in/betas"], translation_m=there)
    image = np.zeros((720, 1280, 3), np.uint8)
    rules = replace(ALL, scale_map=False)  # the made-up body's triangles are any three vertices
    return TrainingSample("recorded/0", "recorded", image, geometry["in/cam_intrinsics"][0], people, rules)


def recorded_labels(geometry, recorded_sample, stand_in: SMPL, case: int, view):
    """Our targets, and the body posed by them."""
    placed = place(recorded_sample, OFFICIAL)
    seen = see(placed, view, "smpl45")
    targets = targets_of(recorded_sample, placed, seen, view, OFFICIAL)
    assert len(targets) == 3
    posed = stand_in(targets.betas, targets.rotations, targets.translations)
    joints = stand_in.keypoints(posed, "smpl45").numpy()
    return targets, joints, posed.vertices.numpy()


@pytest.mark.parametrize(("case", "released"), [(case, True) for case in CASES] + [(case, False) for case in range(4)])
def test_recorded_places_and_poses(geometry, recorded_sample, stand_in, case, released):
    """Pose and place: all cases with the release's view; with ours the four without a crop, which turns our camera."""
    angle, flip, zoom, crop = geometry[f"case{case}/aug"]
    rows = int(geometry[f"case{case}/out_image_shape"][0]) if crop else None
    K, size = recorded_sample.intrinsics_px, (720, 1280)
    turn = (math.radians(angle), float(zoom), bool(flip))
    view = released_view(K, size, 1288, *turn, rows=rows) if released else centred_view(K, size, 1288, *turn)
    assert view.size == tuple(geometry[f"case{case}/out_image_shape"])
    targets, joints, vertices = recorded_labels(geometry, recorded_sample, stand_in, case, view)
    theirs = {name[6:]: value for name, value in geometry.items() if name.startswith(f"case{case}/")}
    poses = roma.rotvec_to_rotmat(torch.from_numpy(theirs["poses"]).view(3, 24, 3))
    torch.testing.assert_close(targets.rotations, poses, atol=2e-6, rtol=0)
    assert np.abs(targets.depth_m.numpy() - theirs["depths"][:, 0]).max() < 2e-6
    # The release mirrors a body's origin, we its pelvis (spec 6.3 B11), which the made-up body has off its middle.
    slip = np.zeros((3, 3))
    if flip:
        rest = stand_in.rest_joints(torch.from_numpy(geometry["in/betas"]))[:, 0].numpy()
        slip[:, 0] = 2 * rest[:, 0]
    translations = targets.translations.numpy() + slip
    assert np.abs(translations - theirs["transl"]).max() < 5e-6
    assert np.abs(joints + slip[:, None] - theirs["j3ds"]).max() < 1e-5
    assert np.abs(vertices[:, ::100] + slip[:, None] - theirs["verts_every100"]).max() < 1e-5
    assert targets.focal_px == pytest.approx(theirs["focals"][0, 0], rel=1e-6)
    height = theirs["img_size"][0]
    assert targets.vertical_fov == pytest.approx(2 * math.atan(height / 2 / theirs["focals"][0, 0]), abs=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_recorded_pixels(geometry, recorded_sample, stand_in, case):
    """Image points, boxes and, but for what lies outside the image, the scale map, by the release's view."""
    angle, flip, zoom, crop = geometry[f"case{case}/aug"]
    theirs = {name[6:]: value for name, value in geometry.items() if name.startswith(f"case{case}/")}
    rows = int(theirs["out_image_shape"][0]) if crop else None
    view = released_view(recorded_sample.intrinsics_px, (720, 1280), 1288, math.radians(angle), zoom, bool(flip), rows)
    assert np.abs(view.intrinsics_px - theirs["cam_intrinsics"][0]).max() < 1e-3
    pixels = view.project(theirs["j3ds"].astype(float))
    assert np.abs(pixels - theirs["j2ds"]).max() < 0.01
    boxes = centre_size(label_boxes(pixels, np.ones(pixels.shape[:2], bool), view.size)) / 1288
    # The release cuts boxes one row short of the image's end.
    tolerance = 1e-5 + (boxes[:, 3] - theirs["boxes"][:, 3] > 1e-5).any() / 1288
    assert np.abs(boxes - theirs["boxes"]).max() < tolerance
    if not flip:
        targets, *_ = recorded_labels(geometry, recorded_sample, stand_in, case, view)
        assert np.abs(targets.joints_2d.numpy() - theirs["j2ds"]).max() < 0.01
        assert np.abs(targets.boxes.numpy() - theirs["boxes"]).max() < 1e-5


@pytest.mark.parametrize("case", [0, 1])
def test_recorded_scale_map(geometry, recorded_sample, stand_in, case):
    """The same surface points, those outside pulled to the border as the release does, paint the same map."""
    angle = math.radians(geometry[f"case{case}/aug"][0])
    view = released_view(recorded_sample.intrinsics_px, (720, 1280), 1288, angle)
    placed = place(recorded_sample, OFFICIAL)
    surface = placed.surface_m
    corners = surface[:, placed.faces]
    everything = np.concatenate((surface, (corners + corners[:, :, [1, 2, 0]]).reshape(3, -1, 3) / 2), 1)
    points = view.project(view.move(everything)).clip(0, np.array([1287.999, 723.999]))
    boxes = geometry[f"case{case}/boxes"]
    painted = scale_map(list(points), np.linalg.norm(boxes[:, 2:], axis=1), placed.pelvis_m[:, 2], (26, 46))
    assert np.abs(painted - geometry[f"case{case}/scale_map"]).max() < 1e-5


def test_the_released_crop_is_wrong_by_tens_of_pixels_and_ours_is_right(geometry, recorded_sample, stand_in):
    for case in (4, 5):
        angle, flip, zoom, _ = geometry[f"case{case}/aug"]
        rows = int(geometry[f"case{case}/out_image_shape"][0])
        K, size = recorded_sample.intrinsics_px, (720, 1280)
        turn = (math.radians(angle), float(zoom), bool(flip))
        released = released_view(K, size, 1288, *turn, rows=rows)
        ours = centred_view(K, size, 1288, *turn, region=(0, 0, 1280, rows / 1288 * 1280))
        wrong, right = (
            recorded_labels(geometry, recorded_sample, stand_in, case, view)[0] for view in (released, ours)
        )
        assert 70 < np.abs(seen_by_network(wrong) - wrong.joints_2d.numpy()).max() < 80
        mask = right.joints_2d_mask.numpy()
        assert np.abs(seen_by_network(right) - right.joints_2d.numpy())[mask].max() < 0.01


def test_the_released_option_draws_released_views(recorded_sample):
    config = AugmentConfig(crop=1.0, released_crop=True)
    targets = example(recorded_sample, config, network=OFFICIAL).targets
    assert np.abs(seen_by_network(targets) - targets.joints_2d.numpy()).max() > 10


def test_gendered_labels_keep_their_pelvis(recorded_sample, stand_in):
    people = replace(recorded_sample.people, genders=("male", "female", "neutral"))
    gendered = example(replace(recorded_sample, people=people), network=OFFICIAL).targets
    rest = stand_in.rest_joints(gendered.betas)[:, 0]
    torch.testing.assert_close(gendered.translations + rest, gendered.joints_3d[:, 0], atol=1e-5, rtol=0)
    neutral = example(recorded_sample, network=OFFICIAL).targets
    size = (gendered.joints_3d - neutral.joints_3d).abs().amax((1, 2))
    assert size[:2].min() > 0.01
    assert size[2] < 1e-5


def test_kid_axis(recorded_sample):
    adult = replace(recorded_sample, supervision=replace(recorded_sample.supervision, kid=False))
    targets = example(adult, network=OFFICIAL).targets
    assert targets.betas_mask[0].tolist() == [True] * 10 + [False]
    ten = MAHMRConfig.official(kid=False)
    targets = example(recorded_sample, network=ten).targets
    assert targets.betas.shape == (3, 10)
    # The labelled bodies are children's, the ten parameters an adult's: the pelvis stays where it was.
    rest = load_body("smpl").rest_joints(torch.nn.functional.pad(targets.betas, (0, 1)))[:, 0]
    torch.testing.assert_close(targets.translations + rest, targets.joints_3d[:, 0], atol=1e-5, rtol=0)
