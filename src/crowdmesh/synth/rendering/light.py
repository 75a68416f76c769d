"""The light of a picture: sun or lamp, sky, what the ground throws back, and the shadows on it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from crowdmesh.camera import Camera
from crowdmesh.synth.rendering.backdrop import Place
from crowdmesh.synth.rendering.palette import linear
from crowdmesh.synth.rendering.rays import Geometry

_HARD_WRAP = 0.2  # a light that reaches around less than this throws sharp shadows


@dataclass(frozen=True, eq=False)
class Light:
    """Colours are linear; directions are unit vectors of the camera frame.

    Attributes:
        toward: towards the sun or lamp. up: away from the ground.
        key, sky, bounce: light from ``toward``, from above and from below.
        wrap: 0 a hard light; 1 one that reaches around (a window, an overcast sky).
        haze: colour of the distance; haze_m: where it has swallowed half of everything (infinite: no haze).
    """

    toward: Float[np.ndarray, " 3"]
    up: Float[np.ndarray, " 3"]
    key: Float[np.ndarray, " 3"]
    sky: Float[np.ndarray, " 3"]
    bounce: Float[np.ndarray, " 3"]
    wrap: float
    haze: Float[np.ndarray, " 3"]
    haze_m: float

    def on(
        self, normal: Float[np.ndarray, "3 n"], direct: np.ndarray | float = 1.0, ambient: np.ndarray | float = 1.0
    ) -> Float[np.ndarray, "3 m"]:
        """Light that surfaces of these unit normals (or of one for all, n = 1) receive.

        ``direct`` and ``ambient`` are the shares that shadows leave.
        """
        facing = _dot(self.toward, normal)
        wrap = np.float32(self.wrap)
        facing = np.maximum((facing + wrap) / (1 + wrap), 0) * direct
        above = (np.float32(0.5) + np.float32(0.5) * _dot(self.up, normal)) * ambient
        below = ambient - above
        return np.stack(
            [
                np.float32(k) * facing + np.float32(s) * above + np.float32(b) * below
                for k, s, b in zip(self.key, self.sky, self.bounce, strict=True)
            ]
        )


def draw_light(place: Place, random: np.random.Generator) -> Light:
    """A random light that suits the place: sun or clouds outside, lamps and windows inside."""
    azimuth = random.uniform(-math.pi, math.pi)
    hard = random.random() < (0.25 if place.indoors else 0.65)
    elevation = math.radians(random.uniform(18.0, 75.0) if hard or not place.indoors else random.uniform(45.0, 88.0))
    flat = math.cos(elevation)
    local = (flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth))
    toward = sum(share * axis for share, axis in zip(local, place.axes, strict=True))
    warm = linear((1.0, random.uniform(0.84, 0.98), random.uniform(0.62, 0.95)))
    white = linear((0.97, 0.98, 1.0))
    share = random.random() if place.indoors or hard else 0.2
    key = (warm * share + white * (1 - share)) * (random.uniform(1.0, 1.8) if hard else random.uniform(0.35, 0.8))
    sky = (linear((0.78, 0.87, 1.0)) if not place.indoors else white) * random.uniform(0.35, 0.75)
    bounce = place.ground.colors.mean(0) * random.uniform(0.2, 0.5) + 0.06
    haze_m = math.inf if place.indoors else random.uniform(80.0, 1500.0)
    wrap = random.uniform(0.0, 0.12) if hard else random.uniform(0.3, 1.0)
    return Light(np.asarray(toward).round(9), place.axes[1], key, sky, bounce, wrap, place.sky[0], haze_m)


def ground_shadows(
    light: Light, place: Place, geometry: Geometry, camera: Camera
) -> tuple[Float[np.ndarray, "H W"], Float[np.ndarray, "H W"]]:
    """Shares of the direct and of the ambient light that bodies and solids leave on the ground seen at each pixel.

    Bodies pressed flat along the light (or straight down, for what they hide of the sky) lie on the ground as their
    shadows; the z-buffer finds where they are seen. A box blur makes them soft; half the resolution is enough for that.
    """
    half = camera.scaled((camera.width + 1) // 2, (camera.height + 1) // 2)
    hard = light.wrap < _HARD_WRAP
    shares = []
    for toward, strength, radius in (
        (light.toward, 0.95 if hard else 0.6, half.height // (90 if hard else 24)),
        (light.up, 0.6, half.height // 40),
    ):
        pressed = _pressed(geometry.vertices_m, toward, place)
        dark = geometry.rendered(half.K, (half.height, half.width), pressed).face.numpy() >= 0
        left = np.float32(1.0) - np.float32(strength) * _blurred(dark, max(radius, 1))
        shares.append(left.repeat(2, 0).repeat(2, 1)[: camera.height, : camera.width])
    return shares[0], shares[1]


def _pressed(points_m: np.ndarray, toward: np.ndarray, place: Place) -> np.ndarray:
    """Points moved against the light onto the ground; what is in it or below stays."""
    up = place.axes[1]
    height = points_m[..., 0] * up[0] + points_m[..., 1] * up[1] + points_m[..., 2] * up[2] + place.height_m
    slope = max(up[0] * toward[0] + up[1] * toward[1] + up[2] * toward[2], 0.05)
    return (points_m - (np.maximum(height, 0.0) / slope)[..., None] * toward).astype(np.float32)


def _blurred(mask: np.ndarray, radius: int) -> np.ndarray:
    """Box blur of a mask, exact in whole numbers, applied twice."""
    values = mask.astype(np.int64)
    side = 2 * radius + 1
    for _ in range(2):
        for axis in (0, 1):
            pad = [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)]
            total = np.cumsum(np.pad(values, pad, mode="edge"), axis)
            total = np.moveaxis(total, axis, 0)
            values = np.moveaxis(total[side:] - total[:-side], 0, axis)
    return (values / side**4).astype(np.float32)


def _dot(vector: np.ndarray, points: np.ndarray) -> np.ndarray:
    a, b, c = (np.float32(value) for value in vector)
    return a * points[0] + b * points[1] + c * points[2]
