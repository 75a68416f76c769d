"""The pinhole camera everybody in a scene shares.

Frame: OpenCV (x right, y down, z forward), metres. Image points are in pixels with pixel *centres* at +0.5: the
top-left pixel covers [0, 1) x [0, 1) and its centre is (0.5, 0.5). Every 2D quantity of the package obeys this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from crowdmesh.errors import InputError

DEFAULT_LONG_SIDE_FOV = math.radians(60.0)
"""Field of view assumed over the longer image side when nothing is known of the camera (a common phone lens)."""

# Plausible focal lengths over the longer image side: 157 degrees of view to a 1080 mm telephoto lens.
_SHORTEST_FOCAL, _LONGEST_FOCAL = 0.1, 30.0

_FULL_FRAME_DIAGONAL_MM = math.hypot(36.0, 24.0)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; focal lengths, principal point and image size in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if not (self.width >= 1 and self.height >= 1):
            raise InputError(f"camera image size must be at least 1x1 pixel, got {self.width}x{self.height}")
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(v) for v in values):
            raise InputError(f"camera intrinsics must be finite, got fx, fy, cx, cy = {values}")
        long_side = max(self.width, self.height)
        shortest, longest = self.focal_range(self.width, self.height)
        if not (shortest <= min(self.fx, self.fy) and max(self.fx, self.fy) <= longest):
            raise InputError(
                f"focal length ({self.fx:g}, {self.fy:g}) is implausible for a {self.width}x{self.height} image: it "
                "must be given in pixels of this image (not millimetres or normalised), a field of view in its unit"
            )
        normalised = long_side > 8 and 0 < self.cx <= 1 and 0 < self.cy <= 1
        if (
            normalised
            or abs(self.cx - self.width / 2) > 5 * long_side
            or abs(self.cy - self.height / 2) > 5 * long_side
        ):
            raise InputError(
                f"principal point ({self.cx:g}, {self.cy:g}) is implausible for a {self.width}x{self.height} image; "
                "give it in pixels"
            )

    @staticmethod
    def focal_range(width: int, height: int) -> tuple[float, float]:
        """The shortest and longest focal length, in pixels, that an image of this size is believed to have."""
        return _SHORTEST_FOCAL * max(width, height), _LONGEST_FOCAL * max(width, height)

    @classmethod
    def from_vertical_fov(cls, fov: float, width: int, height: int) -> Camera:
        """Square pixels, central principal point, vertical field of view in radians (paper section 3.1)."""
        if not 0.0 < fov < math.pi:
            raise InputError(f"vertical field of view must lie between 0 and pi radians, got {fov:g}")
        focal = height / (2.0 * math.tan(fov / 2.0))
        return cls(focal, focal, width / 2.0, height / 2.0, width, height)

    @classmethod
    def from_long_side_fov(cls, fov: float, width: int, height: int) -> Camera:
        """Like :meth:`from_vertical_fov`, with the field of view measured over the longer image side."""
        if not 0.0 < fov < math.pi:
            raise InputError(f"field of view must lie between 0 and pi radians, got {fov:g}")
        focal = max(width, height) / (2.0 * math.tan(fov / 2.0))
        return cls(focal, focal, width / 2.0, height / 2.0, width, height)

    @classmethod
    def from_intrinsics(cls, K: Float[np.ndarray, "3 3"], width: int, height: int) -> Camera:
        """From a 3x3 intrinsic matrix in pixels; skew is not supported."""
        K = np.asarray(K, float)
        if K.shape != (3, 3):
            raise InputError(f"intrinsics must be a 3x3 matrix, got shape {K.shape}")
        if not np.allclose(K[[1, 2, 2, 2], [0, 0, 1, 2]], (0, 0, 0, 1), atol=1e-6):
            raise InputError(
                "intrinsics must have the form [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]; is the matrix transposed?"
            )
        if abs(K[0, 1]) > 1e-6 * max(abs(K[0, 0]), 1.0):
            raise InputError(f"intrinsics have skew {K[0, 1]:g}; undistort the image to square axes first")
        return cls(float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]), width, height)

    @classmethod
    def from_exif(cls, path: str | Path, width: int, height: int) -> Camera | None:
        """From the 35 mm equivalent focal length in a photo's EXIF data; ``None`` when it has none.

        ``width`` and ``height`` are those of the upright image. The equivalence is taken over the image diagonal
        (CIPA DCG-001), so it does not depend on orientation.
        """
        from PIL import Image

        try:
            with Image.open(path) as photo:
                exif = photo.getexif()
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None
        equivalent_mm = exif.get_ifd(0x8769).get(0xA405) or exif.get(0xA405)
        if not isinstance(equivalent_mm, (int, float)) or not 8.0 <= float(equivalent_mm) <= 1000.0:
            return None
        focal = float(equivalent_mm) * math.hypot(width, height) / _FULL_FRAME_DIAGONAL_MM
        return cls(focal, focal, width / 2.0, height / 2.0, width, height)

    @property
    def vertical_fov(self) -> float:
        """Vertical field of view in radians, of an image centred on the principal point."""
        return 2.0 * math.atan(self.height / (2.0 * self.fy))

    @property
    def K(self) -> Float[np.ndarray, "3 3"]:
        """Intrinsic matrix in pixels."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def project(self, points_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Image points (pixels) of camera-frame points (metres); points must lie in front of the camera (z > 0)."""
        x, y, z = np.moveaxis(np.asarray(points_m, float), -1, 0)
        return np.stack((self.fx * x / z + self.cx, self.fy * y / z + self.cy), -1)

    def unproject(
        self, points_px: Float[np.ndarray, "*n 2"], depth_m: Float[np.ndarray, "*n"]
    ) -> Float[np.ndarray, "*n 3"]:
        """Camera-frame points (metres) seen at image points (pixels) at the given depth along z (metres)."""
        points_px, depth_m = np.asarray(points_px, float), np.asarray(depth_m, float)
        x = (points_px[..., 0] - self.cx) / self.fx * depth_m
        y = (points_px[..., 1] - self.cy) / self.fy * depth_m
        return np.stack((x, y, depth_m), -1)

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera after resizing its image to ``width`` x ``height`` pixels."""
        sx, sy = width / self.width, height / self.height
        return Camera(self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, width, height)

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The same camera after cropping its image; the crop may reach outside (padding)."""
        return Camera(self.fx, self.fy, self.cx - left, self.cy - top, width, height)
