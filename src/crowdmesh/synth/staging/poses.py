"""Human poses by family: standing, walking, reaching, sitting, kneeling, lying, jumping, and what children do besides.

Every family draws clinical joint angles (:mod:`crowdmesh.synth.staging.anatomy`) about a few typical ways to hold
legs and arms; whatever falls outside a joint's limits is cut there. Feet that carry are level and equally high. The
means and spreads are the project's own choice of everyday postures; they follow no motion data set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from crowdmesh.body import Anny
from crowdmesh.synth.staging.anatomy import ANGLES, clip_to_limits, pose_from_angles
from crowdmesh.synth.staging.arms import draw_arms
from crowdmesh.synth.staging.postures import Pose, planted, sides, standing_legs, trunk, two_sides

WALKS_FROM_YEARS = 1.0
"""Younger children lie, crawl, sit or are held (first free steps come at about one year)."""
CRAWLS_FROM_YEARS = 0.6
"""About when children begin to crawl and to sit alone."""
OLD_YEARS = 70.0
"""From this age on people bend their joints less."""

Draw = Callable[[np.random.Generator, int], Pose]


def sample_angles(
    family: str, ages_years: Float[np.ndarray, " K"], random: np.random.Generator
) -> Float[np.ndarray, "K D"]:
    """Joint angles (degrees, columns of ``ANGLES``) of K people of one family.

    The old move within 70 % of the angles that the young use in arms and spine.
    """
    count = len(ages_years)
    pose = _FAMILIES[family](random, count)
    angles = np.zeros((count, len(ANGLES)))
    for name, value in pose.items():
        angles[:, ANGLES[name]] = value
    supple = np.where(ages_years >= OLD_YEARS, 0.7, 1.0)
    for name in ("spine_flexion", "spine_side", "spine_twist", "neck_twist", "neck_side"):
        angles[:, ANGLES[name]] *= supple
    if family in ("standing", "walking", "reaching"):
        angles[:, ANGLES["spine_flexion"]] += np.clip((ages_years - 55.0) * 0.5, 0.0, 18.0)
        angles[:, ANGLES["neck_flexion"]] -= np.clip((ages_years - 55.0) * 0.4, 0.0, 14.0)
    return clip_to_limits(angles)


def sample_pose(
    family: str, ages_years: Float[np.ndarray, " K"], random: np.random.Generator, body: Anny
) -> Float[np.ndarray, "K J 3"]:
    """Poses (axis-angle, relative to the parent) of K people of one family; the root stands level, facing the camera.

    The neutral pose is that of each age's average body; see ``pose_from_angles`` for bodies of one's own.
    """
    angles = sample_angles(family, ages_years, random)
    with torch.no_grad():
        rest = body.rest_joints(body.default_shape(len(ages_years), ages_years)).double().numpy()
    return pose_from_angles(angles, rest, body)


def family_for_age(family: str, age_years: float, random: np.random.Generator) -> str:
    """What somebody of this age does instead of a family that they are too young for."""
    if age_years >= WALKS_FROM_YEARS:
        return "toddling" if age_years < 2.0 and family in ("walking", "reaching", "kneeling") else family
    if age_years < CRAWLS_FROM_YEARS:
        return "baby lying"
    return str(random.choice(("baby lying", "crawling", "baby sitting")))


def _standing(random: np.random.Generator, count: int) -> Pose:
    weights = {"hanging": 0.5, "hips": 0.08, "crossed": 0.07, "clasped": 0.1, "gesture": 0.17, "behind": 0.08}
    return {**trunk(random, count), **standing_legs(random, count), **draw_arms(weights, random, count)}


def _walking(random: np.random.Generator, count: int) -> Pose:
    pace = random.uniform(14.0, 30.0, count)
    lead = random.choice((-1.0, 1.0), count)
    stride = pace * lead * np.array((1.0, -1.0))[:, None]
    spread = np.abs(random.normal(1.0, 2.0, (2, count)))
    behind = stride < 0
    lift = np.where(behind, pace * 0.9, 0.0)
    reach = np.cos(np.deg2rad(pace)) * 0.985
    lean = random.uniform(0.0, 5.0, count)
    swing = -stride * random.uniform(0.7, 1.5, count)  # the arms swing against the legs
    pose = {
        **trunk(random, count, 0.6),
        **planted(stride, spread, reach, lift, lean),
        **two_sides("hip_rotation", random, count, 5.0, 4.0),
        **sides("shoulder_plane", *np.where(swing > 0, 80.0, -55.0)),
        **sides("shoulder_elevation", *np.maximum(np.abs(swing), 12.0)),
        **two_sides("shoulder_rotation", random, count, 0.0, 8.0),
        **sides("elbow_flexion", *(22.0 + 0.5 * swing + random.normal(0.0, 8.0, count)).clip(5.0)),
        **two_sides("forearm_pronation", random, count, 10.0, 15.0),
        **two_sides("finger_flexion", random, count, 18.0, 10.0),
        "tilt_forward": lean,
    }
    pose["spine_twist"] = pose["spine_twist"] - 0.25 * stride[0]
    return pose


def _reaching(random: np.random.Generator, count: int) -> Pose:
    weights = {"forward": 0.3, "up": 0.25, "wave": 0.2, "sideways": 0.1, "photo": 0.15}
    return {**trunk(random, count, 1.6), **standing_legs(random, count, 2.0), **draw_arms(weights, random, count)}


def _squatting(random: np.random.Generator, count: int) -> Pose:
    knee = random.uniform(105.0, 140.0, count)
    lean = random.uniform(10.0, 25.0, count)
    hip = knee / 2.0 + lean + random.uniform(15.0, 25.0, count)
    return {
        **trunk(random, count),
        **sides("hip_flexion", hip),
        **sides("knee_flexion", knee),
        **sides("ankle_flexion", knee - hip + lean),
        **two_sides("hip_abduction", random, count, 18.0, 6.0),
        **two_sides("hip_rotation", random, count, 10.0, 6.0),
        **draw_arms({"knees": 0.6, "low forward": 0.4}, random, count),
        "tilt_forward": lean,
    }


def _chair(random: np.random.Generator, count: int) -> Pose:
    lean = random.uniform(-14.0, 10.0, count)
    rise = random.normal(2.0, 3.0, count)  # of the thigh above level
    shin = random.normal(0.0, 9.0, (2, count))  # ankle before (positive) or behind the knee
    return {
        **trunk(random, count),
        **sides("hip_flexion", 90.0 + rise + lean),
        **sides("knee_flexion", *(90.0 + rise - shin)),
        **sides("ankle_flexion", *(-shin)),
        **two_sides("hip_abduction", random, count, 7.0, 6.0),
        **two_sides("hip_rotation", random, count, 0.0, 5.0),
        **draw_arms({"lap": 0.45, "knees": 0.25, "gesture": 0.2, "crossed": 0.1}, random, count),
        "tilt_forward": lean,
    }


def _sitting(random: np.random.Generator, count: int) -> Pose:
    """On the ground: cross-legged, legs straight ahead, or knees drawn up."""
    kind = random.integers(0, 3, count)
    # Seat and feet come to rest equally high: angles found by trial on bodies of 2 to 30 years.
    lean = np.choose(kind, (-9.0, -14.0, -25.0)) + random.normal(0.0, 2.5, count)
    hip = np.choose(kind, (123.0, 93.5, 145.0)) + lean + random.normal(0.0, 1.0, count)
    knee = np.choose(kind, (125.0, 8.0, 102.0)) + np.abs(random.normal(0.0, 3.0, (2, count)))
    knee[1] += np.where(kind == 0, 6.0, 0.0)
    arms = draw_arms({"knees": 0.5, "lap": 0.5}, random, count)
    back = draw_arms({"prop back": 1.0}, random, count)
    return {
        **trunk(random, count),
        **sides("hip_flexion", hip),
        **sides("knee_flexion", *knee),
        **sides("ankle_flexion", np.choose(kind, (-20.0, -15.0, -12.0)) + random.normal(0.0, 4.0, count)),
        **sides("hip_abduction", np.choose(kind, (43.0, 6.0, 8.0)) + random.normal(0.0, 2.0, count)),
        **sides("hip_rotation", np.choose(kind, (57.0, 4.0, 0.0)) + random.normal(0.0, 2.0, count)),
        **{name: np.where(kind == 1, back[name], arms[name]) for name in arms},
        "tilt_forward": lean,
    }


def _kneeling(random: np.random.Generator, count: int) -> Pose:
    """On one knee, on both, or sitting on the heels."""
    kind = random.integers(0, 3, count)
    front = random.integers(0, 2, count)
    lean = random.normal(2.0, 3.0, count)
    is_front = (np.arange(2)[:, None] == front) & (kind == 0)
    down_hip = np.choose(kind, (-4.0, 5.0, 62.0)) + random.normal(0.0, 3.0, count)
    down_knee = 90.0 + down_hip
    hip = np.where(is_front, 92.0, down_hip) + lean
    knee = np.where(is_front, 90.0, np.minimum(down_knee, 150.0))
    return {
        **trunk(random, count),
        **sides("hip_flexion", *hip),
        **sides("knee_flexion", *knee),
        **sides("ankle_flexion", *np.where(is_front, -2.0, -48.0)),
        **two_sides("hip_abduction", random, count, 8.0, 3.0),
        **two_sides("hip_rotation", random, count, 0.0, 3.0),
        **draw_arms({"hanging": 0.3, "knees": 0.3, "lap": 0.2, "gesture": 0.2}, random, count),
        "tilt_forward": lean,
    }


def _lying(random: np.random.Generator, count: int) -> Pose:
    """On the back, on the belly, or on a side."""
    kind = random.choice(3, count, p=(0.5, 0.25, 0.25))
    bend = np.abs(random.normal(0.0, 28.0, (2, count)))
    hip = np.where(kind == 0, bend, np.where(kind == 1, random.uniform(-3.0, 3.0, count), bend + 15.0))
    knee = np.where(kind == 0, 2.0 * bend, np.where(kind == 1, np.abs(random.normal(0.0, 12.0, (2, count))), bend + 30))
    arms = draw_arms({"hanging": 0.4, "lap": 0.3, "up": 0.15, "wide": 0.15}, random, count)
    prone = draw_arms({"up bent": 0.7, "hanging": 0.3}, random, count)
    side = draw_arms({"low forward": 1.0}, random, count)
    return {
        **trunk(random, count, 0.5),
        **sides("hip_flexion", *hip),
        **sides("knee_flexion", *knee),
        **sides("ankle_flexion", np.where(kind == 1, -45.0, -25.0)),
        **two_sides("hip_abduction", random, count, 7.0, 4.0),
        **two_sides("hip_rotation", random, count, 12.0, 8.0),
        **{name: np.where(kind == 0, arms[name], np.where(kind == 1, prone[name], side[name])) for name in arms},
        "tilt_forward": np.where(kind == 0, -90.0, np.where(kind == 1, 90.0, 0.0)) + random.normal(0.0, 1.5, count),
        "tilt_left": np.where(kind == 2, 90.0 * random.choice((-1.0, 1.0), count), 0.0),
        "neck_twist": np.where(kind == 1, 60.0 * random.choice((-1.0, 1.0), count), random.normal(0.0, 25.0, count)),
        "neck_flexion": np.where(kind == 1, -12.0, random.normal(4.0, 6.0, count)),
    }


def _jumping(random: np.random.Generator, count: int) -> Pose:
    """An athlete off the ground: header or throw, star, tuck, or a running leap."""
    kind = random.integers(0, 4, count)
    hip = np.choose(kind, (5.0, 5.0, 85.0, 35.0)) + random.normal(0.0, 9.0, (2, count))
    knee = np.choose(kind, (35.0, 10.0, 95.0, 45.0)) + random.normal(0.0, 14.0, (2, count))
    behind = (np.arange(2)[:, None] == random.integers(0, 2, count)) & (kind == 3)
    hip, knee = np.where(behind, -15.0, hip), np.where(behind, np.abs(random.normal(50.0, 20.0, count)), knee)
    arms = draw_arms({"up": 0.6, "wave": 0.2, "forward": 0.2}, random, count)
    wide = draw_arms({"wide": 1.0}, random, count)
    return {
        **trunk(random, count, 1.8),
        **sides("hip_flexion", *hip),
        **sides("knee_flexion", *np.abs(knee)),
        **two_sides("ankle_flexion", random, count, -25.0, 12.0),
        **sides("hip_abduction", *(np.where(kind == 1, 32.0, 6.0) + random.normal(0.0, 4.0, (2, count)))),
        **two_sides("hip_rotation", random, count, 8.0, 6.0),
        **{name: np.where(kind == 1, wide[name], arms[name]) for name in arms},
        "tilt_forward": random.normal(0.0, 9.0, count),
        "tilt_left": random.normal(0.0, 6.0, count),
    }


def _toddling(random: np.random.Generator, count: int) -> Pose:
    """The first steps: feet wide apart, knees bent, arms out for balance."""
    stride = random.uniform(4.0, 12.0, count) * random.choice((-1.0, 1.0), count) * np.array((1.0, -1.0))[:, None]
    spread = random.uniform(8.0, 14.0, (2, count))
    return {
        **trunk(random, count),
        **planted(stride, spread, np.full(count, 0.93), np.zeros((2, count)), np.full(count, 4.0)),
        **two_sides("hip_rotation", random, count, 14.0, 4.0),
        **draw_arms({"toddler": 0.7, "hanging": 0.3}, random, count),
        "tilt_forward": np.full(count, 4.0),
    }


def _baby_legs(random: np.random.Generator, count: int, hip: float, knee: float) -> Pose:
    return {
        **two_sides("hip_flexion", random, count, hip, 10.0),
        **two_sides("knee_flexion", random, count, knee, 13.0),
        **two_sides("hip_abduction", random, count, 28.0, 6.0),
        **two_sides("hip_rotation", random, count, 25.0, 8.0),
        **two_sides("ankle_flexion", random, count, 5.0, 8.0),
    }


def _baby_lying(random: np.random.Generator, count: int) -> Pose:
    return {
        **trunk(random, count, 0.6),
        **_baby_legs(random, count, 65.0, 80.0),
        **draw_arms({"baby": 1.0}, random, count),
        "tilt_forward": np.full(count, -90.0),
        "neck_twist": random.normal(0.0, 30.0, count),
    }


def _baby_sitting(random: np.random.Generator, count: int) -> Pose:
    return {
        **trunk(random, count, 0.6),
        **_baby_legs(random, count, 85.0, 35.0),
        **two_sides("hip_flexion", random, count, 105.0, 2.0),
        **two_sides("knee_flexion", random, count, 35.0, 4.0),
        **draw_arms({"toddler": 0.5, "lap": 0.5}, random, count),
        "spine_flexion": random.normal(12.0, 4.0, count),
    }


def _crawling(random: np.random.Generator, count: int) -> Pose:
    step = random.uniform(0.0, 14.0, count) * random.choice((-1.0, 1.0), count) * np.array((1.0, -1.0))[:, None]
    return {
        **trunk(random, count, 0.5),
        **sides("hip_flexion", *(80.0 + step)),
        **sides("knee_flexion", *(92.0 + step)),
        **sides("ankle_flexion", np.full(count, -45.0)),
        **two_sides("hip_abduction", random, count, 8.0, 3.0),
        **sides("shoulder_plane", np.full(count, 88.0)),
        **sides("shoulder_elevation", *(80.0 - step)),
        **two_sides("elbow_flexion", random, count, 10.0, 4.0),
        **sides("forearm_pronation", np.full(count, 75.0)),
        **sides("wrist_flexion", np.full(count, -70.0)),
        "neck_flexion": random.normal(-38.0, 6.0, count),
        "neck_twist": random.normal(0.0, 15.0, count),
        "tilt_forward": np.full(count, 80.0),
    }


def _held(random: np.random.Generator, count: int) -> Pose:
    """A baby upright against somebody's chest."""
    return {
        **trunk(random, count, 0.5),
        **_baby_legs(random, count, 70.0, 75.0),
        **draw_arms({"cling": 1.0}, random, count),
        "neck_twist": random.normal(0.0, 25.0, count),
    }


