"""What every picture needs to know of a scene's people: where their surface is and which of them belong on the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.body import body_of
from crowdmesh.errors import InputError
from crowdmesh.scene import Scene

Faces = Int[np.ndarray, "F 3"] | Int[Tensor, "F 3"]
"""Triangles shared by all people, e.g. ``body.faces``."""

_FAR_IN_MEDIANS = 3.0


def triangles(faces: Faces) -> Int[Tensor, "F 3"]:
    """The faces as int64 on the CPU, where pictures are made."""
    return torch.as_tensor(faces).to("cpu", torch.int64)


def posed_vertices(scene: Scene) -> Float[np.ndarray, "K V 3"]:
    """The scene's vertices (camera frame, metres), float32; (0, 0, 3) when nobody is there."""
    people = scene.people
    if len(people) == 0:
        return np.zeros((0, 0, 3), np.float32)
    if people.vertices_m is None:
        raise InputError("the people of this scene have no vertices; pose them first (body.pose_people)")
    return people.vertices_m


def scene_faces(scene: Scene) -> Int[np.ndarray, "F 3"]:
    """Triangles of a scene's posed bodies; none where nobody is there, so that no licensed body is asked for.

    Raises:
        InputError: the people have another number of vertices than their body model.
    """
    people = scene.people
    if len(people) == 0:
        return np.zeros((0, 3), np.int64)
    body = body_of(people)
    count = posed_vertices(scene).shape[1]
    if count != body.num_vertices:
        raise InputError(
            f"these people have {count} vertices, but body {body.name!r} has {body.num_vertices}; pose them again "
            "(body.pose_people)"
        )
    return body.faces.cpu().numpy().astype(np.int64)


def require_same_people(scenes: Sequence[Scene]) -> None:
    """Raise InputError unless all scenes have the same number of people and the same image size."""
    kinds = {(len(scene.people), scene.camera.width, scene.camera.height) for scene in scenes}
    if len(kinds) > 1:
        told = " and ".join(f"{count} people in {width}x{height} pixels" for count, width, height in sorted(kinds))
        raise InputError(f"scenes drawn together must show the same people in the same image, got {told}")


def surface_centres(vertices_m: Float[np.ndarray, "K V 3"], faces: Faces) -> Float[np.ndarray, "K 3"]:
    """Centre of each person's surface, every patch weighted by its area (faces and hands have many small triangles)."""
    if len(vertices_m) == 0:
        return np.zeros((0, 3))
    vertices, corners = torch.from_numpy(vertices_m), triangles(faces)
    a, b, c = (vertices[:, corners[:, i]] for i in range(3))
    area = torch.linalg.norm(torch.cross(b - a, c - a, dim=-1), dim=-1, keepdim=True)
    centre = ((a + b + c) * area).sum(1) / (3.0 * area.sum(1)).clamp_min(1e-12)
    return centre.double().numpy()


def ground_range(centres_m: Float[np.ndarray, "K 3"]) -> Float[np.ndarray, " K"]:
    """Distance from the camera seen from above: sqrt(x^2 + z^2), metres."""
    return np.hypot(centres_m[:, 0], centres_m[:, 2])


def on_page(centres_m: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, " N"]:
    """Who decides what the axes show: people in front of the camera, up to three times the median distance.

    One misplaced person at sixty metres must not shrink everybody else to a dot.
    """
    in_front = centres_m[:, 2] > 0
    if not in_front.any():
        return in_front
    limit = _FAR_IN_MEDIANS * np.median(ground_range(centres_m[in_front]))
    return in_front & (ground_range(centres_m) <= limit) & (np.abs(centres_m[:, 1]) <= limit)


def page_points(scenes: Sequence[Scene], faces: Faces) -> Float[np.ndarray, "N 3"]:
    """All vertices of the people of these scenes who decide what the axes show."""
    vertices = [posed_vertices(scene) for scene in scenes]
    centres = [surface_centres(v, faces) for v in vertices]
    kept = np.split(on_page(np.concatenate(centres)), np.cumsum([len(c) for c in centres])[:-1])
    return np.concatenate([v[k].reshape(-1, 3) for v, k in zip(vertices, kept, strict=True)])
