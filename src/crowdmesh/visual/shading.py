"""Smooth-shaded pictures of a crowd of meshes, from the photo's camera or from any side."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from crowdmesh.errors import InputError
from crowdmesh.raster import ZBuffer, rasterize
from crowdmesh.visual._crowd import Faces, triangles
from crowdmesh.visual.palette import person_colors

# The light, in the frame of the camera that looks: a soft sky from above, a key light over the viewer's left shoulder,
# a lamp at the camera; and a faint gloss. The terms sum to about one on a surface facing viewer and key.
_AMBIENT, _SKY, _KEY, _LAMP, _GLOSS = 0.24, 0.26, 0.32, 0.28, 0.08
_KEY_DIRECTION = (-0.35, -0.80, -0.55)
_GLOSS_EXPONENT = 40
_CONTOUR_SHADE = 0.55

# An orthographic view is a pinhole camera this far away whose remaining perspective is taken out of the vertices.
_LONG_LENS_DISTANCE_M = 1000.0


@dataclass(frozen=True, eq=False)
class Rendering:
    """A shaded picture of the people alone.

    Attributes:
        rgb: (H, W, 3) in [0, 1], premultiplied by ``alpha`` (black where nobody is).
        alpha: (H, W) share of the pixel covered by people, in [0, 1].
        person: (H, W) index of the person at the pixel's first sample, -1 where nobody is.
    """

    rgb: Float[np.ndarray, "H W 3"]
    alpha: Float[np.ndarray, "H W"]
    person: Int[np.ndarray, "H W"]

    def over(self, background: UInt8[np.ndarray, "H W 3"], opacity: float = 1.0) -> UInt8[np.ndarray, "H W 3"]:
        """The people laid over ``background``; ``opacity`` below 1 lets it shine through."""
        kept = 1.0 - opacity * self.alpha[..., None]
        return np.rint(255.0 * opacity * self.rgb + background * kept).clip(0, 255).astype(np.uint8)


@torch.no_grad()
def render(
    vertices_m: Float[np.ndarray, "K V 3"],
    faces: Faces,
    K: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
    colors: Float[np.ndarray, "K 3"] | None = None,
    supersampling: int = 2,
) -> Rendering:
    """Render K bodies with interpolated vertex normals, a thin darker contour around each, and antialiased edges.

    Args:
        vertices_m: vertices in the frame of the looking camera (x right, y down, z forward), metres.
        faces: triangles shared by all people.
        K: intrinsics in pixels of the output image.
        size: output (height, width).
        colors: sRGB per person in [0, 1]; by default :func:`~crowdmesh.visual.palette.person_colors`.
        supersampling: samples per pixel along each axis.
    """
    height, width = size
    colors = person_colors(len(vertices_m)) if colors is None else colors
    if len(colors) != len(vertices_m):
        raise InputError(f"{len(colors)} colours for {len(vertices_m)} people; give one colour per person")
    fine = np.diag((supersampling, supersampling, 1.0)) @ np.asarray(K, float)
    vertices = torch.as_tensor(vertices_m, dtype=torch.float32)
    corners = triangles(faces)
    buffer = rasterize(vertices, corners, fine, (height * supersampling, width * supersampling))
    person = buffer.person
    rgba = torch.zeros((*person.shape, 4))
    covered = person >= 0
    if covered.any():
        position, normal = _surface(buffer, vertices, corners, fine)
        base = torch.as_tensor(colors, dtype=torch.float32)[person[covered].long()]
        contour = torch.as_tensor(inner_contours(person.numpy(), 1))[covered]
        shade = torch.where(contour, _CONTOUR_SHADE, 1.0)[:, None]
        rgba[covered] = torch.cat((shade * _lit(base, position, normal), torch.ones_like(shade)), -1)
    pixels = cv2.resize(rgba.numpy(), (width, height), interpolation=cv2.INTER_AREA)
    first_sample = person[::supersampling, ::supersampling].numpy()
    return Rendering(pixels[..., :3], pixels[..., 3], first_sample)


def orthographic(
    vertices_m: Float[np.ndarray, "K V 3"],
    rotation: Float[np.ndarray, "3 3"],
    pixels_per_metre: float,
    origin_px: tuple[float, float],
) -> tuple[Float[np.ndarray, "K V 3"], Float[np.ndarray, "3 3"]]:
    """Vertices and intrinsics that make :func:`render` draw a parallel projection, exactly to scale.

    Args:
        vertices_m: vertices in the scene's camera frame, metres.
        rotation: rows are the directions of page right, page down and away from the viewer in the camera frame.
        pixels_per_metre: scale of the drawing.
        origin_px: where the scene camera's centre falls on the page.
    """
    view = vertices_m @ np.asarray(rotation, np.float32).T
    view[..., 2] += _LONG_LENS_DISTANCE_M
    view[..., :2] *= view[..., 2:] / _LONG_LENS_DISTANCE_M
    focal = pixels_per_metre * _LONG_LENS_DISTANCE_M
    return view, np.array([[focal, 0.0, origin_px[0]], [0.0, focal, origin_px[1]], [0.0, 0.0, 1.0]])


def vertex_normals(vertices_m: Float[Tensor, "K V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "K V 3"]:
    """Unit normals: at each vertex the area-weighted mean of the triangles around it."""
    a, b, c = (vertices_m[:, faces[:, i]] for i in range(3))
    face_normals = torch.cross(b - a, c - a, dim=-1)
    normals = torch.zeros_like(vertices_m)
    for i in range(3):
        normals.index_add_(1, faces[:, i], face_normals)
    return functional.normalize(normals, dim=-1)


def inner_contours(person: Int[np.ndarray, "H W"], radius: int) -> np.ndarray:
    """(H, W) bool: pixels of a person that lie within ``radius`` pixels of another person or of the background."""
    labels = person.astype(np.float32)
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return (cv2.dilate(labels, window) != cv2.erode(labels, window)) & (person >= 0)


def surface_weights(
    points: Float[np.ndarray, "N 3"], triangles: Float[np.ndarray, "N 3 3"]
) -> Float[np.ndarray, "N 3"]:
    """Barycentric weights, each in [0, 1], of points on (or next to) triangles given by their corners (axis 1).

    Element by element, so that the result is the same on every machine; in the precision of the arguments.
    """
    a, b, c = (triangles[:, i].T for i in range(3))
    to_b, to_c, to_point = b - a, c - a, points.T - a
    plane = _cross(to_b, to_c)
    twice_area_squared = np.maximum(_dot(plane, plane), 1e-20)
    weight_b = _dot(_cross(to_point, to_c), plane) / twice_area_squared
    weight_c = _dot(_cross(to_b, to_point), plane) / twice_area_squared
    return np.stack((1.0 - weight_b - weight_c, weight_b, weight_c), -1).clip(0.0, 1.0)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _surface(buffer: ZBuffer, vertices: Tensor, faces: Tensor, K: np.ndarray) -> tuple[Tensor, Tensor]:
    """Position and unit normal (N, 3) of the surface seen at each covered pixel, in row-major order."""
    row, column = torch.nonzero(buffer.face >= 0, as_tuple=True)
    face = buffer.face[row, column].long()
    person = torch.div(face, len(faces), rounding_mode="floor")
    corners = (person * vertices.shape[1])[:, None] + faces[face - person * len(faces)]
    depth = buffer.depth[row, column]
    x, y = (column + 0.5 - K[0, 2]) / K[0, 0] * depth, (row + 0.5 - K[1, 2]) / K[1, 1] * depth
    position = torch.stack((x, y, depth), -1).float()

    weights = torch.from_numpy(surface_weights(position.numpy(), vertices.reshape(-1, 3)[corners].numpy()))
    normals = vertex_normals(vertices, faces).reshape(-1, 3)[corners]
    return position, functional.normalize((weights[..., None] * normals).sum(1), dim=-1)


def _lit(base: Tensor, position: Tensor, normal: Tensor) -> Tensor:
    """Shaded colour (N, 3) of surface points seen from the origin; both sides of the surface are lit alike."""
    to_eye = functional.normalize(-position, dim=-1)
    facing = (normal * to_eye).sum(-1, keepdim=True)
    normal = torch.where(facing < 0, -normal, normal)
    key = functional.normalize(torch.tensor(_KEY_DIRECTION), dim=0)
    sky = 0.5 - 0.5 * normal[:, 1:2]
    diffuse = (normal @ key).clamp_min(0.0)[:, None]
    halfway = functional.normalize(to_eye + key, dim=-1)
    gloss = (normal * halfway).sum(-1, keepdim=True).clamp_min(0.0) ** _GLOSS_EXPONENT
    light = _AMBIENT + _SKY * sky + _KEY * diffuse + _LAMP * facing.abs()
    return (base * light + _GLOSS * gloss).clamp(0.0, 1.0)
