"""What a synthetic world may contain: ranges, shares and weights from which every stage is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from crowdmesh.errors import InputError

ARRANGEMENTS = ("scatter", "groups", "rows", "crowd")
"""How people are arranged: anywhere; in circles that talk; in parallel rows as for a team photo; dense, far back."""

SUPPORTS = ("chair", "lap", "shoulders", "held", "air", "steps")
"""What may carry people other than level ground; see ``WorldConfig.supports``."""

POSE_FAMILIES = ("standing", "walking", "reaching", "sitting", "kneeling", "lying")
"""Pose families that people on the ground choose from; the others follow from age and support."""

Range = tuple[float, float]

_IMAGE_SIZES = ((640, 480), (480, 640), (640, 360), (360, 640), (640, 427), (512, 512))
_FOV_LIMITS = (math.radians(20.0), math.radians(100.0))


@dataclass(frozen=True)
class WorldConfig:
    """From what a world draws its stages. Lengths in metres, angles in radians, ages in years, images in pixels.

    Attributes:
        image_sizes: (width, height) to choose from.
        vertical_fov: lowest and highest vertical field of view; 20 to 100 degrees.
        camera_height_m: above the ground; drawn about eye level where the range allows it.
        camera_pitch: positive looks down. camera_roll: positive turns the camera clockwise.
        distance_m: how far away people may be, pelvis to camera plane; 1 to 40 m (0.5 m is the least allowed).
        people: fewest and most people; the number is log-uniform between them.
        minors_share: share of people younger than 18. ages_years: youngest and oldest.
        male_share: share of men and boys.
        stature_spread: standard deviations of stature about the mean of age and sex, cut at three; 0: all median.
        build_spread: how much weight, muscle and proportions vary; 1 is moderate, 0 average build.
        lineup: (age, male) of everybody, instead of a random crowd; ``people`` is then not used.
        arrangements: weights of :data:`ARRANGEMENTS`.
        supports: probabilities of :data:`SUPPORTS`: that somebody sits on a chair; that a child who could sits on a
            lap or on shoulders, or a baby is held; that somebody able to jumps; that the ground has steps. Missing: 0.
        poses: weights of :data:`POSE_FAMILIES` for everybody on the ground. Missing, here and in arrangements: 0.
        facing: people turn at most this far away from the camera, except in conversations; pi: any direction.
        occluded: people of whom somebody nearer leaves less than ``occluded_visible`` of the silhouette visible.
        jumpers: people who jump for certain (the first that are able to).
        backdrop_wall: a wall stands just behind everybody and the camera is so close that no ground is seen.
    """

    image_sizes: tuple[tuple[int, int], ...] = _IMAGE_SIZES
    vertical_fov: Range = _FOV_LIMITS
    camera_height_m: Range = (0.3, 4.0)
    camera_pitch: Range = (math.radians(-15.0), math.radians(30.0))
    camera_roll: Range = (math.radians(-6.0), math.radians(6.0))
    distance_m: Range = (1.0, 40.0)
    people: tuple[int, int] = (1, 60)
    ages_years: Range = (0.0, 90.0)
    minors_share: float = 0.35
    male_share: float = 0.5
    stature_spread: float = 1.0
    build_spread: float = 1.0
    lineup: tuple[tuple[float, bool], ...] | None = None
    arrangements: Mapping[str, float] = field(
        default_factory=lambda: {"scatter": 0.35, "groups": 0.3, "rows": 0.15, "crowd": 0.2}
    )
    supports: Mapping[str, float] = field(
        default_factory=lambda: {
            "chair": 0.12, "lap": 0.25, "shoulders": 0.12, "held": 0.6, "air": 0.03, "steps": 0.12,
        }
    )  # fmt: skip
    poses: Mapping[str, float] = field(
        default_factory=lambda: {
            "standing": 0.42, "walking": 0.2, "reaching": 0.14, "sitting": 0.1, "kneeling": 0.07, "lying": 0.07,
        }
    )  # fmt: skip
    facing: float = math.pi
    occluded: int = 0
    occluded_visible: float = 0.3
    jumpers: int = 0
    backdrop_wall: bool = False

    def __post_init__(self) -> None:
        self._check_camera()
        self._check_people()
        _check_weights("arrangements", self.arrangements, ARRANGEMENTS)
        _check_weights("poses", self.poses, POSE_FAMILIES)
        _check_weights("supports", self.supports, SUPPORTS, probabilities=True)

    def _check_camera(self) -> None:
        sizes = self.image_sizes
        if not sizes or any(len(s) != 2 or min(s) < 16 or max(s) > 8192 for s in sizes):
            raise InputError(f"image_sizes must name (width, height) of 16 to 8192 pixels, got {sizes}")
        _check_range("vertical_fov", self.vertical_fov, *_FOV_LIMITS, "radians (20 to 100 degrees)")
        _check_range("camera_height_m", self.camera_height_m, 0.05, 30.0, "metres")
        _check_range("camera_pitch", self.camera_pitch, -math.pi / 3, math.pi / 3, "radians")
        _check_range("camera_roll", self.camera_roll, -math.pi / 4, math.pi / 4, "radians")
        _check_range("distance_m", self.distance_m, 0.5, 100.0, "metres")
        _check_range("facing", (0.0, self.facing), 0.0, math.pi, "radians")

    def _check_people(self) -> None:
        _check_range("people", self.people, 1, 100, "people")
        _check_range("ages_years", self.ages_years, 0.0, 120.0, "years")
        for name in ("minors_share", "male_share", "occluded_visible"):
            _check_range(name, (getattr(self, name),) * 2, 0.0, 1.0, "as a share")
        _check_range("stature_spread", (self.stature_spread,) * 2, 0.0, 3.0, "standard deviations")
        _check_range("build_spread", (self.build_spread,) * 2, 0.0, 2.0, "")
        if self.lineup is not None:
            if not self.lineup:
                raise InputError("lineup is empty; name the age and sex of at least one person, or use None")
            for age, male in self.lineup:
                if not (0.0 <= age <= 120.0 and isinstance(male, bool)):
                    raise InputError(f"lineup needs (age in years, male as true or false) per person, got {age, male}")
        fewest = len(self.lineup) if self.lineup else self.people[0]
        if self.occluded < 0 or self.jumpers < 0 or 2 * self.occluded > fewest:
            raise InputError(
                f"occluded ({self.occluded}) and jumpers ({self.jumpers}) must not be negative, and every occluded "
                f"person needs somebody else in front: {fewest} people are too few"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WorldConfig:
        """The config that :meth:`to_dict` wrote, also after a round trip through JSON.

        Raises:
            InputError: unknown names or values out of range.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise InputError(f"a world config has no {', '.join(unknown)}; remove it or check the spelling")
        return cls(**{name: _as_tuple(value) for name, value in values.items()})


