"""Where things stand in the viewer's world, from where one looks at them, and what the labels say. Plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from crowdmesh.camera import Camera
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import Faces, ground_range, on_page, page_points, posed_vertices, surface_centres

FOV = math.radians(40.0)
"""Vertical field of view of the viewer, radians."""

_LEAST_ASPECT = 1.05  # width over height of the narrowest page in which everybody still fits
_AIR = 0.88  # share of the page that is filled
_DOWNWARD, _SIDEWARD = math.radians(27.0), math.radians(14.0)
_FROM_ABOVE = math.radians(88.0)  # not 90: looking along the upward axis, an orbit camera loses its heading

_BISECTIONS = 30

_CAMERA_HEIGHT_M = 1.5  # above the ground when nobody is there to stand on it
_PHOTO_AT = 0.15  # of the median distance of the people
_PHOTO_AT_M = (0.35, 3.0)
_NOBODY_AT_M = 4.0


@dataclass(frozen=True, eq=False)
class View:
    """A place to look from: positions in the viewer's world, metres; z is up on the page."""

    position: Float[np.ndarray, " 3"]
    look_at: Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class Row:
    """What is said of one person, as text; unknown spreads are left out."""

    person: int
    stature: str
    distance: str

    @property
    def label(self) -> str:
        """One line above the person's head."""
        return f"{self.person} · {self.stature} · {self.distance} away"


@dataclass(frozen=True)
class World:
    """The viewer's world: x to the right, y away from the photo's camera, z up, the ground at z = 0; metres.

    Attributes:
        camera_height_m: how high the photo's camera is above the ground.
    """

    camera_height_m: float

    @classmethod
    def of(cls, scene: Scene, faces: Faces) -> World:
        """The ground lies as low as half of the people's lowest points; those far out or behind the camera abstain."""
        vertices = posed_vertices(scene)
        standing = on_page(surface_centres(vertices, faces))
        if not standing.any():
            return cls(_CAMERA_HEIGHT_M)
        return cls(float(np.median(vertices[standing, :, 1].max(1))))

    def place(self, points_m: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """World coordinates of camera-frame points (x right, y down, z forward)."""
        x, y, z = np.moveaxis(points_m, -1, 0)
        return np.stack((x, z, self.camera_height_m - y), -1)


def photo_distance(scene: Scene, faces: Faces) -> float:
    """How far in front of the camera its photo is shown, metres: near, yet large enough to be looked at."""
    centres = surface_centres(posed_vertices(scene), faces)
    shown = on_page(centres)
    median = float(np.median(ground_range(centres[shown]))) if shown.any() else _NOBODY_AT_M
    return float(np.clip(_PHOTO_AT * median, *_PHOTO_AT_M))


def photo_corners(camera: Camera, distance_m: float) -> Float[np.ndarray, "4 3"]:
    """Camera-frame corners of the photo at a depth: upper left, upper right, lower right, lower left; metres."""
    pixels = np.array([(0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height)], float)
    return camera.unproject(pixels, np.full(4, distance_m))


def shown_points(
    scene: Scene, before: Scene | None, faces: Faces, before_faces: Faces, corners: Float[np.ndarray, "4 3"]
) -> Float[np.ndarray, "N 3"]:
    """Camera-frame points the first view must show: people (but the far-out), the camera and its photo."""
    people = [page_points([scene], faces)]
    if before is not None:
        people.append(page_points([before], before_faces))
    return np.concatenate((*people, corners, np.zeros((1, 3))))


def view_from_behind(points: Float[np.ndarray, "N 3"]) -> View:
    """From behind and above the photo's camera, a little from its left, so that the photo hides nobody."""
    ahead = np.array((math.sin(_SIDEWARD), math.cos(_SIDEWARD), 0.0)) * math.cos(_DOWNWARD)
    return _fit(points, ahead - (0.0, 0.0, math.sin(_DOWNWARD)))


def view_from_above(points: Float[np.ndarray, "N 3"]) -> View:
    """The bird's eye: straight down, the photo's camera looking up the page."""
    return _fit(points, np.array((0.0, math.cos(_FROM_ABOVE), -math.sin(_FROM_ABOVE))))


def _fit(points: Float[np.ndarray, "N 3"], ahead: Float[np.ndarray, " 3"]) -> View:
    """The nearest place from which all points fit the page, looking along a direction.

    With slopes t, a point (x, y, depth) along the page's axes is in view of a camera at (a, b, c) when
    |x - a| <= t (depth - c), and alike for y: four half-spaces whose supporting planes meet in the place.
    """
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    axes = np.stack((right, np.cross(ahead, right), ahead))
    page = points @ axes.T
    depth = page[:, 2]
    slopes = np.array((_LEAST_ASPECT, 1.0)) * _AIR * math.tan(FOV / 2)
    low = (page[:, :2] + slopes * depth[:, None]).min(0)
    high = (page[:, :2] - slopes * depth[:, None]).max(0)
    back = ((low - high) / (2 * slopes)).min()
    centre = [
        _middle(page[:, i], depth - back, high[i] + slopes[i] * back, low[i] - slopes[i] * back) for i in range(2)
    ]
    middle = (depth.min() + depth.max()) / 2
    return View(np.array((*centre, back)) @ axes, np.array((*centre, middle)) @ axes)


def _middle(along: Float[np.ndarray, " N"], depth: Float[np.ndarray, " N"], low: float, high: float) -> float:
    """Where between two places the points reach as far to one side of the page as to the other; by bisection."""
    for _ in range(_BISECTIONS):
        place = (low + high) / 2
        reach = (along - place) / depth
        low, high = (place, high) if reach.max() > -reach.min() else (low, place)
    return (low + high) / 2


def rows(
    scene: Scene,
    faces: Faces,
    stature_std_m: Float[np.ndarray, " K"] | None,
    depth_std_m: Float[np.ndarray, " K"] | None,
) -> list[Row]:
    """Stature and distance from the camera (seen from above) of everybody, with their spreads where known."""
    distances = ground_range(surface_centres(posed_vertices(scene), faces))
    return [
        Row(
            k,
            _metres(scene.people.stature_m[k], stature_std_m, k, 2),
            _metres(distances[k], depth_std_m, k, 1 if depth_std_m is None else 2),
        )
        for k in range(len(distances))
    ]


def _metres(value: float, spread: Float[np.ndarray, " K"] | None, person: int, digits: int) -> str:
    if spread is None or not np.isfinite(spread[person]):
        return f"{value:.{digits}f} m"
    return f"{value:.{digits}f} ± {spread[person]:.{digits}f} m"