def _holding(random: np.random.Generator, count: int) -> Pose:
    pose = {**trunk(random, count, 0.6), **standing_legs(random, count), **draw_arms({"cradle": 1.0}, random, count)}
    pose["spine_flexion"] = random.normal(-5.0, 3.0, count)
    return pose


def _riding(random: np.random.Generator, count: int) -> Pose:
    """A child on somebody's shoulders, legs before the chest."""
    return {
        **trunk(random, count, 0.6),
        **two_sides("hip_flexion", random, count, 78.0, 3.0),
        **two_sides("knee_flexion", random, count, 70.0, 4.0),
        **two_sides("hip_abduction", random, count, 32.0, 2.0),
        **two_sides("hip_rotation", random, count, 18.0, 3.0),
        **two_sides("ankle_flexion", random, count, -12.0, 6.0),
        **draw_arms({"head": 0.4, "up": 0.2, "toddler": 0.4}, random, count),
    }


def _carrying(random: np.random.Generator, count: int) -> Pose:
    pose = {**trunk(random, count, 0.3), **standing_legs(random, count), **draw_arms({"shins": 1.0}, random, count)}
    pose["neck_flexion"] = random.normal(12.0, 3.0, count)
    pose["neck_twist"] = random.normal(0.0, 8.0, count)
    return pose


