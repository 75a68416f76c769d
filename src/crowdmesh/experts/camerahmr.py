"""MeshExpert: SMPL bodies by CameraHMR (Patel and Black, 3DV 2025), from crops with and without the surroundings.

Own implementation of the network; its weights and SMPL are the user's files. As the paper (section 6.2) does, everybody
is looked at twice: in the crop as it is, whose mesh is better but may be somebody else's, and in the crop with all but
the person blacked out. Which of the meshes a person gets is decided by the keypoints (``matching.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, UInt8

from crowdmesh.assets import UserFile, search_folders
from crowdmesh.body import find_smpl, load_body, pose_people
from crowdmesh.camera import Camera
from crowdmesh.errors import InputError
from crowdmesh.experts._device import Device
from crowdmesh.experts._hmr_crops import LEAST_SCALE, box_conditions, crop_person, full_translation
from crowdmesh.experts._hmr_head import HMRNetwork
from crowdmesh.experts._pretrained import batches, normalise
from crowdmesh.experts._projected import project_people
from crowdmesh.experts._weights import Account, Layout, load_network
from crowdmesh.experts.base import Detections, FirstMeshes, InputImage, Keypoints
from crowdmesh.experts.matching import NOBODY, PAPER_RADIUS_HEADS, WHOLE, MeshMatch, Targets, match_meshes
from crowdmesh.masks import Masks
from crowdmesh.people import People

Matcher = Callable[[np.ndarray, Targets, Targets], MeshMatch]

CAMERA_HMR = UserFile(
    name="camerahmr_checkpoint_cleaned.ckpt",
    group="camerahmr",
    licence="CameraHMR licence of the Max Planck Society: non-commercial research",
    source="CameraHMR: register at https://camerahmr.is.tue.mpg.de and download camerahmr_checkpoint_cleaned.ckpt",
)

SMPL_LICENCE = "SMPL licence of the Max Planck Society: non-commercial unless you hold another"

LAYOUT = Layout(
    network="CameraHMR",
    unused={r"smpl_head\.deckp\.(weight|bias)": "2D keypoints of the head, which nothing reads"},
    training={
        "cam_model.": "HumanFoV, which is read from its own file",
        "smpl": "SMPL, which is read from the user's own files",
        "initialized": "a mark of training",
    },
)
"""What its checkpoints hold beside what :class:`HMRNetwork` has."""

CONFIDENT = 0.5
"""Keypoints of at least this confidence count in ``fit_error_px``."""

UNMATCHED = "no mesh agrees with the keypoints"
IMPLAUSIBLE = "the mesh has no plausible size in the image"


_POSE, _BETAS = 24 * 3, 10


@dataclass(frozen=True, eq=False)
class _Look:
    """One look at one person, with the own mask (of one) if it is a masked one."""

    image: InputImage
    camera: Camera
    box_px: Float[np.ndarray, " 4"]
    mask: Masks | None

    def crop(self) -> UInt8[np.ndarray, "256 256 3"]:
        mask = None if self.mask is None else self.mask.to_dense((self.image.height, self.image.width))[0]
        return crop_person(self.image.pixels, self.box_px, mask)


class CameraHMR:
    """One SMPL body per person, adult-sized like those of all methods that look at people one by one.

    Args:
        weights: the released checkpoint; ``None``: ``camerahmr_checkpoint_cleaned.ckpt`` in the asset folders, or in
            ``camerahmr/`` there.
        device: where the network runs; ``device.batch`` crops, of whichever images, go through it at once.
        masked: look at people also with all but themselves blacked out, and match; needs masks.
        name: for reports and provenance; say there what sets it apart, such as the matcher.
        matcher: tells from keypoints (K, 17, 3), whole and masked meshes who gets which; by default ``match_meshes``
            with the paper's radius, optimally.

    Raises:
        AssetError: the SMPL files are missing.
    """

    def __init__(
        self,
        weights: Path | None,
        device: Device,
        masked: bool = True,
        matcher: Matcher | None = None,
        name: str = "CameraHMR",
    ) -> None:
        self.name = name
        self._file = CAMERA_HMR if weights is None else replace(CAMERA_HMR, path=Path(weights))
        self._device = device
        self._masked = masked
        self._matcher = matcher
        self._body = load_body("smpl")

    def sources(self) -> tuple[UserFile, ...]:
        """The checkpoint, and SMPL's files."""
        files = [path for path in find_smpl(None, search_folders()) if path is not None]
        return (self._file, *(UserFile(path.name, "smpl", SMPL_LICENCE, "SMPL", path) for path in files))

    @property
    def account(self) -> Account:
        """What became of every tensor in the checkpoint."""
        return self._loaded[1]

    def fit(
        self,
        images: Sequence[InputImage],
        cameras: Sequence[Camera],
        detections: Sequence[Detections],
        keypoints: Sequence[Keypoints],
    ) -> list[FirstMeshes]:
        """One body per detection, in order, with surface and joints.

        ``fit_error_px`` is the mean distance of a person's confident keypoints from the body's; NaN: there are none.
        Somebody whose keypoints agree with no mesh keeps the one of the own masked crop, with a doubt.

        Raises:
            InputError: lists of different lengths, keypoints of other people, or masked crops without masks.
            AssetError: there is no checkpoint.
            FormatError: the file is not its checkpoint.
        """
        if not len(images) == len(cameras) == len(detections) == len(keypoints):
            raise InputError(
                f"{len(images)} images came with {len(cameras)} cameras, {len(detections)} sets of detections and "
                f"{len(keypoints)} of keypoints; give one of each per image"
            )
        looks = [self._looks(*one) for one in zip(images, cameras, detections, keypoints, strict=True)]
        groups = batches([look for one in looks for look in one], self._device.batch)
        answers = np.concatenate([np.zeros((0, _POSE + _BETAS + 3)), *map(self._answer, groups)])
        ends = np.cumsum([0, *map(len, looks)])
        return [
            self._meshes(answers[ends[i] : ends[i + 1]], cameras[i], detections[i], keypoints[i])
            for i in range(len(images))
        ]

    def _looks(self, image: InputImage, camera: Camera, found: Detections, points: Keypoints) -> list[_Look]:
        """The looks at the people of one image: all whole ones, then all masked ones."""
        if len(points) != len(found):
            raise InputError(f"keypoints of {len(points)} people do not belong to {len(found)} detections")
        masks = _masks(found, points)
        whole = [_Look(image, camera, box, None) for box in found.boxes_px]
        if not self._masked or not whole:
            return whole
        if masks is None:
            raise InputError(
                "CameraHMR looks at masked people, and these detections have no masks; use a detector that makes them"
            )
        return whole + [_Look(image, camera, box, masks[[k]]) for k, box in enumerate(found.boxes_px)]

    @torch.inference_mode()
    def _answer(self, looks: Sequence[_Look]) -> Float[np.ndarray, "N 85"]:
        """Pose (axis-angle), betas and weak-perspective camera of each look."""
        network, device = self._loaded[0], self._device.name
        crops = torch.from_numpy(np.stack([look.crop() for look in looks])).permute(0, 3, 1, 2)
        boxes = np.concatenate([box_conditions(look.box_px[None], look.camera) for look in looks])
        output = network(normalise(crops / 255.0).to(device), torch.from_numpy(boxes).float().to(device))
        pose = roma.rotmat_to_rotvec(output.rotations.double()).flatten(1)
        return torch.cat((pose, output.betas.double(), output.weak_camera.double()), 1).cpu().numpy()

    @cached_property
    def _loaded(self) -> tuple[HMRNetwork, Account]:
        network, account = load_network(self._file.fetch(), HMRNetwork, LAYOUT)
        network.to(self._device.name)
        network.backbone.to(self._device.dtype)
        return network, account

    def _meshes(
        self, answers: Float[np.ndarray, "N 85"], camera: Camera, found: Detections, points: Keypoints
    ) -> FirstMeshes:
        """The people of one image from the answers about all looks at them."""
        count = len(found)
        bodies, implausible = self._bodies(answers, camera, np.tile(found.boxes_px, (2 if self._masked else 1, 1)))
        projected = project_people(bodies, self._body, camera)
        projected.points_px[implausible] = np.nan
        known = np.isfinite(points.coco17_px).all(-1, keepdims=True)
        queries = np.where(known, points.coco17_px, 0.0)
        chosen, unmatched = np.arange(count), np.zeros(count, bool)
        if self._masked and count:
            whole, masked = (
                replace(projected, points_px=projected.points_px[part], head_px=projected.head_px[part])
                for part in (slice(count), slice(count, None))
            )
            match = self._match(queries, whole, masked)
            unmatched = match.source == NOBODY
            row = np.where(unmatched, chosen, match.target)
            chosen = np.where(match.source == WHOLE, row, count + row)
        people = replace(
            bodies[chosen],
            boxes_px=found.boxes_px,
            scores=found.scores,
            masks=_masks(found, points),
            keypoints_px=queries,
            fit_error_px=_fit_error(queries, projected.points_px[chosen]),
        )
        doubts = [
            IMPLAUSIBLE if bad else UNMATCHED if lost else ""
            for bad, lost in zip(implausible[chosen], unmatched, strict=True)
        ]
        return FirstMeshes(people, tuple(doubts))

    def _bodies(
        self, answers: Float[np.ndarray, "N 85"], camera: Camera, boxes_px: Float[np.ndarray, "N 4"]
    ) -> tuple[People, Bool[np.ndarray, " N"]]:
        """Posed bodies, and which of them have no plausible size."""
        pose, betas, weak = np.split(answers, (_POSE, _POSE + _BETAS), axis=1)
        shape = np.zeros((len(answers), len(self._body.shape_params)))
        shape[:, :_BETAS] = betas
        people = People(
            body=self._body.name,
            translation_m=full_translation(weak, boxes_px, camera),
            stature_m=self._body.stature(torch.from_numpy(shape).float()).double().numpy(),
            pose=pose.reshape(-1, 24, 3),
            shape=shape,
        )
        if len(people):
            return pose_people(people, self._body), weak[:, 0] < LEAST_SCALE
        surface, joints = (np.zeros((0, n, 3), np.float32) for n in (self._body.num_vertices, 24))
        return replace(people, vertices_m=surface, joints_m=joints), np.zeros(0, bool)

    def _match(self, queries_px: Float[np.ndarray, "K 17 3"], whole: Targets, masked: Targets) -> MeshMatch:
        if self._matcher is not None:
            return self._matcher(queries_px, whole, masked)
        return match_meshes(queries_px, whole, masked, radius_heads=PAPER_RADIUS_HEADS, optimal=True)


def _masks(found: Detections, points: Keypoints) -> Masks | None:
    """The detector's masks, else those of the keypoint network."""
    return found.masks if found.masks is not None else points.masks


def _fit_error(queries_px: Float[np.ndarray, "K 17 3"], points_px: Float[np.ndarray, "K 17 2"]) -> np.ndarray:
    """Mean distance of confident keypoints from the body's; NaN where there are none to compare."""
    distance = np.linalg.norm(queries_px[..., :2] - points_px, axis=-1)
    used = (queries_px[..., 2] >= CONFIDENT) & np.isfinite(distance)
    count = used.sum(1)
    return np.where(count > 0, np.where(used, distance, 0.0).sum(1) / np.maximum(count, 1), np.nan)
