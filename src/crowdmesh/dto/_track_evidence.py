"""What the frames of a video say, frame by frame, and what all frames of a track say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from crowdmesh.body import BodyModel
from crowdmesh.depth import DepthKind, RelativeDepth
from crowdmesh.dto.config import DTOConfig
from crowdmesh.dto.cues import Cues, measure
from crowdmesh.dto.ground import Feet, find_feet
from crowdmesh.dto.place import posed_scene
from crowdmesh.people import People
from crowdmesh.scene import Scene

_LEAST_AGE_STD_YEARS = 0.1


@dataclass(frozen=True, eq=False)
class FrameEvidence:
    """What counts of one frame, without its meshes and its depth map: small enough to hold for a whole video.

    Attributes:
        cues, kind, feet: what depth map and image say of everybody.
        people: the first guess without bodies, masks and keypoints (stature, shape, ages, sexes).
    """

    cues: Cues
    kind: DepthKind
    feet: Feet
    people: People

    def __len__(self) -> int:
        return len(self.people)


@dataclass(frozen=True, eq=False)
class Sightings:
    """Everybody in every frame, in one row: frame and track (both dense, from 0), and the row's place in the frame."""

    ids: Int[np.ndarray, " T"]
    frame: Int[np.ndarray, " N"]
    track: Int[np.ndarray, " N"]
    starts: Int[np.ndarray, " G"]

    def of_frame(self, frame: int) -> Int[np.ndarray, " K"]:
        """The tracks of the people of a frame, in their order."""
        return self.track[self.starts[frame] : self.starts[frame + 1]]

    def split(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of everybody, frame by frame."""
        return [values[a:b] for a, b in zip(self.starts[:-1], self.starts[1:], strict=True)]

    def joined(self, values: Sequence[np.ndarray], kind: type = bool) -> np.ndarray:
        """One value of everybody, given frame by frame, in one row."""
        return np.concatenate([np.zeros(0, kind), *values])

    def count(self, chosen: Bool[np.ndarray, " N"]) -> Int[np.ndarray, " T"]:
        """How many of the chosen sightings each track has."""
        return np.bincount(self.track[chosen], minlength=len(self.ids))


def measure_frame(scene: Scene, depth: RelativeDepth, body: BodyModel, config: DTOConfig) -> FrameEvidence:
    """The evidence of one frame; InputError as from :func:`crowdmesh.dto.place`."""
    scene = posed_scene(scene, body)
    people = scene.people
    assert people.vertices_m is not None
    cues = measure(scene, depth, body, config.cues)
    small = People(
        people.body, people.translation_m, people.stature_m, shape=people.shape, age_years=people.age_years,
        age_std_years=people.age_std_years, male_probability=people.male_probability,
        known_stature_m=people.known_stature_m,
    )  # fmt: skip
    return FrameEvidence(cues, depth.kind, find_feet(people.vertices_m, scene.camera), small)


def sightings(ids: Sequence[Int[np.ndarray, " _"]]) -> Sightings:
    """The row of everybody, from the ids of each frame's people."""
    counts = np.array([len(frame) for frame in ids], np.int64)
    everybody = np.concatenate([np.zeros(0, np.int64), *[np.asarray(frame, np.int64) for frame in ids]])
    known, track = np.unique(everybody, return_inverse=True)
    starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return Sightings(known, np.repeat(np.arange(len(ids)), counts), track.astype(np.int64), starts)


def pool_evidence(frames: Sequence[FrameEvidence], seen: Sightings) -> People:
    """One person per track with what does not change between frames: first stature, shape, age and sex.

    Each is the median over the track's frames. Of ages, an estimate counts with the inverse of its variance (all alike
    where none is stated), and unknown ones do not count; the error of the pooled age is the median of the stated
    errors, since one network errs alike on one face in every frame.
    """
    everybody = [frame.people for frame in frames if len(frame)]
    tracks = len(seen.ids)
    stature, shape, age, age_std, male, known = (
        _stacked(everybody, name)
        for name in ("stature_m", "shape", "age_years", "age_std_years", "male_probability", "known_stature_m")
    )
    assert stature is not None
    members = np.split(np.argsort(seen.track, kind="stable"), np.cumsum(np.bincount(seen.track, minlength=tracks))[:-1])
    weight = np.ones(len(seen.track)) if age_std is None else np.maximum(age_std, _LEAST_AGE_STD_YEARS) ** -2.0
    weight = np.where(np.isnan(weight), 1.0, weight)

    def pooled(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        return np.array([_weighted_median(values[some], weight[some]) for some in members])

    return People(
        body=everybody[0].body,
        translation_m=np.zeros((tracks, 3)),
        stature_m=np.array([np.median(stature[some]) for some in members]),
        shape=None if shape is None else np.stack([np.median(shape[some], 0) for some in members]),
        age_years=pooled(age),
        age_std_years=pooled(age_std),
        male_probability=pooled(male),
        known_stature_m=pooled(known),
    )


def _stacked(everybody: list[People], name: str) -> Float[np.ndarray, "N *rest"] | None:
    """An array over all frames; ``None`` where no frame has it, NaN for the frames without it."""
    parts = [getattr(people, name) for people in everybody]
    some = next((part for part in parts if part is not None), None)
    if some is None:
        return None
    empty = [np.full((len(people), *some.shape[1:]), np.nan) for people in everybody]
    return np.concatenate([e if part is None else part for part, e in zip(parts, empty, strict=True)])


def _weighted_median(values: Float[np.ndarray, " M"], weight: Float[np.ndarray, " M"]) -> float:
    """The median of the values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    if not known.any():
        return float("nan")
    order = np.argsort(values[known], kind="stable")
    values, share = values[known][order], np.cumsum(weight[known][order])
    middle = share[-1] / 2
    low = int(np.searchsorted(share, middle * (1 - 1e-12)))
    high = min(int(np.searchsorted(share, middle * (1 + 1e-12), side="right")), len(values) - 1)
    return float((values[low] + values[high]) / 2)
