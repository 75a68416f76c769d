"""The seventeen joints of Human3.6M of a scene's people, for the protocols that compare joints alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from crowdmesh.benchmarks._projection import projected
from crowdmesh.benchmarks._smpl_bodies import NUM_VERTICES, load_regressor
from crowdmesh.benchmarks.mupots import MuPoTSPrediction
from crowdmesh.body import RESOLUTIONS, Anny, load_body, pose_people
from crowdmesh.errors import InputError
from crowdmesh.formats.joints import H36M17
from crowdmesh.people import People
from crowdmesh.scene import Scene

ANNY_NOTE = (
    "Anny's joints stand in for those regressed from SMPL: the pelvis is the mean of both hips, spine, thorax and neck "
    "base are spine03, neck01 and the nose, and the head top is the vertex highest at rest."
)

# Joints of Anny's skeleton where no named point of the body is meant.
_ANNY_JOINTS = {"spine": "spine03", "thorax": "neck01"}
_ANNY_POINTS = {"neck_base": "nose"}


def h36m_joints(
    image: str, scene: Scene, regressor: Float[np.ndarray, "17 6890"] | None
) -> Float[np.ndarray, "K 17 3"]:
    """Joints in the camera frame, metres, in the order of :data:`crowdmesh.formats.joints.H36M17`.

    From SMPL's surface (``smpl``, or ``rigid`` with its 6890 vertices) by the regressor; from Anny's named points (see
    :data:`ANNY_NOTE`); of another rigid body with seventeen joints, those.

    Args:
        regressor: needed for surfaces of SMPL.

    Raises:
        InputError: a body that has no such joints; says what to give.
    """
    people = scene.people
    if not len(people):
        return np.zeros((0, 17, 3))
    if people.body in RESOLUTIONS:
        return _anny(people)
    if people.body == "smpl" and people.vertices_m is None:
        people = pose_people(people)
    if people.vertices_m is not None and people.vertices_m.shape[1] == NUM_VERTICES:
        if regressor is None:
            raise InputError(f"the people of {image} need the Human3.6M joint regressor of SMPL")
        shift = people.translation_m[:, None]
        return regressor @ (people.vertices_m.astype(np.float64) - shift) + shift
    if people.body == "rigid" and people.joints_m is not None and people.joints_m.shape[1] == len(H36M17):
        return people.joints_m.astype(np.float64)
    raise InputError(
        f"the people of {image} have body {people.body!r} without Human3.6M joints; predict anny or smpl people, or "
        f"rigid ones with SMPL's {NUM_VERTICES} vertices or with joints_m (people, 17, 3) in the order of Human3.6M"
    )


def mupots_predictions(
    scenes: Mapping[str, Scene | None], smpl_folders: list[Path] | None = None
) -> dict[str, MuPoTSPrediction]:
    """What scenes predict for MuPoTS: Human3.6M joints in the image and, in millimetres, in the camera frame.

    Args:
        scenes: ``None`` for a frame on which the method failed; it gets no prediction.

    Raises:
        InputError: a body without such joints; names the image.
        AssetError: SMPL people, but no joint regressor; says how to get it.
    """
    regressor, found = None, {}
    for image, scene in scenes.items():
        if scene is None:
            continue
        if regressor is None and needs_regressor(scene):
            regressor = load_regressor(smpl_folders)
        joints = h36m_joints(image, scene, regressor)
        found[image] = MuPoTSPrediction(projected(joints, scene.camera.K), 1000.0 * joints, note_on(scene))
    return found


def note_on(scene: Scene) -> str:
    """What should be known of the joints of this scene, or nothing."""
    return ANNY_NOTE if len(scene.people) and scene.people.body in RESOLUTIONS else ""


def needs_regressor(scene: Scene) -> bool:
    """Whether :func:`h36m_joints` of this scene takes joints from a surface of SMPL."""
    people = scene.people
    surface = people.vertices_m is not None and people.vertices_m.shape[1] == NUM_VERTICES
    return len(people) > 0 and people.body not in RESOLUTIONS and (people.body == "smpl" or surface)


def _anny(people: People) -> np.ndarray:
    body = load_body(people.body)
    assert isinstance(body, Anny)
    if people.vertices_m is None or people.joints_m is None:
        people = pose_people(people, body)
    assert people.joints_m is not None and people.vertices_m is not None
    points = np.concatenate((people.joints_m, people.vertices_m), 1).astype(np.float64)
    joints = {name: points[:, place] for name, place in _anny_places(body).items()}
    joints["pelvis"] = (joints["left_hip"] + joints["right_hip"]) / 2
    return np.stack([joints[name] for name in H36M17], 1)


@torch.no_grad()
def _anny_places(body: Anny) -> dict[str, int]:
    """Where each point but the pelvis stands among the body's joints followed by its vertices."""
    surface, _ = body.rest(body.default_shape(1))
    places = {name: body.points[name] for name in H36M17 if name in body.points}
    places |= {name: body.joint_names.index(joint) for name, joint in _ANNY_JOINTS.items()}
    places |= {name: body.points[point] for name, point in _ANNY_POINTS.items()}
    return places | {"head_top": len(body.joint_names) + int(surface[0, :, "xyz".index(body.up)].argmax())}