def _as_tuple(value: Any) -> Any:
    """Lists (as JSON gives them) as tuples, also inside."""
    return tuple(_as_tuple(v) for v in value) if isinstance(value, (list, tuple)) else value


def _check_range(name: str, value: tuple[float, ...], low: float, high: float, unit: str) -> None:
    if len(value) != 2 or not all(math.isfinite(v) for v in value) or not low <= value[0] <= value[1] <= high:
        shown = value[1] if value[0] == value[1] or name == "facing" else value
        raise InputError(f"{name} must lie between {low:g} and {high:g} {unit}, lowest first, got {shown}".rstrip())


def _check_weights(
    name: str, weights: Mapping[str, float], known: tuple[str, ...], probabilities: bool = False
) -> None:
    unknown = sorted(set(weights) - set(known))
    if unknown:
        raise InputError(f"{name} does not know {', '.join(unknown)}; use {', '.join(known)}")
    values = list(weights.values())
    if not all(math.isfinite(v) and v >= 0.0 for v in values):
        raise InputError(f"{name} must be finite and not negative, got {dict(weights)}")
    if probabilities and any(v > 1.0 for v in values):
        raise InputError(f"{name} are probabilities and must not exceed 1, got {dict(weights)}")
    if not probabilities and sum(values) <= 0.0:
        raise InputError(f"{name} are all zero; give at least one of {', '.join(known)} a weight")


