"""A map of Anny's surface on which clothes are drawn: where every vertex lies on the average adult at rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from crowdmesh.body import RESOLUTIONS, Anny, load_body
from crowdmesh.errors import InputError

HEAD, NECK, TORSO, ARM, HAND, LEG, FOOT = range(7)
"""Parts of the body."""

_BONES = {
    HEAD: ("head", "eye"),
    NECK: ("neck",),
    ARM: ("upperarm", "lowerarm"),
    HAND: ("wrist", "finger", "metacarpal"),
    LEG: ("upperleg", "lowerleg"),
    FOOT: ("foot", "toe"),
}  # every other bone: TORSO


@dataclass(frozen=True, eq=False)
class BodyMap:
    """Places on the body surface, the same for everybody.

    Attributes:
        faces: triangles. part: part of the body of each triangle.
        place: per vertex its position on the average adult at rest, metres from between the eyes: x to the left,
            y backwards, z up.
        along: per vertex the share of the way from shoulder to wrist on arms (0 on the torso), from hip to ankle on
            legs (negative above the hip).
    """

    faces: Int[np.ndarray, "F 3"]
    part: Int[np.ndarray, " F"]
    place: Float[np.ndarray, "V 3"]
    along: Float[np.ndarray, " V"]


@lru_cache(maxsize=2)
def body_map(name: str) -> BodyMap:
    """The map of ``"anny"`` or ``"anny-hd"``.

    Raises:
        InputError: another body: only Anny has clothes.
    """
    if name not in RESOLUTIONS:
        raise InputError(f"the synthetic world dresses Anny, not {name!r}; build its people with body 'anny'")
    body = load_body(name)
    assert isinstance(body, Anny)
    surface, joints = (part[0].double().numpy().round(4) for part in body.rest(body.default_shape(1)))
    joint = {bone: joints[i] for i, bone in enumerate(body.joint_names)}
    share = np.zeros((len(surface), 7))
    weights = body.weights.double().numpy()
    for bone, weight in zip(body.joint_names, weights.T, strict=True):
        part = next((p for p, names in _BONES.items() if bone.startswith(names)), TORSO)
        share[:, part] += weight
    faces = body.faces.numpy()
    corner_part = share.round(4).argmax(1)
    arm, leg = np.isin(corner_part, (ARM, HAND)), np.isin(corner_part, (LEG, FOOT, TORSO))
    sides = np.where(surface[:, :1] >= 0, 1.0, -1.0) * (1.0, 0.0, 0.0) + (0.0, 1.0, 1.0)
    left = surface * sides  # mirrored onto the left side
    along = np.where(arm, _along(left, joint["upperarm01.L"], joint["wrist.L"]), 0.0)
    along = np.where(leg, _along(left, joint["upperleg01.L"], joint["foot.L"]), along)
    eyes = (joint["eye.L"] + joint["eye.R"]) / 2
    return BodyMap(
        faces.astype(np.int32),
        np.sort(corner_part[faces], 1)[:, 1].astype(np.int32),
        (surface - eyes).astype(np.float32),
        along.astype(np.float32),
    )


def _along(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    way = end - start
    return ((points - start) * way).sum(1) / (way**2).sum()
