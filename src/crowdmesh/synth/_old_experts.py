"""Stand-ins for upstream estimators with their typical mistakes, applied to a scene whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crowdmesh.body import load_body, pose_people
from crowdmesh.depth import RelativeDepth
from crowdmesh.dto.reshape import resolve_translation
from crowdmesh.scene import Scene


def single_person_guess(truth: Scene) -> Scene:
    """The classic mistake of fitting people one by one: everybody is adult-sized, so children land too far away.

    Each body becomes the average adult in the true pose, moved along its viewing ray until it covers the image as
    before: the pelvis depth grows with the stature, x and y are those that reproject best.
    """
    people = truth.people
    body = load_body(people.body)
    assert people.joints_m is not None and body.pelvis is not None
    shape = body.default_shape(len(people))
    stature = body.stature(shape).double().numpy()
    centred = pose_people(
        replace(people, shape=shape.double().numpy(), translation_m=np.zeros_like(people.translation_m)), body
    )
    assert centred.joints_m is not None
    translation, _ = resolve_translation(
        centred.joints_m.astype(float),
        people.joints_m.astype(float),
        truth.camera,
        body.pelvis,
        stature / people.stature_m,
    )
    return replace(truth, people=pose_people(replace(centred, stature_m=stature, translation_m=translation), body))


def relative_depth(
    depth: RelativeDepth, random: np.random.Generator, noise: float = 0.02, scale: float = 40.0
) -> RelativeDepth:
    """Disparity as a monocular network would give it: unknown scale, smooth multiplicative error of ``noise``."""
    rows, columns = depth.size
    coarse = random.standard_normal((5, 8))
    v, u = np.linspace(0, 4, rows)[:, None], np.linspace(0, 7, columns)[None]
    top, left = np.minimum(v.astype(int), 3), np.minimum(u.astype(int), 6)
    dv, du = v - top, u - left
    smooth = (
        (1 - dv) * ((1 - du) * coarse[top, left] + du * coarse[top, left + 1])
        + dv * ((1 - du) * coarse[top + 1, left] + du * coarse[top + 1, left + 1])
    )  # fmt: skip
    return RelativeDepth((scale / depth.values * np.exp(noise * smooth)).astype(np.float32), "disparity")
