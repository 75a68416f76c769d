"""What a network sees while it learns, beside the labels: one PNG, a row for each image."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from crowdmesh.camera import Camera
from crowdmesh.mahmr import MAHMR
from crowdmesh.mahmr.canvas import colours
from crowdmesh.mahmr.heads import axis_angles
from crowdmesh.people import People
from crowdmesh.scene import Scene
from crowdmesh.training.forward import train_forward
from crowdmesh.training.judging import match_people
from crowdmesh.training.targets import Example, Targets
from crowdmesh.training.validation import AS_IN_USE, Validator, bodies_above, for_use, known_of_targets, seen_in
from crowdmesh.visual import overlay, save_png, top_view

FOLDER = "pictures"
"""Folder of a run that the pictures lie in, as ``STEP.png``."""

_HIGH_PX, _PLAN_PX, _GAP_PX = 360, 440, 12


class Pictures:
    """Draws the same few images of a validation after a step: labels, predictions, and who was found from above.

    In each row the colours of a person are the same; whoever is only on one side comes after those who are on both.
    Seen from above are those on both sides, hollow where the labels have them.

    Args:
        validator: whose first images are drawn. folder: of the run. images: how many in all, in equal
            numbers from each part of the validation.
    """

    def __init__(self, validator: Validator, folder: Path, images: int = 4) -> None:
        self.validator, self.folder, self.images = validator, Path(folder), images

    def __call__(self, model: MAHMR, step: int) -> None:
        """Write ``pictures/STEP.png``.

        Raises:
            InputError: results that are not finite, or a folder that cannot be written.
        """
        each = -(-self.images // len(self.validator.names))
        rows = [
            draw_example(model, example, self.validator.threshold)
            for part in range(len(self.validator.names))
            for example in islice(self.validator.examples(part), each)
        ]
        if rows:
            (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
            save_png(self.folder / FOLDER / f"{step:08d}.png", _stacked(rows))


def draw_example(model: MAHMR, example: Example, threshold: float) -> UInt8[np.ndarray, "H W 3"]:
    """One row: the image with the labels' bodies, with the predicted ones, and those found from above."""
    example = example.to(next(model.parameters()).device)
    height, width = (int(side) for side in example.targets.image_size)
    image = colours(example.pixels)[:height, :width]
    with for_use(model):
        output = train_forward(model, [example], AS_IN_USE)
        (seen,) = seen_in(model, [example], output, threshold)
        match, _ = match_people(seen, known_of_targets(model, example.targets))
        predicted = _scene(model, image, bodies_above(model, output, 0, threshold), seen.vertical_fov)
        labelled = _labelled(model, image, example.targets)
    faces = model.body.faces.cpu().numpy()
    found, missed = np.flatnonzero(match >= 0), np.flatnonzero(match < 0)
    predicted = _only(predicted, np.append(match[found], np.setdiff1d(np.arange(len(seen)), match[found])))
    if labelled is None:
        left, right = image, top_view(predicted, faces, (_HIGH_PX, _PLAN_PX))
    else:
        labelled, both = _only(labelled, np.append(found, missed)), np.arange(len(found))
        left = overlay(labelled, faces)
        right = top_view(_only(predicted, both), faces, (_HIGH_PX, _PLAN_PX), truth=_only(labelled, both))
    return _beside([_as_high(left), _as_high(overlay(predicted, faces)), right])


def _labelled(model: MAHMR, image: np.ndarray, targets: Targets) -> Scene | None:
    """The labels' bodies; ``None``: there are none."""
    if len(targets) and not bool(targets.has_pose.all()):
        return None
    bodies = model.body_shapes(targets.betas), model.all_joints(targets.rotations), targets.translations
    return _scene(model, image, bodies, float(targets.vertical_fov) if bool(targets.has_camera) else math.radians(60))


def _scene(model: MAHMR, image: np.ndarray, bodies: tuple[Tensor, Tensor, Tensor], vertical_fov: float) -> Scene:
    height, width = image.shape[:2]
    shortest, longest = Camera.focal_range(width, height)
    focal = min(max(height / (2 * math.tan(vertical_fov / 2)), shortest), longest)
    posed = model.body(*bodies)
    assert posed.vertices is not None
    people = People(
        body=model.body.name,
        pose=_array(axis_angles(bodies[1])),
        shape=_array(bodies[0]),
        translation_m=_array(bodies[2]),
        stature_m=_array(model.body.stature(bodies[0])),
        vertices_m=_array(posed.vertices),
        joints_m=_array(posed.joints),
    )
    return Scene(Camera(focal, focal, width / 2, height / 2, width, height), people, image)


def _only(scene: Scene, order: np.ndarray) -> Scene:
    return Scene(scene.camera, scene.people[order], scene.image)


def _as_high(image: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    from PIL import Image

    width = max(1, round(image.shape[1] * _HIGH_PX / image.shape[0]))
    return np.asarray(Image.fromarray(image).resize((width, _HIGH_PX), Image.Resampling.LANCZOS))


def _beside(images: list[np.ndarray]) -> UInt8[np.ndarray, "H W 3"]:
    gap = np.full((_HIGH_PX, _GAP_PX, 3), 255, np.uint8)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], 1)


def _stacked(rows: list[np.ndarray]) -> UInt8[np.ndarray, "H W 3"]:
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP_PX), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)


def _array(values: Float[torch.Tensor, "*n"]) -> np.ndarray:
    return values.detach().cpu().numpy().astype(np.float64)
