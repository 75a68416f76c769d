"""MA-HMR: photographs in, everybody's body, place and the camera's field of view out, in one pass.

A scale-adaptive encoder turns images into tokens (:mod:`encoder`), queries collect people from them (:mod:`decoder`),
heads turn queries into people (:mod:`heads`), and the camera token into the field of view that makes their places
metric (:mod:`projection`). Paper section 3.3; spec facts 1.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from crowdmesh.body import BodyModel, load_body
from crowdmesh.errors import FormatError, InputError
from crowdmesh.mahmr import checkpoint, official
from crowdmesh.mahmr.config import MAHMRConfig
from crowdmesh.mahmr.heads import axis_angles
from crowdmesh.mahmr.network import Network
from crowdmesh.mahmr.predict import Photo, predict_scenes
from crowdmesh.mahmr.projection import project
from crowdmesh.scene import Scene


@dataclass(frozen=True, eq=False)
class MAHMROutput:
    """Everything about B images with Q queries each; metres in the camera frame, pixels of the network's input.

    Attributes:
        poses: (B, Q, 3 J) axis-angles of all J joints relative to their parents, radians.
        betas: (B, Q, S) shape parameters.
        boxes: (B, Q, 4) centre x, y, width, height, as shares of ``input_size``.
        confidences: (B, Q) that the query is a person.
        translations: (B, Q, 3) of the body model, not of the pelvis.
        vertical_fov: (B,) radians, of the image without padding.
        focal_px: (B,) pixels.
        image_sizes: (B, 2) height, width without padding, pixels.
        joints_3d, joints_2d: (B, Q, P, 3), (B, Q, P, 2) points of ``config.keypoint_layout``.
        vertices: (B, Q, V, 3).
        scale_map: of the encoder (:class:`~crowdmesh.mahmr.encoder.EncodedImages`).
        token_lengths: (B,) tokens of each image, on the CPU.
        hidden_states: (L, B, Q, C) states of the queries after each decoder layer, normalised.
    """

    poses: Float[Tensor, "B Q J3"]
    betas: Float[Tensor, "B Q S"]
    boxes: Float[Tensor, "B Q 4"]
    confidences: Float[Tensor, "B Q"]
    translations: Float[Tensor, "B Q 3"]
    vertical_fov: Float[Tensor, " B"]
    focal_px: Float[Tensor, " B"]
    image_sizes: Float[Tensor, "B 2"]
    joints_3d: Float[Tensor, "B Q P 3"]
    joints_2d: Float[Tensor, "B Q P 2"]
    vertices: Float[Tensor, "B Q V 3"]
    scale_map: Float[Tensor, "n 2"]
    token_lengths: Int[Tensor, " B"]
    hidden_states: Float[Tensor, "L B Q C"]

    @property
    def intrinsics(self) -> Float[Tensor, "B 3 3"]:
        """Camera matrices in pixels of the network's input."""
        K = torch.eye(3, device=self.focal_px.device).repeat(len(self.focal_px), 1, 1)
        K[:, 0, 0] = K[:, 1, 1] = self.focal_px
        K[:, :2, 2] = self.image_sizes.flip(-1) / 2
        return K