_ON_GROUND = dict.fromkeys(SUPPORTS, 0.0)
_UPRIGHT = {"standing": 0.6, "walking": 0.25, "reaching": 0.15}
_MIXED = WorldConfig()
_FAMILY = replace(
    _MIXED,
    people=(2, 7),
    minors_share=0.55,
    distance_m=(1.5, 12.0),
    arrangements={"scatter": 0.25, "groups": 0.5, "rows": 0.25},
    supports={"chair": 0.2, "lap": 0.5, "shoulders": 0.25, "held": 0.8, "air": 0.02, "steps": 0.1},
)

PRESETS: dict[str, WorldConfig] = {
    "mixed": _MIXED,
    "family": _FAMILY,
    "adults": replace(_MIXED, people=(2, 6), minors_share=0.0, ages_years=(20.0, 90.0), distance_m=(1.5, 20.0)),
    "crowd": replace(
        _MIXED,
        people=(20, 60),
        minors_share=0.2,
        vertical_fov=(math.radians(30.0), math.radians(80.0)),
        camera_height_m=(1.2, 4.0),
        camera_pitch=(math.radians(-5.0), math.radians(20.0)),
        arrangements={"crowd": 0.7, "groups": 0.15, "rows": 0.15},
        poses={"standing": 0.6, "walking": 0.2, "reaching": 0.1, "sitting": 0.1},
    ),
    # Paper section 10, failure 1: severe occlusion of a person in the background.
    "occluded": replace(
        _MIXED,
        people=(2, 6),
        distance_m=(1.5, 15.0),
        camera_height_m=(1.0, 2.0),
        camera_pitch=(math.radians(-5.0), math.radians(10.0)),
        arrangements={"scatter": 1.0},
        supports=_ON_GROUND,
        poses=_UPRIGHT,
        occluded=1,
    ),
    # Paper section 10, failure 2: an athlete in mid-air among others.
    "jump": replace(
        _MIXED,
        people=(2, 8),
        minors_share=0.15,
        ages_years=(6.0, 70.0),
        distance_m=(2.5, 20.0),
        arrangements={"scatter": 0.7, "groups": 0.3},
        supports=_ON_GROUND,
        poses=_UPRIGHT,
        jumpers=1,
    ),
    # Paper section 10, failure 3: partial views without a clear ground plane.
    "partial": replace(
        _MIXED,
        people=(2, 5),
        minors_share=0.15,
        ages_years=(8.0, 90.0),
        vertical_fov=(math.radians(25.0), math.radians(50.0)),
        camera_height_m=(1.2, 1.7),
        camera_pitch=(math.radians(-8.0), math.radians(4.0)),
        camera_roll=(math.radians(-3.0), math.radians(3.0)),
        distance_m=(1.0, 2.6),
        arrangements={"scatter": 1.0},
        supports=_ON_GROUND,
        poses={"standing": 0.8, "reaching": 0.2},
        backdrop_wall=True,
    ),
    # The six people of the demo, standing on level ground.
    "demo": replace(
        _MIXED,
        image_sizes=((1280, 720),),
        vertical_fov=(math.radians(45.0), math.radians(45.0)),
        camera_height_m=(1.5, 1.5),
        camera_pitch=(0.0, 0.0),
        camera_roll=(0.0, 0.0),
        distance_m=(3.2, 8.0),
        lineup=((36.0, True), (33.0, False), (2.5, False), (6.0, True), (11.0, False), (67.0, True)),
        arrangements={"scatter": 1.0},
        supports=_ON_GROUND,
        poses={"standing": 1.0},
        facing=0.7,
    ),
}
"""Ready-made worlds by name."""
