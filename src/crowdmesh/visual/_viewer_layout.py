"""Where things stand in the viewer's world, from where one looks at them, and what the labels say. Plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from crowdmesh.camera import Camera
from crowdmesh.scene import Scene
from crowdmesh.visual._crowd import Faces, ground_range, on_page, posed_vertices, surface_centres

FOV = math.radians(40.0)
"""Vertical field of view of the viewer, radians."""

_LEAST_ASPECT = 1.05  # width over height of the narrowest page in which everybody still fits
_AIR = 0.88  # share of the page that is filled
_SIDEWARD = math.radians(14.0)
_DOWNWARD = tuple(math.radians(degrees) for degrees in range(27, 76, 4))  # the first from which nobody is hidden
_MOST_HIDDEN = 0.1  # share of a person's vertices behind the photo
_FROM_ABOVE = math.radians(88.0)  # not 90: looking along the upward axis, an orbit camera loses its heading

_BISECTIONS = 30

_CAMERA_HEIGHT_M = 1.5  # above the ground when nobody is there to stand on it
_PHOTO_AT = 0.15  # of the median distance of the people
_PHOTO_AT_M = (0.35, 3.0)
_PHOTO_AT_MOST = 0.35  # of the depth of the nearest person
_NOBODY_AT_M = 4.0
_LABEL_ABOVE_M = 0.07


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
    """How far in front of the camera its photo is shown, metres: well before everybody, yet large enough to see."""
    centres = surface_centres(posed_vertices(scene), faces)
    shown = on_page(centres)
    if not shown.any():
        return _PHOTO_AT * _NOBODY_AT_M
    usual = np.clip(_PHOTO_AT * np.median(ground_range(centres[shown])), *_PHOTO_AT_M)
    return float(min(usual, _PHOTO_AT_MOST * centres[shown, 2].min()))


def photo_corners(camera: Camera, distance_m: float) -> Float[np.ndarray, "4 3"]:
    """Camera-frame corners of the photo at a depth: upper left, upper right, lower right, lower left; metres."""
    pixels = np.array([(0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height)], float)
    return camera.unproject(pixels, np.full(4, distance_m))


def label_place(vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, " 3"]:
    """Where a person's label stands, in the viewer's world: a little above the head."""
    low, high = vertices.min(0), vertices.max(0)
    return np.array((*((low + high)[:2] / 2), high[2] + _LABEL_ABOVE_M))


@dataclass(frozen=True, eq=False)
class Shown:
    """What the first view must show, in the viewer's world: people (but the far-out), labels, the camera, its photo.

    Attributes:
        people: vertices, placed and, where there is one, of the first guess.
        centres: of the surfaces of all of them.
        camera: where the photo's camera stands.
        photo: its corners, one after the other around it.
    """

    people: tuple[Float[np.ndarray, "_ _ 3"], ...]
    centres: Float[np.ndarray, "N 3"]
    camera: Float[np.ndarray, " 3"]
    photo: Float[np.ndarray, "4 3"]

    @classmethod
    def of(cls, stages: Sequence[tuple[Scene, Faces]], world: World, corners: Float[np.ndarray, "4 3"]) -> Shown:
        """Of the placed scene and its first guess with their triangles, and the photo's corners in the camera frame."""
        people, centres = [], []
        for scene, faces in stages:
            vertices = posed_vertices(scene)
            middle = surface_centres(vertices, faces)
            kept = on_page(middle)
            people.append(world.place(vertices[kept]))
            centres.append(world.place(middle[kept]))
        return cls(tuple(people), np.concatenate(centres), world.place(np.zeros(3)), world.place(corners))

    @property
    def points(self) -> Float[np.ndarray, "M 3"]:
        """All that must be on the page."""
        bodies = [body for people in self.people for body in people]
        return np.concatenate((*bodies, *(label_place(body)[None] for body in bodies), self.camera[None], self.photo))


def view_from_behind(shown: Shown) -> View:
    """From behind the photo's camera, a little from its left, and so high above that the photo hides nobody.

    Where it hides somebody from every height, from where it hides least.
    """
    views, hidden = [], []
    for downward in _DOWNWARD:
        ahead = np.array((math.sin(_SIDEWARD), math.cos(_SIDEWARD), 0.0)) * math.cos(downward)
        views.append(_fit(shown.points, ahead - (0.0, 0.0, math.sin(downward))))
        hidden.append(_hidden(views[-1], shown))
        if hidden[-1] <= _MOST_HIDDEN:
            break
    return views[int(np.argmin(hidden))]


def view_from_above(shown: Shown) -> View:
    """The bird's eye: straight down, the photo's camera looking up the page."""
    return _fit(shown.points, np.array((0.0, math.cos(_FROM_ABOVE), -math.sin(_FROM_ABOVE))))


def _fit(points: Float[np.ndarray, "N 3"], ahead: Float[np.ndarray, " 3"]) -> View:
    """The nearest place from which all points fit the page, looking along a direction.

    With slopes t, a point (x, y, depth) along the page's axes is in view of a camera at (a, b, c) when
    |x - a| <= t (depth - c), and alike for y: four half-spaces whose supporting planes meet in the place.
    """
    axes = _page_axes(ahead)
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


def _page_axes(ahead: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rows: right and down on the page, and the unit direction in which one looks."""
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(ahead, right), ahead))


def _hidden(view: View, shown: Shown) -> float:
    """The largest share of a person that lies on the photo in a view; 1 if somebody's centre does."""
    ahead = (view.look_at - view.position) / np.linalg.norm(view.look_at - view.position)
    axes = _page_axes(ahead)

    def on_photo(points: Float[np.ndarray, "*n 3"]) -> Bool[np.ndarray, "*n"]:
        page, quad = ((some - view.position) @ axes.T for some in (points, shown.photo))
        page, quad = page[..., :2] / page[..., 2:], quad[:, :2] / quad[:, 2:]
        (dx, dy), (x, y) = (np.roll(quad, -1, 0) - quad).T, np.moveaxis(page[..., None, :] - quad, -1, 0)
        side = dx * y - dy * x  # of each edge
        return (side > 0).all(-1) | (side < 0).all(-1)

    if on_photo(shown.centres).any():
        return 1.0
    return max((float(on_photo(people).mean(1).max()) for people in shown.people if len(people)), default=0.0)


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
