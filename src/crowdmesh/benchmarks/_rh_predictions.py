"""Predictions for Relative Human: joints in the image and depths, from plain records or from scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from crowdmesh.benchmarks._projection import projected
from crowdmesh.benchmarks.predictions import record_arrays
from crowdmesh.body import RESOLUTIONS, SMPL, Anny, body_of, pose_people
from crowdmesh.errors import InputError
from crowdmesh.formats.joints import CROWDPOSE14
from crowdmesh.scene import Scene

_LIMBS = CROWDPOSE14[:12]
_NECK = {"anny": "neck01", "smpl": "neck"}
_HEAD = (
    "Head top is the vertex highest at rest and neck the base of the neck, which stand in for the annotators' points."
)
_DEPTH = {
    "smpl": f"Depth is the z of SMPL's translation, as the released evaluation has it. {_HEAD}",
    "anny": f"Depth is the z of the pelvis, because Anny's translation is not a depth. {_HEAD}",
}


@dataclass(frozen=True, eq=False)
class RelativeHumanPrediction:
    """The predicted people of one image.

    Attributes:
        joints_px: (P, 14, 2) image points in CrowdPose order: left and right shoulder, elbow, wrist, hip, knee,
            ankle, then head top and neck; pixels.
        translation_z_m: (P,) depth of each person, metres; the released evaluation takes the z of SMPL's translation.
        note: one sentence for the result on where these numbers come from, or empty.
    """

    joints_px: Float[np.ndarray, "P 14 2"]
    translation_z_m: Float[np.ndarray, " P"]
    note: str = ""

    def __post_init__(self) -> None:
        joints, depth = (np.asarray(v, np.float64) for v in (self.joints_px, self.translation_z_m))
        if joints.ndim != 3 or joints.shape[1:] != (14, 2) or depth.shape != joints.shape[:1]:
            raise InputError(
                "a prediction needs joints_px (people, 14, 2) and translation_z_m (people,), got "
                f"{joints.shape} and {depth.shape}"
            )
        for name, value in (("joints_px", joints), ("translation_z_m", depth)):
            bad = np.flatnonzero(~np.isfinite(value.reshape(len(value), -1)).all(1)) if len(value) else []
            if len(bad):
                raise InputError(
                    f"{name} of predicted person {bad[0]} holds NaN or infinite values; leave this person out of the "
                    "prediction, as the released evaluation does, so that they count as missed"
                )
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.joints_px)


def predictions_of_records(records: Mapping[str, Mapping[str, Any]]) -> dict[str, RelativeHumanPrediction]:
    """Predictions from plain records ``{image: {"kp2ds": (P, 14, 2), "trans": (P, 3)}}``, the release's own layout.

    Raises:
        InputError: a missing or unknown key, a wrong shape, NaN; names image and person.
    """
    found = {}
    for image, record in records.items():
        joints, translation = record_arrays(image, record, ("kp2ds", "trans"))
        joints = joints.reshape(0, 14, 2) if not joints.size else joints
        translation = translation.reshape(0, 3) if not translation.size else translation
        if translation.ndim != 2 or translation.shape[1] != 3:
            raise InputError(f"prediction of {image}: trans must have shape (people, 3), got {translation.shape}")
        try:
            found[image] = RelativeHumanPrediction(joints, translation[:, 2])
        except InputError as error:
            raise InputError(f"prediction of {image}: {error}") from error
    return found


def predictions_from_scenes(scenes: Mapping[str, Scene | None]) -> dict[str, RelativeHumanPrediction]:
    """The predictions that scenes make, by image name.

    Joints are the body's named points seen by the scene's camera. The released evaluation regresses head top and neck
    of the LSP data set from SMPL's surface; here they are the vertex that is highest at rest and the joint at the base
    of the neck. Depth is the z of the translation for SMPL, as released, and of the pelvis for Anny
    (docs/conventions.md, "Translation and pelvis"); the notes of the result say so.

    Args:
        scenes: ``None`` for an image on which the method failed; it gets no prediction.

    Raises:
        InputError: a body without named joints (``rigid``); names the image.
    """
    return {image: _prediction(image, scene) for image, scene in scenes.items() if scene is not None}


def _prediction(image: str, scene: Scene) -> RelativeHumanPrediction:
    people = scene.people
    if not len(people):
        return RelativeHumanPrediction(np.zeros((0, 14, 2)), np.zeros(0))
    family = "anny" if people.body in RESOLUTIONS else people.body
    if family not in _NECK:
        raise InputError(
            f"the people of {image} have body {people.body!r}, which has no named joints to compare with keypoints; "
            "give them as anny or smpl people, or as joints in the image (kp2ds and trans)"
        )
    if people.vertices_m is None or people.joints_m is None:
        people = pose_people(people)
    body = body_of(people)
    assert isinstance(body, Anny | SMPL) and people.joints_m is not None and people.vertices_m is not None
    points_m = np.concatenate((people.joints_m, people.vertices_m), 1)[:, _crowdpose_points(body, family)].astype(float)
    depth = people.translation_m[:, 2] if family == "smpl" else people.joints_m[:, body.pelvis or 0, 2].astype(float)
    return RelativeHumanPrediction(projected(points_m, scene.camera.K), depth, _DEPTH[family])


@torch.no_grad()
def _crowdpose_points(body: Anny | SMPL, family: str) -> list[int]:
    """Indices of the 14 points into a body's joints followed by its vertices."""
    surface, _ = body.rest(body.default_shape(1))
    head_top = len(body.joint_names) + int(surface[0, :, "xyz".index(body.up)].argmax())
    return [*(body.points[name] for name in _LIMBS), head_top, body.joint_names.index(_NECK[family])]