def _lap(random: np.random.Generator, count: int) -> Pose:
    pose = _chair(random, count)
    pose |= {**sides("hip_abduction", np.full(count, 12.0)), **draw_arms({"lap": 0.7, "gesture": 0.3}, random, count)}
    pose["tilt_forward"] = np.full(count, 0.0)
    return pose | sides("hip_flexion", np.full(count, 84.0)) | sides("knee_flexion", np.full(count, 80.0))


def _seating(random: np.random.Generator, count: int) -> Pose:
    """Sitting on a chair with a child on the lap."""
    pose = _chair(random, count) | draw_arms({"around": 1.0}, random, count)
    return pose | sides("hip_abduction", random.uniform(4.0, 9.0, count)) | sides("hip_rotation", np.zeros(count))


_FAMILIES: dict[str, Draw] = {
    "standing": _standing,
    "walking": _walking,
    "reaching": _reaching,
    "sitting": _sitting,
    "squatting": _squatting,
    "sitting on a chair": _chair,
    "kneeling": _kneeling,
    "lying": _lying,
    "jumping": _jumping,
    "toddling": _toddling,
    "baby lying": _baby_lying,
    "baby sitting": _baby_sitting,
    "crawling": _crawling,
    "held": _held,
    "holding": _holding,
    "riding": _riding,
    "carrying": _carrying,
    "sitting on a lap": _lap,
    "seating a child": _seating,
}

FAMILIES = tuple(_FAMILIES)
"""Names of all pose families."""
