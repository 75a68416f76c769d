"""What people look like: skin, hair, faces and clothes painted onto the body, by age and sex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.people import People
from crowdmesh.synth.rendering import bodymap
from crowdmesh.synth.rendering.palette import (
    GREY_HAIR_SRGB,
    HAIR_SRGB,
    IRIS_SRGB,
    SKIN_SRGB,
    between,
    linear,
    random_color,
)

SKIN, HAIR, TOP, BOTTOM, SHOE, EYE, IRIS, LIPS, TOP2, BOTTOM2 = range(10)
"""Regions; the last two are the second colours of patterned tops and bottoms."""

# Patterns as repeats per metre along (x + 0.8 y) and z of the body at rest.
_PATTERNS = (*[(0.0, 0.0)] * 7, (0.0, 22.0), (0.0, 9.0), (16.0, 0.0), (12.0, 12.0), (7.0, 7.0), (8.0, -14.0))

_BALD, _CROP, _LONG = 0.0, 1.1, 2.3
_WAIST_Z_M = -0.68  # of the average adult, below the eyes
_NECKLINE_Z_M = -0.15


@dataclass(frozen=True, eq=False)
class Looks:
    """The looks of K people.

    Attributes:
        colors: (K, 10, 3) linear colour of each region.
        sleeve, leg: how far down arms and legs the cloth goes, 0 to 1 (negative: no sleeves);
            shoes begin at ``shoe``. neckline_m, waist_m:
            heights on the body map; scoop_m: how far the neckline dips in front.
        hair_slope, hair_line: hair grows where z + slope y exceeds the line (metres on the body map); long_hair: it
            also covers the neck from behind. bald: nothing grows on the top of the head.
        top_pattern, bottom_pattern: (K, 2) repeats per metre across and up; (0, 0) plain.
        checked: (K,) both directions of a pattern cross instead of adding up.
    """

    colors: Float[np.ndarray, "K 10 3"]
    sleeve: Float[np.ndarray, " K"]
    leg: Float[np.ndarray, " K"]
    shoe: Float[np.ndarray, " K"]
    neckline_m: Float[np.ndarray, " K"]
    scoop_m: Float[np.ndarray, " K"]
    waist_m: Float[np.ndarray, " K"]
    hair_slope: Float[np.ndarray, " K"]
    hair_line: Float[np.ndarray, " K"]
    long_hair: Bool[np.ndarray, " K"]
    bald: Bool[np.ndarray, " K"]
    top_pattern: Float[np.ndarray, "K 2"]
    bottom_pattern: Float[np.ndarray, "K 2"]
    checked: Bool[np.ndarray, " K"]


def draw_looks(people: People, random: np.random.Generator) -> Looks:
    """Random looks of at least one person; unknown ages count as 30 years and unknown sexes as either."""
    count = len(people)
    ages = np.full(count, 30.0) if people.age_years is None else np.nan_to_num(people.age_years, nan=30.0)
    male = np.full(count, 0.5) if people.male_probability is None else np.nan_to_num(people.male_probability, nan=0.5)
    values = [_person(float(age), bool(random.random() < m), random) for age, m in zip(ages, male, strict=True)]
    arrays = {name: np.array([value[name] for value in values]) for name in values[0]}
    return Looks(**{n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in arrays.items()})


def _person(age: float, male: bool, random: np.random.Generator) -> dict[str, object]:
    skin = between(random, SKIN_SRGB)
    adult = age >= 16.0
    grey = random.random() < (age - 35.0) / 35.0
    hair = between(random, GREY_HAIR_SRGB if grey else HAIR_SRGB)
    bald = male and random.random() < min((age - 25.0) / 90.0, 0.5)
    long_hair = random.random() < (0.08 if male else 0.7) and age > 3.0
    if age < 1.0:  # down rather than hair
        hair = skin * 0.6 + hair * 0.4
    top = random_color(random, (0.0, 0.85), (0.08, 0.98))
    denim = linear((0.20, 0.27, 0.42)) * random.uniform(0.4, 2.0)
    bottom = denim if random.random() < 0.4 else random_color(random, (0.0, 0.5), (0.05, 0.8))
    sleeve = float(random.choice((-0.02, 0.28, 0.42, 0.72, 0.97), p=(0.12, 0.33, 0.12, 0.08, 0.35)))
    leg = float(random.choice((0.22, 0.42, 0.55, 0.96), p=(0.1, 0.17, 0.08, 0.65)))
    shoe = random_color(random, (0.0, 0.6), (0.03, 0.95))
    style = random.random()
    if age < 2.0 or style < (0.06 if male else 0.14):  # romper, overall, dress
        bottom = top
    elif adult and style > 0.94:  # swimwear and running shorts
        leg, top, sleeve = 0.12, (skin if male else top), -0.02
    if random.random() < (0.9 if age < 1.5 else 0.12):
        shoe = skin if random.random() < 0.6 else top
    colors = np.stack(
        (skin, hair, top, bottom, shoe, linear((0.93, 0.92, 0.9)), between(random, IRIS_SRGB),
         skin * (0.75, 0.45, 0.45), random_color(random, (0.0, 0.8), (0.05, 0.98)), bottom * random.uniform(0.2, 0.7))
    )  # fmt: skip
    plain_bottom = random.random() < 0.85 or bottom is top
    slope = _LONG if long_hair else _CROP
    return {
        "colors": colors,
        "sleeve": sleeve + random.uniform(-0.03, 0.03),
        "shoe": float(random.choice((0.985, 0.95, 0.86, 0.6), p=(0.5, 0.3, 0.15, 0.05))),
        "leg": leg + random.uniform(-0.03, 0.03),
        "neckline_m": _NECKLINE_Z_M + random.uniform(-0.02, 0.02),
        "scoop_m": random.uniform(0.0, 0.16),
        "waist_m": _WAIST_Z_M + random.uniform(-0.06, 0.06),
        "hair_slope": slope + random.uniform(-0.1, 0.1),
        "hair_line": 0.055 + random.uniform(-0.012, 0.012) + (0.02 if age > 40.0 and male else 0.0),
        "long_hair": bool(long_hair),
        "bald": bool(bald),
        "top_pattern": _PATTERNS[int(random.integers(len(_PATTERNS)))],
        "bottom_pattern": (0.0, 0.0) if plain_bottom else _PATTERNS[int(random.integers(len(_PATTERNS)))],
        "checked": bool(random.random() < 0.5),
    }


def regions(
    looks: Looks,
    person: Int[np.ndarray, " n"],
    part: Int[np.ndarray, " n"],
    place: Float[np.ndarray, "3 n"],
    along: Float[np.ndarray, " n"],
    rough: Float[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """Which region (:data:`SKIN` ...) a point on a body belongs to, from its place on the body map.

    ``rough`` is noise from 0 to 1 that ruffles the hairline.
    """
    x, y, z = place
    torso, arm, leg = part == bodymap.TORSO, part == bodymap.ARM, part == bodymap.LEG
    trunk = torso | leg
    head = part == bodymap.HEAD
    region = np.full(len(person), SKIN, np.int32)
    below = z < looks.waist_m[person]
    # The neckline dips in front (y < 0.1) and is highest at the shoulders.
    dip = np.maximum(1 - np.abs(x) * np.float32(11.0), 0) * (y < 0.1)
    collar = looks.neckline_m[person] - looks.scoop_m[person] * dip
    trunk_top = (torso | (part == bodymap.NECK)) & ~below & (z < collar)
    region[trunk_top | (arm & (along < looks.sleeve[person]))] = TOP
    foot = part == bodymap.FOOT
    region[(foot | leg) & (along > looks.shoe[person])] = SHOE
    region[(trunk | foot) & below & (along < np.minimum(looks.leg, looks.shoe)[person])] = BOTTOM
    region[leg & ~below] = TOP
    hair = head & (z + looks.hair_slope[person] * (y + 0.02) > looks.hair_line[person] + np.float32(0.05) * rough)
    hair &= ~(looks.bald[person] & (z > 0.045))
    hair |= looks.long_hair[person] & (part == bodymap.NECK) & (y > 0.04)
    region[hair] = HAIR
    _paint_face(region, head, np.abs(x), y, z)
    return region


def _paint_face(region: np.ndarray, head: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    """Eyes, brows and lips on the front of the head."""
    front = head & (y < 0.02)
    aside, up = x - np.float32(0.031), z
    region[front & (aside * aside + (2.2 * up) * (2.2 * up) < 0.013**2)] = EYE
    region[front & (aside * aside + up * up < 0.0055**2)] = IRIS
    arch = up - np.float32(0.021) + 8.0 * aside * aside
    region[front & (np.abs(aside) < 0.017) & (np.abs(arch) < 0.0045)] = HAIR
    mouth = z + np.float32(0.068)
    region[front & (x < 0.022) & (np.abs(mouth) < 0.007)] = LIPS