class MAHMR(Network):
    """The network.

    Args:
        config: sizes and body.
        body: the body model; by default ``load_body(config.body)``. It is no part of the weights.

    Raises:
        InputError: a body that does not fit the configuration.
        AssetError: the files of a licensed body are missing.
    """

    def __init__(self, config: MAHMRConfig, body: BodyModel | None = None) -> None:
        super().__init__(config)
        body = body or load_body(config.body)
        self._check(body)
        self.body = copy.deepcopy(body)  # it moves between devices with the network; others use theirs
        self.heads.start_from(body)

    @classmethod
    def from_pretrained(
        cls, path_or_name: str | Path, body: BodyModel | None = None, official_quirks: bool | None = None
    ) -> MAHMR:
        """A network with its weights, ready to :meth:`infer`.

        Args:
            path_or_name: a file of ours (``.safetensors``), a released SAT-HMR or MA-HMR checkpoint, or the name of a
                file ``mahmr/NAME.safetensors`` in the asset folders.
            body: see the class.
            official_quirks: see :class:`MAHMRConfig`; ``None``: as the file says.

        Raises:
            InputError: no such file or name.
            FormatError: not such a file, damaged, or weights that do not fit; the message says what they look like.
        """
        loaded = checkpoint.load(checkpoint.locate(path_or_name))
        quirks = loaded.config.official_quirks if official_quirks is None else official_quirks
        return loaded.fill(cls(replace(loaded.config, official_quirks=quirks), body))

    def load_official(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of a released checkpoint, by its own names.

        Raises:
            FormatError: they do not fit; the message names keys and shapes and says what they look like.
        """
        weights = official.from_official(state_dict)
        problem = official.misfit(self.state_dict(), weights)
        if problem is not None:
            raise FormatError(problem)
        self.load_state_dict(weights)

    def infer(
        self,
        images: Sequence[Photo],
        fov: float | Sequence[float | None] | None = None,
        threshold: float = 0.3,
        batch_size: int = 8,
        precision: torch.dtype = torch.float32,
    ) -> list[Scene]:
        """Photographs to scenes, one per photograph; people whose confidence exceeds the threshold, surest first.

        A photograph's scene does not depend on the others but for rounding. Nobody is a valid scene of zero people.
        All or nothing: a photograph that cannot be used ends the call, and the error names it.

        Args:
            images: image files or (H, W, 3) uint8 RGB arrays, of any sizes.
            fov: vertical fields of view in radians, for all or per image, used instead of the predicted one.
            batch_size: images that pass the network together.
            precision: ``torch.bfloat16`` or ``torch.float16`` run the encoder in that precision
                (autocast), which takes nine tenths of the time; decoder and heads stay in float32.

        Raises:
            InputError: values out of range, or an unusable image. FormatError: a damaged image file.
        """
        return predict_scenes(self, images, fov, threshold, batch_size, precision)

    def forward(
        self,
        images: list[Float[Tensor, "3 _ _"]],
        image_sizes: Tensor,
        scale_map: Float[Tensor, "n 2"] | None = None,
        vertical_fov: Float[Tensor, " B"] | None = None,
    ) -> MAHMROutput:
        """Everything about everybody: all queries, bodies included. For photographs, see :meth:`infer`.

        Args:
            images: normalised images, padded to multiples of 56 pixels at the right and bottom; each its own size.
            image_sizes: (B, 2) height and width without padding.
            scale_map: a known scale map (see ``EncodedImages``), which decides on token levels instead of the
                predicted one.
            vertical_fov: radians, known fields of view; NaN: predict it.
        """
        image_sizes = torch.as_tensor(image_sizes)
        self.check_batch(images, image_sizes, scale_map, vertical_fov)
        encoded = self.encoder(images, scale_map)
        decoded = self.decode(encoded)
        sizes = image_sizes.to(decoded.hidden)
        fov, focal = self.field_of_view(encoded.camera, sizes, vertical_fov)
        posed_joints, betas = self.people(decoded.hidden)
        rotations = self.all_joints(posed_joints)
        translations = self.translations(decoded.hidden[-1], focal)
        batch = rotations.shape[:2]
        shapes = self.body_shapes(betas.flatten(0, 1))
        posed = self.body(shapes, rotations.flatten(0, 1), translations.flatten(0, 1))
        assert posed.vertices is not None
        joints = self.body.keypoints(posed, self.config.keypoint_layout).unflatten(0, batch)
        return MAHMROutput(
            poses=axis_angles(rotations).flatten(2),
            betas=betas,
            boxes=decoded.boxes[-1],
            confidences=self.confidences(decoded.hidden[-1]),
            translations=translations,
            vertical_fov=fov,
            focal_px=focal,
            image_sizes=sizes,
            joints_3d=joints,
            joints_2d=project(joints, focal, sizes),
            vertices=posed.vertices.unflatten(0, batch),
            scale_map=encoded.scale_map,
            token_lengths=torch.tensor(encoded.lengths),
            hidden_states=decoded.hidden,
        )

    def all_joints(self, posed: Float[Tensor, "*n P 3 3"]) -> Float[Tensor, "*n J 3 3"]:
        """Rotations of all joints of the body: those that are predicted, the others at rest."""
        return all_joints(posed, self.config.posed_joints, self.body.joint_names)

    def body_shapes(self, betas: Float[Tensor, "N S"]) -> Float[Tensor, "N S2"]:
        """Shapes as the body takes them: a body with a kid axis gets 0 there from a network without one."""
        return body_shapes(betas, self.body)

    def _check(self, body: BodyModel) -> None:
        config = self.config
        if body.name != config.body:
            raise InputError(f"the configuration speaks of body {config.body!r}, the given body is {body.name!r}")
        unknown = [name for name in config.posed_joints if name not in body.joint_names]
        if config.posed_joints[0] != body.joint_names[0]:
            raise InputError(f"posed_joints must begin with the root joint of body {body.name!r}")
        if unknown:
            raise InputError(f"body {body.name!r} has no joint {', '.join(unknown)}, which posed_joints names")
        if config.num_betas > len(body.shape_params):
            raise InputError(
                f"the network has {config.num_betas} shape parameters, body {body.name!r} has "
                f"{len(body.shape_params)}; for SMPL's eleventh put AGORA's smpl_kid_template.npy beside the model file"
            )


def all_joints(
    posed: Float[Tensor, "*n P 3 3"], posed_joints: tuple[str, ...], joint_names: tuple[str, ...]
) -> Float[Tensor, "*n J 3 3"]:
    """Rotations of all joints of a body from those of ``posed_joints``; the others are at rest."""
    if posed_joints == joint_names:
        return posed
    rest = torch.eye(3, dtype=posed.dtype, device=posed.device).expand(*posed.shape[:-3], len(joint_names), 3, 3)
    index = [joint_names.index(name) for name in posed_joints]
    return rest.index_copy(-3, torch.tensor(index, device=posed.device), posed)


def body_shapes(betas: Float[Tensor, "N S"], body: BodyModel) -> Float[Tensor, "N S2"]:
    """Shapes as a body takes them: axes that the network does not predict (SMPL's kid axis) are 0."""
    return nn.functional.pad(betas, (0, len(body.shape_params) - betas.shape[-1]))
