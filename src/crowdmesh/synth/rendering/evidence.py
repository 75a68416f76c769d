"""What perfect detectors would say about rendered people: masks, boxes, keypoints, visibility."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from crowdmesh.body import load_body
from crowdmesh.body.keypoints import COCO17
from crowdmesh.camera import Camera
from crowdmesh.people import People
from crowdmesh.raster import NEAR_M, VISIBILITY_TOLERANCE_M, ZBuffer, rasterize, visible_vertices

VISIBLE, HIDDEN, OUTSIDE = 1.0, 0.5, 0.0
"""Confidences of true keypoints."""

# How deep a joint lies under the skin that shows it, for an adult; more and something else is in front of it.
_UNDER_SKIN_M = {
    "nose": 0.01, "eye": 0.03, "ear": 0.015, "shoulder": 0.12, "elbow": 0.08, "wrist": 0.06, "hip": 0.17, "knee": 0.1,
    "ankle": 0.08,
}  # fmt: skip
_ADULT_M = 1.7


def boxes_around(labels: Int[np.ndarray, "H W"], count: int) -> Float[np.ndarray, "K 4"]:
    """(K, 4) left, top, right, bottom of the pixels of each person, tight; zeros for who has none."""
    row, column = np.nonzero(labels >= 0)
    person = labels[row, column]
    low = np.full((2, count), max(labels.shape))
    high = np.zeros((2, count), int)
    for axis, place in enumerate((column, row)):
        np.minimum.at(low[axis], person, place)
        np.maximum.at(high[axis], person, place + 1)
    return np.where(high[0, :, None] > 0, np.stack((*low, *high), -1), 0).astype(float)


def seen_vertices(people: ZBuffer, vertices_m: Float[Tensor, "K V 3"], camera: Camera) -> Bool[np.ndarray, "K V"]:
    """Which vertices the camera sees: a vertex may lie behind its pixel's surface by a centimetre or a pixel's width.

    Args:
        people: z-buffer of all people, with -1 where something else is in front.
    """
    seen = np.zeros(vertices_m.shape[:2], bool)
    if seen.size == 0:
        return seen
    # One call per tolerance; widths are rounded up to powers of two so that there are few.
    width = vertices_m[..., 2].mean(1).numpy() / min(camera.fx, camera.fy)
    doublings = np.ceil(np.log2(np.maximum(width / VISIBILITY_TOLERANCE_M, 1.0)).round(6)).astype(int)
    for step in np.unique(doublings):
        found = visible_vertices(people, vertices_m, camera.K, VISIBILITY_TOLERANCE_M * 2.0 ** int(step)).numpy()
        seen[doublings == step] = found[doublings == step]
    return seen


def silhouette_pixels(
    vertices_m: Float[Tensor, "K V 3"], faces: Int[Tensor, "F 3"], camera: Camera
) -> Int[np.ndarray, " K"]:
    """(K,) pixels inside the image that each body would cover alone.

    Bodies whose image boxes do not touch share one rendering.
    """
    counts = np.zeros(len(vertices_m), np.int64)
    waiting = list(range(len(vertices_m)))
    boxes = _image_boxes(vertices_m.numpy(), camera)
    while waiting:
        together: list[int] = []
        for person in waiting:
            if all(_apart(boxes[person], boxes[other]) for other in together):
                together.append(person)
        waiting = [person for person in waiting if person not in together]
        buffer = rasterize(vertices_m[together], faces, camera.K, (camera.height, camera.width))
        person = buffer.person.numpy()
        counts[together] = np.bincount(person[person >= 0], minlength=len(together))
    return counts


def true_keypoints(
    people: People, camera: Camera, labels: Int[np.ndarray, "H W"], depth: Float[np.ndarray, "H W"]
) -> Float[np.ndarray, "K 17 3"]:
    """(K, 17, 3) projected COCO keypoints with :data:`VISIBLE`, :data:`HIDDEN` or :data:`OUTSIDE` as confidence.

    A keypoint is visible where its pixel shows its own person, no nearer than that part of the body is thick.
    """
    assert people.joints_m is not None and people.vertices_m is not None
    body = load_body(people.body)
    names = [body.points[name] for name in COCO17]
    points = np.concatenate((people.joints_m, people.vertices_m), 1)[:, names].astype(float)
    z = points[..., 2]
    ahead = z > NEAR_M
    image = camera.project(np.where(ahead[..., None], points, (0.0, 0.0, 1.0)))
    column, row = np.moveaxis(np.floor(image.clip(-1e6, 1e6)).astype(int), -1, 0)
    inside = ahead & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
    column, row = np.where(inside, column, 0), np.where(inside, row, 0)
    thick = np.array([_UNDER_SKIN_M[name.split("_")[-1]] for name in COCO17])
    allowed = thick * (people.stature_m[:, None] / _ADULT_M) + z / min(camera.fx, camera.fy)
    own = labels[row, column] == np.arange(len(people))[:, None]
    seen = own & (z - depth[row, column] < allowed)
    confidence = np.where(inside, np.where(seen, VISIBLE, HIDDEN), OUTSIDE)
    return np.concatenate((np.where(ahead[..., None], image, 0.0), confidence[..., None]), -1)


def _image_boxes(vertices_m: np.ndarray, camera: Camera) -> np.ndarray:
    """(K, 4) pixel boxes around all vertices, a pixel wider; all of the plane for bodies behind the camera."""
    boxes = np.tile((-np.inf, -np.inf, np.inf, np.inf), (len(vertices_m), 1))
    ahead = (vertices_m[..., 2] > NEAR_M).all(1)
    image = camera.project(vertices_m[ahead])
    boxes[ahead] = np.concatenate((image.min(1) - 1.0, image.max(1) + 1.0), -1)
    return boxes


def _apart(one: np.ndarray, two: np.ndarray) -> bool:
    return bool((one[:2] >= two[2:]).any() or (two[:2] >= one[2:]).any())
