"""MeshExpert without a network: each person's landmarks, explained by an adult body.

Like any method that looks at one person at a time it gives everybody the stature of an average adult, so that a child
comes out as an adult farther away: the mistake that joint placement is there to correct.

A closed-form guess (trunk by Procrustes, limbs along their observed directions, place by linear least squares) is
refined by Levenberg-Marquardt over all people at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import roma
import torch
from jaxtyping import Float

from crowdmesh.assets import Asset
from crowdmesh.body import Anny, load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.experts._chain import Chain, adult_chain
from crowdmesh.experts._landmark_solve import NEAR_M, State, minimise
from crowdmesh.experts._landmark_start import VISIBLE, first_guess, gather
from crowdmesh.experts.base import BodyLandmarks, Detections, FirstMeshes, InputImage, Keypoints
from crowdmesh.people import People


@dataclass(frozen=True, eq=False)
class LandmarkFitResult:
    """Adult bodies of K people.

    Attributes:
        pose: (K, J, 3) rotations relative to the parent, axis-angle, radians.
        translation_m: (K, 3) translation of the body model in the camera frame.
        error_px: (K,) mean distance in the image of a person's visible landmarks from the body's; NaN: none visible.
    """

    pose: Float[np.ndarray, "K J 3"]
    translation_m: Float[np.ndarray, "K 3"]
    error_px: Float[np.ndarray, " K"]


@torch.no_grad()
def fit_landmarks(
    body: Anny, camera: Camera, landmarks: BodyLandmarks, boxes_px: Float[np.ndarray, "K 4"]
) -> LandmarkFitResult:
    """Fit an average adult (``body.default_shape``) to the landmarks of each person.

    Of the 33 landmarks 27 are used: all but the corners of eyes and mouth.

    Args:
        body: the body model.
        camera: the camera of the image the landmarks are in.
        landmarks: what to fit; values that are not finite count as hidden. Somebody with fewer than four visible
            landmarks (visibility of at least 0.5) is put into the box, in a relaxed pose and facing the camera.
        boxes_px: left, top, right, bottom of each person.
    """
    chain = adult_chain(body)
    evidence = gather(chain, camera, landmarks, boxes_px)
    state = minimise(chain, evidence, State.at(chain, *first_guess(chain, evidence)))
    translation = state.translation(chain)
    points = chain.pose(state.rotations, translation).points.numpy()
    error_px = _reprojection_error(chain, camera, landmarks, points)
    return LandmarkFitResult(roma.rotmat_to_rotvec(state.rotations).numpy(), translation.numpy(), error_px)


def _reprojection_error(
    chain: Chain, camera: Camera, landmarks: BodyLandmarks, points_m: Float[np.ndarray, "K P 3"]
) -> Float[np.ndarray, " K"]:
    used = chain.landmarks.numpy()
    points_m = np.maximum(points_m, (-np.inf, -np.inf, NEAR_M))
    distance = np.linalg.norm(camera.project(points_m) - landmarks.px[:, used], axis=-1)
    visible = (landmarks.visibility[:, used] >= VISIBLE) & np.isfinite(distance)
    total = np.where(visible, distance, 0.0).sum(1)
    count = visible.sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def fit_people(camera: Camera, detections: Detections, keypoints: Keypoints) -> People:
    """One adult per detection of one image, in order; see :class:`LandmarkFit`.

    Keypoints that are not finite become zeros, with confidence 0.

    Raises:
        InputError: the keypoints come without landmarks, or are not those of the detections.
    """
    if keypoints.landmarks is None:
        raise InputError(
            "the landmark fit needs the 33 body landmarks; use a keypoint expert that gives them, as BlazePose"
        )
    if len(keypoints) != len(detections):
        raise InputError(f"keypoints of {len(keypoints)} people do not belong to {len(detections)} detections")
    body = load_body("anny")
    assert isinstance(body, Anny)
    result = fit_landmarks(body, camera, keypoints.landmarks, detections.boxes_px)
    count = len(detections)
    shape = body.default_shape(count)
    known = np.isfinite(keypoints.coco17_px).all(-1, keepdims=True)
    people = People(
        body=body.name,
        translation_m=result.translation_m,
        stature_m=body.stature(shape).numpy(),
        pose=result.pose,
        shape=shape.numpy(),
        boxes_px=detections.boxes_px,
        scores=detections.scores,
        masks=detections.masks if detections.masks is not None else keypoints.masks,
        keypoints_px=np.where(known, keypoints.coco17_px, 0.0),
        fit_error_px=result.error_px,
    )
    return pose_people(people, body)


class LandmarkFit:
    """MeshExpert: an average adult per person, fitted to 33 landmarks."""

    name = "landmark fit"

    @classmethod
    def sources(cls) -> tuple[Asset, ...]:
        """It needs no files."""
        return ()

    def fit(
        self,
        images: Sequence[InputImage],
        cameras: Sequence[Camera],
        detections: Sequence[Detections],
        keypoints: Sequence[Keypoints],
    ) -> list[FirstMeshes]:
        """One adult per detection, in order, with surface and joints; ``fit_error_px`` says how well it fits.

        Raises:
            InputError: the keypoints come without landmarks, or are not those of the detections.
        """
        return [FirstMeshes(fit_people(*image)) for image in zip(cameras, detections, keypoints, strict=True)]
