"""One 3x3 homography for image and labels: from a photograph's own pixels to those of the network's input.

The network's camera has square pixels and its principal point in the image's centre. Whatever part of a photograph it
is to see, there is a rotation of the camera that looks straight at that part, and a camera with other intrinsics
``K'`` at the same place, turned by ``M``, sees the pixel ``p`` of the first one at ``K' M K^-1 p``, whatever is shown
there and however far away. So no crop, no zoom and no principal point off the centre needs an exception: the image is
warped by that homography, points in the camera frame are moved by ``M``, and the two agree exactly. A mirror image is
an ``M`` of determinant -1. (The release keeps the camera's direction when it crops, which its centred camera then
contradicts: :func:`released_view`.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from crowdmesh.errors import InputError

NEAR_M = 0.05
"""Points nearer to the camera's plane than this, and those behind it, have no place in the image."""

MIRROR = np.diag([-1.0, 1.0, 1.0])
"""Left and right exchanged, in the camera frame and in the frame of every body that faces along its y or z axis."""

# An image whose corners lie this far outside the photograph is filled by its border pixels instead of black.
_RIM_PX = 1.0


@dataclass(frozen=True, eq=False)
class View:
    """What the network sees of a photograph.

    Attributes:
        size: height and width of the input without padding, pixels.
        intrinsics_px: (3, 3) ``K'`` of the input.
        motion: (3, 3) ``M``, from the photograph's camera frame to the input's: a rotation, or one with a mirror.
        homography: (3, 3) from pixels of the photograph to pixels of the input, centres at +0.5.
    """

    size: tuple[int, int]
    intrinsics_px: Float[np.ndarray, "3 3"]
    motion: Float[np.ndarray, "3 3"]
    homography: Float[np.ndarray, "3 3"]

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return bool(np.linalg.det(self.motion) < 0)

    @property
    def focal_px(self) -> float:
        """Focal length of the input."""
        return float(self.intrinsics_px[1, 1])

    @property
    def vertical_fov(self) -> float:
        """Vertical field of view of the input without padding, radians."""
        return 2 * math.atan(self.size[0] / (2 * self.focal_px))

    def move(self, points_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Points of the photograph's camera frame in the input's, metres."""
        return points_m @ self.motion.T

    def project(self, moved_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels of points in the input's camera frame; what is not in front of the camera is taken to
        ``NEAR_M``."""
        depth = np.maximum(moved_m[..., 2:], NEAR_M)
        return moved_m[..., :2] / depth * self.intrinsics_px[[0, 1], [0, 1]] + self.intrinsics_px[:2, 2]

    def map(self, points_px: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
        """Pixels of the photograph as pixels of the input; what the turned camera has behind it becomes infinite."""
        mapped = points_px @ self.homography[:, :2].T + self.homography[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(mapped[..., 2:] > 0, mapped[..., :2] / mapped[..., 2:], np.inf)

    def inside(self, points_px: Float[np.ndarray, "*n 2"]) -> np.ndarray:
        """(*n) whether pixels lie in the image."""
        return np.asarray(((points_px >= 0) & (points_px < (self.size[1], self.size[0]))).all(-1))

    def warp(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H2 W2 3"]:
        """The photograph as the network sees it, in one resampling (bilinear); black where it shows nothing."""
        height, width = self.size
        # OpenCV counts pixel centres from 0, everything here from 0.5.
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        matrix = np.linalg.inv(half) @ self.homography @ half
        corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
        back = np.linalg.inv(self.homography)
        seen = corners @ back[:, :2].T + back[:, 2]
        seen = seen[:, :2] / seen[:, 2:]
        filled = bool(((seen > -_RIM_PX) & (seen < np.array(image.shape[1::-1]) + _RIM_PX)).all())
        border = cv2.BORDER_REPLICATE if filled else cv2.BORDER_CONSTANT
        options = {"flags": cv2.INTER_LINEAR, "borderMode": border}
        if np.abs(matrix[2, :2]).max() < 1e-12 * abs(matrix[2, 2]):
            return cv2.warpAffine(image, matrix[:2] / matrix[2, 2], (width, height), **options)  # type: ignore[return-value]
        return cv2.warpPerspective(image, matrix, (width, height), **options)  # type: ignore[return-value]


def centred_view(
    intrinsics_px: Float[np.ndarray, "3 3"],
    image_size: tuple[int, int],
    input_size: int,
    rotation_rad: float = 0.0,
    zoom: float = 1.0,
    mirror: bool = False,
    region: tuple[float, float, float, float] | None = None,
) -> View:
    """The view of a part of a photograph by a camera that looks straight at it.

    The camera is turned, without roll, until the part's edges lie at equal angles left and right, and above and below.
    The longer side gets ``input_size`` pixels, the other one as many as fit (rounded down), and pixels are square. A
    photograph with square pixels and a central principal point that is shown whole is only resized.

    Args:
        intrinsics_px: (3, 3) of the photograph. image_size: its height and width.
        rotation_rad: turns the picture about its centre, counter-clockwise on the screen, before it is mirrored.
        zoom: enlarges it about its centre; the field of view shrinks with it.
        region: left, top, right, bottom in pixels of the photograph; ``None``: all of it.

    Raises:
        InputError: a region without area, or one whose directions lie behind the camera.
    """
    left, top, right, bottom = region or (0.0, 0.0, float(image_size[1]), float(image_size[0]))
    if not (right > left and bottom > top):
        raise InputError(f"a view needs a region with an area, got ({left:g}, {top:g}, {right:g}, {bottom:g})")
    inverse = np.linalg.inv(intrinsics_px)
    middle = np.array([(left + right) / 2, (top + bottom) / 2])
    edges = _rays(inverse, np.array([[left, middle[1]], [right, middle[1]], [middle[0], top], [middle[0], bottom]]))
    angles = np.arctan([edges[0, 0], edges[1, 0], edges[2, 1], edges[3, 1]])
    axis = np.array([math.tan((angles[0] + angles[1]) / 2), math.tan((angles[2] + angles[3]) / 2), 1.0])
    tilt = _turn_to_z(axis)
    # Edges once more, on the lines through the new axis, as the turned camera sees them.
    edges = np.array([[edges[0, 0], axis[1], 1], [edges[1, 0], axis[1], 1], [axis[0], edges[2, 1], 1],
                      [axis[0], edges[3, 1], 1]]) @ tilt.T  # fmt: skip
    if edges[:, 2].min() <= 0:
        raise InputError("a view's region spans more than half a sphere; are the intrinsics in pixels of this image?")
    edges = np.abs(edges[:, :2] / edges[:, 2:])
    half_width, half_height = edges[:2, 0].mean(), edges[2:, 1].mean()
    focal = input_size / 2 / max(half_width, half_height)
    height, width = (max(1, int(2 * focal * half + 1e-6)) for half in (half_height, half_width))
    K = np.array([[focal * zoom, 0, width / 2], [0, focal * zoom, height / 2], [0, 0, 1.0]])
    motion = _roll(rotation_rad) @ tilt
    motion = MIRROR @ motion if mirror else motion
    return View((height, width), K, motion, K @ motion @ inverse)


def released_view(
    intrinsics_px: Float[np.ndarray, "3 3"],
    image_size: tuple[int, int],
    input_size: int,
    rotation_rad: float = 0.0,
    zoom: float = 1.0,
    mirror: bool = False,
    rows: int | None = None,
) -> View:
    """The view as the release labels it (spec facts 3): a crop moves the principal point off the centre.

    Only for comparison with the release: the network's camera is centred, and after a crop it is wrong by tens of
    pixels (72 to 77 in recorded cases).

    Args:
        rotation_rad, zoom, mirror: as for :func:`centred_view`, but about the whole pixel at the centre of the resized
            image.
        rows: rows of the resized image that are kept; ``None``: all.
    """
    rate = input_size / max(image_size)
    height, width = (int(rate * side) for side in image_size)
    K = np.diag([rate, rate, 1.0]) @ intrinsics_px
    centre = np.array([width // 2, height // 2], float)
    K[:2, 2] = zoom * _roll(rotation_rad)[:2, :2] @ (K[:2, 2] - centre) + centre
    K[[0, 1], [0, 1]] *= zoom
    if mirror:
        K[0, 2] = width - K[0, 2]
    if rows is not None:
        again = input_size / max(rows, width)
        height, width = int(again * rows), int(again * width)
        K[:2] *= again
    motion = MIRROR @ _roll(rotation_rad) if mirror else _roll(rotation_rad)
    return View((height, width), K, motion, K @ motion @ np.linalg.inv(intrinsics_px))


def _rays(inverse: Float[np.ndarray, "3 3"], points_px: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    rays = points_px @ inverse[:, :2].T + inverse[:, 2]
    return rays / rays[:, 2:]


def _roll(angle: float) -> Float[np.ndarray, "3 3"]:
    """Turns the picture counter-clockwise on the screen, whose y axis points down."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]])


def _turn_to_z(ray: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The smallest rotation that takes a ray (z > 0) to the optical axis."""
    x, y, z = ray / np.linalg.norm(ray)
    share = 1 / (1 + z)
    return np.array([[1 - x * x * share, -x * y * share, -x], [-x * y * share, 1 - y * y * share, -y], [x, y, z]])
