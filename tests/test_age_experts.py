"""Ages and sexes by MiVOLO, by face classifiers and from files: crops against analytic images and the library's own
processor, networks by stand-ins that measure what they are shown, and tiny real ones in the published layouts."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from crowdmesh import assets
from crowdmesh.errors import AssetError, FormatError, InputError
from crowdmesh.experts import _people_crops, age_classifier, mivolo
from crowdmesh.experts._device import Device
from crowdmesh.experts._people_crops import HeadFaces
from crowdmesh.experts.age_classifier import AgeClassifier, Classifier
from crowdmesh.experts.attributes_file import AttributesFromFile
from crowdmesh.experts.base import AttributeExpert, Detections, InputImage, Keypoints
from crowdmesh.experts.lite_face_detector import Faces
from crowdmesh.experts.lite_faces import CLEAR_FACE_PX, MIN_FACE_PX
from crowdmesh.experts.mivolo import MIVOLO_V2, SIZE, MiVOLO
from crowdmesh.hub import HubModel

DEVICE = Device("cpu", torch.float32, 8)
NO_FACES = Faces(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 6, 2)), np.zeros(0))


def head(x: float, y: float, half: float = 20.0, behind: bool = False) -> np.ndarray:
    """COCO-17 of somebody whose nose is at (x, y) and whose ears are ``half`` to the left and right."""
    points = np.full((17, 3), 0.9)
    points[:, :2] = (x, y + 4.0 * half)
    side = -1.0 if behind else 1.0  # the left eye is on the right in the image, unless seen from behind
    points[:5, 0] = x + half * side * np.array([0.0, 0.4, -0.4, 1.0, -1.0])
    points[:5, 1] = y + half * np.array([0.0, -0.4, -0.4, -0.1, -0.1])
    return points


def found_faces(*squares: tuple[float, float, float]) -> Faces:
    """Detected faces by centre and width; the eyes level, at the keypoints of ``head(x, y, width / 2)``."""
    centres, widths = np.array([s[:2] for s in squares], float).reshape(-1, 2), np.array([s[2] for s in squares], float)
    face = np.array([[-0.4, -0.4], [0.4, -0.4], [0.0, 0.0], [0.0, 0.5], [-1.0, -0.1], [1.0, -0.1]])
    return Faces(centres, widths, centres[:, None] + face * widths[:, None, None] / 2.0, np.full(len(widths), 0.9))


def scene(*heads: np.ndarray, boxes=None, size=(300, 400), value=128):
    """A grey image with people whose boxes hang from their heads."""
    boxes = [(p[0, 0] - 40, p[0, 1] - 30, p[0, 0] + 40, p[0, 1] + 150) for p in heads] if boxes is None else boxes
    image = InputImage(np.full((*size, 3), value, np.uint8))
    detections = Detections(np.array(boxes, float).reshape(-1, 4), np.linspace(0.9, 0.6, len(heads)))
    return image, detections, Keypoints(np.array(heads).reshape(-1, 17, 3))


def looking_for(*per_image: Faces) -> HeadFaces:
    """A face detector that finds these, one answer per image."""
    answers = iter(per_image)
    return HeadFaces(lambda pixels, windows: next(answers))


# --- crops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(384, 384), (100, 50), (37, 200), (900, 401), (1, 700), (383, 384)])
def test_letterbox_fills_one_direction_and_centres(height, width):
    square = _people_crops.letterbox(np.full((height, width, 3), 200, np.uint8), SIZE)
    rows, columns = np.flatnonzero(square[:, :, 0].any(1)), np.flatnonzero(square[:, :, 0].any(0))
    scale = SIZE / max(height, width)
    assert len(rows) == max(1, round(height * scale)) and len(columns) == max(1, round(width * scale))
    for used in (rows, columns):
        before, behind = used[0], SIZE - 1 - used[-1]
        assert behind - before in (0, 1), "the odd pixel lies right and below"
    assert np.all(square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 200)


def test_boxes_are_cut_at_the_image_and_rounded_towards_zero():
    image = np.arange(20 * 30 * 3, dtype=np.int64).reshape(20, 30, 3).astype(np.uint8)
    for box, expected in (([3.9, 2.2, 8.9, 6.1], image[2:6, 3:8]), ([-5.5, -9.0, 4.0, 50.0], image[:, :4])):
        piece = _people_crops.cut(image, np.array(box))
        assert piece is not None and np.array_equal(piece, expected)
    for nothing in ([31.0, 0, 40, 10], [3.0, 3, 3.5, 9], [-9.0, -9, -2, -3], [np.nan] * 4):
        assert _people_crops.cut(image, np.array(nothing)) is None


def test_a_face_is_the_square_around_nose_eyes_and_ears():
    """Ears 20 px to the left and right: 1.2 x 40 px wide; vertically centred between eyes and nose."""
    people = np.array([head(100, 80), head(100, 80, behind=True)])
    estimated = _people_crops.estimated_faces(people)
    assert estimated[0].tolist() == [76.0, 52.0, 124.0, 100.0]
    assert np.isnan(estimated[1]).all(), "from behind, the right eye lies right of the left one"


def test_faces_are_assigned_by_overlap_and_the_unknown_harm_nobody():
    estimated = np.array([[0.0, 0, 10, 10], [np.nan] * 4, [20, 0, 30, 10], [50, 50, 60, 60]])
    detected = np.array([[21.0, 0, 31, 10], [0, 0, 10, 10], [52.0, 50, 68, 66]])
    # The third: 80 of 100 px shared; (0.8 + 80 / 276) / 2 = 0.54.
    assert _people_crops.assign_face_boxes(estimated, detected).tolist() == [1, -1, 0, 2]
    # (0.4 + 40 / 160) / 2 = 0.325 is enough, (0.3 + 30 / 170) / 2 = 0.24 is not.
    assert _people_crops.assign_face_boxes(estimated[:1], np.array([[6.0, 0, 16, 10]])).tolist() == [0]
    assert _people_crops.assign_face_boxes(estimated[:1], np.array([[7.0, 0, 17, 10]])).tolist() == [-1]
    assert _people_crops.assign_face_boxes(estimated, np.zeros((0, 4))).tolist() == [-1] * 4
    assert _people_crops.assign_face_boxes(estimated[1:2], detected).tolist() == [-1]


def test_a_pair_that_agrees_too_little_displaces_no_good_one():
    """Summed agreement would rather give both people a face: 0.29 + 0.29 is more than 0.54."""
    estimated = np.array([[0.0, 0, 10, 10], [0, 8, 10, 18]])
    detected = np.array([[0.0, 3.5, 10, 13.5], [0, -6.6, 10, 3.4]])
    agreement = lambda shared: (shared / 10 + shared / (20 - shared)) / 2  # noqa: E731
    assert agreement(3.4) < 0.3 and agreement(5.5) < 0.3 + agreement(3.4) < agreement(6.5) + 0.3
    assert _people_crops.assign_face_boxes(estimated, detected).tolist() == [0, -1]


# --- MiVOLO -----------------------------------------------------------------------------------------------------------


class Looker:
    """In a network's place: says of each pair of crops the mean brightness of its left halves, and remembers them."""

    def __init__(self) -> None:
        self.batches: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, faces: torch.Tensor, bodies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert faces.shape[1:] == bodies.shape[1:] == (3, SIZE, SIZE) and len(faces) == len(bodies) <= DEVICE.batch
        self.batches.append((faces, bodies))
        left = bodies[..., : SIZE // 2].mean((1, 2, 3))
        return 30.0 + left, torch.sigmoid(faces[..., : SIZE // 2].mean((1, 2, 3)))


@pytest.fixture
def model_folder(tmp_path):
    """A folder with the files of MiVOLO, none of which is looked at."""
    for name in MIVOLO_V2.files:
        (tmp_path / name).write_bytes(b"")
    return replace(MIVOLO_V2, local=tmp_path)


def looking(model_folder, faces, network=None, device=DEVICE):
    network = network or Looker()
    expert = MiVOLO(device, model_folder, allow_remote_code=True, faces=faces, load=lambda folder, device: network)
    return expert, network


def unnormalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pixels * std + mean) * 255.0


def test_mivolo_sees_body_and_face_in_rgb_and_both_mirrored(model_folder):
    image, detections, keypoints = scene(head(100, 80))
    image.pixels[:, :100], image.pixels[:, 100:] = (200, 100, 0), (0, 50, 250)
    expert, network = looking(model_folder, looking_for(NO_FACES))
    answer = expert.estimate([image], [detections], [keypoints])[0]
    (faces, bodies) = network.batches[0]
    for squares, across in ((faces, 384), (bodies, 171)):  # the body is 80 x 180 px
        plain, mirrored = unnormalised(squares)
        left, right = (SIZE - across) // 2 + 20, (SIZE + across) // 2 - 20
        assert plain[:, 192, left].tolist() == pytest.approx([200, 100, 0], abs=0.01)
        assert plain[:, 192, right].tolist() == pytest.approx([0, 50, 250], abs=0.01)
        assert torch.allclose(mirrored, plain.flip(-1))
    assert torch.allclose(unnormalised(bodies)[0, :, 192, 50], torch.zeros(3), atol=1e-3), "black beside it"
    assert answer.faces_px.tolist() == [[76.0, 52.0, 124.0, 100.0]]
    ages, male = network(faces, bodies)
    assert ages[0] != ages[1]
    assert answer.age_years[0] == pytest.approx(float(ages.mean())) and answer.age_years.dtype == np.float64
    assert answer.male_probability[0] == pytest.approx(float(male.mean()), abs=1e-6)
    assert np.isnan(answer.age_std_years).all(), "no error by age is published"


def test_mivolo_takes_what_is_there(model_folder):
    """No face from behind; nothing at all outside the image; a detected face instead of the estimated one."""
    behind, front = head(100, 80, behind=True), head(250, 80)
    boxes = [(60, 50, 140, 230), (210, 50, 290, 230), (500, 10, 520, 90)]
    image, detections, keypoints = scene(behind, front, head(510, 20, behind=True), boxes=boxes)
    expert, network = looking(model_folder, looking_for(found_faces((100, 80, 40), (252, 78, 40))))
    answer = expert.estimate([image], [detections], [keypoints])[0]
    assert np.isnan(answer.faces_px[[0, 2]]).all()
    assert answer.faces_px[1].tolist() == [228.0, 54.0, 276.0, 102.0], "1.2 x 40 px around (252, 78)"
    assert np.isfinite(answer.age_years).tolist() == [True, True, False]
    assert np.isnan(answer.male_probability).tolist() == [False, False, True]
    assert torch.allclose(unnormalised(network.batches[0][0][0]), torch.zeros(3, SIZE, SIZE), atol=1e-3)


def test_mivolo_reads_people_of_many_images_in_batches(model_folder):
    places = [(60, 120), (), (200, 260, 330), (90,)]
    images, detections, keypoints = zip(*(scene(*(head(x, 60 + x / 5) for x in row)) for row in places), strict=True)
    for k, image in enumerate(images):
        image.pixels[:] = 40 * k + np.arange(400, dtype=np.uint8)[None, :, None] % 100
    for batch in (1, 5):
        device = replace(DEVICE, batch=batch)
        expert, network = looking(model_folder, looking_for(*[NO_FACES] * 3), device=device)
        together = expert.estimate(images, detections, keypoints)
        assert [len(faces) for faces, _ in network.batches] == [batch] * (12 // batch) + [12 % batch] * (12 % batch > 0)
        for k, one in enumerate(together):
            expert, _ = looking(model_folder, looking_for(NO_FACES))
            alone = expert.estimate([images[k]], [detections[k]], [keypoints[k]])[0]
            assert len(one) == len(places[k])
            assert np.allclose(one.age_years, alone.age_years, atol=1e-5)
            assert np.allclose(one.male_probability, alone.male_probability, atol=1e-6)
            assert np.array_equal(one.faces_px, alone.faces_px)


def test_without_the_flag_mivolo_says_what_it_would_do():
    with pytest.raises(InputError, match="--allow-remote-code") as caught:
        MiVOLO(DEVICE)
    assert MIVOLO_V2.revision in str(caught.value) and "iitolstykh/mivolo_v2" in str(caught.value)
    with pytest.raises(InputError, match="'main' may change at any time"):
        MiVOLO(DEVICE, replace(MIVOLO_V2, revision="main"), allow_remote_code=True)
    expert = MiVOLO(DEVICE, allow_remote_code=True)
    assert isinstance(expert, AttributeExpert)
    assert expert.sources() == (MIVOLO_V2, assets.FACE_DETECTION)


CONFIGURATION = """
from transformers import PretrainedConfig

class MiVOLOConfig(PretrainedConfig):
    model_type = "mivolo"

    def __init__(self, num_classes=3, in_chans=6, **kwargs):
        self.num_classes, self.in_chans = num_classes, in_chans
        super().__init__(**kwargs)
"""
MODELING = """
from dataclasses import dataclass
from pathlib import Path
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput
from .configuration_mivolo import MiVOLOConfig

Path(MARK).write_text("was run")

@dataclass
class Output(ModelOutput):
    age_output: torch.Tensor = None
    gender_probs: torch.Tensor = None
    gender_class_idx: torch.Tensor = None

class MiVOLOForImageClassification(PreTrainedModel):
    config_class = MiVOLOConfig

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(config.in_chans, config.num_classes)
        self.post_init()

    def forward(self, faces_input=None, body_input=None, concat_input=None, return_dict=None):
        x = torch.cat((faces_input, body_input), dim=1) if concat_input is None else concat_input
        out = self.head(x.mean((2, 3)))
        probs, index = out[:, :2].softmax(-1).topk(1)
        return Output(age_output=out[:, 2:] * 122 + 61, gender_probs=probs, gender_class_idx=index)
"""


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """Where transformers copies code to before it runs it: not the user's cache."""
    from unittest.mock import patch

    folder = str(tmp_path_factory.mktemp("modules"))
    places = [f"transformers.{name}.HF_MODULES_CACHE" for name in ("dynamic_module_utils", "utils.hub")]
    with patch(places[0], folder), patch(places[1], folder), patch.object(sys, "path", [*sys.path]):
        yield


@pytest.fixture
def remote_model(tmp_path, module_cache):
    """A model in the published layout whose code leaves a mark when it is run; and its weights."""
    from safetensors.torch import save_file

    folder, mark = tmp_path / "model", tmp_path / "mark"
    folder.mkdir()
    auto_map = {
        "AutoConfig": "configuration_mivolo.MiVOLOConfig",
        "AutoModelForImageClassification": "modeling_mivolo.MiVOLOForImageClassification",
    }
    config = {"model_type": "mivolo", "architectures": ["MiVOLOForImageClassification"], "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    # The library keeps classes by the content of their file: no test shall meet those of another one.
    (folder / "configuration_mivolo.py").write_text(f"# {tmp_path}\n{CONFIGURATION}")
    (folder / "modeling_mivolo.py").write_text(MODELING.replace("MARK", repr(str(mark))))
    generator = torch.Generator().manual_seed(5)
    state = {
        "head.weight": torch.randn(3, 6, generator=generator) * 0.2,
        "head.bias": torch.tensor([0.1, -0.1, 1.6]),
    }
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    return replace(MIVOLO_V2, local=folder), mark, state


def test_the_code_beside_the_weights_runs_only_if_allowed(remote_model):
    model, mark, state = remote_model
    with pytest.raises(InputError, match="--allow-remote-code"):
        MiVOLO(DEVICE, model)
    assert not mark.exists()
    image, detections, keypoints = scene(head(100, 80), head(250, 80, behind=True), value=90)
    expert = MiVOLO(DEVICE, model, allow_remote_code=True, faces=looking_for(NO_FACES))
    assert not mark.exists(), "nothing is loaded before it is needed"
    answer = expert.estimate([image], [detections], [keypoints])[0]
    assert mark.exists()

    inside = 171 / 384  # what an 80 x 180 px box covers of the square
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    bodies = (90 / 255 * inside - mean) / std
    faces = np.array([(90 / 255 - mean) / std, -mean / std])
    out = np.array([np.concatenate((face, bodies)) for face in faces]) @ state["head.weight"].numpy().T
    out += state["head.bias"].numpy()
    assert np.allclose(answer.age_years, out[:, 2] * 122 + 61, atol=0.05)
    assert np.allclose(answer.male_probability, 1 / (1 + np.exp(out[:, 1] - out[:, 0])), atol=1e-3)
    assert (answer.male_probability > 0.5).tolist() == [False, True], "both orders of the two sexes are met"


def test_code_that_needs_what_is_not_there(remote_model):
    model, _, _ = remote_model
    file = model.local / "modeling_mivolo.py"
    code = file.read_text()
    file.write_text(f"from mivolo.model.create_timm_model import create_model\n{code}")
    with pytest.raises(AssetError, match=r"mivolo.*github\.com/WildChlamydia/MiVOLO"):
        mivolo.load_mivolo(model.local, DEVICE)
    file.write_text(f"{code}\nraise KeyError('its own fault')")
    with pytest.raises(AssetError, match="not a usable MiVOLO network"):
        mivolo.load_mivolo(model.local, DEVICE)


# --- face classifiers -------------------------------------------------------------------------------------------------

FAIRFACE = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")


@pytest.mark.parametrize(
    ("label", "group"),
    [("0-2", (0, 3)), ("3-9", (3, 10)), ("06-07", (6, 8)), ("01", (1, 2)), ("more than 70", (70, 90)),
     ("90+", (90, 110)), ("20 to 29 years", (20, 30)), (" 70+ ", (70, 90)), (">60", (60, 80))],
)  # fmt: skip
def test_age_groups_from_their_labels(label, group):
    assert age_classifier.age_group(label) == group


@pytest.mark.parametrize("label", ["child", "LABEL_3", "", "3-", "-5", "cat"])
def test_what_is_no_age_group_is_named(label):
    with pytest.raises(AssetError, match="no age group"):
        age_classifier.age_group(label)


def test_moments_of_uniform_groups():
    groups = np.array([age_classifier.age_group(label) for label in FAIRFACE])
    sure = np.eye(9)
    mean, std = age_classifier.age_moments(sure, groups)
    assert mean.tolist() == [1.5, 6.5, 15, 25, 35, 45, 55, 65, 80]
    assert np.allclose(std, (groups[:, 1] - groups[:, 0]) / np.sqrt(12))
    mean, std = age_classifier.age_moments(np.full((1, 2), 0.5), np.array([[0.0, 10.0], [10.0, 20.0]]))
    assert (mean[0], std[0]) == (pytest.approx(10.0), pytest.approx(20 / np.sqrt(12))), "one uniform group of 20 years"
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.ones(9))
    drawn = rng.uniform(*groups[rng.choice(9, 400_000, p=share)].T)
    mean, std = age_classifier.age_moments(share[None], groups)
    assert abs(mean[0] - drawn.mean()) < 0.2 and abs(std[0] - drawn.std()) < 0.2


class Gauge:
    """In a classifier's place: certain of the group whose number is the brightness of the crop's middle, over 10."""

    def __init__(self, labels: tuple[str, ...], size: int = 32) -> None:
        self.seen: list[np.ndarray] = []
        self.classifier = Classifier(size, labels, self.look)

    def look(self, crops: np.ndarray) -> np.ndarray:
        self.seen.append(crops)
        middle = crops.shape[1] // 2
        number = np.minimum(crops[:, middle, middle, 0].astype(int) // 10, len(self.classifier.labels) - 1)
        return np.eye(len(self.classifier.labels))[number]


def gauged(faces, age=None, sex=None, device=DEVICE, *, tmp_path: Path):
    gauges = {"age": age or Gauge(FAIRFACE), "sex": sex or Gauge(("Female", "Male"))}
    folders = [tmp_path / name for name in gauges]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    load = lambda folder, device: gauges[folder.name].classifier  # noqa: E731
    return AgeClassifier(device, *folders, faces=faces, load=load), gauges


def test_classes_become_ages_and_sexes(tmp_path):
    image, detections, keypoints = scene(head(60, 80, 30), head(200, 80, 30), head(330, 80, 30), head(100, 200, 5))
    for x, value in ((60, 3), (200, 15), (330, 255)):
        image.pixels[40:130, x - 45 : x + 45] = value
    faces = found_faces((200, 80, 60), (60, 80, 60), (100, 200, 10))
    expert, _ = gauged(looking_for(faces), tmp_path=tmp_path)
    answer = expert.estimate([image], [detections], [keypoints])[0]
    assert answer.age_years[:2].tolist() == [1.5, 6.5]
    assert answer.male_probability[:2].tolist() == [0.0, 1.0]
    assert np.allclose(answer.age_std_years[:2], [3 / np.sqrt(12), 7 / np.sqrt(12)])
    assert answer.faces_px[1].tolist() == [170.0, 50.0, 230.0, 110.0]
    assert MIN_FACE_PX > 10, "the fourth face is too small"
    for values in (answer.age_years, answer.age_std_years, answer.male_probability, answer.faces_px[:, 0]):
        assert np.isnan(values[2:]).all(), "no face is seen of the third person"


def test_small_faces_are_less_certain_and_crops_are_upright(tmp_path):
    image, detections, keypoints = scene(head(60, 80, 12))
    faces = found_faces((60, 80, 24))
    expert, gauges = gauged(looking_for(faces), tmp_path=tmp_path)
    image.pixels[:, :55] = 0
    std = expert.estimate([image], [detections], [keypoints])[0].age_std_years[0]
    assert std == pytest.approx(age_classifier.OPEN_GROUP_YEARS / np.sqrt(12) * CLEAR_FACE_PX / 24)
    plain, mirrored = gauges["age"].seen[0]
    assert np.array_equal(plain[:, ::-1], mirrored) and plain[:, :8].max() < 10 and plain[:, 12:].min() > 118


def test_faces_of_many_images_are_read_in_batches(tmp_path):
    places = [(60, 150), (), (200,), (90, 200, 310)]
    images, detections, keypoints = zip(*(scene(*(head(x, 80, 20) for x in row)) for row in places), strict=True)
    faces = [found_faces(*((x, 80, 40) for x in row)) for row in places if row]
    for image, row in zip(images, places, strict=True):
        for x in row:
            image.pixels[:, x - 35 : x + 35] = x // 4
    for batch, sizes in ((1, [1] * 12), (2, [2] * 6), (5, [4, 4, 4]), (8, [8, 4])):
        expert, gauges = gauged(looking_for(*faces), device=replace(DEVICE, batch=batch), tmp_path=tmp_path)
        answers = expert.estimate(images, detections, keypoints)
        assert [len(crops) for crops in gauges["age"].seen] == sizes
        groups = [[min(x // 40, 8) for x in row] for row in places]
        middles = np.array([1.5, 6.5, 15, 25, 35, 45, 55, 65, 80])
        assert [answer.age_years.tolist() for answer in answers] == [middles[g].tolist() if g else [] for g in groups]


def test_classes_of_something_else_are_named(tmp_path):
    image, detections, keypoints = scene(head(60, 80))
    for age, sex, message in (
        (Gauge(("cat", "dog")), None, "'cat' is no age group"),
        (None, Gauge(("cat", "dog")), "tells cat, dog, not male and female"),
    ):
        expert, _ = gauged(looking_for(found_faces((60, 80, 40))), age, sex, tmp_path=tmp_path)
        with pytest.raises(AssetError, match=message):
            expert.estimate([image], [detections], [keypoints])


def test_a_tiny_vit_and_the_librarys_own_processor(tmp_path):
    """Logits for a crop as transformers' own image processor would prepare it."""
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(3)
    labels: dict[int, str] = dict(enumerate(FAIRFACE))
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32,
                       patch_size=8, id2label=labels, label2id={v: k for k, v in labels.items()})  # fmt: skip
    network = ViTForImageClassification(config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(tmp_path)
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6], image_std=[0.2] * 3)
    crops = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), np.uint8)
    for prepared in (ViTImageProcessorPil(size={"height": 32, "width": 32}), processor):
        if prepared is processor:
            processor.save_pretrained(tmp_path)
        classifier = age_classifier.load_classifier(tmp_path, DEVICE)
        assert (classifier.size, classifier.labels) == (32, FAIRFACE)
        pixels = prepared([Image.fromarray(crop) for crop in crops], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            expected = network(pixels).logits.double().softmax(-1).numpy()
        seen = classifier.probabilities(crops)
        assert seen.dtype == np.float64 and np.abs(seen - expected).max() < 1e-5
        assert expected.std(axis=0).max() > 1e-3, "the crops must make a difference"
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    with pytest.raises(AssetError, match="how pixels are normalised"):
        age_classifier.load_classifier(tmp_path, DEVICE)


def test_the_default_classifiers_are_pinned_and_may_be_used_by_anybody():
    expert = AgeClassifier(DEVICE)
    assert isinstance(expert, AttributeExpert)
    for source in expert.sources()[:2]:
        assert isinstance(source, HubModel) and source.pinned and source.licence.startswith("Apache-2.0")
        assert not any(name.endswith((".py", ".bin", ".pt")) for name in source.files)


def test_faces_on_a_photograph(photos, tmp_path):
    """The real detector finds the three faces, and their crops show them: eyes and nose where FairFace has them."""
    from crowdmesh.images import read_image

    family = [(650, 267, 116), (268, 281, 109), (482, 414, 68)]  # middle and half width, by eye
    heads = np.array([head(*face) for face in family])
    boxes = [(x - 2 * half, y - 2 * half, x + 2 * half, 667) for x, y, half in family]
    _, detections, keypoints = scene(*heads, boxes=boxes)
    expert, gauges = gauged(None, Gauge(FAIRFACE, size=224), tmp_path=tmp_path)
    image = InputImage(read_image(photos / "parents_and_baby.jpg"))
    faces = expert.estimate([image], [detections], [keypoints])[0].faces_px
    assert np.abs((faces[:, :2] + faces[:, 2:]) / 2 - [face[:2] for face in family]).max() < 15
    plain = gauges["age"].seen[0][:3].astype(int)
    # Eyes are darker than the cheeks below them; skin is redder than blue.
    eyes, cheeks = plain[:, 45:60, 48:172].mean((1, 2, 3)), plain[:, 105:125, 48:172].mean((1, 2, 3))
    assert np.all(eyes < cheeks)
    middle = plain[:, 90:130, 95:125].mean((1, 2))
    assert np.all(middle[:, 0] > middle[:, 2] + 15)


# --- files ------------------------------------------------------------------------------------------------------------


def crowd_image(path: str | None = "photos/a.jpg", people: int = 3):
    image, detections, keypoints = scene(*(head(60 + 100 * k, 80) for k in range(people)))
    return replace(image, path=path and Path(path)), detections, keypoints


def ask(file, *images):
    images, detections, keypoints = zip(*images, strict=True)
    return AttributesFromFile(file).estimate(images, detections, keypoints)


def test_csv_by_number(tmp_path):
    file = tmp_path / "ages.csv"
    file.write_text(
        "image,person,age_years,age_std_years,male_probability\n"
        "a.jpg,2,7.5,1,0\na.jpg,0,40,,\nb.jpg,0,,,1\n"
    )  # fmt: skip
    a, b, nobody = ask(file, crowd_image(), crowd_image("b.jpg"), crowd_image("c.jpg", people=0))
    assert np.array_equal(a.age_years, [40, np.nan, 7.5], equal_nan=True)
    assert np.array_equal(a.age_std_years, [np.nan, np.nan, 1], equal_nan=True)
    assert np.array_equal(a.male_probability, [np.nan, np.nan, 0], equal_nan=True)
    assert np.array_equal(b.male_probability, [1, np.nan, np.nan], equal_nan=True) and np.isnan(b.age_years).all()
    assert len(nobody) == 0, "nobody was found: nothing is looked up"
    expert = AttributesFromFile(file)
    assert isinstance(expert, AttributeExpert) and expert.sources()[0].fingerprint() and "ages.csv" in expert.name


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_boxes_find_their_people(tmp_path, kind):
    """The detections' boxes are 80 x 180 px at 20, 120, 220; the second row's box is 20 px aside, the third's 50."""
    boxes = [(222, 50, 302, 230), (140, 50, 220, 230), (70, 50, 150, 230)]
    rows = [{"image": "a.jpg", "age_years": 10 * k, **dict(zip(("left", "top", "right", "bottom"), box, strict=True))}
            for k, box in enumerate(boxes)]  # fmt: skip
    file = tmp_path / f"ages.{kind}"
    if kind == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        file.write_text("\ufeff" + "\r\n".join(lines), "utf-8")
    else:
        file.write_text(json.dumps([{**rows[0]}, *({"image": "a.jpg", "age_years": 10 * k, "box_px": list(boxes[k])}
                                                   for k in (1, 2))]))  # fmt: skip
    answer = ask(file, crowd_image())[0]
    assert np.array_equal(answer.age_years, [np.nan, 10, 0], equal_nan=True)


def test_boxes_are_assigned_together_and_numbers_come_first(tmp_path):
    """The first box fits two people and the second only one of them; the third person is spoken of by number."""
    _, detections, keypoints = crowd_image()
    boxes = np.array([[0.0, 0, 100, 100], [40, 0, 140, 100], [300, 0, 400, 100]])
    image = replace(crowd_image()[0])
    rows = [
        {"image": "a.jpg", "box_px": [18, 0, 118, 100], "age_years": 1},
        {"image": "a.jpg", "box_px": [2, 0, 102, 100], "age_years": 2},
        {"image": "a.jpg", "box_px": [300, 0, 400, 100], "age_years": 3},
        {"image": "a.jpg", "person": 2, "age_years": 4},
    ]
    file = tmp_path / "ages.json"
    file.write_text(json.dumps(rows))
    answer = ask(file, (image, Detections(boxes, detections.scores), keypoints))[0]
    assert answer.age_years.tolist() == [2, 1, 4]


def test_images_are_found_by_the_end_of_their_path(tmp_path):
    file = tmp_path / "ages.csv"
    file.write_text("image,person,age_years\none/a.jpg,0,1\ntwo/a.jpg,0,2\na.jpg,0,3\n/far/b.jpg,0,4\n")
    paths = ("x/one/a.jpg", "two/a.jpg", "three/a.jpg", "a.jpg", "/far/b.jpg")
    assert [a.age_years[0] for a in ask(file, *map(crowd_image, paths))] == [1, 2, 3, 3, 4]


def test_who_is_not_in_the_file_is_named(tmp_path):
    file = tmp_path / "ages.csv"
    file.write_text("image,person,age_years\nholiday_1.jpg,0,1\n")
    with pytest.raises(InputError, match=r"no row for image holiday_2\.jpg; did you mean 'holiday_1\.jpg'"):
        ask(file, crowd_image("holiday_2.jpg"))
    with pytest.raises(InputError, match="read by file name"):
        ask(file, crowd_image(None))
    file.write_text("image,person,age_years\na.jpg,3,1\n")
    with pytest.raises(InputError, match=r"person 3 of photos/a\.jpg, where 3 people were found, counted from 0"):
        ask(file, crowd_image())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,person,age\na.jpg,0,1", "line 2: unknown column 'age'; known are .*age_years"),
        ("image,person,age_years\n,0,1", "line 2 lacks the name of its image"),
        ("image,age_years\na.jpg,1", "name the person by number .* or by a box"),
        ("image,person,left,top,right,bottom\na.jpg,0,1,2,3,4", "and not by both"),
        ("image,person,age_years\na.jpg,0.5,1", "person must be a whole number from 0, got 0.5"),
        ("image,person,age_years\na.jpg,-1,1", "person must be a whole number from 0, got -1"),
        ("image,person,age_years\na.jpg,0,old", "age_years must be a number or empty, got 'old'"),
        ("image,person,age_years\na.jpg,0,1\na.jpg,1,-3", "line 3: age_years is -3, outside 0 to 130"),
        ("image,person,male_probability\na.jpg,0,55", "male_probability is 55, outside 0 to 1"),
        ("image,person\na.jpg,0\na.jpg,0", "line 3: person 0 of a.jpg has a row already"),
        ("image,left,top,right,bottom\na.jpg,1,2,1,4", "left < right"),
        ("image,left,top,right,bottom\na.jpg,1,2,,4", "left < right"),
    ],
)
def test_rows_that_cannot_be_right(tmp_path, content, message):
    file = tmp_path / "ages.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        AttributesFromFile(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("ages.csv", "image,person,age_years\na.jpg,0\n", FormatError),
        ("ages.csv", "image,person\na.jpg,0,5\n", FormatError),
        ("ages.csv", 'image,person\n"a.jpg,0\n', FormatError),
        ("ages.json", "{", FormatError),
        ("ages.json", '{"a.jpg": []}', FormatError),
        ("ages.json", '[{"image": "a.jpg", "box_px": 7}]', InputError),
        ("ages.json", '[{"image": "a.jpg", "box_px": [1, 2, 3, 4], "left": 1}]', InputError),
        ("ages.json", '[{"image": "a.jpg", "person": true}]', InputError),
        ("ages.json", '[{"image": "a.jpg", "person": [0]}]', InputError),
        ("ages.txt", "", InputError),
    ],
)
def test_files_that_are_none(tmp_path, name, content, error):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(error, match=name):
        AttributesFromFile(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        AttributesFromFile(tmp_path / "none.csv")
